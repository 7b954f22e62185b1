//! What a person sees while the demo runs.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::stage::{Seen, Stage};
use crate::cli::Failed;
use crate::event::Timestamp;

/// Events that come faster than this are not all shown.
const SHOW_EVERY: Duration = Duration::from_millis(150);

/// A line of figures is printed this often.
const FIGURES_EVERY: Duration = Duration::from_secs(5);

/// Prints, and remembers what it has said.
pub(super) struct Show {
    colours: bool,
    opening: Vec<String>,
    last_event: Option<Instant>,
    last_figures: Instant,
    said: Noticed,
}

/// What the bridge has noticed so far, by its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noticed {
    lost: u64,
    connects: u64,
    gaps: u64,
    lists: u64,
    differences: u64,
}

impl Noticed {
    fn of(stage: &Stage) -> Self {
        let metrics = stage.status.metrics();
        let lost = crate::feed::LostReason::ALL.map(crate::feed::LostReason::as_str);
        Self {
            lost: lost
                .iter()
                .map(|it| metrics.feed.reconnects.with_label_values(&[it]).get())
                .sum(),
            connects: metrics.feed.connects.get(),
            gaps: metrics.feed.gaps.get(),
            lists: metrics.reconcile.runs.with_label_values(&["success"]).get(),
            differences: metrics.reconcile.differences.get(),
        }
    }
}

impl Show {
    pub(super) fn new(stage: &Stage) -> Self {
        let mut opening = vec![
            format!("vendor   simulated at {}", stage.simulator.ws_url()),
            "bridge   as under `run`, its journal in a folder that goes with the demo".to_owned(),
        ];
        opening.extend(stage.destinations.iter().map(|it| format!("to       {it}")));
        opening.push(format!(
            "look     http://{}/status and /metrics",
            stage.admin
        ));
        Self {
            colours: std::io::stdout().is_terminal(),
            opening,
            last_event: None,
            last_figures: Instant::now(),
            said: Noticed::default(),
        }
    }

    pub(super) fn opening(&mut self) -> Result<(), Failed> {
        let mut out = std::io::stdout().lock();
        for line in &self.opening {
            writeln!(out, "{line}")?;
        }
        Ok(writeln!(out)?)
    }

    /// A line of the script, or of what came of it.
    pub(super) fn say(&self, what: &str) -> Result<(), Failed> {
        self.line("33", &format!(">> {what}"))
    }

    /// An event as the consumer has read it; not every one, if they come fast.
    pub(super) fn seen(&mut self, seen: Seen) -> Result<(), Failed> {
        if self.last_event.is_some_and(|at| at.elapsed() < SHOW_EVERY) {
            return Ok(());
        }
        self.last_event = Some(Instant::now());
        let text = |key: &str| seen.body[key].as_str().unwrap_or("-").to_owned();
        let status = match seen.body["previous_status"].as_str() {
            Some(before) if before != text("status") => format!("{before} > {}", text("status")),
            _ => text("status"),
        };
        let changed = match &seen.body["changed"] {
            Value::Array(names) => names
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
            _ => String::new(),
        };
        let user: String = text("user_id").chars().take(15).collect();
        let line = format!(
            "{:<5} {}  {:<15}  {user}  {:<9}  {status:<20} {changed}",
            seen.sink,
            seen.place,
            text("event_type"),
            text("origin"),
        );
        let colour = if text("origin") == "reconcile" {
            "36"
        } else {
            "0"
        };
        self.line(colour, line.trim_end())
    }

    /// Says what the bridge has noticed since the last look.
    pub(super) fn look(&mut self, stage: &Stage) -> Result<(), Failed> {
        let (mut now, before) = (Noticed::of(stage), self.said);
        if now.lists == before.lists {
            // Told together with the list that they came from.
            now.differences = before.differences;
        }
        self.said = now;
        if now.lost > before.lost {
            self.say("noticed: the feed is lost; a blind window is open")?;
        }
        if now.connects > before.connects {
            self.say("subscribed to the feed")?;
        }
        if now.gaps > before.gaps {
            self.say("noticed: the feed's numbers have a gap; a blind window is noted")?;
        }
        if now.lists > before.lists {
            self.say(&format!(
                "compared with the vendor's list: {} events that only it told of; blind windows healed",
                now.differences - before.differences
            ))?;
        }
        if self.last_figures.elapsed() >= FIGURES_EVERY {
            self.last_figures = Instant::now();
            self.figures(stage)?;
        }
        Ok(())
    }

    fn figures(&self, stage: &Stage) -> Result<(), Failed> {
        let metrics = stage.status.metrics();
        let heard = metrics.feed.frames.with_label_values(&["event"]).get();
        let report = stage.status.report().map_err(crate::app::AppError::from)?;
        let mut line = format!("-- heard {heard} · journalled {}", report.journal.committed);
        for sink in &report.sinks {
            let lag = report.journal.committed.saturating_sub(sink.delivered);
            line += &format!(" · {} has {} (lag {lag})", sink.name, sink.delivered);
        }
        self.line("90", &format!("{line} · {}", Timestamp::now()))
    }

    fn line(&self, colour: &str, text: &str) -> Result<(), Failed> {
        let mut out = std::io::stdout().lock();
        if self.colours {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")?;
        } else {
            writeln!(out, "{text}")?;
        }
        Ok(())
    }
}
