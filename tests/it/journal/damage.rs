//! A journal whose bytes are not what was written: torn at its end, or damaged in the middle.

use std::collections::BTreeMap;
use std::path::Path;

use onboarding_bridge::config::JournalConfig;
use onboarding_bridge::journal::{Journal, JournalError, verify};
use onboarding_bridge::simulator::Options;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;

use crate::support::bridge::{Bridge, config as bridge_config, eventually, file_sink};
use crate::support::journals::{append, close, config, open, positions};

const PAGE: usize = 8192;

/// A frame of the log: its header and one page.
const FRAME: usize = 24 + PAGE;

/// The header of the log.
const LOG_HEADER: usize = 32;

fn sql(path: &Path, text: &str) {
    Connection::open(path).unwrap().execute_batch(text).unwrap();
}

fn copy(from: &Path, to: &Path, endings: &[&str]) {
    for ending in endings {
        let name = |path: &Path| format!("{}{ending}", path.display());
        std::fs::copy(name(from), name(to)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_torn_anywhere_leaves_a_prefix_and_the_positions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = config(folder.path());
    let (mut journal, _) = open(&whole).unwrap();
    for _ in 0..40 {
        append(&mut journal, 1, 300).await;
    }
    // What a power cut leaves: the file and its log as they are at this moment.
    let torn = tempfile::tempdir().unwrap();
    let taken = config(torn.path());
    copy(&whole.path, &taken.path, &["", "-wal"]);
    close(journal).await;
    let log = std::fs::read(format!("{}-wal", taken.path.display())).unwrap();
    let frames = (log.len() - LOG_HEADER) / FRAME;
    assert!(frames > 80, "{frames}");
    let edges = (0..=frames).map(|frame| LOG_HEADER + frame * FRAME);
    let within = (0..40).map(|_| rand::random_range(0..log.len()));
    let mut lengths = BTreeMap::new();
    for cut in edges.chain(within) {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        copy(&taken.path, &config.path, &[""]);
        std::fs::write(format!("{}-wal", config.path.display()), &log[..cut]).unwrap();
        let (mut journal, metrics) = open(&config).unwrap();
        let held = positions(&journal);
        let last = held.len() as u64;
        assert_eq!(held, (1..=last).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(journal.appender.position(), last, "cut at {cut}");
        append(&mut journal, 1, 300).await;
        assert_eq!(positions(&journal).last(), Some(&(last + 1)));
        close(journal).await;
        assert!(verify(&config).unwrap().ok, "cut at {cut}");
        let lost = metrics
            .loss
            .events_lost
            .with_label_values(&["journal_corrupt"]);
        assert_eq!(lost.get(), 0, "a torn end is no damage");
        lengths.insert(cut, last);
    }
    assert_eq!(lengths.values().max(), Some(&40));
    assert!(lengths.values().min() < Some(&3), "{lengths:?}");
    assert!(lengths.values().is_sorted(), "{lengths:?}");
}

/// Records in the journals that are damaged, and how many of them the sink has.
const RECORDS: u64 = 2000;
const DELIVERED: u64 = 900;

/// A journal as a crash leaves it, all of it in the file.
async fn crashed(folder: &Path) -> onboarding_bridge::config::JournalConfig {
    let config = config(folder);
    let (mut journal, _) = open(&config).unwrap();
    append(&mut journal, usize::try_from(RECORDS).unwrap(), 400).await;
    journal.handle.advance(0, DELIVERED, true).await.unwrap();
    close(journal).await;
    sql(
        &config.path,
        "UPDATE meta SET value = 0 WHERE name = 'closed'",
    );
    config
}

fn contents(journal: &Journal) -> BTreeMap<u64, Vec<u8>> {
    let reader = journal.handle.reader().unwrap();
    let mut found = BTreeMap::new();
    while let records = reader
        .records(
            found.keys().last().copied().unwrap_or_default(),
            1 << 40,
            1000,
            1 << 24,
        )
        .unwrap()
        && !records.is_empty()
    {
        found.extend(
            records
                .iter()
                .map(|record| (record.position, record.body.clone())),
        );
    }
    found
}

/// Damages a copy and opens it; how many records are left of it, where it is not refused.
async fn survives(
    whole: &Path,
    what: &str,
    bytes: &[u8],
    before: &BTreeMap<u64, Vec<u8>>,
) -> Option<u64> {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    copy(whole, &config.path, &[""]);
    std::fs::write(&config.path, bytes).unwrap();
    let (mut journal, metrics) = match open(&config) {
        Ok(opened) => opened,
        Err(JournalError::Format { .. }) => return None,
        Err(error) => panic!("{what}: {error}"),
    };
    let left = contents(&journal);
    for (position, body) in &left {
        assert_eq!(
            before.get(position),
            Some(body),
            "{what}: record {position}"
        );
    }
    let lost = metrics
        .loss
        .events_lost
        .with_label_values(&["journal_corrupt"]);
    let undelivered = left.range(DELIVERED + 1..).count() as u64;
    let cursor_is_known = journal.found.cursors[0].0 == DELIVERED;
    if cursor_is_known {
        assert_eq!(lost.get(), RECORDS - DELIVERED - undelivered, "{what}");
    }
    // Nothing is idle: it takes events, and gives them no position that was given before.
    assert_eq!(journal.appender.position(), RECORDS, "{what}");
    append(&mut journal, 10, 100).await;
    let windows = journal.handle.reader().unwrap().windows(10).unwrap();
    close(journal).await;
    let report = verify(&config).unwrap();
    assert!(report.ok, "{what}: {report:?}");
    let is_aside = std::fs::read_dir(folder.path()).unwrap().any(|file| {
        let name = file.unwrap().file_name();
        name.to_string_lossy().contains("journal.db.damaged-")
    });
    assert_eq!(
        is_aside,
        windows
            .iter()
            .any(|window| window.reason == "journal_corrupt")
    );
    if (left.len() as u64) < RECORDS {
        assert!(is_aside, "{what}: records are missing and nothing was said");
    }
    Some(left.len() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_position_is_given_twice_where_the_last_records_are_lost_and_no_cursor_had_passed_them()
{
    let folder = tempfile::tempdir().unwrap();
    let config = crashed(folder.path()).await;
    // A page that is lost takes its rows along; another one that is no page makes it a damaged file.
    sql(
        &config.path,
        "DELETE FROM users; DELETE FROM records WHERE position > 1500; VACUUM;
         PRAGMA wal_checkpoint(TRUNCATE);",
    );
    let mut bytes = std::fs::read(&config.path).unwrap();
    // Of records that the sink lacks.
    let page = bytes.len() / PAGE * 4 / 5 * PAGE;
    bytes[page..page + PAGE].fill(0xa5);
    std::fs::write(&config.path, &bytes).unwrap();
    let (journal, metrics) = open(&config).unwrap();
    let lost = metrics
        .loss
        .events_lost
        .with_label_values(&["journal_corrupt"]);
    assert!(lost.get() > 0, "the page was none of the records");
    assert!(journal.appender.position() >= RECORDS);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_names_another_version_of_the_format_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = crashed(folder.path()).await;
    let bytes = std::fs::read(&whole.path).unwrap();
    let (journal, _) = open(&whole).unwrap();
    let before = contents(&journal);
    close(journal).await;
    for (at, value) in [(18, 0x41), (18, 3), (18, 0), (19, 1), (19, 0)] {
        let mut damaged = bytes.clone();
        damaged[at] = value;
        let what = format!("byte {at} is {value}");
        let left = survives(&whole.path, &what, &damaged, &before).await;
        assert_eq!(left, Some(RECORDS), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_damaged_page_costs_only_what_was_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let whole = crashed(folder.path()).await;
    let bytes = std::fs::read(&whole.path).unwrap();
    sql(
        &whole.path,
        "UPDATE meta SET value = 1 WHERE name = 'closed'",
    );
    let (journal, _) = open(&whole).unwrap();
    let before = contents(&journal);
    assert_eq!(before.len() as u64, RECORDS);
    close(journal).await;
    let pages = bytes.len() / PAGE;
    assert!(pages > 100, "{pages}");
    let mut left = BTreeMap::new();
    let picked = (0..40).map(|_| rand::random_range(12..pages));
    for page in (0..12).chain(picked) {
        let mut damaged = bytes.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        let survived = survives(&whole.path, &format!("page {page}"), &damaged, &before).await;
        left.insert(page, survived);
    }
    println!("{left:?}");
    assert_eq!(
        left[&0], None,
        "without its first page nothing is a journal"
    );
    assert!(left.range(1..).all(|(_, left)| left.is_some()), "{left:?}");
    // A leaf holds few records; only the inner pages and the root hold more.
    let costly = left
        .values()
        .flatten()
        .filter(|left| **left < RECORDS - 20)
        .count();
    assert!(costly <= 3, "{left:?}");
    assert!(
        left.values().flatten().any(|left| *left < RECORDS),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_never_keep_a_journal_from_going_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = crashed(folder.path()).await;
    let bytes = std::fs::read(&whole.path).unwrap();
    // The same damage each time, so that a change is judged by what it changed.
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut damaged = bytes.clone();
        // Past the header and the list of tables; a run as a torn sector leaves it.
        let at = rng.random_range(PAGE..bytes.len() - 512);
        rng.fill(&mut damaged[at..at + 512]);
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        std::fs::write(&config.path, &damaged).unwrap();
        let (mut journal, _) =
            open(&config).unwrap_or_else(|error| panic!("seed {seed}, byte {at}: {error}"));
        append(&mut journal, 10, 100).await;
        close(journal).await;
    }
}

/// Starts a vendor and a bridge with a file, and lets it hear and deliver a part; then ends it.
async fn delivered(
    folder: &Path,
) -> (
    onboarding_bridge::simulator::Simulator,
    String,
    std::path::PathBuf,
) {
    let options = Options {
        users: 300,
        rate: 0.0,
        events: Some(3000),
        ..Options::for_tests()
    };
    let simulator = onboarding_bridge::simulator::Simulator::start(options)
        .await
        .unwrap();
    let file = folder.join("events.jsonl");
    let yaml = bridge_config(&simulator, folder, "", &file_sink("local", &file));
    let bridge = Bridge::start(folder, &yaml);
    bridge.wait_ready();
    simulator.control().resume();
    eventually("all events to be heard", || {
        (crate::support::course::heard(&bridge) == 3000).then_some(())
    });
    bridge.wait_delivered();
    bridge.terminate();
    (simulator, yaml, file)
}

fn last_states(file: &Path) -> BTreeMap<String, (String, String)> {
    let mut last = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        last.insert(text("user_id"), (text("status"), text("last_name")));
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_with_a_damaged_journal_serves_what_is_readable_and_repairs_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (simulator, yaml, file) = delivered(folder.path()).await;
    // Nothing is delivered yet, as far as the journal knows, and the end of the records is gone: there
    // are the last events of many users.
    std::fs::remove_file(&file).unwrap();
    let path = folder.path().join("journal.db");
    sql(
        &path,
        "UPDATE cursors SET position = 0; UPDATE meta SET value = 0 WHERE name = 'closed'",
    );
    let records = verify(&JournalConfig::at(&path)).unwrap().records;
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / PAGE;
    bytes[(pages - 30) * PAGE..(pages - 5) * PAGE].fill(0);
    std::fs::write(&path, bytes).unwrap();

    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    let lost = bridge.metric("events_lost_total{reason=\"journal_corrupt\"}");
    assert!(lost > 20.0, "{lost}: {}", bridge.log());
    eventually("every window to be healed", || {
        let status = bridge.status();
        let windows = status["feed"]["blind_windows"].as_array().unwrap().clone();
        let healed = windows.iter().all(|window| window["healed_at"].is_string());
        let damage = windows
            .iter()
            .find(|window| window["reason"] == "journal_corrupt");
        (healed && damage.is_some_and(|window| window["missing"] == lost)).then_some(())
    });
    bridge.wait_delivered();
    let log = bridge.log();
    assert!(
        log.contains("saved what is readable") && log.contains("was set aside"),
        "{log}"
    );
    bridge.terminate();
    let last = last_states(&file);
    for user in simulator.control().users() {
        let expected = (user.status.to_owned(), format!("Example-{}", user.counter));
        let id = &user.user_id;
        assert_eq!(
            last.get(id),
            Some(&expected),
            "{records} records, {lost} lost"
        );
    }
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_met_in_mid_run_ends_it_once_and_never_again() {
    let folder = tempfile::tempdir().unwrap();
    let (simulator, yaml, file) = delivered(folder.path()).await;
    std::fs::remove_file(&file).unwrap();
    let path = folder.path().join("journal.db");
    // SQLite's own check finds nothing here: it is a value that no bridge has written.
    sql(
        &path,
        "UPDATE cursors SET position = 0; UPDATE records SET event_type = 'x' WHERE position = 1500",
    );
    let records = verify(&JournalConfig::at(&path)).unwrap().records;
    let mut bridge = Bridge::start(folder.path(), &yaml);
    assert_eq!(bridge.wait().code(), Some(74), "{}", bridge.log());
    assert!(
        bridge.log().contains("the file is damaged; start again"),
        "{}",
        bridge.log()
    );
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    assert_eq!(
        bridge.metric("events_lost_total{reason=\"journal_corrupt\"}"),
        1.0
    );
    bridge.wait_delivered();
    bridge.terminate();
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    assert_eq!(
        bridge.metric("events_lost_total{reason=\"journal_corrupt\"}"),
        0.0
    );
    bridge.terminate();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() as u64 >= records - 1);
    simulator.shutdown().await;
}
