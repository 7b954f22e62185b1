//! Publishes one batch, several records at a time, but never two of one key.
//!
//! After the first failure that is not about its record nothing more is sent; what is under way gets
//! its answer or its time-out, and whatever has no acknowledgement is reported. It never retries.

use std::collections::{BTreeMap, HashSet};
use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::super::{ErrorClass, PublishError, SinkError};
use super::connect::Connection;
use super::{errors, headers, subject};
use crate::config::NatsConfig;
use crate::event::Record;
use crate::failpoint::{self, Point};

/// Records that wait for their acknowledgement at one time; more gain nothing on a near server.
const IN_FLIGHT_MAX: usize = 256;

/// After a lost connection or a refused right, what is under way is waited for only so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of one batch.
struct Window<'a> {
    batch: &'a [Arc<Record>],
    answers: FuturesUnordered<BoxFuture<'a, (usize, Result<(), SinkError>)>>,
    keys: HashSet<&'a str>,
    acknowledged: HashSet<usize>,
    failed: BTreeMap<usize, SinkError>,
    /// What ended the sending; all that is not acknowledged then counts as failed by it.
    stop: Option<SinkError>,
    /// Whether answers can hardly come any more: the connection or the right to publish is gone.
    lost: bool,
}

/// Publishes the batch; resolves when the outcome of each record is known or given up.
///
/// A repeat of a message up to `gone` is a failure: the stream was asked, and no longer holds it.
pub(super) async fn publish(
    connection: &Connection,
    config: &NatsConfig,
    batch: &[Arc<Record>],
    gone: Option<u64>,
) -> Result<(), PublishError> {
    connection.watch.forget();
    let mut trouble = pin!(connection.watch.publish_trouble());
    let mut window = Window {
        batch,
        answers: FuturesUnordered::new(),
        keys: HashSet::new(),
        acknowledged: HashSet::with_capacity(batch.len()),
        failed: BTreeMap::new(),
        stop: None,
        lost: false,
    };
    for (index, record) in batch.iter().enumerate() {
        while window.stop.is_none() && window.must_wait_before(&record.key) {
            window.settle_one(trouble.as_mut()).await;
        }
        if window.stop.is_some() {
            break;
        }
        tokio::select! {
            sent = send(&connection.context, config, record, gone) => match sent {
                Ok(answer) => window.await_answer(index, record, answer),
                Err(error) => window.fail(index, error),
            },
            error = trouble.as_mut() => window.lose(error),
        }
    }
    window.drain(trouble).await;
    window.outcome()
}

type Answer = BoxFuture<'static, Result<(), SinkError>>;

/// Hands one record to the client; its answer comes by the future.
async fn send(
    context: &Context,
    config: &NatsConfig,
    record: &Record,
    gone: Option<u64>,
) -> Result<Answer, SinkError> {
    let subject = format!("{}.{}", config.subject_prefix, subject::encode(&record.key));
    let stream = config.stream.clone();
    let headers = headers::of(record, &stream);
    let body = Bytes::copy_from_slice(&record.body);
    let acknowledgement = context
        .publish_with_headers(subject, headers, body)
        .await
        .map_err(|error| errors::of_publish(&error, &stream))?;
    let answer = acknowledgement.into_future();
    // `duplicate: true` is a success: the stream holds this event by its message id.
    Ok(async move {
        let answer = answer.await;
        let answer = answer.map_err(|error| errors::of_publish(&error, &stream))?;
        if answer.duplicate && gone.is_some_and(|gone| answer.sequence <= gone) {
            let message = format!(
                "stream {stream}: it has lost messages whose ids it still remembers, so it takes them \
                 only when its duplicate window is over; they are tried until then"
            );
            return Err(SinkError::new(ErrorClass::Transient, message));
        }
        Ok(())
    }
    .boxed())
}

impl<'a> Window<'a> {
    fn must_wait_before(&self, key: &str) -> bool {
        self.answers.len() >= IN_FLIGHT_MAX || self.keys.contains(key)
    }

    fn await_answer(&mut self, index: usize, record: &'a Record, answer: Answer) {
        self.keys.insert(&record.key);
        self.answers
            .push(answer.map(move |result| (index, result)).boxed());
    }

    /// Waits for one answer, or for trouble with the connection.
    async fn settle_one(&mut self, trouble: Pin<&mut impl Future<Output = SinkError>>) {
        tokio::select! {
            biased;
            answer = self.answers.next() => if let Some(answer) = answer { self.settle(answer) },
            error = trouble => self.lose(error),
        }
    }

    fn settle(&mut self, (index, result): (usize, Result<(), SinkError>)) {
        if let Some(record) = self.batch.get(index) {
            self.keys.remove(record.key.as_str());
        }
        failpoint::reach(Point::Published);
        match result {
            Ok(()) => {
                self.acknowledged.insert(index);
            }
            Err(error) => self.fail(index, error),
        }
    }

    fn fail(&mut self, index: usize, error: SinkError) {
        if error.class != ErrorClass::Record && self.stop.is_none() {
            self.stop = Some(error.clone());
        }
        self.failed.insert(index, error);
    }

    fn lose(&mut self, error: SinkError) {
        self.stop.get_or_insert(error);
        self.lost = true;
    }

    /// Takes the answers that are still to come; each has its own time-out.
    async fn drain(&mut self, mut trouble: Pin<&mut impl Future<Output = SinkError>>) {
        while !self.lost && !self.answers.is_empty() {
            self.settle_one(trouble.as_mut()).await;
        }
        let deadline = tokio::time::sleep(DRAIN_TIMEOUT);
        let mut deadline = pin!(deadline);
        while !self.answers.is_empty() {
            tokio::select! {
                biased;
                answer = self.answers.next() => if let Some(answer) = answer { self.settle(answer) },
                () = deadline.as_mut() => return,
            }
        }
    }

    fn outcome(mut self) -> Result<(), PublishError> {
        if let Some(stop) = self.stop {
            for index in 0..self.batch.len() {
                if !self.acknowledged.contains(&index) {
                    self.failed.entry(index).or_insert_with(|| stop.clone());
                }
            }
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(PublishError {
            failed: self.failed.into_iter().collect(),
        })
    }
}
