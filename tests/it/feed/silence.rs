//! A feed that looks alive and tells nothing: the list finds it out.

use onboarding_bridge::simulator::Options;
use serde_json::Value;
use tokio::time::{Duration, timeout};

use super::{reasons, users};
use crate::support::eventually;
use crate::support::line::Line;

/// A list every two seconds, and a second for the feed to tell what it showed.
const WATCHFUL: &str = "interval: 2s\nsilence_grace: 1s";

async fn watched(options: Options) -> Line {
    let limits = "limits: {requests_per_minute: 40}";
    let line = Line::listening(options, limits, WATCHFUL).await;
    // The proof is a list that began with nothing left to heal.
    line.listed_at_least("success", 2.0);
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_answers_pings_and_tells_nothing_is_a_blind_window_and_renewed() {
    let line = watched(users(10)).await;
    let before = line.bridge.metric("feed_blind_seconds_total");
    line.control.change_silently(60);
    line.subscribed(2).await;
    let windows = line.healed_windows(3);
    assert_eq!(reasons(&windows)[..3], ["start", "silence", "silence"]);
    let silent = &windows[1];
    assert!(
        (1..=10).contains(&silent["missing"].as_u64().unwrap()),
        "{silent}"
    );
    assert!(
        silent["differences"].as_u64() >= silent["missing"].as_u64(),
        "{silent}"
    );
    // The connection that was given up.
    assert_eq!(windows[2]["missing"], 0);
    assert_eq!(line.lost("silence"), 1.0);
    assert!(line.bridge.metric("feed_blind_seconds_total") > before + 1.0);
    let log = line.bridge.log();
    let said = log
        .lines()
        .find(|line| line.contains("does not tell what the list shows"));
    let said: Value = serde_json::from_str(said.unwrap()).unwrap();
    assert_eq!(
        (&said["level"], &said["is_mute"]),
        (&"ERROR".into(), &true.into())
    );
    // It is quiet now, and that is no silence.
    line.listed_at_least("success", line.lists("success") + 2.0);
    assert_eq!(
        (line.lost("silence"), line.control.stats().subscribes),
        (1.0, 2)
    );
    line.control.step(3).await;
    line.heard(3);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vendor_documents_no_message_for_is_no_silence() {
    let line = watched(users(10)).await;
    let known = line.bridge.metric("reconcile_differences_total");
    // The first event of a user changes the last name alone.
    line.control.change_silently(1);
    let removed = line
        .control
        .users()
        .into_iter()
        .find(|user| user.counter == 0);
    let removed = removed.unwrap();
    assert!(line.control.remove_user(removed.index));
    line.reaches("reconcile_differences_total", known + 2.0);
    line.listed_at_least("success", line.lists("success") + 2.0);
    let renewed = line.control.wait_for(|stats| stats.subscribes > 1);
    assert!(timeout(Duration::from_secs(2), renewed).await.is_err());
    assert_eq!(reasons(&line.healed_windows(1)), ["start"]);
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_shows_before_the_feed_tells_it_is_no_silence() {
    let line = Line::listening(
        users(10),
        "limits: {requests_per_minute: 40}",
        "interval: 2s\nsilence_grace: 5s",
    )
    .await;
    line.listed_at_least("success", 2.0);
    let known = line.bridge.metric("reconcile_differences_total");
    line.control.change_silently(60);
    eventually("the list to show it", || {
        (line.bridge.metric("reconcile_differences_total") > known).then_some(())
    });
    // Late, but it comes.
    for user in 0..10 {
        assert!(line.control.send_event_for(user).await);
    }
    line.heard(10);
    line.listed_at_least("success", line.lists("success") + 3.0);
    assert_eq!(reasons(&line.healed_windows(1)), ["start"]);
    assert_eq!(line.lost("silence"), 0.0);
    line.end().await.assert_repaired();
}
