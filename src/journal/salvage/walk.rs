//! Walks through tables of which pages are damaged, around what cannot be read.
//!
//! It reads in order for as long as that goes, and then feels its way, place by place, to where it goes
//! on. An error that is no damage (the disk) ends the walk.

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use crate::event::Timestamp;
use crate::journal::seal::{Place, Seal};
use crate::journal::states::{self, BEHIND_RECORDS};
use crate::journal::trouble::{self, Reaction};
use crate::journal::verify;
use crate::journal::writer::COMMIT_RECORDS_MAX;
use crate::state::UserKey;

/// The distance between two tries in the table of users: with a million of them, whose keys are spread
/// evenly, about as many as a page holds. A table of which nothing is readable costs 65,536 tries.
const USER_STEP: u128 = 1 << 112;

/// So many places are tried one by one, which is more than any one damaged page tells of; then the
/// strides grow, so that a number that the damage made up does not keep the walk going for ever.
const SMALL_STEPS: u64 = 16_384;

/// No record takes fewer bytes of the file: positions follow each other, so that a position which is
/// further from the first than the file has room for was made up by the damage.
const RECORD_BYTES_MIN: u64 = 32;

/// Which records were saved, and which were not.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The first position that is looked at.
    pub(super) first: u64,
    /// The last position that was ever given.
    pub(super) last: u64,
    pub(super) saved: u64,
    /// When the record before the first gap was received.
    pub(super) before_gap: Option<Timestamp>,
    /// From and to, in order.
    gaps: Vec<(u64, u64)>,
}

impl Records {
    pub(super) fn missing(&self) -> u64 {
        self.missing_after(0)
    }

    pub(super) fn missing_after(&self, position: u64) -> u64 {
        let after = |(from, to): &(u64, u64)| (to + 1).saturating_sub((*from).max(position + 1));
        self.gaps.iter().map(after).sum()
    }

    pub(super) fn is_missing(&self, position: u64) -> bool {
        let index = self.gaps.partition_point(|(_, to)| *to < position);
        self.gaps
            .get(index)
            .is_some_and(|(from, _)| *from <= position)
    }

    /// The first gaps in words.
    pub(super) fn ranges(&self) -> String {
        let shown = self.gaps.iter().take(20);
        let words = shown.map(|(from, to)| format!("{from}-{to}"));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Nothing is known to have been after this position.
    fn ends(&mut self, last: u64) {
        self.last = last;
        self.gaps.retain(|(from, _)| *from <= last);
        if let Some((_, to)) = self.gaps.last_mut() {
            *to = last.min(*to);
        }
        if self.gaps.is_empty() {
            self.before_gap = None;
        }
    }

    fn gap(&mut self, from: u64, to: u64, before: Option<Timestamp>) {
        if from > to {
            return;
        }
        if self.gaps.is_empty() {
            self.before_gap = before;
        }
        self.gaps.push((from, to));
    }
}

/// An error that is no damage ends the walk.
fn damage(error: rusqlite::Error) -> rusqlite::Result<()> {
    match trouble::meaning(&error) {
        Reaction::Damaged | Reaction::NotOurs => Ok(()),
        Reaction::Wait(_) | Reaction::Failed | Reaction::ReadOnly | Reaction::Defect => Err(error),
    }
}

const COLUMNS: &str = "SELECT position, event_id, event_type, key, body, received_at, occurred_at";

/// Gives each readable record with a sound content to `take`, in the order of the table's columns.
pub(super) fn records(
    source: &Connection,
    seal: &Seal,
    delivered: u64,
    last: u64,
    take: &mut dyn FnMut(u64, Vec<Value>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Records> {
    let number = |sql: &str| -> rusqlite::Result<Option<u64>> {
        let found = source.query_row(sql, [], |row| row.get(0));
        found.or_else(|error| damage(error).map(|()| None))
    };
    // Where the first page is damaged, what every sink has is not looked for.
    let first = number("SELECT min(position) FROM records")?;
    let first = first.unwrap_or(delivered + 1).max(1);
    let highest = number("SELECT max(position) FROM records")?.unwrap_or_default();
    let bytes = source.path().and_then(|path| std::fs::metadata(path).ok());
    let room = bytes.map_or(u64::MAX, |file| file.len() / RECORD_BYTES_MIN);
    let possible = first.max(delivered).saturating_add(room);
    let known = last.max(highest).min(possible);
    let mut found = Records {
        first,
        // Of so many at the end nothing but they themselves may tell.
        last: known
            .saturating_add(BEHIND_RECORDS + COMMIT_RECORDS_MAX as u64)
            .min(possible),
        ..Records::default()
    };
    let mut reached = 0;
    let columns = format!("{COLUMNS}, {} FROM records", states::columns(source));
    let mut run = source.prepare(&format!("{columns} WHERE position >= ?1 ORDER BY position"))?;
    let mut one = source.prepare(&format!("{columns} WHERE position = ?1"))?;
    let (mut next, mut before) = (first, None);
    while next <= found.last {
        let mut rows = run.query([next])?;
        let ended = loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break true,
                Err(error) => break damage(error).map(|()| false)?,
            };
            let possible = next..=found.last;
            let Some((position, values)) = sound(row, seal).filter(|(at, _)| possible.contains(at))
            else {
                break false;
            };
            found.gap(next, position - 1, before);
            before = row.get(5).ok().map(Timestamp);
            found.saved += 1;
            reached = position;
            next = position + 1;
            take(position, values)?;
        };
        if ended {
            break;
        }
        let from = next;
        next = feel(&mut one, seal, from, found.last)?;
        found.gap(from, next - 1, before);
    }
    let last = found.last;
    found.gap(next, last, before);
    found.ends(known.max(reached));
    Ok(found)
}

/// A record's position and values, unless its content is no event.
fn sound(row: &Row<'_>, seal: &Seal) -> Option<(u64, Vec<Value>)> {
    let position = row.get(0).ok()?;
    if verify::wrong(row, seal).is_some() {
        return None;
    }
    // In the order of the table: position, received, occurred, id, type, key, body.
    let values = [0, 5, 6, 1, 2, 3, 4].map(|column| row.get(column));
    let values = values.into_iter().collect::<rusqlite::Result<Vec<_>>>();
    let mut values = values.ok()?;
    // An event is worth more than the state beside it.
    let state = match states::state_of(row, seal, [7, 8]) {
        Ok(Some(_)) => [7, 8].map(|column| row.get(column).unwrap_or(Value::Null)),
        Ok(None) | Err(_) => [Value::Null, Value::Null],
    };
    values.extend(state);
    Some((position, values))
}

/// The next readable record from a position on, or the position after the last.
fn feel(
    one: &mut rusqlite::Statement<'_>,
    seal: &Seal,
    from: u64,
    last: u64,
) -> rusqlite::Result<u64> {
    let (mut unread, mut stride) = (from, 1);
    let mut at = from;
    while at <= last {
        if reads(one, seal, at)? {
            // Somewhere in the last stride it began to be readable.
            while unread < at {
                let middle = unread + (at - unread) / 2;
                if reads(one, seal, middle)? {
                    at = middle;
                } else {
                    unread = middle + 1;
                }
            }
            return Ok(at);
        }
        unread = at + 1;
        if at - from >= SMALL_STEPS {
            stride *= 2;
        }
        at = at.saturating_add(stride);
    }
    Ok(last + 1)
}

fn reads(one: &mut rusqlite::Statement<'_>, seal: &Seal, position: u64) -> rusqlite::Result<bool> {
    let mut rows = one.query([position])?;
    match rows.next() {
        Ok(row) => Ok(row.is_some_and(|row| sound(row, seal).is_some())),
        Err(error) => damage(error).map(|()| false),
    }
}

/// A user that can be read.
pub(super) struct User {
    pub(super) user: UserKey,
    /// The key of its records, as the file holds it.
    pub(super) key: Value,
    /// Its state, as the file holds it.
    pub(super) stored: Vec<u8>,
    /// Its state.
    pub(super) state: Vec<u8>,
}

/// Takes a user.
type TakeUser<'a> = dyn FnMut(User) -> rusqlite::Result<()> + 'a;

/// Gives each readable user to `take`.
pub(super) fn users(
    source: &Connection,
    seal: &Seal,
    take: &mut TakeUser<'_>,
) -> rusqlite::Result<()> {
    let sql = "SELECT user, key, state FROM users WHERE user >= ?1 ORDER BY user";
    let Ok(mut run) = source.prepare(sql) else {
        return Ok(());
    };
    let mut next = Some(0_u128);
    while let Some(from) = next {
        let mut rows = run.query([from.to_be_bytes()])?;
        let mut reached = from;
        loop {
            match rows.next() {
                Ok(None) => return Ok(()),
                Ok(Some(row)) => {
                    let Some(stored) = stored(row).filter(|stored| stored.number() >= reached)
                    else {
                        break;
                    };
                    // Where no key is left, all were read.
                    let after = stored.number().checked_add(1);
                    if let Some(user) = stored.opened(seal) {
                        take(user)?;
                    }
                    let Some(after) = after else {
                        return Ok(());
                    };
                    reached = after;
                }
                Err(error) => break damage(error)?,
            }
        }
        next = reached.checked_add(USER_STEP);
    }
    Ok(())
}

/// A row of the table, if it has the types of one.
fn stored(row: &Row<'_>) -> Option<User> {
    Some(User {
        user: row.get(0).ok()?,
        key: row.get(1).ok()?,
        stored: row.get(2).ok()?,
        state: Vec::new(),
    })
}

impl User {
    const fn number(&self) -> u128 {
        u128::from_be_bytes(self.user)
    }

    fn opened(mut self, seal: &Seal) -> Option<Self> {
        let key = Place::UserKey(&self.user);
        seal.open_text(key, (&self.key).into()).ok()?;
        let state = Place::UserState(&self.user);
        self.state = seal.open(state, self.stored.as_slice().into()).ok()?;
        Some(self)
    }
}
