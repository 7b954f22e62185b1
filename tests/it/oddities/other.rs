//! Points 25 and 27 to 30.

use onboarding_bridge::config::load_text;
use onboarding_bridge::simulator::Options;
use serde_json::{Value, json};

use super::{envelope, line, made_of};
use crate::support::bridge::{Bridge, config, file_sink};
use crate::support::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn point_25_nothing_but_the_list_is_asked_of_the_vendors_rest() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    line.control.step(5).await;
    line.heard(5);
    let stats = line.control.stats();
    assert_eq!((stats.rest_requests, stats.rest_lists_complete), (1, 1));
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn point_27_two_bridges_that_hear_the_same_message_give_it_one_id() {
    let line = line().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let yaml = config(
        &line.simulator,
        folder.path(),
        "",
        &file_sink("local", &file),
    );
    let second = Bridge::start(folder.path(), &yaml);
    second.wait_ready();
    let payload = json!({"user_id": "client_1", "status": "VERIFIED"});
    line.control
        .send_raw_text(envelope(json!({"payload": payload})))
        .await;
    line.heard(1);
    crate::support::eventually("the second to hear it", || {
        (second.metric("feed_frames_total{kind=\"event\"}") == 1.0).then_some(())
    });
    second.wait_delivered();
    second.terminate();
    let ended = line.end().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_feed: Vec<Value> = records
        .filter(|record| record["origin"] == "feed")
        .collect();
    let ids = |records: &[&Value]| {
        records
            .iter()
            .map(|record| record["event_id"].clone())
            .collect::<Vec<_>>()
    };
    let (first, second) = (
        ids(&ended.by("feed")),
        ids(&of_feed.iter().collect::<Vec<_>>()),
    );
    assert_eq!((first.len(), &first), (1, &second));
}

#[test]
fn point_28_another_host_needs_only_its_addresses_and_plain_ws_goes_to_no_other_machine() {
    let load = |feed: &str, list: &str| {
        let yaml = format!(
            "feed: {{url: '{feed}', api_key: example}}\nreconcile: {{url: '{list}'}}\n\
             sinks: [{{name: local, type: file, path: '-'}}]\n"
        );
        load_text(&yaml, std::path::Path::new("test.yaml"), std::iter::empty())
    };
    let sandbox = load(
        "wss://ws.staging.sfox.com/ws",
        "https://api.staging.sfox.com",
    );
    assert_eq!(sandbox.unwrap().feed.url, "wss://ws.staging.sfox.com/ws");
    load("ws://127.0.0.1:8090/ws", "http://localhost:8090").unwrap();
    let plain = load(
        "ws://ws.staging.sfox.com/ws",
        "https://api.staging.sfox.com",
    );
    assert!(plain.unwrap_err().to_string().contains("feed.url"));
    let plain = load(
        "wss://ws.staging.sfox.com/ws",
        "http://api.staging.sfox.com",
    );
    assert!(plain.unwrap_err().to_string().contains("reconcile.url"));
}

#[tokio::test(flavor = "multi_thread")]
async fn point_29_unknown_keys_are_counted_and_named_and_stop_nothing() {
    let line = line().await;
    for user in ["a", "b"] {
        let payload =
            json!({"user_id": user, "status": "PENDING", "tier": 2, "risk": {"score": 7}});
        let text = envelope(json!({"payload": payload, "version": 3}));
        line.control.send_raw_text(text).await;
    }
    line.heard(2);
    line.reaches("normalise_unknown_fields_total", 4.0);
    let ended = line.end().await;
    assert_eq!(ended.by("feed").len(), 2);
    assert!(
        ended
            .by("feed")
            .iter()
            .all(|record| record["tier"].is_null())
    );
    assert!(ended.log.contains("tier") && ended.log.contains("risk"));
}

#[tokio::test(flavor = "multi_thread")]
async fn point_30_the_largest_numbers_and_names_of_any_script_arrive_unchanged() {
    let name = "Łucja \u{1f980} 山田 \"quoted\" \\ \u{202e}\u{7}";
    let long = "n".repeat(100_000);
    let person = json!({"user_id": "Ünï/код 1", "first_name": name, "last_name": long});
    let text = envelope(json!({"sequence": i64::MAX, "timestamp": i64::MAX, "payload": person}));
    let escaped: String = text
        .chars()
        .map(|letter| match letter {
            'Ł' => "\\u0141".to_owned(),
            letter => letter.to_string(),
        })
        .collect();
    let ended = made_of([escaped]).await;
    let [record] = ended.by("feed")[..] else {
        panic!("one record, not {}", ended.records.len())
    };
    assert_eq!(record["user_id"], "Ünï/код 1");
    assert_eq!(
        (&record["first_name"], &record["last_name"]),
        (&json!(name), &json!(long))
    );
    assert_eq!(record["feed"]["sequence"], json!(i64::MAX));
}
