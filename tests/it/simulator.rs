//! `simulate` as a real process: a script by its seed, the control endpoint, and its exit codes. What a
//! script does is tested beside the simulator itself.

use futures_util::{SinkExt, StreamExt};
use onboarding_bridge::event::FEED_NAME;
use onboarding_bridge::simulator::EXAMPLE_KEY;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::bridge::command;
use crate::support::simulate::Simulate;

const SCRIPT: &str = "rate: 5
length: 20s
timeline:
  - {every: 4s, do: {gap: {n: 2}}}
  - {times: 5, until: 18s, do: {odd: {shape: capitals}}}
  - {times: 3, until: 18s, do: {noise: {frame: sibling}}}
  - {at: 20s, do: {close: {}}}
";

/// A frame without what only the clock decides.
fn without_clock(text: &str) -> Value {
    let mut frame: Value = serde_json::from_str(text).unwrap();
    frame["timestamp"].take();
    if let Some(token) = frame["payload"]["user_token"].as_object_mut() {
        token.remove("expires");
    }
    frame
}

/// Everything that a client hears from its subscription to the end of the script.
async fn frames(script: &str, seed: &str) -> Vec<Value> {
    let simulate = Simulate::start(&["--script", script, "--seed", seed, "--speed", "50"]);
    let (mut client, _) = tokio_tungstenite::connect_async(&simulate.ws_url)
        .await
        .unwrap();
    for command in [
        json!({"type": "authenticate", "apiKey": EXAMPLE_KEY, "enterprise": true}),
        json!({"type": "subscribe", "feeds": [FEED_NAME]}),
    ] {
        let command = Message::text(command.to_string());
        client.send(command).await.unwrap();
    }
    let mut frames = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        if let Message::Text(text) = message {
            frames.push(without_clock(&text));
        }
    }
    simulate.wait_played();
    simulate.terminate();
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_played_the_same_twice_by_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.yaml");
    std::fs::write(&script, SCRIPT).unwrap();
    let script = script.to_str().unwrap();
    let first = frames(script, "3").await;
    assert!(first.len() > 60, "{}", first.len());
    assert_eq!(first, frames(script, "3").await);
    assert_ne!(first, frames(script, "4").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_endpoint_of_the_process_acts_and_refuses() {
    let simulate = Simulate::start(&["--users", "3", "--rate", "0.001"]);
    let users = || simulate.control("users")["users"].as_array().unwrap().len();
    assert_eq!(users(), 3);
    let (status, answer) = simulate.act("remove_user", &json!({"user": 1}));
    assert_eq!((status, &answer["done"]), (200, &json!(true)), "{answer}");
    assert_eq!(users(), 2);
    let (status, answer) = simulate.act("explode", &json!({}));
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"].is_string(), "{answer}");
    simulate.terminate();
}

#[test]
fn a_script_or_a_capture_that_cannot_be_played_is_a_mistake_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let absent = folder.path().join("absent.yaml").display().to_string();
    let unknown = file("unknown.yaml", "timeline: [{at: 1s, do: {explode: {}}}]");
    let words = file("words.yaml", "once upon a time");
    let events = file("events.jsonl", "{\"kind\":\"data\"}\n");
    for (option, path, word) in [
        ("--script", absent.as_str(), "No such file"),
        ("--script", &unknown, "explode"),
        ("--script", &words, "invalid type"),
        ("--replay", &absent, "No such file"),
        ("--replay", &events, "is no capture"),
    ] {
        let arguments = ["simulate", "--listen", "127.0.0.1:0", option, path];
        let (code, output, said) = command(&arguments);
        assert_eq!((code, output.as_str()), (Some(64), ""), "{path}: {said}");
        assert!(said.contains(word) && !said.contains("--listen"), "{said}");
    }
}
