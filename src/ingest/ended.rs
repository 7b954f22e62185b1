//! What a list was worth: which blind windows it heals, whether another one is asked for, and what is said
//! of it.
//!
//! Only a list that was compared in full heals; it decides nothing about a user any more.

use tokio::time::Instant;

use super::Ingest;
use super::listing::Listing;
use crate::journal::{JournalError, WindowChange};
use crate::reconcile::{LastList, Outcome};

/// Why a list decides nothing in which all could be compared.
const EARLY: &str =
    "the feed was deaf shortly before it was asked for (reconcile.read_after_write)";

impl Ingest {
    /// The list is over, and this is what it was worth.
    pub(super) async fn ends(
        &mut self,
        outcome: Outcome,
        why: Option<String>,
    ) -> Result<(), JournalError> {
        let listing = self.lists.current.take();
        let undecided = listing.as_ref().map_or(0, |listing| listing.undecided);
        let is_early = listing.as_ref().is_some_and(|listing| listing.is_early);
        let (outcome, why) = match outcome {
            Outcome::Success if undecided > 0 => (Outcome::Undecided, why),
            Outcome::Success if is_early => (Outcome::Undecided, Some(EARLY.to_owned())),
            outcome => (outcome, why),
        };
        self.say(listing.as_ref(), outcome, why);
        let Some(listing) = listing else {
            return Ok(());
        };
        self.lists.carried += listing.differences;
        match outcome {
            Outcome::Success | Outcome::Undecided => {}
            // What such a list does not tell is not repaired.
            Outcome::Refused | Outcome::Failed => return Ok(()),
        }
        let again = undecided > 0 || is_early || (listing.doubts > 0 && !listing.is_another);
        let at = listing.begun + self.lists.read_after_write();
        self.lists.again = again.then_some(at);
        if self.lists.first.take().is_some() {
            self.journal.first_list_done().await?;
        }
        if outcome == Outcome::Undecided {
            return Ok(());
        }
        let (asked, differences) = (listing.asked, std::mem::take(&mut self.lists.carried));
        let position = self.appender.position();
        self.silence.listed(
            asked,
            position,
            listing.is_clear,
            listing.differences,
            Instant::now(),
        );
        self.journal
            .window(WindowChange::Heal { asked, differences })
            .await
    }

    fn say(&self, listing: Option<&Listing>, outcome: Outcome, why: Option<String>) {
        let runs = &self.metrics.reconcile.runs;
        runs.with_label_values(&[outcome.as_str()]).inc();
        let ended = (self.clock)();
        if outcome == Outcome::Success {
            self.metrics.reconcile.last_success.set(ended.as_seconds());
        }
        let last = LastList {
            asked: listing.map(|listing| listing.asked),
            ended,
            outcome,
            why,
            listed: listing.map_or(0, |listing| listing.seen.len()),
            known: listing.map_or(0, |listing| listing.known),
            absent: listing.map_or(0, |listing| listing.absent),
            differences: listing.map_or(0, |listing| listing.differences),
            undecided: listing.map_or(0, |listing| listing.undecided),
        };
        if let Some(listing) = listing {
            tracing::info!(
                users = last.listed,
                differences = last.differences,
                doubts = listing.doubts,
                undecided = last.undecided,
                outcome = outcome.as_str(),
                "compared with the vendor's list"
            );
        }
        self.lists.reports.put(last);
    }
}
