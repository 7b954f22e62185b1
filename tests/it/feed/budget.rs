//! The vendor's limits, by processes that come and go.

use std::time::Duration;

use onboarding_bridge::simulator::{Options, Simulator};

use super::users;
use crate::support::bridge::{Bridge, command, config, file_sink};

/// How often the process is killed; 1,000 for the figure in docs/guarantees.md.
#[allow(clippy::disallowed_methods, reason = "a knob of this test alone")]
fn crashes() -> u32 {
    let crashes = std::env::var("CRASHES").ok();
    crashes.map_or(250, |crashes| crashes.parse().unwrap())
}

/// A vendor that enforces its limits, and a configuration for it in a folder.
async fn strict_vendor() -> (tempfile::TempDir, Simulator, String) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        enforce_limits: true,
        ..users(5)
    };
    let simulator = Simulator::start(options).await.unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    (folder, simulator, yaml)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_breaks_no_limit_of_the_vendor() {
    let (folder, simulator, yaml) = strict_vendor().await;
    let control = simulator.control();
    for crash in 0..crashes() {
        let bridge = Bridge::spawn_again(folder.path(), &yaml, &[]);
        if crash == 0 {
            control.wait_for(|stats| stats.connections_total > 0).await;
        }
        tokio::time::sleep(Duration::from_millis(u64::from(50 + crash * 37 % 200))).await;
        bridge.kill();
    }
    let stats = control.stats();
    assert!(stats.connections_total > 1, "{stats:?}");
    assert_eq!(stats.limit_breaches, 0, "{stats:?}");
    assert!(stats.requests_peak <= 20, "{stats:?}");
    println!("{} crashes: {stats:?}", crashes());
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_share_the_limits_of_the_bridge_and_say_so_when_they_are_spent() {
    let (folder, simulator, yaml) = strict_vendor().await;
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    bridge.terminate();
    let file = folder.path().join("bridge.yaml");
    let check = || command(&["check", "--config", file.to_str().unwrap()]);
    // The bridge has taken four requests, and each check takes four.
    for _ in 0..4 {
        let (code, said, _) = tokio::task::block_in_place(check);
        assert_eq!(code, Some(0), "{said}");
    }
    let (code, said, _) = tokio::task::block_in_place(check);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("check again in"), "{said}");
    let stats = simulator.control().stats();
    assert_eq!(stats.limit_breaches, 0);
    assert!(stats.requests_peak <= 20, "{stats:?}");
    simulator.shutdown().await;
}
