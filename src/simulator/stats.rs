//! What the simulated vendor has seen: counters, and the ledger of what it sent.
//!
//! The ledger is bounded. Neither holds a name, an address or a token.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::person::Person;

/// Entries that the ledger takes; later ones are only counted.
const LEDGER_MAX: usize = 8_000_000;

/// Counters since the start, and two gauges (`connected`, `subscribed`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Stats {
    pub connected: usize,
    pub subscribed: usize,
    pub connections_total: u64,
    pub auth_ok: u64,
    pub auth_failed: u64,
    pub subscribes: u64,
    pub rest_requests: u64,
    /// Lists that were served to their end.
    pub rest_lists_complete: u64,
    pub pings_sent: u64,
    pub pings_received: u64,
    pub pongs_received: u64,
    /// Changes of the world that were meant for the feed, whether somebody listened or not.
    pub events_generated: u64,
    /// Data frames written, repeats and snapshots included; on two connections each counts.
    pub events_sent: u64,
    /// Sequence numbers consumed by events that were not sent.
    pub events_skipped: u64,
    pub limit_breaches: u64,
    /// Most WebSocket connections that one address had open at once.
    pub connections_peak: usize,
    /// Most requests that one address made within 60 s.
    pub requests_peak: usize,
    pub last_close_code_from_client: Option<u16>,
    /// Frames sent that tell of nobody.
    pub noise_sent: u64,
    /// Whether the script or the capture was played to its end.
    pub played: bool,
    /// Frames that were sent after the ledger was full.
    pub ledger_dropped: u64,
}

/// One data frame that was handed to a socket. The last ones before a connection broke may not have
/// arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Number of the connection, from 1 in the order in which they were accepted.
    pub connection: u64,
    /// The frame's `sequence`.
    pub sequence: u64,
    /// The user's place in the world.
    pub user_index: u32,
    /// The user's id.
    pub user_id: String,
    /// The frame's `timestamp`.
    pub timestamp: i64,
    /// The user's `status`.
    pub status: &'static str,
    /// Which event of this user it is; in the data it is the end of `last_name`.
    pub counter: u32,
}

/// What is noted of a data frame: little, because it is done for each one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) connection: u64,
    pub(super) sequence: u64,
    pub(super) timestamp: i64,
    pub(super) person: Person,
}

impl From<Entry> for Sent {
    fn from(entry: Entry) -> Self {
        Self {
            connection: entry.connection,
            sequence: entry.sequence,
            user_index: entry.person.index,
            user_id: entry.person.user_id(),
            timestamp: entry.timestamp,
            status: entry.person.status(),
            counter: entry.person.counter,
        }
    }
}

/// The data frames sent, in the order of each connection.
#[derive(Debug)]
pub(super) struct Ledger(Option<Mutex<Vec<Entry>>>);

impl Ledger {
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(Mutex::default))
    }

    /// Notes the frames; how many found no place.
    pub(super) fn note(&self, entries: impl ExactSizeIterator<Item = Entry>) -> u64 {
        let Some(ledger) = &self.0 else { return 0 };
        let mut ledger = locked(ledger);
        let room = LEDGER_MAX - ledger.len();
        let left_out = entries.len().saturating_sub(room) as u64;
        ledger.extend(entries.take(room));
        left_out
    }

    /// Everything noted so far.
    pub(super) fn sent(&self) -> Vec<Sent> {
        let entries = match &self.0 {
            Some(ledger) => locked(ledger).clone(),
            None => Vec::new(),
        };
        entries.into_iter().map(Sent::from).collect()
    }
}

/// The guard, also after a panic elsewhere: nothing here is left half done.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
