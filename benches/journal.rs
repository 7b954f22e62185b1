//! What encryption at rest costs: the same events through a plain and through an encrypted journal, in
//! turn, on the disk of the target folder; medians of the rounds.
//!
//! `make bench-journal`. It judges nothing; docs/journal.md says what it showed.

use std::path::Path;
use std::sync::Arc;

use onboarding_bridge::config::{JournalConfig, Size, Span, WhenFull};
use onboarding_bridge::event::{EventId, EventType, Origin, Record, Timestamp};
use onboarding_bridge::journal::{Entry, Journal};
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::state::UserState;
use tokio::time::Instant;

const ROUNDS: usize = 5;
const RECORDS: u64 = 50_000;
const USERS: u64 = 10_000;
/// Of one body.
const BYTES: usize = 520;
/// Records of one read, as a sink would ask.
const READ: (usize, usize) = (1000, 1024 * 1024);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (kind, rounds) in rounds.iter_mut().enumerate() {
            rounds.push(runtime.block_on(round(kind == 1)));
        }
    }
    let [plain, sealed] = rounds.map(|rounds| Figures::median(&rounds));
    print(&format!(
        "{RECORDS} events of {USERS} users, {BYTES}-byte bodies, medians of {ROUNDS} rounds\n\
         {:<10} {:>14} {:>14} {:>12}\n{}\n{}\nratio      {:>14.2} {:>14.2} {:>12.2}",
        "",
        "written/s",
        "read/s",
        "file bytes",
        plain.row("plain"),
        sealed.row("encrypted"),
        sealed.written / plain.written,
        sealed.read / plain.read,
        sealed.bytes / plain.bytes,
    ));
}

#[derive(Clone, Copy)]
struct Figures {
    /// Events a second until all are durable.
    written: f64,
    /// Events a second out of the file.
    read: f64,
    bytes: f64,
}

impl Figures {
    fn median(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            written: median(|round| round.written),
            read: median(|round| round.read),
            bytes: median(|round| round.bytes),
        }
    }

    fn row(&self, name: &str) -> String {
        let Self {
            written,
            read,
            bytes,
        } = self;
        format!("{name:<10} {written:>14.0} {read:>14.0} {bytes:>12.0}")
    }
}

async fn round(encrypted: bool) -> Figures {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the disk has room");
    let key = folder.path().join("journal.key");
    std::fs::write(&key, "5e".repeat(32)).expect("the disk has room");
    let config = JournalConfig {
        path: folder.path().join("journal.db"),
        max_bytes: Size::mebibytes(1024),
        retention: Span::seconds(3600),
        commit_interval: Span::seconds(0),
        encryption_key_file: encrypted.then_some(key),
        old_encryption_key_files: Vec::new(),
        when_full: WhenFull::Block,
    };
    let metrics = Metrics::new(&["sink"]);
    let journal = Journal::open(&config, &["sink"], &metrics, Timestamp::now);
    let mut journal = journal.expect("a new file");

    let started = Instant::now();
    for number in 0..RECORDS {
        let position = journal.appender.next_position();
        let entry = entry(number, position);
        journal.appender.append(entry).await.expect("it is open");
    }
    journal.handle.sync().await.expect("it is open");
    let written = per_second(started);

    let reader = journal.handle.reader().expect("it is open");
    let (started, mut after) = (Instant::now(), 0);
    while after < RECORDS {
        let records = reader.records(after, RECORDS, READ.0, READ.1);
        after = records.expect("it is whole").last().expect("more").position;
    }
    let read = per_second(started);
    drop(reader);

    let Journal {
        appender,
        handle,
        writer,
        ..
    } = journal;
    drop(appender);
    handle.close();
    writer.await.expect("it ends").expect("it ends well");
    Figures {
        written,
        read,
        bytes: size(&config.path),
    }
}

fn entry(number: u64, position: u64) -> Entry {
    let user = number % USERS;
    let key = format!("client_{user:08x}");
    let mut body = format!("{{\"user_id\":\"{key}\",\"padding\":\"");
    body.push_str(&"x".repeat(BYTES - body.len() - 2));
    body.push_str("\"}");
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let mut digest = [0; 16];
    // Spread over the table as the real ones are.
    digest[..8].copy_from_slice(&user.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    let record = Record {
        position,
        event_id: EventId(id),
        event_type: EventType::Updated,
        key: key.clone(),
        occurred_at: None,
        received_at: Timestamp::now(),
        body: body.into(),
    };
    let state = UserState {
        position,
        digests: [Some([7; 8]); _],
        recent: [record.event_id; 4].into(),
        ..UserState::default()
    };
    Entry {
        record: Some((Arc::new(record), Origin::Feed)),
        user: digest,
        key,
        state,
        room: None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn per_second(since: Instant) -> f64 {
    RECORDS as f64 / since.elapsed().as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn size(path: &Path) -> f64 {
    std::fs::metadata(path).expect("it was closed").len() as f64
}

#[allow(clippy::print_stdout, reason = "this is what it is run for")]
fn print(figures: &str) {
    println!("{figures}");
}
