//! The real program as a process: started, signalled, asked by its admin port. Never asked politely to
//! tell more than an operator sees.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take that is not measured; the machine may be a slow one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Another build of the program, such as a release; none is the one that was built with this harness.
pub(crate) static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// A running `onboarding-bridge run`. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Bridge {
    child: Child,
    log: PathBuf,
}

impl Bridge {
    /// Starts it with this configuration; `fail_point` names where it is to die.
    pub(crate) fn spawn(config: &Path, log: PathBuf, fail_point: Option<&str>) -> Self {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log);
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_onboarding-bridge"));
        let program = PROGRAM.get().cloned().unwrap_or_else(built);
        // The harness kills more often in a minute than the vendor lets anyone connect; that the limits
        // are kept through restarts has a test of its own.
        let ledger = config.with_file_name("journal.db.budget");
        std::fs::remove_file(ledger).unwrap_or_default();
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.unwrap());
        if let Some(point) = fail_point {
            command.env("ONBOARDING_BRIDGE_FAIL_POINT", point);
        }
        Self {
            child: command.spawn().unwrap(),
            log,
        }
    }

    /// The end of what it has logged.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end; `None` when it does not come within `patience`.
    pub(crate) async fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Panics if it has ended.
    pub(crate) fn must_live(&mut self) {
        if let Some(status) = self.ended() {
            panic!("the bridge ended by itself: {status}\n{}", self.log_tail());
        }
    }

    /// Sends a signal: TERM, STOP, CONT.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// `kill -9`, also of a stopped one; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.must_live();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; exit code 0 is required.
    pub(crate) async fn terminate(mut self) {
        self.must_live();
        self.signal("TERM");
        let status = self.wait(PATIENCE).await;
        assert!(
            status.is_some_and(|status| status.success()),
            "after SIGTERM: {status:?}\n{}",
            self.log_tail()
        );
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What `/metrics` said at one moment.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks; `None` while nobody answers.
    pub(crate) async fn ask(port: u16) -> Option<Self> {
        let asked = tokio::task::spawn_blocking(move || get(port, "/metrics"));
        asked.await.unwrap().ok().map(Self)
    }

    /// The value of a series, written as there but without the prefix.
    pub(crate) fn get(&self, series: &str) -> f64 {
        let wanted = format!("onboarding_bridge_{series} ");
        let found = self.0.lines().find_map(|line| line.strip_prefix(&wanted));
        let found = found.unwrap_or_else(|| panic!("no series {series}"));
        found.parse().unwrap()
    }

    /// The sum of all series of a metric.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let wanted = format!("onboarding_bridge_{name}{{");
        let series = self.0.lines().filter(|line| line.starts_with(&wanted));
        series
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    use std::io::Write as _;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.starts_with("HTTP/1.0 200") || text.starts_with("HTTP/1.1 200") {
        Ok(text)
    } else {
        Err(std::io::Error::other("no answer"))
    }
}
