//! `run`: the bridge itself.

use std::io::Write;
use std::path::PathBuf;

use bytesize::ByteSize;
use tokio::task::JoinSet;

use super::{ConfigArgs, Failed};
use crate::app::{self, App};
use crate::capture;
use crate::config;
use crate::shutdown::{self, Signals};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the configuration as it is understood, secrets hidden, and end
    #[arg(long)]
    print_config: bool,
    /// Append what the feed sends to this file, as the privacy policy allows, for `simulate --replay`
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// The capture ends when the file would be longer than this [default: 64MiB]
    #[arg(long, value_name = "SIZE", requires = "capture")]
    capture_max_bytes: Option<ByteSize>,
}

pub(super) async fn run(args: Args) -> Result<(), Failed> {
    let config = config::load(&args.config.config)?;
    if args.print_config {
        let yaml = serde_norway::to_string(&config).map_err(std::io::Error::other)?;
        std::io::stdout().write_all(yaml.as_bytes())?;
        return Ok(());
    }
    let mut signals = Signals::new()?;
    let (stopper, stop) = shutdown::channel();
    let capture = match &args.capture {
        Some(path) => {
            let most = args.capture_max_bytes.map_or(capture::MAX_BYTES, |it| it.0);
            let policy = app::privacy(&config)?;
            let opened = capture::open(path, most, policy);
            Some(opened.map_err(|error| Failed::Usage(error.to_string()))?)
        }
        None => None,
    };
    let app = App::build(&config).await?;
    let app = match capture {
        Some(capture) => app.with_capture(capture),
        None => app,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "asked to end; a second signal ends at once");
        stopper.drain();
        let signal = signals.next().await;
        tracing::warn!(
            signal,
            "asked again: ending at once; what is left stays in the journal"
        );
        stopper.now();
        std::future::pending::<()>().await;
    });
    Ok(app.run(stop).await?)
}
