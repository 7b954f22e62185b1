//! What one connection writes: the sequence, the frames of a batch in their order, the last frame.
//!
//! Pure: plans what is written, never writes.

use std::time::Duration;

use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::batch::{Batch, Delivery, Notice, event_frame};
use super::faults::{Extras, Fate, Faults};
use super::noise;
use super::odd::odd_frame;
use super::options::{DisconnectBy, DripBy, Noise};
use super::stats::Entry;

/// Numbers and frames of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    connection: u64,
    /// The number that was given last; replies and events share it.
    sequence: u64,
    faults: Faults,
    last: Option<(Utf8Bytes, Entry)>,
    /// An event that is sent after the next one.
    held_back: Option<Planned>,
}

/// One thing to write.
#[derive(Clone, Debug)]
pub(super) enum Planned {
    /// A data frame of a user.
    Event(Utf8Bytes, Entry),
    /// The same in pieces, with this time between two.
    Dripped(Utf8Bytes, Entry, DripBy, Duration),
    /// A frame that tells of nobody.
    Noise(Message),
}

/// What is to be written for one batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) frames: Vec<Planned>,
    /// Numbers that were consumed by events that are not sent.
    pub(super) left_out: u64,
    /// When the events happened that are not sent: each run of them with its length.
    pub(super) gaps: Vec<(i64, i64, u64)>,
    /// The events that the end of the connection comes before.
    pub(super) lost: Option<(i64, i64, u64)>,
    /// How the connection ends after these frames, if it does.
    pub(super) disconnect: Option<DisconnectBy>,
}

impl Outbox {
    pub(super) fn new(connection: u64, faults: Faults) -> Self {
        Self {
            connection,
            sequence: faults.first_sequence().wrapping_sub(1),
            faults,
            last: None,
            held_back: None,
        }
    }

    /// The next number.
    pub(super) const fn next(&mut self) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// The next number is this one.
    pub(super) const fn renumber(&mut self, next: u64) {
        self.sequence = next.wrapping_sub(1);
    }

    /// The last data frame, as it was sent.
    pub(super) fn last(&self) -> Option<(Utf8Bytes, Entry)> {
        self.last.clone()
    }

    /// When the event happened that waits for the next one.
    pub(super) fn waiting(&self) -> Option<i64> {
        let planned = self.held_back.as_ref()?;
        planned.event().map(|(_, entry)| entry.timestamp)
    }

    /// A frame that tells of nobody, with the next number if it takes one.
    pub(super) fn noise(&mut self, noise: Noise, seed: u64, timestamp: i64) -> Message {
        let sequence = if noise::takes_number(noise) {
            self.next()
        } else {
            self.sequence
        };
        noise::message(noise, seed, sequence, timestamp)
    }

    /// Decides what becomes of each event. After a disconnect the rest of the batch is lost.
    pub(super) fn plan(&mut self, batch: &Batch, delivery: Delivery) -> Plan {
        let mut plan = Plan {
            frames: Vec::with_capacity(batch.len()),
            ..Plan::default()
        };
        let mut events = batch.iter();
        for (notice, payload) in events.by_ref() {
            let (fate, extras) = self.fate(delivery);
            if fate == Fate::LeaveOut {
                self.next();
                plan.leaves_out(notice.timestamp);
                continue;
            }
            self.event(&mut plan, fate, extras, notice, payload);
            plan.disconnect = self.faults.disconnect();
            if plan.disconnect.is_some() {
                break;
            }
        }
        for (notice, _) in events {
            let (first, _, count) = plan.lost.unwrap_or((notice.timestamp, 0, 0));
            plan.lost = Some((first, notice.timestamp, count + 1));
        }
        if plan.disconnect.is_some() {
            plan.frames.extend(self.held_back.take());
        }
        if delivery == Delivery::FirstLast && !plan.frames.is_empty() {
            plan.frames.rotate_left(1);
        }
        if let Some((frame, entry)) = plan.frames.iter().rev().find_map(Planned::event) {
            self.last = Some((frame.clone(), *entry));
        }
        plan
    }

    fn fate(&mut self, delivery: Delivery) -> (Fate, Extras) {
        match delivery {
            Delivery::Skip => (Fate::LeaveOut, Extras::default()),
            Delivery::SameEnvelope => (Fate::SendWithSameEnvelope, Extras::default()),
            Delivery::InOrder | Delivery::FirstLast => {
                let fate = self.faults.next();
                (fate, self.faults.extras())
            }
            Delivery::Odd(oddity) => {
                let odd = Some(oddity);
                (
                    Fate::Send,
                    Extras {
                        odd,
                        ..Extras::default()
                    },
                )
            }
            Delivery::Drip(by, interval) => {
                let drip = Some((by, interval));
                (
                    Fate::Send,
                    Extras {
                        drip,
                        ..Extras::default()
                    },
                )
            }
        }
    }

    fn event(
        &mut self,
        plan: &mut Plan,
        fate: Fate,
        extras: Extras,
        notice: &Notice,
        payload: &str,
    ) {
        if let Some(noise) = extras.noise {
            let noise = self.noise(noise, notice.person.seed, notice.timestamp);
            plan.frames.push(Planned::Noise(noise));
        }
        let before = plan.frames.iter().rev().find_map(Planned::event);
        let before = before.or(self.last.as_ref().map(|(frame, entry)| (frame, entry)));
        let (sequence, timestamp) = match (fate, before) {
            (Fate::SendWithSameEnvelope, Some((_, entry))) => (entry.sequence, entry.timestamp),
            (Fate::SendWithSameEnvelope | Fate::Send | Fate::LeaveOut, _) => {
                (self.next(), notice.timestamp)
            }
        };
        let entry = Entry {
            connection: self.connection,
            sequence,
            timestamp,
            person: notice.person,
        };
        let frame = match extras.odd {
            Some(oddity) => odd_frame(oddity, sequence, timestamp, payload),
            None => event_frame(sequence, timestamp, payload),
        };
        let planned = match extras.drip {
            Some((by, interval)) => Planned::Dripped(frame, entry, by, interval),
            None => Planned::Event(frame, entry),
        };
        let again = extras.twice.then(|| planned.clone());
        let held_back = self.held_back.take();
        if extras.held_back && held_back.is_none() {
            self.held_back = Some(planned);
        } else {
            plan.frames.push(planned);
        }
        plan.frames.extend(again);
        plan.frames.extend(held_back);
        if extras.restart {
            self.renumber(self.faults.first_sequence());
        }
    }
}

impl Planned {
    /// The data frame, if it is one.
    pub(super) const fn event(&self) -> Option<(&Utf8Bytes, &Entry)> {
        match self {
            Self::Event(frame, entry) | Self::Dripped(frame, entry, ..) => Some((frame, entry)),
            Self::Noise(_) => None,
        }
    }
}

impl Plan {
    fn leaves_out(&mut self, timestamp: i64) {
        self.left_out += 1;
        // A run goes on as long as nothing was sent in between.
        match self.gaps.last_mut() {
            Some((_, last, count)) if *last == timestamp - 1 => {
                *last = timestamp;
                *count += 1;
            }
            _ => self.gaps.push((timestamp, timestamp, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::options::{FrameFaults, Options};
    use crate::simulator::world::World;

    fn batch(n: usize) -> Batch {
        Batch::new(World::new(1, 10, 10).step_distinct(n), 1_000)
    }

    fn outbox(options: &Options) -> Outbox {
        Outbox::new(1, Faults::new(options))
    }

    fn with_frames(frames: FrameFaults) -> Options {
        Options {
            frames,
            ..Options::default()
        }
    }

    fn sequences(plan: &Plan) -> Vec<u64> {
        let events = plan.frames.iter().filter_map(Planned::event);
        events.map(|(_, entry)| entry.sequence).collect()
    }

    #[test]
    fn numbers_go_on_over_replies_events_and_gaps() {
        let mut outbox = outbox(&Options::default());
        assert_eq!((outbox.next(), outbox.next()), (1, 2));
        assert_eq!(
            sequences(&outbox.plan(&batch(2), Delivery::InOrder)),
            [3, 4]
        );
        let gap = outbox.plan(&batch(3), Delivery::Skip);
        assert_eq!((gap.frames.len(), gap.left_out), (0, 3));
        assert_eq!(gap.gaps, [(1_000, 1_002, 3)]);
        assert_eq!(sequences(&outbox.plan(&batch(1), Delivery::InOrder)), [8]);
    }

    #[test]
    fn reordered_events_keep_their_numbers_and_the_first_comes_last() {
        let mut outbox = outbox(&Options::default());
        assert_eq!(
            sequences(&outbox.plan(&batch(4), Delivery::FirstLast)),
            [2, 3, 4, 1]
        );
        assert_eq!(outbox.last().unwrap().1.sequence, 1);
        assert_eq!(outbox.next(), 5);
    }

    #[test]
    fn the_same_envelope_has_the_number_and_time_of_the_frame_before() {
        let mut outbox = outbox(&Options::default());
        let first = outbox.plan(&batch(1), Delivery::InOrder);
        let second = outbox.plan(&batch(2), Delivery::SameEnvelope);
        assert_eq!(sequences(&second), [1, 1]);
        let events: Vec<_> = [&first, &second]
            .into_iter()
            .flat_map(|plan| plan.frames.iter().filter_map(Planned::event))
            .collect();
        assert!(
            events
                .iter()
                .all(|(_, entry)| entry.timestamp == events[0].1.timestamp)
        );
        assert_ne!(events[0].0, events[2].0);
    }

    #[test]
    fn nothing_is_written_after_a_disconnect() {
        let options = Options {
            disconnect_every: 2,
            ..Options::default()
        };
        let mut outbox = outbox(&options);
        let plan = outbox.plan(&batch(5), Delivery::InOrder);
        assert_eq!(sequences(&plan), [1, 2]);
        assert_eq!(plan.disconnect, Some(DisconnectBy::Close));
        assert_eq!(plan.lost, Some((1_002, 1_004, 3)));
    }

    #[test]
    fn numbers_begin_where_they_are_told_to_and_begin_again() {
        let mut outbox = outbox(&with_frames(FrameFaults {
            first_sequence: 40,
            restart_numbers_every: 3,
            ..FrameFaults::default()
        }));
        assert_eq!(outbox.next(), 40);
        let plan = outbox.plan(&batch(5), Delivery::InOrder);
        assert_eq!(sequences(&plan), [41, 42, 43, 40, 41]);
        outbox.renumber(u64::MAX);
        assert_eq!((outbox.next(), outbox.next()), (u64::MAX, 0));
    }

    #[test]
    fn events_are_repeated_and_held_back_at_their_turn() {
        let mut outbox = outbox(&with_frames(FrameFaults {
            repeat_every: 3,
            reorder_every: 4,
            ..FrameFaults::default()
        }));
        let mut sent = sequences(&outbox.plan(&batch(4), Delivery::InOrder));
        sent.extend(sequences(&outbox.plan(&batch(2), Delivery::InOrder)));
        assert_eq!(sent, [1, 2, 3, 3, 5, 4, 6, 6]);
    }

    #[test]
    fn noise_comes_before_its_event_and_takes_a_number_if_it_shows_one() {
        for (noise, numbers) in [(Noise::Sibling, [1, 3, 4]), (Noise::Binary, [1, 2, 3])] {
            let mut outbox = outbox(&with_frames(FrameFaults {
                noise: Some(noise),
                noise_every: 2,
                ..FrameFaults::default()
            }));
            let plan = outbox.plan(&batch(3), Delivery::InOrder);
            assert!(matches!(plan.frames[1], Planned::Noise(_)));
            assert_eq!(sequences(&plan), numbers);
        }
    }
}
