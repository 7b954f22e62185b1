//! What the libraries can do with the same bytes and nothing around them; each is a process of its own.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::{SinkExt, StreamExt};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::Options;
use super::consumer;
use super::table::{self, Spread};
use super::vendor::{Frames, Vendor, event, user};

/// JetStream publishes that wait for their acknowledgement.
const WINDOW: usize = 1024;

pub(crate) fn measure(options: &Options) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let names = [
        "librdkafka alone, idempotent, acks=all",
        "JetStream alone, message ids",
        "WebSocket read and parse",
        "JetStream with a live consumer, message ids and the headers of a record",
    ];
    let mut rounds: [Vec<(f64, f64)>; 4] = Default::default();
    let frames = Arc::new(Frames::new(0, options.events, options.users));
    for round in 0..options.rounds {
        let topic = format!("limit-{}-{round}", std::process::id());
        runtime.block_on(consumer::create_topic(&options.kafka, &topic));
        rounds[0].push(child_of(options, &["kafka", &options.kafka, &topic]).wait());
        runtime.block_on(consumer::delete_topic(&options.kafka, &topic));
        runtime.block_on(consumer::create_stream(&options.nats, &topic));
        rounds[1].push(child_of(options, &["nats", &options.nats, &topic]).wait());
        let vendor = Vendor::start();
        let child = child_of(
            options,
            &["feed", &format!("ws://{}/ws", vendor.address), ""],
        );
        vendor
            .subscribed(Duration::from_secs(30))
            .expect("the child subscribes");
        let sent = vendor.send(&frames, None);
        rounds[2].push(child.wait());
        drop(sent);
        runtime.block_on(consumer::create_stream(&options.nats, &topic));
        let live = consumer::nats(&options.nats, 0, options.events);
        rounds[3].push(child_of(options, &["nats-headers", &options.nats, &topic]).wait());
        live.end();
    }
    let words = format!(
        "Limits, {} events, {} rounds",
        options.events, options.rounds
    );
    table::title(&words, &["events/s", "CPU s per million"]);
    for (name, figures) in names.iter().zip(&rounds) {
        let rate: Vec<f64> = figures.iter().map(|figures| figures.0).collect();
        let cpu: Vec<f64> = figures.iter().map(|figures| figures.1).collect();
        table::row(
            name,
            &[Spread::of(&rate).words(0), Spread::of(&cpu).words(2)],
        );
    }
}

struct Running(std::process::Child);

impl Running {
    /// Events a second, and CPU seconds per million.
    fn wait(self) -> (f64, f64) {
        let output = self.0.wait_with_output().expect("a child");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut figures = text
            .split_whitespace()
            .filter_map(|figure| figure.parse().ok());
        (
            figures.next().expect("a rate"),
            figures.next().expect("a time"),
        )
    }
}

fn child_of(options: &Options, arguments: &[&str]) -> Running {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("limit").args(arguments);
    command
        .arg(options.events.to_string())
        .arg(options.users.to_string());
    Running(
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a child"),
    )
}

/// A child: what, server, place, events, users.
pub(crate) fn child(arguments: &[String]) {
    let [what, server, place, events, users] = arguments else {
        panic!("five arguments");
    };
    let (events, users): (usize, usize) = (
        events.parse().expect("a number"),
        users.parse().expect("a number"),
    );
    // As long as what the bridge publishes.
    let bodies: Vec<(String, String)> = match what.as_str() {
        "feed" => Vec::new(),
        _ => (0..events)
            .map(|number| {
                (
                    format!("client_{:08}", user(number, users)),
                    event(number, user(number, users)),
                )
            })
            .collect(),
    };
    let before = cpu();
    let elapsed = match what.as_str() {
        "kafka" => kafka(server, place, &bodies),
        "nats" => runtime().block_on(nats(server, place, &bodies, &[])),
        "nats-headers" => runtime().block_on(nats(server, place, &bodies, &HEADERS)),
        _ => runtime().block_on(feed(server, events)),
    };
    let cpu = cpu() - before;
    table::say(&format!(
        "{} {}",
        events as f64 / elapsed.as_secs_f64(),
        cpu / events as f64 * 1e6
    ));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("threads")
}

fn cpu() -> f64 {
    super::candidate::cpu_of(std::process::id())
}

fn kafka(brokers: &str, topic: &str, bodies: &[(String, String)]) -> Duration {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "1")
        .create()
        .expect("a producer");
    let started = Instant::now();
    for (key, body) in bodies {
        let mut record = BaseRecord::to(topic).key(key).payload(body);
        while let Err((error, again)) = producer.send(record) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::QueueFull)
            );
            std::thread::sleep(Duration::from_millis(1));
            record = again;
        }
    }
    while producer.in_flight_count() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    started.elapsed()
}

/// As many and as long as those of a record.
const HEADERS: [(&str, &str); 9] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "0b5f2c7e9d1a4c38a6f0e1d2c3b4a596"),
    ("ce-source", "/sfox/private.enterprise.users"),
    ("ce-type", "com.sfox.connect.user.updated.v1"),
    ("ce-time", "2024-05-29T17:55:27.995988841Z"),
    ("ce-subject", "client_00000000"),
    ("ce-partitionkey", "client_00000000"),
    ("ce-dataschema", "urn:onboarding-bridge:event:v1"),
    ("ce-datacontenttype", "application/json"),
];

async fn nats(
    url: &str,
    prefix: &str,
    bodies: &[(String, String)],
    more: &[(&str, &str)],
) -> Duration {
    let context = jetstream::new(async_nats::connect(url).await.expect("a server"));
    let started = Instant::now();
    let answers =
        futures_util::stream::iter(bodies.iter().enumerate()).map(|(number, (key, body))| {
            let context = context.clone();
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{number:032}"));
            if !more.is_empty() {
                headers.insert("Nats-Expected-Stream", consumer::STREAM);
            }
            more.iter()
                .for_each(|(name, value)| headers.insert(*name, *value));
            let subject = format!("{prefix}.{key}");
            let body = bytes::Bytes::copy_from_slice(body.as_bytes());
            async move {
                let answer = context
                    .publish_with_headers(subject, headers, body)
                    .await
                    .expect("sent");
                answer.await.expect("acknowledged")
            }
        });
    let mut answers = answers.buffer_unordered(WINDOW);
    while answers.next().await.is_some() {}
    started.elapsed()
}

/// The fields that a reader takes.
#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "they are parsed, which is the work")]
struct Frame<'a> {
    sequence: i64,
    timestamp: i64,
    recipient: &'a str,
    payload: Payload<'a>,
}

#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "they are parsed, which is the work")]
struct Payload<'a> {
    user_id: &'a str,
    email: &'a str,
    first_name: &'a str,
    last_name: &'a str,
    phone_number: &'a str,
    status: &'a str,
    requirements: serde_json::Value,
}

async fn feed(url: &str, events: usize) -> Duration {
    let (mut socket, _) = tokio_tungstenite::connect_async(url)
        .await
        .expect("a vendor");
    for _ in 0..2 {
        socket.send(Message::text("{}")).await.expect("sent");
        socket.next().await.expect("a reply").expect("a reply");
    }
    let mut started = None;
    for _ in 0..events {
        let message = socket.next().await.expect("an event").expect("an event");
        started.get_or_insert_with(Instant::now);
        let Message::Text(text) = message else {
            continue;
        };
        let frame: Frame<'_> = serde_json::from_str(&text).expect("an event");
        std::hint::black_box(&frame);
    }
    started.expect("an event").elapsed()
}
