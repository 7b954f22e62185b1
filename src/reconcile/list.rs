//! One request for the list, read as a stream: never the whole body in memory.
//!
//! The only file that names the HTTP client. A body that breaks off, is no JSON or lacks its `data`
//! is an error, never a short list. Whether it is a list is judged by the body alone, not by its
//! content type; what the vendor says beside a status goes nowhere.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::{Listed, body};
use crate::config::ReconcileConfig;

/// Path of the list below `reconcile.url`.
const PATH: &str = "/v1/enterprise/users";

/// The whole list may take this many times `reconcile.timeout`.
const BODY_TIMEOUT_FACTOR: u32 = 20;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API key cannot be read.
    #[error("{0}; make feed.api_key_file readable for this process")]
    Credential(String),
    /// The key was refused, or, for a 403, perhaps this address.
    #[error("the vendor refuses the API key for the list ({0}); check the key")]
    Refused(u16),
    /// Refused in a way that looks like the vendor's limit.
    #[error("the vendor answered {0}, as it does over its limit or in maintenance")]
    Limited(u16),
    /// Another status.
    #[error("the vendor answered {0}{advice}", advice = advice(*.0))]
    Status(u16),
    /// No connection, or one that broke.
    #[error("cannot reach {url}: {reason}; check reconcile.url and the network")]
    Unreachable {
        /// The address.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The body is not the list.
    #[error("the list cannot be read: {0}")]
    Body(String),
    /// The bridge is ending.
    #[error("the bridge is ending")]
    Ended,
}

impl ListError {
    /// Whether silence is asked for: a 403 may be the vendor's limit as well as its word on the key.
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::Limited(_) | Self::Refused(403))
    }

    /// Whether an operator must mend something before another try can do better.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// What may be wrong where the vendor answers so.
const fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => {
            "; a redirect is not followed, because the key would go with it: set reconcile.url"
        }
        404 => "; check reconcile.url",
        _ => "",
    }
}

/// Fetches the list and sends its users; blocking. Returns whether every entry could be read.
pub(super) fn read(
    config: &ReconcileConfig,
    key: &SecretString,
    listed: &mpsc::Sender<Listed>,
) -> Result<bool, ListError> {
    let url = format!("{}{PATH}", config.url.trim_end_matches('/'));
    let unreachable = |reason: String| ListError::Unreachable {
        url: config.url.clone(),
        reason,
    };
    let agent = agent(config).map_err(unreachable)?;
    let request = agent
        .get(&url)
        .header("Authorization", format!("Bearer {}", key.expose_secret()));
    let mut response = request
        .call()
        .map_err(|error| unreachable(error.to_string()))?;
    match response.status().as_u16() {
        200 => {}
        status @ (401 | 403) => return Err(ListError::Refused(status)),
        status @ (429 | 503) => return Err(ListError::Limited(status)),
        status => return Err(ListError::Status(status)),
    }
    body::users(response.body_mut().as_reader(), config.max_bytes, listed)
}

fn agent(config: &ReconcileConfig) -> Result<Agent, String> {
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
            RootCerts::new_with_certs(&certificates)
        }
    };
    let timeout = config.timeout.0;
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(timeout))
        .timeout_recv_response(Some(timeout))
        .timeout_recv_body(Some(timeout * BODY_TIMEOUT_FACTOR))
        .user_agent(concat!("onboarding-bridge/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    Ok(config.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_the_limit_asks_for_silence_and_only_a_refusal_for_an_operator() {
        let kinds = |error: ListError| (error.is_limit(), error.is_refusal());
        assert_eq!(kinds(ListError::Limited(429)), (true, false));
        assert_eq!(kinds(ListError::Limited(503)), (true, false));
        assert_eq!(kinds(ListError::Refused(401)), (false, true));
        assert_eq!(kinds(ListError::Refused(403)), (true, true));
        for status in [302, 404, 406, 422, 500] {
            assert_eq!(kinds(ListError::Status(status)), (false, false));
        }
        assert!(
            ListError::Status(404)
                .to_string()
                .contains("check reconcile.url")
        );
        assert!(ListError::Status(302).to_string().contains("not followed"));
    }
}
