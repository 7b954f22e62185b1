//! Sinks that cannot deliver: halted or tried again, the others go on, and nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::kafka::tail::{TailConsumer, ensure_topic};
use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader, ensure_stream};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::said;
use crate::support::bridge::{kafka_sink, nats_sink};
use crate::support::line::{Ended, Line};
use crate::support::{beds, eventually, oracle, unique};

/// A line whose first sink is this one, and the file the second.
async fn beside(sink: &str) -> Line {
    file_beside(sink, Options::for_tests()).await
}

/// As [`beside`], with another vendor.
pub(super) async fn file_beside(sink: &str, options: Options) -> Line {
    let sinks = format!("sinks:\n{sink}\n");
    Line::start_with(options, |yaml, _| yaml.replacen("sinks:\n", &sinks, 1)).await
}

/// The other sink has everything, while the first is as named and its events are in the journal.
fn assert_kept(line: &Line, state: &str, words: &[&str]) {
    eventually("the file to have everything", || {
        (line.bridge.metric("sink_lag_records{sink=\"local\"}") == 0.0
            && line.bridge.metric("sink_published_total{sink=\"local\"}") >= 150.0)
            .then_some(())
    });
    let status = line.bridge.status();
    let sink = &status["sinks"][0];
    assert_eq!(sink["state"], state, "{sink}");
    for word in words {
        assert!(
            sink["error"].as_str().unwrap().contains(word),
            "no {word} in {sink}"
        );
    }
    assert_eq!(
        (&sink["delivered"], &sink["destination"]),
        (&0.into(), &Value::Null)
    );
    assert_eq!(status["sinks"][1]["state"], "delivering");
    assert_eq!(status["ready"]["ready"], false);
    let journal = &status["journal"];
    assert!(journal["records"].as_u64() >= Some(150), "{journal}");
    assert_eq!(
        (line.bridge.get("/livez").0, line.bridge.get("/readyz").0),
        (200, 503)
    );
}

/// The bodies in the file, by user and in their order.
pub(super) fn by_user<'a>(bodies: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Vec<Value>> {
    let mut users: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for body in bodies {
        let user = body["user_id"].as_str().unwrap().to_owned();
        users.entry(user).or_default().push(body.clone());
    }
    users
}

fn assert_same(ended: &Ended, found: &[Value]) {
    assert_eq!(found.len(), ended.records.len());
    assert_eq!(by_user(found.iter()), by_user(ended.records.iter()));
}

async fn read_kafka(topic: &str, count: usize) -> Vec<Value> {
    let consumer = TailConsumer::open(beds::kafka(), topic).await.unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let next = timeout(Duration::from_secs(30), consumer.next())
            .await
            .unwrap();
        found.push(serde_json::from_slice(&next.unwrap().body.unwrap()).unwrap());
    }
    // Nothing twice: what is there more would come at once.
    assert!(
        timeout(Duration::from_millis(300), consumer.next())
            .await
            .is_err()
    );
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_halts_its_sink_until_it_is_created() {
    let topic = unique("unknown");
    let line = beside(&kafka_sink("kafka", beds::kafka(), &topic)).await;
    let said = said(
        &line.bridge,
        &["\"sink\":\"kafka\"", "halted until this is mended"],
    );
    assert_eq!(
        (&said["level"], &said["class"]),
        (&"ERROR".into(), &"configuration".into())
    );
    let reason = said["reason"].as_str().unwrap();
    assert!(
        reason.contains(&topic) && reason.contains("create it"),
        "{said}"
    );
    line.listed("success", 1.0);
    line.control.step(50).await;
    line.heard(50);
    assert_kept(&line, "halted", &[&topic, "create it"]);
    assert_eq!(
        line.bridge
            .metric("sink_state{sink=\"kafka\",state=\"halted\"}"),
        1.0
    );
    ensure_topic(beds::kafka(), &topic, 3).await.unwrap();
    line.bridge.wait_ready();
    let ended = line.end().await;
    assert_same(&ended, &read_kafka(&topic, ended.records.len()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_halts_its_sink_until_it_is_created() {
    let (stream, prefix) = (unique("MISSING"), unique("missing"));
    let line = beside(&nats_sink("nats", beds::nats(), &stream, &prefix)).await;
    let said = said(
        &line.bridge,
        &["\"sink\":\"nats\"", "halted until this is mended"],
    );
    assert_eq!(
        (&said["level"], &said["class"]),
        (&"ERROR".into(), &"configuration".into())
    );
    let reason = said["reason"].as_str().unwrap();
    assert!(
        reason.contains(&stream) && reason.contains("create it"),
        "{said}"
    );
    line.listed("success", 1.0);
    line.control.step(50).await;
    line.heard(50);
    assert_kept(&line, "halted", &[&stream, "create it"]);
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    line.bridge.wait_ready();
    let ended = line.end().await;
    let filter = format!("{prefix}.*");
    let mut tail = TailReader::open(beds::nats(), &stream, &filter, TailFrom::Beginning)
        .await
        .unwrap();
    let mut found = Vec::new();
    loop {
        let next = tail.next().await.unwrap();
        found.push(serde_json::from_slice(&next.body).unwrap());
        if next.pending == 0 {
            break;
        }
    }
    assert_same(&ended, &found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_sink_does_not_hold_up_the_end_and_loses_nothing_by_it() {
    let (stream, prefix) = (unique("HALTED"), unique("halted"));
    let line = beside(&nats_sink("nats", beds::nats(), &stream, &prefix)).await;
    said(
        &line.bridge,
        &["\"sink\":\"nats\"", "halted until this is mended"],
    );
    line.listed("success", 1.0);
    line.control.step(50).await;
    line.heard(50);
    let Line {
        bridge,
        folder,
        file,
        ..
    } = &line;
    let started = tokio::time::Instant::now();
    bridge.signal("TERM");
    eventually("the end", || {
        bridge.log().contains("\"message\":\"ended\"").then_some(())
    });
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    let yaml = std::fs::read_to_string(folder.path().join("bridge.yaml")).unwrap();
    let heir = crate::support::bridge::Bridge::start(folder.path(), &yaml);
    heir.wait_ready();
    heir.wait_delivered();
    heir.terminate();
    let records = std::fs::read_to_string(file).unwrap().lines().count() as u64;
    let events = format!("{prefix}.>");
    let stored = oracle::stored(beds::nats(), &stream, &events).await;
    assert_eq!(stored, records);
}

/// A port before a real broker that drops every connection until it is opened.
async fn gate(broker: &'static str) -> (JoinSet<()>, String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let open = Arc::new(AtomicBool::new(false));
    let (mut tasks, opened) = (JoinSet::new(), Arc::clone(&open));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            if opened.load(Ordering::SeqCst) {
                connections.spawn(async move {
                    let mut server = TcpStream::connect(broker).await.unwrap();
                    // However it ends, it ends.
                    tokio::io::copy_bidirectional(&mut client, &mut server)
                        .await
                        .ok();
                });
            }
        }
    });
    (tasks, address, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_cannot_be_reached_at_the_start_is_tried_again() {
    let topic = unique("away");
    ensure_topic(beds::kafka(), &topic, 3).await.unwrap();
    let (_gate, address, open) = gate(beds::kafka()).await;
    let line = beside(&kafka_sink("kafka", &address, &topic)).await;
    line.listed("success", 1.0);
    line.control.step(50).await;
    line.heard(50);
    let said = said(&line.bridge, &["\"sink\":\"kafka\"", "the sink is away"]);
    assert_eq!(
        (&said["level"], &said["class"]),
        (&"WARN".into(), &"transient".into())
    );
    assert!(
        said["reason"].as_str().unwrap().contains(&address),
        "{said}"
    );
    let status = line.bridge.status();
    assert!(["retrying", "opening"].contains(&status["sinks"][0]["state"].as_str().unwrap()));
    assert!(
        status["sinks"][0]["error"]
            .as_str()
            .unwrap()
            .contains(&address),
        "{status}"
    );
    assert_eq!(
        (line.bridge.get("/livez").0, line.bridge.get("/readyz").0),
        (200, 503)
    );
    open.store(true, Ordering::SeqCst);
    line.bridge.wait_ready();
    let ended = line.end().await;
    assert_same(&ended, &read_kafka(&topic, ended.records.len()).await);
}
