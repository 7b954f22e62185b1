//! Saves what is readable of a damaged journal into a new file, and says what is not.
//!
//! ```text
//!   journal.db (damaged) ── row by row ──▶ journal.db.saving ── whole, synced ──▶ journal.db.saved
//!   then: journal.db ──▶ journal.db.damaged-<time>, journal.db.saved ──▶ journal.db
//! ```
//!
//! It never changes the damaged file, never loses it, and can be cut off at any instant: the next start
//! begins it anew or ends it. A file of which nothing is readable is refused, for it may be another's.

mod walk;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::schema::Opened;
use super::seal::{self, Keys, Place, Seal};
use super::trouble::{self, Reaction};
use super::wipe::{beside, close_whole, sync_folder};
use super::{JournalError, WindowChange, codec, schema, states};
use crate::event::Timestamp;
use crate::metrics::LOST_CORRUPT;
use crate::state::UserState;
use walk::{Records, records, users};

/// After an end in disorder SQLite checks a file up to this size before it is used, about a second's
/// work; damage in a larger one is found when it is met, and then saved from at the next start.
const CHECK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Columns of the table of records; the last two are the state beside it.
const RECORD_COLUMNS: usize = 9;

/// Rows in one transaction of the new file.
const BATCH: u64 = 10_000;

/// What was saved, and what was not.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    /// Records that some sink lacked and that nobody can read any more.
    pub(super) lost: u64,
    /// When the last record before the first of them was received.
    pub(super) from: Timestamp,
}

impl Saved {
    /// The blind window that asks the list for what was lost.
    pub(super) const fn window(&self, now: Timestamp) -> WindowChange {
        WindowChange::Open {
            from: self.from,
            to: Some(now),
            reason: LOST_CORRUPT,
            missing: self.lost,
        }
    }
}

/// Opens the journal for the writer, checked where that is called for, and saved where it must be.
pub(super) fn open(
    path: &Path,
    lock: &File,
    sinks: &[&str],
    now: Timestamp,
    keys: &Keys,
) -> Result<(Opened, Option<Saved>), JournalError> {
    finish(path, now)?;
    let is_marked = lock.metadata().is_ok_and(|file| file.len() > 0);
    let damage = match checked(path, keys) {
        Ok(opened) if !is_marked => return Ok((opened, None)),
        Ok(_) => "the last run met damage in it".to_owned(),
        Err(JournalError::Sql(error)) if trouble::meaning(&error) == Reaction::Damaged => {
            error.to_string()
        }
        Err(error) => return Err(error),
    };
    tracing::error!(
        path = %path.display(),
        damage,
        "the journal is damaged: what is readable is saved to a new file"
    );
    let source = source(path).map_err(|error| unsaved(path, error))?;
    let seal = seal::felt(&source, path, keys)?;
    let saved = save(path, source, &seal, sinks, now).map_err(|error| unsaved(path, error))?;
    finish(path, now)?;
    let connection = schema::open_or_create(path, &seal)?;
    lock.set_len(0)
        .map_err(|error| schema::open_error(path, &error))?;
    Ok((Opened { connection, seal }, Some(saved)))
}

/// Notes beside the journal that damage was met, so that the next start saves what is readable.
pub(super) fn mark(mut lock: &File, error: &JournalError) {
    if let JournalError::Sql(error) = error
        && trouble::meaning(error) == Reaction::Damaged
        && let Err(error) = lock.write_all(b"damaged\n").and_then(|()| lock.sync_all())
    {
        tracing::error!(%error, "cannot note that the journal is damaged");
    }
}

/// Whether the header names versions of SQLite's format that no journal has: 1 while it is created, 2 from then
/// on. SQLite takes them at their word, and the file for one that can only be read, or that has no log.
fn has_foreign_version(path: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    let is_database = header.starts_with(b"SQLite format 3\0");
    read.is_ok() && is_database && !matches!(header[18..], [1, 1] | [2, 2])
}

fn checked(path: &Path, keys: &Keys) -> Result<Opened, JournalError> {
    if has_foreign_version(path) {
        return Err(trouble::damaged("the versions in its header".to_owned()).into());
    }
    let opened = schema::open(path, keys)?;
    let connection = &opened.connection;
    schema::check_tables(connection)?;
    let closed = schema::meta(connection, "closed")?;
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    if closed != Some(1) && bytes <= CHECK_BYTES_MAX {
        let findings = schema::quick_check(connection)?;
        if let Some(finding) = findings.first() {
            return Err(trouble::damaged(finding.clone()).into());
        }
    }
    schema::last_position(connection)?;
    Ok(opened)
}

fn unsaved(path: &Path, error: rusqlite::Error) -> JournalError {
    match trouble::meaning(&error) {
        // SQL that is right for every journal, and wrong for this one: its list of tables is damaged.
        Reaction::Damaged | Reaction::NotOurs | Reaction::Defect => JournalError::Format {
            path: path.to_owned(),
            reason: format!("nothing of it is readable ({error})"),
        },
        _ => JournalError::Open {
            path: path.to_owned(),
            reason: format!(
                "what is readable of this damaged file cannot be saved beside it: {error}; {}",
                trouble::advice(&error)
            ),
        },
    }
}

/// The damaged file, of which nothing is changed.
fn source(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(path, flags)?;
    // Its log stays beside it as it is.
    source.pragma_update(None, "wal_autocheckpoint", 0)?;
    source.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Without its list of tables nothing can be read.
    source.prepare("SELECT position FROM records")?;
    Ok(source)
}

/// Copies what is readable into a new file, whole or not at all.
fn save(
    path: &Path,
    source: Connection,
    seal: &Seal,
    sinks: &[&str],
    now: Timestamp,
) -> rusqlite::Result<Saved> {
    let saving = beside(path, ".saving");
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(beside(&saving, ending)).unwrap_or_default();
    }
    let target = schema::create_beside(&saving, seal)?;
    let seal = seal.clone();
    let salvage = Salvage {
        source,
        target,
        seal,
    };
    let saved = salvage.all(sinks, now)?;
    let put_in_place = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(&saving)?;
        file.sync_all()?;
        std::fs::rename(&saving, beside(path, ".saved"))?;
        sync_folder(path)
    };
    put_in_place().map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(saved)
}

/// Puts a saved file in the place of the damaged one; also what a killed process had left to do.
fn finish(path: &Path, now: Timestamp) -> Result<(), JournalError> {
    let saved = beside(path, ".saved");
    if !saved.exists() {
        return Ok(());
    }
    let damaged = format!(".damaged-{}", now.0 / 1_000_000_000);
    let swap = || -> std::io::Result<()> {
        for ending in ["-wal", "-shm"] {
            let from = beside(path, ending);
            if from.exists() {
                std::fs::rename(from, beside(path, &format!("{damaged}{ending}")))?;
            }
        }
        if path.exists() {
            std::fs::hard_link(path, beside(path, &damaged))?;
        }
        std::fs::rename(&saved, path)?;
        sync_folder(path)
    };
    swap().map_err(|error| schema::open_error(path, &error))?;
    tracing::error!(
        path = %beside(path, &damaged).display(),
        "the damaged journal was set aside; it holds personal data: delete it when it is not needed"
    );
    Ok(())
}

struct Salvage {
    source: Connection,
    target: Connection,
    /// How both are sealed: what is sealed is copied as it is, if it can be opened.
    seal: Seal,
}

impl Salvage {
    fn all(self, sinks: &[&str], now: Timestamp) -> rusqlite::Result<Saved> {
        self.target.execute_batch("BEGIN")?;
        let (has_key, complete_to) = self.meta();
        let cursors = self.cursors()?;
        // Not every commit writes the cursors, and none of few events the table of users.
        let noted = schema::last_noted(&self.target)?;
        let mut last = cursors.iter().map(|(_, position)| *position).max();
        last = last.max(noted);
        let delivered = |sink: &&str| cursors.iter().find(|(name, _)| name == sink);
        let delivered = sinks
            .iter()
            .filter_map(delivered)
            .map(|(_, position)| *position);
        let delivered = delivered.min().unwrap_or_default();
        if has_key {
            users(&self.source, &self.seal, &mut |user| {
                let position = codec::decode(&user.state).map(|state| state.position);
                last = last.max(position);
                Ok(())
            })?;
        }
        // What stood beside records before was in the table, or something newer. Without the key nobody is known.
        let states_after = if has_key { complete_to } else { u64::MAX };
        let found = self.records(delivered, last.unwrap_or_default(), states_after)?;
        let users = if has_key { self.users(&found)? } else { 0 };
        self.others()?;
        let known = schema::meta(&self.target, "missing_known")?.unwrap_or_default();
        let missing = found.missing().saturating_sub(known.unsigned_abs());
        let lost = found.missing_after(delivered).min(missing);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        schema::set_meta(&self.target, "last_position", number(found.last))?;
        schema::set_meta(&self.target, "missing_known", number(found.missing()))?;
        self.cursors_for(sinks, &cursors, found.first)?;
        self.target.execute_batch("COMMIT")?;
        tracing::error!(
            records = found.saved,
            users,
            unreadable = missing,
            lost,
            ranges = found.ranges(),
            "saved what is readable; `lost` are the records that some sink lacked, each with an event \
             that was heard; the list is asked for what has become of their users"
        );
        if !has_key {
            tracing::error!(
                "the key of the users' states is unreadable: nobody is known any more, and the next \
                 list is a first one, for which reconcile.first_start counts"
            );
        }
        close_whole(self.target)?;
        Ok(Saved {
            lost,
            from: found.before_gap.unwrap_or(now),
        })
    }

    /// Copies the numbers and the key; whether the key is among them, and up to where the table of users had
    /// every state.
    fn meta(&self) -> (bool, u64) {
        let mut has_key = false;
        let copied = self.copy(
            "SELECT name, value FROM meta",
            "INSERT OR REPLACE INTO meta VALUES (?1, ?2)",
            |row| {
                let [Value::Text(name), value] = row else {
                    return false;
                };
                if name == "digest_key" {
                    // Of another type it would be met by each start anew.
                    has_key =
                        matches!(value, Value::Blob(_)) && self.seal.opens(Place::DigestKey, value);
                    return has_key;
                }
                !seal::says(name)
            },
        );
        if let Err(error) = copied {
            tracing::error!(%error, "not all of the journal's own numbers are readable");
            // Perhaps it was one of those.
            if let Ok(None) = states::complete_to(&self.target) {
                states::set(&self.target, 0).unwrap_or_default();
            }
        }
        if !has_key {
            let forget = "DELETE FROM meta WHERE name = 'first_list_done'";
            self.target.execute(forget, []).unwrap_or_default();
        }
        let complete_to = states::complete_to(&self.target).unwrap_or_default();
        (has_key, complete_to.unwrap_or(u64::MAX))
    }

    fn cursors(&self) -> rusqlite::Result<Vec<(String, u64)>> {
        let mut cursors = Vec::new();
        let mut statement = self.source.prepare("SELECT sink, position FROM cursors")?;
        let mut rows = statement.query([])?;
        while let Ok(Some(row)) = rows.next() {
            if let (Ok(sink), Ok(position)) = (row.get(0), row.get(1)) {
                cursors.push((sink, position));
            }
        }
        Ok(cursors)
    }

    /// Each cursor where it was, none of them clean; one that is unreadable before everything, so that
    /// the destination is asked what it holds.
    fn cursors_for(
        &self,
        sinks: &[&str],
        known: &[(String, u64)],
        first: u64,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO cursors (sink, position, clean) VALUES (?1, ?2, 0)";
        let mut insert = self.target.prepare(sql)?;
        for (sink, position) in known {
            insert.execute((sink, position))?;
        }
        for sink in sinks {
            insert.execute((sink, first.saturating_sub(1)))?;
        }
        Ok(())
    }

    /// Copies the records, and the states beside those after a position.
    fn records(&self, delivered: u64, last: u64, states_after: u64) -> rusqlite::Result<Records> {
        let sql = "INSERT OR IGNORE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let mut insert = self.target.prepare(sql)?;
        let mut batch = 0;
        records(
            &self.source,
            &self.seal,
            delivered,
            last,
            &mut |position, mut values| {
                if position <= states_after {
                    values.truncate(RECORD_COLUMNS - 2);
                    values.extend([Value::Null, Value::Null]);
                }
                insert.execute(rusqlite::params_from_iter(values))?;
                batch += 1;
                if batch % BATCH == 0 {
                    self.target.execute_batch("COMMIT; BEGIN")?;
                }
                Ok(())
            },
        )
    }

    /// Copies the users; one whose last event is lost is told to differ in everything, so that the
    /// list, which has the state that it brought, is published.
    fn users(&self, found: &Records) -> rusqlite::Result<u64> {
        let mut insert = self
            .target
            .prepare("INSERT OR IGNORE INTO users VALUES (?1, ?2, ?3)")?;
        let mut saved = 0;
        users(&self.source, &self.seal, &mut |found_user| {
            let walk::User {
                user,
                key,
                stored,
                state,
            } = found_user;
            let Some(state) = codec::decode(&state) else {
                return Ok(());
            };
            saved += 1;
            if !found.is_missing(state.position) {
                return insert.execute((user, key, stored)).map(drop);
            }
            let doubtful = UserState {
                digests: Default::default(),
                recent: state.recent.into_iter().skip(1).collect(),
                ..state
            };
            let state = codec::encode(&doubtful);
            let state = self.seal.seal(Place::UserState(&user), &state)?;
            insert.execute((user, key, state)).map(drop)
        })?;
        Ok(saved)
    }

    /// Tables whose loss costs no event: as much of each as can be read.
    fn others(&self) -> rusqlite::Result<()> {
        for table in ["windows", "dead_letters", "notices", "rewinds"] {
            // Around a damaged place: up to it, and from the end down to it.
            for order in ["rowid", "rowid DESC"] {
                // Without a number for its rows.
                let order = if table == "rewinds" { "sink" } else { order };
                let Err(error) = self.table(table, order) else {
                    break;
                };
                match trouble::meaning(&error) {
                    // Not the table: the new file cannot be written, or the disk not be read.
                    Reaction::Wait(_) | Reaction::Failed | Reaction::ReadOnly => return Err(error),
                    Reaction::Damaged | Reaction::NotOurs | Reaction::Defect => {
                        tracing::error!(table, %error, "not all of this table is readable");
                    }
                }
            }
        }
        Ok(())
    }

    fn table(&self, table: &str, order: &str) -> rusqlite::Result<()> {
        let columns = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
            statement.query_map([table], |row| row.get(0))?.collect()
        };
        let here = columns(&self.target)?;
        let mut both = columns(&self.source)?;
        both.retain(|column| here.contains(column));
        if both.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = (1..=both.len()).map(|place| format!("?{place}")).collect();
        let opens = |row: &[Value]| {
            let mut values = both.iter().zip(row);
            values.all(|(column, value)| {
                let place = row
                    .first()
                    .and_then(|id| Place::of(table, column, id, None));
                place.is_none_or(|place| self.seal.opens(place, value))
            })
        };
        let (columns, places) = (both.join(", "), places.join(", "));
        self.copy(
            &format!("SELECT {columns} FROM {table} ORDER BY {order}"),
            &format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"),
            opens,
        )
    }

    /// Copies the rows to keep up to the first that cannot be read.
    fn copy(
        &self,
        select: &str,
        insert: &str,
        mut keep: impl FnMut(&[Value]) -> bool,
    ) -> rusqlite::Result<()> {
        let mut select = self.source.prepare(select)?;
        let mut insert = self.target.prepare(insert)?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get(column));
            let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
            if keep(&values) {
                insert.execute(rusqlite::params_from_iter(values))?;
            }
        }
        Ok(())
    }
}
