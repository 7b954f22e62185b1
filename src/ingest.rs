//! Where what was heard and what was listed become events in the journal.
//!
//! One task decides for both, so that a user's events have one order. It never waits for a broker:
//! only for room in the journal.

mod blind;
mod listing;
mod place;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::config::{Config, FirstStart};
use crate::event::{Event, Record, Timestamp};
use crate::failpoint::{self, Point};
use crate::feed::{Heard, Message, Rejected};
use crate::journal::{
    Appender, Beside, DeadLetter, Entry, Found, Handle, JournalError, Users, WindowChange,
};
use crate::metrics::Metrics;
use crate::privacy::{Privacy, is_telling_name};
use crate::reconcile::{Asker, Listed};
use crate::shutdown::Stop;
use crate::state::{Compared, DigestKey, Source, UserKey, UserState, compare};
use blind::Delay;
use listing::Listing;
use place::Room;

/// Names of unknown fields that are said aloud, once each; further ones are only counted.
const UNKNOWN_NAMES_MAX: usize = 100;

/// Everything that ingest works with.
#[derive(Debug)]
pub struct Ingest {
    appender: Appender,
    journal: Handle,
    users: Users,
    key: DigestKey,
    privacy: Privacy,
    asker: Asker,
    metrics: Metrics,
    stop: Stop,
    clock: fn() -> Timestamp,
    /// What the first list does, while there was none.
    first_list: Option<FirstStart>,
    max_removed_share: f64,
    /// Since when the feed is not heard.
    blind_since: Option<Timestamp>,
    delay: Delay,
    unknown_names: BTreeSet<String>,
    listing: Option<Listing>,
    /// Whether the journal has room, and what was done where it had none.
    room: Room,
}

impl Ingest {
    /// Takes over the journal's one appender.
    ///
    /// # Errors
    /// [`JournalError`] when the journal cannot be read.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a dependency that the app makes"
    )]
    pub fn new(
        appender: Appender,
        journal: &Handle,
        found: &Found,
        config: &Config,
        deaf: watch::Receiver<Option<Timestamp>>,
        privacy: Privacy,
        asker: Asker,
        metrics: &Metrics,
        stop: Stop,
        clock: fn() -> Timestamp,
    ) -> Result<Self, JournalError> {
        let last = journal.reader()?.last_of_feed()?;
        let delay = last.map(|(sent_at, received_at)| Delay::of(sent_at, received_at));
        Ok(Self {
            users: Users::new(journal)?,
            appender,
            journal: journal.clone(),
            key: found.digest_key.clone(),
            privacy,
            asker,
            metrics: metrics.clone(),
            stop,
            clock,
            first_list: (!found.first_list_done).then_some(config.reconcile.first_start),
            max_removed_share: config.reconcile.max_removed_share,
            blind_since: Some(found.last_written.unwrap_or_else(clock)),
            delay: delay.unwrap_or_default(),
            unknown_names: BTreeSet::new(),
            listing: None,
            room: Room::new(config.journal.when_full, journal.blocked(), deaf),
        })
    }

    /// Runs until the feed has ended and everything heard is with the journal.
    ///
    /// # Errors
    /// [`JournalError`]: the process cannot go on.
    pub async fn run(
        mut self,
        mut heard: mpsc::Receiver<Heard>,
        mut listed: mpsc::Receiver<Listed>,
    ) -> Result<(), JournalError> {
        let from = self.blind_since.unwrap_or_else(self.clock);
        self.window(from, None, "start", 0).await?;
        let stop = self.stop.clone();
        let mut beside = self.journal.beside();
        let work = async {
            loop {
                tokio::select! {
                    () = changed(&mut beside) => self.frames_asked_for()?,
                    next = heard.recv() => match next {
                        Some(next) => self.heard(next).await?,
                        None => return Ok(()),
                    },
                    Some(next) = listed.recv() => self.listed(next).await?,
                    () = self.room.is_back() => self.hears_again().await?,
                }
            }
        };
        tokio::select! {
            ended = work => ended,
            // What is not with the journal by now was not heard.
            () = stop.now() => Ok(()),
        }
    }

    async fn heard(&mut self, heard: Heard) -> Result<(), JournalError> {
        match heard {
            Heard::Event(message) => self.message(*message).await,
            Heard::Rejected(rejected) => self.rejected(rejected).await,
            Heard::Up(at) => {
                if let Some(since) = self.blind_since.take() {
                    self.metrics
                        .feed
                        .blind_seconds
                        .inc_by(at.seconds_since(since).max(0.0));
                }
                self.room.windows_are_closed();
                self.journal.window(WindowChange::Close { to: at }).await?;
                self.asker.ask();
                Ok(())
            }
            Heard::Deaf { from, to } => self.was_deaf(from, to).await,
            Heard::Gap(gap) => {
                let blind = gap.to.seconds_since(gap.from).max(0.0);
                self.metrics.feed.blind_seconds.inc_by(blind);
                self.window(gap.from, Some(gap.to), "gap", gap.missing)
                    .await?;
                self.asker.ask();
                Ok(())
            }
            Heard::Lost(reason, last_frame) => {
                self.blind_since = Some(last_frame);
                self.window(last_frame, None, reason.as_str(), 0).await
            }
        }
    }

    async fn message(&mut self, message: Message) -> Result<(), JournalError> {
        let Message {
            mut observation,
            unknown,
            received_at,
            connection,
            room,
        } = message;
        failpoint::reach(Point::Received);
        failpoint::blurt(&observation);
        self.unknown(unknown);
        if let Some((_, sent_at)) = &observation.sent_at {
            self.delay = Delay::of(*sent_at, received_at);
        }
        let user = self.key.user(&observation.user_id);
        let known = self.users.get(&user)?;
        let token = observation.token.take();
        let source = Source::Feed(connection.to_string());
        match compare(known.as_ref(), &observation, source, received_at, &self.key) {
            Compared::News(news) => {
                let (mut event, state) = *news;
                event.user_token = self.privacy.token(event.event_id, token);
                let key = self.privacy.key(&event.user_id);
                self.append(event, key, user, state, Some(room)).await
            }
            Compared::Repeat | Compared::Unchanged => {
                self.metrics.normalise.duplicates.inc();
                Ok(())
            }
        }
    }

    /// Gives an event to the journal; from here on it holds only what the policy allows.
    async fn append(
        &mut self,
        mut event: Event,
        key: String,
        user: UserKey,
        mut state: UserState,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), JournalError> {
        let Some(place) = self.place().await? else {
            return self.dropped(&event).await;
        };
        self.privacy.apply(&mut event);
        self.privacy.hide_state(&mut state);
        // A removal comes with the key under which its user was last published.
        let key = self
            .privacy
            .key_again(key, |key| self.key.user(key) == user);
        event.user_id.clone_from(&key);
        let body = serde_json::to_vec(&event).expect("an event has only string keys");
        let record = Record {
            position: self.appender.next_position(),
            event_id: event.event_id,
            event_type: event.event_type,
            key: key.clone(),
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            body,
        };
        state.position = record.position;
        self.users.put(user, state.clone());
        let record = Some((Arc::new(record), event.origin));
        place.send(Entry {
            record,
            user,
            key,
            state,
            room,
        });
        Ok(())
    }

    async fn rejected(&mut self, rejected: Rejected) -> Result<(), JournalError> {
        let reason = rejected.reason.as_str();
        self.metrics
            .normalise
            .rejected
            .with_label_values(&[reason])
            .inc();
        tracing::warn!(
            reason,
            detail = rejected.detail,
            "a frame was set aside as a dead letter"
        );
        self.journal
            .dead_letter(DeadLetter {
                at: rejected.received_at,
                stage: "normalise".to_owned(),
                reason,
                detail: rejected.detail,
                record: None,
                shape: rejected.body,
            })
            .await
    }

    /// A frame that was set aside cannot be read again: only its shape was kept. An operator who asks
    /// for it gets what the list says of its user.
    fn frames_asked_for(&self) -> Result<(), JournalError> {
        if !self.journal.reader()?.replays_of_frames()? {
            return Ok(());
        }
        tracing::info!("dead letters of frames are asked for: the list is compared in their place");
        self.asker.ask();
        Ok(())
    }

    fn unknown(&mut self, names: BTreeSet<String>) {
        self.metrics
            .normalise
            .unknown_fields
            .inc_by(names.len() as u64);
        for name in names {
            let room = self.unknown_names.len() < UNKNOWN_NAMES_MAX;
            if room && self.unknown_names.insert(name.clone()) {
                let name = if is_telling_name(&name) { "***" } else { &name };
                tracing::warn!(
                    name,
                    "the vendor sends a field that this version does not know"
                );
            }
        }
    }

    /// Opens a window from where we know that nothing was missed.
    async fn window(
        &mut self,
        from: Timestamp,
        to: Option<Timestamp>,
        reason: &'static str,
        missing: u64,
    ) -> Result<(), JournalError> {
        self.journal
            .window(WindowChange::Open {
                from: self.delay.before(from),
                to,
                reason,
                missing,
            })
            .await
    }
}

/// Resolves when something was asked for; never after the journal has ended.
async fn changed(beside: &mut watch::Receiver<Beside>) {
    if beside.changed().await.is_err() {
        std::future::pending().await
    }
}
