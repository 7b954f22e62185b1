//! Order through partial failures, as a property: whatever users and refusals chance mixes into a batch,
//! a record that failed holds back the later ones of its user, a record that is refused for itself holds
//! back nobody, and when an operator has mended what was refused everything is there once and in order.
//!
//! For Kafka and NATS; a file takes a batch as a whole or not at all, so it has no part to fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use onboarding_bridge::event::{Record, Timestamp};
use onboarding_bridge::sink::kafka::tail::create_topic;
use onboarding_bridge::sink::{ErrorClass, PublishError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Place, assert_holds_exactly};
use crate::support::kafka_admin::alter;
use crate::support::records::{record, record_at};
use crate::support::{beds, unique};

/// What a record may have in bytes.
const LIMIT: usize = 20_000;

/// What a stream has room for until it is mended: small records where a large one found none.
const ROOM: i64 = 80_000;

/// Batches of chance for each sink.
const ROUNDS: u64 = 12;

/// A day ago: more than the topic allows until it is mended.
fn yesterday() -> Timestamp {
    Timestamp::now().minus(Duration::from_secs(86_400))
}

async fn kafka() -> Place {
    let topic = unique("partial");
    let settings = [
        ("max.message.bytes", "20000"),
        ("message.timestamp.before.max.ms", "3600000"),
    ];
    create_topic(beds::kafka(), &topic, 3, &settings)
        .await
        .unwrap();
    Place::Kafka {
        topic,
        exactly_once: false,
    }
}

async fn nats() -> Place {
    let (stream, prefix) = (unique("PARTIAL"), unique("partial"));
    let context = jetstream::new(async_nats::connect(beds::nats()).await.unwrap());
    context
        .create_stream(nats_stream(&stream, &prefix, ROOM))
        .await
        .unwrap();
    Place::Nats { stream, prefix }
}

/// A stream with room for so many bytes; -1 is any number.
fn nats_stream(name: &str, prefix: &str, bytes: i64) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{prefix}.>")],
        max_message_size: i32::try_from(LIMIT).unwrap(),
        max_bytes: bytes,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    }
}

/// What an operator does about the refusals that are not about one record.
async fn mend(place: &Place) {
    match place {
        Place::Kafka { topic, .. } => {
            alter(beds::kafka(), topic, &[("max.message.bytes", "20000")]).await
        }
        Place::Nats { stream, prefix } => {
            let context = jetstream::new(async_nats::connect(beds::nats()).await.unwrap());
            let config = nats_stream(stream, prefix, -1);
            context.update_stream(config).await.unwrap();
        }
        Place::File { .. } => unreachable!("a file has no part to fail"),
    }
}

/// A batch of chance: some users of whom nothing is refused, some of whom something may be, and some
/// records that are too large.
fn chance(place: &Place, rng: &mut StdRng) -> Vec<Arc<Record>> {
    let users = rng.random_range(2..12);
    let mut batch: Vec<_> = (0..150)
        .map(|n| record(n, &format!("user_{}", n % users)))
        .collect();
    for index in 0..rng.random_range(4..40) {
        let (at, key) = (
            rng.random_range(0..=batch.len()),
            format!("doomed_{}", index % 2),
        );
        let mut doomed = record(1000 + index, &key);
        if rng.random_bool(0.3) {
            match place {
                Place::Nats { .. } => pad(&mut doomed, LIMIT * 3 / 4),
                _ => doomed = record_at(1000 + index, &key, yesterday()),
            }
        }
        batch.insert(at, doomed);
    }
    for _ in 0..rng.random_range(0..4) {
        let index = rng.random_range(0..batch.len());
        Arc::<Record>::make_mut(&mut batch[index]).body = noise(2 * LIMIT, rng);
    }
    batch
}

/// White space, which JSON allows.
fn pad(record: &mut Arc<Record>, bytes: usize) {
    Arc::<Record>::make_mut(record).body.resize(bytes, b' ');
}

/// Bytes that no compression makes small.
fn noise(bytes: usize, rng: &mut StdRng) -> Vec<u8> {
    (0..bytes).map(|_| rng.random_range(b'a'..=b'z')).collect()
}

fn is_too_large(record: &Record) -> bool {
    record.body.len() > LIMIT
}

/// What one publish left undone, after checking that nobody was overtaken and nobody else refused.
fn left(batch: &[Arc<Record>], error: &PublishError, seed: u64) -> Vec<Arc<Record>> {
    let failed: HashMap<usize, ErrorClass> = error
        .failed
        .iter()
        .map(|(index, error)| (*index, error.class))
        .collect();
    assert_eq!(failed.len(), error.failed.len(), "seed {seed}: each once");
    let mut held_back: HashMap<&str, usize> = HashMap::new();
    for (index, record) in batch.iter().enumerate() {
        let class = failed.get(&index);
        if class == Some(&ErrorClass::Record) {
            assert!(
                is_too_large(record),
                "seed {seed}: {index} was refused for itself"
            );
            continue;
        }
        match (class, held_back.get(&*record.key)) {
            (None, Some(before)) => panic!("seed {seed}: {index} overtook {before}"),
            (None, None) => assert!(!is_too_large(record), "seed {seed}: {index} was taken"),
            (Some(_), _) => {
                held_back.entry(&record.key).or_insert(index);
            }
        }
    }
    let rest = (0..batch.len()).filter(|index| {
        failed
            .get(index)
            .is_some_and(|class| *class != ErrorClass::Record)
    });
    rest.map(|index| Arc::clone(&batch[index])).collect()
}

/// One batch of chance, until all of it is there or a dead letter.
async fn one_round(place: Place, seed: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let all = chance(&place, &mut rng);
    let mut sink = place.opened().await;
    let since = yesterday().minus(Duration::from_secs(60));
    let mut rest = all.clone();
    let mut failures = 0;
    while let Err(error) = sink.publish(&rest).await {
        failures += 1;
        let before = rest.len();
        rest = left(&rest, &error, seed);
        if rest.is_empty() {
            break;
        }
        // As `deliver` does after anything that is not about one record.
        mend(&place).await;
        sink.open().await.unwrap();
        let held = sink.held(since).await.unwrap();
        for record in &rest {
            assert!(
                !held.contains(&record.event_id),
                "seed {seed}: it is there although it failed"
            );
        }
        assert!(
            failures < 60,
            "seed {seed}: {before} and still {}",
            rest.len()
        );
    }
    let expected: Vec<_> = all
        .into_iter()
        .filter(|record| !is_too_large(record))
        .collect();
    assert_holds_exactly(&place, &expected).await;
    failures
}

macro_rules! a_failed_record_holds_back_its_user_and_nobody_else {
    ($($sink:ident)*) => {$(
        mod $sink {
            #[tokio::test(flavor = "multi_thread")]
            async fn a_failed_record_holds_back_its_user_and_nobody_else() {
                let mut failures = 0;
                for _ in 0..super::ROUNDS {
                    let seed = rand::random();
                    println!("seed {seed}");
                    failures += super::one_round(super::$sink().await, seed).await;
                }
                assert!(failures > 0, "nothing was ever refused");
            }
        }
    )*};
}

a_failed_record_holds_back_its_user_and_nobody_else!(kafka nats);
