//! What becomes of one field under its policy.
//!
//! A value that is not kept never shows more than a mask says: of a name one character in at least
//! three, of a number two digits in at least six, of anything else nothing.

use serde_json::Value;

use super::pseudonym::{Pseudonyms, is_marked};
use crate::config::FieldPolicy;
use crate::state::FieldName;

/// What a mask shows of what it hides.
const STARS: &str = "***";

/// A shorter text is hidden whole: one character of two would be half of it.
const SHOWN_FROM: usize = 3;

/// A number with fewer digits is hidden whole.
const DIGITS_SHOWN_FROM: usize = 6;

/// The policies of all fields, with what they need.
#[derive(Clone)]
pub(super) struct Fields {
    policies: [FieldPolicy; FieldName::ALL.len()],
    pseudonyms: Option<Pseudonyms>,
}

impl Fields {
    pub(super) const fn new(
        policies: [FieldPolicy; FieldName::ALL.len()],
        pseudonyms: Option<Pseudonyms>,
    ) -> Self {
        Self {
            policies,
            pseudonyms,
        }
    }

    pub(super) const fn policy(&self, name: FieldName) -> FieldPolicy {
        self.policies[name as usize]
    }

    /// Hides a value as the policy of its field says.
    pub(super) fn hide(&self, name: FieldName, value: &mut Value) {
        if value.is_null() {
            return;
        }
        *value = match self.policy(name) {
            FieldPolicy::Keep => return,
            FieldPolicy::Drop => Value::Null,
            FieldPolicy::Mask => Value::String(match &*value {
                Value::String(text) => mask(name, text),
                // The first character of JSON says what kind it is of, and nothing else.
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => STARS.to_owned(),
            }),
            FieldPolicy::Hmac => {
                let text = match &*value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                Value::String(self.pseudonym(name, &text))
            }
        };
    }

    /// Hides a status that may have been hidden before it was noted in the journal.
    pub(super) fn hide_known_status(&self, value: &mut Value) {
        let is_hidden = self.policy(FieldName::Status) == FieldPolicy::Hmac
            && value.as_str().is_some_and(is_marked);
        if !is_hidden {
            self.hide(FieldName::Status, value);
        }
    }

    fn pseudonym(&self, name: FieldName, text: &str) -> String {
        let pseudonyms = self.pseudonyms.as_ref();
        pseudonyms
            .expect("a policy `hmac` without a key is refused when the policy is made")
            .marked(name.as_str(), text)
    }
}

fn mask(name: FieldName, text: &str) -> String {
    match name {
        FieldName::PhoneNumber => {
            let digits: Vec<char> = text.chars().filter(char::is_ascii_digit).collect();
            let shown = match digits.as_slice() {
                [.., tens, ones] if digits.len() >= DIGITS_SHOWN_FROM => {
                    [*tens, *ones].iter().collect()
                }
                _ => String::new(),
            };
            format!("{STARS}{shown}")
        }
        // An address of one letter at a known host would be shown whole.
        FieldName::Email => initial(text.split('@').next().unwrap_or_default()),
        FieldName::AccountType
        | FieldName::AccountRole
        | FieldName::FirstName
        | FieldName::LastName
        | FieldName::Status
        | FieldName::Requirements => initial(text),
    }
}

/// The first character, where it is a small part of the whole: one ideograph can be a family's name.
fn initial(text: &str) -> String {
    let first = text.chars().next().filter(char::is_ascii_alphanumeric);
    match first {
        Some(first) if text.chars().count() >= SHOWN_FROM => format!("{first}{STARS}"),
        Some(_) | None => STARS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mask_keeps_one_character_or_two_digits() {
        assert_eq!(mask(FieldName::Email, "ada@example.test"), "a***");
        assert_eq!(mask(FieldName::FirstName, "Ada"), "A***");
        assert_eq!(mask(FieldName::PhoneNumber, "+15550100001"), "***01");
        assert_eq!(
            mask(FieldName::PhoneNumber, "+1 (555) 010-00 01 x"),
            "***01"
        );
    }

    #[test]
    fn a_mask_shows_nothing_of_a_short_value() {
        for (name, text) in [
            (FieldName::FirstName, ""),
            (FieldName::FirstName, "A"),
            (FieldName::LastName, "Li"),
            (FieldName::LastName, "王"),
            (FieldName::LastName, "王小明"),
            (FieldName::FirstName, "👩‍🚀"),
            (FieldName::FirstName, "   "),
            (FieldName::Email, "a@example.test"),
            (FieldName::Email, "ab@example.test"),
            (FieldName::Email, "@example.test"),
            (FieldName::PhoneNumber, ""),
            (FieldName::PhoneNumber, "12"),
            (FieldName::PhoneNumber, "12345"),
            (FieldName::PhoneNumber, "ada@example.test"),
            (FieldName::PhoneNumber, "٠١٢٣٤٥٦٧"),
        ] {
            assert_eq!(mask(name, text), STARS, "{} {text:?}", name.as_str());
        }
    }

    #[test]
    fn a_mask_of_what_is_no_text_shows_not_even_its_kind() {
        let fields = Fields::new([FieldPolicy::Mask; FieldName::ALL.len()], None);
        for mut value in [json!({"sms": true}), json!([1]), json!(true), json!(12345)] {
            fields.hide(FieldName::Requirements, &mut value);
            assert_eq!(value, STARS);
        }
    }

    #[test]
    fn a_status_that_was_hidden_already_is_not_hidden_twice() {
        let pseudonyms = Pseudonyms::new(&[7; 32], Some("2")).unwrap();
        for policy in [FieldPolicy::Drop, FieldPolicy::Mask, FieldPolicy::Hmac] {
            let fields = Fields::new([policy; FieldName::ALL.len()], Some(pseudonyms.clone()));
            let mut once = json!("PENDING");
            fields.hide_known_status(&mut once);
            let mut twice = once.clone();
            fields.hide_known_status(&mut twice);
            assert_eq!(once, twice, "{policy:?}");
            assert!(!once.to_string().contains("PENDING"), "{policy:?}");
        }
    }
}
