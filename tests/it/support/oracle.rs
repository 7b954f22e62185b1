//! What must be true of every run, whatever happened in it: what the simulator sent, what the journal
//! holds and what each destination holds, held against each other.
//!
//! It reads the journal's file, Kafka (by Apache's own Java client) and the stream by itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::jetstream;
use futures_util::TryStreamExt;
use onboarding_bridge::event::Timestamp;
use onboarding_bridge::simulator::{Sent, UserState};
use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::beds;

/// A record in the journal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Journalled {
    pub(crate) position: u64,
    pub(crate) event_id: String,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) event: Value,
}

/// A record in a destination.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    /// Partition and offset; of a stream 0 and the sequence.
    pub(crate) place: (i64, i64),
    pub(crate) java_partition: i64,
    /// Of Kafka's record, in milliseconds; of NATS none.
    pub(crate) timestamp: Option<i64>,
    /// Kafka's key, or the last token of the subject.
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
    pub(crate) event: Value,
}

/// A string of an event; empty if it is none.
pub(crate) fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

/// Which event of its user it is: the simulator writes it at the end of the last name.
pub(crate) fn counter(event: &Value) -> u32 {
    let name = text(event, "last_name").strip_prefix("Example-");
    name.and_then(|counter| counter.parse().ok())
        .unwrap_or_else(|| panic!("no counter in {event}"))
}

/// Whether the feed told of it, and not the list.
pub(crate) fn is_of_feed(event: &Value) -> bool {
    event["origin"] == "feed"
}

/// The records of a journal that no process has open, in their order; the file is left as it is.
pub(crate) fn journal(path: &Path) -> Vec<Journalled> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("journal.db");
    std::fs::copy(path, &copy).unwrap();
    let of = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    if of(path).exists() {
        std::fs::copy(of(path), of(&copy)).unwrap();
    }
    let file = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let sql = "SELECT position, event_id, key, body FROM records ORDER BY position";
    let mut statement = file.prepare(sql).unwrap();
    let records = statement.query_map([], |row| {
        let text = String::from_utf8(row.get(3)?).unwrap();
        Ok(Journalled {
            position: row.get(0)?,
            event_id: hex::encode(row.get::<_, [u8; 16]>(1)?),
            key: row.get(2)?,
            event: serde_json::from_str(&text).unwrap(),
            text,
        })
    });
    records.unwrap().map(Result::unwrap).collect()
}

/// Whether each sink's cursor in the journal is at this position with nothing in doubt.
pub(crate) fn cursors_are_clean_at(path: &Path, position: u64) -> bool {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT count(*), count(*) FILTER (WHERE clean AND position = ?1) FROM cursors";
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
    let (sinks, there) = file.query_row(sql, [position], counts).unwrap();
    sinks > 0 && sinks == there
}

/// The topic as Apache's own client reads it, one object a record.
pub(crate) fn read_by_java(brokers: &str, topic: &str) -> Vec<Value> {
    run_java(&[brokers, topic])
}

/// As [`read_by_java`], but as a consumer that reads `read_committed`.
pub(crate) fn read_committed_by_java(brokers: &str, topic: &str) -> Vec<Value> {
    run_java(&[brokers, topic, "--committed"])
}

fn run_java(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new("java")
        .arg("-cp")
        .arg(beds::kafka_classpath())
        .arg(beds::path("ReadTopic.java"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Everything that the topic holds.
pub(crate) fn kafka(brokers: &str, topic: &str) -> Vec<Landed> {
    landed_in_kafka(read_by_java(brokers, topic))
}

/// Everything that a `read_committed` consumer of the topic sees.
pub(crate) fn kafka_committed(brokers: &str, topic: &str) -> Vec<Landed> {
    landed_in_kafka(read_committed_by_java(brokers, topic))
}

fn landed_in_kafka(found: Vec<Value>) -> Vec<Landed> {
    let landed = found.into_iter().map(|found| {
        let headers = found["headers"].as_object().unwrap().iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().into()));
        Landed {
            place: (
                found["partition"].as_i64().unwrap(),
                found["offset"].as_i64().unwrap(),
            ),
            java_partition: found["java_partition"].as_i64().unwrap(),
            timestamp: found["timestamp"].as_i64(),
            key: text(&found, "key").to_owned(),
            headers: headers.collect(),
            text: text(&found, "value").to_owned(),
            event: serde_json::from_str(text(&found, "value")).unwrap(),
        }
    });
    let mut landed: Vec<_> = landed.collect();
    landed.sort_by_key(|landed| landed.place);
    landed
}

/// Everything that the stream holds.
pub(crate) async fn nats(url: &str, stream: &str, prefix: &str) -> Vec<Landed> {
    let messages = stored(url, stream, &format!("{prefix}.>")).await;
    let all = format!("{prefix}.>");
    let mut tail = TailReader::open(url, stream, &all, TailFrom::Beginning)
        .await
        .unwrap();
    let mut landed = Vec::new();
    while landed.len() as u64 != messages {
        let message = tail.next().await.unwrap();
        let token = message.subject.strip_prefix(prefix).unwrap();
        let text = String::from_utf8(message.body).unwrap();
        landed.push(Landed {
            place: (0, message.sequence.cast_signed()),
            java_partition: 0,
            timestamp: None,
            key: token.strip_prefix('.').unwrap().to_owned(),
            headers: message.headers.into_iter().collect(),
            event: serde_json::from_str(&text).unwrap(),
            text,
        });
    }
    landed
}

/// How many messages the stream holds of these subjects; it may hold control records besides.
pub(crate) async fn stored(url: &str, stream: &str, subjects: &str) -> u64 {
    let context = jetstream::new(async_nats::connect(url).await.unwrap());
    let stream = context.get_stream(stream).await.unwrap();
    let counts = stream.info_with_subjects(subjects).await.unwrap();
    let counts: Vec<(String, usize)> = counts.try_collect().await.unwrap();
    counts.iter().map(|(_, count)| *count as u64).sum()
}

/// Each event that the simulator sent is there once, says what was sent, and those of one user are in
/// the order in which they were sent.
pub(crate) fn has_all_that_was_sent(what: &str, landed: &[Landed], sent: &[Sent]) {
    let mut found: HashMap<(&str, u32), &Landed> = HashMap::new();
    for landed in landed.iter().filter(|landed| is_of_feed(&landed.event)) {
        let event = (text(&landed.event, "user_id"), counter(&landed.event));
        assert!(
            found.insert(event, landed).is_none(),
            "{what} has {event:?} twice"
        );
    }
    let mut last: HashMap<&str, (i64, i64)> = HashMap::new();
    for sent in sent {
        let event = (sent.user_id.as_str(), sent.counter);
        let landed = found
            .remove(&event)
            .unwrap_or_else(|| panic!("{what} lacks {event:?}"));
        says_what_was_sent(&landed.event, sent);
        let before = last.insert(&sent.user_id, landed.place);
        assert!(
            before.is_none_or(|before| before.0 == landed.place.0 && before < landed.place),
            "{what} has {event:?} at {:?}, and the one before it at {before:?}",
            landed.place
        );
    }
    assert!(found.is_empty(), "{what} has what was never sent");
}

fn says_what_was_sent(event: &Value, sent: &Sent) {
    assert_eq!(text(event, "user_id"), sent.user_id);
    assert_eq!(counter(event), sent.counter);
    assert_eq!(text(event, "status"), sent.status);
    assert_eq!(event["feed"]["sequence"], sent.sequence);
    let occurred_at = Timestamp::parse(text(event, "occurred_at")).unwrap();
    assert_eq!(occurred_at.0, sent.timestamp);
}

/// The destination holds what the journal holds: each record once, byte for byte, and the records of
/// one key in the journal's order.
pub(crate) fn has_the_journal(what: &str, landed: &[Landed], journal: &[Journalled]) {
    let wanted: HashMap<&str, &Journalled> = journal
        .iter()
        .map(|record| (record.event_id.as_str(), record))
        .collect();
    assert_eq!(wanted.len(), journal.len(), "the journal repeats an event");
    let (mut seen, mut twice) = (HashSet::new(), Vec::new());
    let mut last: HashMap<&str, (i64, u64)> = HashMap::new();
    for landed in landed {
        let id = text(&landed.event, "event_id");
        let record = wanted
            .get(id)
            .unwrap_or_else(|| panic!("{what} has {id}, which the journal lacks"));
        if !seen.insert(id) {
            twice.push(record.position);
            continue;
        }
        assert_eq!((&landed.key, &landed.text), (&record.key, &record.text));
        let (partition, position) = (landed.place.0, record.position);
        let before = last.insert(&landed.key, (partition, position));
        assert!(
            before.is_none_or(|before| before.0 == partition && before.1 < position),
            "{what} has position {position} of a user after {before:?}"
        );
    }
    let first = twice.first();
    assert!(
        twice.is_empty(),
        "{what} has {} of {} records twice, the first of them {first:?}",
        twice.len(),
        journal.len()
    );
    let lacking = journal
        .iter()
        .filter(|record| !seen.contains(record.event_id.as_str()));
    let lacking: Vec<u64> = lacking.map(|record| record.position).collect();
    let first = lacking.first();
    assert!(
        lacking.is_empty(),
        "{what} lacks {} of {} records, the first of them {first:?}",
        lacking.len(),
        journal.len()
    );
}

/// What was heard on each connection is what was sent on it, from its first event without a hole to
/// some later one; how many events were heard.
pub(crate) fn was_heard_without_a_hole(journal: &[Journalled], sent: &[Sent]) -> usize {
    let mut connections: BTreeMap<u64, std::vec::IntoIter<&Sent>> = BTreeMap::new();
    let connection = |number: u64| sent.iter().filter(move |sent| sent.connection == number);
    let mut numbers: HashMap<(&str, u32), u64> = HashMap::new();
    for sent in sent {
        numbers.insert((&sent.user_id, sent.counter), sent.connection);
    }
    let mut names: BTreeMap<u64, &Value> = BTreeMap::new();
    let mut heard = 0;
    for record in journal.iter().filter(|record| is_of_feed(&record.event)) {
        let event = (text(&record.event, "user_id"), counter(&record.event));
        let number = *numbers
            .get(&event)
            .unwrap_or_else(|| panic!("{event:?} was never sent"));
        let name = &record.event["feed"]["connection"];
        assert_eq!(names.entry(number).or_insert(name), &name);
        let next = connections
            .entry(number)
            .or_insert_with(|| connection(number).collect::<Vec<_>>().into_iter())
            .next()
            .unwrap();
        says_what_was_sent(&record.event, next);
        heard += 1;
    }
    heard
}

/// The last record of each user, in the order of the destination, is the user as the vendor lists it.
pub(crate) fn ends_as_the_vendor_says(what: &str, landed: &[Landed], users: &[UserState]) {
    let last: HashMap<&str, &Value> = landed
        .iter()
        .map(|landed| (text(&landed.event, "user_id"), &landed.event))
        .collect();
    assert_eq!(last.len(), users.len(), "{what} has other users");
    for user in users {
        let event = last[user.user_id.as_str()];
        let state = (counter(event), text(event, "status"));
        let listed = (user.counter, user.status);
        assert_eq!(state, listed, "{what}: {}", user.user_id);
    }
}

/// A user is registered once and updated after that, and each record names the status before it.
pub(crate) fn each_life_is_whole(what: &str, landed: &[Landed]) {
    let mut statuses: HashMap<&str, &Value> = HashMap::new();
    for Landed { event, .. } in landed {
        let before = statuses.insert(text(event, "user_id"), &event["status"]);
        let event_type = before.map_or("user.registered", |_| "user.updated");
        assert_eq!(event["event_type"], event_type, "{what}: {event}");
        let before = before.unwrap_or(&Value::Null);
        assert_eq!(&event["previous_status"], before, "{what}: {event}");
    }
}
