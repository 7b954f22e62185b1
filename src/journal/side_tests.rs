//! What is asked of the journal beside the events, on a real file: letters, rewinds, notices.

use super::tests::{close, config, entry, open};
use super::*;
use crate::config::Span;
use crate::event::EventId;
use crate::journal::schema::PAGE_BYTES;
use crate::notice::{Channel, Notice};

fn letter(position: u64, event: u8) -> DeadLetter {
    DeadLetter {
        at: Timestamp::now(),
        stage: "a".to_owned(),
        reason: "sink",
        detail: "too large".to_owned(),
        record: Some(Arc::new(Record {
            position,
            event_id: EventId([event; 16]),
            event_type: EventType::Updated,
            key: "client_1".to_owned(),
            occurred_at: Some(Timestamp(5)),
            received_at: Timestamp(7),
            body: b"{\"n\":1}".to_vec(),
        })),
        shape: None,
    }
}

fn notices(journal: &Journal, after: u64) -> Vec<Notice> {
    let reader = journal.handle.reader().unwrap();
    reader.notices(after, 20_000).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_holds_all_that_it_takes_to_publish_it_again_and_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&config(&folder), &["a"]);
    let handle = &journal.handle;
    handle.dead_letter_durably(letter(3, 9)).await.unwrap();
    // Refused again, because the cursor was set back.
    handle.dead_letter_durably(letter(3, 9)).await.unwrap();
    let desk = Desk::open(&JournalConfig::at(folder.path().join("journal.db"))).unwrap();
    let [one] = desk
        .letters(&LetterFilter::default())
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!((one.attempts, one.position), (2, Some(3)));
    assert_eq!(handle.reader().unwrap().replays("a").unwrap(), []);
    let now = Timestamp::now();
    assert_eq!(desk.ask_replay(&LetterFilter::default(), now).unwrap(), 1);
    assert_eq!(desk.ask_replay(&LetterFilter::default(), now).unwrap(), 0);
    let reader = handle.reader().unwrap();
    let [asked] = reader.replays("a").unwrap().try_into().unwrap();
    assert_eq!(asked.received_at, Timestamp(7));
    let record = reader.letter_record(asked.id).unwrap().unwrap();
    assert_eq!(record, **letter(3, 9).record.as_ref().unwrap());
    handle.letters_published(vec![asked.id]).await.unwrap();
    handle.sync().await.unwrap();
    assert_eq!(desk.letters(&LetterFilter::default()).unwrap(), []);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_tells_when_another_process_has_written_and_not_when_it_has_itself() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&config(&folder), &["a"]);
    let mut beside = journal.handle.beside();
    journal
        .handle
        .dead_letter_durably(letter(1, 1))
        .await
        .unwrap();
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(2500), beside.changed());
    assert!(quiet.await.is_err(), "its own commit is no request");
    let desk = Desk::open(&JournalConfig::at(folder.path().join("journal.db"))).unwrap();
    desk.drop_letters(&LetterFilter::default()).unwrap();
    let told = tokio::time::timeout(std::time::Duration::from_secs(2), beside.changed());
    told.await.expect("within two seconds").unwrap();
    assert_eq!(beside.borrow().asked, 1);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_is_to_get_again_is_not_pruned_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        retention: Span::seconds(0),
        ..config(&folder)
    };
    // The other sink lags, so that there is something left to ask for.
    let mut journal = open(&config, &["a", "b"]);
    for _ in 0..10 {
        let entry = entry(&mut journal, 1, "x");
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.advance(0, 10, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    let desk = Desk::open(&config).unwrap();
    let (long_ago, now) = (Timestamp(0), Timestamp::now());
    let asked = desk.ask_rewind("a", long_ago, now, false).unwrap().unwrap();
    assert_eq!((asked.back_to, asked.records), (Some(0), 10));
    assert_eq!(desk.ask_rewind("c", long_ago, now, false).unwrap(), None);
    let mut beside = journal.handle.beside();
    beside.wait_for(|now| now.asked > 0).await.unwrap();
    // Now the other one has everything too: without the request all of it would go.
    journal.handle.advance(1, 10, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    journal.handle.sync().await.unwrap();
    let reader = journal.handle.reader().unwrap();
    assert_eq!(reader.records(0, 99, 99, 1 << 20).unwrap().len(), 10);
    // Taken up: the request is gone and the cursor is back, in one commit.
    journal.handle.rewound(0, 0, 0, 10).await.unwrap();
    assert!(desk.wait_taken_up("a", std::time::Duration::ZERO).unwrap());
    close(journal).await;
    let journal = open(&config, &["a", "b"]);
    assert_eq!(journal.found.cursors, [(0, false), (10, true)]);
    let reader = journal.handle.reader().unwrap();
    assert_eq!(reader.records(0, 99, 99, 1 << 20).unwrap().len(), 10);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_stay_until_every_sink_has_them_and_their_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let journal = open(&config, &["a", "b"]);
    let tell = |n: u32| {
        let body = n.to_string().into_bytes();
        journal
            .handle
            .notice(Timestamp::now(), Channel::Control, "test.kind", body)
    };
    for n in 1..=3 {
        tell(n).await.unwrap();
    }
    journal.handle.sync().await.unwrap();
    let told = notices(&journal, 0);
    assert_eq!(told.len(), 3);
    journal.handle.notices_dealt_with(0, 3).await.unwrap();
    journal.handle.notices_dealt_with(1, 2).await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(notices(&journal, 0), told[2..]);
    journal.handle.notices_dealt_with(1, 3).await.unwrap();
    journal.handle.sync().await.unwrap();
    assert_eq!(notices(&journal, 0), []);
    close(journal).await;

    let journal = open(&config, &["a", "b"]);
    assert_eq!(journal.handle.beside().borrow().notices, 3);
    let body = b"4".to_vec();
    journal
        .handle
        .notice(Timestamp::now(), Channel::Control, "test.kind", body)
        .await
        .unwrap();
    journal.handle.sync().await.unwrap();
    let [next] = notices(&journal, 0).try_into().unwrap();
    assert_eq!(next.number, 4);
    assert!(told.iter().all(|before| before.id != next.id));
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_bounded_and_the_oldest_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&config(&folder), &["a"]);
    for _ in 0..NOTICES_MAX + 5 {
        let body = b"{}".to_vec();
        journal
            .handle
            .notice(Timestamp::now(), Channel::Control, "test.kind", body)
            .await
            .unwrap();
    }
    journal.handle.sync().await.unwrap();
    let kept = notices(&journal, 0);
    assert_eq!(kept.len() as u64, NOTICES_MAX);
    assert_eq!(kept[0].number, 6);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_copy_of_a_dead_letter_that_nobody_wants() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&config(&folder), &["a"]);
    let handle = &journal.handle;
    handle.dead_letter_durably(letter(1, 1)).await.unwrap();
    assert_eq!(notices(&journal, 0), []);
    handle.want_dead_letters().await.unwrap();
    handle.sync().await.unwrap();
    handle.dead_letter_durably(letter(2, 2)).await.unwrap();
    let [notice] = notices(&journal, 0).try_into().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&notice.body).unwrap();
    assert_eq!(
        (&body["letter"], &body["body"]["n"]),
        (&2.into(), &1.into())
    );
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_refuses_what_is_no_journal_of_its_version_and_creates_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    assert!(matches!(
        Desk::open(&JournalConfig::at(&path)),
        Err(JournalError::Open { .. })
    ));
    assert!(!path.exists());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE other (x)")
        .unwrap();
    let other = Desk::open(&JournalConfig::at(&path));
    assert!(
        matches!(other, Err(JournalError::Format { .. })),
        "{other:?}"
    );
    std::fs::remove_file(&path).unwrap();
    let journal = open(&config(&folder), &["a"]);
    close(journal).await;
    let file = rusqlite::Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    drop(file);
    let older = Desk::open(&JournalConfig::at(&path));
    assert!(
        matches!(older, Err(JournalError::OtherVersion { found: 1, .. })),
        "{older:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_not_pruned_before_the_writer_looks() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        retention: Span::seconds(0),
        ..config(&folder)
    };
    let mut journal = open(&config, &["a"]);
    // More than one commit prunes.
    for _ in 0..3000 {
        let entry = entry(&mut journal, 1, "x");
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.sync().await.unwrap();
    let desk = Desk::open(&config).unwrap();
    journal.handle.advance(0, 3000, true).await.unwrap();
    journal.handle.sync().await.unwrap();
    let asked = desk.ask_rewind("a", Timestamp(0), Timestamp::now(), false);
    let back_to = asked.unwrap().unwrap().back_to.expect("records are left");
    for _ in 0..8 {
        journal.handle.sync().await.unwrap();
    }
    let reader = journal.handle.reader().unwrap();
    let [next] = reader
        .records(back_to, 3000, 1, 1)
        .unwrap()
        .try_into()
        .expect("what was asked for");
    assert_eq!(next.position, back_to + 1);
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_a_letter_is_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let desk = |letters: &[u8]| {
        let desk = Desk::open(&config).unwrap();
        let found = desk.letters(&LetterFilter::default()).unwrap();
        assert_eq!(found.len(), letters.len());
        desk.drop_letters(&LetterFilter::default()).unwrap();
        found[0].id
    };
    let journal = open(&config, &["a"]);
    let handle = &journal.handle;
    handle.dead_letter_durably(letter(1, 1)).await.unwrap();
    let first = desk(&[1]);
    handle.dead_letter_durably(letter(2, 2)).await.unwrap();
    let second = desk(&[2]);
    assert!(first < second, "{first} {second}");
    close(journal).await;
    let journal = open(&config, &["a"]);
    let handle = &journal.handle;
    handle.dead_letter_durably(letter(3, 3)).await.unwrap();
    let third = desk(&[3]);
    assert!(second < third, "{second} {third}");
    close(journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_among_the_letters_costs_only_what_was_on_it() {
    const LETTERS: u8 = 200;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let journal = open(&config, &["a"]);
    for number in 0..LETTERS {
        let mut letter = letter(u64::from(number) + 1, number);
        letter.detail = format!("letter-{number:03}-{}", "x".repeat(300));
        journal.handle.dead_letter(letter).await.unwrap();
    }
    journal.handle.sync().await.unwrap();
    close(journal).await;
    let file = rusqlite::Connection::open(&config.path).unwrap();
    file.execute_batch("UPDATE meta SET value = 0 WHERE name = 'closed'")
        .unwrap();
    file.close().unwrap();
    let mut bytes = std::fs::read(&config.path).unwrap();
    let marker = b"letter-020-";
    let at = bytes.windows(marker.len()).position(|part| part == marker);
    let length = usize::try_from(PAGE_BYTES).unwrap();
    let page = at.unwrap() / length * length;
    bytes[page..page + length].fill(0);
    std::fs::write(&config.path, &bytes).unwrap();

    let journal = open(&config, &["a"]);
    let left = journal.handle.reader().unwrap().dead_letters(1000).unwrap();
    let lost = usize::from(LETTERS) - left.len();
    assert!((1..=20).contains(&lost), "{lost} are gone");
    close(journal).await;
}
