//! What to do after an error of Kafka: the table of docs/errors.md, one arm a row.

use std::fmt::Display;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::super::{ErrorClass, SinkError};

/// The class of an error code, whether a broker or librdkafka itself gave it.
pub(super) const fn class_of(code: Code) -> ErrorClass {
    match code {
        // About this record: no other record of the batch fares the same.
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord => ErrorClass::Record,
        // An operator must mend the topic, the rights, the credentials or an option.
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::SSL
        | Code::InvalidRequiredAcks
        | Code::InvalidTimestamp
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::PolicyViolation => ErrorClass::Configuration,
        // This producer cannot go on without breaking the order or doubling; a new one can.
        Code::Fatal
        | Code::State
        | Code::Inconsistent
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping
        | Code::InvalidProducerEpoch
        | Code::InvalidTransactionalState
        | Code::ProducerFenced
        | Code::Fenced
        | Code::GaplessGuarantee => ErrorClass::Fatal,
        // Elections, restarts, the network, a batch refused for another record's sake, and whatever a
        // later broker invents.
        _ => ErrorClass::Transient,
    }
}

/// The class and the words of an error of the client library.
pub(super) fn of_client(what: impl Display, error: &KafkaError) -> SinkError {
    let class = match error.rdkafka_error_code() {
        Some(code) => class_of(code),
        None => match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                ErrorClass::Configuration
            }
            _ => ErrorClass::Transient,
        },
    };
    SinkError::new(class, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_that_says_what_to_do() {
        for (code, class) in [
            (Code::MessageSizeTooLarge, ErrorClass::Record),
            (Code::MessageBatchTooLarge, ErrorClass::Record),
            (Code::InvalidMessageSize, ErrorClass::Record),
            (Code::InvalidRecord, ErrorClass::Record),
            (Code::UnknownTopicOrPartition, ErrorClass::Configuration),
            (Code::UnknownTopic, ErrorClass::Configuration),
            (Code::TopicAuthorizationFailed, ErrorClass::Configuration),
            (Code::ClusterAuthorizationFailed, ErrorClass::Configuration),
            (Code::Authentication, ErrorClass::Configuration),
            (Code::SaslAuthenticationFailed, ErrorClass::Configuration),
            (Code::SSL, ErrorClass::Configuration),
            (Code::InvalidRequiredAcks, ErrorClass::Configuration),
            (Code::InvalidTimestamp, ErrorClass::Configuration),
            (Code::UnsupportedVersion, ErrorClass::Configuration),
            (Code::PolicyViolation, ErrorClass::Configuration),
            (Code::Fatal, ErrorClass::Fatal),
            (Code::OutOfOrderSequenceNumber, ErrorClass::Fatal),
            (Code::UnknownProducerId, ErrorClass::Fatal),
            (Code::InvalidProducerEpoch, ErrorClass::Fatal),
            (Code::ProducerFenced, ErrorClass::Fatal),
            (Code::Fenced, ErrorClass::Fatal),
            (Code::MessageTimedOut, ErrorClass::Transient),
            (Code::NotEnoughReplicas, ErrorClass::Transient),
            (Code::NotEnoughReplicasAfterAppend, ErrorClass::Transient),
            (Code::LeaderNotAvailable, ErrorClass::Transient),
            (Code::NotLeaderForPartition, ErrorClass::Transient),
            (Code::BrokerTransportFailure, ErrorClass::Transient),
            (Code::AllBrokersDown, ErrorClass::Transient),
            (Code::RequestTimedOut, ErrorClass::Transient),
            (Code::PurgeQueue, ErrorClass::Transient),
            (Code::PurgeInflight, ErrorClass::Transient),
            (Code::InvalidMessage, ErrorClass::Transient),
            (Code::InvalidDifferentRecord, ErrorClass::Transient),
            (Code::KafkaStorageError, ErrorClass::Transient),
            (Code::ThrottlingQuotaExceeded, ErrorClass::Transient),
            (Code::Unknown, ErrorClass::Transient),
        ] {
            assert_eq!(class_of(code), class, "{code:?}");
        }
    }
}
