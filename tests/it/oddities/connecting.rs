//! Points 1 to 10: connecting, and the vendor's replies.

use std::time::Duration;

use futures_util::SinkExt;
use onboarding_bridge::event::FEED_NAME;
use onboarding_bridge::feed::{Heard, LostReason};
use onboarding_bridge::normalise::Reason;
use onboarding_bridge::simulator::{EnterpriseForm, Options};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::support::eventually;
use crate::support::hearing::Hearing;
use crate::support::line::Line;
use crate::support::raw_vendor::{RawVendor, expect, message, reply};

#[tokio::test(flavor = "multi_thread")]
async fn point_1_the_other_form_of_the_flag_is_never_tried_unasked() {
    let options = Options {
        enterprise: EnterpriseForm::String,
        ..Options::for_tests()
    };
    let line = Line::start(options, "", "").await;
    eventually("the refusal", || {
        let log = line.bridge.log();
        log.contains("check the key in `feed.api_key_file`, and `feed.enterprise_flag`")
            .then_some(())
    });
    let again = line.control.wait_for(|stats| stats.auth_failed > 1);
    assert!(timeout(Duration::from_secs(3), again).await.is_err());
    assert_eq!(line.control.stats().connections_total, 1);
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn point_4_replies_are_understood_with_and_without_each_of_their_keys() {
    for keys in [
        json!({}),
        json!({"sequence": 1, "timestamp": 17}),
        json!({"payload": {"action": "authenticate"}}),
        json!({"action": "authenticate", "payload": null, "feeds": [], "code": 7, "message": "hello"}),
    ] {
        let vendor = RawVendor::bind();
        let mut hearing = Hearing::start(&vendor.url, "");
        let mut client = vendor.upgraded().await;
        expect(&mut client, "authenticate").await;
        reply(&mut client, "success", keys).await;
        expect(&mut client, "subscribe").await;
        reply(&mut client, "success", json!({})).await;
        hearing.up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn point_9_the_subscription_follows_the_authentication_at_once() {
    let vendor = RawVendor::bind();
    let mut hearing = Hearing::start(&vendor.url, "");
    let mut client = vendor.authenticated().await;
    let authenticated = Instant::now();
    expect(&mut client, "subscribe").await;
    assert!(authenticated.elapsed() < Duration::from_secs(1));
    reply(&mut client, "success", json!({"action": "subscribe"})).await;
    hearing.up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_10_early_data_foreign_data_and_replies_out_of_order_do_no_harm() {
    let vendor = RawVendor::bind();
    let mut hearing = Hearing::start(&vendor.url, "");
    let mut client = vendor.authenticated().await;
    expect(&mut client, "subscribe").await;
    let early = message(2, "client_1", "Example");
    let foreign = early.replace(FEED_NAME, "private.enterprise.users.trades");
    for text in [early, foreign] {
        client.send(Message::text(text)).await.unwrap();
    }
    reply(&mut client, "error", json!({"action": "unsubscribe"})).await;
    reply(&mut client, "success", json!({"action": "authenticate"})).await;
    reply(&mut client, "success", json!({"action": "subscribe"})).await;
    let heard = hearing.next().await;
    assert!(matches!(heard, Heard::Event(_)), "{heard:?}");
    match hearing.next().await {
        Heard::Rejected(rejected) => assert_eq!(rejected.reason, Reason::Foreign),
        other => panic!("{other:?}"),
    }
    hearing.up().await;
    assert_eq!(hearing.times(LostReason::Subscription), 0);
}
