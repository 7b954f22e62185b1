//! Delivering, against a model: whatever a destination does, and however often the process dies, the
//! destination ends with every record once, in the order of its key, except those it refused, and
//! those are dead letters.
//!
//! The journal is a real one. The destination is a list that fails as a script says: here the
//! bookkeeping is on trial; the real brokers are in the integration tests.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use tokio::sync::{Notify, watch};

use super::*;
use crate::config::{JournalConfig, Size, Span};
use crate::event::{EventType, Origin, Record};
use crate::journal::{Entry, Journal};
use crate::metrics::Metrics;
use crate::shutdown;
use crate::sink::{Destination, PublishError};
use crate::state::UserState;

/// What happens at one call.
#[derive(Clone, Debug)]
enum Fault {
    /// Nothing.
    None,
    /// `open` fails.
    Open(ErrorClass),
    /// `held` fails.
    Held,
    /// Some records are not acknowledged.
    Stop(Cut),
    /// The process dies when so many records are stored; its cursor on disk is so far behind.
    Die(usize, u64),
}

/// From one record on, those of some keys fail; the first few are stored all the same.
#[derive(Clone, Debug)]
struct Cut {
    class: ErrorClass,
    after: usize,
    keys: BTreeSet<String>,
    unheard: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            class: ErrorClass::Transient,
            after: usize::MAX,
            keys: BTreeSet::new(),
            unheard: 0,
        }
    }
}

fn client(number: u8) -> String {
    format!("client_{number}")
}

fn cut(class: impl Strategy<Value = ErrorClass>) -> impl Strategy<Value = Cut> {
    let keys = proptest::collection::btree_set((0_u8..5).prop_map(client), 1..6);
    (class, 0_usize..9, keys, 0_usize..9).prop_map(|(class, after, keys, unheard)| Cut {
        class,
        after,
        keys,
        unheard,
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    let class = prop_oneof![
        Just(ErrorClass::Transient),
        Just(ErrorClass::Fatal),
        Just(ErrorClass::Configuration),
    ];
    prop_oneof![
        2 => Just(Fault::None),
        1 => class.clone().prop_map(Fault::Open),
        1 => Just(Fault::Held),
        4 => cut(class).prop_map(Fault::Stop),
        3 => (0_usize..9, 0_u64..30).prop_map(|(stored, behind)| Fault::Die(stored, behind)),
    ]
}

/// Where the destination cannot tell what it holds, once is promised only for what is known, and only
/// as long as the process lives (which ends here when the sink is halted).
fn only_known(script: Vec<Fault>) -> Vec<Fault> {
    let class = ErrorClass::Transient;
    let known = |fault| match fault {
        Fault::Stop(cut) => Some(Fault::Stop(Cut {
            class,
            unheard: 0,
            ..cut
        })),
        Fault::Open(_) => Some(Fault::Open(class)),
        Fault::Die(..) => None,
        other => Some(other),
    };
    script.into_iter().filter_map(known).collect()
}

/// The destination and its script, which outlive the process.
#[derive(Debug)]
struct World {
    stored: Mutex<Vec<(String, EventId)>>,
    refused: HashSet<EventId>,
    can_tell: bool,
    script: Mutex<std::vec::IntoIter<Fault>>,
    died: Notify,
    behind: AtomicU64,
}

impl World {
    fn stored(&self) -> MutexGuard<'_, Vec<(String, EventId)>> {
        self.stored.lock().unwrap()
    }

    /// The next fault if it is one for this call; the others wait for theirs.
    fn next_if(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut script = self.script.lock().unwrap();
        let fits = script.as_slice().first().is_some_and(wanted);
        fits.then(|| script.next()).flatten()
    }
}

struct Listed(Arc<World>);

impl Listed {
    /// Stores a record unless it is refused; whether it is.
    fn store(&self, record: &Record) -> bool {
        let refused = self.0.refused.contains(&record.event_id);
        if !refused {
            let id = (record.key.clone(), record.event_id);
            self.0.stored().push(id);
        }
        refused
    }

    async fn publish_all(&self, batch: &[Arc<Record>]) -> Result<(), PublishError> {
        let publishing = |fault: &Fault| !matches!(fault, Fault::Open(_) | Fault::Held);
        let stop = match self.0.next_if(publishing) {
            Some(Fault::Stop(stop)) => stop,
            Some(Fault::Die(stored, behind)) => {
                for record in batch.iter().take(stored) {
                    self.store(record);
                }
                self.0.behind.store(behind, Ordering::SeqCst);
                self.0.died.notify_one();
                return std::future::pending().await;
            }
            _ => Cut::default(),
        };
        let failed = self.publish_until(batch, stop);
        if failed.is_empty() {
            return Ok(());
        }
        Err(PublishError { failed })
    }

    fn publish_until(&self, batch: &[Arc<Record>], mut cut: Cut) -> Vec<(usize, SinkError)> {
        let mut failed = Vec::new();
        for (index, record) in batch.iter().enumerate() {
            let is_cut = index >= cut.after && cut.keys.contains(&record.key);
            if is_cut && cut.unheard == 0 {
                failed.push((index, SinkError::new(cut.class, "cut")));
                continue;
            }
            let refused = self.store(record);
            if is_cut {
                cut.unheard -= 1;
                failed.push((index, SinkError::new(cut.class, "unheard")));
            } else if refused {
                let error = SinkError::new(ErrorClass::Record, "too large");
                failed.push((index, error));
            }
        }
        failed
    }
}

impl Sink for Listed {
    fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>> {
        async {
            let opening = |fault: &Fault| matches!(fault, Fault::Open(_));
            if let Some(Fault::Open(class)) = self.0.next_if(opening) {
                return Err(SinkError::new(class, "not now"));
            }
            Ok(Destination {
                can_tell_what_it_holds: self.0.can_tell,
                ..Destination::default()
            })
        }
        .boxed()
    }

    fn held(&mut self, _: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>> {
        async {
            if self
                .0
                .next_if(|fault| matches!(fault, Fault::Held))
                .is_some()
            {
                return Err(SinkError::new(ErrorClass::Transient, "no answer"));
            }
            Ok(self.0.stored().iter().map(|(_, id)| *id).collect())
        }
        .boxed()
    }

    fn publish<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        self.publish_all(batch).boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

/// A journal with one record for each key given.
pub(super) async fn journal(folder: &tempfile::TempDir, keys: &[u8]) -> Journal {
    let config = JournalConfig {
        path: folder.path().join("journal.db"),
        max_bytes: Size::mebibytes(64),
        retention: Span::seconds(3600),
        commit_interval: Span::seconds(0),
        encryption_key_file: None,
        old_encryption_key_files: Vec::new(),
        when_full: crate::config::WhenFull::default(),
    };
    let metrics = Metrics::new(&["s"]);
    let mut journal = Journal::open(&config, &["s"], &metrics, Timestamp::now).unwrap();
    append(&mut journal, keys).await;
    journal
}

/// One record more for each key, committed.
pub(super) async fn append(journal: &mut Journal, keys: &[u8]) {
    for key in keys {
        let position = journal.appender.next_position();
        let record = Record {
            position,
            event_id: id(position),
            event_type: EventType::Updated,
            key: client(*key),
            occurred_at: None,
            received_at: Timestamp::now(),
            body: b"{}".to_vec(),
        };
        let entry = Entry {
            record: Some((Arc::new(record), Origin::Feed)),
            user: [*key; 16],
            key: client(*key),
            state: UserState::default(),
            room: None,
        };
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.sync().await.unwrap();
}

fn id(position: u64) -> EventId {
    EventId(u128::from(position).to_le_bytes())
}

/// Lives and dies as the script says, until everything is delivered.
async fn deliver_all(journal: &Journal, world: &Arc<World>) {
    let metrics = Metrics::new(&["s"]);
    let milli = Duration::from_millis(1);
    let mut start = Start {
        index: 0,
        cursor: 0,
        clean: true,
        settle: Duration::ZERO,
        pace: Pace {
            batch_records: 7,
            retry: (milli / 10, milli),
            halted: milli,
            secrets: milli,
        },
    };
    let last = journal.handle.committed();
    loop {
        let status = Arc::new(SinkStatus::new("s", start.cursor));
        let (_stopper, stop) = shutdown::channel();
        let (_last, until) = watch::channel(Some(last));
        let deliver = Deliver::new(
            start,
            Box::new(Listed(Arc::clone(world))),
            &journal.handle,
            metrics.sinks[0].clone(),
            Arc::clone(&status),
            stop,
            until,
            Timestamp::now,
        );
        tokio::select! {
            outcome = deliver.run() => {
                outcome.unwrap();
                // A halted sink does not hold up the end; the next start goes on.
                if status.report().delivered >= last {
                    return;
                }
            }
            () = world.died.notified() => {}
        }
        let behind = world.behind.swap(0, Ordering::SeqCst);
        let delivered = status.report().delivered;
        start.cursor = delivered.saturating_sub(behind);
        start.clean = false;
    }
}

fn check(keys: &[u8], world: &World, letters: &BTreeSet<u64>) {
    let mut wanted: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
    for (key, position) in keys.iter().zip(1_u64..) {
        if !world.refused.contains(&id(position)) {
            let of_key = wanted.entry(client(*key)).or_default();
            of_key.push(id(position));
        }
    }
    let mut seen: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
    for (key, id) in world.stored().iter() {
        seen.entry(key.clone()).or_default().push(*id);
    }
    assert_eq!(seen, wanted, "each record once, in the order of its key");
    let refused: BTreeSet<EventId> = world.refused.iter().copied().collect();
    let letters: BTreeSet<EventId> = letters.iter().map(|position| id(*position)).collect();
    assert_eq!(letters, refused, "what was refused is a dead letter");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_fails_and_dies_each_record_is_there_once_in_order_or_a_dead_letter(
        keys in proptest::collection::vec(0_u8..5, 1..60),
        refused in proptest::collection::btree_set(1_u64..60, 0..4),
        script in proptest::collection::vec(fault(), 0..14),
        can_tell in any::<bool>(),
    ) {
        let script = if can_tell { script } else { only_known(script) };
        let last = u64::try_from(keys.len()).unwrap();
        let refused: BTreeSet<u64> = refused.into_iter().filter(|position| *position <= last).collect();
        let world = Arc::new(World {
            stored: Mutex::default(),
            refused: refused.iter().map(|position| id(*position)).collect(),
            can_tell,
            script: Mutex::new(script.into_iter()),
            died: Notify::new(),
            behind: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let letters = runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let journal = journal(&folder, &keys).await;
            let delivering = deliver_all(&journal, &world);
            let done = timeout(Duration::from_secs(60), delivering).await;
            assert!(done.is_ok(), "delivering did not come to an end");
            let letters = journal.handle.reader().unwrap().dead_letters(1000).unwrap();
            journal.handle.close();
            letters.into_iter().filter_map(|letter| letter.position).collect()
        });
        check(&keys, &world, &letters);
    }
}

/// Sets a record aside for the sink and asks that it be published again.
async fn ask_for_letter(journal: &Journal, path: &std::path::Path, position: u64) {
    let [record] = journal
        .handle
        .reader()
        .unwrap()
        .records(position - 1, position, 1, usize::MAX)
        .unwrap()
        .try_into()
        .unwrap();
    let letter = crate::journal::DeadLetter {
        at: Timestamp::now(),
        stage: "s".to_owned(),
        reason: crate::metrics::REASON_SINK,
        detail: String::new(),
        record: Some(record),
        shape: None,
    };
    journal.handle.dead_letter_durably(letter).await.unwrap();
    let filter = crate::journal::LetterFilter::default();
    let desk = crate::journal::Desk::open(&JournalConfig::at(path)).unwrap();
    desk.ask_replay(&filter, Timestamp::now()).unwrap();
}

fn world(can_tell: bool) -> Arc<World> {
    Arc::new(World {
        stored: Mutex::default(),
        refused: HashSet::new(),
        can_tell,
        script: Mutex::new(Vec::new().into_iter()),
        died: Notify::new(),
        behind: AtomicU64::new(0),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_record_still_comes_with_the_events_is_not_published_twice() {
    for can_tell in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let keys = [1, 1, 1];
        let journal = journal(&folder, &keys).await;
        ask_for_letter(&journal, &folder.path().join("journal.db"), 2).await;
        let world = world(can_tell);
        deliver_all(&journal, &world).await;
        check(&keys, &world, &BTreeSet::new());
        journal.handle.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_do_not_hold_up_events_that_are_read_from_the_file() {
    const LETTERS: u64 = 500;
    let folder = tempfile::tempdir().unwrap();
    let written = journal(&folder, &[1; 510]).await;
    let records = written.handle.reader().unwrap();
    let records = records.records(0, LETTERS, 1000, usize::MAX).unwrap();
    for record in records {
        let letter = crate::journal::DeadLetter {
            at: Timestamp::now(),
            stage: "s".to_owned(),
            reason: crate::metrics::REASON_SINK,
            detail: String::new(),
            record: Some(record),
            shape: None,
        };
        written.handle.dead_letter(letter).await.unwrap();
    }
    written.handle.sync().await.unwrap();
    let desk =
        crate::journal::Desk::open(&JournalConfig::at(folder.path().join("journal.db"))).unwrap();
    let filter = crate::journal::LetterFilter::default();
    desk.ask_replay(&filter, Timestamp::now()).unwrap();
    written.handle.close();
    let Journal { writer, lock, .. } = written;
    writer.await.unwrap().unwrap();
    drop(lock);
    // Now no record is in memory.
    let journal = journal(&folder, &[]).await;
    let world = world(true);
    deliver_from(&journal, &world, LETTERS).await;
    let before = world
        .stored()
        .iter()
        .position(|(_, stored)| *stored == id(LETTERS + 1));
    let before = before.expect("the events are there");
    assert!(
        before <= 100,
        "{before} letters went before the first event"
    );
    journal.handle.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_cannot_be_looked_up_do_not_keep_the_events_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder, &[1, 1, 1]).await;
    ask_for_letter(&journal, &folder.path().join("journal.db"), 1).await;
    let world = Arc::new(World {
        stored: Mutex::default(),
        refused: HashSet::new(),
        can_tell: true,
        script: Mutex::new(vec![Fault::Held; 100].into_iter()),
        died: Notify::new(),
        behind: AtomicU64::new(0),
    });
    deliver_from(&journal, &world, 1).await;
    let events = [2, 3].map(|position| (client(1), id(position)));
    assert_eq!(*world.stored(), events);
    journal.handle.close();
}

/// Delivers what is after a position, in one life.
async fn deliver_from(journal: &Journal, world: &Arc<World>, cursor: u64) {
    let metrics = Metrics::new(&["s"]);
    let milli = Duration::from_millis(1);
    let start = Start {
        index: 0,
        cursor,
        clean: true,
        settle: Duration::ZERO,
        pace: Pace {
            retry: (milli / 10, milli),
            ..Pace::default()
        },
    };
    let (_stopper, stop) = shutdown::channel();
    let (_last, until) = watch::channel(Some(journal.handle.committed()));
    let deliver = Deliver::new(
        start,
        Box::new(Listed(Arc::clone(world))),
        &journal.handle,
        metrics.sinks[0].clone(),
        Arc::new(SinkStatus::new("s", cursor)),
        stop,
        until,
        Timestamp::now,
    );
    deliver.run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_from_the_end_of_the_journal_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let written = journal(&folder, &[1, 1, 1]).await;
    written.handle.close();
    let Journal { writer, lock, .. } = written;
    writer.await.unwrap().unwrap();
    drop(lock);
    // As it is when a damaged journal was saved whose last pages are unreadable.
    let file = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let sql = "DELETE FROM records WHERE position > 1;
        INSERT OR REPLACE INTO meta VALUES ('last_position', 3)";
    file.execute_batch(sql).unwrap();
    drop(file);
    let journal = journal(&folder, &[]).await;
    let world = world(true);
    let delivering = deliver_from(&journal, &world, 0);
    let ended = timeout(Duration::from_secs(10), delivering).await;
    assert!(ended.is_ok(), "it waits for what never comes");
    assert_eq!(*world.stored(), [(client(1), id(1))]);
    journal.handle.close();
}
