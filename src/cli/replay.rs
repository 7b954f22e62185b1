//! `replay`: set one sink's cursor back, so that it gets again what its destination has lost.
//!
//! It publishes nothing itself: it leaves a request in the journal's file. The bridge then asks the
//! destination what it holds and publishes only the rest.

use std::time::Duration;

use super::progress::Progress;
use super::{ConfigArgs, Failed, letters, moment, print};
use crate::config;
use crate::event::Timestamp;

/// A running bridge takes the request up within this time.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The sink whose cursor goes back
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// To before the first record received at this time: RFC 3339, or a span such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Timestamp,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let config = config::load(&args.config.config)?;
    if config.sinks.iter().all(|sink| sink.name() != args.sink) {
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name()).collect();
        return Err(Failed::Usage(format!(
            "there is no sink {}; the configuration has {}",
            args.sink,
            names.join(", ")
        )));
    }
    let desk = letters::desk(&config.journal)?;
    let asked = desk.ask_rewind(&args.sink, args.since, Timestamp::now(), args.dry_run)?;
    let Some(asked) = asked else {
        return Err(Failed::Usage(format!(
            "the journal does not know the sink {}: it has never run with it, so it has nothing to \
             replay",
            args.sink
        )));
    };
    let early = asked.oldest.is_none_or(|oldest| args.since < oldest);
    let Some(back_to) = asked.back_to else {
        return print(|out| {
            writeln!(
                out,
                "nothing to replay: the sink {} has received nothing from then on, or still has it \
                 before it",
                asked.sink
            )
        });
    };
    print(|out| {
        if let (true, Some(oldest)) = (early, asked.oldest) {
            writeln!(
                out,
                "the journal reaches back to {oldest} only: earlier records cannot be replayed"
            )?;
        }
        let (records, sink) = (asked.records, &asked.sink);
        if args.dry_run {
            return writeln!(
                out,
                "the cursor of {sink} would go back from {} to {back_to}: up to {records} record(s) \
                 would be published again, as far as the destination does not hold them",
                asked.cursor
            );
        }
        writeln!(
            out,
            "the cursor of {sink} goes back from {} to {back_to}: {records} record(s), of which those \
             are published again that the destination does not hold",
            asked.cursor
        )
    })?;
    if args.dry_run {
        return Ok(());
    }
    let progress = Progress::start("waiting for a running bridge to take it up");
    let taken_up = desk.wait_taken_up(&args.sink, PATIENCE)?;
    drop(progress);
    print(|out| {
        if taken_up {
            writeln!(out, "the running bridge has taken it up")
        } else {
            writeln!(
                out,
                "no running bridge has taken it up yet; it does when the sink is tried next, or at \
                 the next start"
            )
        }
    })
}
