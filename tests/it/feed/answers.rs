//! Answers that are no list, or a strange one: each is named, none is quoted, and none hangs or fills
//! the memory.

use std::time::Duration;

use onboarding_bridge::config::{Config, load_text};
use onboarding_bridge::reconcile::{ListError, probe};
use tokio::time::Instant;

use super::users;
use crate::support::eventually;
use crate::support::list_server::{Answer, ListServer, truth};

/// An e-mail address in what the vendor says: to be found nowhere.
const CANARY: &str = "canary@example.test";

fn configured(server: &ListServer, more: &str) -> Config {
    let yaml = format!(
        "feed: {{api_key: k}}\nreconcile: {{url: '{}', timeout: 200ms, {more}}}\n\
         sinks: [{{name: s, type: file, path: '-'}}]\n",
        server.url()
    );
    load_text(&yaml, std::path::Path::new("."), std::iter::empty()).unwrap()
}

async fn asked(server: &ListServer, more: &str) -> Result<usize, ListError> {
    let config = configured(server, more);
    let probed = probe(&config.reconcile, &config.feed).await?;
    Ok(probed.users)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_clock_is_read_from_its_answer() {
    let ada = r#"{"data":[{"user_id":"ada","status":"PENDING"}]}"#;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let server = ListServer::start(Answer::ok(ada).with("date", date)).await;
    let told = async || {
        let config = configured(&server, "");
        probe(&config.reconcile, &config.feed).await.unwrap()
    };
    let at = told().await.vendor_time.unwrap();
    assert_eq!(at.as_millis(), 784_111_777_000);
    server.set(Answer::ok(ada).with("date", "yesterday"));
    assert_eq!(told().await.vendor_time, None);
    assert_eq!(told().await.users, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_status_is_named_and_its_body_never_quoted() {
    let said = format!(r#"{{"error":"{CANARY}","data":[]}}"#);
    let server = ListServer::start(Answer::ok("")).await;
    for status in [
        204, 301, 302, 307, 308, 400, 401, 403, 404, 406, 422, 429, 500, 502, 503,
    ] {
        let elsewhere = format!("{}/elsewhere", server.url());
        server.set(Answer::status(status, said.clone()).with("location", elsewhere));
        let before = server.requests();
        let error = asked(&server, "").await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&status.to_string()), "{status}: {text}");
        assert!(!text.contains("canary"), "{text}");
        // A redirect would carry the key elsewhere.
        assert_eq!(server.requests(), before + 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_known_by_its_body_and_may_be_compressed() {
    let list = r#"{"data":[{"user_id":"ada","status":"PENDING"}]}"#;
    let server = ListServer::start(Answer::ok(list)).await;
    assert_eq!(asked(&server, "").await.unwrap(), 1);
    server.set(Answer::ok(list).with("content-type", "text/html"));
    assert_eq!(asked(&server, "").await.unwrap(), 1);
    let gzip = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 73, 44, 73, 84, 178, 138, 174, 86, 42, 45,
        78, 45, 138, 207, 76, 81, 178, 82, 74, 76, 73, 84, 210, 81, 42, 46, 73, 44, 41, 45, 6, 114,
        3, 92, 253, 92, 60, 253, 220, 149, 106, 99, 107, 1, 184, 160, 161, 254, 47, 0, 0, 0,
    ];
    server.set(Answer::ok(gzip.to_vec()).with("content-encoding", "gzip"));
    assert_eq!(asked(&server, "").await.unwrap(), 1);
    server.set(Answer::ok(format!("<!doctype html><p>Sign in, {CANARY}")));
    let text = asked(&server, "").await.unwrap_err().to_string();
    assert!(
        text.contains("not valid JSON") && !text.contains("canary"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_drips_or_never_ends_is_given_up() {
    let user = r#"{"user_id":"ada"},"#;
    let often = Duration::from_millis(20);
    let server = ListServer::start(Answer::endless(r#"{"data":["#, user, often)).await;
    let started = Instant::now();
    let text = asked(&server, "").await.unwrap_err().to_string();
    assert!(text.contains("took too long"), "{text}");
    // Twenty times the timeout, and a connection that a slow machine takes long for.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    server.set(Answer::endless(r#"{"data":["#, user, Duration::ZERO));
    let text = asked(&server, "max_bytes: 1MiB")
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("longer than reconcile.max_bytes"), "{text}");
    server.set(Answer::endless(
        r#"{"data":[{"user_id":""#,
        "xxxxxxxx",
        Duration::ZERO,
    ));
    let text = asked(&server, "").await.unwrap_err().to_string();
    assert!(text.contains("an entry is longer"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_for_the_list_is_loud_and_slow_whoever_asks() {
    let server = ListServer::start(Answer::status(401, CANARY)).await;
    let line = server.line(users(5), "", "").await;
    line.bridge.wait_ready();
    line.listed("failed", 1.0);
    let log = line.bridge.log();
    let said = log
        .lines()
        .find(|line| line.contains("the list is refused"));
    let said: serde_json::Value = serde_json::from_str(said.unwrap()).unwrap();
    assert_eq!(said["level"], "ERROR");
    assert!(
        said["error"].as_str().unwrap().contains("check the key"),
        "{said}"
    );
    assert!(said["wait_ms"].as_u64().unwrap() >= 120_000, "{said}");
    // A gap asks for a list, and a reconnect too.
    line.control.skip(1).await;
    line.control.step(12).await;
    line.reconnect().await;
    line.heard(12);
    let status = line.bridge.status();
    assert_eq!(status["reconcile"]["last_list"]["outcome"], "failed");
    let why = status["reconcile"]["last_list"]["why"].as_str().unwrap();
    assert!(why.contains("check the key"), "{why}");
    assert_eq!(server.requests(), 1);
    assert!(!line.bridge.log().contains("canary"));
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_list_is_refused_in_status_and_believed_when_the_operator_says_so() {
    let server = ListServer::start(Answer::users(&[])).await;
    let mut line = server.line(users(20), "", "read_after_write: 0s").await;
    line.reaches("reconcile_runs_total{outcome=\"success\"}", 1.0);
    let all = truth(&line.simulator);
    server.set(Answer::users(&all));
    line.reconnect().await;
    let listed = |outcome: &str| {
        eventually("a list that ends so", || {
            let status = line.bridge.status();
            let last = status["reconcile"]["last_list"].clone();
            (last["outcome"] == outcome && last["listed"] != 0).then_some(last)
        })
    };
    assert_eq!(listed("success")["differences"], 20);
    server.set(Answer::users(&all[..10]));
    line.reconnect().await;
    let refused = listed("refused");
    assert_eq!(
        [&refused["known"], &refused["absent"], &refused["listed"]],
        [20, 10, 10]
    );
    assert!(
        refused["why"]
            .as_str()
            .unwrap()
            .contains("max_removed_share")
    );
    assert_eq!(
        line.bridge
            .metric("reconcile_runs_total{outcome=\"refused\"}"),
        1.0
    );
    let file = line.folder.path().join("bridge.yaml");
    let yaml = std::fs::read_to_string(file).unwrap();
    let yaml = yaml.replacen("reconcile:\n", "reconcile:\n  max_removed_share: 1.0\n", 1);
    let removed = "normalise_events_total{event_type=\"user.removed\",origin=\"reconcile\"}";
    assert_eq!(line.bridge.metric(removed), 0.0);
    line.restart(&yaml);
    line.reaches(removed, 10.0);
    // With the whole share even an emptied list is believed.
    server.set(Answer::users(&[]));
    line.reconnect().await;
    line.reaches(removed, 20.0);
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_listed_twice_settles_on_the_last_entry() {
    let server = ListServer::start(Answer::users(&[])).await;
    let line = server
        .line(
            users(4),
            "limits: {requests_per_minute: 40}",
            "read_after_write: 0s",
        )
        .await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    let mut all = truth(&line.simulator);
    // One is there twice with two states, another twice with the same.
    let mut other = all[1].clone();
    other["last_name"] = "Other".into();
    all.push(other);
    all.push(all[2].clone());
    server.set(Answer::users(&all));
    for list in 2..=5 {
        line.control.skip(1).await;
        line.control.step(0).await;
        line.control.close(1001).await;
        line.listed("success", f64::from(list));
    }
    let ended = line.end().await;
    let user = all[1]["user_id"].as_str().unwrap();
    let names: Vec<_> = ended
        .records
        .iter()
        .filter(|record| record["user_id"] == user)
        .map(|record| record["last_name"].as_str().unwrap())
        .collect();
    // Both in the first list that has both, for nobody can know; then never again.
    assert_eq!(names, ["Example-0", "Other"]);
    assert_eq!(ended.records.len(), 5, "{:?}", ended.records);
    assert!(ended.log.contains("users more than once"), "{}", ended.log);
}
