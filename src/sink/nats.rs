//! The NATS sink: one JetStream message a record, to `<subject_prefix>.<token of the key>`.
//!
//! A record counts once its PubAck is there; `duplicate: true` is success, for the stream then holds
//! the event by its message id. It never creates or changes a stream, never retries, and never has two
//! records of one key under way. This is the only place, with its submodules, that knows async-nats.

mod answers;
mod arrivals;
mod connect;
mod errors;
mod headers;
mod held;
mod inspect;
pub(super) mod notify;
mod publish;
pub mod subject;
pub mod tail;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Arrivals, Destination, ErrorClass, ErrorRow, PublishError, Sink, SinkError};
use crate::config::NatsConfig;
use crate::event::{EventId, Record, Timestamp};
use connect::Connection;

/// The longest `open`: every address once, and a few questions about the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(45);

/// The longest wait for what is still in the write buffer when the sink is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is done after which answer of a server, for docs/errors.md.
pub fn error_table() -> Vec<ErrorRow> {
    errors::rows()
}

/// Publishes to one JetStream stream.
pub struct NatsSink {
    config: NatsConfig,
    opened: Option<(Connection, Stream)>,
    must_hold: bool,
}

impl NatsSink {
    /// A sink for the stream that the configuration names; it connects only when it is opened.
    ///
    /// # Errors
    /// [`ErrorClass::Configuration`] when an address or a secret file cannot be used.
    pub fn new(config: &NatsConfig) -> Result<Self, SinkError> {
        connect::options(config)?;
        Ok(Self {
            config: config.clone(),
            opened: None,
            must_hold: false,
        })
    }

    async fn open_anew(&mut self) -> Result<Destination, SinkError> {
        // The old client goes first; what it still held in its buffer has a message id, so the stream
        // stores it once, whichever client brings it.
        self.opened = None;
        let connection = connect::connect(&self.config).await?;
        let (stream, destination) = inspect::inspect(&connection, &self.config).await?;
        self.opened = Some((connection, stream));
        Ok(destination)
    }
}

impl Sink for NatsSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>> {
        async move {
            let servers = connect::servers(&self.config);
            timeout(OPEN_TIMEOUT, self.open_anew())
                .await
                .unwrap_or_else(|_| {
                    Err(SinkError::new(
                        ErrorClass::Transient,
                        format!("{servers} did not answer within {OPEN_TIMEOUT:?}"),
                    ))
                })
        }
        .boxed()
    }

    fn held(&mut self, since: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>> {
        async move {
            let (connection, stream) = self.opened.as_mut().ok_or_else(not_open)?;
            held::ids_since(connection, stream, &self.config, since).await
        }
        .boxed()
    }

    fn arrivals(&self, since: Timestamp) -> Option<Arrivals> {
        Some(arrivals::since(&self.config, since))
    }

    fn publish<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            match &mut self.opened {
                Some((connection, stream)) => {
                    let last = stream.cached_info().state.last_sequence;
                    let gone = self.must_hold.then_some(last);
                    publish::publish(connection, &self.config, batch, gone).await
                }
                None => Err(PublishError::of_all(batch.len(), &not_open())),
            }
        }
        .boxed()
    }

    fn must_hold(&mut self, must: bool) {
        self.must_hold = must;
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            let Some((connection, _)) = self.opened.take() else {
                return Ok(());
            };
            let failed = |why: String| SinkError::new(ErrorClass::Transient, why);
            match timeout(CLOSE_TIMEOUT, connection.client.drain()).await {
                Ok(drained) => drained.map_err(|error| failed(error.to_string())),
                Err(_) => Err(failed(format!("not drained within {CLOSE_TIMEOUT:?}"))),
            }
        }
        .boxed()
    }
}

/// Shows neither the address, which may hold a password, nor the connection.
impl fmt::Debug for NatsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSink")
            .field("stream", &self.config.stream)
            .field("open", &self.opened.is_some())
            .finish_non_exhaustive()
    }
}

fn not_open() -> SinkError {
    SinkError::new(ErrorClass::Transient, "the stream is not open")
}
