//! The states of users that stand in their records, because the table of users does not have them yet.
//!
//! A commit writes each state beside its record and leaves the table for later: scattered rows cost more
//! than the records themselves. `meta.states` is the position up to which the table has every state; what
//! a killed process left behind it is caught up at the start. Nothing here is ever ahead of the records.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::seal::{Place, Seal};
use super::{codec, schema, trouble};
use crate::state::{UserKey, UserState};

/// States that the table may lack between two commits; ingest keeps more than that many in memory.
pub(super) const BEHIND_STATES: usize = 3072;

/// Records after which the table gets all states, however few users they are of.
pub(super) const BEHIND_RECORDS: u64 = 16_384;

/// Records that are read at a time.
const PAGE: usize = 2048;

/// Name of the number under which the journal remembers how far the table is.
const META: &str = "states";

/// A user's row of the table, as it is to become.
pub(super) struct Late {
    pub(super) position: u64,
    pub(super) user: UserKey,
    pub(super) key: String,
    pub(super) state: UserState,
}

/// Shows no key: it is personal data.
impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Late {
    /// Whether it is newer than what the table has.
    pub(super) fn is_newer(&self, known: Option<&UserState>) -> bool {
        known.is_none_or(|known| known.position < self.position)
    }
}

/// The table has every state up to this position.
pub(super) fn set(connection: &Connection, position: u64) -> rusqlite::Result<()> {
    schema::set_meta(
        connection,
        META,
        i64::try_from(position).unwrap_or(i64::MAX),
    )
}

/// The position after which states are only in the records; none where the table has them all.
pub(super) fn complete_to(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let position = schema::meta(connection, META)?;
    Ok(position.map(|position| u64::try_from(position).unwrap_or_default()))
}

/// Writes rows of the table: a user, its key, and its state.
pub(super) fn put<'a>(
    connection: &Connection,
    seal: &Seal,
    rows: impl IntoIterator<Item = (&'a UserKey, &'a str, &'a [u8])>,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO users VALUES (?1, ?2, ?3)";
    let mut insert = connection.prepare_cached(sql)?;
    for (user, key, state) in rows {
        insert.execute((
            user,
            seal.seal_text(Place::UserKey(user), key)?,
            seal.seal(Place::UserState(user), state)?,
        ))?;
    }
    Ok(())
}

/// Gives the table what only the records have; the number of states.
pub(super) fn catch_up(connection: &Connection, seal: &Seal) -> rusqlite::Result<u64> {
    let (Some(mut at), mut written) = (complete_to(connection)?, 0) else {
        return Ok(0);
    };
    loop {
        let (newest, last) = page(connection, seal, at)?;
        let Some(last) = last else { return Ok(written) };
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for late in newest.values() {
            if late.is_newer(in_table(connection, seal, &late.user)?.as_ref()) {
                let state = codec::encode(&late.state);
                put(connection, seal, [(&late.user, &*late.key, &*state)])?;
                written += 1;
            }
        }
        set(connection, last)?;
        connection.execute_batch("COMMIT")?;
        at = last;
    }
}

/// What the table says of a user.
pub(super) fn in_table(
    connection: &Connection,
    seal: &Seal,
    user: &UserKey,
) -> rusqlite::Result<Option<UserState>> {
    let mut statement = connection.prepare_cached("SELECT state FROM users WHERE user = ?1")?;
    let state = |row: &Row<'_>| seal.open(Place::UserState(user), row.get_ref(0)?);
    let bytes = statement.query_row([user], state).optional()?;
    Ok(bytes.and_then(|bytes| codec::decode(&bytes)))
}

/// What only the records have, at this moment: few, but for a file that was saved from damage and not
/// started since.
pub(super) fn late(
    connection: &Connection,
    seal: &Seal,
) -> rusqlite::Result<BTreeMap<UserKey, Late>> {
    let mut all = BTreeMap::new();
    let Some(mut at) = complete_to(connection)? else {
        return Ok(all);
    };
    loop {
        let (newest, last) = page(connection, seal, at)?;
        all.extend(newest);
        let Some(last) = last else { return Ok(all) };
        at = last;
    }
}

type Page = (HashMap<UserKey, Late>, Option<u64>);

/// The newest state of each user in the next records, and the last of their positions.
fn page(connection: &Connection, seal: &Seal, after: u64) -> rusqlite::Result<Page> {
    let sql = "SELECT position, key, user, state FROM records WHERE position > ?1 ORDER BY position LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((after, PAGE))?;
    let (mut newest, mut last) = (HashMap::new(), after);
    while let Some(row) = rows.next()? {
        let position = row.get(0)?;
        trouble::ascends(&last, &position)?;
        last = position;
        if let Some((user, state)) = state_of(row, seal, [2, 3])? {
            let key = seal.open_text(Place::RecordKey(position), row.get_ref(1)?)?;
            let late = Late {
                position,
                user,
                key,
                state,
            };
            newest.insert(user, late);
        }
    }
    Ok((newest, (last > after).then_some(last)))
}

/// The two columns, for a file that may be of a version that had none.
pub(super) fn columns(connection: &Connection) -> &'static str {
    match connection.prepare("SELECT user, state FROM records") {
        Ok(_) => "user, state",
        Err(_) => "NULL, NULL",
    }
}

/// The state beside a record, if there is one, from these columns: whose, and what.
///
/// # Errors
/// Damage: a state that is none, or nobody's.
pub(super) fn state_of(
    row: &Row<'_>,
    seal: &Seal,
    [user, state]: [usize; 2],
) -> rusqlite::Result<Option<(UserKey, UserState)>> {
    let damaged = || trouble::damaged("the state beside a record cannot be read".to_owned());
    if let (ValueRef::Null, ValueRef::Null) = (row.get_ref(user)?, row.get_ref(state)?) {
        return Ok(None);
    }
    let user: UserKey = row.get(user).map_err(|_| damaged())?;
    let bytes = seal.open(Place::UserState(&user), row.get_ref(state)?)?;
    let state = codec::decode(&bytes).ok_or_else(damaged)?;
    Ok(Some((user, state)))
}
