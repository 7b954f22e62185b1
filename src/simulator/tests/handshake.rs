//! Login and subscription: replies byte for byte, and every way to be refused.

use super::super::{AuthMode, EnterpriseForm, SubscribeMode};
use super::*;

/// The reply with its timestamp cut out.
fn without_time(text: &str) -> String {
    let (head, tail) = text.split_once(r#""timestamp":"#).unwrap();
    let (time, tail) = tail.split_at(tail.find([',', '}']).unwrap());
    assert_eq!(time.len(), 19, "nanoseconds: {time}");
    format!(r#"{head}"timestamp":0{tail}"#)
}

#[tokio::test]
async fn the_replies_are_the_vendors_byte_for_byte() {
    let simulator = started().await;
    let mut client = Client::connect(&simulator).await;
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(
        without_time(&client.text().await),
        r#"{"type":"success","sequence":1,"timestamp":0,"payload":{"action":"authenticate"},"action":"authenticate"}"#
    );
    client.subscribe().await;
    assert_eq!(
        without_time(&client.text().await),
        r#"{"type":"success","sequence":2,"timestamp":0,"payload":{"action":"subscribe","feeds":["private.enterprise.users"]},"action":"subscribe"}"#
    );
    within("subscription", simulator.control().wait_subscribed()).await;
    client
        .say(&json!({"type": "unsubscribe", "feeds": [FEED_NAME]}))
        .await;
    assert_eq!(
        without_time(&client.text().await),
        r#"{"type":"success","sequence":3,"timestamp":0,"payload":{"action":"unsubscribe","feeds":[]},"action":"unsubscribe"}"#
    );
    let stats = simulator.stats();
    assert_eq!(
        (stats.auth_ok, stats.subscribes, stats.subscribed),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_wrong_key_gets_an_error_and_may_try_again() {
    let simulator = started().await;
    let mut client = Client::connect(&simulator).await;
    client.authenticate("wrong").await;
    assert_eq!(
        without_time(&client.text().await),
        r#"{"type":"error","sequence":1,"timestamp":0,"payload":{"action":"authenticate"},"action":"authenticate"}"#
    );
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(client.frame().await["type"], "success");
    let stats = simulator.stats();
    assert_eq!((stats.auth_ok, stats.auth_failed), (1, 1));
}

#[tokio::test]
async fn a_rotated_key_counts_for_the_next_login() {
    let simulator = started().await;
    let control = simulator.control();
    let mut old = Client::subscribed(&simulator).await;
    control.rotate_key("another");
    within("events", control.step(1)).await;
    assert_eq!(old.sequences(1).await, [3]);
    let mut client = Client::connect(&simulator).await;
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(client.frame().await["type"], "error");
    client.authenticate("another").await;
    assert_eq!(client.frame().await["type"], "success");
}

#[tokio::test]
async fn the_enterprise_flag_is_taken_in_the_wanted_form_only() {
    for (form, boolean, string) in [
        (EnterpriseForm::Any, "success", "success"),
        (EnterpriseForm::Boolean, "success", "error"),
        (EnterpriseForm::String, "error", "success"),
    ] {
        let simulator = with(Options {
            enterprise: form,
            ..Options::for_tests()
        })
        .await;
        let mut client = Client::connect(&simulator).await;
        for (flag, answer) in [
            (json!(true), boolean),
            (json!("true"), string),
            (json!(false), "error"),
            (json!(null), "error"),
        ] {
            let key = super::super::EXAMPLE_KEY;
            client
                .say(&json!({"type": "authenticate", "apiKey": key, "enterprise": flag}))
                .await;
            assert_eq!(client.frame().await["type"], answer, "{form:?} {flag}");
        }
    }
}

#[tokio::test]
async fn what_is_not_a_valid_command_gets_an_error() {
    let simulator = started().await;
    let mut client = Client::connect(&simulator).await;
    client.subscribe().await;
    let early = client.frame().await;
    assert_eq!(early["type"], "error");
    assert_eq!(early["action"], "subscribe");
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(client.frame().await["type"], "success");
    for command in [
        json!({"type": "subscribe", "feeds": ["no.such.feed"]}),
        json!({"type": "subscribe", "feeds": []}),
        json!({"type": "dance"}),
        json!("text"),
    ] {
        client.say(&command).await;
        assert_eq!(client.frame().await["type"], "error", "{command}");
    }
    client.0.send(Message::text("{not json")).await.unwrap();
    assert_eq!(client.frame().await["type"], "error");
    assert_eq!(simulator.stats().subscribed, 0);
}

#[tokio::test]
async fn a_sibling_feed_is_confirmed_and_carries_nothing() {
    let simulator = started().await;
    let mut client = Client::connect(&simulator).await;
    client.authenticate(super::super::EXAMPLE_KEY).await;
    client.frame().await;
    let sibling = "private.enterprise.users.balances";
    client
        .say(&json!({"type": "subscribe", "feeds": [sibling]}))
        .await;
    assert_eq!(client.frame().await["payload"]["feeds"], json!([sibling]));
    assert_eq!(within("events", simulator.control().step(3)).await, 3);
    client.subscribe().await;
    let reply = client.frame().await;
    assert_eq!(reply["payload"]["feeds"], json!([sibling, FEED_NAME]));
    assert_eq!(reply["sequence"], 3);
}

#[tokio::test]
async fn the_modes_error_silence_and_close_do_what_they_say() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::connect(&simulator).await;
    control.set_auth(AuthMode::Error);
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(client.frame().await["type"], "error");
    control.set_auth(AuthMode::Silence);
    client.authenticate(super::super::EXAMPLE_KEY).await;
    within(
        "the login",
        control.wait_for(|stats| stats.auth_failed == 2),
    )
    .await;
    control.set_auth(AuthMode::Ok);
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(
        client.frame().await["sequence"],
        2,
        "silence takes no number"
    );
    control.set_subscribe(SubscribeMode::Silence);
    client.subscribe().await;
    control.set_subscribe(SubscribeMode::Error);
    // The mode is read when the command is, so the silent one has to be through first.
    let pong = Message::Ping("through".into());
    client.0.send(pong).await.unwrap();
    client.subscribe().await;
    control.set_auth(AuthMode::Close);
    loop {
        match client.next().await {
            Some(Ok(Message::Text(text))) => assert!(text.contains("error"), "{text}"),
            Some(Ok(Message::Pong(_))) => client.authenticate(super::super::EXAMPLE_KEY).await,
            Some(Ok(Message::Close(_))) => break,
            other => panic!("no close: {other:?}"),
        }
    }
    assert_eq!(simulator.stats().subscribes, 0);
}

#[tokio::test]
async fn old_replies_have_neither_payload_nor_action() {
    let simulator = with(Options {
        old_replies: true,
        ..Options::for_tests()
    })
    .await;
    let mut client = Client::connect(&simulator).await;
    client.authenticate(super::super::EXAMPLE_KEY).await;
    assert_eq!(
        without_time(&client.text().await),
        r#"{"type":"success","sequence":1,"timestamp":0}"#
    );
}
