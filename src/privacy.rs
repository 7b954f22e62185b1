//! The operator's policy, applied to an event before anything is written.
//!
//! Pure, but for the randomness of encryption: keys come in as bytes. What has passed here, an event or
//! a user's state, holds nothing that the policy forbids. It never decides what is news.

mod frame;
mod policy;
mod pseudonym;
mod seal;
mod shape;
mod token;
mod words;

use serde_json::Value;

use crate::config::{FieldPolicy, KeyPolicy, PrivacyConfig, TokenPolicy};
use crate::event::{Event, EventId, TokenValue};
use crate::normalise::{UserToken, spelling};
use crate::state::{FieldName, UserState};
use policy::Fields;
use pseudonym::Pseudonyms;
use token::TokenUse;

pub use pseudonym::{HMAC_KEY_MIN, VERSION_MAX, is_version};
pub use seal::{RECIPIENTS_MAX, RecipientError};
pub use shape::{is_telling_name, shape};
pub use words::words;

/// The policy, ready to be applied.
#[derive(Clone)]
pub struct Privacy {
    fields: Fields,
    key: KeyPolicy,
    pseudonyms: Option<Pseudonyms>,
    token: TokenUse,
}

/// Shows which policies there are, and no key.
impl std::fmt::Debug for Privacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Privacy")
            .field(
                "fields",
                &FieldName::ALL.map(|name| self.fields.policy(name)),
            )
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Why the policy cannot be applied, and what to do. It repeats nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The HMAC key file holds too little.
    #[error(
        "`privacy.hmac_key_file` holds {0} bytes; give it at least {HMAC_KEY_MIN} random bytes"
    )]
    ShortKey(usize),
    /// A policy needs the HMAC key, and there is none.
    #[error("a policy `hmac` or `fingerprint` needs `privacy.hmac_key_file`")]
    NoKey,
    /// None, or too many, to whom tokens are to be encrypted.
    #[error(
        "`privacy.user_token: encrypt` needs 1 to {RECIPIENTS_MAX} public keys in \
         `privacy.token_recipients` or `privacy.token_recipients_file`, not {0}"
    )]
    Recipients(usize),
    /// One of them is no public key.
    #[error("the token recipient number {number} {1}", number = .0 + 1)]
    Recipient(usize, RecipientError),
}

impl Privacy {
    /// Makes the policy; `hmac_key` is needed where the configuration names the policy `hmac` or
    /// `fingerprint`.
    ///
    /// # Errors
    /// [`PolicyError`] when something that a policy needs is missing or of no use.
    pub fn new(config: &PrivacyConfig, hmac_key: Option<&[u8]>) -> Result<Self, PolicyError> {
        let policy = |name: FieldName| {
            let policy = config.fields.get(name.as_str());
            policy.copied().unwrap_or_default()
        };
        let policies = FieldName::ALL.map(policy);
        let version = config.hmac_key_version.as_deref();
        let pseudonyms = hmac_key.map(|key| Pseudonyms::new(key, version));
        let pseudonyms = pseudonyms.transpose()?;
        // Refused here, so that nothing can pass in clear later for want of a key.
        let hashes = config.key == KeyPolicy::Hmac || policies.contains(&FieldPolicy::Hmac);
        if hashes && pseudonyms.is_none() {
            return Err(PolicyError::NoKey);
        }
        Ok(Self {
            token: TokenUse::new(config, pseudonyms.as_ref())?,
            fields: Fields::new(policies, pseudonyms.clone()),
            key: config.key,
            pseudonyms,
        })
    }

    /// The key of a user's records: the `user_id`, or its HMAC.
    pub fn key(&self, user_id: &str) -> String {
        match self.key {
            KeyPolicy::Plain => user_id.to_owned(),
            KeyPolicy::Hmac => self
                .pseudonyms
                .as_ref()
                .expect("the policy `hmac` comes with a key")
                .of("user_id", user_id),
        }
    }

    /// The key under which a user was last published, as it may be published now: one that is still
    /// the plain `user_id` no longer may where the policy has become `hmac` since.
    pub fn key_again(&self, last: String, is_plain: impl FnOnce(&str) -> bool) -> String {
        match self.key {
            KeyPolicy::Hmac if is_plain(&last) => self.key(&last),
            KeyPolicy::Hmac | KeyPolicy::Plain => last,
        }
    }

    /// Applies the policy to every field of the event but its `user_id`, and gives it the key
    /// `user_token` if there is to be one and it has none yet.
    pub fn apply(&self, event: &mut Event) {
        let Event {
            account_type,
            account_role,
            email,
            first_name,
            last_name,
            phone_number,
            status,
            requirements,
            ..
        } = event;
        for (name, value) in [
            (FieldName::AccountType, account_type),
            (FieldName::AccountRole, account_role),
            (FieldName::Email, email),
            (FieldName::FirstName, first_name),
            (FieldName::LastName, last_name),
            (FieldName::PhoneNumber, phone_number),
            (FieldName::Status, status),
            (FieldName::Requirements, requirements),
        ] {
            self.fields.hide(name, value);
        }
        self.fields.hide_known_status(&mut event.previous_status);
        if self.fields.policy(FieldName::Requirements) != FieldPolicy::Keep {
            event.outstanding_requirements.clear();
        }
        if event.user_token.is_none() {
            event.user_token = self.token(event.event_id, None);
        }
    }

    /// What the record of this event shows of the `user_token` of its message; none under `drop`.
    pub fn token(&self, event: EventId, token: Option<UserToken>) -> Option<TokenValue> {
        self.token.apply(event, token.as_ref()).map(TokenValue)
    }

    /// Whether a `user_token` must be taken out of a message at all.
    pub const fn needs_token(&self) -> bool {
        !matches!(self.token, TokenUse::Drop)
    }

    /// Hides the status that the journal keeps of a user, as the record shows it.
    pub fn hide_state(&self, state: &mut UserState) {
        if let Some(status) = state.status.take() {
            let mut status = Value::String(status);
            self.fields.hide_known_status(&mut status);
            state.status = status.as_str().map(str::to_owned);
        }
    }

    /// The pseudonym of a value as records show it under the configured key; `None` without a key, or
    /// for a name that is none of a field, `user_id` or `user_token`.
    pub fn pseudonym(&self, name: &str, value: &str) -> Option<String> {
        let pseudonyms = self.pseudonyms.as_ref()?;
        match FieldName::ALL
            .into_iter()
            .find(|field| field.as_str() == name)
        {
            // As it stands in the record: any JSON, its keys sorted.
            Some(FieldName::Requirements) => {
                let text = match serde_json::from_str(value) {
                    Ok(Value::String(text)) => text,
                    Ok(json) => Value::to_string(&json),
                    Err(_) => value.to_owned(),
                };
                Some(pseudonyms.marked(name, &text))
            }
            Some(field) => Some(pseudonyms.marked(name, &spelling(field, value.to_owned()))),
            None if name == "user_id" => Some(pseudonyms.of(name, value)),
            None if name == token::NAME => Some(pseudonyms.marked(name, value)),
            None => None,
        }
    }
}

/// What an operator is to be told aloud of a policy that lets a credential out.
pub fn warnings(config: &PrivacyConfig) -> Vec<&'static str> {
    match config.user_token {
        TokenPolicy::Forward => vec![
            "`privacy.user_token: forward` writes live credentials in clear into the journal, to every \
             sink, into dead letters and exports; whoever reads one of them can act as the user until \
             it expires",
        ],
        TokenPolicy::Drop | TokenPolicy::Fingerprint | TokenPolicy::Encrypt => Vec::new(),
    }
}

/// The public keys in the text of `privacy.token_recipients_file`.
///
/// # Errors
/// [`RecipientError::Private`] where it holds a private key.
pub fn recipient_keys(text: &str) -> Result<Vec<String>, RecipientError> {
    seal::keys(text)
}

/// Whether a text is the public key of a consumer.
///
/// # Errors
/// [`RecipientError`] says why not.
pub fn check_recipient(text: &str) -> Result<(), RecipientError> {
    seal::Recipient::parse(text).map(|_| ())
}

#[cfg(test)]
mod tests;
