//! The vendor's limits, kept by everything that speaks to the vendor: the socket and REST alike.
//!
//! A log of the last minute, not a bucket that refills: in no 60 seconds, whichever one looks at,
//! are there more requests than configured. Time is Tokio's, so that tests can pause it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::config::LimitsConfig;

/// The vendor counts requests over this span.
const MINUTE: Duration = Duration::from_secs(60);

/// Shared by the feed and reconcile.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    block_wait: Duration,
    connections: Arc<Semaphore>,
    state: Mutex<State>,
    remaining: prometheus::Gauge,
}

#[derive(Debug, Default)]
struct State {
    /// When each request of the last minute was made.
    spent: VecDeque<Instant>,
    blocked_until: Option<Instant>,
}

impl State {
    /// Lets go of what was spent more than a minute ago.
    fn forget(&mut self, now: Instant) {
        while self.spent.front().is_some_and(|at| *at + MINUTE <= now) {
            self.spent.pop_front();
        }
    }
}

impl Budget {
    /// A budget of which nothing is spent; `remaining` shows what is left.
    pub fn new(limits: &LimitsConfig, remaining: prometheus::Gauge) -> Arc<Self> {
        remaining.set(f64::from(limits.requests_per_minute));
        Arc::new(Self {
            limit: limits.requests_per_minute as usize,
            block_wait: limits.block_wait.0,
            connections: Arc::new(Semaphore::new(limits.connections as usize)),
            state: Mutex::default(),
            remaining,
        })
    }

    /// Waits until `requests` fit into the last minute and no block holds, and spends them.
    pub async fn spend(&self, requests: usize) {
        while let Some(wait) = self.try_spend(requests, Instant::now()) {
            sleep_until(wait).await;
        }
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
        self.lock().blocked_until = Some(Instant::now() + self.block_wait);
    }

    /// Brings the metric up to date.
    pub fn show(&self) {
        let mut state = self.lock();
        state.forget(Instant::now());
        self.measure(&state);
    }

    fn measure(&self, state: &State) {
        #[allow(clippy::cast_precision_loss, reason = "at most 40 requests")]
        self.remaining
            .set(self.limit.saturating_sub(state.spent.len()) as f64);
    }

    /// Spends, or says when to try again.
    fn try_spend(&self, requests: usize, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        state.forget(now);
        let blocked = state.blocked_until.filter(|until| *until > now);
        if blocked.is_some() {
            return blocked;
        }
        let over = (state.spent.len() + requests).saturating_sub(self.limit);
        if over > 0 {
            // Free again when as many of the oldest as we are over have left the minute.
            let oldest = state.spent.get(over - 1).or(state.spent.back()).copied();
            return oldest.map(|at| at + MINUTE);
        }
        state.spent.extend(std::iter::repeat_n(now, requests));
        self.measure(&state);
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(requests_per_minute: u32) -> Arc<Budget> {
        let limits = LimitsConfig {
            requests_per_minute,
            ..LimitsConfig::default()
        };
        Budget::new(&limits, prometheus::Gauge::new("x", "x").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_vendors_limits_are_kept_in_every_minute() {
        let budget = budget(20);
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
                .take_while(|at| **at < *from + MINUTE)
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
        let budget = budget(20);
        let start = Instant::now();
        budget.block();
        budget.spend(1).await;
        assert_eq!(start.elapsed(), Duration::from_secs(120));
    }
}
