//! Reads the YAML file, lets the environment override it, and names each mistake with its place.
//!
//! The only module that reads the process environment, besides `RUST_LOG` in `telemetry`. It never prints a value that may be secret.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use super::{Config, SinkConfig, validate};

/// Environment variables with this prefix override the file: `BRIDGE__FEED__URL` sets `feed.url`.
pub const ENV_PREFIX: &str = "BRIDGE__";

/// Why a configuration cannot be used: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; give its path with --config", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no YAML.
    #[error("{path} is not valid YAML: {reason}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}`{hint}{HINT}", hint = did_you_mean(.nearest.as_deref()))]
    UnknownKey {
        /// Its whole path.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong form.
    #[error("`{key}`: {reason}")]
    Value {
        /// Its whole path.
        key: String,
        /// What is expected.
        reason: String,
    },
    /// More than one of these.
    #[error("{}", together(.0))]
    Several(Vec<Self>),
    /// Values that are wrong together.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// After whatever is said of an unknown key.
const HINT: &str = "; `onboarding-bridge schema config` lists all keys";

/// All of them in one line, the hint once.
fn together(errors: &[ConfigError]) -> String {
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let bare = said
        .iter()
        .map(|said| said.strip_suffix(HINT).unwrap_or(said));
    let line = bare.collect::<Vec<_>>().join("; ");
    match said.iter().any(|said| said.ends_with(HINT)) {
        true => line + HINT,
        false => line,
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

/// Loads and checks the configuration file, overridden by the process environment.
///
/// # Errors
/// [`ConfigError`] names each unknown key and the first value of each section or sink that cannot be used,
/// or all values that are wrong together.
pub fn load(path: &std::path::Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    load_text(&text, path, std::env::vars())
}

/// As [`load`], from text and from the given variables.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    text: &str,
    path: &std::path::Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let syntax = |reason: String| ConfigError::Syntax {
        path: path.to_owned(),
        reason,
    };
    let mut root: Value =
        serde_norway::from_str(text).map_err(|error| syntax(error.to_string()))?;
    if root.is_null() {
        root = Value::Object(Map::new());
    }
    for (name, value) in environment {
        if let Some(keys) = name.strip_prefix(ENV_PREFIX) {
            overlay(&mut root, &keys.to_lowercase(), &value)?;
        }
    }
    let Value::Object(sections) = &mut root else {
        return Err(syntax("the top level is not a mapping".to_owned()));
    };
    // A feed that is left out lacks its API key, which is said better than "missing field".
    sections
        .entry("feed")
        .or_insert_with(|| Value::Object(Map::new()));
    let sinks = sections.remove("sinks").unwrap_or(Value::Array(Vec::new()));
    let mut wrong = Vec::new();
    let config: Option<Config> = typed(root, "", &mut wrong);
    let sinks = sinks_of(sinks, &mut wrong);
    match (config, wrong.pop()) {
        (Some(config), None) => {
            let config = Config { sinks, ..config };
            validate::check(&config)?;
            Ok(config)
        }
        (_, Some(last)) if wrong.is_empty() => Err(last),
        (_, last) => {
            wrong.extend(last);
            Err(ConfigError::Several(wrong))
        }
    }
}

/// Sets the value at `FEED__URL`; a part that is a number is an index into a list.
fn overlay(root: &mut Value, keys: &str, value: &str) -> Result<(), ConfigError> {
    // A value that is no valid YAML, such as one with a colon in it, is meant as it stands.
    let parsed = match serde_norway::from_str(value) {
        Ok(parsed @ (Value::Bool(_) | Value::Number(_) | Value::Array(_))) => parsed,
        _ => Value::String(value.to_owned()),
    };
    let mut place = root;
    for key in keys.split("__") {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match (place, key.parse::<usize>()) {
            (Value::Array(items), Ok(index)) if index < items.len() => &mut items[index],
            (Value::Object(map), _) => map.entry(key).or_insert(Value::Null),
            _ => {
                let key = format!("{ENV_PREFIX}{}", keys.to_uppercase());
                let reason = "this variable names no place in the configuration".to_owned();
                return Err(ConfigError::Value { key, reason });
            }
        };
    }
    *place = parsed;
    Ok(())
}

/// Each sink on its own, so that a mistake is named with its place.
fn sinks_of(sinks: Value, wrong: &mut Vec<ConfigError>) -> Vec<SinkConfig> {
    let value = |key: String, reason: &str| ConfigError::Value {
        key,
        reason: reason.to_owned(),
    };
    let Value::Array(sinks) = sinks else {
        wrong.push(value("sinks".to_owned(), "expected a list"));
        return Vec::new();
    };
    let mut parsed = Vec::new();
    for (index, mut sink) in sinks.into_iter().enumerate() {
        let key = format!("sinks[{index}]");
        let kind = sink
            .as_object_mut()
            .and_then(|fields| fields.remove("type"));
        parsed.extend(match kind.as_ref().and_then(Value::as_str) {
            Some("kafka") => typed(sink, &key, wrong).map(SinkConfig::Kafka),
            Some("nats") => typed(sink, &key, wrong).map(SinkConfig::Nats),
            Some("file") => typed(sink, &key, wrong).map(SinkConfig::File),
            _ => {
                let reason = "expected one of kafka, nats, file";
                wrong.push(value(format!("{key}.type"), reason));
                None
            }
        });
    }
    parsed
}

/// So many unknown keys of one part are told; with more it is another file than meant.
const UNKNOWN_MOST: usize = 20;

/// The typed value. Each unknown key is noted and left out, so that the next one shows; a wrong value ends it.
fn typed<T: DeserializeOwned>(
    mut value: Value,
    parent: &str,
    wrong: &mut Vec<ConfigError>,
) -> Option<T> {
    let noted = wrong.len();
    loop {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(typed) => return (wrong.len() == noted).then_some(typed),
            Err(error) => error,
        };
        let inner = error.path().to_string();
        let key = match (parent, inner.as_str()) {
            ("", _) => inner,
            (_, ".") => parent.to_owned(),
            _ => format!("{parent}.{inner}"),
        };
        let reason = error.inner().to_string();
        wrong.push(describe(key, &reason));
        let unknown = unknown_field(&reason).map(|(unknown, _)| unknown);
        let enough = wrong.len() - noted == UNKNOWN_MOST;
        let is_out = unknown.is_some_and(|unknown| take_out(&mut value, error.path(), unknown));
        if enough || !is_out {
            return None;
        }
    }
}

/// Takes an unknown key out of the map that it stands in; whether it was there.
fn take_out(value: &mut Value, path: &Path, unknown: &str) -> bool {
    let mut steps: Vec<&Segment> = path.iter().collect();
    if matches!(steps.last(), Some(Segment::Map { key }) if key == unknown) {
        steps.pop();
    }
    let map = steps.into_iter().try_fold(value, |place, step| match step {
        Segment::Map { key } => place.get_mut(key),
        Segment::Seq { index } => place.get_mut(index),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    let map = map.and_then(Value::as_object_mut);
    map.is_some_and(|map| map.remove(unknown).is_some())
}

/// The key that serde does not know, and those that it knows there.
fn unknown_field(reason: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
    let reason = reason.strip_prefix("unknown field")?;
    let mut names = reason.split('`').skip(1).step_by(2);
    Some((names.next()?, names))
}

/// Turns serde's words for an unknown key, which list the known ones, into ours.
fn describe(key: String, reason: &str) -> ConfigError {
    let Some((unknown, names)) = unknown_field(reason) else {
        return ConfigError::Value {
            key,
            reason: reason.to_owned(),
        };
    };
    let nearest = names
        .map(|name| (strsim::osa_distance(unknown, name), name))
        .filter(|(distance, _)| *distance <= 1 + unknown.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned());
    let key = if key.ends_with(unknown) {
        key
    } else {
        format!("{key}.{unknown}")
    };
    ConfigError::UnknownKey { key, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
feed: {url: 'ws://127.0.0.1:1/ws', api_key: k}
reconcile: {url: 'http://127.0.0.1:1'}
sinks:
  - {name: out, type: file, path: '-'}
";

    fn loaded(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load_text(text, std::path::Path::new("bridge.yaml"), environment)
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_name() {
        let text = GOOD.replace("url: 'ws:", "ulr: 'ws:");
        let message = loaded(&text, &[]).unwrap_err().to_string();
        assert!(
            message.contains("unknown key `feed.ulr` (did you mean `url`?)"),
            "{message}"
        );
        let text = GOOD.replace("path:", "pth:");
        let message = loaded(&text, &[]).unwrap_err().to_string();
        assert!(
            message.contains("unknown key `sinks[0].pth` (did you mean `path`?)"),
            "{message}"
        );
        let message = loaded(&format!("{GOOD}\nsink: []"), &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("unknown key `sink`"), "{message}");
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = loaded(
            GOOD,
            &[
                ("BRIDGE__FEED__PING_INTERVAL", "3s"),
                ("BRIDGE__FEED__LIMITS__CONNECTIONS", "2"),
                ("BRIDGE__SINKS__0__NAME", "other"),
                ("HOME", "/nowhere"),
            ],
        )
        .unwrap();
        assert_eq!(config.feed.ping_interval, super::super::Span::seconds(3));
        assert_eq!(config.feed.limits.connections, 2);
        assert_eq!(config.sinks[0].name(), "other");
    }

    #[test]
    fn every_unknown_key_is_told_at_once_and_a_wrong_value_of_each_part() {
        let text = GOOD
            .replace(
                "api_key: k",
                "api_key: k, ulr: x, feed: {}, limits: {conections: 2}",
            )
            .replace(
                "path: '-'}",
                "path: '-', pth: 1}\n  - {name: o, type: file, path: '-', control: perhaps}",
            );
        let message = loaded(&format!("{text}sink: 1\n"), &[])
            .unwrap_err()
            .to_string();
        for key in [
            "unknown key `feed.ulr`",
            "unknown key `feed.feed`",
            "unknown key `feed.limits.conections`",
            "unknown key `sink`",
            "unknown key `sinks[0].pth`",
            "`sinks[1].control`: ",
        ] {
            assert_eq!(message.matches(key).count(), 1, "{key}: {message}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        let text = GOOD.replace("api_key: k", "api_key: k, ping_interval: often");
        let message = loaded(&text, &[]).unwrap_err().to_string();
        assert!(
            message.contains("feed.ping_interval") && message.contains("`often`"),
            "{message}"
        );
    }
}
