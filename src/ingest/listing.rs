//! One list held against what is known: an event for each difference.
//!
//! What was heard on the feed since the list was asked for wins over the list. A user who is absent
//! from a complete list was removed, unless so many are absent that the list itself is doubtful.

use std::collections::HashSet;

use super::Ingest;
use crate::config::FirstStart;
use crate::event::Timestamp;
use crate::journal::{Entry, JournalError, WindowChange};
use crate::normalise::Observation;
use crate::reconcile::{Listed, removals_are_believed};
use crate::state::{Compared, Source, UserKey, UserState, compare, removal};

/// Users that are read at a time when the absent ones are looked for.
const PAGE: usize = 1000;

/// A list that is being read.
#[derive(Debug)]
pub(super) struct Listing {
    asked: Timestamp,
    /// A state with a later position was heard after the list was asked for.
    position: u64,
    differences: u64,
    seen: HashSet<UserKey>,
    /// Something that it told was dropped, because the journal took nothing.
    pub(super) is_spoiled: bool,
}

impl Ingest {
    pub(super) async fn listed(&mut self, listed: Listed) -> Result<(), JournalError> {
        match listed {
            Listed::Begin { asked, noted } => {
                let position = self.appender.position();
                let seen = HashSet::new();
                self.listing = Some(Listing {
                    asked,
                    position,
                    differences: 0,
                    seen,
                    is_spoiled: false,
                });
                // Reconcile is gone only when everything ends.
                noted.send(()).unwrap_or_default();
                Ok(())
            }
            Listed::User(observation) => self.listed_user(*observation).await,
            Listed::End { complete } => self.listed_all(complete).await,
            Listed::Failed => {
                self.listing = None;
                self.outcome("failed");
                Ok(())
            }
        }
    }

    fn outcome(&self, outcome: &str) {
        self.metrics
            .reconcile
            .runs
            .with_label_values(&[outcome])
            .inc();
    }

    async fn listed_user(&mut self, observation: Observation) -> Result<(), JournalError> {
        let user = self.key.user(&observation.user_id);
        let known = self.users.get(&user)?;
        let Some(listing) = &mut self.listing else {
            return Ok(());
        };
        listing.seen.insert(user);
        if known
            .as_ref()
            .is_some_and(|state| state.position > listing.position)
        {
            return Ok(());
        }
        let now = (self.clock)();
        match compare(known.as_ref(), &observation, Source::List, now, &self.key) {
            Compared::Unchanged | Compared::Repeat => Ok(()),
            Compared::News(news) => {
                let (event, state) = *news;
                let key = self.privacy.key(&event.user_id);
                if self.first_list == Some(FirstStart::Adopt) && known.is_none() {
                    return self.adopt(key, user, state).await;
                }
                self.difference();
                self.append(event, key, user, state, None).await
            }
        }
    }

    /// Not all that the list told is with the journal: it repairs nothing.
    pub(super) const fn spoil_listing(&mut self) {
        if let Some(listing) = &mut self.listing {
            listing.is_spoiled = true;
        }
    }

    fn difference(&mut self) {
        self.metrics.reconcile.differences.inc();
        if let Some(listing) = &mut self.listing {
            listing.differences += 1;
        }
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
        state.position = self.appender.position();
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

    async fn listed_all(&mut self, complete: bool) -> Result<(), JournalError> {
        let mut outcome = if complete { "success" } else { "failed" };
        // The page below reads the file: what the list told must be in it.
        if !self.room.drops() {
            self.journal.sync().await?;
        }
        if complete && !self.is_spoiled() {
            let (known, absent) = self.absent().await?;
            let listed = self
                .listing
                .as_ref()
                .map_or(0, |listing| listing.seen.len());
            if removals_are_believed(absent.len(), known, listed, self.max_removed_share) {
                for (user, key, state) in absent {
                    let (event, state) = removal(&state, &key, (self.clock)());
                    self.difference();
                    self.append(event, key, user, state, None).await?;
                }
            } else {
                outcome = "refused";
                tracing::error!(
                    absent = absent.len(),
                    known,
                    listed,
                    "the list lacks more users than reconcile.max_removed_share allows: nobody is \
                     removed; ask the vendor whether the list is right"
                );
            }
        }
        if self.is_spoiled() {
            outcome = "failed";
        }
        self.outcome(outcome);
        let Some(listing) = self.listing.take() else {
            return Ok(());
        };
        let (users, differences) = (listing.seen.len(), listing.differences);
        tracing::info!(
            users,
            differences,
            outcome,
            "compared with the vendor's list"
        );
        if outcome != "success" {
            // What such a list does not tell is not repaired.
            return Ok(());
        }
        if self.first_list.take().is_some() {
            self.journal.first_list_done().await?;
        }
        let heal = WindowChange::Heal {
            asked: listing.asked,
            differences,
        };
        self.journal.window(heal).await
    }

    fn is_spoiled(&self) -> bool {
        let listing = self.listing.as_ref();
        self.room.drops() || listing.is_some_and(|listing| listing.is_spoiled)
    }

    /// How many users are known, and those of them that the list lacks.
    async fn absent(&mut self) -> Result<(usize, Vec<(UserKey, String, UserState)>), JournalError> {
        let Some(listing) = &self.listing else {
            return Ok((0, Vec::new()));
        };
        let reader = self.journal.reader()?;
        let (mut known, mut absent, mut after) = (0, Vec::new(), None);
        loop {
            let page = reader.users(after.as_ref(), PAGE)?;
            let Some((last, _, _)) = page.last() else {
                return Ok((known, absent));
            };
            after = Some(*last);
            for (user, key, state) in page {
                known += usize::from(!state.removed);
                if listing.seen.contains(&user) {
                    continue;
                }
                // The file may be behind what was handed to it, where the journal is full.
                let state = self.users.get(&user)?.unwrap_or(state);
                if !state.removed && state.position <= listing.position {
                    absent.push((user, key, state));
                }
            }
            // The feed goes on meanwhile.
            tokio::task::yield_now().await;
        }
    }
}
