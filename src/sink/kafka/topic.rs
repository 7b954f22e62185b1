//! Looks at a topic before anything is published to it: is it there, may it be used, is it as safe as
//! it could be. It never creates or changes a topic.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use super::super::{ErrorClass, SinkError};
use super::client::{Aside, Context, blocking};
use super::{errors, options};
use crate::config::KafkaConfig;

/// The longest wait for the topic's metadata.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// One question; short, so that a refused password is seen long before the wait is over.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two questions, because a wrong answer may come at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The topic's settings are a courtesy: without them it works.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(2);

const REPLICAS_MIN: usize = 3;
const IN_SYNC_MIN: usize = 2;

/// A smaller limit refuses records that the feed may well bring.
const MESSAGE_BYTES_MIN: usize = 64 * 1024;

/// Room for a batch's own head, and for what compression may add in the worst case.
const BATCH_MARGIN: usize = 1024;

/// What there is to know of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) partitions: i32,
    /// Of the partition that has the fewest.
    pub(super) replicas: usize,
    leaderless: usize,
    /// Absent if the settings may not be read.
    pub(super) settings: Option<Settings>,
}

/// The settings that matter; absent ones were not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) max_message_bytes: Option<usize>,
    min_in_sync: Option<usize>,
    compacted: bool,
    unclean_election: bool,
    /// Whether the broker stamps the records with its own time.
    pub(super) append_time: bool,
}

/// Asks for the topic until an answer that counts, an error that only an operator can mend, or the
/// deadline. Blocks.
pub(super) fn find(client: &Client<Context>, config: &KafkaConfig) -> Result<Topic, SinkError> {
    let deadline = Instant::now() + METADATA_TIMEOUT;
    loop {
        let retry = match ask(client, config) {
            Ok(topic) => return Ok(topic),
            Err(error) if error.class == ErrorClass::Configuration => return Err(error),
            Err(error) => error,
        };
        let said = client.context().last_error();
        if let Some(trouble) = client.context().trouble() {
            return Err(turned_away(config, &trouble));
        }
        if Instant::now() >= deadline {
            let why = said.map_or(retry.message, |error| error.message);
            return Err(SinkError::new(
                ErrorClass::Transient,
                format!(
                    "{} did not answer within {METADATA_TIMEOUT:?}: {why}",
                    at(config)
                ),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

fn ask(client: &Client<Context>, config: &KafkaConfig) -> Result<Topic, SinkError> {
    let name = &config.topic;
    let metadata = client
        .fetch_metadata(Some(name), QUESTION_TIMEOUT)
        .map_err(|error| errors::of_client(at(config), &error))?;
    let found = metadata.topics().iter().find(|topic| topic.name() == name);
    let Some(found) = found else {
        return Err(SinkError::new(
            ErrorClass::Transient,
            "no answer about the topic",
        ));
    };
    if let Some(error) = found.error() {
        return Err(refused(config, error.into()));
    }
    let partitions = found.partitions();
    if partitions.is_empty() {
        return Err(SinkError::new(
            ErrorClass::Transient,
            "the topic has no partitions yet",
        ));
    }
    Ok(Topic {
        partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replicas: partitions
            .iter()
            .map(|p| p.replicas().len())
            .min()
            .unwrap_or(0),
        leaderless: partitions.iter().filter(|p| p.leader() < 0).count(),
        settings: None,
    })
}

/// The brokers do not let this sink in: which of its options that is about.
pub(super) fn turned_away(config: &KafkaConfig, trouble: &SinkError) -> SinkError {
    let why = &trouble.message;
    let names = |beginning| config.options.named(beginning);
    let advice = if why.contains("SASL") {
        format!(
            "check {}, and what the brokers know of this user",
            names("sasl.")
        )
    } else {
        match names("ssl.") {
            none if none.is_empty() => "no `options.ssl.*` is set: `options.ssl.ca.pem_file` says whom to \
                trust, `options.ssl.certificate.pem_file` and `options.ssl.key.pem_file` who this sink is"
                .to_owned(),
            some => format!("check {some}"),
        }
    };
    let message = format!(
        "the brokers {} refuse this sink: {why}; {advice}",
        at(config)
    );
    SinkError::new(trouble.class, message)
}

/// An error code in words, with what to do where that is known.
pub(super) fn refused(config: &KafkaConfig, code: Code) -> SinkError {
    let topic = &config.topic;
    let advice = match code {
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId => "; create it (the bridge creates none), or correct `topic`",
        Code::TopicAuthorizationFailed => {
            "; allow this sink's user WRITE, DESCRIBE and READ on the topic"
        }
        _ => "",
    };
    SinkError::new(
        errors::class_of(code),
        format!("topic {topic} at {}: {code}{advice}", at(config)),
    )
}

/// The topic's settings, or nothing if they may not be read.
pub(super) async fn settings(config: &KafkaConfig) -> Option<Settings> {
    let wanted = config.clone();
    let admin = blocking(move || {
        let context = Context::default();
        let client: Result<AdminClient<Context>, KafkaError> =
            options::admin(&wanted)?.create_with_context(context);
        client
            .map(Aside::new)
            .map_err(|error| errors::of_client("admin client", &error))
    });
    let admin = admin.await.ok()?;
    let options = AdminOptions::new().request_timeout(Some(SETTINGS_TIMEOUT));
    let topic = [ResourceSpecifier::Topic(&config.topic)];
    let answer = tokio::time::timeout(
        SETTINGS_TIMEOUT + QUESTION_TIMEOUT,
        admin.describe_configs(&topic, &options),
    );
    let mut found = answer.await.ok()?.ok()?;
    match found.pop()? {
        Ok(resource) => Some(Settings::of(&resource)),
        Err(code) => {
            tracing::debug!(%code, "the topic's settings may not be read");
            None
        }
    }
}

impl Settings {
    fn of(resource: &ConfigResource) -> Self {
        let text = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
        let number = |name: &str| text(name).and_then(|value| value.parse().ok());
        Self {
            max_message_bytes: number("max.message.bytes"),
            min_in_sync: number("min.insync.replicas"),
            compacted: text("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            unclean_election: text("unclean.leader.election.enable") == Some("true"),
            append_time: text("message.timestamp.type") == Some("LogAppendTime"),
        }
    }
}

impl Topic {
    /// The largest batch that the topic takes for sure.
    pub(super) fn batch_bytes_max(&self) -> Option<usize> {
        let limit = self.settings.as_ref()?.max_message_bytes?;
        Some(limit.saturating_sub(BATCH_MARGIN).max(1))
    }

    /// One line for people.
    pub(super) fn describe(&self, config: &KafkaConfig) -> String {
        let limit = self
            .settings
            .as_ref()
            .and_then(|settings| settings.max_message_bytes);
        let limit = limit.map_or_else(String::new, |bytes| {
            format!(", at most {bytes} bytes a record")
        });
        let transactions = config.transactional_id().map_or_else(String::new, |id| {
            format!(", in transactions of {id}, for read_committed consumers")
        });
        format!(
            "topic {} at {} ({} partition(s), {} replica(s){limit}){transactions}",
            config.topic,
            at(config),
            self.partitions,
            self.replicas
        )
    }

    /// One sentence for each setting under which an acknowledged event may still be lost.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |when: bool, text: String| warnings.extend(when.then_some(text));
        let replicas = self.replicas;
        warn(
            replicas < REPLICAS_MIN,
            format!("the topic has {replicas} replica(s); 3 survive the loss of a broker"),
        );
        warn(
            self.leaderless > 0,
            format!(
                "{} partition(s) of the topic have no leader",
                self.leaderless
            ),
        );
        let Some(settings) = &self.settings else {
            return warnings;
        };
        if let Some(in_sync) = settings.min_in_sync {
            warn(
                in_sync < IN_SYNC_MIN,
                format!("min.insync.replicas is {in_sync}: one broker's word is enough; use 2"),
            );
            warn(
                replicas > 1 && in_sync >= replicas,
                format!(
                    "min.insync.replicas is {in_sync} of {replicas}: the loss of one broker stops the topic"
                ),
            );
        }
        warn(
            settings.unclean_election,
            "unclean.leader.election.enable is true: acknowledged events may be lost".to_owned(),
        );
        warn(
            settings.compacted,
            "the topic is compacted: in time it keeps only the last event of each user".to_owned(),
        );
        let small = settings
            .max_message_bytes
            .filter(|bytes| *bytes < MESSAGE_BYTES_MIN);
        if let Some(bytes) = small {
            warn(
                true,
                format!("max.message.bytes is {bytes}: larger events become dead letters"),
            );
        }
        warnings
    }
}

/// The brokers, for people.
pub(super) fn at(config: &KafkaConfig) -> String {
    config.brokers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe() -> Topic {
        Topic {
            partitions: 6,
            replicas: 3,
            leaderless: 0,
            settings: Some(Settings {
                max_message_bytes: Some(1_048_588),
                min_in_sync: Some(2),
                ..Settings::default()
            }),
        }
    }

    #[test]
    fn a_safe_topic_has_no_warning_and_each_unsafe_setting_one() {
        assert_eq!(safe().warnings(), Vec::<String>::new());
        let with = |settings: Settings| Topic {
            settings: Some(settings),
            ..safe()
        };
        let base = safe().settings.unwrap();
        for (topic, words) in [
            (
                Topic {
                    replicas: 1,
                    settings: None,
                    ..safe()
                },
                "1 replica",
            ),
            (
                Topic {
                    leaderless: 2,
                    ..safe()
                },
                "2 partition(s)",
            ),
            (
                with(Settings {
                    min_in_sync: Some(1),
                    ..base.clone()
                }),
                "is 1:",
            ),
            (
                with(Settings {
                    min_in_sync: Some(3),
                    ..base.clone()
                }),
                "3 of 3",
            ),
            (
                with(Settings {
                    unclean_election: true,
                    ..base.clone()
                }),
                "unclean",
            ),
            (
                with(Settings {
                    compacted: true,
                    ..base.clone()
                }),
                "compacted",
            ),
            (
                with(Settings {
                    max_message_bytes: Some(9),
                    ..base.clone()
                }),
                "dead letters",
            ),
        ] {
            let found = topic.warnings();
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        }
    }

    #[test]
    fn a_missing_topic_says_what_to_do() {
        let config: KafkaConfig =
            serde_norway::from_str("{name: k, brokers: ['b1:9092', 'b2:9092'], topic: users}")
                .unwrap();
        let error = refused(&config, Code::UnknownTopicOrPartition);
        assert_eq!(error.class, ErrorClass::Configuration);
        for words in ["topic users", "b1:9092,b2:9092", "create it"] {
            assert!(error.message.contains(words), "{error}");
        }
    }
}
