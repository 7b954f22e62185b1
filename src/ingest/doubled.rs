//! Users that the list names twice: the last entry counts, once the list has ended.
//!
//! Two entries with two states would else be two changes in each list, back and forth. That a user is
//! named twice is known when its first list has ended; from the next one on its entries are held back,
//! and only the last of them is compared. Bounded; nothing here outlives the process.

use std::collections::HashMap;

use crate::normalise::Observation;
use crate::reconcile::seen::{Prefix, prefix};
use crate::state::UserKey;

/// The users of whom the last list had more than one entry.
#[derive(Debug, Default)]
pub(super) struct Doubled(HashMap<Prefix, Option<Observation>>);

impl Doubled {
    /// Holds an entry back, if its user is one of them; else gives it back.
    pub(super) fn hold(&mut self, user: &UserKey, entry: Observation) -> Option<Observation> {
        // Without any of them this costs nothing.
        if self.0.is_empty() {
            return Some(entry);
        }
        match self.0.get_mut(&prefix(user)) {
            Some(place) => {
                *place = Some(entry);
                None
            }
            None => Some(entry),
        }
    }

    /// What was held back.
    pub(super) fn release(&mut self) -> Vec<Observation> {
        self.0.values_mut().filter_map(Option::take).collect()
    }

    /// These are the users from now on.
    pub(super) fn are(&mut self, users: &[Prefix]) {
        self.0 = users.iter().map(|user| (*user, None)).collect();
    }
}

/// The positions of the records that one list has made, as runs: so a second entry is told from what the
/// feed said meanwhile.
#[derive(Debug, Default)]
pub(super) struct Own(Vec<(u64, u64)>);

/// Runs that are kept. Records beyond count as the feed's, which a list does not overrule.
const RUNS_MAX: usize = 65_536;

impl Own {
    /// This list has made a record.
    pub(super) fn add(&mut self, position: u64) {
        let runs = self.0.len();
        match self.0.last_mut() {
            Some((_, last)) if *last + 1 == position => *last = position,
            _ if runs < RUNS_MAX => self.0.push((position, position)),
            _ => {}
        }
    }

    /// Whether it has made this one.
    pub(super) fn contains(&self, position: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= position);
        let run = after.checked_sub(1).and_then(|index| self.0.get(index));
        run.is_some_and(|(_, last)| position <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Observation {
        Observation {
            user_id: name.to_owned(),
            ..Observation::default()
        }
    }

    #[test]
    fn only_the_last_entry_of_a_doubled_user_is_compared() {
        let mut doubled = Doubled::default();
        let (ada, bob) = ([1; 16], [2; 16]);
        assert!(doubled.hold(&ada, entry("1")).is_some());
        doubled.are(&[prefix(&ada)]);
        assert!(doubled.hold(&ada, entry("1")).is_none());
        assert!(doubled.hold(&bob, entry("2")).is_some());
        assert!(doubled.hold(&ada, entry("3")).is_none());
        assert_eq!(doubled.release(), [entry("3")]);
        assert!(doubled.release().is_empty());
    }

    #[test]
    fn the_lists_own_records_are_known_from_the_feeds() {
        let mut own = Own::default();
        [5, 6, 7, 9, 20].into_iter().for_each(|at| own.add(at));
        let known: Vec<_> = (1..30).filter(|at| own.contains(*at)).collect();
        assert_eq!(known, [5, 6, 7, 9, 20]);
        assert_eq!(own.0.len(), 3);
    }
}
