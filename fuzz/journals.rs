//! A journal whose file is damaged wherever the input says: it is opened, saved or refused, but no start
//! panics, and no start after the second fails for the damage: that would be a crash loop.

use std::sync::{Arc, LazyLock};

use onboarding_bridge::config::{JournalConfig, Size, Span, WhenFull};
use onboarding_bridge::event::{EventId, EventType, Origin, Record, Timestamp};
use onboarding_bridge::journal::{Entry, Journal, JournalError, verify};
use onboarding_bridge::metrics::Metrics;
use onboarding_bridge::state::UserState;
use tokio::runtime::Runtime;

const RECORDS: u8 = 40;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The bytes of a whole journal.
static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    RUNTIME.block_on(async {
        let mut journal = open(&config).unwrap();
        for user in 0..RECORDS {
            let position = journal.appender.next_position();
            let record = Record {
                position,
                event_id: EventId([user; 16]),
                event_type: EventType::Updated,
                key: format!("client_{user}"),
                occurred_at: None,
                received_at: Timestamp(i64::from(user)),
                body: format!(
                    "{{\"user_id\":\"client_{user}\",\"padding\":\"{:0400}\"}}",
                    0
                )
                .into(),
            };
            let entry = Entry {
                record: Some((Arc::new(record), Origin::Feed)),
                user: [user; 16],
                key: format!("client_{user}"),
                state: UserState::default(),
                room: None,
            };
            journal.appender.append(entry).await.unwrap();
        }
        close(journal).await;
    });
    std::fs::read(&config.path).unwrap()
});

fn config(folder: &tempfile::TempDir) -> JournalConfig {
    JournalConfig {
        path: folder.path().join("journal.db"),
        max_bytes: Size::mebibytes(64),
        retention: Span::seconds(3600),
        commit_interval: Span::seconds(0),
        encryption_key_file: None,
        old_encryption_key_files: Vec::new(),
        when_full: WhenFull::Block,
    }
}

fn open(config: &JournalConfig) -> Result<Journal, JournalError> {
    Journal::open(config, &["sink"], &Metrics::new(&["sink"]), || {
        Timestamp(1 << 60)
    })
}

/// Ends the writer; damage that it met is told by the next start.
async fn close(journal: Journal) {
    let Journal {
        appender,
        handle,
        writer,
        ..
    } = journal;
    drop(appender);
    handle.close();
    drop(handle);
    drop(writer.await);
}

/// Four bytes of input damage one place: where, how many bytes, and what they become.
pub(crate) fn damaged(input: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let mut bytes = WHOLE.clone();
    for damage in input.as_chunks::<4>().0 {
        let [high, low, length, value] = damage.map(usize::from);
        let at = (high << 8 | low) * bytes.len() / 0x1_0000;
        let end = bytes.len().min(at + length + 1);
        bytes[at..end].fill(u8::try_from(value).unwrap());
    }
    std::fs::write(&config.path, bytes).unwrap();
    let mut last = None;
    for _ in 0..3 {
        last = Some(RUNTIME.block_on(async {
            let journal = open(&config)?;
            let reader = journal.handle.reader()?;
            // As a sink would meet the damage: it may, and says so.
            drop(reader.records(0, u64::from(RECORDS), 2048, usize::MAX));
            drop(reader);
            close(journal).await;
            Ok(())
        }));
        drop(verify(&config));
    }
    let last = last.unwrap();
    let fine = matches!(last, Ok(()) | Err(JournalError::Format { .. }));
    assert!(fine, "the third start failed as well: {last:?}");
}
