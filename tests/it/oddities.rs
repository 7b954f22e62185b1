//! What the vendor's pages leave open or contradict, a test each: the numbers are those of
//! docs/protocol.md, which names the tests that lie elsewhere too.

mod connecting;
mod message;
mod other;

use onboarding_bridge::event::FEED_NAME;
use onboarding_bridge::simulator::Options;
use serde_json::{Value, json};

use crate::support::line::{Ended, Line};

/// A line whose only user is not of interest.
async fn line() -> Line {
    let options = Options {
        users: 1,
        ..Options::for_tests()
    };
    Line::listening(options, "", "").await
}

/// An envelope as the vendor writes it; `keys` overrides.
fn envelope(keys: Value) -> String {
    let mut envelope = json!({"recipient": FEED_NAME, "timestamp": 1_750_000_000_000_000_000_i64});
    let keys: serde_json::Map<String, Value> = serde_json::from_value(keys).unwrap();
    envelope.as_object_mut().unwrap().extend(keys);
    envelope.to_string()
}

/// What becomes of these texts, each of which is one event.
async fn made_of(texts: impl IntoIterator<Item = String>) -> Ended {
    let line = line().await;
    let mut sent = 0;
    for text in texts {
        line.control.send_raw_text(text).await;
        sent += 1;
        line.heard(sent);
    }
    line.end().await
}

/// What becomes of these payloads, a nanosecond apart.
async fn made_of_payloads(payloads: impl IntoIterator<Item = Value>) -> Ended {
    let texts = payloads
        .into_iter()
        .zip(1_750_000_000_000_000_000_i64..)
        .map(|(payload, timestamp)| envelope(json!({"timestamp": timestamp, "payload": payload})));
    made_of(texts).await
}
