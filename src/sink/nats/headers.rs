//! The headers of a message: CloudEvents 1.0 binary mode as its NATS binding has it, and the two by
//! which JetStream drops a repeat and refuses the wrong stream.

use std::borrow::Cow;
use std::fmt::Write;

use async_nats::header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::{HeaderMap, HeaderName};

use crate::event::{Attribute, EventId, Record};
use crate::notice::Notice;

const CONTENT_TYPE: HeaderName = HeaderName::from_static("ce-datacontenttype");

/// All headers of one record.
pub(super) fn of(record: &Record, stream: &str) -> HeaderMap {
    let mut headers = cloud_event(&record.attributes(), record.event_id);
    headers.insert(NATS_EXPECTED_STREAM, stream);
    headers
}

/// All headers of one notice; any stream may take it.
pub(super) fn of_notice(notice: &Notice) -> HeaderMap {
    cloud_event(&notice.attributes(), notice.id)
}

fn cloud_event(attributes: &[(Attribute, Cow<'_, str>)], id: EventId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in attributes {
        headers.insert(HeaderName::from_static(name.nats), &*percent_encoded(value));
    }
    headers.insert(CONTENT_TYPE, "application/json");
    headers.insert(NATS_MESSAGE_ID, id.to_string());
    headers
}

/// Percent-encodes space, double quote, percent, and whatever lies outside U+0021 to U+007E.
fn percent_encoded(value: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'%';
    if value.bytes().all(is_plain) {
        return value.into();
    }
    let mut encoded = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventType, Timestamp};

    #[test]
    fn values_are_percent_encoded_as_the_binding_says() {
        for (value, encoded) in [
            ("plain!~", "plain!~"),
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("100% \"x\"", "100%25%20%22x%22"),
            ("\r\nEvil: 1", "%0D%0AEvil:%201"),
            ("\u{7f}\0", "%7F%00"),
        ] {
            assert_eq!(percent_encoded(value), encoded);
        }
    }

    #[test]
    fn every_attribute_is_there_once_with_the_message_id_and_the_stream() {
        let record = Record {
            position: 1,
            event_id: EventId([0xab; 16]),
            event_type: EventType::Updated,
            key: "a b".to_owned(),
            occurred_at: None,
            received_at: Timestamp(0),
            body: Vec::new(),
        };
        let headers = of(&record, "ONBOARDING");
        let text = |name: &str| headers.get(name).map(ToString::to_string).unwrap();
        assert_eq!(headers.len(), 11);
        assert_eq!(text("ce-specversion"), "1.0");
        assert_eq!(text("ce-id"), "ab".repeat(16));
        assert_eq!(text("ce-source"), "/sfox/private.enterprise.users");
        assert_eq!(text("ce-type"), "com.sfox.connect.user.updated.v1");
        assert_eq!(text("ce-time"), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text("ce-subject"), "a%20b");
        assert_eq!(text("ce-partitionkey"), "a%20b");
        assert_eq!(text("ce-dataschema"), "urn:onboarding-bridge:event:v1");
        assert_eq!(text("ce-datacontenttype"), "application/json");
        assert_eq!(text("Nats-Msg-Id"), "ab".repeat(16));
        assert_eq!(text("Nats-Expected-Stream"), "ONBOARDING");
    }
}
