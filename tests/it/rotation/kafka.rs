//! Kafka: a password (SCRAM), authorities and a client certificate.

use std::time::Duration;

use onboarding_bridge::sink::kafka::tail::ensure_topic;
use tokio::time::{Instant, sleep};

use super::{
    AFTER_A_CUT, TAKEN_UP, certificates_change, end, errors, is_idle, is_undisturbed, is_whole,
    lines, of, options, publishes, taken_up, took,
};
use crate::support::beds::{self, OwnBed};
use crate::support::bridge::{Bridge, eventually, eventually_within};
use crate::support::certificates::Authority;
use crate::support::course::{Course, PARTITIONS};
use crate::support::kafka_admin::{grant, set_password};
use crate::support::mounted::Mounted;
use crate::support::oracle;
use crate::support::proxy::Proxy;

const ALL: [&str; 3] = ["WRITE", "DESCRIBE", "READ"];

/// What no line may show.
const FIRST: &str = "first-canary-7c1d";
const SECOND: &str = "second-canary-90ab";
const THIRD: &str = "third-canary-e44f";

/// A vendor, a Kafka behind a proxy at which one must log in by SCRAM, and the file with the password.
struct Scram {
    course: Course,
    bed: OwnBed,
    proxy: Proxy,
    secrets: Mounted,
}

impl Scram {
    async fn start(rate: f64) -> Self {
        let mut proxy = Proxy::bind().await;
        let jaas = "listener.name.client.scram-sha-256.sasl.jaas.config=\
            org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let bed = OwnBed::kafka_with(&[
            "--advertise",
            &proxy.address(),
            "--profile",
            "acl",
            "--set",
            "listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-256",
            "--set",
            jaas,
        ]);
        proxy.lead_to(&bed.address);
        let course = Course::with(options(rate), &bed.direct, beds::nats()).await;
        set_password(&bed.direct, "bridge", FIRST);
        let resource = format!("topic:{}", course.topic);
        grant(&bed.direct, "bridge", &resource, &ALL);
        Self {
            course,
            bed,
            proxy,
            secrets: Mounted::new(&[("password", FIRST)]),
        }
    }

    fn sink(&self, name: &str, topic: &str, more: &str) -> String {
        format!(
            "  - {{name: {name}, type: kafka, brokers: ['{}'], topic: {topic}, control: false, {more}\
             options: {{security.protocol: sasl_plaintext, sasl.mechanism: SCRAM-SHA-256, \
             sasl.username: bridge, sasl.password_file: '{}'}}}}",
            self.proxy.address(),
            self.secrets.path("password")
        )
    }

    async fn bridge(&self, sinks: &str) -> Bridge {
        let bridge = self.course.start_with(sinks).await;
        is_idle(&bridge);
        bridge
    }

    /// At the broker and in the file.
    fn rotate(&mut self, password: &str) {
        set_password(&self.bed.direct, "bridge", password);
        self.secrets.swap(&[("password", password)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_password_that_changes_just_before_the_connection_is_lost_costs_no_event() {
    let mut scram = Scram::start(200.0).await;
    let sink = scram.sink("kafka", &scram.course.topic, "");
    let bridge = scram.bridge(&sink).await;
    scram.course.control.resume();
    publishes(&bridge, "kafka", 500.0);
    for (times, password) in [(1.0, SECOND), (2.0, THIRD)] {
        scram.rotate(password);
        scram.proxy.cut();
        let cut = Instant::now();
        publishes(&bridge, "kafka", 500.0);
        took("Kafka, from the cut to 500 records", cut, AFTER_A_CUT);
        assert!(errors(&bridge, "kafka", "configuration") <= times);
    }
    end(&scram.course, bridge, &[FIRST, SECOND, THIRD]);
    let landed = oracle::kafka(&scram.bed.direct, &scram.course.topic);
    is_whole(&scram.course, "kafka", &landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_password_is_taken_up_before_the_next_record_needs_it_and_nobody_notices() {
    let mut scram = Scram::start(200.0).await;
    let topic = format!("{}-once", scram.course.topic);
    ensure_topic(&scram.bed.direct, &topic, PARTITIONS)
        .await
        .unwrap();
    let direct = &scram.bed.direct;
    grant(direct, "bridge", &format!("topic:{topic}"), &ALL);
    let id = format!("transactional:{topic}");
    grant(direct, "bridge", &id, &["WRITE", "DESCRIBE"]);
    let once = format!("exactly_once: true, transactional_id: {topic}, ");
    let sinks = [
        scram.sink("plain", &scram.course.topic, ""),
        scram.sink("once", &topic, &once),
    ];
    let bridge = scram.bridge(&sinks.join("\n")).await;

    // Nothing to publish.
    scram.rotate(SECOND);
    let changed = Instant::now();
    for sink in ["plain", "once"] {
        taken_up(&bridge, sink, 1);
    }
    took("Kafka, idle, to the new connection", changed, TAKEN_UP);
    scram.proxy.cut();
    scram.course.control.resume();
    for sink in ["plain", "once"] {
        publishes(&bridge, sink, 500.0);
    }

    // In the midst of events.
    scram.rotate(THIRD);
    let changed = Instant::now();
    for sink in ["plain", "once"] {
        taken_up(&bridge, sink, 2);
    }
    took("Kafka, busy, to the new connection", changed, TAKEN_UP);
    for sink in ["plain", "once"] {
        publishes(&bridge, sink, 500.0);
        is_undisturbed(&bridge, sink);
    }
    end(&scram.course, bridge, &[FIRST, SECOND, THIRD]);
    let landed = oracle::kafka(&scram.bed.direct, &scram.course.topic);
    is_whole(&scram.course, "plain", &landed);
    let landed = oracle::kafka_committed(&scram.bed.direct, &topic);
    is_whole(&scram.course, "once", &landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_good_yet_leaves_a_working_sink_alone_and_is_said_once() {
    let mut scram = Scram::start(100.0).await;
    let sink = scram.sink("kafka", &scram.course.topic, "");
    let bridge = scram.bridge(&sink).await;
    scram.course.control.resume();
    publishes(&bridge, "kafka", 200.0);
    let refused = || lines(&bridge, "kafka", "do not open its destination");
    // Empty, half of what it will be, and gone; the brokers know nothing of it yet.
    let half = "second-can";
    let states: [&[(&str, &str)]; 3] = [&[("password", "")], &[("password", half)], &[]];
    for (number, files) in states.into_iter().enumerate() {
        scram.secrets.swap(files);
        eventually("the file to be refused", || {
            (refused().len() == number + 1).then_some(())
        });
        publishes(&bridge, "kafka", 200.0);
    }
    // Two further looks.
    sleep(Duration::from_secs(21)).await;
    assert_eq!(refused().len(), 3, "once for each: {}", bridge.log());
    assert_eq!(lines(&bridge, "kafka", "rotated").len(), 0);
    assert_eq!(bridge.metric("sink_restarts_total{sink=\"kafka\"}"), 0.0);
    is_undisturbed(&bridge, "kafka");
    let words: Vec<_> = refused()
        .iter()
        .map(|line| line["reason"].to_string())
        .collect();
    assert!(
        words[0].contains("is empty") && words[2].contains("cannot be read"),
        "{words:?}"
    );

    scram.rotate(SECOND);
    let changed = Instant::now();
    taken_up(&bridge, "kafka", 1);
    took("Kafka, after three that were refused", changed, TAKEN_UP);
    publishes(&bridge, "kafka", 200.0);
    is_undisturbed(&bridge, "kafka");
    end(&scram.course, bridge, &[FIRST, SECOND, half]);
    let landed = oracle::kafka(&scram.bed.direct, &scram.course.topic);
    is_whole(&scram.course, "kafka", &landed);
}

/// What the broker has in its folder: its certificate with the key, and whom it lets in.
fn serve_by(folder: &std::path::Path, authority: &Authority) {
    let server = authority.issue();
    let both = server.key + &server.certificate;
    std::fs::write(folder.join("server.pem"), both).unwrap();
    std::fs::write(folder.join("clients.pem"), &authority.pem).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorities_and_the_client_certificate_of_kafka_are_changed_with_those_of_the_broker()
{
    let (first, second) = (Authority::new(), Authority::new());
    let (of_bed, client) = (tempfile::tempdir().unwrap(), first.issue());
    serve_by(of_bed.path(), &first);
    let map = "listener.security.protocol.map=CLIENT:SSL,CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT";
    let at = |store: &str, file: &str| {
        let path = of_bed.path().join(file);
        format!(
            "listener.name.client.ssl.{store}.location={}",
            path.display()
        )
    };
    let bed = OwnBed::kafka(&[
        map,
        "listener.name.client.ssl.client.auth=required",
        "listener.name.client.ssl.keystore.type=PEM",
        "listener.name.client.ssl.truststore.type=PEM",
        &at("keystore", "server.pem"),
        &at("truststore", "clients.pem"),
    ]);
    let course = Course::with(options(200.0), &bed.direct, beds::nats()).await;
    let mut secrets = Mounted::new(&of(&first, &client));
    // The authorities by librdkafka's own option, the others by ours.
    let sink = format!(
        "  - {{name: kafka, type: kafka, brokers: ['{}'], topic: {}, control: false, options: {{\
         security.protocol: ssl, ssl.ca.location: '{}', ssl.certificate.pem_file: '{}', \
         ssl.key.pem_file: '{}'}}}}",
        bed.address,
        course.topic,
        secrets.path("ca.pem"),
        secrets.path("client.pem"),
        secrets.path("client.key")
    );
    let bridge = course.start_with(&sink).await;
    is_idle(&bridge);
    course.control.resume();
    let client = certificates_change(&bridge, "kafka", &mut secrets, (&first, &second), || {
        serve_by(of_bed.path(), &second);
        bed.restart();
    });
    end(&course, bridge, &[&client.key]);
    let landed = oracle::kafka(&bed.direct, &course.topic);
    is_whole(&course, "kafka", &landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_waits_for_the_file_when_the_broker_is_ahead_of_it() {
    let mut scram = Scram::start(100.0).await;
    let control = format!("{}.control", scram.course.topic);
    ensure_topic(&scram.bed.direct, &control, 1).await.unwrap();
    let resource = format!("topic:{control}");
    grant(&scram.bed.direct, "bridge", &resource, &ALL);
    let sink = scram.sink("kafka", &scram.course.topic, "");
    let bridge = scram.bridge(&sink.replace("control: false, ", "")).await;
    let windows = |wanted: usize| {
        // Between two tries may be a minute, and each may take twenty seconds.
        let patience = Duration::from_secs(240);
        eventually_within(patience, "so many windows to be healed and told", || {
            let told = oracle::read_by_java(&scram.bed.direct, &control);
            let healed =
                |line: &&serde_json::Value| line.to_string().contains("healed_at\\\":\\\"");
            (told.iter().filter(healed).count() >= wanted).then_some(())
        });
    };
    windows(1);
    // The sink's own connection is open and good; a notice comes by one of its own, which is not.
    set_password(&scram.bed.direct, "bridge", SECOND);
    scram.course.control.close(1001).await;
    eventually("the second window to be healed", || {
        let healed = bridge.metric("reconcile_runs_total{outcome=\"success\"}");
        (healed >= 2.0).then_some(())
    });
    sleep(Duration::from_secs(15)).await;
    scram.secrets.swap(&[("password", SECOND)]);
    windows(2);
    let dropped = bridge.metric("sink_notices_dropped_total{sink=\"kafka\"}");
    assert_eq!(dropped, 0.0, "{}", bridge.log());
    is_undisturbed(&bridge, "kafka");
    bridge.terminate();
}
