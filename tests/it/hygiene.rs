//! What the process keeps to itself when it goes wrong: no core file, no value in a panic, no field in
//! the log that nobody decided on.

mod fields;

use std::path::Path;
use std::process::Command;

use onboarding_bridge::event::FEED_NAME;
use onboarding_bridge::simulator::{Options, Simulator};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, config, file_sink};
use crate::support::eventually;
use crate::support::line::Line;

/// Files of a folder that look like a core.
fn cores(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("core"))
        .collect()
}

/// Whether this machine puts the core of a crashed process into its working folder.
fn cores_are_made() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let crash = "ulimit -c unlimited && kill -s ABRT $$";
    let mut shell = Command::new("sh");
    shell.args(["-c", crash]).current_dir(folder.path());
    shell.status().unwrap();
    !cores(folder.path()).is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_crashes_leaves_no_core_whoever_started_it_with_which_limit() {
    let limits = |bridge: &Bridge| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", bridge.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        let numbers = core
            .unwrap()
            .split_whitespace()
            .filter(|it| it.parse::<u64>().is_ok());
        numbers.map(str::to_owned).collect::<Vec<_>>()
    };
    println!("cores are made on this machine: {}", cores_are_made());
    for signal in ["ABRT", "SEGV"] {
        let mut line = Line::listening(Options::for_tests(), "", "").await;
        assert_eq!(limits(&line.bridge), ["1", "1"]);
        // The first SIGSEGV that no fault caused only takes away the handler for stack overflows.
        let status = eventually("the crash", || {
            line.bridge.signal(signal);
            line.bridge.ended()
        });
        assert!(!status.success());
        assert_eq!(cores(line.folder.path()), [""; 0]);
        line.simulator.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_says_where_and_never_what_it_was_given() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    let variables = [("ONBOARDING_BRIDGE_FAIL_POINT", "panic")];
    let mut bridge = Bridge::start_with(folder.path(), &yaml, &variables);
    bridge.wait_ready();
    let person = json!({"user_id": "client_ada", "email": "ada@example.test", "status": "PENDING"});
    let control = simulator.control();
    control.send_envelope(FEED_NAME, &person.to_string()).await;
    let status = bridge.wait();
    let log = bridge.log();
    assert_eq!(status.code(), Some(70), "{log}");
    let said = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let panic = said
        .into_iter()
        .find(|line| line["message"].as_str().unwrap().contains("panicked"));
    let panic = panic.unwrap_or_else(|| panic!("nothing of a panic in {log}"));
    assert_eq!(panic["level"], "ERROR");
    assert!(
        panic["location"]
            .as_str()
            .unwrap()
            .starts_with("src/failpoint.rs:"),
        "{panic}"
    );
    assert!(!log.contains("ada"), "{log}");
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_the_process_are_still_there() {
    let line = Line::listening(Options::for_tests(), "", "").await;
    let metrics = line.bridge.get("/metrics").1;
    for name in ["process_resident_memory_bytes", "process_open_fds"] {
        assert!(metrics.contains(name), "no {name}");
    }
    line.simulator.shutdown().await;
}
