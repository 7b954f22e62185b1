//! The file: its lock, its tables, its version, and what it holds at the start.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::{Found, JournalError};
use crate::event::Timestamp;
use crate::state::DigestKey;

/// "OBJ1": tells this file from any other SQLite database.
const APPLICATION_ID: i64 = 0x4f42_4a31;

/// Version of the tables.
const VERSION: i64 = 1;

/// SQLite before this version can corrupt a WAL file that two connections use.
const SQLITE_MIN: i32 = 3_051_003;

const TABLES: &str = "
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

/// Takes the lock beside the file, for as long as the returned handle lives.
pub(super) fn lock(path: &Path) -> Result<File, JournalError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&lock);
    let file = file.map_err(|error| open_error(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::InUse {
            path: path.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(error)) => Err(open_error(path, &error)),
    }
}

/// Opens or creates the file for the writer.
pub(super) fn open(path: &Path) -> Result<Connection, JournalError> {
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
    drop(file.map_err(|error| open_error(path, &error))?);
    let connection = Connection::open(path).map_err(|error| open_error(path, &error))?;
    let format = |reason: String| JournalError::Format {
        path: path.to_owned(),
        reason,
    };
    let prepare = || -> rusqlite::Result<(i64, i64)> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "secure_delete", "FAST")?;
        let application =
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((application, version))
    };
    match prepare().map_err(|error| format(error.to_string()))? {
        (APPLICATION_ID, VERSION) => {}
        (APPLICATION_ID, other) => {
            return Err(format(format!(
                "it has version {other} of the format, this program knows {VERSION}"
            )));
        }
        (0, 0) => create(&connection).map_err(|error| open_error(path, &error))?,
        _ => return Err(format("it is the database of another program".to_owned())),
    }
    Ok(connection)
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLES)?;
    connection.execute("INSERT INTO meta VALUES ('digest_key', ?1)", [secret])?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.execute_batch("COMMIT")
}

/// Reads what the file holds, and gives each sink that has no cursor one.
///
/// A new sink starts with the oldest record that is still there.
pub(super) fn found(
    connection: &Connection,
    path: &Path,
    sinks: &[&str],
    now: Timestamp,
) -> Result<Found, JournalError> {
    let read = || -> rusqlite::Result<Found> {
        let secret: Vec<u8> = connection.query_row(
            "SELECT value FROM meta WHERE name = 'digest_key'",
            [],
            |row| row.get(0),
        )?;
        let oldest: Option<u64> =
            connection.query_row("SELECT min(position) FROM records", [], |row| row.get(0))?;
        let start = match oldest {
            Some(oldest) => oldest - 1,
            None => last_position(connection)?,
        };
        let mut cursors = Vec::new();
        for sink in sinks {
            connection.execute(
                "INSERT INTO cursors VALUES (?1, ?2, 1) ON CONFLICT DO NOTHING",
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
        let last_written = meta(connection, "last_written")?.map(Timestamp);
        let first_list_done = meta(connection, "first_list_done")?.is_some();
        // Written at once, so that a disk that cannot be written shows itself before the feed opens.
        set_meta(connection, "opened", now.0)?;
        Ok(Found {
            digest_key: DigestKey::new(&secret),
            first_list_done,
            last_written,
            cursors,
        })
    };
    read().map_err(|error| JournalError::Format {
        path: path.to_owned(),
        reason: error.to_string(),
    })
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

/// The position of the last record ever written, also when it is no longer there.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT max(
        coalesce((SELECT max(position) FROM records), 0),
        coalesce((SELECT max(position) FROM cursors), 0))";
    connection.query_row(sql, [], |row| row.get(0))
}

fn open_error(path: &Path, reason: &dyn std::fmt::Display) -> JournalError {
    JournalError::Open {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
