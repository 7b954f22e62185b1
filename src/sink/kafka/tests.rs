//! The Kafka sink against the embedded broker: what needs no real one, and what a real one cannot be
//! asked to do. The contract with a real broker is in tests/it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr as Wire};

use super::embedded::EmbeddedBroker;
use super::tail::{TailConsumer, TailRecord};
use super::*;
use crate::event::EventType;

mod answers;

const TOPIC: &str = "users";

fn record(position: u64, key: &str) -> Arc<Record> {
    Arc::new(Record {
        position,
        event_id: EventId(u128::from(position).to_be_bytes()),
        event_type: EventType::Registered,
        key: key.to_owned(),
        occurred_at: Some(Timestamp(1_717_005_327_995_988_841)),
        received_at: Timestamp(1_717_005_328_101_223_344),
        body: format!(r#"{{"number":{position}}}"#).into_bytes(),
    })
}

fn batch(keys: &[&str]) -> Vec<Arc<Record>> {
    (1..)
        .zip(keys)
        .map(|(position, key)| record(position, key))
        .collect()
}

fn sink(address: &str, options: &str) -> KafkaSink {
    let text = format!("{{name: k, brokers: ['{address}'], topic: {TOPIC}, options: {options}}}");
    KafkaSink::new(&serde_norway::from_str(&text).unwrap()).unwrap()
}

fn transactional(address: &str, options: &str) -> KafkaSink {
    let text = format!(
        "{{name: k, brokers: ['{address}'], topic: {TOPIC}, exactly_once: true, options: {options}}}"
    );
    KafkaSink::new(&serde_norway::from_str(&text).unwrap()).unwrap()
}

async fn read(address: &str, records: usize) -> Vec<TailRecord> {
    let tail = TailConsumer::open(address, TOPIC).await.unwrap();
    let mut found = Vec::new();
    while found.len() < records {
        let next = tokio::time::timeout(Duration::from_secs(20), tail.next());
        found.push(next.await.unwrap().unwrap());
    }
    found
}

#[tokio::test]
async fn a_record_arrives_with_key_body_time_and_nine_headers() {
    let broker = EmbeddedBroker::start(TOPIC, 3).unwrap();
    let mut sink = sink(broker.address(), "{}");
    let destination = sink.open().await.unwrap();
    assert!(
        destination.description.contains("topic users"),
        "{destination:?}"
    );
    assert!(
        destination.description.contains("3 partition(s)"),
        "{destination:?}"
    );
    assert!(
        !destination.can_tell_what_it_holds,
        "it knows no times, so it must not be believed"
    );
    sink.publish(&batch(&["client 1"])).await.unwrap();

    let [found] = read(broker.address(), 1).await.try_into().unwrap();
    assert_eq!(found.key.unwrap(), b"client 1");
    assert_eq!(found.body.unwrap(), br#"{"number":1}"#);
    assert_eq!(found.timestamp, Some(1_717_005_328_101));
    let id = "00000000000000000000000000000001";
    assert_eq!(found.event_id.as_deref(), Some(id));
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "/sfox/private.enterprise.users"),
        ("ce_type", "com.sfox.connect.user.registered.v1"),
        ("ce_time", "2024-05-29T17:55:27.995988841Z"),
        ("ce_subject", "client 1"),
        ("ce_partitionkey", "client 1"),
        ("ce_dataschema", "urn:onboarding-bridge:event:v1"),
        ("content-type", "application/json"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found.headers, expected);
    sink.close().await.unwrap();
}

#[tokio::test]
async fn keys_go_to_the_partition_that_java_picks() {
    let broker = EmbeddedBroker::start(TOPIC, 12).unwrap();
    let mut sink = sink(broker.address(), "{}");
    sink.open().await.unwrap();
    // From Kafka's own vectors: toPositive(murmur2(key)) % 12, computed apart from this code.
    let vectors = [("user-42", 4), ("21", 0), ("foobar", 6), ("abc", 3)];
    sink.publish(&batch(&vectors.map(|(key, _)| key)))
        .await
        .unwrap();
    for found in read(broker.address(), vectors.len()).await {
        let key = String::from_utf8(found.key.unwrap()).unwrap();
        let expected = vectors.iter().find(|(name, _)| *name == key).unwrap().1;
        assert_eq!(found.partition, expected, "{key}");
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_of_the_client_arrives_whole_and_in_order() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{queue.buffering.max.messages: 10}");
    sink.open().await.unwrap();
    let batch: Vec<_> = (0..500).map(|position| record(position, "one")).collect();
    sink.publish(&batch).await.unwrap();
    let found = read(broker.address(), batch.len()).await;
    let ids: Vec<_> = found
        .iter()
        .map(|record| record.event_id.clone().unwrap())
        .collect();
    let expected: Vec<_> = batch
        .iter()
        .map(|record| record.event_id.to_string())
        .collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn refused_rights_stop_the_batch() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{linger.ms: 0, batch.num.messages: 1}");
    sink.open().await.unwrap();
    broker.fail_produce(&[Wire::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let batch: Vec<_> = (0..2000).map(|position| record(position, "one")).collect();
    let error = sink.publish(&batch).await.unwrap_err();
    for (_, error) in &error.failed {
        assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    }
    assert_eq!(error.failed[0].0, 0);
    // This broker, unlike a real one, looks at no sequence and takes what was on its way already.
    let taken = batch.len() - error.failed.len();
    assert!(taken < 100, "{taken} were sent after the refusal");
    assert_eq!(read(broker.address(), taken).await.len(), taken);
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_harms_no_other() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{linger.ms: 0, batch.num.messages: 1}");
    sink.open().await.unwrap();
    broker.fail_produce(&[Wire::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    let error = sink.publish(&batch(&["a", "b", "c"])).await.unwrap_err();
    let failed: Vec<_> = error
        .failed
        .iter()
        .map(|(i, error)| (*i, error.class))
        .collect();
    assert_eq!(failed, [(0, ErrorClass::Record)]);
    let mut keys: Vec<_> = read(broker.address(), 2)
        .await
        .into_iter()
        .map(|r| r.key)
        .collect();
    keys.sort();
    assert_eq!(keys, [Some(b"b".to_vec()), Some(b"c".to_vec())]);
}

#[tokio::test]
async fn a_record_beyond_the_limit_of_the_client_is_a_dead_letter_and_the_rest_arrives() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(
        broker.address(),
        "{message.max.bytes: 20000, batch.size: 10000}",
    );
    sink.open().await.unwrap();
    let mut batch = batch(&["a", "a", "a"]);
    Arc::make_mut(&mut batch[1]).body = vec![b'x'; 30_000];
    let error = sink.publish(&batch).await.unwrap_err();
    assert_eq!(error.failed.len(), 1);
    assert_eq!(
        (error.failed[0].0, error.failed[0].1.class),
        (1, ErrorClass::Record)
    );
    assert_eq!(read(broker.address(), 2).await.len(), 2);
}

#[tokio::test]
async fn a_broken_producer_is_fatal_and_a_new_one_goes_on() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{}");
    sink.open().await.unwrap();
    broker.fail_produce(&[Wire::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let error = sink.publish(&batch(&["a", "b"])).await.unwrap_err();
    let classes: Vec<_> = error.failed.iter().map(|(_, error)| error.class).collect();
    assert_eq!(classes, [ErrorClass::Fatal, ErrorClass::Fatal], "{error}");
    sink.open().await.unwrap();
    sink.publish(&batch(&["a", "b"])).await.unwrap();
    assert_eq!(read(broker.address(), 2).await.len(), 2);
}

#[tokio::test]
async fn a_broker_that_is_down_is_waited_for_and_refused_credentials_are_not() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{}");
    sink.open().await.unwrap();
    let context = sink.opened.as_ref().unwrap().0.context.clone();
    broker.go_down();
    let batch = batch(&["a", "b"]);
    let mut publishing = sink.publish(&batch);
    let waited = tokio::time::timeout(Duration::from_secs(7), &mut publishing);
    assert!(
        waited.await.is_err(),
        "how long to wait is for deliver to say"
    );

    // A broker that comes back with other credentials looks like this to librdkafka.
    let refused = async {
        loop {
            let error = KafkaError::Global(RDKafkaErrorCode::Authentication);
            context.error(error, "invalid credentials");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let error = tokio::select! {
        outcome = publishing => outcome.unwrap_err(),
        () = refused => unreachable!(),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("it waits for ever"),
    };
    assert_eq!(error.failed.len(), 2);
    for (_, error) in &error.failed {
        assert_eq!(error.class, ErrorClass::Configuration);
        assert!(error.message.contains("invalid credentials"), "{error}");
    }
}

#[tokio::test]
async fn an_error_never_tells_key_or_body() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{}");
    sink.open().await.unwrap();
    broker.fail_produce(&[Wire::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    let error = sink.publish(&batch(&["a-secret-key"])).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        !text.contains("secret") && !text.contains("number"),
        "{text}"
    );
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_a_matter_of_configuration() {
    let broker = EmbeddedBroker::start("another", 1).unwrap();
    let error = sink(broker.address(), "{}").open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(error.message.contains("create it"), "{error}");
}

#[tokio::test]
async fn before_open_and_after_close_everything_is_refused() {
    let mut sink = sink("localhost:1", "{}");
    assert!(sink.held(Timestamp(0)).await.is_err());
    assert_eq!(
        sink.publish(&batch(&["a", "b"]))
            .await
            .unwrap_err()
            .failed
            .len(),
        2
    );
    sink.close().await.unwrap();
}

#[tokio::test]
async fn a_refusal_aborts_a_transaction_and_the_others_are_in_the_next() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = transactional(broker.address(), "{linger.ms: 0, batch.num.messages: 1}");
    let destination = sink.open().await.unwrap();
    assert!(destination.description.contains("embedded"));
    broker.fail_produce(&[Wire::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    let error = sink.publish(&batch(&["a", "a", "c"])).await.unwrap_err();
    let failed: Vec<_> = error
        .failed
        .iter()
        .map(|(index, error)| (*index, error.class))
        .collect();
    assert_eq!(failed, [(0, ErrorClass::Record)], "{error}");
    // And the sink goes on as if nothing had been.
    sink.publish(&batch(&["d"])).await.unwrap();
    sink.close().await.unwrap();
}

#[tokio::test]
async fn a_commit_that_may_pass_is_repeated_and_one_that_fails_acknowledges_nothing() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = transactional(broker.address(), "{}");
    sink.open().await.unwrap();
    let passing = [
        Wire::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Wire::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    ];
    broker.fail_end_of_transaction(&passing);
    sink.publish(&batch(&["a", "b"])).await.unwrap();
    for (code, class) in [
        (
            Wire::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ErrorClass::Fatal,
        ),
        (
            Wire::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
            ErrorClass::Configuration,
        ),
        (Wire::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, ErrorClass::Fatal),
    ] {
        sink.open().await.unwrap();
        broker.fail_end_of_transaction(&[code]);
        let error = sink.publish(&batch(&["a", "b"])).await.unwrap_err();
        let classes: Vec<_> = error.failed.iter().map(|(_, error)| error.class).collect();
        assert_eq!(classes, [class; 2], "{code:?}: {error}");
    }
}

#[tokio::test]
async fn who_is_shut_out_twice_leaves_the_id_to_the_other_for_a_while() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = transactional(broker.address(), "{}");
    for _ in 0..2 {
        sink.open().await.unwrap();
        broker.fail_end_of_transaction(&[Wire::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
        let error = sink.publish(&batch(&["a"])).await.unwrap_err();
        let (_, error) = &error.failed[0];
        assert_eq!(error.class, ErrorClass::Configuration);
        for words in ["onboarding-bridge.users.k", "transactional_id"] {
            assert!(error.message.contains(words), "{error}");
        }
    }
    let error = sink.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(error.message.contains("again and again"), "{error}");
    sink.away_until = Some(Instant::now());
    sink.open().await.unwrap();
}
