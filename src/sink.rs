//! A sink publishes records to one destination and says what became of them.
//!
//! A sink only translates. Order, retry, once, dead letters, halting and metrics live once, in
//! `deliver`; no sink retries, waits for a better moment, or decides that a record is lost.
//! A new sink is one file below this module, one struct in `config::sinks` and one arm in [`create`].

pub mod file;
pub mod kafka;
pub mod nats;
mod table;

pub use table::ErrorRow;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::config::SinkConfig;
use crate::event::{EventId, Record, Timestamp};
use crate::notice::{Channel, Notice};

/// One destination. The calls come one at a time, in this order: `open`, then any number of `held`
/// and `publish`, and again `open` after any error but [`ErrorClass::Record`]; `close` last.
///
/// Each future may be dropped before it is done (at shutdown); what it had under way is then of
/// unknown outcome, and nothing but `open`, `close` or dropping the sink follows.
pub trait Sink: Send {
    /// Connects anew, whatever was before, and checks that the destination exists and is safe.
    fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>>;

    /// The ids that the destination already holds among events received at or after `since`.
    fn held(&mut self, since: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>>;

    /// The ids that the destination received at or after `since`, each as often as it did and in any
    /// order, and then each that arrives, without end; `None` where nothing can arrive late. It
    /// connects by itself when it is first polled, apart from the publishing. After an error it goes
    /// on where it was when it is polled again, unless the error is one for an operator.
    fn arrivals(&self, _since: Timestamp) -> Option<Arrivals> {
        None
    }

    /// Publishes in order; resolves when every record is durable there, or says for each why not.
    /// Within one key nothing overtakes: after a record that failed, no later one of the same key
    /// is published, unless the failure is of class [`ErrorClass::Record`].
    fn publish<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Whether, from now on, a repeat that the destination only remembers counts as missing: so it is
    /// while an operator has asked for what was lost there. Said after `open`.
    fn must_hold(&mut self, _must: bool) {}

    /// How long it pays to wait for more, where events come a few at a time but faster than they are
    /// acknowledged: each call of `publish` costs the same, whatever it brings.
    fn gather(&self) -> Duration {
        Duration::ZERO
    }

    /// Flushes and closes, once, last.
    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// What [`Sink::arrivals`] tells; it outlives its sink's connection.
pub type Arrivals = BoxStream<'static, Result<EventId, SinkError>>;

/// What `open` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// One line for people: what it is, where, how many partitions or replicas.
    pub description: String,
    /// Whether [`Sink::held`] can answer; without it the promise falls from once to at least once.
    pub can_tell_what_it_holds: bool,
    /// What an operator should mend, although it works: one sentence each.
    pub warnings: Vec<String>,
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// This record can never be published there: dead letter, go on with the next.
    Record,
    /// An operator must mend something: halt this sink, keep journalling, try again slowly.
    Configuration,
    /// It may pass, and the outcome may be unknown: `open`, `held`, then try again with backoff.
    Transient,
    /// The client itself is broken: `open` builds a new one, then as for transient.
    Fatal,
}

impl ErrorClass {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 4] = [
        Self::Record,
        Self::Configuration,
        Self::Transient,
        Self::Fatal,
    ];

    /// The value of the label `class`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Configuration => "configuration",
            Self::Transient => "transient",
            Self::Fatal => "fatal",
        }
    }
}

/// Why something failed at a destination. Never holds a key, a body or a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// What to do next.
    pub class: ErrorClass,
    /// What, where and what to do, for the log and `/status`.
    pub message: String,
}

impl SinkError {
    /// An error of the given class.
    pub fn new(class: ErrorClass, message: impl fmt::Display) -> Self {
        Self {
            class,
            message: message.to_string(),
        }
    }
}

/// The records of a batch that are not known to be durable; all others are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} records were not acknowledged: {}", .failed.len(), .failed.first().map_or("", |(_, error)| &error.message))]
pub struct PublishError {
    /// Index into the batch and the reason, ascending; records that were not tried count as failed
    /// with the class of what stopped them.
    pub failed: Vec<(usize, SinkError)>,
}

impl PublishError {
    /// No record of a batch of this length is known to be durable, all for the same reason.
    pub fn of_all(records: usize, error: &SinkError) -> Self {
        Self {
            failed: (0..records).map(|index| (index, error.clone())).collect(),
        }
    }
}

/// Makes the sink that a configuration names; it connects only when it is opened.
///
/// # Errors
/// [`ErrorClass::Configuration`] when an option or a secret file of this sink cannot be used.
pub fn create(config: &SinkConfig) -> Result<Box<dyn Sink>, SinkError> {
    Ok(match config {
        SinkConfig::Kafka(kafka) => Box::new(kafka::KafkaSink::new(kafka)?),
        SinkConfig::Nats(nats) => Box::new(nats::NatsSink::new(nats)?),
        SinkConfig::File(file) => Box::new(file::FileSink::new(file)),
    })
}

/// The same destination for one who opens it beside a bridge that works, only to see whether that goes:
/// under its transactional id he would shut it out.
pub fn beside(config: &SinkConfig) -> SinkConfig {
    let mut config = config.clone();
    if let SinkConfig::Kafka(kafka) = &mut config {
        kafka.exactly_once = false;
    }
    config
}

/// Opens a sink of its own with the secrets as they are in their files now, and closes it: whether they
/// are good. It publishes nothing, and disturbs no other sink of the same configuration.
///
/// # Errors
/// As [`create`] and [`Sink::open`].
pub async fn rehearse(config: &SinkConfig) -> Result<(), SinkError> {
    let mut sink = create(&beside(config))?;
    sink.open().await?;
    sink.close().await
}

/// Publishes notices of one channel, in order, to the topic, subject or file beside the sink's own;
/// resolves when all of them are durable there. It connects by itself, for this once.
///
/// # Errors
/// [`ErrorClass::Configuration`] when there is no such place, or it may not be used.
pub async fn notify(config: &SinkConfig, notices: &[Notice]) -> Result<(), SinkError> {
    match config {
        SinkConfig::Kafka(kafka) => kafka::notify::notify(kafka, notices).await,
        SinkConfig::Nats(nats) => nats::notify::notify(nats, notices).await,
        SinkConfig::File(file) => file::notify::notify(file, notices).await,
    }
}

/// Whether the notices of a channel have a place beside the sink's own that takes them. It publishes
/// nothing, and asks nobody where the sink makes the place itself.
///
/// # Errors
/// [`ErrorClass::Configuration`] when there is no such place.
pub async fn look_beside(config: &SinkConfig, channel: Channel) -> Result<(), SinkError> {
    match config {
        SinkConfig::Kafka(kafka) => kafka::notify::look(kafka, channel).await,
        SinkConfig::Nats(nats) => nats::notify::look(nats, channel).await,
        SinkConfig::File(_) => Ok(()),
    }
}
