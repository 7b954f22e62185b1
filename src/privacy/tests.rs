//! Each policy on whole events. Pure: no clock, no I/O.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::event::Timestamp;
use crate::normalise::{Frame, Observation, frame, frame_with_token};
use crate::state::{Compared, DigestKey, Source, compare, removal};

const TOKEN: &str = "4d5eb1a0c0ffee00aa11bb22cc33dd44ee55ff6600112233445566778899aabb";

fn seen(payload: Value, with_token: bool) -> Observation {
    let read = if with_token { frame_with_token } else { frame };
    let text = json!({"sequence": 1, "recipient": crate::event::FEED_NAME,
        "timestamp": 1_717_005_327_995_988_841_i64, "payload": payload});
    match read(&text.to_string()) {
        Frame::Data(observation, _) => *observation,
        other => panic!("expected data, got {other:?}"),
    }
}

fn ada() -> Value {
    json!({"user_id": "client_ada", "email": "ada@example.test", "first_name": "Ada",
        "last_name": "Example", "phone_number": "+15550100001", "status": "PENDING",
        "requirements": {"sms": true},
        "user_token": {"token": TOKEN, "expires": "2024-05-30T17:55:27.981Z",
            "partner_user_id": "client_ada"}})
}

fn news(known: Option<&UserState>, seen: Observation) -> (Event, UserState) {
    let source = Source::Feed(String::new());
    match compare(known, seen, source, Timestamp(1), &DigestKey::new(b"k")) {
        Compared::News(news) => *news,
        other => panic!("expected news, got {other:?}"),
    }
}

fn fields(policy: FieldPolicy) -> PrivacyConfig {
    let fields = FieldName::ALL.map(|name| (name.as_str().to_owned(), policy));
    PrivacyConfig {
        fields: fields.into(),
        key: KeyPolicy::Hmac,
        ..PrivacyConfig::default()
    }
}

fn of_token(policy: TokenPolicy) -> PrivacyConfig {
    PrivacyConfig {
        user_token: policy,
        token_recipients: match policy {
            TokenPolicy::Encrypt => vec![seal::tests::pair(1).1, seal::tests::pair(2).1],
            TokenPolicy::Drop | TokenPolicy::Fingerprint | TokenPolicy::Forward => Vec::new(),
        },
        ..PrivacyConfig::default()
    }
}

fn policy(config: &PrivacyConfig) -> Privacy {
    Privacy::new(config, Some(&[7; 32])).unwrap()
}

/// The record of a message, as ingest makes it.
fn record(privacy: &Privacy, mut seen: Observation) -> Value {
    let token = seen.token.take();
    let (mut event, _) = news(None, seen);
    event.user_token = privacy.token(event.event_id, token);
    privacy.apply(&mut event);
    event.user_id = privacy.key(&event.user_id);
    serde_json::to_value(&event).unwrap()
}

#[test]
fn each_policy_hides_every_field_that_it_is_set_for() {
    let secrets = [
        "ada@example.test",
        "Ada",
        "Example",
        "+15550100001",
        "sms",
        "PENDING",
    ];
    for kind in [FieldPolicy::Drop, FieldPolicy::Mask, FieldPolicy::Hmac] {
        let text = record(&policy(&fields(kind)), seen(ada(), false)).to_string();
        for secret in secrets {
            let quoted = format!("\"{secret}\"");
            assert!(!text.contains(&quoted), "{kind:?} leaves {secret}: {text}");
        }
    }
}

#[test]
fn equal_values_have_equal_hmacs() {
    let privacy = policy(&fields(FieldPolicy::Hmac));
    let one = record(&privacy, seen(ada(), false));
    assert_eq!(one, record(&privacy, seen(ada(), false)));
}

#[test]
fn a_policy_that_needs_a_key_is_refused_without_one() {
    let hmac = fields(FieldPolicy::Hmac);
    let fingerprint = of_token(TokenPolicy::Fingerprint);
    for config in [hmac, fields(FieldPolicy::Keep), fingerprint] {
        let refused = Privacy::new(&config, None);
        assert!(matches!(refused, Err(PolicyError::NoKey)));
    }
    let mut nobody = of_token(TokenPolicy::Encrypt);
    nobody.token_recipients.clear();
    let refused = Privacy::new(&nobody, None);
    assert!(matches!(refused, Err(PolicyError::Recipients(0))));
    nobody.token_recipients = vec![seal::tests::pair(1).1, "x".to_owned()];
    let refused = Privacy::new(&nobody, None).unwrap_err().to_string();
    assert!(
        refused.contains("recipient number 2 is no X25519"),
        "{refused}"
    );
}

#[test]
fn under_drop_the_record_has_no_key_for_the_token_and_the_frame_keeps_it() {
    let privacy = policy(&of_token(TokenPolicy::Drop));
    assert!(!privacy.needs_token());
    assert!(seen(ada(), false).token.is_none());
    // Even where one was taken out, it goes no further.
    for with_token in [false, true] {
        let text = record(&privacy, seen(ada(), with_token)).to_string();
        assert!(
            !text.contains("user_token") && !text.contains(TOKEN),
            "{text}"
        );
    }
}

#[test]
fn a_fingerprint_is_an_hmac_and_no_plain_hash() {
    let privacy = policy(&of_token(TokenPolicy::Fingerprint));
    let token = &record(&privacy, seen(ada(), true))["user_token"];
    assert_eq!(token["expires"], "2024-05-30T17:55:27.981000000Z");
    let fingerprint = token["fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint, privacy.pseudonym("user_token", TOKEN).unwrap());
    let other = Privacy::new(&of_token(TokenPolicy::Fingerprint), Some(&[8; 32])).unwrap();
    assert_ne!(token, &record(&other, seen(ada(), true))["user_token"]);
    assert_eq!(token.as_object().unwrap().len(), 2);
}

#[test]
fn what_is_encrypted_each_recipient_can_read_and_nothing_else_shows_it() {
    let privacy = policy(&of_token(TokenPolicy::Encrypt));
    let record = record(&privacy, seen(ada(), true));
    assert!(!record.to_string().contains(TOKEN));
    let event_id = record["event_id"].as_str().unwrap();
    let sealed = record["user_token"]["sealed"].as_array().unwrap();
    assert_eq!(sealed.len(), 2);
    for (seed, sealed) in (1..).zip(sealed) {
        let (private, _) = seal::tests::pair(seed);
        let plain = seal::tests::opened(sealed, &private, event_id).unwrap();
        let plain: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(
            plain,
            json!({"token": TOKEN, "expires": "2024-05-30T17:55:27.981000000Z"})
        );
    }
}

#[test]
fn forward_writes_the_token_in_clear_and_never_the_partner_user_id() {
    let privacy = policy(&of_token(TokenPolicy::Forward));
    let record = record(&privacy, seen(ada(), true));
    assert_eq!(
        record["user_token"],
        json!({"token": TOKEN, "expires": "2024-05-30T17:55:27.981000000Z"})
    );
    assert_eq!(warnings(&of_token(TokenPolicy::Forward)).len(), 1);
    assert!(warnings(&of_token(TokenPolicy::Encrypt)).is_empty());
}

#[test]
fn the_key_of_the_token_is_the_last_one_and_null_without_a_token() {
    for kind in [
        TokenPolicy::Fingerprint,
        TokenPolicy::Encrypt,
        TokenPolicy::Forward,
    ] {
        let privacy = policy(&of_token(kind));
        let mut payload = ada();
        payload["user_token"] = Value::Null;
        let mut event = news(None, seen(payload, true)).0;
        event.user_token = privacy.token(event.event_id, None);
        privacy.apply(&mut event);
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.ends_with(",\"user_token\":null}"), "{kind:?}: {text}");
        // A removal, and what the list tells, has none either.
        let (mut removed, _) = removal(&UserState::default(), "client_ada", Timestamp(1));
        privacy.apply(&mut removed);
        assert_eq!(removed.user_token, Some(TokenValue(Value::Null)));
    }
}

#[test]
fn a_token_makes_no_difference_to_the_id_to_what_changed_or_to_the_state() {
    let mut other = ada();
    other["user_token"]["token"] = "another".into();
    let (one, state) = news(None, seen(ada(), true));
    assert_eq!(
        news(None, seen(other.clone(), true)),
        (one.clone(), state.clone())
    );
    assert_eq!(news(None, seen(ada(), false)), (one, state.clone()));
    let source = Source::Feed(String::new());
    let key = DigestKey::new(b"k");
    let again = compare(Some(&state), seen(other, true), source, Timestamp(2), &key);
    assert_eq!(again, Compared::Repeat);
}

#[test]
fn nothing_that_can_be_printed_shows_a_token_or_a_key() {
    let seen = seen(ada(), true);
    let privacy = policy(&of_token(TokenPolicy::Forward));
    let mut event = news(None, seen.clone()).0;
    event.user_token = privacy.token(event.event_id, seen.token.clone());
    let shown = format!("{seen:?} {event:?} {privacy:?} {seen:#?} {event:#?}");
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[test]
fn the_status_in_the_journal_is_hidden_as_in_the_record() {
    let (_, state) = news(None, seen(ada(), false));
    let verified = json!({"user_id": "client_ada", "status": "VERIFIED"});
    for kind in [FieldPolicy::Drop, FieldPolicy::Mask, FieldPolicy::Hmac] {
        let privacy = policy(&fields(kind));
        let mut kept = state.clone();
        privacy.hide_state(&mut kept);
        assert!(!format!("{kept:?}").contains("PENDING"), "{kind:?}");
        // Whether it was hidden when it was kept or is only now, the record says the same.
        let mut events =
            [&state, &kept].map(|known| news(Some(known), seen(verified.clone(), false)).0);
        events.iter_mut().for_each(|event| privacy.apply(event));
        assert_eq!(events[0], events[1], "{kind:?}");
    }
    let mut kept = state.clone();
    policy(&fields(FieldPolicy::Keep)).hide_state(&mut kept);
    assert_eq!(kept, state);
}

#[test]
fn a_user_who_was_published_in_clear_is_not_removed_in_clear_under_hmac() {
    let hmac = policy(&fields(FieldPolicy::Keep));
    let own = hmac.key("client_ada");
    assert_eq!(hmac.key_again("client_ada".to_owned(), |_| true), own);
    assert_eq!(
        hmac.key_again("old pseudonym".to_owned(), |_| false),
        "old pseudonym"
    );
    let plain = policy(&PrivacyConfig::default());
    assert_eq!(
        plain.key_again("client_ada".to_owned(), |_| true),
        "client_ada"
    );
}

#[test]
fn a_pseudonym_is_what_the_record_has() {
    let mut config = fields(FieldPolicy::Hmac);
    config.hmac_key_version = Some("2026-11".to_owned());
    let privacy = policy(&config);
    let mut payload = ada();
    payload["account_type"] = "Corporate".into();
    let record = record(&privacy, seen(payload, false));
    for (name, value) in [
        ("user_id", "client_ada"),
        ("email", "ada@example.test"),
        ("account_type", "Corporate"),
        ("account_type", "corporation"),
        ("requirements", "{ \"sms\": true }"),
    ] {
        let pseudonym = privacy.pseudonym(name, value).unwrap();
        assert!(pseudonym.contains("2026-11:"), "{pseudonym}");
        assert_eq!(record[name], pseudonym, "{name}");
    }
    assert_eq!(privacy.pseudonym("advisor", "x"), None);
}

/// Values of a person of four characters and more, of every script, none of which stands in a record
/// that knows nothing of anybody.
fn personal() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z][a-zé王ß ]{3,20}",
        "[A-Za-z0-9.+-]{1,12}@[a-z]{1,8}[.]example[.]test",
        "[+][0-9]{6,15}",
        "[A-Z0-9_]{3,12}Q",
        "\\PC{4,30}Q",
        "[\"\\\\/\u{0}-\u{1f}]{4,8}Q",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Under no policy but `keep` does a value stand in the record's bytes, escaped or not, nor does
    /// the one before it, nor the user's id.
    #[test]
    fn no_protected_value_is_in_the_bytes_of_a_record(
        values in prop::collection::vec(personal(), 8),
        user_id in "client_[a-z]{8}Q",
        kind in prop::sample::select(vec![FieldPolicy::Drop, FieldPolicy::Mask, FieldPolicy::Hmac]),
    ) {
        let payload: BTreeMap<&str, Value> = FieldName::ALL.iter().zip(&values)
            .map(|(name, value)| match name {
                FieldName::Requirements => (name.as_str(), json!({value: true, "x": [value]})),
                name => (name.as_str(), json!(value)),
            })
            .chain([("user_id", json!(user_id)), ("user_token", json!({"token": TOKEN}))])
            .collect();
        let privacy = policy(&fields(kind));
        let (_, mut state) = news(None, seen(json!(payload), true));
        privacy.hide_state(&mut state);
        let mut later = payload.clone();
        later.insert("status", "OTHERWISE".into());
        let (mut event, _) = news(Some(&state), seen(json!(later), true));
        privacy.apply(&mut event);
        event.user_id = privacy.key(&event.user_id);
        let bytes = serde_json::to_string(&event).unwrap();
        let state = format!("{state:?}");
        let spelt = values.iter().map(|value| value.to_lowercase());
        let all = values.iter().cloned().chain(spelt).chain([user_id, TOKEN.to_owned()]);
        for value in all.filter(|value| value.chars().count() >= 4) {
            let escaped = serde_json::to_string(&value).unwrap();
            let escaped = escaped.trim_matches('"');
            prop_assert!(!bytes.contains(&value) && !bytes.contains(escaped), "{value:?} in {bytes}");
            prop_assert!(!state.contains(&value), "{value:?} in {state}");
        }
    }
}
