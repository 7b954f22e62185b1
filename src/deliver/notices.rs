//! Tells one sink's side channel what the journal has to tell: at least once, in order, beside the events.
//!
//! It runs beside the delivery of events, with a connection of its own, so that it can never hold them
//! up. A topic or subject that is missing is said once and counted; its notices are passed over, and what
//! they told of stays in the journal.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::SinkStatus;
use crate::backoff::Backoff;
use crate::config::SinkConfig;
use crate::journal::{Beside, Handle, JournalError, Tail};
use crate::metrics::SinkMetrics;
use crate::notice::{Channel, Notice};
use crate::sink::{self, ErrorClass, SinkError};

/// Notices that are published together at most.
const AT_ONCE: usize = 100;

/// A destination gets so long to take them.
const TIMEOUT: Duration = Duration::from_secs(20);

/// First and longest bound of the wait after something that may pass.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// At the end the last notices get so long.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// One sink's side channel.
pub(super) struct Herald {
    index: usize,
    config: SinkConfig,
    journal: Handle,
    tail: Tail,
    beside: watch::Receiver<Beside>,
    metrics: SinkMetrics,
    status: Arc<SinkStatus>,
    /// Everything up to here is dealt with.
    given: u64,
    /// Channels that were said to be missing.
    said: HashSet<Channel>,
}

/// What became of some notices.
enum Told {
    /// There were none, or they are dealt with.
    Done,
    /// They are to be tried again.
    Later,
}

impl Herald {
    pub(super) fn new(
        index: usize,
        config: &SinkConfig,
        journal: &Handle,
        metrics: SinkMetrics,
        status: Arc<SinkStatus>,
    ) -> Self {
        Self {
            index,
            config: config.clone(),
            journal: journal.clone(),
            tail: journal.tail(),
            beside: journal.beside(),
            metrics,
            status,
            given: 0,
            said: HashSet::new(),
        }
    }

    /// Tells until the sink's own work is over, and then what is left, if that is quick.
    pub(super) async fn run(mut self, mut over: oneshot::Receiver<()>) -> Result<(), JournalError> {
        if self.config.takes(Channel::Dead) {
            self.journal.want_dead_letters().await?;
        }
        self.given = self.tail.notices_given(&self.metrics.name).await?;
        tokio::select! {
            ended = self.tell_all() => return ended,
            _ = &mut over => {}
        }
        // What there is no time for is told after the next start.
        timeout(END_TIMEOUT, self.tell_the_rest())
            .await
            .unwrap_or(Ok(()))
    }

    async fn tell_the_rest(&mut self) -> Result<(), JournalError> {
        while self.beside.borrow().notices > self.given {
            match self.tell_some().await? {
                Told::Done => {}
                Told::Later => break,
            }
        }
        Ok(())
    }

    async fn tell_all(&mut self) -> Result<(), JournalError> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let given = self.given;
            if self
                .beside
                .wait_for(|now| now.notices > given)
                .await
                .is_err()
            {
                // The writer has ended; its own error says why.
                return std::future::pending().await;
            }
            match self.tell_some().await? {
                Told::Done => backoff.reset(),
                Told::Later => {
                    let wait = RETRY.0 + backoff.next(&mut rand::rng());
                    sleep(wait).await;
                }
            }
        }
    }

    async fn tell_some(&mut self) -> Result<Told, JournalError> {
        let mut notices = self.tail.notices(self.given, AT_ONCE).await?;
        let Some(channel) = notices.first().map(|notice| notice.channel) else {
            // The oldest have made room meanwhile.
            let last = self.beside.borrow().notices;
            return self.dealt_with(last).await;
        };
        let same = notices
            .iter()
            .position(|notice| notice.channel != channel)
            .unwrap_or(notices.len());
        notices.truncate(same);
        let last = notices.last().map_or(self.given, |notice| notice.number);
        if !self.config.takes(channel) {
            return self.dealt_with(last).await;
        }
        match timeout(TIMEOUT, sink::notify(&self.config, &notices)).await {
            Ok(Ok(())) => {
                self.said.remove(&channel);
                self.dealt_with(last).await
            }
            Ok(Err(error)) => match error.class {
                ErrorClass::Record if notices.len() > 1 => self.one_by_one(&notices).await,
                // The destination itself is not to be had: that is not about the side channel.
                ErrorClass::Configuration if !self.opens().await => Ok(self.later(&error.message)),
                ErrorClass::Record | ErrorClass::Configuration => {
                    self.pass_over(channel, notices.len(), &error);
                    self.dealt_with(last).await
                }
                ErrorClass::Transient | ErrorClass::Fatal => Ok(self.later(&error.message)),
            },
            Err(_) => Ok(self.later("no acknowledgement in time")),
        }
    }

    /// Whether the destination can be had at all, with the secrets that the notices have too: a
    /// connection that works may be older than those.
    async fn opens(&self) -> bool {
        let trial = timeout(TIMEOUT, sink::rehearse(&self.config));
        self.status.is_delivering() && matches!(trial.await, Ok(Ok(())))
    }

    /// One of them can never be published there: the others must not go with it.
    async fn one_by_one(&mut self, notices: &[Notice]) -> Result<Told, JournalError> {
        for notice in notices {
            let one = std::slice::from_ref(notice);
            match timeout(TIMEOUT, sink::notify(&self.config, one)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.class == ErrorClass::Record => {
                    self.pass_over(notice.channel, 1, &error);
                }
                Ok(Err(error)) => return Ok(self.later(&error.message)),
                Err(_) => return Ok(self.later("no acknowledgement in time")),
            }
            self.dealt_with(notice.number).await?;
        }
        Ok(Told::Done)
    }

    async fn dealt_with(&mut self, number: u64) -> Result<Told, JournalError> {
        self.given = number;
        self.journal.notices_dealt_with(self.index, number).await?;
        Ok(Told::Done)
    }

    fn pass_over(&mut self, channel: Channel, notices: usize, error: &SinkError) {
        self.metrics.notices_dropped.inc_by(notices as u64);
        if self.said.insert(channel) {
            tracing::warn!(
                sink = self.metrics.name,
                channel = channel.as_str(),
                reason = error.message,
                "the side channel cannot be used: what it would tell stays in the journal alone; this \
                 is said once"
            );
        }
    }

    fn later(&self, reason: &str) -> Told {
        tracing::debug!(
            sink = self.metrics.name,
            reason,
            "the side channel is away; it is tried again"
        );
        Told::Later
    }
}
