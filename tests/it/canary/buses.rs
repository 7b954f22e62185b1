//! The same at Kafka and NATS: every byte that a consumer can have, of events, control records and dead
//! letters, with keys, headers and subjects.

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use onboarding_bridge::sink::kafka::tail::{create_topic, ensure_topic};
use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader};

use super::row::{Channel, Findings, Row, run_with};
use super::{MIXED, PLAIN};
use crate::support::bridge::{kafka_sink, nats_sink};
use crate::support::{beds, oracle, unique};

/// Runs the row with all three sinks. The topic takes no large record.
async fn at_the_buses(row: Row) {
    let (topic, stream, prefix) = (unique("canary"), unique("CANARY"), unique("canary"));
    let (kafka, nats) = (beds::kafka(), beds::nats());
    create_topic(kafka, &topic, 1, &[("max.message.bytes", "6000")])
        .await
        .unwrap();
    for side in ["control", "dead"] {
        let topic = format!("{topic}.{side}");
        ensure_topic(kafka, &topic, 1).await.unwrap();
    }
    let subjects = ["", "_control", "_dead"].map(|side| format!("{prefix}{side}.>"));
    let subjects = [&subjects[..], &[format!("{prefix}_dead")]].concat();
    let context = jetstream::new(async_nats::connect(nats).await.unwrap());
    let config = Config {
        name: stream.clone(),
        subjects,
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();
    let sinks = [
        kafka_sink("kafka", kafka, &topic),
        nats_sink("nats", nats, &stream, &prefix),
    ];
    let corpus = run_with(row.clone(), &sinks).await;

    let mut findings = Findings::new(&row, &corpus);
    let sides = [
        ("", Channel::Sink),
        (".control", Channel::Silent),
        (".dead", Channel::Letters),
    ];
    let read = sides.map(|(side, _)| {
        let name = format!("{topic}{side}");
        tokio::task::spawn_blocking(move || oracle::read_by_java(kafka, &name))
    });
    for ((side, channel), read) in sides.into_iter().zip(read) {
        let records = read.await.unwrap();
        assert!(records.len() > 1, "{side}: {records:?}");
        for record in records {
            let record = record.to_string();
            findings.look(channel, &format!("the topic{side}"), record.as_bytes());
        }
    }
    // What the topic refuses is in no record of it, and in the letter alone.
    findings.judge_without("large", &[Channel::Sink]);
    findings.judge(&[Channel::Letters]);

    let mut findings = Findings::new(&row, &corpus);
    let count = oracle::stored(nats, &stream, ">").await;
    let tail = TailReader::open(nats, &stream, ">", TailFrom::Beginning).await;
    let mut tail = tail.unwrap();
    for _ in 0..count {
        let message = tail.next().await.unwrap();
        let rest = message.subject.strip_prefix(&prefix).unwrap();
        let channel = match rest.split('.').next() {
            Some("_control") => Channel::Silent,
            Some("_dead") => Channel::Letters,
            _ => Channel::Sink,
        };
        let head = format!(
            "{} {:?} {:?}",
            message.subject, message.headers, message.message_id
        );
        findings.look(channel, "a head in the stream", head.as_bytes());
        findings.look(channel, "a body in the stream", &message.body);
    }
    findings.judge(&[Channel::Sink, Channel::Letters]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_and_forwarded_is_in_the_records_of_both_buses_and_nowhere_else() {
    at_the_buses(Row {
        token: "forward",
        refused: true,
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_is_in_no_byte_of_either_bus() {
    at_the_buses(Row {
        token: "fingerprint",
        key: "hmac",
        fields: MIXED,
        encrypted: true,
        ..PLAIN
    })
    .await;
}
