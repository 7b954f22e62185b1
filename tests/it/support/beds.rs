//! Real servers: those of the environment (`make it` sets it), else started once for this process.
//!
//! A server that cannot be had is a panic, never a skipped test. A started one ends with this process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The address of a real Kafka.
pub(crate) fn kafka() -> &'static str {
    static BED: OnceLock<String> = OnceLock::new();
    BED.get_or_init(|| {
        environment("KAFKA_BOOTSTRAP").unwrap_or_else(|| start("kafka", "KAFKA_BOOTSTRAP"))
    })
}

/// The address of a real NATS with JetStream.
pub(crate) fn nats() -> &'static str {
    static BED: OnceLock<String> = OnceLock::new();
    BED.get_or_init(|| environment("NATS_URL").unwrap_or_else(|| start("nats", "NATS_URL")))
}

/// The class path of Kafka's own Java client.
pub(crate) fn kafka_classpath() -> &'static str {
    static JARS: OnceLock<String> = OnceLock::new();
    JARS.get_or_init(|| {
        environment("KAFKA_CLASSPATH")
            .unwrap_or_else(|| value("KAFKA_CLASSPATH", &run("kafka", &["fetch"])))
    })
}

/// A file of tests/beds.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/beds")
        .join(name)
}

/// A server of a test's own, in a directory that goes with it.
pub(crate) struct OwnBed {
    name: &'static str,
    data: tempfile::TempDir,
    pub(crate) address: String,
}

impl OwnBed {
    pub(crate) fn nats(settings: &[&str]) -> Self {
        Self::start("nats", "NATS_URL", settings)
    }

    pub(crate) fn kafka(settings: &[&str]) -> Self {
        Self::start("kafka", "KAFKA_BOOTSTRAP", settings)
    }

    fn start(name: &'static str, variable: &str, settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (directory, owner) = (
            data.path().display().to_string(),
            std::process::id().to_string(),
        );
        let mut arguments = vec!["start", "--data", &directory, "--owner", &owner];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let address = value(variable, &run(name, &arguments));
        Self {
            name,
            data,
            address,
        }
    }

    /// Sends a signal to the server: KILL, STOP, CONT.
    pub(crate) fn signal(&self, signal: &str) {
        let data = self.data.path().display().to_string();
        run(self.name, &["kill", "--data", &data, "--signal", signal]);
    }

    /// Starts the server again, with the same data and port.
    pub(crate) fn restart(&self) {
        let data = self.data.path().display().to_string();
        run(self.name, &["restart", "--data", &data]);
    }
}

impl Drop for OwnBed {
    fn drop(&mut self) {
        let data = self.data.path().display().to_string();
        run(self.name, &["stop", "--data", &data]);
    }
}

/// Starts the server that the whole process shares; its directory is left in the build directory.
fn start(name: &str, variable: &str) -> String {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(super::unique(name));
    let (data, owner) = (data.display().to_string(), std::process::id().to_string());
    value(
        variable,
        &run(name, &["start", "--data", &data, "--owner", &owner]),
    )
}

fn run(name: &str, arguments: &[&str]) -> String {
    let script = path(&format!("{name}.sh"));
    let output = Command::new(&script).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn value(variable: &str, text: &str) -> String {
    let prefix = format!("{variable}=");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
    found
        .unwrap_or_else(|| panic!("no {variable} in {text:?}"))
        .to_owned()
}

#[allow(
    clippy::disallowed_methods,
    reason = "these variables are the interface of tests/beds/run.sh"
)]
fn environment(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}
