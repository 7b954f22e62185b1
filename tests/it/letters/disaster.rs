//! The broker lost what it had acknowledged: the operator sets the sink's cursor back.

use std::time::Duration;

use async_nats::jetstream;
use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use rdkafka::admin::AdminOptions;

use super::{admin, operator, operator_may};
use crate::support::bridge::eventually;
use crate::support::course::{Course, PARTITIONS};

async fn a_course_with_events(events: u64) -> (Course, crate::support::bridge::Bridge) {
    let options = Options {
        users: 200,
        rate: 500.0,
        ..Options::for_tests()
    };
    let course = Course::new(options).await;
    let bridge = course.start().await;
    bridge.wait_ready();
    course.control.resume();
    course.wait_sent(events).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    (course, bridge)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_lost_gets_everything_again_once_and_in_order() {
    let (course, bridge) = a_course_with_events(1000).await;
    let folder = course.folder.path();
    let deleted = admin(&course.brokers)
        .delete_topics(&[&course.topic], &AdminOptions::new())
        .await
        .unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    // An event tells the sink that its topic is gone.
    course.control.step(1).await;
    eventually("the sink to be halted", || {
        (bridge.metric("sink_state{sink=\"kafka\",state=\"halted\"}") == 1.0).then_some(())
    });
    let dry = operator(
        folder,
        &["replay", "--sink", "kafka", "--since", "1h", "--dry-run"],
    );
    assert!(dry.contains("would go back from"), "{dry}");
    let said = operator(folder, &["replay", "--sink", "kafka", "--since", "1h"]);
    assert!(said.contains("goes back from"), "{said}");
    assert!(said.contains("reaches back to"), "{said}");
    ensure_topic(&course.brokers, &course.topic, PARTITIONS)
        .await
        .unwrap();
    course.wait_heard_and_delivered(&bridge);
    eventually("the cursor to have been set back", || {
        bridge
            .log()
            .contains("the cursor is set back on demand")
            .then_some(())
    });
    bridge.wait_delivered();
    bridge.terminate();
    // Everything that the journal holds is in both, once and in order.
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_purged_gets_everything_again_once_and_in_order() {
    let (course, bridge) = a_course_with_events(500).await;
    let client = async_nats::connect(&course.nats).await.unwrap();
    let jetstream = jetstream::new(client);
    let stream = jetstream.get_stream(&course.stream).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    // A purged stream still remembers message ids, and would call each event a repeat for so long.
    config.duplicate_window = Duration::from_secs(15);
    jetstream.update_stream(config).await.unwrap();
    stream.purge().await.unwrap();
    let folder = course.folder.path();
    let said = operator(folder, &["replay", "--sink", "nats", "--since", "1h"]);
    assert!(
        said.contains("the running bridge has taken it up"),
        "{said}"
    );
    bridge.wait_delivered();
    // Kafka noticed nothing.
    let kafka = "sink_skipped_held_total{sink=\"kafka\"}";
    assert_eq!(bridge.metric(kafka), 0.0);
    bridge.terminate();
    course.check().await;
    course.end().await;
}

/// Purges the stream, which still remembers the message ids for so long.
async fn purge(course: &Course, remembers: Duration) {
    let client = async_nats::connect(&course.nats).await.unwrap();
    let jetstream = jetstream::new(client);
    let stream = jetstream.get_stream(&course.stream).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.duplicate_window = remembers;
    jetstream.update_stream(config).await.unwrap();
    stream.purge().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_stream_gets_everything_again_also_when_the_bridge_is_restarted_meanwhile() {
    let (course, bridge) = a_course_with_events(300).await;
    purge(&course, Duration::from_secs(20)).await;
    let folder = course.folder.path();
    operator(folder, &["replay", "--sink", "nats", "--since", "1h"]);
    eventually("the stream to call it a repeat", || {
        bridge
            .log()
            .contains("duplicate window is over")
            .then_some(())
    });
    bridge.kill();
    let bridge = course.start().await;
    bridge.wait_ready();
    bridge.wait_delivered();
    bridge.terminate();
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_again_after_a_purge_is_no_late_duplicate() {
    let (course, bridge) = a_course_with_events(300).await;
    course.control.resume();
    course.wait_sent(600).await;
    bridge.kill();
    let bridge = course.start().await;
    bridge.wait_ready();
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    assert!(
        bridge.log().contains("watching the destination"),
        "{}",
        bridge.log()
    );
    purge(&course, Duration::from_secs(5)).await;
    operator(
        course.folder.path(),
        &["replay", "--sink", "nats", "--since", "1h"],
    );
    eventually("the cursor to have been set back", || {
        let log = bridge.log();
        log.contains("the cursor is set back on demand")
            .then_some(())
    });
    bridge.wait_delivered();
    // An event behind all the others has been read along.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let late = "sink_late_duplicates_total{sink=\"nats\"}";
    assert_eq!(bridge.metric(late), 0.0);
    bridge.terminate();
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_is_there_publishes_nothing_twice_also_at_the_next_start() {
    let (course, bridge) = a_course_with_events(500).await;
    let folder = course.folder.path();
    operator(folder, &["replay", "--sink", "kafka", "--since", "1h"]);
    let skipped = "sink_skipped_held_total{sink=\"kafka\"}";
    eventually("everything to be found there", || {
        (bridge.metric(skipped) >= 500.0).then_some(())
    });
    bridge.terminate();
    for sink in ["kafka", "nats"] {
        let said = operator(folder, &["replay", "--sink", sink, "--since", "1h"]);
        assert!(said.contains("no running bridge"), "{said}");
    }
    let bridge = course.start().await;
    bridge.wait_ready();
    bridge.wait_delivered();
    assert!(bridge.metric(skipped) >= 500.0);
    bridge.terminate();
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_what_it_cannot_do() {
    let (course, bridge) = a_course_with_events(10).await;
    bridge.terminate();
    let folder = course.folder.path();
    let (code, _, said) = operator_may(folder, &["replay", "--sink", "other", "--since", "1h"]);
    assert_eq!(code, Some(64));
    assert!(
        said.contains("no sink other") && said.contains("kafka, nats"),
        "{said}"
    );
    let said = operator(folder, &["replay", "--sink", "kafka", "--since", "0s"]);
    assert!(said.contains("nothing to replay"), "{said}");
    let (code, _, said) = operator_may(
        folder,
        &["replay", "--sink", "kafka", "--since", "yesterday"],
    );
    assert_eq!(code, Some(64), "{said}");
    std::fs::remove_file(course.journal_path()).unwrap();
    let (code, _, said) = operator_may(folder, &["replay", "--sink", "kafka", "--since", "1h"]);
    assert_eq!(code, Some(74), "{said}");
    assert!(
        !course.journal_path().exists(),
        "a command creates no journal"
    );
    course.end().await;
}
