//! Watches the vendor's bytes as they pass, below the WebSocket library, which tells only of whole
//! messages: when the last byte came, and since when a message is unfinished.
//!
//! It follows the frames by their headers alone. It never keeps, changes or judges a byte: what is no
//! WebSocket is for the library to refuse.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What ends the head of the answer to the upgrade.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The longest header of a frame: two bytes, a length of eight, a mask of four.
const HEADER_MAX: usize = 14;

/// What was seen of the vendor's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// When the last byte came.
    pub last_byte: Instant,
    /// When the first byte came of a frame, or of a message in several frames, that is not whole yet.
    pub unfinished: Option<Instant>,
}

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    last_byte: Instant,
    place: Place,
    /// When the message began of which the last frame is not here yet.
    message: Option<Instant>,
    /// When the frame began that is not whole yet.
    frame: Option<Instant>,
}

/// Where in the stream the next byte is.
#[derive(Debug)]
enum Place {
    /// In the answer to the upgrade, so many bytes of its end matched.
    Head(usize),
    /// In a header, of which so many bytes are here.
    Header([u8; HEADER_MAX], usize),
    /// In a payload with so many bytes to come; whether its frame ends a message.
    Payload(u64, bool),
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            last_byte: now,
            place: Place::Head(0),
            message: None,
            frame: None,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            last_byte: self.last_byte,
            unfinished: self.message.or(self.frame),
        }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn pass(&mut self, mut bytes: &[u8], now: Instant) {
        if !bytes.is_empty() {
            self.last_byte = now;
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.place {
                Place::Payload(left, ends) => {
                    let here = (bytes.len() as u64).min(*left);
                    (*left, bytes) = (*left - here, skip(bytes, here));
                    if *left == 0 {
                        let ends = *ends;
                        self.frame_ended(ends);
                    }
                    continue;
                }
                Place::Head(matched) => {
                    *matched = match HEAD_END.get(*matched) {
                        Some(wanted) if *wanted == byte => *matched + 1,
                        _ => usize::from(byte == b'\r'),
                    };
                    if *matched == HEAD_END.len() {
                        self.place = Place::Header([0; HEADER_MAX], 0);
                    }
                }
                Place::Header(header, have) => {
                    self.frame.get_or_insert(now);
                    if let Some(place) = header.get_mut(*have) {
                        *place = byte;
                    }
                    *have += 1;
                    let (header, have) = (*header, *have);
                    if have == header_length(&header) || have == HEADER_MAX {
                        self.header_ended(&header, now);
                    }
                }
            }
            bytes = rest;
        }
    }

    fn header_ended(&mut self, header: &[u8; HEADER_MAX], now: Instant) {
        let (last, control) = (header[0] & 0x80 != 0, header[0] & 0x08 != 0);
        if !control {
            self.message = self.message.or(self.frame).or(Some(now));
        }
        self.place = Place::Payload(payload_length(header), last && !control);
        if matches!(self.place, Place::Payload(0, _)) {
            self.frame_ended(last && !control);
        }
    }

    fn frame_ended(&mut self, ends_message: bool) {
        self.frame = None;
        if ends_message {
            self.message = None;
        }
        self.place = Place::Header([0; HEADER_MAX], 0);
    }
}

fn skip(bytes: &[u8], length: u64) -> &[u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.get(length..).unwrap_or_default()
}

/// How long the header is, as far as its first two bytes tell; never less than two.
const fn header_length(header: &[u8; HEADER_MAX]) -> usize {
    let length = match header[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if header[1] & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

fn payload_length(header: &[u8; HEADER_MAX]) -> u64 {
    let extended = |bytes: usize| {
        let digits = header.iter().skip(2).take(bytes);
        digits.fold(0, |length: u64, digit| length << 8 | u64::from(*digit))
    };
    match header[1] & 0x7f {
        126 => extended(2),
        127 => extended(8),
        length => length.into(),
    }
}

/// A stream whose incoming bytes pass a [`Meter`].
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        let meter = Meter::new(Instant::now());
        Self { stream, meter }
    }

    pub(super) fn seen(&self) -> Seen {
        self.meter.seen()
    }

    pub(super) const fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        this.meter.pass(fresh, Instant::now());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEXT: u8 = 0x1;
    const CONTINUED: u8 = 0x0;
    const PONG: u8 = 0xa;

    fn frame(last: bool, opcode: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
        match length {
            0..126 => bytes.push(u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        // As awkward as can be: the payload looks like the end of a head, and like headers.
        bytes.extend(b"\r\n\r\n\x81\x05".iter().cycle().take(length));
        bytes
    }

    /// A meter past the upgrade, and a clock that goes on by a second for each piece.
    struct Bench {
        meter: Meter,
        start: Instant,
        second: u64,
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            let mut meter = Meter::new(start);
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\r\n\r\n";
            for byte in answer.as_bytes() {
                meter.pass(&[*byte], start);
            }
            assert_eq!(meter.seen().unfinished, None);
            Self {
                meter,
                start,
                second: 0,
            }
        }

        /// The second in which the unfinished message began, after this piece.
        fn pass(&mut self, bytes: &[u8]) -> Option<u64> {
            self.second += 1;
            let now = self.start + Duration::from_secs(self.second);
            self.meter.pass(bytes, now);
            assert_eq!(self.meter.seen().last_byte, now);
            let unfinished = self.meter.seen().unfinished;
            unfinished.map(|since| (since - self.start).as_secs())
        }
    }

    #[test]
    fn whole_frames_of_every_length_leave_nothing_unfinished_however_they_are_cut() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let mut stream = frame(true, PONG, 4);
            stream.extend(frame(true, TEXT, length));
            stream.extend(frame(true, PONG, 0));
            for piece in [1, 2, 3, 7, 4096, stream.len()] {
                let mut bench = Bench::new();
                let mut unfinished = None;
                for bytes in stream.chunks(piece) {
                    unfinished = bench.pass(bytes);
                }
                assert_eq!(unfinished, None, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_is_unfinished_since_its_first() {
        let mut bench = Bench::new();
        let bytes = frame(true, TEXT, 5);
        let (last, first) = bytes.split_last().unwrap();
        for byte in first {
            assert_eq!(bench.pass(&[*byte]), Some(1));
        }
        assert_eq!(bench.pass(&[*last]), None);
    }

    #[test]
    fn control_frames_between_the_parts_of_a_message_do_not_make_it_younger() {
        let mut bench = Bench::new();
        assert_eq!(bench.pass(&frame(false, TEXT, 5)), Some(1));
        for _ in 0..10 {
            assert_eq!(bench.pass(&frame(true, PONG, 3)), Some(1));
            assert_eq!(bench.pass(&frame(false, CONTINUED, 0)), Some(1));
        }
        assert_eq!(bench.pass(&frame(true, CONTINUED, 1)), None);
        assert_eq!(bench.pass(&frame(false, TEXT, 0)), Some(23));
    }

    #[test]
    fn a_message_behind_a_whole_one_in_the_same_piece_is_seen() {
        let mut bench = Bench::new();
        let mut bytes = frame(true, TEXT, 300);
        bytes.extend_from_slice(&frame(true, TEXT, 300)[..3]);
        assert_eq!(bench.pass(&bytes), Some(1));
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut bench = Bench::new();
        bench.pass(&[0xff; 10_000]);
        bench.pass(&[0; 10_000]);
    }
}
