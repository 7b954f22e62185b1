//! The `user_token` of a message, on its way from the frame to the privacy policy.
//!
//! Whoever holds one can wipe it and nobody can print it; only the policy may look inside. It takes
//! no part in what is news: nothing compares two of them but a test.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::moment;
use crate::event::Timestamp;

/// A live credential of one user; its memory is wiped when it is let go.
#[derive(Clone)]
pub struct UserToken {
    secret: SecretString,
    /// When it expires, if the vendor says so in a way that can be read.
    pub expires: Option<Timestamp>,
}

impl UserToken {
    /// The credential, for the one place that applies the policy.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Takes it out of a payload: an object with a `token`, or the bare text of one.
    ///
    /// `partner_user_id` is left behind: it would undo the policy for the `user_id`.
    pub(super) fn of(value: Value) -> Option<Self> {
        let (token, expires) = match value {
            Value::Object(mut fields) => (fields.remove("token")?, fields.remove("expires")),
            Value::String(_) | Value::Number(_) => (value, None),
            Value::Null | Value::Bool(_) | Value::Array(_) => return None,
        };
        let secret: SecretString = match token {
            Value::String(text) if !text.is_empty() => text.into(),
            Value::Number(number) => number.to_string().into(),
            Value::String(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Array(_)
            | Value::Object(_) => {
                return None;
            }
        };
        // A moment and never a text: what else the vendor might write there could be the token.
        let expires = expires.as_ref().and_then(moment).map(|(_, at)| at);
        Some(Self { secret, expires })
    }
}

/// Three stars, whoever asks.
impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserToken(***)")
    }
}

impl PartialEq for UserToken {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose() && self.expires == other.expires
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_taken_in_every_form_and_never_shown() {
        let expires = Timestamp::parse("2024-05-30T17:55:27.981Z");
        for (sent, token, at) in [
            (
                json!({"token": "canary", "expires": "2024-05-30T17:55:27.981Z",
                    "partner_user_id": "client_ada"}),
                Some("canary"),
                expires,
            ),
            (
                json!({"token": "canary", "expires": "2024-05-30T17:55:27Z"}),
                Some("canary"),
                Timestamp::parse("2024-05-30T17:55:27Z"),
            ),
            (
                json!({"token": "canary", "expires": "canary"}),
                Some("canary"),
                None,
            ),
            (json!({"token": 12345}), Some("12345"), None),
            (json!("canary"), Some("canary"), None),
            (json!({"token": null}), None, None),
            (json!({"token": ""}), None, None),
            (json!({"expires": "2024-05-30T17:55:27Z"}), None, None),
            (json!(null), None, None),
            (json!(["canary"]), None, None),
        ] {
            let taken = UserToken::of(sent.clone());
            assert_eq!(taken.as_ref().map(UserToken::expose), token, "{sent}");
            assert_eq!(taken.as_ref().and_then(|token| token.expires), at, "{sent}");
            let shown = format!("{taken:?} {taken:#?}");
            assert!(
                !shown.contains("canary") && !shown.contains("12345"),
                "{shown}"
            );
        }
    }
}
