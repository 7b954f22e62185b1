//! `run --capture`: what the feed sends, written down for `simulate --replay`, as the privacy policy allows.
//!
//! A message is written without anything that the policy keeps from the bus (`privacy/frame.rs`), anything
//! else as its shape and length. What cannot be written ends the capture, or is left out of it, and is
//! said; the feed never waits for the disk, and the bridge never ends because of a capture.

mod file;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::event::Timestamp;
use crate::normalise::{Frame, Reason};
use crate::privacy::{self, Privacy};

pub use file::{CaptureError, Writer};

/// What a capture holds at most unless told otherwise.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Lines, and bytes of lines, that may wait for the disk; what comes while they do is left out.
const WAITING: (usize, usize) = (4096, 8 * 1024 * 1024);

/// One line on its way, with its share of the room.
#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Where the feed tells what it has read.
#[derive(Debug)]
pub struct Tap {
    privacy: Privacy,
    lines: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
    /// Frames since the last line that were left out.
    left_out: AtomicU64,
    /// It was said that some are.
    said: AtomicBool,
}

/// Opens a capture: the end of the feed, and the one that writes.
///
/// # Errors
/// [`CaptureError`] when the file cannot be used; nothing of it was changed then but its mode.
pub fn open(path: &Path, max_bytes: u64, privacy: Privacy) -> Result<(Tap, Writer), CaptureError> {
    let (sender, lines) = mpsc::channel(WAITING.0);
    let writer = Writer::open(path, max_bytes, lines)?;
    let tap = Tap {
        privacy,
        lines: sender,
        room: Arc::new(Semaphore::new(WAITING.1)),
        left_out: AtomicU64::new(0),
        said: AtomicBool::new(false),
    };
    Ok((tap, writer))
}

impl Tap {
    /// A text frame, and what it was read as.
    pub fn heard(&self, at: Timestamp, connection: &str, text: &str, frame: &Frame) {
        // Nobody writes any more.
        if self.lines.is_closed() {
            return;
        }
        let shape = || privacy::shape(text).and_then(|shape| serde_json::from_slice(&shape).ok());
        let (kind, reason, shown): (_, _, Option<Value>) = match frame {
            Frame::Data(observation, _) => ("data", None, self.privacy.frame(text, observation)),
            Frame::Reply(_) => ("reply", None, shape()),
            Frame::Rejected(reason, _) => ("rejected", Some(*reason), shape()),
        };
        self.write(at, connection, kind, reason, text.len(), shown);
    }

    /// A frame that was not read.
    pub fn unread(&self, at: Timestamp, connection: &str, reason: Reason, bytes: usize) {
        self.write(at, connection, "rejected", Some(reason), bytes, None);
    }

    fn write(
        &self,
        at: Timestamp,
        connection: &str,
        kind: &str,
        reason: Option<Reason>,
        bytes: usize,
        frame: Option<Value>,
    ) {
        let at_us = at.0.max(0) / 1000;
        let mut line =
            json!({"at_us": at_us, "connection": connection, "kind": kind, "bytes": bytes});
        if let Some(reason) = reason {
            line["reason"] = reason.as_str().into();
        }
        line["frame"] = frame.unwrap_or_default();
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let mut lines = String::new();
        if left_out > 0 {
            let gap = json!({"at_us": at_us, "connection": connection, "kind": "left_out",
                "count": left_out});
            lines = format!("{gap}\n");
        }
        lines = format!("{lines}{line}\n");
        if !self.send(lines.into_bytes()) {
            self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
            if !self.lines.is_closed() && !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the capture is slower than the feed: frames are left out of it, and counted there"
                );
            }
        }
    }

    /// Whether there was room for it.
    fn send(&self, bytes: Vec<u8>) -> bool {
        let Ok(permits) = u32::try_from(bytes.len()) else {
            return false;
        };
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(permits) else {
            return false;
        };
        self.lines.try_send(Line { bytes, _room: room }).is_ok()
    }
}

#[cfg(test)]
mod tests;
