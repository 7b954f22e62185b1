//! The Kafka sink with transactions, where it differs from the plain one: who opens it shuts out every
//! earlier producer, a refused record takes no other with it, and nothing that is there is overlooked.

use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::event::Record;
use onboarding_bridge::sink::kafka::KafkaSink;
use onboarding_bridge::sink::kafka::tail::{create_topic, ensure_topic};
use onboarding_bridge::sink::{ErrorClass, Sink};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::oracle::read_committed_by_java;
use crate::support::records::{record, records};
use crate::support::{beds, unique};

const PATIENCE: Duration = Duration::from_secs(30);

fn sink(topic: &str) -> KafkaSink {
    let brokers = beds::kafka();
    let text = format!("{{name: k, brokers: ['{brokers}'], topic: {topic}, exactly_once: true}}");
    KafkaSink::new(&serde_norway::from_str(&text).unwrap()).unwrap()
}

/// The ids that a `read_committed` consumer sees, in the order of each partition.
fn seen(topic: &str) -> Vec<String> {
    let found = read_committed_by_java(beds::kafka(), topic);
    let id = |found: &serde_json::Value| found["headers"]["ce_id"].as_str().unwrap().to_owned();
    found.iter().map(id).collect()
}

fn ids(records: &[Arc<Record>]) -> Vec<String> {
    let ids = records.iter().map(|record| record.event_id.to_string());
    ids.collect()
}

#[tokio::test]
async fn who_opens_shuts_out_every_earlier_producer_of_the_id() {
    let topic = unique("fence");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    let batch = records(30, 3);
    let mut first = sink(&topic);
    let destination = first.open().await.unwrap();
    let id = format!("onboarding-bridge.{topic}.k");
    assert!(destination.description.contains(&id), "{destination:?}");
    first.publish(&batch[..10]).await.unwrap();
    let mut second = sink(&topic);
    second.open().await.unwrap();
    second.publish(&batch[10..20]).await.unwrap();
    let error = first.publish(&batch[20..]).await.unwrap_err();
    assert_eq!(error.failed.len(), 10);
    for (_, error) in &error.failed {
        assert_eq!(error.class, ErrorClass::Configuration, "{error}");
        assert!(error.message.contains(&id), "{error}");
    }
    assert_eq!(seen(&topic), ids(&batch[..20]));
}

#[tokio::test]
async fn a_record_too_large_aborts_the_transaction_and_the_rest_is_published_in_order() {
    let topic = unique("large");
    create_topic(beds::kafka(), &topic, 1, &[("max.message.bytes", "20000")])
        .await
        .unwrap();
    let mut sink = sink(&topic);
    sink.open().await.unwrap();
    let mut batch: Vec<_> = (0..40).map(|n| record(n, "one")).collect();
    for large in [3, 17] {
        let noise = (0..40_000).map(|_| char::from(b'a' + rand::random::<u8>() % 26));
        Arc::make_mut(&mut batch[large]).body = noise.collect::<String>().into_bytes();
    }
    let error = sink.publish(&batch).await.unwrap_err();
    let failed: Vec<_> = error
        .failed
        .iter()
        .map(|(index, error)| (*index, error.class))
        .collect();
    let refused = ErrorClass::Record;
    assert_eq!(failed, [(3, refused), (17, refused)], "{error}");
    let expected: Vec<_> = ids(&batch)
        .into_iter()
        .enumerate()
        .filter(|(index, _)| ![3, 17].contains(index))
        .map(|(_, id)| id)
        .collect();
    assert_eq!(seen(&topic), expected);
}

#[tokio::test]
async fn what_lies_behind_the_open_transaction_of_another_is_held_all_the_same() {
    let topic = unique("behind");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", beds::kafka())
        .set("transactional.id", unique("other"))
        .create()
        .unwrap();
    other.init_transactions(PATIENCE).unwrap();
    other.begin_transaction().unwrap();
    other
        .send(BaseRecord::<str, str>::to(&topic).key("other").payload("x"))
        .unwrap();
    other.flush(PATIENCE).unwrap();
    let batch = records(50, 5);
    let mut ours = sink(&topic);
    ours.open().await.unwrap();
    ours.publish(&batch).await.unwrap();
    drop(ours);

    let mut again = sink(&topic);
    again.open().await.unwrap();
    let mut asking = again.held(batch[0].received_at);
    let early = tokio::time::timeout(Duration::from_secs(1), &mut asking).await;
    assert!(early.is_err(), "it cannot know yet: {early:?}");
    tokio::task::spawn_blocking(move || other.abort_transaction(PATIENCE))
        .await
        .unwrap()
        .unwrap();
    let held = asking.await.unwrap();
    assert!(batch.iter().all(|record| held.contains(&record.event_id)));
    assert_eq!(held.len(), batch.len());
}

#[tokio::test]
async fn closing_in_the_middle_of_a_transaction_does_not_hold_up_its_readers() {
    let topic = unique("abandoned");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    let batch = records(20_000, 500);
    let mut ours = sink(&topic);
    ours.open().await.unwrap();
    // As at the end of the drain: the transaction is neither committed nor aborted.
    let middle = Duration::from_millis(50);
    let publishing = tokio::time::timeout(middle, ours.publish(&batch)).await;
    assert!(publishing.is_err(), "it was to be dropped in the middle");
    ours.close().await.unwrap();

    let text = format!(
        "{{name: k, brokers: ['{}'], topic: {topic}}}",
        beds::kafka()
    );
    let mut other = KafkaSink::new(&serde_norway::from_str(&text).unwrap()).unwrap();
    other.open().await.unwrap();
    let last = [record(20_000, "other")];
    other.publish(&last).await.unwrap();
    // On a slow machine the commit was under way already: then the whole transaction is there.
    let seen = seen(&topic);
    let committed: Vec<_> = ids(&batch).into_iter().chain(ids(&last)).collect();
    assert!(
        seen == ids(&last) || seen == committed,
        "{} of {} records are seen",
        seen.len(),
        committed.len()
    );
}
