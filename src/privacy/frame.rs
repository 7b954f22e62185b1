//! A message of the feed as it may be written down: the vendor's own form, with nothing in it that the
//! policy keeps from the bus.
//!
//! Known fields are as the policy leaves them, everything that the record does not carry is three stars,
//! as in a dead letter. It never shows a `user_token`, but under `forward`; and never a `partner_user_id`.

use serde_json::{Map, Value, json};

use super::Privacy;
use super::shape::{envelope, star};
use super::token::TokenUse;
use crate::config::FieldPolicy;
use crate::event::FEED_NAME;
use crate::normalise::{Observation, UserToken, spelling};
use crate::state::FieldName;

impl Privacy {
    /// The frame that this observation was read from, as it may be written down; `None` for what is no
    /// message.
    pub fn frame(&self, text: &str, observation: &Observation) -> Option<Value> {
        let Ok(Value::Object(mut frame)) = serde_json::from_str(text) else {
            return None;
        };
        let payload = match frame.remove("payload")? {
            Value::Object(payload) => Value::Object(self.payload(payload, observation)),
            Value::String(text) => {
                let payload = serde_json::from_str(&text).ok()?;
                let payload = Value::Object(self.payload(payload, observation));
                Value::String(payload.to_string())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
        };
        envelope(&mut frame);
        frame.insert("recipient".to_owned(), FEED_NAME.into());
        frame.insert("payload".to_owned(), payload);
        Some(Value::Object(frame))
    }

    fn payload(
        &self,
        mut payload: Map<String, Value>,
        observation: &Observation,
    ) -> Map<String, Value> {
        let user_id = self.key(&observation.user_id);
        let mut shown = vec![("user_id", user_id.into())];
        for name in FieldName::ALL {
            if let Some(value) = payload.remove(name.as_str()) {
                shown.push((name.as_str(), self.sent(name, value)));
            }
        }
        for name in ["user_id", "user_token"] {
            payload.remove(name);
        }
        if let (TokenUse::Forward, Some(token)) = (&self.token, &observation.token) {
            shown.push(("user_token", forwarded(token)));
        }
        let mut rest = Value::Object(payload);
        star(&mut rest);
        let mut payload = match rest {
            Value::Object(rest) => rest,
            _ => Map::new(),
        };
        payload.extend(
            shown
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        payload
    }

    /// A value as it was sent, or what the record has in its place.
    fn sent(&self, name: FieldName, value: Value) -> Value {
        if self.fields.policy(name) == FieldPolicy::Keep {
            return value;
        }
        let mut value = match value {
            Value::Bool(_) | Value::Number(_) if name != FieldName::Requirements => {
                Value::String(spelling(name, value.to_string()))
            }
            Value::String(text) => Value::String(spelling(name, text)),
            other => other,
        };
        self.fields.hide(name, &mut value);
        value
    }
}

fn forwarded(token: &UserToken) -> Value {
    match &token.expires {
        Some(expires) => json!({"token": token.expose(), "expires": expires}),
        None => json!({"token": token.expose()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PrivacyConfig, TokenPolicy};
    use crate::normalise::{Frame, frame_with_token};

    fn shown(config: &PrivacyConfig, frame: &Value) -> Value {
        let text = frame.to_string();
        let Frame::Data(observation, _) = frame_with_token(&text) else {
            panic!("{text}");
        };
        let privacy = Privacy::new(config, Some(&[7; 32])).unwrap();
        privacy.frame(&text, &observation).unwrap()
    }

    fn frame(payload: &Value) -> Value {
        json!({"sequence": 4, "recipient": FEED_NAME, "timestamp": 1_750_000_000_000_000_000_u64,
            "payload": payload})
    }

    fn ada() -> Value {
        json!({"user_id": "ada", "email": "ada@example.test", "first_name": "Ada", "last_name": null,
            "account_type": "Corporate", "requirements": {"kyc": [1]}})
    }

    #[test]
    fn what_is_kept_is_byte_for_byte_what_was_sent() {
        let sent = frame(&ada());
        assert_eq!(shown(&PrivacyConfig::default(), &sent), sent);
        let sent = frame(&ada().to_string().into());
        assert_eq!(shown(&PrivacyConfig::default(), &sent), sent);
    }

    #[test]
    fn a_hidden_field_is_as_in_the_record_and_what_no_record_carries_is_stars() {
        let mut payload = ada();
        payload["advisor_user_id"] = "ada".into();
        payload["Ada"] = "ada".into();
        payload["first_name"] = true.into();
        let fields = [
            ("email", FieldPolicy::Mask),
            ("first_name", FieldPolicy::Mask),
            ("account_type", FieldPolicy::Hmac),
            ("requirements", FieldPolicy::Drop),
        ];
        let fields = fields.map(|(name, policy)| (name.to_owned(), policy));
        let config = PrivacyConfig {
            fields: fields.into(),
            key: crate::config::KeyPolicy::Hmac,
            ..PrivacyConfig::default()
        };
        let privacy = Privacy::new(&config, Some(&[7; 32])).unwrap();
        let mut sent = frame(&payload);
        sent["from"] = "ada".into();
        let mut wanted = frame(&json!({
            "user_id": privacy.key("ada"), "email": "a***", "first_name": "t***", "last_name": null,
            "account_type": privacy.pseudonym("account_type", "Corporate").unwrap(),
            "requirements": null, "advisor_user_id": "***", "***": "***",
        }));
        wanted["from"] = "***".into();
        assert_eq!(shown(&config, &sent), wanted);
    }

    #[test]
    fn a_token_is_shown_under_forward_alone() {
        let mut payload = ada();
        let expires = "2024-05-30T17:55:27.981000000Z";
        payload["user_token"] = json!({"token": "canary", "expires": expires,
            "partner_user_id": "ada"});
        let sent = frame(&payload);
        for policy in [
            TokenPolicy::Drop,
            TokenPolicy::Fingerprint,
            TokenPolicy::Forward,
        ] {
            let config = PrivacyConfig {
                user_token: policy,
                ..PrivacyConfig::default()
            };
            let token = &shown(&config, &sent)["payload"]["user_token"];
            match policy {
                TokenPolicy::Forward => {
                    assert_eq!(*token, json!({"token": "canary", "expires": expires}));
                }
                _ => assert_eq!(*token, Value::Null),
            }
        }
    }
}
