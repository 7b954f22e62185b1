//! `dead-letters`: look at what was set aside, publish it again, or drop it.
//!
//! It works on the journal's file, beside a running bridge or without one. It publishes nothing itself:
//! it leaves a request, which the bridge takes up within two seconds or at its next start.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{ConfigArgs, Failed, moment, print};
use crate::config::{self, Config, JournalConfig, SinkConfig};
use crate::event::Timestamp;
use crate::journal::{Desk, Letter, LetterFilter, LetterSummary};

/// The stage of frames that could not become an event.
const NORMALISE: &str = "normalise";

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// List dead letters, oldest first
    #[command(after_help = "Example:
  onboarding-bridge dead-letters list --config bridge.yaml --stage kafka --since 2h")]
    List(List),
    /// Show one dead letter with all that is kept of it
    #[command(
        after_help = "Its content is what the privacy policy allowed: a record as the sink would \
        have got it, or of a frame only its shape.

Example:
  onboarding-bridge dead-letters show 7 --config bridge.yaml"
    )]
    Show(Show),
    /// Publish dead letters again, each to the sink that refused it
    #[command(
        after_help = "The bridge publishes a record again to that sink alone, with the same event \
        id, and deletes the letter once it is acknowledged; refused again, the letter stays. It comes \
        after later events of its user: consumers that keep a state compare occurred_at.
Of a frame (stage normalise) only its shape was kept. For such a letter the vendor's list is compared \
        instead, which brings the user's state; the letter is dropped when that has succeeded.

Example:
  onboarding-bridge dead-letters replay 7 8 --config bridge.yaml
  onboarding-bridge dead-letters replay --all --stage kafka --config bridge.yaml"
    )]
    Replay(Which),
    /// Drop dead letters for good
    #[command(after_help = "It asks nothing: what it drops is gone.

Example:
  onboarding-bridge dead-letters drop 7 --config bridge.yaml
  onboarding-bridge dead-letters drop --all --stage normalise --config bridge.yaml")]
    Drop(Which),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only of this stage: `normalise`, or the name of a sink
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Only of this reason, as dead_letters_total has it
    #[arg(long)]
    reason: Option<String>,
    /// Only those set aside since: RFC 3339, or a span such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    config: ConfigArgs,
    /// The number of the letter
    id: i64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    config: ConfigArgs,
    /// The numbers of the letters
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<i64>,
    /// All of them, or all of a stage
    #[arg(long)]
    all: bool,
    /// With --all: only of this stage
    #[arg(long, value_name = "NAME", requires = "all")]
    stage: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    match args {
        Args::List(args) => list(args),
        Args::Show(args) => show(args),
        Args::Replay(which) => replay(which),
        Args::Drop(which) => drop_letters(which),
    }
}

fn open(config: &ConfigArgs) -> Result<(Config, Desk), Failed> {
    let config = config::load(&config.config)?;
    let desk = desk(&config.journal)?;
    Ok((config, desk))
}

/// A stage that is neither configured nor in the journal is a slip of the pen, not an empty list.
fn stage_is_known(stage: Option<&String>, config: &Config, desk: &Desk) -> Result<(), Failed> {
    let Some(stage) = stage else { return Ok(()) };
    let filter = LetterFilter {
        stage: Some(stage.clone()),
        limit: Some(1),
        ..LetterFilter::default()
    };
    if is_stage(config, stage) || !desk.letters(&filter)?.is_empty() {
        return Ok(());
    }
    let sinks = config.sinks.iter().map(SinkConfig::name);
    let stages: Vec<&str> = std::iter::once(NORMALISE).chain(sinks).collect();
    Err(Failed::Usage(format!(
        "there is no stage {stage:?}: the stages are {}",
        stages.join(", ")
    )))
}

fn is_stage(config: &Config, stage: &str) -> bool {
    stage == NORMALISE || config.sinks.iter().any(|sink| sink.name() == stage)
}

pub(super) fn desk(config: &JournalConfig) -> Result<Desk, Failed> {
    Ok(Desk::open(config)?)
}

fn list(args: &List) -> Result<(), Failed> {
    let (config, desk) = open(&args.config)?;
    stage_is_known(args.stage.as_ref(), &config, &desk)?;
    let filter = LetterFilter {
        ids: None,
        stage: args.stage.clone(),
        reason: args.reason.clone(),
        since: args.since,
        limit: Some(args.limit),
    };
    let letters = desk.letters(&filter)?;
    print(|out| {
        if args.json {
            return letters
                .iter()
                .try_for_each(|letter| writeln!(out, "{}", json!(letter)));
        }
        if letters.is_empty() {
            return writeln!(out, "no dead letters");
        }
        let head = [
            "id", "at", "stage", "reason", "attempts", "event id", "detail",
        ];
        line(out, head)?;
        letters.iter().try_for_each(|letter| row(out, letter))
    })
}

fn row(out: &mut dyn Write, letter: &LetterSummary) -> std::io::Result<()> {
    let id = letter.event_id.map_or("-".to_owned(), |id| id.to_string());
    let waits = if letter.replay_asked_at.is_some() {
        "(to be published again) "
    } else {
        ""
    };
    let detail = format!("{waits}{}", letter.detail);
    let columns = [
        &letter.id.to_string(),
        &seconds(letter.at),
        &letter.stage,
        &letter.reason,
        &letter.attempts.to_string(),
        &id,
        &detail,
    ];
    line(out, columns.map(String::as_str))
}

fn line(out: &mut dyn Write, columns: [&str; 7]) -> std::io::Result<()> {
    let [id, at, stage, reason, attempts, event, detail] = columns;
    writeln!(
        out,
        "{id:>6}  {at:<20}  {stage:<12}  {reason:<18}  {attempts:>8}  {event:<32}  {detail}"
    )
}

/// To the second, for people.
fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.')
        .map_or(text.clone(), |(second, _)| format!("{second}Z"))
}

fn show(args: &Show) -> Result<(), Failed> {
    let (_, desk) = open(&args.config)?;
    let Some(letter) = desk.letter(args.id)? else {
        return Err(Failed::Usage(format!(
            "there is no dead letter {}",
            args.id
        )));
    };
    let whole = whole(&letter);
    print(|out| {
        if args.json {
            return writeln!(out, "{whole}");
        }
        let fields = whole.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| *name != "body") {
            match value {
                Value::String(text) => writeln!(out, "{name:<16} {text}")?,
                Value::Null => writeln!(out, "{name:<16} -")?,
                other => writeln!(out, "{name:<16} {other}")?,
            }
        }
        writeln!(out, "{:#}", whole["body"])
    })
}

fn whole(letter: &Letter) -> Value {
    let mut whole = json!(letter.summary);
    whole["key"] = json!(letter.key);
    let body = letter.body.as_deref();
    // A body that is no JSON is none of ours; it is shown as text.
    whole["body"] = body.map_or(Value::Null, |body| {
        serde_json::from_slice(body)
            .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
    });
    whole
}

impl Which {
    fn filter(&self) -> LetterFilter {
        LetterFilter {
            ids: (!self.all).then(|| self.ids.clone()),
            stage: self.stage.clone(),
            ..LetterFilter::default()
        }
    }
}

fn replay(which: &Which) -> Result<(), Failed> {
    let (config, desk) = open(&which.config)?;
    stage_is_known(which.stage.as_ref(), &config, &desk)?;
    let mut filter = which.filter();
    let found = desk.letters(&filter)?;
    let known = |letter: &&LetterSummary| is_stage(&config, &letter.stage);
    let (can, cannot): (Vec<_>, Vec<_>) = found.iter().partition(known);
    filter.ids = Some(can.iter().map(|letter| letter.id).collect());
    let asked = desk.ask_replay(&filter, Timestamp::now())?;
    let frames = can
        .iter()
        .filter(|letter| letter.stage == NORMALISE)
        .count();
    print(|out| {
        writeln!(
            out,
            "asked for {asked} dead letter(s) to be published again, {} had been asked for before; a \
             running bridge begins within two seconds, else the next start does",
            can.len() - asked
        )?;
        if frames > 0 {
            writeln!(
                out,
                "{frames} of them are frames of which only the shape was kept: the vendor's list is \
                 compared instead, and they are dropped when that has succeeded"
            )?;
        }
        Ok(())
    })?;
    if !cannot.is_empty() {
        return Err(Failed::Usage(format!(
            "{} dead letter(s) are of a sink that is not configured: {}",
            cannot.len(),
            cannot.first().map_or("", |letter| &letter.stage)
        )));
    }
    all_found(which, &found)
}

fn drop_letters(which: &Which) -> Result<(), Failed> {
    let (config, desk) = open(&which.config)?;
    stage_is_known(which.stage.as_ref(), &config, &desk)?;
    let filter = which.filter();
    let found = desk.letters(&filter)?;
    let dropped = desk.drop_letters(&filter)?;
    print(|out| writeln!(out, "dropped {dropped} dead letter(s)"))?;
    all_found(which, &found)
}

/// What exists was done; a number that does not exist is a mistake that must not pass unseen.
fn all_found(which: &Which, found: &[LetterSummary]) -> Result<(), Failed> {
    let missing = which
        .ids
        .iter()
        .filter(|id| found.iter().all(|letter| letter.id != **id));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(Failed::Usage(format!("there is no dead letter {missing}")))
}
