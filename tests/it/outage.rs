//! One destination is away for a while: nobody else notices, and afterwards it has everything.

use std::time::Duration;

use onboarding_bridge::simulator::Options;
use tokio::time::{Instant, interval};

use crate::support::beds::{self, OwnBed};
use crate::support::bridge::Bridge;
use crate::support::course::Course;
use crate::support::oracle;

/// Events per second.
const RATE: f64 = 500.0;

/// How long Kafka is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// Records that a sink usually lacks when it is not disturbed: under half a second's. A machine that
/// does other things may stop the process for longer now and then, so it is the median that counts.
const LAG_USUAL: f64 = 200.0;

/// What is seen once a second while Kafka is away.
#[derive(Clone, Copy, Debug)]
struct Sample {
    connected: f64,
    kafka_lag_records: f64,
    kafka_lag_seconds: f64,
    nats_lag_records: f64,
    nats_published: f64,
}

impl Sample {
    fn take(bridge: &Bridge) -> Self {
        Self {
            connected: bridge.metric("feed_connected"),
            kafka_lag_records: bridge.metric("sink_lag_records{sink=\"kafka\"}"),
            kafka_lag_seconds: bridge.metric("sink_lag_seconds{sink=\"kafka\"}"),
            nats_lag_records: bridge.metric("sink_lag_records{sink=\"nats\"}"),
            nats_published: bridge.metric("sink_published_total{sink=\"nats\"}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_disturbs_neither_the_feed_nor_nats() {
    let bed = OwnBed::kafka(&[]);
    let options = Options {
        users: 500,
        rate: RATE,
        ..Options::for_tests()
    };
    let course = Course::with(options, &bed.address, beds::nats()).await;
    let bridge = course.start().await;
    bridge.wait_ready();
    course.control.resume();
    course.wait_sent(1000).await;

    bed.signal("KILL");
    let (away, mut seconds) = (Instant::now(), interval(Duration::from_secs(1)));
    let mut samples = Vec::new();
    while away.elapsed() < OUTAGE {
        seconds.tick().await;
        samples.push(Sample::take(&bridge));
    }
    bed.restart();
    course.wait_sent(course.sent_since_start() + 1000).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);

    println!("{samples:#?}");
    for pair in samples.windows(2) {
        assert!(pair[1].nats_published > pair[0].nats_published, "{pair:?}");
        assert!(pair[1].kafka_lag_records > pair[0].kafka_lag_records);
        assert!(pair[1].kafka_lag_seconds > pair[0].kafka_lag_seconds);
    }
    for sample in &samples {
        assert_eq!(sample.connected, 1.0);
    }
    let mut lags: Vec<f64> = samples
        .iter()
        .map(|sample| sample.nats_lag_records)
        .collect();
    lags.sort_by(f64::total_cmp);
    assert!(lags[lags.len() / 2] <= LAG_USUAL, "{lags:?}");
    let last = samples.last().unwrap();
    assert!(last.kafka_lag_seconds > 15.0, "{last:?}");
    assert!(last.kafka_lag_records > 15.0 * RATE / 2.0, "{last:?}");
    assert_eq!(bridge.metric_sum("feed_reconnects_total"), 0.0);
    assert_eq!(bridge.metric("feed_connects_total"), 1.0);
    assert_eq!(bridge.metric("sink_restarts_total{sink=\"nats\"}"), 0.0);
    assert_eq!(bridge.metric("sink_lag_seconds{sink=\"kafka\"}"), 0.0);
    bridge.terminate();

    let sent = course.sent();
    for (what, landed) in course.landed().await {
        oracle::has_all_that_was_sent(what, &landed, &sent);
    }
    assert_eq!(course.check().await, sent.len());
    course.end().await;
}
