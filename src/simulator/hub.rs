//! What all tasks of the simulator share: the world, the counters, what was missed.
//!
//! Events are emitted one batch at a time, so that every connection gets the events of a user in
//! their order. A connection that does not read holds all emission back: nothing piles up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::config::Secret;

use super::batch::{BATCH, Batch, Delivery, Order, now_nanos};
use super::deaf::{DeafCause, Deafness};
use super::generator::Pace;
use super::limits::Limits;
use super::modes::Modes;
use super::options::Options;
use super::person::Person;
use super::registry::Line;
use super::replay::Known;
use super::stats::{Entry, Ledger, Stats, locked};
use super::world::World;

/// The shared state.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) options: Options,
    pub(super) pace: watch::Sender<Pace>,
    pub(super) stats: watch::Sender<Stats>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ledger: Ledger,
    /// Held while events are taken from the world and put in line for the connections.
    pub(super) turn: tokio::sync::Mutex<()>,
    modes: Mutex<Modes>,
    world: Mutex<World>,
    pub(super) limits: Mutex<Limits>,
    /// Whether the vendor is away: see [`Control::set_down`](super::Control::set_down).
    pub(super) down: AtomicBool,
    /// Whether pings are left without an answer.
    pub(super) withhold_pongs: Arc<AtomicBool>,
    deaf: Mutex<Deafness>,
    /// What a capture that is played has told so far; it is the list then.
    pub(super) replayed: Option<Mutex<Known>>,
    pub(super) lines: Mutex<BTreeMap<u64, Line>>,
    /// The last timestamp given out.
    clock: AtomicI64,
}

/// Which events to make.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// Of anybody.
    Any(usize),
    /// Of that many different users.
    Distinct(usize),
    /// Of this user.
    User(u32),
}

impl Hub {
    pub(super) fn new(options: Options, key: Secret) -> Self {
        let registered = options.registered.unwrap_or(options.users);
        let pace = if options.paused {
            Pace::Paused
        } else {
            Pace::from_rate(options.rate)
        };
        let mut deaf = Deafness::default();
        deaf.begin(None, DeafCause::Nobody, now_nanos());
        Self {
            pace: watch::Sender::new(pace),
            stats: watch::Sender::new(Stats::default()),
            stop: watch::Sender::new(false),
            ledger: Ledger::new(options.record_ledger),
            turn: tokio::sync::Mutex::default(),
            modes: Mutex::new(Modes::new(&options, key)),
            world: Mutex::new(World::new(options.seed, options.users, registered)),
            limits: Mutex::new(Limits::new(
                options.enforce_limits,
                options.block_duration,
                options.limits.clone(),
            )),
            down: AtomicBool::new(false),
            withhold_pongs: Arc::new(AtomicBool::new(options.link.withhold_pongs)),
            deaf: Mutex::new(deaf),
            replayed: options.play.replay.as_ref().map(|_| Mutex::default()),
            lines: Mutex::default(),
            clock: AtomicI64::new(0),
            options,
        }
    }

    /// The world, which knows what time it is.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = locked(&self.world);
        world.set_clock(now_nanos());
        world
    }

    pub(super) fn deaf(&self) -> MutexGuard<'_, Deafness> {
        locked(&self.deaf)
    }

    pub(super) fn modes(&self) -> MutexGuard<'_, Modes> {
        locked(&self.modes)
    }

    /// Resolves when the simulator is to stop.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // An error would say that the sender is gone, and with it the hub.
        drop(stop.wait_for(|stop| *stop).await);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        self.stats.send_modify(change);
    }

    /// Notes what was handed to a socket.
    pub(super) fn note(&self, entries: impl ExactSizeIterator<Item = Entry>) {
        let sent = entries.len() as u64;
        let left_out = self.ledger.note(entries);
        self.count(|stats| {
            stats.events_sent += sent;
            stats.ledger_dropped += left_out;
        });
    }

    /// The first of `n` timestamps that nobody had, later than all before.
    pub(super) fn timestamps(&self, n: usize) -> i64 {
        let span = i64::try_from(n.max(1)).unwrap_or(i64::MAX);
        let now = now_nanos();
        let before = self
            .clock
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(now.max(last + 1) + span - 1)
            })
            .unwrap_or_else(|last| last);
        now.max(before + 1)
    }

    /// Changes the world and puts the events in line for each connection that is subscribed; how
    /// many there were.
    pub(super) async fn emit(&self, ask: Ask, delivery: Delivery) -> usize {
        let _turn = self.turn.lock().await;
        let people = self.change(ask);
        let batch = Arc::new(Batch::new(people.clone(), self.timestamps(people.len())));
        self.count(|stats| stats.events_generated += people.len() as u64);
        let lines = self.lines(true);
        if let Some(span) = batch.span().filter(|_| lines.is_empty()) {
            let missed = people.len() as u64;
            self.deaf().miss(None, DeafCause::Nobody, span, missed);
        }
        for line in lines {
            let order = Order::Events(Arc::clone(&batch), delivery);
            if line.orders.send(order).await.is_err() {
                // Its end is told by itself; of these events only the hub knows.
                if let Some(span) = batch.span() {
                    let missed = people.len() as u64;
                    let connection = Some(line.connection);
                    self.deaf().miss(connection, DeafCause::Lost, span, missed);
                }
            }
        }
        people.len()
    }

    /// Up to `n` users of the list, from this place on.
    pub(super) fn present(&self, start: u32, n: usize) -> Vec<Person> {
        let world = self.world();
        (start..world.len())
            .take(n)
            .filter_map(|index| world.present(index))
            .collect()
    }

    fn change(&self, ask: Ask) -> Vec<Person> {
        let mut world = self.world();
        match ask {
            Ask::Any(n) => (0..n.min(BATCH)).map_while(|_| world.step()).collect(),
            Ask::Distinct(n) => world.step_distinct(n.min(BATCH)),
            Ask::User(index) => world.step_user(index).into_iter().collect(),
        }
    }
}
