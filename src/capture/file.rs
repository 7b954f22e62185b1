//! The file of a capture: JSON lines after a head, appended, with mode 0600, up to a bound.
//!
//! It is never overwritten, shortened below what it held, or synced. A write that fails ends it, and so
//! does its bound; either is said once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::sync::mpsc;

use super::Line;
use crate::private;

/// The first line: `simulate --replay` asks for it.
const HEAD: &str = "{\"capture\":1}\n";

/// A longer first line is none of ours.
const HEAD_MAX: u64 = 1024;

/// Lines are collected up to so many bytes while more of them wait.
const COLLECT: usize = 256 * 1024;

/// Why a file cannot be used for a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened, or its rights cannot be tightened.
    #[error("cannot open the capture {path}: {error}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{0} is no capture and is left as it is; name another file")]
    Foreign(String),
    /// Another process writes to it.
    #[error("another process writes the capture {0}; name another file")]
    InUse(String),
}

/// Writes the lines of a capture.
#[derive(Debug)]
pub struct Writer {
    pub(super) file: File,
    path: PathBuf,
    /// Bytes of the file that are whole lines.
    length: u64,
    max_bytes: u64,
    collected: Vec<u8>,
    lines: mpsc::Receiver<Line>,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        max_bytes: u64,
        lines: mpsc::Receiver<Line>,
    ) -> Result<Self, CaptureError> {
        let shown = || path.display().to_string();
        let failed = |error| CaptureError::Open {
            path: path.to_owned(),
            error,
        };
        let opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(private::MODE)
            .open(path);
        let mut file = opened.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(CaptureError::Foreign(shown()));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CaptureError::InUse(shown())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if metadata.len() > 0 && !is_capture(&file).map_err(failed)? {
            return Err(CaptureError::Foreign(shown()));
        }
        private::keep(&file, path).map_err(failed)?;
        let collected = begin(&mut file, metadata.len()).map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            length: metadata.len(),
            max_bytes,
            collected,
            lines,
        })
    }

    /// Writes until the feed has ended, the bound is met or a write fails; blocking.
    pub fn run(mut self) {
        tracing::info!(
            path = %self.path.display(),
            most = self.max_bytes,
            "what the feed sends is captured, as the privacy policy allows"
        );
        if !self.flush() {
            return;
        }
        while let Some(Line { bytes, _room }) = self.lines.blocking_recv() {
            let length = self.length + (self.collected.len() + bytes.len()) as u64;
            if length > self.max_bytes {
                // Said first: the write may fail, and says so itself.
                tracing::warn!(
                    path = %self.path.display(),
                    most = self.max_bytes,
                    "the capture is full and has ended; the feed goes on"
                );
                self.flush();
                return;
            }
            self.collected.extend(bytes);
            if (self.collected.len() >= COLLECT || self.lines.is_empty()) && !self.flush() {
                return;
            }
        }
        self.flush();
    }

    /// Whether it could be written. What was half written is cut off.
    fn flush(&mut self) -> bool {
        let written = self.file.write_all(&self.collected);
        match written {
            Ok(()) => {
                self.length += self.collected.len() as u64;
                self.collected.clear();
                true
            }
            Err(error) => {
                self.file.set_len(self.length).unwrap_or_default();
                tracing::error!(
                    path = %self.path.display(),
                    %error,
                    "the capture cannot be written and has ended; the feed goes on"
                );
                false
            }
        }
    }
}

/// Whether the first line is the head of a capture.
fn is_capture(file: &File) -> io::Result<bool> {
    let mut first = String::new();
    let mut reader = BufReader::new(file.take(HEAD_MAX));
    match reader.read_line(&mut first) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(error),
    }
    let head: Value = serde_json::from_str(&first).unwrap_or_default();
    Ok(head["capture"] == 1)
}

/// What is to be written first: the head of a new one, the end of a line that was torn.
fn begin(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    if length == 0 {
        return Ok(HEAD.into());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(match last {
        [b'\n'] => Vec::new(),
        _ => b"\n".to_vec(),
    })
}
