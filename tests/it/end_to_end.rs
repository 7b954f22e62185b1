//! A great many events through the whole program into a real Kafka and a real NATS at once: each of
//! them there once, in order, as the contract says, and no credential anywhere.

use std::collections::HashSet;

use onboarding_bridge::event::{FEED_NAME, Timestamp};
use onboarding_bridge::simulator::{EXAMPLE_KEY, Options};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, eventually};
use crate::support::course::{Course, heard};
use crate::support::oracle::{self, Landed, is_of_feed, text};

const EVENTS: u64 = 50_000;
const USERS: u32 = 5000;
/// Users that only the first list tells of at the start.
const LISTED: u32 = 2500;

/// Users that the simulator does not have: an id, its token in a subject, and the id percent-encoded.
const HOSTILE: [(&str, &str, &str); 3] = [
    (
        "client 7.é*>",
        "client~207~2e~c3~a9~2a~3e",
        "client%207.%C3%A9*>",
    ),
    ("100%\"~h", "100~25~22~7eh", "100%25%22~h"),
    ("a\r\nb: c", "a~0d~0ab~3a~20c", "a%0D%0Ab:%20c"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_once_in_order_in_kafka_and_jetstream() {
    let course = Course::new(Options {
        users: USERS,
        registered: Some(LISTED),
        ..Options::for_tests()
    })
    .await;
    let bridge = course.start().await;
    bridge.wait_ready();
    eventually("the first list to be compared", || {
        (bridge.metric("reconcile_runs_total{outcome=\"success\"}") == 1.0).then_some(())
    });
    assert_eq!(course.control.step(EVENTS).await, EVENTS);
    for (user_id, _, _) in HOSTILE {
        let payload = json!({"user_id": user_id, "last_name": "Example-1", "status": "PENDING",
            "user_token": {"token": course.control.token(0), "expires": "never"}});
        course
            .control
            .send_envelope(FEED_NAME, &payload.to_string())
            .await;
    }
    let all = EVENTS + HOSTILE.len() as u64;
    eventually("every event to be heard", || {
        (heard(&bridge) == all).then_some(())
    });
    bridge.wait_delivered();
    nothing_but_events_was_counted(&bridge, all);
    bridge.terminate();

    let (journal, sent) = (course.journal(), course.sent());
    assert_eq!(journal.len() as u64, all + u64::from(LISTED));
    let secrets = Secrets::of(&course);
    for (what, landed) in course.landed().await {
        let of_list = landed.iter().filter(|landed| !is_of_feed(&landed.event));
        assert_eq!(of_list.count() as u64, u64::from(LISTED), "{what}");
        let (hostile, plain): (Vec<_>, Vec<_>) = landed
            .iter()
            .cloned()
            .partition(|landed| hostile(&landed.event).is_some());
        oracle::has_all_that_was_sent(what, &plain, &sent);
        oracle::ends_as_the_vendor_says(what, &plain, &course.control.users());
        oracle::each_life_is_whole(what, &landed);
        assert_eq!(hostile.len(), HOSTILE.len());
        for landed in &landed {
            match what {
                "kafka" => is_as_kafka_consumers_expect(landed),
                _ => is_as_nats_consumers_expect(landed, &course.stream),
            }
            secrets.are_not_in(what, landed.key.as_bytes());
            secrets.are_not_in(what, landed.text.as_bytes());
            for (name, value) in &landed.headers {
                secrets.are_not_in(what, name.as_bytes());
                secrets.are_not_in(what, value.as_bytes());
            }
        }
    }
    for file in std::fs::read_dir(course.folder.path()).unwrap() {
        let path = file.unwrap().path();
        // The configuration holds the key, because the test wrote it there.
        if path.extension().is_none_or(|extension| extension != "yaml") {
            let content = std::fs::read(&path).unwrap();
            secrets.are_not_in(&path.display().to_string(), &content);
        }
    }
    course.end().await;
}

fn nothing_but_events_was_counted(bridge: &Bridge, events: u64) {
    #[allow(clippy::cast_precision_loss, reason = "it is a small number")]
    let events = events as f64;
    assert_eq!(bridge.metric("feed_frames_total{kind=\"event\"}"), events);
    let published = events + f64::from(LISTED);
    for sink in ["kafka", "nats"] {
        let of_sink = |name: &str| bridge.metric(&format!("{name}{{sink=\"{sink}\"}}"));
        assert_eq!(of_sink("sink_published_total"), published);
        assert_eq!(of_sink("sink_restarts_total"), 0.0);
    }
    for none in [
        "normalise_duplicates_total",
        "feed_sequence_gaps_total",
        "feed_sequence_regressions_total",
        "dead_letters",
    ] {
        assert_eq!(bridge.metric(none), 0.0, "{none}");
    }
    for none in ["feed_reconnects_total", "normalise_rejected_total"] {
        assert_eq!(bridge.metric_sum(none), 0.0, "{none}");
    }
}

fn hostile(event: &Value) -> Option<(&'static str, &'static str, &'static str)> {
    let is_of = |(user_id, _, _): &(&str, &str, &str)| *user_id == text(event, "user_id");
    HOSTILE.into_iter().find(is_of)
}

/// The CloudEvents attributes of an event, by their names without prefix.
fn attributes(event: &Value) -> [(&'static str, String); 8] {
    let of = |name| text(event, name).to_owned();
    let time = match &event["occurred_at"] {
        Value::Null => of("received_at"),
        _ => of("occurred_at"),
    };
    [
        ("specversion", "1.0".to_owned()),
        ("id", of("event_id")),
        ("source", "/sfox/private.enterprise.users".to_owned()),
        ("type", format!("com.sfox.connect.{}.v1", of("event_type"))),
        ("time", time),
        ("subject", of("user_id")),
        ("partitionkey", of("user_id")),
        ("dataschema", "urn:onboarding-bridge:event:v1".to_owned()),
    ]
}

fn is_as_kafka_consumers_expect(landed: &Landed) {
    assert_eq!(landed.key, text(&landed.event, "user_id"));
    assert_eq!(landed.place.0, landed.java_partition);
    let received_at = Timestamp::parse(text(&landed.event, "received_at")).unwrap();
    assert_eq!(landed.timestamp, Some(received_at.as_millis()));
    let attributes = attributes(&landed.event).into_iter();
    let mut wanted: Vec<_> = attributes
        .map(|(name, value)| (format!("ce_{name}"), value))
        .collect();
    wanted.push(("content-type".to_owned(), "application/json".to_owned()));
    assert_eq!(landed.headers, wanted.into_iter().collect());
}

fn is_as_nats_consumers_expect(landed: &Landed, stream: &str) {
    let user_id = text(&landed.event, "user_id");
    let hostile = hostile(&landed.event);
    assert_eq!(landed.key, hostile.map_or(user_id, |(_, token, _)| token));
    let percent_encoded = |value: String| match hostile {
        Some((plain, _, encoded)) if plain == value => encoded.to_owned(),
        _ => {
            assert!(value.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!value.contains(['%', '"']), "{value}");
            value
        }
    };
    let attributes = attributes(&landed.event).into_iter();
    let mut wanted: Vec<_> = attributes
        .map(|(name, value)| (format!("ce-{name}"), percent_encoded(value)))
        .collect();
    let event_id = text(&landed.event, "event_id");
    wanted.extend(
        [
            ("ce-datacontenttype", "application/json"),
            ("Nats-Msg-Id", event_id),
            ("Nats-Expected-Stream", stream),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(landed.headers, wanted.into_iter().collect());
}

/// What must appear nowhere: the tokens of all users, what stands around them, and our own key.
struct Secrets {
    tokens: HashSet<String>,
}

impl Secrets {
    const WORDS: [&str; 4] = ["user_token", "partner_user_id", "expires", EXAMPLE_KEY];

    /// Hex digits of a token.
    const LENGTH: usize = 64;

    fn of(course: &Course) -> Self {
        let tokens: HashSet<_> = (0..USERS)
            .map(|index| course.control.token(index))
            .collect();
        assert!(tokens.iter().all(|token| token.len() == Self::LENGTH));
        Self { tokens }
    }

    fn are_not_in(&self, place: &str, content: &[u8]) {
        let text = String::from_utf8_lossy(content);
        for word in Self::WORDS {
            assert!(!text.contains(word), "{word} is in {place}");
        }
        // A token is hex, so it lies at the end of a run of hex digits, however that goes on.
        let mut run = 0;
        for (index, byte) in content.iter().enumerate() {
            run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
            if run >= Self::LENGTH {
                let part = std::str::from_utf8(&content[index + 1 - Self::LENGTH..=index]).unwrap();
                assert!(!self.tokens.contains(part), "a token is in {place}");
            }
        }
    }
}
