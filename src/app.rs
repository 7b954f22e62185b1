//! The life of the process: build, spawn, drain.
//!
//! Building binds and opens everything and starts nothing, so that a mistake shows before the feed
//! opens. Every task has its owner here; the end comes in the order of the flow.

mod build;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::admin::{Admin, Status};
use crate::capture;
use crate::deliver::Deliver;
use crate::feed::{Feed, Heard};
use crate::ingest::Ingest;
use crate::journal::{Handle, JournalError};
use crate::process;
use crate::reconcile::{Listed, Reconcile};
use crate::shutdown::{self, Stop};
use crate::sink::SinkError;

pub use build::privacy;

/// Why the process ends otherwise than well; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Something that the configuration names cannot be used: exit code 64.
    #[error("{0}")]
    Configuration(String),
    /// A service that is needed refuses for good: exit code 69.
    #[error("{0}")]
    Unavailable(String),
    /// The disk: exit code 74.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A defect of this program: exit code 70.
    #[error("a part of the bridge has ended unexpectedly: {0}; please report this")]
    Defect(String),
}

impl AppError {
    /// The documented exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Defect(_) => 70,
            Self::Journal(error) if error.is_configuration() => 64,
            Self::Journal(error) if error.is_defect() => 70,
            Self::Journal(_) => 74,
        }
    }
}

impl From<SinkError> for AppError {
    fn from(error: SinkError) -> Self {
        Self::Configuration(error.message)
    }
}

/// Everything built, nothing started.
#[derive(Debug)]
pub struct App {
    feed: Feed,
    heard: mpsc::Receiver<Heard>,
    reconcile: Reconcile,
    listed: mpsc::Receiver<Listed>,
    ingest: Ingest,
    delivers: Vec<Deliver>,
    last: watch::Sender<Option<u64>>,
    journal: Handle,
    writer: oneshot::Receiver<Result<(), JournalError>>,
    /// Held for as long as the process has the journal.
    lock: std::fs::File,
    admin: Admin,
    status: Arc<Status>,
    stopper: shutdown::Stopper,
    drain: std::time::Duration,
    capture: Option<capture::Writer>,
}

/// How a task ended.
enum Ended {
    Feed,
    Ingest(Result<(), JournalError>),
    Reconcile,
    Deliver(Result<(), JournalError>),
    Writer(Result<(), JournalError>),
    /// What ingest gave to the journal is durable, if it could be.
    Synced(Result<(), JournalError>),
}

impl App {
    /// Where the admin port listens.
    pub fn admin_address(&self) -> std::net::SocketAddr {
        self.admin.address()
    }

    /// What `/status` and `/metrics` show.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Writes down what the feed sends.
    #[must_use]
    pub fn with_capture(mut self, (tap, writer): (capture::Tap, capture::Writer)) -> Self {
        self.feed.capture = Some(tap);
        self.capture = Some(writer);
        self
    }

    /// Runs until `stop` asks for the end, or something fails that the process cannot survive.
    ///
    /// # Errors
    /// [`AppError`]; nothing that was committed to the journal is lost.
    pub async fn run(self, stop: Stop) -> Result<(), AppError> {
        // Nobody waits for these: a port that is read slowly, or a disk that hangs, must not hold up the end.
        let mut beside = JoinSet::new();
        beside.spawn(self.admin.serve(self.status));
        if let Some(capture) = self.capture {
            beside.spawn_blocking(|| capture.run());
        }
        let mut tasks = JoinSet::new();
        let delivering = self.delivers.len();
        for deliver in self.delivers {
            tasks.spawn(async { Ended::Deliver(deliver.run().await) });
        }
        let (ingest, heard, listed) = (self.ingest, self.heard, self.listed);
        tasks.spawn(async { Ended::Ingest(ingest.run(heard, listed).await) });
        let (reconcile, feed, writer) = (self.reconcile, self.feed, self.writer);
        tasks.spawn(async {
            reconcile.run().await;
            Ended::Reconcile
        });
        tasks.spawn(async {
            feed.run().await;
            Ended::Feed
        });
        tasks.spawn(async { Ended::Writer(writer.await.unwrap_or(Err(JournalError::Panicked))) });
        let mut running = Running {
            stopper: self.stopper,
            journal: self.journal,
            last: self.last,
            delivering,
            ingesting: true,
            failure: None,
        };
        let mut phase = Phase::Running;
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(ended) => {
                        // Aside, because a disk without room may let it wait.
                        if matches!(ended, Ok(Ended::Ingest(Ok(())))) {
                            let journal = running.journal.clone();
                            tasks.spawn(async move { Ended::Synced(journal.sync().await) });
                        }
                        running.ended(ended);
                    }
                    None => break,
                },
                () = stop.draining(), if matches!(phase, Phase::Running) => {
                    tracing::info!("ending: the feed is closed, the sinks take what is left");
                    running.stopper.drain();
                    phase = Phase::Draining(Instant::now() + self.drain);
                }
                () = stop.now(), if !matches!(phase, Phase::Ending) => {
                    running.now();
                    phase = Phase::Ending;
                }
                () = phase.deadline() => {
                    tracing::warn!("the time to drain is over; what is left stays in the journal");
                    running.now();
                    phase = Phase::Ending;
                }
            }
        }
        if let Some(AppError::Journal(error)) = &running.failure {
            error.note(&self.lock);
        }
        drop(self.lock);
        running.failure.map_or(Ok(()), Err)?;
        tracing::info!("ended");
        Ok(())
    }
}

/// How far the end has come.
enum Phase {
    Running,
    Draining(Instant),
    Ending,
}

impl Phase {
    /// Resolves when the time to drain is over.
    async fn deadline(&self) {
        match self {
            Self::Draining(deadline) => sleep_until(*deadline).await,
            Self::Running | Self::Ending => std::future::pending().await,
        }
    }
}

/// What the owner of the tasks keeps in mind.
struct Running {
    stopper: shutdown::Stopper,
    journal: Handle,
    last: watch::Sender<Option<u64>>,
    delivering: usize,
    ingesting: bool,
    failure: Option<AppError>,
}

impl Running {
    /// Asks everything to end at once; the journal waits for no room any more.
    fn now(&self) {
        // The journal first: what ingest lets go of then was not heard.
        self.journal.hurry();
        self.stopper.now();
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Err(panic) => {
                self.failure
                    .get_or_insert(AppError::Defect(process::end_of(&panic)));
                self.now();
            }
            Ok(Ended::Ingest(Ok(()))) => self.ingesting = false,
            Ok(Ended::Synced(synced)) => {
                // A writer that fails reports itself.
                if synced.is_ok() {
                    self.last.send_replace(Some(self.journal.committed()));
                }
            }
            Ok(Ended::Deliver(Ok(()))) => self.delivering -= 1,
            Ok(Ended::Writer(Ok(())) | Ended::Feed | Ended::Reconcile) => {}
            Ok(
                Ended::Ingest(Err(error)) | Ended::Deliver(Err(error)) | Ended::Writer(Err(error)),
            ) => {
                // "Closed" is only the echo of the writer's end, whose own error is the cause.
                if self.failure.is_none() || !matches!(error, JournalError::Closed) {
                    self.failure = Some(AppError::Journal(error));
                }
                self.now();
            }
        }
        if self.failure.is_some() || (self.delivering == 0 && !self.ingesting) {
            self.journal.close();
        }
    }
}
