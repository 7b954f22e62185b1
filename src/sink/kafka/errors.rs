//! What to do after an error of Kafka: the table of docs/errors.md, one arm a row.
//!
//! Every code that librdkafka has is named here (a test compares), although many can be no answer to
//! what a sink asks; a code that a later one invents is transient until it has its row. It never looks
//! at anything but the code: where that is not enough, `publish` and `topic` decide.

use std::fmt::Display;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::super::table::error_table;
use super::super::{ErrorClass, ErrorRow, SinkError};

error_table! { Code, |_: Code, name: &str| name.to_owned();
    // About this record: no other record of the batch fares the same.
    Record "larger than the client, the topic or the broker takes"
        [MessageSizeTooLarge MessageBatchTooLarge InvalidMessageSize]
        held by [a_record_too_large_for_the_topic_takes_no_other_with_it
            a_record_beyond_the_limit_of_the_client_is_a_dead_letter_and_the_rest_arrives];
    Record "a check of the broker refuses it"
        [InvalidRecord]
        held by [a_record_that_the_broker_refuses_harms_no_other];

    // An operator must mend the topic, the rights, the credentials or an option.
    Configuration "the topic is missing, was deleted, or has no possible name"
        [UnknownTopicOrPartition UnknownTopic UnknownPartition UnknownTopicId InvalidTopic]
        held by [a_missing_topic_says_what_to_do_and_is_not_created
            a_topic_that_is_deleted_meanwhile_stops_the_batch_until_it_is_created];
    Configuration "a right is missing (ACL)"
        [TopicAuthorizationFailed ClusterAuthorizationFailed GroupAuthorizationFailed
        TransactionalIdAuthorizationFailed DelegationTokenAuthorizationFailed]
        held by [a_right_that_is_taken_away_stops_the_batch_until_it_is_given_back
            without_the_right_to_write_the_new_producer_is_refused_and_not_broken
            refused_rights_stop_the_batch];
    Configuration "the credentials or certificates are refused"
        [Authentication SaslAuthenticationFailed UnsupportedSASLMechanism IllegalSASLState
        SecurityDisabled SSL DelegationTokenAuthDisabled DelegationTokenNotFound
        DelegationTokenOwnerMismatch DelegationTokenRequestNotAllowed DelegationTokenExpired
        InvalidPrincipalType UnacceptableCredential PrincipalDeserializationFailure]
        held by [a_wrong_password_is_a_matter_of_configuration_at_kafka_too
            a_broker_that_is_down_is_waited_for_and_refused_credentials_are_not];
    Configuration "a setting of the topic, the broker or this sink forbids it"
        [PolicyViolation InvalidTimestamp InvalidRequiredAcks InvalidConfig InvalidArgument
        InvalidTransactionTimeout UnsupportedVersion UnsupportedFeature UnsupportedForMessageFormat
        UnsupportedCompressionType NotImplemented]
        held by [after_a_refusal_that_is_not_about_the_record_none_of_its_key_is_there
            what_a_broker_answers_has_the_class_of_the_table];

    // This producer cannot go on without breaking the order or doubling; a new one can.
    Fatal "the broker has lost count of this producer, or the producer of itself"
        [Fatal State Inconsistent OutOfOrderSequenceNumber DuplicateSequenceNumber UnknownProducerId
        InvalidProducerIdMapping GaplessGuarantee]
        held by [a_broken_producer_is_fatal_and_a_new_one_goes_on
            what_a_broker_answers_has_the_class_of_the_table];
    Fatal "another producer took its place, or its transaction is over"
        [InvalidProducerEpoch ProducerFenced Fenced InvalidTransactionalState]
        held by [what_a_broker_answers_has_the_class_of_the_table];

    // It passes by itself, or the outcome is unknown.
    Transient "a leader is being elected, or moved"
        [LeaderNotAvailable NotLeaderForPartition BrokerNotAvailable ReplicaNotAvailable
        FencedLeaderEpoch UnknownLeaderEpoch EligibleLeadersNotAvailable PreferredLeaderNotAvailable
        NotController StaleControllerEpoch StaleBrokerEpoch UnknownBroker NodeUpdate
        ReassignmentInProgress ListenerNotFound RebootstrapRequired]
        held by [a_kafka_leader_that_is_killed_costs_no_event_and_no_order
            what_passes_is_waited_for_inside_librdkafka];
    Transient "too few replicas are in sync"
        [NotEnoughReplicas NotEnoughReplicasAfterAppend ISRInsufficient]
        held by [without_enough_replicas_nothing_is_acknowledged_and_nothing_is_lost
            what_passes_is_waited_for_inside_librdkafka];
    Transient "the network, a time-out, a broker that is away"
        [BrokerTransportFailure AllBrokersDown Resolve NetworkException MessageTimedOut
        RequestTimedOut OperationTimedOut TimedOutQueue BrokerDestroy DestroyBroker Interrupted Retry
        WaitCache InProgress PreviousInProgress Outdated]
        held by [a_broker_that_cannot_be_reached_may_come_back
            a_broker_that_is_killed_and_returns_gets_each_record_once_and_in_order];
    Transient "the broker or the client is short of something"
        [ThrottlingQuotaExceeded KafkaStorageError LogDirNotFound CriticalSystemResource QueueFull
        FileSystem]
        held by [a_batch_larger_than_the_queue_of_the_client_arrives_whole_and_in_order
            what_passes_is_waited_for_inside_librdkafka
            what_a_broker_answers_has_the_class_of_the_table];
    Transient "harmed on the way, refused for another record's sake, or taken back by this sink"
        [InvalidMessage InvalidDifferentRecord BadMessage BadCompression PurgeQueue PurgeInflight]
        held by [after_a_refusal_that_is_not_about_the_record_none_of_its_key_is_there
            what_a_broker_answers_has_the_class_of_the_table];
    Transient "the coordinator of transactions is away or busy"
        [CoordinatorLoadInProgress CoordinatorNotAvailable NotCoordinator WaitingForCoordinator
        ConcurrentTransactions TransactionCoordinatorFenced]
        held by [what_passes_is_waited_for_inside_librdkafka
            what_a_broker_answers_has_the_class_of_the_table];
    // If one of these ever is, it is tried again and told, and nothing is lost by that.
    Transient "no answer to what a sink asks (groups, fetching, administration, the library itself)"
        [Unknown NoError Fail Application Noop InvalidRequest OffsetOutOfRange OffsetMetadataTooLarge
        OffsetNotAvailable IllegalGeneration InconsistentGroupProtocol InvalidGroupId UnknownMemberId
        InvalidSessionTimeout RebalanceInProgress InvalidCommitOffsetSize TopicAlreadyExists
        InvalidPartitions InvalidReplicationFactor InvalidReplicaAssignment OperationNotAttempted
        NonEmptyGroup GroupIdNotFound FetchSessionIdNotFound InvalidFetchSessionEpoch
        TopicDeletionDisabled MemberIdRequired GroupMaxSizeReached FencedInstanceId ElectionNotNeeded
        NoReassignmentInProgress GroupSubscribedToTopic UnstableOffsetCommit ResourceNotFound
        DuplicateResource InconsistentVoterSet InvalidUpdateVersion FeatureUpdateFailed
        FencedMemberEpoch UnreleasedInstanceId UnsupportedAssignor StaleMemberEpoch
        UnknownSubscriptionId TelemetryTooLarge PartitionEOF UnknownGroup ExistingSubscription
        AssignPartitions RevokePartitions Conflict UnknownProtocol NoOffset KeySerialization
        ValueSerialization KeyDeserialization ValueDeserialization Partial ReadOnly NoEnt Underflow
        InvalidType PollExceeded NotConfigured AssignmentLost AutoOffsetReset LogTruncation]
        held by [every_code_of_librdkafka_is_in_the_table
            what_a_broker_answers_has_the_class_of_the_table];
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
    use rdkafka::types::RDKafkaRespErr as Wire;

    use super::*;

    #[test]
    fn every_code_of_librdkafka_is_in_the_table() {
        let named: Vec<String> = rows().into_iter().flat_map(|row| row.codes).collect();
        let bounds = ["Begin", "End", "EndAll"];
        let codes = (-300..300).filter_map(|code: i32| Wire::try_from(code).ok());
        let mut count = 0;
        for name in codes.map(|code| format!("{:?}", Code::from(code))) {
            let times = named.iter().filter(|named| **named == name).count();
            let expected = usize::from(!bounds.contains(&name.as_str()));
            assert_eq!(times, expected, "rows that name {name}");
            count += times;
        }
        assert_eq!(
            count,
            named.len(),
            "a row names what librdkafka does not have"
        );
        assert!(count > 150);
    }

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
