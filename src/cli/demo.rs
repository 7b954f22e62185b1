//! stub
use super::Failed;
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) async fn run(_: Args) -> Result<(), Failed> {
    Ok(())
}
