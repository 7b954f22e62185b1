//! The end of a course: the load ends, everything that was heard arrives, every window is healed, the bridge
//! ends in order. Each wait has an end of its own, which is a panic.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::World;
use crate::bridge::PATIENCE;
use crate::evidence;

/// The user by whose event the end of a course is recognised.
const MARKER: u32 = 0;

impl World {
    /// Ends the load, and waits until everything has arrived everywhere; then ends the bridge in order.
    pub(crate) async fn calm_down(&mut self) {
        if self.bridge.is_none() {
            return;
        }
        self.control.pause();
        let since = Instant::now();
        self.tally.load = since - self.loaded_since;
        self.tally.generated = self.control.stats().events_generated;
        self.wait_heard().await;
        self.wait_for(
            "every window to be healed and every sink to have everything",
            || {
                let file = evidence::open(&self.journal());
                let sql = "SELECT count(*) FROM windows WHERE healed IS NULL OR closed IS NULL";
                let open: u64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
                open == 0
            },
        )
        .await;
        self.wait_lag(0.0).await;
        self.tally.recovery = since.elapsed();
        self.count_held().await;
        let bridge = self.bridge.take().expect("the scenario has started it");
        bridge.terminate().await;
    }

    /// Waits until all that was sent before is in the journal, or known to be missed: an event that is
    /// sent last has been heard.
    async fn wait_heard(&mut self) {
        let start = Instant::now();
        let mut sent: Option<(String, u32, Instant)> = None;
        loop {
            self.bridge().must_live();
            assert!(start.elapsed() < PATIENCE, "the last event was not heard");
            // Sent again after a while: a connection that was about to break may have swallowed it.
            let again = sent
                .as_ref()
                .is_none_or(|(_, _, at)| at.elapsed() > Duration::from_secs(15));
            if again && self.control.stats().subscribed > 0 {
                self.control.send_event_for(MARKER).await;
                let users = self.control.users();
                let marker = users.iter().find(|user| user.index == MARKER).unwrap();
                sent = Some((marker.user_id.clone(), marker.counter, Instant::now()));
            }
            if let Some((user, counter, _)) = &sent
                && evidence::journal_tells(&self.journal(), user, *counter)
            {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no sink lacks more than so many records.
    pub(crate) async fn wait_lag(&mut self, records: f64) {
        let start = Instant::now();
        loop {
            self.bridge().must_live();
            if let Some(metrics) = self.metrics().await
                && metrics.sum("sink_lag_records") <= records
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "a sink does not catch up");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
