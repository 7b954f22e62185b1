//! What the journal knows of the users at one moment, for who compares without changing anything.

use super::{Desk, JournalError, Reader, schema};
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
            reader: Reader(connection, seal),
        })
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn user(&self, user: &UserKey) -> Result<Option<UserState>, JournalError> {
        self.reader.user(user)
    }

    /// A page of the users, each with the key of its records.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn users(
        &self,
        after: Option<&UserKey>,
        count: usize,
    ) -> Result<Vec<(UserKey, String, UserState)>, JournalError> {
        self.reader.users(after, count)
    }
}
