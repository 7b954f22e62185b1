//! Errors as an operator meets them: one clear line that says what and what to do, the documented
//! exit code or a retry, and nothing lost.

mod commands;
mod configuration;
mod disk;
mod halted;
mod limits;
mod sinks;
mod vendor;

use std::path::Path;

use serde_json::Value;

use crate::support::bridge::Bridge;
use crate::support::eventually;

/// A configuration that is right and needs no server to be loaded. Its key is a canary.
const RIGHT: &str = "\
feed:
  url: ws://127.0.0.1:9/ws
  api_key: canary-key-51f0
reconcile:
  url: http://127.0.0.1:9
journal:
  path: FOLDER/journal.db
admin:
  listen: 127.0.0.1:0
sinks:
  - name: local
    type: file
    path: FOLDER/events.jsonl
";

/// The key in [`RIGHT`]: what no line may show.
const CANARY: &str = "canary-key-51f0";

/// [`RIGHT`] with its files in this folder, and one part of it replaced.
fn changed(folder: &Path, part: &str, by: &str) -> String {
    let right = RIGHT.replace("FOLDER", folder.to_str().unwrap());
    assert!(
        part.is_empty() || right.contains(part),
        "{part:?} is not there"
    );
    right.replacen(part, by, 1)
}

/// `run` with this configuration must end by itself, with this exit code and one line, which is
/// returned.
fn refused(folder: &Path, yaml: &str, code: i32) -> String {
    let mut bridge = Bridge::spawn(folder, yaml);
    let status = bridge.wait();
    let log = bridge.log();
    assert_eq!(status.code(), Some(code), "{log}");
    assert_eq!(log.lines().count(), 1, "one line, not {log:?}");
    assert!(log.starts_with("onboarding-bridge: "), "{log}");
    assert!(!log.contains(CANARY), "{log}");
    log
}

/// Waits for a line of the log that holds all these words; the line.
fn said(bridge: &Bridge, words: &[&str]) -> Value {
    eventually(&format!("the log to say {words:?}"), || {
        let log = bridge.log();
        let line = log
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)))?;
        serde_json::from_str(line).ok()
    })
}
