//! The shortest way through the whole program.

use onboarding_bridge::simulator::{Options, Simulator};

use crate::support::bridge::{Bridge, config, file_sink};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_heard_reaches_the_sink() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let yaml = config(&simulator, folder.path(), "", &file_sink("local", &events));
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    simulator.control().step(10).await;
    crate::support::eventually("ten events", || {
        (bridge.metric("feed_frames_total{kind=\"event\"}") == 10.0).then_some(())
    });
    bridge.wait_delivered();
    bridge.terminate();
    let text = std::fs::read_to_string(&events).unwrap();
    let from_feed = text
        .lines()
        .filter(|line| line.contains("\"origin\":\"feed\""))
        .count();
    assert_eq!(from_feed, 10);
    simulator.shutdown().await;
}
