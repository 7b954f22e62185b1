//! `simulate`: the vendor's server on this machine.

use std::io::Write;

use super::Failed;
use crate::app::AppError;
use crate::shutdown::Signals;
use crate::simulator::{Options, Simulator};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let simulator = Simulator::start(args.options).await.map_err(|error| {
        let error = format!("cannot simulate: {error}; give --listen a free port of this machine");
        AppError::Configuration(error)
    })?;
    let (ws, rest) = (simulator.ws_url(), simulator.rest_url());
    writeln!(std::io::stdout(), "feed.url: {ws}\nreconcile.url: {rest}")?;
    signals.next().await;
    simulator.shutdown().await;
    Ok(())
}
