//! The handle by which a test or the demo drives the simulated vendor.
//!
//! What it does, it does to every open connection. Each call that sends resolves when the frames
//! were flushed; one that ends connections, when they are out of the count of `connected`.

mod faults;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::config::Secret;

use serde::Serialize;

use super::batch::{BATCH, Delivery, Order, now_nanos};
use super::deaf::DeafCause;
use super::generator::Pace;
use super::hub::{Ask, Hub};
use super::options::{AuthMode, RestMode, SubscribeMode};
use super::stats::{Sent, Stats};

/// Drives a [`Simulator`](super::Simulator); clones drive the same one.
#[derive(Clone, Debug)]
pub struct Control {
    hub: Arc<Hub>,
}

/// A user as REST lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserState {
    /// Place in the world.
    pub index: u32,
    /// The id.
    pub user_id: String,
    /// The `status`.
    pub status: &'static str,
    /// Events that this user has had; the end of its `last_name`.
    pub counter: u32,
}

impl Control {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Sends `n` events now; how many there were (fewer only if every user was removed).
    pub async fn step(&self, n: u64) -> u64 {
        self.emit_many(n, Delivery::InOrder).await
    }

    /// Sends one event of this user; false if it was removed or does not exist.
    pub async fn send_event_for(&self, user_index: u32) -> bool {
        self.emit(Ask::User(user_index), Delivery::InOrder).await == 1
    }

    /// Lets `n` events happen that consume their sequence numbers and are not sent: a gap of `n`.
    pub async fn skip(&self, n: u64) -> u64 {
        self.emit_many(n, Delivery::Skip).await
    }

    /// Sends `n + 1` events of different users, the first of them last; each keeps its sequence.
    /// At most 255; how many were sent.
    pub async fn reorder(&self, n: usize) -> usize {
        self.emit(Ask::Distinct(n.saturating_add(1)), Delivery::FirstLast)
            .await
    }

    /// Sends one event of this user with the sequence and timestamp of the data frame before, as in
    /// the vendor's own sample.
    pub async fn send_with_same_envelope(&self, user_index: u32) -> bool {
        self.emit(Ask::User(user_index), Delivery::SameEnvelope)
            .await
            == 1
    }

    /// Sends the last data frame of each connection once more, byte for byte.
    pub async fn repeat_last(&self) {
        self.tell(|| Order::RepeatLast).await;
    }

    /// Sends this text as it is, subscribed or not. It consumes no sequence number.
    pub async fn send_raw_text(&self, text: impl Into<String>) {
        let text = Utf8Bytes::from(text.into());
        self.tell(|| Order::Raw(Message::Text(text.clone()))).await;
    }

    /// Sends a binary frame.
    pub async fn send_raw_binary(&self, bytes: impl Into<Vec<u8>>) {
        let message = Message::binary(bytes.into());
        self.tell(|| Order::Raw(message.clone())).await;
    }

    /// Sends this payload (any JSON) in a data frame of this recipient, with the next sequence
    /// number and the time. It is not in the ledger.
    pub async fn send_envelope(&self, recipient: &str, payload: &str) {
        self.tell(|| Order::Envelope {
            recipient: recipient.to_owned(),
            payload: payload.to_owned(),
        })
        .await;
    }

    /// Closes every connection with this code, what was sent before it flushed.
    pub async fn close(&self, code: u16) {
        self.end(|| Order::Close(Some(code))).await;
    }

    /// Resets every connection (TCP RST): what is under way is lost.
    pub async fn reset(&self) {
        for line in self.hub.lines(false) {
            line.reset.notify_one();
            line.orders.closed().await;
        }
    }

    /// Takes the vendor away: every connection is reset and new ones are dropped, while the world goes
    /// on. `false` brings it back.
    pub async fn set_down(&self, down: bool) {
        self.hub.down.store(down, Ordering::SeqCst);
        if down {
            self.reset().await;
        }
    }

    /// Refuses every upgrade and request with 429 (a command with an error reply and a close) for
    /// this span, as the vendor does after a breach of its limits.
    pub fn block(&self, span: Duration) {
        self.hub.block(span);
    }

    /// Makes every connection half-open: nothing is read or sent, pongs included; events meanwhile
    /// consume their sequence numbers and are lost. `false` ends it.
    pub async fn stall(&self, stalled: bool) {
        self.tell(|| Order::Stall(stalled)).await;
    }

    /// Changes `n` users with nothing sent and no number consumed: what happens while nobody listens.
    pub fn change_silently(&self, n: u64) {
        let changed = {
            let mut world = self.hub.world();
            (0..n).map_while(|_| world.step()).count() as u64
        };
        let subscribed = self.hub.stats.borrow().subscribed > 0;
        let cause = if subscribed {
            DeafCause::Silent
        } else {
            DeafCause::Nobody
        };
        let now = now_nanos();
        self.hub.deaf().miss(None, cause, (now, now), changed);
    }

    /// Takes this user out of the list for good, with nothing sent; whether it was in the list.
    pub fn remove_user(&self, user_index: u32) -> bool {
        self.hub.world().remove(user_index)
    }

    /// How the REST list is answered from now on.
    pub fn set_rest(&self, mode: RestMode) {
        self.hub.modes().rest = mode;
    }

    /// How `authenticate` is answered from now on.
    pub fn set_auth(&self, mode: AuthMode) {
        self.hub.modes().auth = mode;
    }

    /// How `subscribe` is answered from now on.
    pub fn set_subscribe(&self, mode: SubscribeMode) {
        self.hub.modes().subscribe = mode;
    }

    /// Takes another key from now on; open connections stay.
    pub fn rotate_key(&self, key: impl Into<String>) {
        self.hub.modes().key = Secret::new(key.into());
    }

    /// Stops the generating.
    pub fn pause(&self) {
        self.hub.pace.send_replace(Pace::Paused);
    }

    /// Starts it again at the rate of the options.
    pub fn resume(&self) {
        self.set_rate(self.hub.options.rate);
    }

    /// Generates so many events per second from now on; 0 as fast as the sockets take them.
    pub fn set_rate(&self, rate: f64) {
        self.hub.pace.send_replace(Pace::from_rate(rate));
    }

    /// Resolves when somebody is subscribed.
    pub async fn wait_subscribed(&self) {
        self.wait_for(|stats| stats.subscribed > 0).await;
    }

    /// Resolves when the counters are as wished. It has no deadline of its own.
    pub async fn wait_for(&self, wished: impl FnMut(&Stats) -> bool + Send) -> Stats {
        let mut stats = self.hub.stats.subscribe();
        let seen = stats.wait_for(wished).await.map(|stats| stats.clone());
        seen.expect("the sender lives in the hub, and this handle holds the hub")
    }

    /// WebSocket connections that are open.
    pub fn connected(&self) -> usize {
        self.hub.stats.borrow().connected
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.hub.stats.borrow().clone()
    }

    /// The data frames handed to the sockets, each connection's in its order; empty unless
    /// [`record_ledger`](super::Options::record_ledger).
    pub fn sent(&self) -> Vec<Sent> {
        self.hub.ledger.sent()
    }

    /// Every user that REST lists, in its order.
    pub fn users(&self) -> Vec<UserState> {
        let world = self.hub.world();
        (0..world.len())
            .filter_map(|index| world.present(index))
            .map(|person| UserState {
                index: person.index,
                user_id: person.user_id(),
                status: person.status(),
                counter: person.counter,
            })
            .collect()
    }

    /// The id of this user.
    pub fn user_id(&self, user_index: u32) -> String {
        self.hub.world().person(user_index).user_id()
    }

    /// The `user_token.token` of this user: what must appear nowhere.
    pub fn token(&self, user_index: u32) -> String {
        self.hub.world().person(user_index).token()
    }

    async fn emit_many(&self, n: u64, delivery: Delivery) -> u64 {
        let mut made = 0;
        while made < n {
            let ask = usize::try_from(n - made).unwrap_or(BATCH).min(BATCH);
            let emitted = self.hub.emit(Ask::Any(ask), delivery).await;
            if emitted == 0 {
                break;
            }
            made += emitted as u64;
        }
        Hub::barrier(&self.hub.lines(true)).await;
        made
    }

    async fn emit(&self, ask: Ask, delivery: Delivery) -> usize {
        let emitted = self.hub.emit(ask, delivery).await;
        Hub::barrier(&self.hub.lines(true)).await;
        emitted
    }

    /// Gives an order that ends connections, and waits until they are out of the count.
    async fn end(&self, order: impl Fn() -> Order) {
        let lines = self.hub.lines(false);
        Hub::order(&lines, order).await;
        for line in lines {
            line.orders.closed().await;
        }
    }

    async fn tell(&self, order: impl Fn() -> Order) {
        let lines = self.hub.lines(false);
        Hub::order(&lines, order).await;
        Hub::barrier(&lines).await;
    }
}
