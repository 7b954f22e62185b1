//! The journal: what makes an event durable before it counts as heard.
//!
//! One SQLite file (WAL, `synchronous=FULL`), one writer thread, group commit of whatever came in
//! while the last commit ran. It holds the records, the cursor of each sink, what is known of each
//! user (keyed digests, no personal data in clear), blind windows and dead letters.
//!
//! ```text
//!   ingest ── append ──▶ ┌────────┐ commit ┌──────┐        ┌─ recent records in memory ─┐
//!                        │ writer │ ═════▶ │ file │ ─read─▶│                            ├─▶ deliver
//!   deliver ─ advance ─▶ └────────┘        └──────┘        └─ older ones from the file ─┘
//! ```
//!
//! The writer never waits for a reader. It never retries a write or an fsync that failed: after
//! that nothing is known of the disk, so the process ends (exit code 74).

mod codec;
mod reader;
mod recent;
mod schema;
mod users;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::config::JournalConfig;
use crate::event::{EventId, EventType, Origin, Record, Timestamp};
use crate::metrics::Metrics;
use crate::state::{DigestKey, UserKey, UserState};

pub use reader::{Reader, StoredLetter, Tail, Window};
pub use users::Users;

/// Bytes of events that may lie between the socket and the disk; the socket waits at the bound.
pub const IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;

/// Events that may wait for the writer; a bound beside [`IN_FLIGHT_BYTES`] for tiny ones.
const QUEUE: usize = 4096;

/// Dead letters that are kept; at the bound the oldest makes room.
pub const DEAD_LETTERS_MAX: u64 = 10_000;

/// Blind windows that are kept; at the bound the oldest makes room.
pub const WINDOWS_MAX: u64 = 10_000;

/// What is wrong with the journal. Each ends the process: exit code 74.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file, or its folder, cannot be used.
    #[error("cannot open the journal {path}: {reason}; give `journal.path` a folder that this user may write", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Another process has it.
    #[error("the journal {path} is in use by another process; stop that one, or give each its own `journal.path`", path = .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is no journal of this program, or of a later version of it.
    #[error("the journal {path} cannot be read: {reason}; move it away to start with an empty one", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A statement failed: the disk is full, broken or gone.
    #[error(
        "the journal failed: {0}; nothing that was committed is lost; mend the disk and start again"
    )]
    Sql(#[from] rusqlite::Error),
    /// A defect of this program.
    #[error(
        "the journal's writer has panicked; nothing that was committed is lost; please report this"
    )]
    Panicked,
    /// The writer has ended before; its own error says why.
    #[error("the journal's writer has ended")]
    Closed,
}

/// An event to commit, and the user's state after it.
#[derive(Debug)]
pub struct Entry {
    /// The record; `None` where only the state is taken over (`first_start: adopt`).
    pub record: Option<(Arc<Record>, Origin)>,
    /// Whose state.
    pub user: UserKey,
    /// The key of this user's records, by which a later removal is published.
    pub key: String,
    /// The state, its position set.
    pub state: UserState,
    /// Room taken in the way from the socket to the disk; free again after the commit.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Something that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// When.
    pub at: Timestamp,
    /// `normalise`, or the name of the sink that refused it.
    pub stage: String,
    /// A value of the label `reason`.
    pub reason: &'static str,
    /// What the stage says of it; never a value of a field.
    pub detail: String,
    /// The record, if it had come so far.
    pub event: Option<(u64, EventId)>,
    /// Its content, redacted by the privacy policy.
    pub body: Option<Vec<u8>>,
}

/// A span in which the feed was not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowChange {
    /// It begins, or for a gap: it is known from here to there.
    Open {
        /// From when.
        from: Timestamp,
        /// Until when, if it is over.
        to: Option<Timestamp>,
        /// Why: a reason to lose the connection, `start` or `gap`.
        reason: &'static str,
        /// Messages known to be missing.
        missing: u64,
    },
    /// The feed is heard again: all open windows end here.
    Close {
        /// Until when.
        to: Timestamp,
    },
    /// A list that was asked for at this time healed every window that had ended before.
    Heal {
        /// When the list was asked for.
        asked: Timestamp,
        /// How many events only the list told of.
        differences: u64,
    },
}

/// What the writer is asked beside appending.
#[derive(Debug)]
enum Control {
    Advance {
        sink: usize,
        position: u64,
        clean: bool,
    },
    DeadLetter(Box<DeadLetter>, Option<oneshot::Sender<()>>),
    Window(WindowChange),
    FirstListDone,
    Sync(oneshot::Sender<()>),
    Close,
}

/// The open journal. [`Handle::close`] ends the writer, which commits what it was given before; so
/// does dropping the [`Appender`] and every [`Handle`].
#[derive(Debug)]
pub struct Journal {
    /// For ingest, and only for it: events.
    pub appender: Appender,
    /// For everybody: cursors, dead letters, windows.
    pub handle: Handle,
    /// What was found when it was opened.
    pub found: Found,
    /// Ends with the writer's outcome.
    pub writer: oneshot::Receiver<Result<(), JournalError>>,
    /// Keeps other processes from this journal for as long as it lives.
    pub lock: File,
}

/// What the file held when it was opened.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key of all digests in this journal.
    pub digest_key: DigestKey,
    /// Whether a first list was ever compared.
    pub first_list_done: bool,
    /// When the journal was last written to; `None` for a new one.
    pub last_written: Option<Timestamp>,
    /// For each configured sink, in order: its position, and whether it had ended cleanly.
    pub cursors: Vec<(u64, bool)>,
}

impl Journal {
    /// Opens or creates the file, and starts the writer thread.
    ///
    /// # Errors
    /// [`JournalError`] when the file is in use, is no journal, or cannot be written.
    pub fn open(
        config: &JournalConfig,
        sinks: &[&str],
        metrics: &Metrics,
        clock: fn() -> Timestamp,
    ) -> Result<Self, JournalError> {
        let lock = schema::lock(&config.path)?;
        let connection = schema::open(&config.path)?;
        let found = schema::found(&connection, &config.path, sinks, clock())?;
        let position = schema::last_position(&connection)?;
        let (append, appends) = mpsc::channel(QUEUE);
        let (control, controls) = mpsc::channel(QUEUE);
        let (committed_sender, committed) = watch::channel(position);
        let recent = Arc::new(recent::Recent::new(position));
        let (end, writer) = oneshot::channel();
        let writer_thread = writer::Writer::new(
            connection,
            config,
            sinks,
            metrics,
            clock,
            Arc::clone(&recent),
            committed_sender,
        )?;
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let outcome = runtime.block_on(writer_thread.run(appends, controls));
                // The receiver is gone only when the process is ending anyway.
                drop(end.send(outcome));
            })
            .map_err(|error| JournalError::Open {
                path: config.path.clone(),
                reason: error.to_string(),
            })?;
        let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
        Ok(Self {
            appender: Appender {
                append,
                position,
                room,
            },
            handle: Handle {
                control,
                committed,
                recent,
                path: Arc::from(config.path.as_path()),
            },
            found,
            writer,
            lock,
        })
    }
}

/// Appends events; there is one, so that positions have one source.
#[derive(Debug)]
pub struct Appender {
    append: mpsc::Sender<Entry>,
    position: u64,
    room: Arc<Semaphore>,
}

impl Appender {
    /// The position of the last record that was given to the writer.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next position.
    pub const fn next_position(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// The room between socket and disk, shared with the feed.
    pub fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Gives an entry to the writer; waits while the queue is full.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn append(&self, entry: Entry) -> Result<(), JournalError> {
        self.append
            .send(entry)
            .await
            .map_err(|_| JournalError::Closed)
    }
}

/// Everything about the journal but appending; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    control: mpsc::Sender<Control>,
    committed: watch::Receiver<u64>,
    recent: Arc<recent::Recent>,
    path: Arc<Path>,
}

impl Handle {
    /// The position up to which everything is durable.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// A reader that follows the journal for one sink.
    pub fn tail(&self) -> Tail {
        Tail::new(
            self.committed.clone(),
            Arc::clone(&self.recent),
            Arc::clone(&self.path),
        )
    }

    /// A connection that only reads.
    ///
    /// # Errors
    /// [`JournalError::Sql`] when the file cannot be opened.
    pub fn reader(&self) -> Result<Reader, JournalError> {
        Reader::open(&self.path)
    }

    /// Moves a sink's cursor; `clean` when nothing beyond it has an unknown outcome.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn advance(
        &self,
        sink: usize,
        position: u64,
        clean: bool,
    ) -> Result<(), JournalError> {
        self.send(Control::Advance {
            sink,
            position,
            clean,
        })
        .await
    }

    /// Sets something aside; resolves when it is durable, so that a cursor may move past it.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn dead_letter_durably(&self, letter: DeadLetter) -> Result<(), JournalError> {
        let (done, wait) = oneshot::channel();
        self.send(Control::DeadLetter(Box::new(letter), Some(done)))
            .await?;
        wait.await.map_err(|_| JournalError::Closed)
    }

    /// Sets a frame aside.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn dead_letter(&self, letter: DeadLetter) -> Result<(), JournalError> {
        self.send(Control::DeadLetter(Box::new(letter), None)).await
    }

    /// Notes a blind window.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn window(&self, change: WindowChange) -> Result<(), JournalError> {
        self.send(Control::Window(change)).await
    }

    /// Notes that a first list was compared.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn first_list_done(&self) -> Result<(), JournalError> {
        self.send(Control::FirstListDone).await
    }

    /// Resolves when everything that was given to the writer before is durable.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn sync(&self) -> Result<(), JournalError> {
        let (done, wait) = oneshot::channel();
        self.send(Control::Sync(done)).await?;
        wait.await.map_err(|_| JournalError::Closed)
    }

    /// Ends the writer after it has committed what it was given; its outcome is
    /// [`Journal::writer`].
    pub async fn close(&self) {
        // A writer that has ended already needs no end.
        self.send(Control::Close).await.unwrap_or_default();
    }

    async fn send(&self, control: Control) -> Result<(), JournalError> {
        self.control
            .send(control)
            .await
            .map_err(|_| JournalError::Closed)
    }
}

/// A record's type, as the file holds it.
fn event_type(text: &str) -> rusqlite::Result<EventType> {
    EventType::parse(text).ok_or_else(|| rusqlite::Error::InvalidColumnName("event_type".into()))
}

#[cfg(test)]
mod tests;
