//! The whole line of one test: the simulated vendor, the bridge, a file, and what must be in it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use onboarding_bridge::simulator::{Control, Options, Simulator};
use serde_json::Value;
use tokio::time::timeout;

use super::bridge::{Bridge, PROMPT, config, file_sink};
use super::eventually;

/// A vendor, a bridge that listens to it, and the file to which the events go.
pub(crate) struct Line {
    pub(crate) simulator: Simulator,
    pub(crate) control: Control,
    pub(crate) bridge: Bridge,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) file: PathBuf,
}

impl Line {
    /// Starts both; `feed` and `reconcile` hold further lines of their sections.
    pub(crate) async fn start(options: Options, feed: &str, reconcile: &str) -> Self {
        Self::start_with(options, |mut yaml, _| {
            if reconcile.contains("read_after_write") {
                yaml = yaml.replacen(PROMPT, "", 1);
            }
            let reconcile: String = reconcile
                .lines()
                .map(|line| format!("  {line}\n"))
                .collect();
            let feed: String = feed.lines().map(|line| format!("  {line}\n")).collect();
            yaml.replacen("reconcile:\n", &format!("reconcile:\n{reconcile}"), 1)
                .replacen("feed:\n", &format!("feed:\n{feed}"), 1)
        })
        .await
    }

    /// Starts both, with a configuration that was changed before.
    pub(crate) async fn start_with(
        options: Options,
        change: impl FnOnce(String, &Path) -> String,
    ) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.jsonl");
        let yaml = config(&simulator, folder.path(), "", &file_sink("local", &file));
        let bridge = Bridge::start(folder.path(), &change(yaml, folder.path()));
        let control = simulator.control();
        Self {
            simulator,
            control,
            bridge,
            folder,
            file,
        }
    }

    /// Starts both and waits until the first list was compared.
    pub(crate) async fn listening(options: Options, feed: &str, reconcile: &str) -> Self {
        let line = Self::start(options, feed, reconcile).await;
        line.bridge.wait_ready();
        line.listed("success", 1.0);
        line
    }

    /// Waits until so many lists ended so.
    pub(crate) fn listed(&self, outcome: &str, times: f64) {
        let series = format!("reconcile_runs_total{{outcome=\"{outcome}\"}}");
        self.reaches(&series, times);
    }

    /// Waits until at least so many lists ended so.
    pub(crate) fn listed_at_least(&self, outcome: &str, times: f64) {
        eventually("further lists", || {
            (self.lists(outcome) >= times).then_some(())
        });
    }

    /// How many lists ended so.
    pub(crate) fn lists(&self, outcome: &str) -> f64 {
        let series = format!("reconcile_runs_total{{outcome=\"{outcome}\"}}");
        self.bridge.metric(&series)
    }

    /// Kills the bridge and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill_and_restart_after(|| ());
    }

    /// As [`kill_and_restart`](Self::kill_and_restart), with something done to its folder between.
    pub(crate) fn kill_and_restart_after(&mut self, between: impl FnOnce()) {
        self.bridge.signal("KILL");
        self.bridge.wait();
        between();
        let yaml = std::fs::read_to_string(self.folder.path().join("bridge.yaml")).unwrap();
        self.bridge = Bridge::start(self.folder.path(), &yaml);
    }

    /// Ends the bridge in order and starts it with another configuration.
    pub(crate) fn restart(&mut self, yaml: &str) {
        self.bridge.signal("TERM");
        let status = self.bridge.wait();
        assert!(status.success(), "{status}");
        self.bridge = Bridge::start(self.folder.path(), yaml);
    }

    /// Waits until a series has this value; more than that is a failure.
    pub(crate) fn reaches(&self, series: &str, value: f64) {
        eventually(&format!("{series} to be {value}"), || {
            let now = self.bridge.metric(series);
            assert!(now <= value, "{series} is {now}, more than {value}");
            (now == value).then_some(())
        });
    }

    /// Waits until so many messages of the feed were heard.
    pub(crate) fn heard(&self, messages: u64) {
        #[allow(clippy::cast_precision_loss, reason = "a few messages")]
        self.reaches("feed_frames_total{kind=\"event\"}", messages as f64);
    }

    /// How often a connection was lost for this reason.
    pub(crate) fn lost(&self, reason: &str) -> f64 {
        let series = format!("feed_reconnects_total{{reason=\"{reason}\"}}");
        self.bridge.metric(&series)
    }

    /// Closes every connection as a server that goes away does, and waits for the next subscription.
    pub(crate) async fn reconnect(&self) {
        // One that is closed before its subscription is taken for the vendor's limit.
        self.subscribed(1).await;
        let before = self.control.stats().subscribes;
        self.control.close(1001).await;
        self.subscribed(before + 1).await;
    }

    /// Waits until there were so many subscriptions.
    pub(crate) async fn subscribed(&self, times: u64) {
        let subscribed = self.control.wait_for(|stats| stats.subscribes >= times);
        timeout(Duration::from_secs(60), subscribed).await.unwrap();
    }

    /// The blind windows of `/status`, oldest first, when all of them are over and healed.
    pub(crate) fn healed_windows(&self, count: usize) -> Vec<Value> {
        eventually("every blind window to be healed", || {
            let mut windows = self.bridge.status()["feed"]["blind_windows"]
                .as_array()
                .unwrap()
                .clone();
            windows.reverse();
            let healed =
                |window: &Value| window["to"].is_string() && window["healed_at"].is_string();
            (windows.len() >= count && windows.iter().all(healed)).then_some(windows)
        })
    }

    /// Ends the bridge in order, so that everything heard is in the file; the records in it.
    pub(crate) async fn end(self) -> Ended {
        self.end_with("events.jsonl").await
    }

    /// As [`end`](Self::end), with the name of the file in the folder.
    pub(crate) async fn end_with(self, file: &str) -> Ended {
        let sent = self.simulator.sent().len();
        self.bridge.wait_delivered();
        let log = self.bridge.log();
        self.bridge.terminate();
        let users = self.control.users();
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let records = records.collect();
        self.simulator.shutdown().await;
        let expected = users.into_iter().map(|user| {
            let name = format!("Example-{}", user.counter);
            (user.user_id, (user.status.to_owned(), name))
        });
        Ended {
            records,
            expected: expected.collect(),
            sent,
            log,
            folder: self.folder,
        }
    }
}

/// What is left after the end.
pub(crate) struct Ended {
    pub(crate) records: Vec<Value>,
    /// Status and last name of each user, by the vendor.
    pub(crate) expected: BTreeMap<String, (String, String)>,
    /// Messages that the vendor sent.
    pub(crate) sent: usize,
    pub(crate) log: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Ended {
    /// Records that came by this way.
    pub(crate) fn by(&self, origin: &str) -> Vec<&Value> {
        let records = self.records.iter();
        records
            .filter(|record| record["origin"] == origin)
            .collect()
    }

    /// Records of this type.
    pub(crate) fn of_type(&self, event_type: &str) -> Vec<&Value> {
        let records = self.records.iter();
        records
            .filter(|record| record["event_type"] == event_type)
            .collect()
    }

    /// The last record of each user says what the vendor says.
    pub(crate) fn assert_repaired(&self) {
        let mut found = BTreeMap::new();
        for record in &self.records {
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            found.insert(text("user_id"), (text("status"), text("last_name")));
        }
        assert_eq!(found, self.expected);
    }

    /// No two records are the same event.
    pub(crate) fn assert_once(&self) {
        let ids: HashSet<_> = self
            .records
            .iter()
            .map(|record| record["event_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), self.records.len());
    }
}
