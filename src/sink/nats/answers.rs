//! The stream's answers to what was published: one subscription takes them all.
//!
//! The client library could give each publish a future of its own, which costs more than the publish. It
//! decides nothing: which record an answer belongs to, and what it says, is all that it tells.

use async_nats::jetstream::Error as Answer;
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use serde::Deserialize;

use super::super::{ErrorClass, SinkError};
use super::errors;

/// Where the answers to one connection's records come in.
pub(super) struct Answers {
    inbox: String,
    subscriber: Subscriber,
    /// The batch whose answers are of interest; one before it may still be answered.
    batch: u64,
}

/// What the stream says of one record.
#[derive(Debug)]
pub(super) enum Said {
    /// It holds the record, by this sequence; `repeat` if it held it before.
    Held { sequence: u64, repeat: bool },
    /// It does not.
    Refused(SinkError),
}

impl Answers {
    pub(super) async fn subscribe(client: &Client) -> Result<Self, SinkError> {
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(format!("{inbox}.*.*")).await;
        let failed = |_| SinkError::new(ErrorClass::Transient, "the connection is closed already");
        Ok(Self {
            inbox,
            subscriber: subscriber.map_err(failed)?,
            batch: 0,
        })
    }

    /// From here on only answers to a new batch count.
    pub(super) const fn begin(&mut self) {
        self.batch += 1;
    }

    /// Where the answer to this record of the batch is to go.
    pub(super) fn address(&self, index: usize) -> String {
        format!("{}.{}.{index}", self.inbox, self.batch)
    }

    /// The next answer to a record of this batch, with its index; `None` when the client is closed.
    pub(super) async fn next(&mut self, stream: &str) -> Option<(usize, Said)> {
        loop {
            let message = self.subscriber.next().await?;
            if let Some(index) = index(self.batch, &message.subject) {
                return Some((index, said(&message, stream)));
            }
        }
    }
}

/// The index at the end of an address, if it is one of this batch.
fn index(batch: u64, address: &str) -> Option<usize> {
    let mut parts = address.rsplit('.');
    let index = parts.next()?.parse().ok()?;
    let of: u64 = parts.next()?.parse().ok()?;
    (of == batch).then_some(index)
}

/// An answer as the server writes it.
#[derive(Deserialize)]
struct Body {
    error: Option<Answer>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
}

fn said(message: &Message, stream: &str) -> Said {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Said::Refused(errors::nobody_answered(stream));
    }
    let body = serde_json::from_slice(&message.payload).ok();
    match body {
        Some(Body {
            error: Some(answer),
            ..
        }) => Said::Refused(errors::of_answer(&answer, stream)),
        Some(Body {
            seq: Some(sequence),
            duplicate,
            ..
        }) => Said::Held {
            sequence,
            repeat: duplicate,
        },
        Some(Body { .. }) | None => Said::Refused(errors::unreadable(stream)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &'static str, status: Option<StatusCode>) -> Said {
        let message = Message {
            subject: "_INBOX.a.1.2".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status,
            description: None,
            length: 0,
        };
        said(&message, "S")
    }

    #[test]
    fn an_answer_finds_its_record_and_one_to_an_earlier_batch_finds_none() {
        assert_eq!(index(7, "_INBOX.a.7.12"), Some(12));
        assert_eq!(index(7, "_INBOX.a.6.12"), None);
        assert_eq!(index(7, "_INBOX.a.7.x"), None);
        assert_eq!(index(7, "12"), None);
    }

    #[test]
    fn an_answer_says_that_the_record_is_held_or_why_not() {
        for (payload, repeat) in [
            (r#"{"stream":"S","seq":9}"#, false),
            (r#"{"stream":"S","seq":9,"duplicate":true}"#, true),
        ] {
            match answer(payload, None) {
                Said::Held {
                    sequence: 9,
                    repeat: told,
                } if told == repeat => {}
                other => panic!("{payload}: {other:?}"),
            }
        }
        let full =
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#;
        for (payload, status, class) in [
            (full, None, ErrorClass::Configuration),
            ("", Some(StatusCode::NO_RESPONDERS), ErrorClass::Transient),
            ("{}", None, ErrorClass::Transient),
            ("ada@example.test", None, ErrorClass::Transient),
        ] {
            match answer(payload, status) {
                Said::Refused(error) => {
                    assert_eq!(error.class, class, "{payload}");
                    assert!(!error.message.contains("ada@"), "{error}");
                }
                Said::Held { .. } => panic!("{payload}"),
            }
        }
    }
}
