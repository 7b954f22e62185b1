//! What became of the last list, for `/status`.
//!
//! Numbers and a sentence of ours; nothing of a person and nothing that the vendor said.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::event::Timestamp;

/// What a list was worth; the value of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was compared in full, and heals the blind windows before it.
    Success,
    /// It could not be had, or not all of it could be read or kept.
    Failed,
    /// It lacks so many users that it is not believed.
    Refused,
    /// It was compared in full, but may be behind the feed for some users: another one decides and heals.
    Undecided,
}

impl Outcome {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failed, Self::Refused, Self::Undecided];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Undecided => "undecided",
        }
    }
}

/// How one list ended.
#[derive(Clone, Debug, Serialize)]
pub struct LastList {
    /// When it was asked for; null where that did not come about.
    pub asked: Option<Timestamp>,
    /// When it was over.
    pub ended: Timestamp,
    /// As the label `outcome` of `reconcile_runs_total`.
    pub outcome: Outcome,
    /// Why it is worth no more, where there is something to say.
    pub why: Option<String>,
    /// Users in the list.
    pub listed: usize,
    /// Users that were known, and not as removed, where that was counted.
    pub known: usize,
    /// Users among them that the list lacks.
    pub absent: usize,
    /// Events that only the list told of.
    pub differences: u64,
    /// Users for whom it may be older than what the feed told of them: another list decides.
    pub undecided: u64,
}

/// The last list, shared by who compares and who shows.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<Option<LastList>>>);

impl Reports {
    /// A list has ended so.
    pub fn put(&self, last: LastList) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// The last one, if there was any.
    pub fn last(&self) -> Option<LastList> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}
