//! What is known of users, for ingest: a bounded cache before the file.
//!
//! A state that the table of users does not have yet is only here. It cannot be let go too early: a
//! generation is dropped after states of as many other users have been put as a generation holds, and fewer
//! than that can wait for the writer, or wait with it for their turn.

use std::collections::HashMap;

use super::{
    Handle, JournalError, QUEUE, Reader, states::BEHIND_STATES, writer::COMMIT_RECORDS_MAX,
};
use crate::state::{UserKey, UserState};

/// Users in one of the two generations of the cache.
const GENERATION: usize = 8 * 1024;

const _: () = assert!(GENERATION > QUEUE + COMMIT_RECORDS_MAX + BEHIND_STATES);

/// The states of the users; owned by ingest, the only one who changes them.
#[derive(Debug)]
pub struct Users {
    hot: HashMap<UserKey, UserState>,
    cold: HashMap<UserKey, UserState>,
    reader: Reader,
}

impl Users {
    /// Opens a read connection of its own.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn new(handle: &Handle) -> Result<Self, JournalError> {
        Ok(Self {
            hot: HashMap::new(),
            cold: HashMap::new(),
            reader: handle.reader()?,
        })
    }

    /// What is known of a user, whether it is durable yet or not.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn get(&self, user: &UserKey) -> Result<Option<UserState>, JournalError> {
        match self.hot.get(user).or_else(|| self.cold.get(user)) {
            Some(state) => Ok(Some(state.clone())),
            None => self.reader.user(user),
        }
    }

    /// What is known of a user beyond the file, or has lately been.
    pub fn cached(&self, user: &UserKey) -> Option<UserState> {
        self.hot.get(user).or_else(|| self.cold.get(user)).cloned()
    }

    /// Notes the state after an event that was given to the writer.
    pub fn put(&mut self, user: UserKey, state: UserState) {
        if self.hot.len() >= GENERATION {
            self.cold = std::mem::take(&mut self.hot);
        }
        self.hot.insert(user, state);
    }
}
