//! What a broker may answer to a produce, one code after the other, and what comes of it through the
//! real librdkafka: it waits for what passes, and tells the rest by the class of the table.

use super::*;

/// Publishes two records to a broker that answers the first request so.
async fn outcome(answer: Wire) -> Result<(), ErrorClass> {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let mut sink = sink(broker.address(), "{retry.backoff.ms: 20}");
    sink.open().await.unwrap();
    broker.fail_produce(&[answer]);
    let batch = batch(&["a", "b"]);
    let published = tokio::time::timeout(Duration::from_secs(30), sink.publish(&batch)).await;
    let classes = match published.expect("it ends") {
        Ok(()) => return Ok(()),
        Err(error) => error.failed.into_iter().map(|(_, error)| error.class),
    };
    let classes: Vec<_> = classes.collect();
    assert_eq!(classes[0], *classes.last().unwrap(), "{answer:?}");
    Err(classes[0])
}

/// What librdkafka tries again by itself, in the same producer, so that nothing is doubled by it.
const WAITED_FOR: [RDKafkaErrorCode; 15] = [
    RDKafkaErrorCode::LeaderNotAvailable,
    RDKafkaErrorCode::NotLeaderForPartition,
    RDKafkaErrorCode::BrokerNotAvailable,
    RDKafkaErrorCode::ReplicaNotAvailable,
    RDKafkaErrorCode::RequestTimedOut,
    RDKafkaErrorCode::NotEnoughReplicas,
    RDKafkaErrorCode::NotEnoughReplicasAfterAppend,
    RDKafkaErrorCode::CoordinatorLoadInProgress,
    RDKafkaErrorCode::CoordinatorNotAvailable,
    RDKafkaErrorCode::NotCoordinator,
    RDKafkaErrorCode::KafkaStorageError,
    RDKafkaErrorCode::InvalidMessage,
    // Until the topic has been gone for `topic.metadata.propagation.max.ms`.
    RDKafkaErrorCode::UnknownTopicOrPartition,
    // The producer takes a new epoch and sends again what the broker had forgotten.
    RDKafkaErrorCode::UnknownProducerId,
    // The broker has it already.
    RDKafkaErrorCode::DuplicateSequenceNumber,
];

/// Every code that a broker can put into an answer.
fn codes() -> impl Iterator<Item = (Wire, RDKafkaErrorCode)> {
    let wire = (1..200).filter_map(|code: i32| Wire::try_from(code).ok());
    let all = wire.map(|wire| (wire, RDKafkaErrorCode::from(wire)));
    all.filter(|(_, code)| *code != RDKafkaErrorCode::EndAll)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for_inside_librdkafka() {
    for (wire, code) in codes().filter(|(_, code)| WAITED_FOR.contains(code)) {
        assert_eq!(outcome(wire).await, Ok(()), "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_answers_has_the_class_of_the_table() {
    let mut count = 0;
    for (wire, code) in codes().filter(|(_, code)| !WAITED_FOR.contains(code)) {
        let class = match code {
            // A refused batch is not known to be one record's fault.
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge => {
                ErrorClass::Configuration
            }
            code => errors::class_of(code),
        };
        assert_eq!(outcome(wire).await, Err(class), "{code:?}");
        count += 1;
    }
    assert!(count > 80, "{count}");
}
