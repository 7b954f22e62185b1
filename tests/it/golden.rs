//! Golden pairs: the vendor's frames, and byte for byte the records that they must become.
//!
//! `tests/data/NAME.frames.jsonl` holds frames, one a line, as the vendor sends them; beside it
//! `NAME.records.jsonl` holds the bodies that every sink publishes. The pure part of the line is
//! driven directly (normalise, state, privacy, JSON), because the process would add a clock and the
//! name of a connection: here both are fixed. `NAME.privacy.yaml`, where there is one, is the policy.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it golden` writes the record files anew. What they then say is
//! the public contract: read the difference as a consumer would before you commit it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use onboarding_bridge::config::{PrivacyConfig, TokenPolicy};
use onboarding_bridge::event::Timestamp;
use onboarding_bridge::normalise::{self, Frame};
use onboarding_bridge::privacy::Privacy;
use onboarding_bridge::state::{Compared, DigestKey, Source, UserKey, UserState, compare};
use serde_json::{Value, json};

use crate::support::sealed;

/// The one connection of every golden frame.
const CONNECTION: &str = "01J00000000000000000000000";

/// The first frame is heard at this time (2025-06-15T15:06:40Z), each next one a second later.
const HEARD_AT: i64 = 1_750_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// The key of `hmac` policies.
const HMAC_KEY: &[u8] = b"an-example-key-that-opens-nothing";

fn data(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    folder.join(name)
}

fn read(name: &str) -> String {
    let path = data(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every record that comes of these frames, one a line.
fn records(frames: &str, policy: &PrivacyConfig) -> String {
    let privacy = Privacy::new(policy, Some(HMAC_KEY)).unwrap();
    let key = DigestKey::new(b"golden");
    let mut users: HashMap<UserKey, UserState> = HashMap::new();
    let mut records = String::new();
    let read = match privacy.needs_token() {
        true => normalise::frame_with_token,
        false => normalise::frame,
    };
    for (number, frame) in (0..).zip(frames.lines()) {
        let Frame::Data(observation, _) = read(frame) else {
            continue;
        };
        let token = observation.token.clone();
        let (user, at) = (
            key.user(&observation.user_id),
            Timestamp(HEARD_AT + number * SECOND),
        );
        let source = Source::Feed(CONNECTION.to_owned());
        let compared = compare(users.get(&user), *observation, source, at, &key);
        let Compared::News(news) = compared else {
            continue;
        };
        let (mut event, state) = *news;
        users.insert(user, state);
        event.user_token = privacy.token(event.event_id, token);
        let record_key = privacy.key(&event.user_id);
        privacy.apply(&mut event);
        event.user_id = record_key;
        records.push_str(&opened(serde_json::to_string(&event).unwrap()));
        records.push('\n');
    }
    records
}

/// The record with what was encrypted in it as its consumers read it, because no two ciphertexts are
/// alike; every other byte stays as it is.
fn opened(mut record: String) -> String {
    let parsed: Value = serde_json::from_str(&record).unwrap();
    let event_id = parsed["event_id"].as_str().unwrap();
    let sealed = parsed["user_token"]["sealed"]
        .as_array()
        .into_iter()
        .flatten();
    for (sealed, private) in sealed.zip([[7; 32], [9; 32]]) {
        let plain = sealed::open(sealed, &private, event_id).expect("each recipient can read it");
        let ciphertext = sealed["ciphertext"].to_string();
        record = record.replace(&ciphertext, &String::from_utf8(plain).unwrap());
    }
    record
}

/// Every text below `user_token` in these frames: what must be in no record.
fn credentials(frames: &str) -> BTreeSet<String> {
    fn texts(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => drop(found.insert(text.clone())),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    for frame in frames.lines() {
        let frame: Value = serde_json::from_str(frame).unwrap_or_default();
        let payload = match &frame["payload"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            payload => payload.clone(),
        };
        match &payload["user_token"] {
            Value::Object(token) => texts(&token["token"], &mut found),
            token => texts(token, &mut found),
        }
    }
    found
}

/// Compares, or writes with `UPDATE_GOLDEN=1`; the records for a closer look.
fn golden(name: &str) -> Vec<Value> {
    let frames = read(&format!("{name}.frames.jsonl"));
    let policy = data(&format!("{name}.privacy.yaml"));
    let policy = match policy.exists() {
        true => serde_norway::from_str(&std::fs::read_to_string(policy).unwrap()).unwrap(),
        false => PrivacyConfig::default(),
    };
    let records = records(&frames, &policy);
    assert!(!records.contains("partner_user_id"));
    if matches!(
        policy.user_token,
        TokenPolicy::Drop | TokenPolicy::Fingerprint
    ) {
        for credential in credentials(&frames) {
            assert!(
                !records.contains(&credential),
                "a token comes out of {name}"
            );
        }
    }
    let has_key = policy.user_token != TokenPolicy::Drop;
    assert!(
        records
            .lines()
            .all(|record| record.contains("\"user_token\":") == has_key)
    );
    let file = format!("{name}.records.jsonl");
    if update() {
        std::fs::write(data(&file), &records).unwrap();
    }
    let expected = read(&file);
    for (number, (found, expected)) in (1..).zip(records.lines().zip(expected.lines())) {
        assert_eq!(found, expected, "line {number} of {file}");
    }
    assert_eq!(records, expected, "{file}");
    let parsed = records.lines().map(serde_json::from_str);
    parsed.map(Result::unwrap).collect()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the variable is how a person asks for new golden files"
)]
fn update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}

/// One key of every record.
fn each<'a>(records: &'a [Value], key: &str) -> Vec<&'a Value> {
    records.iter().map(|record| &record[key]).collect()
}

#[test]
fn both_messages_of_the_vendors_own_page_come_out_in_order_and_no_token() {
    let records = golden("vendor_page");
    assert_eq!(each(&records, "status"), ["PENDING", "VERIFIED"]);
    assert_eq!(
        each(&records, "event_type"),
        ["user.registered", "user.updated"]
    );
    assert_eq!(records[0]["feed"], records[1]["feed"]);
    assert_eq!(records[1]["previous_status"], "PENDING");
    assert_eq!(
        records[1]["changed"],
        serde_json::json!(["requirements", "status"])
    );
    assert_eq!(records[0]["occurred_at"], "2024-05-29T17:55:27.995988841Z");
}

#[test]
fn the_casing_of_roles_and_types_is_made_one_and_corporate_is_a_corporation() {
    let records = golden("casing");
    assert_eq!(
        each(&records, "account_type"),
        ["corporation", "corporation", "individual", "joint trust"]
    );
    assert_eq!(
        each(&records, "account_role"),
        ["advisor", "client", "client", "übergeordnet"]
    );
}

#[test]
fn absent_and_null_are_null_in_the_record_and_only_null_is_a_change() {
    golden("absent_null");
}

#[test]
fn a_status_that_nobody_documented_passes_through_in_any_direction() {
    golden("unknown_status");
}

#[test]
fn requirements_of_any_shape_pass_through_and_true_is_outstanding() {
    golden("nested_requirements");
}

#[test]
fn names_of_any_script_and_escapes_of_any_kind_come_out_as_the_same_text() {
    golden("unicode");
}

#[test]
fn a_payload_that_is_a_string_of_json_is_read() {
    let records = golden("string_payload");
    assert_eq!(records.len(), 2);
}

#[test]
fn a_timestamp_of_any_unit_or_as_text_is_the_same_moment() {
    let records = golden("string_timestamp");
    assert_eq!(records.len(), 8);
}

#[test]
fn without_a_timestamp_a_state_that_comes_back_is_a_new_event() {
    let records = golden("missing_timestamp");
    assert_eq!(records.len(), 3);
    assert_ne!(records[0]["event_id"], records[2]["event_id"]);
}

#[test]
fn a_repeat_becomes_no_second_record_however_it_is_wrapped() {
    let records = golden("repeat");
    assert_eq!(records.len(), 3);
}

#[test]
fn what_is_no_message_of_our_feed_becomes_no_record() {
    let records = golden("set_aside");
    assert_eq!(each(&records, "first_name"), ["Before", "After"]);
}

#[test]
fn fields_that_this_version_does_not_know_are_left_out() {
    golden("unknown_fields");
}

#[test]
fn the_operators_policy_is_applied_to_every_field_and_to_the_key() {
    let records = golden("policy");
    let text = records.iter().map(Value::to_string).collect::<String>();
    for hidden in [
        "ada@example.test",
        "Ada",
        "Lovelace",
        "+15550100042",
        "client_policy",
    ] {
        assert!(!text.contains(hidden), "{hidden}");
    }
}

/// What every policy but `drop` has in common: which records there are, and which of them has a token.
fn tokens(records: &[Value]) -> Vec<&Value> {
    let tokens = each(records, "user_token");
    let given: Vec<bool> = tokens.iter().map(|token| token.is_object()).collect();
    // The repeat with another token is none of them.
    assert_eq!(given, [true, true, false, false, true, true]);
    assert_eq!(records[1]["changed"], json!([]), "a new token is no change");
    let expires: Vec<&Value> = tokens.iter().map(|token| &token["expires"]).collect();
    let day = "2024-05-30T17:55:27.981000000Z";
    let next = "2024-05-31T17:55:27.000000000Z";
    let null = Value::Null;
    assert_eq!(
        expires,
        [&json!(day), &json!(next), &null, &null, &null, &null]
    );
    tokens
}

#[test]
fn of_a_token_there_is_a_fingerprint_by_which_equal_ones_are_told() {
    let records = golden("token_fingerprint");
    let tokens = tokens(&records);
    let of = |index: usize| tokens[index]["fingerprint"].as_str().unwrap();
    assert!(of(0).starts_with("hmac:2026-11:"), "{}", of(0));
    assert_ne!(of(0), of(1));
    assert_eq!(of(0), of(4));
    let key = records[0]["user_id"].as_str().unwrap();
    assert!(key.starts_with("2026-11:"), "{key}");
}

#[test]
fn of_a_token_there_is_what_only_its_consumers_can_read() {
    let records = golden("token_encrypt");
    for token in tokens(&records)
        .into_iter()
        .filter(|token| token.is_object())
    {
        let sealed = token["sealed"].as_array().unwrap();
        assert_eq!(sealed.len(), 2);
        assert_ne!(sealed[0]["recipient"], sealed[1]["recipient"]);
        assert_eq!(
            sealed[0]["ciphertext"], sealed[1]["ciphertext"],
            "both read the same"
        );
        assert_eq!(sealed[0]["ciphertext"]["expires"], token["expires"]);
    }
}

#[test]
fn a_token_that_is_forwarded_by_name_stands_in_clear_at_the_end_of_the_record() {
    let records = golden("token_forward");
    let tokens = tokens(&records);
    assert_eq!(tokens[0]["token"], tokens[4]["token"]);
}

#[test]
fn every_file_of_golden_data_is_used() {
    let source = include_str!("golden.rs");
    let suffixes = [".frames.jsonl", ".records.jsonl", ".privacy.yaml"];
    for entry in std::fs::read_dir(data("")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = suffixes.iter().find_map(|suffix| file.strip_suffix(suffix)) {
            assert!(source.contains(&format!("golden(\"{name}\")")), "{file}");
        }
    }
}
