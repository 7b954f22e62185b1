//! The file sink: one JSON line a record, appended to one file, or to standard output.
//!
//! A line counts once `fdatasync` has returned. At `open` a torn last line is cut, because it was
//! never acknowledged. It never rotates, never creates a directory and never reads a foreign file's
//! meaning; standard output has no memory, so there nothing can be `held`.

pub(super) mod notify;
mod tail;

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Destination, ErrorClass, PublishError, Sink, SinkError};
use crate::config::FileConfig;
use crate::event::{EventId, Record, Timestamp};
use crate::private;
use crate::process;

/// Appends records to one file.
#[derive(Debug)]
pub struct FileSink {
    target: Target,
    /// Behind a lock, because a call that was dropped may still be at work on a blocking thread:
    /// the next one then waits for it.
    opened: Arc<Mutex<Option<Opened>>>,
}

#[derive(Clone, Debug)]
enum Target {
    Stdout,
    Path(PathBuf),
}

#[derive(Debug)]
struct Opened {
    /// Open for append, and locked until it is dropped.
    file: File,
    /// Bytes that are durable; whatever lies behind them was never acknowledged.
    length: u64,
}

impl FileSink {
    /// A sink for the file that the configuration names; nothing is touched before `open`.
    pub fn new(config: &FileConfig) -> Self {
        let target = if config.path == Path::new("-") {
            Target::Stdout
        } else {
            Target::Path(config.path.clone())
        };
        Self {
            target,
            opened: Arc::default(),
        }
    }

    /// Runs `work` on the open file, on a thread that may block.
    async fn blocking<T, F>(&self, work: F) -> Result<T, SinkError>
    where
        T: Send + 'static,
        F: FnOnce(&Target, &mut Option<Opened>) -> Result<T, SinkError> + Send + 'static,
    {
        let (target, opened) = (self.target.clone(), Arc::clone(&self.opened));
        let task = tokio::task::spawn_blocking(move || {
            let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            work(&target, &mut opened)
        });
        task.await
            .map_err(|error| SinkError::new(ErrorClass::Fatal, process::end_of(&error)))?
    }
}

impl Sink for FileSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>> {
        self.blocking(|target, opened| {
            // First, or the lock of the last open would refuse this one.
            *opened = None;
            match target {
                Target::Stdout => Ok(Destination {
                    description: "standard output".to_owned(),
                    ..Destination::default()
                }),
                Target::Path(path) => {
                    let ready = open_file(path)?;
                    let description = format!("file {}, {} bytes", path.display(), ready.length);
                    *opened = Some(ready);
                    Ok(Destination {
                        description,
                        can_tell_what_it_holds: true,
                        warnings: Vec::new(),
                    })
                }
            }
        })
        .boxed()
    }

    fn held(&mut self, since: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>> {
        self.blocking(move |target, opened| match (target, opened) {
            (Target::Stdout, _) => Ok(HashSet::new()),
            (Target::Path(path), Some(opened)) => {
                tail::ids_since(&opened.file, opened.length, since)
                    .map_err(|error| describe("read", path, &error))
            }
            (Target::Path(_), None) => Err(not_open()),
        })
        .boxed()
    }

    fn publish<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            if batch.is_empty() {
                return Ok(());
            }
            let mut lines = Vec::with_capacity(batch.iter().map(|r| r.body.len() + 1).sum());
            for record in batch {
                // A body is one line: JSON escapes every line break within a string.
                lines.extend_from_slice(&record.body);
                lines.push(b'\n');
            }
            self.blocking(move |target, opened| match (target, opened) {
                (Target::Stdout, _) => print(&lines),
                (Target::Path(path), opened) => append(path, opened, &lines),
            })
            .await
            .map_err(|error| PublishError::of_all(batch.len(), &error))
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        // Every acknowledged line is on disk already; this releases the lock.
        self.blocking(|_, opened| {
            *opened = None;
            Ok(())
        })
        .boxed()
    }
}

fn open_file(path: &Path) -> Result<Opened, SinkError> {
    let failed = |what: &str, error: &io::Error| describe(what, path, error);
    let existed = path.exists();
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(private::MODE)
        .open(path)
        .map_err(|error| failed("open", &error))?;
    let metadata = file.metadata().map_err(|error| failed("open", &error))?;
    if !metadata.is_file() {
        return Err(SinkError::new(
            ErrorClass::Configuration,
            format!(
                "{} is not a regular file; use `-` for standard output",
                path.display()
            ),
        ));
    }
    private::keep(&file, path).map_err(|error| failed("keep private", &error))?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => SinkError::new(
            ErrorClass::Configuration,
            format!(
                "{} is locked: another process writes it; give each bridge a file of its own",
                path.display()
            ),
        ),
        TryLockError::Error(error) => failed("lock", &error),
    })?;
    let length = tail::end_of_last_line(&file, metadata.len())
        .and_then(|end| {
            if end < metadata.len() {
                tracing::warn!(path = %path.display(), bytes = metadata.len() - end, "cut a torn last line, which was never acknowledged");
                file.set_len(end)?;
            }
            file.sync_all()?;
            if !existed {
                sync_directory(path)?;
            }
            Ok(end)
        })
        .map_err(|error| failed("prepare", &error))?;
    Ok(Opened { file, length })
}

/// Makes the name of a new file durable; without it a crash may lose the file with all its lines.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn append(path: &Path, opened: &mut Option<Opened>, lines: &[u8]) -> Result<(), SinkError> {
    let Some(Opened { file, length }) = opened else {
        return Err(not_open());
    };
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    let Err(error) = written else {
        *length += lines.len() as u64;
        return Ok(());
    };
    // What was half written must not be found by `held`, nor be the start of another line. After a
    // failed sync no later sync can be trusted for these bytes either, so they go.
    if let Err(second) = file.set_len(*length) {
        *opened = None;
        tracing::error!(path = %path.display(), error = %second, "cannot cut a failed write; the next open does");
    }
    Err(describe("write", path, &error))
}

fn print(lines: &[u8]) -> Result<(), SinkError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(lines)
        .and_then(|()| stdout.flush())
        .map_err(|error| describe("write", Path::new("standard output"), &error))
}

fn describe(what: &str, path: &Path, error: &io::Error) -> SinkError {
    let class = class_of(error.kind());
    let advice = match error.kind() {
        ErrorKind::NotFound => "; create its directory, the bridge creates none",
        ErrorKind::PermissionDenied => "; give the bridge's user the right to read and write it",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room",
        ErrorKind::BrokenPipe => "; its reader is gone",
        _ => "",
    };
    SinkError::new(
        class,
        format!("cannot {what} {}: {error}{advice}", path.display()),
    )
}

/// What to do after an I/O error: some of them only an operator can mend.
fn class_of(kind: ErrorKind) -> ErrorClass {
    match kind {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidData
        | ErrorKind::BrokenPipe => ErrorClass::Configuration,
        _ => ErrorClass::Transient,
    }
}

fn not_open() -> SinkError {
    SinkError::new(ErrorClass::Transient, "the file is not open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_may_pass_but_a_missing_directory_needs_an_operator() {
        for (kind, class) in [
            (ErrorKind::StorageFull, ErrorClass::Transient),
            (ErrorKind::Interrupted, ErrorClass::Transient),
            (ErrorKind::NotFound, ErrorClass::Configuration),
            (ErrorKind::PermissionDenied, ErrorClass::Configuration),
            (ErrorKind::ReadOnlyFilesystem, ErrorClass::Configuration),
            (ErrorKind::BrokenPipe, ErrorClass::Configuration),
        ] {
            assert_eq!(class_of(kind), class, "{kind:?}");
        }
    }

    #[test]
    fn a_failed_write_leaves_no_part_of_it_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        std::fs::write(&path, "kept\nhalf").unwrap();
        // A descriptor that may not write: every append fails, after a write that half succeeded.
        let file = File::open(&path).unwrap();
        let mut opened = Some(Opened { file, length: 5 });
        let error = append(&path, &mut opened, b"new\n").unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient);
        assert!(opened.is_none(), "what cannot be cut must be opened anew");
        assert_eq!(open_file(&path).unwrap().length, 5);
        assert_eq!(std::fs::read(&path).unwrap(), b"kept\n");
    }

    #[test]
    fn the_file_is_private_and_locked_while_it_is_open() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let opened = open_file(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, private::MODE);
        let refused = open_file(&path).unwrap_err();
        assert_eq!(refused.class, ErrorClass::Configuration);
        assert!(refused.message.contains("another process writes it"));
        drop(opened);
        let wide = std::fs::Permissions::from_mode(0o644);
        std::fs::write(&path, "kept\n").unwrap();
        std::fs::set_permissions(&path, wide).unwrap();
        open_file(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, private::MODE);
    }
}
