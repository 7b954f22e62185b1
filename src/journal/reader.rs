//! Reading the file while the writer goes on: for the sinks, for the state of users, for `/status`.
//!
//! It never writes. A reader sees only what is committed.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use tokio::sync::watch;

use super::recent::{Found, Recent};
use super::seal::{Place, Seal};
use super::{JournalError, codec, event_type, states, trouble};
use crate::event::{EventId, Record, Timestamp};
use crate::state::{UserKey, UserState};

/// Records that one read from the file takes at most.
const READ_RECORDS_MAX: usize = 2048;

/// Records among which the last of the feed is looked for.
const LAST_OF_FEED_RECORDS: u64 = 10_000;

/// Records among which the last one before a time is looked for.
const BEFORE_RECORDS: u64 = 100_000;

/// A blind window as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Window {
    /// From when the feed was not heard.
    pub from: Timestamp,
    /// Until when; `None` while it lasts.
    pub to: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Messages known to be missing.
    pub missing: u64,
    /// When a list healed it.
    pub healed_at: Option<Timestamp>,
    /// Events that only that list told of.
    pub differences: Option<u64>,
}

/// Something that was set aside, as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// `normalise`, or the name of the sink that refused it.
    pub stage: String,
    /// A value of the label `reason`.
    pub reason: String,
    /// What the stage says of it.
    pub detail: String,
    /// The position of the record, if it had come so far.
    pub position: Option<u64>,
    /// Its content, redacted.
    pub body: Option<Vec<u8>>,
}

/// A user of the journal: who, the key of its records, and what is known of it.
pub type UserRow = (UserKey, String, UserState);

/// A connection that only reads, and how the file is sealed.
#[derive(Debug)]
pub struct Reader(pub(super) Connection, pub(super) Seal);

impl Reader {
    pub(super) fn open(path: &Path, seal: &Seal) -> Result<Self, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        Ok(Self(connection, seal.clone()))
    }

    /// The records after a position, up to a position, a count and a number of bytes (at least one).
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn records(
        &self,
        after: u64,
        to: u64,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Record>>, JournalError> {
        let sql = "SELECT position, received_at, occurred_at, event_id, event_type, key, body
            FROM records WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query((after, to, count.min(READ_RECORDS_MAX)))?;
        let (mut records, mut left) = (Vec::new(), bytes);
        let mut last = after;
        while let Some(row) = rows.next()? {
            let record = record(row, &self.1)?;
            trouble::ascends(&last, &record.position)?;
            last = record.position;
            if !records.is_empty() && record.size() > left {
                break;
            }
            left = left.saturating_sub(record.size());
            records.push(Arc::new(record));
        }
        Ok(records)
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn user(&self, user: &UserKey) -> Result<Option<UserState>, JournalError> {
        Ok(states::in_table(&self.0, &self.1, user)?)
    }

    /// Up to `count` users after one, in the order of their keys, with the key of their records.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn users(
        &self,
        after: Option<&UserKey>,
        count: usize,
    ) -> Result<Vec<UserRow>, JournalError> {
        self.read_users(after, count).map(|(users, _)| users)
    }

    /// As [`users`](Self::users), and whether the table has no more: a row that is no state is left out.
    pub(super) fn read_users(
        &self,
        after: Option<&UserKey>,
        count: usize,
    ) -> Result<(Vec<UserRow>, bool), JournalError> {
        let sql = "SELECT user, key, state FROM users WHERE user > ?1 ORDER BY user LIMIT ?2";
        let mut statement = self.0.prepare_cached(sql)?;
        let first: &[u8] = after.map_or(&[], |user| user.as_slice());
        let mut rows = statement.query((first, count))?;
        let (mut users, mut last, mut read) = (Vec::new(), after.copied(), 0);
        while let Some(row) = rows.next()? {
            let user = row.get(0)?;
            trouble::ascends(&last, &Some(user))?;
            last = Some(user);
            read += 1;
            let state = self.1.open(Place::UserState(&user), row.get_ref(2)?)?;
            if let Some(state) = codec::decode(&state) {
                let key = self.1.open_text(Place::UserKey(&user), row.get_ref(1)?)?;
                users.push((user, key, state));
            }
        }
        Ok((users, read < count))
    }

    /// The earliest time at which any event after a position was received. It looks at all of them:
    /// an event that waited to be journalled stands behind a listed one that was stamped after it.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn earliest_after(&self, position: u64) -> Result<Option<Timestamp>, JournalError> {
        let sql = "SELECT min(received_at) FROM records WHERE position > ?1";
        let found: Option<i64> = self
            .0
            .prepare_cached(sql)?
            .query_row([position], |row| row.get(0))?;
        Ok(found.map(Timestamp))
    }

    /// The ids of the records after a position up to another, and when each was received.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn ids(&self, after: u64, to: u64) -> Result<Vec<(EventId, Timestamp)>, JournalError> {
        let sql = "SELECT event_id, received_at FROM records
            WHERE position > ?1 AND position <= ?2 ORDER BY position";
        let mut statement = self.0.prepare_cached(sql)?;
        let ids = statement.query_map((after, to), |row| {
            Ok((EventId(row.get(0)?), Timestamp(row.get(1)?)))
        })?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// When the event after a position was received: about the oldest that a sink at it lacks.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn received_after(&self, position: u64) -> Result<Option<Timestamp>, JournalError> {
        let sql = "SELECT received_at FROM records WHERE position > ?1 ORDER BY position LIMIT 1";
        let found = self
            .0
            .prepare_cached(sql)?
            .query_row([position], |row| row.get(0))
            .optional()?;
        Ok(found.map(Timestamp))
    }

    /// When the newest event that carries the vendor's time was sent, and when it was received; only
    /// among the newest `LAST_OF_FEED_RECORDS`.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn last_of_feed(&self) -> Result<Option<(Timestamp, Timestamp)>, JournalError> {
        let sql = "SELECT occurred_at, received_at FROM records WHERE occurred_at IS NOT NULL
            AND position > (SELECT max(position) FROM records) - ?1 ORDER BY position DESC LIMIT 1";
        let times = |row: &Row<'_>| Ok((Timestamp(row.get(0)?), Timestamp(row.get(1)?)));
        let found = self
            .0
            .prepare_cached(sql)?
            .query_row([LAST_OF_FEED_RECORDS], times)
            .optional()?;
        Ok(found)
    }

    /// The position of the last record that was received before a time; the last that is not there any
    /// more where all of the newest `BEFORE_RECORDS` are younger, and `None` where there are none.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn position_before(&self, at: Timestamp) -> Result<Option<u64>, JournalError> {
        let sql = "SELECT coalesce(
            (SELECT position FROM records WHERE received_at < ?1
                AND position > (SELECT max(position) FROM records) - ?2
                ORDER BY position DESC LIMIT 1),
            (SELECT min(position) - 1 FROM records))";
        let found = self
            .0
            .prepare_cached(sql)?
            .query_row((at.0, BEFORE_RECORDS), |row| row.get(0))?;
        Ok(found)
    }

    /// From when the earliest blind window that is still open begins.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn open_since(&self) -> Result<Option<Timestamp>, JournalError> {
        let sql = "SELECT min(opened) FROM windows WHERE closed IS NULL";
        let found: Option<i64> = self
            .0
            .prepare_cached(sql)?
            .query_row([], |row| row.get(0))?;
        Ok(found.map(Timestamp))
    }

    /// The newest blind windows, newest first.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn windows(&self, count: usize) -> Result<Vec<Window>, JournalError> {
        let sql = "SELECT opened, closed, reason, missing, healed, differences FROM windows
            ORDER BY id DESC LIMIT ?1";
        let time = |row: &Row<'_>, column| -> rusqlite::Result<Option<Timestamp>> {
            Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
        };
        let mut statement = self.0.prepare_cached(sql)?;
        let windows = statement.query_map([count], |row| {
            Ok(Window {
                from: Timestamp(row.get(0)?),
                to: time(row, 1)?,
                reason: row.get(2)?,
                missing: row.get(3)?,
                healed_at: time(row, 4)?,
                differences: row.get(5)?,
            })
        })?;
        Ok(windows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many blind windows no list has healed yet, an open one included.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn unhealed_windows(&self) -> Result<i64, JournalError> {
        let sql = "SELECT count(*) FROM windows WHERE healed IS NULL";
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Dead letters, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn dead_letters(&self, count: usize) -> Result<Vec<StoredLetter>, JournalError> {
        let sql = "SELECT stage, reason, detail, position, body, id FROM dead_letters ORDER BY id LIMIT ?1";
        let mut statement = self.0.prepare_cached(sql)?;
        let letters = statement.query_map([count], |row| {
            Ok(StoredLetter {
                stage: row.get(0)?,
                reason: row.get(1)?,
                detail: row.get(2)?,
                position: row.get(3)?,
                body: self
                    .1
                    .open_optional(Place::LetterBody(row.get(5)?), row.get_ref(4)?)?,
            })
        })?;
        Ok(letters.collect::<rusqlite::Result<_>>()?)
    }
}

fn record(row: &Row<'_>, seal: &Seal) -> rusqlite::Result<Record> {
    let position = row.get(0)?;
    Ok(Record {
        position,
        received_at: Timestamp(row.get(1)?),
        occurred_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
        event_id: EventId(row.get(3)?),
        event_type: event_type(row.get_ref(4)?.as_str()?)?,
        key: seal.open_text(Place::RecordKey(position), row.get_ref(5)?)?,
        body: seal.open(Place::RecordBody(position), row.get_ref(6)?)?,
    })
}

/// Follows the journal for one sink: from memory where it keeps up, from the file where it does not.
#[derive(Debug)]
pub struct Tail {
    committed: watch::Receiver<u64>,
    recent: Arc<Recent>,
    path: Arc<Path>,
    seal: Seal,
    reader: Arc<Mutex<Option<Reader>>>,
}

impl Tail {
    pub(super) fn new(
        committed: watch::Receiver<u64>,
        recent: Arc<Recent>,
        path: Arc<Path>,
        seal: Seal,
    ) -> Self {
        Self {
            committed,
            recent,
            path,
            seal,
            reader: Arc::default(),
        }
    }

    /// The position up to which everything is durable.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// The records after a position, at least one; waits for it.
    ///
    /// # Errors
    /// [`JournalError::Sql`], or [`JournalError::Closed`] when the writer has ended and every
    /// record was read.
    pub async fn after(
        &mut self,
        position: u64,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Record>>, JournalError> {
        loop {
            match self.recent.after(position, count, bytes) {
                Found::Here(records) => return Ok(records),
                Found::InFile(to) => {
                    let read = move |reader: &Reader| reader.records(position, to, count, bytes);
                    let records = self.with_reader(read).await?;
                    if !records.is_empty() {
                        return Ok(records);
                    }
                    // What is missing in the file was pruned, because this sink had been given up
                    // or its cursor was set back by hand: go on with what there is.
                    return self.after_pruned(to, count, bytes);
                }
                Found::NotYet => {
                    let newer = self
                        .committed
                        .wait_for(|committed| *committed > position)
                        .await;
                    newer.map_err(|_| JournalError::Closed).map(drop)?;
                }
            }
        }
    }

    fn after_pruned(
        &self,
        to: u64,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Record>>, JournalError> {
        match self.recent.after(to, count, bytes) {
            Found::Here(records) => Ok(records),
            Found::InFile(_) | Found::NotYet => Ok(Vec::new()),
        }
    }

    /// The earliest time at which any event after a position was received.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn earliest_after(&self, position: u64) -> Result<Option<Timestamp>, JournalError> {
        self.with_reader(move |reader| reader.earliest_after(position))
            .await
    }

    /// As [`Reader::ids`].
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn ids(
        &self,
        after: u64,
        to: u64,
    ) -> Result<Vec<(EventId, Timestamp)>, JournalError> {
        self.with_reader(move |reader| reader.ids(after, to)).await
    }

    pub(super) async fn with_reader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (reader, path) = (Arc::clone(&self.reader), Arc::clone(&self.path));
        let seal = self.seal.clone();
        let blocking = tokio::task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let reader = match &mut *reader {
                Some(reader) => reader,
                none => none.insert(Reader::open(&path, &seal)?),
            };
            read(reader)
        });
        blocking.await.map_err(|_| JournalError::Closed)?
    }
}
