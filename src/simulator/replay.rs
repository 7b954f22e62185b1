//! Plays what `run --capture` wrote: the data frames, connection by connection, to whoever is
//! subscribed. The list shows each user as the frames that were played so far left it.
//!
//! The simulator answers commands by itself, so captured replies are passed over. The file is read
//! line by line, never as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Lines};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::event::FEED_NAME;

use super::action::faster;
use super::batch::Order;
use super::control::Control;
use super::hub::Hub;
use super::session::GOING_AWAY;
use super::stats::locked;

/// A capture, open at its first frame.
#[derive(Debug)]
pub(super) struct Capture {
    lines: Lines<BufReader<File>>,
}

/// One line of it, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    at_us: u64,
    #[serde(default)]
    connection: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    frame: Value,
}

impl Capture {
    /// Opens the file and reads its head.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(File::open(path)?).lines();
        let head = lines.next().transpose()?.unwrap_or_default();
        let head: Value = serde_json::from_str(&head).unwrap_or_default();
        if head["capture"] != 1 {
            let words = format!("{} is no capture of `run --capture`", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Self { lines })
    }

    /// The next data frame; what cannot be read is passed over.
    fn next(&mut self) -> Option<Line> {
        for line in self.lines.by_ref() {
            let line = match line {
                Ok(line) => serde_json::from_str::<Line>(&line).ok(),
                Err(error) => {
                    tracing::warn!(%error, "the capture cannot be read further");
                    return None;
                }
            };
            match line {
                Some(line) if line.kind == "data" => return Some(line),
                Some(_) => {}
                None => tracing::warn!("a line of the capture cannot be read"),
            }
        }
        None
    }
}

/// What the frames of a capture said of each user.
#[derive(Debug, Default)]
pub(super) struct Known {
    users: BTreeMap<String, Map<String, Value>>,
}

impl Known {
    /// Takes a frame; an absent field leaves what is known of it.
    fn hear(&mut self, frame: &Value) {
        let payload = match &frame["payload"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            payload => payload.clone(),
        };
        let (Value::Object(payload), true) = (payload, frame["recipient"] == FEED_NAME) else {
            return;
        };
        if let Some(Value::String(user_id)) = payload.get("user_id") {
            let user = self.users.entry(user_id.clone()).or_default();
            user.extend(payload.into_iter().filter(|(name, _)| name != "user_token"));
        }
    }

    /// Each user as an object of the list.
    pub(super) fn objects(&self) -> VecDeque<String> {
        let objects = self.users.values().cloned();
        objects
            .map(|user| Value::Object(user).to_string())
            .collect()
    }
}

/// Runs until the capture is over, or the hub stops.
pub(super) async fn run(hub: Arc<Hub>, capture: Capture) {
    tokio::select! {
        () = play(&hub, capture) => {}
        () = hub.stopped() => return,
    }
    hub.count(|stats| stats.played = true);
    tracing::info!("the capture is over");
}

async fn play(hub: &Arc<Hub>, mut capture: Capture) {
    let control = Control::new(Arc::clone(hub));
    let speed = hub.options.play.speed;
    let mut playing: Option<(Instant, u64, String)> = None;
    while let Some(line) = capture.next() {
        if let Some((.., connection)) = &playing
            && *connection != line.connection
        {
            Hub::barrier(&hub.lines(true)).await;
            control.close(GOING_AWAY).await;
            playing = None;
        }
        control.wait_subscribed().await;
        // The time between connections is the client's own: it counts from the first frame of each.
        let (begin, first, _) =
            playing.get_or_insert_with(|| (Instant::now(), line.at_us, line.connection.clone()));
        let after = Duration::from_micros(line.at_us.saturating_sub(*first));
        sleep_until(*begin + faster(after, speed)).await;
        if let Some(known) = &hub.replayed {
            locked(known).hear(&line.frame);
        }
        hub.count(|stats| stats.events_generated += 1);
        let text = Utf8Bytes::from(line.frame.to_string());
        Hub::order(&hub.lines(true), || Order::Replayed(text.clone())).await;
    }
    Hub::barrier(&hub.lines(true)).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_list_is_the_last_state_of_each_user_without_its_token() {
        let mut known = Known::default();
        let frame = |payload: Value| json!({"recipient": FEED_NAME, "payload": payload});
        known.hear(&frame(
            json!({"user_id": "a", "status": "PENDING", "email": "a@example.test"}),
        ));
        known.hear(&frame(
            json!({"user_id": "a", "status": "VERIFIED", "user_token": {"token": "***"}}),
        ));
        known.hear(&frame(json!("{\"user_id\":\"b\"}")));
        known.hear(
            &json!({"recipient": "private.enterprise.users.balances", "payload": {"user_id": "c"}}),
        );
        let objects: Vec<_> = known.objects().into();
        assert_eq!(
            objects,
            [
                r#"{"email":"a@example.test","status":"VERIFIED","user_id":"a"}"#,
                r#"{"user_id":"b"}"#
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_capture_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, "{\"kind\":\"data\"}\n").unwrap();
        assert_eq!(
            Capture::open(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
