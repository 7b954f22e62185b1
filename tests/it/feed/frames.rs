//! Frames that cannot become an event: each is set aside with its reason and without its content.

use std::path::Path;

use onboarding_bridge::event::{FEED_NAME, Timestamp};
use onboarding_bridge::journal::{Journal, StoredLetter};
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::simulator::{Control, EXAMPLE_KEY};
use serde_json::{Value, json};

use super::{reasons, users};
use crate::support::line::Line;

/// Stands for personal data and credentials in frames that are set aside.
const CANARY: &str = "canary-7f3a";

/// Why a frame is set aside, in the order of [`send_one_of_each`].
const REASONS: [&str; 8] = [
    "malformed",
    "binary",
    "oversized",
    "foreign",
    "user_id",
    "payload",
    "field_type",
    "unrecognised",
];

/// Sends a frame for each reason to set it aside, all with canaries.
async fn send_one_of_each(control: &Control) {
    let person = json!({"email": CANARY, "first_name": CANARY, "phone_number": CANARY,
        "user_token": {"token": CANARY, "partner_user_id": CANARY}});
    let with = |key: &str, value: Value| {
        let mut payload = person.clone();
        payload[key] = value;
        payload.to_string()
    };
    let sibling = format!("{FEED_NAME}.balances");
    control
        .send_raw_text(format!("{{\"email\": \"{CANARY}\", oops"))
        .await;
    control.send_raw_binary(CANARY).await;
    let large = with("last_name", CANARY.repeat(500).into());
    control.send_envelope(FEED_NAME, &large).await;
    let foreign = with("user_id", CANARY.into());
    control.send_envelope(&sibling, &foreign).await;
    control
        .send_envelope(FEED_NAME, &with("status", CANARY.into()))
        .await;
    control
        .send_envelope(FEED_NAME, &json!([CANARY]).to_string())
        .await;
    let list_as_address = with("user_id", CANARY.into()).replacen(
        &format!("\"email\":\"{CANARY}\""),
        &format!("\"email\":[\"{CANARY}\"]"),
        1,
    );
    control.send_envelope(FEED_NAME, &list_as_address).await;
    control
        .send_raw_text(json!({"note": CANARY}).to_string())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_aside_frames_are_counted_by_reason_and_the_stream_goes_on() {
    let line = Line::listening(users(20), "max_frame_bytes: 4KiB", "").await;
    let control = &line.control;
    control.step(5).await;
    send_one_of_each(control).await;
    control.repeat_last().await;
    control.step(5).await;
    line.heard(11);
    let bridge = &line.bridge;
    line.reaches("dead_letters", 8.0);
    for reason in REASONS {
        for series in ["normalise_rejected_total", "dead_letters_total"] {
            let series = format!("{series}{{reason=\"{reason}\"}}");
            assert_eq!(bridge.metric(&series), 1.0, "{series}");
        }
    }
    let heard = bridge.metric("feed_frames_total{kind=\"event\"}")
        + bridge.metric("feed_frames_total{kind=\"rejected\"}");
    let journalled: f64 = ["user.registered", "user.updated", "user.removed"]
        .iter()
        .map(|event_type| {
            let labels = format!("{{event_type=\"{event_type}\",origin=\"feed\"}}");
            bridge.metric(&format!("normalise_events_total{labels}"))
        })
        .sum();
    let duplicates = bridge.metric("normalise_duplicates_total");
    let letters = bridge.metric_sum("dead_letters_total");
    assert_eq!(
        (heard, journalled, duplicates, letters),
        (19.0, 10.0, 1.0, 8.0)
    );
    assert_eq!(heard, journalled + duplicates + letters);
    // An oversized frame is not read, not even for its number: what it said is asked of the list.
    line.reaches("feed_sequence_missing_total", 1.0);
    line.reaches("feed_sequence_gaps_total", 1.0);
    assert_eq!(reasons(&line.healed_windows(2)), ["start", "gap"]);
    let tokens: Vec<String> = (0..20).map(|user| control.token(user)).collect();
    let ended = line.end().await;
    ended.assert_repaired();
    assert_eq!(ended.by("feed").len(), 10);
    for reason in REASONS {
        assert!(
            ended.log.contains(&format!("\"reason\":\"{reason}\"")),
            "{reason}"
        );
    }
    assert_nothing_leaked(ended.folder.path(), &tokens);
    assert_letters(ended.folder.path()).await;
}

/// No file of the bridge holds a canary or a token: journal, its log, its lock, events, log.
fn assert_nothing_leaked(folder: &Path, tokens: &[String]) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        files += 1;
        for secret in tokens
            .iter()
            .map(String::as_str)
            .chain([CANARY, EXAMPLE_KEY])
        {
            let own = secret == EXAMPLE_KEY && path.extension().is_some_and(|end| end == "yaml");
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(own || !found, "{secret} is in {}", path.display());
        }
    }
    assert!(files >= 4, "configuration, log, journal and events");
}

/// The dead letters in the journal, read as the bridge itself would.
async fn assert_letters(folder: &Path) {
    let path = folder.join("journal.db");
    let config = serde_norway::from_str(&format!("path: {}", path.display())).unwrap();
    let metrics = Metrics::new(&["local"]);
    let journal = Journal::open(&config, &["local"], &metrics, Timestamp::now).unwrap();
    let letters = journal.handle.reader().unwrap().dead_letters(100).unwrap();
    journal.handle.close();
    journal.writer.await.unwrap().unwrap();
    let found: Vec<_> = letters
        .iter()
        .map(|letter| (letter.stage.as_str(), letter.reason.as_str()))
        .collect();
    let expected = REASONS.map(|reason| ("normalise", reason));
    assert_eq!(found, expected);
    for StoredLetter {
        reason,
        detail,
        body,
        ..
    } in letters
    {
        assert!(
            detail.contains(" bytes") && detail.contains("connection "),
            "{detail}"
        );
        let body = body.map(|body| String::from_utf8(body).unwrap());
        // What was no JSON, or was not read, has no shape; of the others the keys are left.
        let unread = ["malformed", "binary", "oversized"].contains(&&*reason);
        assert_eq!(body.is_none(), unread, "{reason}: {body:?}");
        if let Some(body) = body {
            assert!(body.contains("***") && !body.contains(CANARY), "{body}");
        }
    }
}
