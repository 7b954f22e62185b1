//! The faults that a handle can call for, beside those that every test of a bridge uses.
//!
//! As there: what sends resolves when the frames were flushed, what ends connections when they are
//! out of the count.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Control;
use crate::simulator::batch::{BATCH, Batch, Delivery, Order};
use crate::simulator::deaf::DeafSpans;
use crate::simulator::hub::Hub;
use crate::simulator::options::{BlockForm, DripBy, EnterpriseForm, Noise, Oddity, UpgradeMode};

impl Control {
    /// Sends `n` events so shaped; how many there were.
    pub async fn send_odd(&self, shape: Oddity, n: u64) -> u64 {
        self.emit_many(n, Delivery::Odd(shape)).await
    }

    /// Sends a frame that tells of nobody, subscribed or not.
    pub async fn send_noise(&self, frame: Noise) {
        self.tell(|| Order::Noise(frame)).await;
    }

    /// Sends an event in pieces, with this time between two; whether there was one. It resolves when
    /// the last piece was sent, and meanwhile the connection does nothing else.
    pub async fn send_dripped(&self, by: DripBy, interval: Duration) -> u64 {
        self.emit_many(1, Delivery::Drip(by, interval)).await
    }

    /// Sends the state of every user of the list to whoever is subscribed; how many there are.
    pub async fn send_snapshot(&self) -> u64 {
        let lines;
        let mut sent = 0;
        {
            // While the turn is held no newer state can come before an older one.
            let _turn = self.hub.turn.lock().await;
            lines = self.hub.lines(true);
            let len = self.hub.world().len();
            for start in (0..len).step_by(BATCH) {
                let people = self.hub.present(start, BATCH);
                sent += people.len() as u64;
                let batch = Arc::new(Batch::new(people, self.hub.timestamps(BATCH)));
                let order = || Order::Events(Arc::clone(&batch), Delivery::InOrder);
                Hub::order(&lines, order).await;
            }
        }
        Hub::barrier(&lines).await;
        sent
    }

    /// The next sequence number of each connection is this one.
    pub async fn restart_numbers(&self, at: u64) {
        self.tell(|| Order::Renumber(at)).await;
    }

    /// Closes every connection with a close frame that has no code.
    pub async fn close_without_code(&self) {
        self.end(|| Order::Close(None)).await;
    }

    /// Ends the TCP stream of every connection without a close frame.
    pub async fn end_streams(&self) {
        self.end(|| Order::Eof).await;
    }

    /// Sends no data any more, on connections that open later too, while the world goes on; pings and
    /// replies go on, and no number is consumed. `false` ends it.
    pub async fn mute(&self, muted: bool) {
        self.hub.modes().mute = muted;
        self.tell(|| Order::Mute(muted)).await;
    }

    /// Whether pings are sent.
    pub fn set_pings(&self, on: bool) {
        self.hub.modes().pings = on;
    }

    /// Whether pings of the clients are left without an answer.
    pub fn withhold_pongs(&self, withheld: bool) {
        self.hub.withhold_pongs.store(withheld, Ordering::Relaxed);
    }

    /// Reads nothing any more of any connection, but goes on sending. `false` ends it.
    pub async fn stop_reading(&self, stopped: bool) {
        self.hub.modes().stop_reading = stopped;
        self.tell(|| Order::StopReading(stopped)).await;
    }

    /// As [`block`](Self::block), and from now on blocked clients are answered in this form.
    pub fn block_by(&self, span: Duration, form: BlockForm) {
        self.hub.modes().block_form = form;
        self.block(span);
    }

    /// How the upgrade is answered from now on.
    pub fn set_upgrade(&self, mode: UpgradeMode) {
        self.hub.modes().upgrade = mode;
    }

    /// Which form of the `enterprise` flag is taken from now on.
    pub fn set_enterprise(&self, form: EnterpriseForm) {
        self.hub.modes().enterprise = form;
    }

    /// Whether replies have the form of 2018 from now on.
    pub fn set_old_replies(&self, old: bool) {
        self.hub.modes().old_replies = old;
    }

    /// The list shows the world as it was so long ago; up to 10 minutes.
    pub fn set_rest_lag(&self, lag: Duration) {
        self.hub.modes().rest_lag = lag;
    }

    /// The list leaves out this share of the users, from 0 to 1: always the same ones.
    pub fn set_rest_lacks(&self, share: f64) {
        self.hub.modes().rest_lacks = share;
    }

    /// The spans in which changes of the world did not reach a client.
    pub fn deaf(&self) -> DeafSpans {
        self.hub.deaf().found()
    }
}
