//! What the runs came to: a line for each, one table at the end, the same as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::oracle::{Fault, Verdict};
use crate::scenario::Scenario;
use crate::world::{Scale, Tally};

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    scenario: Scenario,
    seed: u64,
    scale: Scale,
    /// `None` when it came to no verdict: it panicked.
    outcome: Option<(Tally, Verdict)>,
    took: Duration,
}

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Run>);

/// A row of the table: all runs of a scenario, or all runs.
#[derive(Debug, Default)]
struct Row {
    runs: u64,
    failed: u64,
    kills: u64,
    faults: u64,
    written: u64,
    heard: u64,
    unheard: u64,
    records: u64,
    kafka: u64,
    nats: u64,
    held: f64,
    generated: u64,
    load: Duration,
    found: BTreeMap<Fault, u64>,
    windows: u64,
    recovery: Duration,
    notes: Vec<String>,
}

impl Run {
    pub(crate) const fn new(
        scenario: Scenario,
        seed: u64,
        scale: Scale,
        outcome: Option<(Tally, Verdict)>,
        took: Duration,
    ) -> Self {
        Self {
            scenario,
            seed,
            scale,
            outcome,
            took,
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        let outcome = self.outcome.as_ref();
        outcome.is_some_and(|(tally, verdict)| verdict.is_clean() && tally.wrong.is_empty())
    }

    /// The command that repeats it.
    fn command(&self) -> String {
        let faults = self
            .scale
            .faults
            .map(|faults| format!(" --faults {faults}"));
        format!(
            "cargo test --locked --test chaos -- --scenario {} --seed {} --runs 1 --rate {} \
             --users {} --settle {} --outage {} --hold {}{}{}",
            self.scenario,
            self.seed,
            self.scale.rate,
            self.scale.users,
            humantime::format_duration(self.scale.settle),
            humantime::format_duration(self.scale.outage),
            humantime::format_duration(self.scale.hold),
            faults.unwrap_or_default(),
            if self.scale.exactly_once {
                " --exactly-once"
            } else {
                ""
            },
        )
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(f, "{} seed {} ({seconds:.0} s): ", self.scenario, self.seed)?;
        let Some((tally, verdict)) = &self.outcome else {
            return write!(f, "NO VERDICT\n  repeat: {}", self.command());
        };
        write!(
            f,
            "{} kills, {} faults, {} written, {} heard, {} not heard, {} records, {:?}, held {}, \
             {} windows, recovered in {:.1} s: ",
            tally.kills,
            tally.faults,
            verdict.written,
            verdict.heard,
            verdict.unheard,
            verdict.records,
            verdict.landed,
            tally.held,
            verdict.windows,
            tally.recovery.as_secs_f64()
        )?;
        if self.is_clean() {
            write!(f, "clean")?;
        } else {
            write!(f, "WRONG\n{verdict}  repeat: {}", self.command())?;
        }
        for note in tally.notes.iter().chain(&tally.wrong) {
            write!(f, "\n  {note}")?;
        }
        Ok(())
    }
}

impl Report {
    pub(crate) fn add(&mut self, run: Run) {
        self.0.push(run);
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(Run::is_clean)
    }

    fn rows(&self) -> Vec<(String, Row)> {
        let mut rows: BTreeMap<Scenario, Row> = BTreeMap::new();
        let mut all = Row::default();
        for run in &self.0 {
            rows.entry(run.scenario).or_default().add(run);
            all.add(run);
        }
        let rows = rows.into_iter();
        rows.map(|(scenario, row)| (scenario.to_string(), row))
            .chain([("all".to_owned(), all)])
            .collect()
    }

    /// The table, with when and of which commit it is.
    pub(crate) fn json(&self) -> String {
        let rows: serde_json::Map<String, Value> = self
            .rows()
            .into_iter()
            .map(|(name, row)| (name, row.json()))
            .collect();
        let failed: Vec<String> = self
            .0
            .iter()
            .filter(|run| !run.is_clean())
            .map(Run::command)
            .collect();
        let report = json!({
            "date": jiff::Timestamp::now().to_string(),
            "commit": commit(),
            "clean": self.is_clean(),
            "scenarios": rows,
            "failed": failed,
        });
        format!("{report:#}\n")
    }
}

fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

impl Row {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.failed += u64::from(!run.is_clean());
        let Some((tally, verdict)) = &run.outcome else {
            return;
        };
        self.kills += tally.kills;
        self.faults += tally.faults;
        self.written += verdict.written;
        self.heard += verdict.heard;
        self.unheard += verdict.unheard;
        self.records += verdict.records;
        self.kafka += verdict.landed.get("kafka").copied().unwrap_or_default();
        self.nats += verdict.landed.get("nats").copied().unwrap_or_default();
        self.held += tally.held;
        self.generated += tally.generated;
        self.load += tally.load;
        for fault in Fault::ALL {
            *self.found.entry(fault).or_default() += verdict.count(fault);
        }
        self.windows += verdict.windows;
        self.notes
            .extend(tally.notes.iter().chain(&tally.wrong).cloned());
        self.recovery = self.recovery.max(tally.recovery);
    }

    fn json(&self) -> Value {
        json!({
            "runs": self.runs, "failed": self.failed, "kills": self.kills, "faults": self.faults,
            "written": self.written, "heard": self.heard, "not_heard": self.unheard,
            "records": self.records, "kafka": self.kafka, "jetstream": self.nats, "held": self.held,
            "load_per_second": self.rate(), "lost": self.found(Fault::Lost), "doubled": self.found(Fault::Doubled),
            "out_of_order": self.found(Fault::OutOfOrder), "unexplained": self.found(Fault::Unexplained),
            "notes": self.notes, "blind_windows": self.windows, "longest_recovery_seconds": self.recovery.as_secs_f64(),
        })
    }

    /// Its columns, by name.
    fn cells(&self) -> [(&'static str, String); 17] {
        [
            ("runs", self.runs.to_string()),
            ("failed", self.failed.to_string()),
            ("kills", self.kills.to_string()),
            ("faults", self.faults.to_string()),
            ("load/s", format!("{:.0}", self.rate())),
            ("written", self.written.to_string()),
            ("heard", self.heard.to_string()),
            ("records", self.records.to_string()),
            ("Kafka", self.kafka.to_string()),
            ("JetStream", self.nats.to_string()),
            ("held", self.held.to_string()),
            ("lost", self.found(Fault::Lost).to_string()),
            ("doubled", self.found(Fault::Doubled).to_string()),
            ("disorder", self.found(Fault::OutOfOrder).to_string()),
            ("unexplained", self.found(Fault::Unexplained).to_string()),
            ("windows", self.windows.to_string()),
            ("recovery", format!("{:.1} s", self.recovery.as_secs_f64())),
        ]
    }

    /// Events per second that the vendor's world had while it was loaded.
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no last digit")]
    fn rate(&self) -> f64 {
        self.generated as f64 / self.load.as_secs_f64().max(0.001)
    }

    fn found(&self, fault: Fault) -> u64 {
        self.found.get(&fault).copied().unwrap_or_default()
    }
}

/// The table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<12}", "scenario")?;
        for (head, _) in Row::default().cells() {
            write!(f, " {head:>11}")?;
        }
        writeln!(f)?;
        for (name, row) in self.rows() {
            write!(f, "{name:<12}")?;
            for (_, cell) in row.cells() {
                write!(f, " {cell:>11}")?;
            }
            writeln!(f)?;
        }
        for run in self.0.iter().filter(|run| !run.is_clean()) {
            writeln!(f, "failed: {}", run.command())?;
        }
        Ok(())
    }
}
