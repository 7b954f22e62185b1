//! `demo`: the whole line in one process, watched by a consumer that knows nothing of the bridge.
//!
//! The simulator plays the vendor; the bridge is the same as under `run`; the topic is read back by
//! a client of its own. A third of the way in the vendor closes the connection, two thirds in it
//! leaves out two messages. The figures at the end come from the vendor's and the consumer's sides,
//! and the exit code says whether they add up.

mod show;
mod stage;
mod tally;

use std::io::Write;
use std::time::Duration;

use tokio::time::{Instant, Interval, interval, timeout};

use super::Failed;
use crate::app::AppError;
use crate::process;
use crate::shutdown::Signals;
use show::Show;
use stage::Stage;
use tally::Tally;

/// The demo ends by itself after this time, unless it was given a number of events.
const MINUTE: Duration = Duration::from_secs(60);

/// A given number of events is sent within this time.
const EVENTS_WITHIN: f64 = 30.0;

/// Events a second, at least.
const RATE_MIN: f64 = 10.0;

/// After the last event everything gets so long to arrive.
const PATIENCE: Duration = Duration::from_secs(45);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after this many events instead of after a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(30..=10_000_000))]
    events: Option<u64>,
    /// Users in the simulated world
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(5..=1_000_000))]
    users: u32,
    /// A real Kafka instead of the embedded one; a topic of its own is created there
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// A real NATS besides; a stream of its own is created there
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failed> {
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more")]
    let rate = args.events.map_or(RATE_MIN, |events| {
        (events as f64 / EVENTS_WITHIN).max(RATE_MIN)
    });
    let mut signals = Signals::new()?;
    let mut stage = Stage::set(&args, rate).await?;
    let mut show = Show::new(&stage);
    show.opening()?;
    stage.simulator.control().resume();
    tokio::select! {
        played = play(&args, &mut stage, &mut show) => played?,
        signal = signals.next() => show.say(&format!("{signal}: ending early"))?,
    }
    stage.simulator.control().pause();
    let settled = timeout(PATIENCE, settle(&mut stage, &mut show)).await;
    if !matches!(settled, Ok(Ok(()))) {
        show.say("not everything has arrived in time")?;
    }
    let tally = Tally::take(&stage)?;
    stage.end().await?;
    tally.print(&mut std::io::stdout().lock())?;
    std::io::stdout().flush()?;
    if tally.adds_up() {
        Ok(())
    } else {
        Err(Failed::Said(70))
    }
}

/// Runs the script to its end.
async fn play(args: &Args, stage: &mut Stage, show: &mut Show) -> Result<(), Failed> {
    let control = stage.simulator.control();
    let started = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    let (mut closed, mut gapped) = (false, false);
    loop {
        turn(stage, show, &mut ticks).await?;
        #[allow(clippy::cast_precision_loss, reason = "a progress needs no more")]
        let progress = match args.events {
            Some(events) => control.stats().events_sent as f64 / events as f64,
            None => started.elapsed().as_secs_f64() / MINUTE.as_secs_f64(),
        };
        if progress >= 1.0 {
            return Ok(());
        }
        if progress >= 1.0 / 3.0 && !closed {
            closed = true;
            show.say("the vendor closes the connection, and three users change meanwhile")?;
            control.close(1001).await;
            control.change_silently(3);
        }
        if progress >= 2.0 / 3.0 && !gapped {
            gapped = true;
            show.say("the vendor leaves out two messages")?;
            control.skip(2).await;
        }
    }
}

/// Waits until everything sent was heard, everything journalled was consumed, and every span in
/// which the feed was not heard is healed.
async fn settle(stage: &mut Stage, show: &mut Show) -> Result<(), Failed> {
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        turn(stage, show, &mut ticks).await?;
        if stage.is_settled()? && Tally::take(stage)?.adds_up() {
            return Ok(());
        }
    }
}

/// Shows the next record, or looks again when it is time.
async fn turn(stage: &mut Stage, show: &mut Show, ticks: &mut Interval) -> Result<(), Failed> {
    tokio::select! {
        seen = stage.consumers.next() => show.seen(seen?)?,
        _ = ticks.tick() => {}
        ended = stage.bridge.join_next() => return Err(ended_early(ended)),
    }
    show.look(stage)
}

fn ended_early(ended: Option<Result<Result<(), AppError>, tokio::task::JoinError>>) -> Failed {
    match ended {
        Some(Ok(Err(error))) => error.into(),
        Some(Err(error)) => AppError::Defect(process::end_of(&error)).into(),
        Some(Ok(Ok(()))) | None => AppError::Defect("the bridge has ended".to_owned()).into(),
    }
}
