//! Feed to consumer: at full speed, and at a rate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::candidate::{Candidate, Kind, Target};
use super::consumer::{self, Live};
use super::table::{self, Spread, percentile};
use super::vendor::{Frames, Vendor};

/// Events before those that count, so that everything is open and warm.
pub(crate) const WARM: usize = 5000;

/// Events of a run at a rate.
const SECONDS: f64 = 10.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Kafka,
    JetStream,
    Both,
    File,
}

impl Destination {
    pub(crate) const ALL: [Self; 4] = [Self::Kafka, Self::JetStream, Self::Both, Self::File];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::JetStream => "jetstream",
            Self::Both => "both",
            Self::File => "file",
        }
    }

    fn has_script(self) -> bool {
        matches!(self, Self::Kafka | Self::JetStream)
    }
}

/// What one run showed.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) cpu: f64,
    idle: f64,
    pub(crate) peak: f64,
    subscribed: f64,
    drain: f64,
    /// Milliseconds, p50, p99, p99.9.
    latency: [f64; 3],
}

/// Fills a folder.
pub(crate) type Prepare = Box<dyn Fn(&Path)>;

/// Servers, and the runtime that speaks to them.
pub(crate) struct Stage<'a> {
    options: &'a Options,
    runtime: tokio::runtime::Runtime,
    folder: PathBuf,
    runs: usize,
    /// Topics of Kafka, each with a sink.
    pub(crate) topics: usize,
    /// Makes what the candidate finds in its folder.
    pub(crate) prepare: Option<Prepare>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        Self {
            options,
            runtime: tokio::runtime::Runtime::new().expect("threads"),
            // Beside the build, so on a disk and not in memory.
            folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench"),
            runs: 0,
            topics: 1,
            prepare: None,
        }
    }

    /// The rounds of the bridge alone.
    pub(crate) fn bridge(
        &mut self,
        destination: Destination,
        frames: &[Arc<Frames>; 2],
    ) -> Vec<Figures> {
        let rounds = 0..self.options.rounds;
        let run = |_| self.run(Kind::Bridge, destination, frames, None);
        rounds.map(run).collect()
    }

    /// The candidates for a destination, each with its rounds; they take turns.
    fn turns(
        &mut self,
        destination: Destination,
        frames: &[Arc<Frames>; 2],
        rate: Option<f64>,
    ) -> Vec<(Kind, Vec<Figures>)> {
        let mut kinds = Vec::new();
        if destination.has_script() && !self.options.alone {
            kinds.push(Kind::Script);
            kinds.extend(self.options.redpanda.as_ref().map(|_| Kind::Redpanda));
        }
        kinds.push(Kind::Bridge);
        let mut turns: Vec<_> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        for _ in 0..self.options.rounds {
            for (kind, rounds) in &mut turns {
                rounds.push(self.run(*kind, destination, frames, rate));
            }
        }
        turns
    }

    /// One process, warmed up and measured.
    fn run(
        &mut self,
        kind: Kind,
        destination: Destination,
        frames: &[Arc<Frames>; 2],
        rate: Option<f64>,
    ) -> Figures {
        self.runs += 1;
        let folder = self
            .folder
            .join(format!("{}-{}", std::process::id(), self.runs));
        std::fs::create_dir_all(&folder).expect("a folder");
        if let Some(prepare) = &self.prepare {
            prepare(&folder);
        }
        let topic = format!("bench-{}-{}", std::process::id(), self.runs);
        let prefix = topic.clone();
        let mut target = Target::default();
        if matches!(destination, Destination::Kafka | Destination::Both) {
            for number in 0..self.topics {
                let topic = format!("{topic}-{number}");
                self.runtime
                    .block_on(consumer::create_topic(&self.options.kafka, &topic));
                target.kafka.push((self.options.kafka.clone(), topic));
            }
        }
        if matches!(destination, Destination::JetStream | Destination::Both) {
            self.runtime
                .block_on(consumer::create_stream(&self.options.nats, &prefix));
            target.nats.push((self.options.nats.clone(), prefix));
        }
        if destination == Destination::File {
            target.file = Some(folder.join("events.jsonl"));
        }
        let vendor = Vendor::start();
        let address = vendor.address.to_string();
        let candidate = match kind {
            Kind::Bridge => Candidate::bridge(&self.options.bridge, &folder, &address, &target),
            Kind::Script => Candidate::script(&self.options.python, &folder, &address, &target),
            Kind::Redpanda => {
                let program = self.options.redpanda.as_ref().expect("it was asked for");
                Candidate::redpanda(program, &folder, &address, &target)
            }
        };
        let Some(subscribed) = vendor.subscribed(Duration::from_secs(30)) else {
            panic!("no subscription; see {}", folder.display());
        };
        let started = candidate.started;
        std::thread::sleep(Duration::from_millis(1500));
        let idle = candidate.memory().0;
        self.pass(&vendor, &target, &frames[0], 0, None);
        std::thread::sleep(Duration::from_millis(300));
        let before = candidate.cpu();
        let (elapsed, latency) = self.pass(&vendor, &target, &frames[1], WARM, rate);
        // What follows the last event, such as a cursor, is part of the work.
        std::thread::sleep(Duration::from_millis(300));
        let cpu = candidate.cpu() - before;
        let peak = candidate.memory().1;
        if self.options.threads {
            table::say(&format!("{:?}", candidate.threads()));
        }
        let drain = candidate.end();
        for (brokers, topic) in &target.kafka {
            self.runtime
                .block_on(consumer::delete_topic(brokers, topic));
        }
        std::fs::remove_dir_all(&folder).unwrap_or_default();
        let count = frames[1].count() as f64;
        Figures {
            rate: count / elapsed,
            cpu: cpu / count * 1e6,
            idle,
            peak,
            subscribed: (subscribed - started).as_secs_f64() * 1e3,
            drain: drain.as_secs_f64() * 1e3,
            latency,
        }
    }

    /// Sends the events and waits until every consumer has all of them.
    fn pass(
        &self,
        vendor: &Vendor,
        target: &Target,
        frames: &Arc<Frames>,
        from: usize,
        rate: Option<f64>,
    ) -> (f64, [f64; 3]) {
        let count = frames.count();
        let mut live: Vec<Live> = Vec::new();
        for (brokers, topic) in &target.kafka {
            live.push(consumer::kafka(brokers, topic, from, count));
        }
        for (url, _) in &target.nats {
            live.push(consumer::nats(url, from, count));
        }
        if let Some(path) = &target.file {
            live.push(consumer::file(path, from, count));
        }
        let sent = vendor.send(frames, rate);
        let arrived: Vec<_> = live.into_iter().map(Live::end).collect();
        let sent = sent
            .recv_timeout(Duration::from_secs(60))
            .expect("the vendor has sent all");
        let mut elapsed = 0.0_f64;
        let mut waits = Vec::new();
        for arrived in &arrived {
            let (missing, doubled) = (arrived.missing(), arrived.doubled);
            assert!(
                missing == 0,
                "{missing} events of {count} did not come, {doubled} came twice"
            );
            let last = arrived.last().expect("the last");
            elapsed = elapsed.max((last - sent.started).as_secs_f64());
            waits.extend(
                sent.times
                    .iter()
                    .zip(&arrived.times)
                    .filter_map(|(sent, arrived)| {
                        Some(
                            (arrived.as_ref()?.saturating_duration_since(*sent)).as_secs_f64()
                                * 1e3,
                        )
                    }),
            );
        }
        let latency = [50.0, 99.0, 99.9].map(|percent| percentile(&mut waits, percent));
        (elapsed, latency)
    }
}

pub(crate) fn throughput(options: &Options, destination: Destination) {
    let mut stage = Stage::new(options);
    let frames = [
        Arc::new(Frames::new(0, WARM, options.users)),
        Arc::new(Frames::new(WARM, options.events, options.users)),
    ];
    let turns = stage.turns(destination, &frames, None);
    table::title(
        &format!(
            "Feed to {}, full speed, {} events of {} users, {} rounds",
            destination.name(),
            options.events,
            options.users,
            options.rounds
        ),
        &[
            "events/s",
            "CPU s per million",
            "idle MiB",
            "peak MiB",
            "start to subscribed ms",
            "drain ms",
        ],
    );
    for (kind, rounds) in turns {
        let of = |figure| spread(&rounds, figure);
        table::row(
            kind.name(),
            &[
                of(|f| f.rate).words(0),
                of(|f| f.cpu).words(2),
                of(|f| f.idle).words(1),
                of(|f| f.peak).words(1),
                of(|f| f.subscribed).words(1),
                of(|f| f.drain).words(0),
            ],
        );
    }
}

pub(crate) fn spread(rounds: &[Figures], figure: fn(&Figures) -> f64) -> Spread {
    Spread::of(&rounds.iter().map(figure).collect::<Vec<_>>())
}

pub(crate) fn latency(options: &Options) {
    let mut stage = Stage::new(options);
    for rate in [1000.0, 5000.0] {
        let frames = [
            Arc::new(Frames::new(0, WARM, options.users)),
            Arc::new(Frames::new(WARM, (rate * SECONDS) as usize, options.users)),
        ];
        table::title(
            &format!(
                "Sent to seen at {rate} events/s for {SECONDS} s, {} rounds",
                options.rounds
            ),
            &["p50 ms", "p99 ms", "p99.9 ms", "CPU s per million"],
        );
        for destination in Destination::ALL {
            for (kind, rounds) in stage.turns(destination, &frames, Some(rate)) {
                let of = |figure| spread(&rounds, figure);
                table::row(
                    &format!("{}: {}", destination.name(), kind.name()),
                    &[
                        of(|f| f.latency[0]).words(2),
                        of(|f| f.latency[1]).words(2),
                        of(|f| f.latency[2]).words(2),
                        of(|f| f.cpu).words(1),
                    ],
                );
            }
        }
    }
}
