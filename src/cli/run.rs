//! `run`: the bridge itself.

use std::io::Write;

use tokio::task::JoinSet;

use super::{ConfigArgs, Failed};
use crate::app::App;
use crate::config;
use crate::shutdown::{self, Signals};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the configuration as it is understood, secrets hidden, and end
    #[arg(long)]
    print_config: bool,
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
    let app = App::build(&config).await?;
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
