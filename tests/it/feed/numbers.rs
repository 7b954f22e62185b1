//! The vendor's numbers: what is a gap, what is only late, and what only looks like a repeat.

use onboarding_bridge::simulator::Options;
use serde_json::json;

use super::{reasons, users};
use crate::support::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn two_reconnects_and_three_gaps_of_two_give_exactly_these_figures() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    let control = &line.control;
    // Enough behind each gap that it cannot be a reorder any more.
    let after_a_gap = 12;
    control.step(10).await;
    control.skip(2).await;
    control.step(after_a_gap).await;
    line.heard(22);
    line.reconnect().await;
    control.step(10).await;
    control.skip(2).await;
    control.step(after_a_gap).await;
    control.skip(2).await;
    control.step(after_a_gap).await;
    line.heard(56);
    control.close(1001).await;
    // Told to nobody: only the list knows of it.
    control.change_silently(25);
    line.subscribed(3).await;
    control.step(10).await;
    line.heard(66);
    let windows = line.healed_windows(6);
    assert_eq!(
        reasons(&windows),
        ["start", "gap", "closed", "gap", "gap", "closed"]
    );
    let missing: Vec<_> = windows.iter().map(|window| &window["missing"]).collect();
    assert_eq!(missing, [0, 2, 0, 2, 2, 0]);
    let bridge = &line.bridge;
    assert_eq!(bridge.metric_sum("feed_reconnects_total"), 2.0);
    assert_eq!(line.lost("closed"), 2.0);
    assert_eq!(bridge.metric("feed_connects_total"), 3.0);
    assert_eq!(bridge.metric("feed_sequence_gaps_total"), 3.0);
    assert_eq!(bridge.metric("feed_sequence_missing_total"), 6.0);
    assert_eq!(bridge.metric("feed_sequence_regressions_total"), 0.0);
    assert!(bridge.metric("feed_blind_seconds_total") > 0.0);
    assert_eq!(bridge.metric_sum("dead_letters_total"), 0.0);
    assert_eq!(bridge.metric_sum("events_lost_total"), 0.0);
    let differences = bridge.metric("reconcile_differences_total");
    let ended = line.end().await;
    ended.assert_repaired();
    ended.assert_once();
    assert_eq!((ended.by("feed").len(), ended.sent), (66, 66));
    #[allow(clippy::cast_precision_loss, reason = "a few records")]
    let listed = ended.by("reconcile").len() as f64;
    assert_eq!(listed, differences);
    assert!(
        differences > 100.0,
        "the first list and at least one repair"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_reconnect_or_a_reorder_inside_the_window_is_no_gap() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    line.control.step(10).await;
    // The first of nine comes eight frames late: just inside the window.
    assert_eq!(line.control.reorder(8).await, 9);
    line.control.step(20).await;
    line.heard(39);
    line.reconnect().await;
    line.control.step(20).await;
    line.heard(59);
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "closed"]);
    for series in ["gaps", "missing", "regressions"] {
        let series = format!("feed_sequence_{series}_total");
        assert_eq!(line.bridge.metric(&series), 0.0, "{series}");
    }
    assert_eq!(line.bridge.metric_sum("feed_reconnects_total"), 1.0);
    let ended = line.end().await;
    ended.assert_repaired();
    assert_eq!(ended.by("feed").len(), 59);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_comes_after_the_window_is_a_gap_and_its_message_still_counts() {
    let line = Line::listening(Options::for_tests(), "reorder_window: 4", "").await;
    line.control.step(3).await;
    line.control.reorder(12).await;
    line.heard(16);
    assert_eq!(line.bridge.metric("feed_sequence_gaps_total"), 1.0);
    assert_eq!(line.bridge.metric("feed_sequence_missing_total"), 1.0);
    assert_eq!(line.bridge.metric("feed_sequence_regressions_total"), 1.0);
    line.healed_windows(2);
    let ended = line.end().await;
    ended.assert_repaired();
    assert_eq!(ended.by("feed").len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_messages_with_equal_sequence_and_timestamp_are_both_published() {
    let line = Line::listening(users(10), "", "").await;
    assert!(line.control.send_event_for(4).await);
    assert!(line.control.send_with_same_envelope(4).await);
    assert!(line.control.send_with_same_envelope(7).await);
    line.heard(3);
    let user = line.control.user_id(4);
    let ended = line.end().await;
    ended.assert_once();
    ended.assert_repaired();
    let [first, second, third] = ended.by("feed")[..] else {
        panic!("three messages, not {:?}", ended.by("feed"));
    };
    for other in [second, third] {
        assert_eq!(first["feed"], other["feed"]);
        assert_eq!(first["occurred_at"], other["occurred_at"]);
    }
    assert_eq!(
        (&first["user_id"], &second["user_id"]),
        (&json!(user), &json!(user))
    );
    assert_eq!(first["last_name"], "Example-1");
    assert_eq!(second["last_name"], "Example-2");
    assert_eq!(second["changed"], json!(["last_name", "requirements"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_frame_is_counted_and_not_published_again() {
    let line = Line::listening(users(10), "", "").await;
    line.control.step(3).await;
    line.control.repeat_last().await;
    line.control.repeat_last().await;
    line.control.step(2).await;
    line.heard(7);
    line.reaches("normalise_duplicates_total", 2.0);
    assert_eq!(line.bridge.metric("feed_sequence_regressions_total"), 2.0);
    assert_eq!(line.bridge.metric("feed_sequence_gaps_total"), 0.0);
    let ended = line.end().await;
    ended.assert_once();
    ended.assert_repaired();
    assert_eq!((ended.by("feed").len(), ended.sent), (5, 7));
}
