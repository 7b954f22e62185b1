//! The real program with a sealed journal: what it hears is in no byte of the journal's files, whatever
//! happens to it, and its commands read them with the key.

use std::collections::BTreeSet;
use std::path::Path;

use onboarding_bridge::simulator::{Control, Options, Simulator};

use crate::support::bridge::{Bridge, command, config, eventually, file_sink};

/// The bytes of the journal and of whatever lies beside it.
fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut found = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("journal.db") {
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// Everything personal that the sink was given of anybody.
fn secrets(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut secrets = BTreeSet::new();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in ["user_id", "email", "phone_number", "last_name"] {
            secrets.extend(event[field].as_str().map(str::to_owned));
        }
    }
    assert!(secrets.len() > 10, "there is something to look for");
    secrets
}

/// The names of the files that hold any of it.
fn leaks(folder: &Path, file: &Path) -> Vec<String> {
    let secrets = secrets(file);
    let files = bytes(folder).into_iter();
    let leaking = files.filter(|(_, bytes)| {
        let text = String::from_utf8_lossy(bytes);
        secrets.iter().any(|secret| text.contains(secret.as_str()))
    });
    leaking.map(|(name, _)| name).collect()
}

fn operator(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = folder.join("bridge.yaml").display().to_string();
    command(&[arguments, &["--config", &config]].concat())
}

fn with_keys(yaml: &str, folder: &Path, key: Option<&str>, old: &[&str]) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut section = "journal:\n".to_owned();
    if let Some(key) = key {
        section += &format!("  encryption_key_file: {}\n", path(key));
    }
    let old: Vec<String> = old.iter().map(|name| path(name)).collect();
    section += &format!("  old_encryption_key_files: [{}]\n", old.join(", "));
    yaml.replacen("journal:\n", &section, 1)
}

/// Lets the vendor send some events, and waits until the file has them.
async fn some_events(bridge: &Bridge, control: &Control) {
    control.wait_subscribed().await;
    bridge.wait_ready();
    let before = bridge.metric_sum("normalise_events_total");
    control.step(20).await;
    eventually("the events", || {
        (bridge.metric_sum("normalise_events_total") >= before + 20.0).then_some(())
    });
    bridge.wait_delivered();
}

#[allow(
    clippy::too_many_lines,
    reason = "one life of one journal, from clear to sealed and back"
)]
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_sealed_journal_tells_of_a_person_running_killed_or_ended() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let control = simulator.control();
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    for (name, byte) in [("one.key", 1), ("two.key", 2)] {
        std::fs::write(folder.join(name), [byte; 32]).unwrap();
    }
    let file = folder.join("events.jsonl");
    let clear = config(&simulator, folder, "", &file_sink("local", &file));
    let sealed = with_keys(&clear, folder, Some("one.key"), &[]);

    // In clear first: the test finds what it looks for.
    let bridge = Bridge::start(folder, &clear);
    some_events(&bridge, &control).await;
    assert!(!leaks(folder, &file).is_empty());
    bridge.terminate();

    let none = Vec::<String>::new();
    let bridge = Bridge::start(folder, &sealed);
    assert_eq!(leaks(folder, &file), none, "sealed at the start");
    some_events(&bridge, &control).await;
    control.send_raw_text("no json").await;
    eventually("the dead letter", || {
        (bridge.metric("dead_letters") == 1.0).then_some(())
    });
    assert_eq!(leaks(folder, &file), none, "running");
    bridge.kill();
    assert_eq!(leaks(folder, &file), none, "killed");

    // With another key, and with none, it is refused; nothing is touched.
    for wrong in [
        with_keys(&clear, folder, Some("two.key"), &[]),
        clear.clone(),
    ] {
        let mut refused = Bridge::spawn(folder, &wrong);
        assert_eq!(refused.wait().code(), Some(64), "{}", refused.log());
        let log = refused.log();
        assert!(
            log.contains("one.key") && log.contains("encryption_key_file"),
            "{log}"
        );
        let (code, _, said) = operator(folder, &["journal", "stats"]);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains("one.key"), "{said}");
    }

    let bridge = Bridge::start(folder, &sealed);
    some_events(&bridge, &control).await;
    bridge.terminate();
    assert_eq!(leaks(folder, &file), none, "ended");

    // Another key; and the commands have it from the same configuration.
    let rotated = with_keys(&clear, folder, Some("two.key"), &["one.key"]);
    let bridge = Bridge::start(folder, &rotated);
    some_events(&bridge, &control).await;
    assert_eq!(leaks(folder, &file), none, "with another key");
    let (code, exported, said) = operator(folder, &["journal", "export"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(exported, std::fs::read_to_string(&file).unwrap());
    for words in [
        &["journal", "stats"][..],
        &["journal", "list", "--keys", "--bodies"],
        &["journal", "verify"],
        &["dead-letters", "list"],
        &["dead-letters", "show", "1"],
        &["replay", "--sink", "local", "--since", "1h", "--dry-run"],
    ] {
        let (code, output, said) = operator(folder, words);
        assert_eq!(code, Some(0), "{words:?}: {output}{said}");
    }
    bridge.terminate();

    let ids: Vec<String> = exported
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["event_id"].as_str().unwrap().to_owned())
        .collect();
    let unique: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "each event is there once");
    simulator.shutdown().await;
}
