//! When and why changes of the world did not reach a client: the truth that a judge compares with.
//!
//! Kept by the simulator's own clock, bounded. It says nothing of what a client made of what it got.

use std::collections::BTreeMap;

use serde::Serialize;

/// Spans that are kept; later ones are only counted.
const SPANS: usize = 100_000;

/// Why a change was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeafCause {
    /// Nobody was subscribed.
    Nobody,
    /// The connection was half-open.
    Stalled,
    /// The connection was mute.
    Muted,
    /// Events were left out: a gap.
    Gap,
    /// The connection ended before what was meant for it was written.
    Lost,
    /// The connection was reset: what was handed over within the span may not have arrived.
    Reset,
    /// The world changed and the feed was told nothing.
    Silent,
}

/// A span in which changes were not delivered, in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeafSpan {
    /// Why.
    pub cause: DeafCause,
    /// Which connection missed them; none if there was none.
    pub connection: Option<u64>,
    /// When it began.
    pub from: i64,
    /// When it was over; none while it lasts.
    pub to: Option<i64>,
    /// Changes that happened meanwhile.
    pub missed: u64,
    /// When the first of them happened.
    pub first_missed: Option<i64>,
    /// When the last of them happened.
    pub last_missed: Option<i64>,
}

/// All of them, oldest first by their beginning, and how many found no place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeafSpans {
    /// The spans.
    pub spans: Vec<DeafSpan>,
    /// Spans that began after the room was used up.
    pub dropped: u64,
}

/// The recorder.
#[derive(Debug, Default)]
pub(super) struct Deafness {
    found: DeafSpans,
    /// Place of each span that lasts.
    open: BTreeMap<(Option<u64>, DeafCause), usize>,
}

impl Deafness {
    /// A span begins, unless it lasts already.
    pub(super) fn begin(&mut self, connection: Option<u64>, cause: DeafCause, now: i64) {
        if self.open.contains_key(&(connection, cause)) {
            return;
        }
        if let Some(place) = self.push(connection, cause, now, None) {
            self.open.insert((connection, cause), place);
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, connection: Option<u64>, cause: DeafCause, now: i64) {
        let place = self.open.remove(&(connection, cause));
        if let Some(span) = place.and_then(|place| self.found.spans.get_mut(place)) {
            span.to = Some(now);
        }
    }

    /// Every span of this connection is over.
    pub(super) fn end_all(&mut self, connection: u64, now: i64) {
        for cause in [DeafCause::Stalled, DeafCause::Muted] {
            self.end(Some(connection), cause, now);
        }
    }

    /// So many changes were missed between these moments, in a span that lasts or in one of their own.
    pub(super) fn miss(
        &mut self,
        connection: Option<u64>,
        cause: DeafCause,
        (first, last): (i64, i64),
        changes: u64,
    ) {
        let place = match self.open.get(&(connection, cause)) {
            Some(place) => Some(*place),
            None => self.push(connection, cause, first, Some(last)),
        };
        if let Some(span) = place.and_then(|place| self.found.spans.get_mut(place)) {
            span.missed += changes;
            if changes > 0 {
                span.first_missed.get_or_insert(first);
                span.last_missed = Some(last);
            }
        }
    }

    /// Everything so far.
    pub(super) fn found(&self) -> DeafSpans {
        self.found.clone()
    }

    fn push(
        &mut self,
        connection: Option<u64>,
        cause: DeafCause,
        from: i64,
        to: Option<i64>,
    ) -> Option<usize> {
        if self.found.spans.len() >= SPANS {
            self.found.dropped += 1;
            return None;
        }
        self.found.spans.push(DeafSpan {
            cause,
            connection,
            from,
            to,
            missed: 0,
            first_missed: None,
            last_missed: None,
        });
        Some(self.found.spans.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_lasts_takes_what_is_missed_and_another_is_its_own() {
        let mut deaf = Deafness::default();
        deaf.begin(None, DeafCause::Nobody, 10);
        deaf.begin(None, DeafCause::Nobody, 11);
        deaf.miss(None, DeafCause::Nobody, (12, 14), 3);
        deaf.miss(Some(1), DeafCause::Gap, (15, 16), 2);
        deaf.end(None, DeafCause::Nobody, 20);
        let spans = deaf.found().spans;
        assert_eq!(spans.len(), 2);
        let shown = |span: &DeafSpan| (span.from, span.to, span.missed, span.first_missed);
        assert_eq!(shown(&spans[0]), (10, Some(20), 3, Some(12)));
        assert_eq!(shown(&spans[1]), (15, Some(16), 2, Some(15)));
    }

    #[test]
    fn what_finds_no_place_is_counted() {
        let mut deaf = Deafness::default();
        for moment in 0..SPANS as i64 + 2 {
            deaf.miss(Some(1), DeafCause::Gap, (moment, moment), 1);
        }
        let found = deaf.found();
        assert_eq!((found.spans.len(), found.dropped), (SPANS, 2));
    }
}
