//! Encryption to a consumer: HPKE (RFC 9180), so that the bridge cannot read back what it has written.
//!
//! Base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305; each message has a key of its
//! own, drawn from the system. It takes public keys only: a private one is refused, and never repeated in
//! the message.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable, single_shot_seal};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Keys to which one token can be encrypted.
pub const RECIPIENTS_MAX: usize = 8;

/// What both sides know of the purpose. With the event's id after it, it is HPKE's `info`, so that what
/// is sealed cannot be moved into another record; single-shot calls of other libraries have no `aad`.
const PURPOSE: &str = "onboarding-bridge user_token 1 ";

/// What stands before the 32 bytes of an X25519 public key (RFC 8410).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00,
];

/// Bytes of a key's SHA-256 by which it is named.
const NAME_BYTES: usize = 8;

/// Why a text is not the public key of a consumer. It repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// It holds a private key.
    #[error("is a private key, which must stay with the consumer; give the public one")]
    Private,
    /// It is something else.
    #[error(
        "is no X25519 public key; make one with `openssl pkey -in FILE -pubout` and give its base64 line"
    )]
    Unknown,
    /// Nothing can be encrypted to it.
    #[error("is a public key to which nothing can be encrypted; make a new pair")]
    Weak,
}

/// The public key of a consumer.
#[derive(Clone, Debug)]
pub(super) struct Recipient {
    key: <X25519HkdfSha256 as Kem>::PublicKey,
    name: String,
}

/// What only the owner of one key can read.
#[derive(Debug, Serialize)]
pub(super) struct Sealed<'a> {
    /// Which key: 16 hex digits of its SHA-256.
    recipient: &'a str,
    /// The encapsulated key (32 bytes) and the ciphertext, one after the other, in base64.
    ciphertext: String,
}

impl Recipient {
    /// Parses the base64 of a `SubjectPublicKeyInfo`, as it stands in a PEM file.
    pub(super) fn parse(text: &str) -> Result<Self, RecipientError> {
        let der = BASE64_STANDARD.decode(text.trim());
        let der = der.map_err(|_| RecipientError::Unknown)?;
        let Some(raw) = der.strip_prefix(&SPKI) else {
            // A PKCS #8 structure begins with its version.
            let is_private = der.get(2..5) == Some(&[2, 1, 0]);
            return Err(match is_private {
                true => RecipientError::Private,
                false => RecipientError::Unknown,
            });
        };
        let key = Deserializable::from_bytes(raw).map_err(|_| RecipientError::Unknown)?;
        let mut name = hex::encode(Sha256::digest(raw));
        name.truncate(2 * NAME_BYTES);
        let recipient = Self { key, name };
        // A point of small order is found by use only.
        match recipient.encrypted(b"", "") {
            Some(_) => Ok(recipient),
            None => Err(RecipientError::Weak),
        }
    }

    /// Encrypts for the record of one event.
    pub(super) fn seal(&self, plaintext: &[u8], event_id: &str) -> Sealed<'_> {
        let sealed = self
            .encrypted(plaintext, event_id)
            .expect("a key to which nothing can be encrypted was refused when it was parsed");
        Sealed {
            recipient: &self.name,
            ciphertext: BASE64_STANDARD.encode(sealed),
        }
    }

    fn encrypted(&self, plaintext: &[u8], event_id: &str) -> Option<Vec<u8>> {
        let sealed = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &self.key,
            format!("{PURPOSE}{event_id}").as_bytes(),
            plaintext,
            b"",
        );
        let (enc, ciphertext) = sealed.ok()?;
        Some([&enc.to_bytes(), ciphertext.as_slice()].concat())
    }
}

/// The base64 of every key of a PEM file, or of a file with one a line.
pub(super) fn keys(text: &str) -> Result<Vec<String>, RecipientError> {
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("-----") && line.contains("PRIVATE KEY") {
            return Err(RecipientError::Private);
        }
        let is_key = !line.is_empty() && !line.starts_with("-----") && !line.starts_with('#');
        if is_key {
            keys.push(line.to_owned());
        }
    }
    Ok(keys)
}

#[cfg(test)]
pub(super) mod tests {
    use hpke::{OpModeR, single_shot_open};
    use serde_json::Value;

    use super::*;

    /// A pair for tests: the private key, and what the configuration takes.
    pub(in crate::privacy) fn pair(seed: u8) -> (<X25519HkdfSha256 as Kem>::PrivateKey, String) {
        let (private, public) = X25519HkdfSha256::derive_keypair(&[seed; 32]);
        let der = [&SPKI[..], &public.to_bytes()].concat();
        (private, BASE64_STANDARD.encode(der))
    }

    /// What a consumer does.
    pub(in crate::privacy) fn opened(
        sealed: &Value,
        private: &<X25519HkdfSha256 as Kem>::PrivateKey,
        event_id: &str,
    ) -> Option<Vec<u8>> {
        let bytes = BASE64_STANDARD.decode(sealed["ciphertext"].as_str().unwrap());
        let bytes = bytes.unwrap();
        let (enc, ciphertext) = bytes.split_at(32);
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            private,
            &Deserializable::from_bytes(enc).unwrap(),
            format!("{PURPOSE}{event_id}").as_bytes(),
            ciphertext,
            b"",
        )
        .ok()
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_private_key_and_the_same_event_only() {
        let (private, public) = pair(1);
        let recipient = Recipient::parse(&public).unwrap();
        let sealed = serde_json::to_value(recipient.seal(b"canary", "event")).unwrap();
        assert!(!sealed.to_string().contains("canary"));
        assert_eq!(opened(&sealed, &private, "event").unwrap(), b"canary");
        assert!(opened(&sealed, &private, "other event").is_none());
        assert!(opened(&sealed, &pair(2).0, "event").is_none());
        let again = serde_json::to_value(recipient.seal(b"canary", "event")).unwrap();
        assert_ne!(sealed, again, "each has a key of its own");
    }

    #[test]
    fn only_the_public_key_of_a_consumer_is_taken() {
        let refused = |text: &str| Recipient::parse(text).map(|_| ()).unwrap_err();
        let (_, public) = pair(1);
        assert!(Recipient::parse(&format!(" {public}\n")).is_ok());
        let other_kind =
            BASE64_STANDARD.encode([&SPKI[..8], &[0x70, 3, 0x21, 0], &[9; 32]].concat());
        let long = BASE64_STANDARD.encode([&SPKI[..], &[9; 33]].concat());
        for text in ["", "x", "age1example", &other_kind, &long] {
            assert_eq!(refused(text), RecipientError::Unknown, "{text}");
        }
        let private = [
            &[
                0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20,
            ],
            &[9; 32][..],
        ];
        let private = BASE64_STANDARD.encode(private.concat());
        assert_eq!(refused(&private), RecipientError::Private);
        let zero = BASE64_STANDARD.encode([&SPKI[..], &[0; 32]].concat());
        assert_eq!(refused(&zero), RecipientError::Weak);
    }

    #[test]
    fn a_file_holds_keys_as_openssl_writes_them_and_no_private_one() {
        let (one, other) = (pair(1).1, pair(2).1);
        let text = format!(
            "# consumers\n-----BEGIN PUBLIC KEY-----\n{one}\n-----END PUBLIC KEY-----\r\n\n{other}\n"
        );
        assert_eq!(keys(&text).unwrap(), [one, other]);
        let private = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n";
        assert_eq!(keys(private), Err(RecipientError::Private));
    }
}
