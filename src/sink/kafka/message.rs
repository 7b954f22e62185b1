//! From a record to a message of Kafka: key, body, time, and CloudEvents 1.0 in binary mode.

use std::borrow::Cow;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::Context;
use crate::event::{Attribute, Record};

/// The header that holds the event's id.
pub(super) const ID_HEADER: &str = "ce_id";

/// What a record takes on the wire besides key, body and headers, at most.
const RECORD_OVERHEAD: usize = 64;

/// Hands one record to librdkafka, which copies it; its report comes by the index.
pub(super) fn send(
    producer: &ThreadedProducer<Context>,
    topic: &str,
    index: usize,
    record: &Record,
) -> Result<(), Code> {
    let message = BaseRecord::with_opaque_to(topic, index)
        .key(&record.key)
        .payload(&record.body)
        .timestamp(record.received_at.as_millis())
        .headers(headers(&record.attributes()));
    producer
        .send(message)
        .map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::Unknown))
}

/// CloudEvents attributes as the headers of a JSON body.
pub(super) fn headers(attributes: &[(Attribute, Cow<'_, str>)]) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(attributes.len() + 1);
    for (name, value) in attributes {
        headers = headers.insert(Header {
            key: name.kafka,
            value: Some(value.as_bytes()),
        });
    }
    headers.insert(Header {
        key: "content-type",
        value: Some(b"application/json".as_slice()),
    })
}

/// What librdkafka counts for this record when it fills a batch, or a little more.
pub(super) fn wire_bytes(record: &Record) -> usize {
    let headers: usize = record
        .attributes()
        .iter()
        .map(|(name, value)| name.kafka.len() + value.len() + 8)
        .sum();
    record.body.len() + record.key.len() + headers + RECORD_OVERHEAD
}
