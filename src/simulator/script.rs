//! A timeline of faults from a YAML file: what is to happen when, the same for the same seed.
//!
//! Pure: it is parsed and laid out before anything is started. Playing it is in `player`.

pub(super) mod player;

use std::time::Duration;

use serde::Deserialize;

use crate::config::Span;

use super::action::Action;
use super::person::mix;

/// Steps that a script may have once it is laid out.
const STEPS: usize = 100_000;

/// A timeline, laid out.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Events per second instead of the option's.
    pub(super) rate: Option<f64>,
    pub(super) start: Start,
    pub(super) length: Duration,
    /// In the order of their time.
    pub(super) steps: Vec<Step>,
}

/// One thing at its time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) action: Action,
}

/// From when the time of the script counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Start {
    /// From the first subscription on.
    #[default]
    Subscribed,
    /// From the start of the simulator on.
    Now,
}

/// What is wrong with a script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is no YAML.
    #[error("the script is no YAML: {0}")]
    Yaml(String),
    /// Something in it is not understood.
    #[error("the script at `{place}`: {what}")]
    Content {
        /// Where.
        place: String,
        /// What.
        what: String,
    },
    /// An entry that cannot be laid out.
    #[error("the script at `timeline[{entry}]`: {what}")]
    Entry {
        /// Which.
        entry: usize,
        /// What.
        what: &'static str,
    },
    /// There are too many steps.
    #[error("the script has more than {STEPS} steps")]
    TooLong,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    start: Start,
    length: Span,
    rate: Option<f64>,
    #[serde(default)]
    timeline: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at: Option<Span>,
    every: Option<Span>,
    times: Option<u32>,
    from: Option<Span>,
    until: Option<Span>,
    jitter: Option<Span>,
    #[serde(rename = "for")]
    lasts: Option<Span>,
    #[serde(rename = "do")]
    action: Action,
}

impl Script {
    /// Reads a script; what is left to chance in it follows from the seed.
    ///
    /// # Errors
    /// [`ScriptError`] with the place.
    pub fn parse(yaml: &str, seed: u64) -> Result<Self, ScriptError> {
        // By way of JSON, where `do: {gap: {n: 3}}` is an action without a tag of YAML.
        let value: serde_json::Value =
            serde_norway::from_str(yaml).map_err(|error| ScriptError::Yaml(error.to_string()))?;
        let file: File =
            serde_path_to_error::deserialize(value).map_err(|error| ScriptError::Content {
                place: error.path().to_string(),
                what: error.inner().to_string(),
            })?;
        if file.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e6)) {
            return Err(ScriptError::Content {
                place: "rate".to_owned(),
                what: "must be more than 0 and at most 1000000".to_owned(),
            });
        }
        let length = file.length.0;
        let mut steps = Vec::new();
        for (place, entry) in file.timeline.iter().enumerate() {
            let seed = mix(seed ^ mix(place as u64));
            let wrong = |what| ScriptError::Entry { entry: place, what };
            for at in entry.moments(seed, length).map_err(wrong)? {
                steps.push(Step {
                    at,
                    action: entry.action.clone(),
                });
                if let Some(lasts) = entry.lasts {
                    let undone = entry.action.undone();
                    let action = undone.ok_or_else(|| wrong("`for` is for actions that last"))?;
                    let at = at.saturating_add(lasts.0);
                    steps.push(Step { at, action });
                }
            }
            if steps.len() > STEPS {
                return Err(ScriptError::TooLong);
            }
        }
        // Stable: what is at the same time happens in the order of the file.
        steps.sort_by_key(|step| step.at);
        // What began is ended, even after the length.
        let last = steps.last().map_or(length, |step| step.at);
        Ok(Self {
            rate: file.rate,
            start: file.start,
            length: length.max(last),
            steps,
        })
    }

    /// How many steps it has.
    pub const fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it is only a world at a rate, for a time.
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Entry {
    /// When it happens.
    fn moments(&self, seed: u64, length: Duration) -> Result<Vec<Duration>, &'static str> {
        let until = self.until.map_or(length, |span| span.0);
        if let Some(from) = self.from
            && from.0 > until
        {
            return Err("`from` is after `until`");
        }
        let jitter = self.jitter.map_or(Duration::ZERO, |span| span.0);
        let late = |place: u64| part(jitter, mix(seed.wrapping_add(place)));
        match (self.at, self.every, self.times) {
            (Some(at), None, None) => {
                if self.from.is_some() || self.until.is_some() {
                    return Err("`at` takes no `from` and `until`");
                }
                Ok(vec![at.0.saturating_add(late(0))])
            }
            (None, Some(every), None) => {
                if every.0.is_zero() {
                    return Err("`every` must be more than 0s");
                }
                let mut next = self.from.map_or(every.0, |span| span.0);
                let mut moments = Vec::new();
                while next <= until && moments.len() <= STEPS {
                    moments.push(next.saturating_add(late(moments.len() as u64)));
                    next = next.saturating_add(every.0);
                }
                Ok(moments)
            }
            (None, None, Some(times)) => {
                let from = self.from.map_or(Duration::ZERO, |span| span.0);
                let span = until.saturating_sub(from);
                let moment = |place: u32| from + part(span, mix(seed ^ mix(place.into())));
                let times = times.min(u32::try_from(STEPS).unwrap_or(u32::MAX) + 1);
                Ok((0..times).map(moment).collect())
            }
            _ => Err("give one of `at`, `every` and `times`"),
        }
    }
}

/// A part of the span, from none of it to nearly all.
fn part(span: Duration, drawn: u64) -> Duration {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(if micros == 0 { 0 } else { drawn % micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(timeline: &str) -> Result<Script, ScriptError> {
        Script::parse(&format!("length: 1h\ntimeline:\n{timeline}"), 7)
    }

    fn seconds(script: &Script) -> Vec<u64> {
        script.steps.iter().map(|step| step.at.as_secs()).collect()
    }

    #[test]
    fn a_script_is_laid_out_in_the_order_of_time() {
        let script = parsed(
            "  - {every: 20m, do: {gap: {n: 3}}}\n  - {at: 5s, for: 30s, do: {stall: {}}}\n  - {at: 5s, do: {repeat: {}}}",
        )
        .unwrap();
        assert_eq!(seconds(&script), [5, 5, 35, 1_200, 2_400, 3_600]);
        let actions: Vec<_> = script.steps.iter().map(|step| &step.action).collect();
        assert_eq!(actions[0], &Action::Stall { on: true });
        assert_eq!(actions[1], &Action::Repeat {});
        assert_eq!(actions[2], &Action::Stall { on: false });
        assert_eq!(actions[3], &Action::Gap { n: 3 });
    }

    #[test]
    fn chance_follows_from_the_seed_and_stays_in_its_bounds() {
        let yaml = "length: 1h\ntimeline:\n  - {times: 20, from: 10m, until: 50m, do: {close: {}}}\n  - {every: 10m, jitter: 2m, do: {reset: {}}}";
        let script = Script::parse(yaml, 1).unwrap();
        assert_eq!(script, Script::parse(yaml, 1).unwrap());
        assert_ne!(script, Script::parse(yaml, 2).unwrap());
        let closes = script
            .steps
            .iter()
            .filter(|step| step.action == Action::Close { code: 1001 });
        assert!(
            closes
                .clone()
                .all(|step| (600..3_000).contains(&step.at.as_secs()))
        );
        assert_eq!(closes.count(), 20);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (timeline, place) in [
            ("  - {at: 5s, do: {gap: {m: 3}}}", "timeline[0].do"),
            ("  - {at: 5, do: {gap: {}}}", "timeline[0].at"),
            ("  - {at: 5s, do: {gaps: {}}}", "timeline[0].do"),
            ("  - {at: 5s, every: 5s, do: {gap: {}}}", "timeline[0]"),
            ("  - {do: {gap: {}}}", "timeline[0]"),
            ("  - {at: 5s, for: 5s, do: {gap: {}}}", "timeline[0]"),
            ("  - {every: 0s, do: {gap: {}}}", "timeline[0]"),
            ("  - {times: 3, from: 2h, do: {gap: {}}}", "timeline[0]"),
        ] {
            let error = parsed(timeline).unwrap_err().to_string();
            assert!(error.contains(place), "{timeline}: {error}");
        }
        assert!(matches!(
            parsed("  - {every: 1us, do: {gap: {}}}"),
            Err(ScriptError::TooLong)
        ));
        assert!(Script::parse("length: 1h\nrate: 0", 1).is_err());
    }
}
