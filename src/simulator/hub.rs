//! What all tasks of the simulator share: the world, the switches, the counters, the connections.
//!
//! Events are emitted one batch at a time, so that every connection gets the events of a user in
//! their order. A connection that does not read holds all emission back: nothing piles up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::config::Secret;

use super::batch::{BATCH, Batch, Delivery, Order, now_nanos};
use super::generator::Pace;
use super::limits::{Limits, Verdict};
use super::options::{AuthMode, Options, RestMode, SubscribeMode};
use super::person::Person;
use super::stats::{Entry, Ledger, Stats, locked};
use super::world::World;

/// Orders that wait for one connection; at the bound the emission waits.
const ORDERS: usize = 4;

/// What can be switched while the simulator runs.
#[derive(Clone, Debug)]
pub(super) struct Modes {
    pub(super) key: Secret,
    pub(super) auth: AuthMode,
    pub(super) subscribe: SubscribeMode,
    pub(super) rest: RestMode,
}

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
    limits: Mutex<Limits>,
    lines: Mutex<BTreeMap<u64, Line>>,
    /// The last timestamp given out.
    clock: AtomicI64,
}

/// The hub's end of one connection.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) reset: Arc<Notify>,
    subscribed: Arc<AtomicBool>,
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
        Self {
            pace: watch::Sender::new(pace),
            stats: watch::Sender::new(Stats::default()),
            stop: watch::Sender::new(false),
            ledger: Ledger::new(options.record_ledger),
            turn: tokio::sync::Mutex::default(),
            modes: Mutex::new(Modes {
                key,
                auth: options.auth,
                subscribe: options.subscribe,
                rest: options.rest,
            }),
            world: Mutex::new(World::new(options.seed, options.users, registered)),
            limits: Mutex::new(Limits::new(options.enforce_limits, options.block_duration)),
            lines: Mutex::default(),
            clock: AtomicI64::new(0),
            options,
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.world)
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

    /// Counts a request of this peer; whether it is to be refused.
    pub(super) fn refuses_request(&self, peer: IpAddr) -> bool {
        let verdict = locked(&self.limits).request(peer, Instant::now());
        self.count(|stats| {
            stats.requests_peak = stats.requests_peak.max(verdict.count);
            stats.limit_breaches += u64::from(verdict.breach);
        });
        verdict.refused
    }

    /// Counts a WebSocket connection of this peer and opens a line to it, unless it is refused.
    pub(super) fn register(self: &Arc<Self>, peer: IpAddr) -> Option<Registration> {
        let Verdict {
            breach,
            refused,
            count,
        } = locked(&self.limits).connect(peer, Instant::now());
        let (sender, orders) = mpsc::channel(ORDERS);
        let line = Line {
            orders: sender,
            reset: Arc::default(),
            subscribed: Arc::default(),
        };
        let mut connection = 0;
        self.count(|stats| {
            stats.limit_breaches += u64::from(breach);
            if !refused {
                stats.connections_total += 1;
                stats.connected += 1;
                stats.connections_peak = stats.connections_peak.max(count);
                connection = stats.connections_total;
            }
        });
        if refused {
            return None;
        }
        locked(&self.lines).insert(connection, line.clone());
        Some(Registration {
            hub: Arc::clone(self),
            connection,
            peer,
            line,
            orders,
        })
    }

    /// All connections, or only those that are subscribed.
    pub(super) fn lines(&self, only_subscribed: bool) -> Vec<Line> {
        locked(&self.lines)
            .values()
            .filter(|line| !only_subscribed || line.subscribed.load(Ordering::Relaxed))
            .cloned()
            .collect()
    }

    /// Changes the world and puts the events in line for each connection that is subscribed; how
    /// many there were.
    pub(super) async fn emit(&self, ask: Ask, delivery: Delivery) -> usize {
        let _turn = self.turn.lock().await;
        let people = self.change(ask);
        let batch = Arc::new(Batch::new(people.clone(), self.timestamps(people.len())));
        self.count(|stats| stats.events_generated += people.len() as u64);
        for line in self.lines(true) {
            let order = Order::Events(Arc::clone(&batch), delivery);
            if line.orders.send(order).await.is_err() {
                tracing::debug!("a connection ended before it got its events");
            }
        }
        people.len()
    }

    fn change(&self, ask: Ask) -> Vec<Person> {
        let mut world = self.world();
        match ask {
            Ask::Any(n) => (0..n.min(BATCH)).map_while(|_| world.step()).collect(),
            Ask::Distinct(n) => world.step_distinct(n.min(BATCH)),
            Ask::User(index) => world.step_user(index).into_iter().collect(),
        }
    }

    /// Gives the order to these connections; those that ended meanwhile are passed over.
    pub(super) async fn order(lines: &[Line], order: impl Fn() -> Order) {
        for line in lines {
            if line.orders.send(order()).await.is_err() {
                tracing::debug!("a connection ended before it got its order");
            }
        }
    }

    /// Resolves when each of these connections has flushed all that it was told so far, or ended.
    pub(super) async fn barrier(lines: &[Line]) {
        for line in lines {
            let (done, flushed) = oneshot::channel();
            if line.orders.send(Order::Barrier(done)).await.is_err() || flushed.await.is_err() {
                tracing::debug!("a connection ended before it was flushed");
            }
        }
    }
}

/// A connection's place in the hub; it ends with this value, however the task ends.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) hub: Arc<Hub>,
    pub(super) connection: u64,
    pub(super) peer: IpAddr,
    pub(super) line: Line,
    pub(super) orders: mpsc::Receiver<Order>,
}

impl Registration {
    /// From now on events are put in line; whether they were not before.
    pub(super) fn subscribe(&self, wanted: bool) -> bool {
        let was = self.line.subscribed.swap(wanted, Ordering::Relaxed);
        self.hub.count(|stats| {
            stats.subscribed -= usize::from(was);
            stats.subscribed += usize::from(wanted);
        });
        was != wanted
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.hub.lines).remove(&self.connection);
        locked(&self.hub.limits).disconnect(self.peer);
        self.subscribe(false);
        self.hub.count(|stats| stats.connected -= 1);
    }
}
