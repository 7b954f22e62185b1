//! Points 13 to 21 and 26: what a message may look like.

use onboarding_bridge::event::FEED_NAME;
use onboarding_bridge::simulator::Options;
use serde_json::{Value, json};

use super::{envelope, line, made_of, made_of_payloads};
use crate::support::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn point_13_a_timestamp_in_any_unit_or_none_is_understood() {
    let sent = [
        json!(1_750_000_000_000_000_000_i64),
        json!(1_750_000_000_000_000_i64),
        json!(1_750_000_000_000_i64),
        json!(1_750_000_000),
        json!("1750000000000000000"),
        json!("2025-06-15T15:06:40Z"),
        json!("soon"),
        Value::Null,
    ];
    let texts = sent.iter().zip(1..).map(|(timestamp, user)| {
        let payload = json!({"user_id": format!("client_{user}")});
        envelope(json!({"timestamp": timestamp, "payload": payload}))
    });
    let ended = made_of(texts).await;
    let times = ended.by("feed");
    let times: Vec<_> = times
        .iter()
        .map(|record| record["occurred_at"].as_str())
        .collect();
    let known =
        |time: &Option<&str>| time.is_some_and(|time| time.starts_with("2025-06-15T15:06:40"));
    assert_eq!(times.len(), 8);
    let (understood, missing) = times.split_at(6);
    assert!(understood.iter().all(known), "{times:?}");
    assert_eq!(missing, [None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn point_14_a_payload_may_be_a_string_of_json_and_a_list_is_set_aside() {
    let line = line().await;
    let payload = json!({"user_id": "client_1", "status": "VERIFIED"}).to_string();
    line.control
        .send_raw_text(envelope(json!({"payload": ["client_2"]})))
        .await;
    line.control
        .send_raw_text(envelope(json!({"payload": payload})))
        .await;
    line.heard(1);
    let set_aside = "normalise_rejected_total{reason=\"payload\"}";
    line.reaches(set_aside, 1.0);
    let ended = line.end().await;
    let [record] = ended.by("feed")[..] else {
        panic!("{:?}", ended.records)
    };
    assert_eq!(
        (&record["user_id"], &record["status"]),
        (&json!("client_1"), &json!("VERIFIED"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn point_15_a_feed_whose_name_only_begins_like_ours_is_set_aside() {
    let line = line().await;
    let siblings = ["balances", "open-orders", "trades"];
    for sibling in siblings {
        let payload = json!({"user_id": "client_1"}).to_string();
        let recipient = format!("{FEED_NAME}.{sibling}");
        line.control.send_envelope(&recipient, &payload).await;
    }
    line.reaches("normalise_rejected_total{reason=\"foreign\"}", 3.0);
    assert!(line.end().await.by("feed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn point_16_known_spellings_are_levelled_and_unknown_values_pass() {
    let ended = made_of_payloads([
        json!({"user_id": "a", "account_type": "Corporate", "account_role": "Advisor", "status": "PENDING"}),
        json!({"user_id": "b", "account_type": "Trust", "account_role": "Auditor", "status": "Frozen"}),
    ])
    .await;
    let [known, unknown] = ended.by("feed")[..] else {
        panic!("{:?}", ended.records)
    };
    for (record, values) in [
        (known, ["corporation", "advisor", "PENDING"]),
        (unknown, ["trust", "auditor", "Frozen"]),
    ] {
        let found = ["account_type", "account_role", "status"].map(|key| record[key].clone());
        assert_eq!(found, values.map(Value::from));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn point_17_requirements_of_any_form_pass_and_true_means_outstanding() {
    let forms = [
        (
            json!({"sms": true, "email": false, "passport": true}),
            json!(["passport", "sms"]),
        ),
        (json!({"email": true}), json!(["email"])),
        (json!({}), json!([])),
        (Value::Null, json!([])),
        (json!({"current": [{"name": "sms"}], "tier": 1}), json!([])),
    ];
    let payloads = forms.iter().zip(1..).map(
        |((form, _), user)| json!({"user_id": format!("client_{user}"), "requirements": form}),
    );
    let ended = made_of_payloads(payloads).await;
    let records = ended.by("feed");
    assert_eq!(records.len(), forms.len());
    for (record, (form, outstanding)) in records.into_iter().zip(forms) {
        assert_eq!(record["requirements"], form);
        assert_eq!(record["outstanding_requirements"], outstanding);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn point_18_a_token_that_comes_goes_or_changes_is_no_news_and_is_written_nowhere() {
    let canary = "canary-51c2";
    let tokens = [
        json!({"token": canary, "expires": "2020-01-01T00:00:00Z", "partner_user_id": "client_1"}),
        json!({"token": format!("{canary}-other")}),
        Value::Null,
        json!(canary),
    ];
    let line = line().await;
    let payload = json!({"user_id": "client_1", "status": "PENDING"});
    let with = tokens.iter().map(|token| {
        let mut payload = payload.clone();
        payload["user_token"] = token.clone();
        payload
    });
    for payload in with.chain([payload.clone()]) {
        line.control
            .send_raw_text(envelope(json!({"payload": payload})))
            .await;
    }
    line.heard(5);
    line.reaches("normalise_duplicates_total", 4.0);
    let ended = line.end().await;
    assert_eq!(ended.by("feed").len(), 1);
    for entry in std::fs::read_dir(ended.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(canary.len())
            .any(|window| window == canary.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn point_19_every_field_but_the_user_may_be_missing_or_null() {
    let nulls = json!({"user_id": "b", "email": null, "first_name": null, "last_name": null,
        "phone_number": null, "account_role": null, "account_type": null, "status": null,
        "user_token": null, "requirements": null});
    let line = line().await;
    for payload in [
        json!({"email": "ada@example.test"}),
        json!({"user_id": "a"}),
        nulls,
    ] {
        line.control
            .send_envelope(FEED_NAME, &payload.to_string())
            .await;
    }
    line.heard(2);
    line.reaches("dead_letters_total{reason=\"user_id\"}", 1.0);
    let ended = line.end().await;
    let users: Vec<_> = ended
        .by("feed")
        .iter()
        .map(|record| record["user_id"].clone())
        .collect();
    assert_eq!(users, [json!("a"), json!("b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn point_20_an_absent_field_erases_nothing_and_a_null_one_does() {
    let ended = made_of_payloads([
        json!({"user_id": "a", "email": "ada@example.test", "status": "PENDING"}),
        json!({"user_id": "a", "status": "VERIFIED"}),
        json!({"user_id": "a", "email": "ada@example.test", "status": "VERIFIED"}),
        json!({"user_id": "a", "email": null}),
    ])
    .await;
    let changed: Vec<_> = ended
        .by("feed")
        .iter()
        .map(|record| record["changed"].clone())
        .collect();
    // The third repeats the address: had the second erased it, it would be a change.
    assert_eq!(
        changed,
        [json!([]), json!(["status"]), json!([]), json!(["email"])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn point_21_a_snapshot_after_each_subscription_registers_nobody_twice() {
    let options = Options {
        users: 20,
        snapshot: true,
        ..Options::for_tests()
    };
    let line = Line::listening(options, "", "").await;
    line.heard(20);
    line.reconnect().await;
    line.heard(40);
    line.listed("success", 2.0);
    let ended = line.end().await;
    assert_eq!(ended.of_type("user.registered").len(), 20);
    let news = |record: &&Value| {
        record["event_type"] != "user.registered" && record["changed"] != json!([])
    };
    assert_eq!(ended.records.iter().filter(news).count(), 0);
    ended.assert_once();
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn point_26_a_status_may_follow_any_other() {
    let course = ["VERIFIED", "PENDING", "VERIFIED", "UNSUPPORTED", "PENDING"];
    let ended =
        made_of_payloads(course.map(|status| json!({"user_id": "a", "status": status}))).await;
    let records = ended.by("feed");
    let of = |key: &str| {
        records
            .iter()
            .map(|record| record[key].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("status"), course.map(Value::from));
    let before = [Value::Null]
        .into_iter()
        .chain(course.map(Value::from))
        .take(course.len());
    assert_eq!(of("previous_status"), before.collect::<Vec<_>>());
}
