//! The latest committed records in memory, bounded in bytes, for the sinks that keep up.
//!
//! It never waits: the oldest record makes room for the newest, and a sink that comes later reads
//! from the file.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::Record;

/// Bytes of records that are kept in memory for all sinks together.
pub(super) const RECENT_BYTES: usize = 8 * 1024 * 1024;

/// A run of records without a gap, ending with the last committed one.
#[derive(Debug)]
pub(super) struct Recent(Mutex<Run>);

#[derive(Debug)]
struct Run {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    last: u64,
}

/// Where a record is to be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Here.
    Here(Vec<Arc<Record>>),
    /// In the file, up to this position.
    InFile(u64),
    /// Nowhere yet.
    NotYet,
}

impl Recent {
    pub(super) const fn new(last: u64) -> Self {
        Self(Mutex::new(Run {
            records: VecDeque::new(),
            bytes: 0,
            last,
        }))
    }

    /// Takes records that have just been committed, in order.
    pub(super) fn push(&self, committed: impl Iterator<Item = Arc<Record>>) {
        let mut run = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in committed {
            run.last = record.position;
            run.bytes += record.size();
            run.records.push_back(record);
        }
        while run.bytes > RECENT_BYTES {
            let Some(oldest) = run.records.pop_front() else {
                break;
            };
            run.bytes -= oldest.size();
        }
    }

    /// The records after a position, up to a count and a number of bytes, but at least one.
    pub(super) fn after(&self, position: u64, count: usize, bytes: usize) -> Found {
        let run = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if position >= run.last {
            return Found::NotYet;
        }
        let first = run
            .records
            .front()
            .map_or(run.last + 1, |record| record.position);
        let Some(skip) = (position + 1).checked_sub(first) else {
            return Found::InFile(first - 1);
        };
        let mut left = bytes;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let fits = |(index, record): &(usize, &Arc<Record>)| {
            let size = record.size();
            let fits = *index == 0 || size <= left;
            left = left.saturating_sub(size);
            fits
        };
        let taken = run
            .records
            .iter()
            .skip(skip)
            .take(count)
            .enumerate()
            .take_while(fits);
        Found::Here(taken.map(|(_, record)| Arc::clone(record)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, EventType, Timestamp};

    fn record(position: u64, size: usize) -> Arc<Record> {
        Arc::new(Record {
            position,
            event_id: EventId([0; 16]),
            event_type: EventType::Updated,
            key: String::new(),
            occurred_at: None,
            received_at: Timestamp(0),
            body: vec![0; size],
        })
    }

    fn positions(found: Found) -> Vec<u64> {
        match found {
            Found::Here(records) => records.iter().map(|record| record.position).collect(),
            other => panic!("expected records, got {other:?}"),
        }
    }

    #[test]
    fn memory_is_bounded_in_bytes_and_older_records_are_in_the_file() {
        let recent = Recent::new(0);
        recent.push((1..=100).map(|position| record(position, RECENT_BYTES / 10)));
        assert_eq!(recent.after(0, 10, usize::MAX), Found::InFile(91));
        assert_eq!(positions(recent.after(98, 10, usize::MAX)), [99, 100]);
        assert_eq!(recent.after(100, 10, usize::MAX), Found::NotYet);
    }

    #[test]
    fn a_batch_is_bounded_but_holds_at_least_one() {
        let recent = Recent::new(0);
        recent.push((1..=9).map(|position| record(position, 1000)));
        assert_eq!(positions(recent.after(2, 3, usize::MAX)), [3, 4, 5]);
        assert_eq!(positions(recent.after(2, 9, 10)), [3]);
    }

    #[test]
    fn after_a_restart_everything_is_in_the_file() {
        assert_eq!(Recent::new(7).after(3, 10, 10), Found::InFile(7));
        assert_eq!(Recent::new(7).after(7, 10, 10), Found::NotYet);
    }
}
