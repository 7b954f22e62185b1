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

pub mod codec;
mod desk;
mod handle;
mod notices;
mod reader;
mod recent;
mod reseal;
mod salvage;
mod schema;
mod seal;
mod side;
mod snapshot;
mod states;
mod survey;
mod trouble;
mod users;
mod verify;
mod wipe;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::config::JournalConfig;
use crate::event::{EventType, Origin, Record, Timestamp};
use crate::metrics::{LOST_CORRUPT, Metrics};
use crate::state::{DigestKey, UserKey, UserState};

pub use desk::{Asked, Desk, Letter, LetterFilter, LetterSummary};
pub use handle::{Appender, Handle};
pub use notices::NOTICES_MAX;
pub use reader::{Reader, StoredLetter, Tail, UserRow, Window};
pub use side::{Beside, Replay};
pub use snapshot::Snapshot;
pub use survey::{Cursor, Letters, Place, RecordFilter, Stats, Windows};
pub use trouble::Blocked;
pub use users::Users;
pub use verify::{VerifiedCursor, VerifyReport, verify, verify_telling};

/// Bytes of events that may lie between the socket and the disk; the socket waits at the bound.
pub const IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;

/// Events that may wait for the writer; a bound beside [`IN_FLIGHT_BYTES`] for tiny ones.
const QUEUE: usize = 2048;

/// How long a command waits for the writer at the file.
const BUSY_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Dead letters that are kept; at the bound the oldest makes room.
pub const DEAD_LETTERS_MAX: u64 = 10_000;

/// Blind windows that are kept; at the bound the oldest makes room.
pub const WINDOWS_MAX: u64 = 10_000;

/// What is wrong with the journal. Each ends the process, with exit code 74 where nothing else is said.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file, or its folder, cannot be used.
    #[error("cannot open the journal {path}: {reason}", path = .path.display())]
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
    /// A command finds a file that a bridge of another version has written.
    #[error("the journal {path} has version {found} of the format, this program knows {known}; a bridge of this version brings an older one up to date when it starts", path = .path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The version of this program.
        known: usize,
    },
    /// The file of a key cannot be used. Exit code 64.
    #[error("cannot use `journal.{setting}` {file}: {reason}", file = .file.display())]
    KeyFile {
        /// The setting that names it.
        setting: &'static str,
        /// The file of the key.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file is sealed with a key that the configuration does not name. Exit code 64.
    #[error("the journal {path} is sealed with the key {id}, which came from a file {file:?}; the configuration has these keys: {have}; name the file of that key in `journal.encryption_key_file`, or in `journal.old_encryption_key_files` to seal the journal anew", path = .path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// The id of its key.
        id: String,
        /// The name that the file of the key had.
        file: String,
        /// The keys that there are, with the names of their files.
        have: String,
    },
    /// A statement failed: the disk is full, broken or gone, or the file is damaged.
    #[error("the journal failed: {0}; {advice}", advice = trouble::advice(.0))]
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

impl JournalError {
    /// Notes beside the journal what the next start must know of this error; `lock` is
    /// [`Journal::lock`].
    pub fn note(&self, lock: &File) {
        salvage::mark(lock, self);
    }

    /// Whether this program is to blame, and not the disk: exit code 70 instead of 74.
    pub const fn is_defect(&self) -> bool {
        match self {
            Self::Panicked => true,
            Self::Sql(error) => matches!(trouble::meaning(error), trouble::Reaction::Defect),
            Self::Open { .. }
            | Self::InUse { .. }
            | Self::Format { .. }
            | Self::OtherVersion { .. }
            | Self::KeyFile { .. }
            | Self::OtherKey { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the configuration is to blame: exit code 64.
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::KeyFile { .. } | Self::OtherKey { .. } => true,
            Self::Open { .. }
            | Self::InUse { .. }
            | Self::Format { .. }
            | Self::OtherVersion { .. }
            | Self::Sql(_)
            | Self::Panicked
            | Self::Closed => false,
        }
    }
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
    /// The record, if it had come so far: all that it takes to publish it again.
    pub record: Option<Arc<Record>>,
    /// Where there is no record: the shape of the frame, without any value of a person.
    pub shape: Option<Vec<u8>>,
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
    /// The open windows of one reason end here.
    End {
        /// The reason with which they were opened.
        reason: &'static str,
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
        /// The next commit is to note it, since nobody can be asked for what a kill leaves out.
        urgent: bool,
    },
    DeadLetter(Box<DeadLetter>, Option<oneshot::Sender<()>>),
    Window(WindowChange),
    FirstListDone,
    Side(side::Change),
    Sync(oneshot::Sender<()>),
    SyncEvents(oneshot::Sender<()>),
}

impl Control {
    /// Whether it holds whatever becomes of the events that were given before it, so that a journal that takes
    /// none need not keep it back. What says that a list is in the file has to wait for what the list told.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Advance { .. } | Self::DeadLetter(..) | Self::Side(_) | Self::Sync(_) => true,
            Self::Window(change) => !matches!(change, WindowChange::Heal { .. }),
            Self::FirstListDone | Self::SyncEvents(_) => false,
        }
    }
}

/// How far the end of the writer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    No,
    /// It no longer waits for room: without any, it fails.
    Hurry,
    /// It commits what it was given, and ends.
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

/// Reads the keys that the configuration names, and opens nothing.
///
/// # Errors
/// [`JournalError::KeyFile`].
pub fn try_keys(config: &JournalConfig) -> Result<(), JournalError> {
    seal::Keys::load(config).map(drop)
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
        let keys = seal::Keys::load(config)?;
        let lock = schema::lock(&config.path)?;
        // Damage that the check at the opening did not meet is saved from at the next start.
        let Ready {
            connection,
            seal,
            saved,
            found,
            position,
        } = ready(config, &lock, sinks, &keys, clock).inspect_err(|error| error.note(&lock))?;
        let (append, appends) = mpsc::channel(QUEUE);
        let (control, controls) = mpsc::channel(QUEUE);
        if let Some(saved) = saved {
            let lost = &metrics.loss.events_lost;
            lost.with_label_values(&[LOST_CORRUPT]).inc_by(saved.lost);
            // The first of an empty queue.
            let window = Control::Window(saved.window(clock()));
            control.try_send(window).unwrap_or_default();
        }
        let (committed_sender, committed) = watch::channel(position);
        let (beside_sender, beside) = watch::channel(Beside::default());
        let recent = Arc::new(recent::Recent::new(position));
        let (end, writer) = oneshot::channel();
        let (blocked_sender, blocked) = watch::channel(None);
        let (ending, ending_receiver) = watch::channel(Ending::No);
        let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
        let writer_thread = writer::Writer::new(
            connection,
            seal.clone(),
            config,
            sinks,
            metrics,
            clock,
            Arc::clone(&recent),
            committed_sender,
            beside_sender,
            blocked_sender,
            ending_receiver,
            Arc::clone(&room),
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
        Ok(Self {
            appender: Appender {
                append,
                position,
                room,
            },
            handle: Handle {
                control,
                committed,
                beside,
                recent,
                blocked,
                ending: Arc::new(ending),
                path: Arc::from(config.path.as_path()),
                seal,
            },
            found,
            writer,
            lock,
        })
    }
}

/// The file, ready to be written: sound, of this version, sealed as the configuration says.
struct Ready {
    connection: rusqlite::Connection,
    seal: seal::Seal,
    saved: Option<salvage::Saved>,
    found: Found,
    position: u64,
}

fn ready(
    config: &JournalConfig,
    lock: &File,
    sinks: &[&str],
    keys: &seal::Keys,
    clock: fn() -> Timestamp,
) -> Result<Ready, JournalError> {
    let path = config.path.as_path();
    let (file, saved) = salvage::open(path, lock, sinks, clock(), keys)?;
    let schema::Opened { connection, seal } = reseal::bring_to(path, file, keys.wanted())?;
    wipe::freed_pages(&connection)?;
    let late = states::catch_up(&connection, &seal)?;
    if late > 0 {
        tracing::debug!(users = late, "the table of users has caught up");
    }
    Ok(Ready {
        found: schema::found(&connection, &seal, path, sinks, clock())?,
        position: schema::last_position(&connection)?,
        connection,
        seal,
        saved,
    })
}

/// A record's type, as the file holds it.
fn event_type(text: &str) -> rusqlite::Result<EventType> {
    EventType::parse(text).ok_or_else(|| rusqlite::Error::InvalidColumnName("event_type".into()))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod side_tests;
#[cfg(test)]
mod rounds_tests;
#[cfg(test)]
mod states_tests;
#[cfg(test)]
mod verify_tests;
