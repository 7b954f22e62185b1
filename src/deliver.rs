//! Delivers the journal to one sink: in order, once, for as long as it takes.
//!
//! ```text
//!   open ─▶ settle ─▶ held ─▶ ┌─ next batch ─▶ publish ─▶ advance ─┐
//!     ▲    (after an unclean  └────────────────────────────────────┘
//!     │     end or error)            │ error: what its class says
//!     └──────── wait ◀───────────────┘  record → dead letter and on
//! ```
//!
//! All cleverness about sinks is here, once. The cursor moves only past what the destination has
//! acknowledged, or what is a durable dead letter. A sink that fails halts or tries again by itself;
//! neither the feed nor another sink waits for it.

mod batch;
mod gather;
#[cfg(test)]
mod model;
mod notices;
mod rotation;
mod side;
mod status;
mod twins;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;
use crate::config::SinkConfig;
use crate::event::{EventId, Timestamp};
use crate::journal::{Handle, JournalError, Tail};
use crate::metrics::{SinkMetrics, SinkState};
use crate::shutdown::Stop;
use crate::sink::{ErrorClass, Sink, SinkError};
use twins::Twins;

pub use status::{SinkReport, SinkStatus};

/// A sink that does not answer to `open` for so long is tried anew.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

/// A sink gets so long to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How much at a time, and how long to wait after a failure.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Records in one batch at most.
    pub batch_records: usize,
    /// First and longest bound of the wait after something that may pass.
    pub retry: (Duration, Duration),
    /// An operator's mending is noticed at the latest after this time.
    pub halted: Duration,
    /// The files of a sink's secrets are looked at so often.
    pub secrets: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch_records: 2048,
            retry: (Duration::from_millis(250), Duration::from_secs(10)),
            halted: Duration::from_secs(10),
            secrets: Duration::from_secs(10),
        }
    }
}

/// Where a sink stands at the start.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Which of the configured sinks it is.
    pub index: usize,
    /// Everything up to here is delivered.
    pub cursor: u64,
    /// Nothing beyond the cursor has an unknown outcome.
    pub clean: bool,
    /// How long the network gets to settle where something has.
    pub settle: Duration,
    /// How much at a time, and how patiently.
    pub pace: Pace,
}

/// One sink with its cursor.
pub struct Deliver {
    start: Start,
    sink: Box<dyn Sink>,
    journal: Handle,
    tail: Tail,
    metrics: SinkMetrics,
    status: Arc<SinkStatus>,
    stop: Stop,
    /// Says up to where to deliver before ending, once that is known.
    last: watch::Receiver<Option<u64>>,
    clock: fn() -> Timestamp,
    /// Everything up to here is delivered.
    cursor: u64,
    /// Nothing that was handed over beyond the cursor has an unknown outcome, except what `held`
    /// names.
    settled: bool,
    /// Ids that the destination said it holds.
    held: HashSet<EventId>,
    /// Records of the last batch.
    taken: usize,
    /// Positions beyond the cursor that this process has settled: acknowledged, or dead letters.
    done: BTreeSet<u64>,
    side: side::Side,
    herald: Option<notices::Herald>,
    rotation: rotation::Rotation,
    /// Nothing beyond this position was ever handed over, by this process or one before it.
    handed: u64,
    twins: Twins,
    /// Whether this process has watched for late twins before.
    watched: bool,
}

impl std::fmt::Debug for Deliver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliver")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// Why delivering paused.
enum Pause {
    /// Everything up to the last position is delivered.
    Done,
    /// We are to end at once.
    Now,
    /// The sink failed.
    Sink(SinkError),
    /// The journal failed: so does everything.
    Journal(JournalError),
}

impl From<JournalError> for Pause {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<SinkError> for Pause {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl Deliver {
    /// A sink that has not been opened.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a dependency that the app makes"
    )]
    pub fn new(
        start: Start,
        sink: Box<dyn Sink>,
        journal: &Handle,
        metrics: SinkMetrics,
        status: Arc<SinkStatus>,
        stop: Stop,
        last: watch::Receiver<Option<u64>>,
        clock: fn() -> Timestamp,
    ) -> Self {
        // What a process before this one may have handed over is in the journal by now.
        let handed = match start.clean {
            true => start.cursor,
            false => journal.committed(),
        };
        Self {
            start,
            sink,
            journal: journal.clone(),
            tail: journal.tail(),
            twins: Twins::new(metrics.clone(), Arc::clone(&status), journal.clone(), clock),
            handed,
            watched: false,
            metrics,
            status,
            stop,
            last,
            clock,
            cursor: start.cursor,
            settled: start.clean,
            held: HashSet::new(),
            taken: 0,
            done: BTreeSet::new(),
            side: side::Side::new(journal),
            herald: None,
            rotation: rotation::Rotation::none(),
        }
    }

    /// Takes up the sink's secrets when their files change.
    #[must_use]
    pub fn with_rotation(mut self, config: &SinkConfig) -> Self {
        self.rotation = rotation::Rotation::of(config, self.start.pace.secrets);
        self
    }

    /// Tells the sink's side channel too what the journal has to tell.
    #[must_use]
    pub fn with_notices(mut self, config: &SinkConfig) -> Self {
        let (index, metrics) = (self.start.index, self.metrics.clone());
        let status = Arc::clone(&self.status);
        self.herald = Some(notices::Herald::new(
            index,
            config,
            &self.journal,
            metrics,
            status,
        ));
        self
    }

    /// Delivers until everything is delivered after the end was announced, or until it must end.
    ///
    /// # Errors
    /// [`JournalError`]: the process cannot go on.
    pub async fn run(mut self) -> Result<(), JournalError> {
        let Some(herald) = self.herald.take() else {
            return Box::pin(self.deliver()).await;
        };
        let (over, end) = oneshot::channel();
        let stop = self.stop.clone();
        let delivering = async {
            let delivered = self.deliver().await;
            drop(over);
            delivered
        };
        let telling = async {
            tokio::select! {
                told = herald.run(end) => told,
                () = stop.now() => Ok(()),
            }
        };
        // Large, and there is one a sink.
        tokio::try_join!(Box::pin(delivering), Box::pin(telling)).map(drop)
    }

    async fn deliver(mut self) -> Result<(), JournalError> {
        let mut backoff = Backoff::new(self.start.pace.retry.0, self.start.pace.retry.1);
        loop {
            let before = self.cursor;
            let error = match self.session().await {
                Pause::Done | Pause::Now => return self.end().await,
                Pause::Journal(error) => return Err(error),
                Pause::Sink(error) => error,
            };
            self.side.failed();
            if self.cursor > before {
                backoff.reset();
            }
            let wait = self.failed(&error, &mut backoff);
            if self.told_to_end(wait, error.class).await {
                return self.end().await;
            }
        }
    }

    /// Waits; true when the end came first.
    async fn told_to_end(&mut self, wait: Duration, class: ErrorClass) -> bool {
        // A halted sink does not hold up the end: what it lacks stays in the journal.
        let halted = class == ErrorClass::Configuration;
        tokio::select! {
            () = sleep(wait) => false,
            // An operator asks for something: perhaps what is wrong was mended.
            () = self.side.asked() => false,
            // Perhaps it was for want of these.
            () = self.rotation.due() => false,
            () = self.stop.now() => true,
            _ = self.last.wait_for(Option::is_some), if halted => true,
        }
    }

    /// From opening to the first failure.
    async fn session(&mut self) -> Pause {
        let stop = self.stop.clone();
        let work = async {
            self.open().await?;
            loop {
                self.next().await?;
            }
        };
        let outcome: Result<std::convert::Infallible, Pause> = tokio::select! {
            outcome = work => outcome,
            () = stop.now() => return Pause::Now,
        };
        let Err(pause) = outcome;
        pause
    }

    async fn open(&mut self) -> Result<(), Pause> {
        self.metrics.state(SinkState::Opening);
        self.status.state(SinkState::Opening);
        self.rewound_before().await?;
        // A cursor is set back also where the destination is away: that is when it is asked for.
        self.rewind().await?;
        self.note_secrets().await;
        let opened = timeout(OPEN_TIMEOUT, self.sink.open()).await;
        let destination = opened.map_err(|_| no_answer("open"))??;
        // From here on a crash may leave something under way: that must be durable first.
        self.journal
            .advance(self.start.index, self.cursor, false)
            .await?;
        self.journal.sync().await?;
        self.side.can_tell_what_it_holds = destination.can_tell_what_it_holds;
        for warning in &destination.warnings {
            tracing::warn!(sink = self.metrics.name, "{warning}");
        }
        if !self.settled {
            self.ask_what_is_held(destination.can_tell_what_it_holds)
                .await?;
        }
        tracing::info!(
            sink = self.metrics.name,
            behind = self.tail.committed().saturating_sub(self.cursor),
            "opened {}",
            destination.description
        );
        self.metrics.state(SinkState::Delivering);
        self.metrics.last_success.set((self.clock)().as_seconds());
        self.status.opened(&destination);
        Ok(())
    }

    /// After an unclean end: lets the network settle, and asks the destination.
    async fn ask_what_is_held(&mut self, can_tell: bool) -> Result<(), Pause> {
        if let Some(since) = self.tail.earliest_after(self.cursor).await? {
            if can_tell {
                sleep(self.start.settle).await;
                // As long as it takes: each sink gives up when its reading stands still.
                self.held.extend(self.sink.held(since).await?);
                self.watch_for_twins().await?;
            } else {
                tracing::warn!(
                    sink = self.metrics.name,
                    "the destination cannot tell what it holds: events of unknown outcome are \
                     published again, at least once instead of once"
                );
            }
        }
        self.settled = true;
        Ok(())
    }

    /// Reads along for a while: what a dead connection had handed to the network may arrive after
    /// `held` looked. After the end of a process that includes what is before the cursor, because an
    /// earlier process may have ended as well.
    async fn watch_for_twins(&mut self) -> Result<(), JournalError> {
        let first = !std::mem::replace(&mut self.watched, true) && !self.start.clean;
        let to = self.handed.min(self.cursor + twins::SUSPECTS_BEYOND);
        let mut suspects = self.tail.ids(self.cursor, to).await?;
        let earliest = |all: &[(EventId, Timestamp)]| all.iter().map(|(_, at)| *at).min();
        let Some(mut since) = earliest(&suspects) else {
            return Ok(());
        };
        if first {
            let after = self.cursor.saturating_sub(twins::SUSPECTS_BEFORE);
            let mut before = self.tail.ids(after, self.cursor).await?;
            let oldest = since.minus(twins::LATE_WATCH);
            before.retain(|(_, at)| *at >= oldest);
            since = earliest(&before).map_or(since, |earliest| earliest.min(since));
            suspects.extend(before);
        }
        let ids = suspects.into_iter().map(|(id, _)| id);
        self.twins.watch(&*self.sink, since, ids);
        Ok(())
    }

    /// Says what failed, and how long to wait.
    fn failed(&self, error: &SinkError, backoff: &mut Backoff) -> Duration {
        self.metrics.error(error.class);
        self.metrics.restarts.inc();
        let (state, wait) = match error.class {
            ErrorClass::Configuration => (SinkState::Halted, self.start.pace.halted),
            ErrorClass::Transient | ErrorClass::Fatal | ErrorClass::Record => {
                (SinkState::Retrying, backoff.next(&mut rand::rng()))
            }
        };
        self.metrics.state(state);
        self.status.failed(state, &error.message);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (sink, class) = (&self.metrics.name, error.class.as_str());
        if state == SinkState::Halted {
            tracing::error!(
                sink,
                class,
                reason = error.message,
                wait_ms,
                "the sink is halted until this is mended; events are kept in the journal"
            );
        } else {
            tracing::warn!(
                sink,
                class,
                reason = error.message,
                wait_ms,
                "the sink is away; events are kept in the journal"
            );
        }
        wait
    }

    /// Closes the sink, and notes whether something is left of unknown outcome.
    async fn end(mut self) -> Result<(), JournalError> {
        match timeout(CLOSE_TIMEOUT, self.sink.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(sink = self.metrics.name, %error, "the sink did not close")
            }
            Err(_) => tracing::warn!(sink = self.metrics.name, "the sink did not close in time"),
        }
        let caught_up = self.tail.committed() <= self.cursor;
        let clean = self.settled && (caught_up || self.held.is_empty()) && self.done.is_empty();
        self.journal
            .advance(self.start.index, self.cursor, clean)
            .await?;
        self.metrics.state(SinkState::Stopped);
        self.status.state(SinkState::Stopped);
        let behind = self.tail.committed().saturating_sub(self.cursor);
        tracing::info!(sink = self.metrics.name, behind, "the sink is closed");
        Ok(())
    }
}

fn no_answer(what: &str) -> SinkError {
    let waited = OPEN_TIMEOUT.as_secs();
    SinkError::new(
        ErrorClass::Transient,
        format!("no answer to {what} within {waited} s"),
    )
}
