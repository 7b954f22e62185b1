//! What was spent of the vendor's limits, in a small file beside the journal: a process that is started
//! again and again, and a `check` beside a running bridge, spend from one share.
//!
//! It holds moments, nothing of the feed. It is written without fsync: what it must outlive is the end of
//! the process, and a machine that lost its power is away for longer than the minute that it remembers.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When what was done, in nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spending {
    /// One moment a request, none twice.
    pub spent: BTreeSet<i64>,
    /// The vendor refused: until then there is silence.
    pub blocked_until: Option<i64>,
    /// For how long, in nanoseconds: a clock that is set back makes it no longer.
    #[serde(default)]
    pub blocked_for: i64,
    /// When a connection was dropped last before the upgrade was answered.
    #[serde(default)]
    pub dropped_at: Option<i64>,
    /// When an upgrade was answered last.
    #[serde(default)]
    pub answered_at: Option<i64>,
}

impl Spending {
    /// Takes up what another process has written.
    pub(super) fn merge(&mut self, other: Self) {
        self.spent.extend(other.spent);
        self.blocked_until = self.blocked_until.max(other.blocked_until);
        self.blocked_for = self.blocked_for.max(other.blocked_for);
        self.dropped_at = self.dropped_at.max(other.dropped_at);
        self.answered_at = self.answered_at.max(other.answered_at);
    }

    /// There is silence for so long from now, or for as long as there is already.
    pub(super) fn block(&mut self, now: i64, span: i64) {
        let until = now.saturating_add(span);
        self.blocked_until = self.blocked_until.max(Some(until));
        self.blocked_for = self.blocked_for.max(span);
    }
}

/// A page is held for microseconds; more than this is a process that was stopped in the middle.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// It could not be used, and that was said.
    failing: AtomicBool,
}

impl Ledger {
    /// The ledger of the bridge with this journal.
    pub fn beside(journal: &Path) -> Self {
        let mut name = journal.as_os_str().to_owned();
        name.push(".budget");
        Self {
            path: name.into(),
            failing: AtomicBool::new(false),
        }
    }

    /// The file, which no other process has until it is dropped.
    ///
    /// # Errors
    /// When it cannot be opened, or is held for longer than any process needs it.
    pub(super) fn open(&self) -> io::Result<Page> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        crate::private::keep(&file, &self.path)?;
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Page(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other("another process holds it"))
    }

    /// It was read and written.
    pub(super) fn works(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// It could not be used; that is said once, until it works again. The bridge goes on: it hears the
    /// feed on a disk that is full, too.
    pub(super) fn fails(&self, error: &io::Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "the file that remembers the vendor's budget cannot be used: a restart, or a check \
                 beside the bridge, could spend it twice"
            );
        }
    }
}

/// The locked file.
#[derive(Debug)]
pub(super) struct Page(File);

impl Page {
    /// What it says; `None` for what cannot be understood, as a process that died while it wrote may
    /// leave it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(&mut self) -> io::Result<Option<Spending>> {
        let mut text = Vec::new();
        self.0.read_to_end(&mut text)?;
        if text.is_empty() {
            return Ok(Some(Spending::default()));
        }
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Writes it anew. Where that fails it is emptied: half a text would count as a share that was spent
    /// a moment ago, every time that it is read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&mut self, spending: &Spending) -> io::Result<()> {
        let text = serde_json::to_vec(spending)?;
        self.0.rewind()?;
        let written = self.0.write_all(&text);
        let length = written.as_ref().map_or(0, |()| text.len() as u64);
        let cut = self.0.set_len(length);
        written.and(cut)
    }
}
