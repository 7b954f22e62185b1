//! The bridge beside what one would use instead, and beside what the libraries under it can do at all.
//!
//! `make bench`, or `make bench BENCH='kafka --events 100000'`. Needs a real Kafka and a real NATS, which
//! tests/beds/run.sh starts. Candidates take turns; each figure is the median of the rounds, with the
//! lowest and the highest. It judges nothing; docs/performance.md says what it showed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a benchmark tells its figures, which need no more bits than these"
)]

#[path = "bridge/candidate.rs"]
mod candidate;
#[path = "bridge/consumer.rs"]
mod consumer;
#[path = "bridge/growth.rs"]
mod growth;
#[path = "bridge/limits.rs"]
mod limits;
#[path = "bridge/run.rs"]
mod run;
#[path = "bridge/table.rs"]
mod table;
#[path = "bridge/vendor.rs"]
mod vendor;

use std::path::PathBuf;

use clap::Parser;

/// What to measure.
#[derive(Parser, Clone, Debug)]
struct Options {
    /// limits, kafka, jetstream, both, file, latency, growth; all of them where none is named
    parts: Vec<String>,
    #[arg(long, default_value_t = 300_000)]
    events: usize,
    #[arg(long, default_value_t = 10_000)]
    users: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Records in the journal that has grown, for `growth`.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Events of the backlog, for `growth`.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Leave the scripts out.
    #[arg(long)]
    alone: bool,
    /// Redpanda Connect 4, to take turns with: nothing fetches it.
    #[arg(long)]
    redpanda: Option<PathBuf>,
    /// Another bridge than the one of this build, to compare.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_onboarding-bridge"))]
    bridge: PathBuf,
    /// Say which threads took how much.
    #[arg(long)]
    threads: bool,
    /// An interpreter that has websockets, confluent-kafka and nats-py.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// As tests/beds/run.sh says it.
    #[arg(long, default_value_t = std::env::var("KAFKA_BOOTSTRAP").unwrap_or_default())]
    kafka: String,
    /// As tests/beds/run.sh says it.
    #[arg(long, default_value_t = std::env::var("NATS_URL").unwrap_or_default())]
    nats: String,
    /// What `cargo bench` says.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    // The limits are processes of their own, so that their CPU time can be told.
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "limit") {
        return limits::child(&arguments[2..]);
    }
    let options = Options::parse();
    let named =
        |part: &str| options.parts.is_empty() || options.parts.iter().any(|name| name == part);
    if named("limits") {
        limits::measure(&options);
    }
    for destination in run::Destination::ALL {
        if named(destination.name()) {
            run::throughput(&options, destination);
        }
    }
    if named("latency") {
        run::latency(&options);
    }
    if named("growth") {
        growth::measure(&options);
    }
}
