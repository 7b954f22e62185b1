//! What a reconcile would publish, found without publishing or writing anything.
//!
//! It holds one list against one moment of the journal. Messages that a running bridge hears meanwhile
//! are not in that moment, so beside a busy feed it may name a difference that is none any more. A user
//! that is listed twice with two states is compared twice.

use serde::Serialize;
use tokio::sync::mpsc;

use super::seen::Seen;
use super::{LISTED_QUEUE, ListError, Listed, list, removals_are_believed};
use crate::config::{FeedConfig, FirstStart, ReconcileConfig};
use crate::event::{Event, Timestamp};
use crate::feed::api_key;
use crate::journal::{JournalError, Snapshot};
use crate::normalise::Observation;
use crate::state::{Compared, DigestKey, Source, UserKey, UserState, compare, removal};

/// Users that are read from the journal at a time.
const PAGE: usize = 1000;

/// The figures of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Users in the list; one that is listed twice counts once.
    pub listed: usize,
    /// Users that the journal knows and that were not removed.
    pub known: usize,
    /// Users that would be published as registered.
    pub registered: usize,
    /// Users that would be published as updated.
    pub updated: usize,
    /// Users that the list lacks and that would be published as removed.
    pub removed: usize,
    /// Users that would be taken as known without an event (`reconcile.first_start: adopt`).
    pub adopted: usize,
    /// The list lacks so many users that nobody would be removed; so many.
    pub removals_refused: usize,
    /// Every entry of the list could be read. If not, nobody would be removed.
    pub complete: bool,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A comparison under way.
struct Comparing {
    known: Option<Snapshot>,
    key: DigestKey,
    adopts: bool,
    now: Timestamp,
    seen: Seen,
    preview: Preview,
}

/// Fetches the list and calls `change` for each event that would be published, before any privacy
/// policy, with whether its `user_id` is the vendor's own: a removal has the key under which its user
/// was last published; and `read` with how many users were read by now. Without a journal nobody is known.
///
/// # Errors
/// [`PreviewError`].
pub async fn preview(
    config: &ReconcileConfig,
    feed: &FeedConfig,
    known: Option<Snapshot>,
    now: Timestamp,
    mut change: impl FnMut(&Event, bool) + Send,
    read: impl Fn(u64) + Send,
) -> Result<Preview, PreviewError> {
    let key = api_key(feed).map_err(|error| ListError::Credential(error.to_string()))?;
    let (sender, mut listed) = mpsc::channel(LISTED_QUEUE);
    let (fetched, proxy) = (config.clone(), feed.proxy.clone());
    let reading =
        tokio::task::spawn_blocking(move || list::read(&fetched, proxy.as_ref(), &key, &sender));
    let first = known.as_ref().is_none_or(|known| !known.first_list_done);
    let mut comparing = Comparing {
        // Nothing is compared with it where there is no journal.
        key: known
            .as_ref()
            .map_or_else(|| DigestKey::new(b""), |known| known.digest_key.clone()),
        known,
        adopts: first && config.first_start == FirstStart::Adopt,
        now,
        seen: Seen::default(),
        preview: Preview::default(),
    };
    while let Some(listed) = listed.recv().await {
        if let Listed::Users(users) = listed {
            for user in users {
                comparing.user(user, &mut change)?;
            }
            read(comparing.seen.len() as u64);
        }
    }
    comparing.preview.complete = reading.await.unwrap_or(Err(ListError::Ended))?.complete;
    comparing.absent(config.max_removed_share, &mut change)?;
    Ok(comparing.preview)
}

impl Comparing {
    fn user(
        &mut self,
        observation: Observation,
        change: &mut impl FnMut(&Event, bool),
    ) -> Result<(), JournalError> {
        let user = self.key.user(&observation.user_id);
        self.seen.insert(&user);
        let known = self.known.as_ref().map(|known| known.user(&user));
        let known = known.transpose()?;
        let known = known.flatten();
        let compared = compare(
            known.as_ref(),
            observation,
            Source::List,
            self.now,
            &self.key,
        );
        let Compared::News(news) = compared else {
            return Ok(());
        };
        if self.adopts && known.is_none() {
            self.preview.adopted += 1;
            return Ok(());
        }
        self.count(&news.0, true, change);
        Ok(())
    }

    fn count(&mut self, event: &Event, is_plain: bool, change: &mut impl FnMut(&Event, bool)) {
        use crate::event::EventType as T;
        *match event.event_type {
            T::Registered => &mut self.preview.registered,
            T::Updated => &mut self.preview.updated,
            T::Removed => &mut self.preview.removed,
        } += 1;
        change(event, is_plain);
    }

    fn absent(
        &mut self,
        max_share: f64,
        change: &mut impl FnMut(&Event, bool),
    ) -> Result<(), JournalError> {
        self.seen.sort();
        self.preview.listed = self.seen.len();
        let mut absent = 0;
        self.each_known(|this, _, _, is_listed| {
            this.preview.known += 1;
            absent += usize::from(!is_listed);
        })?;
        let Preview {
            listed,
            known,
            complete,
            ..
        } = self.preview;
        if !complete {
            return Ok(());
        }
        if !removals_are_believed(absent, known, listed, max_share) {
            self.preview.removals_refused = absent;
            return Ok(());
        }
        self.each_known(|this, (user, key), state, is_listed| {
            if !is_listed {
                let event = removal(state, key, this.now).0;
                let is_plain = this.key.user(key) == *user;
                this.count(&event, is_plain, change);
            }
        })
    }

    /// Calls `look` with each user that the journal knows, page by page: nothing is collected.
    fn each_known(
        &mut self,
        mut look: impl FnMut(&mut Self, (&UserKey, &str), &UserState, bool),
    ) -> Result<(), JournalError> {
        let mut after = None;
        loop {
            let page = match &self.known {
                Some(journal) => journal.users(after.as_ref(), PAGE)?,
                None => Vec::new(),
            };
            let Some((last, _, _)) = page.last() else {
                return Ok(());
            };
            after = Some(*last);
            for (user, key, state) in page {
                if !state.removed {
                    let is_listed = self.seen.contains(&user);
                    look(self, (&user, &key), &state, is_listed);
                }
            }
        }
    }
}
