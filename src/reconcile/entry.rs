//! One entry of the list, of which only what the record carries is kept.
//!
//! The vendor's object is wider than the feed's: addresses, identity documents, tokens. What is not
//! wanted is passed over byte by byte and never lies in memory. Of a key that is there twice the last
//! value counts.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::meter::Meter;
use crate::state::FieldName;

/// Longest entry, in bytes.
pub(super) const ENTRY_MAX: u64 = 8 * 1024 * 1024;

/// Longest name of a key, and longest value that is kept, in bytes.
pub(super) const VALUE_MAX: u64 = 256 * 1024;

/// Reads an entry. What is no object comes out as null.
pub(super) struct Entry<'a>(pub(super) &'a Meter);

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let meter = self.0;
        meter.within(ENTRY_MAX, || deserializer.deserialize_any(self))
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = self.0.within(VALUE_MAX, || map.next_key_seed(Name))? {
            match name {
                Some(name) => {
                    let value = self.0.within(VALUE_MAX, || map.next_value::<Value>())?;
                    kept.insert(name.to_owned(), value);
                }
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(Value::Object(kept))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
    /// The vendor's table calls the payload of the feed a text that holds JSON.
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A key: one that is kept, or none.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let fields = FieldName::ALL.into_iter().map(FieldName::as_str);
        Ok(fields.chain(["user_id"]).find(|field| *field == name))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::json;

    use super::*;
    use crate::reconcile::meter::{Bound, Metered};

    fn entry(text: &str) -> (Result<Value, serde_json::Error>, Rc<Meter>) {
        let meter = Meter::new(u64::MAX);
        let body = Metered::new(text.as_bytes(), Rc::clone(&meter));
        let mut json = serde_json::Deserializer::from_reader(body);
        (Entry(&meter).deserialize(&mut json), meter)
    }

    #[test]
    fn of_a_wider_object_only_the_wanted_fields_are_kept_and_the_last_of_a_doubled_key() {
        let text = r#"{"user_id":"a","status":"PENDING","user_token":{"token":"secret"},
            "identity":{"email":"nested@example.test","documents":[{"number":1}]},
            "status":"VERIFIED","requirements":{"kyc":{"email":true}}}"#;
        let kept =
            json!({"user_id": "a", "status": "VERIFIED", "requirements": {"kyc": {"email": true}}});
        assert_eq!(entry(text).0.unwrap(), kept);
    }

    #[test]
    fn what_is_no_object_is_passed_over_to_its_end() {
        for text in ["null", "true", "-1", "1", "1.5", "[[1],{\"a\":[]}]"] {
            assert_eq!(entry(text).0.unwrap(), Value::Null, "{text}");
        }
        assert_eq!(entry("\"{}\"").0.unwrap(), json!("{}"));
    }

    #[test]
    fn a_huge_value_or_key_ends_the_reading_and_a_huge_unwanted_one_is_passed_over() {
        let long = "x".repeat(usize::try_from(VALUE_MAX).unwrap() + 1);
        let fits = format!(r#"{{"user_id":"a","notes":"{long}","email":"a@example.test"}}"#);
        let kept = json!({"user_id": "a", "email": "a@example.test"});
        assert_eq!(entry(&fits).0.unwrap(), kept);
        for text in [
            format!(r#"{{"user_id":"a","email":"{long}"}}"#),
            format!(r#"{{"user_id":"a","{long}":1}}"#),
            format!(r#"{{"user_id":"a","notes":"{}"}}"#, long.repeat(33)),
            format!(r#"{{"user_id":"a","notes":{}"#, "[".repeat(9 * 1024 * 1024)),
        ] {
            let (read, meter) = entry(&text);
            assert!(read.is_err());
            assert_eq!(meter.met(), Some(Bound::Entry));
        }
    }
}
