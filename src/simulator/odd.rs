//! Data frames that differ from the vendor's sample and still tell of their user.
//!
//! Pure. An oddity is in the frame only: the world and the list show the user as it is.

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::event::FEED_NAME;

use super::options::Oddity;

/// A moment long ago, for a token that has expired.
const LONG_AGO: &str = "2001-01-01T00:00:00.000Z";

/// Characters of a long name.
const LONG_NAME: usize = 4_096;

/// A data frame of this shape.
pub(super) fn odd_frame(oddity: Oddity, sequence: u64, timestamp: i64, payload: &str) -> Utf8Bytes {
    let payload: Map<String, Value> =
        serde_json::from_str(payload).expect("the simulator writes JSON objects");
    let payload = odd_payload(oddity, payload);
    let mut frame = Map::new();
    let sequence = match oddity {
        Oddity::SequenceMissing => None,
        Oddity::SequenceString => Some(json!(sequence.to_string())),
        _ => Some(json!(sequence)),
    };
    let timestamp = match oddity {
        Oddity::TimestampMissing => None,
        Oddity::TimestampString => Some(json!(timestamp.to_string())),
        Oddity::TimestampSeconds => Some(json!(timestamp / 1_000_000_000)),
        Oddity::TimestampMillis => Some(json!(timestamp / 1_000_000)),
        Oddity::TimestampMicros => Some(json!(timestamp / 1_000)),
        Oddity::TimestampRfc3339 => jiff::Timestamp::from_nanosecond(timestamp.into())
            .ok()
            .map(|moment| json!(moment.to_string())),
        _ => Some(json!(timestamp)),
    };
    frame.extend(sequence.map(|value| ("sequence".to_owned(), value)));
    frame.insert("recipient".to_owned(), json!(FEED_NAME));
    frame.extend(timestamp.map(|value| ("timestamp".to_owned(), value)));
    if oddity == Oddity::UnknownFields {
        frame.insert("x_envelope".to_owned(), json!("new"));
    }
    let payload = Value::Object(payload);
    let payload = match oddity {
        Oddity::PayloadString => Value::String(payload.to_string()),
        _ => payload,
    };
    frame.insert("payload".to_owned(), payload);
    Value::Object(frame).to_string().into()
}

fn odd_payload(oddity: Oddity, mut payload: Map<String, Value>) -> Map<String, Value> {
    let mut set = |name: &str, value: Value| {
        payload.insert(name.to_owned(), value);
    };
    match oddity {
        Oddity::TokenNull => set("user_token", Value::Null),
        Oddity::RequirementsNull => set("requirements", Value::Null),
        Oddity::RequirementsEmpty => set("requirements", json!({})),
        Oddity::RequirementsNested => set(
            "requirements",
            json!({"TIER_1": {"sms": true, "email": false}, "TIER_2": {"documents": true}}),
        ),
        Oddity::StatusUnknown => set("status", json!("ON_HOLD")),
        Oddity::RoleUnknown => set("account_role", json!("Observer")),
        Oddity::TypeUnknown => set("account_type", json!("trust")),
        Oddity::TypeCorporate => set("account_type", json!("corporate")),
        Oddity::UnknownFields => {
            set("x_payload", json!({"depth": [1, 2, {"more": "new"}]}));
            set("advisor_user_id", Value::Null);
        }
        Oddity::Capitals => capitals(&mut payload),
        Oddity::TokenMissing => drop(payload.remove("user_token")),
        Oddity::TokenExpired => token(&mut payload, "expires", LONG_AGO),
        Oddity::TokenChanged => {
            let other = "0123456789abcdef".repeat(4);
            token(&mut payload, "token", &other);
        }
        Oddity::FieldsAbsent => payload.retain(|name, _| is_kept(name)),
        Oddity::FieldsNull => {
            for (_, value) in payload.iter_mut().filter(|(name, _)| !is_kept(name)) {
                *value = Value::Null;
            }
        }
        Oddity::LongText => {
            let name = format!("\u{1F99C}\"\\\n\u{7}{}", "x".repeat(LONG_NAME));
            set("first_name", json!(name));
        }
        Oddity::SequenceMissing
        | Oddity::SequenceString
        | Oddity::TimestampMissing
        | Oddity::TimestampString
        | Oddity::TimestampSeconds
        | Oddity::TimestampMillis
        | Oddity::TimestampMicros
        | Oddity::TimestampNanos
        | Oddity::TimestampRfc3339
        | Oddity::PayloadString => {}
    }
    payload
}

/// What a frame with hardly a field has left.
fn is_kept(name: &str) -> bool {
    matches!(name, "user_id" | "status")
}

fn capitals(payload: &mut Map<String, Value>) {
    for name in ["account_type", "account_role"] {
        if let Some(Value::String(text)) = payload.get_mut(name) {
            *text = text.to_uppercase();
        }
    }
}

fn token(payload: &mut Map<String, Value>, name: &str, value: &str) {
    if let Some(Value::Object(token)) = payload.get_mut("user_token") {
        token.insert(name.to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::person::Person;

    const TIME: i64 = 1_717_005_327_995_988_841;

    fn frame(oddity: Oddity) -> Value {
        let person = Person {
            seed: 1,
            index: 9,
            counter: 4,
        };
        let mut payload = String::new();
        person
            .write_payload(&mut payload, "2024-05-30T17:55:27.981Z")
            .unwrap();
        serde_json::from_str(odd_frame(oddity, 7, TIME, &payload).as_str()).unwrap()
    }

    #[test]
    fn every_oddity_differs_from_the_usual_frame_and_names_its_user() {
        let usual = frame(Oddity::TimestampNanos);
        let user = &usual["payload"]["user_id"];
        for oddity in Oddity::ALL {
            let odd = frame(*oddity);
            let differs = odd != usual;
            assert_eq!(differs, *oddity != Oddity::TimestampNanos, "{oddity:?}");
            let payload = match &odd["payload"] {
                Value::String(text) => serde_json::from_str(text).unwrap(),
                payload => payload.clone(),
            };
            assert_eq!(&payload["user_id"], user, "{oddity:?}");
        }
    }

    #[test]
    fn the_envelope_is_as_its_name_says() {
        let sequence = |oddity| frame(oddity).get("sequence").cloned();
        assert_eq!(sequence(Oddity::SequenceMissing), None);
        assert_eq!(sequence(Oddity::SequenceString), Some(json!("7")));
        let time = |oddity| frame(oddity).get("timestamp").cloned();
        assert_eq!(time(Oddity::TimestampMissing), None);
        for (oddity, value) in [
            (Oddity::TimestampString, json!("1717005327995988841")),
            (Oddity::TimestampSeconds, json!(1_717_005_327_u64)),
            (Oddity::TimestampMillis, json!(1_717_005_327_995_u64)),
            (Oddity::TimestampMicros, json!(1_717_005_327_995_988_u64)),
            (Oddity::TimestampNanos, json!(TIME)),
            (
                Oddity::TimestampRfc3339,
                json!("2024-05-29T17:55:27.995988841Z"),
            ),
        ] {
            assert_eq!(time(oddity), Some(value));
        }
        assert!(frame(Oddity::PayloadString)["payload"].is_string());
        assert_eq!(frame(Oddity::UnknownFields)["x_envelope"], "new");
    }

    #[test]
    fn the_payload_is_as_its_name_says() {
        let field = |oddity, name: &str| frame(oddity)["payload"].get(name).cloned();
        assert_eq!(field(Oddity::TokenMissing, "user_token"), None);
        assert_eq!(field(Oddity::TokenNull, "user_token"), Some(Value::Null));
        let token = |oddity| field(oddity, "user_token").unwrap();
        assert_eq!(token(Oddity::TokenExpired)["expires"], LONG_AGO);
        let usual = token(Oddity::TimestampNanos)["token"].clone();
        assert_ne!(token(Oddity::TokenChanged)["token"], usual);
        assert_eq!(
            field(Oddity::RequirementsEmpty, "requirements"),
            Some(json!({}))
        );
        assert_eq!(
            field(Oddity::RequirementsNull, "requirements"),
            Some(Value::Null)
        );
        let nested = field(Oddity::RequirementsNested, "requirements").unwrap();
        assert_eq!(nested["TIER_2"]["documents"], true);
        assert_eq!(
            field(Oddity::TypeCorporate, "account_type"),
            Some(json!("corporate"))
        );
        assert_eq!(
            field(Oddity::Capitals, "account_type"),
            Some(json!("CORPORATION"))
        );
        assert_eq!(field(Oddity::FieldsAbsent, "email"), None);
        assert_eq!(field(Oddity::FieldsNull, "email"), Some(Value::Null));
        let name = field(Oddity::LongText, "first_name").unwrap();
        assert!(name.as_str().unwrap().len() > LONG_NAME);
    }
}
