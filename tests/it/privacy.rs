//! What must never leave the process, looked for in every byte that does.

use onboarding_bridge::simulator::{EXAMPLE_KEY, Options, Simulator};
use serde_json::json;

use crate::support::bridge::{Bridge, command, config, file_sink};

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_goes_nowhere_not_even_at_the_finest_log_level() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let control = simulator.control();
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    let bridge = Bridge::start_with(folder.path(), &yaml, &[("RUST_LOG", "trace")]);
    bridge.wait_ready();
    control.step(20).await;
    // A frame that is set aside, and a refusal that quotes the key and a token.
    let token = control.token(0);
    let foreign = json!({"user_id": "x", "user_token": {"token": token}}).to_string();
    control
        .send_envelope("private.enterprise.users.balances", &foreign)
        .await;
    crate::support::eventually("the dead letter", || {
        (bridge.metric("dead_letters") == 1.0).then_some(())
    });
    let refusal = json!({"type": "error", "error": format!("bad key {EXAMPLE_KEY} token {token}")});
    control.send_raw_text(refusal.to_string()).await;
    crate::support::eventually("the refusal to be noticed", || {
        (bridge.metric("feed_reconnects_total{reason=\"error_reply\"}") == 1.0).then_some(())
    });
    let shown = bridge.get("/metrics").1 + &bridge.get("/status").1;
    let config = folder.path().join("bridge.yaml").display().to_string();
    let mut said = Vec::new();
    for words in [
        &["dead-letters", "list"][..],
        &["dead-letters", "show", "1"],
        &["journal", "stats"],
        &["journal", "list", "--keys", "--bodies"],
        &["journal", "export"],
    ] {
        let (code, output, errors) = command(&[words, &["--config", &config]].concat());
        assert_eq!(code, Some(0), "{words:?}: {errors}");
        said.push((words.join(" "), (output + &errors).into_bytes()));
    }
    bridge.terminate();
    // The configuration is the only place where the key may be: the operator put it there.
    std::fs::remove_file(folder.path().join("bridge.yaml")).unwrap();
    let files = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut places = vec![("the admin port".to_owned(), shown.into_bytes())];
    places.extend(files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())));
    assert!(
        places.len() >= 4,
        "log, journal and events are all looked at"
    );
    places.extend(said);
    let tokens = (0..100).map(|user| control.token(user));
    let secrets: Vec<String> = tokens.chain([EXAMPLE_KEY.to_owned()]).collect();
    for (place, bytes) in &places {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(
                !text.contains(secret.as_str()),
                "a credential is in {place}"
            );
        }
    }
    simulator.shutdown().await;
}
