//! Reads what there is after a run: the journal's file, the topic as a plain consumer finds it
//! (`read_uncommitted`, nothing dropped), and every message of the stream.
//!
//! It uses SQLite and the brokers' client libraries directly, and none of the bridge's own code. It never
//! writes.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, consumer::DeliverPolicy};
use futures_util::StreamExt;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use crate::oracle::{Id, Journalled, Landed, Window};

/// A broker that does not answer for so long ends the run.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a journal held.
pub(crate) struct Journal {
    pub(crate) records: Vec<Journalled>,
    pub(crate) windows: Vec<Window>,
    pub(crate) dead_letters: u64,
}

/// The parts of a body that the oracle looks at.
#[derive(Deserialize)]
struct Body {
    user_id: String,
    last_name: String,
    origin: String,
}

/// The connection by which a running bridge's journal is looked at, too.
pub(crate) fn open(path: &Path) -> Connection {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    file.busy_timeout(PATIENCE).unwrap();
    file
}

/// Everything in the journal.
pub(crate) fn journal(path: &Path) -> Journal {
    let file = open(path);
    let mut statement = file
        .prepare("SELECT position, event_id, key, body FROM records ORDER BY position")
        .unwrap();
    let records = statement.query_map([], |row| {
        let text: Vec<u8> = row.get(3)?;
        let body: Body = serde_json::from_slice(&text).unwrap();
        assert_eq!(body.user_id, row.get::<_, String>(2)?);
        Ok(Journalled {
            position: row.get(0)?,
            id: row.get(1)?,
            counter: counter(&body.last_name),
            user: body.user_id,
            of_feed: body.origin == "feed",
            digest: digest(&text),
        })
    });
    let records = records.unwrap().map(Result::unwrap).collect();
    let mut statement = file
        .prepare("SELECT opened, closed, healed, reason FROM windows ORDER BY id")
        .unwrap();
    let windows = statement.query_map([], |row| {
        let window = Window {
            from: row.get(0)?,
            to: row.get(1)?,
            healed: row.get::<_, Option<i64>>(2)?.is_some(),
        };
        Ok((window, row.get::<_, String>(3)?))
    });
    let mut windows: Vec<_> = windows.unwrap().map(Result::unwrap).collect();
    // The one that the orderly end opened; the next start would close it.
    windows.pop_if(|(window, reason)| window.to.is_none() && reason == "shutdown");
    let windows = windows.into_iter().map(|(window, _)| window).collect();
    let sql = "SELECT count(*) FROM dead_letters";
    Journal {
        records,
        windows,
        dead_letters: file.query_row(sql, [], |row| row.get(0)).unwrap(),
    }
}

/// Whether one of the newest records says this of the user.
pub(crate) fn journal_tells(path: &Path, user: &str, counter: u32) -> bool {
    let file = open(path);
    let sql = "SELECT count(*) FROM records WHERE key = ?1 AND body LIKE ?2
        AND position > (SELECT coalesce(max(position), 0) FROM records) - 20000";
    let said = format!("%\"Example-{counter}\"%");
    let found: u64 = file.query_row(sql, (user, said), |row| row.get(0)).unwrap();
    found > 0
}

/// The simulator writes which state of its user an event tells of at the end of the last name.
fn counter(last_name: &str) -> u32 {
    let counter = last_name.strip_prefix("Example-");
    counter.unwrap().parse().unwrap()
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn id(text: &[u8]) -> Id {
    let mut id = Id::default();
    hex::decode_to_slice(text, &mut id).expect("an event id is 32 hex digits");
    id
}

/// Every record of the topic, each partition in its order; or only what is committed.
pub(crate) fn kafka(brokers: &str, topic: &str, committed: bool) -> Vec<Landed> {
    let isolation = match committed {
        true => "read_committed",
        false => "read_uncommitted",
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "chaos")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut wanted = TopicPartitionList::new();
    let mut open = 0;
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        open += 1;
        wanted
            .add_partition_offset(topic, partition.id(), Offset::Beginning)
            .unwrap();
    }
    assert!(open > 0, "the topic {topic} has no partitions");
    consumer.assign(&wanted).unwrap();
    let (mut landed, mut heard) = (Vec::new(), Instant::now());
    while open > 0 {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                let headers = message.headers().unwrap();
                let ce_id = headers.iter().find(|header| header.key == "ce_id");
                landed.push(Landed {
                    partition: message.partition().into(),
                    offset: message.offset(),
                    id: id(ce_id.unwrap().value.unwrap()),
                    user: String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
                    digest: digest(message.payload().unwrap()),
                });
                heard = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
                let passes = [Code::BrokerTransportFailure, Code::AllBrokersDown];
                assert!(code.is_some_and(|code| passes.contains(&code)), "{error}");
            }
            None => {}
        }
        assert!(heard.elapsed() < PATIENCE, "Kafka does not give the topic");
    }
    landed.sort_by_key(|landed| (landed.partition, landed.offset));
    landed
}

/// A client of all these servers.
pub(crate) async fn jetstream(urls: &str) -> jetstream::Context {
    let servers: Vec<ServerAddr> = urls.split(',').map(|url| url.parse().unwrap()).collect();
    jetstream::new(async_nats::connect(servers).await.unwrap())
}

/// Every message of the stream, in its order.
pub(crate) async fn nats(url: &str, stream: &str, prefix: &str) -> Vec<Landed> {
    let stream = jetstream(url).await.get_stream(stream).await.unwrap();
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::All,
        filter_subject: format!("{prefix}.>"),
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    // Of the events alone: the stream holds notices too.
    let messages = consumer.cached_info().num_pending;
    let mut tail = consumer.messages().await.unwrap();
    let mut landed = Vec::new();
    while (landed.len() as u64) < messages {
        let next = timeout(PATIENCE, tail.next()).await;
        let message = next.expect("NATS does not give the stream").unwrap();
        let message = message.unwrap();
        let headers = message.headers.as_ref().unwrap();
        let message_id = headers.get("Nats-Msg-Id").unwrap().as_str();
        assert_eq!(headers.get("ce-id").unwrap().as_str(), message_id);
        let token = message.subject.strip_prefix(prefix).unwrap();
        landed.push(Landed {
            partition: 0,
            offset: message.info().unwrap().stream_sequence.cast_signed(),
            id: id(message_id.as_bytes()),
            user: token.strip_prefix('.').unwrap().to_owned(),
            digest: digest(&message.payload),
        });
    }
    landed
}
