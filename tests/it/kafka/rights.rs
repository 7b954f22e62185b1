//! A Kafka that asks who one is and what one may: refused credentials, rights that are taken away and
//! given back, a topic that is deleted. What they have in common: an operator mends it, and until then
//! nothing is thrown away.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::event::Record;
use onboarding_bridge::sink::kafka::KafkaSink;
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use onboarding_bridge::sink::{ErrorClass, PublishError, Sink};

use super::{numbers, sink};
use crate::support::beds::OwnBed;
use crate::support::kafka_admin::{delete, grant, revoke};
use crate::support::oracle::read_by_java;
use crate::support::records::{record, records};
use crate::support::{beds, unique};

/// What the documents say that a sink needs.
const ALL: [&str; 3] = ["WRITE", "DESCRIBE", "READ"];

/// A sink that logs in as a user of the bed; its password is in the file.
fn sink_of(
    bed: &OwnBed,
    user: &str,
    password: &str,
    topic: &str,
) -> (tempfile::NamedTempFile, KafkaSink) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{password}").unwrap();
    let options = format!(
        "{{security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: {user}, \
         sasl.password_file: '{}'}}",
        file.path().display()
    );
    let sink = sink(&bed.address, topic, &options);
    (file, sink)
}

/// A broker moves metadata, rights included, a moment after it said that they are changed.
async fn open_soon(sink: &mut KafkaSink) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = sink.open().await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
}

/// Publishes until the brokers refuse, which they do a moment after a right was taken away; what was
/// acknowledged until then, and the error.
async fn publish_until_refused(
    sink: &mut KafkaSink,
    from: u64,
) -> (Vec<Arc<Record>>, Vec<Arc<Record>>, PublishError) {
    let mut acknowledged = Vec::new();
    for n in from..from + 10_000 {
        let batch: Vec<_> = ["a", "b", "c", "d"].map(|key| record(n, key)).into();
        match sink.publish(&batch).await {
            Ok(()) => acknowledged.extend(batch),
            Err(error) => {
                let failed = error
                    .failed
                    .iter()
                    .map(|(index, _)| Arc::clone(&batch[*index]));
                return (acknowledged, failed.collect(), error);
            }
        }
    }
    panic!("the brokers go on taking records")
}

fn is_transient(error: &PublishError) -> bool {
    let mut failed = error.failed.iter();
    failed.any(|(_, error)| error.class == ErrorClass::Transient)
}

fn are_configuration(error: &PublishError, words: &[&str]) {
    for (_, error) in &error.failed {
        assert_eq!(error.class, ErrorClass::Configuration, "{error}");
        for word in words {
            assert!(error.message.contains(word), "no {word} in {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_stops_the_batch_until_it_is_given_back() {
    let bed = OwnBed::kafka_with(&["--profile", "acl"]);
    let topic = unique("rights");
    ensure_topic(&bed.direct, &topic, 1).await.unwrap();
    let (resource, write) = (format!("topic:{topic}"), ["WRITE"]);
    // Neither a group nor the cluster: what is not named in the documents is not needed.
    grant(&bed.direct, "bridge", &resource, &ALL);
    let (_file, mut sink) = sink_of(&bed, "bridge", "bridge-secret", &topic);
    open_soon(&mut sink).await;
    let first: Vec<_> = (0..100).map(|n| record(n, "a")).collect();
    sink.publish(&first).await.unwrap();

    revoke(&bed.direct, "bridge", &resource, &write);
    let (more, refused, error) = publish_until_refused(&mut sink, 100).await;
    are_configuration(&error, &[&topic, "WRITE"]);
    assert_eq!(
        refused.len(),
        4,
        "all that was not acknowledged is told: {error}"
    );
    // It is refused again as long as that lasts, and never as a matter of the record.
    for _ in 0..3 {
        if sink.open().await.is_ok() {
            are_configuration(&sink.publish(&refused).await.unwrap_err(), &[&topic]);
        }
    }

    grant(&bed.direct, "bridge", &resource, &write);
    open_soon(&mut sink).await;
    let held = sink.held(first[0].received_at).await.unwrap();
    assert!(
        refused
            .iter()
            .all(|record| !held.contains(&record.event_id))
    );
    // The right may take a moment to come back, as it took one to go.
    while let Err(error) = sink.publish(&refused).await {
        are_configuration(&error, &[&topic]);
        assert_eq!(error.failed.len(), 4);
        open_soon(&mut sink).await;
    }
    let published = [first, more, refused].concat();
    let found = numbers(&read_by_java(&bed.direct, &topic));
    assert_eq!(found.len(), published.len(), "once");
    assert!(found.is_sorted(), "in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_write_the_new_producer_is_refused_and_not_broken() {
    let bed = OwnBed::kafka_with(&["--profile", "acl"]);
    let topic = unique("reader");
    ensure_topic(&bed.direct, &topic, 1).await.unwrap();
    grant(
        &bed.direct,
        "bridge",
        &format!("topic:{topic}"),
        &["DESCRIBE", "READ"],
    );
    let (_file, mut sink) = sink_of(&bed, "bridge", "bridge-secret", &topic);
    open_soon(&mut sink).await;
    // librdkafka calls this fatal; a new producer every moment would be of no help.
    let error = sink.publish(&records(20, 5)).await.unwrap_err();
    assert_eq!(error.failed.len(), 20);
    are_configuration(&error, &[&topic, "refused"]);

    // Without any right at all it is told at the opening.
    let (_file, mut nobody) = sink_of(&bed, "nobody", "nobody-secret", &topic);
    let error = nobody.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(error.message.contains("allow this sink's user"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_matter_of_configuration_at_kafka_too() {
    let bed = OwnBed::kafka_with(&["--profile", "acl"]);
    let topic = unique("password");
    ensure_topic(&bed.direct, &topic, 1).await.unwrap();
    let (file, mut sink) = sink_of(&bed, "admin", "canary-3f", &topic);
    let error = sink.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    // A secret is read again at each opening.
    std::fs::write(file.path(), "admin-secret\n").unwrap();
    sink.open().await.unwrap();
    sink.publish(&records(5, 5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_meanwhile_stops_the_batch_until_it_is_created() {
    let topic = unique("deleted");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    let mut sink = sink(beds::kafka(), &topic, "{}");
    sink.open().await.unwrap();
    sink.publish(&records(50, 5)).await.unwrap();
    delete(beds::kafka(), &topic).await;
    let started = tokio::time::Instant::now();
    let batch: Vec<_> = (0..50)
        .map(|n| record(n, &format!("user_{}", n % 5)))
        .collect();
    let mut error = sink.publish(&batch).await.unwrap_err();
    // On a busy machine an attempt may be given up before the brokers have answered it.
    while is_transient(&error) && started.elapsed() < Duration::from_secs(25) {
        if sink.open().await.is_err() {
            break;
        }
        error = sink.publish(&batch).await.unwrap_err();
    }
    let noticed = started.elapsed();
    // librdkafka's own default would be 30 s, and then what is under way is drained.
    assert!(noticed < Duration::from_secs(25), "{noticed:?}");
    assert_eq!(error.failed.len(), 50);
    if !is_transient(&error) {
        are_configuration(&error, &[&topic, "create it"]);
    }
    let error = sink.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    sink.open().await.unwrap();
    sink.publish(&batch).await.unwrap();
    let found = numbers(&read_by_java(beds::kafka(), &topic));
    assert_eq!(found, (0..50).collect::<Vec<u64>>());
}
