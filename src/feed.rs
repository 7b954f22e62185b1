//! The vendor's feed: one connection at a time, and what is to be said of it.
//!
//! ```text
//!   connect ─▶ authenticate ─▶ subscribe ─▶ read ─▶ lost(reason) ─▶ wait ─▶ connect …
//! ```
//!
//! The feed tells ingest what it heard and when it was deaf; it never writes, never drops a message
//! because of its number, and never waits for a broker. It waits only where there is no room left
//! before the disk.

pub mod budget;
mod ledger;
pub mod limits;
mod meter;
pub mod proxy;
pub mod sequence;
mod session;
mod socket;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::blocking::in_place;
use crate::capture::Tap;
use crate::config::FeedConfig;
use crate::event::Timestamp;
use crate::metrics::FeedMetrics;
use crate::normalise::{Frame, Observation, Reason};
use crate::shutdown::Stop;
use budget::Budget;
use sequence::Gap;

pub use session::probe;
pub use socket::tls;

/// What a connect costs of the vendor's request budget: the upgrade, authenticate, subscribe.
pub const CONNECT_COST: usize = 3;

/// First and longest bound of the wait before a reconnect.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Wait after a refused key: an operator must mend it, and each try costs requests.
const REFUSED_KEY_WAIT: Duration = Duration::from_secs(120);

/// What the feed tells ingest, in the order in which it happened.
#[derive(Debug)]
pub enum Heard {
    /// Subscribed: from now on nothing is missed but gaps.
    Up(Timestamp),
    /// One message.
    Event(Box<Message>),
    /// A frame that cannot become an event.
    Rejected(Rejected),
    /// Numbers that did not come.
    Gap(Gap),
    /// The socket was not read for long, because there was no room before the disk.
    Deaf {
        /// When it was left unread.
        from: Timestamp,
        /// When it was read again, or found to be lost.
        to: Timestamp,
    },
    /// Not subscribed any more; the last frame was heard at this time.
    Lost(LostReason, Timestamp),
}

/// One message of the feed.
#[derive(Debug)]
pub struct Message {
    /// What it says.
    pub observation: Observation,
    /// Names of fields that this version does not know.
    pub unknown: BTreeSet<String>,
    /// When it was heard.
    pub received_at: Timestamp,
    /// On which connection.
    pub connection: Arc<str>,
    /// Its room on the way from the socket to the disk.
    pub room: OwnedSemaphorePermit,
}

/// A frame that cannot become an event.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// When it was heard.
    pub received_at: Timestamp,
    /// Its length and number.
    pub detail: String,
    /// Its shape, without any value.
    pub body: Option<Vec<u8>>,
}

/// What a frame was; the value of the label `kind`. Heard = event + rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A message of our feed.
    Event,
    /// A frame that cannot become an event.
    Rejected,
    /// A reply to one of our commands.
    Reply,
    /// A WebSocket ping.
    Ping,
    /// A WebSocket pong.
    Pong,
}

impl FrameKind {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 5] = [
        Self::Event,
        Self::Rejected,
        Self::Reply,
        Self::Ping,
        Self::Pong,
    ];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Rejected => "rejected",
            Self::Reply => "reply",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }
}

/// Why a connection, or an attempt at one, ended; the value of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostReason {
    /// The API key cannot be read, or the login at the proxy is of no use.
    Credential,
    /// No connection: DNS, TCP, TLS, or the upgrade was refused.
    Unreachable,
    /// The connection was taken, and dropped before the upgrade was answered.
    Dropped,
    /// Refused in a way that looks like the vendor's limit.
    Limited,
    /// The key was refused.
    Authentication,
    /// The subscription was refused.
    Subscription,
    /// A command was not answered in time.
    NoReply,
    /// An error reply that nobody had asked for.
    ErrorReply,
    /// The vendor closed the connection.
    Closed,
    /// The connection broke.
    Broken,
    /// Nothing came any more, not even a pong, or nothing whole.
    Idle,
    /// The numbers had a gap, and the operator wishes for a new connection then.
    Gap,
    /// The vendor broke the WebSocket protocol, or sent a frame beyond every bound.
    Protocol,
    /// It looked alive, and told nothing of what the list shows.
    Silence,
    /// We are ending.
    Shutdown,
}

impl LostReason {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 15] = [
        Self::Credential,
        Self::Unreachable,
        Self::Dropped,
        Self::Limited,
        Self::Authentication,
        Self::Subscription,
        Self::NoReply,
        Self::ErrorReply,
        Self::Closed,
        Self::Broken,
        Self::Idle,
        Self::Gap,
        Self::Protocol,
        Self::Silence,
        Self::Shutdown,
    ];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Unreachable => "unreachable",
            Self::Dropped => "dropped",
            Self::Limited => "limited",
            Self::Authentication => "authentication",
            Self::Subscription => "subscription",
            Self::NoReply => "no_reply",
            Self::ErrorReply => "error_reply",
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Gap => "gap",
            Self::Protocol => "protocol",
            Self::Silence => "silence",
            Self::Shutdown => "shutdown",
        }
    }

    /// What an operator should do, if there is something to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Credential => "make `feed.api_key_file` readable for this process",
            Self::Authentication => {
                "check the key in `feed.api_key_file`, and `feed.enterprise_flag`"
            }
            Self::Subscription => "ask the vendor whether this key may read the feed",
            Self::Unreachable | Self::Dropped => {
                "check `feed.url`, DNS, the network and the certificate"
            }
            Self::Limited => "look for another user of this address; the vendor limits by address",
            _ => "nothing to do: the bridge reconnects and repairs from the list",
        }
    }
}

/// Why a session ended.
#[derive(Debug)]
pub struct Lost {
    /// The kind of end.
    pub reason: LostReason,
    /// What was seen; never a credential or personal data.
    pub detail: String,
    /// When the last frame was heard, if the session was subscribed.
    pub subscribed: Option<(Instant, Timestamp)>,
}

impl Lost {
    const fn before_subscribed(reason: LostReason, detail: String) -> Self {
        Self {
            reason,
            detail,
            subscribed: None,
        }
    }
}

/// Everything that the feed works with.
#[derive(Debug)]
pub struct Feed {
    /// Its configuration.
    pub config: FeedConfig,
    /// The vendor's limits, shared with reconcile.
    pub budget: Arc<Budget>,
    /// Its metrics.
    pub metrics: FeedMetrics,
    /// Where it tells what it heard.
    pub heard: mpsc::Sender<Heard>,
    /// Room between the socket and the disk.
    pub room: Arc<Semaphore>,
    /// Since when the socket is not read, while that lasts longer than the idle timeout: said here,
    /// because whoever listens to `heard` is what we wait for.
    pub deaf: watch::Sender<Option<Timestamp>>,
    /// Each new number asks for the connection to be given up and renewed.
    pub renew: watch::Receiver<u64>,
    /// Reads a frame: with its `user_token`, or without.
    pub read: fn(&str) -> Frame,
    /// Where what was read is written down, if an operator asked for it.
    pub capture: Option<Tap>,
    /// When to end.
    pub stop: Stop,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

impl Feed {
    /// Connects and listens, again and again, until it is told to stop or nobody listens to it.
    pub async fn run(self) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        while !self.stop.is_draining() {
            let lost = self.connect().await;
            self.metrics.connected.set(0);
            if let Some((since, last_frame)) = lost.subscribed {
                // It was heard for as long as it takes to see that one is dead: the next wait is short again.
                if since.elapsed() >= self.config.idle_timeout.0 {
                    backoff.reset();
                }
                if self
                    .heard
                    .send(Heard::Lost(lost.reason, last_frame))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            if lost.reason == LostReason::Shutdown {
                tracing::info!("the feed is closed");
                return;
            }
            self.metrics
                .reconnects
                .with_label_values(&[lost.reason.as_str()])
                .inc();
            let wait = self.wait_after(lost.reason, &mut backoff);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let (reason, detail, advice) =
                (lost.reason.as_str(), lost.detail, lost.reason.advice());
            match lost.reason {
                LostReason::Credential | LostReason::Authentication | LostReason::Subscription => {
                    tracing::error!(reason, detail, wait_ms, "the feed refuses us; {advice}");
                }
                _ => tracing::warn!(reason, detail, wait_ms, "the feed is lost; {advice}"),
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.draining() => return,
            }
        }
    }

    /// One connection, from the wait until the vendor's limits allow it to its end.
    async fn connect(&self) -> Lost {
        let allowed = async {
            let place = self.budget.connection().await;
            self.budget.spend(CONNECT_COST).await;
            place
        };
        let _place = tokio::select! {
            place = allowed => place,
            () = self.stop.draining() => return Lost::before_subscribed(LostReason::Shutdown, String::new()),
        };
        // It sees the end for itself: cutting it off here would leave the vendor without a goodbye.
        session::run(self).await
    }

    fn wait_after(&self, reason: LostReason, backoff: &mut Backoff) -> Duration {
        match reason {
            LostReason::Limited => {
                self.budget.block();
                // The block itself is the wait; the jitter keeps several bridges apart.
                backoff.next(&mut rand::rng())
            }
            LostReason::Authentication | LostReason::Subscription => {
                REFUSED_KEY_WAIT + backoff.next(&mut rand::rng())
            }
            _ => backoff.next(&mut rand::rng()),
        }
    }
}

/// Reads the API key, anew at each connect so that a rotated one needs no restart.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn api_key(config: &FeedConfig) -> std::io::Result<SecretString> {
    if let Some(key) = &config.api_key {
        return Ok(SecretString::from(key.expose().to_owned()));
    }
    let path = config
        .api_key_file
        .as_deref()
        .unwrap_or_else(|| std::path::Path::new(""));
    secret_in(path)
}

/// The secret in a file, without the white space around it.
fn secret_in(path: &std::path::Path) -> std::io::Result<SecretString> {
    let text = in_place(|| std::fs::read_to_string(path)).map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("cannot read {}: {error}", path.display()),
        )
    })?;
    match text.trim() {
        "" => Err(std::io::Error::other(format!(
            "{} is empty",
            path.display()
        ))),
        key => Ok(SecretString::from(key.to_owned())),
    }
}
