//! Which users a list named: eight bytes a user, whatever a list looks like.
//!
//! Of each user it keeps the first eight bytes of the keyed digest that is its name in the journal.
//! Two users that share them would hide a removal of one of them from every list; among a million
//! users the chance for any one of them is one in 18 million million, and nobody without the journal's
//! key can bring it about. Pure.

use crate::state::UserKey;

/// So many users that were listed twice are told apart; of further ones only the number is known.
pub const TWICE_MAX: usize = 64;

/// The beginning of a user's name in the journal.
pub type Prefix = u64;

/// The beginning of this user's name.
pub fn prefix(user: &UserKey) -> Prefix {
    let (first, _) = user
        .split_first_chunk()
        .expect("a name is longer than its beginning");
    u64::from_be_bytes(*first)
}

/// The users of one list.
#[derive(Debug, Default)]
pub struct Seen {
    prefixes: Vec<Prefix>,
    /// Users that were listed more than once, at most [`TWICE_MAX`].
    twice: Vec<Prefix>,
}

impl Seen {
    /// Notes a user.
    pub fn insert(&mut self, user: &UserKey) {
        if self.prefixes.len() == self.prefixes.capacity() {
            // A list that names the same users again and again takes no more room than they do.
            self.sort();
            self.prefixes.reserve(self.prefixes.len() / 2 + 1024);
        }
        self.prefixes.push(prefix(user));
    }

    /// The list has ended: only now [`contains`](Self::contains) and [`len`](Self::len) are right.
    pub fn sort(&mut self) {
        self.prefixes.sort_unstable();
        let twice = &mut self.twice;
        self.prefixes.dedup_by(|later, earlier| {
            let same = later == earlier;
            if same && twice.len() < TWICE_MAX && !twice.contains(later) {
                twice.push(*later);
            }
            same
        });
    }

    /// Whether the list named this user.
    pub fn contains(&self, user: &UserKey) -> bool {
        self.prefixes.binary_search(&prefix(user)).is_ok()
    }

    /// How many users it named.
    pub const fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether it named nobody.
    pub const fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The users that it named more than once.
    pub fn twice(&self) -> &[Prefix] {
        &self.twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u64) -> UserKey {
        let mut user = [0; 16];
        user[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        user
    }

    #[test]
    fn every_listed_user_is_known_and_no_other() {
        let mut seen = Seen::default();
        (0..5_000).for_each(|number| seen.insert(&user(number)));
        seen.sort();
        assert_eq!((seen.len(), seen.is_empty()), (5_000, false));
        assert!((0..5_000).all(|number| seen.contains(&user(number))));
        assert!((5_000..9_000).all(|number| !seen.contains(&user(number))));
        assert!(seen.twice().is_empty());
    }

    #[test]
    fn a_user_that_is_listed_twice_counts_once_and_is_named() {
        let mut seen = Seen::default();
        (0..100).for_each(|number| seen.insert(&user(number)));
        [7, 7, 93]
            .iter()
            .for_each(|number| seen.insert(&user(*number)));
        seen.sort();
        assert_eq!(seen.len(), 100);
        let mut twice = [7, 93].map(|number| prefix(&user(number)));
        twice.sort_unstable();
        assert_eq!(seen.twice(), twice);
    }

    #[test]
    fn a_list_that_never_ends_takes_no_more_room_than_its_users() {
        let mut seen = Seen::default();
        for _ in 0..200 {
            (0..5_000).for_each(|number| seen.insert(&user(number)));
        }
        assert!(
            seen.prefixes.capacity() < 20_000,
            "{}",
            seen.prefixes.capacity()
        );
        seen.sort();
        assert_eq!((seen.len(), seen.twice().len()), (5_000, TWICE_MAX));
    }
}
