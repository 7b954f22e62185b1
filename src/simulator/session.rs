//! One WebSocket connection: commands in, replies and events out, one counter for both.
//!
//! One loop. It writes only what it is told to and never reads while it is stalled. How it ends is
//! a value, so that what was written before an end is flushed, except by a reset.

mod write;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::{self, Bytes};

use super::accept::hang_up;
use super::batch::{Order, now_nanos};
use super::command::Login;
use super::deaf::DeafCause;
use super::faults::Faults;
use super::hub::Hub;
use super::outbox::Outbox;
use super::registry::Registration;
use super::wire::Wire;

/// Close code of a server that goes away.
pub(super) const GOING_AWAY: u16 = 1001;
/// A client that has not answered any ping for so long is dropped, as the vendor does.
const PONG_WAIT: Duration = Duration::from_secs(300);
/// How long a closed connection is read on, so that the last frames are not lost to a reset.
const DRAIN: Duration = Duration::from_secs(2);
/// Stands for "no pings" in the timer.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// One connection.
pub(super) struct Session {
    pub(super) socket: WebSocketStream<Wire>,
    pub(super) place: Registration,
    pub(super) login: Login,
    pub(super) outbox: Outbox,
    /// Half-open: nothing is read or written.
    stalled: bool,
    /// No data is written, and no number consumed.
    pub(super) muted: bool,
    /// Nothing is read, but written.
    pub(super) unread: bool,
    last_pong: Instant,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// The client is gone, or said that it goes.
    Client,
    /// The server closes with this code, or without one.
    Close(Option<u16>),
    /// The server ends the stream without a word.
    Eof,
    /// The server resets.
    Reset,
}

/// Nothing, or the end; an error is an end too.
pub(super) type Step = Result<Option<Goodbye>, tungstenite::Error>;

impl Session {
    pub(super) fn new(socket: WebSocketStream<Wire>, place: Registration) -> Self {
        let faults = Faults::new(&place.hub.options);
        let outbox = Outbox::new(place.connection, faults);
        let muted = place.hub.modes().mute;
        Self {
            socket,
            place,
            login: Login::default(),
            outbox,
            stalled: false,
            muted,
            unread: false,
            last_pong: Instant::now(),
        }
    }

    /// Serves the connection until it ends.
    pub(super) async fn run(mut self) {
        let reset = Arc::clone(&self.place.line.reset);
        let goodbye = tokio::select! {
            ended = self.serve() => ended.unwrap_or_else(|error| {
                tracing::debug!(%error, "connection broke");
                Goodbye::Client
            }),
            () = reset.notified() => Goodbye::Reset,
        };
        self.note_lost(goodbye);
        match goodbye {
            Goodbye::Client => {}
            Goodbye::Close(code) => self.close(code).await,
            Goodbye::Eof => return,
            Goodbye::Reset => {
                hang_up(self.socket.get_ref().stream());
                return;
            }
        }
        // Its place is given up before the drain: whoever waits for the end need not wait for that.
        let Self { socket, place, .. } = self;
        let hub = Arc::clone(&place.hub);
        drop(place);
        drain(socket, &hub).await;
    }

    async fn serve(&mut self) -> Result<Goodbye, tungstenite::Error> {
        let hub = Arc::clone(&self.place.hub);
        let span = hub.options.ping_interval;
        let span = if span.is_zero() { NEVER } else { span };
        let mut pings = interval_at(Instant::now() + span, span);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                order = self.place.orders.recv() => match order {
                    Some(order) => self.obey(order).await?,
                    None => Some(Goodbye::Close(Some(GOING_AWAY))),
                },
                frame = self.socket.next(), if !self.stalled && !self.unread => match frame {
                    Some(frame) => self.hear(frame?).await?,
                    None => Some(Goodbye::Client),
                },
                _ = pings.tick(), if !self.stalled => self.ping().await?,
                () = hub.stopped() => Some(Goodbye::Close(Some(GOING_AWAY))),
            };
            if let Some(goodbye) = step {
                return Ok(goodbye);
            }
        }
    }

    async fn hear(&mut self, frame: Message) -> Step {
        let hub = Arc::clone(&self.place.hub);
        match frame {
            Message::Text(text) => return self.command(&text).await,
            // The library queues the pong; the next read or flush sends it.
            Message::Ping(_) => hub.count(|stats| stats.pings_received += 1),
            Message::Pong(_) => {
                self.last_pong = Instant::now();
                hub.count(|stats| stats.pongs_received += 1);
            }
            Message::Close(frame) => {
                note_close(&hub, frame.as_ref());
                return Ok(Some(Goodbye::Client));
            }
            Message::Binary(_) | Message::Frame(_) => {}
        }
        Ok(None)
    }

    async fn obey(&mut self, order: Order) -> Step {
        match order {
            Order::Events(batch, delivery) => return self.send_events(&batch, delivery).await,
            Order::Stall(stalled) => {
                self.stalled = stalled;
                self.note_deaf(DeafCause::Stalled, stalled);
            }
            Order::Mute(muted) => {
                self.muted = muted;
                self.note_deaf(DeafCause::Muted, muted);
            }
            Order::StopReading(unread) => self.unread = unread,
            Order::Renumber(next) => self.outbox.renumber(next),
            Order::Close(code) => return Ok(Some(Goodbye::Close(code))),
            Order::Eof => return Ok(Some(Goodbye::Eof)),
            Order::Barrier(done) => {
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the flush any more");
                }
            }
            Order::Raw(_)
            | Order::Noise(_)
            | Order::Envelope { .. }
            | Order::Replayed(_)
            | Order::RepeatLast
                if self.stalled => {}
            Order::Raw(message) => self.socket.send(message).await?,
            Order::Noise(noise) => self.send_noise(noise).await?,
            Order::Envelope { recipient, payload } => {
                self.send_envelope(&recipient, &payload).await?;
            }
            Order::Replayed(frame) => self.send_replayed(frame).await?,
            Order::RepeatLast => self.repeat_last().await?,
        }
        Ok(None)
    }

    /// Half-open from now on, as `--disconnect-by stall` wants it.
    pub(super) fn stalls(&mut self) {
        self.stalled = true;
        self.note_deaf(DeafCause::Stalled, true);
    }

    fn note_deaf(&self, cause: DeafCause, begins: bool) {
        // A connection that is not subscribed is not meant to hear anything.
        let (connection, now) = (Some(self.place.connection), now_nanos());
        let mut deaf = self.place.hub.deaf();
        if begins && self.place.is_subscribed() {
            deaf.begin(connection, cause, now);
        } else if !begins {
            deaf.end(connection, cause, now);
        }
    }

    /// Notes what was meant for this connection and will not be written, or may not arrive.
    fn note_lost(&self, goodbye: Goodbye) {
        // Not subscribed from here on, so that nothing more is put in line.
        let was_subscribed = self.place.subscribe(false);
        let connection = Some(self.place.connection);
        let mut deaf = self.place.hub.deaf();
        if let Some(moment) = self.outbox.waiting() {
            deaf.miss(connection, DeafCause::Lost, (moment, moment), 1);
        }
        if goodbye == Goodbye::Reset && was_subscribed {
            let now = now_nanos();
            let from = self.outbox.last().map_or(now, |(_, last)| last.timestamp);
            deaf.miss(connection, DeafCause::Reset, (from.min(now), now), 0);
        }
    }

    async fn ping(&mut self) -> Step {
        let hub = &self.place.hub;
        if !hub.modes().pings {
            return Ok(None);
        }
        let patience = PONG_WAIT.max(2 * hub.options.ping_interval);
        if !self.unread && self.last_pong.elapsed() > patience {
            return Ok(Some(Goodbye::Close(Some(GOING_AWAY))));
        }
        self.socket.send(Message::Ping(Bytes::new())).await?;
        self.place.hub.count(|stats| stats.pings_sent += 1);
        Ok(None)
    }

    async fn close(&mut self, code: Option<u16>) {
        let frame = code.map(|code| CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        });
        if let Err(error) = self.socket.send(Message::Close(frame)).await {
            tracing::debug!(%error, "the client was gone before it was told goodbye");
        }
    }
}

/// Reads on until the client closes too. Dropping a socket with unread bytes would reset it, and a
/// reset takes from the client what it has not read yet.
async fn drain(mut socket: WebSocketStream<Wire>, hub: &Hub) {
    let until_closed = async {
        while let Some(Ok(frame)) = socket.next().await {
            if let Message::Close(frame) = frame {
                note_close(hub, frame.as_ref());
            }
        }
    };
    if timeout(DRAIN, until_closed).await.is_err() {
        tracing::debug!("the client did not close in time");
    }
}

fn note_close(hub: &Hub, frame: Option<&CloseFrame>) {
    let code = frame.map(|frame| frame.code.into());
    hub.count(|stats| stats.last_close_code_from_client = code);
}
