//! The Kafka sink where it differs from the others: errors and their classes, limits of the topic, a
//! broker that goes away, and the record as Kafka's own Java client sees it.

mod cluster;
mod credentials;
mod rights;

use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::event::{Record, Timestamp};
use onboarding_bridge::sink::kafka::KafkaSink;
use onboarding_bridge::sink::kafka::tail::{create_topic, ensure_topic};
use onboarding_bridge::sink::{ErrorClass, Sink, SinkError};
use serde_json::Value;

use crate::support::beds::OwnBed;
use crate::support::oracle::read_by_java;
use crate::support::records::{HOSTILE_KEYS, record, record_at, records};
use crate::support::{beds, unique};

fn sink(brokers: &str, topic: &str, options: &str) -> KafkaSink {
    let text = format!("{{name: k, brokers: ['{brokers}'], topic: {topic}, options: {options}}}");
    KafkaSink::new(&serde_norway::from_str(&text).unwrap()).unwrap()
}

/// The numbers of the records in the order of their offsets; for topics of one partition.
fn numbers(found: &[Value]) -> Vec<u64> {
    let number = |found: &Value| {
        let body: Value = serde_json::from_str(found["value"].as_str().unwrap()).unwrap();
        body["number"].as_u64().unwrap()
    };
    found.iter().map(number).collect()
}

#[tokio::test]
async fn java_finds_each_record_where_its_own_partitioner_puts_it() {
    let topic = unique("java");
    ensure_topic(beds::kafka(), &topic, 12).await.unwrap();
    let mut sink = sink(beds::kafka(), &topic, "{}");
    sink.open().await.unwrap();
    let mut batch = records(200, 100);
    batch.extend(HOSTILE_KEYS.map(|key| record(1000, key)));
    sink.publish(&batch).await.unwrap();
    let found = read_by_java(beds::kafka(), &topic);
    assert_eq!(found.len(), batch.len());
    for found in found {
        assert_eq!(found["partition"], found["java_partition"]);
        let id = found["headers"]["ce_id"].as_str().unwrap();
        let own = batch
            .iter()
            .find(|record| record.event_id.to_string() == id)
            .unwrap();
        assert_eq!(
            found["timestamp"].as_i64().unwrap(),
            own.received_at.as_millis()
        );
        assert_eq!(found["value"].as_str().unwrap().as_bytes(), own.body);
        assert_eq!(found["key"].as_str().unwrap(), own.key);
    }
}

#[tokio::test]
async fn a_missing_topic_says_what_to_do_and_is_not_created() {
    let topic = unique("missing");
    for _ in 0..2 {
        let error = sink(beds::kafka(), &topic, "{}").open().await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Configuration);
        for words in [topic.as_str(), beds::kafka(), "create it"] {
            assert!(error.message.contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_may_come_back() {
    let error = sink("127.0.0.1:1", "t", "{}").open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn tls_to_a_broker_without_it_fails_with_the_reason() {
    let topic = unique("tls");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    let error = sink(beds::kafka(), &topic, "{security.protocol: ssl}")
        .open()
        .await
        .unwrap_err();
    // A broker that is killed within the handshake looks the same, so it may pass; but it says why.
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert!(error.message.contains("SSL"), "{error}");
}

#[tokio::test]
async fn settings_that_may_lose_events_are_named() {
    let topic = unique("settings");
    let settings = [
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "20000"),
    ];
    create_topic(beds::kafka(), &topic, 2, &settings)
        .await
        .unwrap();
    let destination = sink(beds::kafka(), &topic, "{}").open().await.unwrap();
    assert!(
        destination
            .description
            .contains("2 partition(s), 1 replica(s), at most 20000 bytes")
    );
    let warnings = destination.warnings.join("\n");
    for words in [
        "1 replica(s)",
        "min.insync.replicas is 1",
        "compacted",
        "max.message.bytes is 20000",
    ] {
        assert!(warnings.contains(words), "{warnings}");
    }
}

/// A body of this size that compression cannot shrink.
fn grown(record: &Arc<Record>, bytes: usize) -> Arc<Record> {
    let mut record = Record::clone(record);
    let noise: String = (0..bytes)
        .map(|_| char::from(b'a' + rand::random::<u8>() % 26))
        .collect();
    let mut body: Value = serde_json::from_slice(&record.body).unwrap();
    body["noise"] = noise.into();
    record.body = serde_json::to_vec(&body).unwrap();
    Arc::new(record)
}

#[tokio::test]
async fn a_record_too_large_for_the_topic_takes_no_other_with_it() {
    let topic = unique("large");
    create_topic(beds::kafka(), &topic, 1, &[("max.message.bytes", "20000")])
        .await
        .unwrap();
    let mut sink = sink(beds::kafka(), &topic, "{linger.ms: 50}");
    sink.open().await.unwrap();
    // Together far beyond the limit, so that one batch of all would be refused for all of them.
    let mut batch: Vec<_> = (0..40)
        .map(|n| grown(&record(n, &format!("user_{n}")), 3000))
        .collect();
    batch[17] = grown(&batch[17], 40_000);
    let error = sink.publish(&batch).await.unwrap_err();
    let failed: Vec<_> = error
        .failed
        .iter()
        .map(|(index, error)| (*index, error.class))
        .collect();
    assert_eq!(failed, [(17, ErrorClass::Record)], "{error}");
    let expected: Vec<u64> = (0..40).filter(|n| *n != 17).collect();
    assert_eq!(numbers(&read_by_java(beds::kafka(), &topic)), expected);
}

#[tokio::test]
async fn after_a_refusal_that_is_not_about_the_record_none_of_its_key_is_there() {
    let topic = unique("old");
    let settings = [("message.timestamp.before.max.ms", "3600000")];
    create_topic(beds::kafka(), &topic, 1, &settings)
        .await
        .unwrap();
    let options = "{linger.ms: 0, batch.num.messages: 1}";
    let mut sink = sink(beds::kafka(), &topic, options);
    let yesterday = Timestamp::now().minus(Duration::from_secs(86_400));
    // Whether anything overtakes is a race, so it is run more than once.
    for round in 0..8 {
        sink.open().await.unwrap();
        let mut batch: Vec<_> = (round * 20..).take(100).map(|n| record(n, "one")).collect();
        batch[20] = record_at(0, "one", yesterday);
        let error = sink.publish(&batch).await.unwrap_err();
        let failed: Vec<_> = error.failed.iter().map(|(index, _)| *index).collect();
        assert_eq!(failed, (20..100).collect::<Vec<_>>());
        let configuration = |(_, e): &(_, SinkError)| e.class == ErrorClass::Configuration;
        assert!(error.failed.iter().all(configuration), "{error}");
    }
    let found = numbers(&read_by_java(beds::kafka(), &topic));
    assert_eq!(found, (0..160).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_returns_gets_each_record_once_and_in_order() {
    let bed = OwnBed::kafka(&[]);
    let topic = unique("killed");
    ensure_topic(&bed.address, &topic, 1).await.unwrap();
    let mut sink = sink(&bed.address, &topic, "{}");
    sink.open().await.unwrap();
    let batch: Vec<_> = (0..2000).map(|n| record(n, "one")).collect();
    sink.publish(&batch[..500]).await.unwrap();
    bed.signal("KILL");
    // The publish just waits; whether that is too long is for `deliver` to say.
    let (published, ()) = tokio::join!(sink.publish(&batch[500..]), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tokio::task::block_in_place(|| bed.restart());
    });
    if published.is_err() {
        // A broker that lost its memory of the producer makes it fatal: a new one, and the rest.
        sink.open().await.unwrap();
        let held = sink.held(batch[0].received_at).await.unwrap();
        let rest: Vec<_> = batch
            .iter()
            .filter(|r| !held.contains(&r.event_id))
            .cloned()
            .collect();
        sink.publish(&rest).await.unwrap();
    }
    assert_eq!(
        numbers(&read_by_java(&bed.address, &topic)),
        (0..2000).collect::<Vec<u64>>()
    );
}

#[tokio::test]
async fn held_tells_only_what_came_since_and_survives_empty_partitions() {
    let topic = unique("since");
    ensure_topic(beds::kafka(), &topic, 8).await.unwrap();
    let mut sink = sink(beds::kafka(), &topic, "{}");
    sink.open().await.unwrap();
    let moment = |second: i64| Timestamp(1_700_000_000_000_000_000 + second * 1_000_000_000);
    let batch: Vec<_> = (0..60)
        .map(|n| record_at(n as u64, "one", moment(n)))
        .collect();
    sink.publish(&batch).await.unwrap();
    assert_eq!(sink.held(moment(0)).await.unwrap().len(), 60);
    let late = sink.held(moment(50)).await.unwrap();
    assert_eq!(late.len(), 10);
    assert!(
        batch[50..]
            .iter()
            .all(|record| late.contains(&record.event_id))
    );
    assert!(sink.held(moment(60)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_clock_that_was_set_back_hides_nothing_that_is_held() {
    for settings in [&[][..], &[("message.timestamp.type", "LogAppendTime")]] {
        let topic = unique("clock");
        create_topic(beds::kafka(), &topic, 1, settings)
            .await
            .unwrap();
        let mut sink = sink(beds::kafka(), &topic, "{}");
        sink.open().await.unwrap();
        let now = Timestamp::now().0;
        let moment = |seconds: i64| Timestamp(now + seconds * 1_000_000_000);
        // Our clock is half an hour ahead; it is set right in mid-stream, and then three hours back.
        let offsets = [1800, 1801, 0, 1, -10_800, -10_799];
        let batch: Vec<_> = (0..)
            .zip(offsets)
            .map(|(n, seconds)| record_at(n, "one", moment(seconds)))
            .collect();
        sink.publish(&batch).await.unwrap();
        // Whatever is pending, all of it is found, by the earliest of its times.
        for pending in 0..batch.len() {
            let since = batch[pending..].iter().map(|record| record.received_at);
            let held = sink.held(since.min().unwrap()).await.unwrap();
            for record in &batch[pending..] {
                assert!(held.contains(&record.event_id), "{settings:?} {pending}");
            }
        }
        // Of the two that were received with the clock ahead, asked for when it is right again.
        let held = sink.held(batch[0].received_at).await.unwrap();
        assert!(held.contains(&batch[0].event_id) && held.contains(&batch[1].event_id));
    }
}
