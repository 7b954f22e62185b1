//! The vendor's oddities, one test each. Pure: no clock, no I/O.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample;
use serde_json::json;

use super::*;

fn data(payload: Value) -> Frame {
    frame(
        &json!({"sequence": 7, "recipient": FEED_NAME, "timestamp": 1_717_005_327_995_988_841_i64,
            "payload": payload})
        .to_string(),
    )
}

fn observed(payload: Value) -> Observation {
    match data(payload) {
        Frame::Data(observation, _) => *observation,
        other => panic!("expected data, got {other:?}"),
    }
}

fn of(observation: &Observation, name: FieldName) -> &Field {
    &observation.fields[name as usize]
}

#[test]
fn only_the_exact_recipient_is_our_feed() {
    for recipient in [
        "private.enterprise.users.balances",
        "private.enterprise.user",
        "",
    ] {
        let text = json!({"sequence": 3, "recipient": recipient, "payload": {"user_id": "a"}});
        assert_eq!(
            frame(&text.to_string()),
            Frame::Rejected(Reason::Foreign, Some(3))
        );
    }
}

#[test]
fn what_cannot_become_an_event_has_a_reason() {
    assert_eq!(frame("{"), Frame::Rejected(Reason::Malformed, None));
    assert_eq!(frame("[1]"), Frame::Rejected(Reason::Malformed, None));
    assert_eq!(
        frame("{\"x\":1}"),
        Frame::Rejected(Reason::Unrecognised, None)
    );
    assert_eq!(
        data(json!(["a"])),
        Frame::Rejected(Reason::Payload, Some(7))
    );
    assert_eq!(
        data(json!({"email": "ada@example.test"})),
        Frame::Rejected(Reason::UserId, Some(7))
    );
    assert_eq!(
        data(json!({"user_id": ""})),
        Frame::Rejected(Reason::UserId, Some(7))
    );
    assert_eq!(
        data(json!({"user_id": "a", "email": ["x"]})),
        Frame::Rejected(Reason::FieldType, Some(7))
    );
}

#[test]
fn account_type_and_role_are_lower_case_and_corporate_is_corporation() {
    let seen = observed(
        json!({"user_id": "a", "account_type": "Corporate", "account_role": "Client", "status": "NEW"}),
    );
    assert_eq!(
        *of(&seen, FieldName::AccountType),
        Field::Value("corporation".into())
    );
    assert_eq!(
        *of(&seen, FieldName::AccountRole),
        Field::Value("client".into())
    );
    assert_eq!(*of(&seen, FieldName::Status), Field::Value("NEW".into()));
}

#[test]
fn absent_is_not_null() {
    let seen = observed(json!({"user_id": "a", "email": null}));
    assert_eq!(*of(&seen, FieldName::Email), Field::Null);
    assert_eq!(*of(&seen, FieldName::FirstName), Field::Absent);
}

#[test]
fn the_unit_of_the_timestamp_is_found_by_its_magnitude() {
    for (sent, nanoseconds) in [
        (
            json!(1_717_005_327_995_988_841_i64),
            1_717_005_327_995_988_841,
        ),
        (json!("1717005327995988841"), 1_717_005_327_995_988_841),
        (json!(1_717_005_327_995_988_i64), 1_717_005_327_995_988_000),
        (json!(1_717_005_327_995_i64), 1_717_005_327_995_000_000),
        (json!(1_717_005_327), 1_717_005_327_000_000_000),
        (
            json!("2024-05-29T17:55:27.995988841Z"),
            1_717_005_327_995_988_841,
        ),
    ] {
        assert_eq!(moment(&sent).unwrap().1, Timestamp(nanoseconds), "{sent}");
    }
    for unusable in [
        json!(null),
        json!("soon"),
        json!({}),
        json!(0),
        json!(-5),
        json!(99_999_999_999_999_999_i64),
        json!(90_000_000_000_000_i64),
    ] {
        assert_eq!(moment(&unusable), None, "{unusable}");
    }
}

#[test]
fn a_payload_may_be_a_string_that_holds_json() {
    let seen = observed(Value::String(
        "{\"user_id\":\"a\",\"status\":\"PENDING\"}".into(),
    ));
    assert_eq!(
        *of(&seen, FieldName::Status),
        Field::Value("PENDING".into())
    );
}

#[test]
fn unknown_keys_are_named_and_the_last_of_a_doubled_key_counts() {
    let text = format!(
        "{{\"recipient\":\"{FEED_NAME}\",\"payload\":{{\"user_id\":\"a\",\"tier\":1,\
         \"email\":\"old@example.test\",\"email\":\"new@example.test\"}}}}"
    );
    let Frame::Data(seen, unknown) = frame(&text) else {
        panic!("expected data")
    };
    assert_eq!(unknown, BTreeSet::from(["tier".to_owned()]));
    assert_eq!(
        *of(&seen, FieldName::Email),
        Field::Value("new@example.test".into())
    );
    assert_eq!((seen.sequence, seen.sent_at), (None, None));
}

#[test]
fn the_token_does_not_survive_normalising() {
    let seen = data(json!({"user_id": "a", "user_token": {"token": "canary", "expires": "x"}}));
    assert!(!format!("{seen:?}").contains("canary"));
}

#[test]
fn requirements_are_taken_as_any_json() {
    let nested = json!({"current": ["sms"], "future": {"tier2": true}});
    let seen = observed(json!({"user_id": "a", "requirements": nested.clone()}));
    assert_eq!(*of(&seen, FieldName::Requirements), Field::Value(nested));
    assert_eq!(
        outstanding(&json!({"sms": true, "email": true, "x": false})),
        ["email", "sms"]
    );
    assert_eq!(outstanding(&json!([true])), [""; 0]);
}

#[test]
fn replies_are_known_in_their_old_and_new_form() {
    let Frame::Reply(reply) =
        frame("{\"type\":\"success\",\"sequence\":1,\"payload\":{\"action\":\"authenticate\"}}")
    else {
        panic!("expected a reply")
    };
    assert_eq!(
        (reply.success, reply.action.as_deref()),
        (true, Some("authenticate"))
    );
    let Frame::Reply(reply) = frame("{\"type\":\"success\",\"sequence\":2}") else {
        panic!("expected a reply")
    };
    assert_eq!((reply.success, reply.action), (true, None));
    let Frame::Reply(reply) = frame(
        "{\"type\":\"error\",\"action\":\"subscribe\",\"payload\":{\"message\":\"no right\"}}",
    ) else {
        panic!("expected a reply")
    };
    assert_eq!(
        (reply.success, reply.explanation.as_str()),
        (false, "no right")
    );
}

/// An object with some of these keys, some of them twice, and values that fit and that do not.
fn object(keys: &'static [&'static str], values: Vec<String>) -> impl Strategy<Value = String> {
    let member = (sample::select(keys), sample::select(values));
    vec(member, 0..9).prop_map(|members| {
        let members = members
            .iter()
            .map(|(key, value)| format!("\"{key}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}

fn values() -> Vec<String> {
    let numbers = "0 7 -1 1717005327995988841 1e999 1.5";
    let others = r#"null true "" "7" "x" "\ud800" "\u0061" [] [{}] {} {"sms":true,"sms":false} {"token":"t"}"#;
    let all = numbers.split(' ').chain(others.split(' '));
    all.map(str::to_owned).collect()
}

fn payload() -> impl Strategy<Value = String> {
    let keys = &[
        "user_id",
        "user_id",
        "user_token",
        "advisor_user_id",
        "email",
        "status",
        "requirements",
        "account_type",
        "first_name",
        "new",
        "us\\u0065r_id",
    ];
    object(keys, values())
}

fn envelope() -> impl Strategy<Value = String> {
    payload().prop_flat_map(|payload| {
        let keys = &[
            "recipient",
            "sequence",
            "timestamp",
            "payload",
            "type",
            "action",
        ];
        let others = object(keys, values());
        let text = Value::String(payload.clone()).to_string();
        let payload = sample::select(std::vec![payload, text]);
        (others, payload, any::<bool>()).prop_map(|(others, payload, first)| {
            let ours = format!("\"recipient\":\"{FEED_NAME}\",\"payload\":{payload}");
            let others = others.trim_matches(['{', '}']);
            match (others, first) {
                ("", _) => format!("{{{ours}}}"),
                (_, true) => format!("{{{ours},{others}}}"),
                (_, false) => format!("{{{others},{ours}}}"),
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_usual_message_is_read_as_the_tree_reads_it(text in envelope(), with_token: bool) {
        prop_assert_eq!(read(&text, with_token), read_tree(&text, with_token), "{}", text);
    }
}

#[test]
fn a_message_in_its_usual_form_needs_no_tree() {
    let text = include_str!("../../tests/data/vendor_page.frames.jsonl");
    for line in text.lines() {
        assert!(message::read(line, true).is_some(), "{line}");
    }
}
