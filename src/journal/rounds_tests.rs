//! What not every commit writes, on a real file, as a kill at any moment would leave it.

use std::time::Duration;

use rusqlite::Connection;

use super::tests::{close, config, entry, open};
use super::*;
use crate::config::Span;

/// The file as a kill at this moment would leave it.
fn killed(config: &JournalConfig, folder: &tempfile::TempDir, number: u64) -> Connection {
    let copy = folder.path().join(format!("killed-{number}.db"));
    let reader = Connection::open(&config.path).unwrap();
    reader
        .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
        .unwrap();
    Connection::open(copy).unwrap()
}

fn entry_without_position(journal: &mut Journal) -> Entry {
    let entry = entry(journal, 2, "");
    journal.appender.position -= 1;
    entry
}

/// An event that the vendor sent, committed by itself.
async fn heard(journal: &mut Journal, user: u8) -> Timestamp {
    let mut entry = entry(journal, user, "{}");
    let (record, _) = entry.record.as_mut().unwrap();
    let received_at = record.received_at;
    Arc::get_mut(record).unwrap().occurred_at = Some(received_at);
    let position = record.position;
    journal.appender.append(entry).await.unwrap();
    let mut committed = journal.handle.committing();
    committed.wait_for(|at| *at >= position).await.unwrap();
    received_at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_two_notes_forgets_no_message_that_was_heard() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(&folder);
    let mut journal = open(&config, &["a"]);
    let noted = |file: &Connection| schema::meta(file, "last_written").unwrap();
    let mut behind = 0;
    for number in 1..=20 {
        let received_at = heard(&mut journal, 1).await;
        let file = killed(&config, &other, number);
        assert_eq!(schema::heard_until(&file).unwrap(), Some(received_at));
        behind += u32::from(noted(&file) != Some(received_at.0));
    }
    assert!(behind > 0, "each of the commits has noted it");
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_prolongs_nothing_that_was_heard() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.commit_interval = Span(Duration::from_millis(150));
    let mut journal = open(&config, &["a"]);
    // Each of these commits notes it.
    heard(&mut journal, 1).await;
    let now = heard(&mut journal, 2).await;
    close(journal).await;
    let file = Connection::open(&config.path).unwrap();
    file.execute(
        "UPDATE records SET received_at = received_at + 3600000000000 WHERE position = 1",
        [],
    )
    .unwrap();
    assert_eq!(schema::heard_until(&file).unwrap(), Some(now));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_leaves_a_cursor_before_records_that_are_gone() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(&folder);
    config.retention = Span::seconds(0);
    let mut journal = open(&config, &["a"]);
    let (mut behind, mut gone) = (0, 0);
    // Longer than what may pass between two of them.
    for number in 1..=3000 {
        heard(&mut journal, 1).await;
        journal.handle.advance(0, number, false).await.unwrap();
        // What a list tells without an event: the table gets every state, so that records may go.
        let adopted = Entry {
            record: None,
            ..entry_without_position(&mut journal)
        };
        journal.appender.append(adopted).await.unwrap();
        if number % 53 != 0 {
            continue;
        }
        let file = killed(&config, &other, number);
        let ask = |sql: &str| file.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
        let cursor = ask("SELECT position FROM cursors");
        let before = ask("SELECT coalesce(min(position) - 1, 0) FROM records");
        assert!(before <= cursor, "{before} of {cursor} are gone");
        behind += u32::from(cursor < number - 1);
        gone += u32::from(before > 0);
    }
    assert!(behind > 0 && gone > 0, "{behind} behind, {gone} pruned");
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_repeats_no_record_before_the_last_commit_where_the_destination_cannot_be_asked() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(&folder);
    let mut journal = open(&config, &["a"]);
    for number in 1..=40 {
        heard(&mut journal, 1).await;
        let file = killed(&config, &other, number);
        let sql = "SELECT position FROM cursors";
        let cursor = file.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
        assert!(cursor + 1 >= number, "{cursor} of {number}");
        journal.handle.advance_urgently(0, number).await.unwrap();
    }
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_retention_keeps_is_gone_after_seconds_although_the_feed_is_never_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.retention = Span::seconds(0);
    // While one commit waits, events of the next come in: there is none without.
    config.commit_interval = Span(Duration::from_millis(20));
    let mut journal = open(&config, &["a"]);
    let reader = Connection::open(&config.path).unwrap();
    let oldest = || {
        let sql = "SELECT coalesce(min(position), 0) FROM records";
        reader
            .query_row(sql, [], |row| row.get::<_, u64>(0))
            .unwrap()
    };
    let mut number = 0;
    while oldest() <= 1 {
        let entry = entry(&mut journal, 1, "{}");
        journal.appender.append(entry).await.unwrap();
        let committed = journal.handle.committed();
        journal.handle.advance(0, committed, false).await.unwrap();
        number += 1;
        assert!(number < 6000, "all of {number} records are kept");
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    close(journal).await;
}
