//! One request for the list, read as a stream: never the whole body in memory.
//!
//! The only file that names the HTTP client. A body that breaks off, is no JSON or lacks its `data`
//! is an error, never a short list. Whether it is a list is judged by the body alone, not by its
//! content type; what the vendor says beside a status goes nowhere.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::Listed;
use super::entry::{ENTRY_MAX, Entry, VALUE_MAX};
use super::meter::{Bound, Meter, Metered};
use crate::config::ReconcileConfig;
use crate::event::Timestamp;
use crate::feed::budget::Budget;
use crate::feed::limits;
use crate::normalise::{self, Observation};

/// Path of the list below `reconcile.url`.
const PATH: &str = "/v1/enterprise/users";

/// The whole list may take this many times `reconcile.timeout`.
const BODY_TIMEOUT_FACTOR: u32 = 20;

/// So much of the text of a refusal is read.
const ERROR_BYTES: u64 = 4 * 1024;

/// Users that are handed over together, unless so many bytes of the list have passed before.
const BATCH: (usize, u64) = (64, 64 * 1024);

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API key cannot be read.
    #[error("{0}; make feed.api_key_file readable for this process")]
    Credential(String),
    /// The key was refused.
    #[error("the vendor refuses the API key for the list ({0}); check the key")]
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
    /// Notes the silence that is asked for, if this looks like the vendor's limit.
    pub fn note(&self, budget: &Budget) {
        if let Self::Limited { retry_after, .. } = self {
            budget.block_for(retry_after.unwrap_or_default());
        }
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
        status => return Err(refused(status, &mut response)),
    }
    users(response.body_mut().as_reader(), config, listed)
}

/// Reads the users out of a body.
fn users(
    body: impl std::io::Read,
    config: &ReconcileConfig,
    listed: &mpsc::Sender<Listed>,
) -> Result<bool, ListError> {
    let meter = Meter::new(config.max_bytes.0);
    let mut json = serde_json::Deserializer::from_reader(Metered::new(body, Rc::clone(&meter)));
    let mut outlet = Outlet::new(listed, &meter);
    let read = Envelope(&mut outlet).deserialize(&mut json);
    let read = read.and_then(|()| json.end());
    // What came before it broke off is still true.
    outlet.flush();
    if outlet.ended {
        return Err(ListError::Ended);
    }
    outlet.say();
    read.map_err(|error| {
        ListError::Body(match meter.met() {
            Some(Bound::List) => format!(
                "it is longer than reconcile.max_bytes ({})",
                config.max_bytes
            ),
            Some(Bound::Entry) => format!(
                "an entry is longer than {ENTRY_MAX} bytes, or a value in it than {VALUE_MAX}"
            ),
            None => position(&error),
        })
    })?;
    Ok(outlet.complete)
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

/// Where the error is and of which kind; not serde's own words, which may quote a value.
fn position(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "the connection broke, or took too long",
        serde_json::error::Category::Syntax => "it is not valid JSON",
        serde_json::error::Category::Data => "it is not an object with a list `data`",
        serde_json::error::Category::Eof => "it breaks off",
    };
    format!("{kind} (line {} column {})", error.line(), error.column())
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

/// Where the users go, and what is to be said of the list.
struct Outlet<'a> {
    listed: &'a mpsc::Sender<Listed>,
    meter: &'a Meter,
    batch: Vec<Observation>,
    /// How far the list was read when the batch was begun.
    begun: u64,
    complete: bool,
    ended: bool,
    /// Entries that cannot be read, and why the first of them cannot.
    unreadable: u64,
    reason: &'static str,
}

impl<'a> Outlet<'a> {
    const fn new(listed: &'a mpsc::Sender<Listed>, meter: &'a Meter) -> Self {
        Self {
            listed,
            meter,
            batch: Vec::new(),
            begun: 0,
            complete: true,
            ended: false,
            unreadable: 0,
            reason: "",
        }
    }

    fn user(&mut self, observation: Observation) {
        self.batch.push(observation);
        let bytes = self.meter.passed() - self.begun;
        if self.batch.len() >= BATCH.0 || bytes >= BATCH.1 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.begun = self.meter.passed();
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH.0));
        self.ended |= self.listed.blocking_send(Listed::Users(batch)).is_err();
    }

    fn say(&self) {
        if self.unreadable > 0 {
            let (entries, reason) = (self.unreadable, self.reason);
            tracing::warn!(
                entries,
                reason,
                "entries of the list cannot be read: nobody is removed by it, and no blind window healed"
            );
        }
    }
}

/// `{"data": [...]}`; any other key is passed over, aloud, because it may mean pages.
struct Envelope<'a, 'b>(&'a mut Outlet<'b>);

impl<'de> DeserializeSeed<'de> for Envelope<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list `data`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let outlet = self.0;
        let meter = outlet.meter;
        let mut found = false;
        while let Some(name) = meter.within(VALUE_MAX, || map.next_key::<String>())? {
            let more = name != "data" || found;
            if more && outlet.complete {
                // Half a list must not remove the users of the other half.
                outlet.complete = false;
                tracing::warn!(
                    "the list has another key beside one `data`, perhaps pages: nobody is removed by it, \
                     and no blind window healed"
                );
            }
            if name == "data" {
                map.next_value_seed(Users(outlet))?;
                found = true;
            } else {
                meter.within(ENTRY_MAX, || map.next_value::<IgnoredAny>())?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(serde::de::Error::missing_field("data"))
        }
    }
}

struct Users<'a, 'b>(&'a mut Outlet<'b>);

impl<'de> DeserializeSeed<'de> for Users<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Users<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of users")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut users: A) -> Result<(), A::Error> {
        let outlet = self.0;
        while let Some(user) = users.next_element_seed(Entry(outlet.meter))? {
            match normalise::observation(user) {
                Ok((observation, _)) => outlet.user(observation),
                Err(reason) => {
                    outlet.complete = false;
                    outlet.unreadable += 1;
                    if outlet.unreadable == 1 {
                        outlet.reason = reason.as_str();
                    }
                }
            }
            if outlet.ended {
                return Err(serde::de::Error::custom("the bridge is ending"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
