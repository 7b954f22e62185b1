//! What a connection writes beside replies: events, whole or in pieces, and frames of no user.
//!
//! It writes in the order of the plan and notes what was handed to the socket and what was not.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Bytes, Utf8Bytes};

use super::{Goodbye, Session, Step};
use crate::simulator::batch::{Batch, Delivery, data_frame};
use crate::simulator::deaf::DeafCause;
use crate::simulator::options::{DisconnectBy, DripBy, Noise};
use crate::simulator::outbox::{Plan, Planned};

/// Result of a write.
type Written = Result<(), tungstenite::Error>;

impl Session {
    /// Writes the events with one flush at their end.
    pub(in crate::simulator) async fn send_events(
        &mut self,
        batch: &Batch,
        delivery: Delivery,
    ) -> Step {
        if self.muted && !self.stalled {
            if let Some(span) = batch.span() {
                self.miss(DeafCause::Muted, span, batch.len() as u64);
            }
            return Ok(None);
        }
        let stalled = self.stalled;
        let delivery = if stalled { Delivery::Skip } else { delivery };
        let plan = self.outbox.plan(batch, delivery);
        let cause = if stalled {
            DeafCause::Stalled
        } else {
            DeafCause::Gap
        };
        for (first, last, count) in &plan.gaps {
            self.miss(cause, (*first, *last), *count);
        }
        if let Some((first, last, count)) = plan.lost {
            self.miss(DeafCause::Lost, (first, last), count);
        }
        if plan.left_out > 0 {
            let left_out = plan.left_out;
            self.place
                .hub
                .count(|stats| stats.events_skipped += left_out);
        }
        let disconnect = plan.disconnect;
        self.write(plan).await?;
        self.socket.flush().await?;
        Ok(disconnect.and_then(|how| self.lose(how)))
    }

    /// Notes before the flush what is written: a frame that arrived is never missing from the ledger.
    async fn write(&mut self, plan: Plan) -> Written {
        let hub = Arc::clone(&self.place.hub);
        let mut written = Vec::with_capacity(plan.frames.len());
        let mut frames = plan.frames.into_iter();
        let mut result = Ok(());
        for planned in frames.by_ref() {
            let mut entry = planned.event().map(|(_, entry)| *entry);
            result = match planned {
                Planned::Event(frame, _) => self.socket.feed(Message::Text(frame)).await,
                Planned::Dripped(frame, _, by, interval) => {
                    // A reset may cut it short, and then nothing below is reached.
                    written.extend(entry.take());
                    hub.note(std::mem::take(&mut written).into_iter());
                    self.drip(&frame, by, interval).await
                }
                Planned::Noise(message) => {
                    hub.count(|stats| stats.noise_sent += 1);
                    self.socket.feed(message).await
                }
            };
            if result.is_err() {
                if let Some(entry) = entry {
                    let moment = entry.timestamp;
                    self.miss(DeafCause::Lost, (moment, moment), 1);
                }
                break;
            }
            written.extend(entry);
        }
        hub.note(written.into_iter());
        for planned in frames {
            if let Some((_, entry)) = planned.event() {
                self.miss(DeafCause::Lost, (entry.timestamp, entry.timestamp), 1);
            }
        }
        result
    }

    fn miss(&self, cause: DeafCause, span: (i64, i64), count: u64) {
        let connection = Some(self.place.connection);
        self.place.hub.deaf().miss(connection, cause, span, count);
    }

    fn lose(&mut self, how: DisconnectBy) -> Option<Goodbye> {
        match how {
            DisconnectBy::Close => {
                Some(Goodbye::Close(Some(self.place.hub.options.link.close_code)))
            }
            DisconnectBy::NoCode => Some(Goodbye::Close(None)),
            DisconnectBy::Eof => Some(Goodbye::Eof),
            DisconnectBy::Reset => Some(Goodbye::Reset),
            DisconnectBy::Stall => {
                self.stalls();
                None
            }
        }
    }

    /// Sends a text in pieces. In a frame that comes byte by byte nothing can come between; between
    /// fragments there are pings and pongs.
    async fn drip(&mut self, text: &Utf8Bytes, by: DripBy, interval: Duration) -> Written {
        self.socket.flush().await?;
        let bytes = text.as_bytes();
        match by {
            DripBy::Bytes => {
                let mut frame = Vec::new();
                let whole = Frame::message(
                    Bytes::copy_from_slice(bytes),
                    OpCode::Data(Data::Text),
                    true,
                );
                whole.format(&mut frame)?;
                for byte in frame {
                    let wire = self.socket.get_mut();
                    wire.write_all(&[byte]).await?;
                    wire.flush().await?;
                    sleep(interval).await;
                }
            }
            DripBy::Fragments => {
                for (place, byte) in bytes.iter().enumerate() {
                    let kind = if place == 0 {
                        Data::Text
                    } else {
                        Data::Continue
                    };
                    let last = place + 1 == bytes.len();
                    let piece = Frame::message(vec![*byte], OpCode::Data(kind), last);
                    self.socket.send(Message::Frame(piece)).await?;
                    let between = match place % 4 {
                        1 => Some(Message::Ping("drip".into())),
                        3 => Some(Message::Pong("drip".into())),
                        _ => None,
                    };
                    if let Some(between) = between.filter(|_| !last) {
                        self.socket.send(between).await?;
                    }
                    sleep(interval).await;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn send_noise(&mut self, noise: Noise) -> Written {
        let hub = Arc::clone(&self.place.hub);
        let message = self
            .outbox
            .noise(noise, hub.options.seed, hub.timestamps(1));
        self.socket.send(message).await?;
        hub.count(|stats| stats.noise_sent += 1);
        Ok(())
    }

    pub(super) async fn send_envelope(&mut self, recipient: &str, payload: &str) -> Written {
        let (sequence, timestamp) = (self.outbox.next(), self.place.hub.timestamps(1));
        let frame = data_frame(sequence, recipient, timestamp, payload);
        self.socket.send(Message::Text(frame)).await
    }

    pub(super) async fn send_replayed(&mut self, frame: Utf8Bytes) -> Written {
        self.place.hub.count(|stats| stats.events_sent += 1);
        self.socket.send(Message::Text(frame)).await
    }

    pub(super) async fn repeat_last(&mut self) -> Written {
        if let Some((frame, entry)) = self.outbox.last() {
            self.socket.send(Message::Text(frame)).await?;
            self.place.hub.note([entry].into_iter());
        }
        Ok(())
    }
}
