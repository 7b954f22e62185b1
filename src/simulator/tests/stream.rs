//! Events on the wire: numbers, order, gaps, repeats, and that the ledger tells the truth.

use std::collections::HashMap;

use super::*;

/// `(sequence, user_id, counter)` of a data frame.
fn event(frame: &Value) -> (u64, String, u32) {
    let name = frame["payload"]["last_name"].as_str().unwrap();
    (
        frame["sequence"].as_u64().unwrap(),
        frame["payload"]["user_id"].as_str().unwrap().to_owned(),
        name.strip_prefix("Example-").unwrap().parse().unwrap(),
    )
}

#[tokio::test]
async fn a_data_frame_has_the_shape_of_the_vendors_sample() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    assert!(within("an event", control.send_event_for(7)).await);
    let text = client.text().await;
    let frame: Value = serde_json::from_str(&text).unwrap();
    let (time, id, token) = (&frame["timestamp"], control.user_id(7), control.token(7));
    let expires = &frame["payload"]["user_token"]["expires"];
    assert_eq!(
        text,
        format!(
            r#"{{"sequence":3,"recipient":"private.enterprise.users","timestamp":{time},"payload":{{"user_id":"{id}","first_name":"Indigo","last_name":"Example-1","email":"user7@example.test","phone_number":"+15550100007","account_role":"Client","account_type":"individual","status":"PENDING","user_token":{{"token":"{token}","expires":{expires},"partner_user_id":"{id}"}},"requirements":{{"sms":true,"email":true}}}}}}"#
        )
    );
}

#[tokio::test]
async fn numbers_count_replies_and_data_and_timestamps_ascend() {
    let simulator = started().await;
    let mut client = Client::subscribed(&simulator).await;
    assert_eq!(within("events", simulator.control().step(600)).await, 600);
    let mut last = 0;
    for expected in 3..603 {
        let frame = client.frame().await;
        assert_eq!(frame["sequence"], expected);
        let timestamp = frame["timestamp"].as_i64().unwrap();
        assert!(timestamp > last);
        last = timestamp;
    }
}

#[tokio::test]
async fn each_user_is_heard_in_order_and_the_ledger_agrees() {
    let simulator = started().await;
    let mut client = Client::subscribed(&simulator).await;
    within("events", simulator.control().step(1_000)).await;
    let mut counters: HashMap<String, u32> = HashMap::new();
    for sent in simulator.sent() {
        let (sequence, user_id, counter) = event(&client.frame().await);
        assert_eq!(
            (sent.connection, sent.sequence, &sent.user_id, sent.counter),
            (1, sequence, &user_id, counter)
        );
        let before = counters.insert(user_id, counter).unwrap_or_default();
        assert_eq!(counter, before + 1);
    }
    assert_eq!(counters.values().sum::<u32>(), 1_000);
}

#[tokio::test]
async fn a_skip_is_a_gap_in_numbers_and_counters() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.step(1).await;
    assert_eq!(control.skip(5).await, 5);
    control.step(1).await;
    assert_eq!(client.sequences(2).await, [3, 9]);
    let stats = control.stats();
    assert_eq!((stats.events_sent, stats.events_skipped), (2, 5));
    assert_eq!(
        control.users().iter().map(|user| user.counter).sum::<u32>(),
        7
    );
}

#[tokio::test]
async fn a_reorder_sends_the_first_last() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    assert_eq!(control.reorder(3).await, 4);
    control.step(1).await;
    assert_eq!(client.sequences(5).await, [4, 5, 6, 3, 7]);
}

#[tokio::test]
async fn a_repeat_is_verbatim_and_a_same_envelope_has_other_content() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.send_event_for(1).await;
    control.repeat_last().await;
    assert!(control.send_with_same_envelope(1).await);
    let first = client.text().await;
    assert_eq!(client.text().await, first);
    let other = client.frame().await;
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(other["sequence"], first["sequence"]);
    assert_eq!(other["timestamp"], first["timestamp"]);
    assert_ne!(other["payload"], first["payload"]);
    assert_eq!(simulator.sent().len(), 3);
}

#[tokio::test]
async fn raw_frames_go_out_as_they_are_and_an_envelope_takes_a_number() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.send_raw_text("{no json").await;
    control.send_raw_binary([1, 2, 3]).await;
    control.send_envelope("private.other", r#"{"a":1}"#).await;
    assert_eq!(client.text().await, "{no json");
    let binary = client.next().await.unwrap().unwrap();
    assert_eq!(binary, Message::binary(vec![1, 2, 3]));
    let frame = client.frame().await;
    assert_eq!(frame["sequence"], 3);
    assert_eq!(frame["recipient"], "private.other");
    assert_eq!(frame["payload"], json!({"a": 1}));
}

#[tokio::test]
async fn a_silent_change_takes_no_number_but_shows_in_the_next_event() {
    let simulator = with(Options {
        users: 1,
        ..Options::for_tests()
    })
    .await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.step(1).await;
    control.change_silently(4);
    control.step(1).await;
    let heard = [event(&client.frame().await), event(&client.frame().await)];
    assert_eq!((heard[0].0, heard[0].2), (3, 1));
    assert_eq!((heard[1].0, heard[1].2), (4, 6));
}

#[tokio::test]
async fn every_subscriber_hears_every_event_with_numbers_of_its_own() {
    let simulator = started().await;
    let control = simulator.control();
    let mut first = Client::subscribed(&simulator).await;
    control.step(10).await;
    let mut second = Client::subscribed(&simulator).await;
    control.step(10).await;
    assert_eq!(first.sequences(20).await, (3..23).collect::<Vec<_>>());
    assert_eq!(second.sequences(10).await, (3..13).collect::<Vec<_>>());
    let stats = control.stats();
    assert_eq!((stats.events_generated, stats.events_sent), (20, 30));
}

#[tokio::test]
async fn a_snapshot_shows_every_registered_user_before_any_event() {
    let simulator = with(Options {
        users: 700,
        registered: Some(600),
        snapshot: true,
        ..Options::for_tests()
    })
    .await;
    let control = simulator.control();
    control.change_silently(50);
    let users = control.users();
    let mut client = Client::subscribed(&simulator).await;
    control.step(1).await;
    for (sequence, user) in (3..).zip(&users) {
        let heard = event(&client.frame().await);
        assert_eq!(heard, (sequence, user.user_id.clone(), user.counter));
    }
    assert_eq!(client.sequences(1).await, [users.len() as u64 + 3]);
}

#[tokio::test]
async fn events_stop_at_their_number_when_sent_as_fast_as_can_be() {
    let simulator = with(Options {
        rate: 0.0,
        events: Some(20_000),
        paused: false,
        ..Options::for_tests()
    })
    .await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    assert_eq!(client.sequences(20_000).await.last(), Some(&20_002));
    let stats = within("all", control.wait_for(|stats| stats.events_sent == 20_000)).await;
    assert_eq!(stats.events_generated, 20_000);
    control.step(1).await;
    assert_eq!(client.sequences(1).await, [20_003]);
}

#[tokio::test]
async fn the_world_goes_on_at_its_rate_while_nobody_listens() {
    let simulator = with(Options {
        rate: 2_000.0,
        paused: false,
        ..Options::for_tests()
    })
    .await;
    let control = simulator.control();
    let unheard = control.wait_for(|stats| stats.events_generated >= 100);
    assert_eq!(within("events", unheard).await.events_sent, 0);
    let mut client = Client::subscribed(&simulator).await;
    assert_eq!(client.sequences(50).await.first(), Some(&3));
    control.pause();
}

#[tokio::test]
async fn the_faults_of_the_command_line_leave_out_repeat_and_disconnect() {
    let simulator = with(Options {
        gap_every: 4,
        gap_size: 2,
        duplicate_envelope_every: 3,
        disconnect_every: 6,
        ..Options::for_tests()
    })
    .await;
    let mut client = Client::subscribed(&simulator).await;
    simulator.control().step(50).await;
    assert_eq!(client.sequences(6).await, [3, 4, 4, 5, 8, 8]);
    let end = client.next().await.unwrap().unwrap();
    assert!(matches!(end, Message::Close(Some(frame)) if u16::from(frame.code) == 1001));
}
