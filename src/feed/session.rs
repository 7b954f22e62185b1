//! One connection from its opening to its end.
//!
//! Each command waits for its reply, with a deadline. An error reply, a missing reply or a close is
//! a reason, never a panic.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Wire;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::sequence::{Gap, Tracker};
use super::socket::{self, Failed, Socket};
use super::{Feed, FrameKind, Heard, Lost, LostReason, Message, Rejected, api_key};
use crate::config::{EnterpriseFlag, FeedConfig};
use crate::event::{FEED_NAME, Timestamp};
use crate::normalise::{Frame, Reason, Reply};
use crate::privacy;

/// The vendor gets so long to answer our close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A wait for room that is shorter is nothing: the vendor's frames lie in the socket meanwhile.
const WAIT_NOTED: Duration = Duration::from_secs(1);

/// Room that even an empty frame takes, in bytes.
const ROOM_MIN: usize = 512;

/// Runs one connection. Returns when it is lost, or closed because we are to stop.
pub(super) async fn run(feed: &Feed) -> Lost {
    let opening = async {
        let mut session = Session::open(feed).await?;
        session.subscribe().await?;
        Ok(session)
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = feed.stop.draining() => Err((LostReason::Shutdown, String::new())),
    };
    let mut session = match opened {
        Ok(session) => session,
        Err((reason, detail)) => return Lost::before_subscribed(reason, detail),
    };
    let since = Instant::now();
    feed.metrics.connects.inc();
    feed.metrics.connected.set(1);
    tracing::info!(connection = &*session.connection, "subscribed to the feed");
    let (reason, detail) = match session.tell(Heard::Up((feed.clock)())).await {
        Ok(()) => session.read().await,
        Err(failed) => failed,
    };
    for gap in session.tracker.end() {
        if session.gap(gap).await.is_err() {
            break;
        }
    }
    session.lost_while_deaf(reason).await;
    Lost {
        reason,
        detail,
        subscribed: Some((since, session.heard_until)),
    }
}

/// Connects, authenticates and subscribes once, for `check`; the connection is closed again.
///
/// # Errors
/// The reason and what was seen.
pub async fn probe(feed: &Feed) -> Result<(), (LostReason, String)> {
    let mut session = Session::open(feed).await?;
    session.subscribe().await?;
    session.close().await;
    Ok(())
}

struct Session<'a> {
    feed: &'a Feed,
    config: &'a FeedConfig,
    socket: Socket,
    tracker: Tracker,
    connection: Arc<str>,
    /// When the last frame of any kind was heard, by the wall and by the steady clock.
    last_frame: Timestamp,
    last_turn: Instant,
    /// When the last frame came that was handed over.
    heard_until: Timestamp,
    /// A span in which the socket was not read, longer than the idle timeout; not told yet.
    deaf: Option<(Timestamp, Timestamp)>,
    /// When the last wait for room began that was worth a note, and when it was over.
    waited: Option<(Timestamp, Instant)>,
}

impl<'a> Session<'a> {
    async fn open(feed: &'a Feed) -> Result<Self, Failed> {
        let config = &feed.config;
        let opened = timeout(config.reply_timeout.0, socket::open(config)).await;
        let socket = opened.map_err(|_| {
            let waited = config.reply_timeout;
            (
                LostReason::Unreachable,
                format!("{} did not answer within {waited}", config.url),
            )
        })??;
        Ok(Self {
            feed,
            config,
            socket,
            tracker: Tracker::new(config.reorder_window),
            connection: ulid::Ulid::new().to_string().into(),
            last_frame: (feed.clock)(),
            last_turn: Instant::now(),
            heard_until: (feed.clock)(),
            deaf: None,
            waited: None,
        })
    }

    async fn subscribe(&mut self) -> Result<(), Failed> {
        let key =
            api_key(self.config).map_err(|error| (LostReason::Credential, error.to_string()))?;
        let enterprise = match self.config.enterprise_flag {
            EnterpriseFlag::Boolean => json!(true),
            EnterpriseFlag::String => json!("true"),
        };
        let authenticate = json!({"type": "authenticate", "apiKey": key.expose_secret(), "enterprise": enterprise});
        self.command(
            "authenticate",
            &authenticate.to_string(),
            LostReason::Authentication,
        )
        .await?;
        let subscribe = json!({"type": "subscribe", "feeds": [FEED_NAME]});
        self.command(
            "subscribe",
            &subscribe.to_string(),
            LostReason::Subscription,
        )
        .await
    }

    /// Sends a command and waits for its reply; messages that come meanwhile are heard as well.
    async fn command(
        &mut self,
        action: &str,
        text: &str,
        refused: LostReason,
    ) -> Result<(), Failed> {
        let deadline = Instant::now() + self.config.reply_timeout.0;
        let no_reply = || {
            let waited = self.config.reply_timeout;
            (
                LostReason::NoReply,
                format!("{action} was not answered within {waited}"),
            )
        };
        let sent = tokio::time::timeout_at(deadline, self.socket.send(Wire::text(text))).await;
        sent.map_err(|_| no_reply())?
            .map_err(|error| socket::failed(&error))?;
        loop {
            let next = tokio::time::timeout_at(deadline, self.socket.next()).await;
            let Some(reply) = self.take(next.map_err(|_| no_reply())?).await? else {
                continue;
            };
            if reply
                .action
                .as_deref()
                .is_some_and(|answered| answered != action)
            {
                continue;
            }
            return if reply.success {
                Ok(())
            } else {
                Err(refusal(action, &reply, refused))
            };
        }
    }

    async fn read(&mut self) -> Failed {
        let every = self.config.ping_interval.0;
        let mut pings = interval_at(Instant::now() + every, every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.feed.stop.clone();
        loop {
            let idle = self.last_turn + self.config.idle_timeout.0;
            let gap_due = self.gap_due();
            let outcome = tokio::select! {
                biased;
                () = stop.draining() => {
                    self.close().await;
                    return (LostReason::Shutdown, String::new());
                }
                next = self.socket.next() => match self.take(next).await {
                    Ok(Some(reply)) if !reply.success => {
                        Err(refusal("the connection", &reply, LostReason::ErrorReply))
                    }
                    Ok(_) => Ok(()),
                    Err(failed) => Err(failed),
                },
                () = sleep_until(idle) => {
                    let idle = self.config.idle_timeout;
                    Err((LostReason::Idle, format!("no frame of any kind for {idle}")))
                }
                _ = pings.tick() => self.ping().await,
                () = sleep_until(gap_due) => {
                    let overdue = self.tracker.overdue((self.feed.clock)());
                    self.gaps(overdue).await
                }
            };
            if let Err(failed) = outcome {
                if failed.0 == LostReason::Shutdown {
                    self.close().await;
                }
                return failed;
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Failed> {
        let sent = timeout(
            self.config.reply_timeout.0,
            self.socket.send(Wire::Ping("".into())),
        );
        match sent.await {
            Ok(sent) => sent.map_err(|error| socket::failed(&error)),
            Err(_) => Err((LostReason::Idle, "a ping could not be sent".to_owned())),
        }
    }

    /// When the tracker wants to be asked, on the steady clock.
    fn gap_due(&self) -> Instant {
        let Some(due) = self.tracker.due() else {
            return Instant::now() + self.config.idle_timeout.0;
        };
        let left = due.seconds_since((self.feed.clock)()).max(0.0);
        Instant::now() + Duration::from_secs_f64(left)
    }

    /// Takes what the socket gave; a reply is for the caller.
    async fn take(
        &mut self,
        next: Option<Result<Wire, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<Option<Reply>, Failed> {
        let wire = match next {
            None => return Err((LostReason::Closed, "the connection has ended".to_owned())),
            Some(Err(error)) => return Err(socket::failed(&error)),
            Some(Ok(wire)) => wire,
        };
        self.last_frame = (self.feed.clock)();
        self.feed
            .metrics
            .last_frame
            .set(self.last_frame.as_seconds());
        let reply = match wire {
            Wire::Text(text) => self.text(&text).await,
            Wire::Binary(bytes) => self
                .reject(Reason::Binary, bytes.len(), None, None)
                .await
                .map(|()| None),
            Wire::Ping(_) => self.count(FrameKind::Ping),
            Wire::Pong(_) => self.count(FrameKind::Pong),
            Wire::Close(frame) => Err((LostReason::Closed, describe(frame.as_ref()))),
            Wire::Frame(_) => Ok(None),
        };
        // Counted from here, because handing over may have waited for room: then we were deaf by
        // our own choice, and the vendor's frames lie in the socket.
        self.last_turn = Instant::now();
        if reply.is_ok() {
            self.heard_until = self.last_frame;
            self.tell_of_deafness().await?;
        }
        reply
    }

    async fn tell_of_deafness(&mut self) -> Result<(), Failed> {
        match self.deaf.take() {
            Some((from, to)) => self.tell(Heard::Deaf { from, to }).await,
            None => Ok(()),
        }
    }

    /// The vendor may have gone while we did not read, and then not all that it had to say was in the
    /// socket: nobody can tell since when. When we go, all that it said until then is there, and what is
    /// left unread lies in the window of our end.
    async fn lost_while_deaf(&mut self, reason: LostReason) {
        if let Some((from, over)) = self.waited
            && reason != LostReason::Shutdown
            && self.deaf.is_none()
            && over.elapsed() < self.config.idle_timeout.0
        {
            self.deaf = Some((from, (self.feed.clock)()));
        }
        // Whoever does not listen any more needs no word.
        self.tell_of_deafness().await.unwrap_or_default();
    }

    fn count(&self, kind: FrameKind) -> Result<Option<Reply>, Failed> {
        self.feed
            .metrics
            .frames
            .with_label_values(&[kind.as_str()])
            .inc();
        Ok(None)
    }

    async fn text(&mut self, text: &str) -> Result<Option<Reply>, Failed> {
        if text.len() as u64 > self.config.max_frame_bytes.0 {
            self.reject(Reason::Oversized, text.len(), None, None)
                .await?;
            return Ok(None);
        }
        let bytes = text.len().max(ROOM_MIN);
        match (self.feed.read)(text) {
            Frame::Data(observation, unknown) => {
                self.number(observation.sequence).await?;
                self.count(FrameKind::Event)?;
                self.feed
                    .metrics
                    .last_event
                    .set(self.last_frame.as_seconds());
                let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
                let room = Semaphore::acquire_many_owned(Arc::clone(&self.feed.room), permits);
                let message = Message {
                    observation: *observation,
                    unknown,
                    received_at: self.last_frame,
                    connection: Arc::clone(&self.connection),
                    room: self.unless_ending(room).await?.map_err(|_| gone())?,
                };
                self.tell(Heard::Event(Box::new(message))).await?;
                Ok(None)
            }
            Frame::Reply(reply) => {
                self.number(reply.sequence).await?;
                self.count(FrameKind::Reply)?;
                Ok(Some(reply))
            }
            Frame::Rejected(reason, sequence) => {
                self.number(sequence).await?;
                let body = privacy::shape(text);
                self.reject(reason, text.len(), sequence, body).await?;
                Ok(None)
            }
        }
    }

    /// Waits for something before the disk; what is not there when the end is asked for was not heard.
    ///
    /// The socket is not read meanwhile. After the idle timeout that is said aloud.
    async fn unless_ending<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Failed> {
        let (since, from) = (Instant::now(), (self.feed.clock)());
        let mut wait = std::pin::pin!(wait);
        let in_time = tokio::select! {
            biased;
            done = &mut wait => Some(done),
            () = self.feed.stop.draining() => return Err(gone()),
            () = sleep_until(since + self.config.idle_timeout.0) => None,
        };
        let done = match in_time {
            Some(done) if since.elapsed() < WAIT_NOTED => return Ok(done),
            Some(done) => done,
            None => {
                self.goes_deaf(from);
                let done = tokio::select! {
                    done = &mut wait => done,
                    () = self.feed.stop.draining() => return Err(gone()),
                };
                self.hears_again(from);
                done
            }
        };
        self.waited = Some((from, Instant::now()));
        Ok(done)
    }

    fn goes_deaf(&self, from: Timestamp) {
        self.feed.metrics.connected.set(0);
        self.feed.deaf.send_replace(Some(from));
        tracing::error!(
            since = %from,
            "the feed is not read, because the journal takes no events: a blind window is open"
        );
    }

    fn hears_again(&mut self, from: Timestamp) {
        self.feed.metrics.connected.set(1);
        self.feed.deaf.send_replace(None);
        let from = self.deaf.map_or(from, |(earlier, _)| earlier.min(from));
        self.deaf = Some((from, (self.feed.clock)()));
        tracing::warn!(since = %from, "the feed is read again");
    }

    async fn number(&mut self, sequence: Option<i64>) -> Result<(), Failed> {
        let Some(sequence) = sequence else {
            return Ok(());
        };
        let observed = self.tracker.observe(sequence, self.last_frame);
        if observed.regression {
            self.feed.metrics.regressions.inc();
        }
        self.gaps(observed.gaps).await
    }

    async fn gaps(&mut self, gaps: Vec<Gap>) -> Result<(), Failed> {
        for gap in gaps {
            self.gap(gap).await?;
        }
        Ok(())
    }

    async fn gap(&mut self, gap: Gap) -> Result<(), Failed> {
        self.feed.metrics.gaps.inc();
        self.feed.metrics.missing.inc_by(gap.missing);
        tracing::warn!(
            missing = gap.missing,
            "the feed's numbers have a gap; asking for the list"
        );
        self.tell(Heard::Gap(gap)).await
    }

    async fn reject(
        &mut self,
        reason: Reason,
        bytes: usize,
        sequence: Option<i64>,
        body: Option<Vec<u8>>,
    ) -> Result<(), Failed> {
        self.count(FrameKind::Rejected)?;
        let number = sequence
            .map(|sequence| format!(", sequence {sequence}"))
            .unwrap_or_default();
        self.tell(Heard::Rejected(Rejected {
            reason,
            received_at: self.last_frame,
            detail: format!("{bytes} bytes{number}, connection {}", self.connection),
            body,
        }))
        .await
    }

    async fn tell(&mut self, heard: Heard) -> Result<(), Failed> {
        let feed = self.feed;
        let told = self.unless_ending(feed.heard.send(heard)).await?;
        told.map_err(|_| gone())
    }

    /// Says goodbye; a vendor that does not answer is not waited for.
    async fn close(&mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let goodbye = async {
            self.socket.close(Some(frame)).await?;
            while self.socket.next().await.transpose()?.is_some() {}
            Ok::<(), tokio_tungstenite::tungstenite::Error>(())
        };
        match timeout(CLOSE_WAIT, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the close was not answered"),
            Err(_) => tracing::debug!("the close was not answered in time"),
        }
    }
}

/// Ingest has ended: so does the feed.
fn gone() -> Failed {
    (LostReason::Shutdown, "nobody listens any more".to_owned())
}

fn describe(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) => format!("closed by the vendor with code {}", u16::from(frame.code)),
        None => "closed by the vendor without a code".to_owned(),
    }
}

fn refusal(what: &str, reply: &Reply, refused: LostReason) -> Failed {
    let words = reply.explanation.to_lowercase();
    let limited = ["limit", "too many", "429", "throttl"]
        .iter()
        .any(|word| words.contains(word));
    let why = match words.is_empty() {
        true => "no reason given".to_owned(),
        false => privacy::words(&reply.explanation),
    };
    let reason = if limited {
        LostReason::Limited
    } else {
        refused
    };
    (reason, format!("{what} was answered with an error: {why}"))
}
