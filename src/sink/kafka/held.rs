//! Reads the event ids that a topic received since a moment, from the `ce_id` headers.
//!
//! Everything here blocks, and runs aside. It joins no group, commits nothing and moves nobody's
//! position. It reads to where the topic ended when it began: nothing is published meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::super::{ErrorClass, SinkError};
use super::client::{Aside, Context};
use super::message::ID_HEADER;
use super::{errors, options};
use crate::config::KafkaConfig;
use crate::event::{EventId, Timestamp};

/// The longest wait for one answer about offsets.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reading is given up after so long without a record.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a wait looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(200);

/// If the broker stamps the records, its clock decides which are recent, and it may be behind ours.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// What is to be read, and whether anybody still waits for it.
pub(super) struct Question {
    pub(super) config: KafkaConfig,
    pub(super) partitions: i32,
    pub(super) since: Timestamp,
    /// Whether the records certainly carry our own time.
    pub(super) exact: bool,
    pub(super) cancelled: Arc<AtomicBool>,
}

/// The ids received at or after `since`; with a margin there may be some older ones among them.
pub(super) fn ids_since(question: &Question) -> Result<HashSet<EventId>, SinkError> {
    let consumer = consumer(&question.config)?;
    let mut ends = find_ends(&consumer, question)?;
    let mut ids = HashSet::new();
    let mut deadline = Instant::now() + PROGRESS_TIMEOUT;
    while !ends.is_empty() {
        if question.cancelled.load(Ordering::Relaxed) {
            return Err(failed(question, "nobody waits any more"));
        }
        if Instant::now() >= deadline {
            let open = ends.len();
            return Err(failed(
                question,
                &format!(
                    "reading stands still after {} ids, {open} partition(s) to go",
                    ids.len()
                ),
            ));
        }
        match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => {
                let reached = message.offset() + 1;
                let partition = message.partition();
                if ends.get(&partition).is_some_and(|end| reached >= *end) {
                    ends.remove(&partition);
                }
                ids.extend(id_of(&message));
            }
            // The end may be a control record or a hole, so that no message ever has the last offset.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) => {
                pass(&question.config, &error)?;
                continue;
            }
        }
        deadline = Instant::now() + PROGRESS_TIMEOUT;
    }
    Ok(ids)
}

/// Assigns each partition that has something since then, and tells where each of them ends.
fn find_ends(
    consumer: &BaseConsumer<Context>,
    question: &Question,
) -> Result<HashMap<i32, i64>, SinkError> {
    let topic = &question.config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let since = if question.exact {
        question.since
    } else {
        question.since.minus(CLOCK_MARGIN)
    };
    let mut times = TopicPartitionList::new();
    for partition in 0..question.partitions {
        let since = Offset::Offset(since.as_millis().max(0));
        times
            .add_partition_offset(topic, partition, since)
            .map_err(describe)?;
    }
    let found = patiently(|| {
        let found = consumer.offsets_for_times(times.clone(), ANSWER_TIMEOUT)?;
        let elements = found.elements_for_topic(topic);
        elements
            .iter()
            .try_for_each(TopicPartitionListElem::error)?;
        drop(elements);
        Ok(found)
    })
    .map_err(describe)?;
    let mut ends = HashMap::new();
    let mut assigned = TopicPartitionList::new();
    for element in found.elements_for_topic(topic) {
        // Anything else means that nothing was received since then.
        let Offset::Offset(start) = element.offset() else {
            continue;
        };
        let partition = element.partition();
        let watermarks = || consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT);
        let (low, high) = patiently(watermarks).map_err(describe)?;
        let start = start.max(low);
        if start < high {
            ends.insert(partition, high);
            assigned
                .add_partition_offset(topic, partition, Offset::Offset(start))
                .map_err(describe)?;
        }
    }
    if !ends.is_empty() {
        consumer.assign(&assigned).map_err(describe)?;
    }
    Ok(ends)
}

/// Whether the topic may be read: asks where its first partition ends, and reads from there.
pub(super) fn probe(config: &KafkaConfig) -> Result<(), SinkError> {
    let topic = &config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let consumer = consumer(config)?;
    let watermarks = || consumer.fetch_watermarks(topic, 0, ANSWER_TIMEOUT);
    let (_, high) = patiently(watermarks).map_err(describe)?;
    let mut assigned = TopicPartitionList::new();
    assigned
        .add_partition_offset(topic, 0, Offset::Offset(high))
        .map_err(describe)?;
    consumer.assign(&assigned).map_err(describe)?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while Instant::now() < deadline {
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) => pass(config, &error)?,
        }
    }
    let message = format!("topic {topic}: no answer to a read within {ANSWER_TIMEOUT:?}");
    Err(SinkError::new(ErrorClass::Transient, message))
}

/// Asks again for a while after an error that passes, such as an election of leaders.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        if errors::class_of(code) != ErrorClass::Transient || Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(POLL);
    }
}

/// Lets an error pass over which librdkafka helps itself; returns one that ends the reading.
fn pass(config: &KafkaConfig, error: &KafkaError) -> Result<(), SinkError> {
    // The group is only a name, so that the right to use it is not needed.
    if error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) {
        return Ok(());
    }
    let error = errors::of_client(format!("topic {}", config.topic), error);
    match error.class {
        ErrorClass::Transient | ErrorClass::Record => Ok(()),
        ErrorClass::Configuration | ErrorClass::Fatal => Err(error),
    }
}

fn consumer(config: &KafkaConfig) -> Result<Aside<BaseConsumer<Context>>, SinkError> {
    options::reader(config)?
        .create_with_context(Context::default())
        .map(Aside::new)
        .map_err(|error| errors::of_client("consumer", &error))
}

fn id_of(message: &BorrowedMessage<'_>) -> Option<EventId> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == ID_HEADER)?;
    EventId::parse(std::str::from_utf8(header.value?).ok()?)
}

fn failed(question: &Question, what: &str) -> SinkError {
    let topic = &question.config.topic;
    SinkError::new(ErrorClass::Transient, format!("topic {topic}: {what}"))
}
