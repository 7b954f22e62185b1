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

/// A server or a cluster of a test's own, in a directory that goes with it.
pub(crate) struct OwnBed {
    name: &'static str,
    data: tempfile::TempDir,
    /// Where clients go; of a cluster all servers.
    pub(crate) address: String,
    /// Of Kafka, the listener that no proxy and no login is before; of NATS the same as `address`.
    pub(crate) direct: String,
}

impl OwnBed {
    pub(crate) fn nats(settings: &[&str]) -> Self {
        Self::nats_with(&set(settings))
    }

    pub(crate) fn kafka(settings: &[&str]) -> Self {
        Self::kafka_with(&set(settings))
    }

    /// With further options of tests/beds/nats.sh.
    pub(crate) fn nats_with(options: &[&str]) -> Self {
        Self::start("nats", "NATS_URL", "NATS_URL", options)
    }

    /// With further options of tests/beds/kafka.sh.
    pub(crate) fn kafka_with(options: &[&str]) -> Self {
        Self::start("kafka", "KAFKA_BOOTSTRAP", "KAFKA_DIRECT", options)
    }

    fn start(name: &'static str, variable: &str, direct: &str, options: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (directory, owner) = (
            data.path().display().to_string(),
            std::process::id().to_string(),
        );
        let mut arguments = vec!["start", "--data", &directory, "--owner", &owner];
        arguments.extend(options);
        let answer = run(name, &arguments);
        Self {
            name,
            data,
            address: value(variable, &answer),
            direct: value(direct, &answer),
        }
    }

    /// A file of the bed.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// Sends a signal to the server, or to all of a cluster: KILL, STOP, CONT.
    pub(crate) fn signal(&self, signal: &str) {
        self.act("kill", &["--signal", signal]);
    }

    /// Starts the server or the cluster again, with the same data and ports.
    pub(crate) fn restart(&self) {
        self.act("restart", &[]);
    }

    /// Sends a signal to one member of a cluster; they are counted from 1.
    pub(crate) fn signal_member(&self, id: i32, signal: &str) {
        let command = format!("kill-{}", self.member());
        self.act(&command, &["--id", &id.to_string(), "--signal", signal]);
    }

    /// Starts one member of a cluster again, with the same data and ports.
    pub(crate) fn start_member(&self, id: i32) {
        let command = format!("start-{}", self.member());
        self.act(&command, &["--id", &id.to_string()]);
    }

    fn member(&self) -> &'static str {
        if self.name == "kafka" {
            "broker"
        } else {
            "node"
        }
    }

    fn act(&self, command: &str, options: &[&str]) {
        let data = self.data.path().display().to_string();
        run(self.name, &[&[command, "--data", &data], options].concat());
    }
}

fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let pairs = settings.iter().flat_map(|setting| ["--set", setting]);
    pairs.collect()
}

impl Drop for OwnBed {
    fn drop(&mut self) {
        // Nobody wants its data, and what is left of a cluster takes long to end in order.
        let data = self.data.path().display().to_string();
        let script = path(&format!("{}.sh", self.name));
        // It fails when nothing runs any more.
        let mut kill = Command::new(&script);
        kill.args(["kill", "--data", &data]);
        kill.stderr(std::process::Stdio::null()).status().ok();
        self.act("stop", &[]);
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
