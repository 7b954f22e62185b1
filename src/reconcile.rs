//! Fetches the vendor's list of users, so that what was not heard is repaired.
//!
//! It streams the list to ingest, user by user, and says whether the list was complete. What differs
//! is for ingest to find: here nothing is compared and nothing is written. At most one list is
//! fetched at a time, inside the vendor's budget.

mod body;
mod entry;
mod list;
mod meter;
mod preview;
mod report;
pub mod seen;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::config::{FeedConfig, ReconcileConfig};
use crate::event::Timestamp;
use crate::feed::{api_key, budget::Budget};
use crate::metrics::ReconcileMetrics;
use crate::normalise::Observation;
use crate::shutdown::Stop;

use list::List;
pub use list::ListError;
pub use preview::{Preview, PreviewError, preview};
pub use report::{LastList, Outcome, Reports};

/// So many removals are believed whatever the share, unless the list is empty.
const REMOVED_BELIEVED: usize = 5;

/// Whether the users that a complete list lacks were removed, or the list itself is doubtful: `absent` of
/// `known` users, and how many it has.
pub fn removals_are_believed(absent: usize, known: usize, listed: usize, max_share: f64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more")]
    let share = absent as f64 / known.max(1) as f64;
    let few = absent <= REMOVED_BELIEVED && listed > 0;
    few || share <= max_share
}

/// First and longest bound of the wait after a list that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Requests for a list that come within this time of each other share one.
const GATHER: Duration = Duration::from_millis(200);

/// Wait after a refused key, whoever asks meanwhile: an operator must mend it, and each try costs a
/// request.
const REFUSED_KEY_WAIT: Duration = Duration::from_secs(120);

/// Batches of users that may wait for ingest.
pub const LISTED_QUEUE: usize = 16;

/// What reconcile tells ingest of one list.
#[derive(Debug)]
pub enum Listed {
    /// The list is about to be asked for.
    Begin {
        /// From now on.
        asked: Timestamp,
        /// Ingest answers once it has noted how far it has come; only then is the list asked for.
        noted: oneshot::Sender<()>,
    },
    /// Some users.
    Users(Vec<Observation>),
    /// The list has ended; `complete` is false where an entry could not be read.
    End {
        /// Whether the list was read to its end, every entry of it.
        complete: bool,
    },
    /// There is no list, or it broke off; what came of it is still true.
    Failed {
        /// Why; it quotes nothing of what the vendor said.
        why: String,
    },
}

/// Asks for a list; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Asker(Arc<Notify>);

impl Asker {
    /// A list is wanted soon; one that is already running does not count.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Everything that reconcile works with.
#[derive(Debug)]
pub struct Reconcile {
    /// Its configuration.
    pub config: ReconcileConfig,
    /// Where the API key is.
    pub feed: FeedConfig,
    /// The vendor's limits, shared with the feed.
    pub budget: Arc<Budget>,
    /// Who asks.
    pub asker: Asker,
    /// Where the users go.
    pub listed: mpsc::Sender<Listed>,
    /// Its metrics.
    pub metrics: ReconcileMetrics,
    /// When to end.
    pub stop: Stop,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

impl Reconcile {
    /// Fetches a list whenever one is asked for, and on a timer.
    pub async fn run(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut next = Instant::now() + self.config.interval.0;
        let mut not_before = Instant::now();
        loop {
            tokio::select! {
                () = self.asker.0.notified() => {}
                () = sleep_until(next) => {}
                () = self.stop.draining() => return,
            }
            let fetch = async {
                sleep_until(not_before).await;
                self.fetch().await
            };
            let fetched = tokio::select! {
                fetched = fetch => fetched,
                () = self.stop.draining() => return,
            };
            next = Instant::now()
                + match &fetched {
                    Ok(()) => {
                        backoff.reset();
                        self.config.interval.0
                    }
                    Err(error) => self.failed(error, &mut backoff),
                };
            if fetched.is_err_and(|error| error.is_refusal()) {
                not_before = next;
            }
        }
    }

    async fn fetch(&self) -> Result<(), ListError> {
        sleep(GATHER).await;
        let _place = self.budget.connection().await;
        self.budget.spend(1).await;
        let key = api_key(&self.feed).map_err(|error| ListError::Credential(error.to_string()))?;
        let (config, listed) = (self.config.clone(), self.listed.clone());
        let proxy = self.feed.proxy.clone();
        let started = Instant::now();
        // Nobody listens only when everything ends.
        let tell = |what| async { self.listed.send(what).await.map_err(|_| ListError::Ended) };
        let (noted, wait) = oneshot::channel();
        let asked = (self.clock)();
        tell(Listed::Begin { asked, noted }).await?;
        // A message that ingest has taken by now is in the list; a later one wins over the list.
        wait.await.map_err(|_| ListError::Ended)?;
        let reading =
            tokio::task::spawn_blocking(move || list::read(&config, proxy.as_ref(), &key, &listed));
        let outcome = reading.await.unwrap_or(Err(ListError::Ended));
        self.metrics
            .duration
            .observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(List { complete, .. }) => tell(Listed::End { complete }).await,
            Err(error) => {
                let why = error.to_string();
                tell(Listed::Failed { why }).await?;
                Err(error)
            }
        }
    }

    fn failed(&self, error: &ListError, backoff: &mut Backoff) -> Duration {
        error.note(&self.budget);
        // Half of it fixed: a list that failed at once must not be asked for again at once.
        let least = if error.is_refusal() {
            REFUSED_KEY_WAIT
        } else {
            RETRY.0
        };
        let wait = least + backoff.next(&mut rand::rng());
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if error.is_refusal() {
            tracing::error!(%error, wait_ms, "the list is refused; what is not heard cannot be repaired");
        } else {
            tracing::warn!(%error, wait_ms, "the list could not be read; what was not heard is not repaired yet");
        }
        wait
    }
}

/// What `check` wishes to know of the list.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    /// How many users it has.
    pub users: usize,
    /// The vendor's clock at its answer, in whole seconds.
    pub vendor_time: Option<Timestamp>,
}

/// Reads the list once, for `check`.
///
/// # Errors
/// [`ListError`].
pub async fn probe(config: &ReconcileConfig, feed: &FeedConfig) -> Result<Probed, ListError> {
    let key = api_key(feed).map_err(|error| ListError::Credential(error.to_string()))?;
    let (listed, mut users) = mpsc::channel(LISTED_QUEUE);
    let (config, proxy) = (config.clone(), feed.proxy.clone());
    let reading =
        tokio::task::spawn_blocking(move || list::read(&config, proxy.as_ref(), &key, &listed));
    let mut users_seen = 0;
    while let Some(listed) = users.recv().await {
        if let Listed::Users(users) = listed {
            users_seen += users.len();
        }
    }
    let read = reading.await.unwrap_or(Err(ListError::Ended))?;
    Ok(Probed {
        users: users_seen,
        vendor_time: read.vendor_time,
    })
}
