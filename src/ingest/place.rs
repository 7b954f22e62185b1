//! What ingest does while the journal takes no events: it waits, or, where the operator chose so, it
//! drops what is new, counts it, and covers it with a blind window.
//!
//! It never loses an event that has a place with the journal, and the state of a user never advances
//! for an event that was dropped: the list would see no difference.

use tokio::sync::{mpsc, watch};

use super::Ingest;
use crate::config::WhenFull;
use crate::event::{Event, Origin, Timestamp};
use crate::journal::{Blocked, Entry, JournalError, WindowChange};
use crate::metrics::LOST_FULL;

/// Reason of the windows in which the feed was not read, or not kept, for want of room.
const REASON: &str = "journal_full";

/// Whether the journal has room, and what was done where it had none.
#[derive(Debug)]
pub(super) struct Room {
    when_full: WhenFull,
    blocked: watch::Receiver<Option<Blocked>>,
    /// Since when the feed is not read, by its own word.
    deaf: watch::Receiver<Option<Timestamp>>,
    /// The begin of the window that was opened at that word.
    deaf_window: Option<Timestamp>,
    /// Since when events are dropped, and how many were.
    dropping: Option<(Timestamp, u64)>,
    /// The window of the events that are dropped is open.
    dropping_window: bool,
}

impl Room {
    pub(super) const fn new(
        when_full: WhenFull,
        blocked: watch::Receiver<Option<Blocked>>,
        deaf: watch::Receiver<Option<Timestamp>>,
    ) -> Self {
        Self {
            when_full,
            blocked,
            deaf,
            deaf_window: None,
            dropping: None,
            dropping_window: false,
        }
    }

    /// Whether an event that came now would be dropped.
    pub(super) fn drops(&self) -> bool {
        self.when_full == WhenFull::DropNewest && self.blocked.borrow().is_some()
    }

    /// Resolves when events were dropped and need not be any more.
    pub(super) async fn is_back(&mut self) {
        let is_back = |blocked: &Option<Blocked>| blocked.is_none();
        if self.dropping.is_none() || self.blocked.wait_for(is_back).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the feed is not read, or what it tells not kept.
    pub(super) const fn is_deaf(&self) -> bool {
        self.deaf_window.is_some() || self.dropping.is_some()
    }

    /// The feed is subscribed anew, which closes every window.
    pub(super) const fn windows_are_closed(&mut self) {
        self.deaf_window = None;
        self.dropping_window = false;
    }

    /// Resolves when the journal takes no events.
    async fn is_blocked(blocked: &mut watch::Receiver<Option<Blocked>>) {
        let gone = blocked.wait_for(Option::is_some).await.is_err();
        if gone {
            // A writer that is gone reports itself.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when the feed says that it is not read, with since when.
    async fn went_deaf(deaf: &mut watch::Receiver<Option<Timestamp>>) -> Timestamp {
        loop {
            if deaf.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(from) = *deaf.borrow_and_update() {
                return from;
            }
        }
    }
}

impl Ingest {
    /// Waits for a place with the journal; none where the event is to be dropped.
    pub(super) async fn place(&mut self) -> Result<Option<mpsc::OwnedPermit<Entry>>, JournalError> {
        if self.room.drops() {
            return Ok(None);
        }
        let drops = self.room.when_full == WhenFull::DropNewest;
        let place = self.appender.place();
        let mut place = std::pin::pin!(place);
        loop {
            tokio::select! {
                biased;
                place = &mut place => return place.map(Some),
                () = Room::is_blocked(&mut self.room.blocked), if drops => return Ok(None),
                from = Room::went_deaf(&mut self.room.deaf) => {
                    self.room.deaf_window = Some(from);
                    let opened = WindowChange::Open { from, to: None, reason: REASON, missing: 0 };
                    self.silence.is_blind();
                    self.lists.is_blind();
                    self.journal.window(opened).await?;
                }
            }
        }
    }

    /// The feed was not read in this span, and is now.
    pub(super) async fn was_deaf(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), JournalError> {
        let blind = to.seconds_since(from).max(0.0);
        self.metrics.feed.blind_seconds.inc_by(blind);
        if self.room.deaf_window.take().is_some() {
            let end = WindowChange::End { reason: REASON, to };
            self.journal.window(end).await?;
        } else {
            self.window(from, Some(to), REASON, 0).await?;
        }
        self.lists.deafness_ends(self.appender.position());
        self.asker.ask();
        Ok(())
    }

    /// Counts an event that is dropped. One that only a list told of comes with the next list.
    pub(super) async fn dropped(&mut self, event: &Event) -> Result<(), JournalError> {
        match event.origin {
            Origin::Reconcile => {
                self.spoil_listing();
                return Ok(());
            }
            Origin::Feed => {}
        }
        let lost = self
            .metrics
            .loss
            .events_lost
            .with_label_values(&[LOST_FULL]);
        lost.inc();
        let from = event.received_at;
        match &mut self.room.dropping {
            Some((_, dropped)) => *dropped += 1,
            dropping => {
                *dropping = Some((from, 1));
                tracing::error!(
                    since = %from,
                    "the journal takes no events: they are dropped, as journal.when_full asks"
                );
            }
        }
        if !std::mem::replace(&mut self.room.dropping_window, true) {
            self.window(from, None, REASON, 0).await?;
        }
        Ok(())
    }

    /// The journal takes events again after some were dropped: the list is to repair the states.
    pub(super) async fn hears_again(&mut self) -> Result<(), JournalError> {
        let Some((from, dropped)) = self.room.dropping.take() else {
            return Ok(());
        };
        let to = (self.clock)();
        tracing::error!(
            dropped,
            since = %from,
            "events were dropped; the list is asked for what has become of the users"
        );
        self.metrics
            .feed
            .blind_seconds
            .inc_by(to.seconds_since(from).max(0.0));
        if std::mem::replace(&mut self.room.dropping_window, false) {
            let end = WindowChange::End { reason: REASON, to };
            self.journal.window(end).await?;
        }
        self.lists.deafness_ends(self.appender.position());
        self.asker.ask();
        Ok(())
    }
}
