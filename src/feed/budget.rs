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

    /// The vendor refused as it does over its limit: silence for `feed.limits.block_wait`.
    pub fn block(&self) {
        self.update(|spending, now| {
            spending.blocked_until = Some(now.saturating_add(self.block_wait));
        });
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
        let taken_up = ledger.open().and_then(|mut page| {
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
        let latest = now.saturating_add(self.block_wait);
        spending.blocked_until = spending
            .blocked_until
            .filter(|until| *until > now)
            .map(|until| until.min(latest));
    }
}

/// Adds so many moments, from `now` on, each a nanosecond after the other.
fn insert(spent: &mut BTreeSet<i64>, now: i64, requests: usize) {
    let free = (now..).filter(|at| !spent.contains(at)).take(requests);
    let free: Vec<i64> = free.collect();
    spent.extend(free);
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Tokio's clock, which a test can pause, as one that also tells the time of day.
    fn clock() -> Timestamp {
        thread_local!(static START: Instant = Instant::now());
        let elapsed = START.with(|start| start.elapsed()).as_nanos();
        Timestamp(1_764_000_000_000_000_000 + i64::try_from(elapsed).unwrap())
    }

    fn with(ledger: Option<Ledger>, clock: fn() -> Timestamp) -> Arc<Budget> {
        let limits = LimitsConfig::default();
        let remaining = prometheus::Gauge::new("x", "x").unwrap();
        Budget::new(&limits, ledger, remaining, clock)
    }

    fn budget() -> Arc<Budget> {
        with(None, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn the_vendors_limits_are_kept_in_every_minute() {
        let budget = budget();
        let start = Instant::now();
        let mut times = Vec::new();
        for requests in [3, 1, 2, 3, 4, 1, 3, 3].into_iter().cycle().take(200) {
            budget.spend(requests).await;
            times.extend(std::iter::repeat_n(start.elapsed(), requests));
        }
        for (index, from) in times.iter().enumerate() {
            let in_minute = times
                .iter()
                .skip(index)
                .take_while(|at| **at < *from + Duration::from_secs(60))
                .count();
            assert!(
                in_minute <= 20,
                "{in_minute} requests in the minute after {from:?}"
            );
        }
        // And it does not dawdle: the whole share is used.
        assert!(
            start.elapsed() < Duration::from_secs(60) * (500 / 17 + 2),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_like_the_limit_there_is_silence() {
        let budget = budget();
        let start = Instant::now();
        budget.block();
        budget.spend(1).await;
        assert_eq!(start.elapsed(), Duration::from_secs(120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_started_again_and_again_has_one_share_and_keeps_the_silence() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        let start = || with(Some(Ledger::beside(&journal)), clock);
        let began = Instant::now();
        for _ in 0..6 {
            start().spend(3).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(start().must_wait(2), None);
        let minute = Duration::from_secs(60);
        assert_eq!(start().must_wait(3), Some(minute));
        start().spend(3).await;
        assert!(began.elapsed() >= minute, "{:?}", began.elapsed());
        start().block();
        let silence = start().must_wait(1).unwrap();
        assert_eq!(silence, Duration::from_secs(120));
        tokio::time::sleep(silence).await;
        assert_eq!(start().must_wait(20), None);
    }

    #[tokio::test(start_paused = true)]
    async fn two_processes_spend_from_one_share() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        let [one, two] = [(); 2].map(|()| with(Some(Ledger::beside(&journal)), clock));
        one.spend(10).await;
        two.spend(10).await;
        assert!(one.must_wait(1).is_some() && two.must_wait(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_makes_no_sense_counts_as_spent_and_one_that_cannot_be_used_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        std::fs::write(folder.path().join("journal.db.budget"), "{\"spent\":[17").unwrap();
        let budget = with(Some(Ledger::beside(&journal)), clock);
        assert_eq!(budget.must_wait(1), Some(Duration::from_secs(60)));

        let nowhere = folder.path().join("no").join("such").join("folder");
        let budget = with(Some(Ledger::beside(&nowhere)), clock);
        budget.spend(20).await;
        assert!(budget.must_wait(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_neither_frees_the_share_nor_locks_it_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        let ahead = || Timestamp(clock().0 + 3_600_000_000_000);
        let budget = with(Some(Ledger::beside(&journal)), ahead);
        budget.spend(20).await;
        budget.block();
        let budget = with(Some(Ledger::beside(&journal)), clock);
        let began = Instant::now();
        budget.spend(20).await;
        let waited = began.elapsed().as_secs();
        assert!((120..=181).contains(&waited), "{waited} s");
    }
}
