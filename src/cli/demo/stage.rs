//! Everything that the demo plays with: vendor, broker, bridge, consumers.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Args;
use crate::admin::Status;
use crate::app::{App, AppError};
use crate::cli::Failed;
use crate::config;
use crate::process;
use crate::shutdown::{self, Stopper};
use crate::simulator::{EXAMPLE_KEY, Options, Simulator};
use crate::sink::SinkError;
use crate::sink::kafka::embedded::EmbeddedBroker;
use crate::sink::kafka::tail::{TailConsumer, ensure_topic};
use crate::sink::nats::tail::{TailFrom, TailReader, ensure_stream};

/// Partitions of the demo's topic.
const PARTITIONS: i32 = 6;

/// Records that may wait to be shown.
const SEEN_QUEUE: usize = 1024;

/// The bridge under the demo, its vendor and its consumers.
pub(super) struct Stage {
    pub(super) simulator: Simulator,
    pub(super) status: Arc<Status>,
    pub(super) bridge: JoinSet<Result<(), AppError>>,
    pub(super) consumers: Consumers,
    /// One line a destination, for the opening.
    pub(super) destinations: Vec<String>,
    pub(super) admin: std::net::SocketAddr,
    stopper: Stopper,
    /// Kept alive until the end.
    _broker: Option<EmbeddedBroker>,
    _folder: TempDir,
}

/// A record that a consumer has read.
pub(super) struct Seen {
    pub(super) sink: &'static str,
    /// Partition and offset, or the stream's sequence.
    pub(super) place: String,
    pub(super) body: Value,
}

/// What the consumers have read so far.
pub(super) struct Consumers {
    tasks: JoinSet<Result<(), SinkError>>,
    seen: mpsc::Receiver<Seen>,
    /// How often each event id was read, by sink.
    pub(super) ids: HashMap<&'static str, HashMap<String, u64>>,
    /// The last status and name of each user, by sink.
    pub(super) last: HashMap<&'static str, HashMap<String, (Value, Value)>>,
}

impl Consumers {
    /// The next record of any consumer.
    pub(super) async fn next(&mut self) -> Result<Seen, Failed> {
        tokio::select! {
            Some(seen) = self.seen.recv() => {
                let text = |key: &str| seen.body[key].as_str().unwrap_or_default().to_owned();
                *self.ids.entry(seen.sink).or_default().entry(text("event_id")).or_default() += 1;
                let state = (seen.body["status"].clone(), seen.body["last_name"].clone());
                self.last.entry(seen.sink).or_default().insert(text("user_id"), state);
                Ok(seen)
            }
            Some(Ok(Err(error))) = self.tasks.join_next() => Err(unavailable(error)),
        }
    }
}

fn unavailable(error: SinkError) -> Failed {
    AppError::Unavailable(error.message).into()
}

impl Stage {
    /// Starts everything; the vendor says nothing yet.
    pub(super) async fn set(args: &Args, rate: f64) -> Result<Self, Failed> {
        let options = Options {
            rate,
            users: args.users,
            // Half of them are registered while one watches.
            registered: Some(args.users / 2),
            ..Options::for_tests()
        };
        let simulator = Simulator::start(options).await?;
        let name = format!(
            "onboarding-demo-{}",
            ulid::Ulid::new().to_string().to_lowercase()
        );
        let folder = tempfile::tempdir()?;
        let (send, seen) = mpsc::channel(SEEN_QUEUE);
        let mut to = Destinations::default();
        let broker = to.kafka(args.kafka.as_deref(), &name, send.clone()).await?;
        if let Some(url) = &args.nats {
            to.nats(url, &name, send).await?;
        }
        let Destinations {
            tasks,
            sinks,
            lines: destinations,
            ids,
        } = to;
        let config = json!({
            "feed": {"url": simulator.ws_url(), "api_key": EXAMPLE_KEY},
            // The simulated list is never behind.
            "reconcile": {"url": simulator.rest_url(), "read_after_write": "0s"},
            "journal": {"path": folder.path().join("journal.db")},
            "admin": {"listen": "127.0.0.1:0"},
            "sinks": sinks,
        });
        // JSON is YAML: the demo's bridge is configured as any other.
        let config = config::load_text(&config.to_string(), folder.path(), std::iter::empty())?;
        let app = App::build(&config).await?;
        let (status, admin) = (app.status(), app.admin_address());
        let (stopper, stop) = shutdown::channel();
        let mut bridge = JoinSet::new();
        bridge.spawn(app.run(stop));
        let last = HashMap::new();
        let consumers = Consumers {
            tasks,
            seen,
            ids,
            last,
        };
        Ok(Self {
            simulator,
            status,
            bridge,
            consumers,
            destinations,
            admin,
            stopper,
            _broker: broker,
            _folder: folder,
        })
    }

    /// Whether everything that was sent was heard, and every blind window is healed.
    pub(super) fn is_settled(&self) -> Result<bool, Failed> {
        let report = self.status.report().map_err(AppError::from)?;
        let healed = report
            .feed
            .blind_windows
            .iter()
            .all(|window| window.healed_at.is_some());
        let heard = self
            .status
            .metrics()
            .feed
            .frames
            .with_label_values(&["event"])
            .get();
        Ok(report.feed.connected && healed && heard == self.simulator.stats().events_sent)
    }

    /// Ends the bridge as SIGTERM does, then the vendor.
    pub(super) async fn end(mut self) -> Result<(), Failed> {
        self.stopper.drain();
        let ended = self.bridge.join_next().await;
        self.simulator.shutdown().await;
        match ended {
            Some(Ok(outcome)) => Ok(outcome?),
            Some(Err(panic)) => Err(AppError::Defect(process::end_of(&panic)).into()),
            None => Ok(()),
        }
    }
}

/// The sinks of the demo, each with a consumer of its own.
#[derive(Default)]
struct Destinations {
    tasks: JoinSet<Result<(), SinkError>>,
    sinks: Vec<Value>,
    lines: Vec<String>,
    ids: HashMap<&'static str, HashMap<String, u64>>,
}

impl Destinations {
    /// A real Kafka, or an embedded one that is returned to be kept alive.
    async fn kafka(
        &mut self,
        real: Option<&str>,
        name: &str,
        send: mpsc::Sender<Seen>,
    ) -> Result<Option<EmbeddedBroker>, Failed> {
        let (address, broker) = match real {
            Some(address) => {
                ensure_topic(address, name, PARTITIONS)
                    .await
                    .map_err(unavailable)?;
                self.lines.push(format!("Kafka at {address}, topic {name}"));
                (address.to_owned(), None)
            }
            None => {
                let embedded = EmbeddedBroker::start(name, PARTITIONS).map_err(unavailable)?;
                let address = embedded.address().to_owned();
                self.lines
                    .push(format!("embedded Kafka at {address}, topic {name}"));
                (address, Some(embedded))
            }
        };
        self.sinks.push(
            json!({"name": "kafka", "type": "kafka", "brokers": [address],
            "topic": name, "allow_insecure": true}),
        );
        self.ids.insert("kafka", HashMap::new());
        let consumer = TailConsumer::open(&address, name)
            .await
            .map_err(unavailable)?;
        self.tasks.spawn(read_kafka(consumer, send));
        Ok(broker)
    }

    async fn nats(
        &mut self,
        url: &str,
        name: &str,
        send: mpsc::Sender<Seen>,
    ) -> Result<(), Failed> {
        let stream = name.to_uppercase();
        ensure_stream(url, &stream, name)
            .await
            .map_err(unavailable)?;
        let filter = format!("{name}.>");
        let reader = TailReader::open(url, &stream, &filter, TailFrom::Beginning).await;
        self.tasks
            .spawn(read_nats(reader.map_err(unavailable)?, send));
        self.lines.push(format!("NATS at {url}, stream {stream}"));
        self.sinks.push(
            json!({"name": "nats", "type": "nats", "url": url, "stream": stream,
            "subject_prefix": name, "allow_insecure": true}),
        );
        self.ids.insert("nats", HashMap::new());
        Ok(())
    }
}

async fn read_kafka(consumer: TailConsumer, seen: mpsc::Sender<Seen>) -> Result<(), SinkError> {
    loop {
        let record = consumer.next().await?;
        let body = serde_json::from_slice(&record.body.unwrap_or_default()).unwrap_or_default();
        let place = format!("partition {} offset {:<4}", record.partition, record.offset);
        if seen
            .send(Seen {
                sink: "kafka",
                place,
                body,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}

async fn read_nats(mut reader: TailReader, seen: mpsc::Sender<Seen>) -> Result<(), SinkError> {
    loop {
        let message = reader.next().await?;
        let body = serde_json::from_slice(&message.body).unwrap_or_default();
        let place = format!("stream sequence {:<5}", message.sequence);
        if seen
            .send(Seen {
                sink: "nats",
                place,
                body,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}
