//! A journal that is sealed, on a real file: nothing personal is in its bytes, and everything comes back.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::tests::{close, config, entry, open};
use super::*;
use crate::config::Span;
use crate::event::EventId;
use crate::notice::Channel;

/// In every value that is personal, and nowhere else.
const CANARY: &str = "canary";

fn key(folder: &tempfile::TempDir, name: &str, byte: u8) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, [byte; 40]).unwrap();
    path
}

fn sealed(folder: &tempfile::TempDir) -> JournalConfig {
    JournalConfig {
        encryption_key_file: Some(key(folder, "one.key", 1)),
        ..config(folder)
    }
}

/// An event of a user whose key, body and status hold the canary.
fn personal(journal: &mut Journal, user: u8) -> Entry {
    let mut entry = entry(journal, user, "");
    let event_id = EventId([user; 16]);
    let body =
        format!("{{\"event_id\":\"{event_id}\",\"email\":\"{CANARY}-{user}@example.test\"}}");
    let (record, _) = entry.record.as_mut().unwrap();
    let record = Arc::get_mut(record).unwrap();
    record.body = body.into_bytes();
    record.key = format!("{CANARY}-{user}");
    entry.key.clone_from(&record.key);
    entry.state.status = Some(format!("{CANARY}-status"));
    entry
}

fn letter(record: Option<Arc<Record>>) -> DeadLetter {
    DeadLetter {
        at: Timestamp::now(),
        stage: if record.is_some() { "a" } else { "normalise" }.to_owned(),
        reason: "schema",
        detail: "too large".to_owned(),
        shape: record
            .is_none()
            .then(|| format!("{{\"{CANARY}\":\"***\"}}").into_bytes()),
        record,
    }
}

/// Puts something personal into every place that there is.
async fn fill(journal: &mut Journal) {
    journal.handle.want_dead_letters().await.unwrap();
    journal.handle.sync().await.unwrap();
    let mut last = None;
    for user in 1..=50 {
        let entry = personal(journal, user);
        last = entry.record.as_ref().map(|(record, _)| Arc::clone(record));
        journal.appender.append(entry).await.unwrap();
    }
    let handle = &journal.handle;
    handle.dead_letter_durably(letter(last)).await.unwrap();
    handle.dead_letter_durably(letter(None)).await.unwrap();
    let notice = format!("{{\"x\":\"{CANARY}\"}}").into_bytes();
    let control = handle.notice(Timestamp(1), Channel::Control, "kind", notice);
    control.await.unwrap();
    handle.sync().await.unwrap();
}

/// Everything comes back as [`fill`] has put it in.
fn is_whole(journal: &Journal) {
    let reader = journal.handle.reader().unwrap();
    let records = reader.records(0, 99, 99, 1 << 20).unwrap();
    assert_eq!(records.len(), 50);
    for record in records {
        let user = record.event_id.0[0];
        assert_eq!(record.key, format!("{CANARY}-{user}"));
        let body = format!("\"email\":\"{CANARY}-{user}@example.test\"}}");
        assert!(String::from_utf8_lossy(&record.body).ends_with(&body));
        let state = reader.user(&[user; 16]).unwrap().unwrap();
        assert_eq!(state.status.unwrap(), format!("{CANARY}-status"));
    }
    let users = reader.users(None, 99).unwrap();
    assert!(
        users
            .iter()
            .all(|(user, key, _)| *key == format!("{CANARY}-{}", user[0]))
    );
    assert_eq!(users.len(), 50);
    let last = reader.letter_record(1).unwrap().unwrap();
    assert_eq!(last.key, format!("{CANARY}-50"));
    let letters = reader.dead_letters(9).unwrap();
    let shape = letters[1].body.clone().unwrap();
    assert_eq!(shape, format!("{{\"{CANARY}\":\"***\"}}").into_bytes());
    let notices = reader.notices(0, 99).unwrap().into_iter();
    let personal = notices.filter(|notice| String::from_utf8_lossy(&notice.body).contains(CANARY));
    assert_eq!(personal.count(), 3, "two of the letters, one by itself");
}

/// The files of the folder that hold the canary; and no key of digests is there in clear.
fn leaks(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut leaking = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        if String::from_utf8_lossy(&bytes).contains(CANARY) {
            leaking.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    leaking.sort();
    leaking
}

fn nothing_leaks(folder: &tempfile::TempDir) {
    assert_eq!(leaks(folder.path()), Vec::<String>::new());
}

fn sql(config: &JournalConfig, sql: &str) {
    Connection::open(&config.path)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_sealed_journal_says_who_is_in_it_and_everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = sealed(&folder);
    let mut journal = open(&config, &["a"]);
    fill(&mut journal).await;
    nothing_leaks(&folder);
    is_whole(&journal);
    let digest_key = journal.found.digest_key.user("x");
    close(journal).await;
    nothing_leaks(&folder);

    let journal = open(&config, &["a"]);
    is_whole(&journal);
    assert_eq!(journal.found.digest_key.user("x"), digest_key);
    nothing_leaks(&folder);
    let desk = Desk::open(&config).unwrap();
    let letter = desk.letter(1).unwrap().unwrap();
    assert_eq!(letter.key.unwrap(), format!("{CANARY}-50"));
    assert_eq!(
        letter.summary.bytes,
        letter.body.map(|body| body.len() as u64)
    );
    assert!(desk.stats(1).unwrap().encrypted_with.is_some());
    let snapshot = Snapshot::open(&config).unwrap();
    assert_eq!(snapshot.users(None, 99).unwrap().len(), 50);
    close(journal).await;
    let report = verify(&config).unwrap();
    assert!(report.ok && report.records == 50, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_without_its_key_is_refused_and_the_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = sealed(&folder);
    close(open(&config, &["a"])).await;
    let id = Desk::open(&config)
        .unwrap()
        .stats(1)
        .unwrap()
        .encrypted_with
        .unwrap();
    let other = JournalConfig {
        encryption_key_file: Some(key(&folder, "two.key", 2)),
        ..config.clone()
    };
    let without = JournalConfig {
        encryption_key_file: None,
        ..config.clone()
    };
    for (wrong, have) in [(other, "two.key"), (without, "none")] {
        let metrics = Metrics::new(&["a"]);
        let errors = [
            Journal::open(&wrong, &["a"], &metrics, Timestamp::now)
                .map(drop)
                .unwrap_err(),
            Desk::open(&wrong).map(drop).unwrap_err(),
            Snapshot::open(&wrong).map(drop).unwrap_err(),
            verify(&wrong).map(drop).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(error.is_configuration() && !error.is_defect(), "{text}");
            for said in [&id, "one.key", have, "journal.encryption_key_file"] {
                assert!(text.contains(said), "{text}");
            }
        }
    }
    // Nothing was changed meanwhile.
    close(open(&config, &["a"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_in_clear_is_sealed_sealed_with_another_key_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let clear = config(&folder);
    let mut journal = open(&clear, &["a"]);
    fill(&mut journal).await;
    journal.handle.advance(0, 7, true).await.unwrap();
    close(journal).await;
    // A page of it is free, and holds what was deleted, as an older version left it.
    sql(
        &clear,
        "PRAGMA secure_delete = OFF; CREATE TABLE gone (x);
        INSERT INTO gone SELECT 'canary' || zeroblob(9000); DROP TABLE gone",
    );
    assert_eq!(leaks(folder.path()), ["journal.db"]);

    let one = sealed(&folder);
    let journal = open(&one, &["a"]);
    is_whole(&journal);
    assert_eq!(journal.found.cursors, [(7, true)]);
    nothing_leaks(&folder);
    close(journal).await;

    let two = JournalConfig {
        encryption_key_file: Some(key(&folder, "two.key", 2)),
        old_encryption_key_files: one.encryption_key_file.iter().cloned().collect(),
        ..config(&folder)
    };
    let before = Desk::open(&two).unwrap().stats(1).unwrap().encrypted_with;
    let journal = open(&two, &["a"]);
    is_whole(&journal);
    close(journal).await;
    nothing_leaks(&folder);
    let after = Desk::open(&two).unwrap().stats(1).unwrap().encrypted_with;
    assert_ne!(before, after);
    // The old key is not needed any more.
    let alone = JournalConfig {
        old_encryption_key_files: Vec::new(),
        ..two.clone()
    };
    is_whole(&open(&alone, &["a"]));

    let off = JournalConfig {
        encryption_key_file: None,
        old_encryption_key_files: two.encryption_key_file.iter().cloned().collect(),
        ..two
    };
    close(open(&off, &["a"])).await;
    let journal = open(&clear, &["a"]);
    is_whole(&journal);
    assert_eq!(journal.found.cursors, [(7, true)]);
    close(journal).await;
    assert!(verify(&clear).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_sealing_has_left_is_overwritten_and_no_journal_is() {
    let folder = tempfile::tempdir().unwrap();
    let clear = config(&folder);
    let mut journal = open(&clear, &["a"]);
    fill(&mut journal).await;
    close(journal).await;
    let beside = |ending: &str| wipe::beside(&clear.path, ending);
    // Killed while it copied; then between the link and the new name; then before the overwriting.
    std::fs::copy(&clear.path, beside(".resealing")).unwrap();
    std::fs::hard_link(&clear.path, beside(".before")).unwrap();
    let journal = open(&clear, &["a"]);
    is_whole(&journal);
    assert!(!beside(".resealing").exists() && !beside(".before").exists());
    close(journal).await;
    std::fs::copy(&clear.path, beside(".before")).unwrap();
    // What is overwritten is seen through another name.
    std::fs::hard_link(beside(".before"), folder.path().join("seen")).unwrap();
    close(open(&sealed(&folder), &["a"])).await;
    nothing_leaks(&folder);
    assert!(!beside(".before").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_told_and_counts_as_lost_and_never_becomes_another_record() {
    let folder = tempfile::tempdir().unwrap();
    let config = sealed(&folder);
    let mut journal = open(&config, &["a"]);
    fill(&mut journal).await;
    close(journal).await;
    // One changed byte; two bodies that have changed places; a clear one that somebody has put there.
    sql(
        &config,
        "UPDATE records SET body = body || x'00' WHERE position = 7;
        CREATE TEMP TABLE other AS SELECT position, body FROM records WHERE position IN (20, 21);
        UPDATE records SET body = (SELECT body FROM other WHERE other.position = 41 - records.position)
            WHERE position IN (20, 21);
        UPDATE records SET key = 'somebody' WHERE position = 30;
        UPDATE dead_letters SET body = zeroblob(99) WHERE id = 1;
        UPDATE users SET state = zeroblob(99) WHERE user = x'05050505050505050505050505050505';
        UPDATE records SET user = NULL, state = NULL",
    );
    let report = verify(&config).unwrap();
    let told = report.problems.join("\n");
    assert_eq!(report.problems_total, 6, "{told}");
    for record in [7, 20, 21] {
        let words =
            format!("record {record}: its body cannot be opened with the key of this journal");
        assert!(told.contains(&words), "{told}");
    }
    assert!(
        told.contains("record 30: its key") && told.contains("dead_letters 1"),
        "{told}"
    );
    assert!(
        told.contains("the state of a user") && !told.contains(CANARY),
        "{told}"
    );

    let journal = open(&config, &["a"]);
    let reader = journal.handle.reader().unwrap();
    let error = reader.records(0, 99, 99, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("the file is damaged"), "{error}");
    error.note(&journal.lock);
    drop(reader);
    close(journal).await;

    let metrics = Metrics::new(&["a"]);
    let journal = Journal::open(&config, &["a"], &metrics, Timestamp::now).unwrap();
    let lost = metrics.loss.events_lost.with_label_values(&[LOST_CORRUPT]);
    assert_eq!(lost.get(), 4);
    let reader = journal.handle.reader().unwrap();
    let records = reader.records(0, 99, 99, 1 << 20).unwrap();
    assert_eq!(records.len(), 46);
    for record in records {
        assert_eq!(u64::from(record.event_id.0[0]), record.position);
        assert!(
            String::from_utf8_lossy(&record.body).contains(&format!("canary-{}@", record.position))
        );
    }
    assert_eq!(reader.users(None, 99).unwrap().len(), 49);
    assert_eq!(reader.dead_letters(9).unwrap().len(), 1);
    drop(reader);
    close(journal).await;
    nothing_leaks(&folder);
    assert!(verify(&config).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_that_does_not_say_its_key_is_saved_with_it_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = sealed(&folder);
    let mut journal = open(&config, &["a"]);
    fill(&mut journal).await;
    let marked = JournalError::Sql(trouble::damaged("by a test".to_owned()));
    marked.note(&journal.lock);
    close(journal).await;
    sql(&config, "DELETE FROM meta WHERE name LIKE 'sealed%'");
    let without = JournalConfig {
        encryption_key_file: None,
        ..config.clone()
    };
    let refused = Journal::open(&without, &["a"], &Metrics::new(&["a"]), Timestamp::now);
    let error = refused.map(drop).unwrap_err();
    assert!(error.is_configuration(), "{error}");
    let journal = open(&config, &["a"]);
    is_whole(&journal);
    close(journal).await;
    assert!(verify(&config).unwrap().ok);
}

/// Waits until no file holds the canary.
async fn gone(folder: &tempfile::TempDir, what: &str) {
    let started = tokio::time::Instant::now();
    while let leaking = leaks(folder.path())
        && !leaking.is_empty()
    {
        let waited = started.elapsed();
        assert!(
            waited < Duration::from_secs(30),
            "{what} is still in {leaking:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_from_a_journal_in_clear_is_soon_in_no_byte_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        retention: Span::seconds(0),
        ..config(&folder)
    };
    let mut journal = open(&config, &["a"]);
    for user in 0..=255 {
        // The users stay, and are not what is looked for.
        for _ in 0..8 {
            let entry = Entry {
                key: "client".to_owned(),
                state: UserState::default(),
                ..personal(&mut journal, user)
            };
            journal.appender.append(entry).await.unwrap();
        }
    }
    let handle = &journal.handle;
    handle.dead_letter_durably(letter(None)).await.unwrap();
    assert!(
        !leaks(folder.path()).is_empty(),
        "the test finds what it looks for"
    );
    handle.advance(0, 2048, true).await.unwrap();
    Desk::open(&config)
        .unwrap()
        .drop_letters(&LetterFilter::default())
        .unwrap();
    gone(&folder, "a pruned record or a dropped letter").await;
    assert_eq!(journal.found.cursors.len(), 1);
    close(journal).await;
    nothing_leaks(&folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_free_pages_of_an_older_version_are_overwritten_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let mut journal = open(&config, &["a"]);
    let entry = entry(&mut journal, 1, "one");
    journal.appender.append(entry).await.unwrap();
    close(journal).await;
    sql(
        &config,
        "PRAGMA secure_delete = OFF; CREATE TABLE gone (x);
        WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
        INSERT INTO gone SELECT 'canary' || hex(zeroblob(2000)) FROM n; DROP TABLE gone;
        ALTER TABLE records DROP COLUMN user; ALTER TABLE records DROP COLUMN state;
        PRAGMA user_version = 2",
    );
    assert_eq!(leaks(folder.path()), ["journal.db"]);
    let journal = open(&config, &["a"]);
    assert_eq!(
        journal
            .handle
            .reader()
            .unwrap()
            .records(0, 9, 9, 999)
            .unwrap()
            .len(),
        1
    );
    close(journal).await;
    nothing_leaks(&folder);
    let file = Connection::open(&config.path).unwrap();
    assert!(schema::quick_check(&file).unwrap().is_empty());
    assert_eq!(schema::meta(&file, "free_pages_unwiped").unwrap(), None);
}

#[test]
fn a_file_that_is_no_journal_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(
        &path,
        "somebody's letter, and no database at all. ".repeat(100),
    )
    .unwrap();
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, wide).unwrap();
    let refused = schema::open_or_create(&path, &seal::Seal::default());
    assert!(
        matches!(refused, Err(JournalError::Format { .. })),
        "{refused:?}"
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_read_a_file_of_the_journal_whatever_its_mode_was() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut journal = open(&config, &["a"]);
    fill(&mut journal).await;
    let files = ["", "-wal", "-shm", ".lock"].map(|ending| wipe::beside(&config.path, ending));
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    // As a kill leaves them, with the log beside the file.
    let copy = tempfile::tempdir().unwrap();
    for file in &files {
        let to = copy.path().join(file.file_name().unwrap());
        std::fs::copy(file, &to).unwrap();
        assert_eq!(mode(&to), 0o666);
    }
    close(journal).await;
    let config = JournalConfig {
        path: copy.path().join("journal.db"),
        ..config
    };
    let journal = open(&config, &["a"]);
    is_whole(&journal);
    for ending in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&wipe::beside(&config.path, ending)), 0o600, "{ending}");
    }
    close(journal).await;
}
