//! What becomes of the figures with more users, a longer journal, a backlog, and more sinks.
//!
//! The journal is filled by the library before the process starts, as a bridge would have left it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::config::{JournalConfig, Size, Span, WhenFull};
use onboarding_bridge::event::{EventId, EventType, Origin, Record, Timestamp};
use onboarding_bridge::journal::{Desk, Entry, Journal};
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::state::UserState;
use tokio::time::Instant;

use super::Options;
use super::candidate::{Candidate, Target};
use super::consumer::{self, create_topic, delete_topic};
use super::run::{Destination, Figures, Stage, spread};
use super::table;
use super::vendor::{Frames, Vendor};

const USERS: [usize; 3] = [1_000, 100_000, 1_000_000];
const SINKS: [usize; 3] = [1, 2, 4];
const COLUMNS: [&str; 3] = ["events/s", "CPU s per million", "peak MiB"];

/// A port where nobody listens.
const NOWHERE: &str = "127.0.0.1:9";

pub(crate) fn measure(options: &Options) {
    let runs = |users: usize| {
        let options = Options {
            users,
            alone: true,
            ..options.clone()
        };
        let frames = [
            Arc::new(Frames::new(0, super::run::WARM, users)),
            Arc::new(Frames::new(super::run::WARM, options.events, users)),
        ];
        (options, frames)
    };
    table::title(
        "Feed to kafka, by users, each of them known before",
        &COLUMNS,
    );
    for users in USERS {
        let (options, frames) = runs(users);
        let mut stage = Stage::new(&options);
        stage.prepare = Some(Box::new(move |folder| fill(folder, users, 0)));
        row(
            &format!("{users} users"),
            &stage.bridge(Destination::Kafka, &frames),
        );
    }
    table::title("Feed to kafka, by records in the journal", &COLUMNS);
    for records in [0, options.records] {
        let (options, frames) = runs(options.users);
        let mut stage = Stage::new(&options);
        let users = options.users;
        stage.prepare = Some(Box::new(move |folder| fill(folder, users, records)));
        row(
            &format!("{records} records"),
            &stage.bridge(Destination::Kafka, &frames),
        );
    }
    table::title(
        "Feed to kafka, by sinks, each with a topic of its own",
        &COLUMNS,
    );
    for sinks in SINKS {
        let (options, frames) = runs(options.users);
        let mut stage = Stage::new(&options);
        stage.topics = sinks;
        row(
            &format!("{sinks} sinks"),
            &stage.bridge(Destination::Kafka, &frames),
        );
    }
    backlog(options);
}

fn row(name: &str, rounds: &[Figures]) {
    let of = |figure| spread(rounds, figure);
    table::row(
        name,
        &[
            of(|figures| figures.rate).words(0),
            of(|figures| figures.cpu).words(2),
            of(|figures| figures.peak).words(1),
        ],
    );
}

fn journal(folder: &Path) -> JournalConfig {
    JournalConfig {
        path: folder.join("journal.db"),
        max_bytes: Size::mebibytes(8 * 1024),
        when_full: WhenFull::Block,
        retention: Span::seconds(24 * 3600),
        commit_interval: Span::seconds(0),
        encryption_key_file: None,
        old_encryption_key_files: Vec::new(),
    }
}

/// Leaves a journal that knows these users, and holds so many records that its sink has.
fn fill(folder: &Path, users: usize, records: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let metrics = Metrics::new(&["kafka0"]);
        let opened = Journal::open(&journal(folder), &["kafka0"], &metrics, Timestamp::now);
        let mut journal = opened.expect("a journal");
        let key = journal.found.digest_key.clone();
        for number in 0..users as u64 + records {
            let name = format!("client_{:08}", number % users as u64);
            let is_known = number >= users as u64;
            let position = if is_known {
                journal.appender.next_position()
            } else {
                0
            };
            let record = is_known.then(|| (Arc::new(record(position, &name)), Origin::Feed));
            let recent = [0, 1, 2, 3].map(|more| id(number + more)).into();
            let state = UserState {
                position,
                digests: [Some([7; 8]); 8],
                status: Some("PENDING".to_owned()),
                recent,
                ..UserState::default()
            };
            let entry = Entry {
                record,
                user: key.user(&name),
                key: name,
                state,
                room: None,
            };
            journal.appender.append(entry).await.expect("a writer");
        }
        journal.handle.first_list_done().await.expect("a writer");
        journal
            .handle
            .advance(0, records, true)
            .await
            .expect("a writer");
        journal.handle.close();
        journal
            .writer
            .await
            .expect("a writer")
            .expect("all is written");
    });
}

fn id(number: u64) -> EventId {
    EventId(u128::from(number).to_le_bytes())
}

fn record(position: u64, name: &str) -> Record {
    let event_id = id(position);
    Record {
        position,
        event_id,
        event_type: EventType::Updated,
        key: name.to_owned(),
        occurred_at: None,
        received_at: Timestamp::now(),
        body: format!("{{\"event_id\":\"{event_id}\",\"user_id\":\"{name}\"}}").into_bytes(),
    }
}

/// What was heard while the broker was away, delivered by the next process; and what a start costs whose
/// destination must be asked what it holds of all that.
fn backlog(options: &Options) {
    let columns = [
        "events/s",
        "CPU s per million",
        "peak MiB",
        "start to first event s",
    ];
    table::title(
        &format!("Catching up with {} events in the journal", options.backlog),
        &columns,
    );
    for is_known in [false, true] {
        let name = match is_known {
            false => "none of them at the destination",
            true => "all of them held there, then one more",
        };
        let rounds: Vec<_> = (0..options.rounds.min(3))
            .map(|_| caught_up(options, is_known))
            .collect();
        let of = |index: usize, decimals| {
            let figures: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
            table::Spread::of(&figures).words(decimals)
        };
        table::row(name, &[of(0, 0), of(1, 2), of(2, 1), of(3, 2)]);
    }
}

/// Rate, CPU, peak, and the time from the start to the first event that arrives.
fn caught_up(options: &Options, held: bool) -> [f64; 4] {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-backlog");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).expect("a folder");
    let topic = format!("backlog-{}-{}", std::process::id(), Timestamp::now().0);
    runtime.block_on(create_topic(&options.kafka, &topic));
    let to = |brokers: &str| Target {
        kafka: vec![(brokers.to_owned(), topic.clone())],
        ..Target::default()
    };
    let hear = |frames: &Arc<Frames>, brokers: &str, heard: usize| {
        let vendor = Vendor::start();
        let address = vendor.address.to_string();
        let bridge = Candidate::bridge(&options.bridge, &folder, &address, &to(brokers));
        vendor
            .subscribed(Duration::from_secs(30))
            .expect("a subscription");
        let sent = vendor.send(frames, None);
        until(&folder, heard);
        sent.recv().expect("all is sent");
        (vendor, bridge)
    };
    let all = Arc::new(Frames::new(0, options.backlog, options.users));
    let last = Arc::new(Frames::new(options.backlog, 1, options.users));
    let follow = |from: usize, count: usize| consumer::kafka(&options.kafka, &topic, from, count);
    // Not before there is something to come: nobody follows for longer than a standstill.
    let live = if held {
        let live = follow(0, options.backlog);
        // Delivered, but for the cursor: that is set back, as a killed process would have left it.
        let (_vendor, bridge) = hear(&all, &options.kafka, options.backlog);
        live.end();
        bridge.end();
        set_back(&folder);
        let (_vendor, bridge) = hear(&last, NOWHERE, options.backlog + 1);
        bridge.end();
        follow(options.backlog, 1)
    } else {
        let (_vendor, bridge) = hear(&all, NOWHERE, options.backlog);
        bridge.end();
        follow(0, options.backlog)
    };
    let vendor = Vendor::start();
    let address = vendor.address.to_string();
    let bridge = Candidate::bridge(&options.bridge, &folder, &address, &to(&options.kafka));
    let arrived = live.end();
    let cpu = bridge.cpu();
    let peak = bridge.memory().1;
    assert_eq!(arrived.missing(), 0, "{} came twice", arrived.doubled);
    let first = arrived.times.iter().flatten().min().expect("an event");
    let end = arrived.last().expect("an event");
    let took = match held {
        true => (end - bridge.started).as_secs_f64(),
        false => (end - *first).as_secs_f64(),
    };
    let count = options.backlog as f64;
    let start = (*first - bridge.started).as_secs_f64();
    bridge.end();
    runtime.block_on(delete_topic(&options.kafka, &topic));
    [count / took, cpu / count * 1e6, peak, start]
}

/// Waits until the journal holds so many records.
fn until(folder: &Path, records: usize) {
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let desk = Desk::open(&journal(folder)).expect("a journal");
        let stats = desk.stats(0).expect("figures");
        if stats
            .newest
            .is_some_and(|newest| newest.position >= records as u64)
        {
            return;
        }
        assert!(Instant::now() < deadline, "{} records", stats.records);
    }
}

/// The sink's cursor stands before everything, and nothing is known of what lies beyond.
fn set_back(folder: &Path) {
    let file = rusqlite::Connection::open(journal(folder).path).expect("a journal");
    file.execute("UPDATE cursors SET position = 0, clean = 0", [])
        .expect("a cursor");
}
