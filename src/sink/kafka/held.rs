//! Reads the event ids that a topic received since a moment, from the `ce_id` headers.
//!
//! Everything here blocks, and runs aside. It joins no group, commits nothing and moves nobody's
//! position. It reads to where the topic ended when it began: nothing is published meanwhile. With
//! transactions it reads what is committed, and only when no transaction is open before that end: what
//! lies behind another producer's open one may be ours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::Instant;

use super::super::{ErrorClass, SinkError};
use super::client::{Aside, Context};
use super::message::ID_HEADER;
use super::{errors, options};
use crate::config::KafkaConfig;
use crate::event::{EventId, Timestamp};

/// The longest wait for one answer about offsets.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reading is given up after so long without a record.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a wait looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(200);

/// If the broker stamps the records, its clock decides which are recent, and it may be behind ours.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// What is to be read, since when, and whether anybody still waits for it.
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
    let (consumer, mut ends) = begin(question)?;
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

/// The offset at which each partition ends.
type Ends = HashMap<i32, i64>;

/// A consumer that reads each partition that has something since then, and where each of them ends.
fn begin(question: &Question) -> Result<(Aside<BaseConsumer<Context>>, Ends), SinkError> {
    let topic = &question.config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let looking = consumer(options::reader(&question.config)?)?;
    let (assigned, ends) = find_ends(&looking, question)?;
    let reading = if question.config.exactly_once {
        let reading = consumer(options::committed_reader(&question.config)?)?;
        wait_until_stable(&reading, &ends, question)?;
        reading
    } else {
        looking
    };
    if !ends.is_empty() {
        reading.assign(&assigned).map_err(describe)?;
    }
    Ok((reading, ends))
}

/// Waits until no transaction is open before these ends: `held` must see all that is before them.
fn wait_until_stable(
    committed: &BaseConsumer<Context>,
    ends: &Ends,
    question: &Question,
) -> Result<(), SinkError> {
    let topic = &question.config.topic;
    let deadline = Instant::now() + PROGRESS_TIMEOUT;
    for (partition, end) in ends {
        // To a consumer of what is committed a partition ends before the first open transaction.
        let stable = || committed.fetch_watermarks(topic, *partition, ANSWER_TIMEOUT);
        while patiently(stable)
            .map_err(|error| errors::of_client(format!("topic {topic}"), &error))?
            .1
            < *end
        {
            if question.cancelled.load(Ordering::Relaxed) {
                return Err(failed(question, "nobody waits any more"));
            }
            if Instant::now() >= deadline {
                let what = format!(
                    "partition {partition} has an open transaction of another producer; what lies \
                     behind it cannot be seen before that ends"
                );
                return Err(failed(question, &what));
            }
            std::thread::sleep(POLL);
        }
    }
    Ok(())
}

/// Each partition that has something since then, with where that begins and where the partition ends.
fn find_ends(
    consumer: &BaseConsumer<Context>,
    question: &Question,
) -> Result<(TopicPartitionList, Ends), SinkError> {
    let topic = &question.config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let found = offsets_since(consumer, question)?;
    let mut ends = Ends::new();
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
    Ok((assigned, ends))
}

/// The first offset of each partition that was received at or after the question's moment.
pub(super) fn offsets_since(
    consumer: &impl Consumer<Context>,
    question: &Question,
) -> Result<TopicPartitionList, SinkError> {
    let topic = &question.config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let since = Offset::Offset(question.searched_from().as_millis().max(0));
    let mut times = TopicPartitionList::new();
    for partition in 0..question.partitions {
        times
            .add_partition_offset(topic, partition, since)
            .map_err(describe)?;
    }
    patiently(|| {
        let found = consumer.offsets_for_times(times.clone(), ANSWER_TIMEOUT)?;
        let elements = found.elements_for_topic(topic);
        elements
            .iter()
            .try_for_each(TopicPartitionListElem::error)?;
        drop(elements);
        Ok(found)
    })
    .map_err(describe)
}

impl Question {
    /// From which time of the topic's records on to read, so that nothing is missed.
    fn searched_from(&self) -> Timestamp {
        if self.exact {
            return self.since;
        }
        if self.since > Timestamp::now() {
            // Our clock was set back, so that nobody knows what the broker's said then.
            return Timestamp(0);
        }
        self.since.minus(CLOCK_MARGIN)
    }
}

/// Whether the topic may be read: asks where its first partition ends, and reads from there.
pub(super) fn probe(config: &KafkaConfig) -> Result<(), SinkError> {
    let topic = &config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let consumer = consumer(options::reader(config)?)?;
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
pub(super) fn patiently<T>(
    mut ask: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
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

fn consumer(options: ClientConfig) -> Result<Aside<BaseConsumer<Context>>, SinkError> {
    options
        .create_with_context(Context::default())
        .map(Aside::new)
        .map_err(|error| errors::of_client("consumer", &error))
}

pub(super) fn id_of(message: &BorrowedMessage<'_>) -> Option<EventId> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == ID_HEADER)?;
    EventId::parse(std::str::from_utf8(header.value?).ok()?)
}

fn failed(question: &Question, what: &str) -> SinkError {
    let topic = &question.config.topic;
    SinkError::new(ErrorClass::Transient, format!("topic {topic}: {what}"))
}
