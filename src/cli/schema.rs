//! `schema` and `metrics`: what documents are generated from.

use std::io::Write;

use clap::ValueEnum;

use super::Failed;
use crate::config::Config;
use crate::metrics::Metrics;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which schema
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// JSON Schema of the configuration file
    Config,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let What::Config = args.what;
    let schema = schemars::schema_for!(Config);
    let text = serde_json::to_string_pretty(&schema).map_err(std::io::Error::other)?;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

pub(super) fn metrics() -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    // Every metric of a sink is listed once, whatever the sink is called.
    for (name, kind, help) in Metrics::new(&["sink"]).list() {
        writeln!(out, "{name} ({kind})\n    {help}")?;
    }
    Ok(())
}
