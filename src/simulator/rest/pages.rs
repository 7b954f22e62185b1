//! The body of the list, written chunk by chunk as the client reads it, never whole.
//!
//! Between two chunks the world goes on, as it does behind the real one; a list that lags is the
//! world of one moment.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::time::sleep;

use crate::simulator::batch::now_nanos;
use crate::simulator::hub::Hub;
use crate::simulator::options::RestMode;
use crate::simulator::person::{Form, Person, mix};
use crate::simulator::stats::locked;
use crate::simulator::world::World;

/// Users in one chunk of the list: what is held in memory.
const CHUNK: u32 = 256;

/// Every so many users there is a fault, where the list has some.
const EVERY: u64 = 10;

/// Bytes that a list that drips gives at a time.
const DRIP: usize = 64;

/// Entries that nobody can read.
const UNREADABLE: [&str; 3] = ["null", "17", r#"{"status":"PENDING"}"#];

/// Where a list stands.
pub(super) struct Pages {
    hub: Arc<Hub>,
    mode: RestMode,
    role: Option<String>,
    /// Share of the users that is left out.
    lacks: f64,
    /// The world as it was, for a list that lags.
    then: Option<World>,
    /// The last state of each user of a capture that is played.
    known: Option<VecDeque<String>>,
    next: u32,
    /// Objects written: the next one needs a comma if there are some.
    written: u64,
    /// Users among them.
    users: u64,
    /// Whether the list breaks off here.
    broken: bool,
    /// What a list that drips has still to give, and whether it was all.
    dripping: Bytes,
    last: bool,
}

/// A piece of the body, and where the list stands after it.
type Page = (Result<Bytes, io::Error>, Option<Pages>);

impl Pages {
    pub(super) fn new(hub: Arc<Hub>, mode: RestMode, role: Option<String>) -> Self {
        let (lag, lacks) = {
            let modes = hub.modes();
            (modes.rest_lag, modes.rest_lacks)
        };
        let lag = i64::try_from(lag.as_nanos()).unwrap_or(i64::MAX);
        let then = (lag > 0).then(|| hub.world().as_of(now_nanos().saturating_sub(lag)));
        let known = hub.replayed.as_ref().map(|known| locked(known).objects());
        Self {
            hub,
            mode,
            role,
            lacks,
            then,
            known,
            next: 0,
            written: 0,
            users: 0,
            broken: false,
            dripping: Bytes::new(),
            last: false,
        }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, io::Error>> {
        stream::unfold(Some(self), |pages| async move {
            let pages = pages?;
            // Lets the server send what it has before a truncated list breaks off.
            tokio::task::yield_now().await;
            if pages.mode == RestMode::Drip {
                return Some(pages.drip().await);
            }
            Some(pages.next())
        })
    }

    async fn drip(mut self) -> Page {
        if self.dripping.is_empty() {
            let (text, done) = self.chunk();
            self.dripping = text.into();
            self.last = done;
        }
        sleep(self.interval()).await;
        let piece = self.dripping.split_to(DRIP.min(self.dripping.len()));
        if self.dripping.is_empty() && self.last {
            self.hub.count(|stats| stats.rest_lists_complete += 1);
            return (Ok(piece), None);
        }
        (Ok(piece), Some(self))
    }

    fn interval(&self) -> Duration {
        self.hub.options.frames.drip_interval
    }

    fn next(mut self) -> Page {
        if self.broken {
            let error = io::Error::other("the list is cut here on purpose");
            return (Err(error), None);
        }
        let (text, done) = self.chunk();
        if self.mode == RestMode::Truncated {
            self.broken = true;
            let mut bytes = text.into_bytes();
            bytes.truncate(bytes.len() / 2);
            return (Ok(bytes.into()), Some(self));
        }
        if done {
            self.hub.count(|stats| stats.rest_lists_complete += 1);
            return (Ok(text.into()), None);
        }
        (Ok(text.into()), Some(self))
    }

    /// The next text of the list, and whether it is the last.
    fn chunk(&mut self) -> (String, bool) {
        let mut text = String::with_capacity(CHUNK as usize * 400);
        if self.next == 0 && self.written == 0 {
            text.push_str(r#"{"data":["#);
        }
        let done = match (self.mode, self.known.is_some()) {
            (RestMode::Empty, _) => true,
            (_, true) => self.write_known(&mut text),
            (_, false) => self.write(&mut text),
        };
        if done {
            text.push_str(match self.mode {
                RestMode::Paged => r#"],"next":"/v1/enterprise/users?page=2"}"#,
                _ => "]}",
            });
        }
        (text, done)
    }

    /// Writes the next users; whether they were the last.
    fn write(&mut self, text: &mut String) -> bool {
        let (people, end, len) = {
            let now;
            let world = match &self.then {
                Some(then) => then,
                None => {
                    now = self.hub.world();
                    &*now
                }
            };
            let end = world.len().min(self.next.saturating_add(CHUNK));
            let people = (self.next..end).filter_map(|index| world.present(index));
            (people.collect::<Vec<_>>(), end, world.len())
        };
        for person in people {
            if self.shows(person) {
                self.write_person(text, person);
            }
        }
        self.next = end;
        end == len
    }

    fn shows(&self, person: Person) -> bool {
        let wanted = self.role.as_deref();
        let role = wanted.is_none_or(|role| person.account_role().eq_ignore_ascii_case(role));
        // 53 bits of the draw: as many as a float can hold exactly.
        #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let drawn = (mix(person.seed.wrapping_add(person.index.into()) ^ 0x5AFE) >> 11) as f64
            / (1_u64 << 53) as f64;
        role && drawn >= self.lacks
    }

    fn write_person(&mut self, text: &mut String, person: Person) {
        let tenth = self.users.is_multiple_of(EVERY);
        let place = usize::try_from(self.users / EVERY).unwrap_or_default();
        self.users += 1;
        if tenth && self.mode == RestMode::UserTwice {
            let before = person.counter.saturating_sub(1);
            let counter = if person.counter == 0 { 1 } else { before };
            self.write_object(text, Person { counter, ..person });
        }
        self.write_object(text, person);
        if tenth && self.mode == RestMode::Unreadable {
            self.comma(text);
            text.push_str(UNREADABLE[place % UNREADABLE.len()]);
        }
    }

    fn write_object(&mut self, text: &mut String, person: Person) {
        self.comma(text);
        let form = match self.mode {
            RestMode::DuplicateKeys => Form::DuplicateKey,
            RestMode::Wide => Form::Wide,
            _ => Form::Usual,
        };
        person
            .write_object(text, form)
            .expect("a String takes everything");
    }

    fn comma(&mut self, text: &mut String) {
        if self.written > 0 {
            text.push(',');
        }
        self.written += 1;
    }

    /// Writes the next users of a capture; whether they were the last.
    fn write_known(&mut self, text: &mut String) -> bool {
        let mut known = self.known.take().unwrap_or_default();
        for _ in 0..CHUNK {
            let Some(object) = known.pop_front() else {
                break;
            };
            self.comma(text);
            text.push_str(&object);
        }
        let done = known.is_empty();
        self.known = Some(known);
        done
    }
}
