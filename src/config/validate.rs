//! What must hold between the values of a configuration; every breach is named at once.
//!
//! It looks at the values alone: no file, no network.

use std::net::IpAddr;

use super::{
    Config, ConfigError, FieldPolicy, KafkaConfig, KeyPolicy, NatsConfig, PrivacyConfig,
    ProxyConfig, SinkConfig, TokenPolicy,
};
use crate::journal::IN_FLIGHT_BYTES;
use crate::privacy;
use crate::state::FieldName;

/// Half of what may lie between the socket and the disk, so that any frame finds room there.
const FRAME_BYTES_MAX: u64 = IN_FLIGHT_BYTES as u64 / 2;

/// What waits for the vendor's list waits no longer.
const SPAN_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// librdkafka options that the bridge sets itself, because a promise rests on them.
const RESERVED_KAFKA_OPTIONS: [&str; 18] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "partitioner",
    "transactional.id",
    "transaction.timeout.ms",
    "isolation.level",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "retries",
    "message.send.max.retries",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "allow.auto.create.topics",
    "enable.gapless.guarantee",
    "delivery.report.only.error",
];

/// What `security.protocol` may be.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Checks the whole configuration.
///
/// # Errors
/// [`ConfigError::Invalid`] with one sentence for each breach.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let mut wrong = Vec::new();
    check_feed(config, &mut wrong);
    check_privacy(config, &mut wrong);
    check_sinks(&config.sinks, &mut wrong);
    if !(0.0..=1.0).contains(&config.reconcile.max_removed_share) {
        wrong.push("`reconcile.max_removed_share` must lie between 0 and 1".to_owned());
    }
    check_reconcile(config, &mut wrong);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Invalid(wrong))
    }
}

fn check_reconcile(config: &Config, wrong: &mut Vec<String>) {
    let reconcile = &config.reconcile;
    let spans = [
        ("read_after_write", reconcile.read_after_write),
        ("silence_grace", reconcile.silence_grace),
    ];
    for (name, span) in spans {
        if span.0 > SPAN_MAX {
            wrong.push(format!(
                "`reconcile.{name}` must be at most 10m: so long is a blind window not healed, or a silence \
                 not noticed"
            ));
        }
    }
}

fn check_feed(config: &Config, wrong: &mut Vec<String>) {
    let (feed, reconcile) = (&config.feed, &config.reconcile);
    scheme(
        "feed.url",
        &feed.url,
        ["wss", "ws"],
        feed.allow_insecure,
        wrong,
    );
    scheme(
        "reconcile.url",
        &reconcile.url,
        ["https", "http"],
        reconcile.allow_insecure,
        wrong,
    );
    if feed.api_key_file.is_some() == feed.api_key.is_some() {
        wrong.push(
            "the API key is missing: set `feed.api_key_file`, or BRIDGE__FEED__API_KEY in the \
             environment, but not both"
                .to_owned(),
        );
    }
    if let Some(proxy) = &feed.proxy {
        check_proxy(proxy, wrong);
    }
    let limits = &feed.limits;
    if !(2..=10).contains(&limits.connections) {
        wrong.push(
            "`feed.limits.connections` must be 2 to 10: the vendor allows 10 an address, and the \
             bridge needs one for the socket and one for REST"
                .to_owned(),
        );
    }
    if !(4..=40).contains(&limits.requests_per_minute) {
        wrong.push(
            "`feed.limits.requests_per_minute` must be 4 to 40: the vendor allows 40, and one \
             connect with its reconcile takes 4"
                .to_owned(),
        );
    }
    if feed.idle_timeout <= feed.ping_interval || feed.ping_interval.0.is_zero() {
        wrong.push(
            "`feed.idle_timeout` must be longer than `feed.ping_interval`, and neither may be 0"
                .to_owned(),
        );
    }
    if !(1024..=FRAME_BYTES_MAX).contains(&feed.max_frame_bytes.0) {
        wrong.push("`feed.max_frame_bytes` must be 1KiB to 8MiB".to_owned());
    }
}

fn check_proxy(proxy: &ProxyConfig, wrong: &mut Vec<String>) {
    let authority = proxy
        .url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'));
    match authority {
        Some(authority) if authority.contains('@') => wrong.push(
            "`feed.proxy.url` must not hold a user or password, because an address is shown; use \
             `feed.proxy.user` with `feed.proxy.password_file`"
                .to_owned(),
        ),
        Some(authority) if !authority.is_empty() && !authority.contains(['/', '?', '#']) => {}
        _ => wrong.push(
            "`feed.proxy.url` must be an address such as http://host:3128 (TLS to the vendor goes \
             through it from end to end)"
                .to_owned(),
        ),
    }
    if proxy.user.is_some() != proxy.password_file.is_some() {
        wrong.push("`feed.proxy`: `user` goes with `password_file`".to_owned());
    }
}

fn check_privacy(config: &Config, wrong: &mut Vec<String>) {
    let privacy = &config.privacy;
    for name in privacy.fields.keys() {
        if FieldName::ALL.iter().all(|field| field.as_str() != name) {
            wrong.push(format!("`privacy.fields.{name}`: there is no such field"));
        }
    }
    let hashes = privacy.key == KeyPolicy::Hmac
        || privacy
            .fields
            .values()
            .any(|policy| *policy == FieldPolicy::Hmac);
    if hashes && privacy.hmac_key_file.is_none() {
        wrong.push("a policy `hmac` needs `privacy.hmac_key_file`".to_owned());
    }
    check_token(privacy, wrong);
    match &privacy.hmac_key_version {
        Some(version) if !privacy::is_version(version) => wrong.push(format!(
            "`privacy.hmac_key_version` must be 1 to {} letters, digits or `-`",
            privacy::VERSION_MAX
        )),
        Some(_) if privacy.hmac_key_file.is_none() => wrong.push(
            "`privacy.hmac_key_version` is of no use without `privacy.hmac_key_file`".to_owned(),
        ),
        Some(_) | None => {}
    }
}

fn check_token(privacy: &PrivacyConfig, wrong: &mut Vec<String>) {
    let recipients = &privacy.token_recipients;
    let has_recipients = !recipients.is_empty() || privacy.token_recipients_file.is_some();
    match privacy.user_token {
        TokenPolicy::Fingerprint if privacy.hmac_key_file.is_none() => {
            wrong.push("`privacy.user_token: fingerprint` needs `privacy.hmac_key_file`".to_owned())
        }
        TokenPolicy::Encrypt if !has_recipients => wrong.push(
            "`privacy.user_token: encrypt` needs the public key of a consumer: set \
             `privacy.token_recipients` or `privacy.token_recipients_file`"
                .to_owned(),
        ),
        TokenPolicy::Encrypt => {}
        TokenPolicy::Drop | TokenPolicy::Fingerprint | TokenPolicy::Forward if has_recipients => {
            wrong.push(
                "`privacy.token_recipients` and `privacy.token_recipients_file` are of no use without \
                 `privacy.user_token: encrypt`"
                    .to_owned(),
            );
        }
        TokenPolicy::Drop | TokenPolicy::Fingerprint | TokenPolicy::Forward => {}
    }
    for (index, recipient) in recipients.iter().enumerate() {
        // The text is not repeated: it may be a private key that was put here by mistake.
        if let Err(error) = privacy::check_recipient(recipient) {
            wrong.push(format!("`privacy.token_recipients[{index}]` {error}"));
        }
    }
    if recipients.len() > privacy::RECIPIENTS_MAX {
        wrong.push(format!(
            "`privacy.token_recipients` has more than {} keys",
            privacy::RECIPIENTS_MAX
        ));
    }
}

fn check_sinks(sinks: &[SinkConfig], wrong: &mut Vec<String>) {
    if sinks.is_empty() {
        wrong.push("`sinks` is empty: name at least one sink".to_owned());
    }
    for (index, sink) in sinks.iter().enumerate() {
        let name = sink.name();
        if name.is_empty()
            || name.len() > 64
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            wrong.push(format!(
                "`sinks[{index}].name` must be 1 to 64 letters, digits, `-` or `_`"
            ));
        }
        if sinks
            .iter()
            .take(index)
            .any(|earlier| earlier.name() == name)
        {
            wrong.push(format!(
                "`sinks[{index}].name`: `{name}` is taken by an earlier sink"
            ));
        }
        match sink {
            SinkConfig::Kafka(kafka) => check_kafka(index, kafka, wrong),
            SinkConfig::Nats(nats) => check_nats(index, nats, wrong),
            SinkConfig::File(_) => {}
        }
    }
}

fn check_kafka(index: usize, kafka: &KafkaConfig, wrong: &mut Vec<String>) {
    for (key, is_empty) in [
        ("brokers", kafka.brokers.is_empty()),
        ("topic", kafka.topic.is_empty()),
    ] {
        if is_empty {
            wrong.push(format!("`sinks[{index}].{key}` must not be empty"));
        }
    }
    match &kafka.transactional_id {
        Some(_) if !kafka.exactly_once => wrong.push(format!(
            "`sinks[{index}].transactional_id` is of no use without `exactly_once: true`"
        )),
        Some(id) if id.trim().is_empty() => wrong.push(format!(
            "`sinks[{index}].transactional_id` must not be empty"
        )),
        _ => {}
    }
    for option in kafka.options.keys() {
        if RESERVED_KAFKA_OPTIONS.contains(&option.as_str()) {
            wrong.push(format!(
                "`sinks[{index}].options.{option}` is set by the bridge, because its promise rests \
                 on it; remove it"
            ));
        }
    }
    for option in ["sasl.mechanism", "sasl.mechanisms"] {
        let mechanism = kafka.options.get(option).and_then(|value| value.as_str());
        let why = match mechanism.map(str::to_ascii_uppercase).as_deref() {
            Some("OAUTHBEARER") => {
                "OAUTHBEARER needs a client that fetches tokens, which this program has not"
            }
            Some("GSSAPI") => "GSSAPI (Kerberos) is not built in",
            _ => continue,
        };
        wrong.push(format!(
            "`sinks[{index}].options.{option}`: {why}; use SCRAM-SHA-512, PLAIN within TLS, or a client certificate"
        ));
    }
    check_protocol(index, kafka, wrong);
}

fn check_protocol(index: usize, kafka: &KafkaConfig, wrong: &mut Vec<String>) {
    if let Some(protocol) = kafka.options.get("security.protocol") {
        let name = protocol.as_str().unwrap_or_default().to_lowercase();
        if !PROTOCOLS.contains(&name.as_str()) {
            let known = PROTOCOLS.join(", ");
            wrong.push(format!(
                "`sinks[{index}].options.security.protocol` must be one of {known}"
            ));
            return;
        }
    }
    if !kafka.is_encrypted() && !kafka.allow_insecure {
        for broker in kafka.brokers.iter().filter(|broker| !is_loopback(broker)) {
            wrong.push(format!(
                "`sinks[{index}].brokers`: {broker} would be reached in plaintext; set \
                 `security.protocol: ssl` in its options, or `allow_insecure: true`"
            ));
        }
    }
}

fn check_nats(index: usize, nats: &NatsConfig, wrong: &mut Vec<String>) {
    for url in nats.url.split(',').map(str::trim) {
        scheme(
            &format!("sinks[{index}].url"),
            url,
            ["tls", "nats"],
            nats.allow_insecure,
            wrong,
        );
    }
    let prefix = &nats.subject_prefix;
    let token = |token: &str| {
        !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if nats.stream.is_empty() {
        wrong.push(format!("`sinks[{index}].stream` must not be empty"));
    }
    if !prefix.split('.').all(token) {
        wrong.push(format!(
            "`sinks[{index}].subject_prefix` must be words of letters, digits, `-` and `_` with dots \
             between them"
        ));
    }
    let logins = [
        ("credentials_file", nats.credentials_file.is_some()),
        ("nkey_seed_file", nats.nkey_seed_file.is_some()),
        ("token_file", nats.token_file.is_some()),
        ("user", nats.user.is_some()),
    ];
    let given: Vec<_> = logins.iter().filter(|(_, given)| *given).collect();
    if let [(one, _), (other, _), ..] = given[..] {
        wrong.push(format!(
            "`sinks[{index}]`: `{one}` and `{other}` are two ways to log in; give one"
        ));
    }
    if nats.user.is_some() != nats.password_file.is_some()
        || nats.client_cert_file.is_some() != nats.client_key_file.is_some()
    {
        wrong.push(format!(
            "`sinks[{index}]`: `user` goes with `password_file`, `client_cert_file` with \
             `client_key_file`"
        ));
    }
}

/// Checks that an address is of one of two schemes, and that the open one stays on this machine.
fn scheme(
    key: &str,
    url: &str,
    [secure, open]: [&str; 2],
    allow_insecure: bool,
    wrong: &mut Vec<String>,
) {
    let authority = |rest: &str| {
        rest.split(['/', '?', '#'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    match url.split_once("://") {
        Some((_, rest)) if authority(rest).contains('@') => wrong.push(format!(
            "`{key}` must not hold a user or password, because an address is shown; what needs one \
             has keys of its own for it"
        )),
        Some((scheme, rest)) if scheme == secure && !rest.is_empty() => {}
        Some((scheme, rest)) if scheme == open && !rest.is_empty() => {
            if !allow_insecure && !is_loopback(rest) {
                wrong.push(format!(
                    "`{key}`: {open}:// to another machine is not encrypted; use {secure}://, or \
                     set `allow_insecure: true` beside it"
                ));
            }
        }
        _ => wrong.push(format!(
            "`{key}` must be an address such as {secure}://host"
        )),
    }
}

/// Whether `host:port/path` names this machine.
fn is_loopback(address: &str) -> bool {
    let authority = address.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_the_bridge_sets_or_cannot_use_is_refused_by_name() {
        for (more, words) in [
            ("", None),
            (", exactly_once: true", None),
            (", exactly_once: true, transactional_id: mine", None),
            (", transactional_id: mine", Some("of no use without")),
            (
                ", exactly_once: true, transactional_id: ' '",
                Some("must not be empty"),
            ),
            (
                ", options: {transactional.id: mine}",
                Some("set by the bridge"),
            ),
            (
                ", options: {transaction.timeout.ms: 1000}",
                Some("set by the bridge"),
            ),
            (
                ", options: {sasl.mechanism: OAUTHBEARER}",
                Some("use SCRAM-SHA-512"),
            ),
            (
                ", options: {sasl.mechanisms: gssapi}",
                Some("is not built in; use SCRAM-SHA-512"),
            ),
            (", options: {sasl.mechanism: SCRAM-SHA-512}", None),
        ] {
            let text = format!("{{name: k, brokers: [localhost], topic: t{more}}}");
            let mut wrong = Vec::new();
            check_kafka(0, &serde_norway::from_str(&text).unwrap(), &mut wrong);
            match words {
                None => assert!(wrong.is_empty(), "{more}: {wrong:?}"),
                Some(words) => assert!(
                    wrong.len() == 1 && wrong[0].contains(words),
                    "{more}: {wrong:?}"
                ),
            }
        }
    }

    #[test]
    fn the_chart_refuses_the_options_that_the_bridge_sets() {
        let checks = include_str!("../../charts/onboarding-bridge/templates/_checks.tpl");
        let (_, rest) = checks
            .split_once("define \"onboarding-bridge.reservedKafkaOptions\"")
            .unwrap();
        let (list, _) = rest.split_once("{{- end").unwrap();
        let named: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(named, RESERVED_KAFKA_OPTIONS);
    }

    #[test]
    fn only_this_machine_counts_as_loopback() {
        for local in [
            "localhost:9092",
            "127.0.0.1",
            "127.9.9.9:1/ws",
            "[::1]:4222",
            "u@localhost",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in [
            "localhost.example.test",
            "10.0.0.1:1",
            "example.test/localhost",
            "",
        ] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
