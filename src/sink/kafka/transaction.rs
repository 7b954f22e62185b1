//! Publishes one batch as one transaction: a `read_committed` consumer sees all of it, once, or nothing.
//!
//! The id of the producer is fixed, so that opening it shuts out every earlier producer of that id and
//! ends what that one had begun: bytes of a dead process that arrive later are refused by the broker.
//! Nothing is reported as acknowledged before the commit is confirmed. Of one key several records may be
//! under way, other than without transactions: of a batch in which anything fails, nothing is ever seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use super::super::{ErrorClass, PublishError, SinkError};
use super::client::blocking;
use super::publish::{self, Client};
use super::{errors, topic};
use crate::config::KafkaConfig;
use crate::event::Record;

/// The longest wait for the coordinator to end what an earlier producer of this id had begun.
const INIT_TIMEOUT: Duration = Duration::from_secs(45);

/// A commit, with its repetitions, must be over before the transaction itself expires.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// One try of a commit.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// An abort, with its repetitions; after it a new producer aborts as well.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// One try of an abort. Short, because only the beginning of a try takes back records that librdkafka
/// wanted to send again, and which it will not send any more.
const ABORT_TRY_TIMEOUT: Duration = Duration::from_millis(250);

/// The end of a transaction that nobody waits for any more; closing as a whole has little time.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(2);

/// Between looks whether librdkafka has put away its delivery reports, which takes microseconds.
const PUT_AWAY_PAUSE: Duration = Duration::from_micros(50);

/// Between two tries of a commit.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Shuts out every earlier producer of this id, and waits until its last transaction has ended. Blocks.
pub(super) fn init(client: &Client, config: &KafkaConfig) -> Result<(), SinkError> {
    let deadline = Instant::now() + INIT_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Err(error) = client.producer.init_transactions(left) else {
            return Ok(());
        };
        if !is_retriable(&error) || Instant::now() >= deadline {
            return Err(describe(client, config, "init_transactions", &error));
        }
        if let Some(trouble) = client.context.trouble() {
            return Err(trouble);
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// Publishes the batch; what the brokers refuse for good is left out, and the rest tried again.
pub(super) async fn publish(
    client: &Client,
    config: &KafkaConfig,
    batch: &[Arc<Record>],
) -> Result<(), PublishError> {
    let mut refused: BTreeMap<usize, SinkError> = BTreeMap::new();
    while refused.len() < batch.len() {
        let rest: Vec<usize> = (0..batch.len())
            .filter(|index| !refused.contains_key(index))
            .collect();
        let records: Vec<_> = rest
            .iter()
            .map(|index| Arc::clone(&batch[*index]))
            .collect();
        match attempt(client, config, &records).await {
            Ok(more) if more.is_empty() => break,
            // Nothing of this attempt was or will be seen, so that the rest is published anew.
            Ok(more) => refused.extend(more.into_iter().map(|(at, error)| (rest[at], error))),
            Err(error) => return Err(PublishError::of_all(batch.len(), &error)),
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(PublishError {
        failed: refused.into_iter().collect(),
    })
}

/// One transaction. `Ok` with nothing in it: committed; with something: aborted, because these records
/// were refused. `Err`: the outcome is unknown, or it was aborted.
async fn attempt(
    client: &Client,
    config: &KafkaConfig,
    records: &[Arc<Record>],
) -> Result<Vec<(usize, SinkError)>, SinkError> {
    client
        .producer
        .begin_transaction()
        .map_err(|error| describe(client, config, "begin", &error))?;
    let failed = publish::hand_over(client, config, records).await;
    let failed = match failed {
        Ok(failed) if failed.is_empty() => return commit(client, config).await.map(|()| failed),
        failed => failed,
    };
    // For the readers' sake, who would wait for the end of this transaction. If it fails, opening anew
    // does the same.
    let aborted = abort(client, config).await;
    let failed = failed.map_err(|error| blame(client, config, error))?;
    let is_refusal = |error: &SinkError| error.class == ErrorClass::Record;
    if let Some((_, error)) = failed.iter().find(|(_, error)| !is_refusal(error)) {
        return Err(blame(client, config, error.clone()));
    }
    aborted.map(|()| failed)
}

/// Commits. Every record is acknowledged already, so that librdkafka's own flush, which polls in steps
/// of 100 ms, finds nothing to wait for.
async fn commit(client: &Client, config: &KafkaConfig) -> Result<(), SinkError> {
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    let producer = Arc::clone(&client.producer);
    let committed = blocking(move || {
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            thread::sleep(PUT_AWAY_PAUSE);
        }
        loop {
            let outcome = producer.commit_transaction(TRY_TIMEOUT);
            match &outcome {
                Err(error) if is_retriable(error) && Instant::now() < deadline => {
                    thread::sleep(RETRY_PAUSE);
                }
                Ok(()) | Err(_) => return Ok(outcome),
            }
        }
    });
    let outcome = committed.await?;
    outcome.map_err(|error| describe(client, config, "commit", &error))
}

async fn abort(client: &Client, config: &KafkaConfig) -> Result<(), SinkError> {
    let deadline = Instant::now() + ABORT_TIMEOUT;
    let producer = Arc::clone(&client.producer);
    let aborted = blocking(move || {
        loop {
            let outcome = producer.abort_transaction(ABORT_TRY_TIMEOUT);
            match &outcome {
                Err(error) if is_retriable(error) && Instant::now() < deadline => {}
                Ok(()) | Err(_) => return Ok(outcome),
            }
        }
    });
    let outcome = aborted.await?;
    outcome.map_err(|error| describe(client, config, "abort", &error))
}

/// Ends a transaction that was left in the middle, if there is one, as far as that goes quickly.
pub(super) async fn abandon(client: &Client, config: &KafkaConfig) {
    let producer = Arc::clone(&client.producer);
    let aborting = blocking(move || Ok(producer.abort_transaction(ABANDON_TIMEOUT)));
    if let Ok(Err(error)) = aborting.await {
        tracing::debug!(topic = config.topic, %error, "no transaction was ended");
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable())
}

/// What to do after an error of the transaction itself; none of them is about one record.
fn describe(client: &Client, config: &KafkaConfig, what: &str, error: &KafkaError) -> SinkError {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    if is_fence(code) {
        return fenced(client, config);
    }
    let class = match error {
        KafkaError::Transaction(error) if error.is_fatal() => ErrorClass::Fatal,
        _ => match errors::class_of(code) {
            ErrorClass::Record => ErrorClass::Transient,
            class => class,
        },
    };
    let message = format!("topic {}: transaction: {what}: {error}", config.topic);
    blame(client, config, SinkError::new(class, message))
}

/// The error, or what has broken the producer before and so is the reason of all that follows.
fn blame(client: &Client, config: &KafkaConfig, error: SinkError) -> SinkError {
    match client.producer.client().fatal_error() {
        Some((code, _)) if is_fence(code) => fenced(client, config),
        Some((code, reason)) => {
            let message = format!(
                "topic {} at {}: the producer is broken: {code}: {reason}",
                config.topic,
                topic::at(config)
            );
            SinkError::new(ErrorClass::Fatal, message)
        }
        None => error,
    }
}

const fn is_fence(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

/// Another producer has this id now, so that it is for an operator to say which of them is right.
fn fenced(client: &Client, config: &KafkaConfig) -> SinkError {
    client.context.fence();
    let id = config.transactional_id().unwrap_or_default();
    SinkError::new(
        ErrorClass::Configuration,
        format!(
            "topic {}: another producer has taken the transactional id {id}: a second bridge with this \
             id (give each its own `transactional_id`, or stop one), or the broker after this process \
             stood still",
            config.topic
        ),
    )
}
