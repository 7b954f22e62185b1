//! One course of events: a simulated vendor, the bridge before it, and a topic and a stream behind.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use onboarding_bridge::simulator::{Control, Options, Sent, Simulator, Stats};
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use onboarding_bridge::sink::nats::tail::ensure_stream;

use super::bridge::{Bridge, PATIENCE, config, kafka_sink, nats_sink};
use super::oracle::{self, Journalled, Landed};
use super::{beds, eventually, unique};

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 6;

/// Everything but the bridge itself, which may come and go.
pub(crate) struct Course {
    simulator: Simulator,
    pub(crate) control: Control,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) brokers: String,
    pub(crate) nats: String,
    pub(crate) topic: String,
    pub(crate) stream: String,
    pub(crate) prefix: String,
    /// Events that the simulator had sent when the bridge was started last.
    sent_before: AtomicU64,
}

impl Course {
    /// With the Kafka and the NATS that all tests share.
    pub(crate) async fn new(options: Options) -> Self {
        Self::with(options, beds::kafka(), beds::nats()).await
    }

    /// With these servers.
    pub(crate) async fn with(options: Options, brokers: &str, nats: &str) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let (topic, stream) = (unique("course"), unique("COURSE"));
        let prefix = unique("course");
        ensure_topic(brokers, &topic, PARTITIONS).await.unwrap();
        ensure_stream(nats, &stream, &prefix).await.unwrap();
        Self {
            control: simulator.control(),
            simulator,
            folder: tempfile::tempdir().unwrap(),
            brokers: brokers.to_owned(),
            nats: nats.to_owned(),
            topic,
            stream,
            prefix,
            sent_before: AtomicU64::default(),
        }
    }

    /// The sink `kafka` of the configuration.
    pub(crate) fn kafka_sink(&self) -> String {
        kafka_sink("kafka", &self.brokers, &self.topic)
    }

    /// The sink `nats` of the configuration.
    pub(crate) fn nats_sink(&self) -> String {
        nats_sink("nats", &self.nats, &self.stream, &self.prefix)
    }

    /// Starts the bridge with both sinks, when the one before it is gone.
    pub(crate) async fn start(&self) -> Bridge {
        let sinks = format!("{}\n{}", self.kafka_sink(), self.nats_sink());
        self.start_with(&sinks).await
    }

    /// Starts the bridge with these sinks.
    pub(crate) async fn start_with(&self, sinks: &str) -> Bridge {
        self.start_configured("", sinks).await
    }

    /// Starts the bridge with these lines in the section `feed`, and these sinks.
    pub(crate) async fn start_configured(&self, feed: &str, sinks: &str) -> Bridge {
        let sent = self.wait_for(|stats| stats.connected == 0).await;
        self.sent_before.store(sent, Ordering::Relaxed);
        let folder = self.folder.path();
        Bridge::start(folder, &config(&self.simulator, folder, feed, sinks))
    }

    /// Waits until so many events were sent since the bridge was started last.
    pub(crate) async fn wait_sent(&self, events: u64) {
        let wanted = self.sent_before.load(Ordering::Relaxed) + events;
        self.wait_for(|stats| stats.events_sent >= wanted).await;
    }

    /// Waits for the simulator; how many events it had sent then.
    async fn wait_for(&self, wished: impl FnMut(&Stats) -> bool + Send) -> u64 {
        let stats = tokio::time::timeout(PATIENCE, self.control.wait_for(wished)).await;
        stats
            .expect("the simulator comes to the wished state")
            .events_sent
    }

    /// The code with which the bridge closed its last connection, once that is gone.
    pub(crate) async fn close_code(&self) -> Option<u16> {
        self.wait_for(|stats| stats.connected == 0).await;
        self.control.stats().last_close_code_from_client
    }

    /// Events that were sent since the bridge was started last.
    pub(crate) fn sent_since_start(&self) -> u64 {
        self.control.stats().events_sent - self.sent_before.load(Ordering::Relaxed)
    }

    /// Waits until the bridge has journalled all that was sent to it and both sinks have all of that.
    /// The simulator is paused; what it had begun to send still comes.
    pub(crate) fn wait_heard_and_delivered(&self, bridge: &Bridge) {
        let mut before = None;
        eventually("everything that was sent to be heard", || {
            let sent = self.sent_since_start();
            let is_still = before.replace(sent) == Some(sent);
            (is_still && heard(bridge) == sent).then_some(())
        });
        eventually("the list to be compared", || {
            (bridge.metric("reconcile_runs_total{outcome=\"success\"}") > 0.0).then_some(())
        });
        bridge.wait_delivered();
    }

    /// What the simulator sent, in the order of each connection.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.control.sent()
    }

    /// The file of the journal.
    pub(crate) fn journal_path(&self) -> PathBuf {
        self.folder.path().join("journal.db")
    }

    /// The records of the journal; the bridge has ended.
    pub(crate) fn journal(&self) -> Vec<Journalled> {
        oracle::journal(&self.journal_path())
    }

    /// What both destinations hold, by the name of the sink.
    pub(crate) async fn landed(&self) -> [(&'static str, Vec<Landed>); 2] {
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        let kafka = tokio::task::spawn_blocking(move || oracle::kafka(&brokers, &topic));
        let nats = oracle::nats(&self.nats, &self.stream, &self.prefix).await;
        [("kafka", kafka.await.unwrap()), ("nats", nats)]
    }

    /// Holds everything against everything, when the bridge has ended with nothing left to deliver;
    /// how many events of the feed were heard.
    pub(crate) async fn check(&self) -> usize {
        let (journal, sent, users) = (self.journal(), self.sent(), self.control.users());
        let heard = oracle::was_heard_without_a_hole(&journal, &sent);
        for (what, landed) in self.landed().await {
            oracle::has_the_journal(what, &landed, &journal);
            oracle::each_life_is_whole(what, &landed);
            oracle::ends_as_the_vendor_says(what, &landed, &users);
        }
        heard
    }

    /// Ends the simulator.
    pub(crate) async fn end(self) {
        self.simulator.shutdown().await;
    }
}

/// Messages of the feed that are in the journal, or known to be there already, or dead letters.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "these are counters, far below 2^52"
)]
pub(crate) fn heard(bridge: &Bridge) -> u64 {
    let of_feed = ["registered", "updated", "removed"].map(|event_type| {
        bridge.metric(&format!(
            "normalise_events_total{{event_type=\"user.{event_type}\",origin=\"feed\"}}"
        ))
    });
    let others =
        bridge.metric("normalise_duplicates_total") + bridge.metric_sum("normalise_rejected_total");
    (of_feed.iter().sum::<f64>() + others) as u64
}
