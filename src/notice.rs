//! A notice: what a destination is told beside the events, on a topic or subject of its own.
//!
//! Blind windows, dead letters and late duplicates. Its JSON is the contract of docs/record.md. Nothing here does I/O or
//! reads a clock; a notice holds no credential, and of a person only what a dead letter does.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::event::{Attribute, EventId, SOURCE, Timestamp, attribute};

/// Where a notice goes beside the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// What every consumer may want to know: `<topic>.control`, `<subject_prefix>_control.<type>`.
    Control,
    /// What was set aside: `<topic>.dead`, `<subject_prefix>_dead`.
    Dead,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 2] = [Self::Control, Self::Dead];

    /// Its name in the journal, and at the end of a topic or file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Dead => "dead",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == text)
    }
}

/// A span in which the feed was not heard.
pub const FEED_BLIND: &str = "feed.blind";

/// Something was set aside.
pub const DEAD_LETTER: &str = "dead_letter";

/// A slow network delivered after all what had been published again.
pub const LATE_DUPLICATES: &str = "sink.late_duplicates";

/// Longest content of a dead letter that a notice repeats, in bytes; a longer one stays in the journal.
pub const BODY_MAX: usize = 16 * 1024;

/// One notice, as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its number in the journal, ascending.
    pub number: u64,
    /// Its id for consumers, the same whenever it is published.
    pub id: EventId,
    /// When it was made.
    pub at: Timestamp,
    /// Where it goes.
    pub channel: Channel,
    /// What it is: [`FEED_BLIND`], [`DEAD_LETTER`], …
    pub kind: String,
    /// JSON.
    pub body: Vec<u8>,
}

impl Notice {
    /// The CloudEvents 1.0 attributes, without the content type.
    pub fn attributes(&self) -> [(Attribute, Cow<'_, str>); 6] {
        let kind = &self.kind;
        [
            (attribute!("specversion"), "1.0".into()),
            (attribute!("id"), self.id.to_string().into()),
            (attribute!("source"), SOURCE.into()),
            (
                attribute!("type"),
                format!("com.sfox.connect.{kind}.v1").into(),
            ),
            (attribute!("time"), self.at.to_string().into()),
            (
                attribute!("dataschema"),
                format!("urn:onboarding-bridge:{kind}:v1").into(),
            ),
        ]
    }
}

/// The body of [`FEED_BLIND`]: one for each change of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blind<'a> {
    /// The window's number: the notices of one window have the same.
    pub window: i64,
    /// `open`, `closed` or `healed`.
    pub state: &'static str,
    /// From when the feed was not heard.
    pub from: Timestamp,
    /// Until when; null while it lasts.
    pub to: Option<Timestamp>,
    /// Why: `start`, `gap`, or why a connection was lost.
    pub reason: &'a str,
    /// Messages known to be missing.
    pub missing: u64,
    /// What healed it: `reconcile`; null before.
    pub healed_by: Option<&'static str>,
    /// When that was; null before.
    pub healed_at: Option<Timestamp>,
    /// Events that only the list told of; null before.
    pub differences: Option<u64>,
}

/// The body of [`DEAD_LETTER`].
#[derive(Debug, Serialize)]
pub struct Dead<'a> {
    /// The letter's number in the journal.
    pub letter: i64,
    /// When it was set aside.
    pub at: Timestamp,
    /// `normalise`, or the sink that refused it.
    pub stage: &'a str,
    /// As the label `reason` of `dead_letters_total`.
    pub reason: &'a str,
    /// What the stage says of it.
    pub detail: &'a str,
    /// The event's id, if it had come so far.
    pub event_id: Option<EventId>,
    /// Its type, likewise.
    pub event_type: Option<&'a str>,
    /// Its key, likewise.
    pub user_id: Option<&'a str>,
    /// The record, or the shape of the frame; null if it is absent or long.
    pub body: Option<Value>,
}

impl Dead<'_> {
    /// What may be repeated of a letter's content.
    pub fn content(body: Option<&[u8]>) -> Option<Value> {
        let body = body.filter(|body| body.len() <= BODY_MAX)?;
        serde_json::from_slice(body).ok()
    }
}

/// The body of [`LATE_DUPLICATES`].
#[derive(Debug, Serialize)]
pub struct LateDuplicates<'a> {
    /// The sink whose destination has them twice.
    pub sink: &'a str,
    /// Each id as often as there is one too many.
    pub event_ids: &'a [EventId],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_content_and_one_that_is_no_json_stay_in_the_journal() {
        let long = format!("\"{}\"", "x".repeat(BODY_MAX));
        assert!(Dead::content(Some(long.as_bytes())).is_none());
        assert!(Dead::content(Some(b"no json")).is_none());
        let kept = Dead::content(Some(b"{\"b\":1}")).unwrap();
        assert_eq!(kept["b"], 1);
    }

    #[test]
    fn a_channel_reads_back() {
        for channel in [Channel::Control, Channel::Dead] {
            assert_eq!(Channel::parse(channel.as_str()), Some(channel));
        }
        assert_eq!(Channel::parse("other"), None);
    }
}
