//! States of users that are written behind: on a real file, through kills, damage and pruning.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use super::tests::{close, config, entry, open};
use super::*;
use crate::config::Span;
use crate::event::EventId;

/// So long is a writer still after each commit here: long enough to look at what it left.
const STILL: Duration = Duration::from_millis(400);

/// A journal whose commits have left the states of these many users beside their records.
async fn crowded(config: &mut JournalConfig, users: u8) -> Journal {
    config.commit_interval = Span(STILL);
    let mut journal = open(config, &["sink"]);
    for user in 1..=users {
        let entry = entry(&mut journal, user, &body(user));
        journal.appender.append(entry).await.unwrap();
        if user == 1 {
            // The others come while the writer is still.
            until(&journal, 1).await;
        }
    }
    until(&journal, u64::from(users)).await;
    journal
}

fn body(user: u8) -> String {
    format!("{{\"event_id\":\"{}\"}}", EventId([user; 16]))
}

async fn until(journal: &Journal, position: u64) {
    let mut committed = journal.handle.committing();
    committed.wait_for(|at| *at >= position).await.unwrap();
}

/// The file as a kill at this moment would leave it.
fn killed(config: &JournalConfig, folder: &tempfile::TempDir) -> JournalConfig {
    let copy = folder.path().join("killed.db");
    let reader = Connection::open(&config.path).unwrap();
    reader
        .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
        .unwrap();
    JournalConfig {
        path: copy,
        commit_interval: Span::seconds(0),
        ..config.clone()
    }
}

/// What a kill right after a crowded commit of a hundred users leaves, and the folder that it is in.
async fn left() -> (tempfile::TempDir, JournalConfig) {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(&folder);
    let journal = crowded(&mut config, 100).await;
    let killed = killed(&config, &other);
    close(journal).await;
    (other, killed)
}

fn number(path: &Path, sql: &str) -> u64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn in_table(config: &JournalConfig) -> u64 {
    number(&config.path, "SELECT count(*) FROM users")
}

/// What a bridge that starts with this file knows of each user: the position of the last state.
async fn known(config: &JournalConfig, users: u8) -> Vec<Option<u64>> {
    let journal = open(config, &["sink"]);
    let known = Users::new(&journal.handle).unwrap();
    let position = |user| known.get(&[user; 16]).unwrap().map(|state| state.position);
    let positions = (1..=users).map(position).collect();
    close(journal).await;
    positions
}

fn all(users: u8) -> Vec<Option<u64>> {
    (1..=users).map(|user| Some(user.into())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_a_crowded_commit_loses_no_state() {
    let (_folder, killed) = left().await;
    assert_eq!(in_table(&killed), 0, "all were left beside their records");
    assert_eq!(known(&killed, 100).await, all(100));
    assert_eq!(in_table(&killed), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_sees_the_states_beside_the_records_too() {
    let (_folder, killed) = left().await;
    let snapshot = Snapshot::open(&killed).unwrap();
    let state = snapshot.user(&[77; 16]).unwrap().unwrap();
    assert_eq!(state.position, 77);
    for count in [1, 7, 100, 200] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = snapshot.users(after.as_ref(), count).unwrap();
            let Some((last, ..)) = page.last() else { break };
            after = Some(*last);
            seen.extend(page.iter().map(|(user, key, state)| {
                assert_eq!(*key, format!("client_{}", user[0]));
                (user[0], state.position)
            }));
        }
        let expected: Vec<_> = (1..=100).map(|user| (user, user.into())).collect();
        assert_eq!(seen, expected, "pages of {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_writer_and_one_that_is_asked_for_it_write_every_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    let journal = crowded(&mut config, 100).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while in_table(&config) < 100 {
        assert!(Instant::now() < deadline, "{} states", in_table(&config));
        sleep(Duration::from_millis(50)).await;
    }
    close(journal).await;

    let folder = tempfile::tempdir().unwrap();
    let mut config = super::tests::config(&folder);
    let journal = crowded(&mut config, 100).await;
    journal.handle.sync().await.unwrap();
    assert_eq!(in_table(&config), 100);
    let sql = "SELECT value FROM meta WHERE name = 'states'";
    assert_eq!(number(&config.path, sql), 100);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_process_dies_nothing_that_was_pruned_was_needed_for_a_state() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(&folder);
    config.retention = Span::seconds(0);
    let mut journal = open(&config, &["sink"]);
    let (mut last, mut seed) = (HashMap::new(), 1_u32);
    let mut draw = move |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    for round in 0..40 {
        for _ in 0..=draw(300) {
            let user = u8::try_from(draw(200)).unwrap();
            let entry = entry(&mut journal, user, &body(user));
            last.insert(journal.appender.position(), user);
            journal.appender.append(entry).await.unwrap();
        }
        let committed = journal.handle.committed();
        journal.handle.advance(0, committed, true).await.unwrap();
        if draw(4) == 0 {
            sleep(Duration::from_millis(u64::from(draw(150)))).await;
        }
        let killed = killed(&config, &other);
        let sql = "SELECT max(coalesce((SELECT max(position) FROM records), 0),
            (SELECT max(position) FROM cursors))";
        let to = number(&killed.path, sql);
        let mut expected = HashMap::new();
        for (position, user) in last.iter().filter(|(position, _)| **position <= to) {
            let newest = expected.entry(*user).or_insert(*position);
            *newest = (*newest).max(*position);
        }
        let known = known(&killed, 200).await;
        for user in 1..=200_u8 {
            let expected = expected.get(&user).copied();
            assert_eq!(
                known[usize::from(user) - 1],
                expected,
                "user {user}, round {round}"
            );
        }
        std::fs::remove_file(&killed.path).unwrap();
    }
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_saved_from_damage_knows_what_its_records_know() {
    let (_folder, killed) = left().await;
    let connection = Connection::open(&killed.path).unwrap();
    connection
        .execute_batch(
            "UPDATE records SET state = x'ff' WHERE position = 50;
            UPDATE records SET user = x'01' WHERE position = 51;",
        )
        .unwrap();
    drop(connection);
    assert!(!verify(&killed).unwrap().ok);
    let metrics = Metrics::new(&["sink"]);
    let met = Journal::open(&killed, &["sink"], &metrics, Timestamp::now).map(drop);
    assert!(matches!(met, Err(JournalError::Sql(_))), "{met:?}");
    let mut expected = all(100);
    // Their events are there, and nothing of their users but what the list will say.
    (expected[49], expected[50]) = (None, None);
    assert_eq!(known(&killed, 100).await, expected);
    assert_eq!(number(&killed.path, "SELECT count(*) FROM records"), 100);
    assert!(verify(&killed).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_lost_behind_the_last_known_state_are_counted() {
    let (_folder, killed) = left().await;
    // Of the last records only the very last is sound.
    damage(
        &killed,
        "UPDATE records SET body = x'00' WHERE position BETWEEN 80 AND 99",
    );
    let journal = open(&killed, &["sink"]);
    assert_eq!(journal.appender.position(), 100);
    journal.handle.sync().await.unwrap();
    close(journal).await;
    let missing = "SELECT missing FROM windows WHERE reason = 'journal_corrupt'";
    assert_eq!(number(&killed.path, missing), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_without_records_do_not_pass_those_that_were_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    let mut journal = crowded(&mut config, 100).await;
    for user in 101..=160 {
        let adopted = Entry {
            record: None,
            ..entry(&mut journal, user, "")
        };
        journal.appender.append(adopted).await.unwrap();
    }
    while in_table(&config) < 160 {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(in_table(&config), 160);
    close(journal).await;
}

/// A file whose next start saves what is readable.
fn damage(config: &JournalConfig, how: &str) {
    let connection = Connection::open(&config.path).unwrap();
    connection.execute_batch(how).unwrap();
    std::fs::write(config.path.with_extension("db.lock"), "damaged\n").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_without_its_key_knows_nobody() {
    let (_folder, killed) = left().await;
    damage(
        &killed,
        "UPDATE meta SET value = 'none' WHERE name = 'digest_key'",
    );
    assert_eq!(known(&killed, 100).await, [None; 100]);
    assert_eq!(in_table(&killed), 0);
    assert_eq!(number(&killed.path, "SELECT count(*) FROM records"), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_takes_no_state_that_the_table_had_replaced() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(&folder);
    let journal = crowded(&mut config, 100).await;
    journal.handle.sync().await.unwrap();
    let killed = killed(&config, &other);
    close(journal).await;
    let user = hex::encode([50; 16]);
    damage(
        &killed,
        &format!("DELETE FROM users WHERE user = x'{user}'"),
    );
    let mut expected = all(100);
    expected[49] = None;
    assert_eq!(known(&killed, 100).await, expected);
}
