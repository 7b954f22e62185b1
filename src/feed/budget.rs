//! The vendor's limits, kept by everything that speaks to the vendor: the socket and REST alike.
//!
//! A log of the last minute, not a bucket that refills: in no 60 seconds, whichever one looks at,
//! are there more requests than configured. With a [`Ledger`] the log outlives the process, so a bridge
//! that is started again and again has one share and not one a start. When the clock is set back, what
//! was spent counts as spent now.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

pub use super::ledger::Ledger;
use super::ledger::{Page, Spending};
use super::limits::RETRY_AFTER_MAX;
use crate::blocking::in_place;
use crate::config::LimitsConfig;
use crate::event::Timestamp;

/// The vendor counts requests over this span, in nanoseconds.
const MINUTE: i64 = 60_000_000_000;

/// Shared by the feed and reconcile.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    /// In nanoseconds.
    block_wait: i64,
    connections: Arc<Semaphore>,
    spending: Mutex<Spending>,
    ledger: Option<Ledger>,
    remaining: prometheus::Gauge,
    clock: fn() -> Timestamp,
}

impl Budget {
    /// A budget of which is spent what the ledger says; `remaining` shows what is left.
    pub fn new(
        limits: &LimitsConfig,
        ledger: Option<Ledger>,
        remaining: prometheus::Gauge,
        clock: fn() -> Timestamp,
    ) -> Arc<Self> {
        let budget = Self {
            limit: limits.requests_per_minute as usize,
            block_wait: i64::try_from(limits.block_wait.0.as_nanos()).unwrap_or(i64::MAX),
            connections: Arc::new(Semaphore::new(limits.connections as usize)),
            spending: Mutex::default(),
            ledger,
            remaining,
            clock,
        };
        budget.update(|_, _| ());
        Arc::new(budget)
    }

    /// Waits until `requests` fit into the last minute and no block holds, and spends them.
    pub async fn spend(&self, requests: usize) {
        let try_spend = |spending: &mut Spending, now| {
            let wait = self.wait(spending, requests, now);
            if wait.is_none() {
                insert(&mut spending.spent, now, requests);
            }
            wait
        };
        while let Some(wait) = self.update(try_spend) {
            sleep(wait).await;
        }
    }

    /// How long [`spend`](Self::spend) would wait now, if at all.
    pub fn must_wait(&self, requests: usize) -> Option<Duration> {
        self.update(|spending, now| self.wait(spending, requests, now))
    }

    /// A place among the connections, for as long as the permit lives.
    pub async fn connection(&self) -> OwnedSemaphorePermit {
        let connections = Arc::clone(&self.connections);
        connections
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// The vendor refused as it does over its limit: silence for `feed.limits.block_wait`. Feed and list
    /// may say so of one refusal: there is one wait, until the later of the two.
    pub fn block(&self) {
        self.update(|spending, now| spending.block(now, self.block_wait));
    }

    /// As [`block`](Self::block), for at least so long: the vendor has said when it may be asked again.
    pub fn block_for(&self, asked: Duration) {
        let asked = i64::try_from(asked.min(RETRY_AFTER_MAX).as_nanos()).unwrap_or(i64::MAX);
        self.update(|spending, now| spending.block(now, asked.max(self.block_wait)));
    }

    /// A connection was taken and dropped before the upgrade was answered. Whether that happened the
    /// last time too, to any process with this ledger: then it is the limit, and there is silence.
    pub fn dropped_again(&self) -> bool {
        self.update(|spending, now| {
            let again = spending.dropped_at > spending.answered_at;
            spending.dropped_at = Some(now);
            if again {
                spending.block(now, self.block_wait);
            }
            again
        })
    }

    /// The vendor has answered an upgrade.
    pub fn answered(&self) {
        self.update(|spending, now| spending.answered_at = Some(now));
    }

    /// Brings the metric up to date.
    pub fn show(&self) {
        let mut spending = self.lock();
        self.tidy(&mut spending, (self.clock)().0);
        self.measure(&spending);
    }

    fn wait(&self, spending: &Spending, requests: usize, now: i64) -> Option<Duration> {
        let until = spending.blocked_until.or_else(|| {
            let over = (spending.spent.len() + requests).saturating_sub(self.limit);
            // Free again when as many of the oldest as we are over have left the minute.
            let index = over.checked_sub(1)?;
            let oldest = spending.spent.iter().nth(index);
            oldest.or(spending.spent.last()).map(|at| at + MINUTE)
        })?;
        Some(Duration::from_nanos(until.abs_diff(now).max(1)))
    }

    /// Changes what is known to be spent, here and in the ledger, as one step for every process.
    fn update<T>(&self, change: impl FnOnce(&mut Spending, i64) -> T) -> T {
        let mut spending = self.lock();
        let mut page = self.page(&mut spending);
        let now = (self.clock)().0;
        self.tidy(&mut spending, now);
        let done = change(&mut spending, now);
        if let Some((ledger, page)) = &mut page {
            match page.write(&spending) {
                Ok(()) => ledger.works(),
                Err(error) => ledger.fails(&error),
            }
        }
        self.measure(&spending);
        done
    }

    fn measure(&self, spending: &Spending) {
        #[allow(clippy::cast_precision_loss, reason = "at most 40 requests")]
        self.remaining
            .set(self.limit.saturating_sub(spending.spent.len()) as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Spending> {
        self.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger's page with what it says taken up, unless there is none or it cannot be used: then
    /// what this process has spent is all that is known.
    fn page(&self, spending: &mut Spending) -> Option<(&Ledger, Page)> {
        let ledger = self.ledger.as_ref()?;
        let taken_up = in_place(|| ledger.open()).and_then(|mut page| {
            let said = page.read()?;
            spending.merge(said.unwrap_or_else(|| self.everything()));
            Ok(page)
        });
        let page = taken_up.inspect_err(|error| ledger.fails(error)).ok()?;
        Some((ledger, page))
    }

    /// The whole share, spent now: what is not known may have been spent.
    fn everything(&self) -> Spending {
        let mut spending = Spending::default();
        insert(&mut spending.spent, (self.clock)().0, self.limit);
        spending
    }

    /// Lets go of what was spent more than a minute ago, and brings back what lies in the future.
    fn tidy(&self, spending: &mut Spending, now: i64) {
        spending.spent = spending.spent.split_off(&(now - MINUTE + 1));
        let future = spending.spent.split_off(&(now + 1));
        insert(&mut spending.spent, now, future.len());
        let longest = spending.blocked_for.max(self.block_wait);
        let latest = now.saturating_add(longest);
        spending.blocked_until = spending
            .blocked_until
            .filter(|until| *until > now)
            .map(|until| until.min(latest));
        if spending.blocked_until.is_none() {
            spending.blocked_for = 0;
        }
        spending.dropped_at = spending.dropped_at.map(|at| at.min(now));
        spending.answered_at = spending.answered_at.map(|at| at.min(now));
    }
}

/// Adds so many moments, from `now` on, each a nanosecond after the other.
fn insert(spent: &mut BTreeSet<i64>, now: i64, requests: usize) {
    let free = (now..).filter(|at| !spent.contains(at)).take(requests);
    let free: Vec<i64> = free.collect();
    spent.extend(free);
}

#[cfg(test)]
mod tests;
