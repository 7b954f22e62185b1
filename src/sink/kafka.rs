//! The Kafka sink: one idempotent produce a record, to the partition that Java's partitioner picks; with
//! `exactly_once` one transaction a batch.
//!
//! A record counts once a broker acknowledged it with acks=all, and its transaction is committed. It never creates a topic, never retries
//! what librdkafka gave up, and never reports a record as failed that it did not ask back first. This
//! is the only place, with its submodules, that knows rdkafka.

mod arrivals;
mod client;
pub mod embedded;
mod errors;
mod held;
mod message;
pub(super) mod notify;
mod options;
mod publish;
pub mod tail;
#[cfg(test)]
mod tests;
mod topic;
mod transaction;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::producer::{Producer, PurgeConfig};
use tokio::time::Instant;

use super::{Arrivals, Destination, ErrorClass, ErrorRow, PublishError, Sink, SinkError};
use crate::config::KafkaConfig;
use crate::event::{EventId, Record, Timestamp};
use client::{Aside, Context, blocking};
use publish::Client;
use topic::Topic;

/// The longest wait for what librdkafka still holds when the sink is closed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A call costs the client and the broker more than ten records do. A longer `linger.ms` would not do the same:
/// what comes while librdkafka waits is in the next batch.
const GATHER: Duration = Duration::from_millis(1);

/// What is done after which error, for docs/errors.md.
pub fn error_table() -> Vec<ErrorRow> {
    errors::rows()
}

/// Whose transactional id is taken twice within this time has a rival, and stays away for as long: two
/// bridges with one id must not shut each other out every few seconds for ever.
const RIVAL_TIME: Duration = Duration::from_secs(300);

/// Publishes to one Kafka topic.
pub struct KafkaSink {
    config: KafkaConfig,
    opened: Option<(Client, Topic)>,
    /// When another producer took this one's transactional id, the last time.
    fenced: Option<Instant>,
    /// Until when it is left to that other producer.
    away_until: Option<Instant>,
}

impl KafkaSink {
    /// A sink for the topic that the configuration names; it connects only when it is opened.
    ///
    /// # Errors
    /// [`ErrorClass::Configuration`] when an option or a secret file cannot be used.
    pub fn new(config: &KafkaConfig) -> Result<Self, SinkError> {
        options::producer(config, options::BATCH_BYTES)?;
        options::reader(config)?;
        Ok(Self {
            config: config.clone(),
            opened: None,
            fenced: None,
            away_until: None,
        })
    }

    async fn open_anew(&mut self) -> Result<Destination, SinkError> {
        if let Some((old, _)) = self.opened.take() {
            // Before anything else: what it still holds must not arrive after `held` has looked.
            publish::purge(&old, PurgeConfig::default().queue().inflight()).await;
        }
        self.leave_it_to_a_rival()?;
        let (mut client, mut topic) = connect(&self.config, options::BATCH_BYTES).await?;
        if embedded::is_embedded(client.producer.client()) {
            let destination = embedded::destination(&self.config, topic.partitions);
            self.shut_others_out(&client).await?;
            self.opened = Some((client, topic));
            return Ok(destination);
        }
        topic.settings = topic::settings(&self.config).await;
        if let Some(limit) = topic
            .batch_bytes_max()
            .filter(|limit| *limit < options::BATCH_BYTES)
        {
            // A broker refuses a batch as a whole, so no batch may be larger than the topic allows.
            client = connect(&self.config, limit).await?.0;
        }
        self.shut_others_out(&client).await?;
        let config = self.config.clone();
        let readable = blocking(move || held::probe(&config)).await;
        let mut warnings = topic.warnings();
        if let Err(reason) = &readable {
            if reason.class == ErrorClass::Transient {
                return Err(reason.clone());
            }
            warnings.push(format!(
                "the topic cannot be read ({reason}), so after an unclean end events may come twice; \
                 allow this sink's user READ and DESCRIBE on it"
            ));
        }
        let destination = Destination {
            description: topic.describe(&self.config),
            can_tell_what_it_holds: readable.is_ok(),
            warnings,
        };
        self.opened = Some((client, topic));
        Ok(destination)
    }

    /// In the transactional mode: every earlier producer of this id is refused from here on, and has
    /// nothing open any more.
    async fn shut_others_out(&self, client: &Client) -> Result<(), SinkError> {
        if !self.config.exactly_once {
            return Ok(());
        }
        let (client, config) = (client.clone(), self.config.clone());
        blocking(move || transaction::init(&client, &config)).await
    }

    fn leave_it_to_a_rival(&self) -> Result<(), SinkError> {
        let left = self
            .away_until
            .map(|until| until.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if !left.is_zero() => Err(SinkError::new(
                ErrorClass::Configuration,
                format!(
                    "topic {}: another producer took the transactional id {} again and again; give each \
                     bridge its own `transactional_id`, or stop one; tried again in {} s",
                    self.config.topic,
                    self.config.transactional_id().unwrap_or_default(),
                    left.as_secs()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn note_fence(&mut self) {
        let now = Instant::now();
        let again = self
            .fenced
            .replace(now)
            .is_some_and(|before| now.duration_since(before) < RIVAL_TIME);
        self.away_until = again.then(|| now + RIVAL_TIME);
    }

    async fn publish_batch(&mut self, batch: &[Arc<Record>]) -> Result<(), PublishError> {
        let Some((client, _)) = &self.opened else {
            return Err(PublishError::of_all(batch.len(), &not_open()));
        };
        if !self.config.exactly_once {
            return publish::publish(client, &self.config, batch).await;
        }
        let outcome = transaction::publish(client, &self.config, batch).await;
        if client.context.is_fenced() {
            self.note_fence();
        }
        outcome
    }

    fn question(
        &self,
        topic: &Topic,
        since: Timestamp,
        cancelled: &Arc<AtomicBool>,
    ) -> held::Question {
        held::Question {
            config: self.config.clone(),
            partitions: topic.partitions,
            since,
            exact: topic
                .settings
                .as_ref()
                .is_some_and(|settings| !settings.append_time),
            cancelled: Arc::clone(cancelled),
        }
    }

    async fn ask_held(&self, since: Timestamp) -> Result<HashSet<EventId>, SinkError> {
        let (_, topic) = self.opened.as_ref().ok_or_else(not_open)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let question = self.question(topic, since, &cancelled);
        // A dropped future must not leave a thread that reads on.
        let _cancel = CancelOnDrop(cancelled);
        blocking(move || held::ids_since(&question)).await
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A new producer that has found its topic.
async fn connect(config: &KafkaConfig, batch_bytes: usize) -> Result<(Client, Topic), SinkError> {
    let config = config.clone();
    blocking(move || {
        let options = options::producer(&config, batch_bytes)?;
        let context = Context::default();
        let producer = options
            .create_with_context(context.clone())
            .map_err(|error| errors::of_client("producer", &error))?;
        let client = Client {
            producer: Arc::new(Aside::new(producer)),
            context,
            batch_bytes: options::batch_bytes(&options),
        };
        let topic = topic::find(client.producer.client(), &config)?;
        Ok((client, topic))
    })
    .await
}

impl Sink for KafkaSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>> {
        self.open_anew().boxed()
    }

    fn held(&mut self, since: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>> {
        self.ask_held(since).boxed()
    }

    fn arrivals(&self, since: Timestamp) -> Option<Arrivals> {
        let (_, topic) = self.opened.as_ref()?;
        // Late bytes of a fenced producer are refused by the broker.
        (!self.config.exactly_once)
            .then(|| arrivals::since(self.question(topic, since, &Arc::default())))
    }

    fn publish<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        self.publish_batch(batch).boxed()
    }

    fn gather(&self) -> Duration {
        GATHER
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            let Some((client, _)) = self.opened.take() else {
                return Ok(());
            };
            if self.config.exactly_once {
                // One that was left in the middle would hold up its readers until it expires; where
                // none is open, that is said and is no matter.
                transaction::abandon(&client, &self.config).await;
            }
            blocking(move || {
                client
                    .producer
                    .flush(FLUSH_TIMEOUT)
                    .map_err(|error| errors::of_client("flush", &error))
            })
            .await
        }
        .boxed()
    }
}

/// Shows no option: one of them may be a password.
impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("topic", &self.config.topic)
            .field("open", &self.opened.is_some())
            .finish_non_exhaustive()
    }
}

fn not_open() -> SinkError {
    SinkError::new(ErrorClass::Transient, "the topic is not open")
}
