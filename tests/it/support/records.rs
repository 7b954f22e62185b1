//! Records as the journal would hand them to a sink.

use std::sync::Arc;

use onboarding_bridge::event::{EventId, EventType, Record, Timestamp};

/// Keys that a careless sink would let out of their subject, line or partition, or mix up.
pub(crate) const HOSTILE_KEYS: [&str; 16] = [
    "client_09e487c9",
    "a.b",
    "a~2eb",
    "*",
    ">",
    "a.>",
    " ",
    "a b",
    "~",
    "~h",
    "\u{1f600}é",
    "line\nbreak",
    "quote\"\\",
    "%20",
    "\u{7f}\u{0}",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
     xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// One record of a user, received now.
pub(crate) fn record(position: u64, key: &str) -> Arc<Record> {
    record_at(position, key, Timestamp::now())
}

/// One record of a user, received at a moment.
pub(crate) fn record_at(position: u64, key: &str, received_at: Timestamp) -> Arc<Record> {
    let event_id = EventId(rand::random());
    let body = serde_json::json!({
        "schema_version": 1,
        "event_id": event_id,
        "user_id": key,
        "number": position,
        "received_at": received_at,
    });
    Arc::new(Record {
        position,
        event_id,
        event_type: EventType::Updated,
        key: key.to_owned(),
        occurred_at: Some(received_at),
        received_at,
        body: serde_json::to_vec(&body).unwrap(),
    })
}

/// Records of several users in turn.
pub(crate) fn records(count: u64, users: u64) -> Vec<Arc<Record>> {
    (0..count)
        .map(|n| record(n, &format!("user_{}", n % users)))
        .collect()
}
