//! The command line: what was typed, and which exit code comes of it.
//!
//! Each command is one file below this module; none of them decides anything about events.

mod check;
mod demo;
mod journal;
mod letters;
mod progress;
mod pseudonym;
mod reconcile;
mod replay;
mod run;
mod schema;
mod shell;
mod simulate;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::AppError;
use crate::config::ConfigError;
use crate::event::Timestamp;
use crate::journal::JournalError;
use crate::{process, telemetry};

/// Exit codes, as the help and the README document them.
const EXIT_CODES: &str = "Exit codes:
  0   done
  64  bad usage or configuration
  69  a service that is needed refused or did not answer (check, reconcile)
  70  a defect of this program
  74  disk error";

/// Carries the sFOX Connect feed private.enterprise.users to Kafka and NATS JetStream.
#[derive(Debug, Parser)]
#[command(name = "onboarding-bridge", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the feed and publish every event to the configured sinks
    #[command(
        after_help = "A capture holds personal data as far as the privacy policy leaves any, and is \
        written with mode 0600. A file that is there already is appended to if it is a capture, and \
        refused if it is not.

Example:
  onboarding-bridge run --config bridge.yaml
  BRIDGE__FEED__API_KEY=… onboarding-bridge run --config bridge.yaml --print-config
  onboarding-bridge run --config bridge.yaml --capture feed.jsonl --capture-max-bytes 16MiB"
    )]
    Run(run::Args),
    /// Show the whole line in one process: simulator, bridge, an embedded Kafka, a consumer
    #[command(after_help = "Example:
  onboarding-bridge demo
  onboarding-bridge demo --events 500 --kafka localhost:9092")]
    Demo(demo::Args),
    /// Be the vendor: WebSocket and REST on this machine, with faults on demand
    #[command(after_help = "Example:
  onboarding-bridge simulate --listen 127.0.0.1:8090 --rate 20 --users 200 --gap-every 100")]
    Simulate(Box<simulate::Args>),
    /// Check configuration, vendor, journal and every sink before the bridge is started
    #[command(after_help = "Example:
  onboarding-bridge check --config bridge.yaml --json")]
    Check(check::Args),
    /// Compare with the vendor's list and say what would be published, without publishing it
    #[command(
        after_help = "It takes one request of the vendor's budget, which it shares with the bridge that \
        has the same journal. Without --keys it shows nothing of a person.

Example:
  onboarding-bridge reconcile --dry-run --config bridge.yaml --keys"
    )]
    Reconcile(reconcile::Args),
    /// Set a sink's cursor back, so that it gets again what its destination has lost
    #[command(
        after_help = "The destination is asked what it holds, and only the rest is published \
        again, in order; what comes again comes after what it kept. Records reach back as far as \
        journal.retention.

Example:
  onboarding-bridge replay --config bridge.yaml --sink kafka --since 2h --dry-run
  onboarding-bridge replay --config bridge.yaml --sink kafka --since 2024-05-29T17:00:00Z"
    )]
    Replay(replay::Args),
    /// Look into the journal: figures, records
    #[command(
        subcommand,
        after_help = "Example:
  onboarding-bridge journal stats --config bridge.yaml"
    )]
    Journal(journal::Args),
    /// Look at what was set aside, publish it again, or drop it
    #[command(
        subcommand,
        after_help = "Example:
  onboarding-bridge dead-letters list --config bridge.yaml
  onboarding-bridge dead-letters replay --all --stage kafka --config bridge.yaml"
    )]
    DeadLetters(letters::Args),
    /// Say under which pseudonym records show a value
    #[command(
        subcommand,
        after_help = "Example:
  onboarding-bridge privacy pseudonym --config bridge.yaml --field user_id < ids.txt"
    )]
    Privacy(pseudonym::Args),
    /// Print the schema of the configuration
    #[command(after_help = "Example:
  onboarding-bridge schema config > bridge.schema.json")]
    Schema(schema::Args),
    /// List every metric with its type and meaning
    #[command(after_help = "Example:
  onboarding-bridge metrics")]
    Metrics,
    /// Print the script by which a shell completes commands and options
    #[command(after_help = "Example:
  onboarding-bridge completions bash > /usr/share/bash-completion/completions/onboarding-bridge")]
    Completions(shell::Completions),
    /// Print the manual page
    #[command(after_help = "Example:
  onboarding-bridge man | man -l -
  onboarding-bridge man --dir /usr/local/share/man/man1")]
    Man(shell::Manual),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration file; BRIDGE__SECTION__KEY in the environment overrides a value of it
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Why a command ends otherwise than well.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    App(#[from] AppError),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Usage(String),
    /// The vendor, for now.
    #[error("{0}")]
    Refused(String),
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
    /// The command itself has said what is wrong.
    #[error("")]
    Said(u8),
}

impl Failed {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 64,
            Self::Journal(error) if error.is_configuration() => 64,
            Self::Journal(error) if error.is_defect() => 70,
            Self::Journal(_) => 74,
            Self::App(error) => error.exit_code(),
            Self::Refused(_) => 69,
            Self::Output(_) => 74,
            Self::Said(code) => *code,
        }
    }
}

/// Parses the command line of this process and does what it says.
pub fn main() -> ExitCode {
    process::quiet_panics();
    let without_core = process::no_core_files();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no error.
            let code = if error.use_stderr() { 64 } else { 0 };
            error.print().unwrap_or_default();
            return code.into();
        }
    };
    let levels = match cli.command {
        // The demo tells by itself what the log would.
        Command::Demo(_) => "off",
        // And `check` what its looks have found.
        Command::Check(_) => "error",
        _ => telemetry::USUAL,
    };
    let log = match telemetry::start(levels) {
        Ok(log) => log,
        Err(error) => return say(&error, 64),
    };
    if let Err(error) = without_core {
        tracing::warn!(%error, "core files cannot be switched off: after a crash one may hold personal data");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The journal and librdkafka have threads of their own, and whatever waits for a disk or computes for
        // long is handed to others. Two that hand each event to one another wake each other for it.
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return say(&format!("cannot start: {error}"), 70),
    };
    let outcome = runtime.block_on(dispatch(cli.command));
    // A sink that was left in the middle of a call must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // What is said last comes behind everything that was logged.
    drop(log);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Said(code)) => code.into(),
        Err(error) => say(&error.to_string(), error.exit_code()),
    }
}

async fn dispatch(command: Command) -> Result<(), Failed> {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Simulate(args) => simulate::run(*args).await,
        Command::Check(args) => check::run(args).await,
        Command::Reconcile(args) => reconcile::run(&args).await,
        Command::Replay(args) => replay::run(&args),
        Command::Journal(args) => journal::run(&args),
        Command::DeadLetters(args) => letters::run(&args),
        Command::Privacy(args) => pseudonym::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Metrics => schema::metrics(),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::manual(&args),
    }
}

/// Prints to standard output; a reader that has had enough is no error.
fn print(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failed> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// A moment: RFC 3339, or a span before now.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(Timestamp::now().minus(span));
    }
    Timestamp::parse(text).ok_or_else(|| {
        "expected RFC 3339, such as 2024-05-29T17:00:00Z, or a span such as 2h".to_owned()
    })
}

/// One line on stderr: what, where, what to do.
fn say(what: &str, code: u8) -> ExitCode {
    writeln!(std::io::stderr(), "onboarding-bridge: {what}").unwrap_or_default();
    code.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The commands at the ends of the tree.
    fn leaves(command: &clap::Command) -> Vec<clap::Command> {
        let below: Vec<_> = command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .flat_map(|below| {
                let mut leaves = leaves(below);
                leaves.push(below.clone());
                leaves
            })
            .collect();
        below
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        let mut cli = Cli::command();
        cli.build();
        let commands = leaves(&cli);
        assert!(commands.len() > 8, "nested ones too");
        for mut command in commands {
            let help = command.render_long_help().to_string();
            let name = command.get_name();
            assert!(help.contains("Example:\n  "), "{name} has no example");
        }
        cli.debug_assert();
    }

    #[test]
    fn a_moment_is_a_time_or_a_span_before_now() {
        let time = "2024-05-29T17:00:00.000000000Z";
        assert_eq!(moment(time).unwrap().to_string(), time);
        let ago = Timestamp::now().seconds_since(moment("2h").unwrap());
        assert!((7199.0..7300.0).contains(&ago), "{ago}");
        assert!(moment("yesterday").is_err());
    }
}
