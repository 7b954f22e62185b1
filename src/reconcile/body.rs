//! The body of a list: its users, and whether it is whole.
//!
//! Read as a stream, within the bounds of a list, of an entry and of a value; an entry that cannot be read
//! costs only itself and the completeness. An error says where and of which kind it is, and quotes nothing.

use std::fmt;
use std::io::Read;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;

use super::entry::{ENTRY_MAX, Entry, VALUE_MAX};
use super::meter::{Bound, Meter, Metered};
use super::{ListError, Listed};
use crate::config::Size;
use crate::normalise::{self, Observation};

/// Users that are handed over together, unless so many bytes of the list have passed before.
const BATCH: (usize, u64) = (64, 64 * 1024);

/// Reads the users out of a body and hands them over. Returns whether every entry could be read.
pub(super) fn users(
    body: impl Read,
    max_bytes: Size,
    listed: &mpsc::Sender<Listed>,
) -> Result<bool, ListError> {
    let meter = Meter::new(max_bytes.0);
    let mut json = serde_json::Deserializer::from_reader(Metered::new(body, Rc::clone(&meter)));
    let mut outlet = Outlet::new(listed, &meter);
    let read = Envelope(&mut outlet).deserialize(&mut json);
    let read = read.and_then(|()| json.end());
    // What came before it broke off is still true.
    outlet.flush();
    if outlet.ended {
        return Err(ListError::Ended);
    }
    outlet.say();
    read.map_err(|error| {
        ListError::Body(match meter.met() {
            Some(Bound::List) => format!("it is longer than reconcile.max_bytes ({max_bytes})"),
            Some(Bound::Entry) => format!(
                "an entry is longer than {ENTRY_MAX} bytes, or a value in it than {VALUE_MAX}"
            ),
            None => position(&error),
        })
    })?;
    Ok(outlet.complete)
}

/// Where the error is and of which kind; not serde's own words, which may quote a value.
fn position(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "the connection broke, or took too long",
        serde_json::error::Category::Syntax => "it is not valid JSON",
        serde_json::error::Category::Data => "it is not an object with a list `data`",
        serde_json::error::Category::Eof => "it breaks off",
    };
    format!("{kind} (line {} column {})", error.line(), error.column())
}

/// Where the users go, and what is to be said of the list.
struct Outlet<'a> {
    listed: &'a mpsc::Sender<Listed>,
    meter: &'a Meter,
    batch: Vec<Observation>,
    /// How far the list was read when the batch was begun.
    begun: u64,
    complete: bool,
    ended: bool,
    /// Entries that cannot be read, and why the first of them cannot.
    unreadable: u64,
    reason: &'static str,
}

impl<'a> Outlet<'a> {
    const fn new(listed: &'a mpsc::Sender<Listed>, meter: &'a Meter) -> Self {
        Self {
            listed,
            meter,
            batch: Vec::new(),
            begun: 0,
            complete: true,
            ended: false,
            unreadable: 0,
            reason: "",
        }
    }

    fn user(&mut self, observation: Observation) {
        self.batch.push(observation);
        let bytes = self.meter.passed() - self.begun;
        if self.batch.len() >= BATCH.0 || bytes >= BATCH.1 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.begun = self.meter.passed();
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH.0));
        self.ended |= self.listed.blocking_send(Listed::Users(batch)).is_err();
    }

    fn say(&self) {
        if self.unreadable > 0 {
            let (entries, reason) = (self.unreadable, self.reason);
            tracing::warn!(
                entries,
                reason,
                "entries of the list cannot be read: nobody is removed by it, and no blind window healed"
            );
        }
    }
}

/// `{"data": [...]}`; any other key is passed over, aloud, because it may mean pages.
struct Envelope<'a, 'b>(&'a mut Outlet<'b>);

impl<'de> DeserializeSeed<'de> for Envelope<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list `data`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let outlet = self.0;
        let meter = outlet.meter;
        let mut found = false;
        while let Some(name) = meter.within(VALUE_MAX, || map.next_key::<String>())? {
            let more = name != "data" || found;
            if more && outlet.complete {
                // Half a list must not remove the users of the other half.
                outlet.complete = false;
                tracing::warn!(
                    "the list has another key beside one `data`, perhaps pages: nobody is removed by it, \
                     and no blind window healed"
                );
            }
            if name == "data" {
                map.next_value_seed(Users(outlet))?;
                found = true;
            } else {
                meter.within(ENTRY_MAX, || map.next_value::<IgnoredAny>())?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(serde::de::Error::missing_field("data"))
        }
    }
}

struct Users<'a, 'b>(&'a mut Outlet<'b>);

impl<'de> DeserializeSeed<'de> for Users<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Users<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of users")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut users: A) -> Result<(), A::Error> {
        let outlet = self.0;
        while let Some(user) = users.next_element_seed(Entry(outlet.meter))? {
            match normalise::observation(user) {
                Ok((observation, _)) => outlet.user(observation),
                Err(reason) => {
                    outlet.complete = false;
                    outlet.unreadable += 1;
                    if outlet.unreadable == 1 {
                        outlet.reason = reason.as_str();
                    }
                }
            }
            if outlet.ended {
                return Err(serde::de::Error::custom("the bridge is ending"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
