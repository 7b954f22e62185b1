//! What is known of each user, and what an observation adds to it.
//!
//! Pure. A state holds no personal data in clear: a keyed digest of each field, the status, and the
//! ids of the user's last events. From a state and an observation follow the event's type, its id,
//! what changed, and whether it is only a repeat.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::event::Timestamp;
use crate::event::{Event, EventId, EventType, FEED_NAME, FeedPosition, Origin, SCHEMA_VERSION};
use crate::normalise::{Field, Observation, outstanding};

/// A field of a user that the record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the field of its name")]
pub enum FieldName {
    AccountType,
    AccountRole,
    Email,
    FirstName,
    LastName,
    PhoneNumber,
    Status,
    Requirements,
}

impl FieldName {
    /// Every field, in the order of the record.
    pub const ALL: [Self; 8] = [
        Self::AccountType,
        Self::AccountRole,
        Self::Email,
        Self::FirstName,
        Self::LastName,
        Self::PhoneNumber,
        Self::Status,
        Self::Requirements,
    ];

    /// The name in the record and in `privacy.fields`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountType => "account_type",
            Self::AccountRole => "account_role",
            Self::Email => "email",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::PhoneNumber => "phone_number",
            Self::Status => "status",
            Self::Requirements => "requirements",
        }
    }
}

/// A user's name inside the journal: a keyed digest of the `user_id`.
pub type UserKey = [u8; 16];

/// A repeat is looked for among this many last events of a user.
pub const RECENT_MAX: usize = 4;

/// A user's last events; most users have few, and there are many users.
pub type Recent = SmallVec<[EventId; RECENT_MAX]>;

/// What is known of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState {
    /// Position of the last record that changed this state.
    pub position: u64,
    /// Whether the last event was the user's removal.
    pub removed: bool,
    /// Keyed digest of each field that was ever seen.
    pub digests: [Option<[u8; 8]>; FieldName::ALL.len()],
    /// The status, as sent; it is no personal data.
    pub status: Option<String>,
    /// Ids of the last events, newest first.
    pub recent: Recent,
}

/// The key of all digests in one journal. It never leaves the process.
#[derive(Clone)]
pub struct DigestKey(Hmac<Sha256>);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(***)")
    }
}

impl DigestKey {
    /// Makes the key from its secret bytes.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"))
    }

    /// The journal's name for a user.
    pub fn user(&self, user_id: &str) -> UserKey {
        self.digest("user_id", b"", user_id.as_bytes())
    }

    /// The id of a notice of this journal, by its number.
    pub fn notice(&self, number: u64) -> [u8; 16] {
        self.digest("notice", b"", &number.to_le_bytes())
    }

    fn field(&self, name: FieldName, field: &Field) -> Option<[u8; 8]> {
        match field {
            Field::Absent => None,
            Field::Null => Some(self.digest(name.as_str(), b"n", b"")),
            Field::Value(Value::String(text)) => {
                Some(self.digest(name.as_str(), b"s", text.as_bytes()))
            }
            Field::Value(value) => Some(self.digest(name.as_str(), b"j", &json(value))),
        }
    }

    fn digest<const N: usize>(&self, name: &str, kind: &[u8], value: &[u8]) -> [u8; N] {
        let mut mac = self.0.clone();
        for part in [name.as_bytes(), b"\0", kind, value] {
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        std::array::from_fn(|index| digest[index])
    }
}

/// A value as JSON, without spaces. To a formatter it would be written a word at a time.
fn json(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value has only string keys")
}

/// What an observation is, held against what was known.
#[derive(Clone, Debug, PartialEq)]
pub enum Compared {
    /// The same event as one of this user's last ones.
    Repeat,
    /// The list says nothing that was not known.
    Unchanged,
    /// An event to journal, and the state after it (its position is not set yet).
    News(Box<(Event, UserState)>),
}

/// How an observation was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the feed, by the connection of this name.
    Feed(String),
    /// In the REST list.
    List,
}

/// Holds an observation against the user's state.
pub fn compare(
    known: Option<&UserState>,
    observation: Observation,
    source: Source,
    received_at: Timestamp,
    key: &DigestKey,
) -> Compared {
    let present = known.filter(|state| !state.removed);
    let mut digests = present.map(|state| state.digests).unwrap_or_default();
    let mut changed = Vec::new();
    for (name, field) in FieldName::ALL.into_iter().zip(&observation.fields) {
        let place = &mut digests[name as usize];
        // What a message does not mention is still as it was.
        if let Some(digest) = key.field(name, field)
            && place.replace(digest) != Some(digest)
        {
            changed.push(name.as_str());
        }
    }
    if source == Source::List && present.is_some() && changed.is_empty() {
        return Compared::Unchanged;
    }
    let event_id = event_id(Some(&observation), known, &observation.user_id);
    if known.is_some_and(|state| state.recent.contains(&event_id)) {
        return Compared::Repeat;
    }
    changed.sort_unstable();
    let status = &observation.fields[FieldName::Status as usize];
    let state = UserState {
        position: 0,
        removed: false,
        digests,
        status: match status {
            Field::Absent => present.and_then(|state| state.status.clone()),
            Field::Null => None,
            Field::Value(value) => value.as_str().map(str::to_owned),
        },
        recent: recent(event_id, known),
    };
    let origin = if source == Source::List {
        Origin::Reconcile
    } else {
        Origin::Feed
    };
    let feed = match source {
        Source::Feed(connection) => Some(FeedPosition {
            sequence: observation.sequence,
            connection,
        }),
        Source::List => None,
    };
    let mut event = told(event_id, origin, observation, received_at);
    event.feed = feed;
    if let Some(present) = present {
        event.event_type = EventType::Updated;
        event.previous_status = present.status.clone().into();
        event.changed = changed;
    }
    Compared::News(Box::new((event, state)))
}

/// The event of a user who is absent from a complete list, and the state after it.
pub fn removal(known: &UserState, user_id: &str, received_at: Timestamp) -> (Event, UserState) {
    let event_id = event_id(None, Some(known), user_id);
    let recent = recent(event_id, Some(known));
    let state = UserState {
        removed: true,
        recent,
        ..UserState::default()
    };
    let of_user = Observation {
        user_id: user_id.to_owned(),
        ..Observation::default()
    };
    let mut event = told(event_id, Origin::Reconcile, of_user, received_at);
    event.event_type = EventType::Removed;
    event.previous_status = known.status.clone().into();
    (event, state)
}

/// A registration that says what the observation does.
fn told(
    event_id: EventId,
    origin: Origin,
    observation: Observation,
    received_at: Timestamp,
) -> Event {
    let [
        account_type,
        account_role,
        email,
        first_name,
        last_name,
        phone_number,
        status,
        requirements,
    ] = observation.fields.map(Field::into_value);
    Event {
        schema_version: SCHEMA_VERSION,
        event_id,
        event_type: EventType::Registered,
        origin,
        user_id: observation.user_id,
        account_type,
        account_role,
        email,
        first_name,
        last_name,
        phone_number,
        status,
        previous_status: Value::Null,
        outstanding_requirements: outstanding(&requirements),
        requirements,
        changed: Vec::new(),
        occurred_at: observation.sent_at.map(|(_, at)| at),
        received_at,
        feed: None,
        user_token: None,
    }
}

fn recent(newest: EventId, known: Option<&UserState>) -> Recent {
    let older = known
        .map(|state| state.recent.as_slice())
        .unwrap_or_default();
    std::iter::once(newest)
        .chain(older.iter().copied())
        .take(RECENT_MAX)
        .collect()
}

/// 128 bits of SHA-256 over a versioned, length-prefixed encoding, as docs/record.md says: the same
/// for every bridge that hears the same message. `None` stands for the user's removal.
fn event_id(
    observation: Option<&Observation>,
    known: Option<&UserState>,
    user_id: &str,
) -> EventId {
    let mut hash = Sha256::new();
    let mut part = |tag: u8, bytes: &[u8]| {
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b'v', b"onboarding-bridge event id 1");
    part(b'f', FEED_NAME.as_bytes());
    part(b'u', user_id.as_bytes());
    // Without a time of its own, an event is told from the same state seen earlier by what came
    // before it, so that a state which comes back later is a new event.
    let sent_at = observation.and_then(|observation| observation.sent_at.as_ref());
    match (sent_at, known.and_then(|state| state.recent.first())) {
        (Some((as_sent, _)), _) => part(b't', as_sent.as_bytes()),
        (None, Some(previous)) => part(b'p', &previous.0),
        (None, None) => part(b'p', b""),
    }
    match observation {
        None => part(b'r', b""),
        Some(observation) => {
            for field in &observation.fields {
                match field {
                    Field::Absent | Field::Null => part(b'0', b""),
                    Field::Value(Value::String(text)) => part(b's', text.as_bytes()),
                    Field::Value(value) => part(b'j', &json(value)),
                }
            }
        }
    }
    let digest = hash.finalize();
    EventId(std::array::from_fn(|index| digest[index]))
}

#[cfg(test)]
mod tests;
