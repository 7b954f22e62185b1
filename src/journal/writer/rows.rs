//! The rows of a commit: records, dead letters, blind windows.
//!
//! What is personal is sealed here, if the journal is. It commits nothing itself.

use super::Writer;
use crate::journal::notices::{Notices, numbers};
use crate::journal::seal::Place;
use crate::journal::{DEAD_LETTERS_MAX, DeadLetter, Entry, WINDOWS_MAX, WindowChange, codec, side};

impl Writer {
    /// The records, each with the state of its user where that stays beside it.
    pub(super) fn insert_records(
        &self,
        entries: &[Entry],
        with_state: bool,
    ) -> rusqlite::Result<()> {
        let seal = &self.seal;
        let sql = "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let mut insert = self.connection.prepare_cached(sql)?;
        for entry in entries {
            if let Some((record, _)) = &entry.record {
                let user = with_state.then_some(&entry.user);
                let state = user.map(|user| (user, codec::encode(&entry.state)));
                let sealed = state
                    .as_ref()
                    .map(|(user, state)| seal.seal(Place::UserState(user), state));
                insert.execute((
                    record.position,
                    record.received_at.0,
                    record.occurred_at.map(|at| at.0),
                    record.event_id.0,
                    record.event_type.as_str(),
                    seal.seal_text(Place::RecordKey(record.position), &record.key)?,
                    seal.seal(Place::RecordBody(record.position), &record.body)?,
                    user,
                    sealed.transpose()?,
                ))?;
            }
        }
        Ok(())
    }

    pub(super) fn insert_letters(
        &self,
        letters: &[DeadLetter],
        notices: &mut Notices,
    ) -> rusqlite::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        for letter in letters {
            side::insert_letter(&self.connection, letter, notices)?;
        }
        self.keep("dead_letters", "", DEAD_LETTERS_MAX)
    }

    pub(super) fn change_window(
        &self,
        change: &WindowChange,
        notices: &mut Notices,
    ) -> rusqlite::Result<()> {
        let (connection, now) = (&self.connection, (self.clock)());
        let changed = match change {
            WindowChange::Open {
                from,
                to,
                reason,
                missing,
            } => {
                let sql = "INSERT INTO windows (opened, closed, reason, missing)
                    VALUES (?1, ?2, ?3, ?4) RETURNING id";
                // A clock that was set back would make it end before it begins.
                let from = to.map_or(*from, |to| to.min(*from));
                let to = to.map(|to| to.0);
                let opened = numbers(connection, sql, (from.0, to, reason, missing))?;
                self.keep("windows", "closed IS NOT NULL AND", WINDOWS_MAX)?;
                opened
            }
            WindowChange::Close { to } => {
                let sql = "UPDATE windows SET opened = min(opened, ?1), closed = ?1
                    WHERE closed IS NULL RETURNING id";
                numbers(connection, sql, [to.0])?
            }
            WindowChange::End { reason, to } => {
                let sql = "UPDATE windows SET opened = min(opened, ?1), closed = ?1
                    WHERE closed IS NULL AND reason = ?2 RETURNING id";
                numbers(connection, sql, (to.0, reason))?
            }
            WindowChange::Heal { asked, differences } => {
                side::drop_healed_frames(connection, *asked)?;
                // One that ends in the future ended before the clock was set back.
                let sql = "UPDATE windows SET healed = ?1, differences = ?2
                    WHERE healed IS NULL AND (closed <= ?3 OR closed > ?1) RETURNING id";
                numbers(connection, sql, (now.0, differences, asked.0))?
            }
        };
        notices.tell_windows(connection, now, &changed)
    }

    /// Keeps the newest rows of a table, and those that no such row may be: there are few.
    fn keep(&self, table: &str, which: &str, rows: u64) -> rusqlite::Result<()> {
        let sql =
            format!("DELETE FROM {table} WHERE {which} id <= (SELECT max(id) FROM {table}) - ?1");
        self.connection
            .prepare_cached(&sql)?
            .execute([rows])
            .map(drop)
    }
}
