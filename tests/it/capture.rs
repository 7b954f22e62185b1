//! `run --capture` through the real program: what is captured can be played to another bridge, as the same
//! events; the file is private, bounded and appended to, and its end is not the bridge's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use onboarding_bridge::simulator::{Options, Simulator};
use serde_json::Value;

use crate::support::bridge::{Bridge, command, config, file_sink};
use crate::support::eventually;
use crate::support::simulate::Simulate;

/// A vendor whose list knows nobody of whom the feed has not told.
async fn vendor() -> Simulator {
    let options = Options {
        registered: Some(0),
        users: 10,
        ..Options::for_tests()
    };
    Simulator::start(options).await.unwrap()
}

fn yaml(simulator: &Simulator, folder: &Path) -> String {
    let sink = file_sink("local", &folder.join("events.jsonl"));
    config(simulator, folder, "", &sink)
}

/// What the feed told, without what belongs to one run.
fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let events = text.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["origin"], "feed", "the list had nothing to tell");
        event["received_at"].take();
        event["feed"]["connection"].take();
        event
    });
    events.collect()
}

fn heard(bridge: &Bridge, events: f64) {
    eventually("the events", || {
        (bridge.metric("feed_frames_total{kind=\"event\"}") == events).then_some(())
    });
    bridge.wait_delivered();
}

/// Waits until every blind window is healed, so that what comes next is by the feed.
fn healed(bridge: &Bridge) {
    bridge.wait_ready();
    eventually("every blind window to be healed", || {
        let windows = bridge.status()["feed"]["blind_windows"].clone();
        let healed = |window: &Value| window["healed_at"].is_string();
        windows.as_array().unwrap().iter().all(healed).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_of_two_runs_is_played_to_another_bridge_as_the_same_events() {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.jsonl");
    let capture = capture.to_str().unwrap();
    for _ in 0..2 {
        let yaml = yaml(&simulator, folder.path());
        let bridge = Bridge::start_as(folder.path(), &yaml, &[], &["--capture", capture]);
        healed(&bridge);
        simulator.control().send_raw_text("no json").await;
        simulator.control().step(25).await;
        heard(&bridge, 25.0);
        bridge.terminate();
    }
    let text = std::fs::read_to_string(capture).unwrap();
    assert_eq!(text.matches("\"capture\":1").count(), 1);
    assert_eq!(text.matches("\"reason\":\"malformed\"").count(), 2);
    assert!(!text.contains("no json") && !text.contains("user_token"));
    let mode = std::fs::metadata(capture).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let player = Simulate::start(&["--replay", capture, "--speed", "0"]);
    let other = tempfile::tempdir().unwrap();
    let yaml = yaml(&simulator, other.path())
        .replace(&simulator.ws_url(), &player.ws_url)
        .replace(&simulator.rest_url(), &player.rest_url);
    let bridge = Bridge::start(other.path(), &yaml);
    player.wait_played();
    heard(&bridge, 50.0);
    bridge.terminate();
    assert_eq!(events(other.path()), events(folder.path()));
    assert_eq!(events(folder.path()).len(), 50);
    player.terminate();
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_ends_at_its_bound_and_says_so_once_and_the_bridge_goes_on() {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.jsonl");
    let arguments = [
        "--capture",
        capture.to_str().unwrap(),
        "--capture-max-bytes",
        "4KiB",
    ];
    let bridge = Bridge::start_as(
        folder.path(),
        &yaml(&simulator, folder.path()),
        &[],
        &arguments,
    );
    healed(&bridge);
    simulator.control().step(100).await;
    heard(&bridge, 100.0);
    let log = bridge.log();
    let said = log.matches("the capture is full").count();
    assert_eq!(said, 1, "{log}");
    bridge.terminate();
    let text = std::fs::read_to_string(&capture).unwrap();
    assert!((3000..=4096).contains(&text.len()), "{}", text.len());
    assert!(text.ends_with("}\n"), "{text}");
    assert_eq!(events(folder.path()).len(), 100);
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_capture_is_refused_and_left_as_it_is() {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (
        folder.path().join("bridge.yaml"),
        folder.path().join("notes.txt"),
    );
    std::fs::write(&path, yaml(&simulator, folder.path())).unwrap();
    std::fs::write(&other, "mine\n").unwrap();
    let (path, named) = (path.to_str().unwrap(), other.to_str().unwrap());
    let (code, _, said) = command(&["run", "--config", path, "--capture", named]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("no capture") && said.contains("name another file"));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine\n");
    assert!(
        !folder.path().join("journal.db").exists(),
        "nothing was begun"
    );
    let (code, _, said) = command(&["run", "--config", path, "--capture-max-bytes", "1MiB"]);
    assert_eq!(code, Some(64), "{said}");
    simulator.shutdown().await;
}
