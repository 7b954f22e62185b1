//! What the rest of the process holds of the journal: ingest its appender, everybody else a handle.
//!
//! It only asks the writer, and never touches the file, except through a reader of its own.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{
    Beside, Blocked, Control, DeadLetter, Ending, Entry, JournalError, Reader, Tail, WindowChange,
    recent, seal::Seal,
};

/// Appends events; there is one, so that positions have one source.
#[derive(Debug)]
pub struct Appender {
    pub(super) append: mpsc::Sender<Entry>,
    pub(super) position: u64,
    pub(super) room: Arc<Semaphore>,
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

    /// Waits for a place in the queue to the writer, for one entry.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn place(&self) -> Result<mpsc::OwnedPermit<Entry>, JournalError> {
        let place = self.append.clone().reserve_owned().await;
        place.map_err(|_| JournalError::Closed)
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
    pub(super) control: mpsc::Sender<Control>,
    pub(super) committed: watch::Receiver<u64>,
    pub(super) beside: watch::Receiver<Beside>,
    pub(super) recent: Arc<recent::Recent>,
    pub(super) blocked: watch::Receiver<Option<Blocked>>,
    pub(super) ending: Arc<watch::Sender<Ending>>,
    pub(super) path: Arc<Path>,
    pub(super) seal: Seal,
}

impl Handle {
    /// The position up to which everything is durable.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// As [`Self::committed`], and when that changes.
    pub fn committing(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Why the journal takes no events at this moment, and when that changes.
    pub fn blocked(&self) -> watch::Receiver<Option<Blocked>> {
        self.blocked.clone()
    }

    /// A reader that follows the journal for one sink.
    pub fn tail(&self) -> Tail {
        Tail::new(
            self.committed.clone(),
            Arc::clone(&self.recent),
            Arc::clone(&self.path),
            self.seal.clone(),
        )
    }

    /// A connection that only reads.
    ///
    /// # Errors
    /// [`JournalError::Sql`] when the file cannot be opened.
    pub fn reader(&self) -> Result<Reader, JournalError> {
        Reader::open(&self.path, &self.seal)
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
            urgent: false,
        })
        .await
    }

    /// Moves the cursor of a sink that cannot be asked what it holds, and is still under way: no commit leaves
    /// that to a later one, since after a kill the records in between would come again.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn advance_urgently(&self, sink: usize, position: u64) -> Result<(), JournalError> {
        self.send(Control::Advance {
            sink,
            position,
            clean: false,
            urgent: true,
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

    /// Resolves when everything that was given to the writer before is durable; but a journal that is full
    /// does not wait for the events that it has no room for, since who asks is perhaps to make it.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn sync(&self) -> Result<(), JournalError> {
        let (done, wait) = oneshot::channel();
        self.send(Control::Sync(done)).await?;
        wait.await.map_err(|_| JournalError::Closed)
    }

    /// Gives what resolves when the events that were given to the writer before are durable, all of them and
    /// however long there is no room.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn sync_events(&self) -> Result<oneshot::Receiver<()>, JournalError> {
        let (done, wait) = oneshot::channel();
        self.send(Control::SyncEvents(done)).await?;
        Ok(wait)
    }

    /// From now on the writer waits for no room: what it cannot commit ends it with an error.
    pub fn hurry(&self) {
        self.end(Ending::Hurry);
    }

    /// Ends the writer after it has committed what it was given; its outcome is
    /// [`Journal::writer`](super::Journal::writer).
    pub fn close(&self) {
        self.end(Ending::Close);
    }

    fn end(&self, how: Ending) {
        self.ending.send_modify(|ending| {
            if *ending != Ending::Close {
                *ending = how;
            }
        });
    }

    pub(super) async fn send(&self, control: Control) -> Result<(), JournalError> {
        self.control
            .send(control)
            .await
            .map_err(|_| JournalError::Closed)
    }
}
