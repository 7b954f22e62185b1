//! Finds canaries in bytes, in whatever form a careless program could have written them.
//!
//! A canary is a text of small letters and digits that stands nowhere else in the world. It judges
//! nothing: whether a canary may be where it was found is for who asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// No form of a canary is shorter.
const PREFIX: usize = 8;

/// What is looked for: its name, and its text.
#[derive(Clone, Debug)]
pub(super) struct Canary {
    pub(super) name: String,
    pub(super) text: String,
}

/// One form of one canary.
#[derive(Debug)]
struct Pattern {
    bytes: Vec<u8>,
    canary: usize,
    form: &'static str,
}

/// The forms of all canaries, ready to be looked for in one walk over the bytes.
#[derive(Debug)]
pub(super) struct Scanner {
    names: Vec<String>,
    /// Those in which the case of a letter says nothing; in small letters.
    folded: Patterns,
    exact: Patterns,
}

/// What was found: the names, and in which forms.
pub(super) type Found = BTreeMap<String, BTreeSet<&'static str>>;

impl Scanner {
    pub(super) fn new(canaries: &[Canary]) -> Self {
        let (mut folded, mut exact) = (Patterns::default(), Patterns::default());
        for (canary, Canary { name, text }) in canaries.iter().enumerate() {
            let is_canary = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            assert!(
                text.len() >= 12 && text.bytes().all(is_canary),
                "{name}: {text}"
            );
            for (form, bytes) in folding(text) {
                folded.add(Pattern {
                    bytes: bytes.into(),
                    canary,
                    form,
                });
            }
            for (form, bytes) in base64(text) {
                exact.add(Pattern {
                    bytes: bytes.into(),
                    canary,
                    form,
                });
            }
        }
        let names = canaries.iter().map(|canary| canary.name.clone());
        Self {
            names: names.collect(),
            folded,
            exact,
        }
    }

    /// Every canary in these bytes.
    pub(super) fn find(&self, bytes: &[u8]) -> Found {
        let mut found = Found::new();
        let mut note = |pattern: &Pattern| {
            let forms = found.entry(self.names[pattern.canary].clone());
            forms.or_default().insert(pattern.form);
        };
        self.folded.each(&bytes.to_ascii_lowercase(), &mut note);
        self.exact.each(bytes, &mut note);
        found
    }
}

/// The forms that are read without regard to case.
fn folding(text: &str) -> Vec<(&'static str, String)> {
    let each = |form: fn(&mut String, u8)| {
        let mut whole = String::new();
        text.bytes().for_each(|byte| form(&mut whole, byte));
        whole
    };
    let numbers = |between: &str| {
        let numbers: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        numbers.join(between)
    };
    vec![
        ("plain", text.to_owned()),
        ("reversed", text.chars().rev().collect()),
        ("hex", hex::encode(text)),
        (
            "percent-encoded",
            each(|whole, byte| write!(whole, "%{byte:02x}").unwrap()),
        ),
        (
            "\\u-escaped",
            each(|whole, byte| write!(whole, "\\u{byte:04x}").unwrap()),
        ),
        // As `{:?}` prints bytes, and as JSON does.
        ("numbers", numbers(", ")),
        ("numbers", numbers(",")),
    ]
}

/// Base64 of it, at each place in a longer text: only those characters that it decides alone.
fn base64(text: &str) -> Vec<(&'static str, String)> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let bytes = [&vec![0; before], text.as_bytes()].concat();
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for (form, encoded) in [
            ("base64", BASE64_STANDARD_NO_PAD.encode(&bytes)),
            ("base64, url-safe", BASE64_URL_SAFE_NO_PAD.encode(&bytes)),
        ] {
            forms.push((form, encoded.get(from..to).unwrap().to_owned()));
        }
    }
    forms
}

/// Many patterns by their first eight bytes.
#[derive(Debug, Default)]
struct Patterns {
    by_prefix: HashMap<u64, Vec<Pattern>>,
}

impl Patterns {
    fn add(&mut self, pattern: Pattern) {
        let prefix: [u8; PREFIX] = pattern.bytes[..PREFIX].try_into().unwrap();
        let beginning = self.by_prefix.entry(u64::from_be_bytes(prefix));
        beginning.or_default().push(pattern);
    }

    fn each(&self, bytes: &[u8], on: &mut impl FnMut(&Pattern)) {
        // A look at a table of bits first: nearly every place is none.
        let bit =
            |window: u64| usize::from(u16::from_be_bytes(*first(window).last_chunk().unwrap()));
        let mut may_begin = vec![false; 1 << 16];
        for prefix in self.by_prefix.keys() {
            may_begin[bit(*prefix)] = true;
        }
        let mut window = 0_u64;
        for (end, byte) in (1..).zip(bytes) {
            window = window << 8 | u64::from(*byte);
            if !may_begin[bit(window)] || end < PREFIX {
                continue;
            }
            let Some(patterns) = self.by_prefix.get(&window) else {
                continue;
            };
            let from = &bytes[end - PREFIX..];
            patterns
                .iter()
                .filter(|pattern| from.starts_with(&pattern.bytes))
                .for_each(&mut *on);
        }
    }
}

fn first(window: u64) -> [u8; PREFIX] {
    window.to_be_bytes()
}

#[test]
fn the_scanner_finds_each_form_wherever_it_stands() {
    let text = "a1b2c3d4e5f6g7h8i9";
    let canary = |name: &str, text: &str| Canary {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let scanner = Scanner::new(&[canary("one", text), canary("other", "z9y8x7w6v5u4t3s2r1")]);
    let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = text.bytes().map(|byte| format!("\\u{byte:04X}")).collect();
    let mut forms = vec![
        ("plain", text.to_owned()),
        ("plain", text.to_ascii_uppercase()),
        ("reversed", text.chars().rev().collect()),
        ("hex", hex::encode(text)),
        ("hex", hex::encode_upper(text)),
        ("percent-encoded", percent.to_ascii_lowercase()),
        ("percent-encoded", percent),
        (
            "\\u-escaped",
            escaped.to_ascii_lowercase().replace("\\U", "\\u"),
        ),
        ("\\u-escaped", escaped),
        ("numbers", format!("{:?}", text.as_bytes())),
        ("numbers", serde_json::to_string(text.as_bytes()).unwrap()),
    ];
    for before in ["", "{", "{\"", "{\"a", "{\"a\""] {
        for after in ["", "\"", "\"}", "~?>"] {
            let whole = format!("{before}{text}{after}");
            let standard = BASE64_STANDARD_NO_PAD.encode(&whole);
            forms.push(("base64", standard));
            let url_safe = BASE64_URL_SAFE_NO_PAD.encode(&whole);
            forms.push(("base64, url-safe", url_safe));
        }
    }
    for (form, written) in forms {
        for around in ["", "x", "1234567", "\u{0}\u{ff}"] {
            let bytes = format!("{around}{written}{around}");
            let found = scanner.find(bytes.as_bytes());
            let names: Vec<_> = found.keys().map(String::as_str).collect();
            assert_eq!(names, ["one"], "{form} in {bytes}");
            assert!(found["one"].contains(form), "{form} in {bytes}: {found:?}");
        }
    }
    for innocent in ["", "a1b2c3d", "a1b2c3d4e5f6g7h8i8", &"1, 2, ".repeat(99)] {
        assert!(scanner.find(innocent.as_bytes()).is_empty(), "{innocent}");
    }
}
