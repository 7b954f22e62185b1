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

mod status;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::event::{EventId, Record, Timestamp};
use crate::journal::{DeadLetter, Handle, JournalError, Tail};
use crate::metrics::{REASON_SINK, SinkMetrics, SinkState};
use crate::shutdown::Stop;
use crate::sink::{ErrorClass, PublishError, Sink, SinkError};

pub use status::{SinkReport, SinkStatus};

/// Records in one batch at most, and their bytes.
const BATCH_RECORDS: usize = 2048;
const BATCH_BYTES: usize = 1024 * 1024;

/// First and longest bound of the wait after something that may pass.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// An operator's mending is noticed at the latest after this time.
const HALTED_WAIT: Duration = Duration::from_secs(10);

/// A sink that does not answer to `open` or `held` for so long is tried anew.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

/// A batch without an acknowledgement for so long is worth a word.
const STALLED: Duration = Duration::from_secs(10);

/// A sink gets so long to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Ids beyond the cursor that are known to be at the destination.
    held: HashSet<EventId>,
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
        Self {
            start,
            sink,
            journal: journal.clone(),
            tail: journal.tail(),
            metrics,
            status,
            stop,
            last,
            clock,
            cursor: start.cursor,
            settled: start.clean,
            held: HashSet::new(),
        }
    }

    /// Delivers until everything is delivered after the end was announced, or until it must end.
    ///
    /// # Errors
    /// [`JournalError`]: the process cannot go on.
    pub async fn run(mut self) -> Result<(), JournalError> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let before = self.cursor;
            let error = match self.session().await {
                Pause::Done | Pause::Now => return self.end().await,
                Pause::Journal(error) => return Err(error),
                Pause::Sink(error) => error,
            };
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
        let opened = timeout(OPEN_TIMEOUT, self.sink.open()).await;
        let destination = opened.map_err(|_| no_answer("open"))??;
        // From here on a crash may leave something under way: that must be durable first.
        self.journal
            .advance(self.start.index, self.cursor, false)
            .await?;
        self.journal.sync().await?;
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
                let held = timeout(OPEN_TIMEOUT, self.sink.held(since)).await;
                self.held.extend(held.map_err(|_| no_answer("held"))??);
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

    async fn next(&mut self) -> Result<(), Pause> {
        if self.last.borrow().is_some_and(|last| self.cursor >= last) {
            return Err(Pause::Done);
        }
        if self.tail.committed() <= self.cursor {
            // Nothing is beyond the cursor, so nothing there is of interest any more.
            self.held.clear();
        }
        let batch = tokio::select! {
            batch = self.tail.after(self.cursor, BATCH_RECORDS, BATCH_BYTES) => batch?,
            changed = self.last.changed() => {
                return if changed.is_ok() { Ok(()) } else { Err(Pause::Now) };
            }
        };
        let Some(end) = batch.last().map(|record| record.position) else {
            return Ok(());
        };
        let missing: Vec<Arc<Record>> = batch
            .into_iter()
            .filter(|record| !self.skip(record))
            .collect();
        let started = Instant::now();
        self.settled = false;
        let outcome = if missing.is_empty() {
            Ok(())
        } else {
            self.publish(&missing).await
        };
        self.metrics
            .publish_duration
            .observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(()) => {
                self.acknowledged(missing.iter());
                self.settled = true;
                self.advance(end).await?;
                Ok(())
            }
            Err(error) => self.partly(&missing, end, error).await,
        }
    }

    /// Publishes, for as long as it takes; says so when it takes long.
    async fn publish(&mut self, batch: &[Arc<Record>]) -> Result<(), PublishError> {
        let mut publishing = self.sink.publish(batch);
        if let Ok(outcome) = timeout(STALLED, &mut publishing).await {
            return outcome;
        }
        let message = "no acknowledgement for some time; the destination may be away";
        tracing::warn!(
            sink = self.metrics.name,
            "{message}; events are kept in the journal"
        );
        self.metrics.state(SinkState::Retrying);
        self.status.failed(SinkState::Retrying, message);
        let outcome = publishing.await;
        if outcome.is_ok() {
            tracing::info!(
                sink = self.metrics.name,
                "the destination acknowledges again"
            );
            self.metrics.state(SinkState::Delivering);
            self.status.recovered();
        }
        outcome
    }

    /// Whether the destination already has this record.
    fn skip(&mut self, record: &Record) -> bool {
        let held = self.held.remove(&record.event_id);
        if held {
            self.metrics.skipped_held.inc();
        }
        held
    }

    /// Some records were not acknowledged: sorts them by what is to be done.
    async fn partly(
        &mut self,
        batch: &[Arc<Record>],
        end: u64,
        error: PublishError,
    ) -> Result<(), Pause> {
        let mut failed: Vec<Option<SinkError>> = vec![None; batch.len()];
        for (index, error) in error.failed {
            failed[index] = Some(error);
        }
        let acknowledged = batch
            .iter()
            .zip(&failed)
            .filter(|(_, error)| error.is_none());
        self.acknowledged(acknowledged.map(|(record, _)| record));
        let mut first: Option<(u64, SinkError)> = None;
        for (record, error) in batch.iter().zip(failed) {
            match error {
                Some(error) if error.class == ErrorClass::Record => {
                    self.dead_letter(record, &error).await?;
                    self.held.insert(record.event_id);
                }
                Some(error) => {
                    first.get_or_insert((record.position, error));
                }
                None => {
                    self.held.insert(record.event_id);
                }
            }
        }
        match first {
            None => {
                self.settled = true;
                for record in batch {
                    self.held.remove(&record.event_id);
                }
                self.advance(end).await?;
                Ok(())
            }
            Some((position, error)) => {
                self.advance(position - 1).await?;
                Err(Pause::Sink(error))
            }
        }
    }

    async fn dead_letter(
        &mut self,
        record: &Record,
        error: &SinkError,
    ) -> Result<(), JournalError> {
        self.metrics.error(ErrorClass::Record);
        tracing::error!(
            sink = self.metrics.name,
            event_id = %record.event_id,
            position = record.position,
            reason = error.message,
            "the destination refuses this record for good; it is set aside as a dead letter"
        );
        let letter = DeadLetter {
            at: (self.clock)(),
            stage: self.metrics.name.clone(),
            reason: REASON_SINK,
            detail: error.message.clone(),
            event: Some((record.position, record.event_id)),
            body: Some(record.body.clone()),
        };
        // Durable before the cursor moves past it.
        self.journal.dead_letter_durably(letter).await
    }

    fn acknowledged<'a>(&self, records: impl Iterator<Item = &'a Arc<Record>>) {
        let now = (self.clock)();
        let mut count = 0;
        for record in records {
            let since = record.occurred_at.unwrap_or(record.received_at);
            self.metrics
                .event_lag
                .observe(now.seconds_since(since).max(0.0));
            count += 1;
        }
        if count > 0 {
            self.metrics.published.inc_by(count);
            self.metrics.last_success.set(now.as_seconds());
        }
    }

    async fn advance(&mut self, position: u64) -> Result<(), JournalError> {
        self.cursor = self.cursor.max(position);
        self.status.delivered(self.cursor);
        self.journal
            .advance(self.start.index, self.cursor, false)
            .await
    }

    /// Says what failed, and how long to wait.
    fn failed(&self, error: &SinkError, backoff: &mut Backoff) -> Duration {
        self.metrics.error(error.class);
        self.metrics.restarts.inc();
        let (state, wait) = match error.class {
            ErrorClass::Configuration => (SinkState::Halted, HALTED_WAIT),
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
        let clean = self.settled && (caught_up || self.held.is_empty());
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
