//! Looks through a journal and says what is wrong with it: for `journal verify`, and for tests.
//!
//! It only reads, a page of rows at a time, so that it can work beside a running bridge without
//! holding up its checkpoints. It never names a user, a key or a value of a record.

use std::fmt::Display;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use super::seal::{self, Keys, Place, Seal};
use super::{JournalError, Reader, codec, schema, states, trouble};
use crate::config::JournalConfig;
use crate::event::EventId;
use crate::state::UserKey;

/// Rows that are read at a time.
const PAGE: u64 = 1000;

/// Problems that are told in words; all are counted.
const PROBLEMS_TOLD: usize = 100;

/// Beside a running bridge, SQLite's own check holds up the checkpoints for as long as it reads: a
/// larger file is checked so only when nobody has it.
const BESIDE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Nothing is wrong.
    pub ok: bool,
    /// Version of the format.
    pub format_version: u64,
    /// Whether SQLite's own check of the whole file was run: not beside a bridge with a large file.
    pub quick_check_run: bool,
    /// The id of the key with which everything personal in it is encrypted, if it is.
    pub encrypted_with: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Position of the oldest record.
    pub first_position: Option<u64>,
    /// Position of the newest record.
    pub last_position: Option<u64>,
    /// Positions between them that have no record.
    pub missing_positions: u64,
    /// How many of these were counted as lost when a damaged file was saved.
    pub missing_known: u64,
    /// Users.
    pub users: u64,
    /// Blind windows.
    pub windows: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Sinks, each with its position.
    pub cursors: Vec<VerifiedCursor>,
    /// How many problems there are.
    pub problems_total: u64,
    /// The first of them, in words.
    pub problems: Vec<String>,
}

/// A sink's cursor in a [`VerifyReport`].
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedCursor {
    /// The sink.
    pub sink: String,
    /// The position up to which it has everything.
    pub position: u64,
    /// Records that it lacks.
    pub lag: u64,
    /// Nothing beyond the cursor has an unknown outcome.
    pub clean: bool,
}

impl VerifyReport {
    fn problem(&mut self, what: impl Display) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_TOLD {
            self.problems.push(what.to_string());
        }
    }

    /// Notes a part that could not be read; the other parts are still looked at.
    fn part(&mut self, part: &str, outcome: rusqlite::Result<()>) {
        if let Err(error) = outcome {
            self.problem(format_args!("{part} cannot be read to the end: {error}"));
        }
    }
}

/// Looks through the whole journal; a bridge may be running with it.
///
/// What is wrong inside is in the report.
///
/// # Errors
/// [`JournalError`] when there is no journal at this path, nothing of it can be read, or it is sealed
/// with another key.
pub fn verify(config: &JournalConfig) -> Result<VerifyReport, JournalError> {
    verify_telling(config, &mut |_| {})
}

/// As [`verify`]; the report is `told` again and again, as far as it is.
///
/// # Errors
/// As [`verify`].
pub fn verify_telling(
    config: &JournalConfig,
    told: &mut dyn FnMut(&VerifyReport),
) -> Result<VerifyReport, JournalError> {
    let (path, keys) = (config.path.as_path(), Keys::load(config)?);
    let bytes = std::fs::metadata(path).map_err(|error| schema::open_error(path, &error))?;
    let Reader(connection, _) = Reader::open(path, &Seal::default())?;
    let mut report = VerifyReport {
        bytes: bytes.len(),
        format_version: schema::version(&connection, path)?,
        missing_known: schema::meta(&connection, "missing_known")
            .ok()
            .flatten()
            .and_then(|known| u64::try_from(known).ok())
            .unwrap_or_default(),
        ..VerifyReport::default()
    };
    let seal = seal::felt(&connection, path, &keys)?;
    report.encrypted_with = seal.id();
    let checked = quick_check(&connection, path, &mut report);
    report.part("the file", checked);
    // First what can only grow behind us while a bridge runs, then what it is held against.
    let cursors = cursors(&connection, &mut report);
    report.part("the table of cursors", cursors);
    let users = users(&connection, &seal, &mut report, told);
    report.part("the table of users", users);
    let records = records(&connection, &seal, &mut report, told);
    report.part("the table of records", records);
    let others = others(&connection, &mut report);
    report.part("windows and dead letters", others);
    let sealed = sealed(&connection, &seal, &mut report);
    report.part("dead letters and notices", sealed);
    report.ok = report.problems_total == 0;
    Ok(report)
}

fn quick_check(
    connection: &Connection,
    path: &Path,
    report: &mut VerifyReport,
) -> rusqlite::Result<()> {
    let at_rest = schema::is_at_rest(path);
    if !at_rest && report.bytes > BESIDE_BYTES_MAX {
        return Ok(());
    }
    report.quick_check_run = true;
    for finding in schema::quick_check(connection)? {
        report.problem(finding);
    }
    Ok(())
}

fn cursors(connection: &Connection, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("SELECT sink, position, clean FROM cursors ORDER BY sink")?;
    let cursor = |row: &Row<'_>| {
        Ok(VerifiedCursor {
            sink: row.get(0)?,
            position: row.get(1)?,
            lag: 0,
            clean: row.get(2)?,
        })
    };
    for cursor in statement.query_map([], cursor)? {
        report.cursors.push(cursor?);
    }
    Ok(())
}

/// The highest position that a user's state names goes into no record only if that was pruned.
fn users(
    connection: &Connection,
    seal: &Seal,
    report: &mut VerifyReport,
    told: &mut dyn FnMut(&VerifyReport),
) -> rusqlite::Result<()> {
    let sql = "SELECT user, state, key FROM users WHERE user > ?1 ORDER BY user LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let (mut after, mut highest) = (Vec::new(), 0);
    loop {
        let row = |row: &Row<'_>| {
            let user: Vec<u8> = row.get(0)?;
            let state = UserKey::try_from(user.as_slice()).ok().and_then(|user| {
                let key = Place::UserKey(&user);
                seal.open_text(key, row.get_ref(2).ok()?).ok()?;
                let state = Place::UserState(&user);
                seal.open(state, row.get_ref(1).ok()?).ok()
            });
            Ok((user, state))
        };
        let page: Vec<(Vec<u8>, Option<Vec<u8>>)> = statement
            .query_map((&after, PAGE), row)?
            .collect::<rusqlite::Result<_>>()?;
        if page.is_empty() {
            break;
        }
        for (user, state) in page {
            trouble::ascends(&after, &user)?;
            after = user;
            report.users += 1;
            match state.as_deref().and_then(codec::decode) {
                Some(state) => highest = highest.max(state.position),
                None => report.problem("the state of a user cannot be read"),
            }
        }
        told(report);
    }
    let last = schema::last_position(connection)?;
    if highest > last {
        report.problem(format_args!(
            "a user's state is of position {highest}, after the last record ({last})"
        ));
    }
    Ok(())
}

fn records(
    connection: &Connection,
    seal: &Seal,
    report: &mut VerifyReport,
    told: &mut dyn FnMut(&VerifyReport),
) -> rusqlite::Result<()> {
    let states = states::columns(connection);
    let sql = format!(
        "SELECT position, event_id, event_type, key, body, {states} FROM records
        WHERE position > ?1 ORDER BY position LIMIT ?2"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut after = 0;
    loop {
        let mut rows = statement.query((after, PAGE))?;
        let mut any = false;
        while let Some(row) = rows.next()? {
            any = true;
            let position: u64 = row.get(0)?;
            trouble::ascends(&after, &position)?;
            if let Some(last) = report.last_position
                && position > last + 1
                && !is_first(connection, position)?
            {
                report.missing_positions += position - last - 1;
            }
            report.first_position.get_or_insert(position);
            report.last_position = Some(position);
            report.records += 1;
            after = position;
            if let Some(wrong) = wrong(row, seal) {
                report.problem(format_args!("record {position}: {wrong}"));
            }
            if states::state_of(row, seal, [5, 6]).is_err() {
                report.problem(format_args!(
                    "record {position}: the state beside it cannot be read"
                ));
            }
        }
        told(report);
        if !any {
            break;
        }
    }
    if report.missing_positions > report.missing_known {
        let unknown = report.missing_positions - report.missing_known;
        report.problem(format_args!("{unknown} positions have no record"));
    }
    let last = schema::last_position(connection)?;
    for index in 0..report.cursors.len() {
        let cursor = &mut report.cursors[index];
        cursor.lag = last.saturating_sub(cursor.position);
        let (sink, position) = (cursor.sink.clone(), cursor.position);
        if report.last_position.is_some_and(|last| position > last) && report.records > 0 {
            report.problem(format_args!(
                "the cursor of {sink} stands at {position}, after the last record"
            ));
        }
    }
    Ok(())
}

/// Whether a bridge has pruned everything before this position while we read.
fn is_first(connection: &Connection, position: u64) -> rusqlite::Result<bool> {
    let sql = "SELECT min(position) FROM records";
    let first: Option<u64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(first.is_some_and(|first| first >= position))
}

/// What is wrong with a record's content; never a value of it.
pub(super) fn wrong(row: &Row<'_>, seal: &Seal) -> Option<&'static str> {
    let Ok(position) = row.get(0) else {
        return Some("its position is none");
    };
    let Ok(id) = row.get::<_, [u8; 16]>(1) else {
        return Some("its event id is not one");
    };
    let known = row
        .get_ref(2)
        .ok()
        .and_then(|value| value.as_str().ok().map(super::event_type));
    if !matches!(known, Some(Ok(_))) {
        return Some("its event type is not known");
    }
    let opened = |column| row.get_ref(column).ok();
    let key = opened(3).and_then(|key| seal.open_text(Place::RecordKey(position), key).ok());
    if key.is_none() {
        return Some(if seal.id().is_some() {
            "its key cannot be opened with the key of this journal"
        } else {
            "its key is no text"
        });
    }
    let body = opened(4).and_then(|body| seal.open(Place::RecordBody(position), body).ok());
    let Some(body) = body else {
        return Some(if seal.id().is_some() {
            "its body cannot be opened with the key of this journal"
        } else {
            "its body is no bytes"
        });
    };
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return Some("its body is no JSON");
    };
    let told = body.get("event_id").and_then(|id| id.as_str());
    if told != Some(EventId(id).to_string().as_str()) {
        return Some("its body is of another event");
    }
    None
}

fn others(connection: &Connection, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let sql = "SELECT id, opened, closed, healed FROM windows ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    for window in statement.query_map([], row)? {
        let (id, opened, closed, healed): (i64, i64, Option<i64>, Option<i64>) = window?;
        report.windows += 1;
        if closed.is_some_and(|closed| closed < opened) {
            report.problem(format_args!("blind window {id} ends before it begins"));
        }
        if healed.is_some() && closed.is_none() {
            report.problem(format_args!("blind window {id} is healed but not over"));
        }
    }
    let count = "SELECT count(*) FROM dead_letters";
    report.dead_letters = connection
        .query_row(count, [], |row| row.get(0))
        .optional()?
        .unwrap_or_default();
    Ok(())
}

/// Whether what is sealed beside the events opens; nothing of a journal in clear can be told here.
fn sealed(connection: &Connection, seal: &Seal, report: &mut VerifyReport) -> rusqlite::Result<()> {
    if let Err(error) = schema::digest_key(connection, seal) {
        report.problem(format_args!("the key of the digests: {error}"));
    }
    for (table, columns) in [
        ("dead_letters", &["body", "key"][..]),
        ("notices", &["body"]),
    ] {
        let sql = format!("SELECT id, {} FROM {table} ORDER BY id", columns.join(", "));
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: Value = row.get(0)?;
            for (index, column) in columns.iter().enumerate() {
                let value: Value = row.get(index + 1)?;
                let place = Place::of(table, column, &id, None);
                if place.is_some_and(|place| !seal.opens(place, &value)) {
                    let number: i64 = row.get(0)?;
                    report.problem(format_args!(
                        "{table} {number}: its {column} cannot be opened with the key of this journal"
                    ));
                }
            }
        }
    }
    Ok(())
}
