//! The stages of the line one by one, each without the others: what an event costs in each of them.
//!
//! `make bench-stages`. Criterion takes the samples and compares with the run before. The journal is a real
//! one, on the disk of the target folder. It judges nothing; docs/performance.md says what it showed.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use onboarding_bridge::config::{JournalConfig, PrivacyConfig, Size, Span, WhenFull};
use onboarding_bridge::event::{Event, Record, Timestamp};
use onboarding_bridge::journal::{Entry, Journal};
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::normalise::{self, Frame, Observation};
use onboarding_bridge::privacy::Privacy;
use onboarding_bridge::state::{Compared, DigestKey, Source, UserState, compare};
use tokio::runtime::Runtime;

/// Events of one group of commits.
const COMMITS: [usize; 3] = [1, 100, 1000];

/// A message of an invented person, as long as the vendor's example.
fn frame(number: u64) -> String {
    let (sequence, time) = (number + 3, 1_716_998_127_995_988_841 + number);
    let token = "eyJhbGciOiJub25lIn0.c2FtcGxlLXRva2VuLW9mLW5vYm9keQ.".repeat(2);
    format!(
        r#"{{"sequence":{sequence},"timestamp":{time},"recipient":"private.enterprise.users","payload":{{"user_id":"client_{number:08}","account_type":"individual","account_role":"client","email":"person{number:08}@example.test","first_name":"Ada","last_name":"Example","phone_number":"+15550100001","status":"VERIFIED","requirements":{{"email":false,"sms":false,"identity_document":false,"proof_of_address":false}},"user_token":"{token}"}}}}"#
    )
}

fn observed(text: &str) -> Observation {
    match normalise::frame(text) {
        Frame::Data(observation, _) => *observation,
        Frame::Reply(_) | Frame::Rejected(..) => panic!("not a message: {text}"),
    }
}

fn news(known: Option<&UserState>, seen: Observation, key: &DigestKey) -> (Event, UserState) {
    let source = Source::Feed("01J00000000000000000000000".to_owned());
    match compare(known, seen, source, Timestamp(1 << 60), key) {
        Compared::News(news) => *news,
        Compared::Repeat | Compared::Unchanged => panic!("no news"),
    }
}

fn pure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pure");
    group.throughput(Throughput::Elements(1));
    let (key, text) = (DigestKey::new(b"a key of a benchmark"), frame(2));
    let known = news(None, observed(&frame(1)), &key).1;
    let seen = observed(&text);
    let privacy = Privacy::new(&PrivacyConfig::default(), None).expect("the default policy");
    let event = news(Some(&known), seen.clone(), &key).0;
    group.bench_function("parse and normalise", |bencher| {
        bencher.iter(|| normalise::frame(black_box(&text)));
    });
    group.bench_function("compare with the state, event id", |bencher| {
        let seen = || seen.clone();
        bencher.iter_batched(
            seen,
            |seen| news(Some(&known), seen, &key),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("privacy, the default policy", |bencher| {
        let event = || event.clone();
        let apply = |mut event: Event| {
            privacy.apply(&mut event);
            event
        };
        bencher.iter_batched(event, apply, BatchSize::SmallInput);
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| serde_json::to_vec(black_box(&event)).expect("JSON"));
    });
    group.finish();
}

/// The time until the last of some events is durable, fsync included.
fn commits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let config = JournalConfig {
        path: folder.path().join("journal.db"),
        max_bytes: Size::mebibytes(8 * 1024),
        when_full: WhenFull::Block,
        // Nothing is delivered, so nothing is pruned.
        retention: Span::seconds(0),
        commit_interval: Span::seconds(0),
        encryption_key_file: None,
        old_encryption_key_files: Vec::new(),
    };
    let metrics = Metrics::new(&["sink"]);
    let opened = async { Journal::open(&config, &["sink"], &metrics, Timestamp::now) };
    let mut journal = runtime.block_on(opened).expect("a journal");
    let key = DigestKey::new(b"a key of a benchmark");
    let mut number = 0;
    let mut group = criterion.benchmark_group("journal");
    for count in COMMITS {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} events durable"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    number += count as u64;
                    let entries: Vec<_> = (number..number + count as u64)
                        .map(|number| entry(&mut journal, number, &key))
                        .collect();
                    let started = tokio::time::Instant::now();
                    runtime.block_on(durable(&journal, entries));
                    took += started.elapsed();
                }
                took
            });
        });
    }
    group.finish();
}

fn entry(journal: &mut Journal, number: u64, key: &DigestKey) -> Entry {
    let (event, mut state) = news(None, observed(&frame(number % 10_000)), key);
    let position = journal.appender.next_position();
    state.position = position;
    let record = Record {
        position,
        event_id: event.event_id,
        event_type: event.event_type,
        key: event.user_id.clone(),
        occurred_at: event.occurred_at,
        received_at: event.received_at,
        body: serde_json::to_vec(&event).expect("JSON"),
    };
    Entry {
        user: key.user(&event.user_id),
        key: event.user_id,
        record: Some((Arc::new(record), event.origin)),
        state,
        room: None,
    }
}

async fn durable(journal: &Journal, entries: Vec<Entry>) {
    let last = journal.appender.position();
    for entry in entries {
        journal.appender.append(entry).await.expect("a writer");
    }
    let mut committed = journal.handle.committing();
    committed
        .wait_for(|at| *at >= last)
        .await
        .expect("a writer");
}

criterion_group!(stages, pure, commits);
criterion_main!(stages);
