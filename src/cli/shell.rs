//! `completions` and `man`: what a shell and a reader of manual pages want, made from the command line itself.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failed, print};

const NAME: &str = "onboarding-bridge";

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// Write a page for each command into this folder instead
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &Completions) -> Result<(), Failed> {
    // It would panic where the reader has had enough.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print(|out| out.write_all(&script))
}

pub(super) fn manual(args: &Manual) -> Result<(), Failed> {
    match &args.dir {
        Some(folder) => Ok(clap_mangen::generate_to(Cli::command(), folder)?),
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            print(|out| out.write_all(&page))
        }
    }
}
