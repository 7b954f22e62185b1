//! The operator's side of the journal: what the commands look up in the file and ask for in it, beside a
//! running bridge or without one.
//!
//! It never touches a record or a cursor: it reads, deletes dead letters, and leaves requests that the
//! bridge takes up within two seconds, or at its next start. It never creates a file.

use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, named_params};
use serde::Serialize;

use super::seal::{self, Keys, Place, Seal};
use super::{BUSY_WAIT, JournalError, schema, trouble};
use crate::config::JournalConfig;
use crate::event::{EventId, Timestamp};

/// The file, opened for a command, and how it is sealed.
#[derive(Debug)]
pub struct Desk(pub(super) Connection, pub(super) Seal);

/// Which dead letters; all of them unless something is named.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Of these numbers.
    pub ids: Option<Vec<i64>>,
    /// Of this stage: `normalise` or a sink.
    pub stage: Option<String>,
    /// Of this reason.
    pub reason: Option<String>,
    /// Set aside at this time or later.
    pub since: Option<Timestamp>,
    /// So many at most, the newest.
    pub limit: Option<u32>,
}

/// A dead letter without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LetterSummary {
    /// Its number in the journal.
    pub id: i64,
    /// When it was set aside, or refused last.
    pub at: Timestamp,
    /// `normalise`, or the name of the sink that refused it.
    pub stage: String,
    /// As the label `reason` of `dead_letters_total`.
    pub reason: String,
    /// What the stage says of it.
    pub detail: String,
    /// The event's id, if it had come so far.
    pub event_id: Option<EventId>,
    /// Its position in the journal, likewise.
    pub position: Option<u64>,
    /// The event's type, likewise.
    pub event_type: Option<String>,
    /// How often it was refused.
    pub attempts: u64,
    /// Since when it waits to be published again.
    pub replay_asked_at: Option<Timestamp>,
    /// Bytes of its content.
    pub bytes: Option<u64>,
}

/// What became of the request to set a cursor back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The sink.
    pub sink: String,
    /// Where its cursor stands.
    pub cursor: u64,
    /// Where it goes back to; `None` where there is nothing to replay.
    pub back_to: Option<u64>,
    /// Records that the sink is asked about again.
    pub records: u64,
    /// When the oldest record of the journal was received.
    pub oldest: Option<Timestamp>,
}

impl Desk {
    /// Opens the journal's file.
    ///
    /// # Errors
    /// [`JournalError`] when there is none, it is of another version, or sealed with another key.
    pub fn open(config: &JournalConfig) -> Result<Self, JournalError> {
        let (path, keys) = (config.path.as_path(), Keys::load(config)?);
        let failed = |error: rusqlite::Error| JournalError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let prepare = || -> rusqlite::Result<_> {
            connection.busy_timeout(BUSY_WAIT)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "secure_delete", "ON")?;
            schema::application_and_version(&connection)
        };
        let (application, version) = prepare().map_err(|error| schema::failed(path, error))?;
        let format = |reason: String| JournalError::Format {
            path: path.to_owned(),
            reason,
        };
        match (application, version) {
            (schema::APPLICATION_ID, schema::VERSION) => {
                let seal = seal::said(&connection, path, &keys)?;
                Ok(Self(connection, seal))
            }
            (schema::APPLICATION_ID, version) => Err(JournalError::OtherVersion {
                path: path.to_owned(),
                found: version,
                known: schema::VERSION,
            }),
            _ => Err(format("it is the database of another program".to_owned())),
        }
    }

    /// What a bridge would do with the file at its start, beyond opening it; nothing where there is none yet,
    /// or it is as it should be. For `check`, beside a bridge or without one.
    ///
    /// # Errors
    /// [`JournalError`] when the start would fail.
    pub fn look(config: &JournalConfig) -> Result<Option<&'static str>, JournalError> {
        if !std::fs::metadata(&config.path).is_ok_and(|file| file.len() > 0) {
            return Ok(None);
        }
        match Self::open(config) {
            Ok(_) => Ok(None),
            Err(JournalError::OtherVersion { found, known, .. }) if found < known => Ok(Some(
                "the journal is of an older version: the next start brings it up to date",
            )),
            Err(JournalError::Sql(error))
                if trouble::meaning(&error) == trouble::Reaction::Damaged =>
            {
                Ok(Some(
                    "the journal is damaged: the next start saves what can be read of it, and counts the rest",
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// The dead letters of a filter, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn letters(&self, filter: &LetterFilter) -> Result<Vec<LetterSummary>, JournalError> {
        let sql = format!(
            "SELECT {SUMMARY} FROM dead_letters WHERE {FILTER} ORDER BY id DESC LIMIT :limit"
        );
        let limit = filter.limit.map_or(-1, i64::from);
        let mut letters = self.filtered(&sql, filter, Some(limit))?;
        letters.reverse();
        Ok(letters)
    }

    fn filtered(
        &self,
        sql: &str,
        filter: &LetterFilter,
        limit: Option<i64>,
    ) -> Result<Vec<LetterSummary>, JournalError> {
        let mut statement = self.0.prepare(sql)?;
        let (ids, since) = (id_list(filter), filter.since.map(|at| at.0));
        let named = named_params! {":ids": ids, ":stage": filter.stage, ":reason": filter.reason,
        ":since": since, ":limit": limit};
        let letters = statement.query_map(named, |row| summary(row, &self.1))?;
        Ok(letters.collect::<rusqlite::Result<_>>()?)
    }

    /// A dead letter with its content and the key of its record.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn letter(&self, id: i64) -> Result<Option<Letter>, JournalError> {
        let sql = format!("SELECT {SUMMARY}, key, body FROM dead_letters WHERE id = ?1");
        let letter = |row: &Row<'_>| {
            Ok(Letter {
                summary: summary(row, &self.1)?,
                key: match row.get_ref("key")? {
                    ValueRef::Null => None,
                    key => Some(self.1.open_text(Place::LetterKey(id), key)?),
                },
                body: self
                    .1
                    .open_optional(Place::LetterBody(id), row.get_ref("body")?)?,
            })
        };
        Ok(self.0.query_row(&sql, [id], letter).optional()?)
    }

    /// Asks that the letters of a filter be published again; how many were not asked for yet.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn ask_replay(&self, filter: &LetterFilter, now: Timestamp) -> Result<usize, JournalError> {
        let sql =
            format!("UPDATE dead_letters SET replay = :now WHERE replay IS NULL AND {FILTER}");
        let (ids, since) = (id_list(filter), filter.since.map(|at| at.0));
        let named = named_params! {":ids": ids, ":stage": filter.stage, ":reason": filter.reason,
        ":since": since, ":now": now.0};
        Ok(self.0.execute(&sql, named)?)
    }

    /// Deletes the letters of a filter; how many.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn drop_letters(&self, filter: &LetterFilter) -> Result<usize, JournalError> {
        let sql = format!("DELETE FROM dead_letters WHERE {FILTER}");
        let (ids, since) = (id_list(filter), filter.since.map(|at| at.0));
        let named = named_params! {":ids": ids, ":stage": filter.stage, ":reason": filter.reason,
        ":since": since};
        Ok(self.0.execute(&sql, named)?)
    }

    /// Asks that a sink's cursor go back to before the first record received at a time or later; with
    /// `dry_run` only says what that would do. `None` for a sink that the journal does not know.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn ask_rewind(
        &self,
        sink: &str,
        since: Timestamp,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Option<Asked>, JournalError> {
        let sql = "SELECT position FROM cursors WHERE sink = ?1";
        let cursor: Option<u64> = self.0.query_row(sql, [sink], |row| row.get(0)).optional()?;
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        let first = "SELECT position FROM records WHERE received_at >= ?1 AND position > 0
            ORDER BY position LIMIT 1";
        let first: Option<u64> = self
            .0
            .query_row(first, [since.0], |row| row.get(0))
            .optional()?;
        let oldest = "SELECT received_at FROM records ORDER BY position LIMIT 1";
        let oldest: Option<i64> = self.0.query_row(oldest, [], |row| row.get(0)).optional()?;
        let back_to = first
            .map(|first| first - 1)
            .filter(|back_to| *back_to < cursor);
        if let (Some(back_to), false) = (back_to, dry_run) {
            let sql = "INSERT INTO rewinds VALUES (?1, ?2, ?3) ON CONFLICT (sink)
                DO UPDATE SET position = min(position, excluded.position), at = excluded.at";
            self.0.execute(sql, (sink, back_to, now.0))?;
        }
        Ok(Some(Asked {
            sink: sink.to_owned(),
            cursor,
            back_to,
            records: back_to.map_or(0, |back_to| cursor - back_to),
            oldest: oldest.map(Timestamp),
        }))
    }

    /// Waits, for as long as it is given, until the bridge has taken up what was asked of a sink.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn wait_taken_up(&self, sink: &str, patience: Duration) -> Result<bool, JournalError> {
        let deadline = tokio::time::Instant::now() + patience;
        let sql = "SELECT count(*) FROM rewinds WHERE sink = ?1";
        loop {
            let waiting: u64 = self.0.query_row(sql, [sink], |row| row.get(0))?;
            if waiting == 0 {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A dead letter with everything that is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// All but its content.
    pub summary: LetterSummary,
    /// The key of the record.
    pub key: Option<String>,
    /// The record's body, or the shape of the frame.
    pub body: Option<Vec<u8>>,
}

const SUMMARY: &str =
    "id, at, stage, reason, detail, event_id, position, event_type, attempts, replay,
    length(body) AS bytes";

/// Each part holds where its parameter is null.
const FILTER: &str = "(:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
    AND (:stage IS NULL OR stage = :stage) AND (:reason IS NULL OR reason = :reason)
    AND (:since IS NULL OR at >= :since)";

fn id_list(filter: &LetterFilter) -> Option<String> {
    filter.ids.as_ref().map(|ids| format!("{ids:?}"))
}

fn summary(row: &Row<'_>, seal: &Seal) -> rusqlite::Result<LetterSummary> {
    let bytes: Option<u64> = row.get("bytes")?;
    Ok(LetterSummary {
        id: row.get("id")?,
        at: Timestamp(row.get("at")?),
        stage: row.get("stage")?,
        reason: row.get("reason")?,
        detail: row.get("detail")?,
        event_id: row.get::<_, Option<_>>("event_id")?.map(EventId),
        position: row.get("position")?,
        event_type: row.get("event_type")?,
        attempts: row.get("attempts")?,
        replay_asked_at: row.get::<_, Option<i64>>("replay")?.map(Timestamp),
        bytes: bytes.map(|bytes| bytes.saturating_sub(seal.overhead())),
    })
}
