//! One request for the list, read as a stream: never the whole body in memory.
//!
//! The only file that names the HTTP client. A body that breaks off, is no JSON or lacks its `data`
//! is an error, never a short list. Whether it is a list is judged by the body alone, not by its
//! content type; what the vendor says beside a status goes nowhere.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy, ProxyProtocol};

use super::{Listed, body};
use crate::config::{ProxyConfig, ReconcileConfig};
use crate::event::Timestamp;
use crate::feed::budget::Budget;
use crate::feed::limits;
use crate::feed::proxy::{LOGIN, ProxyError, Way};

/// Path of the list below `reconcile.url`.
const PATH: &str = "/v1/enterprise/users";

/// The whole list may take this many times `reconcile.timeout`.
const BODY_TIMEOUT_FACTOR: u32 = 20;

/// So much of the text of a refusal is read.
const ERROR_BYTES: u64 = 4 * 1024;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API key cannot be read.
    #[error("{0}; make `feed.api_key_file` readable for this process")]
    Credential(String),
    /// The key was refused.
    #[error(
        "the vendor refuses the API key for the list ({0}); check the key in `feed.api_key_file`, and its right to read the list"
    )]
    Refused(u16),
    /// Refused in a way that looks like the vendor's limit.
    #[error("the vendor answered {status}, as it does over its limit or in maintenance")]
    Limited {
        /// With this status.
        status: u16,
        /// For how long it asks for silence.
        retry_after: Option<Duration>,
    },
    /// Another status.
    #[error("the vendor answered {0}{advice}", advice = advice(*.0))]
    Status(u16),
    /// No connection, or one that broke.
    #[error("cannot reach {url}: {reason}; check `reconcile.url` and the network")]
    Unreachable {
        /// The address.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// There is no way through the proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The body is not the list.
    #[error("the list cannot be read: {0}")]
    Body(String),
    /// The bridge is ending.
    #[error("the bridge is ending")]
    Ended,
}

impl ListError {
    /// Notes the silence that is asked for, if this looks like the vendor's limit.
    pub fn note(&self, budget: &Budget) {
        if let Self::Limited { retry_after, .. } = self {
            budget.block_for(retry_after.unwrap_or_default());
        }
    }

    /// Whether what we log in with cannot be read, or is refused by the proxy.
    pub const fn is_credential(&self) -> bool {
        match self {
            Self::Credential(_) => true,
            Self::Proxy(error) => error.is_credential(),
            _ => false,
        }
    }

    /// Whether an operator must mend something before another try can do better.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Proxy(error) => error.is_credential(),
            _ => false,
        }
    }
}

/// What may be wrong where the vendor answers so.
const fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => {
            "; a redirect is not followed, because the key would go with it: set `reconcile.url`"
        }
        404 => "; check `reconcile.url`",
        _ => "",
    }
}

/// A list that came to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// Whether every entry could be read.
    pub complete: bool,
    /// The vendor's clock at its answer, in whole seconds.
    pub vendor_time: Option<Timestamp>,
}

/// Fetches the list and sends its users; blocking.
pub(super) fn read(
    config: &ReconcileConfig,
    proxy: Option<&ProxyConfig>,
    key: &SecretString,
    listed: &mpsc::Sender<Listed>,
) -> Result<List, ListError> {
    let url = format!("{}{PATH}", config.url.trim_end_matches('/'));
    let unreachable = |reason: String| ListError::Unreachable {
        url: config.url.clone(),
        reason,
    };
    let way = proxy.map(Way::of).transpose()?;
    let agent = agent(config, way.as_ref()).map_err(unreachable)?;
    let request = agent
        .get(&url)
        .header("Authorization", format!("Bearer {}", key.expose_secret()));
    let mut response = request.call().map_err(|error| match (&way, error) {
        (Some(way), ureq::Error::ConnectProxyFailed(why)) => not_through(way, &url, why).into(),
        // Its own connection comes first, and what the vendor refuses behind it comes by its answer.
        (
            Some(way),
            error
            @ (ureq::Error::Io(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed),
        ) => not_reached(way, &error).into(),
        (_, error) => unreachable(error.to_string()),
    })?;
    match response.status().as_u16() {
        200 => {}
        status => return Err(refused(status, &mut response)),
    }
    let date = response.headers().get("date");
    let vendor_time = date.and_then(|date| limits::http_date(date.to_str().ok()?));
    let reader = response.body_mut().as_reader();
    let complete = body::users(reader, config.max_bytes, listed)?;
    Ok(List {
        complete,
        vendor_time,
    })
}

/// Why there is no connection to the proxy.
fn not_reached(way: &Way, error: &ureq::Error) -> ProxyError {
    ProxyError::Unreachable {
        proxy: way.url.clone(),
        reason: error.to_string(),
    }
}

/// What the proxy said instead of connecting; the library tells it in words.
fn not_through(way: &Way, url: &str, why: String) -> ProxyError {
    let proxy = way.url.clone();
    match LOGIN.iter().any(|status| why.contains(&status.to_string())) {
        true => ProxyError::Login(proxy),
        false => ProxyError::Refused {
            proxy,
            target: url.to_owned(),
            answer: why,
        },
    }
}

/// An answer that is no list. A 403 is documented as a key without the right, so it is the limit only
/// where it says so.
fn refused(status: u16, response: &mut Response<Body>) -> ListError {
    let asked = response.headers().get("retry-after");
    let asked = asked.and_then(|value| value.to_str().ok());
    let retry_after = asked.and_then(|value| limits::retry_after(value, Timestamp::now()));
    let body = response.body_mut().with_config().limit(ERROR_BYTES);
    match status {
        429 | 503 => ListError::Limited {
            status,
            retry_after,
        },
        403 if limits::speaks_of_limit(&body.read_to_string().unwrap_or_default()) => {
            ListError::Limited {
                status,
                retry_after,
            }
        }
        401 | 403 => ListError::Refused(status),
        status => ListError::Status(status),
    }
}

fn agent(config: &ReconcileConfig, way: Option<&Way>) -> Result<Agent, String> {
    let proxy = way.map(through).transpose()?;
    let roots = match &config.ca_file {
        None => RootCerts::WebPki,
        Some(path) => {
            let wrong = |error: &dyn fmt::Display| format!("ca_file {}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
            let mut certificates = Vec::new();
            for item in parse_pem(&pem) {
                if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
                    certificates.push(certificate);
                }
            }
            if certificates.is_empty() {
                return Err(wrong(&"there is no certificate in it"));
            }
            RootCerts::new_with_certs(&certificates)
        }
    };
    let timeout = config.timeout.0;
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // By default it is what the environment names, which the feed beside it knows nothing of.
        .proxy(proxy)
        .max_redirects(0)
        .timeout_connect(Some(timeout))
        .timeout_recv_response(Some(timeout))
        .timeout_recv_body(Some(timeout * BODY_TIMEOUT_FACTOR))
        .user_agent(concat!("onboarding-bridge/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    Ok(config.into())
}

fn through(way: &Way) -> Result<Proxy, String> {
    let mut proxy = Proxy::builder(ProxyProtocol::Http)
        .host(&way.host)
        .port(way.port);
    if let Some((user, password)) = &way.login {
        proxy = proxy.username(user).password(password.expose_secret());
    }
    proxy.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_waits_for_an_operator_and_other_answers_have_advice() {
        assert!(ListError::Refused(401).is_refusal() && ListError::Refused(403).is_refusal());
        for status in [302, 404, 406, 422, 500] {
            assert!(!ListError::Status(status).is_refusal());
        }
        let said = |status| ListError::Status(status).to_string();
        assert!(said(404).contains("check `reconcile.url`"));
        assert!(said(302).contains("not followed"));
    }
}
