//! What this process keeps to itself when it goes wrong: no memory in a core file, no value in a
//! panic's words; and the room that its disk has.
//!
//! It decides nothing about how the process ends; it never prints what a panic was given to say.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::task::JoinError;
use tracing::Level;

use crate::telemetry::{self, Line};

/// The largest core file, in bytes. Not 0: where the kernel hands the core to a program
/// (`core_pattern` with a pipe), a limit of 0 is ignored, and 1 is what makes the kernel leave it. A
/// file of less than a page is not written at all.
const CORE_BYTES_MAX: u64 = 1;

/// From now on no core file is made of this process, whoever started it with which limit.
///
/// # Errors
/// When the system refuses; the memory of a crash may then be on disk.
pub fn no_core_files() -> std::io::Result<()> {
    let limit = Rlimit {
        current: Some(CORE_BYTES_MAX),
        maximum: Some(CORE_BYTES_MAX),
    };
    Ok(setrlimit(Resource::Core, limit)?)
}

/// What is free for this process on the disk of this folder, in bytes.
///
/// # Errors
/// When there is no such folder.
pub fn free_bytes(folder: &std::path::Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// From now on a panic says where it was, and what it was given to say only if that was written in
/// the program: anything that was put together at run time may hold a value.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| telemetry::say(&line_of(panic))));
}

fn line_of(panic: &PanicHookInfo<'_>) -> Line {
    let mut line = Line::new(
        Level::ERROR,
        module_path!(),
        "a defect: this thread panicked",
    );
    if let Some(place) = panic.location() {
        line.add("location", place.to_string());
    }
    if let Some(thread) = std::thread::current().name() {
        line.add("thread", thread);
    }
    if let Some(words) = words_of(panic.payload()) {
        line.add("reason", words);
    }
    // Names of functions and files alone, and only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        line.add("backtrace", backtrace.to_string());
    }
    line
}

/// Which end a task came to. What the runtime says of a panic holds the panic's words.
pub fn end_of(task: &JoinError) -> String {
    let how = if task.is_panic() {
        "panicked"
    } else {
        "was cancelled"
    };
    format!("task {} {how}", task.id())
}

/// The payload, if it cannot hold data.
fn words_of(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_the_program_are_a_panics_own() {
        let value = "ada@example.test";
        let number = |text: &str| text.parse::<u8>().map_err(|_| text.to_owned());
        for panic in [
            std::panic::catch_unwind(|| panic!("no user {value}")),
            std::panic::catch_unwind(|| assert!(number(value).unwrap() > 0)),
            std::panic::catch_unwind(|| std::panic::panic_any(value.to_owned())),
        ] {
            assert_eq!(words_of(&*panic.unwrap_err()), None);
        }
        let panic = std::panic::catch_unwind(|| panic!("there is no such user"));
        assert_eq!(
            words_of(&*panic.unwrap_err()),
            Some("there is no such user")
        );
    }
}
