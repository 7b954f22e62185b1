//! The connections that are open, the hub's line to each, and the limits that they are held to.
//!
//! A line is bounded: who gives an order to a connection that does not read waits for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::batch::Order;
use super::hub::Hub;
use super::limits::Verdict;
use super::stats::locked;

/// Orders that wait for one connection; at the bound the emission waits.
const ORDERS: usize = 4;

/// The hub's end of one connection.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) reset: Arc<Notify>,
    subscribed: Arc<AtomicBool>,
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

impl Hub {
    /// Counts a request of this peer; whether it is to be refused.
    pub(super) fn refuses_request(&self, peer: IpAddr) -> bool {
        let verdict = locked(&self.limits).request(peer, Instant::now());
        self.count(|stats| {
            stats.requests_peak = stats.requests_peak.max(verdict.count);
            stats.limit_breaches += u64::from(verdict.breach);
        });
        verdict.refused
    }

    /// Refuses everybody for this span, as the vendor does after a breach.
    pub(super) fn block(&self, span: Duration) {
        locked(&self.limits).block_all(Instant::now() + span);
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
        let place = Registration {
            hub: Arc::clone(self),
            connection,
            peer,
            line,
            orders,
        };
        // Asked only now: either `set_down` finds this line, or this finds the vendor down.
        (!self.down.load(Ordering::SeqCst)).then_some(place)
    }

    /// All connections, or only those that are subscribed.
    pub(super) fn lines(&self, only_subscribed: bool) -> Vec<Line> {
        locked(&self.lines)
            .values()
            .filter(|line| !only_subscribed || line.subscribed.load(Ordering::Relaxed))
            .cloned()
            .collect()
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
