//! What lies beside the events in the journal: dead letters to publish again, and cursors to set back.
//!
//! An operator's command writes into the file what it wants (see `desk`); the writer looks once a second
//! whether somebody else has written, and tells the sinks' tasks, which look for what is theirs. What
//! they did goes into the file by the writer, in its next commit. Nothing here waits for a sink.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::watch;
use tokio::time::Instant;

use super::notices::Notices;
use super::seal::{Place, Seal};
use super::{Control, DeadLetter, Handle, JournalError, Reader, Tail, event_type, schema};
use crate::event::{EventId, Record, Timestamp};
use crate::notice::Channel;

/// How often the writer looks whether another process has written to the file.
const LOOK: Duration = Duration::from_secs(1);

/// The name under which the file remembers the number of the last letter, also when it is gone.
const LAST_LETTER: &str = "last_letter";

/// What there is beside the events; each number only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// How often another process was seen to have written: it may have asked for something.
    pub asked: u64,
    /// The number of the last notice that is durable.
    pub notices: u64,
}

/// A dead letter that is to be published again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its number in the journal.
    pub id: i64,
    /// Where its event stands in the journal.
    pub position: Option<u64>,
    /// The event's id.
    pub event_id: EventId,
    /// When the event was received; for a letter of an earlier version, when it was set aside.
    pub received_at: Timestamp,
}

/// What a sink's task has done, for the next commit.
#[derive(Debug)]
pub(super) enum Change {
    /// These letters are published.
    Published(Vec<i64>),
    /// This letter was refused again.
    Refused {
        id: i64,
        at: Timestamp,
        detail: String,
    },
    /// This letter was not tried.
    NotTried { id: i64, detail: String },
    /// A sink has taken up that its cursor goes back to `asked`; it is at `position` now.
    Rewind {
        sink: usize,
        asked: u64,
        position: u64,
        /// Up to here its destination was once said to have everything.
        from: u64,
    },
    /// Something to tell beside the events.
    Notice {
        at: Timestamp,
        channel: Channel,
        kind: &'static str,
        body: Vec<u8>,
    },
    /// A sink has dealt with the notices up to this number.
    Given { sink: usize, number: u64 },
    /// There are to be notices of dead letters.
    WantDeadLetters,
}

/// The writer's part.
pub(super) struct Side {
    looked: Instant,
    /// SQLite's number for the last commit of another connection.
    version: i64,
    sinks: Vec<String>,
    beside: watch::Sender<Beside>,
    notices: Notices,
}

impl Side {
    pub(super) fn new(
        connection: &Connection,
        seal: &Seal,
        sinks: &[&str],
        beside: watch::Sender<Beside>,
    ) -> rusqlite::Result<Self> {
        let sinks: Vec<String> = sinks.iter().map(|sink| (*sink).to_owned()).collect();
        let side = Self {
            looked: Instant::now(),
            version: data_version(connection)?,
            notices: Notices::new(connection, seal.clone(), &sinks)?,
            sinks,
            beside,
        };
        side.tell();
        Ok(side)
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Instant {
        self.looked + LOOK
    }

    /// Looks, if that is due, whether another process has written; if so, tells the sinks' tasks.
    pub(super) fn look(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        if Instant::now() < self.due() {
            return Ok(false);
        }
        self.looked = Instant::now();
        let version = data_version(connection)?;
        if version == self.version {
            return Ok(false);
        }
        self.version = version;
        self.beside.send_modify(|beside| beside.asked += 1);
        Ok(true)
    }

    /// For a commit to change; what it changes holds only once that is done.
    pub(super) fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// The commit is done.
    pub(super) fn keep(&mut self, notices: Notices) {
        self.notices = notices;
    }

    /// Says, after a commit, that there are notices.
    pub(super) fn tell(&self) {
        let last = self.notices.last();
        self.beside.send_if_modified(|beside| {
            let newer = beside.notices != last;
            beside.notices = last;
            newer
        });
    }

    /// For each sink the position to which its cursor is to go back, if it is. In a transaction nobody
    /// can ask for more until its end, so that nothing is pruned which somebody has just been told to
    /// get again.
    pub(super) fn rewinds(&self, connection: &Connection) -> rusqlite::Result<Vec<Option<u64>>> {
        let sinks = self.sinks.iter();
        sinks.map(|sink| rewind_of(connection, sink)).collect()
    }

    /// Writes what the sinks' tasks have done.
    pub(super) fn apply(
        &self,
        connection: &Connection,
        changes: &[Change],
        notices: &mut Notices,
    ) -> rusqlite::Result<()> {
        for change in changes {
            match change {
                Change::Published(ids) => {
                    let sql = "DELETE FROM dead_letters WHERE id = ?1";
                    let mut delete = connection.prepare_cached(sql)?;
                    for id in ids {
                        delete.execute([id])?;
                    }
                }
                Change::Refused { id, at, detail } => {
                    let sql = "UPDATE dead_letters
                        SET at = ?2, detail = ?3, attempts = attempts + 1, replay = NULL
                        WHERE id = ?1";
                    connection
                        .prepare_cached(sql)?
                        .execute((id, at.0, detail))?;
                }
                Change::NotTried { id, detail } => {
                    let sql = "UPDATE dead_letters SET detail = ?2, replay = NULL WHERE id = ?1";
                    connection.prepare_cached(sql)?.execute((id, detail))?;
                }
                Change::Rewind {
                    sink, asked, from, ..
                } => {
                    let name = rewound_name(&self.sinks[*sink]);
                    let from = i64::try_from(*from).unwrap_or(i64::MAX);
                    schema::set_meta(connection, &name, from)?;
                    // The cursor itself is in the same commit; a later request stays.
                    let sql = "DELETE FROM rewinds WHERE sink = ?1 AND position = ?2";
                    connection
                        .prepare_cached(sql)?
                        .execute((&self.sinks[*sink], asked))?;
                }
                Change::Notice {
                    at,
                    channel,
                    kind,
                    body,
                } => notices.tell(connection, *at, *channel, kind, body)?,
                Change::Given { sink, number } => {
                    let sink = (*sink, self.sinks[*sink].as_str());
                    notices.given(connection, sink, *number)?;
                }
                Change::WantDeadLetters => notices.want_dead_letters(),
            }
        }
        Ok(())
    }
}

/// Changes with each commit of another connection, and only then.
fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// The name under which the file remembers from where a sink's cursor was set back last: also after a
/// restart the destination's mere memory of an event does not count up to there.
fn rewound_name(sink: &str) -> String {
    format!("rewound {sink}")
}

fn rewind_of(connection: &Connection, sink: &str) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT position FROM rewinds WHERE sink = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([sink], |row| row.get(0))
        .optional()
}

/// Writes a dead letter. A record that was refused before, and is again because the sink's cursor was
/// set back, stays one letter.
pub(super) fn insert_letter(
    connection: &Connection,
    letter: &DeadLetter,
    notices: &mut Notices,
) -> rusqlite::Result<()> {
    let record = letter.record.as_deref();
    if let Some(record) = record {
        let sql = "UPDATE dead_letters
            SET at = ?3, detail = ?4, attempts = attempts + 1, replay = NULL
            WHERE stage = ?1 AND event_id = ?2";
        let known = connection.prepare_cached(sql)?.execute((
            &letter.stage,
            record.event_id.0,
            letter.at.0,
            &letter.detail,
        ))?;
        if known > 0 {
            return Ok(());
        }
    }
    let number = next_letter(connection)?;
    let seal = notices.seal().clone();
    let body = record.map(|record| &record.body).or(letter.shape.as_ref());
    let body = body.map(|body| seal.seal(Place::LetterBody(number), body));
    let key = record.map(|record| seal.seal_text(Place::LetterKey(number), &record.key));
    let sql = "INSERT INTO dead_letters (id, at, stage, reason, detail, position, event_id, body,
            key, event_type, occurred_at, received_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    connection.prepare_cached(sql)?.execute((
        number,
        letter.at.0,
        &letter.stage,
        letter.reason,
        &letter.detail,
        record.map(|record| record.position),
        record.map(|record| record.event_id.0),
        body.transpose()?,
        key.transpose()?,
        record.map(|record| record.event_type.as_str()),
        record.and_then(|record| record.occurred_at.map(|at| at.0)),
        record.map(|record| record.received_at.0),
    ))?;
    notices.tell_letter(connection, number, letter)
}

/// A number that no letter ever had: an operator may have noted one, and a sink's task may be about to
/// delete it.
fn next_letter(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) FROM dead_letters";
    let highest: i64 = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    let last = schema::meta(connection, LAST_LETTER)?.unwrap_or_default();
    let next = last.max(highest) + 1;
    schema::set_meta(connection, LAST_LETTER, next)?;
    Ok(next)
}

/// A list that was asked for at this time was compared: whatever the frames that were asked for before
/// said of a user's state is in it.
pub(super) fn drop_healed_frames(
    connection: &Connection,
    asked: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM dead_letters WHERE stage = 'normalise' AND replay <= ?1";
    connection.prepare_cached(sql)?.execute([asked.0]).map(drop)
}

impl Reader {
    /// The letters of a stage that are to be published again, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn replays(&self, stage: &str) -> Result<Vec<Replay>, JournalError> {
        let sql = "SELECT id, position, event_id, coalesce(received_at, at) FROM dead_letters
            WHERE stage = ?1 AND replay IS NOT NULL AND event_id IS NOT NULL ORDER BY id";
        let mut statement = self.0.prepare_cached(sql)?;
        let replays = statement.query_map([stage], |row| {
            Ok(Replay {
                id: row.get(0)?,
                position: row.get(1)?,
                event_id: EventId(row.get(2)?),
                received_at: Timestamp(row.get(3)?),
            })
        })?;
        Ok(replays.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether letters of frames are asked for.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn replays_of_frames(&self) -> Result<bool, JournalError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM dead_letters
            WHERE stage = 'normalise' AND replay IS NOT NULL)";
        Ok(self
            .0
            .prepare_cached(sql)?
            .query_row([], |row| row.get(0))?)
    }

    /// The record of a letter; `None` when the letter is gone or does not hold what it takes.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn letter_record(&self, id: i64) -> Result<Option<Record>, JournalError> {
        let sql = "SELECT position, event_id, body, key, event_type, occurred_at, received_at
            FROM dead_letters WHERE id = ?1 AND event_id IS NOT NULL AND body IS NOT NULL";
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement
            .query_row([id], |row| letter_record(row, id, &self.1))
            .optional()?
            .flatten())
    }
}

fn letter_record(row: &Row<'_>, id: i64, seal: &Seal) -> rusqlite::Result<Option<Record>> {
    let (position, event_id) = (row.get(0)?, EventId(row.get(1)?));
    let body = seal.open(Place::LetterBody(id), row.get_ref(2)?)?;
    let key = row.get_ref(3)?;
    if key == ValueRef::Null {
        return Ok(of_body(position, event_id, body));
    }
    Ok(Some(Record {
        position,
        event_id,
        event_type: event_type(row.get_ref(4)?.as_str()?)?,
        key: seal.open_text(Place::LetterKey(id), key)?,
        occurred_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        received_at: Timestamp(row.get(6)?),
        body,
    }))
}

/// A letter of the first version of the format has only the record's body, which says the rest.
fn of_body(position: u64, event_id: EventId, body: Vec<u8>) -> Option<Record> {
    let event: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let time = |name: &str| event[name].as_str().and_then(Timestamp::parse);
    Some(Record {
        position,
        event_id,
        event_type: crate::event::EventType::parse(event["event_type"].as_str()?)?,
        key: event["user_id"].as_str()?.to_owned(),
        occurred_at: time("occurred_at"),
        received_at: time("received_at")?,
        body,
    })
}

impl Tail {
    /// The letters of a stage that are to be published again.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn replays(&self, stage: &str) -> Result<Vec<Replay>, JournalError> {
        let stage = stage.to_owned();
        self.with_reader(move |reader| reader.replays(&stage)).await
    }

    /// The record of a letter.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn letter_record(&self, id: i64) -> Result<Option<Arc<Record>>, JournalError> {
        self.with_reader(move |reader| Ok(reader.letter_record(id)?.map(Arc::new)))
            .await
    }

    /// The position to which a sink's cursor is to go back, if that was asked for.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn rewind(&self, sink: &str) -> Result<Option<u64>, JournalError> {
        let sink = sink.to_owned();
        self.with_reader(move |reader| Ok(rewind_of(&reader.0, &sink)?))
            .await
    }
}

impl Tail {
    /// The position from which a sink's cursor was set back last, if it ever was.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn rewound_from(&self, sink: &str) -> Result<Option<u64>, JournalError> {
        let name = rewound_name(sink);
        let read = move |reader: &Reader| Ok(schema::meta(&reader.0, &name)?);
        let from = self.with_reader(read).await?;
        Ok(from.and_then(|from| u64::try_from(from).ok()))
    }
}

impl Handle {
    /// Changes when there is something beside the events.
    pub fn beside(&self) -> watch::Receiver<Beside> {
        self.beside.clone()
    }

    /// These letters are published: they are deleted.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn letters_published(&self, ids: Vec<i64>) -> Result<(), JournalError> {
        self.send(Control::Side(Change::Published(ids))).await
    }

    /// This letter was refused again.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn letter_refused(
        &self,
        id: i64,
        at: Timestamp,
        detail: String,
    ) -> Result<(), JournalError> {
        self.send(Control::Side(Change::Refused { id, at, detail }))
            .await
    }

    /// This letter could not be tried; it waits to be asked for again.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn letter_not_tried(&self, id: i64, detail: String) -> Result<(), JournalError> {
        self.send(Control::Side(Change::NotTried { id, detail }))
            .await
    }

    /// A sink has taken up that its cursor goes back to `asked`: it is at `position` now, and what is
    /// beyond has an unknown outcome, up to `from` because its destination may have lost it. Resolves
    /// when that is durable.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn rewound(
        &self,
        sink: usize,
        asked: u64,
        position: u64,
        from: u64,
    ) -> Result<(), JournalError> {
        self.send(Control::Side(Change::Rewind {
            sink,
            asked,
            position,
            from,
        }))
        .await?;
        self.sync().await
    }
}
