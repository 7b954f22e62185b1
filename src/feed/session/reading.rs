//! What one frame becomes: a message, a reply, a number, a rejection.
//!
//! It hands over in the order of the socket, and never drops a message because of its number.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Session, gone};
use crate::feed::sequence::Gap;
use crate::feed::socket::Failed;
use crate::feed::{FrameKind, Heard, Message, Rejected};
use crate::normalise::{Frame, Reason, Reply};
use crate::privacy;

/// Room that even an empty frame takes, in bytes.
const ROOM_MIN: usize = 512;

impl Session<'_> {
    pub(super) fn count(&self, kind: FrameKind) -> Result<Option<Reply>, Failed> {
        self.feed
            .metrics
            .frames
            .with_label_values(&[kind.as_str()])
            .inc();
        Ok(None)
    }

    pub(super) async fn text(&mut self, text: &str) -> Result<Option<Reply>, Failed> {
        if text.len() as u64 > self.config.max_frame_bytes.0 {
            self.unread(Reason::Oversized, text.len()).await?;
            return Ok(None);
        }
        let bytes = text.len().max(ROOM_MIN);
        let frame = (self.feed.read)(text);
        if let Some(capture) = &self.feed.capture {
            capture.heard(self.last_frame, &self.connection, text, &frame);
        }
        match frame {
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

    pub(super) async fn gaps(&mut self, gaps: Vec<Gap>) -> Result<(), Failed> {
        for gap in gaps {
            self.gap(gap).await?;
        }
        Ok(())
    }

    pub(super) async fn gap(&mut self, gap: Gap) -> Result<(), Failed> {
        self.gap_heard = true;
        self.feed.metrics.gaps.inc();
        self.feed.metrics.missing.inc_by(gap.missing);
        tracing::warn!(
            missing = gap.missing,
            "the feed's numbers have a gap; asking for the list"
        );
        self.tell(Heard::Gap(gap)).await
    }

    /// Sets a frame aside by its length alone.
    pub(super) async fn unread(&mut self, reason: Reason, bytes: usize) -> Result<(), Failed> {
        if let Some(capture) = &self.feed.capture {
            capture.unread(self.last_frame, &self.connection, reason, bytes);
        }
        self.reject(reason, bytes, None, None).await
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
}
