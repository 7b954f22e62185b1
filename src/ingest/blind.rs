//! From when a blind window begins: before the last thing that was heard, because what the vendor wrote
//! after that may have lain on its way, unread, when the hearing ended; and for how long it lasts.
//!
//! Pure: no clock, no I/O.

use std::time::Duration;

use crate::event::Timestamp;

/// What the vendor writes is read within this time, besides the delay that was last seen.
const SLACK: Duration = Duration::from_secs(1);

/// A message that seems to have been longer on its way tells of a wrong clock, not of a slow one.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// How long messages are on their way from the vendor to us, as far as is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delay(Duration);

impl Delay {
    /// From the time that a message carries and the time at which it was heard.
    pub(super) fn of(sent_at: Timestamp, received_at: Timestamp) -> Self {
        let nanos = received_at.0.saturating_sub(sent_at.0);
        let delay = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
        Self(delay.min(DELAY_MAX))
    }

    /// The time before which everything that the vendor wrote was heard, when the last thing was heard
    /// at `heard`.
    pub(super) fn before(self, heard: Timestamp) -> Timestamp {
        heard.minus(self.0 + SLACK)
    }
}

/// Counts the seconds in which the feed is not heard, also while they last.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// Up to when they are counted; none while the feed is heard.
    counted: Option<Timestamp>,
}

impl Unheard {
    /// The feed is not heard from here on.
    pub(super) const fn begins(&mut self, from: Timestamp) {
        self.counted = Some(from);
    }

    /// The seconds since they were last counted.
    pub(super) fn count(&mut self, now: Timestamp) -> f64 {
        let Some(counted) = self.counted.replace(now) else {
            self.counted = None;
            return 0.0;
        };
        now.seconds_since(counted).max(0.0)
    }

    /// The feed is heard again: the last seconds.
    pub(super) fn ends(&mut self, at: Timestamp) -> f64 {
        let left = self.count(at);
        self.counted = None;
        left
    }

    /// Whether it lasts.
    pub(super) const fn lasts(&self) -> bool {
        self.counted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "whole seconds")]
    fn seconds_are_counted_once_and_while_they_last_whatever_the_clock_does() {
        let at = |seconds: i64| Timestamp(seconds * SECOND);
        let mut unheard = Unheard::default();
        assert_eq!((unheard.count(at(5)), unheard.lasts()), (0.0, false));
        unheard.begins(at(10));
        assert_eq!((unheard.count(at(12)), unheard.count(at(15))), (2.0, 3.0));
        // Set back by an hour.
        assert_eq!(
            (unheard.count(at(-3600)), unheard.count(at(-3599))),
            (0.0, 1.0)
        );
        assert_eq!((unheard.ends(at(-3597)), unheard.lasts()), (2.0, false));
        assert_eq!(unheard.ends(at(0)), 0.0);
    }

    const SECOND: i64 = 1_000_000_000;

    fn begins(sent: i64, received: i64, heard: i64) -> i64 {
        let delay = Delay::of(Timestamp(sent * SECOND), Timestamp(received * SECOND));
        delay.before(Timestamp(heard * SECOND)).0 / SECOND
    }

    #[test]
    fn a_window_begins_before_what_was_still_on_its_way() {
        assert_eq!(begins(1_000, 1_000, 1_010), 1_009);
        assert_eq!(begins(1_000, 1_005, 1_010), 1_004);
    }

    #[test]
    fn a_clock_that_is_wrong_does_not_make_windows_endless() {
        assert_eq!(begins(1_000, 9_000, 9_000), 9_000 - 60 - 1);
        assert_eq!(begins(9_000, 1_000, 1_000), 999);
        assert_eq!(begins(i64::MIN / SECOND, 1_000, 1_000), 1_000 - 60 - 1);
    }
}
