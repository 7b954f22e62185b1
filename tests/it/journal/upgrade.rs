//! A journal of the previous release in the hands of this one.

use onboarding_bridge::config::JournalConfig;
use onboarding_bridge::journal::verify;
use onboarding_bridge::simulator::{Options, Simulator};
use rusqlite::Connection;

use crate::support::bridge::{Bridge, config, file_sink};

/// The tables as version 0.1 made them; never to be changed.
const VERSION_1: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    occurred_at INTEGER,
    event_id BLOB NOT NULL,
    event_type TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE users (user BLOB PRIMARY KEY, key TEXT NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (
    sink TEXT PRIMARY KEY, position INTEGER NOT NULL, clean INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE windows (
    id INTEGER PRIMARY KEY,
    opened INTEGER NOT NULL,
    closed INTEGER,
    reason TEXT NOT NULL,
    missing INTEGER NOT NULL,
    healed INTEGER,
    differences INTEGER
);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    position INTEGER,
    event_id BLOB,
    body BLOB
);
INSERT INTO meta VALUES ('digest_key', randomblob(32)), ('first_list_done', 1),
    ('last_written', 1700000000000000000), ('opened', 1700000000000000000);
INSERT INTO cursors VALUES ('local', 40, 1);
INSERT INTO windows VALUES (1, 5, NULL, 'start', 0, NULL, NULL);
INSERT INTO dead_letters VALUES (1, 5, 'normalise', 'schema', 'why', NULL, NULL, NULL);
PRAGMA application_id = 0x4f424a31;
PRAGMA user_version = 1;
";

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_the_first_version_is_delivered_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(VERSION_1).unwrap();
    for position in 1..=100_u8 {
        let mut id = [0; 16];
        id[0] = position;
        let body = format!("{{\"event_id\":\"{position:02x}{:030}\"}}", 0);
        let sql = "INSERT INTO records VALUES (?1, 1700000000000000000, NULL, ?2, 'user.updated', 'client', ?3)";
        old.execute(sql, (position, id, body.as_bytes())).unwrap();
    }
    drop(old);
    assert_eq!(verify(&JournalConfig::at(&path)).unwrap().format_version, 1);

    let options = Options {
        users: 3,
        ..Options::for_tests()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let file = folder.path().join("events.jsonl");
    let yaml = config(&simulator, folder.path(), "", &file_sink("local", &file));
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    bridge.wait_delivered();
    let windows = bridge.status()["feed"]["blind_windows"].clone();
    // The one that was open is still the same: a start adds none to it.
    assert_eq!(windows.as_array().unwrap().len(), 1, "{windows}");
    assert_eq!(windows[0]["from"], "1970-01-01T00:00:00.000000005Z");
    bridge.terminate();
    let text = std::fs::read_to_string(&file).unwrap();
    let ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["event_id"].as_str().unwrap().chars().take(2).collect())
        .take(60)
        .collect();
    let undelivered: Vec<String> = (41..=100)
        .map(|position| format!("{position:02x}"))
        .collect();
    assert_eq!(ids, undelivered);
    let report = verify(&JournalConfig::at(&path)).unwrap();
    assert!(report.ok && report.format_version > 1, "{report:?}");
    assert_eq!(report.dead_letters, 1);
    simulator.shutdown().await;
}
