//! The journal looked into from outside: the same beside a running bridge and without one.

use onboarding_bridge::simulator::Options;
use serde_json::Value;

use super::{letters, operator};
use crate::support::line::Line;

fn stats(folder: &std::path::Path) -> Value {
    serde_json::from_str(&operator(folder, &["journal", "stats", "--json"])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_what_a_consumer_gets() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    line.control.step(50).await;
    line.heard(50);
    line.control.send_raw_text("no json").await;
    line.reaches("dead_letters", 1.0);
    line.bridge.wait_delivered();
    let folder = line.folder.path();
    let beside = operator(folder, &["journal", "export"]);
    assert_eq!(beside, std::fs::read_to_string(&line.file).unwrap());
    let records = beside.lines().count();
    let of_bridge = stats(folder);
    assert_eq!(of_bridge["records"], records);
    assert_eq!(of_bridge["dead_letters"][0]["letters"], 1);
    assert_eq!(of_bridge["windows"]["open"], 0);

    let Line {
        folder,
        bridge,
        simulator,
        ..
    } = line;
    bridge.terminate();
    let folder = folder.path();
    let without = stats(folder);
    let cursor = &without["cursors"][0];
    let wanted = serde_json::json!({"sink": "local", "position": records, "lag_records": 0,
        "clean": true, "rewind_to": null});
    assert_eq!(*cursor, wanted);
    let from = (records - 2).to_string();
    let last = operator(
        folder,
        &[
            "journal",
            "export",
            "--from-position",
            &from,
            "--limit",
            "2",
        ],
    );
    let lines: Vec<_> = beside.lines().collect();
    assert_eq!(
        last.lines().collect::<Vec<_>>(),
        lines[records - 3..records - 1]
    );
    assert_eq!(
        operator(folder, &["journal", "export", "--since", "0s"]),
        ""
    );
    assert_eq!(
        operator(folder, &["journal", "export", "--since", "1h"]),
        beside
    );
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_nothing_of_a_person_unless_it_is_asked_to() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    line.control.step(20).await;
    line.heard(20);
    let folder = line.folder.path();
    let user = &line.control.users()[0];
    let listed = operator(folder, &["journal", "list", "--limit", "500"]);
    let records = operator(folder, &["journal", "export"]);
    assert_eq!(listed.lines().count(), records.lines().count());
    for record in records.lines() {
        let record: Value = serde_json::from_str(record).unwrap();
        assert!(listed.contains(record["event_id"].as_str().unwrap()));
        assert!(!listed.contains(record["user_id"].as_str().unwrap()));
    }
    assert!(!listed.contains("example.test") && !listed.contains("Example"));
    let keys = operator(folder, &["journal", "list", "--limit", "500", "--keys"]);
    assert!(keys.contains(&user.user_id) && !keys.contains("Example"));
    let bodies = ["journal", "list", "--limit", "500", "--bodies", "--json"];
    let bodies = operator(folder, &bodies);
    for (line, record) in bodies.lines().zip(records.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["body"], serde_json::from_str::<Value>(record).unwrap());
    }
    assert!(letters(folder).is_empty());
    line.end().await;
}
