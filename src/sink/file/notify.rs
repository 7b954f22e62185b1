//! Appends notices to the files beside the events' own: `<path>.control` and `<path>.dead`, one JSON
//! object a line, in the structured mode of CloudEvents 1.0.
//!
//! Standard output gets none: it has one meaning.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::super::{ErrorClass, SinkError};
use super::{describe, tail};
use crate::config::FileConfig;
use crate::notice::Notice;
use crate::private;
use crate::process;

/// Appends notices of one channel in order; resolves when they are durable.
pub(crate) async fn notify(config: &FileConfig, notices: &[Notice]) -> Result<(), SinkError> {
    let Some(channel) = notices.first().map(|notice| notice.channel) else {
        return Ok(());
    };
    let mut path = config.path.clone().into_os_string();
    path.push(".");
    path.push(channel.as_str());
    let path = PathBuf::from(path);
    let lines: String = notices.iter().map(line).collect();
    let appending = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(private::MODE)
            .open(&path);
        let file = file.and_then(|file| private::keep(&file, &path).map(|()| file));
        file.and_then(|mut file| append(&mut file, lines.as_bytes()))
            .map_err(|error| describe("write", &path, &error))
    });
    appending
        .await
        .map_err(|error| SinkError::new(ErrorClass::Fatal, process::end_of(&error)))?
}

/// What was half written, now or before a crash, is cut off: it is told again, and must not be the
/// start of another line.
fn append(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let end = tail::end_of_last_line(file, bytes)?;
    if end < bytes {
        file.set_len(end)?;
    }
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // If that fails too, the next try does it.
        file.set_len(end).unwrap_or_default();
    }
    written
}

fn line(notice: &Notice) -> String {
    let attributes = notice.attributes().into_iter();
    let mut event: Map<String, Value> = attributes
        .map(|(attribute, value)| (attribute.name.to_owned(), value.into()))
        .collect();
    event.insert("datacontenttype".to_owned(), "application/json".into());
    let data = serde_json::from_slice(&notice.body).unwrap_or_default();
    event.insert("data".to_owned(), data);
    format!("{}\n", Value::Object(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_that_was_half_written_is_not_the_start_of_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(folder.path().join("control")).unwrap();
        file.write_all(b"{\"a\":1}\n{\"b\":").unwrap();
        append(&mut file, b"{\"b\":2}\n").unwrap();
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"b\":2}\n");
    }
}
