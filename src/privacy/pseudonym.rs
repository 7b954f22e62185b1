//! Pseudonyms: a keyed hash in the place of a value, equal for equal values of one field.
//!
//! Without the key nobody can test a guess. The version, where the operator gives one, says which key
//! made a pseudonym, so that keys can be rotated. No plain hash is ever made here.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::PolicyError;

/// Shortest HMAC key that is taken, in bytes.
pub const HMAC_KEY_MIN: usize = 32;

/// Longest `privacy.hmac_key_version`.
pub const VERSION_MAX: usize = 16;

/// Hex digits of a pseudonym: 128 bits.
const DIGITS: usize = 32;

/// What stands before the pseudonym of a field, so that it is not taken for the value.
const MARK: &str = "hmac:";

/// The key that makes pseudonyms, and its version.
#[derive(Clone)]
pub(super) struct Pseudonyms {
    key: Hmac<Sha256>,
    version: Option<String>,
}

impl Pseudonyms {
    pub(super) fn new(key: &[u8], version: Option<&str>) -> Result<Self, PolicyError> {
        if key.len() < HMAC_KEY_MIN {
            return Err(PolicyError::ShortKey(key.len()));
        }
        Ok(Self {
            key: Hmac::new_from_slice(key).expect("HMAC takes a key of any length"),
            version: version.map(str::to_owned),
        })
    }

    /// `[VERSION:]` and 32 hex digits: the key of a record.
    pub(super) fn of(&self, name: &str, value: &str) -> String {
        let mut mac = self.key.clone();
        mac.update(name.as_bytes());
        mac.update(b"\0");
        mac.update(value.as_bytes());
        let mut digits = hex::encode(mac.finalize().into_bytes());
        digits.truncate(DIGITS);
        match &self.version {
            Some(version) => format!("{version}:{digits}"),
            None => digits,
        }
    }

    /// `hmac:[VERSION:]` and 32 hex digits: the value of a field.
    pub(super) fn marked(&self, name: &str, value: &str) -> String {
        format!("{MARK}{}", self.of(name, value))
    }
}

/// Whether a text is the pseudonym of a field, of whatever key.
pub(super) fn is_marked(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(MARK) else {
        return false;
    };
    let digits = match rest.split_once(':') {
        Some((version, digits)) if is_version(version) => digits,
        Some(_) => return false,
        None => rest,
    };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits.len() == DIGITS && digits.bytes().all(is_digit)
}

/// Whether a text can be a version: short, and nothing that a subject or a key must escape.
pub fn is_version(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=VERSION_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_hmac_key_is_refused() {
        let refused = Pseudonyms::new(&[7; HMAC_KEY_MIN - 1], None).map(|_| ());
        assert!(matches!(refused, Err(PolicyError::ShortKey(31))));
    }

    #[test]
    fn a_version_stands_before_the_same_digits() {
        let plain = Pseudonyms::new(&[7; 32], None).unwrap();
        let versioned = Pseudonyms::new(&[7; 32], Some("2026-11")).unwrap();
        let digits = plain.of("user_id", "client_ada");
        assert_eq!(digits.len(), DIGITS);
        assert_eq!(
            versioned.of("user_id", "client_ada"),
            format!("2026-11:{digits}")
        );
        let marked = plain.marked("user_id", "client_ada");
        assert_eq!(marked, format!("hmac:{digits}"));
        assert!(is_marked(&marked) && is_marked(&versioned.marked("email", "x")));
    }

    #[test]
    fn another_key_or_another_field_makes_another_pseudonym() {
        let one = Pseudonyms::new(&[7; 32], None).unwrap();
        let other = Pseudonyms::new(&[8; 32], None).unwrap();
        assert_eq!(one.of("email", "x"), one.of("email", "x"));
        assert_ne!(one.of("email", "x"), other.of("email", "x"));
        assert_ne!(one.of("email", "x"), one.of("first_name", "x"));
    }

    #[test]
    fn only_what_was_made_here_looks_like_a_pseudonym() {
        for text in [
            "",
            "PENDING",
            "hmac:",
            "hmac:PENDING",
            "hmac:0123456789ABCDEF0123456789ABCDEF",
            "hmac:a b:0123456789abcdef0123456789abcdef",
            "hmac::0123456789abcdef0123456789abcdef",
            "hmac:v:w:0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(!is_marked(text), "{text}");
        }
        assert!(is_marked("hmac:0123456789abcdef0123456789abcdef"));
    }

    #[test]
    fn a_version_is_short_and_needs_no_escape() {
        for good in ["1", "2026-11", "abcdefghijklmnop"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "abcdefghijklmnopq", "a:b", "a.b", "a b", "é", "a_b"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
