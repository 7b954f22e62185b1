//! Nothing of what was deleted stays in the file.
//!
//! SQLite overwrites what is deleted (`secure_delete`), the whole of a page included. What an earlier
//! version of this program had left in the free pages of its file is overwritten once, here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{JournalError, schema};

/// The name under which the file remembers that its free pages are to be overwritten.
const DUE: &str = "free_pages_unwiped";

/// Pages that are overwritten in one transaction.
const PAGES: i64 = 2000;

/// Bytes that are overwritten at a time.
const ZEROS: usize = 1024 * 1024;

/// A file beside the journal.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Notes that the free pages hold what was deleted.
pub(super) fn is_due(connection: &Connection) -> rusqlite::Result<()> {
    schema::set_meta(connection, DUE, 1)
}

/// Overwrites the free pages, if that is due: all of them are given to a table of zeros, which is then
/// dropped. Cut off, it begins anew at the next start.
pub(super) fn freed_pages(connection: &Connection) -> Result<(), JournalError> {
    if schema::meta(connection, DUE)?.is_none() {
        return Ok(());
    }
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let free = pragma("freelist_count")?;
    let page = pragma("page_size")?;
    connection.execute_batch("DROP TABLE IF EXISTS zeros; CREATE TABLE zeros (x BLOB)")?;
    let mut left = free;
    while left > 0 && pragma("freelist_count")? > 0 {
        let bytes = left.min(PAGES) * page;
        connection.execute("INSERT INTO zeros VALUES (zeroblob(?1))", [bytes])?;
        // Else the log would become as long as the file.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        left -= PAGES;
    }
    // They are zeros already.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    let dropped = connection.execute_batch("DROP TABLE zeros");
    connection.pragma_update(None, "secure_delete", "ON")?;
    dropped?;
    connection.execute("DELETE FROM meta WHERE name = ?1", [DUE])?;
    if free > 0 {
        tracing::info!(
            pages = free,
            "the journal's free pages, which may have held deleted records, were overwritten"
        );
    }
    Ok(())
}

/// Closes a file that is to take another's place. All of it must be in the file itself then: of what is
/// left in a log beside it nothing would be found again, and a plain close tells of no failure to write.
pub(super) fn close_whole(connection: Connection) -> rusqlite::Result<()> {
    let left = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    if left != (0, 0) {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        let reason = "its log cannot be emptied".to_owned();
        return Err(rusqlite::Error::SqliteFailure(busy, Some(reason)));
    }
    connection.close().map_err(|(_, error)| error)
}

/// Overwrites a file that another has taken the place of, and removes it. `current` is the other one:
/// if both are the same file, only the name is removed.
pub(super) fn file(path: &Path, current: &Path) -> io::Result<()> {
    let old = match std::fs::metadata(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_current = std::fs::metadata(current).is_ok_and(|now| now.ino() == old.ino());
    if !is_current {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let (zeros, mut left) = (vec![0; ZEROS], old.len());
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(ZEROS).min(ZEROS);
            file.write_all(&zeros[..count])?;
            left -= count as u64;
        }
        file.sync_all()?;
    }
    std::fs::remove_file(path)
}

/// Makes the names in the journal's folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_which_the_log_still_holds_a_part_is_not_closed_as_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let file = Connection::open(&path).unwrap();
        let begin = "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)";
        file.execute_batch(begin).unwrap();
        let reader = Connection::open(&path).unwrap();
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM t")
            .unwrap();
        file.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert!(close_whole(file).is_err());
        drop(reader);
        close_whole(Connection::open(&path).unwrap()).unwrap();
        assert!(!beside(&path, "-wal").exists());
    }
}
