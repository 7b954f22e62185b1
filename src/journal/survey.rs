//! What the journal's file holds, for the commands that only look: figures, and the records themselves.
//!
//! It reads what is committed, and changes nothing.

use std::path::Path;

use rusqlite::named_params;
use serde::Serialize;

use super::{Desk, JournalError, Reader, schema};
use crate::event::{Record, Timestamp};

/// Records that are read at a time.
const PAGE: usize = 500;

/// The figures of a journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Version of the file's format.
    pub format_version: usize,
    /// The id of the key with which everything personal in it is encrypted, if it is.
    pub encrypted_with: Option<String>,
    /// Records that it holds.
    pub records: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes that may be used.
    pub capacity_bytes: u64,
    /// The oldest record.
    pub oldest: Option<Place>,
    /// The newest record.
    pub newest: Option<Place>,
    /// When the bridge last wrote to it.
    pub last_written: Option<Timestamp>,
    /// How far each sink is.
    pub cursors: Vec<Cursor>,
    /// Users of whom something is known.
    pub users: u64,
    /// Blind windows: all, still open, over but not healed yet.
    pub windows: Windows,
    /// Dead letters by stage.
    pub dead_letters: Vec<Letters>,
}

/// A record's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its position.
    pub position: u64,
    /// When it was received.
    pub received_at: Timestamp,
}

/// How far a sink is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// The sink; one that is no longer configured keeps its cursor.
    pub sink: String,
    /// It has everything up to here.
    pub position: u64,
    /// Records that it lacks.
    pub lag_records: u64,
    /// Whether nothing beyond the position has an unknown outcome.
    pub clean: bool,
    /// Where it is asked to go back to.
    pub rewind_to: Option<u64>,
}

/// Blind windows, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Windows {
    /// All that are kept.
    pub all: u64,
    /// Not over yet.
    pub open: u64,
    /// Over, and no list has been compared since.
    pub unhealed: u64,
}

/// Dead letters of a stage, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letters {
    /// `normalise`, or a sink.
    pub stage: String,
    /// How many.
    pub letters: u64,
    /// How many of them wait to be published again.
    pub replay_asked: u64,
}

/// Which records; all of them unless something is named.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordFilter {
    /// Received at this time or later.
    pub since: Option<Timestamp>,
    /// At this position or later.
    pub from_position: Option<u64>,
    /// So many at most.
    pub limit: Option<u64>,
}

impl Desk {
    /// The figures.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn stats(&self, capacity_bytes: u64) -> Result<Stats, JournalError> {
        // One moment of the file for all figures, though a bridge may go on writing.
        let moment = self.0.unchecked_transaction()?;
        let count = |sql: &str| self.0.query_row(sql, [], |row| row.get::<_, u64>(0));
        let place = |order: &str| {
            let sql = format!(
                "SELECT position, received_at FROM records ORDER BY position {order} LIMIT 1"
            );
            self.listed(&sql, |row| {
                Ok(Place {
                    position: row.get(0)?,
                    received_at: Timestamp(row.get(1)?),
                })
            })
        };
        let last = schema::last_position(&self.0)?;
        let cursors = "SELECT sink, cursors.position, clean, rewinds.position
            FROM cursors LEFT JOIN rewinds USING (sink) ORDER BY sink";
        let letters = "SELECT stage, count(*), count(replay) FROM dead_letters GROUP BY stage";
        let stats = Stats {
            format_version: schema::VERSION,
            encrypted_with: self.1.id(),
            records: count(
                "SELECT coalesce(
                    (SELECT max(position) FROM records) - (SELECT min(position) FROM records) + 1, 0)",
            )?,
            bytes: count(
                "SELECT ((SELECT * FROM pragma_page_count) - (SELECT * FROM pragma_freelist_count))
                    * (SELECT * FROM pragma_page_size)",
            )?,
            capacity_bytes,
            oldest: place("ASC")?.pop(),
            newest: place("DESC")?.pop(),
            last_written: schema::heard_until(&self.0)?,
            cursors: self.listed(cursors, |row| {
                let position: u64 = row.get(1)?;
                Ok(Cursor {
                    sink: row.get(0)?,
                    position,
                    lag_records: last.saturating_sub(position),
                    clean: row.get(2)?,
                    rewind_to: row.get(3)?,
                })
            })?,
            users: count("SELECT count(*) FROM users")?,
            windows: Windows {
                all: count("SELECT count(*) FROM windows")?,
                open: count("SELECT count(*) FROM windows WHERE closed IS NULL")?,
                unhealed: count(
                    "SELECT count(*) FROM windows WHERE closed IS NOT NULL AND healed IS NULL",
                )?,
            },
            dead_letters: self.listed(letters, |row| {
                Ok(Letters {
                    stage: row.get(0)?,
                    letters: row.get(1)?,
                    replay_asked: row.get(2)?,
                })
            })?,
        };
        moment.finish()?;
        Ok(stats)
    }

    fn listed<T>(
        &self,
        sql: &str,
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.0.prepare(sql)?.query_map([], row)?.collect()
    }

    /// Gives each record of a filter to `take`, in the order of the journal, until it says no; a few at a
    /// time, so that neither memory nor the bridge's file grows meanwhile.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn records(
        &self,
        path: &Path,
        filter: &RecordFilter,
        mut take: impl FnMut(&Record) -> bool,
    ) -> Result<(), JournalError> {
        let reader = Reader::open(path, &self.1)?;
        let mut left = filter.limit.unwrap_or(u64::MAX);
        let Some(first) = self.first(filter)? else {
            return Ok(());
        };
        let mut after = first - 1;
        while left > 0 {
            let page = reader.records(after, u64::MAX >> 1, PAGE, 1 << 20)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.position;
            let wanted = |record: &&std::sync::Arc<Record>| {
                filter.since.is_none_or(|since| record.received_at >= since)
            };
            for record in page.iter().filter(wanted) {
                if left == 0 || !take(record) {
                    return Ok(());
                }
                left -= 1;
            }
        }
        Ok(())
    }

    /// The first position of a filter.
    fn first(&self, filter: &RecordFilter) -> Result<Option<u64>, JournalError> {
        let sql = "SELECT position FROM records
            WHERE position >= :from AND (:since IS NULL OR received_at >= :since)
            ORDER BY position LIMIT 1";
        let named = named_params! {
            ":from": filter.from_position.unwrap_or(1).max(1),
            ":since": filter.since.map(|at| at.0),
        };
        let mut statement = self.0.prepare(sql)?;
        let mut rows = statement.query(named)?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }
}
