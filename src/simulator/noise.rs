//! Frames that tell of no user: broken ones, ones of other feeds, ones that nobody asked for.
//!
//! Pure. Those that have an envelope take a sequence number, as they would at the vendor. The
//! person in some of them is the first one of the world, as it was before its first event.

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::event::FEED_NAME;

use super::batch::{data_frame, event_frame, reply_frame};
use super::options::Noise;
use super::person::Person;

/// The feed that is nearest to ours by its name.
const SIBLING: &str = "private.enterprise.users.balances";

/// Length of a frame that is too long for anybody.
const OVERSIZED: usize = 2 * 1024 * 1024;

/// Whether such a frame takes a sequence number.
pub(super) const fn takes_number(noise: Noise) -> bool {
    match noise {
        Noise::Truncated
        | Noise::Oversized
        | Noise::Sibling
        | Noise::PayloadArray
        | Noise::PayloadMissing
        | Noise::UserIdMissing
        | Noise::UserIdNull
        | Noise::FieldType
        | Noise::StrayReply
        | Noise::StrayError => true,
        Noise::Binary
        | Noise::Malformed
        | Noise::InvalidUtf8
        | Noise::Unrecognised
        | Noise::Ping
        | Noise::Pong => false,
    }
}

/// The frame.
pub(super) fn message(noise: Noise, seed: u64, sequence: u64, timestamp: i64) -> Message {
    let ours = |payload: Value| {
        let frame = event_frame(sequence, timestamp, &payload.to_string());
        Message::Text(frame)
    };
    match noise {
        Noise::Binary => Message::binary(vec![0x00, 0xFF, 0x10, 0x80]),
        Noise::Malformed => Message::text("{\"sequence\": 17, this is no JSON"),
        Noise::Truncated => {
            let whole = event_frame(
                sequence,
                timestamp,
                &Value::Object(person(seed)).to_string(),
            );
            let half: String = whole.chars().take(whole.chars().count() / 2).collect();
            Message::text(half)
        }
        Noise::InvalidUtf8 => {
            let bytes = b"{\"payload\":\"\xFF\xFE\"}".as_slice();
            Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))
        }
        Noise::Oversized => {
            let mut payload = person(seed);
            payload.insert("x_long".to_owned(), json!("x".repeat(OVERSIZED)));
            ours(Value::Object(payload))
        }
        Noise::Sibling => {
            let payload = json!({"user_id": person(seed)["user_id"],
                "updates": [{"currency": "btc", "balance": "0.5"}]});
            let payload = payload.to_string();
            Message::Text(data_frame(sequence, SIBLING, timestamp, &payload))
        }
        Noise::PayloadArray => ours(json!([person(seed)])),
        Noise::PayloadMissing => Message::text(format!(
            r#"{{"sequence":{sequence},"recipient":"{FEED_NAME}","timestamp":{timestamp}}}"#
        )),
        Noise::UserIdMissing => {
            let mut payload = person(seed);
            payload.remove("user_id");
            ours(Value::Object(payload))
        }
        Noise::UserIdNull => {
            let mut payload = person(seed);
            payload.insert("user_id".to_owned(), Value::Null);
            ours(Value::Object(payload))
        }
        Noise::FieldType => {
            let mut payload = person(seed);
            let email = payload["email"].take();
            payload.insert("email".to_owned(), json!([email]));
            ours(Value::Object(payload))
        }
        Noise::Unrecognised => Message::text(r#"{"notice":"maintenance is near"}"#),
        Noise::StrayReply => Message::Text(reply_frame(
            "success",
            sequence,
            timestamp,
            Some("unsubscribe"),
            None,
        )),
        Noise::StrayError => Message::Text(reply_frame("error", sequence, timestamp, None, None)),
        Noise::Ping => Message::Ping("noise".into()),
        Noise::Pong => Message::Pong("noise".into()),
    }
}

fn person(seed: u64) -> Map<String, Value> {
    let mut payload = String::new();
    let first = Person {
        seed,
        index: 0,
        counter: 0,
    };
    first
        .write_payload(&mut payload, "2030-01-01T00:00:00.000Z")
        .expect("a String takes everything");
    serde_json::from_str(&payload).expect("a payload is a JSON object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_number_shows_it_unless_it_is_broken() {
        for noise in Noise::ALL {
            let text = match message(*noise, 1, 4711, 99) {
                Message::Text(text) => text.to_string(),
                _ => String::new(),
            };
            assert_eq!(text.contains("4711"), takes_number(*noise), "{noise:?}");
        }
    }

    #[test]
    fn no_data_frame_of_ours_among_them_is_whole() {
        for noise in Noise::ALL {
            let Message::Text(text) = message(*noise, 1, 4711, 99) else {
                continue;
            };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            let payload = &frame["payload"];
            let whole = frame["recipient"] == FEED_NAME
                && payload["user_id"].is_string()
                && payload["email"].is_string();
            assert_eq!(whole, *noise == Noise::Oversized, "{noise:?}");
        }
    }
}
