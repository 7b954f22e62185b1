//! Lost connections: each way of losing one is noticed, named, and repaired from the list.

use std::time::Duration;

use onboarding_bridge::simulator::{AuthMode, EXAMPLE_KEY, EnterpriseForm, Options, SubscribeMode};
use tokio::time::{Instant, timeout};

use super::{reasons, users};
use crate::support::eventually;
use crate::support::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_socket_is_noticed() {
    let line = Line::listening(users(10), "ping_interval: 200ms\nidle_timeout: 600ms", "").await;
    let pongs = "feed_frames_total{kind=\"pong\"}";
    eventually("pongs for twice the idle timeout", || {
        (line.bridge.metric(pongs) >= 6.0).then_some(())
    });
    // A quiet feed is no dead one.
    assert_eq!(line.bridge.metric_sum("feed_reconnects_total"), 0.0);
    let started = Instant::now();
    line.control.stall(true).await;
    // Lost in the half-open socket.
    line.control.step(4).await;
    eventually("the idle connection to be given up", || {
        (line.lost("idle") == 1.0).then_some(())
    });
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    line.control.stall(false).await;
    line.subscribed(2).await;
    line.control.step(3).await;
    line.heard(3);
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "idle"]);
    let ended = line.end().await;
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_noticed_and_repaired() {
    let line = Line::listening(users(30), "", "").await;
    line.control.step(5).await;
    line.heard(5);
    line.control.reset().await;
    line.control.change_silently(7);
    line.subscribed(2).await;
    line.control.step(5).await;
    line.heard(10);
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows), ["start", "broken"]);
    assert!(windows[1]["differences"].as_u64().unwrap() > 0);
    assert_eq!(line.lost("broken"), 1.0);
    assert_eq!(line.bridge.metric_sum("feed_reconnects_total"), 1.0);
    let ended = line.end().await;
    ended.assert_repaired();
    ended.assert_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reply_to_authenticate_is_a_reason() {
    let options = Options {
        auth: AuthMode::Silence,
        ..users(5)
    };
    let line = Line::start(options, "reply_timeout: 300ms", "").await;
    eventually("the missing reply", || {
        (line.lost("no_reply") >= 1.0).then_some(())
    });
    assert_eq!(line.bridge.get("/readyz").0, 503);
    assert!(
        line.bridge
            .log()
            .contains("authenticate was not answered within 300ms")
    );
    line.control.set_subscribe(SubscribeMode::Silence);
    line.control.set_auth(AuthMode::Ok);
    eventually("the next missing reply", || {
        let log = line.bridge.log();
        log.contains("subscribe was not answered within 300ms")
            .then_some(())
    });
    line.control.set_subscribe(SubscribeMode::Ok);
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    // Never subscribed, so nothing but the start was blind.
    assert_eq!(reasons(&line.healed_windows(1)), ["start"]);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_does_not_answer_does_not_hold_up_the_end() {
    let options = Options {
        auth: AuthMode::Silence,
        ..users(5)
    };
    let line = Line::start(options, "reply_timeout: 60s", "").await;
    line.control.wait_for(|stats| stats.auth_failed > 0).await;
    let started = Instant::now();
    line.bridge.terminate();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_limits_are_kept_through_a_storm_of_disconnects() {
    // Two connects and their lists take the whole share: three and one each.
    let share = 8;
    let limits = format!("limits: {{connections: 2, requests_per_minute: {share}}}");
    let options = Options {
        enforce_limits: true,
        ..users(5)
    };
    let line = Line::start(options, &limits, "").await;
    for connection in 1..=2 {
        line.subscribed(connection).await;
        line.listed("success", f64::from(u32::try_from(connection).unwrap()));
        line.control.close(1001).await;
    }
    // By the backoff alone the next connect would come within two seconds.
    let third = line.control.wait_for(|stats| stats.connections_total > 2);
    assert!(timeout(Duration::from_secs(4), third).await.is_err());
    let stats = line.control.stats();
    assert_eq!((stats.limit_breaches, stats.connections_peak), (0, 1));
    assert!(stats.requests_peak <= share, "{stats:?}");
    assert_eq!(line.bridge.metric("feed_request_budget_remaining"), 0.0);
    assert_eq!(line.bridge.get("/livez").0, 200);
    // Waiting for the budget is no reason to end late.
    let started = Instant::now();
    line.end().await.assert_repaired();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_needs_no_restart() {
    let line = Line::start_with(users(5), |yaml, folder| {
        let file = folder.join("key");
        std::fs::write(&file, format!("{EXAMPLE_KEY}\n")).unwrap();
        let inline = format!("api_key: {EXAMPLE_KEY}");
        yaml.replace(&inline, &format!("api_key_file: {}", file.display()))
    })
    .await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    line.control.rotate_key("second-example-key");
    std::fs::write(line.folder.path().join("key"), "second-example-key\n").unwrap();
    line.reconnect().await;
    // The list takes the new key too.
    line.listed("success", 2.0);
    let stats = line.control.stats();
    assert_eq!((stats.auth_ok, stats.auth_failed), (2, 0));
    let log = line.end().await.log;
    assert!(!log.contains("second-example-key") && !log.contains(EXAMPLE_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_beyond_every_bound_ends_the_connection_and_the_list_repairs() {
    let line = Line::listening(users(5), "max_frame_bytes: 4KiB", "").await;
    line.control.step(3).await;
    line.heard(3);
    // Sixteen times the limit is the most that is read to its end.
    line.control.send_raw_text("x".repeat(64 * 1024 + 1)).await;
    line.control.change_silently(3);
    line.subscribed(2).await;
    line.control.step(3).await;
    line.heard(6);
    assert_eq!(reasons(&line.healed_windows(2)), ["start", "protocol"]);
    assert_eq!(line.lost("protocol"), 1.0);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_of_flag_and_reply_that_the_vendor_documents_will_do() {
    let forms = [
        (EnterpriseForm::Boolean, "boolean", false),
        (EnterpriseForm::String, "string", false),
        (EnterpriseForm::Any, "boolean", true),
    ];
    for (enterprise, flag, old_replies) in forms {
        let options = Options {
            enterprise,
            old_replies,
            // Messages right behind the reply, as the first ones of a connection.
            snapshot: true,
            ..users(5)
        };
        let line = Line::start(options, &format!("enterprise_flag: {flag}"), "").await;
        line.bridge.wait_ready();
        line.listed("success", 1.0);
        line.control.step(3).await;
        line.heard(8);
        assert_eq!(line.control.stats().auth_failed, 0);
        assert_eq!(line.bridge.metric_sum("feed_reconnects_total"), 0.0);
        line.end().await.assert_repaired();
    }
}
