//! What a consumer does with a token that was encrypted to it, with nothing of the bridge's own code.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, OpModeR, single_shot_open};
use serde_json::Value;

/// The public keys, as the configuration takes them, of the private keys of 32 times 7 and 32 times 9.
pub(crate) const RECIPIENTS: [&str; 2] = [
    "MCowBQYDK2VuAyEAE75P6uryBMf9M1j8nAByGIHRdCeBKCJ+xnTzf3/pe20=",
    "MCowBQYDK2VuAyEAV9tLNZ8jrl4Ubk4lEgVnBHIlBjSMFQwUdT0Mkz0E1CE=",
];

/// Opens one entry of `user_token.sealed`, as docs/privacy.md says.
pub(crate) fn open(sealed: &Value, private: &[u8; 32], event_id: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_STANDARD
        .decode(sealed["ciphertext"].as_str()?)
        .ok()?;
    let (enc, ciphertext) = bytes.split_at_checked(32)?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &Deserializable::from_bytes(private).ok()?,
        &Deserializable::from_bytes(enc).ok()?,
        format!("onboarding-bridge user_token 1 {event_id}").as_bytes(),
        ciphertext,
        b"",
    )
    .ok()
}
