//! What an operator does with the journal beside a running bridge and without one: dead letters are
//! looked at, published again and dropped; a sink gets again what its destination has lost.

mod disaster;
mod journal;
mod notices;

use std::path::Path;

use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::kafka::tail::create_topic;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, command, kafka_sink};
use crate::support::line::Line;
use crate::support::{beds, eventually, oracle, unique};

/// Runs a command of the program with the configuration in the folder; it must end well.
fn operator(folder: &Path, arguments: &[&str]) -> String {
    let (code, output, said) = operator_may(folder, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {output}{said}");
    output
}

/// As [`operator`], whatever its end.
fn operator_may(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = folder.join("bridge.yaml").display().to_string();
    command(&[arguments, &["--config", &config]].concat())
}

/// The dead letters, as `list --json` has them.
fn letters(folder: &Path) -> Vec<Value> {
    let text = operator(folder, &["dead-letters", "list", "--json"]);
    let letters = text.lines().map(|line| serde_json::from_str(line).unwrap());
    letters.collect()
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).create().unwrap()
}

async fn raise_limit(brokers: &str, topic: &str, bytes: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", bytes);
    let done = admin(brokers)
        .alter_configs(&[change], &AdminOptions::new())
        .await
        .unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// A line with a Kafka topic that takes no large record, and a file beside it.
async fn line_with_small_topic(topic: &str) -> Line {
    create_topic(beds::kafka(), topic, 3, &[("max.message.bytes", "3000")])
        .await
        .unwrap();
    let sinks = format!("sinks:\n{}\n", kafka_sink("kafka", beds::kafka(), topic));
    let line = Line::start_with(Options::for_tests(), |yaml, _| {
        yaml.replacen("sinks:\n", &sinks, 1)
    })
    .await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    line
}

/// Sends an event of a user that is too large for the topic, and waits until it is set aside.
async fn set_aside(line: &Line, user: &str) {
    let before = line.bridge.metric("dead_letters");
    let noise: String = (0..8000)
        .map(|_| char::from(b'a' + rand::random::<u8>() % 26))
        .collect();
    let payload = json!({"user_id": user, "email": "ada@example.test", "status": "PENDING",
        "requirements": {"noise": noise}});
    line.control
        .send_envelope("private.enterprise.users", &payload.to_string())
        .await;
    line.reaches("dead_letters", before + 1.0);
}

/// Waits until so few dead letters are left.
fn falls_to(bridge: &Bridge, letters: f64) {
    eventually("the dead letters to be done", || {
        (bridge.metric("dead_letters") == letters).then_some(())
    });
}

fn landed_with(landed: &[oracle::Landed], event_id: &Value) -> usize {
    let same = |landed: &&oracle::Landed| landed.event["event_id"] == *event_id;
    landed.iter().filter(same).count()
}

async fn kafka(topic: &str) -> Vec<oracle::Landed> {
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || oracle::kafka(beds::kafka(), &topic))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_is_published_again_once_its_cause_is_mended() {
    let topic = unique("letters");
    let line = line_with_small_topic(&topic).await;
    set_aside(&line, "client_large").await;
    let folder = line.folder.path();
    let [letter] = letters(folder).try_into().unwrap();
    let id = letter["id"].to_string();
    let summary = (&letter["stage"], &letter["reason"], &letter["attempts"]);
    assert_eq!(summary, (&"kafka".into(), &"sink".into(), &1.into()));
    let shown = operator(folder, &["dead-letters", "show", &id, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["key"], "client_large");
    assert_eq!(shown["body"]["event_id"], letter["event_id"]);
    assert!(!operator(folder, &["dead-letters", "list"]).contains("client_large"));

    // Nothing was mended: it is refused again, and stays.
    operator(folder, &["dead-letters", "replay", &id]);
    eventually("the second refusal", || {
        (letters(folder)[0]["attempts"] == 2).then_some(())
    });
    assert_eq!(letters(folder)[0]["replay_asked_at"], Value::Null);
    assert_eq!(landed_with(&kafka(&topic).await, &letter["event_id"]), 0);

    raise_limit(beds::kafka(), &topic, "1000000").await;
    let said = operator(
        folder,
        &["dead-letters", "replay", "--all", "--stage", "kafka"],
    );
    assert!(said.contains("asked for 1 dead letter(s)"), "{said}");
    falls_to(&line.bridge, 0.0);
    let landed = kafka(&topic).await;
    assert_eq!(landed_with(&landed, &letter["event_id"]), 1);
    let own = landed.iter().find(|it| it.key == "client_large").unwrap();
    assert_eq!(own.event, shown["body"]);
    assert_eq!(own.headers["ce_id"], letter["event_id"].as_str().unwrap());

    let ended = line.end().await;
    ended.assert_once();
    assert_eq!(landed.len(), ended.records.len(), "to that sink alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_the_destination_holds_already_is_not_published_again() {
    let topic = unique("letters");
    let line = line_with_small_topic(&topic).await;
    set_aside(&line, "client_large").await;
    let folder = line.folder.path();
    let event_id = letters(folder)[0]["event_id"].clone();
    raise_limit(beds::kafka(), &topic, "1000000").await;
    // The cursor is set back: that brings the record too, and leaves the letter.
    operator(folder, &["replay", "--sink", "kafka", "--since", "1h"]);
    eventually("the record to be there", || {
        line.bridge.wait_delivered();
        let skipped = line
            .bridge
            .metric("sink_skipped_held_total{sink=\"kafka\"}");
        (skipped >= 100.0).then_some(())
    });
    assert_eq!(landed_with(&kafka(&topic).await, &event_id), 1);
    assert_eq!(line.bridge.metric("dead_letters"), 1.0);
    operator(folder, &["dead-letters", "replay", "--all"]);
    falls_to(&line.bridge, 0.0);
    let landed = kafka(&topic).await;
    assert_eq!(landed_with(&landed, &event_id), 1);
    assert_eq!(landed.len(), line.end().await.records.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_dropped_and_asked_for_without_a_bridge_and_published_by_the_next_start() {
    let topic = unique("letters");
    let line = line_with_small_topic(&topic).await;
    set_aside(&line, "client_one").await;
    set_aside(&line, "client_two").await;
    let Line {
        bridge,
        folder,
        simulator,
        ..
    } = line;
    bridge.terminate();
    raise_limit(beds::kafka(), &topic, "1000000").await;
    let folder = folder.path();
    let [one, two] = letters(folder).try_into().unwrap();
    let said = operator(folder, &["dead-letters", "drop", &one["id"].to_string()]);
    assert_eq!(said, "dropped 1 dead letter(s)\n");
    let (code, _, said) = operator_may(folder, &["dead-letters", "drop", &one["id"].to_string()]);
    assert_eq!(code, Some(64), "{said}");
    let (code, _, said) = operator_may(folder, &["dead-letters", "drop"]);
    assert_eq!(code, Some(64), "nothing is dropped without a word: {said}");
    for verb in ["list", "replay --all", "drop --all"] {
        let typed = format!("dead-letters {verb} --stage kafak");
        let typed: Vec<&str> = typed.split(' ').collect();
        let (code, _, said) = operator_may(folder, &typed);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains("the stages are normalise, kafka"), "{said}");
    }
    operator(folder, &["dead-letters", "replay", &two["id"].to_string()]);
    assert!(letters(folder)[0]["replay_asked_at"].is_string());

    let yaml = std::fs::read_to_string(folder.join("bridge.yaml")).unwrap();
    let bridge = Bridge::start(folder, &yaml);
    falls_to(&bridge, 0.0);
    bridge.terminate();
    let landed = kafka(&topic).await;
    let counts = [&one, &two].map(|letter| landed_with(&landed, &letter["event_id"]));
    assert_eq!(counts, [0, 1]);
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_asked_for_is_answered_by_the_list() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    let folder = line.folder.path();
    for number in [1.0, 2.0] {
        line.control.send_raw_text("{\"recipient\": no json").await;
        line.reaches("dead_letters", number);
    }
    let [kept, asked] = letters(folder).try_into().unwrap();
    line.control.change_silently(3);
    let said = operator(
        folder,
        &["dead-letters", "replay", &asked["id"].to_string()],
    );
    assert!(said.contains("the vendor's list is compared"), "{said}");
    line.listed("success", 2.0);
    falls_to(&line.bridge, 1.0);
    assert_eq!(letters(folder)[0]["id"], kept["id"]);
    let ended = line.end().await;
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_drops_is_no_longer_counted() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    line.control.send_raw_text("no json").await;
    line.reaches("dead_letters", 1.0);
    operator(line.folder.path(), &["dead-letters", "drop", "--all"]);
    falls_to(&line.bridge, 0.0);
    line.end().await;
}
