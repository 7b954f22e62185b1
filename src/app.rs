//! The life of the process: build, spawn, drain.
//!
//! Building binds and opens everything and starts nothing, so that a mistake shows before the feed
//! opens. Every task has its owner here; the end comes in the order of the flow.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::admin::{Admin, Status};
use crate::config::{Config, SinkConfig};
use crate::deliver::{Deliver, SinkStatus, Start};
use crate::event::Timestamp;
use crate::feed::{self, Feed, Heard, budget::Budget};
use crate::ingest::Ingest;
use crate::journal::{Found, Handle, Journal, JournalError};
use crate::metrics::Metrics;
use crate::privacy::Privacy;
use crate::reconcile::{Asker, Listed, Reconcile};
use crate::shutdown::{self, Stop};
use crate::sink::{self, Sink, SinkError};

/// What may wait between the feed and ingest, and between the list and ingest.
const QUEUE: usize = 1024;

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
            Self::Defect(_) | Self::Journal(JournalError::Panicked) => 70,
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
}

/// How a task ended.
enum Ended {
    Feed,
    Ingest(Result<(), JournalError>),
    Reconcile,
    Deliver(Result<(), JournalError>),
    Writer(Result<(), JournalError>),
}

impl App {
    /// Binds the admin port, reads the secrets, opens the journal, makes the sinks.
    ///
    /// # Errors
    /// [`AppError`] with what is wrong and what to do.
    pub async fn build(config: &Config) -> Result<Self, AppError> {
        let clock = Timestamp::now;
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name()).collect();
        let metrics = Metrics::new(&names);
        let privacy = privacy(config)?;
        check_secrets(config)?;
        let sinks = config
            .sinks
            .iter()
            .map(sink::create)
            .collect::<Result<Vec<_>, _>>()?;
        let admin = bind(config).await?;
        let Journal {
            appender,
            handle,
            found,
            writer,
            lock,
        } = Journal::open(&config.journal, &names, &metrics, clock)?;
        let (stopper, stop) = shutdown::channel();
        let (last, last_receiver) = watch::channel(None);
        let parts = Parts {
            found: &found,
            journal: &handle,
            metrics: &metrics,
            stop: &stop,
            last: &last_receiver,
            clock,
        };
        let (delivers, statuses) = parts.delivers(&config.sinks, sinks);
        let Vendor {
            feed,
            heard,
            reconcile,
            listed,
        } = vendor(config, &metrics, appender.room(), &stop, clock);
        let (asker, budget) = (reconcile.asker.clone(), Arc::clone(&reconcile.budget));
        let how = &config.reconcile;
        let ingest = Ingest::new(
            appender, &handle, &found, how, privacy, asker, &metrics, stop, clock,
        )?;
        let status = Arc::new(Status::new(
            metrics,
            handle.clone(),
            statuses,
            budget,
            clock,
        ));
        Ok(Self {
            feed,
            heard,
            reconcile,
            listed,
            ingest,
            delivers,
            last,
            journal: handle,
            writer,
            lock,
            admin,
            status,
            stopper,
            drain: config.shutdown.drain.0,
        })
    }

    /// Where the admin port listens.
    pub fn admin_address(&self) -> std::net::SocketAddr {
        self.admin.address()
    }

    /// What `/status` and `/metrics` show.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Runs until `stop` asks for the end, or something fails that the process cannot survive.
    ///
    /// # Errors
    /// [`AppError`]; nothing that was committed to the journal is lost.
    pub async fn run(self, stop: Stop) -> Result<(), AppError> {
        let mut admin = JoinSet::new();
        admin.spawn(self.admin.serve(self.status));
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
                    Some(ended) => running.ended(ended).await,
                    None => break,
                },
                () = stop.draining(), if matches!(phase, Phase::Running) => {
                    tracing::info!("ending: the feed is closed, the sinks take what is left");
                    running.stopper.drain();
                    phase = Phase::Draining(Instant::now() + self.drain);
                }
                () = stop.now(), if !matches!(phase, Phase::Ending) => {
                    running.stopper.now();
                    phase = Phase::Ending;
                }
                () = phase.deadline() => {
                    tracing::warn!("the time to drain is over; what is left stays in the journal");
                    running.stopper.now();
                    phase = Phase::Ending;
                }
            }
        }
        drop(self.lock);
        running.failure.map_or(Ok(()), Err)?;
        tracing::info!("ended");
        Ok(())
    }
}

/// The two tasks that speak to the vendor, and the ends of their queues.
struct Vendor {
    feed: Feed,
    heard: mpsc::Receiver<Heard>,
    reconcile: Reconcile,
    listed: mpsc::Receiver<Listed>,
}

fn vendor(
    config: &Config,
    metrics: &Metrics,
    room: Arc<Semaphore>,
    stop: &Stop,
    clock: fn() -> Timestamp,
) -> Vendor {
    let (heard_sender, heard) = mpsc::channel(QUEUE);
    let (listed_sender, listed) = mpsc::channel(QUEUE);
    let budget = Budget::new(&config.feed.limits, metrics.feed.request_budget.clone());
    let feed = Feed {
        config: config.feed.clone(),
        budget: Arc::clone(&budget),
        metrics: metrics.feed.clone(),
        heard: heard_sender,
        room,
        stop: stop.clone(),
        clock,
    };
    let reconcile = Reconcile {
        config: config.reconcile.clone(),
        feed: config.feed.clone(),
        budget,
        asker: Asker::default(),
        listed: listed_sender,
        metrics: metrics.reconcile.clone(),
        stop: stop.clone(),
        clock,
    };
    Vendor {
        feed,
        heard,
        reconcile,
        listed,
    }
}

/// What every sink's task works with.
struct Parts<'a> {
    found: &'a Found,
    journal: &'a Handle,
    metrics: &'a Metrics,
    stop: &'a Stop,
    last: &'a watch::Receiver<Option<u64>>,
    clock: fn() -> Timestamp,
}

impl Parts<'_> {
    /// A task for each sink, from where its cursor stands.
    fn delivers(
        &self,
        configs: &[SinkConfig],
        sinks: Vec<Box<dyn Sink>>,
    ) -> (Vec<Deliver>, Vec<Arc<SinkStatus>>) {
        let start = |(index, config): (usize, &SinkConfig)| {
            let (cursor, clean) = self.found.cursors[index];
            let settle = config.settle();
            Start {
                index,
                cursor,
                clean,
                settle,
            }
        };
        let starts = configs.iter().enumerate().map(start);
        starts
            .zip(sinks)
            .map(|(start, sink)| self.deliver(start, sink))
            .unzip()
    }

    fn deliver(&self, start: Start, sink: Box<dyn Sink>) -> (Deliver, Arc<SinkStatus>) {
        let metrics = self.metrics.sinks[start.index].clone();
        let status = Arc::new(SinkStatus::new(&metrics.name, start.cursor));
        let (stop, last) = (self.stop.clone(), self.last.clone());
        let shown = Arc::clone(&status);
        let deliver = Deliver::new(
            start,
            sink,
            self.journal,
            metrics,
            shown,
            stop,
            last,
            self.clock,
        );
        (deliver, status)
    }
}

/// Reads every secret and certificate once, so that a mistake shows before the feed opens.
fn check_secrets(config: &Config) -> Result<(), AppError> {
    feed::api_key(&config.feed).map_err(|error| {
        AppError::Configuration(format!(
            "the API key: {error}; make it readable for this user"
        ))
    })?;
    feed::tls(config.feed.ca_file.as_deref())
        .map_err(|error| AppError::Configuration(format!("`feed`: {error}")))?;
    Ok(())
}

async fn bind(config: &Config) -> Result<Admin, AppError> {
    Admin::bind(config.admin.listen).await.map_err(|error| {
        AppError::Configuration(format!(
            "cannot listen on {}: {error}; set `admin.listen` to a free port of this machine",
            config.admin.listen
        ))
    })
}

/// Which end a task came to; never a panic's own words, which may hold a value.
fn task(error: &tokio::task::JoinError) -> String {
    let how = if error.is_panic() {
        "panicked"
    } else {
        "was cancelled"
    };
    format!("task {} {how}", error.id())
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
    async fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Err(panic) => {
                self.failure.get_or_insert(AppError::Defect(task(&panic)));
                self.stopper.now();
            }
            Ok(Ended::Ingest(Ok(()))) => {
                self.ingesting = false;
                // A writer that fails reports itself.
                if self.journal.sync().await.is_ok() {
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
                self.stopper.now();
            }
        }
        if self.failure.is_some() || (self.delivering == 0 && !self.ingesting) {
            self.journal.close().await;
        }
    }
}

/// The privacy policy with its key, if it needs one.
///
/// # Errors
/// [`AppError::Configuration`] when the key cannot be read or is too short.
pub fn privacy(config: &Config) -> Result<Privacy, AppError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            let path = path.display();
            AppError::Configuration(format!(
                "cannot read `privacy.hmac_key_file` {path}: {error}"
            ))
        })
    };
    let key = config
        .privacy
        .hmac_key_file
        .as_deref()
        .map(read)
        .transpose()?;
    Privacy::new(&config.privacy, key.as_deref())
        .map_err(|error| AppError::Configuration(error.to_string()))
}
