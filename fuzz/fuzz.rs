//! What the bridge reads and has not written itself, fed with whatever libFuzzer makes up. Which
//! reader is on trial says FUZZ_TARGET; `make fuzz` runs each for a while, from the seeds in corpus/.
//!
//! Nothing here may panic, hang or break the property that each target states.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a fuzz target may fail by panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "libFuzzer has the command line, so the target is named in the environment"
)]

mod journals;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use onboarding_bridge::config::{self, PrivacyConfig};
use onboarding_bridge::event::Timestamp;
use onboarding_bridge::journal::codec;
use onboarding_bridge::normalise::{self, Frame};
use onboarding_bridge::privacy::{Privacy, shape};
use onboarding_bridge::sink::nats::subject;
use onboarding_bridge::state::{Compared, DigestKey, Source, UserState, compare};
use serde_json::Value;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match name.as_str() {
        "frames" => frames,
        "config" => configuration,
        "subject" => subjects,
        "state" => states,
        "journal" => journals::damaged,
        _ => panic!("FUZZ_TARGET is one of frames, config, subject, state, journal; not {name:?}"),
    }
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));

/// A frame becomes an event or is set aside, and in neither does its token appear.
fn frames(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let set_aside = shape(text).unwrap_or_default();
    let token = token(text);
    assert!(
        !holds(&set_aside, &token),
        "the token is in what was set aside"
    );
    let Frame::Data(observation, _) = normalise::frame(text) else {
        return;
    };
    let source = Source::Feed("01J00000000000000000000000".to_owned());
    let (at, key) = (
        Timestamp(1_750_000_000_000_000_000),
        DigestKey::new(b"fuzz"),
    );
    let Compared::News(news) = compare(None, (*observation).clone(), source, at, &key) else {
        panic!("the first message of a user is always news");
    };
    let (mut event, state) = *news;
    let source = Source::Feed("01J00000000000000000000001".to_owned());
    let with_time = observation.sent_at.is_some();
    let again = compare(Some(&state), *observation, source, at, &key);
    assert!(
        !with_time || !matches!(again, Compared::News(_)),
        "the same message twice is no news"
    );
    Privacy::new(&PrivacyConfig::default(), None)
        .unwrap()
        .apply(&mut event);
    let body = serde_json::to_vec(&event).unwrap();
    assert!(!holds(&body, &token), "the token is in the record");
    let _: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        codec::decode(&codec::encode(&state)).unwrap().recent,
        state.recent
    );
}

/// The token of a frame, if nothing else in it could be taken for it.
fn token(text: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let token = frame.get("payload")?.get("user_token")?;
    let token = token.get("token").unwrap_or(token).as_str()?;
    let alone = token.len() >= 16
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
        // The name of the connection has none, and stands in each record.
        && token.bytes().any(|byte| byte.is_ascii_lowercase())
        && text.matches(token).count() == 1
        && !text.contains('\\');
    alone.then(|| token.to_owned())
}

fn holds(bytes: &[u8], token: &Option<String>) -> bool {
    token.as_ref().is_some_and(|token| {
        let mut windows = bytes.windows(token.len());
        windows.any(|window| window == token.as_bytes())
    })
}

/// A configuration is taken or refused with a reason; `name=value` lines after a NUL are the
/// environment.
fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (file, environment) = text.split_once('\0').unwrap_or((text, ""));
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    if let Err(error) = config::load_text(file, Path::new("bridge.yaml"), variables) {
        assert!(!error.to_string().is_empty());
    }
}

/// A key has one token, of safe characters, and a token at most one key.
fn subjects(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let token = subject::encode(text);
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-~".contains(&byte);
    assert!(!token.is_empty() && token.bytes().all(safe));
    assert!(token.len() <= subject::TOKEN_CHARACTERS_MAX.max(66));
    if let Some(key) = subject::decode(&token) {
        assert_eq!(key, text);
    }
    if let Some(key) = subject::decode(text) {
        assert_eq!(subject::encode(&key), text);
    }
}

/// The bytes of a user's state are understood or are no state, and what was understood is written
/// the same way again.
fn states(bytes: &[u8]) {
    let state: Option<UserState> = codec::decode(bytes);
    if let Some(state) = state {
        let again = codec::decode(&codec::encode(&state)).unwrap();
        assert_eq!(format!("{again:?}"), format!("{state:?}"));
    }
}
