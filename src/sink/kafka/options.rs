//! From our configuration to librdkafka's: what the promise rests on, what may be chosen otherwise, and
//! secrets from their files.
//!
//! A value never appears in a message, only the name of its option: it may be a password.

use std::collections::BTreeMap;
use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use serde_json::Value;

use super::super::{ErrorClass, SinkError};
use crate::blocking::in_place;
use crate::config::KafkaConfig;

/// An option whose name ends so is read from the file that it names.
const FILE_SUFFIX: &str = "_file";

/// What a batch of librdkafka may hold, before the topic's own limit is known. Small, because a broker
/// that refuses a batch for its size refuses every record in it.
pub(super) const BATCH_BYTES: usize = 128 * 1024;

/// Producer options by which the promise holds; an operator cannot change them.
const FIXED: [(&str, &str); 7] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // As Java's default, so that one user has one partition whoever writes.
    ("partitioner", "murmur2_random"),
    ("allow.auto.create.topics", "false"),
    // Nothing expires here: the journal holds the record, and `deliver` bounds the wait.
    ("message.timeout.ms", "0"),
    ("delivery.report.only.error", "false"),
    ("statistics.interval.ms", "0"),
];

/// Within a transaction a record expires before the transaction does, or a broker would end it under
/// us: nothing is lost by that, the transaction is aborted and the journal holds the records.
const TRANSACTION: [(&str, &str); 2] = [
    ("transaction.timeout.ms", "60000"),
    ("message.timeout.ms", "45000"),
];

/// Producer options that an operator may change, each with its other names.
const DEFAULTS: [(&[&str], &str); 7] = [
    // Bounds of librdkafka's own queue; at the bound `publish` waits for acknowledgements.
    (&["queue.buffering.max.messages"], "20000"),
    (&["queue.buffering.max.kbytes"], "32768"),
    (&["linger.ms", "queue.buffering.max.ms"], "1"),
    (&["compression.type", "compression.codec"], "lz4"),
    // The topic's limit decides, not this one: it is only a guard of the client.
    (&["message.max.bytes"], "16777216"),
    (&["socket.keepalive.enable"], "true"),
    // How long a topic that was there may seem to be gone, until its sink says so and halts.
    (&["topic.metadata.propagation.max.ms"], "10000"),
];

/// Consumer options for `held`: no group, no commits, every record up to the end.
const READER: [(&str, &str); 9] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    // A record of another producer's open transaction is not ours, but it must not stop the reading.
    ("isolation.level", "read_uncommitted"),
    ("auto.offset.reset", "earliest"),
    ("fetch.wait.max.ms", "50"),
    ("queued.max.messages.kbytes", "16384"),
    ("statistics.interval.ms", "0"),
    ("allow.auto.create.topics", "false"),
];

/// The configuration of the producer, with batches of at most `batch_bytes`.
pub(super) fn producer(
    config: &KafkaConfig,
    batch_bytes: usize,
) -> Result<ClientConfig, SinkError> {
    let options = resolve(config)?;
    let mut client = common(config, &options);
    let batch_bytes = batch_bytes.to_string();
    let defaults = DEFAULTS
        .iter()
        .copied()
        .chain([(&["batch.size"][..], batch_bytes.as_str())]);
    for (names, value) in defaults {
        if !names.iter().any(|name| options.contains_key(*name)) {
            client.set(names[0], value);
        }
    }
    for (name, value) in FIXED {
        client.set(name, value);
    }
    if let Some(id) = config.transactional_id() {
        client.set("transactional.id", id);
        for (name, value) in TRANSACTION {
            client.set(name, value);
        }
    }
    check(&client)?;
    Ok(client)
}

/// As [`reader`], but of what a transaction has committed, and of nothing after an open one.
pub(super) fn committed_reader(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    let mut client = reader(config)?;
    client.set("isolation.level", "read_committed");
    Ok(client)
}

/// The configuration of a consumer that only looks.
pub(super) fn reader(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    let options = resolve(config)?;
    let mut client = common(config, &options);
    // librdkafka assigns partitions only to a consumer with a group, though it never joins it.
    client.set("group.id", "onboarding-bridge-reader");
    for (name, value) in READER {
        client.set(name, value);
    }
    check(&client)?;
    Ok(client)
}

/// The configuration of an admin client that only looks.
pub(super) fn admin(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    Ok(common(config, &resolve(config)?))
}

/// The `batch.size` that holds: an operator's own goes first.
pub(super) fn batch_bytes(client: &ClientConfig) -> usize {
    let chosen = client
        .get("batch.size")
        .and_then(|value| value.parse().ok());
    chosen.unwrap_or(BATCH_BYTES)
}

fn common(config: &KafkaConfig, options: &BTreeMap<String, String>) -> ClientConfig {
    let mut client = ClientConfig::new();
    // Whether it is shown is the subscriber's affair.
    client.set_log_level(RDKafkaLogLevel::Info);
    client.set("client.id", format!("onboarding-bridge-{}", config.name));
    for (name, value) in options {
        client.set(name, value);
    }
    client.set("bootstrap.servers", config.brokers.join(","));
    client
}

/// The operator's options as text, with the files read.
fn resolve(config: &KafkaConfig) -> Result<BTreeMap<String, String>, SinkError> {
    let mut options = BTreeMap::new();
    for (name, value) in config.options.iter() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(wrong(name, "must be text, a number, true or false"));
            }
        };
        let (name, text) = match name.strip_suffix(FILE_SUFFIX) {
            Some(bare) => (bare, read(name, &text)?),
            None => (name.as_str(), text),
        };
        if options.insert(name.to_owned(), text).is_some() {
            return Err(wrong(name, "is given twice, by value and by file"));
        }
    }
    Ok(options)
}

fn read(name: &str, path: &str) -> Result<String, SinkError> {
    let text = in_place(|| std::fs::read_to_string(Path::new(path)))
        .map_err(|error| wrong(name, &format!("{path} cannot be read: {error}")))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong(name, &format!("{path} is empty"))),
        text => Ok(text.to_owned()),
    }
}

/// Lets librdkafka look at every option, without connecting.
fn check(client: &ClientConfig) -> Result<(), SinkError> {
    let Err(error) = client.create_native_config() else {
        return Ok(());
    };
    Err(match error {
        // Its own words would repeat the value.
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            wrong(&name, "is no option of librdkafka")
        }
        KafkaError::ClientConfig(_, _, name, _) => {
            wrong(&name, "has a value that librdkafka refuses")
        }
        _ => SinkError::new(ErrorClass::Configuration, "`options` cannot be used"),
    })
}

fn wrong(name: &str, what: &str) -> SinkError {
    SinkError::new(
        ErrorClass::Configuration,
        format!("`options.{name}`: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn config(options: &str) -> KafkaConfig {
        let text = format!("{{name: k, brokers: [a, b], topic: t, options: {options}}}");
        serde_norway::from_str(&text).unwrap()
    }

    #[test]
    fn the_promise_holds_whatever_the_options_say() {
        let client = producer(&config("{acks: 1, enable.idempotence: false}"), 1000).unwrap();
        assert_eq!(client.get("acks"), Some("all"));
        assert_eq!(client.get("enable.idempotence"), Some("true"));
        assert_eq!(client.get("partitioner"), Some("murmur2_random"));
        assert_eq!(client.get("message.timeout.ms"), Some("0"));
        assert_eq!(client.get("allow.auto.create.topics"), Some("false"));
        assert_eq!(client.get("bootstrap.servers"), Some("a,b"));
        assert_eq!(client.get("batch.size"), Some("1000"));
    }

    #[test]
    fn a_transaction_outlives_its_records_and_has_an_id_of_its_sink() {
        let plain = producer(&config("{}"), 1000).unwrap();
        assert_eq!(plain.get("transactional.id"), None);
        let mut config = config("{}");
        config.exactly_once = true;
        let client = producer(&config, 1000).unwrap();
        assert_eq!(
            client.get("transactional.id"),
            Some("onboarding-bridge.t.k")
        );
        let number = |name: &str| client.get(name).unwrap().parse::<u64>().unwrap();
        assert!(number("message.timeout.ms") < number("transaction.timeout.ms"));
        assert!(number("message.timeout.ms") > 0, "0 would be for ever");
        config.transactional_id = Some("mine".to_owned());
        let client = producer(&config, 1000).unwrap();
        assert_eq!(client.get("transactional.id"), Some("mine"));
    }

    #[test]
    fn a_default_gives_way_to_an_option_by_any_of_its_names() {
        let client = producer(&config("{queue.buffering.max.ms: 7, batch.size: 99}"), 5).unwrap();
        assert_eq!(client.get("linger.ms"), None);
        assert_eq!(client.get("queue.buffering.max.ms"), Some("7"));
        assert_eq!(batch_bytes(&client), 99);
        assert_eq!(client.get("compression.type"), Some("lz4"));
    }

    #[test]
    fn a_secret_comes_from_its_file_without_the_line_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"s3cret \r\n").unwrap();
        let options = format!("{{sasl.password_file: {}}}", file.path().display());
        let client = producer(&config(&options), 1000).unwrap();
        assert_eq!(client.get("sasl.password"), Some("s3cret "));
        assert_eq!(
            reader(&config(&options)).unwrap().get("sasl.password"),
            Some("s3cret ")
        );
    }

    #[test]
    fn a_wrong_option_is_named_and_its_value_is_not() {
        for (options, message) in [
            (
                "{no.such.option: hush}",
                "`options.no.such.option`: is no option",
            ),
            ("{linger.ms: hush}", "`options.linger.ms`: has a value"),
            (
                "{sasl.password: {hush: 1}}",
                "`options.sasl.password`: must be text",
            ),
            (
                "{sasl.password_file: /nonexistent/x}",
                "`options.sasl.password_file`: /nonexistent/x",
            ),
        ] {
            let error = producer(&config(options), 1000).unwrap_err();
            assert_eq!(error.class, ErrorClass::Configuration);
            assert!(error.message.contains(message), "{error}");
            assert!(!error.message.contains("hush"), "{error}");
        }
    }
}
