//! The promise of the class *configuration*, with the real bridge: what worked a moment ago is refused,
//! its sink halts, the journal goes on, no event becomes a dead letter, the other sink notices nothing,
//! and when an operator has mended it everything arrives once and in order.

use std::collections::HashSet;

use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader, ensure_stream};
use serde_json::Value;

use super::said;
use super::sinks::{by_user, file_beside};
use crate::support::beds::{self, OwnBed};
use crate::support::bridge::{kafka_sink, nats_sink};
use crate::support::course::heard;
use crate::support::kafka_admin::{delete, grant, revoke};
use crate::support::line::{Ended, Line};
use crate::support::oracle::read_by_java;
use crate::support::{eventually, unique};

/// Messages of the vendor in each part of a course.
const PART: u64 = 100;

/// Lets the vendor send one part, and waits until the bridge has journalled it.
async fn send(line: &Line, part: u64) {
    line.control.step(PART).await;
    eventually("the part to be journalled", || {
        (heard(&line.bridge) == part * PART).then_some(())
    });
}

/// While the sink is refused: halted, nothing set aside, the other one has all, and it stays so.
async fn is_halted_and_keeps(line: &Line, sink: &str, part: u64) {
    // Only what is published is refused, so there must be something.
    send(line, part).await;
    let log = said(&line.bridge, &[sink, "halted until this is mended"]);
    assert_eq!(log["class"], "configuration", "{log}");
    send(line, part + 1).await;
    eventually("the other sink to have everything", || {
        (line.bridge.metric("sink_lag_records{sink=\"local\"}") == 0.0).then_some(())
    });
    let halted = format!("sink_state{{sink=\"{sink}\",state=\"halted\"}}");
    eventually("the sink to be halted", || {
        (line.bridge.metric(&halted) == 1.0).then_some(())
    });
    let metric = |name: &str| line.bridge.metric(&format!("{name}{{sink=\"{sink}\"}}"));
    assert!(metric("sink_lag_records") >= 2.0 * PART as f64);
    assert_eq!(line.bridge.metric("dead_letters"), 0.0);
    assert_eq!(line.bridge.metric_sum("dead_letters_total"), 0.0);
    let of_class = |class: &str| {
        let series = format!("sink_errors_total{{class=\"{class}\",sink=\"{sink}\"}}");
        line.bridge.metric(&series)
    };
    assert!(of_class("configuration") >= 1.0);
    assert_eq!(of_class("record"), 0.0);
    assert_eq!(
        line.bridge.metric("sink_restarts_total{sink=\"local\"}"),
        0.0
    );
    assert_eq!(line.bridge.metric("feed_connects_total"), 1.0);
}

/// After the mending: everything that was journalled is in one of these, once and in order.
fn arrived(ended: &Ended, found: &[Value]) {
    assert!(!ended.log.contains("dead letter"), "{}", ended.log);
    let ids: HashSet<_> = found
        .iter()
        .map(|event| event["event_id"].to_string())
        .collect();
    assert_eq!(ids.len(), found.len(), "once");
    let (found, expected) = (by_user(found.iter()), by_user(ended.records.iter()));
    assert_eq!(found.len(), expected.len());
    for (user, events) in expected {
        // Not the events themselves: there are too many to be read in a message.
        let ids = |events: &[Value]| {
            events
                .iter()
                .map(|e| e["event_id"].to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&found[&user]), ids(&events), "{user}");
        assert!(found[&user] == events, "{user}");
    }
}

/// The events of a topic; those of one user are in order.
fn kafka_events(brokers: &str, topic: &str) -> Vec<Value> {
    let mut found = read_by_java(brokers, topic);
    found.sort_by_key(|found| (found["partition"].as_i64(), found["offset"].as_i64()));
    let value = |found: &Value| serde_json::from_str(found["value"].as_str().unwrap()).unwrap();
    found.iter().map(value).collect()
}

/// The events of a stream, in order.
async fn nats_events(url: &str, stream: &str, prefix: &str) -> Vec<Value> {
    let filter = format!("{prefix}.*");
    let from = TailFrom::Beginning;
    let mut tail = TailReader::open(url, stream, &filter, from).await.unwrap();
    let mut found = Vec::new();
    loop {
        let next = tail.next().await.unwrap();
        found.push(serde_json::from_slice(&next.body).unwrap());
        if next.pending == 0 {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_of_kafka_that_is_taken_away_halts_its_sink_and_sets_nothing_aside() {
    let bed = OwnBed::kafka_with(&["--profile", "acl"]);
    let topic = unique("revoked");
    ensure_topic(&bed.direct, &topic, 3).await.unwrap();
    let resource = format!("topic:{topic}");
    grant(
        &bed.direct,
        "bridge",
        &resource,
        &["WRITE", "DESCRIBE", "READ"],
    );
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "bridge-secret\n").unwrap();
    let options = format!(
        ", options: {{security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, \
         sasl.username: bridge, sasl.password_file: '{}'}}}}",
        secret.path().display()
    );
    let sink = kafka_sink("kafka", &bed.address, &topic).replace('}', &options);
    let line = file_beside(&sink, Options::for_tests()).await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    send(&line, 1).await;
    line.bridge.wait_delivered();

    revoke(&bed.direct, "bridge", &resource, &["WRITE"]);
    is_halted_and_keeps(&line, "kafka", 2).await;
    grant(&bed.direct, "bridge", &resource, &["WRITE"]);
    send(&line, 4).await;
    arrived(&line.end().await, &kafka_events(&bed.direct, &topic));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_in_mid_stream_halts_its_sink_and_sets_nothing_aside() {
    let topic = unique("vanished");
    ensure_topic(beds::kafka(), &topic, 3).await.unwrap();
    let sink = kafka_sink("kafka", beds::kafka(), &topic);
    let line = file_beside(&sink, Options::for_tests()).await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    send(&line, 1).await;
    line.bridge.wait_delivered();
    let before = kafka_events(beds::kafka(), &topic);

    delete(beds::kafka(), &topic).await;
    is_halted_and_keeps(&line, "kafka", 2).await;
    ensure_topic(beds::kafka(), &topic, 3).await.unwrap();
    send(&line, 4).await;
    let ended = line.end().await;
    // What Kafka had acknowledged and then threw away is not sent again.
    let after = kafka_events(beds::kafka(), &topic);
    arrived(&ended, &[before, after].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_in_mid_stream_halts_its_sink_and_sets_nothing_aside() {
    let (stream, prefix) = (unique("VANISHED"), unique("vanished"));
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    let sink = nats_sink("nats", beds::nats(), &stream, &prefix);
    let line = file_beside(&sink, Options::for_tests()).await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    send(&line, 1).await;
    line.bridge.wait_delivered();
    let before = nats_events(beds::nats(), &stream, &prefix).await;

    let client = async_nats::connect(beds::nats()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.delete_stream(&stream).await.unwrap();
    is_halted_and_keeps(&line, "nats", 2).await;
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    send(&line, 4).await;
    let ended = line.end().await;
    let after = nats_events(beds::nats(), &stream, &prefix).await;
    arrived(&ended, &[before, after].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_of_nats_that_is_taken_away_halts_its_sink_and_sets_nothing_aside() {
    let bed = OwnBed::nats_with(&["--profile", "acl"]);
    let admin = bed.address.replace("nats://", "nats://admin:admin-secret@");
    let (stream, prefix) = ("REVOKED", "onboarding.users");
    ensure_stream(&admin, stream, prefix).await.unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "bridge-secret\n").unwrap();
    let user = format!(
        ", user: bridge, password_file: '{}'}}",
        secret.path().display()
    );
    let sink = nats_sink("nats", &bed.address, stream, prefix).replace('}', &user);
    let line = file_beside(&sink, Options::for_tests()).await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    send(&line, 1).await;
    line.bridge.wait_delivered();

    let users = bed.file("users.conf");
    let rights = std::fs::read_to_string(&users).unwrap();
    let publish = "\"onboarding.>\", ";
    assert!(rights.contains(publish), "{rights}");
    std::fs::write(&users, rights.replace(publish, "")).unwrap();
    bed.signal("HUP");
    is_halted_and_keeps(&line, "nats", 2).await;
    std::fs::write(&users, rights).unwrap();
    bed.signal("HUP");
    send(&line, 4).await;
    let ended = line.end().await;
    arrived(&ended, &nats_events(&admin, stream, prefix).await);
}
