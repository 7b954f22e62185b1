//! Events on their way from the world to the connections, and what else a connection can be told.
//!
//! A payload is written once, however many connections it goes to; the envelope is each
//! connection's own, because the sequence is.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::event::{FEED_NAME, Timestamp};

use super::options::{DripBy, Noise, Oddity};
use super::person::Person;

/// Events in one batch: as many as are written between two flushes.
pub(super) const BATCH: usize = 256;

/// How long a user's token is good for.
const TOKEN_LIFE_NANOS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Bytes of a payload, about, to allocate for.
const PAYLOAD_BYTES: usize = 512;

/// Some events, in their order.
#[derive(Debug)]
pub(super) struct Batch {
    text: String,
    notices: Vec<Notice>,
}

/// One event.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) person: Person,
    pub(super) timestamp: i64,
    payload: Range<usize>,
}

impl Batch {
    /// The current state of these people, the first at `timestamp` and each next 1 ns later.
    pub(super) fn new(people: Vec<Person>, timestamp: i64) -> Self {
        let expires = jiff::Timestamp::from_nanosecond((timestamp + TOKEN_LIFE_NANOS).into())
            .map(|moment| format!("{moment:.3}"))
            .unwrap_or_default();
        let mut text = String::with_capacity(people.len() * PAYLOAD_BYTES);
        let notices = (timestamp..)
            .zip(people)
            .map(|(timestamp, person)| {
                let start = text.len();
                person
                    .write_payload(&mut text, &expires)
                    .expect("a String takes everything");
                Notice {
                    person,
                    timestamp,
                    payload: start..text.len(),
                }
            })
            .collect();
        Self { text, notices }
    }

    /// The events with their payloads.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Notice, &str)> {
        self.notices.iter().map(|notice| {
            let payload = self.text.get(notice.payload.clone());
            (notice, payload.unwrap_or_default())
        })
    }

    /// When the first and the last of its events happened.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.notices.first()?, self.notices.last()?);
        Some((first.timestamp, last.timestamp))
    }

    /// How many events it holds.
    pub(super) fn len(&self) -> usize {
        self.notices.len()
    }
}

/// A data frame as the vendor writes it.
pub(super) fn data_frame(
    sequence: u64,
    recipient: &str,
    timestamp: i64,
    payload: &str,
) -> Utf8Bytes {
    let mut frame = String::with_capacity(payload.len() + 128);
    write!(
        frame,
        r#"{{"sequence":{sequence},"recipient":"{recipient}","timestamp":{timestamp},"payload":{payload}}}"#
    )
    .expect("a String takes everything");
    frame.into()
}

/// A data frame of the feed.
pub(super) fn event_frame(sequence: u64, timestamp: i64, payload: &str) -> Utf8Bytes {
    data_frame(sequence, FEED_NAME, timestamp, payload)
}

/// A reply to a command; `None` for `feeds` where the command has none, and no `action` at all for
/// the form of 2018.
pub(super) fn reply_frame(
    kind: &str,
    sequence: u64,
    timestamp: i64,
    action: Option<&str>,
    feeds: Option<&[&str]>,
) -> Utf8Bytes {
    let mut frame = format!(r#"{{"type":"{kind}","sequence":{sequence},"timestamp":{timestamp}"#);
    if let Some(action) = action {
        frame.push_str(r#","payload":{"action":""#);
        frame.push_str(action);
        frame.push('"');
        if let Some(feeds) = feeds {
            frame.push_str(r#","feeds":["#);
            for (place, feed) in feeds.iter().enumerate() {
                frame.push_str(if place == 0 { "\"" } else { ",\"" });
                frame.push_str(feed);
                frame.push('"');
            }
            frame.push(']');
        }
        frame.push_str(r#"},"action":""#);
        frame.push_str(action);
        frame.push('"');
    }
    frame.push('}');
    frame.into()
}

/// How a connection treats the events of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Sends them in order.
    InOrder,
    /// Sends the first one last; each keeps its sequence.
    FirstLast,
    /// Consumes their sequences and sends none.
    Skip,
    /// Sends them with the sequence and timestamp of the frame before.
    SameEnvelope,
    /// Sends them so shaped.
    Odd(Oddity),
    /// Sends them in pieces, with this time between two.
    Drip(DripBy, Duration),
}

/// What a connection is told by the hub.
#[derive(Debug)]
pub(super) enum Order {
    Events(Arc<Batch>, Delivery),
    /// Sends the last data frame once more, byte for byte.
    RepeatLast,
    /// Sends this as it is; it consumes no sequence.
    Raw(Message),
    /// Sends this payload in an envelope with the next sequence.
    Envelope {
        recipient: String,
        payload: String,
    },
    /// Sends a frame that tells of nobody.
    Noise(Noise),
    /// Sends this data frame of a capture, as it is.
    Replayed(Utf8Bytes),
    /// The next sequence number is this one.
    Renumber(u64),
    /// Half-open from now on, or not any more.
    Stall(bool),
    /// No data from now on, and no numbers.
    Mute(bool),
    /// Nothing is read from now on.
    StopReading(bool),
    /// Closes with this code, or without one.
    Close(Option<u16>),
    /// Ends the stream without a close.
    Eof,
    /// Answers when everything before it was flushed.
    Barrier(oneshot::Sender<()>),
}

/// The clock, in the vendor's unit.
pub(super) fn now_nanos() -> i64 {
    Timestamp::now().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_the_keys_of_the_vendor_in_its_order() {
        assert_eq!(
            reply_frame("success", 1, 17, Some("authenticate"), None).as_str(),
            r#"{"type":"success","sequence":1,"timestamp":17,"payload":{"action":"authenticate"},"action":"authenticate"}"#
        );
        assert_eq!(
            reply_frame("success", 2, 18, Some("subscribe"), Some(&["a", "b"])).as_str(),
            r#"{"type":"success","sequence":2,"timestamp":18,"payload":{"action":"subscribe","feeds":["a","b"]},"action":"subscribe"}"#
        );
        assert_eq!(
            reply_frame("success", 1, 17, None, None).as_str(),
            r#"{"type":"success","sequence":1,"timestamp":17}"#
        );
    }

    #[test]
    fn the_events_of_a_batch_are_one_nanosecond_apart_and_keep_their_payloads() {
        let people = (0..3)
            .map(|index| Person {
                seed: 1,
                index,
                counter: 1,
            })
            .collect();
        let batch = Batch::new(people, 1_717_005_327_995_988_841);
        assert_eq!(batch.len(), 3);
        for (place, (notice, payload)) in (0..).zip(batch.iter()) {
            assert_eq!(notice.timestamp, 1_717_005_327_995_988_841 + place);
            assert!(payload.contains(&notice.person.user_id()));
            assert!(payload.contains(r#""expires":"2024-05-30T17:55:27.995Z""#));
            assert!(payload.starts_with('{') && payload.ends_with('}'));
        }
    }
}
