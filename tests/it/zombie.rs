//! The bytes of a killed bridge arrive late: after the next one has asked what is there.
//!
//! Up to `settle` nothing is doubled, in any mode; beyond it nothing is with transactions, nor within
//! JetStream's duplicate window; and what cannot be prevented is named, id by id.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use async_nats::jetstream;
use onboarding_bridge::simulator::Options;
use serde_json::Value;

use crate::support::beds::{self, OwnBed};
use crate::support::bridge::{Bridge, eventually};
use crate::support::course::Course;
use crate::support::oracle::{self, Landed, text};
use crate::support::proxy::Proxy;

/// So much must be on its way when the bridge is killed, or the kill proves nothing.
const HELD_MIN: u64 = 20_000;

const AT_ONCE: Duration = Duration::ZERO;

fn options() -> Options {
    Options {
        users: 3000,
        rate: 3000.0,
        ..Options::for_tests()
    }
}

/// Delays in milliseconds; `ZOMBIE_DELAYS_MS=300,1000,10000` asks for others, such as too long ones for
/// every day.
#[allow(clippy::disallowed_methods, reason = "a knob of this test alone")]
fn delays(usual: &[u64]) -> Vec<Duration> {
    let asked = std::env::var("ZOMBIE_DELAYS_MS").unwrap_or_default();
    let asked: Vec<u64> = asked.split(',').filter_map(|ms| ms.parse().ok()).collect();
    let chosen = if asked.is_empty() { usual } else { &asked };
    chosen.iter().copied().map(Duration::from_millis).collect()
}

/// A vendor, a bridge that comes and goes, and one destination behind a slow network.
struct Line {
    course: Course,
    proxy: Proxy,
    /// The configuration's list of sinks: one, named `slow`.
    sink: String,
    /// What every process so far has named as a late duplicate.
    told: BTreeSet<String>,
}

impl Line {
    /// With a Kafka that clients reach only by the proxy.
    async fn kafka(more: &str) -> (Self, OwnBed) {
        let mut proxy = Proxy::bind().await;
        let bed = OwnBed::kafka_with(&["--advertise", &proxy.address()]);
        proxy.lead_to(&bed.address);
        let course = Course::with(options(), &bed.direct, beds::nats()).await;
        let sink = format!(
            "  - {{name: slow, type: kafka, brokers: ['{}'], topic: {}, {more}, \
             options: {{compression.type: none}}}}",
            proxy.address(),
            course.topic
        );
        (Self::new(course, proxy, sink), bed)
    }

    /// With a stream that clients reach only by the proxy.
    async fn nats(window: Duration, more: &str) -> Self {
        let mut proxy = Proxy::bind().await;
        let nats = beds::nats().strip_prefix("nats://").unwrap();
        proxy.lead_to(nats);
        let course = Course::with(options(), beds::kafka(), beds::nats()).await;
        let context = jetstream::new(async_nats::connect(beds::nats()).await.unwrap());
        let mut stream = context.get_stream(&course.stream).await.unwrap();
        let mut config = stream.info().await.unwrap().config.clone();
        config.duplicate_window = window;
        context.update_stream(config).await.unwrap();
        let sink = format!(
            "  - {{name: slow, type: nats, url: 'nats://{}', stream: {}, subject_prefix: {}, {more}}}",
            proxy.address(),
            course.stream,
            course.prefix
        );
        Self::new(course, proxy, sink)
    }

    fn new(course: Course, proxy: Proxy, sink: String) -> Self {
        course.control.resume();
        Self {
            course,
            proxy,
            sink,
            told: BTreeSet::new(),
        }
    }

    /// Starts the bridge, and kills it when much of what it sends is on its way; that arrives after
    /// `delay`, while its successor's bytes arrive at once.
    #[allow(clippy::print_stdout, reason = "shown when the test fails")]
    async fn kill(&mut self, delay: Duration) {
        let bridge = self.course.start_with(&self.sink).await;
        let published = || bridge.metric("sink_published_total{sink=\"slow\"}");
        eventually("something to be published", || {
            (published() > 500.0).then_some(())
        });
        self.proxy.hold_back(delay);
        let held = eventually("bytes to be on their way", || {
            let held = self.proxy.held();
            (held >= HELD_MIN).then_some(held)
        });
        println!("killed with {held} bytes on their way for {delay:?}");
        self.told.extend(told(&bridge));
        bridge.kill();
        self.proxy.hold_back(AT_ONCE);
    }

    /// The last process: it delivers everything, and the last byte of the dead ones arrives.
    async fn finish(&mut self) -> Bridge {
        let bridge = self.course.start_with(&self.sink).await;
        self.course.wait_sent(2000).await;
        self.course.control.pause();
        self.course.wait_heard_and_delivered(&bridge);
        eventually("the last byte of the dead to arrive", || {
            (self.proxy.held() < 1000).then_some(())
        });
        bridge
    }

    /// Ends it all: nothing is lost or out of order, and these, and only these, were named.
    #[allow(clippy::print_stdout, reason = "the figures of the run")]
    async fn end(mut self, bridge: Bridge, landed: &[Landed], what: &str) -> usize {
        let doubled = doubled(landed);
        eventually("every doubled event to be named", || {
            self.told.extend(told(&bridge));
            (self.told.len() >= doubled.len()).then_some(())
        });
        assert_eq!(
            self.told, doubled,
            "{what}: named and doubled are not the same"
        );
        let sink = bridge.status()["sinks"][0].clone();
        let shown = sink["last_late_duplicates"].as_array().unwrap();
        assert!(
            shown
                .iter()
                .all(|id| doubled.contains(id.as_str().unwrap()))
        );
        let counted = bridge.metric("sink_late_duplicates_total{sink=\"slow\"}");
        assert_eq!(sink["late_duplicates"].as_f64(), Some(counted));
        bridge.terminate();
        let (journal, sent) = (self.course.journal(), self.course.sent());
        oracle::was_heard_without_a_hole(&journal, &sent);
        oracle::has_the_journal(what, &firsts(landed), &journal);
        println!(
            "{what}: {} doubled of {}, all of them named",
            doubled.len(),
            journal.len()
        );
        self.course.end().await;
        doubled.len()
    }

    async fn landed_in_kafka(&self, committed: bool) -> Vec<Landed> {
        let (brokers, topic) = (self.course.brokers.clone(), self.course.topic.clone());
        let read = if committed {
            oracle::kafka_committed
        } else {
            oracle::kafka
        };
        let read = tokio::task::spawn_blocking(move || read(&brokers, &topic));
        read.await.unwrap()
    }

    async fn landed_in_nats(&self) -> Vec<Landed> {
        oracle::nats(&self.course.nats, &self.course.stream, &self.course.prefix).await
    }
}

/// The ids that a process has named in its log.
fn told(bridge: &Bridge) -> Vec<String> {
    let log = bridge.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ids = lines.filter_map(|line| Some(line["event_ids"].as_str()?.to_owned()));
    ids.flat_map(|ids| ids.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// The ids that are there more than once.
fn doubled(landed: &[Landed]) -> BTreeSet<String> {
    let mut seen = HashSet::new();
    let ids = landed.iter().map(|landed| text(&landed.event, "event_id"));
    ids.filter(|id| !seen.insert(*id))
        .map(str::to_owned)
        .collect()
}

/// Each event where it is for the first time.
fn firsts(landed: &[Landed]) -> Vec<Landed> {
    let mut seen = HashSet::new();
    let first = landed
        .iter()
        .filter(|landed| seen.insert(text(&landed.event, "event_id")));
    first.cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_transactions_nothing_is_doubled_however_late_the_dead_speak() {
    let (mut line, bed) = Line::kafka("exactly_once: true, settle: 100ms").await;
    for delay in delays(&[300, 1000]) {
        line.kill(delay).await;
    }
    let bridge = line.finish().await;
    let all = line.landed_in_kafka(false).await;
    let landed = line.landed_in_kafka(true).await;
    println!(
        "{} records are of no committed transaction",
        all.len() - landed.len()
    );
    let doubled = line.end(bridge, &landed, "read_committed").await;
    assert_eq!(doubled, 0);
    drop(bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_nothing_is_doubled_up_to_settle() {
    let (mut line, bed) = Line::kafka("settle: 2s").await;
    for delay in delays(&[300, 1000]) {
        line.kill(delay).await;
    }
    let bridge = line.finish().await;
    let landed = line.landed_in_kafka(false).await;
    assert_eq!(line.end(bridge, &landed, "up to settle").await, 0);
    drop(bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_every_late_twin_beyond_settle_is_named() {
    let (mut line, bed) = Line::kafka("settle: 0s").await;
    for delay in delays(&[2000, 1500]) {
        line.kill(delay).await;
    }
    let bridge = line.finish().await;
    let landed = line.landed_in_kafka(false).await;
    let doubled = line.end(bridge, &landed, "beyond settle").await;
    assert!(doubled > 0, "nothing came late enough to prove anything");
    drop(bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_doubles_nothing_within_its_duplicate_window() {
    let mut line = Line::nats(Duration::from_secs(120), "settle: 0s").await;
    for delay in delays(&[300, 1500]) {
        line.kill(delay).await;
    }
    let bridge = line.finish().await;
    let landed = line.landed_in_nats().await;
    assert_eq!(line.end(bridge, &landed, "within the window").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_jetstreams_duplicate_window_every_late_twin_is_named() {
    let mut line = Line::nats(Duration::from_millis(100), "settle: 0s").await;
    for delay in delays(&[2000, 1500]) {
        line.kill(delay).await;
    }
    let bridge = line.finish().await;
    let landed = line.landed_in_nats().await;
    let doubled = line.end(bridge, &landed, "beyond the window").await;
    assert!(doubled > 0, "nothing came late enough to prove anything");
}

/// Cuts the connection of a living bridge three times and more, with much on its way, which arrives after
/// `delay`; until this is `enough`: on a machine that stands still at the wrong moment everything may have
/// arrived before the cut.
async fn cut(line: &Line, delay: Duration, enough: impl Fn(&Bridge) -> bool) -> Bridge {
    let bridge = line.course.start_with(&line.sink).await;
    for round in 0..30 {
        if round >= 3 && enough(&bridge) {
            break;
        }
        let published = || bridge.metric("sink_published_total{sink=\"slow\"}");
        let before = published();
        eventually("more to be published", || {
            (published() > before + 500.0).then_some(())
        });
        line.proxy.hold_back(delay);
        eventually("bytes to be on their way", || {
            (line.proxy.held() >= HELD_MIN).then_some(())
        });
        line.proxy.hold_back(AT_ONCE);
        line.proxy.cut();
        eventually("what was on its way to arrive", || {
            (line.proxy.held() < 1000).then_some(())
        });
    }
    line.course.control.pause();
    line.course.wait_heard_and_delivered(&bridge);
    bridge
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_kafka_that_is_cut_doubles_nothing() {
    // Whatever its settle: the same producer sends again, and the broker knows its numbers.
    let (line, bed) = Line::kafka("settle: 0s").await;
    let bridge = cut(&line, Duration::from_secs(1), |_| true).await;
    let landed = line.landed_in_kafka(false).await;
    assert_eq!(line.end(bridge, &landed, "cut, Kafka").await, 0);
    drop(bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_kafka_that_is_cut_doubles_nothing_in_a_transaction() {
    let (line, bed) = Line::kafka("exactly_once: true, settle: 0s").await;
    let bridge = cut(&line, Duration::from_secs(1), |_| true).await;
    let landed = line.landed_in_kafka(true).await;
    assert_eq!(line.end(bridge, &landed, "cut, read_committed").await, 0);
    drop(bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_jetstream_that_is_cut_doubles_nothing_up_to_settle() {
    let line = Line::nats(Duration::from_millis(100), "settle: 2s").await;
    let again = |bridge: &Bridge| bridge.metric("sink_restarts_total{sink=\"slow\"}") > 0.0;
    let bridge = cut(&line, Duration::from_secs(1), again).await;
    assert!(again(&bridge), "it asked again what had arrived");
    let landed = line.landed_in_nats().await;
    assert_eq!(line.end(bridge, &landed, "cut, JetStream").await, 0);
}
