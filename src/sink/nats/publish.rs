//! Publishes one batch, several records at a time, but never two of one key.
//!
//! After the first failure that is not about its record nothing more is sent; what is under way gets
//! its answer or its time-out, and whatever has no acknowledgement is reported. It never retries.

use std::collections::{HashSet, VecDeque};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::{ErrorClass, PublishError, SinkError};
use super::answers::{Answers, Said};
use super::connect::{ANSWER_TIMEOUT, Connection};
use super::{errors, headers, subject};
use crate::config::NatsConfig;
use crate::event::Record;
use crate::failpoint::{self, Point};

/// Records that wait for their acknowledgement at one time; more gain nothing on a near server.
const IN_FLIGHT_MAX: usize = 1024;

/// After a lost connection or a refused right, what is under way is waited for only so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How far one record has come.
#[derive(Clone)]
enum Course {
    Unsent,
    Sent,
    Acknowledged,
    Failed(SinkError),
}

/// The state of one batch.
struct Window<'a> {
    batch: &'a [Arc<Record>],
    stream: &'a str,
    /// A repeat of a message up to here is a failure.
    gone: Option<u64>,
    answers: &'a mut Answers,
    courses: Vec<Course>,
    /// When each was sent, the oldest first; those that have their answer are taken out later.
    sent: VecDeque<(usize, Instant)>,
    in_flight: usize,
    keys: HashSet<&'a str>,
    /// What ended the sending; all that is not acknowledged then counts as failed by it.
    stop: Option<SinkError>,
    /// Whether answers can hardly come any more: the connection or the right to publish is gone.
    lost: bool,
}

/// Publishes the batch; resolves when the outcome of each record is known or given up.
///
/// A repeat of a message up to `gone` is a failure: the stream was asked, and no longer holds it.
pub(super) async fn publish(
    connection: &mut Connection,
    config: &NatsConfig,
    batch: &[Arc<Record>],
    gone: Option<u64>,
) -> Result<(), PublishError> {
    connection.watch.forget();
    let mut trouble = pin!(connection.watch.publish_trouble());
    connection.answers.begin();
    let mut window = Window {
        batch,
        stream: &config.stream,
        gone,
        answers: &mut connection.answers,
        courses: vec![Course::Unsent; batch.len()],
        sent: VecDeque::new(),
        in_flight: 0,
        keys: HashSet::new(),
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
        let answer_to = window.answers.address(index);
        tokio::select! {
            biased;
            // First, for the client takes much before it says that there is no room.
            error = trouble.as_mut() => window.lose(error),
            sent = send(&connection.client, config, record, answer_to) => match sent {
                Ok(()) => window.is_sent(index),
                Err(error) => window.fail(index, error),
            },
        }
    }
    window.drain(trouble).await;
    window.outcome()
}

/// Hands one record to the client; its answer comes to the address.
async fn send(
    client: &Client,
    config: &NatsConfig,
    record: &Record,
    answer_to: String,
) -> Result<(), SinkError> {
    let subject = format!("{}.{}", config.subject_prefix, subject::encode(&record.key));
    let headers = headers::of(record, &config.stream);
    let body = Bytes::copy_from_slice(&record.body);
    let sent = client.publish_with_reply_and_headers(subject, answer_to, headers, body);
    match timeout(ANSWER_TIMEOUT, sent).await {
        Ok(sent) => sent.map_err(|error| errors::of_send(&error, &config.stream)),
        Err(_) => Err(errors::no_answer(&config.stream)),
    }
}

impl<'a> Window<'a> {
    fn must_wait_before(&self, key: &str) -> bool {
        self.in_flight >= IN_FLIGHT_MAX || self.keys.contains(key)
    }

    fn is_sent(&mut self, index: usize) {
        self.courses[index] = Course::Sent;
        self.sent.push_back((index, Instant::now()));
        self.in_flight += 1;
        self.keys.insert(&self.batch[index].key);
    }

    /// Waits for one answer, or for the end of its time, or for trouble with the connection.
    async fn settle_one(&mut self, trouble: Pin<&mut impl Future<Output = SinkError>>) {
        let (oldest, due) = self.oldest();
        tokio::select! {
            biased;
            answer = self.answers.next(self.stream) => match answer {
                Some((index, said)) => self.settle(index, said),
                None => self.lose(errors::unreadable(self.stream)),
            },
            error = trouble => self.lose(error),
            () = sleep_until(due) => self.settle(oldest, Said::Refused(errors::no_answer(self.stream))),
        }
    }

    /// The record that waits longest for its answer, and until when it does.
    fn oldest(&mut self) -> (usize, Instant) {
        while let Some(&(index, at)) = self.sent.front() {
            if matches!(self.courses[index], Course::Sent) {
                return (index, at + ANSWER_TIMEOUT);
            }
            self.sent.pop_front();
        }
        (self.batch.len(), Instant::now() + ANSWER_TIMEOUT)
    }

    fn settle(&mut self, index: usize, said: Said) {
        // Not a second time, and nothing that was never sent.
        if !matches!(self.courses.get(index), Some(Course::Sent)) {
            return;
        }
        self.in_flight -= 1;
        self.keys.remove(self.batch[index].key.as_str());
        failpoint::reach(Point::Published);
        match said {
            Said::Held { sequence, repeat } => {
                // A repeat is a success: the stream holds this event by its message id.
                if repeat && self.gone.is_some_and(|gone| sequence <= gone) {
                    self.fail(index, remembered_only(self.stream));
                } else {
                    self.courses[index] = Course::Acknowledged;
                }
            }
            Said::Refused(error) => self.fail(index, error),
        }
    }

    fn fail(&mut self, index: usize, error: SinkError) {
        if error.class != ErrorClass::Record && self.stop.is_none() {
            self.stop = Some(error.clone());
        }
        self.courses[index] = Course::Failed(error);
    }

    fn lose(&mut self, error: SinkError) {
        self.stop.get_or_insert(error);
        self.lost = true;
    }

    /// Takes the answers that are still to come; each has its own time-out.
    async fn drain(&mut self, mut trouble: Pin<&mut impl Future<Output = SinkError>>) {
        while !self.lost && self.in_flight > 0 {
            self.settle_one(trouble.as_mut()).await;
        }
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.in_flight > 0 {
            tokio::select! {
                biased;
                answer = self.answers.next(self.stream) => match answer {
                    Some((index, said)) => self.settle(index, said),
                    None => return,
                },
                () = sleep_until(deadline) => return,
            }
        }
    }

    fn outcome(self) -> Result<(), PublishError> {
        let (stop, stream) = (self.stop, self.stream);
        let unknown = || stop.clone().unwrap_or_else(|| errors::no_answer(stream));
        let failed = |(index, course)| match course {
            Course::Acknowledged => None,
            Course::Failed(error) => Some((index, error)),
            Course::Unsent | Course::Sent => Some((index, unknown())),
        };
        let courses = self.courses.into_iter().enumerate();
        let failed: Vec<_> = courses.filter_map(failed).collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(PublishError { failed })
    }
}

fn remembered_only(stream: &str) -> SinkError {
    let message = format!(
        "stream {stream}: it has lost messages whose ids it still remembers, so it takes them \
         only when its duplicate window is over; they are tried until then"
    );
    SinkError::new(ErrorClass::Transient, message)
}
