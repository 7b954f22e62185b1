//! Everything of one run: the simulated vendor in this process, the real bridge as another, real servers
//! behind it. The bridge and the servers may come and go; the vendor's ledger stays.

mod places;
mod waits;

use std::path::{Path, PathBuf};
use std::time::Duration;

use onboarding_bridge::simulator::{Control, EXAMPLE_KEY, Options, Simulator};
use tokio::time::{Instant, sleep};

use crate::beds::{Bed, free_ports};
use crate::bridge::{Bridge, Metrics, PATIENCE};
use crate::evidence;
use crate::oracle::{Evidence, Verdict, Written, judge};
use crate::rng::Rng;

pub(crate) use places::{Servers, Ways};

pub(crate) const TOPIC: &str = "chaos";
pub(crate) const STREAM: &str = "CHAOS";
const PREFIX: &str = "chaos";

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Events per second.
    pub(crate) rate: f64,
    pub(crate) users: u32,
    /// Kills of one run, or other faults of that weight, if not what suits the scenario.
    pub(crate) faults: Option<u64>,
    /// The sinks' `settle`.
    pub(crate) settle: Duration,
    /// How late bytes to the brokers are in the scenario `late`.
    pub(crate) hold: Duration,
    /// Whether Kafka's sink works with transactions.
    pub(crate) exactly_once: bool,
    /// How long a sink is away in the scenario `outage`.
    pub(crate) outage: Duration,
}

/// What was done to the bridge, and what is measured beside the verdict.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: u64,
    /// Other faults.
    pub(crate) faults: u64,
    /// Records that a destination was found to hold after an unknown outcome.
    pub(crate) held: f64,
    /// What happened in the vendor's world, and in what time: the load.
    pub(crate) generated: u64,
    pub(crate) load: Duration,
    /// From the end of the last fault until everything had arrived everywhere.
    pub(crate) recovery: Duration,
    /// What else was measured.
    pub(crate) notes: Vec<String>,
    /// What a scenario itself found wrong.
    pub(crate) wrong: Vec<String>,
}

/// One run.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) scale: Scale,
    pub(crate) tally: Tally,
    pub(crate) control: Control,
    pub(crate) kafka: Bed,
    pub(crate) nats: Bed,
    /// Where the journal is, if not in the folder.
    pub(crate) journal_folder: Option<PathBuf>,
    pub(crate) ways: Option<Ways>,
    loaded_since: Instant,
    simulator: Simulator,
    folder: PathBuf,
    admin: u16,
    bridge: Option<Bridge>,
}

impl World {
    pub(crate) async fn new(seed: u64, scale: Scale, folder: &Path, servers: Servers) -> Self {
        let options = Options {
            users: scale.users,
            rate: scale.rate,
            seed,
            ..Options::for_tests()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let (kafka, nats, ways) = places::start(servers, folder, &simulator).await;
        Self {
            rng: Rng::new(seed),
            scale,
            tally: Tally::default(),
            control: simulator.control(),
            loaded_since: Instant::now(),
            simulator,
            kafka,
            nats,
            journal_folder: None,
            ways,
            folder: folder.to_owned(),
            admin: free_ports(1),
            bridge: None,
        }
    }

    /// Begins the load.
    pub(crate) fn resume(&mut self) {
        self.loaded_since = Instant::now();
        self.control.resume();
    }

    fn journal(&self) -> PathBuf {
        let folder = self.journal_folder.as_ref().unwrap_or(&self.folder);
        folder.join("journal.db")
    }

    fn config(&self) -> String {
        let (vendor, kafka, nats) = match &self.ways {
            Some(ways) => (
                format!("ws://{}/ws", ways.vendor.address()),
                ways.kafka.address().to_string(),
                format!("nats://{}", ways.nats.address()),
            ),
            None => (
                self.simulator.ws_url(),
                self.kafka.value("KAFKA_BOOTSTRAP"),
                self.nats.value("NATS_URL"),
            ),
        };
        let settle = humantime::format_duration(self.scale.settle);
        format!(
            "feed:\n  url: {vendor}\n  api_key: {EXAMPLE_KEY}\n  ping_interval: 2s\n  \
             idle_timeout: 6s
  limits: {{requests_per_minute: 40, connections: 10, block_wait: 5s}}
\
             reconcile:
  url: {}
  read_after_write: 1s
journal:
  path: {}
  max_bytes: 16GiB
\
             admin:\n  listen: 127.0.0.1:{}\nsinks:\n  \
             - {{name: kafka, type: kafka, brokers: [{kafka}], topic: {TOPIC}, settle: {settle}, \
             exactly_once: {}}}\n  \
             - {{name: nats, type: nats, url: '{nats}', stream: {STREAM}, subject_prefix: {PREFIX}, \
             settle: {settle}}}\n",
            self.simulator.rest_url(),
            self.journal().display(),
            self.admin,
            self.scale.exactly_once,
        )
    }

    /// Starts the bridge.
    pub(crate) fn start(&mut self) {
        self.start_to_die(None);
    }

    /// Starts the bridge; it is to die at this point, if one is named.
    pub(crate) fn start_to_die(&mut self, fail_point: Option<&str>) {
        let path = self.folder.join("bridge.yaml");
        std::fs::write(&path, self.config()).unwrap();
        let log = self.folder.join("bridge.log");
        self.bridge = Some(Bridge::spawn(&path, log, fail_point));
    }

    pub(crate) fn bridge(&mut self) -> &mut Bridge {
        self.bridge.as_mut().expect("the scenario has started it")
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.count_held().await;
        self.bridge().kill();
        self.bridge = None;
        self.tally.kills += 1;
    }

    /// `kill -9` of one that is stopped and answers nobody.
    pub(crate) fn kill_stopped(&mut self) {
        self.bridge().kill();
        self.bridge = None;
        self.tally.kills += 1;
    }

    /// Waits until the bridge has died at the point that it was started to die at.
    pub(crate) async fn wait_dead(&mut self, what: &str) {
        let status = self.bridge().wait(PATIENCE).await;
        let status = status.unwrap_or_else(|| panic!("{what} was never reached"));
        assert_eq!(status.code(), None, "{what}: it ended by itself: {status}");
        self.bridge = None;
        self.tally.kills += 1;
    }

    /// What `/metrics` says, if the bridge answers.
    pub(crate) async fn metrics(&self) -> Option<Metrics> {
        Metrics::ask(self.admin).await
    }

    async fn count_held(&mut self) {
        if let Some(metrics) = self.metrics().await {
            self.tally.held += metrics.sum("sink_skipped_held_total");
        }
    }

    /// Some time under load.
    pub(crate) async fn under_load(&mut self, millis: std::ops::Range<u64>) {
        sleep(self.rng.millis(millis)).await;
    }

    /// Holds everything against everything.
    pub(crate) async fn judge(&self) -> Verdict {
        let journal = evidence::journal(&self.journal());
        let brokers = self.kafka.value("KAFKA_DIRECT");
        let kafka = tokio::task::block_in_place(|| {
            evidence::kafka(&brokers, TOPIC, self.scale.exactly_once)
        });
        let nats = evidence::nats(&self.nats.value("NATS_URL"), STREAM, PREFIX).await;
        let written = self.control.sent().into_iter().map(|sent| Written {
            connection: sent.connection,
            at: sent.timestamp,
            user: sent.user_id,
            counter: sent.counter,
        });
        let registry = self.control.users().into_iter();
        judge(&Evidence {
            written: written.collect(),
            registry: registry.map(|user| (user.user_id, user.counter)).collect(),
            journal: journal.records,
            windows: journal.windows,
            dead_letters: journal.dead_letters,
            sinks: vec![("kafka", kafka), ("nats", nats)],
        })
    }

    pub(crate) async fn end(self) {
        self.simulator.shutdown().await;
    }
}
