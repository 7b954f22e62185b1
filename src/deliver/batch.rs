//! One batch: from the journal to the sink, and past the cursor.
//!
//! The cursor moves only past what the destination has acknowledged, what it said it holds, and what
//! is a durable dead letter.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Deliver, Pause};
use crate::event::Record;
use crate::failpoint::{self, Point};
use crate::journal::{DeadLetter, JournalError};
use crate::metrics::{REASON_SINK, SinkState};
use crate::sink::{ErrorClass, PublishError, SinkError};

/// Bytes of one batch at most.
const BATCH_BYTES: usize = 1024 * 1024;

/// A batch without an acknowledgement for so long is worth a word.
const STALLED: Duration = Duration::from_secs(10);

impl Deliver {
    /// Publishes the next batch, or waits for it.
    pub(super) async fn next(&mut self) -> Result<(), Pause> {
        if self.last.borrow().is_some_and(|last| self.cursor >= last) {
            return Err(Pause::Done);
        }
        self.take_up_secrets().await?;
        self.beside().await?;
        if self.tail.committed() <= self.cursor {
            // Nothing is beyond the cursor, so nothing there is of interest any more.
            self.held.clear();
        }
        self.gather().await;
        let committed = self.tail.committed();
        let batch = tokio::select! {
            batch = self.tail.after(self.cursor, self.start.pace.batch_records, BATCH_BYTES) => batch?,
            changed = self.last.changed() => {
                return if changed.is_ok() { Ok(()) } else { Err(Pause::Now) };
            }
            () = self.rotation.due() => return Ok(()),
            // Where events wait, letters take their turn after the next batch of them.
            () = self.side.due(), if self.side.is_idle() || self.tail.committed() <= self.cursor => {
                return Ok(());
            }
        };
        self.taken = batch.len();
        let Some(end) = batch.last().map(|record| record.position) else {
            return Ok(self.pass_what_is_gone(committed).await?);
        };
        let (missing, present): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|record| !self.is_there(record));
        let started = Instant::now();
        self.settled = false;
        self.handed = self.handed.max(end);
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
                failpoint::reach(Point::Acknowledged);
                self.acknowledged(missing.iter());
                self.settled = true;
            }
            Err(error) => self.partly(&missing, error).await?,
        }
        self.passed(&present);
        Ok(self.advance(end).await?)
    }

    /// Nothing is left of what lay between the cursor and there: a damaged file lost it, and said so.
    async fn pass_what_is_gone(&mut self, committed: u64) -> Result<(), JournalError> {
        if committed <= self.cursor {
            return Ok(());
        }
        tracing::warn!(
            sink = self.metrics.name,
            after = self.cursor,
            to = committed,
            "records that this sink lacked are no longer in the journal: it goes on behind them"
        );
        self.advance(committed).await
    }

    /// Publishes, for as long as it takes; says so when it takes long.
    pub(super) async fn publish(&mut self, batch: &[Arc<Record>]) -> Result<(), PublishError> {
        failpoint::reach(Point::Publishing);
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

    /// Whether the destination already has this record, or never will.
    fn is_there(&self, record: &Record) -> bool {
        self.done.contains(&record.position) || self.held.contains(&record.event_id)
    }

    /// The cursor moves past records that were there already.
    fn passed(&mut self, present: &[Arc<Record>]) {
        for record in present {
            if self.held.remove(&record.event_id) {
                self.metrics.skipped_held.inc();
            }
        }
    }

    /// Some records were not acknowledged: sorts them by what is to be done. `Ok` when none is left
    /// to be tried again.
    async fn partly(&mut self, batch: &[Arc<Record>], error: PublishError) -> Result<(), Pause> {
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
                    self.done.insert(record.position);
                }
                Some(error) => {
                    first.get_or_insert((record.position, error));
                }
                None => {
                    self.done.insert(record.position);
                }
            }
        }
        match first {
            None => {
                self.settled = true;
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
        record: &Arc<Record>,
        error: &SinkError,
    ) -> Result<(), JournalError> {
        self.metrics.error(ErrorClass::Record);
        self.side.coming.remove(&record.position);
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
            record: Some(Arc::clone(record)),
            shape: None,
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
        self.done = self.done.split_off(&(self.cursor + 1));
        self.status.delivered(self.cursor);
        let (sink, position) = (self.start.index, self.cursor);
        match self.side.can_tell_what_it_holds {
            true => self.journal.advance(sink, position, false).await,
            false => self.journal.advance_urgently(sink, position).await,
        }
    }
}
