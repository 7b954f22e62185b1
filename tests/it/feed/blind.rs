//! Blind windows through kills, restarts and clocks: none begins after the first missed message, none is
//! forgotten, and none is told twice.

use std::path::Path;

use onboarding_bridge::event::Timestamp;
use onboarding_bridge::simulator::{AuthMode, Options};
use rusqlite::Connection;
use serde_json::Value;

use super::{reasons, users};
use crate::support::eventually;
use crate::support::line::Line;

const HOUR: i64 = 3_600_000_000_000;

/// A vendor that is away drops connections, and the second one in a row looks like its limit.
const SHORT_BLOCK: &str = "limits: {block_wait: 1s}";

/// Sets when a journal that no bridge has was last written.
fn last_written(folder: &Path, change: impl Fn(i64) -> i64) -> Timestamp {
    let file = Connection::open(folder.join("journal.db")).unwrap();
    let sql = "SELECT value FROM meta WHERE name = 'last_written'";
    let written: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
    let written = change(written);
    let sql = "UPDATE meta SET value = ?1 WHERE name = 'last_written'";
    file.execute(sql, [written]).unwrap();
    // As if every record had been there when that was noted: those after it would tell more.
    let sql = "UPDATE meta SET value = (SELECT max(position) FROM records)
        WHERE name = 'last_written_record'";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    Timestamp(written)
}

fn at(window: &Value, key: &str) -> Timestamp {
    Timestamp::parse(window[key].as_str().unwrap()).unwrap()
}

fn open_windows(line: &Line) -> Vec<Value> {
    let status = line.bridge.status();
    let windows = status["feed"]["blind_windows"].as_array().unwrap().clone();
    let open = windows.into_iter().filter(|window| window["to"].is_null());
    open.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_down_for_an_hour_knows_that_it_was_deaf_for_an_hour() {
    let mut line = Line::listening(users(10), "", "").await;
    line.control.step(3).await;
    line.heard(3);
    line.healed_windows(1);
    let folder = line.folder.path().to_owned();
    let mut since = Timestamp(0);
    line.kill_and_restart_after(|| since = last_written(&folder, |at| at - HOUR));
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "start"]);
    let early = since.seconds_since(at(&windows[1], "from"));
    // A second for what was on its way, two for a number that may have been awaited.
    assert!((0.0..10.0).contains(&early), "{early}");
    let blind = line.bridge.metric("feed_blind_seconds_total");
    assert!((3600.0..3700.0).contains(&blind), "{blind}");
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_leaves_a_window_all_the_same() {
    let mut line = Line::listening(users(10), "", "").await;
    line.healed_windows(1);
    let folder = line.folder.path().to_owned();
    let mut ahead = Timestamp(0);
    line.kill_and_restart_after(|| ahead = last_written(&folder, |at| at + HOUR));
    assert!(ahead > Timestamp::now());
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "start"]);
    let (from, to) = (at(&windows[1], "from"), at(&windows[1], "to"));
    assert!(from < to && to < Timestamp::now(), "{windows:?}");
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_a_half_open_spell_leaves_a_window_that_covers_the_spell() {
    let mut line = Line::listening(users(10), "ping_interval: 200ms\nreply_timeout: 20s", "").await;
    line.healed_windows(1);
    line.control.stall(true).await;
    let stalled = Timestamp::now();
    // Lost in the half-open socket.
    line.control.step(4).await;
    // An idle writer notes every five seconds that the process lives.
    eventually("the note of an idle writer", || {
        (Timestamp::now().seconds_since(stalled) > 11.0).then_some(())
    });
    assert_eq!(line.lost("idle"), 0.0, "not noticed yet");
    line.kill_and_restart();
    line.control.stall(false).await;
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "start"]);
    let early = stalled.seconds_since(at(&windows[1], "from"));
    assert!((0.0..9.0).contains(&early), "{early}");
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_open_at_a_kill_stays_the_same_window() {
    let mut line = Line::listening(users(10), SHORT_BLOCK, "").await;
    line.control.set_down(true).await;
    let [open] = eventually("the window", || {
        <[Value; 1]>::try_from(open_windows(&line)).ok()
    });
    line.kill_and_restart();
    line.kill_and_restart();
    assert_eq!(open_windows(&line), std::slice::from_ref(&open));
    line.control.change_silently(10);
    line.control.set_down(false).await;
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "broken"]);
    assert_eq!(windows[1]["from"], open["from"]);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_got_subscribed_leaves_one_window_from_the_first_start() {
    let options = Options {
        auth: AuthMode::Silence,
        ..users(10)
    };
    let mut line = Line::start(options, "", "").await;
    let [first] = eventually("the window", || {
        <[Value; 1]>::try_from(open_windows(&line)).ok()
    });
    line.kill_and_restart();
    line.kill_and_restart();
    line.control.set_auth(AuthMode::Ok);
    line.kill_and_restart();
    let windows = line.healed_windows(1);
    assert_eq!(reasons(&windows), ["start"]);
    assert_eq!(windows[0]["from"], first["from"]);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seconds_of_a_window_are_counted_while_it_is_open() {
    let line = Line::listening(users(10), SHORT_BLOCK, "").await;
    let seconds = || line.bridge.metric("feed_blind_seconds_total");
    line.control.set_down(true).await;
    eventually("the window", || {
        (open_windows(&line).len() == 1).then_some(())
    });
    let before = seconds();
    eventually("the seconds to go on", || {
        (seconds() > before + 2.0).then_some(())
    });
    assert_eq!(open_windows(&line).len(), 1);
    line.control.set_down(false).await;
    let windows = line.healed_windows(2);
    let spans = windows
        .iter()
        .map(|it| at(it, "to").seconds_since(at(it, "from")));
    // Windows begin a second or three before what is counted.
    let (spans, counted) = (spans.sum::<f64>(), seconds());
    assert!(
        (spans - 8.0..=spans).contains(&counted),
        "{counted} of {spans}"
    );
    line.end().await.assert_repaired();
}
