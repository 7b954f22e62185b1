//! What becomes of the `user_token`, a live credential of one user.
//!
//! The only place that looks into one. `partner_user_id` never gets here, and a plain hash is never
//! made: under `fingerprint` nobody can test a guess without the operator's key.

use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};

use super::PolicyError;
use super::pseudonym::Pseudonyms;
use super::seal::{RECIPIENTS_MAX, Recipient};
use crate::config::{PrivacyConfig, TokenPolicy};
use crate::event::{EventId, Timestamp};
use crate::normalise::UserToken;

/// The name under which the fingerprint is made.
pub(super) const NAME: &str = "user_token";

/// The policy, with what it needs.
#[derive(Clone)]
pub(super) enum TokenUse {
    Drop,
    Fingerprint(Pseudonyms),
    Encrypt(Vec<Recipient>),
    Forward,
}

impl TokenUse {
    pub(super) fn new(
        config: &PrivacyConfig,
        pseudonyms: Option<&Pseudonyms>,
    ) -> Result<Self, PolicyError> {
        Ok(match config.user_token {
            TokenPolicy::Drop => Self::Drop,
            TokenPolicy::Fingerprint => {
                Self::Fingerprint(pseudonyms.ok_or(PolicyError::NoKey)?.clone())
            }
            TokenPolicy::Encrypt => Self::Encrypt(recipients(&config.token_recipients)?),
            TokenPolicy::Forward => Self::Forward,
        })
    }

    /// The record's last key; none under `drop`, and null for an event without a token.
    pub(super) fn apply(&self, event: EventId, token: Option<&UserToken>) -> Option<Value> {
        if matches!(self, Self::Drop) {
            return None;
        }
        let Some(token) = token else {
            return Some(Value::Null);
        };
        let expires = &token.expires;
        match self {
            Self::Drop => None,
            Self::Fingerprint(pseudonyms) => {
                let fingerprint = pseudonyms.marked(NAME, token.expose());
                Some(json!({"fingerprint": fingerprint, "expires": expires}))
            }
            Self::Encrypt(recipients) => {
                let event_id = event.to_string();
                let plaintext = plaintext(token);
                let seal = |to: &Recipient| json!(to.seal(&plaintext, &event_id));
                let sealed: Vec<Value> = recipients.iter().map(seal).collect();
                Some(json!({"sealed": sealed, "expires": expires}))
            }
            Self::Forward => Some(json!({"token": token.expose(), "expires": expires})),
        }
    }
}

/// What the consumer reads; it is wiped when it is let go.
fn plaintext(token: &UserToken) -> Zeroizing<Vec<u8>> {
    #[derive(serde::Serialize)]
    struct Plaintext<'a> {
        token: &'a str,
        expires: Option<Timestamp>,
    }
    let plaintext = Plaintext {
        token: token.expose(),
        expires: token.expires,
    };
    // Room for the longest escape, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(6 * plaintext.token.len() + 128));
    serde_json::to_writer(&mut *bytes, &plaintext).expect("a Vec takes everything");
    bytes
}

fn recipients(texts: &[String]) -> Result<Vec<Recipient>, PolicyError> {
    if texts.is_empty() || texts.len() > RECIPIENTS_MAX {
        return Err(PolicyError::Recipients(texts.len()));
    }
    let parse = |(index, text): (usize, &String)| {
        Recipient::parse(text).map_err(|error| PolicyError::Recipient(index, error))
    };
    texts.iter().enumerate().map(parse).collect()
}
