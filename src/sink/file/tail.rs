//! Reads a file of JSON lines from its end: where its last line ends, and the ids that it holds.
//!
//! It never writes, and it reads no more than a block beyond what was asked for.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde::Deserialize;

use crate::event::{EventId, Timestamp};

/// Bytes that one read takes from the end of what is not read yet.
const BLOCK_BYTES: u64 = 256 * 1024;

/// A longer line is none of ours (a frame of the feed is far shorter), so the file is not ours.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Lines stand in the order in which they were heard, but a clock may have been set back meanwhile.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// What of a line is of interest here.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event_id: &'a str,
    #[serde(borrow)]
    received_at: &'a str,
}

/// The length of the file without a torn last line.
pub(super) fn end_of_last_line(file: &File, length: u64) -> io::Result<u64> {
    let mut start = length;
    while start > 0 {
        let (block, from) = block_before(file, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        if length - from > LINE_BYTES_MAX as u64 {
            return Err(line_too_long());
        }
        start = from;
    }
    Ok(0)
}

/// The ids of the lines that were received at or after `since`, read from the end backwards.
pub(super) fn ids_since(
    file: &File,
    length: u64,
    since: Timestamp,
) -> io::Result<HashSet<EventId>> {
    let oldest = since.minus(CLOCK_MARGIN);
    let mut ids = HashSet::new();
    let mut start = length;
    // The beginning of a line whose end was in the block behind this one.
    let mut rest: Vec<u8> = Vec::new();
    while start > 0 {
        let (mut block, from) = block_before(file, start)?;
        block.extend_from_slice(&rest);
        let mut end = block.len();
        while let Some(at) = block.iter().take(end).rposition(|byte| *byte == b'\n') {
            if !take(
                block.get(at + 1..end).unwrap_or_default(),
                since,
                oldest,
                &mut ids,
            ) {
                return Ok(ids);
            }
            end = at;
        }
        block.truncate(end);
        if block.len() > LINE_BYTES_MAX {
            return Err(line_too_long());
        }
        rest = block;
        start = from;
    }
    take(&rest, since, oldest, &mut ids);
    Ok(ids)
}

/// Adds the id of one line; false when it is so old that nothing before it can matter.
fn take(line: &[u8], since: Timestamp, oldest: Timestamp, ids: &mut HashSet<EventId>) -> bool {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
        return true; // a line that somebody else wrote
    };
    let (Some(id), Some(received_at)) = (
        EventId::parse(line.event_id),
        Timestamp::parse(line.received_at),
    ) else {
        return true;
    };
    if received_at >= since {
        ids.insert(id);
    }
    received_at >= oldest
}

fn block_before(file: &File, end: u64) -> io::Result<(Vec<u8>, u64)> {
    let from = end.saturating_sub(BLOCK_BYTES);
    let mut block = vec![0; usize::try_from(end - from).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut block, from)?;
    Ok((block, from))
}

fn line_too_long() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "it holds a line of more than 16 MiB, so it is not a file of this bridge; name another",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(number: u8, second: i64, padding: usize) -> String {
        format!(
            r#"{{"event_id":"{}","received_at":"{}","padding":"{}"}}"#,
            EventId([number; 16]),
            Timestamp(second * 1_000_000_000),
            "x".repeat(padding)
        )
    }

    fn file_of(text: &str) -> (File, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        (file, text.len() as u64)
    }

    fn numbers(text: &str, since: i64) -> Vec<u8> {
        let (file, length) = file_of(text);
        let ids = ids_since(&file, length, Timestamp(since * 1_000_000_000)).unwrap();
        let mut numbers: Vec<u8> = ids.iter().map(|id| id.0[0]).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_torn_last_line_is_not_counted() {
        let long = "x".repeat(usize::try_from(BLOCK_BYTES).unwrap() * 2);
        for (text, end) in [
            (String::new(), 0),
            ("torn".to_owned(), 0),
            ("a\n".to_owned(), 2),
            ("a\nb".to_owned(), 2),
            (format!("a\n{long}"), 2),
            (format!("{long}\n"), long.len() as u64 + 1),
        ] {
            let (file, length) = file_of(&text);
            assert_eq!(end_of_last_line(&file, length).unwrap(), end);
        }
    }

    #[test]
    fn only_lines_received_since_then_are_told() {
        let text: String = (1..=5)
            .map(|n| line(n, 1000 + i64::from(n), 0) + "\n")
            .collect();
        assert_eq!(numbers(&text, 1004), [4, 5]);
        assert!(numbers(&text, 1006).is_empty());
        assert_eq!(numbers(&text, 0), [1, 2, 3, 4, 5]);
        assert!(numbers("", 0).is_empty());
    }

    #[test]
    fn lines_that_cross_blocks_and_foreign_lines_are_no_obstacle() {
        let size = usize::try_from(BLOCK_BYTES).unwrap();
        for padding in [size - 120, size, size * 2 + 7] {
            let text: String = [
                line(1, 2000, padding),
                "not json".to_owned(),
                String::new(),
                line(2, 2001, padding),
                line(3, 2002, 3),
            ]
            .map(|line| line + "\n")
            .concat();
            assert_eq!(numbers(&text, 2000), [1, 2, 3], "{padding}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_hides_nothing_within_the_margin() {
        let text = [line(1, 2000, 0), line(2, 1970, 0), line(3, 2001, 0)]
            .map(|l| l + "\n")
            .concat();
        assert_eq!(numbers(&text, 2000), [1, 3]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let (file, length) = file_of(&"x".repeat(LINE_BYTES_MAX + 2 * 256 * 1024));
        assert!(end_of_last_line(&file, length).is_err());
        assert!(ids_since(&file, length, Timestamp(0)).is_err());
    }
}
