//! The users that a complete list lacks: counted first, then removed.
//!
//! The journal's users are gone through page by page, between the messages of the feed, so that a million
//! of them hold up nobody; nothing is collected. An absent user was removed, unless so many are absent
//! that the list itself is doubtful.

use tokio::sync::oneshot;

use super::Ingest;
use super::listing::{Listing, Lists, Stand};
use crate::blocking::in_place;
use crate::journal::{Handle, JournalError, Reader, UserRow};
use crate::reconcile::{Outcome, removals_are_believed};
use crate::state::{UserKey, UserState, removal};

/// Users that are looked at in one turn.
const PAGE: usize = 256;

/// How far a list is.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is being read.
    Reading,
    /// What it told is on its way to the file.
    Storing(oneshot::Receiver<()>),
    /// The known users that it lacks are counted.
    Counting(Pages),
    /// They are removed.
    Removing(Pages),
}

type Page = Vec<UserRow>;

/// The journal's users, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    reader: Reader,
    after: Option<UserKey>,
}

impl Pages {
    fn new(journal: &Handle) -> Result<Self, JournalError> {
        Ok(Self {
            reader: journal.reader()?,
            after: None,
        })
    }

    /// The next ones; none at the end.
    fn next(&mut self) -> Result<Page, JournalError> {
        let page = in_place(|| self.reader.users(self.after.as_ref(), PAGE))?;
        self.after = page.last().map(|(user, _, _)| *user);
        Ok(page)
    }
}

impl Lists {
    /// Whether a list may go on or begin: not before the one that was read is compared.
    pub(super) const fn take_more(&self) -> bool {
        match &self.current {
            Some(listing) => matches!(listing.phase, Phase::Reading),
            None => true,
        }
    }

    /// Resolves when [`Ingest::turn`] has something to do.
    pub(super) async fn turn_is_due(&mut self) {
        match self.current.as_mut().map(|listing| &mut listing.phase) {
            None | Some(Phase::Reading) => std::future::pending().await,
            // A writer that is gone reports itself.
            Some(Phase::Storing(stored)) => stored.await.unwrap_or_default(),
            Some(Phase::Counting(_) | Phase::Removing(_)) => {}
        }
    }
}

impl Ingest {
    /// Begins to look for the users that the list lacks.
    pub(super) async fn look_for_absent(&mut self) -> Result<(), JournalError> {
        // The pages are read from the file: what the list told must be in it.
        let stored = self.journal.sync_events().await?;
        if let Some(listing) = &mut self.lists.current {
            listing.phase = Phase::Storing(stored);
        }
        Ok(())
    }

    /// Looks at one page.
    pub(super) async fn turn(&mut self) -> Result<(), JournalError> {
        let Some(listing) = &mut self.lists.current else {
            return Ok(());
        };
        match &mut listing.phase {
            Phase::Reading => {}
            Phase::Storing(_) => listing.phase = Phase::Counting(Pages::new(&self.journal)?),
            Phase::Counting(pages) => {
                let page = pages.next()?;
                if page.is_empty() {
                    return self.judge().await;
                }
                self.count(page);
            }
            Phase::Removing(pages) => {
                let page = pages.next()?;
                if page.is_empty() {
                    return self.all_removed().await;
                }
                self.remove(page).await?;
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn count(&mut self, page: Page) {
        let Some(listing) = &mut self.lists.current else {
            return;
        };
        for (user, _, state) in page {
            listing.known += usize::from(!state.removed);
            if listing.seen.contains(&user) {
                continue;
            }
            let state = self.users.cached(&user).unwrap_or(&state);
            match is_absent(listing, state) {
                None | Some(Stand::Newer) => {}
                Some(Stand::Older) => listing.absent += 1,
                Some(Stand::Fresh) => {
                    listing.absent += 1;
                    listing.doubt(state.position);
                }
            }
        }
    }

    /// Every known user was looked at: are those who are absent to be removed?
    async fn judge(&mut self) -> Result<(), JournalError> {
        let share = self.lists.max_removed_share;
        let Some(listing) = &mut self.lists.current else {
            return Ok(());
        };
        let (absent, known, listed) = (listing.absent, listing.known, listing.seen.len());
        if !removals_are_believed(absent, known, listed, share) {
            tracing::error!(
                absent,
                known,
                listed,
                "the list lacks more users than reconcile.max_removed_share allows: nobody is removed; ask \
                 the vendor whether the list is right"
            );
            let why = "it lacks more users than reconcile.max_removed_share allows".to_owned();
            return self.ends(Outcome::Refused, Some(why)).await;
        }
        if absent == 0 {
            return self.all_removed().await;
        }
        listing.phase = Phase::Removing(Pages::new(&self.journal)?);
        Ok(())
    }

    async fn remove(&mut self, page: Page) -> Result<(), JournalError> {
        for (user, key, state) in page {
            let Some(listing) = &self.lists.current else {
                return Ok(());
            };
            if listing.seen.contains(&user) {
                continue;
            }
            // The feed may have told of it meanwhile.
            let state = self.users.cached(&user).unwrap_or(&state);
            match is_absent(listing, state) {
                None | Some(Stand::Newer | Stand::Fresh) => {}
                Some(Stand::Older) => {
                    let (event, state) = removal(state, &key, (self.clock)());
                    self.difference(event, key, user, state, false).await?;
                }
            }
        }
        Ok(())
    }

    async fn all_removed(&mut self) -> Result<(), JournalError> {
        let outcome = match self.is_spoiled() {
            true => Outcome::Failed,
            false => Outcome::Success,
        };
        self.ends(outcome, None).await
    }
}

/// How a user that the list lacks stands to it, unless it was removed before.
fn is_absent(listing: &Listing, state: &UserState) -> Option<Stand> {
    (!state.removed).then(|| listing.stand(state.position))
}
