//! One connection to NATS: its options, its secrets, its context.
//!
//! Secrets are read from their files at each connect, so that a rotated one needs no restart; they
//! are never logged and never part of a message. A first connect is not repeated: `deliver` does that.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectOptions, ServerAddr};

use super::super::{ErrorClass, SinkError};
use super::answers::Answers;
use super::errors;
use super::watch::Watch;
use crate::blocking::in_place;
use crate::config::NatsConfig;

/// For one address: TCP, TLS and the greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Our pings; two without answer end the connection, so a dead peer is noticed in half a minute.
const PING_INTERVAL: Duration = Duration::from_secs(12);

/// A lost connection is tried again by the client itself so often, which takes half a minute: a client
/// that was given up, or whose secrets are good for nothing any more, would go on for ever.
const RECONNECTS_MAX: usize = 20;

/// The longest wait for one acknowledgement or one answer; an election of leaders takes less.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection and what it says.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) context: jetstream::Context,
    pub(super) watch: Watch,
    pub(super) answers: Answers,
}

/// Connects anew.
pub(super) async fn connect(config: &NatsConfig) -> Result<Connection, SinkError> {
    let watch = Watch::new(&config.subject_prefix);
    let heard = watch.clone();
    let options = options(config)?.event_callback(move |event| {
        heard.take(&event);
        std::future::ready(())
    });
    let client = options
        .connect(addresses(config)?)
        .await
        .map_err(|error| errors::of_connect(&error, &servers(config), &login(config)))?;
    let context = ContextBuilder::new()
        .timeout(ANSWER_TIMEOUT)
        .build(client.clone());
    Ok(Connection {
        answers: Answers::subscribe(&client).await?,
        client,
        context,
        watch,
    })
}

/// The options, with the secrets as they are in their files now.
pub(super) fn options(config: &NatsConfig) -> Result<ConnectOptions, SinkError> {
    addresses(config)?;
    let mut options = ConnectOptions::new()
        .name(format!("onboarding-bridge {}", config.name))
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .max_reconnects(RECONNECTS_MAX)
        .request_timeout(Some(ANSWER_TIMEOUT));
    if let Some(path) = &config.credentials_file {
        // The client library wants the line end after the last line.
        let text = secret("credentials_file", path)? + "\n";
        options = options.credentials(&text).map_err(|_| {
            let what = "holds no user credentials (JWT and seed)";
            wrong("credentials_file", path, what)
        })?;
    }
    if let Some(path) = &config.nkey_seed_file {
        options = options.nkey(secret("nkey_seed_file", path)?);
    }
    if let Some(path) = &config.token_file {
        options = options.token(secret("token_file", path)?);
    }
    if let (Some(user), Some(path)) = (&config.user, &config.password_file) {
        options = options.user_and_password(user.clone(), secret("password_file", path)?);
    }
    if let Some(path) = &config.ca_file {
        readable("ca_file", path)?;
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
        readable("client_cert_file", certificate)?;
        readable("client_key_file", key)?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options.require_tls(config.is_encrypted()))
}

fn addresses(config: &NatsConfig) -> Result<Vec<ServerAddr>, SinkError> {
    let wrong = |what: &str| SinkError::new(ErrorClass::Configuration, format!("`url` {what}"));
    let parsed = config.url.split(',').map(|url| url.trim().parse());
    let parsed: Vec<ServerAddr> = parsed
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("is not an address such as nats://host:4222"))?;
    // The client library would not use them, and an address is shown to people.
    if parsed.iter().any(ServerAddr::has_user_pass) {
        return Err(wrong(
            "must not hold credentials; use `user` with `password_file`, or another file",
        ));
    }
    Ok(parsed)
}

/// The addresses for people: without what stands before an `@`.
pub(super) fn servers(config: &NatsConfig) -> String {
    let bare = |url: &str| match url.trim().split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default())
        }
        None => "(no address)".to_owned(),
    };
    config
        .url
        .split(',')
        .map(bare)
        .collect::<Vec<_>>()
        .join(",")
}

/// With what this sink logs in, for people: the option and its file.
fn login(config: &NatsConfig) -> String {
    let files = [
        ("credentials_file", &config.credentials_file),
        ("nkey_seed_file", &config.nkey_seed_file),
        ("token_file", &config.token_file),
        ("password_file", &config.password_file),
    ];
    let given = files
        .into_iter()
        .find_map(|(option, path)| Some((option, path.as_ref()?)));
    match (given, &config.user) {
        (Some((option, path)), None) => format!("`{option}` ({})", path.display()),
        (Some((option, path)), Some(user)) => {
            format!("`user` {user} and `{option}` ({})", path.display())
        }
        (None, _) => {
            "a login, which this sink has none of (`user` with `password_file`, `token_file`, \
            `nkey_seed_file`, `credentials_file`)"
                .to_owned()
        }
    }
}

fn secret(option: &str, path: &Path) -> Result<String, SinkError> {
    let text = in_place(|| std::fs::read_to_string(path))
        .map_err(|error| wrong(option, path, &format!("cannot be read: {error}")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(wrong(option, path, "is empty"));
    }
    Ok(text.to_owned())
}

fn readable(option: &str, path: &Path) -> Result<(), SinkError> {
    in_place(|| std::fs::File::open(path))
        .map(drop)
        .map_err(|error| wrong(option, path, &format!("cannot be read: {error}")))
}

fn wrong(option: &str, path: &Path, what: &str) -> SinkError {
    SinkError::new(
        ErrorClass::Configuration,
        format!("`{option}`: {} {what}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> NatsConfig {
        let text =
            format!("{{name: n, url: 'nats://localhost', stream: S, subject_prefix: p{more}}}");
        serde_norway::from_str(&text).unwrap()
    }

    #[test]
    fn a_secret_file_that_cannot_be_used_is_named_with_its_option() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let empty = empty.path().display();
        for (more, message) in [
            (
                ", token_file: /nonexistent/t".to_owned(),
                "`token_file`: /nonexistent/t cannot",
            ),
            (
                ", credentials_file: /nonexistent/c".to_owned(),
                "`credentials_file`: /nonexistent/c",
            ),
            (
                ", user: u, password_file: /nonexistent/p".to_owned(),
                "`password_file`: /nonexistent",
            ),
            (
                ", ca_file: /nonexistent/ca".to_owned(),
                "`ca_file`: /nonexistent/ca cannot",
            ),
            (format!(", token_file: {empty}"), "is empty"),
        ] {
            let error = options(&config(&more)).err().unwrap();
            assert_eq!(error.class, ErrorClass::Configuration);
            assert!(error.message.contains(message), "{error}");
        }
    }

    #[test]
    fn user_credentials_are_taken_with_and_without_a_last_line_end() {
        // The seed of the bytes 0 to 31, which opens nothing.
        let text = "-----BEGIN NATS USER JWT-----\ne30.e30.e30\n------END NATS USER JWT------\n\n\
            -----BEGIN USER NKEY SEED-----\n\
            SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y\n\
            ------END USER NKEY SEED------";
        for end in ["", "\n", "\r\n"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("{text}{end}")).unwrap();
            let more = format!(", credentials_file: '{}'", file.path().display());
            options(&config(&more)).map(drop).unwrap();
        }
    }

    #[test]
    fn addresses_are_told_without_what_stands_before_the_at() {
        let mut config = config("");
        config.url = "nats://ada:pw@one:4222, tls://token@two".to_owned();
        assert_eq!(servers(&config), "nats://one:4222,tls://two");
        let error = options(&config).err().unwrap();
        assert_eq!(error.class, ErrorClass::Configuration);
        assert!(!error.message.contains("pw"), "{error}");
        config.url = "::".to_owned();
        let error = options(&config).err().unwrap();
        assert_eq!(error.class, ErrorClass::Configuration);
    }
}
