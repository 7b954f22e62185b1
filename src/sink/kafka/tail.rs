//! For the demo and for tests only: reads a topic as any consumer would, and creates one.
//!
//! The bridge itself never uses it: it creates no topic and reads no bodies. It works with a real broker
//! and with the embedded one.

use std::fmt;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::super::{ErrorClass, SinkError};
use super::client::{Aside, Context, blocking};
use super::errors;
use super::message::ID_HEADER;

const TIMEOUT: Duration = Duration::from_secs(15);

/// One record, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailRecord {
    /// The partition that holds it.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The event's id, from the header `ce_id`.
    pub event_id: Option<String>,
    /// All headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The record.
    pub body: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

/// Reads every partition of one topic from its beginning.
pub struct TailConsumer {
    consumer: Aside<StreamConsumer<Context>>,
}

impl fmt::Debug for TailConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TailConsumer").finish_non_exhaustive()
    }
}

impl TailConsumer {
    /// Begins to read.
    ///
    /// # Errors
    /// When the broker cannot be reached or the topic is missing.
    pub async fn open(brokers: &str, topic: &str) -> Result<Self, SinkError> {
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        blocking(move || {
            let failed = |error| errors::of_client(format!("topic {topic}"), &error);
            let consumer: StreamConsumer<Context> = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("group.id", "onboarding-bridge-tail")
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "earliest")
                .set("fetch.wait.max.ms", "100")
                .create_with_context(Context::default())
                .map_err(failed)?;
            let metadata = consumer
                .fetch_metadata(Some(&topic), TIMEOUT)
                .map_err(failed)?;
            let mut assigned = TopicPartitionList::new();
            for found in metadata.topics() {
                if let Some(error) = found.error() {
                    let code = Code::from(error);
                    let message = format!("topic {topic}: {code}");
                    return Err(SinkError::new(errors::class_of(code), message));
                }
                for partition in found.partitions() {
                    assigned
                        .add_partition_offset(&topic, partition.id(), Offset::Beginning)
                        .map_err(failed)?;
                }
            }
            consumer.assign(&assigned).map_err(failed)?;
            Ok(Self {
                consumer: Aside::new(consumer),
            })
        })
        .await
    }

    /// The next record of any partition, as soon as there is one.
    ///
    /// # Errors
    /// When reading cannot go on.
    pub async fn next(&self) -> Result<TailRecord, SinkError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Ok(TailRecord::of(&message)),
                Err(error) => {
                    let error = errors::of_client("tail", &error);
                    if error.class != ErrorClass::Transient {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl TailRecord {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers: Vec<(String, String)> = message
            .headers()
            .iter()
            .flat_map(|headers| headers.iter())
            .map(|header| {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                (header.key.to_owned(), value.into_owned())
            })
            .collect();
        let event_id = headers.iter().find(|(name, _)| name == ID_HEADER);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            event_id: event_id.map(|(_, id)| id.clone()),
            body: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp().to_millis(),
            headers,
        }
    }
}

/// The number of replicas that the broker is configured to give.
const BROKERS_DEFAULT: i32 = -1;

/// Creates the topic if it is missing, with the replicas that the brokers give a topic by default, and
/// waits until it can be used.
///
/// # Errors
/// When the broker cannot be reached or refuses the topic.
pub async fn ensure_topic(brokers: &str, topic: &str, partitions: i32) -> Result<(), SinkError> {
    create_topic(brokers, topic, partitions, &[]).await
}

/// As [`ensure_topic`], with settings of the topic.
///
/// # Errors
/// When the broker cannot be reached or refuses the topic.
pub async fn create_topic(
    brokers: &str,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<(), SinkError> {
    let failed = |error| errors::of_client(format!("topic {topic}"), &error);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .map_err(failed)?;
    let admin = Aside::new(admin);
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(BROKERS_DEFAULT));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT));
    let created = admin
        .create_topics([&new], &options)
        .await
        .map_err(failed)?;
    match created.into_iter().next() {
        None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => {}
        Some(Err((_, code))) => {
            let message = format!("topic {topic}: {code}");
            return Err(SinkError::new(errors::class_of(code), message));
        }
    }
    let name = topic.to_owned();
    blocking(move || wait_for_leaders(&admin, &name)).await
}

/// A broker that just made a topic may answer for a moment that there is none.
fn wait_for_leaders(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
) -> Result<(), SinkError> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while tokio::time::Instant::now() < deadline {
        let metadata = admin
            .inner()
            .fetch_metadata(Some(topic), TIMEOUT)
            .map_err(|error| errors::of_client(format!("topic {topic}"), &error))?;
        let led = |found: &rdkafka::metadata::MetadataTopic| {
            found.error().is_none() && found.partitions().iter().all(|p| p.leader() >= 0)
        };
        if metadata.topics().iter().all(led) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let message = format!("topic {topic}: no leaders within {TIMEOUT:?}");
    Err(SinkError::new(ErrorClass::Transient, message))
}
