//! What one sink is doing, for `/status` and the readiness probe; never a key or a body.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::event::EventId;
use crate::metrics::SinkState;
use crate::sink::Destination;

/// Late duplicates that are named at most.
const LATE_SHOWN: usize = 20;

/// Shared between a sink's task and the admin port.
#[derive(Debug)]
pub struct SinkStatus(Mutex<SinkReport>);

/// A sink as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SinkReport {
    /// Its configured name.
    pub name: String,
    /// What it is doing.
    pub state: &'static str,
    /// What it delivers to, once it was opened.
    pub destination: Option<String>,
    /// Whether the promise is once, or only at least once.
    pub once: Option<bool>,
    /// What an operator should mend.
    pub warnings: Vec<String>,
    /// The last error, until the sink is open again.
    pub error: Option<String>,
    /// Everything up to this position is delivered.
    pub delivered: u64,
    /// Records that arrived twice after all, since the process started.
    pub late_duplicates: u64,
    /// The ids of the last of them, newest last; the log has all.
    pub last_late_duplicates: VecDeque<EventId>,
}

impl SinkStatus {
    /// A sink that was not opened yet.
    pub fn new(name: &str, delivered: u64) -> Self {
        Self(Mutex::new(SinkReport {
            name: name.to_owned(),
            state: SinkState::Opening.as_str(),
            destination: None,
            once: None,
            warnings: Vec::new(),
            error: None,
            delivered,
            late_duplicates: 0,
            last_late_duplicates: VecDeque::new(),
        }))
    }

    /// The sink as it is now.
    pub fn report(&self) -> SinkReport {
        self.lock().clone()
    }

    /// Whether it was ever opened.
    pub fn was_opened(&self) -> bool {
        self.lock().destination.is_some()
    }

    pub(super) fn is_delivering(&self) -> bool {
        self.lock().state == SinkState::Delivering.as_str()
    }

    pub(super) fn state(&self, state: SinkState) {
        self.lock().state = state.as_str();
    }

    pub(super) fn opened(&self, destination: &Destination) {
        let mut report = self.lock();
        report.state = SinkState::Delivering.as_str();
        report.destination = Some(destination.description.clone());
        report.once = Some(destination.can_tell_what_it_holds);
        report.warnings.clone_from(&destination.warnings);
        report.error = None;
    }

    pub(super) fn recovered(&self) {
        let mut report = self.lock();
        report.state = SinkState::Delivering.as_str();
        report.error = None;
    }

    pub(super) fn delivered(&self, position: u64) {
        self.lock().delivered = position;
    }

    pub(super) fn late_duplicates(&self, ids: &[EventId]) {
        let mut report = self.lock();
        report.late_duplicates += ids.len() as u64;
        report.last_late_duplicates.extend(ids);
        let excess = report.last_late_duplicates.len().saturating_sub(LATE_SHOWN);
        report.last_late_duplicates.drain(..excess);
    }

    pub(super) fn failed(&self, state: SinkState, message: &str) {
        let mut report = self.lock();
        report.state = state.as_str();
        report.error = Some(message.to_owned());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SinkReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
