//! The one writer: commits whatever came in while the last commit ran, then says so.
//!
//! Cursors alone do not force a commit: they ride with the next events, or wait a moment. A cursor
//! that is behind after a crash costs a look at the destination, never an event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::recent::Recent;
use super::{
    Control, DEAD_LETTERS_MAX, DeadLetter, Entry, JournalError, WINDOWS_MAX, WindowChange,
};
use super::{codec, schema};
use crate::config::JournalConfig;
use crate::event::{Record, Timestamp};
use crate::metrics::Metrics;
use crate::state::UserKey;

/// Events in one commit at most.
pub(super) const COMMIT_RECORDS_MAX: usize = 2048;

/// A cursor is written at the latest after this time.
const CURSOR_DELAY: Duration = Duration::from_millis(100);

/// An idle writer notes this often that the process lives, and prunes.
const IDLE: Duration = Duration::from_secs(5);

/// A full journal looks this often whether there is room again.
const FULL_POLL: Duration = Duration::from_millis(100);

/// Records that are pruned beside each commit, besides twice as many as it wrote.
const PRUNE: usize = 500;

pub(super) struct Writer {
    connection: Connection,
    metrics: Metrics,
    clock: fn() -> Timestamp,
    capacity: u64,
    retention: Duration,
    commit_interval: Duration,
    recent: Arc<Recent>,
    committed: watch::Sender<u64>,
    sinks: Vec<String>,
    /// Each sink's position, and whether nothing beyond it has an unknown outcome.
    cursors: Vec<(u64, bool)>,
    /// Since when a cursor in memory differs from the file.
    cursors_dirty: Option<Instant>,
    full: bool,
    closing: bool,
}

/// What the writer has taken from its queues for the next commit.
#[derive(Default)]
struct Work {
    entries: Vec<Entry>,
    letters: Vec<DeadLetter>,
    windows: Vec<WindowChange>,
    waiting: Vec<oneshot::Sender<()>>,
    first_list_done: bool,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.letters.is_empty()
            && self.windows.is_empty()
            && self.waiting.is_empty()
            && !self.first_list_done
    }
}

impl Writer {
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a dependency that open() makes"
    )]
    pub(super) fn new(
        connection: Connection,
        config: &JournalConfig,
        sinks: &[&str],
        metrics: &Metrics,
        clock: fn() -> Timestamp,
        recent: Arc<Recent>,
        committed: watch::Sender<u64>,
    ) -> Result<Self, JournalError> {
        connection.set_prepared_statement_cache_capacity(32);
        let mut cursors = Vec::new();
        for sink in sinks {
            let sql = "SELECT position, clean FROM cursors WHERE sink = ?1";
            let cursor = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            cursors.push(connection.query_row(sql, [sink], cursor)?);
        }
        let capacity = config.max_bytes.0;
        metrics
            .journal
            .capacity
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let writer = Self {
            connection,
            metrics: metrics.clone(),
            clock,
            capacity,
            retention: config.retention.0,
            commit_interval: config.commit_interval.0,
            recent,
            committed,
            sinks: sinks.iter().map(|sink| (*sink).to_owned()).collect(),
            cursors,
            cursors_dirty: None,
            full: false,
            closing: false,
        };
        writer.measure()?;
        writer.measure_letters()?;
        Ok(writer)
    }

    /// Runs until both queues are closed and empty.
    pub(super) async fn run(
        mut self,
        mut appends: mpsc::Receiver<Entry>,
        mut controls: mpsc::Receiver<Control>,
    ) -> Result<(), JournalError> {
        let (mut work, mut asked) = (Work::default(), Vec::new());
        let (mut appends_open, mut controls_open) = (true, true);
        while appends_open || controls_open {
            let due = self.due();
            tokio::select! {
                biased;
                count = controls.recv_many(&mut asked, COMMIT_RECORDS_MAX), if controls_open => {
                    controls_open = count > 0;
                }
                count = appends.recv_many(&mut work.entries, COMMIT_RECORDS_MAX),
                    if appends_open && (!self.full || self.closing) =>
                {
                    appends_open = count > 0;
                }
                () = sleep_until(due) => {}
            }
            // What an asker gave to the queue of events before it asked is part of its commit.
            while !self.full && work.entries.len() < COMMIT_RECORDS_MAX {
                let Ok(entry) = appends.try_recv() else { break };
                work.entries.push(entry);
            }
            self.sort(asked.drain(..), &mut work);
            if self.closing {
                // Both still give what is in them.
                appends.close();
                controls.close();
            }
            let closing = !appends_open && !controls_open;
            if !work.is_empty() || Instant::now() >= due || closing {
                self.commit(&mut work)?;
                if !self.commit_interval.is_zero() {
                    tokio::time::sleep(self.commit_interval).await;
                }
            }
        }
        Ok(())
    }

    /// When a commit is due although no event asks for one.
    fn due(&self) -> Instant {
        match self.cursors_dirty {
            _ if self.full => Instant::now() + FULL_POLL,
            Some(since) => since + CURSOR_DELAY,
            None => Instant::now() + IDLE,
        }
    }

    fn sort(&mut self, asked: impl Iterator<Item = Control>, work: &mut Work) {
        for control in asked {
            match control {
                Control::Advance {
                    sink,
                    position,
                    clean,
                } => {
                    self.cursors[sink] = (position, clean);
                    self.cursors_dirty.get_or_insert_with(Instant::now);
                }
                Control::DeadLetter(letter, waiting) => {
                    work.letters.push(*letter);
                    work.waiting.extend(waiting);
                }
                Control::Window(change) => work.windows.push(change),
                Control::FirstListDone => work.first_list_done = true,
                Control::Sync(waiting) => work.waiting.push(waiting),
                Control::Close => self.closing = true,
            }
        }
    }

    fn commit(&mut self, work: &mut Work) -> Result<(), JournalError> {
        let started = Instant::now();
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.insert_entries(&work.entries)?;
        self.insert_letters(&work.letters)?;
        for change in &work.windows {
            self.change_window(change)?;
        }
        if work.first_list_done {
            schema::set_meta(&self.connection, "first_list_done", 1)?;
        }
        if self.cursors_dirty.take().is_some() {
            let sql = "INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3)";
            let mut statement = self.connection.prepare_cached(sql)?;
            for (sink, (position, clean)) in self.sinks.iter().zip(&self.cursors) {
                statement.execute((sink, position, clean))?;
            }
        }
        self.prune(work.entries.len())?;
        schema::set_meta(&self.connection, "last_written", (self.clock)().0)?;
        self.connection.execute_batch("COMMIT")?;
        let elapsed = started.elapsed().as_secs_f64();
        self.measure()?;
        let letters = !work.letters.is_empty();
        self.tell(work, elapsed);
        if letters {
            self.measure_letters()?;
        }
        let used = u64::try_from(self.metrics.journal.bytes.get()).unwrap_or_default();
        let full = used >= self.capacity;
        if full && !self.full {
            tracing::error!(
                bytes = used,
                capacity = self.capacity,
                "the journal is full: the feed is no longer read until the sinks have caught up; \
                 look at the sinks, or raise journal.max_bytes"
            );
        } else if self.full && !full {
            tracing::info!(
                bytes = used,
                "the journal has room again: the feed is read on"
            );
        }
        self.full = full;
        Ok(())
    }

    fn insert_entries(&self, entries: &[Entry]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut insert = self.connection.prepare_cached(sql)?;
        let mut states: HashMap<&UserKey, &Entry> = HashMap::new();
        for entry in entries {
            if let Some((record, _)) = &entry.record {
                insert.execute((
                    record.position,
                    record.received_at.0,
                    record.occurred_at.map(|at| at.0),
                    record.event_id.0,
                    record.event_type.as_str(),
                    &record.key,
                    &record.body,
                ))?;
            }
            states.insert(&entry.user, entry);
        }
        let sql = "INSERT OR REPLACE INTO users VALUES (?1, ?2, ?3)";
        let mut upsert = self.connection.prepare_cached(sql)?;
        for (user, entry) in states {
            upsert.execute((user, &entry.key, codec::encode(&entry.state)))?;
        }
        Ok(())
    }

    fn insert_letters(&self, letters: &[DeadLetter]) -> rusqlite::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO dead_letters (at, stage, reason, detail, position, event_id, body)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut insert = self.connection.prepare_cached(sql)?;
        for letter in letters {
            insert.execute((
                letter.at.0,
                &letter.stage,
                letter.reason,
                &letter.detail,
                letter.event.map(|(position, _)| position),
                letter.event.map(|(_, id)| id.0),
                &letter.body,
            ))?;
        }
        self.keep("dead_letters", DEAD_LETTERS_MAX)
    }

    fn change_window(&self, change: &WindowChange) -> rusqlite::Result<()> {
        match change {
            WindowChange::Open {
                from,
                to,
                reason,
                missing,
            } => {
                let sql = "INSERT INTO windows (opened, closed, reason, missing)
                    VALUES (?1, ?2, ?3, ?4)";
                let to = to.map(|to| to.0);
                self.connection
                    .prepare_cached(sql)?
                    .execute((from.0, to, reason, missing))?;
                self.keep("windows", WINDOWS_MAX)
            }
            WindowChange::Close { to } => {
                let sql = "UPDATE windows SET closed = ?1 WHERE closed IS NULL";
                self.connection
                    .prepare_cached(sql)?
                    .execute([to.0])
                    .map(drop)
            }
            WindowChange::Heal { asked, differences } => {
                let sql = "UPDATE windows SET healed = ?1, differences = ?2
                    WHERE healed IS NULL AND closed <= ?3";
                let now = (self.clock)().0;
                self.connection
                    .prepare_cached(sql)?
                    .execute((now, differences, asked.0))
                    .map(drop)
            }
        }
    }

    /// Keeps the newest rows of a table.
    fn keep(&self, table: &str, rows: u64) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?1");
        self.connection
            .prepare_cached(&sql)?
            .execute([rows])
            .map(drop)
    }

    /// Deletes records that every sink has, after the retention; without it when the file is full.
    fn prune(&self, written: usize) -> rusqlite::Result<()> {
        let delivered = self
            .cursors
            .iter()
            .map(|(position, _)| *position)
            .min()
            .unwrap_or_default();
        let before = if self.full {
            i64::MAX
        } else {
            (self.clock)().minus(self.retention).0
        };
        let sql = "DELETE FROM records WHERE received_at < ?3 AND position IN
            (SELECT position FROM records WHERE position <= ?1 ORDER BY position LIMIT ?2)";
        let limit = 2 * written + PRUNE;
        self.connection
            .prepare_cached(sql)?
            .execute((delivered, limit, before))
            .map(drop)
    }

    fn measure_letters(&self) -> rusqlite::Result<()> {
        let sql = "SELECT count(*) FROM dead_letters";
        let letters = self.connection.query_row(sql, [], |row| row.get(0))?;
        self.metrics.loss.dead_letters.set(letters);
        Ok(())
    }

    fn measure(&self) -> rusqlite::Result<()> {
        let sql = "SELECT
            (SELECT coalesce(max(position) - min(position) + 1, 0) FROM records),
            ((SELECT * FROM pragma_page_count) - (SELECT * FROM pragma_freelist_count))
                * (SELECT * FROM pragma_page_size)";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (records, bytes) = self.connection.prepare_cached(sql)?.query_row([], row)?;
        self.metrics.journal.records.set(records);
        self.metrics.journal.bytes.set(bytes);
        Ok(())
    }

    /// Tells everybody what is durable now; only here does an event count as heard.
    fn tell(&self, work: &mut Work, elapsed: f64) {
        let mut committed: Vec<Arc<Record>> = Vec::with_capacity(work.entries.len());
        for entry in work.entries.drain(..) {
            if let Some((record, origin)) = entry.record {
                let labels = [record.event_type.as_str(), origin.as_str()];
                self.metrics
                    .normalise
                    .events
                    .with_label_values(&labels)
                    .inc();
                committed.push(record);
            }
        }
        for letter in work.letters.drain(..) {
            self.metrics
                .loss
                .dead_letters_total
                .with_label_values(&[letter.reason])
                .inc();
        }
        work.windows.clear();
        work.first_list_done = false;
        self.metrics.journal.commit_duration.observe(elapsed);
        if let Some(position) = committed.last().map(|record| record.position) {
            #[allow(clippy::cast_precision_loss, reason = "a commit holds few records")]
            self.metrics
                .journal
                .commit_records
                .observe(committed.len() as f64);
            self.recent.push(committed.into_iter());
            self.committed.send_replace(position);
        }
        for waiting in work.waiting.drain(..) {
            // Whoever asked may have given up meanwhile.
            waiting.send(()).unwrap_or_default();
        }
    }
}
