//! The side channel: what consumers are told beside the events, and that it never holds them up.

use std::collections::BTreeMap;

use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use serde_json::{Value, json};

use super::operator;
use crate::support::beds;
use crate::support::bridge::{Bridge, eventually};
use crate::support::course::Course;
use crate::support::line::Line;
use crate::support::told::{self, Told};

/// The states of each window, in the order in which they were told.
fn states(told: &[Told]) -> BTreeMap<i64, Vec<&str>> {
    let mut windows: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for told in told {
        assert_eq!(told.attributes["type"], "com.sfox.connect.feed.blind.v1");
        let states = windows.entry(told.body["window"].as_i64().unwrap());
        states
            .or_default()
            .push(told.body["state"].as_str().unwrap());
    }
    windows
}

fn healed(bridge: &Bridge, windows: usize) {
    eventually("every window to be healed", || {
        let shown = bridge.status()["feed"]["blind_windows"]
            .as_array()
            .unwrap()
            .clone();
        let all = shown.iter().all(|window| window["healed_at"].is_string());
        (shown.len() == windows && all).then_some(())
    });
    assert_eq!(bridge.metric("feed_blind_windows_unhealed"), 0.0);
    assert!(bridge.metric("reconcile_last_success_timestamp_seconds") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_blind_window_is_told_as_open_closed_and_healed_in_both_buses() {
    let course = Course::new(Options::for_tests()).await;
    let control = format!("{}.control", course.topic);
    ensure_topic(&course.brokers, &control, 3).await.unwrap();
    let bridge = course.start().await;
    bridge.wait_ready();
    healed(&bridge, 1);
    course.control.close(1001).await;
    healed(&bridge, 2);
    course.control.skip(2).await;
    course.control.step(20).await;
    healed(&bridge, 3);
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    bridge.terminate();

    let in_kafka = told::kafka(&course.brokers, &control).await;
    let subject = format!("{}_control.feed.blind", course.prefix);
    let in_nats = told::nats(&course.nats, &course.stream, &subject).await;
    assert_eq!(
        in_kafka, in_nats,
        "the same, with the same ids, in the same order"
    );
    let whole = vec!["open", "closed", "healed"];
    let gap = vec!["closed", "healed"];
    // The last window opens with the end of the bridge, and that is told too.
    let end = vec!["open"];
    let wanted = BTreeMap::from([(1, whole.clone()), (2, whole), (3, gap), (4, end)]);
    assert_eq!(states(&in_kafka), wanted);
    let healed = |told: &&Told| told.body["window"] == 3 && told.body["state"] == "healed";
    let last = &in_kafka.iter().find(healed).unwrap().body;
    for name in [
        "from",
        "to",
        "reason",
        "missing",
        "healed_by",
        "differences",
    ] {
        assert!(!last[name].is_null(), "{name} in {last}");
    }
    assert_eq!(
        (&last["reason"], &last["missing"]),
        (&json!("gap"), &json!(2))
    );
    let ids: std::collections::BTreeSet<_> =
        in_kafka.iter().map(|told| &told.attributes["id"]).collect();
    assert_eq!(ids.len(), in_kafka.len(), "each has its own id");
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_control_topic_is_said_once_and_holds_up_nothing() {
    let course = Course::new(Options::for_tests()).await;
    let bridge = course.start().await;
    bridge.wait_ready();
    healed(&bridge, 1);
    course.control.close(1001).await;
    healed(&bridge, 2);
    let dropped = "sink_notices_dropped_total{sink=\"kafka\"}";
    eventually("six notices to be passed over", || {
        (bridge.metric(dropped) == 6.0).then_some(())
    });
    let log = bridge.log();
    let said = log.matches("the side channel cannot be used").count();
    assert_eq!(said, 1, "{log}");
    assert_eq!(
        bridge.metric("sink_notices_dropped_total{sink=\"nats\"}"),
        0.0
    );
    // The events never noticed.
    course.control.step(50).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    assert_eq!(bridge.metric("sink_restarts_total{sink=\"kafka\"}"), 0.0);
    // A topic that is made later gets what comes from then on.
    let control = format!("{}.control", course.topic);
    ensure_topic(&course.brokers, &control, 1).await.unwrap();
    course.control.close(1001).await;
    healed(&bridge, 3);
    bridge.terminate();
    let told = told::kafka(&course.brokers, &control).await;
    assert_eq!(
        states(&told),
        BTreeMap::from([(3, vec!["open", "closed", "healed"]), (4, vec!["open"])])
    );
    course.check().await;
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_that_a_sink_lacks_at_the_end_are_told_after_the_next_start() {
    let course = Course::new(Options::for_tests()).await;
    let bed = beds::OwnBed::nats(&[]);
    onboarding_bridge::sink::nats::tail::ensure_stream(
        &bed.address,
        &course.stream,
        &course.prefix,
    )
    .await
    .unwrap();
    let sink =
        crate::support::bridge::nats_sink("nats", &bed.address, &course.stream, &course.prefix);
    let bridge = course.start_with(&sink).await;
    bridge.wait_ready();
    healed(&bridge, 1);
    bed.signal("STOP");
    course.control.close(1001).await;
    healed(&bridge, 2);
    bridge.kill();
    bed.signal("CONT");
    let bridge = course.start_with(&sink).await;
    bridge.wait_ready();
    healed(&bridge, 3);
    bridge.terminate();
    let subject = format!("{}_control.feed.blind", course.prefix);
    let told = told::nats(&bed.address, &course.stream, &subject).await;
    let whole = vec!["open", "closed", "healed"];
    let end = vec!["open"];
    let wanted = BTreeMap::from([(1, whole.clone()), (2, whole.clone()), (3, whole), (4, end)]);
    assert_eq!(states(&told), wanted);
    course.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_copied_redacted_where_that_is_chosen_and_nowhere_else() {
    let line = Line::start_with(Options::for_tests(), |yaml, folder| {
        let sink = |name: &str, more: &str| {
            let path = folder.join(format!("{name}.jsonl"));
            let path = path.display();
            format!("  - {{name: {name}, type: file, path: {path}{more}}}\n")
        };
        let sinks = [
            sink("with", ", dead_letters: true"),
            sink("without", ", control: false"),
        ];
        yaml.replacen("sinks:\n", &format!("sinks:\n{}", sinks.concat()), 1)
    })
    .await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    let token = line.control.token(0);
    let foreign = json!({"user_id": "client_ada", "user_token": {"token": token}});
    line.control
        .send_envelope("private.enterprise.users.balances", &foreign.to_string())
        .await;
    line.reaches("dead_letters", 1.0);
    let folder = line.folder.path();
    let place = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let dead = eventually("the copy", || {
        let dead = place("with.jsonl.dead");
        dead.ends_with('\n').then_some(dead)
    });
    assert!(
        !dead.contains(&token) && !dead.contains("client_ada"),
        "{dead}"
    );
    let told: Value = serde_json::from_str(&dead).unwrap();
    assert_eq!(told["type"], "com.sfox.connect.dead_letter.v1");
    assert_eq!(told["data"]["stage"], "normalise");
    assert!(told["data"]["body"].is_object());
    let listed = operator(folder, &["dead-letters", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(told["data"]["letter"], listed["id"]);
    assert!(place("with.jsonl.control").contains("feed.blind"));
    for name in [
        "without.jsonl.dead",
        "without.jsonl.control",
        "events.jsonl.dead",
    ] {
        assert!(!folder.join(name).exists(), "{name}");
    }
    line.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_neither_join_nor_end_the_transactions_of_the_events() {
    let course = Course::new(Options::for_tests()).await;
    let control = format!("{}.control", course.topic);
    ensure_topic(&course.brokers, &control, 1).await.unwrap();
    let sink = course
        .kafka_sink()
        .replace("type: kafka", "type: kafka, exactly_once: true");
    assert!(sink.contains("exactly_once"), "{sink}");
    let bridge = course.start_with(&sink).await;
    bridge.wait_ready();
    healed(&bridge, 1);
    course.control.close(1001).await;
    healed(&bridge, 2);
    course.control.step(50).await;
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    assert_eq!(bridge.metric("sink_restarts_total{sink=\"kafka\"}"), 0.0);
    bridge.terminate();
    let told = told::kafka(&course.brokers, &control).await;
    let whole = vec!["open", "closed", "healed"];
    let wanted = BTreeMap::from([(1, whole.clone()), (2, whole), (3, vec!["open"])]);
    assert_eq!(states(&told), wanted);
    course.end().await;
}
