//! The disk under the journal: full, read-only, failing.

use std::time::Duration;

use onboarding_bridge::config::JournalConfig;
use onboarding_bridge::event::Timestamp;
use onboarding_bridge::journal::{Blocked, DeadLetter, JournalError, verify};
use onboarding_bridge::simulator::Options;

use crate::support::bridge::{Bridge, config as bridge_config, file_sink};
use crate::support::disk::{Faults, SmallDisk};
use crate::support::journals::{append, append_until_blocked, close, config, open, positions};
use crate::support::line::Line;

/// `EIO`, `EROFS`.
const IO_ERROR: i32 = 5;
const READ_ONLY: i32 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_what_it_was_given_and_goes_on_when_there_is_room() {
    let disk = SmallDisk::of_mebibytes(16);
    let config = config(disk.path());
    let (mut journal, metrics) = open(&config).unwrap();
    append(&mut journal, 10, 1000).await;
    disk.fill(512 * 1024);
    let mut blocked = journal.handle.blocked();
    let given = append_until_blocked(&mut journal, 10_000).await;
    assert_eq!(*blocked.borrow(), Some(Blocked::DiskFull));
    let full = metrics.journal.blocked.with_label_values(&["disk_full"]);
    assert_eq!(full.get(), 1);
    // Nothing of this can be written now, and nothing of it may be lost.
    journal.handle.advance(0, 7, true).await.unwrap();
    let letter = DeadLetter {
        at: Timestamp::now(),
        stage: "normalise".to_owned(),
        reason: "schema",
        detail: "detail".to_owned(),
        record: None,
        shape: None,
    };
    let handle = journal.handle.clone();
    let durable = handle.dead_letter_durably(letter);
    let mut durable = std::pin::pin!(durable);
    let early = tokio::time::timeout(Duration::from_secs(3), &mut durable).await;
    assert!(early.is_err(), "durable on a full disk");
    assert!(journal.handle.committed() < given);

    disk.make_room();
    durable.await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(journal.handle.committed(), given);
    blocked.wait_for(Option::is_none).await.unwrap();
    assert_eq!(full.get(), 0);
    assert_eq!(positions(&journal), (1..=given).collect::<Vec<_>>());
    close(journal).await;
    let report = verify(&config).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!((report.dead_letters, report.cursors[0].position), (1, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_asked_for_does_not_wait_for_room() {
    let disk = SmallDisk::of_mebibytes(16);
    let config = config(disk.path());
    let (mut journal, _) = open(&config).unwrap();
    append(&mut journal, 10, 1000).await;
    disk.fill(256 * 1024);
    append_until_blocked(&mut journal, 10_000).await;
    let committed = journal.handle.committed();
    journal.handle.hurry();
    journal.handle.close();
    let ended = tokio::time::timeout(Duration::from_secs(10), journal.writer).await;
    let error = ended.unwrap().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("make room on the disk"),
        "{error}"
    );
    drop((journal.appender, journal.handle, journal.lock));
    disk.make_room();
    let (journal, _) = open(&config).unwrap();
    assert!(journal.appender.position() >= committed);
    assert!(verify(&config).unwrap().ok);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_or_read_only_disk_says_what_to_do() {
    let disk = SmallDisk::of_mebibytes(8);
    disk.fill(0);
    let error = open(&config(disk.path())).unwrap_err();
    assert!(matches!(error, JournalError::Open { .. }), "{error:?}");
    assert!(
        error.to_string().contains("make room on the disk"),
        "{error}"
    );
    disk.make_room();
    let (mut journal, _) = open(&config(disk.path())).unwrap();
    append(&mut journal, 10, 1000).await;
    close(journal).await;
    disk.read_only();
    let error = open(&config(disk.path())).unwrap_err();
    assert!(error.to_string().contains("may write"), "{error}");
    assert!(matches!(error, JournalError::Open { .. }), "{error:?}");
}

/// Runs a bridge until it has journalled something, lets `call` fail, and returns its last words.
async fn failing(call: &str, number: i32) -> String {
    let faults = Faults::new();
    let simulator = onboarding_bridge::simulator::Simulator::start(Options {
        users: 50,
        rate: 500.0,
        ..Options::for_tests()
    })
    .await
    .unwrap();
    simulator.control().resume();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let yaml = bridge_config(&simulator, folder.path(), "", &file_sink("local", &file));
    let variables = faults.environment();
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut bridge = Bridge::start_with(folder.path(), &yaml, &variables);
    bridge.wait_ready();
    let heard = "normalise_events_total{event_type=\"user.updated\",origin=\"feed\"}";
    crate::support::eventually("events", || (bridge.metric(heard) > 100.0).then_some(()));
    let committed = bridge.status()["journal"]["committed"].as_u64().unwrap();
    faults.fail(call, number);
    let failed = tokio::time::Instant::now();
    assert_eq!(bridge.wait().code(), Some(74), "{}", bridge.log());
    assert!(
        failed.elapsed() < Duration::from_secs(10),
        "{:?}",
        failed.elapsed()
    );

    let log = bridge.log();
    let report = verify(&JournalConfig::at(folder.path().join("journal.db"))).unwrap();
    assert!(
        report.ok && report.last_position.unwrap() >= committed,
        "{report:?}"
    );
    // Without the fault: everything that was committed is delivered, once.
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    simulator.control().pause();
    bridge.wait_delivered();
    bridge.terminate();
    let text = std::fs::read_to_string(&file).unwrap();
    let ids: std::collections::HashSet<String> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), text.lines().count());
    assert!(ids.len() as u64 >= report.last_position.unwrap());
    simulator.shutdown().await;
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fsync_ends_the_process_at_once_and_loses_nothing_that_was_committed() {
    let log = failing("sync", IO_ERROR).await;
    assert!(log.contains("look at the disk, mend it"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_ends_the_process_at_once_and_loses_nothing_that_was_committed() {
    for number in [IO_ERROR, READ_ONLY] {
        let log = failing("write", number).await;
        assert!(log.contains("the journal failed"), "{log}");
    }
}

/// More than lies between the socket and the disk, less than the small disk holds.
const EVENTS: u32 = 15_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_kept_from_being_heard_is_a_blind_window_that_the_list_heals() {
    let disk = SmallDisk::of_mebibytes(24);
    let options = Options {
        users: 200,
        rate: 0.0,
        events: Some(EVENTS.into()),
        ..Options::for_tests()
    };
    let journal = disk.path().join("journal.db");
    let line = Line::start_with(options, |yaml, folder| {
        let old = folder.join("journal.db").display().to_string();
        yaml.replace(&old, &journal.display().to_string()).replacen(
            "feed:\n",
            "feed:\n  ping_interval: 1s\n  idle_timeout: 2s\n",
            1,
        )
    })
    .await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    disk.fill(1024 * 1024);
    line.control.resume();
    line.reaches("journal_blocked{reason=\"disk_full\"}", 1.0);
    crate::support::eventually("the feed to be left unread", || {
        (line.bridge.metric("feed_connected") == 0.0).then_some(())
    });
    let status = line.bridge.status();
    assert_eq!(status["journal"]["blocked"], "disk_full");
    assert_eq!(status["feed"]["connected"], false);
    assert_eq!(line.bridge.get("/livez").0, 200);

    disk.make_room();
    let windows = line.healed_windows(2);
    let full = windows
        .iter()
        .find(|window| window["reason"] == "journal_full");
    let full = full.unwrap_or_else(|| panic!("{windows:?}"));
    assert!(full["from"].as_str() < full["to"].as_str(), "{full}");
    let log = line.bridge.log();
    // Said once for each spell, though it is tried every second.
    let spells = log.matches("the journal takes events again").count();
    assert_eq!(log.matches("the disk is full").count(), spells, "{log}");
    assert_eq!(line.bridge.metric_sum("events_lost_total"), 0.0);
    // Heard = journalled + duplicates + dead letters: nothing that was read is missing.
    crate::support::eventually("everything to be heard", || {
        (crate::support::course::heard(&line.bridge) == u64::from(EVENTS)).then_some(())
    });
    line.reaches("feed_frames_total{kind=\"event\"}", f64::from(EVENTS));
    let ended = line.end().await;
    ended.assert_once();
    ended.assert_repaired();
    assert!(verify(&JournalConfig::at(&journal)).unwrap().ok);
}
