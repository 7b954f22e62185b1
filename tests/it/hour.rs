//! An hour of the vendor's feed, played ten times as fast, on real servers: what nobody could hear is
//! known, repaired, and told no larger than it was, and the vendor's limits hold.
//!
//! The course is in tests/data/hour.yaml. The spans of the bridge's configuration are as short as its
//! speed asks; the vendor's minute is a real one, which leaves no faster hour.

use std::time::Duration;

use onboarding_bridge::event::Timestamp;
use onboarding_bridge::simulator::Options;
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use crate::support::bridge::{Bridge, PATIENCE, eventually};
use crate::support::course::Course;
use crate::support::oracle;
use crate::support::told;

const COURSE: &str = include_str!("../data/hour.yaml");

/// Ten seconds of the hour are one of ours.
const SPEED: u32 = 10;

/// Events a second of our time.
const RATE: f64 = 20.0;

/// How long the vendor refuses everything; the bridge is silent for a little longer than that.
const BLOCK: Duration = Duration::from_secs(8);

/// A window may begin so much earlier and end so much later than the deafness: the second of
/// `ingest::blind`, a ping, and what a loaded machine takes for a handshake and for a frame.
const DETECTION: f64 = 3.0;

/// Fast enough for the course: a dead socket is noticed within three seconds.
const FEED: &str = "ping_interval: 1s\nidle_timeout: 3s\nreply_timeout: 2s
limits: {connections: 5, requests_per_minute: 36, block_wait: 10s}";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// The vendor closes as a server does that goes away.
    Close,
    /// The vendor resets.
    Reset,
    /// Messages that are numbered and never sent.
    Gap,
    /// Nothing comes any more, not even a pong, and nobody says so.
    HalfOpen,
    /// The vendor closes, and refuses everything for a while.
    Block,
}

#[derive(Debug, Deserialize)]
struct Step {
    #[serde(deserialize_with = "span")]
    at: Duration,
    fault: Fault,
    /// Users that change while nobody can hear it.
    #[serde(default)]
    changes: u64,
    /// Messages that a gap leaves out.
    #[serde(default)]
    missing: u64,
}

fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

/// A span in which nothing could be heard, as the vendor knows it. Each end lies between two times, for a
/// loaded machine may do much between two lines of this test.
#[derive(Clone, Copy, Debug)]
struct Deaf {
    from_at_least: Timestamp,
    from_at_most: Timestamp,
    to_at_least: Timestamp,
    to_at_most: Timestamp,
}

impl Deaf {
    /// Before the bridge began to listen.
    fn at_start(started: Timestamp) -> Self {
        Self {
            from_at_least: started,
            from_at_most: started,
            to_at_least: started,
            to_at_most: Timestamp::now(),
        }
    }
}

/// Plays one step; returns when the vendor is heard again.
async fn play(course: &Course, step: &Step) -> Deaf {
    let control = &course.control;
    let before = control.stats().subscribes;
    let from_at_least = Timestamp::now();
    match step.fault {
        Fault::Close => control.close(1001).await,
        Fault::Reset => control.reset().await,
        Fault::HalfOpen => control.stall(true).await,
        Fault::Block => {
            control.block(BLOCK);
            control.close(1008).await;
        }
        Fault::Gap => assert_eq!(control.skip(step.missing).await, step.missing),
    }
    let from_at_most = Timestamp::now();
    // Of a gap the next message tells, which may have come already.
    let mut to_at_least = from_at_least;
    if step.fault == Fault::Gap {
        control.step(1).await;
    } else {
        control.change_silently(step.changes);
        let changed = Timestamp::now();
        if control.stats().subscribes == before {
            to_at_least = changed;
        }
        let again = control.wait_for(|stats| stats.subscribes > before);
        timeout(PATIENCE, again)
            .await
            .expect("the bridge comes back");
    }
    Deaf {
        from_at_least,
        from_at_most,
        to_at_least,
        to_at_most: Timestamp::now(),
    }
}

/// Plays the whole course; the spans in which nobody could hear the vendor.
async fn play_all(course: &Course, steps: &[Step]) -> Vec<Deaf> {
    let start = Instant::now();
    let mut deaf = Vec::new();
    for step in steps {
        sleep_until(start + step.at / SPEED).await;
        deaf.push(play(course, step).await);
    }
    sleep_until(start + Duration::from_secs(3600) / SPEED).await;
    deaf
}

/// A blind window as it was published last.
#[derive(Clone, Debug)]
struct Window {
    from: Timestamp,
    to: Timestamp,
    body: Value,
}

fn windows(told: &[told::Told]) -> Vec<Window> {
    let moment = |body: &Value, name: &str| Timestamp::parse(body[name].as_str()?);
    let healed = told.iter().filter(|told| told.body["state"] == "healed");
    let windows = healed.map(|told| Window {
        from: moment(&told.body, "from").unwrap(),
        to: moment(&told.body, "to").unwrap(),
        body: told.body.clone(),
    });
    windows.collect()
}

/// Each span lies in a window, and no window goes further than noticing takes; the largest excess.
fn hold_against(windows: &[Window], deaf: &[Deaf]) -> f64 {
    for span in deaf {
        let covers =
            |window: &&Window| window.from <= span.from_at_most && span.to_at_least <= window.to;
        assert!(
            windows.iter().any(|window| covers(&window)),
            "no window covers {span:?}"
        );
    }
    let excess = windows.iter().map(|window| {
        let over = |span: &Deaf| {
            let before = span.from_at_least.seconds_since(window.from);
            before.max(window.to.seconds_since(span.to_at_most))
        };
        let least = deaf.iter().map(over).min_by(f64::total_cmp).unwrap();
        assert!(
            least <= DETECTION,
            "{} claims {least} s too much",
            window.body
        );
        least
    });
    excess.max_by(f64::total_cmp).unwrap()
}

/// Waits until everything was said, listed, healed and delivered.
fn settle(course: &Course, bridge: &Bridge) {
    course.control.pause();
    eventually("every window to be healed", || {
        let status = bridge.status();
        let windows = status["feed"]["blind_windows"].as_array().unwrap();
        windows
            .iter()
            .all(|window| window["healed_at"].is_string())
            .then_some(())
    });
    bridge.wait_delivered();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_hour_of_faults_every_deaf_span_is_known_and_every_final_state_is_right() {
    let steps: Vec<Step> = serde_norway::from_str(COURSE).unwrap();
    let count = |fault| steps.iter().filter(|step| step.fault == fault).count();
    assert_eq!(count(Fault::Close) + count(Fault::Reset), 20);
    assert_eq!(
        (
            count(Fault::Gap),
            count(Fault::HalfOpen),
            count(Fault::Block)
        ),
        (30, 5, 3)
    );
    assert_eq!(steps.iter().map(|step| step.changes).sum::<u64>(), 200);

    let options = Options {
        users: 300,
        rate: RATE,
        enforce_limits: true,
        ..Options::for_tests()
    };
    let course = Course::new(options).await;
    let topic = format!("{}.control", course.topic);
    ensure_topic(&course.brokers, &topic, 1).await.unwrap();
    let sinks = format!("{}\n{}", course.kafka_sink(), course.nats_sink());
    let started = Timestamp::now();
    let bridge = course.start_configured(FEED, &sinks).await;
    bridge.wait_ready();
    let start = Deaf::at_start(started);
    course.control.resume();
    let mut deaf = play_all(&course, &steps).await;
    deaf.push(start);
    settle(&course, &bridge);
    let ends = bridge.status();
    bridge.terminate();

    let stats = course.control.stats();
    assert_eq!(stats.limit_breaches, 0, "{stats:?}");
    assert!(
        stats.requests_peak <= 40 && stats.connections_peak <= 10,
        "{stats:?}"
    );
    let users = course.control.users();
    for (what, landed) in course.landed().await {
        oracle::has_the_journal(what, &landed, &course.journal());
        oracle::each_life_is_whole(what, &landed);
        oracle::ends_as_the_vendor_says(what, &landed, &users);
    }
    let subject = format!("{}_control.feed.blind", course.prefix);
    let in_kafka = told::kafka(&course.brokers, &topic).await;
    let in_nats = told::nats(&course.nats, &course.stream, &subject).await;
    assert_eq!(
        in_kafka, in_nats,
        "the same, with the same ids, in the same order"
    );
    let windows = windows(&in_kafka);
    let excess = hold_against(&windows, &deaf);
    let missing: u64 = windows
        .iter()
        .filter_map(|window| window.body["missing"].as_u64())
        .sum();
    let left_out: u64 = steps.iter().map(|step| step.missing).sum();
    assert_eq!(missing, left_out, "messages that are known to be missing");
    println!(
        "{} deaf spans, {} windows, at most {excess:.1} s too much; {stats:?}; {}",
        deaf.len(),
        windows.len(),
        ends["feed"]["state"]
    );
    course.end().await;
}
