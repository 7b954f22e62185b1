//! With which key a file is sealed: by what it says of itself, or, if it is damaged, by what is in it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::{Keys, Seal, id_of};
use crate::journal::{JournalError, trouble};

/// The name under which a sealed file remembers the id of its key, and the name of the key's file.
const SEALED: &str = "sealed";
const SEALED_FILE: &str = "sealed_file";

/// Values at each end of a table of a damaged file that are asked for the id of their key.
const ASKED: u32 = 100;

/// Where there are sealed values.
const VALUES: [&str; 7] = [
    "SELECT body FROM records ORDER BY position",
    "SELECT body FROM records ORDER BY position DESC",
    "SELECT state FROM users ORDER BY user",
    "SELECT state FROM users ORDER BY user DESC",
    "SELECT body FROM dead_letters ORDER BY id",
    "SELECT body FROM notices ORDER BY id",
    "SELECT value FROM meta WHERE name = 'digest_key'",
];

/// Whether this name of `meta` says with what the file is sealed.
pub(in crate::journal) fn says(name: &str) -> bool {
    name == SEALED || name == SEALED_FILE
}

/// Notes in a file how it is sealed.
pub(in crate::journal) fn say(connection: &Connection, seal: &Seal) -> rusqlite::Result<()> {
    let forget = "DELETE FROM meta WHERE name IN (?1, ?2)";
    connection.execute(forget, [SEALED, SEALED_FILE])?;
    if let (Some(id), Some(file)) = (seal.id(), seal.file()) {
        let sql = "INSERT INTO meta VALUES (?1, ?2), (?3, ?4)";
        connection.execute(sql, (SEALED, id, SEALED_FILE, file))?;
    }
    Ok(())
}

/// How the file is sealed, by what it says.
///
/// # Errors
/// [`JournalError::OtherKey`] when its key is not among these.
pub(in crate::journal) fn said(
    connection: &Connection,
    path: &Path,
    keys: &Keys,
) -> Result<Seal, JournalError> {
    let Some(id) = text(connection, SEALED)? else {
        return Ok(Seal::default());
    };
    let file = text(connection, SEALED_FILE)?;
    let seal = keys.of(&id).cloned();
    seal.ok_or_else(|| keys.lacks(path, &id, file.as_deref()))
}

/// How a damaged file is sealed, by what it says and by what can be read of it.
///
/// # Errors
/// [`JournalError::OtherKey`] when its key is not among these.
pub(in crate::journal) fn felt(
    connection: &Connection,
    path: &Path,
    keys: &Keys,
) -> Result<Seal, JournalError> {
    let said = text(connection, SEALED).unwrap_or_default();
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for sql in VALUES {
        // What cannot be read says nothing.
        for_each(connection, sql, &mut |id| *ids.entry(id).or_default() += 1).unwrap_or_default();
    }
    let known = said.iter().chain(ids.keys()).find_map(|id| keys.of(id));
    if let Some(seal) = known {
        return Ok(seal.clone());
    }
    // Damage makes up one id, but hardly the same one twice.
    ids.retain(|_, values| *values > 1);
    match said.or_else(|| ids.into_keys().next()) {
        Some(id) => {
            let file = text(connection, SEALED_FILE).unwrap_or_default();
            Err(keys.lacks(path, &id, file.as_deref()))
        }
        None => Ok(Seal::default()),
    }
}

fn for_each(
    connection: &Connection,
    sql: &str,
    take: &mut dyn FnMut(String),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("{sql} LIMIT {ASKED}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let ValueRef::Blob(stored) = row.get_ref(0)?
            && let Some(id) = id_of(stored)
        {
            take(id);
        }
    }
    Ok(())
}

fn text(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    let found = connection.query_row(sql, [name], |row| row.get(0));
    found
        .optional()
        .map_err(|error| trouble::damaged(format!("the name of the key: {error}")))
}
