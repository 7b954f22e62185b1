//! One process under test: its start, what it takes of the machine, its end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bridge,
    Script,
    Redpanda,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Script => "Python script, nothing durable",
            Self::Redpanda => "Redpanda Connect, nothing durable",
        }
    }
}

/// Where a candidate is to publish.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) kafka: Vec<(String, String)>,
    pub(crate) nats: Vec<(String, String)>,
    pub(crate) file: Option<PathBuf>,
}

impl Target {
    /// The one bus, and the server and the topic or subjects there.
    fn only(&self) -> (&'static str, &(String, String)) {
        match (&self.kafka[..], &self.nats[..]) {
            ([kafka], []) => ("kafka", kafka),
            ([], [nats]) => ("jetstream", nats),
            _ => panic!("what is compared has one destination"),
        }
    }
}

/// The files of benches/compare.
fn compare(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare");
    folder.join(name)
}

/// A process that runs until it is told to end.
pub(crate) struct Candidate {
    child: Child,
    pub(crate) started: Instant,
}

impl Candidate {
    /// Starts the bridge with its files in this folder.
    pub(crate) fn bridge(program: &Path, folder: &Path, vendor: &str, target: &Target) -> Self {
        std::fs::write(folder.join("key"), "bench").expect("a file");
        let config = folder.join("bridge.yaml");
        std::fs::write(&config, yaml(folder, vendor, target)).expect("a file");
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(config);
        Self::start(command, &folder.join("log"))
    }

    /// Starts the Python script for the one destination.
    pub(crate) fn script(python: &Path, folder: &Path, vendor: &str, target: &Target) -> Self {
        let (bus, (server, place)) = target.only();
        let mut command = Command::new(python);
        command
            .arg(compare(&format!("{bus}.py")))
            .arg(format!("ws://{vendor}/ws"))
            .arg(server)
            .arg(place);
        Self::start(command, &folder.join("log"))
    }

    /// Starts Redpanda Connect for the one destination.
    pub(crate) fn redpanda(program: &Path, folder: &Path, vendor: &str, target: &Target) -> Self {
        let (bus, (server, place)) = target.only();
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg(compare(&format!("redpanda-{bus}.yaml")))
            .env("FEED_URL", format!("ws://{vendor}/ws"))
            .env("SERVER", server)
            .env("PLACE", place);
        Self::start(command, &folder.join("log"))
    }

    fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a log");
        let started = Instant::now();
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a process");
        Self { child, started }
    }

    /// User and system seconds until now.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }

    /// Resident memory now and at its highest, in MiB.
    pub(crate) fn memory(&self) -> (f64, f64) {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
            number.unwrap_or_default() / 1024.0
        };
        (figure("VmRSS:"), figure("VmHWM:"))
    }

    /// CPU seconds of each thread by its name, the most first.
    pub(crate) fn threads(&self) -> Vec<(String, f64)> {
        let mut threads = std::collections::BTreeMap::<String, f64>::new();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            *threads.entry(name.trim().to_owned()).or_default() += seconds(&stat);
        }
        let mut threads: Vec<_> = threads.into_iter().collect();
        threads.sort_by(|one, other| other.1.total_cmp(&one.1));
        threads
    }

    /// Asks it to end; how long that took.
    pub(crate) fn end(mut self) -> Duration {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill");
        while self.child.try_wait().expect("a child").is_none() {
            if asked.elapsed() > Duration::from_secs(60) {
                self.child.kill().expect("a child");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        asked.elapsed()
    }
}

/// A run that failed leaves nothing behind.
impl Drop for Candidate {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn cpu_of(pid: u32) -> f64 {
    seconds(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())
}

/// User and system time of a line of /proc, of which a tick is a hundredth of a second.
fn seconds(stat: &str) -> f64 {
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after.split(' ').skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn yaml(folder: &Path, vendor: &str, target: &Target) -> String {
    let folder = folder.display();
    let mut yaml = format!(
        "feed:\n  url: ws://{vendor}/ws\n  api_key_file: {folder}/key\n\
         reconcile:\n  url: http://{vendor}\n  first_start: adopt\n\
         journal:\n  path: {folder}/journal.db\n\
         admin:\n  listen: 127.0.0.1:0\nsinks:\n"
    );
    for (index, (brokers, topic)) in target.kafka.iter().enumerate() {
        yaml += &format!(
            "  - {{name: kafka{index}, type: kafka, brokers: [\"{brokers}\"], topic: {topic}}}\n"
        );
    }
    for (index, (url, prefix)) in target.nats.iter().enumerate() {
        yaml += &format!(
            "  - {{name: nats{index}, type: nats, url: \"{url}\", stream: {}, subject_prefix: {prefix}}}\n",
            super::consumer::STREAM
        );
    }
    if let Some(path) = &target.file {
        yaml += &format!("  - {{name: file, type: file, path: {}}}\n", path.display());
    }
    yaml
}
