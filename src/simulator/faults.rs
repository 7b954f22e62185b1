//! The faults of the command line, decided event by event for one connection. Pure.

use std::time::Duration;

use super::options::{DisconnectBy, DripBy, FrameFaults, Noise, Oddity, Options};

/// Where one connection stands between its faults.
#[derive(Debug)]
pub(super) struct Faults {
    disconnect_every: u64,
    disconnect_by: DisconnectBy,
    gap_every: u64,
    gap_size: u64,
    duplicate_envelope_every: u64,
    frames: FrameFaults,
    /// Events sent on this connection.
    sent: u64,
    since_gap: u64,
    gap_left: u64,
}

/// What becomes of the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Send,
    SendWithSameEnvelope,
    LeaveOut,
}

/// What else happens to an event that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extras {
    /// A frame that goes before it.
    pub(super) noise: Option<Noise>,
    pub(super) odd: Option<Oddity>,
    pub(super) drip: Option<(DripBy, Duration)>,
    /// It is sent twice.
    pub(super) twice: bool,
    /// It is sent after the one that follows it.
    pub(super) held_back: bool,
    /// The number that comes after it is the first one again.
    pub(super) restart: bool,
}

impl Faults {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            disconnect_every: options.disconnect_every,
            disconnect_by: options.disconnect_by,
            gap_every: options.gap_every,
            gap_size: options.gap_size,
            duplicate_envelope_every: options.duplicate_envelope_every,
            frames: options.frames.clone(),
            sent: 0,
            since_gap: 0,
            gap_left: 0,
        }
    }

    /// Decides on one event, and counts it.
    pub(super) fn next(&mut self) -> Fate {
        if self.gap_left > 0 {
            self.gap_left -= 1;
            return Fate::LeaveOut;
        }
        self.sent += 1;
        self.since_gap += 1;
        if self.since_gap == self.gap_every {
            self.since_gap = 0;
            self.gap_left = self.gap_size;
        }
        if divides(self.duplicate_envelope_every, self.sent) {
            Fate::SendWithSameEnvelope
        } else {
            Fate::Send
        }
    }

    /// What else happens to the event that [`next`](Self::next) has just decided on.
    pub(super) fn extras(&self) -> Extras {
        let (frames, sent) = (&self.frames, self.sent);
        let at = |every| divides(every, sent);
        Extras {
            noise: frames.noise.filter(|_| at(frames.noise_every)),
            odd: frames.odd.filter(|_| at(frames.odd_every)),
            drip: frames
                .drip
                .filter(|_| at(frames.drip_every))
                .map(|by| (by, frames.drip_interval)),
            twice: at(frames.repeat_every),
            held_back: at(frames.reorder_every),
            restart: at(frames.restart_numbers_every),
        }
    }

    /// The number at which the numbering begins.
    pub(super) const fn first_sequence(&self) -> u64 {
        self.frames.first_sequence
    }

    /// Whether the connection ends after the event that was just sent, and how.
    pub(super) fn disconnect(&self) -> Option<DisconnectBy> {
        divides(self.disconnect_every, self.sent).then_some(self.disconnect_by)
    }
}

/// Whether `count` is a multiple of `every`; 0 stands for never.
const fn divides(every: u64, count: u64) -> bool {
    every > 0 && count > 0 && count.is_multiple_of(every)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(options: &Options, n: usize) -> Vec<Fate> {
        let mut faults = Faults::new(options);
        (0..n).map(|_| faults.next()).collect()
    }

    #[test]
    fn nothing_is_done_unless_asked_for() {
        assert_eq!(fates(&Options::default(), 50), vec![Fate::Send; 50]);
        assert_eq!(Faults::new(&Options::default()).disconnect(), None);
    }

    #[test]
    fn a_gap_leaves_out_its_size_after_each_run() {
        let options = Options {
            gap_every: 3,
            gap_size: 2,
            ..Options::default()
        };
        use Fate::{LeaveOut as L, Send as S};
        assert_eq!(fates(&options, 11), [S, S, S, L, L, S, S, S, L, L, S]);
    }

    #[test]
    fn each_nth_event_repeats_the_envelope_or_ends_the_connection() {
        let options = Options {
            duplicate_envelope_every: 2,
            disconnect_every: 3,
            disconnect_by: DisconnectBy::Reset,
            ..Options::default()
        };
        let mut faults = Faults::new(&options);
        assert_eq!((faults.next(), faults.disconnect()), (Fate::Send, None));
        assert_eq!(faults.next(), Fate::SendWithSameEnvelope);
        assert_eq!(faults.disconnect(), None);
        assert_eq!(faults.next(), Fate::Send);
        assert_eq!(faults.disconnect(), Some(DisconnectBy::Reset));
    }
}
