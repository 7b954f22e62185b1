//! Publishes notices to the topics beside the events' own: `<topic>.control` and `<topic>.dead`.
//!
//! By a producer of its own that lives for one call, so that it can neither disturb the events nor share
//! a transaction with them. Notices are rare.

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::timeout;

use super::super::{ErrorClass, SinkError};
use super::client::{Aside, Context, blocking};
use super::{errors, message, options, topic};
use crate::config::KafkaConfig;
use crate::notice::{Channel, Notice};

/// librdkafka gives a notice up after this time; it is tried again later.
const EXPIRY_MS: &str = "10000";

/// How often the wait looks by itself.
const TICK: Duration = Duration::from_millis(250);

/// Whether there is a topic for this channel.
pub(crate) async fn look(config: &KafkaConfig, channel: Channel) -> Result<(), SinkError> {
    let config = beside(config, channel);
    connect(&config, Context::default()).await.map(drop)
}

fn beside(config: &KafkaConfig, channel: Channel) -> KafkaConfig {
    let mut config = config.clone();
    config.topic = format!("{}.{}", config.topic, channel.as_str());
    // Under the id of the events' producer it would shut that one out.
    config.exactly_once = false;
    config
}

/// A producer that has found its topic.
async fn connect(
    config: &KafkaConfig,
    context: Context,
) -> Result<Aside<ThreadedProducer<Context>>, SinkError> {
    let config = config.clone();
    blocking(move || {
        let mut options = options::producer(&config, options::BATCH_BYTES)?;
        options.set("message.timeout.ms", EXPIRY_MS);
        let producer: ThreadedProducer<Context> = options
            .create_with_context(context)
            .map_err(|error| errors::of_client("producer", &error))?;
        let producer = Aside::new(producer);
        topic::find(producer.client(), &config)?;
        Ok(producer)
    })
    .await
}

/// Publishes notices of one channel in order; resolves when each is acknowledged.
pub(crate) async fn notify(config: &KafkaConfig, notices: &[Notice]) -> Result<(), SinkError> {
    let Some(channel) = notices.first().map(|notice| notice.channel) else {
        return Ok(());
    };
    let config = beside(config, channel);
    let context = Context::default();
    let producer = connect(&config, context.clone()).await?;
    context.begin(notices.len(), false);
    for (index, notice) in notices.iter().enumerate() {
        let message = BaseRecord::with_opaque_to(&config.topic, index)
            // One key a kind, so that one partition keeps the order.
            .key(&notice.kind)
            .payload(&notice.body)
            .timestamp(notice.at.as_millis())
            .headers(message::headers(&notice.attributes()));
        if let Err((error, _)) = producer.send(message) {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            context.settle(index, Some(code));
        }
    }
    while !context.deliveries().is_complete() {
        // Woken or not, it looks again; each has its expiry.
        timeout(TICK, context.changed()).await.ok();
    }
    let deliveries = context.deliveries();
    let failed = deliveries.failed.iter().map(|(_, code)| *code);
    // What may pass comes first: then all of them are tried again.
    let worst = failed.max_by_key(|code| match errors::class_of(*code) {
        ErrorClass::Record => 0,
        ErrorClass::Configuration => 1,
        ErrorClass::Transient | ErrorClass::Fatal => 2,
    });
    worst.map_or(Ok(()), |code| Err(topic::refused(&config, code)))
}
