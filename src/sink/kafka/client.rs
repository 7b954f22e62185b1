//! One librdkafka client: its callbacks, and getting rid of it without holding up the runtime.
//!
//! Bad credentials never fail a delivery: librdkafka goes on trying. Only its error callback knows, so
//! what it says is remembered here until something is acknowledged.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

use super::super::{ErrorClass, SinkError};
use super::errors;
use crate::failpoint::{self, Point};
use crate::process;

/// What one client has said. Shared with it, because the client keeps its context to itself.
#[derive(Clone, Default)]
pub(super) struct Context(Arc<Said>);

#[derive(Default)]
struct Said {
    last_error: Mutex<Option<SinkError>>,
    deliveries: Mutex<Deliveries>,
    changed: Notify,
    fenced: AtomicBool,
}

/// What became of the records of one batch so far.
#[derive(Default)]
pub(super) struct Deliveries {
    /// By index into the batch: whether its outcome is known.
    settled: Vec<bool>,
    unsettled: usize,
    /// The record for whose outcome `publish` waits, if it is one.
    awaited: Option<usize>,
    /// Whether one failure makes the rest worthless, as within a transaction.
    all_or_nothing: bool,
    /// How many were acknowledged.
    pub(super) acknowledged: usize,
    /// The others whose outcome is known.
    pub(super) failed: Vec<(usize, Code)>,
}

impl Deliveries {
    fn settle(&mut self, index: usize, failure: Option<Code>) {
        match self.settled.get_mut(index) {
            Some(settled) if !*settled => *settled = true,
            // An earlier batch's; none can come, because an error is followed by a new client.
            _ => return,
        }
        self.unsettled -= 1;
        match failure {
            None => self.acknowledged += 1,
            Some(code) => self.failed.push((index, code)),
        }
    }

    /// Whether every outcome is known.
    pub(super) fn is_complete(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether the outcome of one record is known; if not, `changed` resolves when it is.
    pub(super) fn is_settled_or_await(&mut self, index: usize) -> bool {
        self.awaited = Some(index);
        self.settled.get(index).copied().unwrap_or(true)
    }

    /// Whether something failed that is not about one record, or in a transaction anything, so that
    /// nothing more may be sent.
    pub(super) fn must_stop(&self) -> bool {
        let stops = |(_, code): &(usize, Code)| errors::class_of(*code) != ErrorClass::Record;
        match self.all_or_nothing {
            true => !self.failed.is_empty(),
            false => self.failed.iter().any(stops),
        }
    }

    /// The records without an outcome.
    pub(super) fn pending(&self) -> impl Iterator<Item = usize> + '_ {
        let unsettled = |(index, settled): (usize, &bool)| (!settled).then_some(index);
        self.settled.iter().enumerate().filter_map(unsettled)
    }
}

impl Context {
    /// Begins the accounting of a batch; in a transaction it is all or nothing.
    pub(super) fn begin(&self, records: usize, all_or_nothing: bool) {
        *self.deliveries() = Deliveries {
            settled: vec![false; records],
            unsettled: records,
            all_or_nothing,
            ..Deliveries::default()
        };
    }

    /// The accounting of the batch under way.
    pub(super) fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.0
            .deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the outcome of one record, and wakes `publish` when that may matter to it.
    pub(super) fn settle(&self, index: usize, failure: Option<Code>) {
        let mut deliveries = self.deliveries();
        deliveries.settle(index, failure);
        let awaited = deliveries.awaited == Some(index);
        if failure.is_some() || awaited || deliveries.is_complete() {
            self.0.changed.notify_one();
        }
    }

    /// Resolves when all is known of the batch, a record failed, or the awaited one has its outcome.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What the client complained of last, unless that was forgotten since.
    pub(super) fn last_error(&self) -> Option<SinkError> {
        self.last().clone()
    }

    /// The last complaint, if it is one that only an operator can mend.
    pub(super) fn trouble(&self) -> Option<SinkError> {
        self.last_error()
            .filter(|error| error.class == ErrorClass::Configuration)
    }

    /// An acknowledgement proves that whatever was complained of is over.
    pub(super) fn forget_errors(&self) {
        *self.last() = None;
    }

    /// Notes that another producer has taken this one's transactional id.
    pub(super) fn fence(&self) {
        self.0.fenced.store(true, Ordering::Relaxed);
    }

    /// Whether another producer has taken this one's transactional id.
    pub(super) fn is_fenced(&self) -> bool {
        self.0.fenced.load(Ordering::Relaxed)
    }

    fn last(&self) -> MutexGuard<'_, Option<SinkError>> {
        self.0
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, detail: &str) {
        match level {
            // librdkafka warns of each producer option that a consumer is given, and the reverse.
            _ if facility == "CONFWARN" => tracing::debug!(facility, detail, "librdkafka"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, detail, "librdkafka"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, detail, "librdkafka");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, detail, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        // It follows each broker's own error, and says less. A partition's end is no error.
        if matches!(code, Code::AllBrokersDown | Code::PartitionEOF) {
            return;
        }
        let class = match errors::class_of(code) {
            // A broker that wants a client certificate just closes, after a TLS alert.
            ErrorClass::Transient if is_about_certificates(reason) => ErrorClass::Configuration,
            class => class,
        };
        tracing::warn!(reason, class = class.as_str(), "librdkafka");
        *self.last() = Some(SinkError::new(class, reason));
    }

    fn stats_raw(&self, _: &[u8]) {}
}

fn is_about_certificates(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    reason.contains("ssl") && reason.contains("certificate")
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    /// The record's index in its batch.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let failure = result
            .as_ref()
            .err()
            .map(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::Unknown));
        failpoint::reach(Point::Published);
        self.settle(index, failure);
    }
}

/// Holds a client whose drop takes a tenth of a second or more, and drops it on a blocking thread.
pub(super) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(super) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is taken only by drop")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
            Err(_) => drop(client),
        }
    }
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, SinkError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SinkError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SinkError::new(ErrorClass::Fatal, process::end_of(&error)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: Code, reason: &str) -> Context {
        let context = Context::default();
        context.error(KafkaError::Global(code), reason);
        context
    }

    #[test]
    fn wrong_credentials_are_trouble_and_a_broker_that_is_down_is_not() {
        assert!(
            said(Code::Authentication, "invalid credentials")
                .trouble()
                .is_some()
        );
        assert!(
            said(Code::SSL, "certificate verify failed")
                .trouble()
                .is_some()
        );
        let closed = "Receive failed: SSL alert number 116: certificate required";
        assert!(
            said(Code::BrokerTransportFailure, closed)
                .trouble()
                .is_some()
        );
        let down = said(Code::BrokerTransportFailure, "connection refused");
        assert!(down.trouble().is_none());
        assert_eq!(down.last_error().unwrap().message, "connection refused");
    }

    #[test]
    fn all_brokers_down_does_not_hide_why() {
        let context = said(Code::Authentication, "invalid credentials");
        context.error(
            KafkaError::Global(Code::AllBrokersDown),
            "1/1 brokers are down",
        );
        assert_eq!(context.trouble().unwrap().message, "invalid credentials");
        context.forget_errors();
        assert!(context.last_error().is_none());
    }

    #[test]
    fn the_accounting_of_a_batch_is_complete_when_each_record_has_its_outcome() {
        let context = Context::default();
        context.begin(3, false);
        context.settle(1, None);
        context.settle(1, Some(Code::Fail)); // twice: the first counts
        context.settle(0, Some(Code::MessageSizeTooLarge));
        assert!(!context.deliveries().must_stop());
        assert_eq!(context.deliveries().pending().collect::<Vec<_>>(), [2]);
        context.settle(2, Some(Code::TopicAuthorizationFailed));
        let deliveries = context.deliveries();
        assert!(deliveries.is_complete() && deliveries.must_stop());
        assert_eq!(deliveries.acknowledged, 1);
    }
}
