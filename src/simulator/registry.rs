//! The connections that are open, the hub's line to each, and the limits that they are held to.
//!
//! A line is bounded: who gives an order to a connection that does not read waits for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::batch::{Order, now_nanos};
use super::deaf::DeafCause;
use super::hub::Hub;
use super::limits::Verdict;
use super::options::BlockForm;
use super::stats::locked;

/// Orders that wait for one connection; at the bound the emission waits.
const ORDERS: usize = 4;

/// The hub's end of one connection.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) connection: u64,
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

    /// Counts a WebSocket connection of this peer and opens a line to it, unless it is refused. One that
    /// is to be refused in words is let in, because only a connection has words.
    pub(super) fn register(self: &Arc<Self>, peer: IpAddr) -> Option<Registration> {
        let let_in = self.modes().block_form == BlockForm::ErrorReply;
        let Verdict {
            breach,
            refused,
            count,
        } = locked(&self.limits).connect(peer, let_in, Instant::now());
        let refused = refused && !let_in;
        let (sender, orders) = mpsc::channel(ORDERS);
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
        let line = Line {
            connection,
            orders: sender,
            reset: Arc::default(),
            subscribed: Arc::default(),
        };
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
    /// Whether events are put in line.
    pub(super) fn is_subscribed(&self) -> bool {
        self.line.subscribed.load(Ordering::Relaxed)
    }

    /// Notes the events that are still in line as lost.
    fn lose_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Events(batch, _) = order
                && let Some(span) = batch.span()
            {
                let missed = batch.len() as u64;
                let connection = Some(self.connection);
                self.hub
                    .deaf()
                    .miss(connection, DeafCause::Lost, span, missed);
            }
        }
    }

    /// From now on events are put in line; whether they were not before.
    pub(super) fn subscribe(&self, wanted: bool) -> bool {
        let was = self.line.subscribed.swap(wanted, Ordering::Relaxed);
        // Told while the counters are held, so that two connections cannot tell it in the wrong order.
        self.hub.count(|stats| {
            let before = stats.subscribed;
            stats.subscribed -= usize::from(was);
            stats.subscribed += usize::from(wanted);
            let now = now_nanos();
            match (before, stats.subscribed) {
                (0, 1..) => self.hub.deaf().end(None, DeafCause::Nobody, now),
                (1.., 0) => self.hub.deaf().begin(None, DeafCause::Nobody, now),
                _ => {}
            }
        });
        was != wanted
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.hub.lines).remove(&self.connection);
        locked(&self.hub.limits).disconnect(self.peer);
        self.subscribe(false);
        self.hub.deaf().end_all(self.connection, now_nanos());
        self.hub.count(|stats| stats.connected -= 1);
        // Who waits for the end sees the channel close, and finds the count right by then.
        self.orders.close();
        self.lose_orders();
    }
}
