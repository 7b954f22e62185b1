//! Finds late twins: records that a dead connection had handed to a slow network, and that arrived
//! after all, when they had been published again.
//!
//! ```text
//!   journal ── ids in doubt ──▶ ┌────────────┐ ◀── every id that arrives ── destination
//!                               │ seen twice?│
//!                               └─────┬──────┘
//!                                     └──▶ counted, logged and shown by id
//! ```
//!
//! No wait of ours can prevent them without transactions, so they are never passed over in silence: for
//! a while after each recovery one task a sink reads along. It never slows the publishing, reorders
//! nothing, and never tells a key or a body.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::status::SinkStatus;
use crate::backoff::Backoff;
use crate::event::{EventId, Timestamp};
use crate::journal::Handle;
use crate::metrics::SinkMetrics;
use crate::notice::{Channel, LATE_DUPLICATES, LateDuplicates};
use crate::sink::{Arrivals, ErrorClass, Sink};

/// How long after a recovery a destination is watched: TCP gives up a peer that is gone in minutes.
pub(super) const LATE_WATCH: Duration = Duration::from_secs(300);

/// Records before the cursor that are looked at after an unclean end: those of an earlier end may
/// still be on their way. At the bound the oldest are left out.
pub(super) const SUSPECTS_BEFORE: u64 = 98_304;

/// Records beyond the cursor that are looked at; a dead process had handed over far fewer.
pub(super) const SUSPECTS_BEYOND: u64 = 32_768;

/// Ids that are remembered when they arrive without being in doubt, because they may come to be.
const SEEN_MAX: usize = 65_536;

/// Ids that one report names at most.
const REPORT_MAX: usize = 256;

/// First and longest bound of the wait before reading on after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The watch over one sink's destination; its task ends with it.
pub(super) struct Twins {
    reporter: Reporter,
    watched: Arc<Mutex<Watched>>,
    task: JoinSet<()>,
}

/// What the task looks for.
struct Watched {
    /// Whether the task reads along.
    running: bool,
    until: Instant,
    appearances: Appearances,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            running: false,
            until: Instant::now(),
            appearances: Appearances::default(),
        }
    }
}

impl Twins {
    pub(super) fn new(
        metrics: SinkMetrics,
        status: Arc<SinkStatus>,
        journal: Handle,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            reporter: Reporter {
                metrics,
                status,
                journal,
                clock,
            },
            watched: Arc::new(Mutex::new(Watched::default())),
            task: JoinSet::new(),
        }
    }

    /// Begins anew with the next watch, because the destination has lost what was seen there: what is
    /// published again is no twin of it.
    pub(super) fn forget(&mut self) {
        self.task.abort_all();
        self.watched = Arc::new(Mutex::new(Watched::default()));
    }

    /// Looks for these, from before any of them can have arrived; a watch that runs goes on, longer.
    pub(super) fn watch(
        &mut self,
        sink: &dyn Sink,
        since: Timestamp,
        suspects: impl IntoIterator<Item = EventId>,
    ) {
        let mut watched = lock(&self.watched);
        if !watched.running {
            // What arrived since the last watch ended was not seen.
            watched.appearances = Appearances::default();
        }
        watched.appearances.suspect(suspects);
        watched.until = Instant::now() + LATE_WATCH;
        if !watched.running
            && let Some(arrivals) = sink.arrivals(since)
        {
            watched.running = true;
            tracing::info!(
                sink = self.reporter.metrics.name,
                records = watched.appearances.suspects.len(),
                seconds = LATE_WATCH.as_secs(),
                "watching the destination for late duplicates"
            );
            let (watched, reporter) = (Arc::clone(&self.watched), self.reporter.clone());
            while self.task.try_join_next().is_some() {}
            self.task.spawn(async move {
                let trouble = read_along(arrivals, &watched, &reporter).await;
                reporter.ended(trouble.as_deref());
            });
        }
    }
}

/// Reads until the watch is over; why it ended early, if it did.
async fn read_along(
    arrivals: Arrivals,
    watched: &Mutex<Watched>,
    reporter: &Reporter,
) -> Option<String> {
    let mut arrivals = arrivals.ready_chunks(REPORT_MAX);
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut trouble = None;
    loop {
        let until = {
            let mut watched = lock(watched);
            if Instant::now() >= watched.until {
                // Under the same lock, so that nobody prolongs a watch that is over.
                watched.running = false;
                return trouble;
            }
            watched.until
        };
        let chunk = tokio::select! {
            chunk = arrivals.next() => chunk,
            () = sleep_until(until) => continue,
        };
        let Some(chunk) = chunk else {
            lock(watched).running = false;
            return Some("the destination tells no more".to_owned());
        };
        let (arrived, failed): (Vec<_>, Vec<_>) = chunk.into_iter().partition(Result::is_ok);
        let twins: Vec<EventId> = {
            let mut watched = lock(watched);
            let arrived = arrived.into_iter().flatten();
            arrived
                .filter(|id| watched.appearances.is_one_too_many(*id))
                .collect()
        };
        if !twins.is_empty() {
            reporter.report(&twins).await;
        }
        match failed.into_iter().find_map(Result::err) {
            None => {
                (trouble, backoff) = (None, Backoff::new(RETRY.0, RETRY.1));
                // Whoever publishes goes first.
                tokio::task::yield_now().await;
            }
            Some(error) if error.class == ErrorClass::Configuration => {
                lock(watched).running = false;
                return Some(error.message);
            }
            Some(error) => {
                tracing::debug!(sink = reporter.metrics.name, %error, "reading along is disturbed");
                trouble = Some(error.message);
                let wait = backoff.next(&mut rand::rng());
                sleep(wait).await;
            }
        }
    }
}

/// Who is told of what was found.
#[derive(Clone)]
struct Reporter {
    metrics: SinkMetrics,
    status: Arc<SinkStatus>,
    journal: Handle,
    clock: fn() -> Timestamp,
}

impl Reporter {
    /// The one place where late twins are told: each id as often as it was doubled.
    async fn report(&self, twins: &[EventId]) {
        self.metrics.late_duplicates.inc_by(twins.len() as u64);
        self.status.late_duplicates(twins);
        let ids: Vec<String> = twins.iter().map(ToString::to_string).collect();
        tracing::warn!(
            sink = self.metrics.name,
            count = ids.len(),
            event_ids = ids.join(","),
            "late duplicates: a slow network delivered after all what had been published again"
        );
        let body = LateDuplicates {
            sink: &self.metrics.name,
            event_ids: twins,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let (at, channel) = ((self.clock)(), Channel::Control);
        let told = self.journal.notice(at, channel, LATE_DUPLICATES, body);
        // A journal that has ended ends this task too.
        told.await.unwrap_or_default();
    }

    fn ended(&self, trouble: Option<&str>) {
        let sink = &self.metrics.name;
        match trouble {
            None => tracing::info!(sink, "the watch for late duplicates is over"),
            Some(reason) => tracing::warn!(
                sink,
                reason,
                "the watch for late duplicates ended early: later ones will not be noticed"
            ),
        }
    }
}

/// How often each id has appeared since the reading began, which was before the first of the suspects
/// can have arrived; once is right, however often it was published.
#[derive(Default)]
struct Appearances {
    suspects: HashMap<EventId, bool>,
    /// Those of the others that appeared last, for one of them may be suspected later.
    seen: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Appearances {
    fn suspect(&mut self, ids: impl IntoIterator<Item = EventId>) {
        let most = usize::try_from(SUSPECTS_BEFORE + SUSPECTS_BEYOND).unwrap_or(usize::MAX);
        for id in ids {
            if self.suspects.len() >= most && !self.suspects.contains_key(&id) {
                tracing::warn!(most, "too many records in doubt to watch for all of them");
                return;
            }
            let appeared = self.seen.contains(&id);
            *self.suspects.entry(id).or_default() |= appeared;
        }
    }

    /// Takes note of an id; true if it was there already.
    fn is_one_too_many(&mut self, id: EventId) -> bool {
        if let Some(appeared) = self.suspects.get_mut(&id) {
            return std::mem::replace(appeared, true);
        }
        if !self.seen.insert(id) {
            return true;
        }
        self.order.push_back(id);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        false
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> EventId {
        EventId((number as u128).to_be_bytes())
    }

    #[test]
    fn what_appears_once_is_right_and_each_further_time_is_one_too_many() {
        let mut appearances = Appearances::default();
        appearances.suspect([id(1), id(2)]);
        let found = [1, 2, 1, 3, 1, 3].map(|number| appearances.is_one_too_many(id(number)));
        assert_eq!(found, [false, false, true, false, true, true]);
    }

    #[test]
    fn who_is_suspected_later_may_have_appeared_before() {
        let mut appearances = Appearances::default();
        assert!(!appearances.is_one_too_many(id(1)));
        appearances.suspect([id(1), id(2)]);
        assert!(appearances.is_one_too_many(id(1)));
        assert!(!appearances.is_one_too_many(id(2)));
        appearances.suspect([id(2)]);
        assert!(appearances.is_one_too_many(id(2)), "it is still known");
    }

    #[test]
    fn memory_is_bounded_and_suspects_are_never_forgotten() {
        let mut appearances = Appearances::default();
        appearances.suspect([id(0)]);
        for number in 0..SEEN_MAX + 10 {
            assert!(!appearances.is_one_too_many(id(number)));
        }
        assert_eq!(appearances.seen.len(), SEEN_MAX);
        assert_eq!(appearances.order.len(), SEEN_MAX);
        assert!(appearances.is_one_too_many(id(0)));
        let most = usize::try_from(SUSPECTS_BEFORE + SUSPECTS_BEYOND).unwrap();
        appearances.suspect((0..2 * most).map(id));
        assert_eq!(appearances.suspects.len(), most);
    }
}
