//! The last token of a subject: a record's key, written so that no two keys share a token and no key
//! can reach another subject.
//!
//! Letters, digits, `_` and `-` stand for themselves; every other byte of the key's UTF-8 is `~` and
//! two hex digits. The empty key is a lone `~`. A token that would be too long is `~h` and the key's
//! SHA-256 in hex; `h` is no hex digit, so it equals no written-out key.

use sha2::{Digest, Sha256};

/// A longer token becomes a hash: servers and people handle long subjects badly.
pub const TOKEN_CHARACTERS_MAX: usize = 160;

const EMPTY: &str = "~";
const HASHED: &str = "~h";

/// The token of a key.
pub fn encode(key: &str) -> String {
    if key.is_empty() {
        return EMPTY.to_owned();
    }
    let mut token = String::with_capacity(key.len());
    for byte in key.bytes() {
        if is_plain(byte) {
            token.push(char::from(byte));
        } else {
            token.push('~');
            token.push_str(&hex::encode([byte]));
        }
        if token.len() > TOKEN_CHARACTERS_MAX {
            return format!("{HASHED}{}", hex::encode(Sha256::digest(key.as_bytes())));
        }
    }
    token
}

/// The key of a token; `None` if it is a hash, or none that [`encode`] wrote.
pub fn decode(token: &str) -> Option<String> {
    let mut key = Vec::with_capacity(token.len());
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'~' && token != EMPTY {
            let digits = [bytes.next()?, bytes.next()?];
            key.extend(hex::decode(digits).ok()?);
        } else if byte != b'~' {
            key.push(byte);
        }
    }
    let key = String::from_utf8(key).ok()?;
    // The same key could be spelt in other ways (`~61`, `~C3`), but never is.
    (encode(&key) == token).then_some(key)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Whether a stream with the subject `pattern` takes everything that `wanted` matches.
pub(super) fn covers(pattern: &str, wanted: &str) -> bool {
    let mut wanted = wanted.split('.');
    for token in pattern.split('.') {
        let Some(want) = wanted.next() else {
            return false;
        };
        match token {
            ">" => return true,
            "*" if want != ">" => {}
            _ if token == want && want != "*" && want != ">" => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_key_is_its_own_token() {
        assert_eq!(encode("client_09e487c9"), "client_09e487c9");
        assert_eq!(encode("A-Z_0"), "A-Z_0");
    }

    #[test]
    fn hostile_keys_stay_within_one_token() {
        for (key, token) in [
            ("", "~"),
            (".", "~2e"),
            ("*", "~2a"),
            (">", "~3e"),
            ("~", "~7e"),
            ("~h", "~7eh"),
            ("a.b", "a~2eb"),
            ("a b", "a~20b"),
            ("é", "~c3~a9"),
            ("\0\r\n", "~00~0d~0a"),
        ] {
            assert_eq!(encode(key), token, "{key:?}");
            assert_eq!(decode(token).as_deref(), Some(key), "{key:?}");
        }
    }

    #[test]
    fn a_long_key_becomes_a_hash_that_no_written_out_key_equals() {
        let long = "x".repeat(TOKEN_CHARACTERS_MAX);
        assert_eq!(encode(&long), long);
        let token = encode(&(long.clone() + "y"));
        assert!(token.starts_with(HASHED) && token.len() == 66);
        assert_ne!(token, encode(&(long + "z")));
        assert_eq!(decode(&token), None);
        // The token itself, as a key, is written out and so differs.
        assert_eq!(encode(&token), token.replace('~', "~7e"));
    }

    #[test]
    fn other_spellings_are_no_tokens() {
        for token in [
            "~6", "~61", "~C3~A9", "~zz", "~c3", "a.b", "a b", "é", "~~", "",
        ] {
            assert_eq!(decode(token), None, "{token:?}");
        }
    }

    #[test]
    fn a_stream_covers_a_pattern_only_if_it_takes_all_of_it() {
        for (pattern, wanted, expected) in [
            ("a.b.>", "a.b.*", true),
            ("a.b.*", "a.b.*", true),
            ("a.>", "a.b.*", true),
            ("*.b.>", "a.b.*", true),
            ("a.*.*", "a.b.*", true),
            (">", "a.b.*", true),
            ("a.b.*", "a.b.>", false),
            ("a.b", "a.b.*", false),
            ("a.b.c", "a.b.*", false),
            ("a.c.>", "a.b.*", false),
            ("a.b.*.*", "a.b.*", false),
            ("a", "a.b.*", false),
            ("a.b.>", "a.b.>", true),
        ] {
            assert_eq!(covers(pattern, wanted), expected, "{pattern} {wanted}");
        }
    }

    proptest! {
        #[test]
        fn every_key_reads_back_or_is_hashed(key in ".{0,200}") {
            let token = encode(&key);
            prop_assert!(token.len() <= TOKEN_CHARACTERS_MAX);
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|byte| is_plain(byte) || byte == b'~'));
            match decode(&token) {
                Some(decoded) => prop_assert_eq!(decoded, key),
                None => prop_assert!(token.starts_with(HASHED)),
            }
        }

        #[test]
        fn two_keys_never_share_a_token(one in "[a~h.0-9]{0,8}", two in "[a~h.0-9]{0,8}") {
            prop_assert_eq!(one == two, encode(&one) == encode(&two));
        }

        #[test]
        fn whatever_decodes_is_a_token_of_ours(token in "[a-h0-9~_.]{0,12}") {
            if let Some(key) = decode(&token) {
                prop_assert_eq!(encode(&key), token);
            }
        }
    }
}
