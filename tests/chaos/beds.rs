//! Real servers of a run's own, by the scripts in tests/beds: started, killed, stopped, started again on
//! the same data. They end with this process, however it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One server, or a cluster of them, in a directory of its own.
#[derive(Debug)]
pub(crate) struct Bed {
    script: PathBuf,
    data: PathBuf,
    output: String,
}

impl Bed {
    /// Starts `tests/beds/NAME.sh`; returns when it is ready.
    pub(crate) fn start(name: &str, folder: &Path, options: &[String]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/beds/{name}.sh"));
        let mut bed = Self {
            script,
            data: folder.join(name),
            output: String::new(),
        };
        let owner = std::process::id().to_string();
        let mut arguments = vec!["--owner", &owner];
        arguments.extend(options.iter().map(String::as_str));
        bed.output = bed.run("start", &arguments);
        bed
    }

    /// What the script said of the server: `KAFKA_BOOTSTRAP`, `NATS_URL`.
    pub(crate) fn value(&self, name: &str) -> String {
        let prefix = format!("{name}=");
        let found = self
            .output
            .lines()
            .find_map(|line| line.strip_prefix(&prefix));
        found
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.output))
            .to_owned()
    }

    /// A command of the script, such as `kill` or `restart`.
    pub(crate) fn run(&self, command: &str, options: &[&str]) -> String {
        let output = Command::new(&self.script)
            .args([command, "--data"])
            .arg(&self.data)
            .args(options)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{} {command} {options:?}: {}",
            self.script.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same without holding up the runtime.
    pub(crate) async fn command(&self, command: &str, options: &[&str]) {
        tokio::task::block_in_place(|| self.run(command, options));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let stopped = Command::new(&self.script)
            .args(["stop", "--data"])
            .arg(&self.data)
            .output();
        // A server that cannot be stopped ends with this process.
        stopped.ok();
    }
}

/// A first port of `n` neighbours that are free now, below the range of outgoing connections.
pub(crate) fn free_ports(n: u16) -> u16 {
    loop {
        let first = 19_000 + rand::random::<u16>() % 10_000;
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + n).all(free) {
            return first;
        }
    }
}
