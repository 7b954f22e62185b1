//! The vendor's limits, kept count of: 10 connections and 40 requests a minute for each address.
//!
//! What counts as a request the vendor does not say; here each `authenticate`, `subscribe`,
//! `unsubscribe` and REST call does, and an upgrade or a ping does not. Time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::options::LimitOptions;

/// Requests remembered of one address: what is above shows only as this peak.
const REMEMBERED: usize = 10_000;
/// Addresses remembered; beyond it the idle ones are forgotten.
const ADDRESSES: usize = 1_024;

/// What each address did lately.
#[derive(Debug)]
pub(super) struct Limits {
    enforced: bool,
    block: Duration,
    options: LimitOptions,
    addresses: HashMap<IpAddr, Address>,
    /// Everybody is refused until then.
    all_blocked_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    requests: VecDeque<Instant>,
    blocked_until: Option<Instant>,
}

/// What a connection or request means to the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether this one is over a limit.
    pub(super) breach: bool,
    /// Whether it is to be refused.
    pub(super) refused: bool,
    /// Connections open, or requests in the window, with this one.
    pub(super) count: usize,
}

impl Limits {
    pub(super) fn new(enforced: bool, block: Duration, options: LimitOptions) -> Self {
        Self {
            enforced,
            block,
            options,
            addresses: HashMap::new(),
            all_blocked_until: None,
        }
    }

    /// Refuses everybody until then, enforced or not.
    pub(super) const fn block_all(&mut self, until: Instant) {
        self.all_blocked_until = Some(until);
    }

    /// Counts a WebSocket connection that opens. A refused one does not stay counted, unless it is
    /// let in to be refused later.
    pub(super) fn connect(&mut self, peer: IpAddr, let_in: bool, now: Instant) -> Verdict {
        let (block, blocked) = (self.enforced.then_some(self.block), self.blocked(now));
        let limit = self.options.limit_connections;
        let address = self.address(peer, now);
        let count = address.connections + 1;
        let mut verdict = address.judge(count, limit, block, now);
        verdict.refused |= blocked;
        if let_in || !verdict.refused {
            address.connections = count;
        }
        verdict
    }

    /// A WebSocket connection that was counted has ended.
    pub(super) fn disconnect(&mut self, peer: IpAddr) {
        if let Some(address) = self.addresses.get_mut(&peer) {
            address.connections = address.connections.saturating_sub(1);
        }
    }

    /// Counts a request.
    pub(super) fn request(&mut self, peer: IpAddr, now: Instant) -> Verdict {
        let (block, blocked) = (self.enforced.then_some(self.block), self.blocked(now));
        let limit = self.options.limit_requests;
        let address = self.address(peer, now);
        if address.requests.len() < REMEMBERED {
            address.requests.push_back(now);
        }
        let mut verdict = address.judge(address.requests.len(), limit, block, now);
        verdict.refused |= blocked;
        verdict
    }

    fn blocked(&self, now: Instant) -> bool {
        self.all_blocked_until.is_some_and(|until| now < until)
    }

    fn address(&mut self, peer: IpAddr, now: Instant) -> &mut Address {
        let window = self.options.limit_window;
        if self.addresses.len() >= ADDRESSES {
            self.addresses.retain(|_, address| address.connections > 0);
        }
        let address = self.addresses.entry(peer).or_default();
        while let Some(first) = address.requests.front() {
            if now.duration_since(*first) < window {
                break;
            }
            address.requests.pop_front();
        }
        address
    }
}

impl Address {
    /// A breach blocks for `block`, if limits are enforced.
    fn judge(
        &mut self,
        count: usize,
        limit: usize,
        block: Option<Duration>,
        now: Instant,
    ) -> Verdict {
        let breach = count > limit;
        if breach && let Some(block) = block {
            self.blocked_until = Some(now + block);
        }
        Verdict {
            breach,
            refused: self.blocked_until.is_some_and(|until| now < until),
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn the_forty_first_request_within_a_minute_is_a_breach_and_blocks() {
        let mut limits = Limits::new(true, Duration::from_secs(120), LimitOptions::default());
        let start = Instant::now();
        assert!((0..40).all(|_| !limits.request(PEER, start).breach));
        let over = limits.request(PEER, start);
        assert!(over.breach && over.refused);
        let later = limits.request(PEER, start + Duration::from_secs(119));
        assert!(!later.breach && later.refused);
        let free = limits.request(PEER, start + Duration::from_secs(120));
        assert!(!free.breach && !free.refused);
    }

    #[tokio::test(start_paused = true)]
    async fn the_eleventh_connection_is_a_breach_until_one_has_ended() {
        let mut limits = Limits::new(false, Duration::ZERO, LimitOptions::default());
        let now = Instant::now();
        assert!((0..10).all(|_| !limits.connect(PEER, false, now).breach));
        let over = limits.connect(PEER, false, now);
        assert!(over.breach && !over.refused);
        limits.disconnect(PEER);
        limits.disconnect(PEER);
        assert!(!limits.connect(PEER, false, now).breach);
    }
}
