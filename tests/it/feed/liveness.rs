//! A connection that is open and dead: how long it takes until that is noticed, measured.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use onboarding_bridge::feed::{Heard, LostReason};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::support::hearing::Hearing;
use crate::support::raw_vendor::{
    CONTINUED, Client, PING, RawVendor, TEXT, drip, frame, message, write,
};

/// By the default settings: `ping_interval` and `reply_timeout`.
const BOUND: Duration = Duration::from_secs(25);

/// What a machine under load may add.
const SLACK: Duration = Duration::from_secs(3);

/// A quick feed: a ping each 200 ms, 500 ms for the answer, 1.5 s for a message.
const QUICK: &str = "ping_interval: 200ms, reply_timeout: 500ms, idle_timeout: 1500ms";

/// A vendor and a feed that is subscribed to it.
async fn subscribed(settings: &str) -> (RawVendor, Client, Hearing) {
    let vendor = RawVendor::bind();
    let mut hearing = Hearing::start(&vendor.url, settings);
    let client = vendor.subscribed().await;
    hearing.up().await;
    (vendor, client, hearing)
}

/// What happened to a connection.
type Case = &'static str;

/// The time until the feed gives the connection up; the client is kept open and is not read.
async fn noticed(case: Case, client: Client, hearing: &mut Hearing) -> (Case, Duration) {
    let silent = Instant::now();
    assert_eq!(hearing.lost().await, LostReason::Idle, "{case}");
    let took = silent.elapsed();
    drop(client);
    (case, took)
}

/// Answers pings until one was answered.
async fn answer_one_ping(client: &mut Client) {
    while !matches!(client.next().await, Some(Ok(Message::Ping(_)))) {}
    client.flush().await.unwrap();
}

async fn half_open_after_a_pong() -> (Case, Duration) {
    let (_vendor, mut client, mut hearing) = subscribed("").await;
    answer_one_ping(&mut client).await;
    noticed("half-open right after a pong", client, &mut hearing).await
}

async fn half_open_in_the_middle_of_data() -> (Case, Duration) {
    let (_vendor, mut client, mut hearing) = subscribed("").await;
    for sequence in 1..=50 {
        let text = message(sequence, "client_1", &format!("Example-{sequence}"));
        client.send(Message::text(text)).await.unwrap();
        assert!(matches!(hearing.next().await, Heard::Event(_)));
    }
    let whole = frame(true, TEXT, message(51, "client_1", "Example").as_bytes());
    let (half, _) = whole.split_at(whole.len() / 2);
    assert!(write(&mut client, half).await);
    noticed("half-open in the middle of a message", client, &mut hearing).await
}

async fn stalled_reader() -> (Case, Duration) {
    let (_vendor, mut client, mut hearing) = subscribed("").await;
    // Each ping asks for a pong, and nobody reads the pongs: more than the windows of both sides take.
    let pings = frame(true, PING, &[b'x'; 125]).repeat(1_000);
    for _ in 0..60 {
        if !write(&mut client, &pings).await {
            break;
        }
    }
    noticed("stalled reader, its window full", client, &mut hearing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_is_noticed_within_25_seconds_at_default_settings() {
    let mut cases = JoinSet::new();
    cases.spawn(half_open_after_a_pong());
    cases.spawn(half_open_in_the_middle_of_data());
    cases.spawn(stalled_reader());
    while let Some(took) = cases.join_next().await {
        let (case, took) = took.unwrap();
        println!("{case}: noticed after {:.1} s", took.as_secs_f64());
        assert!(took <= BOUND + SLACK, "{took:?}");
        // A vendor that does not read is known as soon as we have something to say.
        let early = took < Duration::from_secs(9) && !case.starts_with("stalled");
        assert!(!early, "{case} too early: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_answers_pings_and_sends_nothing_stays_connected() {
    let (_vendor, mut client, mut hearing) = subscribed(QUICK).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        answer_one_ping(&mut client).await;
    }
    assert_eq!(hearing.times(LostReason::Idle), 0);
    let text = message(1, "client_1", "Example");
    client.send(Message::text(text)).await.unwrap();
    assert!(matches!(hearing.next().await, Heard::Event(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_that_never_make_a_message_end_the_connection_although_pings_are_answered() {
    let (_vendor, mut client, mut hearing) = subscribed(QUICK).await;
    let started = Instant::now();
    let dripping = async {
        let mut beat = interval(Duration::from_millis(50));
        let mut opcode = TEXT;
        loop {
            beat.tick().await;
            if !write(&mut client, &frame(false, opcode, b" ")).await {
                break;
            }
            opcode = CONTINUED;
            // Reads what is there, which answers pings; a pong is a frame between the fragments.
            if timeout(Duration::from_millis(1), client.next())
                .await
                .is_ok()
            {
                client.flush().await.unwrap_or_default();
            }
        }
    };
    let lost = tokio::select! {
        reason = hearing.lost() => reason,
        () = dripping => hearing.lost().await,
    };
    assert_eq!(lost, LostReason::Idle);
    let took = started.elapsed();
    println!("fragments with pongs between: noticed after {took:?} of 1.5 s");
    assert!(took >= Duration::from_millis(1400), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_comes_byte_by_byte_without_end_ends_the_connection() {
    let (_vendor, mut client, mut hearing) = subscribed(QUICK).await;
    let started = Instant::now();
    let whole = frame(true, TEXT, &[b' '; 60_000]);
    let dripping = drip(&mut client, &whole);
    let lost = tokio::select! {
        reason = hearing.lost() => reason,
        () = dripping => hearing.lost().await,
    };
    assert_eq!(lost, LostReason::Idle);
    let took = started.elapsed();
    println!("a frame byte by byte: noticed after {took:?} of 1.5 s");
    assert!(took >= Duration::from_millis(1400), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_on_a_slow_line_is_taken_if_it_is_whole_in_time() {
    let (_vendor, mut client, mut hearing) = subscribed(QUICK).await;
    // A pong shortly before, as the worst case: from then on 1.2 s without a whole frame.
    answer_one_ping(&mut client).await;
    let name = "x".repeat(1024 * 1024 - 500);
    let text = message(1, "client_1", &name);
    let whole = frame(true, TEXT, text.as_bytes());
    for part in whole.chunks(whole.len() / 24 + 1) {
        assert!(write(&mut client, part).await);
        sleep(Duration::from_millis(50)).await;
    }
    let heard = hearing.next().await;
    assert!(matches!(heard, Heard::Event(_)), "{heard:?}");
    assert_eq!(hearing.times(LostReason::Idle), 0);
}
