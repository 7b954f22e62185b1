//! When a connection that is still open counts as dead.
//!
//! Pure: time comes in. It never looks at what a frame says, only at whether anything comes.
//!
//! ```text
//!   ping ──── reply_timeout ────▶ given up, unless a byte of any kind came after the ping
//!   last byte ─── idle_timeout ───────────────▶ given up
//!   first byte of a message ─── idle_timeout ─▶ given up, unless the message is whole by then
//! ```

use std::time::Duration;

use tokio::time::Instant;

use crate::feed::meter::Seen;

/// Why a connection counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Nothing came after our ping.
    Unanswered,
    /// Nothing came at all.
    Silent,
    /// Bytes came, and never made a whole message.
    Dripping,
}

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Liveness {
    reply_timeout: Duration,
    idle_timeout: Duration,
    /// When the socket was read last, or could have been: while we do not read, nothing is heard.
    turn: Instant,
    /// When the oldest ping was sent after which nothing came.
    ping: Option<Instant>,
    /// When the message began that is not whole, and for how long since then we did not read.
    unfinished: Option<(Instant, Duration)>,
}

impl Liveness {
    pub(super) const fn new(reply_timeout: Duration, idle_timeout: Duration, now: Instant) -> Self {
        Self {
            reply_timeout,
            idle_timeout,
            turn: now,
            ping: None,
            unfinished: None,
        }
    }

    /// A frame was handed over, which took from `since` to `now`: the socket was not read meanwhile.
    pub(super) fn handed_over(&mut self, since: Instant, now: Instant, seen: Seen) {
        self.follow(seen);
        self.turn = now;
        if let Some((_, unread)) = &mut self.unfinished {
            *unread += now.saturating_duration_since(since);
        }
    }

    /// A ping is on its way.
    pub(super) fn pinged(&mut self, now: Instant, seen: Seen) {
        self.follow(seen);
        self.ping.get_or_insert(now);
    }

    /// When the connection counts as dead if nothing more comes, and why.
    pub(super) fn end(&mut self, seen: Seen) -> (Instant, Death) {
        self.follow(seen);
        let silent = self.turn.max(seen.last_byte) + self.idle_timeout;
        let unanswered = self.ping.map(|sent| sent + self.reply_timeout);
        let dripping = self
            .unfinished
            .map(|(since, unread)| since + unread + self.idle_timeout);
        let mut end = (silent, Death::Silent);
        for (at, death) in [(unanswered, Death::Unanswered), (dripping, Death::Dripping)] {
            if let Some(at) = at.filter(|at| *at < end.0) {
                end = (at, death);
            }
        }
        end
    }

    fn follow(&mut self, seen: Seen) {
        self.ping = self.ping.filter(|sent| *sent >= seen.last_byte);
        if self.unfinished.map(|(since, _)| since) != seen.unfinished {
            self.unfinished = seen.unfinished.map(|since| (since, Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(30);

    /// One connection with the default settings; times are in seconds since its start.
    struct Bench {
        start: Instant,
        liveness: Liveness,
        seen: Seen,
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            Self {
                start,
                liveness: Liveness::new(REPLY, IDLE, start),
                seen: Seen {
                    last_byte: start,
                    unfinished: None,
                },
            }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn byte(&mut self, second: u64) {
            self.seen.last_byte = self.at(second);
        }

        fn ping(&mut self, second: u64) {
            self.liveness.pinged(self.at(second), self.seen);
        }

        fn frame(&mut self, second: u64) {
            self.byte(second);
            self.hand_over(second, second);
        }

        fn hand_over(&mut self, from: u64, to: u64) {
            let (from, to) = (self.at(from), self.at(to));
            self.liveness.handed_over(from, to, self.seen);
        }

        fn end(&mut self) -> (u64, Death) {
            let (at, death) = self.liveness.end(self.seen);
            ((at - self.start).as_secs(), death)
        }
    }

    #[test]
    fn a_ping_after_which_nothing_comes_ends_the_connection() {
        let mut bench = Bench::new();
        assert_eq!(bench.end(), (30, Death::Silent));
        bench.ping(15);
        assert_eq!(bench.end(), (25, Death::Unanswered));
        // Another ping gives no new time.
        bench.ping(20);
        assert_eq!(bench.end(), (25, Death::Unanswered));
    }

    #[test]
    fn any_byte_after_a_ping_answers_it() {
        let mut bench = Bench::new();
        bench.ping(15);
        bench.byte(16);
        assert_eq!(bench.end(), (46, Death::Silent));
        bench.ping(30);
        assert_eq!(bench.end(), (40, Death::Unanswered));
        bench.frame(31);
        assert_eq!(bench.end(), (61, Death::Silent));
    }

    #[test]
    fn a_byte_of_the_same_moment_as_the_ping_came_before_it() {
        let mut bench = Bench::new();
        bench.byte(15);
        bench.ping(15);
        assert_eq!(bench.end(), (25, Death::Unanswered));
    }

    #[test]
    fn a_dead_vendor_is_noticed_within_the_ping_interval_and_the_reply_timeout() {
        // Whatever second it dies in, by the default settings: pings at 15, 30, 45 …
        for death in 0..120_u64 {
            let mut bench = Bench::new();
            let mut noticed = None;
            for second in 1..200 {
                if second <= death {
                    bench.frame(second);
                }
                if second % 15 == 0 {
                    bench.ping(second);
                }
                if noticed.is_none() && bench.end().0 <= second {
                    noticed = Some(second);
                }
            }
            let took = noticed.unwrap() - death;
            assert!((10..=25).contains(&took), "dead at {death}: {took} s");
        }
    }

    #[test]
    fn a_message_in_drips_has_the_idle_timeout_whatever_comes_between() {
        let mut bench = Bench::new();
        bench.frame(5);
        bench.seen.unfinished = Some(bench.at(8));
        for second in 9..38 {
            bench.ping(second);
            bench.frame(second);
            assert!(bench.end().0 > second, "at {second}");
        }
        assert_eq!(bench.end(), (38, Death::Dripping));
    }

    #[test]
    fn a_slow_message_that_becomes_whole_in_time_is_no_drip() {
        let mut bench = Bench::new();
        bench.seen.unfinished = Some(bench.at(1));
        for second in 1..31 {
            bench.byte(second);
            assert!(bench.end().0 > second);
        }
        bench.seen.unfinished = None;
        bench.frame(30);
        assert_eq!(bench.end(), (60, Death::Silent));
        bench.seen.unfinished = Some(bench.at(40));
        bench.byte(40);
        assert_eq!(bench.end(), (70, Death::Silent));
    }

    #[test]
    fn the_time_in_which_we_do_not_read_is_not_the_vendors() {
        let mut bench = Bench::new();
        // Read in one piece: a message, and the beginning of the next; then no room for a minute.
        bench.byte(1);
        bench.seen.unfinished = Some(bench.at(1));
        bench.hand_over(1, 61);
        assert_eq!(bench.end(), (91, Death::Silent));
        bench.byte(70);
        assert_eq!(bench.end(), (91, Death::Dripping));
    }
}
