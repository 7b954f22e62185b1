//! From the vendor's frame to an observation, or to a named reason why not.
//!
//! Pure: no clock, no I/O, no state. Tolerant of everything that docs/protocol.md lists as unknown,
//! strict about the one thing that counts: a data frame of exactly our feed, with a `user_id`.
//! The `user_token` ends here, dropped with the parsed frame, unless the operator has named a policy
//! that needs it: then it goes on in a type that nobody can print.

mod message;
mod token;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::event::{FEED_NAME, Timestamp};
use crate::state::FieldName;

pub use token::UserToken;

/// What one field of a message says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field {
    /// The message does not have it: what was known of it still holds.
    #[default]
    Absent,
    /// Explicitly null.
    Null,
    /// Its value: a string for every field but `requirements`.
    Value(Value),
}

impl Field {
    /// As the record shows it: absent and null are both null.
    pub fn into_value(self) -> Value {
        match self {
            Self::Absent | Self::Null => Value::Null,
            Self::Value(value) => value,
        }
    }
}

/// What one message, or one entry of the REST list, says of one user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The user, exactly as the vendor sent it.
    pub user_id: String,
    /// The vendor's timestamp as sent, and its meaning.
    pub sent_at: Option<(String, Timestamp)>,
    /// The vendor's number of the frame.
    pub sequence: Option<i64>,
    /// The fields, in the order of [`FieldName::ALL`].
    pub fields: [Field; FieldName::ALL.len()],
    /// The credential, where it was asked for; it is no part of what is known of the user.
    pub token: Option<UserToken>,
}

/// What a text frame is.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A message of our feed, with the names of keys that this version does not know.
    Data(Box<Observation>, BTreeSet<String>),
    /// A reply to one of our commands.
    Reply(Reply),
    /// Something that cannot become an event; it still consumed a sequence number, if it had one.
    Rejected(Reason, Option<i64>),
}

/// The vendor's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whether `type` is `success`; everything else counts as a refusal.
    pub success: bool,
    /// The command that it answers, if it says so, at either level.
    pub action: Option<String>,
    /// The frame's number.
    pub sequence: Option<i64>,
    /// Every short text in the reply that may explain a refusal.
    pub explanation: String,
}

/// Why a frame cannot become an event; the value of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A binary frame.
    Binary,
    /// Longer than `feed.max_frame_bytes`.
    Oversized,
    /// No JSON object.
    Malformed,
    /// A message of another feed.
    Foreign,
    /// Neither a message nor a reply.
    Unrecognised,
    /// A message of our feed without an object as payload.
    Payload,
    /// A message of our feed without a usable `user_id`.
    UserId,
    /// A field of the wrong kind, such as a list as e-mail address.
    FieldType,
}

impl Reason {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 8] = [
        Self::Binary,
        Self::Oversized,
        Self::Malformed,
        Self::Foreign,
        Self::Unrecognised,
        Self::Payload,
        Self::UserId,
        Self::FieldType,
    ];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Unrecognised => "unrecognised",
            Self::Payload => "payload",
            Self::UserId => "user_id",
            Self::FieldType => "field_type",
        }
    }
}

/// Longest `user_id` that is taken, in bytes: Kafka and NATS carry it as key, header and subject.
pub const USER_ID_MAX: usize = 1024;

/// Names of unknown keys are counted up to this length, in characters.
const UNKNOWN_NAME_MAX: usize = 64;

/// Whether a key of the payload is known and not part of the record.
fn is_aside(name: &str) -> bool {
    matches!(name, "user_id" | "user_token" | "advisor_user_id")
}

/// Reads one text frame; its `user_token` is dropped with it.
pub fn frame(text: &str) -> Frame {
    read(text, false)
}

/// As [`frame`], but the `user_token` goes on with the observation, to the privacy policy.
pub fn frame_with_token(text: &str) -> Frame {
    read(text, true)
}

fn read(text: &str, with_token: bool) -> Frame {
    match message::read(text, with_token) {
        Some((observation, unknown)) => Frame::Data(observation, unknown),
        None => read_tree(text, with_token),
    }
}

/// As [`read`], for every form that a frame may have.
fn read_tree(text: &str, with_token: bool) -> Frame {
    let Ok(Value::Object(mut envelope)) = serde_json::from_str(text) else {
        return Frame::Rejected(Reason::Malformed, None);
    };
    let sequence = envelope.get("sequence").and_then(integer);
    match envelope.get("recipient") {
        None | Some(Value::Null) => match reply(&envelope, sequence) {
            Some(reply) => Frame::Reply(reply),
            None => Frame::Rejected(Reason::Unrecognised, sequence),
        },
        // Three longer feed names start with ours: only equality will do.
        Some(Value::String(recipient)) if recipient == FEED_NAME => {
            let payload = envelope.remove("payload").unwrap_or_default();
            match observe(payload, with_token) {
                Ok((mut observation, unknown)) => {
                    observation.sequence = sequence;
                    observation.sent_at = envelope.get("timestamp").and_then(moment);
                    Frame::Data(Box::new(observation), unknown)
                }
                Err(reason) => Frame::Rejected(reason, sequence),
            }
        }
        Some(_) => Frame::Rejected(Reason::Foreign, sequence),
    }
}

/// Reads the payload of a message, or one entry of the REST list, without any `user_token`.
///
/// # Errors
/// The [`Reason`] why it names no user or cannot be understood.
pub fn observation(payload: Value) -> Result<(Observation, BTreeSet<String>), Reason> {
    observe(payload, false)
}

fn observe(payload: Value, with_token: bool) -> Result<(Observation, BTreeSet<String>), Reason> {
    let mut payload = match payload {
        Value::Object(payload) => payload,
        // The vendor's table calls the payload a JSON string.
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(payload)) => payload,
            _ => return Err(Reason::Payload),
        },
        _ => return Err(Reason::Payload),
    };
    let user_id = match payload.get("user_id") {
        Some(Value::String(id)) if !id.is_empty() && id.len() <= USER_ID_MAX => id.clone(),
        _ => return Err(Reason::UserId),
    };
    let mut observation = Observation {
        user_id,
        ..Observation::default()
    };
    for (name, place) in FieldName::ALL.into_iter().zip(&mut observation.fields) {
        *place = field(name, payload.remove(name.as_str()))?;
    }
    if with_token {
        observation.token = payload.remove("user_token").and_then(UserToken::of);
    }
    let unknown = payload.keys().filter(|name| !is_aside(name));
    let unknown = unknown
        .map(|name| name.chars().take(UNKNOWN_NAME_MAX).collect())
        .collect();
    Ok((observation, unknown))
}

fn field(name: FieldName, value: Option<Value>) -> Result<Field, Reason> {
    let value = match value {
        None => return Ok(Field::Absent),
        Some(Value::Null) => return Ok(Field::Null),
        Some(value) => value,
    };
    let text = match value {
        // Arbitrary JSON: the vendor announced nested requirements.
        value if name == FieldName::Requirements => return Ok(Field::Value(value)),
        Value::String(text) => text,
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) | Value::Null => return Err(Reason::FieldType),
    };
    Ok(Field::Value(Value::String(spelling(name, text))))
}

/// A text as the record spells it, whatever the vendor's casing.
pub fn spelling(name: FieldName, text: String) -> String {
    match name {
        FieldName::AccountType if text.eq_ignore_ascii_case("corporate") => "corporation".into(),
        FieldName::AccountType | FieldName::AccountRole => text.to_lowercase(),
        FieldName::Email
        | FieldName::FirstName
        | FieldName::LastName
        | FieldName::PhoneNumber
        | FieldName::Status
        | FieldName::Requirements => text,
    }
}

/// Sorted names of the requirements whose value is `true`: true means outstanding.
pub fn outstanding(requirements: &Value) -> Vec<String> {
    let Value::Object(requirements) = requirements else {
        return Vec::new();
    };
    let open = requirements
        .iter()
        .filter(|(_, value)| **value == Value::Bool(true));
    let mut names: Vec<String> = open.map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names
}

fn reply(envelope: &Map<String, Value>, sequence: Option<i64>) -> Option<Reply> {
    let kind = envelope.get("type")?.as_str()?;
    let payload = envelope.get("payload");
    let action = envelope.get("action").or_else(|| payload?.get("action"));
    let texts = ["error", "message", "code", "reason"]
        .into_iter()
        .flat_map(|key| {
            [
                envelope.get(key),
                payload.and_then(|payload| payload.get(key)),
            ]
        })
        .flatten()
        .filter_map(|value| match value {
            Value::String(text) => Some(text.chars().take(200).collect()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
    Some(Reply {
        success: kind == "success",
        action: action.and_then(Value::as_str).map(str::to_owned),
        sequence,
        explanation: texts.collect::<Vec<String>>().join(", "),
    })
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The timestamp as sent, and as nanoseconds: the vendor's pages disagree on the unit, so its
/// magnitude decides.
fn moment(value: &Value) -> Option<(String, Timestamp)> {
    let as_sent = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let Some(number) = integer(value).filter(|number| *number > 0) else {
        let parsed = Timestamp::parse(&as_sent)?;
        return Some((as_sent, parsed));
    };
    let nanoseconds = match number {
        100_000_000_000_000_000.. => number,
        100_000_000_000_000.. => number.checked_mul(1_000)?,
        100_000_000_000.. => number.checked_mul(1_000_000)?,
        _ => number.checked_mul(1_000_000_000)?,
    };
    Some((as_sent, Timestamp(nanoseconds)))
}

#[cfg(test)]
mod tests;
