//! Credentials that are changed while the bridge runs, at real servers: the same process goes on with the
//! new ones, nothing is lost or doubled, and no line of the log shows a secret.
//!
//! docs/rotation.md says how long each may take; the figures here are those.

mod kafka;
mod nats;
mod vendor;

use std::time::Duration;

use onboarding_bridge::event::Timestamp;
use onboarding_bridge::simulator::Options;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::bridge::{Bridge, eventually};
use crate::support::certificates::{Authority, Issued};
use crate::support::course::Course;
use crate::support::mounted::Mounted;
use crate::support::oracle::{self, Landed};

/// From a change that the server knows already to the new connection: a look each 10 s, and a trial.
const TAKEN_UP: Duration = Duration::from_secs(15);

/// From a cut to the next acknowledgement, where the secrets were changed a moment before.
const AFTER_A_CUT: Duration = Duration::from_secs(30);

fn options(rate: f64) -> Options {
    Options {
        users: 200,
        rate,
        ..Options::for_tests()
    }
}

/// The lines of the log about this sink that hold these words.
fn lines(bridge: &Bridge, sink: &str, words: &str) -> Vec<Value> {
    let log = bridge.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["sink"] == sink && line.to_string().contains(words))
        .collect()
}

/// Waits until the first list was compared and delivered: from then on the sink has nothing to do.
fn is_idle(bridge: &Bridge) {
    bridge.wait_ready();
    eventually("the list to be compared", || {
        (bridge.metric("reconcile_runs_total{outcome=\"success\"}") > 0.0).then_some(())
    });
    bridge.wait_delivered();
}

/// Waits until this sink has taken up so many rotations, and is open again.
fn taken_up(bridge: &Bridge, sink: &str, times: usize) {
    eventually(&format!("{sink} to take up rotation {times}"), || {
        (lines(bridge, sink, "rotated").len() >= times).then_some(())
    });
    let delivering = format!("sink_state{{sink=\"{sink}\",state=\"delivering\"}}");
    eventually(&format!("{sink} to be open"), || {
        (bridge.metric(&delivering) == 1.0).then_some(())
    });
}

/// Prints and bounds how long something took.
#[allow(clippy::print_stdout, reason = "the figures of docs/rotation.md")]
fn took(what: &str, started: Instant, bound: Duration) {
    let took = started.elapsed();
    println!("{what}: {:.1} s", took.as_secs_f64());
    assert!(took <= bound, "{what} took {took:?}");
}

/// Waits until the sink has published so much more than at this moment.
fn publishes(bridge: &Bridge, sink: &str, more: f64) {
    let published = || bridge.metric(&format!("sink_published_total{{sink=\"{sink}\"}}"));
    let wanted = published() + more;
    eventually(&format!("{sink} to publish"), || {
        (published() >= wanted).then_some(())
    });
}

/// How many errors of this class the sink has had.
fn errors(bridge: &Bridge, sink: &str, class: &str) -> f64 {
    bridge.metric(&format!(
        "sink_errors_total{{class=\"{class}\",sink=\"{sink}\"}}"
    ))
}

/// No error of any class: a rotation that nobody noticed.
fn is_undisturbed(bridge: &Bridge, sink: &str) {
    for class in ["record", "configuration", "transient", "fatal"] {
        let log = bridge.log();
        assert_eq!(errors(bridge, sink, class), 0.0, "{sink}: {class} in {log}");
    }
}

/// Lets everything arrive, ends the bridge in order, and sees that its log has none of the secrets.
fn end(course: &Course, bridge: Bridge, secrets: &[&str]) {
    course.control.pause();
    course.wait_heard_and_delivered(&bridge);
    assert_eq!(bridge.metric("feed_connects_total"), 1.0);
    let shown = bridge.log() + &bridge.get("/status").1 + &bridge.get("/metrics").1;
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    bridge.terminate();
}

/// The destination has each event that was sent, once and in order; the bridge has ended.
fn is_whole(course: &Course, what: &str, landed: &[Landed]) {
    let (journal, sent) = (course.journal(), course.sent());
    assert_eq!(
        oracle::was_heard_without_a_hole(&journal, &sent),
        sent.len()
    );
    oracle::has_the_journal(what, landed, &journal);
}

/// The files of one who trusts this authority and has this certificate.
fn of<'a>(authority: &'a Authority, client: &'a Issued) -> [(&'static str, &'a str); 3] {
    [
        ("ca.pem", &authority.pem),
        ("client.pem", &client.certificate),
        ("client.key", &client.key),
    ]
}

/// Gives the sink another certificate of its authority, and then, with its server, another authority;
/// the certificate that it has at last.
fn certificates_change(
    bridge: &Bridge,
    sink: &str,
    secrets: &mut Mounted,
    (first, second): (&Authority, &Authority),
    serve_by_the_second: impl FnOnce(),
) -> Issued {
    publishes(bridge, sink, 500.0);
    // Those of the tests are good for two days.
    let series = format!("sink_certificate_expiry_timestamp_seconds{{sink=\"{sink}\"}}");
    let left = bridge.metric(&series) - Timestamp::now().as_seconds();
    assert!((86_400.0..=172_800.0).contains(&left), "{left} s");

    // The same authority: nothing but the client's own certificate.
    secrets.swap(&of(first, &first.issue()));
    let changed = Instant::now();
    taken_up(bridge, sink, 1);
    let what = format!("{sink}, another client certificate");
    took(&what, changed, TAKEN_UP);
    publishes(bridge, sink, 200.0);
    is_undisturbed(bridge, sink);

    // Another authority for both sides; the old ones are good for nothing any more.
    let client = second.issue();
    secrets.swap(&of(second, &client));
    serve_by_the_second();
    let restarted = Instant::now();
    publishes(bridge, sink, 500.0);
    let what = format!("{sink}, from a server with another authority to 500 records");
    took(&what, restarted, AFTER_A_CUT);
    client
}
