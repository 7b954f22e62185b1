//! Where what was heard and what was listed become events in the journal.
//!
//! One task decides for both, so that a user's events have one order. It never waits for a broker:
//! only for room in the journal.

mod absent;
mod blind;
mod deaf;
mod doubled;
mod ended;
mod fresh;
mod listing;
mod place;
mod silence;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::blocking::in_place;
use crate::config::Config;
use crate::event::{Event, Record, Timestamp};
use crate::failpoint::{self, Point};
use crate::feed::{Heard, Message, Rejected};
use crate::journal::{Appender, Beside, DeadLetter, Entry, Found, Handle, JournalError, Users};
use crate::metrics::Metrics;
use crate::privacy::{Privacy, is_telling_name};
use crate::reconcile::{Asker, Listed, Reports};
use crate::shutdown::Stop;
use crate::state::{Compared, DigestKey, Source, UserKey, UserState, compare};
use blind::{Delay, Unheard};
use listing::Lists;
use place::Room;
use silence::Silence;

/// Names of unknown fields that are said aloud, once each; further ones are only counted.
const UNKNOWN_NAMES_MAX: usize = 100;

/// So many events of a list may wait to be committed before more of it is taken. Thus a long list takes
/// little memory, and an event of the feed does not wait behind thousands of it.
const LISTED_AHEAD: u64 = 1024;

/// So much of the feed is taken before anything else gets a turn.
const HEARD_AT_ONCE: usize = 64;

/// So often is looked for what is due by the clock.
const TICK: Duration = Duration::from_millis(250);

/// How ingest is tied to those who speak with the vendor.
#[derive(Debug)]
pub struct Ties {
    /// Since when the feed is not read, by its own word.
    pub deaf: watch::Receiver<Option<Timestamp>>,
    /// Each new number asks the feed to give up its connection and take a new one.
    pub renew: watch::Sender<u64>,
    /// Who is asked for a list.
    pub asker: Asker,
    /// Where the last list is shown.
    pub reports: Reports,
}

/// Everything that ingest works with.
#[derive(Debug)]
pub struct Ingest {
    appender: Appender,
    journal: Handle,
    users: Users,
    key: DigestKey,
    privacy: Privacy,
    asker: Asker,
    renew: watch::Sender<u64>,
    metrics: Metrics,
    stop: Stop,
    clock: fn() -> Timestamp,
    /// From when the window of the start begins, if none is open from before.
    starts: Option<Timestamp>,
    unheard: Unheard,
    delay: Delay,
    unknown_names: BTreeSet<String>,
    lists: Lists,
    silence: Silence,
    /// Whether the journal has room, and what was done where it had none.
    room: Room,
    /// Where the body of an event is put together.
    body: Buffer,
}

/// Shows nothing: it holds the last event.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buffer(***)")
    }
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
        privacy: Privacy,
        ties: Ties,
        metrics: &Metrics,
        stop: Stop,
        clock: fn() -> Timestamp,
    ) -> Result<Self, JournalError> {
        let reader = journal.reader()?;
        let delay = reader.last_of_feed()?;
        let delay = delay.map(|(sent_at, received_at)| Delay::of(sent_at, received_at));
        let now = clock();
        let mut unheard = Unheard::default();
        // The clock may have been set back since.
        unheard.begins(found.last_written.map_or(now, |at| at.min(now)));
        Ok(Self {
            users: Users::new(journal)?,
            lists: Lists::new(&reader, found, &appender, config, now, ties.reports)?,
            starts: deaf::starts(&reader, found.last_written, now)?,
            appender,
            journal: journal.clone(),
            key: found.digest_key.clone(),
            privacy,
            asker: ties.asker,
            renew: ties.renew,
            metrics: metrics.clone(),
            stop,
            clock,
            unheard,
            delay: delay.unwrap_or_default(),
            unknown_names: BTreeSet::new(),
            silence: Silence::new(config.reconcile.silence_grace.0),
            room: Room::new(config.journal.when_full, journal.blocked(), ties.deaf),
            body: Buffer::default(),
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
        self.started().await?;
        let stop = self.stop.clone();
        let mut beside = self.journal.beside();
        let mut committed = self.journal.committing();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Vec::with_capacity(HEARD_AT_ONCE);
        let work = async {
            loop {
                let takes_lists = self.lists.take_more();
                let wanted = self.lists.appended.saturating_sub(LISTED_AHEAD);
                tokio::select! {
                    () = changed(&mut beside) => self.frames_asked_for()?,
                    count = heard.recv_many(&mut told, HEARD_AT_ONCE) => {
                        if count == 0 {
                            return Ok(());
                        }
                        for next in told.drain(..) {
                            self.heard(next).await?;
                        }
                    }
                    Some(next) = next_listed(&mut listed, &mut committed, wanted), if takes_lists => {
                        self.listed(next).await?;
                    }
                    () = self.lists.turn_is_due() => self.turn().await?,
                    _ = ticks.tick() => self.tick().await?,
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
            Heard::Up(at) => self.up(at).await,
            Heard::Deaf { from, to } => self.was_deaf(from, to).await,
            Heard::Gap(gap) => self.gap(&gap).await,
            Heard::Lost(reason, last_frame) => self.lost(reason, last_frame).await,
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
        self.silence.told();
        failpoint::blurt(&observation);
        self.unknown(unknown);
        if let Some((_, sent_at)) = &observation.sent_at {
            self.delay = Delay::of(*sent_at, received_at);
        }
        let user = self.key.user(&observation.user_id);
        let known = self.users.get(&user)?;
        let token = observation.token.take();
        let source = Source::Feed(connection.to_string());
        match compare(
            known.as_deref(),
            observation,
            source,
            received_at,
            &self.key,
        ) {
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
        // In a buffer that is large enough by now, then as long as it is.
        self.body.0.clear();
        serde_json::to_writer(&mut self.body.0, &event).expect("an event has only string keys");
        let record = Record {
            position: self.appender.next_position(),
            event_id: event.event_id,
            event_type: event.event_type,
            key: key.clone(),
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            body: self.body.0.clone(),
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
        self.silence.rejected();
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
        if !in_place(|| self.journal.reader()?.replays_of_frames())? {
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
}

/// Resolves when something was asked for; never after the journal has ended.
async fn changed(beside: &mut watch::Receiver<Beside>) {
    if beside.changed().await.is_err() {
        std::future::pending().await
    }
}

/// What comes next of a list, once this position is committed.
async fn next_listed(
    listed: &mut mpsc::Receiver<Listed>,
    committed: &mut watch::Receiver<u64>,
    wanted: u64,
) -> Option<Listed> {
    // A writer that is gone reports itself.
    let is_here = committed.wait_for(|committed| *committed >= wanted).await;
    is_here.map(drop).unwrap_or_default();
    listed.recv().await
}
