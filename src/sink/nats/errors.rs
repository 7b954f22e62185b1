//! What to do after an error of JetStream: the table of docs/errors.md, one arm a row.
//!
//! It never lets a subject into a message, because a subject holds the record's key.

use async_nats::jetstream::Error as Answer;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::{ConnectError, ConnectErrorKind};

use super::super::{ErrorClass, SinkError};

/// The class of an answer with a JetStream error code.
pub(super) const fn class_of(code: ErrorCode) -> ErrorClass {
    match code {
        // About this record: no other record fares the same.
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            ErrorClass::Record
        }
        // The stream is full, gone, sealed, another one, or the account may not: an operator mends it.
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
        | ErrorCode::STREAM_LIMITS
        | ErrorCode::STREAM_SEALED
        | ErrorCode::STREAM_NOT_FOUND
        | ErrorCode::STREAM_NOT_MATCH
        | ErrorCode::JETSTREAM_NOT_ENABLED
        | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        | ErrorCode::NO_ACCOUNT => ErrorClass::Configuration,
        // Elections, restarts, and whatever a later server invents.
        _ => ErrorClass::Transient,
    }
}

/// Why one publish failed, by the kind that the client gives it.
pub(super) fn of_publish(error: &PublishError, stream: &str) -> SinkError {
    let (class, text) = match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => (
            ErrorClass::Record,
            "the record exceeds the server's max_payload".to_owned(),
        ),
        PublishErrorKind::StreamNotFound => (
            ErrorClass::Transient,
            "no JetStream answered (503); an election passes, a deleted stream does not".to_owned(),
        ),
        PublishErrorKind::TimedOut => (
            ErrorClass::Transient,
            "no acknowledgement in time; the outcome is unknown".to_owned(),
        ),
        PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
            (ErrorClass::Transient, error.kind().to_string())
        }
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => {
            (ErrorClass::Configuration, error.kind().to_string())
        }
        PublishErrorKind::Other => match jetstream_error(error) {
            Some(answer) => (class_of(answer.error_code()), answer.to_string()),
            None => (
                ErrorClass::Transient,
                "the client is closed, or the answer unreadable".to_owned(),
            ),
        },
    };
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

/// Why no connection came about.
pub(super) fn of_connect(error: &ConnectError, servers: &str) -> SinkError {
    let (class, advice) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => (
            ErrorClass::Configuration,
            "; check the credentials of this sink",
        ),
        ConnectErrorKind::Tls => (
            ErrorClass::Configuration,
            "; check `ca_file` and the client certificate of this sink",
        ),
        ConnectErrorKind::ServerParse => (ErrorClass::Configuration, "; check `url` of this sink"),
        ConnectErrorKind::Io if is_about_certificates(error) => (
            ErrorClass::Configuration,
            "; check `ca_file` and the client certificate of this sink",
        ),
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => (ErrorClass::Transient, ""),
    };
    SinkError::new(
        class,
        format!("cannot connect to {servers}: {error}{advice}"),
    )
}

/// A refused certificate comes as an I/O error when the server is the one that refuses.
fn is_about_certificates(error: &ConnectError) -> bool {
    let text = error.to_string().to_lowercase();
    text.contains("certificate") || text.contains("unknownissuer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_that_says_what_to_do() {
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
            (10006, ErrorClass::Transient),
            (10008, ErrorClass::Transient),
            (10009, ErrorClass::Transient),
            (10118, ErrorClass::Transient),
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
