//! `simulate`: the vendor's server on this machine.

use std::io::{ErrorKind, Write};

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
        let advice = match error.kind() {
            ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied => {
                "; give --listen a free port of this machine"
            }
            _ => "",
        };
        AppError::Configuration(format!("cannot simulate: {error}{advice}"))
    })?;
    let (ws, rest) = (simulator.ws_url(), simulator.rest_url());
    writeln!(std::io::stdout(), "feed.url: {ws}\nreconcile.url: {rest}")?;
    signals.next().await;
    simulator.shutdown().await;
    Ok(())
}
