//! Each kind of damage that `verify` is there for, made on purpose in a real file.

use rusqlite::Connection;

use super::tests::{close, config, entry, open};
use super::*;
use crate::event::EventId;
use crate::journal::schema::PAGE_BYTES;

/// A journal at rest with ten records of which the first two are pruned, and its path.
async fn journal(folder: &tempfile::TempDir) -> PathBuf {
    let config = config(folder);
    let mut journal = open(&config, &["a"]);
    for user in 1..=10 {
        let id = EventId([user; 16]);
        let body = format!("{{\"event_id\":\"{id}\"}}");
        let entry = entry(&mut journal, user, &body);
        journal.appender.append(entry).await.unwrap();
    }
    let window = WindowChange::Open {
        from: Timestamp(5),
        to: Some(Timestamp(7)),
        reason: "gap",
        missing: 1,
    };
    journal.handle.window(window).await.unwrap();
    journal.handle.advance(0, 4, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    close(journal).await;
    let pruned = "DELETE FROM records WHERE position <= 2";
    Connection::open(&config.path)
        .unwrap()
        .execute_batch(pruned)
        .unwrap();
    config.path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_journal_has_no_problem_beside_a_bridge_or_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal(&folder).await;
    let report = verify(&JournalConfig::at(&path)).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert!(report.ok && report.quick_check_run);
    assert_eq!((report.records, report.users, report.windows), (8, 10, 1));
    assert_eq!(
        (report.first_position, report.last_position),
        (Some(3), Some(10))
    );
    assert_eq!((report.cursors[0].position, report.cursors[0].lag), (4, 6));

    let mut journal = open(&config(&folder), &["a"]);
    let id = EventId([1; 16]);
    let entry = entry(&mut journal, 1, &format!("{{\"event_id\":\"{id}\"}}"));
    journal.appender.append(entry).await.unwrap();
    journal.handle.sync().await.unwrap();
    let report = verify(&JournalConfig::at(&path)).unwrap();
    assert_eq!((report.ok, report.records), (true, 9), "{report:?}");
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_damage_is_named() {
    for (damage, words) in [
        (
            "DELETE FROM records WHERE position IN (5, 6)",
            "2 positions have no record",
        ),
        (
            "UPDATE cursors SET position = 11",
            "the cursor of a stands at 11",
        ),
        (
            "UPDATE records SET body = x'7b' WHERE position = 7",
            "record 7: its body is no JSON",
        ),
        (
            "UPDATE records SET body = x'7b7d' WHERE position = 7",
            "of another event",
        ),
        (
            "UPDATE records SET event_type = 'x' WHERE position = 3",
            "record 3: its event type",
        ),
        (
            "UPDATE users SET state = x'00' WHERE user = x'01010101010101010101010101010101'",
            "the state of a user",
        ),
        ("UPDATE windows SET closed = 4", "ends before it begins"),
        (
            "DELETE FROM records WHERE position > 8; UPDATE cursors SET position = 4",
            "after the last record (8)",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = journal(&folder).await;
        Connection::open(&path)
            .unwrap()
            .execute_batch(damage)
            .unwrap();
        let report = verify(&JournalConfig::at(&path)).unwrap();
        assert!(!report.ok);
        let told = report.problems.join("\n");
        assert!(told.contains(words), "{damage}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_pages_are_damaged_is_told_and_what_is_no_journal_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal(&folder).await;
    let mut bytes = std::fs::read(&path).unwrap();
    // The root of the records: the second page holds `meta`, the third `records`.
    let page = usize::try_from(PAGE_BYTES).unwrap();
    bytes[2 * page..3 * page].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let report = verify(&JournalConfig::at(&path)).unwrap();
    assert!(!report.ok, "{report:?}");

    std::fs::write(
        &path,
        "no database at all, but long enough to have a header",
    )
    .unwrap();
    assert!(matches!(
        verify(&JournalConfig::at(&path)),
        Err(JournalError::Format { .. })
    ));
    let absent = verify(&JournalConfig::at(folder.path().join("absent.db")));
    assert!(
        matches!(absent, Err(JournalError::Open { .. })),
        "{absent:?}"
    );
}
