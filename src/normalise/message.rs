//! Reads a message of our feed in its usual form straight into an observation, without a tree of its JSON.
//!
//! What is unusual in any way, a key that comes twice or a payload that is no object, is left to the tree:
//! nothing is rejected here, so there is one place that says what a frame is.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::{
    Field, Observation, UNKNOWN_NAME_MAX, USER_ID_MAX, UserToken, field, integer, is_aside, moment,
};
use crate::event::FEED_NAME;
use crate::state::FieldName;

/// The message, and the names of its payload that this version does not know; `None` if it must be looked at
/// more closely.
pub(super) fn read(text: &str, with_token: bool) -> Option<(Box<Observation>, BTreeSet<String>)> {
    let Envelope {
        sequence,
        timestamp,
        payload,
    } = serde_json::from_str(text).ok()?;
    let Payload {
        mut observation,
        token,
        unknown,
    } = payload;
    observation.sequence = integer(&sequence);
    observation.sent_at = moment(&timestamp);
    if with_token {
        observation.token = UserToken::of(token);
    }
    Some((observation, unknown))
}

/// A frame that is addressed to our feed.
struct Envelope {
    sequence: Value,
    timestamp: Value,
    payload: Payload,
}

struct Payload {
    observation: Box<Observation>,
    token: Value,
    unknown: BTreeSet<String>,
}

/// Places that are filled once: a second value is for the tree to judge.
fn once<T, E: Error>(place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("twice")),
    }
}

fn needed<T, E: Error>(place: Option<T>) -> Result<T, E> {
    place.ok_or_else(|| E::custom("missing"))
}

/// A key, known by `find` or not; what is not needed of it is not kept.
struct Key<K>(K);

trait Find: Sized {
    fn find(name: &str) -> Self;
}

impl<'de, K: Find> Deserialize<'de> for Key<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name<K>(std::marker::PhantomData<K>);
        impl<K: Find> Visitor<'_> for Name<K> {
            type Value = Key<K>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Key<K>, E> {
                Ok(Key(K::find(name)))
            }
        }
        deserializer.deserialize_str(Name(std::marker::PhantomData))
    }
}

enum OfEnvelope {
    Recipient,
    Sequence,
    Timestamp,
    Payload,
    Other,
}

impl Find for OfEnvelope {
    fn find(name: &str) -> Self {
        match name {
            "recipient" => Self::Recipient,
            "sequence" => Self::Sequence,
            "timestamp" => Self::Timestamp,
            "payload" => Self::Payload,
            _ => Self::Other,
        }
    }
}

enum OfPayload {
    UserId,
    Token,
    Field(FieldName),
    Aside,
    Unknown(String),
}

impl Find for OfPayload {
    fn find(name: &str) -> Self {
        let known = |field: &FieldName| field.as_str() == name;
        match name {
            "user_id" => Self::UserId,
            "user_token" => Self::Token,
            _ => match FieldName::ALL.into_iter().find(known) {
                Some(field) => Self::Field(field),
                None if is_aside(name) => Self::Aside,
                None => Self::Unknown(name.chars().take(UNKNOWN_NAME_MAX).collect()),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Envelope;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let (mut recipient, mut sequence, mut timestamp, mut payload) =
                    (None, None, None, None);
                while let Some(Key(key)) = map.next_key()? {
                    match key {
                        OfEnvelope::Recipient => once(&mut recipient, map.next_value::<Value>()?)?,
                        OfEnvelope::Sequence => once(&mut sequence, map.next_value()?)?,
                        OfEnvelope::Timestamp => once(&mut timestamp, map.next_value()?)?,
                        OfEnvelope::Payload => once(&mut payload, map.next_value()?)?,
                        // As the tree would: what it refuses is refused.
                        OfEnvelope::Other => drop(map.next_value::<Value>()?),
                    }
                }
                if needed::<_, A::Error>(recipient)? != FEED_NAME {
                    return Err(A::Error::custom("not ours"));
                }
                Ok(Envelope {
                    sequence: sequence.unwrap_or_default(),
                    timestamp: timestamp.unwrap_or_default(),
                    payload: needed(payload)?,
                })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
                let mut observation = Box::<Observation>::default();
                let (mut user_id, mut token, mut unknown) = (None, None, BTreeSet::new());
                while let Some(Key(key)) = map.next_key()? {
                    match key {
                        OfPayload::UserId => once(&mut user_id, map.next_value::<String>()?)?,
                        OfPayload::Token => once(&mut token, map.next_value()?)?,
                        OfPayload::Field(name) => {
                            let value = field(name, Some(map.next_value()?));
                            let value = value.map_err(|_| A::Error::custom("of the wrong kind"))?;
                            let place = &mut observation.fields[name as usize];
                            if std::mem::replace(place, value) != Field::Absent {
                                return Err(A::Error::custom("twice"));
                            }
                        }
                        OfPayload::Aside => drop(map.next_value::<Value>()?),
                        OfPayload::Unknown(name) => {
                            drop(map.next_value::<Value>()?);
                            unknown.insert(name);
                        }
                    }
                }
                observation.user_id = needed(user_id)?;
                if observation.user_id.is_empty() || observation.user_id.len() > USER_ID_MAX {
                    return Err(A::Error::custom("no user"));
                }
                Ok(Payload {
                    observation,
                    token: token.unwrap_or_default(),
                    unknown,
                })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
