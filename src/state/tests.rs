//! What is news, what a repeat, and what its id is. Pure: no clock, no I/O.

use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_750_000_000_000_000_000);

fn key() -> DigestKey {
    DigestKey::new(b"a key for tests")
}

fn seen(timestamp: Option<i64>, payload: Value) -> Observation {
    let mut seen = crate::normalise::observation(payload).unwrap().0;
    seen.sent_at = timestamp.map(|at| (at.to_string(), Timestamp(at)));
    seen
}

fn ada(status: &str) -> Value {
    json!({"user_id": "client_ada", "email": "ada@example.test", "status": status,
        "requirements": {"sms": status == "PENDING", "email": false}})
}

fn news(known: Option<&UserState>, observation: Observation, source: Source) -> (Event, UserState) {
    match compare(known, observation, source, NOW, &key()) {
        Compared::News(news) => *news,
        other => panic!("expected news, got {other:?}"),
    }
}

fn feed() -> Source {
    Source::Feed("connection".to_owned())
}

#[test]
fn two_messages_with_equal_envelope_and_other_content_are_both_news() {
    let (first, state) = news(None, seen(Some(5), ada("PENDING")), feed());
    let (second, _) = news(Some(&state), seen(Some(5), ada("VERIFIED")), feed());
    assert_ne!(first.event_id, second.event_id);
    assert_eq!(first.event_type, EventType::Registered);
    assert_eq!(
        (second.event_type, second.previous_status),
        (EventType::Updated, "PENDING".into())
    );
    assert_eq!(second.changed, ["requirements", "status"]);
}

#[test]
fn a_repeat_is_known_among_the_users_last_events() {
    let (_, state) = news(None, seen(Some(5), ada("PENDING")), feed());
    let (_, state) = news(Some(&state), seen(Some(6), ada("VERIFIED")), feed());
    let again = compare(
        Some(&state),
        seen(Some(5), ada("PENDING")),
        feed(),
        NOW,
        &key(),
    );
    assert_eq!(again, Compared::Repeat);
}

#[test]
fn a_token_sequence_or_receive_time_makes_no_difference_to_the_id() {
    let (first, _) = news(None, seen(Some(5), ada("PENDING")), feed());
    let mut payload = ada("PENDING");
    payload["user_token"] = json!({"token": "other"});
    let mut second = seen(Some(5), payload);
    second.sequence = Some(99);
    let Compared::News(second) = compare(
        None,
        second,
        feed(),
        Timestamp(NOW.0 + 1),
        &DigestKey::new(b"another bridge"),
    ) else {
        panic!("expected news")
    };
    assert_eq!(first.event_id, second.0.event_id);
}

#[test]
fn an_absent_field_is_no_change_and_null_is_one() {
    let (_, state) = news(None, seen(Some(5), ada("PENDING")), feed());
    let (event, state) = news(
        Some(&state),
        seen(
            Some(6),
            json!({"user_id": "client_ada", "status": "PENDING"}),
        ),
        feed(),
    );
    assert_eq!((event.changed.len(), event.email), (0, Value::Null));
    let null = json!({"user_id": "client_ada", "email": null});
    let (event, _) = news(Some(&state), seen(Some(7), null), feed());
    assert_eq!(event.changed, ["email"]);
}

#[test]
fn the_list_is_news_only_where_it_differs() {
    let (_, state) = news(None, seen(Some(5), ada("PENDING")), feed());
    let same = compare(
        Some(&state),
        seen(None, ada("PENDING")),
        Source::List,
        NOW,
        &key(),
    );
    assert_eq!(same, Compared::Unchanged);
    let (event, _) = news(Some(&state), seen(None, ada("VERIFIED")), Source::List);
    assert_eq!(
        (event.origin, event.occurred_at, event.feed),
        (Origin::Reconcile, None, None)
    );
}

#[test]
fn a_state_that_comes_back_later_is_a_new_event() {
    let (first, state) = news(None, seen(None, ada("PENDING")), Source::List);
    let (_, state) = news(Some(&state), seen(None, ada("VERIFIED")), Source::List);
    let (third, _) = news(Some(&state), seen(None, ada("PENDING")), Source::List);
    assert_ne!(first.event_id, third.event_id);
}

#[test]
fn a_removed_user_who_comes_back_is_registered_again() {
    let (_, state) = news(None, seen(Some(5), ada("VERIFIED")), feed());
    let (event, state) = removal(&state, "client_ada", NOW);
    assert_eq!(event.previous_status, Value::from("VERIFIED"));
    assert!(state.removed);
    let (event, state) = news(Some(&state), seen(None, ada("VERIFIED")), Source::List);
    assert_eq!(
        (event.event_type, event.previous_status),
        (EventType::Registered, Value::Null)
    );
    assert!(!state.removed);
}
