//! What an operator asks of one sink beside the events: its dead letters again, and its cursor back.
//!
//! It looks only when the writer says that another process has written, and after each opening. A letter
//! is published to this sink alone, with its own event id, and only if the destination does not hold it
//! already; it is deleted once it is acknowledged. Letters never hold up events for long: a few at a
//! time, and a failure gives the events a start.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Deliver, Pause};
use crate::journal::{Beside, Handle, JournalError, Replay};
use crate::sink::{ErrorClass, SinkError};

/// Letters that are published between two batches of events.
const LETTERS_AT_ONCE: usize = 100;

/// The destination gets so long to say which letters it holds already.
const HELD_TIMEOUT: Duration = Duration::from_secs(30);

/// After a letter whose outcome is unknown, events go first for so long.
const LETTERS_PAUSE: Duration = Duration::from_secs(30);

/// Letters whose records are still to come with the events are looked at again after so long.
const LETTERS_WAIT: Duration = Duration::from_secs(2);

/// What one sink has to do beside the events.
pub(super) struct Side {
    changed: watch::Receiver<Beside>,
    /// What of it was noticed while the sink was away.
    asked: u64,
    /// Whether something may have been asked for since the last look.
    look: bool,
    /// Not before this time, because letters have failed.
    not_before: Option<Instant>,
    letters: VecDeque<Replay>,
    /// Positions of letters whose records come with the events, and were not refused there.
    pub(super) coming: BTreeSet<u64>,
    /// Whether an earlier try may have left a letter under way.
    unsettled: bool,
    /// Up to here the cursor had been when it was set back.
    rewound_from: Option<u64>,
    /// Whether it was looked up from where a process before this one had set it back.
    knows_rewound: bool,
    pub(super) can_tell_what_it_holds: bool,
}

impl Side {
    pub(super) fn new(journal: &Handle) -> Self {
        Self {
            changed: journal.beside(),
            asked: 0,
            look: true,
            not_before: None,
            letters: VecDeque::new(),
            coming: BTreeSet::new(),
            unsettled: true,
            rewound_from: None,
            knows_rewound: false,
            can_tell_what_it_holds: false,
        }
    }

    /// The session has failed: what was under way is of unknown outcome, and is looked for again.
    pub(super) fn failed(&mut self) {
        self.letters.clear();
        self.unsettled = true;
        self.look = true;
    }

    /// Resolves when there is something to look at.
    pub(super) async fn due(&mut self) {
        if !self.letters.is_empty() {
            return;
        }
        match (self.look, self.not_before) {
            (true, Some(time)) => sleep_until(time).await,
            (true, None) => {}
            // The writer has ended: nothing will be asked any more.
            (false, _) => match self.changed.changed().await {
                Ok(()) => self.look = true,
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Whether no letter is at hand.
    pub(super) fn is_idle(&self) -> bool {
        self.letters.is_empty()
    }

    /// Resolves when another process has written since this was last asked.
    pub(super) async fn asked(&mut self) {
        let seen = self.asked;
        let asked = self.changed.wait_for(|now| now.asked > seen).await;
        match asked.map(|now| now.asked) {
            Ok(asked) => self.asked = asked,
            // The writer has ended: nothing will be asked any more.
            Err(_) => std::future::pending().await,
        }
    }

    fn must_look(&mut self) -> bool {
        if self.changed.has_changed().unwrap_or(false) {
            self.changed.mark_unchanged();
            self.look = true;
        }
        self.look && self.not_before.is_none_or(|time| Instant::now() >= time)
    }
}

impl Deliver {
    /// Does what was asked for, if anything was.
    pub(super) async fn beside(&mut self) -> Result<(), Pause> {
        if self.side.must_look() {
            self.side.look = false;
            self.side.not_before = None;
            if self.rewind().await? {
                // Anew, because the destination may be another one than before the disaster.
                self.open().await?;
            }
            self.look_for_letters().await?;
        }
        self.say_what_counts();
        for _ in 0..LETTERS_AT_ONCE {
            let Some(letter) = self.side.letters.pop_front() else {
                break;
            };
            self.replay_letter(&letter).await?;
        }
        Ok(())
    }

    /// Sets the cursor back, if that was asked for: what is beyond it is of unknown outcome, so that the
    /// destination is asked what it holds and gets only what it lacks.
    pub(super) async fn rewind(&mut self) -> Result<bool, Pause> {
        let Some(asked) = self.tail.rewind(&self.metrics.name).await? else {
            return Ok(false);
        };
        let back = asked < self.cursor;
        if back {
            tracing::warn!(
                sink = self.metrics.name,
                from = self.cursor,
                to = asked,
                "the cursor is set back on demand: what the destination lacks is published again"
            );
            self.side.rewound_from = self.side.rewound_from.max(Some(self.cursor));
            self.cursor = asked;
            self.settled = false;
            self.done.clear();
            self.held.clear();
            self.twins.forget();
            self.status.delivered(self.cursor);
        }
        let from = self.side.rewound_from.unwrap_or(self.cursor);
        self.journal
            .rewound(self.start.index, asked, self.cursor, from)
            .await?;
        Ok(back)
    }

    /// Takes up what a process before this one had set back and not brought to its end.
    pub(super) async fn rewound_before(&mut self) -> Result<(), JournalError> {
        if !std::mem::replace(&mut self.side.knows_rewound, true) {
            let from = self.tail.rewound_from(&self.metrics.name).await?;
            let from = from.filter(|from| *from > self.cursor);
            // However that one ended: the destination is asked again what it holds.
            self.settled &= from.is_none();
            self.side.rewound_from = self.side.rewound_from.max(from);
        }
        Ok(())
    }

    /// Among what was set back, a destination's mere memory of an event does not count.
    fn say_what_counts(&mut self) {
        let can_tell = self.side.can_tell_what_it_holds;
        let rewound = self.side.rewound_from;
        if rewound.is_some_and(|from| from <= self.cursor) {
            self.side.rewound_from = None;
        }
        if rewound.is_some() {
            let must = can_tell && self.side.rewound_from.is_some();
            self.sink.must_hold(must);
        }
    }

    async fn look_for_letters(&mut self) -> Result<(), Pause> {
        let asked = self.tail.replays(&self.metrics.name).await?;
        let all = asked.len();
        let asked = self.put_off(asked);
        let unsettled = self.side.unsettled;
        // What was put off may have been under way too.
        self.side.unsettled &= asked.is_empty() && all > 0;
        let Some(since) = asked.iter().map(|letter| letter.received_at).min() else {
            return Ok(());
        };
        let held = if self.side.can_tell_what_it_holds {
            if unsettled {
                sleep(self.start.settle).await;
            }
            match timeout(HELD_TIMEOUT, self.sink.held(since)).await {
                Ok(held) => held.inspect_err(|_| {
                    self.side.not_before = Some(Instant::now() + LETTERS_PAUSE);
                })?,
                Err(_) => return self.cannot_tell(&asked).await,
            }
        } else {
            HashSet::new()
        };
        // A destination that can tell is believed; of another one it is known that the record came.
        let can_tell = self.side.can_tell_what_it_holds;
        let coming = &mut self.side.coming;
        let (there, missing) = asked.into_iter().partition::<Vec<_>, _>(|letter| {
            let came = letter.position.is_some_and(|at| coming.remove(&at));
            (came && !can_tell) || held.contains(&letter.event_id)
        });
        if !there.is_empty() {
            self.metrics.skipped_held.inc_by(there.len() as u64);
            let ids = there.iter().map(|letter| letter.id).collect();
            self.journal.letters_published(ids).await?;
        }
        tracing::info!(
            sink = self.metrics.name,
            letters = missing.len(),
            held = there.len(),
            "dead letters are published again on demand"
        );
        self.side.letters = missing.into();
        Ok(())
    }

    /// Leaves out the letters whose records lie beyond the cursor, because it was set back or is behind
    /// after a crash: they come with the events. Published now as well they would be there twice, and
    /// before earlier ones of their users.
    fn put_off(&mut self, asked: Vec<Replay>) -> Vec<Replay> {
        let comes = |position: &u64| *position > self.cursor && !self.done.contains(position);
        let (later, now): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|letter| letter.position.as_ref().is_some_and(comes));
        if !later.is_empty() {
            let positions = later.iter().filter_map(|letter| letter.position);
            self.side.coming.extend(positions);
            self.side.look = true;
            self.side.not_before = Some(Instant::now() + LETTERS_WAIT);
        }
        now
    }

    /// Too much has come to the destination since the oldest letter; the events must not wait for it.
    async fn cannot_tell(&mut self, asked: &[Replay]) -> Result<(), Pause> {
        let seconds = HELD_TIMEOUT.as_secs();
        let detail = format!(
            "not tried again: the destination did not tell within {seconds} s whether it holds this \
             event already; ask for fewer or younger letters at a time"
        );
        tracing::warn!(sink = self.metrics.name, letters = asked.len(), "{detail}");
        for letter in asked {
            self.journal
                .letter_not_tried(letter.id, detail.clone())
                .await?;
        }
        // What was asked is given up only by a new client.
        Err(Pause::Sink(SinkError::new(ErrorClass::Transient, detail)))
    }

    async fn replay_letter(&mut self, letter: &Replay) -> Result<(), Pause> {
        let Some(record) = self.tail.letter_record(letter.id).await? else {
            let detail = "not tried again: the record is not in the journal".to_owned();
            return Ok(self.journal.letter_not_tried(letter.id, detail).await?);
        };
        let error = match self.publish(&[record]).await {
            Ok(()) => {
                self.metrics.published.inc();
                self.metrics.last_success.set((self.clock)().as_seconds());
                return Ok(self.journal.letters_published(vec![letter.id]).await?);
            }
            Err(error) => first_of(error.failed),
        };
        match error.class {
            ErrorClass::Record => {
                self.metrics.error(ErrorClass::Record);
                self.refused_again(letter, &error).await
            }
            // It may be about this record alone, which must not halt the events again and again.
            ErrorClass::Configuration => {
                self.refused_again(letter, &error).await?;
                Err(Pause::Sink(error))
            }
            ErrorClass::Transient | ErrorClass::Fatal => {
                self.side.not_before = Some(Instant::now() + LETTERS_PAUSE);
                Err(Pause::Sink(error))
            }
        }
    }

    async fn refused_again(&mut self, letter: &Replay, error: &SinkError) -> Result<(), Pause> {
        tracing::error!(
            sink = self.metrics.name,
            event_id = %letter.event_id,
            letter = letter.id,
            reason = error.message,
            "the destination refuses this dead letter again"
        );
        let (at, detail) = ((self.clock)(), error.message.clone());
        Ok(self.journal.letter_refused(letter.id, at, detail).await?)
    }
}

fn first_of(failed: Vec<(usize, SinkError)>) -> SinkError {
    let first = failed.into_iter().next().map(|(_, error)| error);
    first.unwrap_or_else(|| SinkError::new(ErrorClass::Transient, "not acknowledged"))
}
