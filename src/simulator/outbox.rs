//! What one connection writes: the sequence, the frames of a batch in their order, the last frame.
//!
//! Pure: plans what is written, never writes.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::batch::{Batch, Delivery, event_frame};
use super::faults::{Fate, Faults};
use super::options::DisconnectBy;
use super::stats::Entry;

/// Numbers and frames of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    connection: u64,
    /// The number that was given last; replies and events share it.
    sequence: u64,
    faults: Faults,
    last: Option<(Utf8Bytes, Entry)>,
}

/// What is to be written for one batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) frames: Vec<(Utf8Bytes, Entry)>,
    /// Numbers that were consumed by events that are not sent.
    pub(super) left_out: u64,
    /// How the connection ends after these frames, if it does.
    pub(super) disconnect: Option<DisconnectBy>,
}

impl Outbox {
    pub(super) fn new(connection: u64, faults: Faults) -> Self {
        Self {
            connection,
            sequence: 0,
            faults,
            last: None,
        }
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The last data frame, as it was sent.
    pub(super) fn last(&self) -> Option<(Utf8Bytes, Entry)> {
        self.last.clone()
    }

    /// Decides what becomes of each event. After a disconnect the rest of the batch is lost.
    pub(super) fn plan(&mut self, batch: &Batch, delivery: Delivery) -> Plan {
        let mut plan = Plan {
            frames: Vec::with_capacity(batch.len()),
            ..Plan::default()
        };
        for (notice, payload) in batch.iter() {
            let fate = match delivery {
                Delivery::Skip => Fate::LeaveOut,
                Delivery::SameEnvelope => Fate::SendWithSameEnvelope,
                Delivery::InOrder | Delivery::FirstLast => self.faults.next(),
            };
            let before = plan.frames.last().or(self.last.as_ref());
            let envelope = match (fate, before) {
                (Fate::LeaveOut, _) => {
                    self.sequence += 1;
                    plan.left_out += 1;
                    continue;
                }
                (Fate::SendWithSameEnvelope, Some((_, entry))) => (entry.sequence, entry.timestamp),
                (Fate::SendWithSameEnvelope | Fate::Send, _) => {
                    self.sequence += 1;
                    (self.sequence, notice.timestamp)
                }
            };
            let (sequence, timestamp) = envelope;
            let entry = Entry {
                connection: self.connection,
                sequence,
                timestamp,
                person: notice.person,
            };
            plan.frames
                .push((event_frame(sequence, timestamp, payload), entry));
            plan.disconnect = self.faults.disconnect();
            if plan.disconnect.is_some() {
                break;
            }
        }
        if delivery == Delivery::FirstLast && !plan.frames.is_empty() {
            plan.frames.rotate_left(1);
        }
        if let Some(last) = plan.frames.last() {
            self.last = Some(last.clone());
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::options::Options;
    use crate::simulator::world::World;

    fn batch(n: usize) -> Batch {
        Batch::new(World::new(1, 10, 10).step_distinct(n), 1_000)
    }

    fn sequences(plan: &Plan) -> Vec<u64> {
        plan.frames
            .iter()
            .map(|(_, entry)| entry.sequence)
            .collect()
    }

    #[test]
    fn numbers_go_on_over_replies_events_and_gaps() {
        let mut outbox = Outbox::new(1, Faults::new(&Options::default()));
        assert_eq!((outbox.next(), outbox.next()), (1, 2));
        assert_eq!(
            sequences(&outbox.plan(&batch(2), Delivery::InOrder)),
            [3, 4]
        );
        let gap = outbox.plan(&batch(3), Delivery::Skip);
        assert_eq!((gap.frames.len(), gap.left_out), (0, 3));
        assert_eq!(sequences(&outbox.plan(&batch(1), Delivery::InOrder)), [8]);
    }

    #[test]
    fn reordered_events_keep_their_numbers_and_the_first_comes_last() {
        let mut outbox = Outbox::new(1, Faults::new(&Options::default()));
        assert_eq!(
            sequences(&outbox.plan(&batch(4), Delivery::FirstLast)),
            [2, 3, 4, 1]
        );
        assert_eq!(outbox.last().unwrap().1.sequence, 1);
        assert_eq!(outbox.next(), 5);
    }

    #[test]
    fn the_same_envelope_has_the_number_and_time_of_the_frame_before() {
        let mut outbox = Outbox::new(1, Faults::new(&Options::default()));
        let first = outbox.plan(&batch(1), Delivery::InOrder);
        let second = outbox.plan(&batch(2), Delivery::SameEnvelope);
        assert_eq!(sequences(&second), [1, 1]);
        let times: Vec<_> = second
            .frames
            .iter()
            .map(|frame| frame.1.timestamp)
            .collect();
        assert_eq!(times, [first.frames[0].1.timestamp; 2]);
        assert_ne!(first.frames[0].0, second.frames[1].0);
    }

    #[test]
    fn nothing_is_written_after_a_disconnect() {
        let options = Options {
            disconnect_every: 2,
            ..Options::default()
        };
        let mut outbox = Outbox::new(1, Faults::new(&options));
        let plan = outbox.plan(&batch(5), Delivery::InOrder);
        assert_eq!(sequences(&plan), [1, 2]);
        assert_eq!(plan.disconnect, Some(DisconnectBy::Close));
    }
}
