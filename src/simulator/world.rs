//! All users and where each of them stands; each step changes one of them.
//!
//! Deterministic by its seed. It is what REST serves and what the feed tells of; it does no I/O.

use std::collections::VecDeque;

use super::person::{Person, mix};

/// Changes that are remembered for a list that lags, and for how long (in nanoseconds).
const HISTORY: usize = 262_144;
const HISTORY_NANOS: i64 = 600 * 1_000_000_000;

/// The simulated world.
#[derive(Debug)]
pub(super) struct World {
    seed: u64,
    users: Vec<User>,
    /// Draws made so far: the next one is `mix(seed + drawn)`.
    drawn: u64,
    /// The time, as the caller says it.
    now: i64,
    /// What users were before they changed, and when they did: oldest first.
    history: VecDeque<(i64, u32, User)>,
}

#[derive(Clone, Copy, Debug)]
struct User {
    counter: u32,
    presence: Presence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Will be registered by its first event.
    Awaited,
    Present,
    /// Deactivated: in no list, and nothing more is heard of it.
    Removed,
}

impl World {
    /// `users` people, of whom the first `registered` are there from the start.
    pub(super) fn new(seed: u64, users: u32, registered: u32) -> Self {
        let users = (0..users)
            .map(|index| User {
                counter: 0,
                presence: if index < registered {
                    Presence::Present
                } else {
                    Presence::Awaited
                },
            })
            .collect();
        Self {
            seed,
            users,
            drawn: 0,
            now: 0,
            history: VecDeque::new(),
        }
    }

    /// Tells the time, in nanoseconds.
    pub(super) const fn set_clock(&mut self, now: i64) {
        self.now = now;
    }

    /// The world as it was then, as far back as the history goes.
    pub(super) fn as_of(&self, moment: i64) -> Self {
        let mut then = Self {
            seed: self.seed,
            users: self.users.clone(),
            drawn: self.drawn,
            now: moment,
            history: VecDeque::new(),
        };
        let later = self.history.iter().rev();
        for (_, index, before) in later.take_while(|(at, ..)| *at > moment) {
            if let Some(user) = then.users.get_mut(*index as usize) {
                *user = *before;
            }
        }
        then
    }

    fn remember(&mut self, index: u32) {
        let Some(user) = self.users.get(index as usize) else {
            return;
        };
        let oldest = self.now.saturating_sub(HISTORY_NANOS);
        while let Some((at, ..)) = self.history.front()
            && (*at < oldest || self.history.len() >= HISTORY)
        {
            self.history.pop_front();
        }
        self.history.push_back((self.now, index, *user));
    }

    /// How many users there are, the awaited and the removed ones included.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.users.len()).unwrap_or(u32::MAX)
    }

    /// Changes some user that was not removed; none if all were.
    pub(super) fn step(&mut self) -> Option<Person> {
        let len = u64::from(self.len());
        if len == 0 {
            return None;
        }
        self.drawn = self.drawn.wrapping_add(1);
        let drawn = mix(self.seed.wrapping_add(self.drawn)) % len;
        let start = u32::try_from(drawn).unwrap_or_default();
        (start..self.len())
            .chain(0..start)
            .find_map(|index| self.step_user(index))
    }

    /// Changes `n` users, no one of them twice, as long as there are so many.
    pub(super) fn step_distinct(&mut self, n: usize) -> Vec<Person> {
        let mut changed: Vec<Person> = Vec::with_capacity(n);
        let start = self.step();
        changed.extend(start);
        let start = start.map_or(0, |person| person.index);
        for index in (start..self.len()).chain(0..start).skip(1) {
            if changed.len() >= n {
                break;
            }
            changed.extend(self.step_user(index));
        }
        changed
    }

    /// Changes this user, unless it was removed or never was.
    pub(super) fn step_user(&mut self, index: u32) -> Option<Person> {
        if self.users.get(index as usize)?.presence == Presence::Removed {
            return None;
        }
        self.remember(index);
        let user = self.users.get_mut(index as usize)?;
        user.presence = Presence::Present;
        user.counter = user.counter.saturating_add(1);
        Some(Person {
            seed: self.seed,
            index,
            counter: user.counter,
        })
    }

    /// Takes this user out of the list for good; whether it was there.
    pub(super) fn remove(&mut self, index: u32) -> bool {
        self.remember(index);
        let Some(user) = self.users.get_mut(index as usize) else {
            return false;
        };
        let was_there = user.presence == Presence::Present;
        user.presence = Presence::Removed;
        was_there
    }

    /// This user whatever its state, with the counter 0 if there is none.
    pub(super) fn person(&self, index: u32) -> Person {
        Person {
            seed: self.seed,
            index,
            counter: self
                .users
                .get(index as usize)
                .map_or(0, |user| user.counter),
        }
    }

    /// This user, if it is in the list.
    pub(super) fn present(&self, index: u32) -> Option<Person> {
        let user = self.users.get(index as usize)?;
        (user.presence == Presence::Present).then(|| self.person(index))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_takes_the_same_course() {
        let course = |seed| {
            let mut world = World::new(seed, 50, 50);
            (0..500).map(|_| world.step().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(course(7), course(7));
        assert_ne!(course(7), course(8));
    }

    #[test]
    fn an_awaited_user_is_listed_after_its_first_event() {
        let mut world = World::new(1, 2, 1);
        assert!(world.present(0).is_some() && world.present(1).is_none());
        assert_eq!(world.step_user(1).unwrap().counter, 1);
        assert!(world.present(1).is_some());
    }

    #[test]
    fn a_removed_user_is_never_heard_of_again() {
        let mut world = World::new(1, 3, 3);
        assert!(world.remove(1) && !world.remove(1));
        assert!(world.present(1).is_none() && world.step_user(1).is_none());
        assert!((0..100).all(|_| world.step().unwrap().index != 1));
        assert!(world.remove(0) && world.remove(2));
        assert!(world.step().is_none());
    }

    #[test]
    fn the_world_of_a_moment_has_no_later_change() {
        let mut world = World::new(1, 3, 2);
        for (now, index) in [(10, 0), (20, 0), (30, 1), (40, 2)] {
            world.set_clock(now);
            world.step_user(index);
        }
        world.set_clock(50);
        world.remove(0);
        let counters = |world: &World| {
            [0, 1, 2].map(|index| world.present(index).map(|person| person.counter))
        };
        assert_eq!(counters(&world), [None, Some(1), Some(1)]);
        assert_eq!(counters(&world.as_of(35)), [Some(2), Some(1), None]);
        assert_eq!(counters(&world.as_of(15)), [Some(1), Some(0), None]);
    }

    #[test]
    fn distinct_steps_change_no_user_twice() {
        let mut world = World::new(1, 10, 10);
        let changed: HashSet<_> = world
            .step_distinct(10)
            .into_iter()
            .map(|person| person.index)
            .collect();
        assert_eq!(changed.len(), 10);
        assert_eq!(world.step_distinct(11).len(), 10);
    }
}
