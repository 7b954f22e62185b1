//! The faults that came with the actions: what a client sees of each.

use super::super::{
    Action, BlockForm, DeafCause, DripBy, Oddity, RestMode, SubscribeMode, UpgradeMode,
    known_faults,
};
use super::list::{LIST, get, users};
use super::*;

fn status(error: &tungstenite::Error) -> Option<u16> {
    match error {
        tungstenite::Error::Http(response) => Some(response.status().as_u16()),
        _ => None,
    }
}

#[tokio::test]
async fn every_action_of_the_table_is_done() {
    for text in known_faults().into_iter().filter_map(|fault| fault.action) {
        let simulator = started().await;
        let mut client = Client::subscribed(&simulator).await;
        let control = simulator.control();
        let action: Action = serde_json::from_str(&text).unwrap();
        let read = async {
            while let Some(Ok(_)) = client.0.next().await {}
            std::future::pending::<()>().await;
        };
        let done = within(&text, async {
            tokio::select! {
                done = control.perform(action) => done,
                () = read => unreachable!("it pends"),
            }
        });
        assert!(done.await.is_ok(), "{text}");
    }
}

#[tokio::test]
async fn an_upgrade_is_refused_in_every_form_and_then_granted() {
    let simulator = started().await;
    let control = simulator.control();
    for (mode, code) in [
        (UpgradeMode::TooManyRequests, Some(429)),
        (UpgradeMode::Forbidden, Some(403)),
        (UpgradeMode::Unavailable, Some(503)),
        (UpgradeMode::Unauthorized, Some(401)),
        (UpgradeMode::Drop, None),
    ] {
        control.set_upgrade(mode);
        let error = timeout(DEADLINE, Box::pin(connect_async(simulator.ws_url())))
            .await
            .unwrap();
        assert_eq!(status(&error.unwrap_err()), code, "{mode:?}");
    }
    control.set_upgrade(UpgradeMode::Silence);
    let silent = timeout(
        Duration::from_millis(200),
        connect_async(simulator.ws_url()),
    );
    assert!(silent.await.is_err());
    control.set_upgrade(UpgradeMode::Ok);
    let _client = Client::subscribed(&simulator).await;
    assert_eq!(control.stats().connections_total, 1);
}

#[tokio::test]
async fn a_block_has_the_form_that_it_is_given() {
    let simulator = started().await;
    let control = simulator.control();
    for (form, upgrade, list) in [
        (BlockForm::Forbidden, Some(403), Some(403)),
        (BlockForm::Unavailable, Some(503), Some(503)),
        (BlockForm::Drop, None, None),
    ] {
        control.block_by(DEADLINE, form);
        let error = connect_async(simulator.ws_url()).await.unwrap_err();
        assert_eq!(status(&error), upgrade, "{form:?}");
        let answer = get(&simulator, LIST, super::super::EXAMPLE_KEY).await;
        assert_eq!(answer.ok().map(|answer| answer.0), list, "{form:?}");
    }
    control.block_by(DEADLINE, BlockForm::ErrorReply);
    let mut client = Client::connect(&simulator).await;
    client.authenticate(super::super::EXAMPLE_KEY).await;
    let reply = client.frame().await;
    assert_eq!(reply["type"], "error");
    assert!(reply["message"].as_str().unwrap().contains("limit"));
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn data_may_come_before_the_reply_and_another_reply_first() {
    let simulator = started().await;
    let control = simulator.control();
    for (mode, first) in [
        (SubscribeMode::DataFirst, "private.enterprise.users"),
        (SubscribeMode::OtherFirst, "authenticate"),
    ] {
        control.set_subscribe(mode);
        let mut client = Client::connect(&simulator).await;
        client.authenticate(super::super::EXAMPLE_KEY).await;
        client.frame().await;
        client.subscribe().await;
        let frame = client.frame().await;
        assert!(
            frame["recipient"] == first || frame["action"] == first,
            "{frame}"
        );
        let mut last = frame;
        while last["action"] != "subscribe" {
            last = client.frame().await;
        }
        assert_eq!(last["type"], "success");
    }
}

#[tokio::test]
async fn a_frame_in_pieces_is_one_message_with_pongs_between_its_fragments() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    for (by, between) in [(DripBy::Bytes, false), (DripBy::Fragments, true)] {
        let dripped = control.send_dripped(by, Duration::ZERO);
        let heard = async {
            let mut controls = false;
            loop {
                match client.next().await.unwrap().unwrap() {
                    Message::Text(text) => {
                        return (serde_json::from_str::<Value>(&text).unwrap(), controls);
                    }
                    other => controls |= other.is_ping() || other.is_pong(),
                }
            }
        };
        let (sent, (frame, controls)) = tokio::join!(dripped, heard);
        assert_eq!((sent, controls), (1, between), "{by:?}");
        assert!(frame["payload"]["user_id"].is_string());
    }
}

#[tokio::test]
async fn a_mute_vendor_takes_no_numbers_and_the_deaf_span_has_what_was_missed() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.step(1).await;
    control.mute(true).await;
    assert_eq!(control.step(5).await, 5);
    control.mute(false).await;
    control.step(1).await;
    assert_eq!(client.sequences(2).await, [3, 4]);
    let spans = control.deaf().spans;
    let of = |cause| spans.iter().filter(move |span| span.cause == cause);
    let muted: Vec<_> = of(DeafCause::Muted).collect();
    assert_eq!(muted.len(), 1);
    assert_eq!((muted[0].missed, muted[0].connection), (5, Some(1)));
    let (from, to) = (muted[0].from, muted[0].to.unwrap());
    assert!(from <= muted[0].first_missed.unwrap() && muted[0].last_missed.unwrap() <= to);
    let nobody: Vec<_> = of(DeafCause::Nobody).collect();
    assert!(
        nobody.len() == 1 && nobody[0].to.is_some(),
        "before the subscription only"
    );
}

#[tokio::test]
async fn deaf_spans_tell_gaps_stalls_and_absence_apart() {
    let simulator = started().await;
    let control = simulator.control();
    control.step(2).await;
    let _client = Client::subscribed(&simulator).await;
    control.skip(3).await;
    control.stall(true).await;
    control.step(4).await;
    control.reset().await;
    control.step(1).await;
    let deaf = control.deaf().spans;
    let told: Vec<_> = deaf.iter().map(|span| (span.cause, span.missed)).collect();
    assert_eq!(
        told,
        [
            (DeafCause::Nobody, 2),
            (DeafCause::Gap, 3),
            (DeafCause::Stalled, 4),
            (DeafCause::Nobody, 1),
            (DeafCause::Reset, 0),
        ]
    );
    assert!(deaf[3].to.is_none() && deaf[2].to.is_some());
}

#[tokio::test]
async fn withheld_pongs_do_not_come_and_others_do() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.withhold_pongs(true);
    client.0.send(Message::Ping("one".into())).await.unwrap();
    within(
        "the ping",
        control.wait_for(|stats| stats.pings_received == 1),
    )
    .await;
    control.step(1).await;
    assert_eq!(client.sequences(1).await, [3], "no pong before it");
    control.withhold_pongs(false);
    client.0.send(Message::Ping("two".into())).await.unwrap();
    let pong = client.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("two".into()));
}

#[tokio::test]
async fn odd_events_and_new_numbers_are_on_the_wire() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.send_odd(Oddity::SequenceString, 1).await;
    control.restart_numbers(1).await;
    control.send_odd(Oddity::PayloadString, 1).await;
    assert_eq!(client.frame().await["sequence"], "3");
    let frame = client.frame().await;
    assert!(frame["sequence"] == 1 && frame["payload"].is_string());
}

#[tokio::test]
async fn the_list_is_wrong_in_every_way_that_it_is_told_to() {
    let simulator = started().await;
    let control = simulator.control();
    for (mode, code) in [
        (RestMode::Unauthorized, 401),
        (RestMode::Forbidden, 403),
        (RestMode::NotFound, 404),
        (RestMode::NotAcceptable, 406),
        (RestMode::Unprocessable, 422),
    ] {
        control.set_rest(mode);
        let answer = get(&simulator, LIST, super::super::EXAMPLE_KEY)
            .await
            .unwrap();
        assert_eq!(answer.0, code);
    }
    for (mode, count) in [
        (RestMode::Empty, 0),
        (RestMode::UserTwice, 110),
        (RestMode::Unreadable, 110),
        (RestMode::Paged, 100),
        (RestMode::Wide, 100),
    ] {
        control.set_rest(mode);
        let listed = users(&simulator, LIST).await;
        assert!(
            listed.len().abs_diff(count) <= 1,
            "{mode:?}: {}",
            listed.len()
        );
    }
    control.set_rest(RestMode::Wide);
    assert!(users(&simulator, LIST).await[0]["individual"]["date_of_birth"].is_string());
    control.set_rest(RestMode::Drop);
    assert!(
        get(&simulator, LIST, super::super::EXAMPLE_KEY)
            .await
            .is_err()
    );
    control.set_rest(RestMode::Ok);
    control.set_rest_lacks(0.5);
    let half = users(&simulator, LIST).await;
    assert!((30..70).contains(&half.len()), "{}", half.len());
    assert_eq!(half, users(&simulator, LIST).await);
    control.set_rest_lacks(0.0);
    control.step(50).await;
    control.set_rest_lag(Duration::from_secs(600));
    let then = users(&simulator, LIST).await;
    assert!(then.iter().all(|user| user["last_name"] == "Example-0"));
}
