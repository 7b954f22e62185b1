//! What to do after an error of JetStream: the table of docs/errors.md, one arm a row.
//!
//! Every code is named that a server may give as the answer to a publish or to a question about the
//! stream; any other is transient. It never lets a subject into a message, because a subject holds the
//! record's key.

use async_nats::jetstream::Error as Answer;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::{ConnectError, ConnectErrorKind, PublishErrorKind as SendErrorKind};

use super::super::table::error_table;
use super::super::{ErrorClass, ErrorRow, SinkError};

error_table! { ErrorCode, |code: ErrorCode, name: &str| format!("{} {name}", code.0);
    // About this record: no other record fares the same.
    Record "larger than the stream takes"
        [STREAM_MESSAGE_EXCEEDS_MAXIMUM]
        held by [a_record_too_large_for_stream_or_server_takes_no_other_with_it];
    Record "its headers, which hold its key, are larger than a server takes"
        [STREAM_HEADER_EXCEEDS_MAXIMUM]
        held by [a_key_too_long_for_the_headers_takes_no_other_with_it];

    // An operator must mend the stream, the account or the server.
    Configuration "the stream is full (discard: new) or sealed"
        [STREAM_STORE_FAILED STREAM_LIMITS STREAM_SEALED]
        held by [a_full_stream_stops_the_batch_until_an_operator_makes_room
            a_record_that_found_no_room_is_overtaken_by_none_of_its_key
            a_stream_that_is_sealed_meanwhile_stops_the_batch];
    Configuration "the server or the account has no storage left"
        [INSUFFICIENT_RESOURCES STORAGE_RESOURCES_EXCEEDED MEMORY_RESOURCES_EXCEEDED
        ACCOUNT_RESOURCES_EXCEEDED STREAM_MAX_STREAM_BYTES_EXCEEDED NO_LIMITS]
        held by [a_server_without_storage_stops_the_batch];
    Configuration "the stream is missing, or another one takes the subject"
        [STREAM_NOT_FOUND STREAM_NOT_MATCH STREAM_MISMATCH]
        held by [a_missing_stream_says_what_to_do_and_is_not_created
            a_stream_that_is_deleted_meanwhile_is_found_missing
            another_stream_that_takes_the_subjects_meanwhile_is_no_place_for_them];
    Configuration "JetStream is not there, for this account or at all"
        [JETSTREAM_NOT_ENABLED JETSTREAM_NOT_ENABLED_FOR_ACCOUNT NO_ACCOUNT REQUIRED_API_LEVEL]
        held by [an_account_without_jetstream_is_a_matter_of_configuration];
    Configuration "the stream wants of a message what this sink does not give, or the reverse"
        [STREAM_WRONG_LAST_SEQUENCE STREAM_WRONG_LAST_SEQUENCE_CONSTANT STREAM_WRONG_LAST_MESSAGE_ID
        STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID STREAM_MIN_LAST_SEQ STREAM_ROLLUP_FAILED
        MESSAGE_TTL_INVALID MESSAGE_TTL_DISABLED MESSAGE_INCR_DISABLED MESSAGE_INCR_MISSING
        MESSAGE_INCR_PAYLOAD MESSAGE_INCR_INVALID MESSAGE_COUNTER_BROKEN BAD_REQUEST INVALID_JSON]
        held by [a_stream_that_counts_takes_no_event];
    Configuration "no further consumer may be made, so the stream cannot tell what it holds"
        [MAXIMUM_CONSUMERS_LIMIT]
        held by [each_code_of_jetstream_has_its_class];

    // It passes by itself, or the outcome is unknown.
    Transient "a leader is being elected, or a server or the stream is away or moving"
        [CLUSTER_NOT_AVAILABLE CLUSTER_NOT_ACTIVE CLUSTER_NOT_LEADER CLUSTER_NOT_ASSIGNED
        CLUSTER_INCOMPLETE CLUSTER_NO_PEERS CLUSTER_PEER_NOT_MEMBER CLUSTER_SERVER_NOT_MEMBER
        CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT PEER_REMAP RAFT_GENERAL STREAM_OFFLINE
        STREAM_OFFLINE_REASON STREAM_MOVE_IN_PROGRESS STREAM_ASSIGNMENT
        STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY]
        held by [a_jetstream_leader_that_is_killed_costs_no_event_and_no_order
            a_leader_that_steps_down_costs_no_event_and_no_order];
    Transient "the server is busy, or has this message in its hands already"
        [STREAM_TOO_MANY_REQUESTS STREAM_DUPLICATE_MESSAGE_CONFLICT TEMP_STORAGE_FAILED
        STREAM_GENERALOR]
        held by [each_code_of_jetstream_has_its_class];
    Transient "the consumer by which the stream is read is gone or not made"
        [CONSUMER_NOT_FOUND CONSUMER_DOES_NOT_EXIST CONSUMER_OFFLINE CONSUMER_OFFLINE_REASON
        CONSUMER_CREATE CONSUMER_STORE_FAILED]
        held by [each_code_of_jetstream_has_its_class];
}

/// Why one publish failed, by the kind that the client gives it.
pub(super) fn of_publish(error: &PublishError, stream: &str) -> SinkError {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(stream),
        PublishErrorKind::StreamNotFound => nobody_answered(stream),
        PublishErrorKind::TimedOut => no_answer(stream),
        PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
            at(stream, ErrorClass::Transient, error.kind())
        }
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => {
            at(stream, ErrorClass::Configuration, error.kind())
        }
        PublishErrorKind::Other => match jetstream_error(error) {
            Some(answer) => of_answer(answer, stream),
            None => unreadable(stream),
        },
    }
}

/// Why the client did not take a record.
pub(super) fn of_send(error: &async_nats::PublishError, stream: &str) -> SinkError {
    match error.kind() {
        SendErrorKind::MaxPayloadExceeded => too_large(stream),
        // Its key has a form that no subject can have, which `subject` rules out.
        SendErrorKind::InvalidSubject => at(stream, ErrorClass::Record, "not a valid subject"),
        SendErrorKind::Send => at(stream, ErrorClass::Transient, "the client is closed"),
    }
}

/// What the server's own answer means.
pub(super) fn of_answer(answer: &Answer, stream: &str) -> SinkError {
    at(stream, class_of(answer.error_code()), answer)
}

/// The answer of a server to which no stream belongs at this moment.
pub(super) fn nobody_answered(stream: &str) -> SinkError {
    let text = "no JetStream answered (503); an election passes, a deleted stream does not";
    at(stream, ErrorClass::Transient, text)
}

/// No answer within the time that one may take.
pub(super) fn no_answer(stream: &str) -> SinkError {
    let text = "no acknowledgement in time; the outcome is unknown";
    at(stream, ErrorClass::Transient, text)
}

/// An answer that cannot be read, or none any more.
pub(super) fn unreadable(stream: &str) -> SinkError {
    let text = "the client is closed, or the answer unreadable";
    at(stream, ErrorClass::Transient, text)
}

fn too_large(stream: &str) -> SinkError {
    let text = "the record exceeds the server's max_payload";
    at(stream, ErrorClass::Record, text)
}

fn at(stream: &str, class: ErrorClass, text: impl std::fmt::Display) -> SinkError {
    SinkError::new(class, format!("stream {stream}: {text}"))
}

/// The server's own answer within an error of the client, if there is one.
pub(super) fn jetstream_error(error: &dyn std::error::Error) -> Option<&Answer> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(answer) = error.downcast_ref() {
            return Some(answer);
        }
        cause = error.source();
    }
    None
}

/// Why no connection came about; `login` is with what this sink logs in.
pub(super) fn of_connect(error: &ConnectError, servers: &str, login: &str) -> SinkError {
    let configuration = |advice: &str| (ErrorClass::Configuration, advice.to_owned());
    let certificates = "; check `ca_file`, `client_cert_file` and `client_key_file` of this sink";
    let (class, advice) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            configuration(&format!(
                "; the server wants {login}; check it, and what the server knows"
            ))
        }
        ConnectErrorKind::Tls => configuration(certificates),
        ConnectErrorKind::ServerParse => configuration("; check `url` of this sink"),
        ConnectErrorKind::Io if is_about_certificates(error) => configuration(certificates),
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => (ErrorClass::Transient, String::new()),
    };
    SinkError::new(
        class,
        format!("cannot connect to {servers}: {error}{advice}"),
    )
}

/// A refused certificate comes as an I/O error when the server is the one that refuses, by the name of a
/// TLS alert.
fn is_about_certificates(error: &ConnectError) -> bool {
    let text = error.to_string().to_lowercase();
    let words = [
        "certificate",
        "unknownissuer",
        "unknownca",
        "accessdenied",
        "decrypterror",
    ];
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_jetstream_has_its_class() {
        for (code, class) in [
            (10054, ErrorClass::Record),
            (10097, ErrorClass::Record),
            (10002, ErrorClass::Configuration),
            (10023, ErrorClass::Configuration),
            (10028, ErrorClass::Configuration),
            (10035, ErrorClass::Configuration),
            (10039, ErrorClass::Configuration),
            (10047, ErrorClass::Configuration),
            (10053, ErrorClass::Configuration),
            (10059, ErrorClass::Configuration),
            (10060, ErrorClass::Configuration),
            (10076, ErrorClass::Configuration),
            (10077, ErrorClass::Configuration),
            (10109, ErrorClass::Configuration),
            (10122, ErrorClass::Configuration),
            (10026, ErrorClass::Configuration),
            (10006, ErrorClass::Transient),
            (10008, ErrorClass::Transient),
            (10009, ErrorClass::Transient),
            (10012, ErrorClass::Transient),
            (10118, ErrorClass::Transient),
            (10158, ErrorClass::Transient),
            (10167, ErrorClass::Transient),
            (99999, ErrorClass::Transient),
        ] {
            assert_eq!(class_of(ErrorCode(code)), class, "{code}");
        }
    }

    #[test]
    fn each_kind_of_publish_error_has_its_class() {
        for (kind, class) in [
            (PublishErrorKind::MaxPayloadExceeded, ErrorClass::Record),
            (PublishErrorKind::TimedOut, ErrorClass::Transient),
            (PublishErrorKind::StreamNotFound, ErrorClass::Transient),
            (PublishErrorKind::BrokenPipe, ErrorClass::Transient),
            (PublishErrorKind::MaxAckPending, ErrorClass::Transient),
            (PublishErrorKind::Other, ErrorClass::Transient),
            (
                PublishErrorKind::WrongLastSequence,
                ErrorClass::Configuration,
            ),
        ] {
            let error = of_publish(&PublishError::new(kind), "S");
            assert_eq!(error.class, class, "{kind:?}");
        }
        let answer: Answer = serde_json::from_str(
            r#"{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}"#,
        )
        .unwrap();
        let error = of_publish(
            &PublishError::with_source(PublishErrorKind::Other, answer),
            "S",
        );
        assert_eq!(error.class, ErrorClass::Configuration);
        assert!(error.message.contains("maximum bytes exceeded"), "{error}");
    }
}
