//! The outbox of the side channel: each notice is committed with what it tells of, and stays until every
//! sink has dealt with it.
//!
//! The table is bounded: where a sink is away for very long the oldest notices make room, for blind
//! windows and dead letters stay in tables of their own. Nothing here waits for a sink.

use rusqlite::Connection;

use super::seal::{Place, Seal};
use super::side::Change;
use super::{Control, DeadLetter, Handle, JournalError, Reader, Tail, schema};
use crate::event::{EventId, Timestamp};
use crate::notice::{Blind, Channel, DEAD_LETTER, Dead, FEED_BLIND, Notice};

/// Notices that are kept; at the bound the oldest makes room.
pub const NOTICES_MAX: u64 = 10_000;

/// The name under which the file remembers the last number, also when every notice is gone.
const LAST: &str = "last_notice";

/// The writer's part.
#[derive(Clone)]
pub(super) struct Notices {
    seal: Seal,
    last: u64,
    /// How far each sink is.
    given: Vec<u64>,
    /// Whether any sink takes dead letters; else no copy of them is made.
    dead_letters: bool,
}

impl Notices {
    pub(super) fn new(
        connection: &Connection,
        seal: Seal,
        sinks: &[String],
    ) -> rusqlite::Result<Self> {
        let given = sinks.iter().map(|sink| given(connection, sink));
        let remembered = schema::meta(connection, LAST)?;
        let remembered = remembered.map_or(0, |last| u64::try_from(last).unwrap_or_default());
        // A journal that was saved from a damaged one may have forgotten it.
        let sql = "SELECT max(coalesce((SELECT max(id) FROM notices), 0),
            coalesce((SELECT max(notices) FROM cursors), 0))";
        let seen: u64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(Self {
            seal,
            last: remembered.max(seen),
            given: given.collect::<rusqlite::Result<_>>()?,
            dead_letters: false,
        })
    }

    /// How the file is sealed.
    pub(super) const fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The number of the last notice.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    pub(super) const fn want_dead_letters(&mut self) {
        self.dead_letters = true;
    }

    /// Appends one.
    pub(super) fn tell(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        channel: Channel,
        kind: &str,
        body: &[u8],
    ) -> rusqlite::Result<()> {
        self.last += 1;
        let body = self.seal.seal(Place::NoticeBody(self.last), body)?;
        let sql = "INSERT INTO notices VALUES (?1, ?2, ?3, ?4, ?5)";
        connection
            .prepare_cached(sql)?
            .execute((self.last, at.0, channel.as_str(), kind, body))?;
        let bound = self.last.saturating_sub(NOTICES_MAX);
        connection
            .prepare_cached("DELETE FROM notices WHERE id <= ?1")?
            .execute([bound])?;
        schema::set_meta(
            connection,
            LAST,
            i64::try_from(self.last).unwrap_or(i64::MAX),
        )
    }

    /// A sink has dealt with everything up to a number.
    pub(super) fn given(
        &mut self,
        connection: &Connection,
        sink: (usize, &str),
        number: u64,
    ) -> rusqlite::Result<()> {
        self.given[sink.0] = number;
        let sql = "UPDATE cursors SET notices = ?2 WHERE sink = ?1";
        connection.prepare_cached(sql)?.execute((sink.1, number))?;
        let all = self.given.iter().min().copied().unwrap_or_default();
        connection
            .prepare_cached("DELETE FROM notices WHERE id <= ?1")?
            .execute([all])
            .map(drop)
    }

    /// Tells of each of these windows, as it is now.
    pub(super) fn tell_windows(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        windows: &[i64],
    ) -> rusqlite::Result<()> {
        let sql = "SELECT opened, closed, reason, missing, healed, differences FROM windows
            WHERE id = ?1";
        for window in windows {
            let body = connection.prepare_cached(sql)?.query_row([window], |row| {
                let (to, healed): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(4)?);
                let reason: String = row.get(2)?;
                let blind = Blind {
                    window: *window,
                    state: match (to, healed) {
                        (None, _) => "open",
                        (Some(_), None) => "closed",
                        (Some(_), Some(_)) => "healed",
                    },
                    from: Timestamp(row.get(0)?),
                    to: to.map(Timestamp),
                    reason: &reason,
                    missing: row.get(3)?,
                    healed_by: healed.map(|_| "reconcile"),
                    healed_at: healed.map(Timestamp),
                    differences: row.get(5)?,
                };
                Ok(serde_json::to_vec(&blind).expect("a window has only string keys"))
            })?;
            self.tell(connection, now, Channel::Control, FEED_BLIND, &body)?;
        }
        Ok(())
    }

    /// Tells of a dead letter, if anybody wants to know.
    pub(super) fn tell_letter(
        &mut self,
        connection: &Connection,
        number: i64,
        letter: &DeadLetter,
    ) -> rusqlite::Result<()> {
        if !self.dead_letters {
            return Ok(());
        }
        let record = letter.record.as_deref();
        let content = record.map(|record| &record.body).or(letter.shape.as_ref());
        let dead = Dead {
            letter: number,
            at: letter.at,
            stage: &letter.stage,
            reason: letter.reason,
            detail: &letter.detail,
            event_id: record.map(|record| record.event_id),
            event_type: record.map(|record| record.event_type.as_str()),
            user_id: record.map(|record| record.key.as_str()),
            body: Dead::content(content.map(Vec::as_slice)),
        };
        let body = serde_json::to_vec(&dead).expect("a letter has only string keys");
        self.tell(connection, letter.at, Channel::Dead, DEAD_LETTER, &body)
    }
}

/// The numbers that a query gives.
pub(super) fn numbers(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| row.get(0))?;
    let mut numbers = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn given(connection: &Connection, sink: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT notices FROM cursors WHERE sink = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([sink], |row| row.get(0))
}

impl Reader {
    /// Up to `count` notices after a number.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub fn notices(&self, after: u64, count: usize) -> Result<Vec<Notice>, JournalError> {
        let key = schema::digest_key(&self.0, &self.1)?;
        let sql = "SELECT id, at, channel, type, body FROM notices WHERE id > ?1
            ORDER BY id LIMIT ?2";
        let mut statement = self.0.prepare_cached(sql)?;
        let notices = statement.query_map((after, count), |row| {
            let number = row.get(0)?;
            let channel = row.get_ref(2)?.as_str()?.to_owned();
            Ok(Notice {
                number,
                id: EventId(key.notice(number)),
                at: Timestamp(row.get(1)?),
                channel: Channel::parse(&channel)
                    .ok_or_else(|| rusqlite::Error::InvalidColumnName("channel".into()))?,
                kind: row.get(3)?,
                body: self.1.open(Place::NoticeBody(number), row.get_ref(4)?)?,
            })
        })?;
        Ok(notices.collect::<rusqlite::Result<_>>()?)
    }
}

impl Tail {
    /// Up to `count` notices after a number.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn notices(&self, after: u64, count: usize) -> Result<Vec<Notice>, JournalError> {
        self.with_reader(move |reader| reader.notices(after, count))
            .await
    }

    /// The number up to which a sink has dealt with the notices.
    ///
    /// # Errors
    /// [`JournalError::Sql`].
    pub async fn notices_given(&self, sink: &str) -> Result<u64, JournalError> {
        let sink = sink.to_owned();
        self.with_reader(move |reader| Ok(given(&reader.0, &sink)?))
            .await
    }
}

impl Handle {
    /// Tells every sink something on its side channel; `body` is JSON.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn notice(
        &self,
        at: Timestamp,
        channel: Channel,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<(), JournalError> {
        let change = Change::Notice {
            at,
            channel,
            kind,
            body,
        };
        self.send(Control::Side(change)).await
    }

    /// A sink takes dead letters: from now on there are notices of them.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn want_dead_letters(&self) -> Result<(), JournalError> {
        self.send(Control::Side(Change::WantDeadLetters)).await
    }

    /// A sink has dealt with every notice up to this number.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the writer has ended.
    pub async fn notices_dealt_with(&self, sink: usize, number: u64) -> Result<(), JournalError> {
        self.send(Control::Side(Change::Given { sink, number }))
            .await
    }
}
