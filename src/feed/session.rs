//! One connection from its opening to its end.
//!
//! Each command waits for its reply, with a deadline. An error reply, a missing reply or a close is
//! a reason, never a panic.

mod deaf;
mod liveness;
mod opening;
mod reading;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Wire;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::limits::closed_by_limit;
use super::sequence::Tracker;
use super::socket::{self, Failed, Socket};
use super::{CONNECT_COST, Feed, FrameKind, Heard, Lost, LostReason};
use crate::config::FeedConfig;
use crate::event::Timestamp;
use crate::normalise::{Reason, Reply};
use crate::privacy;
use liveness::{Death, Liveness};
use opening::refusal;

/// The vendor gets so long to answer our close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Runs one connection. Returns when it is lost, or closed because we are to stop.
pub(super) async fn run(feed: &Feed) -> Lost {
    let opened = tokio::select! {
        opened = Session::open(feed) => opened,
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

/// Connects, authenticates and subscribes once, for `check`; the connection is closed again. When the
/// vendor's certificate ends, in Unix seconds, if there is one.
///
/// # Errors
/// The reason and what was seen.
pub async fn probe(feed: &Feed) -> Result<Option<u64>, (LostReason, String)> {
    let mut session = Session::open(feed).await?;
    let ends = socket::certificate_ends(&session.socket);
    session.close().await;
    Ok(ends)
}

struct Session<'a> {
    feed: &'a Feed,
    config: &'a FeedConfig,
    socket: Socket,
    tracker: Tracker,
    connection: Arc<str>,
    /// When the last frame of any kind was heard.
    last_frame: Timestamp,
    /// When the connection counts as dead.
    liveness: Liveness,
    /// When the last frame came that was handed over.
    heard_until: Timestamp,
    /// A span in which the socket was not read, longer than the idle timeout; not told yet.
    deaf: Option<(Timestamp, Timestamp)>,
    /// When the last wait for room began that was worth a note, and when it was over.
    waited: Option<(Timestamp, Instant)>,
    /// A gap was heard since this was asked last.
    gap_heard: bool,
}

impl Session<'_> {
    async fn read(&mut self) -> Failed {
        let every = self.config.ping_interval.0;
        let mut pings = interval_at(Instant::now() + every, every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.feed.stop.clone();
        let mut renew = self.feed.renew.clone();
        // What was said of an earlier connection is done with.
        renew.mark_unchanged();
        loop {
            let (dead, _) = self.liveness.end(self.socket.get_ref().seen());
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
                Ok(()) = renew.changed() => {
                    let detail = "the list shows what the feed did not tell".to_owned();
                    Err((LostReason::Silence, detail))
                }
                () = sleep_until(dead) => self.still_alive(),
                _ = pings.tick() => self.ping().await,
                () = sleep_until(gap_due) => {
                    let overdue = self.tracker.overdue((self.feed.clock)());
                    self.gaps(overdue).await
                }
            };
            if let Err(failed) = outcome.and_then(|()| self.reconnect_after_gap()) {
                if matches!(
                    failed.0,
                    LostReason::Shutdown | LostReason::Gap | LostReason::Silence
                ) {
                    self.close().await;
                }
                return failed;
            }
        }
    }

    /// Whether the connection counts as dead, by what has come until now.
    fn still_alive(&mut self) -> Result<(), Failed> {
        let (end, death) = self.liveness.end(self.socket.get_ref().seen());
        if Instant::now() < end {
            return Ok(());
        }
        let (idle, reply) = (self.config.idle_timeout, self.config.reply_timeout);
        let detail = match death {
            Death::Unanswered => format!("nothing came within {reply} of our ping"),
            Death::Silent => format!("nothing came for {idle}"),
            Death::Dripping => format!("a message came in drips and was not whole after {idle}"),
        };
        Err((LostReason::Idle, detail))
    }

    /// The operator's wish for a new connection after a gap, where the budget has room for it and for
    /// a connection that is lost next.
    fn reconnect_after_gap(&mut self) -> Result<(), Failed> {
        let wished = std::mem::take(&mut self.gap_heard) && self.config.reconnect_on_gap;
        let cost = 2 * (CONNECT_COST + 1);
        if wished && self.feed.budget.must_wait(cost).is_none() {
            let detail = "the numbers have a gap, and `feed.reconnect_on_gap` is set".to_owned();
            return Err((LostReason::Gap, detail));
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Failed> {
        let seen = self.socket.get_ref().seen();
        self.liveness.pinged(Instant::now(), seen);
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
        let since = Instant::now();
        self.last_frame = (self.feed.clock)();
        self.feed
            .metrics
            .last_frame
            .set(self.last_frame.as_seconds());
        let reply = match wire {
            Wire::Text(text) => self.text(&text).await,
            Wire::Binary(bytes) => self
                .unread(Reason::Binary, bytes.len())
                .await
                .map(|()| None),
            Wire::Ping(_) => self.count(FrameKind::Ping),
            Wire::Pong(_) => self.count(FrameKind::Pong),
            Wire::Close(frame) => Err(closed(frame.as_ref())),
            Wire::Frame(_) => Ok(None),
        };
        // Counted from here, because handing over may have waited for room: then we were deaf by
        // our own choice, and the vendor's frames lie in the socket.
        let seen = self.socket.get_ref().seen();
        self.liveness.handed_over(since, Instant::now(), seen);
        if reply.is_ok() {
            self.heard_until = self.last_frame;
            self.tell_of_deafness().await?;
        }
        reply
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

/// What a close frame means; all codes are alike but those that point to the limit.
fn closed(frame: Option<&CloseFrame>) -> Failed {
    let code = frame.map(|frame| u16::from(frame.code));
    let words = frame.map_or("", |frame| frame.reason.as_str());
    let said = match words {
        "" => String::new(),
        words => format!(": {}", privacy::words(words)),
    };
    let detail = match code {
        Some(code) => format!("closed by the vendor with code {code}{said}"),
        None => "closed by the vendor without a code".to_owned(),
    };
    match closed_by_limit(code, words) {
        true => (LostReason::Limited, detail),
        false => (LostReason::Closed, detail),
    }
}
