//! Which states were heard so shortly before a list was asked for that the list may not know them yet.
//!
//! The vendor's list may be some seconds behind its feed. Each state of a user has the position of the
//! record that made it; here is remembered up to which position the journal was at which time. Pure:
//! time comes in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::TICK;

/// So finely, as a share of the span, is told when a state was heard. What lies between counts as fresh.
const SHARE: u32 = 16;

/// Up to which position the journal was when.
#[derive(Debug)]
pub(super) struct Marks {
    span: Duration,
    marks: VecDeque<(Instant, u64)>,
    /// Before the first mark: the last position that was older than the span when the process began.
    before: u64,
}

impl Marks {
    /// A state counts as fresh for `span`; none up to the position `before` does.
    pub(super) const fn new(span: Duration, before: u64) -> Self {
        Self {
            span,
            marks: VecDeque::new(),
            before,
        }
    }

    /// For how long a state counts as fresh.
    pub(super) const fn span(&self) -> Duration {
        self.span
    }

    /// The journal is at this position now. To be told often.
    pub(super) fn note(&mut self, now: Instant, position: u64) {
        let every = (self.span / SHARE).max(TICK);
        let last = self.marks.back();
        if last.is_none_or(|(at, _)| now.duration_since(*at) >= every) {
            self.mark(now, position);
        }
    }

    /// A list is asked for now: every state beyond the position that this returns is fresh.
    pub(super) fn asked(&mut self, now: Instant, position: u64) -> u64 {
        self.mark(now, position);
        match now.checked_sub(self.span) {
            Some(since) => self.at(since),
            None => self.before,
        }
    }

    fn mark(&mut self, now: Instant, position: u64) {
        self.marks.push_back((now, position));
        // One that is older than the span is still needed, and only the newest of them.
        while let Some((second, _)) = self.marks.get(1)
            && now.duration_since(*second) >= self.span
        {
            self.before = self.marks.pop_front().map_or(self.before, |(_, at)| at);
        }
    }

    fn at(&self, since: Instant) -> u64 {
        let marks = self.marks.iter().rev();
        let mut older = marks.skip_while(|(at, _)| *at > since);
        older.next().map_or(self.before, |(_, position)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(16);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_heard_within_the_span_before_the_list_is_fresh() {
        let begin = Instant::now();
        let mut marks = Marks::new(SPAN, 0);
        // A state a second.
        for second in 0..100 {
            marks.note(begin + seconds(second), 1000 + second);
        }
        assert_eq!(marks.asked(begin + seconds(100), 1100), 1084);
        assert!(marks.marks.len() < 20, "{}", marks.marks.len());
        // Nothing comes for long: nothing is fresh.
        for second in 101..200 {
            marks.note(begin + seconds(second), 1100);
        }
        assert_eq!(marks.asked(begin + seconds(200), 1100), 1100);
    }

    #[test]
    fn after_a_start_the_journal_says_what_is_fresh() {
        let begin = Instant::now();
        let mut marks = Marks::new(SPAN, 7);
        marks.note(begin, 9);
        assert_eq!(marks.asked(begin + seconds(1), 10), 7);
        assert_eq!(marks.asked(begin + SPAN, 12), 9);
    }

    #[test]
    fn a_list_that_is_asked_for_a_span_later_finds_nothing_fresh_of_what_the_first_one_met() {
        let begin = Instant::now();
        let mut marks = Marks::new(SPAN, 0);
        marks.asked(begin, 50);
        assert!(marks.asked(begin + SPAN, 90) >= 50);
    }

    #[test]
    fn without_a_span_nothing_is_fresh() {
        let begin = Instant::now();
        let mut marks = Marks::new(Duration::ZERO, 0);
        marks.note(begin, 5);
        assert_eq!(marks.asked(begin, 8), 8);
    }
}
