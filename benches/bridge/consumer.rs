//! A live consumer of a destination: notes when each event became visible, and that it came once.

use std::sync::mpsc;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::time::Instant;

use super::vendor::MARK;

/// Partitions of each topic.
pub(crate) const PARTITIONS: i32 = 6;

/// Nothing came for so long: the run has failed.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What arrived of one run.
pub(crate) struct Arrived {
    /// When each event was seen first.
    pub(crate) times: Vec<Option<Instant>>,
    pub(crate) doubled: usize,
}

impl Arrived {
    pub(crate) fn missing(&self) -> usize {
        self.times.iter().filter(|time| time.is_none()).count()
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        self.times.iter().flatten().max().copied()
    }
}

/// Counts events by their mark until all are there, or none comes any more.
struct Count {
    from: usize,
    arrived: Arrived,
    left: usize,
}

impl Count {
    fn new(from: usize, count: usize) -> Self {
        let arrived = Arrived {
            times: vec![None; count],
            doubled: 0,
        };
        Self {
            from,
            arrived,
            left: count,
        }
    }

    fn take(&mut self, body: &[u8]) {
        let at = body.windows(MARK.len()).position(|window| window == MARK);
        let number = at.and_then(|at| {
            let digits = body.get(at + MARK.len()..at + MARK.len() + 8)?;
            std::str::from_utf8(digits).ok()?.parse::<usize>().ok()
        });
        let place =
            number.and_then(|number| self.arrived.times.get_mut(number.checked_sub(self.from)?));
        match place {
            Some(place) if place.is_none() => {
                *place = Some(Instant::now());
                self.left -= 1;
            }
            _ => self.arrived.doubled += 1,
        }
    }
}

/// A consumer that runs until it has seen its events.
pub(crate) struct Live(std::thread::JoinHandle<Arrived>);

impl Live {
    pub(crate) fn end(self) -> Arrived {
        self.0.join().expect("a consumer does not panic")
    }
}

pub(crate) async fn create_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("a client");
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let made = admin
        .create_topics([&new], &options)
        .await
        .expect("a broker");
    made.into_iter()
        .for_each(|topic| drop(topic.expect("a topic")));
    tokio::time::sleep(Duration::from_millis(300)).await;
}

pub(crate) async fn delete_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("a client");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    drop(admin.delete_topics(&[topic], &options).await);
}

/// Follows a topic from its present end on.
pub(crate) fn kafka(brokers: &str, topic: &str, from: usize, count: usize) -> Live {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "false")
        .create()
        .expect("a consumer");
    let mut places = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let (_, end) = consumer
            .fetch_watermarks(topic, partition, Duration::from_secs(30))
            .expect("a partition");
        places
            .add_partition_offset(topic, partition, Offset::Offset(end))
            .expect("a place");
    }
    consumer.assign(&places).expect("an assignment");
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut count = Count::new(from, count);
        drop(consumer.poll(Duration::from_millis(300)));
        ready.send(()).expect("the run waits");
        while count.left > 0 {
            match consumer.poll(STANDSTILL) {
                Some(Ok(message)) => count.take(message.payload().unwrap_or_default()),
                Some(Err(error)) => eprintln!("consumer: {error}"),
                None => break,
            }
        }
        count.arrived
    });
    is_ready.recv().expect("the consumer lives");
    Live(thread)
}

pub(crate) const STREAM: &str = "BENCH";

/// A stream for all subjects below a prefix, empty.
pub(crate) async fn create_stream(url: &str, prefix: &str) {
    let context = jetstream::new(async_nats::connect(url).await.expect("a server"));
    drop(context.delete_stream(STREAM).await);
    context
        .create_stream(jetstream::stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{prefix}.>")],
            ..Default::default()
        })
        .await
        .expect("a stream");
}

/// Follows the stream from its present end on.
pub(crate) fn nats(url: &str, from: usize, count: usize) -> Live {
    let url = url.to_owned();
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let client = async_nats::connect(&url).await.expect("a server");
            let context = jetstream::new(client.clone());
            let stream = context.get_stream(STREAM).await.expect("a stream");
            let config = jetstream::consumer::push::OrderedConfig {
                deliver_subject: client.new_inbox(),
                deliver_policy: jetstream::consumer::DeliverPolicy::New,
                ..Default::default()
            };
            let consumer = stream.create_consumer(config).await.expect("a consumer");
            let mut messages = consumer.messages().await.expect("messages");
            ready.send(()).expect("the run waits");
            let mut count = Count::new(from, count);
            while count.left > 0 {
                match tokio::time::timeout(STANDSTILL, messages.next()).await {
                    Ok(Some(Ok(message))) => count.take(&message.payload),
                    Ok(Some(Err(error))) => eprintln!("consumer: {error}"),
                    Ok(None) | Err(_) => break,
                }
            }
            count.arrived
        })
    });
    is_ready.recv().expect("the consumer lives");
    Live(thread)
}

/// Follows a file of lines.
pub(crate) fn file(path: &std::path::Path, from: usize, count: usize) -> Live {
    let path = path.to_owned();
    Live(std::thread::spawn(move || {
        use std::io::BufRead;
        let mut count = Count::new(from, count);
        let mut quiet = Instant::now();
        while !path.exists() && quiet.elapsed() < STANDSTILL {
            std::thread::sleep(Duration::from_millis(1));
        }
        let Ok(file) = std::fs::File::open(&path) else {
            return count.arrived;
        };
        let mut reader = std::io::BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        while count.left > 0 && quiet.elapsed() < STANDSTILL {
            match reader.read_until(b'\n', &mut line) {
                Ok(bytes) if bytes > 0 && line.ends_with(b"\n") => {
                    count.take(&line);
                    line.clear();
                    quiet = Instant::now();
                }
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        count.arrived
    }))
}
