//! For the demo and for tests only: reads a stream as any consumer would, and creates one.
//!
//! The bridge itself never uses it: it creates no stream and reads no bodies.

use std::fmt;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{DeliverPolicy, pull::Ordered, pull::OrderedConfig};
use async_nats::jetstream::{self, stream};
use async_nats::{ConnectOptions, ServerAddr};
use futures_util::StreamExt;

use super::super::{ErrorClass, SinkError};

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// With the oldest message that the stream holds.
    Beginning,
    /// With the next message that it receives.
    Now,
}

/// One message, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailMessage {
    /// Its place in the stream.
    pub sequence: u64,
    /// The subject, with the token of the key at its end.
    pub subject: String,
    /// The message id: the event's id.
    pub message_id: Option<String>,
    /// All headers, in the order of their names.
    pub headers: Vec<(String, String)>,
    /// The record.
    pub body: Vec<u8>,
    /// How many messages are behind this one.
    pub pending: u64,
}

/// Reads one stream in its order.
pub struct TailReader {
    messages: Ordered,
}

impl fmt::Debug for TailReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TailReader").finish_non_exhaustive()
    }
}

impl TailReader {
    /// Begins to read what comes to subjects that match `filter`.
    ///
    /// # Errors
    /// When the server cannot be reached or the stream is missing.
    pub async fn open(
        url: &str,
        stream: &str,
        filter: &str,
        from: TailFrom,
    ) -> Result<Self, SinkError> {
        let stream = context(url)
            .await?
            .get_stream(stream)
            .await
            .map_err(failed)?;
        let config = OrderedConfig {
            filter_subject: filter.to_owned(),
            deliver_policy: match from {
                TailFrom::Beginning => DeliverPolicy::All,
                TailFrom::Now => DeliverPolicy::New,
            },
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(failed)?;
        let messages = consumer.messages().await.map_err(failed)?;
        Ok(Self { messages })
    }

    /// The next message, as soon as there is one.
    ///
    /// # Errors
    /// When reading cannot go on.
    pub async fn next(&mut self) -> Result<TailMessage, SinkError> {
        let message = self.messages.next().await;
        let message = message
            .ok_or_else(|| failed("the stream ended"))?
            .map_err(failed)?;
        let info = message.info().map_err(failed)?;
        let mut headers: Vec<(String, String)> = message
            .headers
            .iter()
            .flat_map(|headers| headers.iter())
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        headers.sort();
        let message_id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(NATS_MESSAGE_ID));
        Ok(TailMessage {
            sequence: info.stream_sequence,
            subject: message.subject.to_string(),
            message_id: message_id.map(ToString::to_string),
            headers,
            body: message.payload.to_vec(),
            pending: info.pending,
        })
    }
}

/// Creates the stream for `<prefix>.>` and `<prefix>_control.>` if it is missing.
///
/// # Errors
/// When the server cannot be reached, or has another stream with that name or those subjects.
pub async fn ensure_stream(url: &str, stream: &str, prefix: &str) -> Result<(), SinkError> {
    let config = stream::Config {
        name: stream.to_owned(),
        subjects: vec![format!("{prefix}.>"), format!("{prefix}_control.>")],
        ..stream::Config::default()
    };
    let context = context(url).await?;
    context
        .get_or_create_stream(config)
        .await
        .map(drop)
        .map_err(failed)
}

/// The client library itself does not use the credentials of an address.
async fn context(url: &str) -> Result<jetstream::Context, SinkError> {
    let address: ServerAddr = url.parse().map_err(failed)?;
    let options = match (address.username(), address.password()) {
        (Some(user), Some(password)) => {
            ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        }
        _ => ConnectOptions::new(),
    };
    let client = options.connect(address).await.map_err(failed)?;
    Ok(jetstream::new(client))
}

fn failed(error: impl fmt::Display) -> SinkError {
    SinkError::new(ErrorClass::Transient, error)
}
