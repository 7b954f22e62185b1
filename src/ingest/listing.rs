//! One list held against what is known: an event for each difference.
//!
//! What was heard on the feed since the list was asked for wins over it. What was heard shortly before
//! is not overruled either, because the list may be some seconds behind: another list decides. Of a user
//! that is listed twice the last entry counts.

use std::time::Duration;

use tokio::time::Instant;

use super::Ingest;
use super::absent::Phase;
use super::doubled::{Doubled, Own};
use super::fresh::Marks;
use crate::config::{Config, FirstStart};
use crate::event::{Event, Timestamp};
use crate::journal::{Appender, Entry, Found, JournalError, Reader};
use crate::normalise::Observation;
use crate::reconcile::seen::Seen;
use crate::reconcile::{Listed, Outcome, Reports};
use crate::state::{Compared, FieldName, Source, UserKey, UserState, compare};

/// What is remembered from list to list.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) current: Option<Listing>,
    /// What the first list does, while there was none.
    pub(super) first: Option<FirstStart>,
    pub(super) max_removed_share: f64,
    marks: Marks,
    doubled: Doubled,
    /// States up to this position were heard before the feed was last deaf.
    deaf_until: u64,
    /// When that ended.
    deaf_ended: Option<Instant>,
    /// When another list is to be asked for, and whether the next one was asked for so.
    pub(super) again: Option<Instant>,
    asked_again: bool,
    /// Events of lists that healed nothing: the windows that a later one heals count them too.
    pub(super) carried: u64,
    /// Position of the last event that only a list told of.
    pub(super) appended: u64,
    pub(super) reports: Reports,
}

/// A list that is being read or compared.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) asked: Timestamp,
    pub(super) begun: Instant,
    /// A state with a later position was heard after the list was asked for.
    position: u64,
    /// One with a later position was heard so shortly before that the list may not know it yet.
    fresh: u64,
    /// As in [`Lists`], when the list was asked for.
    deaf_until: u64,
    /// It was asked for because the one before left doubts.
    pub(super) is_another: bool,
    /// Nothing is being missed, as far as is known.
    pub(super) is_clear: bool,
    /// It was asked for so soon after the feed was deaf that it may be of before: then it heals nothing.
    pub(super) is_early: bool,
    pub(super) differences: u64,
    /// Users for whom the list may be behind the feed.
    pub(super) doubts: u64,
    /// Those of them of whom something may have been missed.
    pub(super) undecided: u64,
    pub(super) seen: Seen,
    own: Own,
    /// Something that it told was dropped, because the journal took nothing.
    is_spoiled: bool,
    pub(super) phase: Phase,
    /// Users that are known, and those of them that the list lacks.
    pub(super) known: usize,
    pub(super) absent: usize,
}

/// How what is known of a user stands to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It was heard after the list was asked for.
    Newer,
    /// It was heard so shortly before that the list may be behind.
    Fresh,
    /// The list is newer.
    Older,
}

impl Lists {
    pub(super) fn new(
        reader: &Reader,
        found: &Found,
        appender: &Appender,
        config: &Config,
        now: Timestamp,
        reports: Reports,
    ) -> Result<Self, JournalError> {
        let config = &config.reconcile;
        let span = config.read_after_write.0;
        let before = reader.position_before(now.minus(span))?;
        let before = before.unwrap_or_else(|| appender.position());
        Ok(Self {
            current: None,
            first: (!found.first_list_done).then_some(config.first_start),
            max_removed_share: config.max_removed_share,
            marks: Marks::new(span, before),
            doubled: Doubled::default(),
            deaf_until: appender.position(),
            deaf_ended: None,
            again: None,
            asked_again: false,
            carried: 0,
            appended: 0,
            reports,
        })
    }

    /// For how long a list may be behind the feed.
    pub(super) const fn read_after_write(&self) -> Duration {
        self.marks.span()
    }

    /// What was told up to this position is of before the feed was deaf.
    pub(super) fn deafness_ends(&mut self, position: u64) {
        self.deaf_until = position;
        self.deaf_ended = Some(Instant::now());
    }

    /// A blind window opens: what the current list misses is explained by it.
    pub(super) const fn is_blind(&mut self) {
        if let Some(listing) = &mut self.current {
            listing.is_clear = false;
        }
    }

    /// Whether it is time to ask for another list.
    pub(super) fn tick(&mut self, now: Instant, position: u64) -> bool {
        self.marks.note(now, position);
        let due = self.again.take_if(|at| *at <= now).is_some();
        self.asked_again |= due;
        due
    }
}

impl Listing {
    /// How a state with its last record at this position stands to the list.
    pub(super) const fn stand(&self, position: u64) -> Stand {
        if position > self.position {
            Stand::Newer
        } else if position > self.fresh {
            Stand::Fresh
        } else {
            Stand::Older
        }
    }

    /// The list differs from a fresh state. What was heard after the feed was last deaf needs no list.
    pub(super) fn doubt(&mut self, position: u64) {
        self.doubts += 1;
        self.undecided += u64::from(position <= self.deaf_until);
    }
}

impl Ingest {
    pub(super) async fn listed(&mut self, listed: Listed) -> Result<(), JournalError> {
        match listed {
            Listed::Begin { asked, noted } => {
                self.begin(asked);
                // Reconcile is gone only when everything ends.
                noted.send(()).unwrap_or_default();
                Ok(())
            }
            Listed::Users(users) => {
                for user in users {
                    self.listed_user(user).await?;
                }
                // Each of them was perhaps looked up in the file, and nobody else could go on.
                tokio::task::yield_now().await;
                Ok(())
            }
            Listed::End { complete } => self.was_read(complete).await,
            Listed::Failed { why } => {
                // Entries of a list that broke off: which would have been the last is not known.
                drop(self.lists.doubled.release());
                self.ends(Outcome::Failed, Some(why)).await
            }
        }
    }

    fn begin(&mut self, asked: Timestamp) {
        let (begun, position) = (Instant::now(), self.appender.position());
        self.silence.begins();
        let is_clear = self.hears();
        let lists = &mut self.lists;
        let since_deaf = lists.deaf_ended.map(|ended| begun.duration_since(ended));
        lists.current = Some(Listing {
            asked,
            begun,
            position,
            fresh: lists.marks.asked(begun, position),
            deaf_until: lists.deaf_until,
            is_another: std::mem::take(&mut lists.asked_again),
            is_clear,
            is_early: since_deaf.is_some_and(|since| since < lists.marks.span()),
            differences: 0,
            doubts: 0,
            undecided: 0,
            seen: Seen::default(),
            own: Own::default(),
            is_spoiled: false,
            phase: Phase::Reading,
            known: 0,
            absent: 0,
        });
    }

    async fn listed_user(&mut self, observation: Observation) -> Result<(), JournalError> {
        let user = self.key.user(&observation.user_id);
        let Some(listing) = &mut self.lists.current else {
            return Ok(());
        };
        listing.seen.insert(&user);
        match self.lists.doubled.hold(&user, observation) {
            Some(observation) => self.compare_listed(user, observation).await,
            None => Ok(()),
        }
    }

    async fn compare_listed(
        &mut self,
        user: UserKey,
        observation: Observation,
    ) -> Result<(), JournalError> {
        let known = self.users.get(&user)?;
        let Some(listing) = &mut self.lists.current else {
            return Ok(());
        };
        let position = known.as_ref().map_or(0, |state| state.position);
        let stand = match listing.stand(position) {
            // Its first entry, and this is another one of the same list.
            Stand::Newer if listing.own.contains(position) => Stand::Older,
            stand => stand,
        };
        if stand == Stand::Newer {
            return Ok(());
        }
        let now = (self.clock)();
        match compare(known.as_deref(), observation, Source::List, now, &self.key) {
            Compared::Unchanged | Compared::Repeat => Ok(()),
            Compared::News(_) if stand == Stand::Fresh => {
                listing.doubt(position);
                Ok(())
            }
            Compared::News(news) => {
                let (event, state) = *news;
                let is_new = known.is_none();
                let key = self.privacy.key(&event.user_id);
                if self.lists.first == Some(FirstStart::Adopt) && is_new {
                    return self.adopt(key, user, state).await;
                }
                let changes = |field: FieldName| event.changed.contains(&field.as_str());
                let is_told = is_new
                    || changes(FieldName::Status)
                    || (changes(FieldName::Requirements) && !self.silence.is_since(position));
                self.difference(event, key, user, state, is_told).await
            }
        }
    }

    /// Appends what only the list told of; `is_told` if the vendor documents a message for it.
    pub(super) async fn difference(
        &mut self,
        event: Event,
        key: String,
        user: UserKey,
        state: UserState,
        is_told: bool,
    ) -> Result<(), JournalError> {
        self.metrics.reconcile.differences.inc();
        let before = self.appender.position();
        self.append(event, key, user, state, None).await?;
        let position = self.appender.position();
        self.lists.appended = position;
        let Some(listing) = &mut self.lists.current else {
            return Ok(());
        };
        listing.differences += 1;
        if position > before {
            listing.own.add(position);
            if is_told {
                self.silence.suspect(user, position);
            }
        }
        Ok(())
    }

    /// Not all that the list told is with the journal: it repairs nothing.
    pub(super) const fn spoil_listing(&mut self) {
        if let Some(listing) = &mut self.lists.current {
            listing.is_spoiled = true;
        }
    }

    pub(super) fn is_spoiled(&self) -> bool {
        let listing = self.lists.current.as_ref();
        self.room.drops() || listing.is_some_and(|listing| listing.is_spoiled)
    }

    /// Takes a user as known without an event.
    async fn adopt(
        &mut self,
        key: String,
        user: UserKey,
        mut state: UserState,
    ) -> Result<(), JournalError> {
        let Some(place) = self.place().await? else {
            self.spoil_listing();
            return Ok(());
        };
        // As of what the list overrules: a second entry of this user counts.
        let position = self.lists.current.as_ref().map(|listing| listing.fresh);
        state.position = position.unwrap_or_default();
        self.privacy.hide_state(&mut state);
        self.users.put(user, state.clone());
        place.send(Entry {
            record: None,
            user,
            key,
            state,
            room: None,
        });
        Ok(())
    }

    /// The list was read to its end; what it lacks is looked for next.
    async fn was_read(&mut self, complete: bool) -> Result<(), JournalError> {
        for entry in self.lists.doubled.release() {
            let user = self.key.user(&entry.user_id);
            self.compare_listed(user, entry).await?;
        }
        let Some(listing) = &mut self.lists.current else {
            return Ok(());
        };
        listing.seen.sort();
        let twice = listing.seen.twice();
        if !twice.is_empty() {
            let users = twice.len();
            tracing::warn!(
                users,
                "the list has users more than once: the last entry counts"
            );
        }
        self.lists.doubled.are(twice);
        if !complete {
            let why = "entries or keys of the list cannot be read".to_owned();
            return self.ends(Outcome::Failed, Some(why)).await;
        }
        if self.is_spoiled() {
            return self.ends(Outcome::Failed, None).await;
        }
        self.look_for_absent().await
    }
}
