//! What an error of SQLite means for the journal: one table, for the writer and for the message.
//!
//! | SQLite says | it means | reaction |
//! | --- | --- | --- |
//! | FULL; or a write that failed where the disk or a quota is full | no room | keep the work, hear no more, try again |
//! | BUSY, LOCKED | another process holds the write lock | the same |
//! | IOERR_*, NOMEM, CANTOPEN, PROTOCOL | the disk failed, nothing is known of it | end at once: exit code 74 |
//! | READONLY_*, PERM, AUTH | it cannot be written | the same |
//! | CORRUPT, TOOBIG, or a value that this program never writes | the file is damaged | the same; the next start saves what is readable |
//! | NOTADB | it is another's file, or its header is gone | refused |
//! | all others | a defect of this program | exit code 70 |
//!
//! A write or fsync that failed is never tried again: the kernel may have thrown the pages away.

use std::io::{ErrorKind, Write};
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Written beside the journal to learn why a write failed.
const PROBE_BYTES: usize = 1024 * 1024;

/// Why the journal takes no events for a while; the value of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The file has `journal.max_bytes`.
    Full,
    /// The disk is full.
    DiskFull,
    /// Another process holds the write lock.
    Locked,
}

impl Blocked {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 3] = [Self::Full, Self::DiskFull, Self::Locked];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::DiskFull => "disk_full",
            Self::Locked => "locked",
        }
    }
}

/// What is to be done after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing was written and nothing is lost: keep the work, try again.
    Wait(Blocked),
    /// The disk failed.
    Failed,
    /// The file or its disk can only be read.
    ReadOnly,
    /// What is in the file is not what was written.
    Damaged,
    /// It is no database.
    NotOurs,
    /// A defect of this program.
    Defect,
}

/// What an error asks for; `path` is the journal's, to see whether a write failed for want of room.
pub(super) fn reaction(error: &rusqlite::Error, path: &Path) -> Reaction {
    let means = meaning(error);
    let written = matches!(
        error,
        rusqlite::Error::SqliteFailure(
            ffi::Error {
                extended_code: ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE,
                ..
            },
            _
        )
    );
    if written && lacks_room(path) {
        return Reaction::Wait(Blocked::DiskFull);
    }
    means
}

/// The error of a file that is not what was written, found by this program and not by SQLite.
pub(super) fn damaged(finding: String) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(finding))
}

/// Whether a row of an ordered walk comes after the one before it. In a damaged file it may not; a walk that
/// asks for what comes after its last row would never end.
pub(super) fn ascends<K: PartialOrd>(before: &K, next: &K) -> rusqlite::Result<()> {
    if next > before {
        return Ok(());
    }
    Err(damaged("a table is not in the order of its key".to_owned()))
}

/// What an error means by itself.
pub(super) const fn meaning(error: &rusqlite::Error) -> Reaction {
    use rusqlite::Error as E;
    let code = match error {
        E::SqliteFailure(failure, _) => failure.code,
        E::SqlInputError { error, .. } => error.code,
        // A row that this program would never have written.
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..)
        | E::InvalidColumnType(..)
        | E::InvalidColumnName(_)
        | E::QueryReturnedNoRows => return Reaction::Damaged,
        _ => return Reaction::Defect,
    };
    match code {
        ErrorCode::DiskFull => Reaction::Wait(Blocked::DiskFull),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Reaction::Wait(Blocked::Locked),
        ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::CannotOpen
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::NoLargeFileSupport => Reaction::Failed,
        ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::AuthorizationForStatementDenied => Reaction::ReadOnly,
        // Too big: a length that the damage made up; nothing that is written comes near the limit of 1 GB.
        ErrorCode::DatabaseCorrupt | ErrorCode::TooBig => Reaction::Damaged,
        ErrorCode::NotADatabase => Reaction::NotOurs,
        ErrorCode::InternalMalfunction
        | ErrorCode::OperationAborted
        | ErrorCode::OperationInterrupted
        | ErrorCode::NotFound
        | ErrorCode::SchemaChanged
        | ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::ApiMisuse
        | ErrorCode::ParameterOutOfRange => Reaction::Defect,
        // The list of codes is SQLite's, and may grow.
        _ => Reaction::Defect,
    }
}

/// What an operator is told to do.
pub(super) const fn advice(error: &rusqlite::Error) -> &'static str {
    match meaning(error) {
        Reaction::Wait(Blocked::Full | Blocked::DiskFull) => {
            "nothing that was committed is lost; make room on the disk and start again"
        }
        Reaction::Wait(Blocked::Locked) => {
            "another process holds the journal's write lock; end it and start again"
        }
        Reaction::Failed => {
            "nothing that was committed is lost; look at the disk, mend it and start again"
        }
        Reaction::ReadOnly => {
            "the journal, or its file system, can only be read; make it writable and start again"
        }
        Reaction::Damaged => {
            "the file is damaged; start again: what is readable is saved to a new file, and the \
             damaged one is set aside"
        }
        Reaction::NotOurs => "it is no journal; move it away to start with an empty one",
        Reaction::Defect => "nothing that was committed is lost; please report this",
    }
}

/// Whether the disk takes no more bytes, or the user has no more of its quota.
fn lacks_room(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push(".probe");
    let probe = Path::new(&name);
    let written = std::fs::File::create(probe).and_then(|mut file| {
        file.write_all(&vec![1; PROBE_BYTES])?;
        file.sync_all()
    });
    // It is ours alone; a probe that stays is overwritten by the next one.
    std::fs::remove_file(probe).unwrap_or_default();
    written.is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_sqlite_has_its_reaction() {
        let wait = Reaction::Wait;
        for (code, reaction) in [
            (ffi::SQLITE_FULL, wait(Blocked::DiskFull)),
            (ffi::SQLITE_BUSY, wait(Blocked::Locked)),
            (ffi::SQLITE_BUSY_SNAPSHOT, wait(Blocked::Locked)),
            (ffi::SQLITE_LOCKED, wait(Blocked::Locked)),
            (ffi::SQLITE_IOERR_FSYNC, Reaction::Failed),
            (ffi::SQLITE_IOERR_DIR_FSYNC, Reaction::Failed),
            (ffi::SQLITE_IOERR_WRITE, Reaction::Failed),
            (ffi::SQLITE_IOERR_READ, Reaction::Failed),
            (ffi::SQLITE_IOERR_SHORT_READ, Reaction::Failed),
            (ffi::SQLITE_IOERR_SHMSIZE, Reaction::Failed),
            (ffi::SQLITE_CANTOPEN, Reaction::Failed),
            (ffi::SQLITE_NOMEM, Reaction::Failed),
            (ffi::SQLITE_READONLY, Reaction::ReadOnly),
            (ffi::SQLITE_READONLY_DBMOVED, Reaction::ReadOnly),
            (ffi::SQLITE_PERM, Reaction::ReadOnly),
            (ffi::SQLITE_CORRUPT, Reaction::Damaged),
            (ffi::SQLITE_CORRUPT_INDEX, Reaction::Damaged),
            (ffi::SQLITE_TOOBIG, Reaction::Damaged),
            (ffi::SQLITE_NOTADB, Reaction::NotOurs),
            (ffi::SQLITE_ERROR, Reaction::Defect),
            (ffi::SQLITE_CONSTRAINT, Reaction::Defect),
            (ffi::SQLITE_MISUSE, Reaction::Defect),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let path = folder.path().join("journal.db");
            assert_eq!(super::reaction(&error, &path), reaction, "code {code}");
        }
    }
}
