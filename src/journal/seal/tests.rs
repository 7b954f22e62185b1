//! What a sealed value gives out, and to whom.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::config::JournalConfig;
use crate::journal::JournalError;

fn key_file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn seal_of(content: &[u8]) -> Seal {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        encryption_key_file: Some(key_file(folder.path(), "a.key", content)),
        ..JournalConfig::at("journal.db")
    };
    Keys::load(&config).unwrap().wanted().clone()
}

fn seal() -> Seal {
    seal_of(&[7; 32])
}

const PLACES: [Place<'static>; 11] = [
    Place::RecordBody(1),
    Place::RecordBody(2),
    Place::RecordKey(1),
    Place::UserKey(&[1; 16]),
    Place::UserState(&[1; 16]),
    Place::UserState(&[2; 16]),
    Place::LetterBody(1),
    Place::LetterBody(-1),
    Place::LetterKey(1),
    Place::NoticeBody(1),
    Place::DigestKey,
];

#[test]
fn a_value_opens_at_its_place_alone() {
    let seal = seal();
    for (sealed_at, place) in PLACES.iter().enumerate() {
        let sealed = seal.seal(*place, b"ada@example.test").unwrap();
        for (opened_at, other) in PLACES.iter().enumerate() {
            let opened = seal.open(*other, (&*sealed).into());
            assert_eq!(
                opened.is_ok(),
                sealed_at == opened_at,
                "{place:?} at {other:?}"
            );
        }
    }
}

#[test]
fn a_value_opens_with_its_key_alone_and_no_two_are_sealed_alike() {
    let (seal, other, place) = (seal(), seal_of(&[8; 32]), Place::RecordBody(1));
    let first = seal.seal(place, b"ada").unwrap();
    assert_ne!(first, seal.seal(place, b"ada").unwrap());
    assert!(other.open(place, (&*first).into()).is_err());
    assert!(
        seal.open(place, b"ada".as_slice().into()).is_err(),
        "a clear value"
    );
    assert_eq!(id_of(&first), seal.id());
    assert_eq!(
        id_of(b"{\"email\":\"somebody in clear, at some length, to be told apart\"}"),
        None
    );
}

#[test]
fn without_a_key_a_value_is_not_even_copied() {
    let seal = Seal::default();
    let sealed = seal.seal(Place::RecordBody(1), b"ada").unwrap();
    assert!(matches!(sealed, Cow::Borrowed(b"ada")), "{sealed:?}");
    assert_eq!(seal.overhead(), 0);
}

#[test]
fn a_secret_is_long_enough_and_its_last_line_break_makes_no_other_key() {
    let text = "0123456789abcdef0123456789abcdef";
    let id = seal_of(text.as_bytes()).id();
    assert_eq!(id, seal_of(format!("{text}\n").as_bytes()).id());
    let mut bytes = [0xff; 33];
    bytes[32] = b'\n';
    assert_ne!(seal_of(&bytes).id(), seal_of(&bytes[..32]).id());

    let folder = tempfile::tempdir().unwrap();
    for (content, reason) in [
        (Some("0123456789abcdef\n"), "16 bytes"),
        (None, "No such file"),
    ] {
        let path = folder.path().join("a.key");
        std::fs::remove_file(&path).unwrap_or_default();
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let config = JournalConfig {
            old_encryption_key_files: vec![path],
            ..JournalConfig::at("journal.db")
        };
        let error = Keys::load(&config).unwrap_err();
        assert!(matches!(error, JournalError::KeyFile { .. }) && error.is_configuration());
        let text = error.to_string();
        assert!(
            text.contains(reason) && text.contains("old_encryption_key_files"),
            "{text}"
        );
        assert!(!text.contains("0123456789"), "{text}");
    }
}

#[test]
fn a_seal_shows_the_id_of_its_key_and_nothing_else() {
    let seal = seal();
    let id = seal.id().unwrap();
    assert_eq!(format!("{seal:?}"), format!("Seal(Some({id:?}))"));
}

proptest! {
    #[test]
    fn a_value_reads_back_and_a_changed_or_cut_one_does_not(
        value: Vec<u8>, place in 0..PLACES.len(), byte: prop::sample::Index, flip in 1_u8..,
    ) {
        let (seal, place) = (seal(), PLACES[place]);
        let sealed = seal.seal(place, &value).unwrap().into_owned();
        prop_assert_eq!(sealed.len(), value.len() + OVERHEAD);
        prop_assert_eq!(&seal.open(place, sealed.as_slice().into()).unwrap(), &value);
        let at = byte.index(sealed.len());
        let cut = &sealed[..at];
        prop_assert!(seal.open(place, cut.into()).is_err());
        let mut changed = sealed.clone();
        changed[at] ^= flip;
        prop_assert!(seal.open(place, changed.as_slice().into()).is_err());
    }

    #[test]
    fn a_value_is_the_same_after_it_was_sealed_anew(text in "\\PC{0,40}", sealed: bool) {
        let (clear, one, two) = (Seal::default(), seal(), seal_of(&[3; 40]));
        for (from, to) in [(&clear, &one), (&one, &two), (&two, &clear), (&one, &one)] {
            let place = if sealed { Place::RecordKey(3) } else { Place::RecordBody(3) };
            let stored = match (from.id(), sealed) {
                (None, true) => Value::Text(text.clone()),
                _ => Value::Blob(from.seal(place, text.as_bytes()).unwrap().into_owned()),
            };
            let anew = from.convert(to, place, stored).unwrap();
            let opened = if sealed {
                to.open_text(place, (&anew).into()).unwrap()
            } else {
                String::from_utf8(to.open(place, (&anew).into()).unwrap()).unwrap()
            };
            prop_assert_eq!(&opened, &text);
        }
    }
}
