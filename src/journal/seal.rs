//! Sealing of what is personal in the file: XChaCha20-Poly1305, a value at a time.
//!
//! ```text
//!   0xf9 │ id of the key, 4 bytes │ nonce, 24 bytes at random │ the value, encrypted │ tag, 16 bytes
//! ```
//!
//! A tag holds only at its place (table, column, row) and under its key. A file is sealed with one key
//! as a whole, or not at all; `meta` says with which. Without a key nothing here costs anything.
//!
//! It never gives out a value whose tag is wrong, and never shows a key.

mod found;
mod keys;
mod place;

use std::borrow::Cow;
use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use rusqlite::types::{FromSqlError, ToSqlOutput, Value, ValueRef};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;

use super::trouble;
pub(super) use found::{felt, said, say, says};
pub(super) use keys::Keys;
pub(super) use place::Place;

/// The first byte of a sealed value. No text begins with it, nor do the bytes of a state.
const FORMAT: u8 = 0xf9;

const ID: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEAD: usize = 1 + ID + NONCE;

/// Bytes by which a sealed value is longer than the value.
const OVERHEAD: usize = HEAD + TAG;

/// A key, made from the secret in a file.
struct Key {
    id: [u8; ID],
    cipher: XChaCha20Poly1305,
    /// The name of the file, without its folder.
    file: String,
}

impl Key {
    fn new(secret: &[u8], file: String) -> Self {
        let derive = Hkdf::<Sha256>::new(None, secret);
        let mut key = Zeroizing::new([0; 32]);
        let mut id = [0; ID];
        let expanded = derive
            .expand(b"onboarding-bridge journal key 1", &mut *key)
            .and_then(|()| derive.expand(b"onboarding-bridge journal key id 1", &mut id));
        expanded.expect("HKDF-SHA-256 gives up to 8160 bytes");
        Self {
            id,
            cipher: XChaCha20Poly1305::new(&(*key).into()),
            file,
        }
    }
}

/// How the values of one file are sealed; by default they are in clear.
#[derive(Clone, Default)]
pub(super) struct Seal(Option<Arc<Key>>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Seal").field(&self.id()).finish()
    }
}

impl PartialEq for Seal {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Seal {
    /// The id of the key, if there is one.
    pub(super) fn id(&self) -> Option<String> {
        self.0.as_ref().map(|key| hex::encode(key.id))
    }

    /// The name of the file that holds the key.
    pub(super) fn file(&self) -> Option<&str> {
        self.0.as_ref().map(|key| key.file.as_str())
    }

    /// Bytes by which a stored value is longer than it is in clear.
    pub(super) const fn overhead(&self) -> u64 {
        if self.0.is_some() { OVERHEAD as u64 } else { 0 }
    }

    /// The value as the file is to hold it.
    pub(super) fn seal<'a>(
        &self,
        place: Place<'_>,
        clear: &'a [u8],
    ) -> rusqlite::Result<Cow<'a, [u8]>> {
        let Some(key) = &self.0 else {
            return Ok(Cow::Borrowed(clear));
        };
        let defect = |error| rusqlite::Error::ToSqlConversionFailure(error);
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| defect(error.into()))?;
        let mut sealed = Vec::with_capacity(clear.len() + OVERHEAD);
        sealed.push(FORMAT);
        sealed.extend(key.id);
        sealed.extend(nonce);
        sealed.extend(clear);
        let (_, value) = sealed.split_at_mut(HEAD);
        let tag = key
            .cipher
            .encrypt_inout_detached(&XNonce::from(nonce), &place.bytes(), value.into())
            .map_err(|_| defect("a value is too long to be sealed".into()))?;
        sealed.extend(tag);
        Ok(Cow::Owned(sealed))
    }

    /// A text as the file is to hold it: sealed, it is no text any more.
    pub(super) fn seal_text<'a>(
        &self,
        place: Place<'_>,
        clear: &'a str,
    ) -> rusqlite::Result<ToSqlOutput<'a>> {
        if self.0.is_none() {
            return Ok(ToSqlOutput::Borrowed(ValueRef::Text(clear.as_bytes())));
        }
        let sealed = self.seal(place, clear.as_bytes())?.into_owned();
        Ok(ToSqlOutput::Owned(Value::Blob(sealed)))
    }

    /// The value that the file holds; only a sealed one where the file is sealed.
    pub(super) fn open(&self, place: Place<'_>, stored: ValueRef<'_>) -> rusqlite::Result<Vec<u8>> {
        let stored = stored.as_blob().map_err(not_of_its_type)?;
        let Some(key) = &self.0 else {
            return Ok(stored.to_vec());
        };
        let opened = || -> Option<Vec<u8>> {
            let (head, rest) = stored.split_at_checked(HEAD)?;
            let (value, tag) = rest.split_last_chunk::<TAG>()?;
            let ([FORMAT], rest) = head.split_first_chunk()? else {
                return None;
            };
            let (id, nonce) = rest.split_first_chunk::<ID>()?;
            if *id != key.id {
                return None;
            }
            let nonce = XNonce::from(<[u8; NONCE]>::try_from(nonce).ok()?);
            let mut value = value.to_vec();
            key.cipher
                .decrypt_inout_detached(
                    &nonce,
                    &place.bytes(),
                    value.as_mut_slice().into(),
                    &Tag::from(*tag),
                )
                .ok()?;
            Some(value)
        };
        opened().ok_or_else(|| {
            trouble::damaged(format!(
                "{} cannot be opened with the key of this journal",
                place.name()
            ))
        })
    }

    /// The text that the file holds.
    pub(super) fn open_text(
        &self,
        place: Place<'_>,
        stored: ValueRef<'_>,
    ) -> rusqlite::Result<String> {
        if self.0.is_none() {
            return stored.as_str().map(str::to_owned).map_err(not_of_its_type);
        }
        String::from_utf8(self.open(place, stored)?)
            .map_err(|_| trouble::damaged(format!("{} is no text", place.name())))
    }

    /// As [`open`](Self::open), for a value that may be absent.
    pub(super) fn open_optional(
        &self,
        place: Place<'_>,
        stored: ValueRef<'_>,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        match stored {
            ValueRef::Null => Ok(None),
            stored => self.open(place, stored).map(Some),
        }
    }

    /// Whether a stored value can be read; in clear nobody can tell.
    pub(super) fn opens(&self, place: Place<'_>, stored: &Value) -> bool {
        self.0.is_none() || *stored == Value::Null || self.open(place, stored.into()).is_ok()
    }

    /// A value as this file holds it, for a file that is sealed in another way.
    pub(super) fn convert(
        &self,
        to: &Self,
        place: Place<'_>,
        stored: Value,
    ) -> rusqlite::Result<Value> {
        match (&stored, place) {
            (Value::Null, _) => Ok(stored),
            (_, Place::RecordKey(_) | Place::UserKey(_) | Place::LetterKey(_)) => {
                let clear = self.open_text(place, (&stored).into())?;
                if to.0.is_none() {
                    return Ok(Value::Text(clear));
                }
                Ok(Value::Blob(to.seal(place, clear.as_bytes())?.into_owned()))
            }
            _ => {
                let clear = self.open(place, (&stored).into())?;
                Ok(Value::Blob(to.seal(place, &clear)?.into_owned()))
            }
        }
    }
}

fn not_of_its_type(error: FromSqlError) -> rusqlite::Error {
    trouble::damaged(format!("a value is not of its type: {error}"))
}

/// The id of the key in a stored value, if it looks sealed.
fn id_of(stored: &[u8]) -> Option<String> {
    let (head, rest) = stored.split_at_checked(1 + ID)?;
    let ([FORMAT], id) = head.split_first_chunk()? else {
        return None;
    };
    (rest.len() >= NONCE + TAG).then(|| hex::encode(id))
}

#[cfg(test)]
mod tests;
