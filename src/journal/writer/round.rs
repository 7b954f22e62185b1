//! What not every commit writes: cursors, marks, until when the feed was heard; and what is pruned by them.
//!
//! A commit of one event would write most of its pages for these. So one of few events leaves them to one of
//! the next, at the latest after a moment; what a kill in between leaves out is in the records themselves, or
//! costs a look at the destination. The cursor of one that cannot be asked is left to none. Nothing is pruned
//! but by cursors that are in the file.

use std::time::Duration;

use tokio::time::Instant;

use super::behind::Done;
use super::prune::Marks;
use super::{CROWDED, Work, Writer};
use crate::event::{Origin, Timestamp};
use crate::journal::{Ending, Entry, IN_FLIGHT_BYTES, schema};

/// A cursor is written at the latest after this time, and with it all else that need not be in every commit.
pub(super) const CURSOR_DELAY: Duration = Duration::from_millis(500);

/// One whose destination cannot be asked is written after this time where no event comes that it could ride with.
pub(super) const CURSOR_DELAY_URGENT: Duration = Duration::from_millis(100);

/// Since a commit last wrote these.
#[derive(Default)]
pub(super) struct Rounds {
    last: Option<Instant>,
    /// Entries that were written since.
    entries: usize,
    /// Until when the feed was heard, where no commit has noted that yet.
    unnoted: Option<Timestamp>,
}

impl Rounds {
    /// A commit is done; one that wrote these began at that time.
    pub(super) fn committed(&mut self, work: &Work, round: Option<Instant>) {
        if round.is_some() {
            *self = Self {
                last: round,
                ..Self::default()
            };
            return;
        }
        self.entries += work.entries.len();
        self.unnoted = last_heard(&work.entries).or(self.unnoted);
    }
}

impl Writer {
    /// Whether this commit writes the cursors as well, prunes, and looks at the log. One of few events leaves
    /// that to one of the next: a commit of one event would write most of its pages for it.
    pub(super) fn rounds(&self, work: &Work, now: Instant) -> bool {
        let last = self.rounds.last;
        let rounded_lately = last.is_some_and(|last| now < last + CURSOR_DELAY);
        let in_no_hurry = *self.ending.borrow() == Ending::No && self.blocked.is_none();
        let may_wait = !self.cursors_urgent && !self.is_crowded_file();
        !(is_light(work) && rounded_lately && in_no_hurry && may_wait)
    }

    /// Writes them, and says what marks there are then and how many records went.
    pub(super) fn round(&self, work: &Work, states: &Done) -> rusqlite::Result<(Marks, usize)> {
        if self.cursors_dirty.is_some() {
            let sql = "UPDATE cursors SET position = ?2, clean = ?3 WHERE sink = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            for (sink, (position, clean)) in self.sinks.iter().zip(&self.cursors) {
                statement.execute((sink, position, clean))?;
            }
        }
        let delivered = self.delivered()?;
        let marks = self.mark(delivered)?;
        let can_go = delivered.min(states.complete_to);
        let pruned = self.prune(&marks, can_go, self.rounds.entries + work.entries.len())?;
        // A journal that takes nothing does not hear, and a closing one has closed the feed before.
        if self.blocked.is_none()
            && !self.is_closing()
            && let Some(heard) = self.heard_until(&work.entries)
        {
            schema::set_heard(&self.connection, heard, states.last())?;
        }
        Ok((marks, pruned))
    }

    /// Until when all that was received is in this commit or an earlier one, if that can be said.
    fn heard_until(&self, entries: &[Entry]) -> Option<Timestamp> {
        // Others may wait behind the last message of the commit; and a commit without one, such as of a
        // list, says nothing of those that wait.
        // Whoever is to end at once lets go of what waits: then its room is free and it was not heard.
        let goes_on = *self.ending.borrow() == Ending::No;
        let nothing_waits = || goes_on && self.room.available_permits() == IN_FLIGHT_BYTES;
        let quiet_until = || self.last_frame().filter(|_| nothing_waits());
        last_heard(entries)
            .or_else(quiet_until)
            .or(self.rounds.unnoted)
    }

    /// When the feed's last frame came: in a half-open connection that is long ago.
    fn last_frame(&self) -> Option<Timestamp> {
        let seconds = Duration::try_from_secs_f64(self.metrics.feed.last_frame.get()).ok()?;
        (!seconds.is_zero()).then(|| Timestamp(0).plus(seconds))
    }
}

/// Whether it is nothing but events, and few.
fn is_light(work: &Work) -> bool {
    let asks = work.waiting.is_empty() && work.side.is_empty() && !work.first_list_done;
    let few = !work.entries.is_empty() && work.entries.len() < CROWDED;
    asks && few && work.letters.is_empty() && work.windows.is_empty()
}

/// When the last of these that the feed told of was received.
fn last_heard(entries: &[Entry]) -> Option<Timestamp> {
    let mut records = entries
        .iter()
        .rev()
        .filter_map(|entry| entry.record.as_ref());
    let of_feed = records.find(|(_, origin)| *origin == Origin::Feed);
    of_feed.map(|(record, _)| record.received_at)
}
