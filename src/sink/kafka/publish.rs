//! Publishes one batch: hands every record to librdkafka in order, then waits for all delivery reports.
//!
//! It never retries a record that was taken, never has two of one key under way (but in a transaction), so
//! that none overtakes another, and never decides that a long wait is over: `deliver` bounds it. Only
//! refused credentials end it early, because librdkafka would try them for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::{Producer, PurgeConfig, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::{Instant, sleep, timeout};

use super::super::{ErrorClass, PublishError, SinkError};
use super::client::{Aside, Context, blocking};
use super::errors;
use super::message::{self, wire_bytes};
use super::topic::{self, at};
use crate::config::KafkaConfig;
use crate::event::Record;

/// How often a wait looks at the client's health.
const TICK: Duration = Duration::from_millis(250);

/// A pause when librdkafka's queue is full, which is when its bound in memory is reached.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Refused credentials count when nothing was acknowledged for so long.
const TROUBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// After a stop, what is under way may still be acknowledged for so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer with its accounting.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) producer: Arc<Aside<ThreadedProducer<Context>>>,
    pub(super) context: Context,
    /// The `batch.size` that it was given.
    pub(super) batch_bytes: usize,
}

/// Publishes the batch; resolves when the outcome of each record is known or given up.
pub(super) async fn publish(
    client: &Client,
    config: &KafkaConfig,
    batch: &[Arc<Record>],
) -> Result<(), PublishError> {
    client.context.begin(batch.len(), false);
    let stop = send_and_wait(client, config, batch).await;
    if stop.is_some() || client.context.deliveries().must_stop() {
        drain(client).await;
    }
    outcome(client, config, batch, stop)
}

/// Hands over the records within a transaction, and waits for their outcomes or the first failure: the
/// records that failed, each with its reason, leaving out those that only followed from others.
pub(super) async fn hand_over(
    client: &Client,
    config: &KafkaConfig,
    batch: &[Arc<Record>],
) -> Result<Vec<(usize, SinkError)>, SinkError> {
    client.context.begin(batch.len(), true);
    if let Some(stop) = send_and_wait(client, config, batch).await {
        return Err(stop);
    }
    let failed = client.context.deliveries().failed.clone();
    let follows = |code: Code| matches!(code, Code::State | Code::PurgeQueue | Code::PurgeInflight);
    let first: Vec<_> = failed.iter().filter(|(_, code)| !follows(*code)).collect();
    let told = if first.is_empty() {
        failed.iter().collect()
    } else {
        first
    };
    let describe = |(index, code): &(usize, Code)| {
        (*index, describe(client, config, batch.get(*index), *code))
    };
    Ok(told.into_iter().map(describe).collect())
}

/// `Some` says what ended it but the failure of a record.
async fn send_and_wait(
    client: &Client,
    config: &KafkaConfig,
    batch: &[Arc<Record>],
) -> Option<SinkError> {
    match send_all(client, config, batch).await {
        Ok(()) => wait_for_all(client, config).await,
        Err(stop) => Some(stop),
    }
}

/// Hands over the records in order, each only when the one before of its key has its outcome: brokers
/// may refuse one batch and take the next, and librdkafka keeps several on their way. Ends at once when
/// one failed that no other may overtake; `Err` says what else ended it. In a transaction none waits for
/// another: nothing of it is seen if one fails.
async fn send_all(
    client: &Client,
    config: &KafkaConfig,
    batch: &[Arc<Record>],
) -> Result<(), SinkError> {
    let mut health = Health::new();
    let mut latest: HashMap<&str, usize> = HashMap::with_capacity(batch.len());
    for (index, record) in batch.iter().enumerate() {
        if !config.exactly_once
            && let Some(before) = latest.insert(&record.key, index)
        {
            wait_for(client, config, before, &mut health).await?;
        }
        loop {
            if client.context.deliveries().must_stop() {
                return Ok(());
            }
            match message::send(&client.producer, &config.topic, index, record) {
                Ok(()) => break,
                Err(Code::QueueFull) => {
                    sleep(ROOM_PAUSE).await;
                    health.check(client, config)?;
                }
                Err(code) => {
                    client.context.settle(index, Some(code));
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Waits until the outcome of one record is known, or nothing more may be sent.
async fn wait_for(
    client: &Client,
    config: &KafkaConfig,
    index: usize,
    health: &mut Health,
) -> Result<(), SinkError> {
    loop {
        {
            let mut deliveries = client.context.deliveries();
            if deliveries.must_stop() || deliveries.is_settled_or_await(index) {
                return Ok(());
            }
        }
        if timeout(TICK, client.context.changed()).await.is_err() {
            health.check(client, config)?;
        }
    }
}

/// Waits until every outcome is known, or a failure or the client's health ends it.
async fn wait_for_all(client: &Client, config: &KafkaConfig) -> Option<SinkError> {
    let mut health = Health::new();
    loop {
        {
            let deliveries = client.context.deliveries();
            if deliveries.is_complete() || deliveries.must_stop() {
                return None;
            }
        }
        if timeout(TICK, client.context.changed()).await.is_err()
            && let Err(stop) = health.check(client, config)
        {
            return Some(stop);
        }
    }
}

/// Whether it makes sense to go on waiting.
struct Health {
    acknowledged: usize,
    since: Instant,
}

impl Health {
    fn new() -> Self {
        Self {
            acknowledged: 0,
            since: Instant::now(),
        }
    }

    fn check(&mut self, client: &Client, config: &KafkaConfig) -> Result<(), SinkError> {
        if let Some(fatal) = fatal(client, config) {
            return Err(fatal);
        }
        let acknowledged = client.context.deliveries().acknowledged;
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.since = Instant::now();
            client.context.forget_errors();
        }
        match client.context.trouble() {
            Some(trouble) if self.since.elapsed() >= TROUBLE_TIMEOUT => {
                Err(topic::turned_away(config, &trouble))
            }
            _ => Ok(()),
        }
    }
}

fn fatal(client: &Client, config: &KafkaConfig) -> Option<SinkError> {
    let (code, reason) = client.producer.client().fatal_error()?;
    // librdkafka calls a refused right fatal too, but a new producer would be refused like this one.
    let (class, what) = match errors::class_of(code) {
        ErrorClass::Configuration => (ErrorClass::Configuration, "refused"),
        ErrorClass::Record | ErrorClass::Transient | ErrorClass::Fatal => {
            (ErrorClass::Fatal, "broken")
        }
    };
    let message = format!(
        "topic {} at {}: the producer is {what}: {code}: {reason}",
        config.topic,
        at(config)
    );
    Some(SinkError::new(class, message))
}

/// Takes back what is not on its way yet, and waits a while for what is.
async fn drain(client: &Client) {
    purge(client, PurgeConfig::default().queue()).await;
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while !client.context.deliveries().is_complete() && Instant::now() < deadline {
        if client.producer.in_flight_count() == 0 {
            break; // the rest was never handed over
        }
        // Woken or not, it looks again.
        timeout(TICK, client.context.changed()).await.ok();
    }
    purge(client, PurgeConfig::default().queue().inflight()).await;
}

/// Purging waits for librdkafka's own threads.
pub(super) async fn purge(client: &Client, what: PurgeConfig) {
    let producer = Arc::clone(&client.producer);
    let purged = blocking(move || {
        producer.purge(what);
        Ok(())
    });
    if let Err(error) = purged.await {
        tracing::error!(%error, "cannot purge");
    }
}

/// The records that are not known to be durable, each with its reason.
fn outcome(
    client: &Client,
    config: &KafkaConfig,
    batch: &[Arc<Record>],
    stop: Option<SinkError>,
) -> Result<(), PublishError> {
    let deliveries = client.context.deliveries();
    let mut failed: Vec<(usize, SinkError)> = deliveries
        .failed
        .iter()
        .map(|(index, code)| (*index, describe(client, config, batch.get(*index), *code)))
        .collect();
    // What was purged was stopped by the first failure that was none of its own.
    let purged = |error: &SinkError| error.class == ErrorClass::Transient;
    let first = failed.iter().map(|(_, error)| error);
    let cause = stop
        .or_else(|| fatal(client, config))
        .or_else(|| {
            first
                .clone()
                .find(|error| error.class != ErrorClass::Record && !purged(error))
                .cloned()
        })
        .or_else(|| {
            first
                .clone()
                .find(|error| error.class != ErrorClass::Record)
                .cloned()
        });
    if let Some(cause) = cause {
        for (_, error) in failed.iter_mut().filter(|(_, error)| purged(error)) {
            *error = cause.clone();
        }
        failed.extend(deliveries.pending().map(|index| (index, cause.clone())));
    }
    drop(deliveries);
    failed.sort_by_key(|(index, _)| *index);
    if failed.is_empty() {
        Ok(())
    } else {
        Err(PublishError { failed })
    }
}

fn describe(
    client: &Client,
    config: &KafkaConfig,
    record: Option<&Arc<Record>>,
    code: Code,
) -> SinkError {
    if code == Code::Fatal
        && let Some(reason) = fatal(client, config)
    {
        return reason;
    }
    let refused_for_size = matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge);
    let shares_a_batch = record.is_some_and(|record| wire_bytes(record) <= client.batch_bytes);
    if refused_for_size && shares_a_batch {
        // The broker refused a whole batch, so this record need not be the one that is too large.
        return SinkError::new(
            ErrorClass::Configuration,
            format!(
                "topic {}: {code}: it refuses batches of {} bytes; raise max.message.bytes of the topic, let this \
                 sink's user describe its settings, or set a smaller `batch.size` in `options`",
                config.topic, client.batch_bytes
            ),
        );
    }
    topic::refused(config, code)
}
