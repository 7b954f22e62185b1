//! Tells from the vendor's numbers what is missing on one connection.
//!
//! Pure: time comes in. It never judges a message: a number that is late, repeated or absurd is
//! counted, and the message goes its way.

use std::time::Duration;

use crate::event::Timestamp;

/// A number that is still not there after this time is missing, also when the feed is quiet.
pub const REORDER_WAIT: Duration = Duration::from_secs(2);

/// A gap counts at most this much: beyond it a number was absurd.
const MISSING_MAX: u64 = i64::MAX as u64;

/// So many runs of numbers are awaited at most: beyond it a number was absurd, and what comes after it
/// splits what seems to be missing again and again.
const AWAITED_MAX: usize = 64;

/// So many numbers below the highest in a row mean that the vendor counts anew.
const COUNTS_ANEW: u32 = 32;

/// Follows the numbers of one connection, replies included.
#[derive(Debug)]
pub struct Tracker {
    window: i64,
    highest: Option<(i64, Timestamp)>,
    awaited: Vec<Awaited>,
    /// Regressions since the last number that was new.
    backwards: u32,
}

/// Numbers that were jumped over and may still come.
#[derive(Clone, Debug)]
struct Awaited {
    first: i64,
    last: i64,
    /// When the frame before them was heard.
    from: Timestamp,
    /// When the frame after them was heard.
    to: Timestamp,
}

/// Numbers that did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub missing: u64,
    /// When the frame before them was heard.
    pub from: Timestamp,
    /// When the frame after them was heard.
    pub to: Timestamp,
}

/// What one number tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// It had been seen before, or came too late to be awaited.
    pub regression: bool,
    /// What is missing for certain now.
    pub gaps: Vec<Gap>,
}

impl Tracker {
    /// For a new connection; a number may come `window` frames late.
    pub fn new(window: u32) -> Self {
        Self {
            window: window.into(),
            highest: None,
            awaited: Vec::new(),
            backwards: 0,
        }
    }

    /// Takes the number of a frame. The first one of a connection may be any.
    pub fn observe(&mut self, sequence: i64, at: Timestamp) -> Observed {
        let mut observed = Observed::default();
        match self.highest {
            Some((highest, _)) if sequence <= highest => {
                observed.regression = !self.arrived(sequence);
                self.backwards += u32::from(observed.regression);
                if self.backwards <= COUNTS_ANEW {
                    observed.gaps.extend(self.too_many());
                    return observed;
                }
                observed.gaps = self.end();
            }
            Some((highest, from)) if sequence.saturating_sub(highest) > 1 => {
                self.awaited.push(Awaited {
                    first: highest + 1,
                    last: sequence - 1,
                    from,
                    to: at,
                });
            }
            _ => {}
        }
        self.highest = Some((sequence, at));
        self.backwards = 0;
        let window = self.window;
        let given_up = self.give_up(|awaited| sequence.saturating_sub(awaited.last) > window);
        observed.gaps.extend(given_up);
        observed.gaps.extend(self.too_many());
        observed
    }

    /// When [`overdue`](Self::overdue) has something to say, if nothing comes.
    pub fn due(&self) -> Option<Timestamp> {
        let due = |awaited: &Awaited| awaited.to.plus(REORDER_WAIT);
        self.awaited.iter().map(due).min()
    }

    /// What was awaited for too long.
    pub fn overdue(&mut self, now: Timestamp) -> Vec<Gap> {
        self.give_up(|awaited| awaited.to.plus(REORDER_WAIT) <= now)
    }

    /// The connection has ended: nothing is awaited any more.
    pub fn end(&mut self) -> Vec<Gap> {
        self.give_up(|_| true)
    }

    /// Takes a number out of those that are awaited.
    fn arrived(&mut self, sequence: i64) -> bool {
        let holds = |awaited: &Awaited| (awaited.first..=awaited.last).contains(&sequence);
        let Some(index) = self.awaited.iter().position(holds) else {
            return false;
        };
        let awaited = self.awaited.remove(index);
        let before = Awaited {
            last: sequence - 1,
            ..awaited.clone()
        };
        let after = Awaited {
            first: sequence + 1,
            ..awaited
        };
        let left = [before, after]
            .into_iter()
            .filter(|left| left.first <= left.last);
        self.awaited.extend(left);
        true
    }

    /// All that is awaited as one gap, if it is too much.
    fn too_many(&mut self) -> Option<Gap> {
        if self.awaited.len() <= AWAITED_MAX {
            return None;
        }
        self.end().into_iter().reduce(|all, gap| Gap {
            missing: all.missing.saturating_add(gap.missing).min(MISSING_MAX),
            from: all.from.min(gap.from),
            to: all.to.max(gap.to),
        })
    }

    fn give_up(&mut self, lost: impl Fn(&Awaited) -> bool) -> Vec<Gap> {
        let given_up = self.awaited.extract_if(.., |awaited| lost(awaited));
        given_up
            .map(
                |Awaited {
                     first,
                     last,
                     from,
                     to,
                 }| Gap {
                    missing: first.abs_diff(last).saturating_add(1).min(MISSING_MAX),
                    from,
                    to,
                },
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000_000)
    }

    /// Feeds numbers, one a second, and returns (gaps, missing, regressions) at the end.
    fn figures(window: u32, numbers: &[i64]) -> (usize, u64, usize) {
        let mut tracker = Tracker::new(window);
        let (mut gaps, mut regressions) = (Vec::new(), 0);
        for (number, second) in numbers.iter().zip(0..) {
            let observed = tracker.observe(*number, at(second));
            gaps.extend(observed.gaps);
            regressions += usize::from(observed.regression);
        }
        gaps.extend(tracker.end());
        (
            gaps.len(),
            gaps.iter().map(|gap| gap.missing).sum(),
            regressions,
        )
    }

    #[test]
    fn the_first_number_may_be_any_and_a_run_has_no_gap() {
        assert_eq!(figures(8, &[22, 23, 24]), (0, 0, 0));
    }

    #[test]
    fn each_run_of_missing_numbers_is_one_gap() {
        assert_eq!(figures(8, &[1, 4, 7, 10]), (3, 6, 0));
        assert_eq!(figures(0, &[1, 4, 5, 8]), (2, 4, 0));
    }

    #[test]
    fn after_an_absurd_number_the_others_do_not_make_gaps_without_end() {
        let far = 1_000_000_000_000;
        let mut numbers = vec![1000, far];
        numbers.extend((1002..60_000).step_by(2));
        let mut tracker = Tracker::new(8);
        let mut gaps = 0;
        for number in numbers {
            gaps += tracker.observe(number, at(0)).gaps.len();
            assert!(tracker.awaited.len() <= AWAITED_MAX);
        }
        // The vendor counts anew, and from there each number that is jumped over is one.
        assert!(gaps < 29_500, "{gaps}");
        let mut tracker = Tracker::new(u32::MAX);
        let mut found = Vec::new();
        for number in 0..1000 {
            found.extend(tracker.observe(2 * number, at(0)).gaps);
        }
        found.extend(tracker.end());
        assert_eq!(found.iter().map(|gap| gap.missing).sum::<u64>(), 999);
        assert!(found.len() < 100, "{}", found.len());
    }

    #[test]
    fn a_number_inside_the_window_is_only_late() {
        assert_eq!(figures(8, &[1, 3, 4, 2, 5]), (0, 0, 0));
        assert_eq!(figures(8, &[1, 5, 3, 2, 4, 6]), (0, 0, 0));
    }

    #[test]
    fn a_number_beyond_the_window_is_missing_and_then_a_regression() {
        assert_eq!(figures(2, &[1, 3, 4, 5, 6, 2]), (1, 1, 1));
    }

    #[test]
    fn a_repeat_is_a_regression() {
        assert_eq!(figures(8, &[1, 2, 2, 1, 3]), (0, 0, 2));
    }

    #[test]
    fn a_vendor_that_counts_anew_is_followed_again() {
        let anew: Vec<i64> = [1_000_000_000]
            .into_iter()
            .chain(1..=100)
            .chain([103])
            .collect();
        let (gaps, missing, regressions) = figures(0, &anew);
        assert_eq!((gaps, missing), (1, 2));
        assert_eq!(regressions, 33);
    }

    #[test]
    fn a_number_that_splits_a_gap_leaves_two() {
        assert_eq!(figures(8, &[1, 5, 3]), (2, 2, 0));
    }

    #[test]
    fn a_quiet_feed_still_tells_of_its_gap() {
        let mut tracker = Tracker::new(8);
        tracker.observe(1, at(0));
        tracker.observe(4, at(10));
        assert_eq!(tracker.due(), Some(at(12)));
        assert_eq!(tracker.overdue(at(11)), []);
        assert_eq!(
            tracker.overdue(at(12)),
            [Gap {
                missing: 2,
                from: at(0),
                to: at(10)
            }]
        );
        assert_eq!((tracker.due(), tracker.end()), (None, Vec::new()));
    }

    #[test]
    fn the_largest_number_does_no_harm() {
        assert_eq!(figures(8, &[i64::MAX - 1, i64::MAX, 1]), (0, 0, 1));
        assert_eq!(figures(8, &[1, i64::MAX]).0, 1);
        assert_eq!(figures(8, &[-5, i64::MAX]).0, 1);
        assert_eq!(figures(8, &[i64::MIN, i64::MAX]).0, 1);
    }
}
