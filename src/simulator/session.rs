//! One WebSocket connection: commands in, replies and events out, one counter for both.
//!
//! One loop. It writes only what it is told to and never reads while it is stalled. How it ends is
//! a value, so that what was written before an end is flushed, except by a reset.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::{self, Bytes};

use super::accept::hang_up;
use super::batch::{Batch, Delivery, Order, data_frame};
use super::command::Login;
use super::faults::Faults;
use super::hub::Hub;
use super::options::DisconnectBy;
use super::outbox::Outbox;
use super::registry::Registration;

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
    pub(super) socket: WebSocketStream<TcpStream>,
    pub(super) place: Registration,
    pub(super) login: Login,
    pub(super) outbox: Outbox,
    stalled: bool,
    last_pong: Instant,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// The client is gone, or said that it goes.
    Client,
    /// The server closes with this code.
    Close(u16),
    /// The server resets.
    Reset,
}

/// Nothing, or the end; an error is an end too.
pub(super) type Step = Result<Option<Goodbye>, tungstenite::Error>;

impl Session {
    pub(super) fn new(socket: WebSocketStream<TcpStream>, place: Registration) -> Self {
        let faults = Faults::new(&place.hub.options);
        let outbox = Outbox::new(place.connection, faults);
        Self {
            socket,
            place,
            login: Login::default(),
            outbox,
            stalled: false,
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
        match goodbye {
            Goodbye::Client => {}
            Goodbye::Close(code) => self.close(code).await,
            Goodbye::Reset => {
                hang_up(self.socket.get_ref());
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
                    None => Some(Goodbye::Close(GOING_AWAY)),
                },
                frame = self.socket.next(), if !self.stalled => match frame {
                    Some(frame) => self.hear(frame?).await?,
                    None => Some(Goodbye::Client),
                },
                _ = pings.tick(), if !self.stalled => self.ping().await?,
                () = hub.stopped() => Some(Goodbye::Close(GOING_AWAY)),
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
            Order::Stall(stalled) => self.stalled = stalled,
            Order::Close(code) => return Ok(Some(Goodbye::Close(code))),
            Order::Barrier(done) => {
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the flush any more");
                }
            }
            _ if self.stalled => {}
            Order::Raw(message) => self.socket.send(message).await?,
            Order::Envelope { recipient, payload } => {
                let (sequence, timestamp) = (self.outbox.next(), self.place.hub.timestamps(1));
                let frame = data_frame(sequence, &recipient, timestamp, &payload);
                self.socket.send(Message::Text(frame)).await?;
            }
            Order::RepeatLast => {
                if let Some((frame, entry)) = self.outbox.last() {
                    self.socket.send(Message::Text(frame)).await?;
                    self.place.hub.note([entry].into_iter());
                }
            }
        }
        Ok(None)
    }

    /// Writes the events with one flush at their end.
    pub(super) async fn send_events(&mut self, batch: &Batch, delivery: Delivery) -> Step {
        let delivery = if self.stalled {
            Delivery::Skip
        } else {
            delivery
        };
        let plan = self.outbox.plan(batch, delivery);
        let hub = Arc::clone(&self.place.hub);
        if plan.left_out > 0 {
            hub.count(|stats| stats.events_skipped += plan.left_out);
        }
        // Noted before the flush: a frame that arrived is never missing from the ledger.
        let mut written = Vec::with_capacity(plan.frames.len());
        let mut result = Ok(());
        for (frame, entry) in plan.frames {
            result = self.socket.feed(Message::Text(frame)).await;
            if result.is_err() {
                break;
            }
            written.push(entry);
        }
        hub.note(written.into_iter());
        result?;
        self.socket.flush().await?;
        Ok(plan.disconnect.map(|how| match how {
            DisconnectBy::Close => Goodbye::Close(GOING_AWAY),
            DisconnectBy::Reset => Goodbye::Reset,
        }))
    }

    async fn ping(&mut self) -> Step {
        if self.last_pong.elapsed() > PONG_WAIT.max(2 * self.place.hub.options.ping_interval) {
            return Ok(Some(Goodbye::Close(GOING_AWAY)));
        }
        self.socket.send(Message::Ping(Bytes::new())).await?;
        self.place.hub.count(|stats| stats.pings_sent += 1);
        Ok(None)
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
        if let Err(error) = self.socket.send(Message::Close(Some(frame))).await {
            tracing::debug!(%error, "the client was gone before it was told goodbye");
        }
    }
}

/// Reads on until the client closes too. Dropping a socket with unread bytes would reset it, and a
/// reset takes from the client what it has not read yet.
async fn drain(mut socket: WebSocketStream<TcpStream>, hub: &Hub) {
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
