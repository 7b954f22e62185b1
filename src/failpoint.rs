//! Named points at which a debug build ends at once, as by `kill -9`, when its environment asks for it.
//!
//! And one at which it panics with all that it was given in its words, as a library might: for tests of
//! what a panic says (`ONBOARDING_BRIDGE_FAIL_POINT=panic`).
//!
//! For tests of the promise only: `ONBOARDING_BRIDGE_FAIL_POINT=committed:7` ends the process when it comes to
//! the point `committed` for the seventh time. A release build knows nothing of it: there, reaching a
//! point is no code at all.

/// Where a process can be made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A message was received, and nobody but this process knows of it.
    Received,
    /// Events are in a transaction that is not committed.
    Committing,
    /// Events are committed, and nobody was told.
    Committed,
    /// A batch of committed events is about to be handed to a destination.
    Publishing,
    /// A destination has acknowledged a first record of a batch, and nobody took note.
    Published,
    /// A whole batch is acknowledged, and the cursor does not know.
    Acknowledged,
    /// A cursor is in a transaction that is not committed.
    MovingCursor,
    /// A cursor is committed.
    MovedCursor,
}

impl Point {
    /// Every point, in the order of the flow.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Committing,
        Self::Committed,
        Self::Publishing,
        Self::Published,
        Self::Acknowledged,
        Self::MovingCursor,
        Self::MovedCursor,
    ];

    /// Its name in the environment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Committing => "committing",
            Self::Committed => "committed",
            Self::Publishing => "publishing",
            Self::Published => "published",
            Self::Acknowledged => "acknowledged",
            Self::MovingCursor => "moving-cursor",
            Self::MovedCursor => "moved-cursor",
        }
    }
}

/// Ends the process if this is the point, and the time, that its environment names.
#[cfg(debug_assertions)]
pub(crate) fn reach(point: Point) {
    armed::reach(point);
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn reach(_: Point) {}

/// Panics with this in its words, if the environment asks for it.
#[cfg(debug_assertions)]
pub(crate) fn blurt(value: &dyn std::fmt::Debug) {
    armed::blurt(value);
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn blurt(_: &dyn std::fmt::Debug) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    const VARIABLE: &str = "ONBOARDING_BRIDGE_FAIL_POINT";

    /// The name at which it panics.
    pub(super) const PANIC: &str = "panic";

    struct Armed {
        /// Where to end; nowhere: to panic.
        point: Option<Point>,
        /// How often it is still to be passed, this time included.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn reach(point: Point) {
        if is_it(Some(point)) {
            std::process::abort();
        }
    }

    pub(super) fn blurt(value: &dyn std::fmt::Debug) {
        assert!(!is_it(None), "as asked for: {value:?}");
    }

    fn is_it(point: Option<Point>) -> bool {
        let armed = ARMED.get_or_init(|| {
            #[allow(
                clippy::disallowed_methods,
                reason = "no option of the bridge: it is read by debug builds only"
            )]
            let text = std::env::var(VARIABLE).ok()?;
            let (point, nth) =
                parse(&text).unwrap_or_else(|| panic!("{VARIABLE} names no fail-point: {text}"));
            Some(Armed {
                point,
                left: AtomicU64::new(nth),
            })
        });
        armed.as_ref().is_some_and(|armed| {
            armed.point == point && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
        })
    }

    /// `committed`, or `committed:7`, or `panic`.
    pub(super) fn parse(text: &str) -> Option<(Option<Point>, u64)> {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let point = match name {
            PANIC => None,
            name => Some(
                Point::ALL
                    .into_iter()
                    .find(|point| point.as_str() == name)?,
            ),
        };
        let nth = nth.parse().ok().filter(|nth| *nth > 0)?;
        Some((point, nth))
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_fail_point_is_a_name_and_a_count() {
        for point in Point::ALL {
            assert_eq!(armed::parse(point.as_str()), Some((Some(point), 1)));
        }
        assert_eq!(
            armed::parse("committed:7"),
            Some((Some(Point::Committed), 7))
        );
        assert_eq!(armed::parse(armed::PANIC), Some((None, 1)));
        for bad in ["", "nowhere", "committed:", "committed:0", "committed:-1"] {
            assert_eq!(armed::parse(bad), None, "{bad}");
        }
    }
}
