//! The bridge ends in mid-stream, well or badly, and comes back: what it had heard is in both
//! destinations once and in order, and what it could not hear is repaired from the list.

use std::time::Duration;

use onboarding_bridge::simulator::Options;
use tokio::time::Instant;

use crate::support::beds::{self, OwnBed};
use crate::support::bridge::{Bridge, eventually};
use crate::support::course::Course;
use crate::support::oracle::{self, cursors_are_clean_at};

/// Events per second; the vendor's world goes on while no bridge listens.
const RATE: f64 = 3000.0;

/// Events after which the bridge is killed, each time somewhere within one more such span: from before
/// the sinks have settled to long after.
const SPAN: u64 = 2500;

/// A second signal ends the bridge within this time: the longest that a sink gets to close, and some.
const AT_ONCE: Duration = Duration::from_secs(10);

fn options() -> Options {
    Options {
        users: 1500,
        rate: RATE,
        ..Options::for_tests()
    }
}

fn skipped(bridge: &Bridge) -> [f64; 2] {
    ["kafka", "nats"]
        .map(|sink| bridge.metric(&format!("sink_skipped_held_total{{sink=\"{sink}\"}}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_stream_loses_nothing_and_doubles_nothing() {
    let course = Course::new(options()).await;
    course.control.resume();
    let (mut moments, mut committed, mut held) = (Vec::new(), Vec::new(), [0.0; 2]);
    for kill in 0..5 {
        let moment = SPAN * kill + rand::random_range(1..SPAN);
        moments.push(moment);
        let bridge = course.start().await;
        course.wait_sent(moment).await;
        let skipped = skipped(&bridge);
        held = std::array::from_fn(|sink| held[sink] + skipped[sink]);
        bridge.kill();
        committed.push(course.journal());
    }
    let bridge = course.start().await;
    course.wait_sent(2 * SPAN).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    let skipped = skipped(&bridge);
    held = std::array::from_fn(|sink| held[sink] + skipped[sink]);
    bridge.terminate();

    println!("killed after {moments:?} events; held after the kills: {held:?}");
    let journal = course.journal();
    for committed in committed {
        assert_eq!(journal[..committed.len()], committed, "{moments:?}");
    }
    let heard = course.check().await;
    println!("{heard} events heard, {} records", journal.len());
    assert!(journal.len() > heard, "the lists told of nothing");
    // Without this the kills met no record of unknown outcome, and the test would prove little.
    assert!(held.iter().all(|held| *held > 0.0), "{held:?}");
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_list_and_feed_are_heard_at_once_doubles_nothing() {
    let course = Course::new(Options {
        users: 4000,
        ..options()
    })
    .await;
    course.control.resume();
    let bridge = course.start().await;
    // No wait of ours, so that a cursor lies between what the list told and what the feed did.
    eventually("Kafka to have a part of both", || {
        let published = bridge.metric("sink_published_total{sink=\"kafka\"}");
        (published >= f64::from(rand::random_range(100..1500))).then_some(())
    });
    bridge.kill();
    let bridge = course.start().await;
    course.wait_sent(SPAN).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    let skipped = skipped(&bridge);
    bridge.terminate();
    println!("held: {skipped:?}");
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_mid_stream_drains_and_loses_nothing() {
    let course = Course::new(options()).await;
    course.control.resume();
    for _ in 0..3 {
        let mut bridge = course.start().await;
        bridge.wait_ready();
        course.wait_sent(course.sent_since_start() + SPAN).await;
        bridge.signal("TERM");
        let status = bridge.wait();
        assert_eq!(status.code(), Some(0), "{}", bridge.log());
        let log = bridge.log();
        assert_eq!(course.close_code().await, Some(1000), "{log}");
        assert!(log.contains("\"the feed is closed\""), "{log}");
        let journal = course.journal();
        oracle::was_heard_without_a_hole(&journal, &course.sent());
        let last = journal.last().unwrap().position;
        assert!(cursors_are_clean_at(&course.journal_path(), last));
    }
    for (what, landed) in course.landed().await {
        oracle::has_the_journal(what, &landed, &course.journal());
    }
    let bridge = course.start().await;
    course.wait_sent(SPAN).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    assert_eq!(skipped(&bridge), [0.0; 2], "nothing was in doubt");
    bridge.terminate();
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once_with_nothing_lost() {
    let bed = OwnBed::kafka(&[]);
    let course = Course::with(options(), &bed.address, beds::nats()).await;
    course.control.resume();
    let mut bridge = course.start().await;
    bridge.wait_ready();
    course.wait_sent(SPAN).await;
    // A broker that does not answer any more: the drain cannot come to its end.
    bed.signal("STOP");
    course.wait_sent(course.sent_since_start() + SPAN).await;
    bridge.signal("TERM");
    eventually("the feed to be closed and NATS to have everything", || {
        let is_closed = course.control.connected() == 0;
        let lag = bridge.metric("sink_lag_records{sink=\"nats\"}");
        (is_closed && lag == 0.0).then_some(())
    });
    assert!(bridge.metric("sink_lag_records{sink=\"kafka\"}") > 0.0);
    let asked = Instant::now();
    bridge.signal("TERM");
    let status = bridge.wait();
    let took = asked.elapsed();
    println!("ended {took:?} after the second signal");
    assert!(status.success(), "{status}: {}", bridge.log());
    assert!(took < AT_ONCE, "{took:?}: {}", bridge.log());
    bed.signal("CONT");

    let bridge = course.start().await;
    course.wait_sent(SPAN).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    bridge.terminate();
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_gets_what_the_journal_still_holds() {
    let course = Course::new(options()).await;
    let bridge = course.start_with(&course.kafka_sink()).await;
    bridge.wait_ready();
    course.control.step(SPAN).await;
    course.wait_heard_and_delivered(&bridge);
    bridge.terminate();
    let bridge = course.start().await;
    course.control.step(SPAN).await;
    course.wait_heard_and_delivered(&bridge);
    bridge.terminate();
    course.check().await;
    course.end().await;
}
