//! The write-ahead log beside the file: moved into the file by the writer itself, so that an error in
//! it is seen, and kept short although readers come and go.
//!
//! A checkpoint waits for no reader; only when the log has outgrown its bound, or holds what was deleted
//! from the file, the writer waits a moment for those that still read from it.

use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::Writer;
use crate::journal::schema::PAGE_BYTES;

/// Pages in the log that are not in the file yet, after which they are moved.
const CHECKPOINT_PAGES: i64 = 4 * 1024 * 1024 / PAGE_BYTES;

/// The log is cut back to this when it is written anew.
const WAL_BYTES: i64 = 32 * 1024 * 1024;

/// Pages in the log after which the writer waits for its readers, to begin it anew.
const RESTART_PAGES: i64 = WAL_BYTES / PAGE_BYTES;

/// It does so at most this often.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// How long it waits for them.
const READERS_WAIT: Duration = Duration::from_millis(200);

/// Moves nothing, and only says how long the log is.
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";

/// How long a write waits for another process that holds the lock.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// What was deleted stays in the log for so long at most, and for a moment once there is nothing to do.
const REMAINS_MAX: Duration = Duration::from_secs(60);

/// Whether the log holds what was deleted from the file: records, old states, dead letters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remains {
    since: Option<Instant>,
    /// The last commit had nothing to write: there is time.
    idle: bool,
}

impl Remains {
    /// A commit is done.
    pub(super) fn commit(&mut self, deleted: bool) {
        self.idle = !deleted;
        if deleted {
            self.foreign();
        }
    }

    /// Something was deleted, perhaps by another process.
    pub(super) fn foreign(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn are_due(&self) -> bool {
        let due = |since: Instant| self.idle || since.elapsed() >= REMAINS_MAX;
        self.since.is_some_and(due)
    }
}

/// How long the log was when it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pages: i64,
    page_bytes: i64,
}

impl Log {
    /// Of a page of this file.
    pub(super) const fn page_bytes(&self) -> i64 {
        self.page_bytes
    }

    /// Bytes of the log beyond its bound: a reader that stays makes it grow, and then it counts.
    pub(super) fn excess(&self) -> u64 {
        let bytes = self.pages * self.page_bytes - 2 * WAL_BYTES;
        u64::try_from(bytes).unwrap_or_default()
    }
}

/// Sets a writer's connection up.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<Log> {
    connection.busy_timeout(BUSY_WAIT)?;
    // The writer does it itself: SQLite's own would pass its errors over in silence.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    let (pages, _) = run_checkpoint(connection, LOOK)?;
    let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(Log { pages, page_bytes })
}

/// Pages in the log, and how many of them are in the file.
fn run_checkpoint(connection: &Connection, checkpoint: &str) -> rusqlite::Result<(i64, i64)> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?));
    connection.prepare_cached(checkpoint)?.query_row([], row)
}

impl Writer {
    /// Moves the log into the file where there is enough of it.
    pub(super) fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let (mut log, moved) = run_checkpoint(&self.connection, LOOK)?;
        self.log.pages = log;
        if log - moved >= CHECKPOINT_PAGES {
            (log, _) = run_checkpoint(&self.connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        let is_long = log >= RESTART_PAGES;
        if !(is_long || self.remains.are_due()) || self.restarted.elapsed() < RESTART_INTERVAL {
            return Ok(());
        }
        self.restarted = Instant::now();
        self.connection.busy_timeout(READERS_WAIT)?;
        let restarted = run_checkpoint(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)");
        self.connection.busy_timeout(BUSY_WAIT)?;
        // A reader that stays longer is met again.
        let (log, _) = restarted?;
        self.log.pages = log;
        if log == 0 {
            self.remains = Remains::default();
        }
        Ok(())
    }
}
