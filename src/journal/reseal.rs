//! Seals a whole journal anew: at the start, when the configuration has another key than the file.
//!
//! ```text
//!   journal.db ── row by row ──▶ journal.db.resealing ── whole, synced ──▶ journal.db
//!   journal.db, as it was ──▶ journal.db.before ── overwritten ──▶ removed
//! ```
//!
//! So a file is sealed with one key as a whole, and nothing of what it held otherwise stays: not in its
//! pages, not in its log. It can be cut off at any instant: the next start begins it anew, or ends it.
//! A row that cannot be opened is damage, and ends it before anything was changed.

use std::fs::OpenOptions;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::schema::Opened;
use super::seal::{self, Place, Seal};
use super::{JournalError, schema, trouble, wipe};

/// Rows in one transaction of the new file.
const BATCH: u64 = 10_000;

/// The file as it is to be sealed.
pub(super) fn bring_to(path: &Path, file: Opened, to: &Seal) -> Result<Opened, JournalError> {
    let failed = |error: std::io::Error| JournalError::Open {
        path: path.to_owned(),
        reason: format!("it cannot be sealed anew: {error}"),
    };
    // What a killed process had left to do.
    wipe::file(&wipe::beside(path, ".before"), path).map_err(failed)?;
    forget_half(path).map_err(failed)?;
    if file.seal == *to {
        return Ok(file);
    }
    let name = |seal: &Seal| seal.id().unwrap_or_else(|| "clear".to_owned());
    let (from, started) = (name(&file.seal), tokio::time::Instant::now());
    tracing::info!(from, to = name(to), "the journal is sealed anew");
    let new = wipe::beside(path, ".resealing");
    let copied = copy(&file, &new, to);
    let rows = copied.map_err(|error| match forget_half(path) {
        Ok(()) => no_room(path, error),
        Err(error) => failed(error),
    })?;
    put_in_place(path, &new, file).map_err(|error| match error {
        Failed::Sql(error) => no_room(path, error),
        Failed::Io(error) => failed(error),
    })?;
    wipe::file(&wipe::beside(path, ".before"), path).map_err(failed)?;
    let took = started.elapsed();
    tracing::info!(
        rows,
        ?took,
        "the journal is sealed anew: nothing of it is left as it was"
    );
    Ok(Opened {
        connection: schema::open_or_create(path, to)?,
        seal: to.clone(),
    })
}

/// Removes a copy that was not finished, which may be in clear.
fn forget_half(path: &Path) -> std::io::Result<()> {
    for ending in [".resealing", ".resealing-wal", ".resealing-shm"] {
        wipe::file(&wipe::beside(path, ending), path)?;
    }
    Ok(())
}

/// Nothing was changed yet.
fn no_room(path: &Path, error: rusqlite::Error) -> JournalError {
    match trouble::meaning(&error) {
        trouble::Reaction::Damaged => error.into(),
        trouble::Reaction::Wait(_)
        | trouble::Reaction::Failed
        | trouble::Reaction::ReadOnly
        | trouble::Reaction::NotOurs
        | trouble::Reaction::Defect => JournalError::Open {
            path: path.to_owned(),
            reason: format!(
                "it cannot be sealed anew beside the old one: {error}; {}",
                trouble::advice(&error)
            ),
        },
    }
}

/// Copies every table; the number of rows.
fn copy(from: &Opened, new: &Path, to: &Seal) -> rusqlite::Result<u64> {
    let target = schema::create_beside(new, to)?;
    target.execute_batch("BEGIN; DELETE FROM meta")?;
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let tables: Vec<String> = target
        .prepare(sql)?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut rows = 0;
    for table in &tables {
        copy_table(from, &target, to, table, &mut rows)?;
    }
    seal::say(&target, to)?;
    target.execute_batch("COMMIT")?;
    wipe::close_whole(target)?;
    Ok(rows)
}

fn copy_table(
    from: &Opened,
    target: &Connection,
    to: &Seal,
    table: &str,
    copied: &mut u64,
) -> rusqlite::Result<()> {
    let names = "SELECT group_concat(name, ', ') FROM pragma_table_info(?1)";
    let columns: String = target.query_row(names, [table], |row| row.get(0))?;
    let names: Vec<&str> = columns.split(", ").collect();
    let places: Vec<String> = (1..=names.len()).map(|place| format!("?{place}")).collect();
    let sql = format!("INSERT INTO {table} VALUES ({})", places.join(", "));
    let mut insert = target.prepare(&sql)?;
    // In the order of the key, so that the new file is written from front to end.
    let sql = format!("SELECT {columns} FROM {table} ORDER BY 1");
    let mut select = from.connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let first: Value = row.get(0)?;
        let of = names.iter().position(|name| *name == "user");
        let of: Option<Value> = of.map(|index| row.get(index)).transpose()?;
        let values = names.iter().enumerate().map(|(index, column)| {
            let value: Value = row.get(index)?;
            match Place::of(table, column, &first, of.as_ref()) {
                Some(place) => from.seal.convert(to, place, value),
                // Whose it is cannot be told, so it cannot be sealed either.
                None if (table, *column) == ("records", "state") && value != Value::Null => Err(
                    trouble::damaged("a state beside a record is nobody's".to_owned()),
                ),
                None => Ok(value),
            }
        });
        let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
        insert.execute(rusqlite::params_from_iter(values))?;
        *copied += 1;
        if copied.is_multiple_of(BATCH) {
            target.execute_batch("COMMIT; BEGIN")?;
        }
    }
    Ok(())
}

enum Failed {
    Sql(rusqlite::Error),
    Io(std::io::Error),
}

/// Lets the new file take the place of the old one, of which the log is empty then.
fn put_in_place(path: &Path, new: &Path, old: Opened) -> Result<(), Failed> {
    let busy = old
        .connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(Failed::Sql)?;
    if busy != 0 {
        let reason = "another process reads the old one; try again when it has ended";
        return Err(Failed::Io(std::io::Error::other(reason)));
    }
    old.connection
        .close()
        .map_err(|(_, error)| Failed::Sql(error))?;
    let swap = || -> std::io::Result<()> {
        OpenOptions::new().write(true).open(new)?.sync_all()?;
        for ending in ["-wal", "-shm"] {
            let beside = wipe::beside(path, ending);
            if beside.exists() {
                std::fs::remove_file(beside)?;
            }
        }
        std::fs::hard_link(path, wipe::beside(path, ".before"))?;
        std::fs::rename(new, path)?;
        wipe::sync_folder(path)
    };
    swap().map_err(Failed::Io)
}
