//! The file: its lock, its tables, its version, and what it holds at the start.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::seal::{self, Keys, Place, Seal};
use super::trouble::{self, Reaction};
use super::{Found, JournalError, wipe};
use crate::event::Timestamp;
use crate::private;
use crate::state::DigestKey;

/// "OBJ1": tells this file from any other SQLite database.
pub(super) const APPLICATION_ID: i64 = 0x4f42_4a31;

/// SQLite before this version can corrupt a WAL file that two connections use.
const SQLITE_MIN: i32 = 3_051_003;

/// What makes each version of the tables out of the one before; an older file is brought up to date by
/// the steps that it lacks, in one transaction. A step that was released is never changed.
const STEPS: [&str; 4] = [V1, V2, V3, V4];

/// Version of the tables that this program writes.
pub(super) const VERSION: usize = STEPS.len();

const V1: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    occurred_at INTEGER,
    event_id BLOB NOT NULL,
    event_type TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE users (user BLOB PRIMARY KEY, key TEXT NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (
    sink TEXT PRIMARY KEY, position INTEGER NOT NULL, clean INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE windows (
    id INTEGER PRIMARY KEY,
    opened INTEGER NOT NULL,
    closed INTEGER,
    reason TEXT NOT NULL,
    missing INTEGER NOT NULL,
    healed INTEGER,
    differences INTEGER
);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    position INTEGER,
    event_id BLOB,
    body BLOB
);
";

/// - A dead letter holds all that it takes to publish it again, and since when that is asked for.
/// - `notices`: what goes to a sink beside the events, once each sink has it: control records and dead
///   letters; `cursors.notices` says how far each sink is.
/// - `rewinds`: asked from outside: set a sink's cursor back to a position.
/// - `marks`: at this time every sink had everything up to this position.
const V2: &str = "
ALTER TABLE dead_letters ADD COLUMN key TEXT;
ALTER TABLE dead_letters ADD COLUMN event_type TEXT;
ALTER TABLE dead_letters ADD COLUMN occurred_at INTEGER;
ALTER TABLE dead_letters ADD COLUMN received_at INTEGER;
ALTER TABLE dead_letters ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN replay INTEGER;
ALTER TABLE cursors ADD COLUMN notices INTEGER NOT NULL DEFAULT 0;
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    channel TEXT NOT NULL,
    type TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE rewinds (sink TEXT PRIMARY KEY, position INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX dead_letters_by_event ON dead_letters (stage, event_id);
CREATE INDEX dead_letters_replay ON dead_letters (stage, replay) WHERE replay IS NOT NULL;
CREATE TABLE marks (at INTEGER PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
";

/// Values may be sealed, which a program before this version would take for the values themselves. The
/// tables are as they were.
const V3: &str = "";

/// A record may hold the state of its user, until the table of users has it (`states`).
const V4: &str = "
ALTER TABLE records ADD COLUMN user BLOB;
ALTER TABLE records ADD COLUMN state BLOB;
";

/// A page of a new file. Of a stream of events it is one call of the system for each, or two; of a few events
/// it is what a commit writes at least.
pub(super) const PAGE_BYTES: i64 = 8192;

/// Until when the feed was heard, by the last commit that noted it.
const LAST_WRITTEN: &str = "last_written";

/// The last record that there was then; absent in a file that only an earlier program wrote.
const LAST_WRITTEN_RECORD: &str = "last_written_record";

/// Records that are looked at for a message that no commit has noted: those of a moment.
const UNNOTED_RECORDS: i64 = 10_000;

const LOCK_ATTEMPTS: u32 = 4;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Takes the lock beside the file, for as long as the returned handle lives. It is tried a few times:
/// `journal verify` holds it for an instant.
pub(super) fn lock(path: &Path) -> Result<File, JournalError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(lock_path(path));
    let file = file.map_err(|error| open_error(path, &error))?;
    private::keep(&file, &lock_path(path)).map_err(|error| not_private(path, &error))?;
    for attempt in 0..LOCK_ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(LOCK_PAUSE);
        }
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(open_error(path, &error)),
        }
    }
    Err(JournalError::InUse {
        path: path.to_owned(),
    })
}

/// Whether no bridge has the journal; leaves no trace, and no lock behind.
pub(super) fn is_at_rest(path: &Path) -> bool {
    match File::open(lock_path(path)) {
        Ok(file) => file.try_lock_shared().is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// A file that was opened for the writer, and how it is sealed.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) seal: Seal,
}

/// Opens the file for the writer, with one of these keys; a new one is sealed with the wanted key.
pub(super) fn open(path: &Path, keys: &Keys) -> Result<Opened, JournalError> {
    let connection = open_or_create(path, keys.wanted())?;
    let seal = seal::said(&connection, path, keys)?;
    Ok(Opened { connection, seal })
}

/// A new file that is to take the place of another once it is whole: nothing of it is safe before.
pub(super) fn create_beside(path: &Path, seal: &Seal) -> rusqlite::Result<Connection> {
    let target = open_or_create(path, seal).map_err(|error| match error {
        JournalError::Sql(error) => error,
        error => rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
    })?;
    target.pragma_update(None, "synchronous", "OFF")?;
    Ok(target)
}

/// Opens the file for the writer; a new one is to be sealed so.
pub(super) fn open_or_create(path: &Path, seal: &Seal) -> Result<Connection, JournalError> {
    let sqlite = rusqlite::version_number();
    if sqlite < SQLITE_MIN {
        let reason = format!(
            "SQLite {} has a known fault in its WAL",
            rusqlite::version()
        );
        return Err(open_error(path, &reason));
    }
    // Created here, so that it is never readable for others, not even for a moment.
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|error| open_error(path, &error))?;
    let is_new = file.metadata().is_ok_and(|file| file.len() == 0);
    if is_new {
        private::keep(&file, path).map_err(|error| not_private(path, &error))?;
    }
    drop(file);
    let connection = Connection::open(path).map_err(|error| failed(path, error))?;
    let format = |reason: String| JournalError::Format {
        path: path.to_owned(),
        reason,
    };
    let prepare = || -> rusqlite::Result<_> {
        // Before the first table; a file that has some keeps its own.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        application_and_version(&connection)
    };
    let (application, version) = prepare().map_err(|error| failed(path, error))?;
    match (application, version) {
        (APPLICATION_ID, 1..) | (0, 0) => {}
        _ => return Err(format("it is the database of another program".to_owned())),
    }
    if version > VERSION {
        return Err(format(format!(
            "it has version {version} of the format, this program knows {VERSION}"
        )));
    }
    // Not before it is known to be ours.
    for ending in ["", "-wal", "-shm"] {
        let beside = wipe::beside(path, ending);
        private::keep_at(&beside).map_err(|error| not_private(path, &error))?;
    }
    bring_up_to_date(&connection, version, seal).map_err(|error| failed(path, error))?;
    Ok(connection)
}

/// Takes the steps from the version that the file has, if there are any.
fn bring_up_to_date(connection: &Connection, version: usize, seal: &Seal) -> rusqlite::Result<()> {
    if version == VERSION {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for step in &STEPS[version..] {
        connection.execute_batch(step)?;
    }
    if version == 0 {
        set_meta(connection, "closed", 1)?;
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let secret = seal.seal(Place::DigestKey, &secret)?;
        connection.execute("INSERT INTO meta VALUES ('digest_key', ?1)", [secret])?;
        seal::say(connection, seal)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    } else {
        wipe::is_due(connection)?;
        tracing::info!(
            from = version,
            to = VERSION,
            "the journal's format is brought up to date"
        );
    }
    connection.pragma_update(
        None,
        "user_version",
        i64::try_from(VERSION).unwrap_or_default(),
    )?;
    connection.execute_batch("COMMIT")
}

/// Reads what the file holds, and gives each sink that has no cursor one.
///
/// A new sink starts with the oldest record that is still there.
pub(super) fn found(
    connection: &Connection,
    seal: &Seal,
    path: &Path,
    sinks: &[&str],
    now: Timestamp,
) -> Result<Found, JournalError> {
    let read = || -> rusqlite::Result<Found> {
        let digest_key = digest_key(connection, seal)?;
        let oldest: Option<u64> =
            connection.query_row("SELECT min(position) FROM records", [], |row| row.get(0))?;
        let start = match oldest {
            // The first that was ever given is 1.
            Some(0) => return Err(trouble::damaged("a record has position 0".to_owned())),
            Some(oldest) => oldest - 1,
            None => last_position(connection)?,
        };
        let mut cursors = Vec::new();
        for sink in sinks {
            connection.execute(
                "INSERT INTO cursors (sink, position, clean) VALUES (?1, ?2, 1) ON CONFLICT DO NOTHING",
                (sink, start),
            )?;
            let sql = "SELECT position, clean FROM cursors WHERE sink = ?1";
            let cursor = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get(1)?));
            let (mut position, clean) = connection.query_row(sql, [sink], cursor)?;
            if position < start {
                // It was not configured for a while, and nobody kept the records for it.
                tracing::warn!(
                    sink,
                    records = start - position,
                    "this sink returns after its records were pruned: it never gets them"
                );
                position = start;
                let sql = "UPDATE cursors SET position = ?2 WHERE sink = ?1";
                connection.execute(sql, (sink, position))?;
            }
            cursors.push((position, clean));
        }
        let last_written = heard_until(connection)?;
        let first_list_done = meta(connection, "first_list_done")?.is_some();
        // Written at once, so that a disk that cannot be written shows itself before the feed opens.
        set_meta(connection, "opened", now.0)?;
        set_meta(connection, "closed", 0)?;
        Ok(Found {
            digest_key,
            first_list_done,
            last_written,
            cursors,
        })
    };
    read().map_err(|error| failed(path, error))
}

/// The key of all digests in this journal.
pub(super) fn digest_key(connection: &Connection, seal: &Seal) -> rusqlite::Result<DigestKey> {
    let sql = "SELECT value FROM meta WHERE name = 'digest_key'";
    let open = |row: &rusqlite::Row<'_>| seal.open(Place::DigestKey, row.get_ref(0)?);
    let secret = connection.query_row(sql, [], open)?;
    Ok(DigestKey::new(&secret))
}

/// A number that the file remembers under a name.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Remembers a number under a name.
pub(super) fn set_meta(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
    connection
        .prepare_cached(sql)?
        .execute((name, value))
        .map(drop)
}

/// Notes until when the feed was heard, and the last record that was written then.
pub(super) fn set_heard(
    connection: &Connection,
    heard: Timestamp,
    last: u64,
) -> rusqlite::Result<()> {
    set_meta(connection, LAST_WRITTEN, heard.0)?;
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    set_meta(connection, LAST_WRITTEN_RECORD, last)
}

/// The last record that was written when the feed was last noted to be heard.
pub(super) fn last_noted(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let last = meta(connection, LAST_WRITTEN_RECORD)?;
    Ok(last.map(i64::unsigned_abs))
}

/// Until when the feed was heard: not every commit notes it, so what the feed told of after the note
/// counts. By position and not by time, since the clock may have been set back.
pub(super) fn heard_until(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let noted = meta(connection, LAST_WRITTEN)?;
    let last = match (noted, meta(connection, LAST_WRITTEN_RECORD)?) {
        // An earlier program noted it in every commit.
        (Some(noted), None) => return Ok(Some(Timestamp(noted))),
        (_, last) => last.unwrap_or_default(),
    };
    // What the list tells of has no time of its own.
    let sql = "SELECT received_at FROM records WHERE occurred_at IS NOT NULL AND position > ?1
        AND position > (SELECT max(position) FROM records) - ?2 ORDER BY position DESC LIMIT 1";
    let later = connection.query_row(sql, [last, UNNOTED_RECORDS], |row| row.get(0));
    Ok(later.optional()?.or(noted).map(Timestamp))
}

/// The position of the last record ever written, also when it is no longer there.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT max(
        coalesce((SELECT max(position) FROM records), 0),
        coalesce((SELECT max(position) FROM cursors), 0),
        coalesce((SELECT value FROM meta WHERE name = 'last_position'), 0))";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Whether each table has the columns that this version of the format gives it. SQLite takes a damaged list
/// of tables at its word, so its errors would look like ours.
pub(super) fn check_tables(connection: &Connection) -> rusqlite::Result<()> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(&STEPS.concat())?;
    let found = columns(connection)?;
    match columns(&model)?.difference(&found).next() {
        None => Ok(()),
        Some((table, column, ..)) => Err(trouble::damaged(format!(
            "the table {table} has lost its column {column}"
        ))),
    }
}

/// Table, name, type, whether it is never null, and its place in the key.
type Column = (String, String, String, bool, u32);

fn columns(connection: &Connection) -> rusqlite::Result<BTreeSet<Column>> {
    let sql = "SELECT t.name, c.name, c.type, c.\"notnull\", c.pk
        FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'";
    let mut statement = connection.prepare(sql)?;
    let columns = statement.query_map([], |row| row.try_into())?;
    columns.collect()
}

/// What SQLite's own check of the whole file finds; empty when it is sound. It takes as long as reading
/// the file.
pub(super) fn quick_check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA quick_check(100)")?;
    let findings = statement.query_map([], |row| row.get(0))?;
    let findings: Vec<String> = findings.collect::<rusqlite::Result<_>>()?;
    Ok(findings.into_iter().filter(|line| line != "ok").collect())
}

/// Which program's file it is, and in which version.
pub(super) fn application_and_version(connection: &Connection) -> rusqlite::Result<(i64, usize)> {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version))
}

/// The version of the format of a file that is opened only to read.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<u64, JournalError> {
    let format = |reason: String| JournalError::Format {
        path: path.to_owned(),
        reason,
    };
    let found = application_and_version(connection).map_err(|error| failed(path, error))?;
    match found {
        (APPLICATION_ID, version) if version <= VERSION => Ok(version as u64),
        (APPLICATION_ID, version) => Err(format(format!(
            "it has version {version} of the format, this program knows {VERSION}"
        ))),
        _ => Err(format("it is the database of another program".to_owned())),
    }
}

pub(super) fn open_error(path: &Path, reason: &dyn std::fmt::Display) -> JournalError {
    JournalError::Open {
        path: path.to_owned(),
        reason: format!("{reason}; give `journal.path` a folder that this user may write"),
    }
}

/// Others may read what is personal, and that cannot be changed.
fn not_private(path: &Path, error: &std::io::Error) -> JournalError {
    JournalError::Open {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// What an error means before anything was heard.
pub(super) fn failed(path: &Path, error: rusqlite::Error) -> JournalError {
    match trouble::meaning(&error) {
        // A first page that makes no sense is met as an error that would elsewhere be a defect.
        Reaction::NotOurs | Reaction::Defect => JournalError::Format {
            path: path.to_owned(),
            reason: error.to_string(),
        },
        // What is readable of it can be saved.
        Reaction::Damaged => JournalError::Sql(error),
        Reaction::Wait(_) | Reaction::Failed | Reaction::ReadOnly => JournalError::Open {
            path: path.to_owned(),
            reason: format!("{error}; {}", trouble::advice(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_at_a_position_that_is_never_given_is_damage_and_not_a_cursor_at_the_end_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let connection = open_or_create(&path, &Seal::default()).unwrap();
        let sql = "INSERT INTO records VALUES (0, 1, NULL, x'00', 'user.updated', 'client', x'7b7d', NULL, NULL)";
        connection.execute(sql, []).unwrap();
        let found = found(
            &connection,
            &Seal::default(),
            &path,
            &["sink"],
            Timestamp(1),
        );
        let error = found.map(drop).unwrap_err();
        assert!(error.to_string().contains("position 0"), "{error}");
        let sql = "SELECT count(*) FROM cursors";
        let cursors: u64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(cursors, 0);
    }

    #[test]
    fn a_table_that_has_lost_a_column_is_damage_and_not_a_defect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let connection = open_or_create(&path, &Seal::default()).unwrap();
        check_tables(&connection).unwrap();
        connection
            .execute_batch("ALTER TABLE cursors RENAME COLUMN clean TO cle_n")
            .unwrap();
        let error = check_tables(&connection).unwrap_err();
        assert_eq!(trouble::meaning(&error), Reaction::Damaged);
        assert!(error.to_string().contains("cursors"), "{error}");
    }

    #[test]
    fn a_journal_of_the_first_version_is_brought_up_to_date_and_a_later_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(V1).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO cursors VALUES ('kafka', 7, 0);
            INSERT INTO meta VALUES ('digest_key', x'00');
            INSERT INTO dead_letters VALUES (3, 1, 'normalise', 'schema', 'why', NULL, NULL, NULL);",
        )
        .unwrap();
        drop(old);

        let new = open_or_create(&path, &Seal::default()).unwrap();
        let (position, notices): (u64, u64) = new
            .query_row("SELECT position, notices FROM cursors", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!((position, notices), (7, 0));
        let attempts: u64 = new
            .query_row("SELECT attempts FROM dead_letters", [], |row| row.get(0))
            .unwrap();
        assert_eq!(attempts, 1);
        new.pragma_update(None, "user_version", VERSION as i64 + 1)
            .unwrap();
        drop(new);
        let later = open_or_create(&path, &Seal::default());
        assert!(
            matches!(later, Err(JournalError::Format { .. })),
            "{later:?}"
        );
    }
}
