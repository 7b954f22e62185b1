//! Reads the message ids that a stream received since a moment, without the bodies.
//!
//! The consumer is ephemeral and in memory; it never acknowledges and never moves anybody's position.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::Message;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{Consumer, DeliverPolicy, ReplayPolicy, pull::OrderedConfig};
use async_nats::jetstream::stream::{ConsumerErrorKind, Stream};
use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::super::{ErrorClass, SinkError};
use super::connect::{ANSWER_TIMEOUT, Connection};
use super::errors;
use crate::config::NatsConfig;
use crate::event::{EventId, Timestamp};

/// The stream's own clock orders its messages, and it may be behind ours.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// Reading is given up after so long without a message.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The ids received at or after `since`; by the margin there may be some older ones among them.
pub(super) async fn ids_since(
    connection: &Connection,
    stream: &mut Stream,
    config: &NatsConfig,
    since: Timestamp,
) -> Result<HashSet<EventId>, SinkError> {
    let last = timeout(ANSWER_TIMEOUT, stream.info())
        .await
        .map_err(|_| transient(config, "no answer to a question about the stream"))?
        .map_err(|error| transient(config, &error.to_string()))?
        .state
        .last_sequence;
    let start_time = searched_from(config, since)?;
    let from = DeliverPolicy::ByStartTime { start_time };
    let consumer = create(connection, stream, config, from).await.map_err(|refusal| {
        SinkError::new(
            refusal.class,
            format!(
                "stream {} cannot be read ({}); allow this sink's user to create and read a consumer",
                config.stream, refusal.message
            ),
        )
    })?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(HashSet::new());
    }
    let name = consumer.cached_info().name.clone();
    let ids = read(consumer, config, last).await;
    // If this fails, the server removes the consumer half a minute later by itself.
    if let Err(error) = stream.delete_consumer(&name).await {
        tracing::debug!(%error, "consumer not deleted");
    }
    ids
}

/// From which time of the stream on to read, so that nothing is missed.
pub(super) fn searched_from(
    config: &NatsConfig,
    since: Timestamp,
) -> Result<OffsetDateTime, SinkError> {
    let start = if since > Timestamp::now() {
        // Our clock was set back, so that nobody knows what the stream's said then.
        Timestamp(0)
    } else {
        since.minus(CLOCK_MARGIN)
    };
    OffsetDateTime::from_unix_timestamp_nanos(start.0.max(0).into())
        .map_err(|error| transient(config, &error.to_string()))
}

async fn read(
    consumer: Consumer<OrderedConfig>,
    config: &NatsConfig,
    last: u64,
) -> Result<HashSet<EventId>, SinkError> {
    let failed = |error: &dyn std::error::Error| transient(config, &error.to_string());
    let mut messages = consumer.messages().await.map_err(|error| failed(&error))?;
    let mut ids = HashSet::new();
    loop {
        let message = timeout(PROGRESS_TIMEOUT, messages.next())
            .await
            .map_err(|_| {
                transient(
                    config,
                    &format!("reading stands still after {} ids", ids.len()),
                )
            })?
            .ok_or_else(|| transient(config, "reading ended early"))?
            .map_err(|error| failed(&error))?;
        ids.extend(id_of(&message));
        let info = message
            .info()
            .map_err(|error| transient(config, &error.to_string()))?;
        // What came after the question is none of ours: nothing is published meanwhile.
        if info.pending == 0 || info.stream_sequence >= last {
            return Ok(ids);
        }
    }
}

/// The event's id, if the message is one of ours.
pub(super) fn id_of(message: &Message) -> Option<EventId> {
    let id = message.headers.as_ref()?.get(NATS_MESSAGE_ID)?;
    EventId::parse(id.as_str())
}

/// Whether the stream may be read, tried with a consumer that is deleted at once.
pub(super) async fn probe(
    connection: &Connection,
    stream: &Stream,
    config: &NatsConfig,
) -> Result<(), String> {
    let now = DeliverPolicy::ByStartTime {
        start_time: OffsetDateTime::now_utc(),
    };
    let consumer = create(connection, stream, config, now)
        .await
        .map_err(|error| error.message)?;
    let name = consumer.cached_info().name.clone();
    if let Err(error) = stream.delete_consumer(&name).await {
        tracing::debug!(%error, "consumer not deleted");
    }
    Ok(())
}

/// A consumer of the message ids from there on.
pub(super) async fn create(
    connection: &Connection,
    stream: &Stream,
    config: &NatsConfig,
    from: DeliverPolicy,
) -> Result<Consumer<OrderedConfig>, SinkError> {
    let wanted = OrderedConfig {
        description: Some("onboarding-bridge: which events are held already".to_owned()),
        filter_subject: format!("{}.*", config.subject_prefix),
        headers_only: true,
        replay_policy: ReplayPolicy::Instant,
        deliver_policy: from,
        ..OrderedConfig::default()
    };
    connection.watch.forget();
    let answer = tokio::select! {
        answer = stream.create_consumer(wanted) => answer,
        refused = connection.watch.request_refused() => {
            return Err(SinkError::new(ErrorClass::Configuration, refused));
        }
    };
    answer.map_err(|error| {
        let class = match error.kind() {
            ConsumerErrorKind::JetStream(answer) => match errors::class_of(answer.error_code()) {
                // The stream's own rules forbid it (a work queue, no more consumers).
                ErrorClass::Transient if answer.code() < 500 => ErrorClass::Configuration,
                class => class,
            },
            _ => ErrorClass::Transient,
        };
        SinkError::new(class, error)
    })
}

pub(super) fn transient(config: &NatsConfig, what: &str) -> SinkError {
    SinkError::new(
        ErrorClass::Transient,
        format!("stream {}: {what}", config.stream),
    )
}
