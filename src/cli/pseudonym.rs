//! `privacy pseudonym`: under which pseudonym records show a value, for those who hold the key.
//!
//! Values come in by standard input, because a command line is there for everybody to read. It prints
//! pseudonyms only, never a value and never the key.

use std::io::{BufRead, BufReader, Read};

use clap::Subcommand;

use super::{ConfigArgs, Failed, print};
use crate::app;
use crate::config;
use crate::privacy::Privacy;
use crate::state::FieldName;

/// Longest value, in bytes.
const VALUE_MAX: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Print the HMAC of each value on standard input under the configured key
    #[command(
        after_help = "One value a line in, one pseudonym a line out, in the same order and as records \
        show it: so two keys can be linked, or a user looked for. The value is never an argument, which \
        other users of the machine could read.

Example:
  onboarding-bridge privacy pseudonym --config bridge.yaml --field user_id < ids.txt
  BRIDGE__PRIVACY__HMAC_KEY_FILE=old.key onboarding-bridge privacy pseudonym \\
    --config bridge.yaml --field email < addresses.txt"
    )]
    Pseudonym(Pseudonym),
}

#[derive(Debug, clap::Args)]
pub(super) struct Pseudonym {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whose value it is: `user_id`, `user_token`, or a field of `privacy.fields`
    #[arg(long, value_name = "NAME", value_parser = field)]
    field: String,
}

/// The names that a pseudonym can have.
fn field(name: &str) -> Result<String, String> {
    let fields = FieldName::ALL.map(FieldName::as_str);
    let names: Vec<&str> = ["user_id", "user_token"]
        .into_iter()
        .chain(fields)
        .collect();
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("expected one of {}", names.join(", ")))
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let Args::Pseudonym(args) = args;
    let config = config::load(&args.config.config)?;
    let privacy = app::privacy(&config)?;
    if config.privacy.hmac_key_file.is_none() {
        return Err(Failed::Usage(
            "there is no key to make a pseudonym with: set `privacy.hmac_key_file`".to_owned(),
        ));
    }
    each(
        BufReader::new(std::io::stdin().lock()),
        &privacy,
        &args.field,
    )
}

fn each(mut input: impl BufRead, privacy: &Privacy, field: &str) -> Result<(), Failed> {
    print_each(|| {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(VALUE_MAX + 2)
            .read_until(b'\n', &mut line);
        if read? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() as u64 > VALUE_MAX {
            return Err(Failed::Usage(format!(
                "a value is longer than {VALUE_MAX} bytes"
            )));
        }
        let value = String::from_utf8(line);
        let value = value.map_err(|_| Failed::Usage("a value is not UTF-8".to_owned()))?;
        Ok(privacy.pseudonym(field, &value))
    })
}

/// Prints what comes, until nothing more does.
fn print_each(mut next: impl FnMut() -> Result<Option<String>, Failed>) -> Result<(), Failed> {
    let mut failed = None;
    print(|out| {
        loop {
            match next() {
                Ok(Some(pseudonym)) => writeln!(out, "{pseudonym}")?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    failed = Some(error);
                    return Ok(());
                }
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}
