//! One connection from its opening to its end.
//!
//! Each command waits for its reply, with a deadline. An error reply, a missing reply or a close is
//! a reason, never a panic.

mod deaf;
mod opening;
mod reading;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Wire;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::sequence::Tracker;
use super::socket::{self, Failed, Socket};
use super::{Feed, FrameKind, Heard, Lost, LostReason};
use crate::config::FeedConfig;
use crate::event::Timestamp;
use crate::normalise::{Reason, Reply};
use opening::refusal;

/// The vendor gets so long to answer our close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

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

impl Session<'_> {
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
