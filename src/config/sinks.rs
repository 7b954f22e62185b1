//! The sinks of the configuration, one struct a type.
//!
//! Adding a type here is the first half of adding a sink; `sink::create` is the other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::units::Span;
use crate::notice::Channel;

/// Where events go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkConfig {
    /// A Kafka topic.
    Kafka(KafkaConfig),
    /// A NATS JetStream stream.
    Nats(NatsConfig),
    /// A file of JSON lines, or standard output.
    File(FileConfig),
}

impl SinkConfig {
    /// The sink's own name: the label of its metrics and the name of its cursor.
    pub fn name(&self) -> &str {
        match self {
            Self::Kafka(kafka) => &kafka.name,
            Self::Nats(nats) => &nats.name,
            Self::File(file) => &file.name,
        }
    }

    /// Whether the sink takes the notices of a channel.
    pub fn takes(&self, channel: Channel) -> bool {
        let (control, dead_letters) = match self {
            Self::Kafka(kafka) => (kafka.control, kafka.dead_letters),
            Self::Nats(nats) => (nats.control, nats.dead_letters),
            // Standard output has one meaning.
            Self::File(file) if file.path == Path::new("-") => (false, false),
            Self::File(file) => (file.control, file.dead_letters),
        };
        match channel {
            Channel::Control => control,
            Channel::Dead => dead_letters,
        }
    }

    /// The files that hold this sink's secrets and certificates; each opening reads them anew.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        match self {
            Self::Kafka(kafka) => kafka.options.files(),
            Self::Nats(nats) => {
                let files = [
                    &nats.credentials_file,
                    &nats.nkey_seed_file,
                    &nats.token_file,
                    &nats.password_file,
                    &nats.ca_file,
                    &nats.client_cert_file,
                    &nats.client_key_file,
                ];
                files.into_iter().flatten().cloned().collect()
            }
            Self::File(_) => Vec::new(),
        }
    }

    /// The addresses of its servers, with scheme and port as far as they are given.
    pub fn addresses(&self) -> Vec<&str> {
        match self {
            Self::Kafka(kafka) => kafka.brokers.iter().map(String::as_str).collect(),
            Self::Nats(nats) => nats.url.split(',').map(str::trim).collect(),
            Self::File(_) => Vec::new(),
        }
    }

    /// How long the network gets to settle after an unclean end, before the sink asks what arrived.
    pub fn settle(&self) -> std::time::Duration {
        match self {
            Self::Kafka(kafka) => kafka.settle.0,
            Self::Nats(nats) => nats.settle.0,
            // A file has no network that could hold something back.
            Self::File(_) => std::time::Duration::ZERO,
        }
    }
}

/// A Kafka topic.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Name of this sink: letters, digits, `-` and `_`; also the name of its cursor.
    pub name: String,
    /// Bootstrap servers, `host:port`.
    pub brokers: Vec<String>,
    /// The topic; it must exist, the bridge creates none.
    pub topic: String,
    /// Wait after an unclean end or an unknown outcome, before asking the topic what it holds.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// Publishes in transactions: a consumer that reads `read_committed` sees each event once,
    /// whatever fails and however late the bytes of a dead process arrive. Costs some latency.
    #[serde(default)]
    pub exactly_once: bool,
    /// Blind windows are told on the topic `<topic>.control`, if there is one; it never holds up events.
    #[serde(default = "yes")]
    pub control: bool,
    /// Dead letters are copied to the topic `<topic>.dead`, redacted as the journal keeps them.
    #[serde(default)]
    pub dead_letters: bool,
    /// Name of the transactional producer, with `exactly_once`. It must stay the same through
    /// restarts and belong to this sink of this bridge alone: who opens it shuts out every other.
    /// Default: `onboarding-bridge.<topic>.<name>`.
    pub transactional_id: Option<String>,
    /// Any librdkafka option by its own name; one that ends in `_file` is read from that file
    /// (`sasl.password_file`). Options that would break the promise are refused.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub options: KafkaOptions,
    /// Allows a plaintext connection to another machine.
    #[serde(default)]
    pub allow_insecure: bool,
}

impl KafkaConfig {
    /// Whether its connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        let protocol = self.options.get("security.protocol");
        let protocol = protocol.and_then(Value::as_str).unwrap_or_default();
        protocol.to_lowercase().ends_with("ssl")
    }

    /// The name of the transactional producer, if there is to be one.
    pub fn transactional_id(&self) -> Option<String> {
        let default = || format!("onboarding-bridge.{}.{}", self.topic, self.name);
        self.exactly_once
            .then(|| self.transactional_id.clone().unwrap_or_else(default))
    }
}

/// librdkafka options. Whoever prints them sees three stars for what may be a secret.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct KafkaOptions(BTreeMap<String, Value>);

/// In the name of each librdkafka option that holds a secret, and not the name of a file.
const SECRET_WORDS: [&str; 5] = [
    "password",
    "passphrase",
    "secret",
    "pem",
    "oauthbearer.config",
];

/// How the names of options end whose value is a file: the first is ours, the others librdkafka's own.
pub(super) const FILE_ENDS: [&str; 4] = ["_file", ".location", ".file", ".keytab"];

impl KafkaOptions {
    /// The options that say who this sink is and whom it trusts, by the beginning of their names
    /// (`sasl.`, `ssl.`), for people.
    pub fn named(&self, beginning: &str) -> String {
        let names = self.0.keys().filter(|name| name.starts_with(beginning));
        let names: Vec<_> = names.map(|name| format!("`options.{name}`")).collect();
        names.join(", ")
    }

    /// The files that the options name.
    fn files(&self) -> Vec<PathBuf> {
        let options = self.0.iter();
        let named = options.filter(|(name, _)| FILE_ENDS.iter().any(|end| name.ends_with(end)));
        let paths = named.filter_map(|(_, value)| value.as_str());
        paths.map(PathBuf::from).collect()
    }

    fn shown(&self) -> BTreeMap<&String, Value> {
        let secret = |name: &str| {
            !name.ends_with("_file") && SECRET_WORDS.iter().any(|word| name.contains(word))
        };
        let shown = self.0.iter().map(|(name, value)| match secret(name) {
            true => (name, Value::from("***")),
            false => (name, value.clone()),
        });
        shown.collect()
    }
}

impl std::ops::Deref for KafkaOptions {
    type Target = BTreeMap<String, Value>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl Serialize for KafkaOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

/// A NATS JetStream stream.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// Name of this sink: letters, digits, `-` and `_`; also the name of its cursor.
    pub name: String,
    /// Server address, or several separated by commas: `nats://host:4222`, `tls://host:4222`.
    pub url: String,
    /// The stream; it must exist and take `<subject_prefix>.>`.
    pub stream: String,
    /// Events go to `<subject_prefix>.<user>`: words of letters, digits, `-` and `_` with dots between them.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"))]
    pub subject_prefix: String,
    /// Blind windows are told on `<subject_prefix>_control.feed.blind`, if a stream takes it; it never
    /// holds up events.
    #[serde(default = "yes")]
    pub control: bool,
    /// Dead letters are copied to `<subject_prefix>_dead`, redacted as the journal keeps them.
    #[serde(default)]
    pub dead_letters: bool,
    /// Wait after an unclean end or an unknown outcome, before asking the stream what it holds.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// User credentials file (JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// File with the seed of a user's nkey (`SU…`).
    pub nkey_seed_file: Option<PathBuf>,
    /// File with a token.
    pub token_file: Option<PathBuf>,
    /// User name, together with `password_file`.
    pub user: Option<String>,
    /// File with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// PEM file of certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    pub client_key_file: Option<PathBuf>,
    /// Allows a plaintext connection to another machine.
    #[serde(default)]
    pub allow_insecure: bool,
}

impl NatsConfig {
    /// Whether its connections are encrypted. One `tls://` means all of them: no address may be the weak one.
    pub fn is_encrypted(&self) -> bool {
        let mut urls = self.url.split(',');
        urls.any(|url| url.trim().starts_with("tls://")) || self.client_cert_file.is_some()
    }
}

/// A file of JSON lines, or standard output.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Name of this sink: letters, digits, `-` and `_`; also the name of its cursor.
    pub name: String,
    /// The file, created with mode 0600 if it is absent; `-` is standard output.
    pub path: PathBuf,
    /// Blind windows are told in `<path>.control`; never on standard output.
    #[serde(default = "yes")]
    pub control: bool,
    /// Dead letters are copied to `<path>.dead`, redacted as the journal keeps them; never to standard
    /// output.
    #[serde(default)]
    pub dead_letters: bool,
}

const fn yes() -> bool {
    true
}

fn default_settle() -> Span {
    Span::seconds(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_a_sink_is_one_of_its_secrets() {
        let schema = Value::from(schemars::schema_for!(NatsConfig));
        let names = schema["properties"].as_object().unwrap().keys();
        let files: Vec<_> = names.filter(|name| name.ends_with("_file")).collect();
        assert_eq!(files.len(), 7);
        let mut nats = serde_json::json!({"type": "nats", "name": "n", "url": "u", "stream": "S",
            "subject_prefix": "p"});
        for file in &files {
            nats[file.as_str()] = format!("/{file}").into();
        }
        let nats: SinkConfig = serde_json::from_value(nats).unwrap();
        let paths = |sink: &SinkConfig| -> std::collections::BTreeSet<_> {
            sink.secret_files().into_iter().collect()
        };
        let wanted = files.iter().map(|file| PathBuf::from(format!("/{file}")));
        assert_eq!(paths(&nats), wanted.collect());

        let kafka = "{type: kafka, name: k, brokers: [b], topic: t, options: {linger.ms: 5,
            sasl.password_file: /a, ssl.ca.location: /b, sasl.oauthbearer.assertion.file: /c,
            sasl.kerberos.keytab: /d, sasl.username: u}}";
        let kafka: SinkConfig = serde_norway::from_str(kafka).unwrap();
        let wanted = ["/a", "/b", "/c", "/d"].map(PathBuf::from);
        assert_eq!(paths(&kafka), wanted.into());
    }
}
