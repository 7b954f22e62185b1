//! The vendor by TLS, with authorities of the operator's own as behind a proxy that looks into TLS: for
//! the feed and for the list, read anew each time; and the bytes are watched within TLS as without.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt};
use onboarding_bridge::feed::{Heard, LostReason};
use onboarding_bridge::simulator::{EXAMPLE_KEY, Options, Simulator};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::support::bridge::{Bridge, PATIENCE, config, eventually, file_sink};
use crate::support::certificates::Authority;
use crate::support::hearing::Hearing;
use crate::support::mounted::Mounted;
use crate::support::raw_vendor::{Client, RawVendor, TEXT, drip, frame, message, write};
use crate::support::tls_front::TlsFront;

#[tokio::test(flavor = "multi_thread")]
async fn the_authorities_for_feed_and_list_are_read_anew_each_time() {
    let options = Options {
        users: 5,
        ..Options::for_tests()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let control = simulator.control();
    let (first, second) = (Authority::new(), Authority::new());
    let front = TlsFront::before(&simulator.ws_url(), &first.issue()).await;
    let mut secrets = Mounted::new(&[("ca.pem", &first.pem)]);
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let authorities = format!("ca_file: '{}'", secrets.path("ca.pem"));
    let feed = format!("{authorities}\nlimits: {{requests_per_minute: 40}}");
    let yaml = config(&simulator, folder.path(), &feed, &sink)
        .replace("ws://127.0.0.1:", "wss://127.0.0.1:")
        .replace("http://127.0.0.1:", "https://127.0.0.1:")
        .replace(
            &simulator.ws_url().replace("ws://", "").replace("/ws", ""),
            &front.address,
        )
        .replacen("reconcile:\n", &format!("reconcile:\n  {authorities}\n"), 1);
    assert_eq!(yaml.matches(&front.address).count(), 2, "{yaml}");
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    let listed = |times: f64| {
        eventually("the list", || {
            let lists = bridge.metric("reconcile_runs_total{outcome=\"success\"}");
            (lists >= times).then_some(())
        });
    };
    let lost = || bridge.metric("feed_reconnects_total{reason=\"unreachable\"}");
    listed(1.0);

    // The vendor has another authority, and the file too.
    front.show(&second.issue());
    secrets.swap(&[("ca.pem", &second.pem)]);
    let subscribes = control.stats().subscribes;
    control.close(1001).await;
    let again = control.wait_for(|stats| stats.subscribes > subscribes);
    timeout(PATIENCE, again).await.unwrap();
    listed(2.0);
    assert_eq!(lost(), 0.0);

    // Who comes with the first one is not the vendor any more.
    front.show(&first.issue());
    control.close(1001).await;
    eventually("a stranger to be refused", || (lost() >= 1.0).then_some(()));
    assert!(bridge.log().contains("UnknownIssuer"), "{}", bridge.log());

    // A file that is just being written: no connection is made with it.
    secrets.swap(&[("ca.pem", first.pem.split_at(first.pem.len() / 2).0)]);
    let before = lost();
    eventually("half a file to be refused", || {
        (lost() > before && bridge.log().contains("ca.pem: ")).then_some(())
    });
    let accepted = front.accepted();
    let before = lost();
    eventually("another try", || (lost() > before).then_some(()));
    assert_eq!(front.accepted(), accepted, "the vendor hears nothing of it");

    // Both authorities, as while the vendor changes from one to the other.
    secrets.swap(&[("ca.pem", &(second.pem.clone() + &first.pem))]);
    let subscribes = control.stats().subscribes;
    let again = control.wait_for(|stats| stats.subscribes > subscribes);
    timeout(PATIENCE, again).await.unwrap();
    listed(3.0);
    control.step(3).await;
    bridge.wait_delivered();
    assert!(!bridge.log().contains(EXAMPLE_KEY));
    bridge.terminate();
    simulator.shutdown().await;
}

/// A quick feed: a ping each 200 ms, 500 ms for the answer, 1.5 s for a message.
const QUICK: &str = "ping_interval: 200ms, reply_timeout: 500ms, idle_timeout: 1500ms";

/// A vendor behind TLS, and a feed that is subscribed to it.
async fn subscribed() -> (RawVendor, TlsFront, Client, Hearing, Mounted) {
    let vendor = RawVendor::bind();
    let authority = Authority::new();
    let front = TlsFront::before(&vendor.url, &authority.issue()).await;
    let secrets = Mounted::new(&[("ca.pem", &authority.pem)]);
    let settings = format!("{QUICK}, ca_file: '{}'", secrets.path("ca.pem"));
    let url = format!("wss://{}/ws", front.address);
    let mut hearing = Hearing::start(&url, &settings);
    let client = vendor.subscribed().await;
    hearing.up().await;
    (vendor, front, client, hearing, secrets)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_within_tls_are_seen_before_their_message_is_whole() {
    let (_vendor, _front, mut client, mut hearing, _secrets) = subscribed().await;
    // Twice as slow as an answer may be, and nothing else is sent meanwhile: no pong.
    let text = message(1, "client_1", &"x".repeat(20_000));
    let whole = frame(true, TEXT, text.as_bytes());
    for part in whole.chunks(whole.len() / 20 + 1) {
        assert!(write(&mut client, part).await);
        sleep(Duration::from_millis(60)).await;
    }
    let heard = hearing.next().await;
    assert!(matches!(heard, Heard::Event(_)), "{heard:?}");
    assert_eq!(hearing.times(LostReason::Idle), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_within_tls_that_never_ends_ends_the_connection() {
    let (_vendor, _front, mut client, mut hearing, _secrets) = subscribed().await;
    let started = Instant::now();
    let whole = frame(true, TEXT, &[b' '; 60_000]);
    let dripping = drip(&mut client, &whole);
    let lost = tokio::select! {
        reason = hearing.lost() => reason,
        () = dripping => panic!("the whole frame was taken"),
    };
    assert_eq!(lost, LostReason::Idle);
    let took = started.elapsed();
    println!("byte by byte within TLS: noticed after {took:?} of 1.5 s");
    assert!(
        took >= Duration::from_millis(1400) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_within_tls_that_falls_silent_is_noticed() {
    let (_vendor, _front, mut client, mut hearing, _secrets) = subscribed().await;
    let text = message(1, "client_1", "Example");
    client.send(Message::text(text)).await.unwrap();
    assert!(matches!(hearing.next().await, Heard::Event(_)));
    let silent = Instant::now();
    assert_eq!(hearing.lost().await, LostReason::Idle);
    let took = silent.elapsed();
    println!("silent within TLS: noticed after {took:?} of 0.7 s");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(hearing.next().now_or_never().is_none());
    drop(client);
}
