//! Every form in which the vendor may refuse: what looks like its limit is followed by one silence, what
//! does not is tried again soon.

use std::time::Duration;

use futures_util::SinkExt;
use onboarding_bridge::config::load_text;
use onboarding_bridge::feed::{Heard, LostReason};
use onboarding_bridge::reconcile::{self, ListError};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::hearing::Hearing;
use crate::support::raw_vendor::{Client, RawVendor, expect, message, reply};

/// A silence that a test can wait for, and settings with it.
const SILENCE: Duration = Duration::from_secs(3);
const SETTINGS: &str = "limits: {block_wait: 3s}";

/// Longer than any wait before a second connect, shorter than the silence.
const SOON: Duration = Duration::from_millis(1500);

/// Everything that is taken for the limit.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Status(u16),
    Close { after: Stage, code: Option<u16> },
    End(Stage),
    Reset(Stage),
    Error(Stage),
}

/// How far the vendor goes along.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Upgraded,
    Authenticated,
    Subscribed,
}

async fn reach(vendor: &RawVendor, stage: Stage) -> Client {
    match stage {
        Stage::Upgraded => vendor.upgraded().await,
        Stage::Authenticated => vendor.authenticated().await,
        Stage::Subscribed => vendor.subscribed().await,
    }
}

async fn close(client: &mut Client, code: Option<u16>) {
    let frame = code.map(|code| CloseFrame {
        code: code.into(),
        reason: "".into(),
    });
    client.send(Message::Close(frame)).await.unwrap();
}

async fn refuse(vendor: &RawVendor, refusal: Refusal) {
    match refusal {
        Refusal::Status(status) => {
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
            vendor.answer_upgrade(&answer).await;
        }
        Refusal::Close { after, code } => close(&mut reach(vendor, after).await, code).await,
        Refusal::End(after) => drop(reach(vendor, after).await),
        Refusal::Reset(after) => {
            let client = reach(vendor, after).await;
            client.get_ref().set_zero_linger().unwrap();
        }
        Refusal::Error(after) => {
            let mut client = reach(vendor, after).await;
            let action = match after {
                Stage::Upgraded => "authenticate",
                Stage::Authenticated => "subscribe",
                Stage::Subscribed => "nothing",
            };
            if !matches!(after, Stage::Subscribed) {
                expect(&mut client, action).await;
            }
            let keys = json!({"action": action, "error": "Rate limit exceeded"});
            reply(&mut client, "error", keys).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_that_looks_like_the_limit_is_followed_by_one_silence() {
    use Stage::{Authenticated, Subscribed, Upgraded};
    let close = |after, code| Refusal::Close { after, code };
    let refusals = [
        Refusal::Status(429),
        Refusal::Status(403),
        Refusal::Status(503),
        close(Upgraded, Some(1000)),
        close(Upgraded, None),
        close(Authenticated, Some(1001)),
        Refusal::End(Upgraded),
        Refusal::End(Authenticated),
        Refusal::Reset(Upgraded),
        Refusal::Reset(Authenticated),
        Refusal::Error(Upgraded),
        Refusal::Error(Authenticated),
        Refusal::Error(Subscribed),
        close(Subscribed, Some(1008)),
        close(Subscribed, Some(1013)),
    ];
    let mut cases = JoinSet::new();
    for refusal in refusals {
        cases.spawn(async move {
            let vendor = RawVendor::bind();
            let hearing = Hearing::start(&vendor.url, SETTINGS);
            refuse(&vendor, refusal).await;
            hearing.reaches(LostReason::Limited, 1).await;
            let refused = Instant::now();
            // Nobody comes before the silence is over, and then somebody does.
            let left_alone = vendor.is_left_alone_for(SILENCE - SOON).await;
            assert!(left_alone, "{refusal:?}");
            drop(vendor.connection().await);
            let waited = refused.elapsed();
            assert!(
                waited >= SILENCE - Duration::from_millis(100),
                "{refusal:?}: {waited:?}"
            );
            assert!(waited < SILENCE * 3, "{refusal:?}: {waited:?}");
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_dropped_before_the_upgrade_is_the_limit_from_the_second_time_in_a_row() {
    for reset in [false, true] {
        let vendor = RawVendor::bind();
        let mut hearing = Hearing::start(&vendor.url, SETTINGS);
        vendor.drop_before_upgrade(reset).await;
        hearing.reaches(LostReason::Dropped, 1).await;
        // The first is tried again soon, and an answer in between forgets it.
        let mut client = vendor.subscribed().await;
        hearing.up().await;
        close(&mut client, Some(1001)).await;
        vendor.drop_before_upgrade(reset).await;
        hearing.reaches(LostReason::Dropped, 2).await;
        assert_eq!(hearing.times(LostReason::Limited), 0);
        vendor.drop_before_upgrade(reset).await;
        hearing.reaches(LostReason::Limited, 1).await;
        assert!(vendor.is_left_alone_for(SILENCE - SOON).await);
        vendor.subscribed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_close_code_only_means_that_the_connection_is_over() {
    let codes = [
        1000, 1001, 1002, 1003, 1007, 1009, 1010, 1011, 1012, 1014, 3000, 3008, 4000, 4999,
    ];
    let codes = codes.into_iter().map(Some).chain([None]);
    let mut cases = JoinSet::new();
    for code in codes {
        cases.spawn(async move {
            let vendor = RawVendor::bind();
            let mut hearing = Hearing::start(&vendor.url, "limits: {block_wait: 600s}");
            let mut client = vendor.subscribed().await;
            hearing.up().await;
            let text = message(3, "client_1", "Example");
            client.send(Message::text(text)).await.unwrap();
            close(&mut client, code).await;
            assert_eq!(hearing.lost().await, LostReason::Closed, "{code:?}");
            // The next connection comes after the first, short wait.
            let closed = Instant::now();
            vendor.subscribed().await;
            assert!(closed.elapsed() < Duration::from_secs(5), "{code:?}");
            assert_eq!(hearing.times(LostReason::Limited), 0, "{code:?}");
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_retry_after_at_the_upgrade_is_honoured() {
    let vendor = RawVendor::bind();
    let hearing = Hearing::start(&vendor.url, "limits: {block_wait: 1s}");
    let answer = "HTTP/1.1 503 No\r\nRetry-After: 6\r\nContent-Length: 0\r\n\r\n";
    vendor.answer_upgrade(answer).await;
    hearing.reaches(LostReason::Limited, 1).await;
    // Block and random wait together would be over after two seconds.
    assert!(vendor.is_left_alone_for(Duration::from_secs(5)).await);
    vendor.subscribed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_opens_a_new_connection_only_where_that_is_wished_for() {
    for wished in [false, true] {
        let vendor = RawVendor::bind();
        let mut hearing = Hearing::start(
            &vendor.url,
            &format!("reconnect_on_gap: {wished}, reorder_window: 0"),
        );
        let mut client = vendor.subscribed().await;
        hearing.up().await;
        for sequence in [3, 6] {
            let text = message(sequence, "client_1", &format!("Example-{sequence}"));
            client.send(Message::text(text)).await.unwrap();
        }
        assert!(matches!(hearing.next().await, Heard::Event(_)));
        assert!(matches!(hearing.next().await, Heard::Gap(_)));
        // The message behind the gap is heard either way.
        assert!(matches!(hearing.next().await, Heard::Event(_)));
        // A vendor that does not answer our goodbye is waited for a second.
        let next = hearing.next_within(Duration::from_secs(3)).await;
        assert_eq!(next.is_some(), wished, "{next:?}");
        if wished {
            assert!(
                matches!(next, Some(Heard::Lost(LostReason::Gap, _))),
                "{next:?}"
            );
            vendor.subscribed().await;
            hearing.up().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_without_end_do_not_spend_the_vendors_budget() {
    let vendor = RawVendor::bind();
    let settings = "reconnect_on_gap: true, reorder_window: 0, limits: {requests_per_minute: 12}";
    let mut hearing = Hearing::start(&vendor.url, settings);
    // Each connect takes 3 of 12, and the last 8 are kept for a connection that is lost.
    let mut client = vendor.subscribed().await;
    for connection in 0..2 {
        hearing.up().await;
        for sequence in [3, 6, 9, 12] {
            let text = message(sequence, "client_1", "Example");
            if client.send(Message::text(text)).await.is_err() {
                break;
            }
        }
        if connection == 0 {
            assert_eq!(hearing.lost().await, LostReason::Gap);
            client = vendor.subscribed().await;
        }
    }
    assert!(vendor.is_left_alone_for(Duration::from_secs(3)).await);
    assert_eq!(hearing.times(LostReason::Gap), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_403_of_the_list_is_a_refused_key_unless_it_speaks_of_a_limit() {
    for (answer, limit) in [
        (
            "403 No\r\nContent-Length: 21\r\n\r\n{\"error\": \"forbidden\"}",
            None,
        ),
        (
            "403 No\r\nContent-Length: 30\r\n\r\n{\"error\": \"too many requests\"} ",
            Some(None),
        ),
        (
            "429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
            Some(Some(Duration::from_secs(7))),
        ),
        ("503 No\r\nContent-Length: 0\r\n\r\n", Some(None)),
    ] {
        let vendor = RawVendor::bind();
        let list = vendor.url.replace("ws://", "http://");
        let yaml = format!(
            "feed: {{api_key: example}}\nreconcile: {{url: '{list}'}}\n\
             sinks: [{{name: local, type: file, path: '-'}}]\n"
        );
        let file = std::path::Path::new("test.yaml");
        let config = load_text(&yaml, file, std::iter::empty()).unwrap();
        let answer = format!("HTTP/1.1 {answer}");
        let (listed, ()) = tokio::join!(
            reconcile::probe(&config.reconcile, &config.feed),
            vendor.answer_upgrade(&answer)
        );
        let found = match listed {
            Err(ListError::Limited { retry_after, .. }) => Some(retry_after),
            Err(ListError::Refused(403)) => None,
            other => panic!("{answer}: {other:?}"),
        };
        assert_eq!(found, limit, "{answer}");
    }
}
