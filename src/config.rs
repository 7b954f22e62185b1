//! The configuration: one YAML file, one struct a section, a default and a unit for every value.
//!
//! These structs are the single source of `schema config` and of docs/configuration.md. This module
//! checks values against each other; it never opens a connection and never reads a secret (a secret
//! is read where it is used, so that a rotated one needs no restart).

mod files;
pub mod load;
pub mod sinks;
pub mod units;
pub mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use files::{NamedFile, files};
pub use load::{ConfigError, load, load_text};
pub use sinks::{FileConfig, KafkaConfig, NatsConfig, SinkConfig};
pub use units::{Secret, Size, Span};

use crate::state::FieldName;

/// Everything that `run` and `check` need to know.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The vendor's WebSocket feed.
    pub feed: FeedConfig,
    /// The vendor's REST list, by which what was not heard is repaired.
    #[serde(default = "all_defaults::<ReconcileConfig>")]
    pub reconcile: ReconcileConfig,
    /// The file on disk that makes an event durable before it is counted as heard.
    #[serde(default = "all_defaults::<JournalConfig>")]
    pub journal: JournalConfig,
    /// What may leave the process, field by field.
    #[serde(default)]
    pub privacy: PrivacyConfig,
    /// Where the events go; each sink has its own cursor.
    #[serde(default)]
    pub sinks: Vec<SinkConfig>,
    /// The port for metrics, health and status.
    #[serde(default)]
    pub admin: AdminConfig,
    /// How the process ends.
    #[serde(default)]
    pub shutdown: ShutdownConfig,
}

/// The vendor's WebSocket feed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// Address of the WebSocket; plain `ws://` only to loopback, or with `allow_insecure`.
    #[serde(default = "default_feed_url")]
    pub url: String,
    /// File that holds the enterprise API key; read again at each connect.
    pub api_key_file: Option<PathBuf>,
    /// The API key itself, meant for the environment (`BRIDGE__FEED__API_KEY`); prefer the file.
    pub api_key: Option<Secret>,
    /// How the `enterprise` flag is sent: the vendor's pages show both forms.
    #[serde(default)]
    pub enterprise_flag: EnterpriseFlag,
    /// Our own WebSocket pings are sent this often.
    #[serde(default = "seconds::<15>")]
    pub ping_interval: Span,
    /// The connection is given up after so long without any frame, pongs included.
    #[serde(default = "seconds::<30>")]
    pub idle_timeout: Span,
    /// The longest wait for the TCP and TLS connection, and for each reply to our commands.
    #[serde(default = "seconds::<10>")]
    pub reply_timeout: Span,
    /// A longer message is set aside as a dead letter, its content unread; at most 8MiB.
    #[serde(default = "mebibytes::<1>")]
    pub max_frame_bytes: Size,
    /// A sequence number may come this many frames late before it counts as missing.
    #[serde(default = "default_reorder_window")]
    pub reorder_window: u32,
    /// Opens a new connection after a gap in the numbers, where the limits have room for two. It brings
    /// nothing back and is deaf meanwhile; the list repairs a gap without it.
    #[serde(default)]
    pub reconnect_on_gap: bool,
    /// The share of the vendor's limits that this bridge may use.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// PEM file of certificate authorities to trust instead of the built-in public ones; read again at
    /// each connect.
    pub ca_file: Option<PathBuf>,
    /// Allows plain `ws://` to another machine.
    #[serde(default)]
    pub allow_insecure: bool,
    /// An HTTP proxy on the way to the vendor, for the feed and for the list.
    pub proxy: Option<ProxyConfig>,
}

/// Only where there is an HTTP proxy on the way to the vendor: feed and list go through it by `CONNECT`, TLS
/// from end to end. What the environment names (`HTTPS_PROXY`) is never asked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Its address, such as `http://proxy.example.test:3128`; without a port 80.
    pub url: String,
    /// User name, together with `password_file`; both go to the proxy unencrypted, as its protocol asks.
    pub user: Option<String>,
    /// File with the password; read again at each connect.
    pub password_file: Option<PathBuf>,
}

/// How the `enterprise` flag of the authenticate message is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnterpriseFlag {
    /// `"enterprise": true`
    #[default]
    Boolean,
    /// `"enterprise": "true"`
    String,
}

/// The share of the vendor's limits (10 connections, 40 requests a minute) that may be used.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections to the vendor at one time, REST included; at most 10.
    pub connections: u32,
    /// Requests a minute of every kind together: connects, commands, REST; at most 40.
    pub requests_per_minute: u32,
    /// Silence after an answer that looks like the vendor's limit.
    pub block_wait: Span,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 5,
            requests_per_minute: 20,
            block_wait: Span::seconds(120),
        }
    }
}

/// The vendor's REST list.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileConfig {
    /// Base address; `/v1/enterprise/users` is added to it.
    #[serde(default = "default_reconcile_url")]
    pub url: String,
    /// A reconcile runs at least this often, besides those after each blind window.
    #[serde(default = "hours::<6>")]
    pub interval: Span,
    /// What the very first list does: `publish` every user as registered, or only `adopt` them.
    #[serde(default)]
    pub first_start: FirstStart,
    /// A list that lacks a larger share of the known users removes nobody and raises an alarm.
    #[serde(default = "default_removed_share")]
    pub max_removed_share: f64,
    /// The list may be so long behind the feed: what was heard this shortly before it was asked for is
    /// not overruled by it, and another list is asked for after this time. 0: it is never behind.
    #[serde(default = "seconds::<10>")]
    pub read_after_write: Span,
    /// The feed must tell within this time of a registration or a change of `status` or `requirements`
    /// that a list showed first; otherwise it was silent: a blind window, and where it told of nobody, a
    /// new connection. 0: nothing is concluded.
    #[serde(default = "seconds::<30>")]
    pub silence_grace: Span,
    /// Longest wait for a connection, and for the answer; the whole list may take 20 times as long.
    #[serde(default = "seconds::<30>")]
    pub timeout: Span,
    /// A longer list, after decompression, is not read to its end.
    #[serde(default = "gibibytes::<4>")]
    pub max_bytes: Size,
    /// PEM file of certificate authorities to trust instead of the built-in public ones; read again for
    /// each list.
    pub ca_file: Option<PathBuf>,
    /// Allows plain `http://` to another machine.
    #[serde(default)]
    pub allow_insecure: bool,
}

/// What the very first reconcile does with users that the journal has never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FirstStart {
    /// Each user of the list becomes a `user.registered` event.
    #[default]
    Publish,
    /// The list is taken as known; only later changes are published.
    Adopt,
}

/// The journal.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// The SQLite file; created with mode 0600 if it is absent.
    #[serde(default = "default_journal_path")]
    pub path: PathBuf,
    /// The journal takes no more events when the file has this size; its log beside it takes up to 64MiB.
    #[serde(default = "gibibytes::<8>")]
    pub max_bytes: Size,
    /// What becomes of events while the journal takes none (its limit, or a full disk): `block` leaves
    /// the feed unread until there is room, `drop_newest` reads on, drops and counts them.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Records that every sink has are kept until they are this old, so that a new sink gets them.
    #[serde(default = "hours::<24>")]
    pub retention: Span,
    /// Commits come at most this often; 0: as soon as the last one is done.
    #[serde(default = "seconds::<0>")]
    pub commit_interval: Span,
    /// File with the secret (at least 32 random bytes, as text or as they are) with which everything
    /// personal in the journal is encrypted. Without it only the file's mode protects it. A journal
    /// that is not encrypted, or with another key, is encrypted anew at the start.
    #[serde(default)]
    pub encryption_key_file: Option<PathBuf>,
    /// Files of earlier keys: a journal that is still encrypted with one of them can be read, and is
    /// encrypted anew, or decrypted, at the next start.
    #[serde(default)]
    pub old_encryption_key_files: Vec<PathBuf>,
}

impl JournalConfig {
    /// The default values, for a file at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..all_defaults()
        }
    }

    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

/// What becomes of events while the journal takes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The feed is not read until there is room; nothing that was read is lost.
    #[default]
    Block,
    /// They are dropped and counted; a blind window covers them, and the list repairs the states.
    DropNewest,
}

/// What may leave the process.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyConfig {
    /// What becomes of the live credential in each message.
    pub user_token: TokenPolicy,
    /// The consumers' X25519 public keys for `user_token: encrypt`: each the base64 line of a PEM file
    /// `BEGIN PUBLIC KEY`; at most 8 with those of the file.
    pub token_recipients: Vec<String>,
    /// PEM file with one or more such public keys, read at the start.
    pub token_recipients_file: Option<PathBuf>,
    /// A policy a field: `email`, `first_name`, `last_name`, `phone_number`, `account_type`,
    /// `account_role`, `status`, `requirements`. Default: `keep`.
    #[schemars(schema_with = "fields_schema")]
    pub fields: BTreeMap<String, FieldPolicy>,
    /// Whether records carry the vendor's `user_id` or its HMAC.
    pub key: KeyPolicy,
    /// File with the secret (at least 32 bytes) for every `hmac` policy and for `fingerprint`; read at
    /// the start.
    pub hmac_key_file: Option<PathBuf>,
    /// Name of that secret, 1 to 16 letters, digits or `-`, written into each HMAC so that secrets can be
    /// rotated; without it an HMAC does not say which secret made it.
    pub hmac_key_version: Option<String>,
}

/// What becomes of `user_token`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenPolicy {
    /// It is forgotten as soon as the message is parsed.
    #[default]
    Drop,
    /// Its HMAC, by which two equal tokens can be told, and when it expires.
    Fingerprint,
    /// Encrypted to the consumers' public keys, so that not even the bridge can read it back.
    Encrypt,
    /// In clear: the journal, every sink, dead letters and exports then hold live credentials.
    Forward,
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldPolicy {
    /// As the vendor sent it.
    #[default]
    Keep,
    /// `null`.
    Drop,
    /// Its first character and three stars; three stars and the last two digits of a phone number;
    /// three stars alone where that would show too much.
    Mask,
    /// `hmac:`, the version of the secret if it has one, and 32 hex digits, equal for equal values.
    Hmac,
}

/// What the key of a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyPolicy {
    /// The vendor's `user_id`, byte for byte.
    #[default]
    Plain,
    /// The HMAC of `user_id` as 32 hex digits, after the version of the secret if it has one.
    Hmac,
}

/// The port for metrics, health and status.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Address and port of `/metrics`, `/livez`, `/readyz`, `/status`, `/log-level` (changed only from the
    /// machine itself) and a page for people at `/`.
    pub listen: std::net::SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 9464).into(),
        }
    }
}

/// How the process ends.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// After SIGTERM the sinks have this long to take what the journal holds; the rest is kept.
    pub drain: Span,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            drain: Span::seconds(25),
        }
    }
}

/// A policy for each field that there is, and for no other.
fn fields_schema(generator: &mut SchemaGenerator) -> Schema {
    let policy = generator.subschema_for::<FieldPolicy>();
    let fields = FieldName::ALL.iter().map(|field| field.as_str());
    let fields: BTreeMap<&str, &Schema> = fields.map(|field| (field, &policy)).collect();
    json_schema!({"type": "object", "properties": fields, "additionalProperties": false})
}

/// A section that is left out: each of its values has a default.
fn all_defaults<T: serde::de::DeserializeOwned>() -> T {
    serde_json::from_value(serde_json::json!({})).expect("every value of the section has a default")
}

fn default_feed_url() -> String {
    "wss://ws.sfox.com/ws".to_owned()
}

fn default_reconcile_url() -> String {
    "https://api.sfox.com".to_owned()
}

fn default_journal_path() -> PathBuf {
    "/var/lib/onboarding-bridge/journal.db".into()
}

fn default_reorder_window() -> u32 {
    8
}

fn default_removed_share() -> f64 {
    0.2
}

fn seconds<const N: u64>() -> Span {
    Span::seconds(N)
}

fn hours<const N: u64>() -> Span {
    Span::seconds(N * 3600)
}

fn mebibytes<const N: u64>() -> Size {
    Size::mebibytes(N)
}

fn gibibytes<const N: u64>() -> Size {
    Size::mebibytes(N * 1024)
}
