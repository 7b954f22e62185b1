//! What the journal knows of the users at one moment, for who compares without changing anything.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::states::{self, Late};
use super::{Desk, JournalError, Reader, UserRow, schema};
use crate::config::JournalConfig;
use crate::state::{DigestKey, UserKey, UserState};

/// The users of a journal, as they were when it was opened.
#[derive(Debug)]
pub struct Snapshot {
    reader: Reader,
    /// The key of the digests in the states.
    pub digest_key: DigestKey,
    /// Whether a list was ever compared in full.
    pub first_list_done: bool,
    /// What the table of users does not have yet.
    late: BTreeMap<UserKey, Late>,
}

impl Snapshot {
    /// Opens the journal's file and holds on to this moment of it until it is dropped.
    ///
    /// # Errors
    /// [`JournalError`] when there is none, or it is of another version.
    pub fn open(config: &JournalConfig) -> Result<Self, JournalError> {
        let Desk(connection, seal) = Desk::open(config)?;
        // A read transaction: a bridge may go on writing, this one does not see it.
        connection.execute_batch("BEGIN")?;
        Ok(Self {
            digest_key: schema::digest_key(&connection, &seal)?,
            first_list_done: schema::meta(&connection, "first_list_done")?.is_some(),
            late: states::late(&connection, &seal)?,
            reader: Reader(connection, seal),
        })
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn user(&self, user: &UserKey) -> Result<Option<UserState>, JournalError> {
        let known = self.reader.user(user)?;
        let late = self
            .late
            .get(user)
            .filter(|late| late.is_newer(known.as_ref()));
        Ok(late.map(|late| late.state.clone()).or(known))
    }

    /// A page of the users, each with the key of its records; empty only at the end.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn users(
        &self,
        after: Option<&UserKey>,
        count: usize,
    ) -> Result<Vec<UserRow>, JournalError> {
        let (mut page, is_last) = self.reader.read_users(after, count)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = page.last().filter(|_| !is_last);
        let to = to.map_or(Bound::Unbounded, |(user, _, _)| Bound::Included(*user));
        for (user, late) in self.late.range((from.cloned(), to)) {
            let row = (*user, late.key.clone(), late.state.clone());
            match page.binary_search_by_key(user, |(user, _, _)| *user) {
                Ok(index) if late.is_newer(Some(&page[index].2)) => page[index] = row,
                Ok(_) => {}
                Err(index) => page.insert(index, row),
            }
        }
        Ok(page)
    }
}
