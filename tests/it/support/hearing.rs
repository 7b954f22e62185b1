//! The feed alone, in this process: what it hears, when, and why it loses a connection.

use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::config::load_text;
use onboarding_bridge::event::Timestamp;
use onboarding_bridge::feed::budget::Budget;
use onboarding_bridge::feed::{Feed, Heard, LostReason};
use onboarding_bridge::journal::IN_FLIGHT_BYTES;
use onboarding_bridge::metrics::{FeedMetrics, Metrics};
use onboarding_bridge::shutdown::{self, Stopper};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bridge::PATIENCE;

/// A feed that runs until this is dropped.
pub(crate) struct Hearing {
    heard: mpsc::Receiver<Heard>,
    metrics: FeedMetrics,
    _stopper: Stopper,
    _task: JoinSet<()>,
}

impl Hearing {
    /// Starts the feed with these further settings of the section `feed`, in flow style.
    pub(crate) fn start(url: &str, settings: &str) -> Self {
        let yaml = format!("feed: {{url: '{url}', api_key: example-enterprise-key, {settings}}}\n");
        let yaml = yaml + "sinks: [{name: local, type: file, path: '-'}]\n";
        let folder = std::path::Path::new("test.yaml");
        let config = load_text(&yaml, folder, std::iter::empty()).unwrap().feed;
        let metrics = Metrics::new(&[]).feed;
        let remaining = metrics.request_budget.clone();
        let budget = Budget::new(&config.limits, None, remaining, Timestamp::now);
        let (tell, heard) = mpsc::channel(64);
        let (stopper, stop) = shutdown::channel();
        let feed = Feed {
            config,
            budget,
            metrics: metrics.clone(),
            heard: tell,
            room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)),
            deaf: watch::channel(None).0,
            renew: watch::channel(0).1,
            read: onboarding_bridge::normalise::frame,
            capture: None,
            stop,
            clock: Timestamp::now,
        };
        let mut task = JoinSet::new();
        task.spawn(feed.run());
        Self {
            heard,
            metrics,
            _stopper: stopper,
            _task: task,
        }
    }

    /// The next thing that is heard.
    pub(crate) async fn next(&mut self) -> Heard {
        let heard = timeout(PATIENCE, self.heard.recv()).await;
        heard.expect("something to be heard").unwrap()
    }

    /// The next thing that is heard, if it comes within this time.
    pub(crate) async fn next_within(&mut self, span: Duration) -> Option<Heard> {
        timeout(span, self.heard.recv()).await.ok().flatten()
    }

    /// Waits until the feed is subscribed.
    pub(crate) async fn up(&mut self) {
        let heard = self.next().await;
        assert!(matches!(heard, Heard::Up(_)), "{heard:?}");
    }

    /// Waits until the subscribed connection is lost, whatever is heard before.
    pub(crate) async fn lost(&mut self) -> LostReason {
        loop {
            if let Heard::Lost(reason, _) = self.next().await {
                return reason;
            }
        }
    }

    /// How often a connection, or an attempt at one, ended for this reason.
    pub(crate) fn times(&self, reason: LostReason) -> u64 {
        let reconnects = &self.metrics.reconnects;
        reconnects.with_label_values(&[reason.as_str()]).get()
    }

    /// Waits until that has happened so often.
    pub(crate) async fn reaches(&self, reason: LostReason, times: u64) {
        let reached = async {
            while self.times(reason) < times {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("{} is not reached", reason.as_str()));
    }
}
