//! What is known of users, for ingest: a bounded cache before the file.
//!
//! A state that the table of users does not have yet is only here. It cannot be let go too early: a
//! generation is dropped after states of as many other users have been put as a generation holds, and fewer
//! than that can wait for the writer, or wait with it for their turn.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{
    Handle, JournalError, QUEUE, Reader, states::BEHIND_STATES, writer::COMMIT_RECORDS_MAX,
};
use crate::state::{UserKey, UserState};

/// Users in one of the two generations of the cache: as many as a map of 16,384 places takes.
const GENERATION: usize = 14 * 1024;

const _: () = assert!(GENERATION > QUEUE + COMMIT_RECORDS_MAX + BEHIND_STATES);

/// A map by users.
pub(super) type ByUser<V> = HashMap<UserKey, V, ByDigest>;

/// See [`Digest`].
pub(super) type ByDigest = BuildHasherDefault<Digest>;

/// Takes a user's name as its hash: it is a keyed digest, so nobody outside can choose it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Digest(u64);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let (eights, _) = bytes.as_chunks();
        for eight in eights {
            self.0 ^= u64::from_le_bytes(*eight);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The states of the users; owned by ingest, the only one who changes them.
#[derive(Debug)]
pub struct Users {
    hot: ByUser<UserState>,
    cold: ByUser<UserState>,
    reader: Reader,
}

impl Users {
    /// Opens a read connection of its own.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn new(handle: &Handle) -> Result<Self, JournalError> {
        Ok(Self {
            hot: ByUser::default(),
            cold: ByUser::default(),
            reader: handle.reader()?,
        })
    }

    /// What is known of a user, whether it is durable yet or not.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn get(&self, user: &UserKey) -> Result<Option<Cow<'_, UserState>>, JournalError> {
        match self.cached(user) {
            Some(state) => Ok(Some(Cow::Borrowed(state))),
            None => Ok(self.reader.user(user)?.map(Cow::Owned)),
        }
    }

    /// What is known of a user beyond the file, or has lately been.
    pub fn cached(&self, user: &UserKey) -> Option<&UserState> {
        self.hot.get(user).or_else(|| self.cold.get(user))
    }

    /// Notes the state after an event that was given to the writer.
    pub fn put(&mut self, user: UserKey, state: UserState) {
        if self.hot.len() >= GENERATION {
            self.cold = std::mem::take(&mut self.hot);
        }
        self.hot.insert(user, state);
    }
}
