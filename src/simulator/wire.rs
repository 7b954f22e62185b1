//! The TCP stream under a WebSocket, which can keep pongs from being sent.
//!
//! The library answers every ping by itself, so pongs can only be withheld below it. What the
//! server writes is followed frame by frame (a server masks nothing); while pongs pass, nothing is
//! copied. It never touches what is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Opcode of a pong.
const PONG: u8 = 0xA;

/// The stream.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    withhold: Arc<AtomicBool>,
    filter: Filter,
    /// What was let through and is not written yet.
    pending: BytesMut,
}

impl Wire {
    /// `withhold` may change at any time. The answer to the upgrade passes: it ends before the first
    /// frame begins.
    pub(super) fn new(stream: TcpStream, withhold: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            withhold,
            filter: Filter::default(),
            pending: BytesMut::new(),
        }
    }

    /// The upgrade is answered: what is written from now on is frames.
    pub(super) const fn begins_frames(&mut self) {
        self.filter.in_frames = true;
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        let this = &mut *self;
        if !this.withhold.load(Ordering::Relaxed) && this.filter.is_passing() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
            this.filter
                .pass(buf.get(..written).unwrap_or_default(), false, |_| {});
            return Poll::Ready(Ok(written));
        }
        let (withhold, pending) = (this.withhold.load(Ordering::Relaxed), &mut this.pending);
        this.filter
            .pass(buf, withhold, |bytes| pending.extend_from_slice(bytes));
        // Whatever does not go out now goes with the next write or flush.
        if let Poll::Ready(written) = this.poll_pending(cx) {
            written?;
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in a frame the bytes are that are written.
#[derive(Debug, Default)]
struct Filter {
    in_frames: bool,
    /// The head of a frame, as far as it is there.
    head: Vec<u8>,
    /// What is left of the frame after its head, and whether it is kept back.
    left: u64,
    withheld: bool,
    /// Head bytes of this frame that have gone out already.
    gone: usize,
}

impl Filter {
    /// Whether nothing of the frame at hand is kept back.
    const fn is_passing(&self) -> bool {
        !self.withheld && self.gone == self.head.len()
    }

    /// Follows these bytes, and gives on those that pass.
    fn pass(&mut self, mut bytes: &[u8], withhold: bool, mut on: impl FnMut(&[u8])) {
        if !self.in_frames {
            return on(bytes);
        }
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let here = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let (body, after) = bytes.split_at(here);
                if !self.withheld {
                    on(body);
                }
                self.left -= here as u64;
                bytes = after;
                continue;
            }
            if self.head.is_empty() {
                self.withheld = withhold && first & 0xF == PONG;
            }
            self.head.push(first);
            bytes = rest;
            if !self.withheld {
                on(&[first]);
                self.gone = self.head.len();
            }
            if let Some(length) = length(&self.head) {
                self.left = length;
                self.head.clear();
                self.gone = 0;
            }
        }
        if self.left == 0 && self.head.is_empty() {
            self.withheld = false;
        }
    }
}

/// The length of the payload, if the head is whole.
fn length(head: &[u8]) -> Option<u64> {
    let wide = |from: usize, to: usize| {
        let bytes = head.get(from..to)?.iter();
        Some(bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    match head.get(1)? & 0x7F {
        126 => wide(2, 4),
        127 => wide(2, 10),
        short => Some(u64::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: &[u8] = &[
        0x81, 2, b'a', b'b', 0x8A, 1, b'x', 0x8A, 0, 0x89, 0, 0x81, 1, b'c',
    ];

    #[test]
    fn only_pongs_are_kept_back_however_the_bytes_are_cut() {
        for size in 1..=FRAMES.len() {
            let mut filter = Filter {
                in_frames: true,
                ..Filter::default()
            };
            let mut passed = Vec::new();
            for piece in FRAMES.chunks(size) {
                filter.pass(piece, true, |bytes| passed.extend_from_slice(bytes));
            }
            assert_eq!(
                passed,
                [0x81, 2, b'a', b'b', 0x89, 0, 0x81, 1, b'c'],
                "{size}"
            );
            assert!(filter.is_passing());
        }
    }

    #[test]
    fn a_pong_that_has_begun_goes_on_and_long_frames_are_measured() {
        let mut filter = Filter {
            in_frames: true,
            ..Filter::default()
        };
        let mut passed = Vec::new();
        filter.pass(&[0x8A, 2, b'x'], false, |bytes| {
            passed.extend_from_slice(bytes)
        });
        filter.pass(&[b'y', 0x8A, 1], true, |bytes| {
            passed.extend_from_slice(bytes)
        });
        assert_eq!(passed, [0x8A, 2, b'x', b'y']);
        assert!(!filter.is_passing());
        assert_eq!(length(&[0x81, 126, 1, 0]), Some(256));
        assert_eq!(length(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0]), None);
        assert_eq!(length(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Some(65_536));
    }
}
