//! Where a sealed value stands. Pure.

use rusqlite::types::Value;

use super::FORMAT;
use crate::state::UserKey;

/// The table, column and row of a value. Sealed for one place, it opens at no other.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) enum Place<'a> {
    RecordBody(u64),
    RecordKey(u64),
    UserKey(&'a UserKey),
    UserState(&'a UserKey),
    LetterBody(i64),
    LetterKey(i64),
    NoticeBody(u64),
    DigestKey,
}

impl<'a> Place<'a> {
    /// The place of a value of this row, if it is one that is sealed; `row` is the row's first column, `of`
    /// the one that names a user, where it is another.
    pub(in crate::journal) fn of(
        table: &str,
        column: &str,
        row: &'a Value,
        of: Option<&'a Value>,
    ) -> Option<Self> {
        let signed = match row {
            Value::Integer(number) => *number,
            Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => -1,
        };
        let number = u64::try_from(signed).unwrap_or(u64::MAX);
        let user = match of.unwrap_or(row) {
            Value::Blob(bytes) => <&UserKey>::try_from(bytes.as_slice()).ok(),
            Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) => None,
        };
        let digest_key = matches!(row, Value::Text(name) if name == "digest_key");
        match (table, column) {
            ("records", "body") => Some(Self::RecordBody(number)),
            ("records", "key") => Some(Self::RecordKey(number)),
            ("users", "key") => user.map(Self::UserKey),
            ("users" | "records", "state") => user.map(Self::UserState),
            ("dead_letters", "body") => Some(Self::LetterBody(signed)),
            ("dead_letters", "key") => Some(Self::LetterKey(signed)),
            ("notices", "body") => Some(Self::NoticeBody(number)),
            ("meta", "value") if digest_key => Some(Self::DigestKey),
            _ => None,
        }
    }

    /// A byte for table and column, and sixteen that tell the row.
    pub(super) fn bytes(&self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[0] = FORMAT;
        let mut number = |kind: u8, number: [u8; 8]| {
            bytes[1] = kind;
            bytes[2..10].copy_from_slice(&number);
        };
        match self {
            Self::RecordBody(position) => number(1, position.to_le_bytes()),
            Self::RecordKey(position) => number(2, position.to_le_bytes()),
            Self::LetterBody(id) => number(5, id.to_le_bytes()),
            Self::LetterKey(id) => number(6, id.to_le_bytes()),
            Self::NoticeBody(id) => number(7, id.to_le_bytes()),
            Self::DigestKey => number(8, [0; 8]),
            Self::UserKey(user) | Self::UserState(user) => {
                bytes[1] = if matches!(self, Self::UserKey(_)) {
                    3
                } else {
                    4
                };
                bytes[2..].copy_from_slice(*user);
            }
        }
        bytes
    }
}

impl Place<'_> {
    /// For messages; it names a row by its number, never a user.
    pub(super) fn name(&self) -> String {
        match self {
            Self::RecordBody(position) => format!("the body of record {position}"),
            Self::RecordKey(position) => format!("the key of record {position}"),
            Self::UserKey(_) => "the key of a user's records".to_owned(),
            Self::UserState(_) => "the state of a user".to_owned(),
            Self::LetterBody(id) => format!("the body of dead letter {id}"),
            Self::LetterKey(id) => format!("the key of dead letter {id}"),
            Self::NoticeBody(id) => format!("the body of notice {id}"),
            Self::DigestKey => "the key of the digests".to_owned(),
        }
    }
}
