//! One invented user at one moment, and how the vendor writes it: in the feed and in the list.
//!
//! Pure: everything follows from the seed, the user's index and its counter, so that a world of a
//! million users takes a few megabytes. Reads no clock, holds no state.

use std::fmt::{self, Write};

/// First names; one is not ASCII, because real ones are not.
const FIRST_NAMES: [&str; 8] = [
    "Ada", "Brook", "Casey", "Devon", "Emery", "Zoë", "Harper", "Indigo",
];

/// Counters below this are a user on its way to `VERIFIED`.
const VERIFIED_FROM: u32 = 3;

/// How an object of the list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In the second generation.
    Usual,
    /// With `advisor_user_id` twice.
    DuplicateKey,
    /// In the third generation, with far more than the feed tells.
    Wide,
}

/// A user after `counter` events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) seed: u64,
    pub(super) index: u32,
    pub(super) counter: u32,
}

impl Person {
    /// The id: unique, because its first eight digits are a bijection of the index.
    pub(super) fn user_id(self) -> String {
        let mut id = String::with_capacity(43);
        self.write_user_id(&mut id)
            .expect("a String takes everything");
        id
    }

    fn write_user_id(self, out: &mut String) -> fmt::Result {
        let first = self
            .index
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add(u32::try_from(self.seed & 0xFFFF_FFFF).unwrap_or_default());
        let rest = self.draw(0);
        write!(
            out,
            "client_{first:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            rest >> 48,
            (rest >> 36) & 0xFFF,
            (rest >> 24) & 0xFFF,
            self.draw(1) & 0xFFFF_FFFF_FFFF
        )
    }

    /// The credential of this user: 64 hex digits, the same in each of its events.
    pub(super) fn token(self) -> String {
        let mut token = String::with_capacity(64);
        self.write_token(&mut token)
            .expect("a String takes everything");
        token
    }

    fn write_token(self, out: &mut String) -> fmt::Result {
        (2..6).try_for_each(|lane| write!(out, "{:016x}", self.draw(lane)))
    }

    /// Registered, then email confirmed, then verified by SMS.
    pub(super) const fn status(self) -> &'static str {
        if self.counter < VERIFIED_FROM {
            "PENDING"
        } else {
            "VERIFIED"
        }
    }

    /// `(email, sms)`; `true` is outstanding.
    pub(super) const fn requirements(self) -> (bool, bool) {
        (
            self.counter < VERIFIED_FROM - 1,
            self.counter < VERIFIED_FROM,
        )
    }

    /// As the feed and the list write it, with a capital.
    pub(super) const fn account_role(self) -> &'static str {
        if self.index % 20 == 19 {
            "Advisor"
        } else {
            "Client"
        }
    }

    const fn account_type(self) -> &'static str {
        if self.index % 10 == 9 {
            "corporation"
        } else {
            "individual"
        }
    }

    const fn first_name(self) -> &'static str {
        FIRST_NAMES[self.index as usize % FIRST_NAMES.len()]
    }

    /// Changes after the verification with each fifth event.
    const fn phone_suffix(self) -> u32 {
        self.index.wrapping_add(self.counter / 5) % 10_000
    }

    /// How often the address was changed: with each third event after the verification.
    const fn email_changes(self) -> u32 {
        self.counter.saturating_sub(VERIFIED_FROM) / 3
    }

    fn write_email(self, out: &mut String) -> fmt::Result {
        match self.email_changes() {
            0 => write!(out, "user{}@example.test", self.index),
            changes => write!(out, "user{}.{changes}@example.test", self.index),
        }
    }

    /// The `payload` of a data frame, in the order of the vendor's sample.
    pub(super) fn write_payload(self, out: &mut String, expires: &str) -> fmt::Result {
        out.write_str(r#"{"user_id":""#)?;
        self.write_user_id(out)?;
        write!(
            out,
            r#"","first_name":"{}","last_name":"Example-{}","email":""#,
            self.first_name(),
            self.counter
        )?;
        self.write_email(out)?;
        write!(
            out,
            r#"","phone_number":"+1555010{:04}","account_role":"{}","account_type":"{}","#,
            self.phone_suffix(),
            self.account_role(),
            self.account_type()
        )?;
        write!(
            out,
            r#""status":"{}","user_token":{{"token":""#,
            self.status()
        )?;
        self.write_token(out)?;
        write!(out, r#"","expires":"{expires}","partner_user_id":""#)?;
        self.write_user_id(out)?;
        let (email, sms) = self.requirements();
        write!(
            out,
            r#""}},"requirements":{{"sms":{sms},"email":{email}}}}}"#
        )
    }

    /// The object of the REST list, without the token.
    pub(super) fn write_object(self, out: &mut String, form: Form) -> fmt::Result {
        out.push('{');
        if form == Form::Wide {
            self.write_wide(out)?;
        }
        write!(
            out,
            r#""account_type":"{}","account_role":"{}","user_id":""#,
            self.account_type(),
            self.account_role()
        )?;
        self.write_user_id(out)?;
        out.write_str(r#"","advisor_user_id":null,"email":""#)?;
        self.write_email(out)?;
        write!(
            out,
            r#"","first_name":"{}","last_name":"Example-{}","phone_number":"+1555010{:04}","#,
            self.first_name(),
            self.counter,
            self.phone_suffix()
        )?;
        if form == Form::DuplicateKey {
            out.write_str(r#""advisor_user_id":null,"#)?;
        }
        let (email, sms) = self.requirements();
        write!(
            out,
            r#""status":"{}","requirements":{{"email":{email},"sms":{sms}}}}}"#,
            self.status()
        )
    }

    /// What the third generation has more: the vendor's own id, answers to questions, identity data.
    fn write_wide(self, out: &mut String) -> fmt::Result {
        write!(
            out,
            r#""id":{},"phone_country_code":"US","account_purpose":"INVESTMENT","account_purpose_other":null,"source_of_funds":"SALARY","source_of_funds_other":null,"intermediary_status":"NONE","expected_transfer_volume":"0-10000","expected_trade_volume":"0-10000","individual":{{"date_of_birth":"1970-01-{:02}","identification_number":"{:09}","address":{{"street":"{} Example Street","city":"Exampleville","postal_code":"{:05}","country":"ZZ"}},"occupation":"TESTER"}},"#,
            1_000_000 + u64::from(self.index),
            1 + self.index % 28,
            self.draw(6) % 1_000_000_000,
            1 + self.index,
            self.draw(7) % 100_000
        )
    }

    /// The same 64 bits for the same user and lane, always.
    const fn draw(self, lane: u64) -> u64 {
        mix(self
            .seed
            .wrapping_add((self.index as u64) << 8)
            .wrapping_add(lane))
    }
}

/// SplitMix64: enough to look random, the same on every machine.
pub(super) const fn mix(value: u64) -> u64 {
    let a = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    c ^ (c >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    fn person(index: u32, counter: u32) -> Person {
        Person {
            seed: 1,
            index,
            counter,
        }
    }

    #[test]
    fn a_payload_has_the_keys_of_the_vendor_in_its_order() {
        let mut text = String::new();
        let ada = person(0, 1);
        ada.write_payload(&mut text, "2024-05-30T17:55:27.981Z")
            .unwrap();
        let id = ada.user_id();
        let token = ada.token();
        assert_eq!(
            text,
            format!(
                r#"{{"user_id":"{id}","first_name":"Ada","last_name":"Example-1","email":"user0@example.test","phone_number":"+15550100000","account_role":"Client","account_type":"individual","status":"PENDING","user_token":{{"token":"{token}","expires":"2024-05-30T17:55:27.981Z","partner_user_id":"{id}"}},"requirements":{{"sms":true,"email":true}}}}"#
            )
        );
        assert_eq!((id.len(), token.len()), (43, 64));
    }

    #[test]
    fn every_object_and_payload_is_json_and_no_object_has_a_token() {
        for index in 0..40 {
            for counter in 0..20 {
                let mut payload = String::new();
                let who = person(index, counter);
                who.write_payload(&mut payload, "2024-05-30T17:55:27.981Z")
                    .unwrap();
                let payload: Value = serde_json::from_str(&payload).unwrap();
                let mut object = String::new();
                let forms = [Form::Usual, Form::DuplicateKey, Form::Wide];
                who.write_object(&mut object, forms[counter as usize % 3])
                    .unwrap();
                assert!(!object.contains(&who.token()));
                let object: Value = serde_json::from_str(&object).unwrap();
                for key in ["user_id", "email", "last_name", "phone_number", "status"] {
                    assert_eq!(payload[key], object[key]);
                }
            }
        }
    }

    #[test]
    fn no_two_users_share_an_id() {
        let ids: HashSet<_> = (0..50_000)
            .map(|index| person(index, 0).user_id())
            .collect();
        assert_eq!(ids.len(), 50_000);
    }

    #[test]
    fn a_user_is_registered_then_confirmed_then_verified() {
        let life: Vec<_> = (1..5)
            .map(|counter| {
                (
                    person(0, counter).status(),
                    person(0, counter).requirements(),
                )
            })
            .collect();
        assert_eq!(
            life,
            [
                ("PENDING", (true, true)),
                ("PENDING", (false, true)),
                ("VERIFIED", (false, false)),
                ("VERIFIED", (false, false)),
            ]
        );
    }
}
