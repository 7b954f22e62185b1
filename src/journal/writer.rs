//! The one writer: commits whatever came in while the last commit ran, then says so.
//!
//! Cursors alone do not force a commit: they ride with the next events, or wait a moment. A cursor
//! that is behind after a crash costs a look at the destination, or, where that cannot be asked, some
//! records again; never an event.

mod behind;
mod blocked;
mod prune;
mod round;
mod rows;
mod wal;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::notices::Notices;
use super::recent::Recent;
use super::schema;
use super::seal::Seal;
use super::side::{self, Beside, Side};
use super::trouble::{self, Blocked, Reaction};
use super::{Control, DeadLetter, Ending, Entry, JournalError, QUEUE, WindowChange};
use crate::config::JournalConfig;
use crate::event::{Record, Timestamp};
use crate::failpoint::{self, Point};
use crate::metrics::Metrics;
use round::{CURSOR_DELAY, CURSOR_DELAY_URGENT};

/// Events in one commit at most.
pub(super) const COMMIT_RECORDS_MAX: usize = 2048;

/// After a commit of so many events more are coming: the next one waits a little for them, since many
/// small commits cost more than few large ones.
const CROWDED: usize = 48;

/// So long.
const GATHER: Duration = Duration::from_millis(2);

/// An idle writer notes this often that the process lives, and prunes.
const IDLE: Duration = Duration::from_secs(5);

/// A full journal looks this often whether there is room again.
const FULL_POLL: Duration = Duration::from_millis(100);

/// A disk without room, or a lock that another process holds, is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// How many records there are. One question for each end: SQLite answers one for both by reading the whole
/// table.
pub(super) const RECORDS: &str = "SELECT
    coalesce((SELECT max(position) FROM records) - (SELECT min(position) FROM records) + 1, 0)";

pub(super) struct Writer {
    connection: Connection,
    seal: Seal,
    path: PathBuf,
    metrics: Metrics,
    clock: fn() -> Timestamp,
    capacity: u64,
    retention: Duration,
    commit_interval: Duration,
    recent: Arc<Recent>,
    committed: watch::Sender<u64>,
    /// Less than all of it while something that was heard waits to be committed.
    room: Arc<Semaphore>,
    sinks: Vec<String>,
    /// Each sink's position, and whether nothing beyond it has an unknown outcome.
    cursors: Vec<(u64, bool)>,
    /// Since when a cursor in memory differs from the file.
    cursors_dirty: Option<Instant>,
    /// One of those is of a destination that cannot be asked: it rides with the very next events.
    cursors_urgent: bool,
    rounds: round::Rounds,
    side: Side,
    marks: prune::Marks,
    behind: behind::Behind,
    log: wal::Log,
    /// When the log was last to be begun anew.
    restarted: Instant,
    /// What was deleted and is still in the log.
    remains: wal::Remains,
    /// Why no events are taken.
    blocked: Option<Blocked>,
    blocked_sender: watch::Sender<Option<Blocked>>,
    /// It was said that this full journal will not get room by itself.
    hopeless: bool,
    /// When a commit was last tried.
    tried: Instant,
    ending: watch::Receiver<Ending>,
}

/// What the writer has taken from its queues for the next commit.
#[derive(Default)]
struct Work {
    entries: Vec<Entry>,
    letters: Vec<DeadLetter>,
    windows: Vec<WindowChange>,
    side: Vec<side::Change>,
    waiting: Vec<oneshot::Sender<()>>,
    first_list_done: bool,
    /// The table of users is to have every state.
    settle: bool,
}

/// What a commit has changed, for what the writer holds in memory.
struct Committed {
    marks: prune::Marks,
    notices: Notices,
    states: behind::Done,
    pruned: usize,
    measured: Measured,
}

/// The file, in numbers.
struct Measured {
    records: i64,
    pages: i64,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.letters.is_empty()
            && self.windows.is_empty()
            && self.side.is_empty()
            && self.waiting.is_empty()
            && !self.first_list_done
    }

    /// Without a bound of its own: while nothing can be committed, no more is taken than this, what is
    /// held back included.
    fn is_bulky(&self, held: usize) -> bool {
        let asked = held + self.letters.len() + self.windows.len() + self.side.len();
        asked + self.waiting.len() >= QUEUE
    }
}

impl Writer {
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a dependency that open() makes"
    )]
    pub(super) fn new(
        connection: Connection,
        seal: Seal,
        config: &JournalConfig,
        sinks: &[&str],
        metrics: &Metrics,
        clock: fn() -> Timestamp,
        recent: Arc<Recent>,
        committed: watch::Sender<u64>,
        beside: watch::Sender<Beside>,
        blocked_sender: watch::Sender<Option<Blocked>>,
        ending: watch::Receiver<Ending>,
        room: Arc<Semaphore>,
    ) -> Result<Self, JournalError> {
        connection.set_prepared_statement_cache_capacity(64);
        let last = schema::last_position(&connection)?;
        let log = wal::set_up(&connection)?;
        let mut cursors = Vec::new();
        for sink in sinks {
            let sql = "SELECT position, clean FROM cursors WHERE sink = ?1";
            let cursor = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            cursors.push(connection.query_row(sql, [sink], cursor)?);
        }
        let side = Side::new(&connection, &seal, sinks, beside)?;
        let capacity = config.max_bytes.0;
        metrics
            .journal
            .capacity
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let mut writer = Self {
            connection,
            seal,
            path: config.path.clone(),
            metrics: metrics.clone(),
            clock,
            capacity,
            retention: config.retention.0,
            commit_interval: config.commit_interval.0,
            recent,
            committed,
            room,
            sinks: sinks.iter().map(|sink| (*sink).to_owned()).collect(),
            cursors,
            cursors_dirty: None,
            cursors_urgent: false,
            rounds: round::Rounds::default(),
            side,
            marks: prune::Marks::default(),
            behind: behind::Behind::new(last),
            log,
            restarted: Instant::now(),
            remains: wal::Remains::default(),
            blocked: None,
            blocked_sender,
            hopeless: false,
            tried: Instant::now(),
            ending,
        };
        writer.load_marks()?;
        let measured = writer.measure()?;
        writer.show(&measured);
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
        let (mut ending, mut ending_open) = (self.ending.clone(), true);
        // Events that were given before what was asked last, and that no commit has taken yet.
        let mut behind = 0_usize;
        while appends_open || controls_open {
            let (due, closing) = (self.due(), self.is_closing());
            let takes = self.blocked.is_none() || closing;
            let asks = match takes {
                true => asked.is_empty(),
                // A full journal gets room by cursors.
                false => self.blocked == Some(Blocked::Full) || !work.is_bulky(asked.len()),
            };
            let (had, held) = (work.entries.len(), asked.len());
            tokio::select! {
                biased;
                changed = ending.changed(), if ending_open => ending_open = changed.is_ok(),
                count = controls.recv_many(&mut asked, COMMIT_RECORDS_MAX),
                    if controls_open && asks =>
                {
                    controls_open = count > 0;
                }
                count = appends.recv_many(&mut work.entries, COMMIT_RECORDS_MAX),
                    if appends_open && takes =>
                {
                    appends_open = count > 0;
                }
                () = sleep_until(due.min(self.side.due())) => {}
            }
            if self.side.look(&self.connection)? {
                self.measure_letters()?;
                self.remains.foreign();
            }
            while self.blocked.is_none() && work.entries.len() < COMMIT_RECORDS_MAX {
                let Ok(entry) = appends.try_recv() else { break };
                work.entries.push(entry);
            }
            // What an asker gave to the queue of events before it asked is durable before the answer.
            behind = match asked.len() > held {
                true => appends.len(),
                false => behind.saturating_sub(work.entries.len() - had),
            };
            let blocked = self.blocked.is_some();
            let is_due = |control: &mut Control| behind == 0 || (blocked && control.may_pass());
            self.sort(asked.extract_if(.., is_due), &mut work);
            if self.is_closing() {
                // Both still give what is in them.
                appends.close();
                controls.close();
            }
            let last = !appends_open && !controls_open;
            if self.is_time(&work, due) || last {
                let crowded = work.entries.len() >= CROWDED;
                self.commit(&mut work)?;
                let pause = match self.commit_interval.is_zero() && crowded {
                    true => GATHER,
                    false => self.commit_interval,
                };
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        Ok(())
    }

    /// When a commit is due although no event asks for one. Counted from what is past, so that what
    /// comes in meanwhile puts nothing off.
    fn due(&self) -> Instant {
        match (self.blocked, self.cursors_dirty) {
            (Some(Blocked::Full), _) => self.tried + FULL_POLL,
            (Some(Blocked::DiskFull | Blocked::Locked), _) => self.tried + RETRY,
            (None, Some(since)) if self.cursors_urgent => since + CURSOR_DELAY_URGENT,
            (None, Some(since)) => since + CURSOR_DELAY,
            (None, None) if !self.behind.is_empty() => self.tried + CURSOR_DELAY,
            (None, None) => self.tried + IDLE,
        }
    }

    /// Whether to commit now. Where the disk has no room, each try waits its turn.
    fn is_time(&self, work: &Work, due: Instant) -> bool {
        let stuck = matches!(self.blocked, Some(Blocked::DiskFull | Blocked::Locked));
        let hurries = *self.ending.borrow() != Ending::No;
        Instant::now() >= due || (!work.is_empty() && (!stuck || hurries))
    }

    fn is_closing(&self) -> bool {
        *self.ending.borrow() == Ending::Close
    }

    fn sort(&mut self, asked: impl Iterator<Item = Control>, work: &mut Work) {
        for control in asked {
            match control {
                Control::Advance {
                    sink,
                    position,
                    clean,
                    urgent,
                } => {
                    self.cursors[sink] = (position, clean);
                    self.cursors_urgent |= urgent;
                    self.cursors_dirty.get_or_insert_with(Instant::now);
                }
                Control::DeadLetter(letter, waiting) => {
                    work.letters.push(*letter);
                    work.waiting.extend(waiting);
                }
                Control::Window(change) => work.windows.push(change),
                Control::FirstListDone => work.first_list_done = true,
                Control::Side(change) => {
                    if let side::Change::Rewind { sink, position, .. } = &change {
                        self.cursors[*sink] = (*position, false);
                        self.cursors_dirty.get_or_insert_with(Instant::now);
                    }
                    work.side.push(change);
                }
                Control::Sync(waiting) | Control::SyncEvents(waiting) => {
                    work.settle = true;
                    work.waiting.push(waiting);
                }
            }
        }
    }

    /// Commits the work and tells of it; keeps it where there is no room.
    fn commit(&mut self, work: &mut Work) -> Result<(), JournalError> {
        let started = Instant::now();
        self.tried = started;
        let rounds = self.rounds(work, started);
        let measured = match self.transaction(work, rounds) {
            Ok(committed) => {
                self.marks = committed.marks;
                self.side.keep(committed.notices);
                // What replaces a state, too, leaves the old one behind.
                let replaces = !work.is_empty() || committed.states.has_written();
                self.remains.commit(committed.pruned > 0 || replaces);
                self.behind.keep(committed.states);
                committed.measured
            }
            Err(error) => return self.not_committed(error),
        };
        self.rounds.committed(work, rounds.then_some(started));
        if rounds {
            self.cursors_dirty = None;
            self.cursors_urgent = false;
        }
        let elapsed = started.elapsed().as_secs_f64();
        self.show(&measured);
        let quiet = work.letters.is_empty() && work.side.is_empty() && work.windows.is_empty();
        self.tell(work, elapsed);
        if !quiet {
            self.measure_letters()?;
        }
        // What is committed is safe in the log, also where the file itself cannot grow.
        if rounds && let Err(error) = self.checkpoint() {
            return self.not_committed(error);
        }
        let full = self.used() >= self.capacity;
        self.block(full.then_some(Blocked::Full));
        Ok(())
    }

    /// The whole work in one transaction, or nothing of it.
    fn transaction(&self, work: &Work, rounds: bool) -> rusqlite::Result<Committed> {
        let (mut notices, plan) = (self.side.notices(), self.plan(work));
        self.execute("BEGIN IMMEDIATE")?;
        self.insert_records(&work.entries, plan.leaves)?;
        let states = self.write_states(&work.entries, &plan)?;
        self.insert_letters(&work.letters, &mut notices)?;
        for change in &work.windows {
            self.change_window(change, &mut notices)?;
        }
        self.side
            .apply(&self.connection, &work.side, &mut notices)?;
        if work.first_list_done {
            schema::set_meta(&self.connection, "first_list_done", 1)?;
        }
        let moves_cursor = rounds && self.cursors_dirty.is_some();
        let (marks, pruned) = match rounds {
            true => self.round(work, &states)?,
            false => (self.marks, 0),
        };
        if self.is_closing() {
            schema::set_meta(&self.connection, "closed", 1)?;
        }
        let measured = self.measure()?;
        let adds = !work.entries.is_empty();
        reach_if(adds, Point::Committing);
        reach_if(moves_cursor, Point::MovingCursor);
        self.execute("COMMIT")?;
        reach_if(adds, Point::Committed);
        reach_if(moves_cursor, Point::MovedCursor);
        Ok(Committed {
            marks,
            notices,
            states,
            pruned,
            measured,
        })
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Waits where that helps and nobody is in a hurry; else the process ends.
    fn not_committed(&mut self, error: rusqlite::Error) -> Result<(), JournalError> {
        let Reaction::Wait(blocked) = trouble::reaction(&error, &self.path) else {
            return Err(error.into());
        };
        if *self.ending.borrow() != Ending::No {
            return Err(error.into());
        }
        if !self.connection.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        tracing::debug!(%error, "a commit is tried again");
        self.block(Some(blocked));
        Ok(())
    }

    fn measure_letters(&self) -> rusqlite::Result<()> {
        let sql = "SELECT count(*) FROM dead_letters";
        let letters = self.connection.query_row(sql, [], |row| row.get(0))?;
        self.metrics.loss.dead_letters.set(letters);
        Ok(())
    }

    /// By statements that are prepared once: the same as tables of a query would be parsed each time.
    fn measure(&self) -> rusqlite::Result<Measured> {
        let number = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([], |row| row.get::<_, i64>(0))
        };
        Ok(Measured {
            records: number(RECORDS)?,
            pages: number("PRAGMA page_count")? - number("PRAGMA freelist_count")?,
        })
    }

    fn show(&self, measured: &Measured) {
        self.metrics.journal.records.set(measured.records);
        let bytes = measured.pages * self.log.page_bytes();
        let excess = i64::try_from(self.log.excess()).unwrap_or(i64::MAX);
        self.metrics.journal.bytes.set(bytes + excess);
    }

    /// Tells everybody what is durable now; only here does an event count as heard.
    fn tell(&self, work: &mut Work, elapsed: f64) {
        let mut committed: Vec<Arc<Record>> = Vec::with_capacity(work.entries.len());
        let mut counts = HashMap::new();
        for entry in work.entries.drain(..) {
            if let Some((record, origin)) = entry.record {
                *counts.entry((record.event_type, origin)).or_insert(0) += 1;
                committed.push(record);
            }
        }
        for ((event_type, origin), count) in counts {
            let labels = [event_type.as_str(), origin.as_str()];
            let events = self.metrics.normalise.events.with_label_values(&labels);
            events.inc_by(count);
        }
        for letter in work.letters.drain(..) {
            self.metrics
                .loss
                .dead_letters_total
                .with_label_values(&[letter.reason])
                .inc();
        }
        work.windows.clear();
        work.side.clear();
        work.first_list_done = false;
        work.settle = false;
        self.side.tell();
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

fn reach_if(here: bool, point: Point) {
    if here {
        failpoint::reach(point);
    }
}
