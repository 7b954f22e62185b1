//! The servers of a run, the ways to them, the topic and the stream.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream;
use onboarding_bridge::simulator::Simulator;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::{PREFIX, STREAM, TOPIC};
use crate::beds::Bed;
use crate::evidence;
use crate::proxy::Proxy;

const PARTITIONS: i32 = 6;

/// How the servers of a run are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    Single,
    /// Three brokers, replication 3, `min.insync.replicas` 2.
    ThreeBrokers,
    /// Three nodes, a stream with three replicas.
    ThreeNodes,
    /// One of each, each behind a proxy, and the vendor too.
    Proxied,
}

/// The ways from the bridge to the vendor, to Kafka and to NATS.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) vendor: Proxy,
    pub(crate) kafka: Proxy,
    pub(crate) nats: Proxy,
}

impl Ways {
    async fn start() -> Self {
        Self {
            vendor: Proxy::start().await,
            kafka: Proxy::start().await,
            nats: Proxy::start().await,
        }
    }

    pub(crate) const fn all(&self) -> [&Proxy; 3] {
        [&self.vendor, &self.kafka, &self.nats]
    }
}

/// Starts Kafka and NATS, with the ways to them and to the vendor, and the topic and the stream.
pub(super) async fn start(
    servers: Servers,
    folder: &Path,
    simulator: &Simulator,
) -> (Bed, Bed, Option<Ways>) {
    let ways = match servers {
        Servers::Proxied => Some(Ways::start().await),
        Servers::Single | Servers::ThreeBrokers | Servers::ThreeNodes => None,
    };
    let (mut kafka_options, mut nats_options) = (Vec::new(), Vec::new());
    if let Some(ways) = &ways {
        // The client goes where the broker says that it is.
        kafka_options.extend(["--advertise".to_owned(), ways.kafka.address().to_string()]);
    }
    if servers == Servers::ThreeBrokers {
        kafka_options.extend(["--brokers", "3"].map(str::to_owned));
    }
    if servers == Servers::ThreeNodes {
        nats_options.extend(["--nodes", "3"].map(str::to_owned));
    }
    let started = || {
        std::thread::scope(|scope| {
            let kafka = scope.spawn(|| Bed::start("kafka", folder, &kafka_options));
            let nats = Bed::start("nats", folder, &nats_options);
            (kafka.join().unwrap(), nats)
        })
    };
    let (kafka, nats) = tokio::task::block_in_place(started);
    if let Some(ways) = &ways {
        ways.vendor.lead_to(simulator.addr());
        let kafka = kafka.value("KAFKA_BOOTSTRAP");
        ways.kafka.lead_to(kafka.parse().unwrap());
        let nats = nats.value("NATS_URL");
        ways.nats
            .lead_to(nats.trim_start_matches("nats://").parse().unwrap());
    }
    let replicas = |of| if servers == of { 3_u8 } else { 1 };
    let direct = kafka.value("KAFKA_DIRECT");
    create_topic(&direct, replicas(Servers::ThreeBrokers)).await;
    create_stream(&nats.value("NATS_URL"), replicas(Servers::ThreeNodes)).await;
    (kafka, nats, ways)
}

async fn create_topic(brokers: &str, replicas: u8) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(replicas.into()));
    let wait = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let created = admin.create_topics([&topic], &wait).await.unwrap();
    created.into_iter().next().unwrap().unwrap();
    // Dropping a client of librdkafka waits for its threads.
    tokio::task::block_in_place(|| drop(admin));
}

async fn create_stream(url: &str, replicas: u8) {
    let context = evidence::jetstream(url).await;
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![format!("{PREFIX}.>"), format!("{PREFIX}_control.>")],
        num_replicas: replicas.into(),
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
}
