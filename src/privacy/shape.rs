//! The shape of a frame that was set aside: its keys, and three stars for every value that could say
//! something of a person.
//!
//! It keeps numbers and times of the envelope, and of its words only known ones.

use serde_json::Value;

use super::words::{STARS, dotted};
use crate::event::Timestamp;

/// Longest shape that is kept, in bytes.
const SHAPE_MAX: usize = 16 * 1024;

/// Longest name of a key that is taken for a name.
const NAME_MAX: usize = 40;

/// Longest text of a key of the envelope that is looked at.
const TEXT_MAX: usize = 64;

/// Most digits of a number that is written as text.
const DIGITS_MAX: usize = 20;

/// The shape of a frame. `None` for what is no JSON, or too long.
pub fn shape(frame: &str) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_str(frame).ok()?;
    match &mut value {
        Value::Object(frame) => envelope(frame),
        other => star(other),
    }
    serde_json::to_vec(&value)
        .ok()
        .filter(|shape| shape.len() <= SHAPE_MAX)
}

/// Hides what an envelope, with the payload in it, could say of a person.
pub(super) fn envelope(frame: &mut serde_json::Map<String, Value>) {
    for (name, value) in frame.iter_mut() {
        match telling(name, value) {
            Some(shown) => *value = shown,
            None => star(value),
        }
    }
    name_keys(frame);
}

/// What a value of the envelope may show: what the frame is, and nothing of a person.
fn telling(name: &str, value: &Value) -> Option<Value> {
    match (name, value) {
        ("sequence" | "timestamp", Value::Number(_)) => Some(value.clone()),
        ("sequence" | "timestamp", Value::String(text)) => {
            let is_number = (1..=DIGITS_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_digit());
            let is_time = text.len() <= TEXT_MAX && Timestamp::parse(text).is_some();
            (is_number || is_time).then(|| value.clone())
        }
        ("recipient" | "type" | "action", Value::String(text)) if text.len() <= TEXT_MAX => {
            Some(dotted(text).into())
        }
        _ => None,
    }
}

/// Whether the name of a key could itself say something of a person: it is not written as the vendor
/// writes names.
pub fn is_telling_name(name: &str) -> bool {
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !begins
        || name.len() > NAME_MAX
        || !name.bytes().all(is_plain)
        || name.bytes().filter(u8::is_ascii_digit).count() > 3
}

/// Hides every value, and every name that could tell something.
pub(super) fn star(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(star);
            name_keys(fields);
        }
        Value::Array(items) => items.iter_mut().for_each(star),
        Value::Null => {}
        Value::String(_) | Value::Number(_) | Value::Bool(_) => *value = STARS.into(),
    }
}

/// Hides the names of keys that could tell something.
fn name_keys(fields: &mut serde_json::Map<String, Value>) {
    let named = std::mem::take(fields).into_iter().map(|(name, value)| {
        let name = match is_telling_name(&name) {
            true => STARS.to_owned(),
            false => name,
        };
        (name, value)
    });
    *fields = named.collect();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(frame: &Value) -> String {
        String::from_utf8(shape(&frame.to_string()).unwrap()).unwrap()
    }

    #[test]
    fn the_shape_of_a_frame_holds_no_value_of_a_person() {
        let frame = json!({"sequence": 4, "recipient": "private.enterprise.users.balances",
            "payload": {"user_id": "client_ada", "updates": [{"balance": "17"}], "x": null}});
        assert_eq!(
            shown(&frame),
            "{\"payload\":{\"updates\":[{\"balance\":\"***\"}],\"user_id\":\"***\",\"x\":null},\
             \"recipient\":\"private.enterprise.users.balances\",\"sequence\":4}"
        );
    }

    #[test]
    fn a_value_of_the_envelope_that_is_not_what_belongs_there_is_hidden() {
        let token = "4d5eb1a0c0ffee00aa11bb22cc33dd44ee55ff6600112233445566778899aabb";
        for hidden in [
            json!(token),
            json!("ada"),
            json!("client_ada"),
            json!(15_550_100_001_u64),
        ] {
            for name in ["recipient", "type", "action"] {
                let text = shown(&json!({name: hidden}));
                assert_eq!(text, format!("{{\"{name}\":\"***\"}}"), "{hidden}");
            }
        }
        for hidden in [
            json!(token),
            json!("ada"),
            json!("+15550100001"),
            json!([1]),
        ] {
            for name in ["sequence", "timestamp"] {
                let text = shown(&json!({name: hidden}));
                assert!(text.contains("***") && !text.contains("ada"), "{text}");
            }
        }
        let kept = json!({"action": "subscribe", "sequence": "5",
            "timestamp": "2024-05-29T17:55:27.995Z", "type": "error"});
        assert_eq!(shown(&kept), kept.to_string());
    }

    #[test]
    fn a_key_that_is_not_written_like_a_name_is_hidden_at_every_level() {
        for name in [
            "Ada",
            "ada@example.test",
            "client_12345",
            "王小明",
            "ada lovelace",
            "_x",
            "",
        ] {
            assert!(is_telling_name(name), "{name}");
            assert_eq!(shown(&json!({name: 1})), "{\"***\":\"***\"}");
            assert_eq!(
                shown(&json!({"payload": {name: 1}})),
                "{\"payload\":{\"***\":\"***\"}}"
            );
        }
        for name in ["user_id", "apiKey", "tier2", "a.b-c"] {
            assert!(!is_telling_name(name), "{name}");
        }
    }
}
