//! What must be true of every run, whatever happened in it. Pure: it is given what the vendor wrote,
//! what the journal holds and what each destination holds, and finds what cannot be explained.
//!
//! It knows nothing of the bridge's code, only of its promise. That it finds each kind of fault is shown
//! by the tests in `tests/it/chaos_oracle.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Findings of one kind that are described; further ones are only counted.
const DESCRIBED_MAX: usize = 5;

pub(crate) type Id = [u8; 16];

/// A message that the vendor handed to a socket.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) connection: u64,
    /// Nanoseconds since 1970, shortly before it was handed over.
    pub(crate) at: i64,
    pub(crate) user: String,
    /// Which state of its user it tells of.
    pub(crate) counter: u32,
}

/// A record of the journal, in the order of the positions.
#[derive(Clone, Debug)]
pub(crate) struct Journalled {
    pub(crate) position: u64,
    pub(crate) id: Id,
    pub(crate) user: String,
    pub(crate) counter: u32,
    /// Whether the feed told of it, and not the list.
    pub(crate) of_feed: bool,
    /// A digest of its bytes.
    pub(crate) digest: u64,
}

/// A record in a destination, in the order in which a consumer of its partition reads it.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    /// Kafka's partition; 0 in a stream.
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) id: Id,
    /// Kafka's key; the last token of the subject, which for the simulator's users is the same.
    pub(crate) user: String,
    pub(crate) digest: u64,
}

/// A blind window of the journal, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
    pub(crate) healed: bool,
}

/// All that is known of a run after its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) written: Vec<Written>,
    /// The vendor's list: the counter of each user.
    pub(crate) registry: BTreeMap<String, u32>,
    pub(crate) journal: Vec<Journalled>,
    pub(crate) windows: Vec<Window>,
    pub(crate) dead_letters: u64,
    pub(crate) sinks: Vec<(&'static str, Vec<Landed>)>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// Heard, and missing in a destination.
    Lost,
    /// Twice in a destination, or twice in the journal.
    Doubled,
    /// Not in the journal's order in a destination, or not in the vendor's order in the journal.
    OutOfOrder,
    /// Not heard outside of every blind window; a final state that is not the vendor's; what nobody
    /// sent; a window that did not end or heal; a dead letter; other bytes than the journal's.
    Unexplained,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [
        Self::Lost,
        Self::Doubled,
        Self::OutOfOrder,
        Self::Unexplained,
    ];
}

/// What was counted and what was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) written: u64,
    /// Messages of the feed that are in the journal.
    pub(crate) heard: u64,
    pub(crate) records: u64,
    /// Messages that were not heard, all of them.
    pub(crate) unheard: u64,
    /// Records in each destination.
    pub(crate) landed: BTreeMap<&'static str, u64>,
    pub(crate) windows: u64,
    found: BTreeMap<Fault, (u64, Vec<String>)>,
}

impl Verdict {
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.found.get(&fault).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    fn found(&mut self, fault: Fault, what: impl FnOnce() -> String) {
        let (count, described) = self.found.entry(fault).or_default();
        *count += 1;
        if described.len() < DESCRIBED_MAX {
            described.push(what());
        }
    }
}

/// The findings, a line each.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, (count, described)) in &self.found {
            writeln!(f, "{fault:?}: {count}")?;
            for line in described {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

/// Holds everything against everything.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict {
        written: evidence.written.len() as u64,
        records: evidence.journal.len() as u64,
        windows: evidence.windows.len() as u64,
        ..Verdict::default()
    };
    journal_is_sound(evidence, &mut verdict);
    all_is_heard_or_blind(evidence, &mut verdict);
    windows_are_over(evidence, &mut verdict);
    for (sink, landed) in &evidence.sinks {
        verdict.landed.insert(sink, landed.len() as u64);
        sink_has_the_journal(sink, landed, evidence, &mut verdict);
    }
    verdict
}

/// No event twice, nothing invented, and the feed's own records in the order of each connection.
fn journal_is_sound(evidence: &Evidence, verdict: &mut Verdict) {
    let mut places: HashMap<(&str, u32), (u64, usize)> = HashMap::new();
    for (place, written) in evidence.written.iter().enumerate() {
        let event = (written.user.as_str(), written.counter);
        places.entry(event).or_insert((written.connection, place));
    }
    let (mut ids, mut events) = (HashSet::new(), HashSet::new());
    let mut last: HashMap<&str, (u64, usize)> = HashMap::new();
    for record in &evidence.journal {
        let event = (record.user.as_str(), record.counter);
        if !ids.insert(record.id) || (record.of_feed && !events.insert(event)) {
            verdict.found(Fault::Doubled, || format!("the journal repeats {record:?}"));
        }
        if !record.of_feed {
            continue;
        }
        let Some(&place) = places.get(&event) else {
            verdict.found(Fault::Unexplained, || {
                format!("nobody sent what the journal has: {record:?}")
            });
            continue;
        };
        if last
            .insert(&record.user, place)
            .is_some_and(|last| last >= place)
        {
            verdict.found(Fault::OutOfOrder, || {
                format!("the journal has it before what the vendor sent earlier: {record:?}")
            });
        }
    }
    verdict.heard = events.len() as u64;
    if evidence.dead_letters > 0 {
        verdict.found(Fault::Unexplained, || {
            format!("{} dead letters", evidence.dead_letters)
        });
    }
}

/// What was written and is not in the journal lies in a blind window; and in the end each user is as the
/// vendor says.
fn all_is_heard_or_blind(evidence: &Evidence, verdict: &mut Verdict) {
    let known: HashSet<(&str, u32)> = evidence
        .journal
        .iter()
        .map(|record| (record.user.as_str(), record.counter))
        .collect();
    for written in &evidence.written {
        if known.contains(&(written.user.as_str(), written.counter)) {
            continue;
        }
        verdict.unheard += 1;
        let blind = |window: &&Window| {
            window.from <= written.at && window.to.is_none_or(|to| written.at <= to)
        };
        if !evidence.windows.iter().any(|window| blind(&window)) {
            verdict.found(Fault::Unexplained, || {
                format!(
                    "not heard, and {}: {written:?}",
                    nearest(evidence, written.at)
                )
            });
        }
    }
    let last: HashMap<&str, u32> = evidence
        .journal
        .iter()
        .map(|record| (record.user.as_str(), record.counter))
        .collect();
    for (user, counter) in &evidence.registry {
        let journalled = last.get(user.as_str());
        if journalled != Some(counter) {
            verdict.found(Fault::Unexplained, || {
                format!("{user} ends as {journalled:?}, the vendor says {counter}")
            });
        }
    }
}

/// How far the next window is.
fn nearest(evidence: &Evidence, at: i64) -> String {
    let after = evidence.windows.iter().map(|window| window.from - at);
    let before = evidence
        .windows
        .iter()
        .filter_map(|window| Some(at - window.to?));
    let millis = |nanos: Option<i64>| nanos.map(|nanos| nanos / 1_000_000);
    format!(
        "the next window begins {:?} ms later, the last one ended {:?} ms before",
        millis(after.filter(|nanos| *nanos >= 0).min()),
        millis(before.filter(|nanos| *nanos >= 0).min())
    )
}

fn windows_are_over(evidence: &Evidence, verdict: &mut Verdict) {
    for window in &evidence.windows {
        if window.to.is_none() || !window.healed {
            verdict.found(Fault::Unexplained, || {
                format!("a window that is not over and healed: {window:?}")
            });
        }
    }
}

/// Each record of the journal is there once, byte for byte, and those of one user in the journal's order
/// in one partition.
fn sink_has_the_journal(sink: &str, landed: &[Landed], evidence: &Evidence, verdict: &mut Verdict) {
    let wanted: HashMap<Id, &Journalled> = evidence
        .journal
        .iter()
        .map(|record| (record.id, record))
        .collect();
    let mut seen: HashSet<Id> = HashSet::with_capacity(landed.len());
    let mut last: HashMap<&str, (i64, u64)> = HashMap::new();
    for landed in landed {
        let Some(record) = wanted.get(&landed.id) else {
            verdict.found(Fault::Unexplained, || {
                format!("{sink} has what the journal lacks: {landed:?}")
            });
            continue;
        };
        let position = record.position;
        if !seen.insert(landed.id) {
            verdict.found(Fault::Doubled, || {
                format!("{sink} has position {position} once more: {landed:?}")
            });
            continue;
        }
        if (landed.user.as_str(), landed.digest) != (record.user.as_str(), record.digest) {
            verdict.found(Fault::Unexplained, || {
                format!("{sink} has other bytes for position {position}: {landed:?}")
            });
        }
        let before = last.insert(&landed.user, (landed.partition, position));
        let in_order = |before: (i64, u64)| before.0 == landed.partition && before.1 < position;
        if !before.is_none_or(in_order) {
            verdict.found(Fault::OutOfOrder, || {
                format!("{sink} has position {position} after {before:?}: {landed:?}")
            });
        }
    }
    for record in &evidence.journal {
        if !seen.contains(&record.id) {
            verdict.found(Fault::Lost, || format!("{sink} lacks {record:?}"));
        }
    }
}
