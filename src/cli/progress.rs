//! How far a long command is: on a terminal, while it lasts, and nowhere else.
//!
//! A pipe, a file and a log get none of it. It names the only library that draws.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// So often it is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// A line that is gone once this is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Says what is being done.
    pub(super) fn start(what: &'static str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner()
            .with_style(style)
            .with_message(what);
        bar.tick();
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Says what is done by now.
    pub(super) fn says(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
