//! Makes the world go on: at a rate, or as fast as the sockets take it.
//!
//! One task. It never catches up more than a second's worth, and never generates past `--events`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::batch::{BATCH, Delivery};
use super::hub::{Ask, Hub};

/// Events that were due longer ago than this are not made up for.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How fast the world goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Not at all.
    Paused,
    /// One event each such span.
    Every(Duration),
    /// As fast as the sockets take them.
    Full,
}

impl Pace {
    /// From events per second; 0 is [`Pace::Full`].
    pub(super) fn from_rate(rate: f64) -> Self {
        if rate > 0.0 {
            let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
            Self::Every(period.max(Duration::from_nanos(1)))
        } else {
            Self::Full
        }
    }
}

/// Runs until `--events` are generated, or the hub stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut left = hub.options.events.unwrap_or(u64::MAX);
    let mut pace = hub.pace.subscribe();
    let mut stats = hub.stats.subscribe();
    let mut due = Instant::now();
    while left > 0 {
        let current = *pace.borrow_and_update();
        let ready = async {
            match current {
                Pace::Paused => std::future::pending().await,
                Pace::Every(_) => sleep_until(due).await,
                Pace::Full => drop(stats.wait_for(|stats| stats.subscribed > 0).await),
            }
        };
        // Only the wait may be cut short: an emission that was, would be heard by some and not by all.
        tokio::select! {
            changed = pace.changed() => {
                if changed.is_err() {
                    return;
                }
                due = Instant::now();
                continue;
            }
            () = hub.stopped() => return,
            () = ready => {}
        }
        let wanted = match current {
            Pace::Paused => 0,
            Pace::Full => BATCH as u64,
            Pace::Every(period) => take_due(&mut due, period),
        };
        let unheard = hub.stats.borrow().subscribed == 0 && !hub.options.generate_when_unsubscribed;
        if !unheard {
            left -= emit(&hub, wanted.min(left)).await;
        }
    }
}

/// How many events are due by now; moves `due` to the first one that is not.
fn take_due(due: &mut Instant, period: Duration) -> u64 {
    let late = due.elapsed();
    if late > LATE_MAX {
        *due = Instant::now() + period;
        return 1;
    }
    let count = late.as_nanos() / period.as_nanos().max(1) + 1;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    *due += period.saturating_mul(count);
    u64::from(count)
}

async fn emit(hub: &Hub, wanted: u64) -> u64 {
    let mut made = 0;
    while made < wanted {
        let n = usize::try_from(wanted - made).unwrap_or(BATCH).min(BATCH);
        let emitted = hub.emit(Ask::Any(n), Delivery::InOrder).await;
        if emitted == 0 {
            // Everybody was removed: there is nobody left to tell of.
            tokio::time::sleep(LATE_MAX).await;
            break;
        }
        made += emitted as u64;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_counted_once_and_an_old_debt_is_forgotten() {
        let period = Duration::from_millis(10);
        let mut due = Instant::now();
        assert_eq!(take_due(&mut due, period), 1);
        tokio::time::advance(Duration::from_millis(35)).await;
        assert_eq!(take_due(&mut due, period), 3);
        assert!(due > Instant::now());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(take_due(&mut due, period), 1);
    }

    #[test]
    fn a_rate_is_a_span_and_zero_is_as_fast_as_can_be() {
        assert_eq!(
            Pace::from_rate(4.0),
            Pace::Every(Duration::from_millis(250))
        );
        assert_eq!(Pace::from_rate(0.0), Pace::Full);
        assert_eq!(Pace::from_rate(1e9), Pace::Every(Duration::from_nanos(1)));
    }
}
