//! Follows a stream from a moment on and tells every event id that arrives, as often as it does.
//!
//! It has a connection of its own: one that it shared with the publisher would keep the publisher's
//! unsent messages alive after that was given up. The consumer is ephemeral, headers only, and never
//! acknowledges. It never ends by itself: after an error it goes on behind the last message it saw.

use async_nats::jetstream::consumer::{DeliverPolicy, pull::Ordered};
use futures_util::StreamExt;
use futures_util::stream::unfold;

use super::super::{Arrivals, SinkError};
use super::connect::{self, Connection};
use super::held;
use crate::config::NatsConfig;
use crate::event::{EventId, Timestamp};

/// Where it stands.
struct Follower {
    config: NatsConfig,
    since: Timestamp,
    /// The sequence of the last message that was seen.
    last: Option<u64>,
    /// The connection lives as long as the messages.
    open: Option<(Connection, Ordered)>,
}

/// The ids since a moment, without end.
pub(super) fn since(config: &NatsConfig, since: Timestamp) -> Arrivals {
    let follower = Follower {
        config: config.clone(),
        since,
        last: None,
        open: None,
    };
    unfold(follower, |mut follower| async move {
        let next = follower.next().await;
        if next.is_err() {
            follower.open = None;
        }
        Some((next, follower))
    })
    .boxed()
}

impl Follower {
    async fn next(&mut self) -> Result<EventId, SinkError> {
        let (_connection, messages) = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.config, self.since, self.last).await?),
        };
        let failed =
            |error: &dyn std::fmt::Display| held::transient(&self.config, &error.to_string());
        loop {
            let message = messages
                .next()
                .await
                .ok_or_else(|| failed(&"reading ended early"))?
                .map_err(|error| failed(&error))?;
            let info = message.info().map_err(|error| failed(&error))?;
            self.last = Some(info.stream_sequence);
            if let Some(id) = held::id_of(&message) {
                return Ok(id);
            }
        }
    }
}

async fn open(
    config: &NatsConfig,
    since: Timestamp,
    last: Option<u64>,
) -> Result<(Connection, Ordered), SinkError> {
    let failed = |error: &dyn std::fmt::Display| held::transient(config, &error.to_string());
    let connection = connect::connect(config).await?;
    let stream = connection
        .context
        .get_stream(&config.stream)
        .await
        .map_err(|error| failed(&error))?;
    let from = match last {
        Some(last) => DeliverPolicy::ByStartSequence {
            start_sequence: last + 1,
        },
        None => DeliverPolicy::ByStartTime {
            start_time: held::searched_from(config, since)?,
        },
    };
    let consumer = held::create(&connection, &stream, config, from).await?;
    let messages = consumer.messages().await.map_err(|error| failed(&error))?;
    Ok((connection, messages))
}
