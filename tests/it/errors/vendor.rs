//! A vendor that refuses: said aloud with advice, tried again slowly, and exit code 69 from `check`.

use std::time::Duration;

use onboarding_bridge::config::Secret;
use onboarding_bridge::simulator::{Options, RestMode, SubscribeMode};
use serde_json::Value;
use tokio::time::timeout;

use super::said;
use crate::support::bridge::command;
use crate::support::eventually;
use crate::support::line::Line;

/// `check --json` with the configuration of a line: the exit code, and what was found by name.
fn check(line: &Line, name: &str) -> (Option<i32>, Value) {
    let path = line.folder.path().join("bridge.yaml");
    // Each check has the whole share of the vendor's limits.
    std::fs::remove_file(line.folder.path().join("journal.db.budget")).unwrap_or_default();
    let arguments = ["check", "--json", "--config", path.to_str().unwrap()];
    let (code, output, _) = command(&arguments);
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["ready"], code == Some(0), "{output}");
    let findings = report["checks"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == name);
    (code, finding.unwrap().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_said_with_advice_and_tried_again_slowly() {
    let options = Options {
        api_key: Secret::new("the-right-key".to_owned()),
        ..Options::for_tests()
    };
    let line = Line::start(options, "", "").await;
    let said = said(&line.bridge, &["the feed refuses us"]);
    assert_eq!(said["level"], "ERROR");
    assert_eq!(said["reason"], "authentication");
    assert!(said["wait_ms"].as_u64().unwrap() >= 60_000, "{said}");
    let message = said["message"].as_str().unwrap();
    assert!(
        message.contains("check the key in `feed.api_key_file`, and `feed.enterprise_flag`"),
        "{said}"
    );
    let second = line.control.wait_for(|stats| stats.auth_failed > 1);
    assert!(timeout(Duration::from_secs(4), second).await.is_err());
    assert_eq!(line.control.stats().auth_failed, 1);
    assert_eq!(line.bridge.get("/livez").0, 200);
    let (code, waiting) = line.bridge.get("/readyz");
    assert_eq!(code, 503);
    assert!(
        waiting.contains("the first subscription to the feed"),
        "{waiting}"
    );
    let (code, finding) = check(&line, "feed");
    assert_eq!(code, Some(69), "{finding}");
    let detail = finding["detail"].as_str().unwrap();
    assert!(
        detail.contains("authenticate was answered with an error"),
        "{finding}"
    );
    let (_, finding) = check(&line, "list");
    assert!(
        finding["detail"]
            .as_str()
            .unwrap()
            .contains("check the key"),
        "{finding}"
    );
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_said_with_advice_and_tried_again_slowly() {
    let options = Options {
        subscribe: SubscribeMode::Error,
        ..Options::for_tests()
    };
    let line = Line::start(options, "", "").await;
    let said = said(&line.bridge, &["the feed refuses us"]);
    assert_eq!(
        (&said["level"], &said["reason"]),
        (&"ERROR".into(), &"subscription".into())
    );
    assert!(
        said["message"].as_str().unwrap().contains("ask the vendor"),
        "{said}"
    );
    let second = line.control.wait_for(|stats| stats.connections_total > 1);
    assert!(timeout(Duration::from_secs(4), second).await.is_err());
    assert_eq!(
        (line.bridge.get("/livez").0, line.bridge.get("/readyz").0),
        (200, 503)
    );
    let (code, finding) = check(&line, "feed");
    assert_eq!(code, Some(69), "{finding}");
    assert!(
        finding["detail"]
            .as_str()
            .unwrap()
            .contains("subscribe was answered"),
        "{finding}"
    );
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_looks_like_the_limit_is_followed_by_silence() {
    let line = Line::start(Options::for_tests(), "limits: {block_wait: 3s}", "").await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    line.control.block(Duration::from_secs(2));
    line.control.reset().await;
    let said = said(&line.bridge, &["\"reason\":\"limited\""]);
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("the vendor limits by address"),
        "{said}"
    );
    // Not one request of any kind within the silence, though the vendor would take it sooner.
    let before = line.control.stats();
    let tried = line.control.wait_for(|stats| {
        stats.connections_total > before.connections_total
            || stats.rest_requests > before.rest_requests
    });
    assert!(timeout(Duration::from_millis(2500), tried).await.is_err());
    line.subscribed(2).await;
    assert_eq!(line.lost("limited"), 1.0);
    line.healed_windows(2);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_away_is_waited_for() {
    let line = Line::start(Options::for_tests(), "limits: {block_wait: 2s}", "").await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    line.control.set_down(true).await;
    line.control.step(30).await;
    // Taken and dropped: once that is a load balancer, twice in a row it may be the limit.
    eventually("two attempts that are dropped", || {
        (line.lost("dropped") == 1.0 && line.lost("limited") >= 1.0).then_some(())
    });
    assert_eq!(
        (line.bridge.get("/livez").0, line.bridge.get("/readyz").0),
        (200, 200)
    );
    let (code, finding) = check(&line, "feed");
    assert_eq!(code, Some(69), "{finding}");
    line.control.set_down(false).await;
    line.subscribed(2).await;
    line.healed_windows(2);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_refused_is_said_and_check_exits_with_69() {
    let line = Line::start(Options::for_tests(), "", "").await;
    line.control.set_rest(RestMode::Html);
    line.bridge.wait_ready();
    let said = said(&line.bridge, &["the list could not be read"]);
    assert_eq!(said["level"], "WARN");
    assert!(
        said["error"]
            .as_str()
            .unwrap()
            .contains("it is not valid JSON"),
        "{said}"
    );
    for (mode, word) in [
        (RestMode::Html, "it is not valid JSON"),
        (RestMode::Truncated, "the connection broke"),
        (RestMode::ServerError, "the vendor answered 500"),
        (RestMode::TooManyRequests, "the vendor answered 429"),
    ] {
        line.control.set_rest(mode);
        let (code, finding) = check(&line, "list");
        assert_eq!(code, Some(69), "{finding}");
        assert!(
            finding["detail"].as_str().unwrap().contains(word),
            "{finding}"
        );
    }
    // As in the vendor's own sample.
    line.control.set_rest(RestMode::DuplicateKeys);
    let (_, finding) = check(&line, "list");
    assert_eq!(finding["ok"], true, "{finding}");
    line.bridge.terminate();
}
