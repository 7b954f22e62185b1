//! The proof by chaos: the real bridge between a vendor that knows what it wrote and real servers whose
//! content is read back, while processes are killed, stopped and cut off; everything by seed.
//!
//! `cargo test --test chaos` is the short form, `make chaos` the long one; docs/chaos.md explains the table
//! that it prints. The exit code is 1 if anything was lost, doubled, out of order or unexplained.
#![allow(
    clippy::unwrap_used,
    reason = "a run may fail by panic, and is reported with its seed"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is for people"
)]

mod beds;
mod bridge;
mod evidence;
mod oracle;
mod proxy;
mod report;
mod rng;
mod scenario;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use report::{Report, Run};
use rng::Rng;
use scenario::Scenario;
use world::Scale;

/// Runs the real bridge against real servers under faults, and holds what arrived against what was sent.
/// Without --runs, --minutes and --scenario: the short form, some ten minutes of everything.
#[derive(Debug, clap::Parser)]
struct Args {
    /// First seed; the runs after it take the next ones [default: random, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// So many runs
    #[arg(long)]
    runs: Option<u64>,
    /// Runs until so many minutes are over
    #[arg(long, conflicts_with = "runs")]
    minutes: Option<u64>,
    /// What happens in the runs [default: chosen by the seed of each]
    #[arg(long)]
    scenario: Option<Scenario>,
    /// Events per second
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Users in the vendor's world
    #[arg(long, default_value_t = 5000)]
    users: u32,
    /// Kills of one run, or other faults of that weight [default: what suits the scenario]
    #[arg(long)]
    faults: Option<u64>,
    /// The sinks' `settle` [default: 2s, in the short form 500ms]
    #[arg(long, value_parser = humantime::parse_duration)]
    settle: Option<Duration>,
    /// How long a sink is away in the scenario `outage` [default: 10m, in the short form 1m]
    #[arg(long, value_parser = humantime::parse_duration)]
    outage: Option<Duration>,
    /// How late bytes to the brokers are in the scenario `late`
    #[arg(long, default_value = "300ms", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// Transactions in Kafka, and a reader that sees only what is committed
    #[arg(long)]
    exactly_once: bool,
    /// Another build of the bridge; a release has no fail-points
    #[arg(long)]
    program: Option<std::path::PathBuf>,
    /// Keep the folder of every run, not only of those that failed
    #[arg(long)]
    keep: bool,
    /// Write the table to this file as JSON, too
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// How often the short form goes through all of them, each time with other seeds: ten minutes and more.
const SHORT_ROUNDS: usize = 2;

/// The short form: enough of everything for each change.
const SHORT: [(Scenario, u64); 11] = [
    (Scenario::Kill, 12),
    (Scenario::Calm, 12),
    (Scenario::Points, 2),
    (Scenario::Stop, 5),
    (Scenario::Brokers, 4),
    (Scenario::KafkaLeader, 2),
    (Scenario::NatsLeader, 2),
    (Scenario::Network, 6),
    (Scenario::Feed, 8),
    (Scenario::Disk, 2),
    (Scenario::Mixed, 8),
];

/// From so many minutes on, the long outage of a sink is one of the runs.
const LONG: u64 = 30;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(program) = &args.program {
        bridge::PROGRAM.get_or_init(|| program.clone());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let report = runtime.block_on(run(&args));
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()).unwrap();
    }
    ExitCode::from(u8::from(!report.is_clean()))
}

async fn run(args: &Args) -> Report {
    let seed = args.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("chaos: first seed {seed}");
    let mut report = Report::default();
    if args.runs.is_none() && args.minutes.is_none() && args.scenario.is_none() {
        let rounds = [SHORT; SHORT_ROUNDS].into_iter().flatten();
        for (seed, (scenario, faults)) in (seed..).zip(rounds) {
            let scale = scale(args, Some(faults), 500, 60);
            report.add(one(args, scenario, seed, scale).await);
        }
        // With the usual `settle`, which is what it is about.
        let late = scale(args, None, 2_000, 60);
        report.add(one(args, Scenario::Late, seed, late).await);
        return report;
    }
    let started = Instant::now();
    let minutes = args
        .minutes
        .map(|minutes| Duration::from_secs(60 * minutes));
    let runs = args.runs.unwrap_or(minutes.map_or(1, |_| u64::MAX));
    if args.scenario.is_none() && args.minutes >= Some(LONG) {
        report.add(one(args, Scenario::Outage, seed, scale(args, None, 2_000, 600)).await);
    }
    for seed in (seed..).take(usize::try_from(runs).unwrap_or(usize::MAX)) {
        if minutes.is_some_and(|minutes| started.elapsed() >= minutes) {
            break;
        }
        let chosen = Rng::new(seed).pick(&Scenario::CHOICE);
        let scenario = args.scenario.unwrap_or(chosen);
        report.add(one(args, scenario, seed, scale(args, None, 2_000, 600)).await);
    }
    report
}

/// What was asked for, and else this.
fn scale(args: &Args, faults: Option<u64>, settle: u64, outage: u64) -> Scale {
    Scale {
        rate: args.rate,
        users: args.users,
        faults: args.faults.or(faults),
        settle: args.settle.unwrap_or(Duration::from_millis(settle)),
        hold: args.hold,
        exactly_once: args.exactly_once,
        outage: args.outage.unwrap_or(Duration::from_secs(outage)),
    }
}

/// One run, in a task of its own so that a panic ends no other.
async fn one(args: &Args, scenario: Scenario, seed: u64, scale: Scale) -> Run {
    let folder = tempfile::Builder::new()
        .prefix(&format!("chaos-{seed}-"))
        .tempdir()
        .unwrap();
    let path = folder.path().to_owned();
    let started = Instant::now();
    let mut task = JoinSet::new();
    task.spawn(async move { scenario.run(seed, scale, &path).await });
    let outcome = task.join_next().await.expect("it was spawned");
    let run = Run::new(scenario, seed, scale, outcome.ok(), started.elapsed());
    println!("{run}");
    if args.keep || !run.is_clean() {
        println!("  kept: {}", folder.keep().display());
    }
    run
}
