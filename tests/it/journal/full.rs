//! A journal that has its configured size, and a log that readers keep long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onboarding_bridge::config::Size;
use onboarding_bridge::journal::Blocked;
use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::nats::tail::ensure_stream;
use tokio::time::timeout;

use crate::support::beds::OwnBed;
use crate::support::bridge::{Bridge, config as bridge_config, eventually, nats_sink};
use crate::support::course::heard;
use crate::support::journals::{append, append_until_blocked, close, config, open};
use crate::support::line::Line;
use crate::support::oracle;

/// Far below what is written in this test, above what the log may have.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn cursors_that_move_do_not_keep_a_full_journal_full() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.max_bytes = Size(1024 * 1024);
    let (mut journal, _) = open(&config).unwrap();
    let mut blocked = journal.handle.blocked();
    append_until_blocked(&mut journal, 20_000).await;
    assert_eq!(*blocked.borrow(), Some(Blocked::Full));
    let last = journal.handle.committed();
    let handle = journal.handle.clone();
    let mut moving = tokio::task::JoinSet::new();
    moving.spawn(async move {
        // A sink that catches up moves its cursor all the time.
        for step in 0_u64.. {
            handle.advance(0, step.min(last), true).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let free = timeout(Duration::from_secs(10), blocked.wait_for(Option::is_none)).await;
    free.expect("the journal has room again while the cursor moves")
        .unwrap();
    moving.shutdown().await;
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_short_while_sinks_read_a_long_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (mut journal, _) = open(&config).unwrap();
    append(&mut journal, 1000, 20_000).await;
    // Sinks that never come to the end of their backlog, each in the file at nearly all times.
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (reader, stop) = (journal.handle.reader().unwrap(), Arc::clone(&stop));
        readers.spawn_blocking(move || {
            let mut read = 0;
            while !stop.load(Ordering::Relaxed) {
                let after = rand::random_range(0..900);
                read += reader.records(after, 1000, 100, 1 << 24).unwrap().len();
            }
            read
        });
    }
    let (log, mut longest) = (format!("{}-wal", config.path.display()), 0);
    for _ in 0..120 {
        append(&mut journal, 100, 20_000).await;
        longest = longest.max(std::fs::metadata(&log).unwrap().len());
    }
    stop.store(true, Ordering::Relaxed);
    let mut read = 0;
    while let Some(by_one) = readers.join_next().await {
        read += by_one.unwrap();
    }
    println!("{read} records read meanwhile; the log had up to {longest} bytes");
    assert!(read > 1000, "{read}");
    // On a slow machine much is written while it waits for the readers; without that, all of it is there.
    assert!(longest < 2 * LOG_BYTES_MAX, "{longest}");
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_ends_makes_the_journal_full_and_not_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.max_bytes = Size::mebibytes(48);
    let (mut journal, _) = open(&config).unwrap();
    append(&mut journal, 10, 1000).await;
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other
        .execute_batch("BEGIN; SELECT count(*) FROM records")
        .unwrap();
    let mut blocked = journal.handle.blocked();
    // What the sink has is pruned from the file, so that only the log grows.
    let handle = journal.handle.clone();
    let mut sink = tokio::task::JoinSet::new();
    sink.spawn(async move {
        loop {
            handle.advance(0, handle.committed(), true).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    // It gets room as long as there is something to prune, and then no more.
    loop {
        append_until_blocked(&mut journal, 20_000).await;
        let room = timeout(Duration::from_secs(2), blocked.wait_for(Option::is_none));
        if room.await.is_err() {
            break;
        }
    }
    assert_eq!(*blocked.borrow(), Some(Blocked::Full));
    let log = std::fs::metadata(format!("{}-wal", config.path.display())).unwrap();
    let bound = config.max_bytes.0 + 2 * LOG_BYTES_MAX;
    assert!(log.len() < bound, "{} bytes", log.len());
    other.execute_batch("COMMIT").unwrap();
    let free = timeout(Duration::from_secs(20), blocked.wait_for(Option::is_none)).await;
    free.expect("room again when the reader is gone").unwrap();
    sink.shutdown().await;
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_below_the_users_alone_is_said_by_name() {
    let options = Options {
        users: 3000,
        ..Options::for_tests()
    };
    let line = Line::start_with(options, |yaml, _| {
        yaml.replacen("journal:\n", "journal:\n  max_bytes: 300KiB\n", 1)
    })
    .await;
    eventually("the limit to be named", || {
        let log = line.bridge.log();
        log.contains("journal.max_bytes is too small").then_some(())
    });
    assert_eq!(line.bridge.status()["journal"]["blocked"], "full");
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_newest_reads_on_counts_each_loss_and_the_list_repairs_the_states() {
    let bed = OwnBed::nats(&[]);
    let options = Options {
        users: 100,
        rate: 2000.0,
        ..Options::for_tests()
    };
    let simulator = onboarding_bridge::simulator::Simulator::start(options)
        .await
        .unwrap();
    let control = simulator.control();
    ensure_stream(&bed.address, "FULL", "full").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = nats_sink("nats", &bed.address, "FULL", "full");
    let yaml = bridge_config(&simulator, folder.path(), "", &sink).replacen(
        "journal:\n",
        "journal:\n  max_bytes: 2MiB\n  when_full: drop_newest\n",
        1,
    );
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    eventually("the first list", || {
        (bridge.metric("reconcile_runs_total{outcome=\"success\"}") == 1.0).then_some(())
    });
    bed.signal("STOP");
    control.resume();
    eventually("events to be dropped", || {
        (bridge.metric("events_lost_total{reason=\"journal_full\"}") > 500.0).then_some(())
    });
    assert_eq!(bridge.metric("feed_connected"), 1.0, "it reads on");
    control.pause();
    bed.signal("CONT");
    eventually("the windows to be healed", || {
        let status = bridge.status();
        let windows = status["feed"]["blind_windows"].as_array().unwrap().clone();
        let full = windows
            .iter()
            .any(|window| window["reason"] == "journal_full");
        let healed = windows.iter().all(|window| window["healed_at"].is_string());
        (full && healed).then_some(())
    });
    bridge.wait_delivered();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a counter, far below 2^52"
    )]
    let lost = bridge.metric_sum("events_lost_total") as u64;
    // Heard = journalled + duplicates + dead letters + lost.
    assert_eq!(heard(&bridge) + lost, control.stats().events_sent);
    let said = bridge.log().matches("as journal.when_full asks").count();
    assert!(
        (1..10).contains(&said),
        "once a spell, not {said} times for {lost} events"
    );
    bridge.terminate();
    let landed = oracle::nats(&bed.address, "FULL", "full").await;
    oracle::each_life_is_whole("nats", &landed);
    oracle::ends_as_the_vendor_says("nats", &landed, &control.users());
    simulator.shutdown().await;
}
