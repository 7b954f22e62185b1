//! NATS: a password, a token, authorities and a client certificate.

use tokio::time::Instant;

use super::{
    AFTER_A_CUT, TAKEN_UP, certificates_change, end, errors, is_idle, is_undisturbed, is_whole,
    lines, of, options, publishes, taken_up, took,
};
use crate::support::beds::{self, OwnBed};
use crate::support::bridge::eventually;
use crate::support::certificates::Authority;
use crate::support::course::Course;
use crate::support::mounted::Mounted;
use crate::support::oracle;

/// What no line may show.
const FIRST: &str = "first-canary-5b0e";
const SECOND: &str = "second-canary-c3d7";
const THIRD: &str = "third-canary-18fa";

/// The bridge, with this password.
fn users(password: &str) -> String {
    format!("authorization {{ user: bridge, password: \"{password}\" }}\n")
}

/// A running server reads its users again, and drops those whose credentials are others now.
fn tell(bed: &OwnBed, users: &str) {
    let reloaded = || {
        let log = std::fs::read_to_string(bed.file("server.log")).unwrap();
        assert!(!log.contains("Failed to reload"), "{log}");
        log.matches("Reloaded server configuration").count()
    };
    let before = reloaded();
    std::fs::write(bed.file("users.conf"), users).unwrap();
    bed.signal("HUP");
    eventually("the users to be known", || {
        (reloaded() > before).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_password_that_changes_with_the_servers_costs_no_event() {
    let bed = OwnBed::nats_with(&["--profile", "acl"]);
    // Nobody has to log in while the test itself comes.
    tell(&bed, "");
    let course = Course::with(options(200.0), beds::kafka(), &bed.address).await;
    tell(&bed, &users(FIRST));
    let mut secrets = Mounted::new(&[("password", FIRST)]);
    let sink = format!(
        "  - {{name: nats, type: nats, url: '{}', stream: {}, subject_prefix: {}, control: false, \
         user: bridge, password_file: '{}'}}",
        bed.address,
        course.stream,
        course.prefix,
        secrets.path("password")
    );
    let bridge = course.start_with(&sink).await;
    is_idle(&bridge);

    // Nothing to publish; first the file, which nobody knows yet, then the server.
    secrets.swap(&[("password", SECOND)]);
    eventually("the password to be refused", || {
        let refused = lines(&bridge, "nats", "do not open its destination");
        (refused.len() == 1).then_some(())
    });
    tell(&bed, &users(SECOND));
    let changed = Instant::now();
    taken_up(&bridge, "nats", 1);
    took("NATS, idle, to the new connection", changed, TAKEN_UP);
    course.control.resume();
    publishes(&bridge, "nats", 500.0);
    is_undisturbed(&bridge, "nats");

    // In the midst of events, by a server that drops the connection.
    secrets.swap(&[("password", THIRD)]);
    tell(&bed, &users(THIRD));
    let cut = Instant::now();
    publishes(&bridge, "nats", 500.0);
    took("NATS, from the cut to 500 records", cut, AFTER_A_CUT);
    assert_eq!(errors(&bridge, "nats", "configuration"), 0.0);
    eventually("the old connection to be given up", || {
        let log = bridge.log();
        log.contains("max reconnection attempts").then_some(())
    });
    end(&course, bridge, &[FIRST, SECOND, THIRD]);
    tell(&bed, "");
    let landed = oracle::nats(&bed.address, &course.stream, &course.prefix).await;
    is_whole(&course, "nats", &landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_token_is_taken_up_before_the_next_record_needs_it() {
    let token = |token: &str| format!("authorization {{ token: \"{token}\" }}\n");
    let bed = OwnBed::nats_with(&["--profile", "acl"]);
    // Nobody has to log in while the test itself comes.
    tell(&bed, "");
    let course = Course::with(options(200.0), beds::kafka(), &bed.address).await;
    tell(&bed, &token(FIRST));
    let mut secrets = Mounted::new(&[("token", FIRST)]);
    let sink = format!(
        "  - {{name: nats, type: nats, url: '{}', stream: {}, subject_prefix: {}, control: false, \
         token_file: '{}'}}",
        bed.address,
        course.stream,
        course.prefix,
        secrets.path("token")
    );
    let bridge = course.start_with(&sink).await;
    is_idle(&bridge);
    secrets.swap(&[("token", SECOND)]);
    tell(&bed, &token(SECOND));
    let changed = Instant::now();
    taken_up(&bridge, "nats", 1);
    took(
        "NATS, another token, to the new connection",
        changed,
        TAKEN_UP,
    );
    course.control.resume();
    publishes(&bridge, "nats", 500.0);
    is_undisturbed(&bridge, "nats");
    end(&course, bridge, &[FIRST, SECOND]);
    tell(&bed, "");
    let landed = oracle::nats(&bed.address, &course.stream, &course.prefix).await;
    is_whole(&course, "nats", &landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorities_and_the_client_certificate_of_nats_are_changed_with_those_of_the_server() {
    let (first, second) = (Authority::new(), Authority::new());
    let (of_bed, client) = (tempfile::tempdir().unwrap(), first.issue());
    let serve_by = |authority: &Authority| {
        let server = authority.issue();
        std::fs::write(of_bed.path().join("server.pem"), server.certificate).unwrap();
        std::fs::write(of_bed.path().join("server.key"), server.key).unwrap();
        std::fs::write(of_bed.path().join("clients.pem"), &authority.pem).unwrap();
    };
    serve_by(&first);
    let folder = of_bed.path().display();
    let tls = format!(
        "tls={{ cert_file: \"{folder}/server.pem\", key_file: \"{folder}/server.key\", \
         ca_file: \"{folder}/clients.pem\", verify: true }}"
    );
    // The test itself comes without; the bridge, by `tls://`, never does.
    let bed = OwnBed::nats(&[&tls, "allow_non_tls=true"]);
    let course = Course::with(options(200.0), beds::kafka(), &bed.address).await;
    let mut secrets = Mounted::new(&of(&first, &client));
    let sink = format!(
        "  - {{name: nats, type: nats, url: '{}', stream: {}, subject_prefix: {}, control: false, \
         ca_file: '{}', client_cert_file: '{}', client_key_file: '{}'}}",
        bed.address.replace("nats://", "tls://"),
        course.stream,
        course.prefix,
        secrets.path("ca.pem"),
        secrets.path("client.pem"),
        secrets.path("client.key")
    );
    let bridge = course.start_with(&sink).await;
    is_idle(&bridge);
    course.control.resume();
    let client = certificates_change(&bridge, "nats", &mut secrets, (&first, &second), || {
        serve_by(&second);
        bed.restart();
    });
    end(&course, bridge, &[&client.key]);
    let landed = oracle::nats(&bed.address, &course.stream, &course.prefix).await;
    is_whole(&course, "nats", &landed);
}
