//! A journal by itself: opened as the bridge opens it, and filled with invented events.

use std::path::Path;
use std::sync::Arc;

use onboarding_bridge::config::{JournalConfig, Size, Span, WhenFull};
use onboarding_bridge::event::{EventId, EventType, Origin, Record, Timestamp};
use onboarding_bridge::journal::{Entry, Journal, JournalError};
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::state::UserState;

/// A configuration whose file is `journal.db` of this folder.
pub(crate) fn config(folder: &Path) -> JournalConfig {
    JournalConfig {
        path: folder.join("journal.db"),
        max_bytes: Size::mebibytes(1024),
        when_full: WhenFull::Block,
        retention: Span::seconds(3600),
        commit_interval: Span::seconds(0),
        encryption_key_file: None,
        old_encryption_key_files: Vec::new(),
    }
}

/// Opens it for one sink of the name `a`.
pub(crate) fn open(config: &JournalConfig) -> Result<(Journal, Metrics), JournalError> {
    let metrics = Metrics::new(&["a"]);
    let journal = Journal::open(config, &["a"], &metrics, Timestamp::now)?;
    Ok((journal, metrics))
}

/// The next event, of a user of its own in 256, with a body of about this size.
pub(crate) fn entry(journal: &mut Journal, size: usize) -> Entry {
    let position = journal.appender.next_position();
    let user = position.to_le_bytes()[0];
    let mut id = [0; 16];
    id[..8].copy_from_slice(&position.to_be_bytes());
    let event_id = EventId(id);
    let body = serde_json::json!({"event_id": event_id.to_string(), "filler": "x".repeat(size)});
    let record = Record {
        position,
        event_id,
        event_type: EventType::Updated,
        key: format!("client_{user}"),
        occurred_at: None,
        received_at: Timestamp::now(),
        body: body.to_string().into_bytes(),
    };
    Entry {
        record: Some((Arc::new(record), Origin::Feed)),
        // Spread over the key space, as the keyed digests of real ones are.
        user: [user.wrapping_mul(167); 16],
        key: format!("client_{user}"),
        state: UserState {
            position,
            recent: vec![event_id].into(),
            ..UserState::default()
        },
        room: None,
    }
}

/// Appends so many events and waits until they are durable.
pub(crate) async fn append(journal: &mut Journal, count: usize, size: usize) {
    for _ in 0..count {
        let entry = entry(journal, size);
        journal.appender.append(entry).await.unwrap();
    }
    journal.handle.sync().await.unwrap();
}

/// Appends events until the journal takes no more; the position of the last one that it was given.
pub(crate) async fn append_until_blocked(journal: &mut Journal, size: usize) -> u64 {
    let mut blocked = journal.handle.blocked();
    loop {
        let place = tokio::select! {
            place = journal.appender.place() => place.unwrap(),
            is = blocked.wait_for(Option::is_some) => {
                is.unwrap();
                return journal.appender.position();
            }
        };
        place.send(entry(journal, size));
        assert!(journal.appender.position() < 40_000, "it takes everything");
        if blocked.borrow().is_some() {
            return journal.appender.position();
        }
    }
}

/// Ends the journal in order.
pub(crate) async fn close(journal: Journal) {
    journal.handle.close();
    journal.writer.await.unwrap().unwrap();
}

/// The positions of all records.
pub(crate) fn positions(journal: &Journal) -> Vec<u64> {
    let reader = journal.handle.reader().unwrap();
    let mut positions = Vec::new();
    loop {
        let after = positions.last().copied().unwrap_or_default();
        let records = reader.records(after, u64::MAX >> 1, 1000, 1 << 24).unwrap();
        if records.is_empty() {
            return positions;
        }
        positions.extend(records.iter().map(|record| record.position));
    }
}
