//! Follows a topic from a moment on and tells every event id that arrives, as often as it does.
//!
//! It has a consumer of its own, apart from the producer and from `held`; it joins no group and commits
//! nothing. It never ends by itself: an error that passes is told, and then it goes on where it was.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::unfold;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::super::{Arrivals, ErrorClass, SinkError};
use super::client::{Aside, Context, blocking};
use super::held::{self, Question};
use super::{errors, options};
use crate::event::EventId;

/// What librdkafka may fetch ahead: little, because nobody waits for the answer.
const QUEUED_KBYTES: &str = "2048";

/// How long one fetch may wait for something to arrive.
const FETCH_WAIT: Duration = Duration::from_millis(200);

type Reader = Aside<StreamConsumer<Context>>;

/// The ids since the question's moment, without end.
pub(super) fn since(question: Question) -> Arrivals {
    let question = Arc::new(question);
    unfold((question, None), |(question, reader)| async move {
        let reader: Reader = match reader {
            Some(reader) => reader,
            None => {
                let asked = Arc::clone(&question);
                match blocking(move || begin(&asked)).await {
                    Ok(reader) => reader,
                    Err(error) => return Some((Err(error), (question, None))),
                }
            }
        };
        let next = next(&reader, &question.config.topic).await;
        Some((next, (question, Some(reader))))
    })
    .boxed()
}

async fn next(reader: &Reader, topic: &str) -> Result<EventId, SinkError> {
    loop {
        match reader.recv().await {
            Ok(message) => {
                if let Some(id) = held::id_of(&message) {
                    return Ok(id);
                }
            }
            Err(KafkaError::PartitionEOF(_)) => {}
            Err(error) => {
                let error = errors::of_client(format!("topic {topic}"), &error);
                // What librdkafka helps itself over is told too: who watches waits a little then.
                let class = match error.class {
                    ErrorClass::Record => ErrorClass::Transient,
                    class => class,
                };
                return Err(SinkError::new(class, error.message));
            }
        }
    }
}

fn begin(question: &Question) -> Result<Reader, SinkError> {
    let topic = &question.config.topic;
    let describe = |error: KafkaError| errors::of_client(format!("topic {topic}"), &error);
    let mut options = options::reader(&question.config)?;
    options.set("enable.partition.eof", "false");
    options.set("queued.max.messages.kbytes", QUEUED_KBYTES);
    options.set("fetch.wait.max.ms", FETCH_WAIT.as_millis().to_string());
    let reader: StreamConsumer<Context> = options
        .create_with_context(Context::default())
        .map_err(|error| errors::of_client("consumer", &error))?;
    let reader = Aside::new(reader);
    // First the ends: what arrives before the times are asked for is then found by one or the other.
    let mut starts = HashMap::new();
    for partition in 0..question.partitions {
        let watermarks = || reader.fetch_watermarks(topic, partition, held::ANSWER_TIMEOUT);
        starts.insert(partition, held::patiently(watermarks).map_err(describe)?.1);
    }
    for element in held::offsets_since(&*reader, question)?.elements_for_topic(topic) {
        if let Offset::Offset(start) = element.offset() {
            starts.insert(element.partition(), start);
        }
    }
    let mut assigned = TopicPartitionList::new();
    for (partition, start) in starts {
        assigned
            .add_partition_offset(topic, partition, Offset::Offset(start))
            .map_err(describe)?;
    }
    reader.assign(&assigned).map_err(describe)?;
    Ok(reader)
}
