//! Which records may go: those that every sink has had for the retention, or, in a crowded file, has.
//!
//! The retention counts from when every sink had a record, not from when it was heard: a mark says
//! that at this time every sink had everything up to this position. A record that a configured sink
//! lacks is never pruned, whatever the clock says: one that is set back keeps records longer, one
//! that is set forward ends the retention early, and neither touches what is undelivered.

use std::time::Duration;

use rusqlite::OptionalExtension;

use super::Writer;
use crate::event::Timestamp;
use crate::journal::wipe;

/// Above this share of its limit the journal keeps no record that every sink has.
const CROWDED_PERCENT: u64 = 80;

/// Records that are pruned beside each commit, besides twice as many as it wrote.
const PRUNE: usize = 500;

/// Marks that span one retention.
const MARKS: u32 = 256;

/// Marks are at least so far apart.
const MARK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The newest mark, and what the marks allow to go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    newest: Option<(Timestamp, u64)>,
    /// Every sink has had everything up to here for the retention.
    expired: u64,
}

impl Writer {
    /// The marks as the file holds them.
    pub(super) fn load_marks(&mut self) -> rusqlite::Result<()> {
        let sql = "SELECT at, position FROM marks ORDER BY at DESC LIMIT 1";
        let mark = |row: &rusqlite::Row<'_>| Ok((Timestamp(row.get(0)?), row.get(1)?));
        self.marks.newest = self.connection.query_row(sql, [], mark).optional()?;
        Ok(())
    }

    /// The position up to which every sink has everything, and is to keep it.
    pub(super) fn delivered(&self) -> rusqlite::Result<u64> {
        let rewinds = self.side.rewinds(&self.connection)?;
        let positions = self.cursors.iter().zip(rewinds).map(|(cursor, rewind)| {
            // One that is to go back needs its records.
            rewind.unwrap_or(cursor.0).min(cursor.0)
        });
        Ok(positions.min().unwrap_or_default())
    }

    /// Notes how far every sink is, now and then. The marks hold only once this is committed.
    pub(super) fn mark(&self, delivered: u64) -> rusqlite::Result<Marks> {
        let now = (self.clock)();
        let interval = (self.retention / MARKS).max(MARK_INTERVAL_MIN);
        let mut marks = self.marks;
        if self.retention.is_zero() {
            marks.expired = delivered;
            return Ok(marks);
        }
        let due = match marks.newest {
            None => delivered > 0,
            // A mark of the future: the clock was set back.
            Some((at, _)) if at > now => true,
            Some((at, position)) => delivered > position && at <= now.minus(interval),
        };
        if due {
            let set = |sql: &str, values: &[i64]| {
                let mut statement = self.connection.prepare_cached(sql)?;
                statement.execute(rusqlite::params_from_iter(values))
            };
            let position = i64::try_from(delivered).unwrap_or(i64::MAX);
            set("DELETE FROM marks WHERE at > ?1", &[now.0])?;
            set(
                "INSERT OR REPLACE INTO marks VALUES (?1, ?2)",
                &[now.0, position],
            )?;
            marks.newest = Some((now, delivered));
        }
        let expired = now.minus(self.retention).0;
        let sql = "SELECT at, position FROM marks WHERE at <= ?1 ORDER BY at DESC LIMIT 1";
        let mark = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([expired], mark).optional()?;
        if let Some((at, position)) = found {
            marks.expired = position;
            if due {
                let sql = "DELETE FROM marks WHERE at < ?1";
                self.connection.prepare_cached(sql)?.execute([at])?;
            }
        }
        Ok(marks)
    }

    /// Whether the file nears its limit.
    pub(super) fn is_crowded_file(&self) -> bool {
        self.used() > self.capacity / 100 * CROWDED_PERCENT
    }

    /// Deletes some of the records that may go, and says how many; `written` is how many were added since it
    /// was last asked.
    pub(super) fn prune(
        &self,
        marks: &Marks,
        delivered: u64,
        written: usize,
    ) -> rusqlite::Result<usize> {
        // What every sink has makes room long before the feed would have to wait for it.
        let (to, at_once) = if self.is_crowded_file() {
            (delivered, 4 * PRUNE)
        } else {
            (delivered.min(marks.expired), PRUNE)
        };
        let sql = "DELETE FROM records WHERE position IN
            (SELECT position FROM records WHERE position <= ?1 ORDER BY position LIMIT ?2)";
        let mut delete = self.connection.prepare_cached(sql)?;
        if self.log.excess() == 0 {
            return delete.execute((to, 2 * written + at_once));
        }
        // A reader keeps the log from being begun anew: overwritten pages would only make it longer.
        // The next start overwrites them.
        wipe::is_due(&self.connection)?;
        self.connection
            .pragma_update(None, "secure_delete", "FAST")?;
        let deleted = delete.execute((to, 2 * written + at_once));
        self.connection.pragma_update(None, "secure_delete", "ON")?;
        deleted
    }
}
