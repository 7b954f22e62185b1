//! Which states of users a commit writes into their table, and which it leaves beside their records.
//!
//! A commit of events leaves theirs, until there are many or some seconds have passed: then the table gets them
//! all at once, in its own order. One without events writes some that were left before. A state is only let go
//! here when it is committed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use super::{IDLE, Work, Writer};
use crate::journal::states::{self, BEHIND_RECORDS, BEHIND_STATES};
use crate::journal::users::{ByDigest, ByUser};
use crate::journal::{Blocked, Entry, codec};
use crate::state::UserKey;

/// States that a commit without events writes.
const AT_ONCE: usize = 256;

/// The states that the table lacks.
#[derive(Default)]
pub(super) struct Behind {
    states: ByUser<Left>,
    /// In the order of their first records; one that was written since has none in `states`.
    order: VecDeque<(u64, UserKey)>,
    /// The position of the last record.
    last: u64,
    /// Since when there are any: none of their records can be pruned.
    since: Option<Instant>,
    /// What the file says of how far the table is.
    said: Option<u64>,
    /// States that the table got meanwhile, perhaps of users that ingest has put since: it forgets by those
    /// as well.
    passed: usize,
}

struct Left {
    /// Of the first record since the table had this user's state.
    first: u64,
    key: String,
    state: Vec<u8>,
}

/// What one commit does with the states.
pub(super) struct Plan {
    /// Those of its own events stay beside their records.
    pub(super) leaves: bool,
    /// Of those that were left before, so many from the oldest on are written.
    writes: usize,
}

/// What one commit has done with them; it counts once that is committed.
pub(super) struct Done {
    written: Vec<UserKey>,
    left: Vec<(UserKey, Left)>,
    last: u64,
    /// The table has every state up to here.
    pub(super) complete_to: u64,
}

impl Done {
    /// The position of the last record, this commit included.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    pub(super) const fn has_written(&self) -> bool {
        !self.written.is_empty()
    }
}

impl Behind {
    pub(super) fn new(last: u64) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// What was left longest, and not written since.
    fn oldest(&self) -> impl Iterator<Item = (&UserKey, &Left)> {
        let left = |(first, user): &(u64, UserKey)| {
            let (user, left) = self.states.get_key_value(user)?;
            (left.first == *first).then_some((user, left))
        };
        self.order.iter().filter_map(left)
    }

    /// The commit is done.
    pub(super) fn keep(&mut self, done: Done) {
        self.passed += done.written.len();
        for user in &done.written {
            self.states.remove(user);
        }
        for (user, mut left) in done.left {
            match self.states.get_mut(&user) {
                Some(before) => {
                    left.first = before.first;
                    *before = left;
                }
                None => {
                    self.order.push_back((left.first, user));
                    self.states.insert(user, left);
                }
            }
        }
        while let Some((first, user)) = self.order.front()
            && self
                .states
                .get(user)
                .is_none_or(|left| left.first != *first)
        {
            self.order.pop_front();
        }
        if self.states.is_empty() {
            self.passed = 0;
            self.since = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
        self.last = done.last;
        self.said = Some(done.complete_to);
    }
}

impl Writer {
    /// Decides before anything is written.
    pub(super) fn plan(&self, work: &Work) -> Plan {
        let behind = &self.behind;
        let span = behind
            .oldest()
            .next()
            .map_or(0, |(_, left)| behind.last - left.first);
        let waits = behind.states.len() + behind.passed + work.entries.len();
        let must = work.settle
            || self.blocked == Some(Blocked::Full)
            || self.is_crowded_file()
            || span >= BEHIND_RECORDS
            || behind.since.is_some_and(|since| since.elapsed() >= IDLE)
            || waits > BEHIND_STATES
            // States without records pass in numbers, and ingest forgets what was left before.
            || work.entries.iter().any(|entry| entry.record.is_none());
        let leaves = !work.entries.is_empty() && !must;
        let writes = match (must, leaves || self.blocked.is_some()) {
            (true, _) => usize::MAX,
            (false, true) => 0,
            (false, false) => AT_ONCE,
        };
        Plan { leaves, writes }
    }

    /// Writes the states that the plan says, beside these entries, whose records are written.
    pub(super) fn write_states(&self, entries: &[Entry], plan: &Plan) -> rusqlite::Result<Done> {
        let mut due: BTreeMap<&UserKey, (&str, Vec<u8>)> = BTreeMap::new();
        let mut left = Vec::new();
        for (user, left) in self.behind.oldest().take(plan.writes) {
            due.insert(user, (&left.key, left.state.clone()));
        }
        let (mut last, mut first) = (self.behind.last, None);
        let newest: HashMap<&UserKey, &Entry, ByDigest> =
            entries.iter().map(|entry| (&entry.user, entry)).collect();
        for (user, entry) in newest {
            let state = codec::encode(&entry.state);
            match &entry.record {
                Some((record, _)) if plan.leaves => {
                    let (first, key) = (record.position, entry.key.clone());
                    left.push((*user, Left { first, key, state }));
                }
                // A state without a record is nowhere else.
                Some(_) | None => drop(due.insert(user, (&entry.key, state))),
            }
        }
        for (record, _) in entries.iter().filter_map(|entry| entry.record.as_ref()) {
            last = record.position;
            first.get_or_insert(record.position);
        }
        let rows = due
            .iter()
            .map(|(user, (key, state))| (*user, *key, &**state));
        states::put(&self.connection, &self.seal, rows)?;
        let still = self
            .behind
            .oldest()
            .find(|(user, _)| !due.contains_key(user));
        let still = still.map(|(_, left)| left.first);
        let own = first.filter(|_| !left.is_empty());
        let complete_to = still.or(own).map_or(last, |first| first - 1);
        if self.behind.said.is_none_or(|said| said != complete_to) {
            states::set(&self.connection, complete_to)?;
        }
        // The order of the next flush is that of the records.
        left.sort_unstable_by_key(|(_, left)| left.first);
        Ok(Done {
            written: due.into_keys().copied().collect(),
            left,
            last,
            complete_to,
        })
    }
}
