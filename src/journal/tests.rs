//! The journal on a real file: restart, pruning, a full file, two processes. No mock of the disk.

use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::config::{Size, Span};
use crate::event::EventId;
use crate::state::RECENT_MAX;

pub(super) fn config(folder: &tempfile::TempDir) -> JournalConfig {
    JournalConfig {
        path: folder.path().join("journal.db"),
        max_bytes: Size::mebibytes(64),
        when_full: crate::config::WhenFull::Block,
        retention: Span::seconds(3600),
        commit_interval: Span::seconds(0),
        encryption_key_file: None,
        old_encryption_key_files: Vec::new(),
    }
}

pub(super) fn open(config: &JournalConfig, sinks: &[&str]) -> Journal {
    Journal::open(config, sinks, &Metrics::new(sinks), Timestamp::now).unwrap()
}

pub(super) fn entry(journal: &mut Journal, user: u8, body: &str) -> Entry {
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
            recent: [EventId([user; 16]); RECENT_MAX].into(),
            ..UserState::default()
        },
        room: None,
    }
}

/// Ends the journal as a clean shutdown does, and waits for the writer.
pub(super) async fn close(journal: Journal) {
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
async fn what_was_given_before_is_durable_when_a_sync_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&config(&folder), &["a"]);
    // More than one commit takes.
    let count = u64::try_from(QUEUE).unwrap();
    for round in 1..=10 {
        for _ in 0..count {
            let entry = entry(&mut journal, 1, "x");
            journal.appender.append(entry).await.unwrap();
        }
        journal.handle.sync().await.unwrap();
        assert_eq!(journal.handle.committed(), round * count);
    }
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

/// A full journal that has taken one event of three, and whose queue holds the others.
async fn full(config: &JournalConfig) -> Journal {
    let mut journal = open(config, &["a"]);
    for user in 1..=3 {
        let entry = entry(&mut journal, user, &"x".repeat(400_000));
        journal.appender.append(entry).await.unwrap();
        journal.handle.sync().await.unwrap();
    }
    assert_eq!(journal.handle.committed(), 1);
    journal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_says_of_no_list_that_it_is_in_the_file_before_its_events_are() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        max_bytes: Size(400_000),
        ..config(&folder)
    };
    let journal = full(&config).await;
    let at = Timestamp::now();
    let (handle, reader) = (&journal.handle, journal.handle.reader().unwrap());
    let window = |from, to| WindowChange::Open {
        from,
        to,
        reason: "start",
        missing: 0,
    };
    handle.window(window(at, Some(at))).await.unwrap();
    handle.first_list_done().await.unwrap();
    let heal = WindowChange::Heal {
        asked: at.plus(Duration::from_secs(1)),
        differences: 2,
    };
    handle.window(heal).await.unwrap();
    let mut stored = handle.sync_events().await.unwrap();
    // What is asked later and may pass is not held up, such as that the feed is not heard now.
    handle
        .window(window(at.plus(Duration::from_secs(2)), None))
        .await
        .unwrap();
    handle.sync().await.unwrap();
    let healed = |reader: &Reader| {
        let windows = reader.windows(9).unwrap();
        assert_eq!(windows.len(), 2, "both are in the file: {windows:?}");
        windows
            .iter()
            .filter(|window| window.healed_at.is_some())
            .count()
    };
    let first = |path: &std::path::Path| {
        let file = Connection::open(path).unwrap();
        schema::meta(&file, "first_list_done").unwrap()
    };
    assert_eq!((healed(&reader), first(&config.path)), (0, None));
    assert!(stored.try_recv().is_err(), "two events are not in the file");

    for position in 1..=3 {
        handle.advance(0, position, true).await.unwrap();
        let mut committed = handle.committing();
        let next = position + 1;
        committed.wait_for(|at| *at >= next.min(3)).await.unwrap();
    }
    stored.await.unwrap();
    assert_eq!((healed(&reader), first(&config.path)), (1, Some(1)));
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

/// Positions of all records.
fn positions(journal: &Journal) -> Vec<u64> {
    let reader = journal.handle.reader().unwrap();
    let records = reader.records(0, 99, 99, 1 << 20).unwrap();
    records.iter().map(|record| record.position).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retention_counts_from_the_last_delivery_and_a_clock_set_back_only_keeps_longer() {
    static SECOND: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let at = |second| SECOND.store(second, std::sync::atomic::Ordering::SeqCst);
    let clock = || Timestamp(SECOND.load(std::sync::atomic::Ordering::SeqCst) * 1_000_000_000);
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let mut journal = Journal::open(&config, &["a"], &Metrics::new(&["a"]), clock).unwrap();
    let add = async |journal: &mut Journal, to: u64| {
        while journal.appender.position() < to {
            let mut entry = entry(journal, 1, "x");
            let (record, _) = entry.record.as_mut().unwrap();
            Arc::<Record>::make_mut(record).received_at = clock();
            journal.appender.append(entry).await.unwrap();
        }
        journal.handle.sync().await.unwrap();
    };
    add(&mut journal, 5).await;
    // Heard two retentions ago, delivered now.
    at(2 * 3600);
    journal.handle.advance(0, 5, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(positions(&journal), [1, 2, 3, 4, 5]);
    at(3 * 3600 + 1);
    journal.handle.sync().await.unwrap();
    assert_eq!(positions(&journal), [0; 0]);

    // A far jump takes nothing that a sink lacks.
    add(&mut journal, 8).await;
    at(1_000_000);
    journal.handle.sync().await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(positions(&journal), [6, 7, 8]);
    journal.handle.advance(0, 8, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    // The clock is set back: they are kept for a whole retention from now, not until it is as late again.
    at(10_000);
    journal.handle.sync().await.unwrap();
    at(10_000 + 3500);
    journal.handle.sync().await.unwrap();
    assert_eq!(positions(&journal), [6, 7, 8]);
    at(10_000 + 3700);
    journal.handle.sync().await.unwrap();
    assert_eq!(positions(&journal), [0; 0]);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_never_ends_before_it_begins_and_is_healed_whatever_the_clock_does() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&config(&folder), &["a"]);
    let now = Timestamp::now();
    let later = Timestamp(now.0 + 3_600_000_000_000);
    // Opened, and a gap told, an hour ahead; then the clock is set right.
    for to in [None, Some(later)] {
        let from = later;
        let opened = WindowChange::Open {
            from,
            to,
            reason: "gap",
            missing: 1,
        };
        journal.handle.window(opened).await.unwrap();
    }
    let change = WindowChange::Close { to: now };
    journal.handle.window(change).await.unwrap();
    let heal = WindowChange::Heal {
        asked: now,
        differences: 0,
    };
    journal.handle.window(heal).await.unwrap();
    journal.handle.sync().await.unwrap();
    let windows = journal.handle.reader().unwrap().windows(10).unwrap();
    assert_eq!(windows.len(), 2);
    for window in windows {
        assert!(window.to.is_some_and(|to| to >= window.from), "{window:?}");
        assert!(window.healed_at.is_some(), "{window:?}");
    }
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stamp_does_not_pass_a_message_that_waits_to_be_committed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let metrics = Metrics::new(&["a"]);
    let mut journal = Journal::open(&config, &["a"], &metrics, Timestamp::now).unwrap();
    let stamp = || {
        let file = Connection::open(&config.path).unwrap();
        schema::meta(&file, "last_written").unwrap().map(Timestamp)
    };
    let waits = journal.appender.room().acquire_many_owned(512).await;
    // Neither what a list tells of nor a cursor says that the message was heard.
    let mut listed = entry(&mut journal, 1, "listed");
    listed.record = listed.record.map(|(record, _)| (record, Origin::Reconcile));
    journal.appender.append(listed).await.unwrap();
    journal.handle.advance(0, 1, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(stamp(), None);
    // A message that was heard moves it to when it was received, and no further.
    let heard = entry(&mut journal, 2, "heard");
    let received_at = heard.record.as_ref().unwrap().0.received_at;
    journal.appender.append(heard).await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(stamp(), Some(received_at));
    // When nothing waits, it is the time of the feed's last frame: a half-open socket hears nothing.
    drop(waits);
    let last_frame = received_at.plus(Duration::from_secs(3600));
    metrics.feed.last_frame.set(last_frame.as_seconds());
    journal.handle.advance(0, 2, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    let off = stamp().unwrap().seconds_since(last_frame);
    assert!(off.abs() < 0.001, "{off}");
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_reads_the_whole_journal() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    close(open(&config, &["a"])).await;
    let file = Connection::open(&config.path).unwrap();
    let plan = format!("EXPLAIN QUERY PLAN {}", writer::RECORDS);
    let mut plan = file.prepare(&plan).unwrap();
    let steps = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
    let steps: Vec<String> = steps.map(Result::unwrap).collect();
    assert!(
        steps.iter().any(|step| step == "SEARCH records"),
        "{steps:?}"
    );
    assert!(
        !steps.iter().any(|step| step.contains("SCAN records")),
        "{steps:?}"
    );
}
