//! The documents against the code: what is generated is up to date, what is cited exists.
//!
//! `UPDATE_DOCS=1 cargo test --test it docs` writes the generated ones anew.

mod configuration;
mod errors;
mod logging;
mod metrics;
mod simulator;
mod text;

use std::path::Path;

use onboarding_bridge::config;
use onboarding_bridge::event::{EventId, Timestamp};
use onboarding_bridge::normalise::{self, Frame, Observation};
use onboarding_bridge::notice::{Blind, Dead, LateDuplicates};
use onboarding_bridge::privacy::Privacy;
use onboarding_bridge::state::{Compared, DigestKey, Source, UserState, compare};

use text::{after_marker, read, root, sources};

/// Compares a generated document with its file, or writes the file if that is wanted.
#[allow(
    clippy::disallowed_methods,
    reason = "the variable is how a person asks for new documents"
)]
fn is_up_to_date(path: &str, generated: &str) {
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(root().join(path), generated).unwrap();
    }
    let found = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(
        found == generated,
        "{path} is not what the code says; run `UPDATE_DOCS=1 cargo test --test it docs`"
    );
}

#[test]
fn docs_configuration_is_what_the_code_says() {
    is_up_to_date("docs/configuration.md", &configuration::render());
}

#[test]
fn docs_metrics_are_what_the_code_says() {
    is_up_to_date("docs/metrics.md", &metrics::render());
}

#[test]
fn docs_logging_is_what_the_code_says() {
    is_up_to_date("docs/logging.md", &logging::render());
}

#[test]
fn docs_errors_has_the_tables_of_the_code() {
    is_up_to_date("docs/errors.md", &errors::render(&read("docs/errors.md")));
}

#[test]
fn every_configuration_in_the_readme_loads() {
    let readme = read("README.md");
    let blocks: Vec<&str> = text::blocks(&readme, "yaml").collect();
    assert!(!blocks.is_empty(), "README.md has no YAML");
    for yaml in blocks {
        config::load_text(yaml, Path::new("README.md"), std::iter::empty())
            .unwrap_or_else(|error| panic!("{error} in\n{yaml}"));
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let documents = text::files(&["md"]);
    assert!(documents.len() > 5, "{documents:?}");
    for document in documents {
        let content = read(&document);
        for link in text::links(&content) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => text::beside(&document, path),
            };
            assert!(
                root().join(&target).exists(),
                "{document} links to {link}, which is not there"
            );
            let found = anchor.is_empty() || text::anchors(&read(&target)).contains(anchor);
            assert!(
                found,
                "{document} links to {link}, which has no such heading"
            );
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let code = sources();
    let metrics = metrics::names();
    let mut missing = Vec::new();
    for document in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/errors.md",
        "docs/guarantees.md",
        "docs/privacy.md",
        "docs/protocol.md",
        "docs/rotation.md",
        "docs/simulator.md",
    ] {
        let content = read(document);
        for name in text::cited(&content) {
            let is_test = code.contains(&format!("fn {name}("));
            if !is_test && !metrics.contains(name) {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

#[test]
fn each_of_the_thirty_points_of_the_vendors_feed_names_a_test() {
    let (code, document) = (sources(), read("docs/protocol.md"));
    let numbered = |line: &&str| {
        let number = line
            .split_once(". **")
            .and_then(|(number, _)| number.parse::<usize>().ok());
        number.is_some()
    };
    let points: Vec<&str> = document.lines().filter(numbered).collect();
    assert_eq!(points.len(), 30);
    for (point, number) in points.into_iter().zip(1..) {
        assert!(point.starts_with(&format!("{number}. **")), "{point}");
        let is_test = |name: &&str| code.contains(&format!("fn {name}("));
        assert!(
            text::cited(point).any(|name| is_test(&name)),
            "no test: {point}"
        );
    }
}

#[test]
fn every_module_says_what_it_is() {
    let modules = text::files(&["rs"]);
    let is_tests = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    for path in modules.iter().filter(|path| path.starts_with("src/")) {
        let first = read(path).lines().next().unwrap_or_default().to_owned();
        assert!(
            is_tests(path) || first.starts_with("//! "),
            "{path} does not begin with what it does"
        );
    }
}

#[test]
fn nobody_of_the_vendors_page_is_named() {
    // In halves, so that this file does not name them either.
    let names = [
        ["Bran", "do"].concat(),
        ["mail", "inator"].concat(),
        ["2000611e", "a497d8ae"].concat(),
        ["09e487c9-", "9b75"].concat(),
    ];
    for path in text::files(&[]) {
        let content = std::fs::read(root().join(&path)).unwrap();
        let content = String::from_utf8_lossy(&content).to_lowercase();
        for name in &names {
            let found = content.contains(&name.to_lowercase());
            assert!(!found, "{path} has {name:?} from the vendor's page");
        }
    }
}

/// The frame of docs/record.md becomes the record of docs/record.md and of the README, byte for byte.
#[test]
fn the_examples_of_the_notices_are_what_the_code_makes() {
    let document = read("docs/record.md");
    let second = |text: &str| Timestamp::parse(text).unwrap();
    let blind = Blind {
        window: 7,
        state: "healed",
        from: second("2024-05-29T17:55:00Z"),
        to: Some(second("2024-05-29T17:55:04Z")),
        reason: "closed",
        missing: 0,
        healed_by: Some("reconcile"),
        healed_at: Some(second("2024-05-29T17:55:06Z")),
        differences: Some(2),
    };
    let dead = Dead {
        letter: 12,
        at: second("2024-05-29T17:55:28.2Z"),
        stage: "kafka",
        reason: "sink",
        detail: "topic onboarding.users at b1:9092: MessageSizeTooLarge",
        event_id: EventId::parse("edc101d0cf4459a5af9a978fe5d01141"),
        event_type: Some("user.updated"),
        user_id: Some("client_09e487c9"),
        body: Some(serde_json::json!({"schema_version": 1})),
    };
    let late = LateDuplicates {
        sink: "kafka",
        event_ids: &[EventId::parse("edc101d0cf4459a5af9a978fe5d01141").unwrap()],
    };
    for (marker, made) in [
        (
            "<!-- feed.blind -->",
            serde_json::to_string(&blind).unwrap(),
        ),
        (
            "<!-- dead_letter -->",
            serde_json::to_string(&dead).unwrap(),
        ),
        (
            "<!-- sink.late_duplicates -->",
            serde_json::to_string(&late).unwrap(),
        ),
    ] {
        let example = after_marker(&document, marker).replace("\n ", "");
        assert_eq!(example.trim_end(), made);
    }
}

#[test]
fn the_example_of_the_record_is_what_the_code_makes() {
    let document = read("docs/record.md");
    let frame = after_marker(&document, "<!-- frame -->");
    let before = frame
        .replace("1717005327995988841", "1717005320000000000")
        .replace("VERIFIED", "PENDING")
        .replace("\"sms\":false", "\"sms\":true");
    let known = made(None, observed(&before)).1;
    let (record, _) = made(Some(&known), observed(&frame));
    let joined = |block: &str| block.lines().map(str::trim_start).collect::<String>();
    assert_eq!(joined(&after_marker(&document, "<!-- record -->")), record);
    let readme = read("README.md");
    let shown = text::blocks(&readme, "json").map(joined);
    assert_eq!(shown.collect::<Vec<_>>(), [record]);
}

/// The record of docs/record.md with the key that each policy but `drop` adds, byte for byte; what is
/// encrypted is compared by its keys, because no two ciphertexts are alike.
#[test]
fn the_examples_of_the_token_are_what_the_code_makes() {
    let document = read("docs/record.md");
    let frame = after_marker(&document, "<!-- frame -->");
    let Frame::Data(seen, _) = normalise::frame_with_token(&frame) else {
        panic!("expected a message");
    };
    let event_id = EventId::parse("edc101d0cf4459a5af9a978fe5d01141").unwrap();
    let recipient = crate::support::sealed::RECIPIENTS[0];
    for (marker, policy) in [
        (
            "<!-- fingerprint -->",
            "{user_token: fingerprint, hmac_key_version: 2026-11}",
        ),
        (
            "<!-- encrypt -->",
            &format!("{{user_token: encrypt, token_recipients: ['{recipient}']}}"),
        ),
        ("<!-- forward -->", "{user_token: forward}"),
    ] {
        let policy = serde_norway::from_str(policy).unwrap();
        let privacy = Privacy::new(&policy, Some(b"an-example-key-that-opens-nothing")).unwrap();
        let made = privacy.token(event_id, seen.token.clone()).unwrap();
        let shown = |mut value: serde_json::Value| {
            if let Some(sealed) = value.pointer_mut("/sealed/0/ciphertext") {
                *sealed = sealed.as_str().unwrap().len().into();
            }
            value
        };
        let example = after_marker(&document, marker);
        let example = serde_json::from_str(&format!("{{{example}}}")).unwrap();
        let serde_json::Value::Object(mut example) = example else {
            panic!("an object, not {example}")
        };
        assert_eq!(
            shown(example["user_token"].take()),
            shown(made.0),
            "{marker}"
        );
    }
}

fn observed(frame: &str) -> Observation {
    match normalise::frame(frame) {
        Frame::Data(observation, _) => *observation,
        other => panic!("expected a message, got {other:?}"),
    }
}

fn made(known: Option<&UserState>, seen: Observation) -> (String, UserState) {
    let source = Source::Feed("01HZ2V3M8B3Q6S9T4W7X0Y1Z2A".to_owned());
    let received_at = Timestamp::parse("2024-05-29T17:55:28.101223344Z").unwrap();
    let key = DigestKey::new(b"a key for tests");
    match compare(known, seen, source, received_at, &key) {
        Compared::News(news) => (serde_json::to_string(&news.0).unwrap(), news.1),
        other => panic!("expected news, got {other:?}"),
    }
}

#[test]
fn docs_simulator_has_the_table_of_every_fault() {
    let document = read("docs/simulator.md");
    is_up_to_date("docs/simulator.md", &simulator::render(&document));
}
