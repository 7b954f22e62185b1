//! The event: what the left half of the bridge makes and the right half carries.
//!
//! Its JSON form is the public contract of docs/record.md, version 1. Nothing here does I/O or reads
//! a clock, and of the `user_token` there is only what the privacy policy made of it.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Version of the record that is written.
pub const SCHEMA_VERSION: u32 = 1;

/// The vendor's feed, and the only value of `recipient` that is taken.
pub const FEED_NAME: &str = "private.enterprise.users";

/// CloudEvents' `source` of all that the bridge publishes.
pub const SOURCE: &str = "/sfox/private.enterprise.users";

/// CloudEvents' `dataschema` of an event.
const DATA_SCHEMA: &str = "urn:onboarding-bridge:event:v1";

/// The name of a CloudEvents attribute, in each of its spellings: none is put together for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Without a prefix.
    pub name: &'static str,
    /// As a header of Kafka.
    pub kafka: &'static str,
    /// As a header of NATS.
    pub nats: &'static str,
}

/// An [`Attribute`] by its bare name.
macro_rules! attribute {
    ($name:literal) => {
        $crate::event::Attribute {
            name: $name,
            kafka: concat!("ce_", $name),
            nats: concat!("ce-", $name),
        }
    };
}
pub(crate) use attribute;

/// A moment, in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The clock of this machine. Only the edges call it: the feed, reconcile, deliver.
    pub fn now() -> Self {
        Self(
            jiff::Timestamp::now()
                .as_nanosecond()
                .try_into()
                .unwrap_or(i64::MAX),
        )
    }

    /// Whole milliseconds since 1970, as Kafka counts them.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since 1970, for metrics.
    #[allow(clippy::cast_precision_loss, reason = "a metric needs no nanoseconds")]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span from `earlier` to this moment, in seconds; negative if the clock went back.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        Self(self.0.saturating_sub(earlier.0)).as_seconds()
    }

    /// This moment moved back by `span`.
    pub fn minus(self, span: std::time::Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// This moment moved on by `span`.
    pub fn plus(self, span: std::time::Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// Parses RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let parsed: jiff::Timestamp = text.parse().ok()?;
        parsed.as_nanosecond().try_into().ok().map(Self)
    }
}

/// RFC 3339 in UTC with nine digits: `2024-05-29T17:55:27.995988841Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_nanosecond(self.0.into()).map_err(|_| fmt::Error)?;
        write!(f, "{moment:.9}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Identifies one event, whoever heard it: 128 bits, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// Parses 32 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What happened to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum EventType {
    /// This user is seen for the first time.
    #[serde(rename = "user.registered")]
    Registered,
    /// Something is known of this user that was not known before.
    #[serde(rename = "user.updated")]
    Updated,
    /// This user is absent from a complete list; only a reconcile can tell.
    #[serde(rename = "user.removed")]
    Removed,
}

impl EventType {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 3] = [Self::Registered, Self::Updated, Self::Removed];

    /// The name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "user.registered",
            Self::Updated => "user.updated",
            Self::Removed => "user.removed",
        }
    }

    /// CloudEvents' `type`.
    pub const fn cloud_event(self) -> &'static str {
        match self {
            Self::Registered => "com.sfox.connect.user.registered.v1",
            Self::Updated => "com.sfox.connect.user.updated.v1",
            Self::Removed => "com.sfox.connect.user.removed.v1",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|event_type| event_type.as_str() == text)
    }
}

/// How the bridge came to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The vendor's WebSocket said so.
    Feed,
    /// The vendor's list showed it.
    Reconcile,
}

impl Origin {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 2] = [Self::Feed, Self::Reconcile];

    /// The name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Reconcile => "reconcile",
        }
    }
}

/// Where in the feed an event was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedPosition {
    /// The vendor's number of the frame, if it had one.
    pub sequence: Option<i64>,
    /// The connection, by the bridge's own name for it (a ULID).
    pub connection: String,
}

/// One normalised event. The order of the fields is the order of the keys in the record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/record.md documents each key")]
pub struct Event {
    pub schema_version: u32,
    pub event_id: EventId,
    pub event_type: EventType,
    pub origin: Origin,
    pub user_id: String,
    pub account_type: Value,
    pub account_role: Value,
    pub email: Value,
    pub first_name: Value,
    pub last_name: Value,
    pub phone_number: Value,
    pub status: Value,
    pub previous_status: Value,
    pub requirements: Value,
    pub outstanding_requirements: Vec<String>,
    pub changed: Vec<&'static str>,
    pub occurred_at: Option<Timestamp>,
    pub received_at: Timestamp,
    pub feed: Option<FeedPosition>,
    /// Absent under the policy `drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_token: Option<TokenValue>,
}

/// What the privacy policy made of the `user_token`, as the record shows it.
#[derive(Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct TokenValue(pub Value);

/// Three stars: under the policy `forward` it is the credential itself.
impl fmt::Debug for TokenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenValue(***)")
    }
}

/// An event in the journal, with its position: what a sink publishes.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the journal, ascending by one.
    pub position: u64,
    /// The event's id.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// Key of the record: the `user_id` or its HMAC.
    pub key: String,
    /// The vendor's time of the event.
    pub occurred_at: Option<Timestamp>,
    /// When the bridge heard it.
    pub received_at: Timestamp,
    /// The event as JSON, byte for byte what every sink publishes.
    pub body: Vec<u8>,
}

impl Record {
    /// Bytes that this record takes in memory, near enough for a bound.
    pub fn size(&self) -> usize {
        self.body.len() + self.key.len() + size_of::<Self>()
    }

    /// The CloudEvents 1.0 attributes, without the content type.
    pub fn attributes(&self) -> [(Attribute, Cow<'_, str>); 8] {
        let occurred_at = self.occurred_at.unwrap_or(self.received_at);
        [
            (attribute!("specversion"), "1.0".into()),
            (attribute!("id"), self.event_id.to_string().into()),
            (attribute!("source"), SOURCE.into()),
            (attribute!("type"), self.event_type.cloud_event().into()),
            (attribute!("time"), occurred_at.to_string().into()),
            (attribute!("subject"), self.key.as_str().into()),
            (attribute!("partitionkey"), self.key.as_str().into()),
            (attribute!("dataschema"), DATA_SCHEMA.into()),
        ]
    }
}

/// Shows neither key nor body: both are personal data.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("position", &self.position)
            .field("event_id", &self.event_id)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_nine_digits_and_reads_back() {
        let moment = Timestamp(1_717_005_327_995_988_841);
        assert_eq!(moment.to_string(), "2024-05-29T17:55:27.995988841Z");
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        assert_eq!(
            Timestamp(1_700_000_000_000_000_000).to_string(),
            "2023-11-14T22:13:20.000000000Z"
        );
    }

    #[test]
    fn what_is_constant_in_an_attribute_says_what_it_is_made_of() {
        assert_eq!(SOURCE, format!("/sfox/{FEED_NAME}"));
        assert_eq!(
            DATA_SCHEMA,
            format!("urn:onboarding-bridge:event:v{SCHEMA_VERSION}")
        );
        for event_type in EventType::ALL {
            let expected = format!("com.sfox.connect.{}.v1", event_type.as_str());
            assert_eq!(event_type.cloud_event(), expected);
        }
        let id = attribute!("id");
        assert_eq!((id.name, id.kafka, id.nats), ("id", "ce_id", "ce-id"));
    }

    #[test]
    fn an_event_id_reads_back() {
        let id = EventId([7; 16]);
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(EventId::parse("07"), None);
    }
}
