//! Looks at a stream before anything is published to it: is it there, does it take our subjects, does
//! it acknowledge, and is it as safe as it could be.
//!
//! It never changes a stream; a consumer that it makes to try the right to read it deletes again.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream,
};

use super::super::{Destination, ErrorClass, SinkError};
use super::connect::{Connection, servers};
use super::{errors, held, subject};
use crate::config::NatsConfig;

/// Before this version a repeat could be called a duplicate although nothing was stored.
const SERVER_VERSION_MIN: (u32, u32) = (2, 11);

/// A shorter memory for message ids is over before a restart with its `held` is.
const DUPLICATE_WINDOW_MIN: Duration = Duration::from_secs(120);

const REPLICAS_MIN: usize = 3;

/// Checks server and stream; the stream's handle is for `held`.
pub(super) async fn inspect(
    connection: &Connection,
    config: &NatsConfig,
) -> Result<(Stream, Destination), SinkError> {
    let version = connection.client.server_info().version;
    check_version(&version)?;
    let stream = get_stream(connection, config).await?;
    let found = &stream.cached_info().config;
    check_stream(found, config)?;
    let mut warnings = warnings(found);
    let readable = held::probe(connection, &stream, config).await;
    if let Err(reason) = &readable {
        warnings.push(format!(
            "the stream cannot be read ({reason}), so after an unclean end events may come twice; \
             allow this sink's user to create and read a consumer"
        ));
    }
    let destination = Destination {
        description: format!(
            "stream {} at {} (server {version}, {} replica(s), {})",
            config.stream,
            servers(config),
            found.num_replicas,
            match found.storage {
                StorageType::File => "file",
                StorageType::Memory => "memory",
            }
        ),
        can_tell_what_it_holds: readable.is_ok(),
        warnings,
    };
    Ok((stream, destination))
}

fn check_version(version: &str) -> Result<(), SinkError> {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    let (major, minor) = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if (major, minor) >= SERVER_VERSION_MIN {
        return Ok(());
    }
    let (major, minor) = SERVER_VERSION_MIN;
    Err(configuration(format!(
        "the server is version {version:?}; upgrade it to {major}.{minor} or later"
    )))
}

async fn get_stream(connection: &Connection, config: &NatsConfig) -> Result<Stream, SinkError> {
    let (name, prefix) = (&config.stream, &config.subject_prefix);
    let answer = tokio::select! {
        answer = connection.context.get_stream(name) => answer,
        refused = connection.watch.request_refused() => {
            return Err(configuration(format!(
                "stream {name} cannot be looked at ({refused}); allow this sink's user \
                 `$JS.API.STREAM.INFO.{name}` and its inbox"
            )));
        }
    };
    answer.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(answer)
            if errors::class_of(answer.error_code()) == ErrorClass::Configuration =>
        {
            configuration(format!(
                "stream {name} at {}: {answer}; create it with the subjects `{prefix}.>`, the \
                 bridge creates none",
                servers(config)
            ))
        }
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
            configuration(format!("{name:?} is no name of a stream"))
        }
        _ => SinkError::new(
            ErrorClass::Transient,
            format!("stream {name} at {}: {error}", servers(config)),
        ),
    })
}

fn check_stream(found: &Config, config: &NatsConfig) -> Result<(), SinkError> {
    let (name, prefix) = (&config.stream, &config.subject_prefix);
    let ours = format!("{prefix}.*");
    if !found
        .subjects
        .iter()
        .any(|pattern| subject::covers(pattern, &ours))
    {
        return Err(configuration(format!(
            "stream {name} takes {:?} but not `{prefix}.>`; add that to its subjects",
            found.subjects
        )));
    }
    if found.no_ack {
        return Err(configuration(format!(
            "stream {name} has no_ack, so nothing is ever acknowledged; unset it"
        )));
    }
    if found.sealed {
        return Err(configuration(format!(
            "stream {name} is sealed; name another"
        )));
    }
    Ok(())
}

/// One sentence for each setting under which an acknowledged event may still be lost or doubled.
fn warnings(found: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |when: bool, text: String| warnings.extend(when.then_some(text));
    warn(
        found.num_replicas < REPLICAS_MIN,
        format!(
            "the stream has {} replica(s); 3 survive the loss of a server",
            found.num_replicas
        ),
    );
    warn(
        found.storage == StorageType::Memory,
        "the stream is in memory and lost with its servers; use file storage".to_owned(),
    );
    warn(
        found.persist_mode == Some(PersistenceMode::Async),
        "the stream acknowledges before it stores (persist_mode async)".to_owned(),
    );
    warn(
        found.duplicate_window < DUPLICATE_WINDOW_MIN,
        format!(
            "the stream forgets message ids after {:?}; use 2m or more",
            found.duplicate_window
        ),
    );
    let limited = found.max_messages > 0
        || found.max_bytes > 0
        || found.max_messages_per_subject > 0
        || !found.max_age.is_zero();
    warn(
        found.discard == DiscardPolicy::Old && limited,
        "the stream drops its oldest messages at its limits, read or not (discard: old)".to_owned(),
    );
    warn(
        found.retention != RetentionPolicy::Limits,
        "the stream forgets what was consumed, so it cannot tell all that it was given".to_owned(),
    );
    warnings
}

fn configuration(message: impl Display) -> SinkError {
    SinkError::new(ErrorClass::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NatsConfig {
        serde_norway::from_str("{name: n, url: 'nats://h', stream: S, subject_prefix: a.b}")
            .unwrap()
    }

    #[test]
    fn a_server_must_be_new_enough() {
        for (version, accepted) in [
            ("2.11.0", true),
            ("2.15.1", true),
            ("2.12.0-preview.1", true),
            ("3.0", true),
            ("2.10.29", false),
            ("1.99.0", false),
            ("", false),
        ] {
            assert_eq!(check_version(version).is_ok(), accepted, "{version}");
        }
    }

    #[test]
    fn a_stream_must_take_the_subjects_and_acknowledge() {
        let good = Config {
            subjects: vec!["x".into(), "a.>".into()],
            ..Config::default()
        };
        check_stream(&good, &config()).unwrap();
        for (bad, words) in [
            (
                Config {
                    subjects: vec!["a.b".into()],
                    ..good.clone()
                },
                "but not `a.b.>`",
            ),
            (
                Config {
                    no_ack: true,
                    ..good.clone()
                },
                "no_ack",
            ),
            (
                Config {
                    sealed: true,
                    ..good.clone()
                },
                "sealed",
            ),
        ] {
            let error = check_stream(&bad, &config()).unwrap_err();
            assert_eq!(error.class, ErrorClass::Configuration);
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn each_unsafe_setting_has_its_sentence_and_a_safe_stream_none() {
        let safe = Config {
            num_replicas: 3,
            duplicate_window: DUPLICATE_WINDOW_MIN,
            discard: DiscardPolicy::New,
            max_bytes: 1,
            ..Config::default()
        };
        assert_eq!(warnings(&safe), Vec::<String>::new());
        for (unsafe_one, words) in [
            (
                Config {
                    num_replicas: 1,
                    ..safe.clone()
                },
                "1 replica",
            ),
            (
                Config {
                    storage: StorageType::Memory,
                    ..safe.clone()
                },
                "memory",
            ),
            (
                Config {
                    duplicate_window: Duration::from_secs(1),
                    ..safe.clone()
                },
                "1s",
            ),
            (
                Config {
                    discard: DiscardPolicy::Old,
                    ..safe.clone()
                },
                "discard: old",
            ),
            (
                Config {
                    retention: RetentionPolicy::WorkQueue,
                    ..safe.clone()
                },
                "consumed",
            ),
            (
                Config {
                    persist_mode: Some(PersistenceMode::Async),
                    ..safe.clone()
                },
                "async",
            ),
        ] {
            let found = warnings(&unsafe_one);
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        }
    }
}
