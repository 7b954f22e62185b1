//! The journal on a real file: restart, pruning, a full file, two processes. No mock of the disk.

use std::time::Duration;

use super::*;
use crate::config::{Size, Span};
use crate::state::RECENT_MAX;

fn config(folder: &tempfile::TempDir) -> JournalConfig {
    JournalConfig {
        path: folder.path().join("journal.db"),
        max_bytes: Size::mebibytes(64),
        retention: Span::seconds(3600),
        commit_interval: Span::seconds(0),
    }
}

fn open(config: &JournalConfig, sinks: &[&str]) -> Journal {
    Journal::open(config, sinks, &Metrics::new(sinks), Timestamp::now).unwrap()
}

fn entry(journal: &mut Journal, user: u8, body: &str) -> Entry {
    let position = journal.appender.next_position();
    let record = Record {
        position,
        event_id: EventId([user; 16]),
        event_type: EventType::Updated,
        key: format!("client_{user}"),
        occurred_at: None,
        received_at: Timestamp::now(),
        body: body.as_bytes().to_vec(),
    };
    Entry {
        record: Some((Arc::new(record), Origin::Feed)),
        user: [user; 16],
        key: format!("client_{user}"),
        state: UserState {
            position,
            recent: vec![EventId([user; 16]); RECENT_MAX],
            ..UserState::default()
        },
        room: None,
    }
}

/// Ends the journal as a clean shutdown does, and waits for the writer.
async fn close(journal: Journal) {
    let Journal {
        appender,
        handle,
        writer,
        ..
    } = journal;
    drop((appender, handle));
    writer.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let mut journal = open(&config, &["a", "b"]);
    for (user, body) in [(1, "one"), (2, "two"), (1, "three")] {
        let entry = entry(&mut journal, user, body);
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.advance(1, 2, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    close(journal).await;

    let journal = open(&config, &["a", "b"]);
    assert_eq!(journal.found.cursors, [(0, true), (2, true)]);
    let mut tail = journal.handle.tail();
    let bodies = |records: Vec<Arc<Record>>| -> Vec<String> {
        records
            .iter()
            .map(|record| String::from_utf8(record.body.clone()).unwrap())
            .collect()
    };
    assert_eq!(
        bodies(tail.after(0, 10, 1 << 20).await.unwrap()),
        ["one", "two", "three"]
    );
    let users = Users::new(&journal.handle).unwrap();
    assert_eq!(users.get(&[1; 16]).unwrap().unwrap().position, 3);
    assert_eq!(users.get(&[9; 16]).unwrap(), None);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_keeps_up_and_one_that_does_not_read_the_same_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&config(&folder), &["a"]);
    let big = "x".repeat(100_000);
    let (mut fast, mut slow) = (journal.handle.tail(), journal.handle.tail());
    for position in 1..=200_u64 {
        let entry = entry(&mut journal, 1, &big);
        journal.appender.append(entry).await.unwrap();
        let records = fast.after(position - 1, 1, 1).await.unwrap();
        assert_eq!(records.first().unwrap().position, position);
    }
    let mut positions = Vec::new();
    while positions.len() < 200 {
        let after = positions.last().copied().unwrap_or_default();
        let records = slow.after(after, 64, 1 << 20).await.unwrap();
        positions.extend(records.iter().map(|record| record.position));
    }
    assert_eq!(positions, (1..=200).collect::<Vec<u64>>());
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earliest_event_that_a_sink_lacks_need_not_be_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&config(&folder), &["a"]);
    for received_at in [10, 30, 20, 40] {
        let mut entry = entry(&mut journal, 1, "body");
        let (record, _) = entry.record.as_mut().unwrap();
        Arc::<Record>::make_mut(record).received_at = Timestamp(received_at);
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.sync().await.unwrap();
    let tail = journal.handle.tail();
    for (position, earliest) in [(0, Some(10)), (1, Some(20)), (3, Some(40)), (4, None)] {
        let found = tail.earliest_after(position).await.unwrap();
        assert_eq!(found, earliest.map(Timestamp), "after {position}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_cannot_have_one_journal() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let journal = open(&config, &["a"]);
    let second = Journal::open(&config, &["a"], &Metrics::new(&["a"]), Timestamp::now);
    assert!(matches!(second, Err(JournalError::InUse { .. })));
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_program_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    std::fs::write(
        &config.path,
        "no database at all, but long enough to have a header",
    )
    .unwrap();
    let opened = Journal::open(&config, &["a"], &Metrics::new(&["a"]), Timestamp::now);
    assert!(
        matches!(opened, Err(JournalError::Format { .. })),
        "{opened:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_records_are_pruned_after_the_retention_and_others_never() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        retention: Span::seconds(0),
        ..config(&folder)
    };
    let mut journal = open(&config, &["a", "b"]);
    for _ in 0..10 {
        let entry = entry(&mut journal, 1, "x");
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.advance(0, 10, true).await.unwrap();
    journal.handle.advance(1, 4, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    journal.handle.sync().await.unwrap();
    let left = journal
        .handle
        .reader()
        .unwrap()
        .records(0, 99, 99, 1 << 20)
        .unwrap();
    let positions: Vec<u64> = left.iter().map(|record| record.position).collect();
    assert_eq!(positions, [5, 6, 7, 8, 9, 10]);
    close(journal).await;
    // The positions go on where they were, also when every record is gone.
    let journal = open(&config, &["a", "b"]);
    assert_eq!(journal.appender.position(), 10);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_returns_after_its_records_were_pruned_goes_on_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        retention: Span::seconds(0),
        ..config(&folder)
    };
    let journal = open(&config, &["a", "b"]);
    close(journal).await;
    let mut journal = open(&config, &["a"]);
    for _ in 0..5 {
        let entry = entry(&mut journal, 1, "x");
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.advance(0, 5, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    journal.handle.sync().await.unwrap();
    close(journal).await;
    let journal = open(&config, &["a", "b"]);
    assert_eq!(journal.found.cursors, [(5, true), (5, true)]);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_stops_taking_events_until_a_sink_has_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        max_bytes: Size(400_000),
        ..config(&folder)
    };
    let mut journal = open(&config, &["a"]);
    let big = "x".repeat(100_000);
    for _ in 0..5 {
        let entry = entry(&mut journal, 1, &big);
        journal.appender.append(entry).await.unwrap();
        journal.handle.sync().await.unwrap();
    }
    let before = journal.handle.committed();
    assert!(before < 5, "{before} records are more than the limit");
    journal.handle.advance(0, before, true).await.unwrap();
    let mut tail = journal.handle.tail();
    let waited = tokio::time::timeout(Duration::from_secs(10), tail.after(4, 1, 1)).await;
    assert_eq!(waited.unwrap().unwrap().first().unwrap().position, 5);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_open_close_and_heal_through_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let journal = open(&config, &["a"]);
    let at = |second: i64| Timestamp(second * 1_000_000_000);
    let open_at = |second, to, reason, missing| WindowChange::Open {
        from: at(second),
        to,
        reason,
        missing,
    };
    journal
        .handle
        .window(open_at(1, None, "start", 0))
        .await
        .unwrap();
    journal.handle.sync().await.unwrap();
    close(journal).await;
    let journal = open(&config, &["a"]);
    journal
        .handle
        .window(WindowChange::Close { to: at(5) })
        .await
        .unwrap();
    journal
        .handle
        .window(open_at(7, Some(at(8)), "gap", 2))
        .await
        .unwrap();
    journal
        .handle
        .window(WindowChange::Heal {
            asked: at(6),
            differences: 3,
        })
        .await
        .unwrap();
    journal.handle.sync().await.unwrap();
    let windows = journal.handle.reader().unwrap().windows(10).unwrap();
    let [gap, start] = windows.as_slice() else {
        panic!("two windows, not {windows:?}")
    };
    assert_eq!((start.to, start.differences), (Some(at(5)), Some(3)));
    assert_eq!((gap.missing, gap.healed_at), (2, None));
    close(journal).await;
}
