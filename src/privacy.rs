//! The operator's policy, applied to an event before anything is written.
//!
//! Pure: the HMAC key comes in as bytes. An event that has passed here holds nothing that the policy
//! forbids; the `user_token` never got this far (see `normalise`).

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::config::{FieldPolicy, KeyPolicy, PrivacyConfig};
use crate::event::Event;
use crate::state::FieldName;

/// Shortest HMAC key that is taken, in bytes.
pub const HMAC_KEY_MIN: usize = 32;

/// The policy, ready to be applied.
#[derive(Clone)]
pub struct Privacy {
    fields: [FieldPolicy; FieldName::ALL.len()],
    key: KeyPolicy,
    hmac: Option<Hmac<Sha256>>,
}

impl std::fmt::Debug for Privacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Privacy")
            .field("fields", &self.fields)
            .field("key", &self.key)
            .finish()
    }
}

/// The HMAC key file holds too little.
#[derive(Debug, thiserror::Error)]
#[error("`privacy.hmac_key_file` holds {0} bytes; give it at least {HMAC_KEY_MIN} random bytes")]
pub struct ShortKey(usize);

impl Privacy {
    /// Makes the policy; `hmac_key` is needed where the configuration names the policy `hmac`.
    ///
    /// # Errors
    /// [`ShortKey`] when the key has fewer than [`HMAC_KEY_MIN`] bytes.
    pub fn new(config: &PrivacyConfig, hmac_key: Option<&[u8]>) -> Result<Self, ShortKey> {
        let policy = |name: FieldName| {
            config
                .fields
                .get(name.as_str())
                .copied()
                .unwrap_or_default()
        };
        let hmac = match hmac_key {
            Some(key) if key.len() < HMAC_KEY_MIN => return Err(ShortKey(key.len())),
            Some(key) => Some(Hmac::new_from_slice(key).expect("HMAC takes a key of any length")),
            None => None,
        };
        Ok(Self {
            fields: FieldName::ALL.map(policy),
            key: config.key,
            hmac,
        })
    }

    /// The key of a user's records: the `user_id`, or its HMAC.
    pub fn key(&self, user_id: &str) -> String {
        match self.key {
            KeyPolicy::Plain => user_id.to_owned(),
            KeyPolicy::Hmac => self.digest("user_id", user_id),
        }
    }

    /// Applies the policy to every field of the event but its `user_id`.
    pub fn apply(&self, event: &mut Event) {
        for (name, policy) in FieldName::ALL.into_iter().zip(self.fields) {
            if policy == FieldPolicy::Keep {
                continue;
            }
            match name {
                FieldName::AccountType => self.hide(name, policy, &mut event.account_type),
                FieldName::AccountRole => self.hide(name, policy, &mut event.account_role),
                FieldName::Email => self.hide(name, policy, &mut event.email),
                FieldName::FirstName => self.hide(name, policy, &mut event.first_name),
                FieldName::LastName => self.hide(name, policy, &mut event.last_name),
                FieldName::PhoneNumber => self.hide(name, policy, &mut event.phone_number),
                FieldName::Status => {
                    self.hide(name, policy, &mut event.status);
                    self.hide(name, policy, &mut event.previous_status);
                }
                FieldName::Requirements => {
                    self.hide(name, policy, &mut event.requirements);
                    event.outstanding_requirements.clear();
                }
            }
        }
    }

    fn hide(&self, name: FieldName, policy: FieldPolicy, value: &mut Value) {
        if value.is_null() {
            return;
        }
        let text = match &*value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        *value = match policy {
            FieldPolicy::Keep => return,
            FieldPolicy::Drop => Value::Null,
            FieldPolicy::Mask => Value::String(mask(name, &text)),
            FieldPolicy::Hmac => {
                Value::String(format!("hmac:{}", self.digest(name.as_str(), &text)))
            }
        };
    }

    fn digest(&self, name: &str, value: &str) -> String {
        // Configuration refuses the policy without a key, so that nothing can pass in clear here.
        let mut mac = self
            .hmac
            .clone()
            .expect("the policy `hmac` comes with a key");
        mac.update(name.as_bytes());
        mac.update(b"\0");
        mac.update(value.as_bytes());
        hex::encode(
            mac.finalize()
                .into_bytes()
                .iter()
                .take(16)
                .copied()
                .collect::<Vec<u8>>(),
        )
    }
}

/// Keys of a frame whose values tell what it is and say nothing of a person.
const TELLING_KEYS: [&str; 5] = ["sequence", "recipient", "timestamp", "type", "action"];

/// Longest shape that is kept, in bytes.
const SHAPE_MAX: usize = 16 * 1024;

/// The shape of a frame that was set aside: its keys, with three stars for every value that could
/// say something of a person. `None` for what is no JSON, or too long.
pub fn shape(frame: &str) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_str(frame).ok()?;
    if let Value::Object(envelope) = &mut value {
        for (name, value) in envelope.iter_mut() {
            let short = match &*value {
                Value::String(text) => text.len() <= 64,
                other => other.is_number(),
            };
            if !(short && TELLING_KEYS.contains(&name.as_str())) {
                star(value);
            }
        }
    } else {
        star(&mut value);
    }
    serde_json::to_vec(&value)
        .ok()
        .filter(|shape| shape.len() <= SHAPE_MAX)
}

/// Longest name of a key that is taken for a name.
const NAME_MAX: usize = 40;

/// Whether the name of a key could itself say something of a person.
pub fn is_telling_name(name: &str) -> bool {
    name.len() > NAME_MAX
        || name.contains('@')
        || name.bytes().filter(u8::is_ascii_digit).count() > 3
}

/// Somebody else's sentence without anything that could be a key, a token, an address or a number
/// of a person: only plain words are left.
pub fn words(text: &str) -> String {
    let plain = |word: &&str| {
        let letters = word.trim_matches(|it: char| it.is_ascii_punctuation());
        letters.len() <= 20 && letters.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let code = |word: &&str| word.len() <= 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    let lower = text.to_lowercase();
    let shown = lower
        .split_whitespace()
        .zip(text.split_whitespace())
        .map(|(word, original)| {
            // A key may be made of letters only, but it is not written like a word.
            let capital = original.chars().skip(1).any(char::is_uppercase);
            if (plain(&word) && !capital) || code(&word) {
                word
            } else {
                "***"
            }
        });
    shown.collect::<Vec<_>>().join(" ")
}

fn star(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let named = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                star(&mut value);
                (
                    if is_telling_name(&name) {
                        "***".to_owned()
                    } else {
                        name
                    },
                    value,
                )
            });
            *fields = named.collect();
        }
        Value::Array(items) => items.iter_mut().for_each(star),
        Value::Null => {}
        Value::String(_) | Value::Number(_) | Value::Bool(_) => *value = "***".into(),
    }
}

fn mask(name: FieldName, text: &str) -> String {
    match name {
        FieldName::PhoneNumber => {
            let skipped = text.chars().count().saturating_sub(2);
            format!(
                "***{}",
                text.chars().skip(skipped.max(2)).collect::<String>()
            )
        }
        _ => format!("{}***", text.chars().take(1).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Timestamp;
    use crate::state::{Compared, DigestKey, Source, compare};

    fn event() -> Event {
        let payload = json!({"user_id": "client_ada", "email": "ada@example.test",
            "first_name": "Ada", "last_name": "Example", "phone_number": "+15550100001",
            "status": "PENDING", "requirements": {"sms": true}});
        let seen = crate::normalise::observation(payload).unwrap().0;
        let source = Source::Feed(String::new());
        match compare(None, &seen, source, Timestamp(1), &DigestKey::new(b"k")) {
            Compared::News(news) => news.0,
            other => panic!("expected news, got {other:?}"),
        }
    }

    fn config(policy: FieldPolicy) -> PrivacyConfig {
        let fields = FieldName::ALL.map(|name| (name.as_str().to_owned(), policy));
        PrivacyConfig {
            fields: fields.into(),
            ..PrivacyConfig::default()
        }
    }

    #[test]
    fn each_policy_hides_every_field_that_it_is_set_for() {
        let secrets = [
            "ada@example.test",
            "Ada",
            "Example",
            "+15550100001",
            "sms",
            "PENDING",
        ];
        for policy in [FieldPolicy::Drop, FieldPolicy::Mask, FieldPolicy::Hmac] {
            let privacy = Privacy::new(&config(policy), Some(&[7; 32])).unwrap();
            let mut event = event();
            privacy.apply(&mut event);
            let text = serde_json::to_string(&event).unwrap();
            for secret in secrets {
                assert!(
                    !text.contains(&format!("\"{secret}\"")),
                    "{policy:?} leaves {secret}: {text}"
                );
            }
        }
    }

    #[test]
    fn a_mask_keeps_one_character_or_two_digits() {
        assert_eq!(mask(FieldName::Email, "ada@example.test"), "a***");
        assert_eq!(mask(FieldName::PhoneNumber, "+15550100001"), "***01");
        assert_eq!(mask(FieldName::PhoneNumber, "12"), "***");
        assert_eq!(mask(FieldName::LastName, ""), "***");
    }

    #[test]
    fn equal_values_have_equal_hmacs_and_other_fields_others() {
        let privacy = Privacy::new(&config(FieldPolicy::Hmac), Some(&[7; 32])).unwrap();
        let (mut one, mut two) = (event(), event());
        privacy.apply(&mut one);
        privacy.apply(&mut two);
        assert_eq!(one, two);
        assert_ne!(
            privacy.digest("email", "x"),
            privacy.digest("first_name", "x")
        );
    }

    #[test]
    fn the_shape_of_a_frame_holds_no_value_of_a_person() {
        let frame = json!({"sequence": 4, "recipient": "private.enterprise.users.balances",
            "payload": {"user_id": "client_ada", "updates": [{"balance": "17"}], "x": null}});
        let shape = String::from_utf8(shape(&frame.to_string()).unwrap()).unwrap();
        assert_eq!(
            shape,
            "{\"payload\":{\"updates\":[{\"balance\":\"***\"}],\"user_id\":\"***\",\"x\":null},\
             \"recipient\":\"private.enterprise.users.balances\",\"sequence\":4}"
        );
    }

    #[test]
    fn somebody_elses_sentence_keeps_only_plain_words() {
        assert_eq!(
            words("Rate limit exceeded, code 429"),
            "rate limit exceeded, code 429"
        );
        assert_eq!(
            words("unknown API key SECRET-KEY-123"),
            "unknown *** key ***"
        );
        assert_eq!(
            words("no such user ada@example.test +15550100001"),
            "no such user *** ***"
        );
        assert_eq!(words("bad token 0123abcd a-b"), "bad token *** ***");
    }

    #[test]
    fn a_short_hmac_key_is_refused() {
        assert!(Privacy::new(&config(FieldPolicy::Hmac), Some(&[7; 31])).is_err());
    }
}
