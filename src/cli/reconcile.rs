//! `reconcile --dry-run`: what the vendor's list would change, without changing it.
//!
//! A running bridge reconciles by itself; this command only looks, beside it or without it.

use serde_json::{Value, json};

use super::progress::Progress;
use super::{ConfigArgs, Failed, print};
use crate::app;
use crate::config;
use crate::event::{Event, Timestamp};
use crate::feed::budget::{Budget, Ledger};
use crate::journal::Snapshot;
use crate::metrics::Metrics;
use crate::reconcile::{self, Preview, PreviewError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only say what would be published; there is no other way: a running bridge does the rest
    #[arg(long, required = true)]
    dry_run: bool,
    /// Show at most so many differences; the figures are of all
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Show the key of each user too: the user_id, or its HMAC
    #[arg(long)]
    keys: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<(), Failed> {
    let config = config::load(&args.config.config)?;
    let privacy = app::privacy(&config)?;
    let budget = Budget::new(
        &config.feed.limits,
        Some(Ledger::beside(&config.journal.path)),
        Metrics::new(&[]).feed.request_budget,
        Timestamp::now,
    );
    if let Some(wait) = budget.must_wait(1) {
        return Err(Failed::Refused(format!(
            "the list was not asked for: the share of the vendor's limits (`feed.limits`) is spent, or \
             the vendor has refused; try again in {} s",
            wait.as_secs() + 1
        )));
    }
    let exists = config.journal.path.exists();
    let known = exists.then(|| Snapshot::open(&config.journal));
    let known = known.transpose()?;
    budget.spend(1).await;
    let mut changes = Vec::new();
    let change = |event: &Event, is_plain: bool| {
        if changes.len() < args.limit {
            let key = || privacy.key_again(event.user_id.clone(), |_| is_plain);
            let key = args.keys.then(key);
            changes.push(shown(event, key));
        }
    };
    let now = Timestamp::now();
    let progress = Progress::start("reading the vendor's list");
    let read = |users| progress.says(format!("reading the vendor's list: {users} users compared"));
    let compared =
        reconcile::preview(&config.reconcile, &config.feed, known, now, change, read).await;
    drop(progress);
    let preview = compared.map_err(|error| match error {
        PreviewError::Journal(error) => Failed::Journal(error),
        PreviewError::List(error) => {
            error.note(&budget);
            Failed::Refused(error.to_string())
        }
    })?;
    say(&preview, &changes, args.json)
}

/// A difference without a value of a person.
fn shown(event: &Event, key: Option<String>) -> Value {
    let mut shown = json!({"event_type": event.event_type, "changed": event.changed});
    if let Some(key) = key {
        shown["key"] = key.into();
    }
    shown
}

fn say(preview: &Preview, changes: &[Value], json: bool) -> Result<(), Failed> {
    print(|out| {
        if json {
            let mut whole = json!(preview);
            whole["changes"] = changes.into();
            return writeln!(out, "{whole:#}");
        }
        for change in changes {
            let changed = change["changed"].as_array().into_iter().flatten();
            let changed: Vec<&str> = changed.filter_map(Value::as_str).collect();
            let key = change["key"].as_str().unwrap_or_default();
            let kind = change["event_type"].as_str().unwrap_or_default();
            let line = format!("{kind:<16}{key:<34}{}", changed.join(", "));
            writeln!(out, "{}", line.trim_end())?;
        }
        let published = preview.registered + preview.updated + preview.removed;
        if published > changes.len() {
            writeln!(out, "… and {} more (--limit)", published - changes.len())?;
        }
        writeln!(
            out,
            "{} users listed, {} known: {} would be published as registered, {} as updated, {} as \
             removed; {} would be adopted",
            preview.listed,
            preview.known,
            preview.registered,
            preview.updated,
            preview.removed,
            preview.adopted
        )?;
        if preview.removals_refused > 0 {
            writeln!(
                out,
                "the list lacks {} users, more than reconcile.max_removed_share allows: nobody would be \
                 removed; ask the vendor whether the list is right",
                preview.removals_refused
            )?;
        }
        if !preview.complete {
            writeln!(
                out,
                "some entries of the list could not be read: nobody would be removed, and no blind \
                 window healed"
            )?;
        }
        Ok(())
    })
}
