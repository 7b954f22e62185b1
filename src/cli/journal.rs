//! `journal`: what the journal holds, beside a running bridge or without one. It changes nothing.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::progress::Progress;
use super::{ConfigArgs, Failed, letters, moment, print};
use crate::config;
use crate::event::{Record, Timestamp};
use crate::journal::{RecordFilter, Stats};

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Figures: records, bytes, how far each sink is, blind windows, dead letters
    #[command(after_help = "Example:
  onboarding-bridge journal stats --config bridge.yaml --json")]
    Stats(StatsArgs),
    /// Read the whole journal and say what is wrong with it
    #[command(
        after_help = "It reads every row, a page at a time, and changes nothing. Exit code 74 when \
        something is wrong.

Example:
  onboarding-bridge journal verify --config bridge.yaml"
    )]
    Verify(VerifyArgs),
    /// List records by position, time, type and event id
    #[command(
        after_help = "Without --keys and --bodies it shows nothing of a person. A key is the user_id, \
        or its HMAC.

Example:
  onboarding-bridge journal list --config bridge.yaml --since 10m --limit 20"
    )]
    List(ListArgs),
    /// Write records to standard output, one a line, byte for byte as every sink gets them
    #[command(
        after_help = "The output is personal data, as far as the privacy policy left any when the \
        record was written.

Example:
  onboarding-bridge journal export --config bridge.yaml --since 2h > events.jsonl"
    )]
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only records received since: RFC 3339, or a span such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only records from this position on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    from_position: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Show the key of each record too: the user_id, or its HMAC
    #[arg(long)]
    keys: bool,
    /// Show the body of each record too
    #[arg(long)]
    bodies: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long)]
    limit: Option<u64>,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    match args {
        Args::Stats(args) => stats(args),
        Args::Verify(args) => verify(args),
        Args::List(args) => each(&args.which, Some(args.limit), |out, record| {
            listed(out, record, args)
        }),
        Args::Export(args) => each(&args.which, args.limit, |out, record| {
            out.write_all(&record.body)?;
            out.write_all(b"\n")
        }),
    }
}

fn each(
    which: &Which,
    limit: Option<u64>,
    mut write: impl FnMut(&mut dyn Write, &Record) -> std::io::Result<()>,
) -> Result<(), Failed> {
    let config = config::load(&which.config.config)?;
    let desk = letters::desk(&config.journal)?;
    let filter = RecordFilter {
        since: which.since,
        from_position: which.from_position,
        limit,
    };
    let mut read = Ok(());
    print(|out| {
        let mut written = Ok(());
        read = desk.records(&config.journal.path, &filter, |record| {
            written = write(out, record);
            written.is_ok()
        });
        written
    })?;
    Ok(read?)
}

fn listed(out: &mut dyn Write, record: &Record, args: &ListArgs) -> std::io::Result<()> {
    let body = args.bodies.then(|| String::from_utf8_lossy(&record.body));
    if args.json {
        let mut line = json!({"position": record.position, "received_at": record.received_at,
            "event_type": record.event_type, "event_id": record.event_id});
        if args.keys {
            line["key"] = json!(record.key);
        }
        if args.bodies {
            line["body"] = serde_json::from_slice(&record.body).unwrap_or_default();
        }
        return writeln!(out, "{line}");
    }
    let (position, received_at) = (record.position, record.received_at);
    let (event_type, event_id) = (record.event_type.as_str(), record.event_id);
    write!(
        out,
        "{position:>10}  {received_at}  {event_type:<15}  {event_id}"
    )?;
    if args.keys {
        write!(out, "  {}", record.key.escape_debug())?;
    }
    if let Some(body) = body {
        write!(out, "  {body}")?;
    }
    writeln!(out)
}

fn stats(args: &StatsArgs) -> Result<(), Failed> {
    let config = config::load(&args.config.config)?;
    let desk = letters::desk(&config.journal)?;
    let stats = desk.stats(config.journal.max_bytes.0)?;
    print(|out| {
        if args.json {
            return writeln!(out, "{}", json!(stats));
        }
        told(out, &stats)
    })
}

fn told(out: &mut dyn Write, stats: &Stats) -> std::io::Result<()> {
    let bytes = |bytes: u64| bytesize::ByteSize(bytes).display().iec();
    writeln!(out, "format version   {}", stats.format_version)?;
    if let Some(key) = &stats.encrypted_with {
        writeln!(out, "encrypted with   key {key}")?;
    }
    writeln!(out, "records          {}", stats.records)?;
    let (used, capacity) = (bytes(stats.bytes), bytes(stats.capacity_bytes));
    writeln!(out, "size             {used} of {capacity}")?;
    for (name, place) in [("oldest", &stats.oldest), ("newest", &stats.newest)] {
        match place {
            Some(place) => writeln!(
                out,
                "{name}           position {}, received {}",
                place.position, place.received_at
            )?,
            None => writeln!(out, "{name}           -")?,
        }
    }
    if let Some(at) = stats.last_written {
        writeln!(out, "last written     {at}")?;
    }
    writeln!(out, "users            {}", stats.users)?;
    for cursor in &stats.cursors {
        let doubt = if cursor.clean {
            ""
        } else {
            ", outcome beyond it unknown"
        };
        write!(
            out,
            "sink {:<11} position {}, lacks {} record(s){doubt}",
            cursor.sink, cursor.position, cursor.lag_records
        )?;
        match cursor.rewind_to {
            Some(position) => writeln!(out, ", goes back to {position}")?,
            None => writeln!(out)?,
        }
    }
    let windows = &stats.windows;
    writeln!(
        out,
        "blind windows    {}, of which {} open and {} not healed yet",
        windows.all, windows.open, windows.unhealed
    )?;
    if stats.dead_letters.is_empty() {
        return writeln!(out, "dead letters     0");
    }
    for letters in &stats.dead_letters {
        writeln!(
            out,
            "dead letters     {} of {}, of which {} are to be published again",
            letters.letters, letters.stage, letters.replay_asked
        )?;
    }
    Ok(())
}

fn verify(args: &VerifyArgs) -> Result<(), Failed> {
    let config = config::load(&args.config.config)?;
    let progress = Progress::start("reading the journal");
    let report = crate::journal::verify_telling(&config.journal, &mut |read| {
        let (users, records) = (read.users, read.records);
        progress.says(format!(
            "reading the journal: {users} users, {records} records"
        ));
    })?;
    drop(progress);
    print(|out| {
        if args.json {
            return writeln!(out, "{}", json!(report));
        }
        for problem in &report.problems {
            writeln!(out, "PROBLEM  {problem}")?;
        }
        let told = report.problems.len() as u64;
        if report.problems_total > told {
            writeln!(out, "PROBLEM  and {} more", report.problems_total - told)?;
        }
        let (records, users) = (report.records, report.users);
        let checked = if report.quick_check_run {
            "SQLite's own check included"
        } else {
            "without SQLite's own check, which would hold up the running bridge"
        };
        let verdict = if report.ok { "sound" } else { "NOT sound" };
        writeln!(
            out,
            "{verdict}: {records} record(s), {users} user(s), {} dead letter(s) looked at, {checked}",
            report.dead_letters
        )
    })?;
    if report.ok {
        Ok(())
    } else {
        Err(Failed::Said(74))
    }
}
