//! The shortest way through the whole program.

use std::path::Path;

use onboarding_bridge::simulator::{Options, RestMode, Simulator};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_can_be_changed_while_it_runs() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    let (status, usual) = bridge.get("/log-level");
    assert_eq!(status, 200);
    assert!(usual.contains("rdkafka=warn"), "{usual}");

    let (status, told) = bridge.put("/log-level", "info,onboarding_bridge::nonsense=loud");
    assert_eq!(status, 400, "{told}");
    let (status, _) = bridge.put("/log-level", &"a".repeat(5000));
    assert_eq!(status, 413);
    assert_eq!(bridge.get("/log-level").1, usual, "as it was");

    let said = || bridge.log().matches("subscribed to the feed").count();
    for (levels, connects, lines) in [("error", 2.0, 1), ("info", 3.0, 2)] {
        let (status, told) = bridge.put("/log-level", levels);
        assert_eq!(status, 200, "{told}");
        simulator.control().close(1001).await;
        crate::support::eventually("the next subscription", || {
            (bridge.metric("feed_connects_total") == connects).then_some(())
        });
        crate::support::eventually("its line, or none", || (said() == lines).then_some(()));
    }
    bridge.terminate();
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_be_asked_what_it_holds_and_a_window_that_waits_are_metrics() {
    let options = Options {
        rest: RestMode::ServerError,
        ..Options::for_tests()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = file_sink("file", &folder.path().join("events.jsonl"));
    let sinks = format!("{file}\n{}", file_sink("out", Path::new("-")));
    let yaml = config(&simulator, folder.path(), "", &sinks);
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    let promise = |sink: &str| bridge.metric(&format!("sink_at_least_once{{sink=\"{sink}\"}}"));
    assert_eq!((promise("file"), promise("out")), (0.0, 1.0));
    assert_eq!(bridge.metric("feed_blind_windows_unhealed"), 1.0);
    let never = bridge.metric("reconcile_last_success_timestamp_seconds");
    assert_eq!(never, 0.0);
    bridge.terminate();
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_the_environment_names_is_asked_by_neither_feed_nor_list() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    // Nobody listens there.
    let proxy = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"].map(|name| (name, "http://127.0.0.1:1"));
    let bridge = Bridge::start_with(folder.path(), &yaml, &proxy);
    bridge.wait_ready();
    crate::support::eventually("a list", || {
        (bridge.metric("reconcile_runs_total{outcome=\"success\"}") == 1.0).then_some(())
    });
    bridge.terminate();
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_neither_the_events_nor_the_end() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let yaml = config(&simulator, folder.path(), "", &file_sink("local", &events));
    let (mut bridge, unread) = Bridge::start_unread(folder.path(), &yaml);
    bridge.wait_ready();
    // A line of the log each: several times what the pipe and the lines that may wait hold.
    let frames = 8000;
    for _ in 0..frames {
        simulator.control().send_raw_text("{oops".to_owned()).await;
    }
    simulator.control().step(10).await;
    crate::support::eventually("the events behind them", || {
        (bridge.metric("feed_frames_total{kind=\"event\"}") == 10.0).then_some(())
    });
    assert_eq!(bridge.metric_sum("dead_letters_total"), f64::from(frames));
    bridge.wait_delivered();
    assert_eq!(bridge.get("/livez").0, 200);
    bridge.signal("TERM");
    assert!(bridge.wait().success());
    drop(unread);
    simulator.shutdown().await;
}
