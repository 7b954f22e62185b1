//! The list: what it may change, and what it is not believed.

use std::time::Duration;

use onboarding_bridge::config::load_text;
use onboarding_bridge::event::Timestamp;
use onboarding_bridge::feed::budget::Budget;
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::reconcile::{Asker, Listed, Reconcile};
use onboarding_bridge::shutdown;
use onboarding_bridge::simulator::{Options, RestMode, Simulator};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::users;
use crate::support::bridge::{command, config, file_sink};
use crate::support::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_absent_from_the_list_is_removed() {
    let line = Line::listening(users(20), "", "").await;
    let gone = line.control.user_id(3);
    assert!(line.control.remove_user(3));
    line.reconnect().await;
    line.listed("success", 2.0);
    // Once: a later list that lacks the user again says nothing new.
    line.reconnect().await;
    line.listed("success", 3.0);
    let mut ended = line.end().await;
    let [removed] = ended.of_type("user.removed")[..] else {
        panic!("one removal, not {:?}", ended.of_type("user.removed"));
    };
    assert_eq!(removed["user_id"], gone);
    assert_eq!(removed["origin"], "reconcile");
    assert_eq!(removed["previous_status"], "PENDING");
    for key in [
        "email",
        "first_name",
        "last_name",
        "status",
        "requirements",
        "occurred_at",
        "feed",
    ] {
        assert_eq!(removed[key], Value::Null, "{key}");
    }
    ended.expected.insert(gone, Default::default());
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_list_removes_nobody() {
    let line = Line::listening(users(20), "", "").await;
    assert!((0..20).all(|user| line.control.remove_user(user)));
    line.reconnect().await;
    line.listed("refused", 1.0);
    let ended = line.end().await;
    assert_eq!(
        (ended.records.len(), ended.of_type("user.registered").len()),
        (20, 20)
    );
    let said = ended
        .log
        .lines()
        .find(|line| line.contains("nobody is removed"))
        .unwrap();
    let said: Value = serde_json::from_str(said).unwrap();
    assert_eq!(
        (&said["level"], &said["absent"]),
        (&json!("ERROR"), &json!(20))
    );
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("reconcile.max_removed_share")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_removes_nobody_and_heals_nothing() {
    let line = Line::listening(users(20), "", "").await;
    let gone = line.control.user_id(19);
    line.control.set_rest(RestMode::Truncated);
    line.control.remove_user(19);
    line.control.change_silently(5);
    line.reconnect().await;
    line.listed("failed", 1.0);
    let windows = line.bridge.status()["feed"]["blind_windows"].clone();
    assert_eq!(windows[0]["reason"], "closed");
    assert_eq!(windows[0]["healed_at"], Value::Null);
    let removed = "normalise_events_total{event_type=\"user.removed\",origin=\"reconcile\"}";
    assert_eq!(line.bridge.metric(removed), 0.0);
    line.control.set_rest(RestMode::Ok);
    line.reconnect().await;
    line.listed("success", 2.0);
    line.healed_windows(3);
    let mut ended = line.end().await;
    assert_eq!(ended.of_type("user.removed").len(), 1);
    ended.expected.insert(gone, Default::default());
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_adopt_publishes_nothing_that_was_there_before() {
    let options = Options {
        registered: Some(15),
        ..users(16)
    };
    let line = Line::listening(options, "", "first_start: adopt").await;
    assert!(line.control.send_event_for(2).await);
    assert!(line.control.send_event_for(15).await);
    line.heard(2);
    line.control.close(1001).await;
    line.control.change_silently(1);
    line.listed("success", 2.0);
    let (known, new) = (line.control.user_id(2), line.control.user_id(15));
    let ended = line.end().await;
    let [updated, registered, repaired] = &ended.records[..] else {
        panic!("three records, not {:?}", ended.records);
    };
    assert_eq!(
        (&updated["user_id"], &registered["user_id"]),
        (&json!(known), &json!(new))
    );
    assert_eq!(updated["event_type"], "user.updated");
    assert_eq!(updated["previous_status"], "PENDING");
    assert_eq!(updated["changed"], json!(["last_name"]));
    assert_eq!(registered["event_type"], "user.registered");
    assert_eq!(repaired["origin"], "reconcile");
    assert_eq!(repaired["event_type"], "user.updated");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_asked_for_only_when_ingest_has_noted_how_far_it_has_come() {
    let simulator = Simulator::start(users(3)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    let config = load_text(&yaml, folder.path(), std::iter::empty()).unwrap();
    let metrics = Metrics::new(&[]);
    let (listed, mut told) = mpsc::channel(16);
    let (stopper, stop) = shutdown::channel();
    let asker = Asker::default();
    asker.ask();
    let reconcile = Reconcile {
        budget: Budget::new(
            &config.feed.limits,
            None,
            metrics.feed.request_budget.clone(),
            Timestamp::now,
        ),
        config: config.reconcile,
        feed: config.feed,
        asker,
        listed,
        metrics: metrics.reconcile,
        stop,
        clock: Timestamp::now,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(reconcile.run());
    let Some(Listed::Begin { noted, .. }) = told.recv().await else {
        panic!("a list has a beginning");
    };
    // Otherwise a message that ingest takes now might be newer than the list and yet lose to it.
    let control = simulator.control();
    let asked = control.wait_for(|stats| stats.rest_requests > 0);
    assert!(timeout(Duration::from_millis(500), asked).await.is_err());
    noted.send(()).unwrap();
    let Some(Listed::Users(users)) = told.recv().await else {
        panic!("the users follow");
    };
    assert_eq!(users.len(), 3);
    assert!(matches!(
        told.recv().await,
        Some(Listed::End { complete: true })
    ));
    stopper.drain();
    tasks.join_all().await;
    simulator.shutdown().await;
}

/// What the command prints, and its exit code.
fn dry_run(folder: &std::path::Path, more: &[&str]) -> (Option<i32>, String, String) {
    let file = folder.join("bridge.yaml");
    let mut arguments = vec!["reconcile", "--dry-run", "--config", file.to_str().unwrap()];
    arguments.extend(more);
    tokio::task::block_in_place(|| command(&arguments))
}

fn figures(folder: &std::path::Path) -> Value {
    let (code, said, errors) = dry_run(folder, &["--json"]);
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&said).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_reconcile_would_publish_and_changes_nothing() {
    let line = Line::listening(users(20), "", "").await;
    let folder = line.folder.path();
    line.control.change_silently(3);
    let (gone, changed) = (line.control.user_id(3), line.control.users());
    assert!(line.control.remove_user(3));
    let said = figures(folder);
    let counts =
        |said: &Value| ["listed", "known", "registered", "removed"].map(|it| said[it].clone());
    assert_eq!(counts(&said), [19, 20, 0, 1].map(Value::from));
    let updated = said["updated"].as_u64().unwrap();
    assert!((1..=3).contains(&updated), "{said}");
    assert_eq!(said, figures(folder), "the first one changed something");
    let (_, told, _) = dry_run(folder, &[]);
    assert!(
        told.contains("user.removed") && told.contains("20 known"),
        "{told}"
    );
    for user in &changed {
        assert!(!told.contains(&user.user_id), "not without --keys: {told}");
    }
    assert!(dry_run(folder, &["--keys"]).1.contains(&gone));

    let differences = "reconcile_differences_total";
    let before = line.bridge.metric(differences);
    line.reconnect().await;
    line.listed("success", 2.0);
    let published = line.bridge.metric(differences) - before;
    assert_eq!(published, f64::from(u32::try_from(updated).unwrap()) + 1.0);
    let said = figures(folder);
    assert_eq!((&said["updated"], &said["removed"]), (&json!(0), &json!(0)));
    line.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_needs_no_journal_and_says_why_there_is_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(users(20)).await.unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    std::fs::write(folder.path().join("bridge.yaml"), yaml).unwrap();
    let said = figures(folder.path());
    assert_eq!(
        (&said["registered"], &said["known"]),
        (&json!(20), &json!(0))
    );
    assert!(!folder.path().join("journal.db").exists());
    simulator.control().set_rest(RestMode::TooManyRequests);
    let (code, _, said) = dry_run(folder.path(), &[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("429"), "{said}");
    // The vendor has refused: it is left in peace.
    let (code, _, said) = dry_run(folder.path(), &[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("try again in 1"), "{said}");
    assert_eq!(simulator.control().stats().rest_requests, 2);
    simulator.shutdown().await;
}
