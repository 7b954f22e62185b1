//! What every sink must do, whatever stands behind it: one generic function a property, run for each
//! sink against the real thing and read back by another way than the sink's own.

mod partial;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::config::SinkConfig;
use onboarding_bridge::event::{EventId, Record, Timestamp};
use onboarding_bridge::sink::kafka::tail::{TailConsumer, ensure_topic};
use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader, ensure_stream};
use onboarding_bridge::sink::{ErrorClass, Sink, create};

use crate::support::records::{HOSTILE_KEYS, record, records};
use crate::support::{beds, unique};

const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A destination of a test's own.
enum Place {
    Kafka {
        topic: String,
        exactly_once: bool,
    },
    Nats {
        stream: String,
        prefix: String,
    },
    File {
        path: PathBuf,
        _directory: tempfile::TempDir,
    },
}

/// What a consumer sees.
struct Seen {
    key: String,
    event_id: String,
    body: Vec<u8>,
}

impl Place {
    async fn kafka() -> Self {
        let topic = unique("contract");
        ensure_topic(beds::kafka(), &topic, 3).await.unwrap();
        Self::Kafka {
            topic,
            exactly_once: false,
        }
    }

    async fn transactions() -> Self {
        let topic = unique("contract");
        ensure_topic(beds::kafka(), &topic, 3).await.unwrap();
        Self::Kafka {
            topic,
            exactly_once: true,
        }
    }

    async fn nats() -> Self {
        let (stream, prefix) = (unique("CONTRACT"), unique("contract"));
        ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
        Self::Nats { stream, prefix }
    }

    async fn file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::File {
            path: directory.path().join("events.jsonl"),
            _directory: directory,
        }
    }

    fn config(&self) -> SinkConfig {
        let text = match self {
            Self::Kafka {
                topic,
                exactly_once,
            } => {
                format!(
                    "{{type: kafka, name: s, brokers: ['{}'], topic: {topic}, \
                     exactly_once: {exactly_once}}}",
                    beds::kafka()
                )
            }
            Self::Nats { stream, prefix } => format!(
                "{{type: nats, name: s, url: '{}', stream: {stream}, subject_prefix: {prefix}}}",
                beds::nats()
            ),
            Self::File { path, .. } => {
                format!("{{type: file, name: s, path: '{}'}}", path.display())
            }
        };
        serde_norway::from_str(&text).unwrap()
    }

    fn sink(&self) -> Box<dyn Sink> {
        create(&self.config()).unwrap()
    }

    async fn opened(&self) -> Box<dyn Sink> {
        let mut sink = self.sink();
        sink.open().await.unwrap();
        sink
    }

    /// Everything that is there, once `count` records are; more than that is seen too.
    async fn read(&self, count: usize) -> Vec<Seen> {
        match self {
            Self::Kafka { topic, .. } => read_kafka(topic, count).await,
            Self::Nats { stream, prefix } => read_nats(stream, prefix, count).await,
            Self::File { path, .. } => read_file(path),
        }
    }
}

async fn read_kafka(topic: &str, count: usize) -> Vec<Seen> {
    let tail = TailConsumer::open(beds::kafka(), topic).await.unwrap();
    let mut seen = Vec::new();
    loop {
        // After the last one that is expected: would there be another?
        let wait = if seen.len() < count {
            READ_TIMEOUT
        } else {
            Duration::from_millis(500)
        };
        let Ok(record) = tokio::time::timeout(wait, tail.next()).await else {
            return seen;
        };
        let record = record.unwrap();
        seen.push(Seen {
            key: String::from_utf8(record.key.unwrap()).unwrap(),
            event_id: record.event_id.unwrap(),
            body: record.body.unwrap(),
        });
    }
}

async fn read_nats(stream: &str, prefix: &str, count: usize) -> Vec<Seen> {
    let filter = format!("{prefix}.>");
    let mut tail = TailReader::open(beds::nats(), stream, &filter, TailFrom::Beginning)
        .await
        .unwrap();
    let mut seen = Vec::new();
    loop {
        let wait = if seen.len() < count {
            READ_TIMEOUT
        } else {
            Duration::from_millis(500)
        };
        let Ok(message) = tokio::time::timeout(wait, tail.next()).await else {
            return seen;
        };
        let message = message.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        seen.push(Seen {
            key: body["user_id"].as_str().unwrap().to_owned(),
            event_id: message.message_id.unwrap(),
            body: message.body,
        });
    }
}

fn read_file(path: &std::path::Path) -> Vec<Seen> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| {
        let body: serde_json::Value = serde_json::from_str(line).unwrap();
        Seen {
            key: body["user_id"].as_str().unwrap().to_owned(),
            event_id: body["event_id"].as_str().unwrap().to_owned(),
            body: line.as_bytes().to_vec(),
        }
    });
    lines.collect()
}

/// The bodies of each user, in order.
fn by_user<'a>(all: impl Iterator<Item = (&'a str, &'a [u8])>) -> HashMap<&'a str, Vec<&'a [u8]>> {
    let mut users: HashMap<&str, Vec<&[u8]>> = HashMap::new();
    for (key, body) in all {
        users.entry(key).or_default().push(body);
    }
    users
}

/// Each record is there once, and those of one user in their order.
async fn assert_holds_exactly(place: &Place, published: &[Arc<Record>]) {
    let seen = place.read(published.len()).await;
    assert_eq!(seen.len(), published.len());
    let wanted = by_user(published.iter().map(|record| (&*record.key, &*record.body)));
    let found = by_user(seen.iter().map(|seen| (&*seen.key, &*seen.body)));
    assert!(wanted == found, "another order, or other records");
    for seen in &seen {
        let own = published
            .iter()
            .find(|record| record.event_id.to_string() == seen.event_id);
        assert_eq!(own.unwrap().body, seen.body, "the id belongs to the body");
    }
}

fn ids(records: &[Arc<Record>]) -> Vec<EventId> {
    records.iter().map(|record| record.event_id).collect()
}

/// Earlier than anything that the clocks of this machine and of a server could make of `now`.
fn long_ago() -> Timestamp {
    Timestamp::now().minus(Duration::from_secs(3600))
}

/// Later than a margin for clocks reaches back from.
fn far_ahead() -> Timestamp {
    Timestamp(Timestamp::now().0 + 3_600_000_000_000)
}

async fn it_describes_itself_and_an_empty_one_holds_nothing(place: Place) {
    let mut sink = place.sink();
    let destination = sink.open().await.unwrap();
    assert!(!destination.description.is_empty());
    assert!(destination.can_tell_what_it_holds);
    assert!(sink.held(long_ago()).await.unwrap().is_empty());
    sink.publish(&[]).await.unwrap();
    assert!(sink.held(long_ago()).await.unwrap().is_empty());
    sink.close().await.unwrap();
}

async fn what_was_published_is_held_also_after_a_restart(place: Place) {
    let batch = records(300, 7);
    let mut sink = place.opened().await;
    sink.publish(&batch).await.unwrap();
    let wanted = ids(&batch).into_iter().collect();
    assert_eq!(sink.held(long_ago()).await.unwrap(), wanted);
    sink.close().await.unwrap();
    drop(sink);
    let mut again = place.opened().await;
    assert_eq!(again.held(long_ago()).await.unwrap(), wanted);
    // Only a clock that was set back asks so: then a sink may tell more, but nothing that is not there.
    assert!(again.held(far_ahead()).await.unwrap().is_subset(&wanted));
    assert_holds_exactly(&place, &batch).await;
}

async fn the_order_of_a_user_is_kept_within_and_across_batches(place: Place) {
    let all = records(2000, 11);
    let mut sink = place.opened().await;
    for batch in all.chunks(450) {
        sink.publish(batch).await.unwrap();
    }
    // One user alone: every record must wait for the one before.
    let one: Vec<_> = (0..100).map(|n| record(n, "single")).collect();
    sink.publish(&one).await.unwrap();
    assert_holds_exactly(&place, &[all, one].concat()).await;
}

async fn after_an_unknown_outcome_only_the_rest_is_published(place: Place) {
    let batch = records(200, 5);
    let mut sink = place.opened().await;
    sink.publish(&batch[..120]).await.unwrap();
    drop(sink); // as after a crash: nobody knows how far it came
    let mut again = place.opened().await;
    let held = again.held(batch[0].received_at).await.unwrap();
    let rest: Vec<_> = batch
        .iter()
        .filter(|r| !held.contains(&r.event_id))
        .cloned()
        .collect();
    assert_eq!(rest.len(), 80);
    again.publish(&rest).await.unwrap();
    assert_holds_exactly(&place, &batch).await;
}

async fn a_publish_that_is_dropped_half_way_leaves_no_double(place: Place) {
    let batch = records(2000, 2000);
    let mut sink = place.opened().await;
    // Dropped as at a hurried shutdown: what it had under way is of unknown outcome.
    let half = tokio::time::timeout(Duration::from_millis(3), sink.publish(&batch)).await;
    drop(half);
    sink.open().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await; // `settle`, which is the work of deliver
    let held = sink.held(batch[0].received_at).await.unwrap();
    let rest: Vec<_> = batch
        .iter()
        .filter(|r| !held.contains(&r.event_id))
        .cloned()
        .collect();
    sink.publish(&rest).await.unwrap();
    assert_holds_exactly(&place, &batch).await;
}

async fn hostile_keys_arrive_as_they_are_and_apart(place: Place) {
    let batch: Vec<_> = (0..)
        .zip(HOSTILE_KEYS)
        .map(|(n, key)| record(n, key))
        .collect();
    let mut sink = place.opened().await;
    sink.publish(&batch).await.unwrap();
    assert_holds_exactly(&place, &batch).await;
    let held = sink.held(long_ago()).await.unwrap();
    assert_eq!(held.len(), HOSTILE_KEYS.len());
}

async fn closed_or_not_it_opens_again(place: Place) {
    let batch = records(30, 3);
    let mut sink = place.opened().await;
    sink.publish(&batch[..10]).await.unwrap();
    sink.close().await.unwrap();
    sink.open().await.unwrap();
    sink.publish(&batch[10..20]).await.unwrap();
    sink.open().await.unwrap();
    sink.publish(&batch[20..]).await.unwrap();
    sink.close().await.unwrap();
    assert_holds_exactly(&place, &batch).await;
}

async fn one_that_is_not_open_publishes_nothing(place: Place) {
    let batch = records(3, 3);
    let error = place.sink().publish(&batch).await.unwrap_err();
    assert_eq!(
        error.failed.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(
        error
            .failed
            .iter()
            .all(|(_, error)| error.class == ErrorClass::Transient)
    );
    place.opened().await;
    assert!(place.read(0).await.is_empty());
}

macro_rules! contract {
    ($sink:ident: $($property:ident)*) => {
        mod $sink {
            $(
                #[tokio::test]
                async fn $property() {
                    super::$property(super::Place::$sink().await).await;
                }
            )*
        }
    };
    ($($sink:ident),*) => {
        $(contract! { $sink:
            it_describes_itself_and_an_empty_one_holds_nothing
            what_was_published_is_held_also_after_a_restart
            the_order_of_a_user_is_kept_within_and_across_batches
            after_an_unknown_outcome_only_the_rest_is_published
            a_publish_that_is_dropped_half_way_leaves_no_double
            hostile_keys_arrive_as_they_are_and_apart
            closed_or_not_it_opens_again
            one_that_is_not_open_publishes_nothing
        })*
    };
}

contract!(kafka, transactions, nats, file);
