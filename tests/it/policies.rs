//! The privacy policies through the real program: what its sink gets, what it says, and what stays in
//! every file that it leaves behind.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use onboarding_bridge::simulator::{Control, Options, Simulator};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, command, config, file_sink};
use crate::support::{eventually, sealed};

const USERS: u32 = 20;

async fn vendor() -> Simulator {
    let options = Options {
        users: USERS,
        ..Options::for_tests()
    };
    Simulator::start(options).await.unwrap()
}

/// A configuration with this section `privacy`, a key file for it, and a file sink.
fn yaml(simulator: &Simulator, folder: &Path, privacy: &str) -> String {
    let sink = file_sink("local", &folder.join("events.jsonl"));
    for (name, byte) in [("old.key", 7), ("new.key", 8)] {
        std::fs::write(folder.join(name), [byte; 32]).unwrap();
    }
    let privacy = privacy.replace("FOLDER", folder.to_str().unwrap());
    config(simulator, folder, "", &sink) + &format!("privacy: {{{privacy}}}\n")
}

fn records(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs the bridge through its first list and some messages.
async fn heard(simulator: &Simulator, folder: &Path, yaml: &str) -> Bridge {
    let bridge = Bridge::start_with(folder, yaml, &[("RUST_LOG", "trace")]);
    bridge.wait_ready();
    eventually("the list to be compared", || {
        (bridge.metric("reconcile_runs_total{outcome=\"success\"}") >= 1.0).then_some(())
    });
    simulator.control().step(10).await;
    eventually("ten messages", || {
        (bridge.metric("feed_frames_total{kind=\"event\"}") == 10.0).then_some(())
    });
    bridge.wait_delivered();
    bridge
}

/// Every byte that stays in the folder, but the configuration and the keys; with what was said.
fn everything(folder: &Path, said: &[String]) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let ours = files.filter(|path| !path.ends_with("bridge.yaml"));
    let mut places: Vec<_> = ours
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (
                path.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            )
        })
        .collect();
    assert!(places.len() >= 5, "{places:?}");
    places.extend(
        said.iter()
            .map(|text| ("what was said".to_owned(), text.clone())),
    );
    places
}

/// What commands and the admin port say of a running bridge.
fn said(bridge: &Bridge, folder: &Path, yaml: &str) -> Vec<String> {
    let mut said = vec![bridge.get("/metrics").1, bridge.get("/status").1];
    std::fs::write(folder.join("bridge.yaml"), yaml).unwrap();
    let config = folder.join("bridge.yaml").display().to_string();
    for words in [
        &["journal", "list", "--keys", "--bodies"][..],
        &["journal", "export"],
        &["dead-letters", "list"],
        &["journal", "stats"],
    ] {
        let (code, output, errors) = command(&[words, &["--config", &config]].concat());
        assert_eq!(code, Some(0), "{words:?}: {errors}");
        said.push(output + &errors);
    }
    said
}

fn nowhere(places: &[(String, String)], secrets: &[String]) {
    for (place, text) in places {
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in {place}");
        }
    }
}

fn each_user<T>(control: &Control, of: impl Fn(&Control, u32) -> T) -> Vec<T> {
    (0..USERS).map(|index| of(control, index)).collect()
}

/// The bridge under a policy for the token; its records of the feed with the token of their user, and
/// all other bytes. The list's records have a null, or no key at all.
async fn tokens_under(policy: &str) -> (Vec<(Value, String)>, Vec<(String, String)>) {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = yaml(&simulator, folder.path(), policy);
    let bridge = heard(&simulator, folder.path(), &yaml).await;
    let said = said(&bridge, folder.path(), &yaml);
    bridge.terminate();
    let control = &simulator.control();
    let ids = each_user(control, Control::user_id);
    let (mut feed, mut listed) = (Vec::new(), 0);
    for record in records(folder.path()) {
        if record["origin"] == "reconcile" {
            assert_eq!(record["user_token"], Value::Null);
            listed += 1;
            continue;
        }
        let index = ids.iter().position(|id| record["user_id"] == **id).unwrap();
        feed.push((record, control.token(u32::try_from(index).unwrap())));
    }
    assert_eq!((feed.len(), listed > 0), (10, true));
    let places = everything(folder.path(), &said);
    if !policy.contains("forward") {
        nowhere(&places, &each_user(control, Control::token));
    }
    simulator.shutdown().await;
    (feed, places)
}

#[tokio::test(flavor = "multi_thread")]
async fn under_drop_no_record_has_a_key_for_the_token() {
    let (feed, places) = tokens_under("user_token: drop").await;
    assert!(
        feed.iter()
            .all(|(record, _)| record.get("user_token").is_none())
    );
    nowhere(&places, &["user_token".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_fingerprint_the_sink_gets_an_hmac_and_the_token_is_nowhere() {
    let policy = "user_token: fingerprint, hmac_key_file: FOLDER/old.key, hmac_key_version: v1";
    let (feed, _) = tokens_under(policy).await;
    for (record, _) in feed {
        let fingerprint = record["user_token"]["fingerprint"].as_str().unwrap();
        assert!(fingerprint.starts_with("hmac:v1:"), "{fingerprint}");
        assert!(record["user_token"]["expires"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_encrypt_the_consumer_can_read_the_token_and_it_stands_nowhere_else() {
    let policy = format!(
        "user_token: encrypt, token_recipients: ['{}']",
        sealed::RECIPIENTS[0]
    );
    let (feed, _) = tokens_under(&policy).await;
    for (record, token) in feed {
        let event_id = record["event_id"].as_str().unwrap();
        let entry = &record["user_token"]["sealed"][0];
        let plain = sealed::open(entry, &[7; 32], event_id).unwrap();
        let plain: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(plain["token"], token);
        assert!(sealed::open(entry, &[9; 32], event_id).is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_is_said_aloud_and_even_then_no_log_metric_or_status_has_a_token() {
    let (feed, places) = tokens_under("user_token: forward").await;
    let tokens: Vec<String> = feed.iter().map(|(_, token)| token.clone()).collect();
    for (record, token) in &feed {
        assert_eq!(record["user_token"]["token"], **token);
    }
    let log = places
        .iter()
        .find(|(place, _)| place.ends_with(".log"))
        .unwrap();
    let warning = log
        .1
        .lines()
        .find(|line| line.contains("privacy.user_token: forward"));
    let warning: Value = serde_json::from_str(warning.unwrap()).unwrap();
    assert_eq!(warning["level"], "WARN");
    let quiet = places.into_iter().filter(|(place, text)| {
        place.ends_with(".log") || text.contains("journal_bytes") || text.contains("blind_windows")
    });
    let quiet: Vec<_> = quiet.collect();
    assert!(quiet.len() >= 3, "log, metrics and status");
    nowhere(&quiet, &tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_a_token_that_is_forwarded_and_of_no_other_policy() {
    let simulator = vendor().await;
    for (policy, warns) in [("user_token: forward", true), ("user_token: drop", false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge.yaml");
        std::fs::write(&path, yaml(&simulator, folder.path(), policy)).unwrap();
        let (code, output, errors) = command(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{output}{errors}");
        assert_eq!(
            output.contains("live credentials in clear"),
            warns,
            "{output}"
        );
    }
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_key_hmac_the_plain_user_id_is_nowhere() {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let policy = "key: hmac, hmac_key_file: FOLDER/old.key";
    let yaml = yaml(&simulator, folder.path(), policy);
    let bridge = heard(&simulator, folder.path(), &yaml).await;
    let control = &simulator.control();
    let id = control.user_id(1);
    for recipient in ["private.enterprise.users.balances", &id] {
        let payload = json!({"user_id": id, id.as_str(): [id]}).to_string();
        control.send_envelope(recipient, &payload).await;
    }
    let odd = json!({"recipient": "private.enterprise.users", "type": id,
        "payload": {"user_id": id, "email": [id], id.as_str(): id}});
    control.send_raw_text(odd.to_string()).await;
    control.remove_user(2);
    eventually("the dead letters", || {
        (bridge.metric("dead_letters") == 3.0).then_some(())
    });
    let mut said = said(&bridge, folder.path(), &yaml);
    let config = folder.path().join("bridge.yaml").display().to_string();
    for words in [
        &["dead-letters", "show", "1"][..],
        &["dead-letters", "show", "2"],
        &["dead-letters", "show", "3"],
        &["reconcile", "--dry-run", "--keys"],
    ] {
        let (code, output, errors) = command(&[words, &["--config", &config]].concat());
        assert_eq!(code, Some(0), "{words:?}: {errors}");
        said.push(output + &errors);
    }
    assert!(said.last().unwrap().contains("user.removed"), "{said:?}");
    control.close(1001).await;
    eventually("the removal", || {
        let removed = "normalise_events_total{event_type=\"user.removed\",origin=\"reconcile\"}";
        (bridge.metric(removed) == 1.0).then_some(())
    });
    // A refusal that repeats the id.
    let refusal = json!({"type": "error", "error": format!("no right for {id}")});
    eventually("the new connection", || {
        (control.connected() == 1).then_some(())
    });
    control.send_raw_text(refusal.to_string()).await;
    eventually("the refusal to be noticed", || {
        bridge.log().contains("no right for ***").then_some(())
    });
    bridge.wait_delivered();
    bridge.terminate();
    let places = everything(folder.path(), &said);
    nowhere(&places, &each_user(control, Control::user_id));
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_dropped_is_not_in_the_journals_state_of_a_user_either() {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = yaml(&simulator, folder.path(), "fields: {status: drop}");
    // Users that are only adopted have a state and no record.
    let yaml = yaml.replacen("reconcile:\n", "reconcile:\n  first_start: adopt\n", 1);
    let bridge = heard(&simulator, folder.path(), &yaml).await;
    let said = said(&bridge, folder.path(), &yaml);
    bridge.terminate();
    assert_eq!(records(folder.path()).len(), 10);
    let places = everything(folder.path(), &said);
    nowhere(&places, &["PENDING".to_owned(), "VERIFIED".to_owned()]);
    simulator.shutdown().await;
}

/// The removal of a user of whom nothing was heard since the policy changed from `before` to `after`:
/// the key under which it was published before, that of the removal, and that of the dry run.
async fn removed_after(before: &str, after: &str) -> [String; 3] {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let old = yaml(&simulator, folder.path(), before);
    heard(&simulator, folder.path(), &old).await.terminate();
    let published: Vec<Value> = records(folder.path());
    let control = &simulator.control();
    let last = control.users().pop().unwrap();
    // The list is in the vendor's order, and so are its records.
    let key = published
        .iter()
        .find(|record| record["phone_number"] == phone(last.index + last.counter / 5))
        .unwrap()["user_id"]
        .clone();
    control.remove_user(last.index);
    let new = yaml(&simulator, folder.path(), after);
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, &new).unwrap();
    std::fs::remove_file(folder.path().join("journal.db.budget")).unwrap();
    let dry = [
        "reconcile",
        "--dry-run",
        "--keys",
        "--json",
        "--config",
        path.to_str().unwrap(),
    ];
    let (code, output, errors) = command(&dry);
    assert_eq!(code, Some(0), "{errors}");
    let dry: Value = serde_json::from_str(&output).unwrap();
    let removed = |value: &Value| value["event_type"] == "user.removed";
    let changes = dry["changes"].as_array().unwrap();
    let shown = changes.iter().find(|change| removed(change)).unwrap()["key"].clone();
    let bridge = Bridge::start(folder.path(), &new);
    let record = eventually("the removal", || {
        records(folder.path())
            .into_iter()
            .find(|record| removed(record))
    });
    bridge.terminate();
    simulator.shutdown().await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    [text(&key), text(&record["user_id"]), text(&shown)]
}

/// The phone number of a user of the simulator, which changes with each fifth event.
fn phone(index: u32) -> String {
    format!("+1555010{index:04}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_was_published_in_clear_is_removed_under_a_pseudonym_once_the_key_is_hmac() {
    let hmac = "key: hmac, hmac_key_file: FOLDER/old.key, hmac_key_version: v1";
    let [before, removal, dry] = removed_after("key: plain", hmac).await;
    assert!(before.starts_with("client_"), "{before}");
    assert!(removal.starts_with("v1:"), "{removal}");
    assert_eq!(removal, dry);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_a_removal_comes_under_the_pseudonym_that_consumers_know() {
    let [before, removal, dry] = removed_after(
        "key: hmac, hmac_key_file: FOLDER/old.key, hmac_key_version: v1",
        "key: hmac, hmac_key_file: FOLDER/new.key, hmac_key_version: v2",
    )
    .await;
    assert!(before.starts_with("v1:"), "{before}");
    assert_eq!((&removal, &dry), (&before, &before));
}

/// `privacy pseudonym` with these values on its standard input.
fn pseudonyms(yaml: &Path, field: &str, input: &[u8], key: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_onboarding-bridge"))
        .args(["privacy", "pseudonym", "--field", field, "--config"])
        .arg(yaml)
        .env("BRIDGE__PRIVACY__HMAC_KEY_FILE", yaml.with_file_name(key))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already, of a mistake in its arguments.
    child.stdin.take().unwrap().write_all(input).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_link_the_pseudonyms_of_two_keys() {
    let simulator = vendor().await;
    let folder = tempfile::tempdir().unwrap();
    let policy = "key: hmac, hmac_key_file: FOLDER/old.key";
    let yaml = yaml(&simulator, folder.path(), policy);
    heard(&simulator, folder.path(), &yaml).await.terminate();
    let path = folder.path().join("bridge.yaml");
    let ids = each_user(&simulator.control(), Control::user_id).join("\n");
    let (code, old, errors) = pseudonyms(&path, "user_id", ids.as_bytes(), "old.key");
    assert_eq!(code, Some(0), "{errors}");
    let keys: Vec<Value> = records(folder.path())
        .into_iter()
        .map(|record| record["user_id"].clone())
        .collect();
    assert_eq!(old.lines().count(), 20);
    assert!(keys.iter().all(|key| old.lines().any(|line| key == line)));
    let (_, new, _) = pseudonyms(&path, "user_id", ids.as_bytes(), "new.key");
    assert_eq!(new.lines().count(), 20);
    assert!(new.lines().zip(old.lines()).all(|(new, old)| new != old));
    assert!(!(old + &new).contains("client_"));
    for (field, input, word) in [
        (
            "nobody",
            &b"x"[..],
            "expected one of user_id, user_token, account_type",
        ),
        ("email", &[0xff, 0xfe], "not UTF-8"),
        ("email", &[b'x'; 70_000], "longer than 65536 bytes"),
    ] {
        let (code, output, errors) = pseudonyms(&path, field, input, "old.key");
        assert_eq!((code, output.as_str()), (Some(64), ""), "{errors}");
        assert!(errors.contains(word), "{errors}");
    }
    simulator.shutdown().await;
}

#[test]
fn printing_the_configuration_shows_public_keys_and_no_secret_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(
        folder.path().join("old.key"),
        "canary-key-of-thirty-two-bytes-00",
    )
    .unwrap();
    let yaml = format!(
        "feed: {{url: 'ws://127.0.0.1:9/ws', api_key: canary-api}}\n\
         reconcile: {{url: 'http://127.0.0.1:9'}}\n\
         sinks: [{{name: local, type: file, path: '-'}}]\n\
         privacy: {{user_token: encrypt, token_recipients: ['{}'], key: hmac, \
         hmac_key_file: {}, hmac_key_version: v1}}\n",
        sealed::RECIPIENTS[0],
        folder.path().join("old.key").display()
    );
    std::fs::write(&path, yaml).unwrap();
    let (code, output, errors) =
        command(&["run", "--print-config", "--config", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(output.contains(sealed::RECIPIENTS[0]) && output.contains("hmac_key_version: v1"));
    assert!(!output.contains("canary"), "{output}");
}
