//! The real program, as a process of its own, with a configuration and a folder of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use onboarding_bridge::simulator::Simulator;

/// A running `onboarding-bridge run`. Dropping it kills it.
pub(crate) struct Bridge {
    child: Child,
    log: PathBuf,
    admin: Option<String>,
}

/// A configuration for the simulator's feed, with the journal in `folder` and a free admin port.
///
/// `feed` holds further lines of the section `feed`, `rest` whole sections; `sinks` is the list. The
/// simulated list is never behind its feed, so a test need not wait for another one.
pub(crate) fn config(simulator: &Simulator, folder: &Path, feed: &str, sinks: &str) -> String {
    let mut yaml = format!(
        "feed:\n  url: {}\n  api_key: {}\n",
        simulator.ws_url(),
        onboarding_bridge::simulator::EXAMPLE_KEY
    );
    for line in feed.lines() {
        writeln!(yaml, "  {line}").unwrap();
    }
    write!(
        yaml,
        "reconcile:\n  url: {}\n  {PROMPT}\njournal:\n  path: {}\nadmin:\n  listen: 127.0.0.1:0\nsinks:\n{sinks}\n",
        simulator.rest_url(),
        folder.join("journal.db").display()
    )
    .unwrap();
    yaml
}

/// The list knows what the feed has told.
pub(crate) const PROMPT: &str = "read_after_write: 0s";

/// The list entry of a file sink.
pub(crate) fn file_sink(name: &str, path: &Path) -> String {
    format!("  - {{name: {name}, type: file, path: {}}}", path.display())
}

/// The list entry of a Kafka sink.
pub(crate) fn kafka_sink(name: &str, broker: &str, topic: &str) -> String {
    format!("  - {{name: {name}, type: kafka, brokers: ['{broker}'], topic: {topic}}}")
}

/// The list entry of a NATS sink.
pub(crate) fn nats_sink(name: &str, url: &str, stream: &str, prefix: &str) -> String {
    format!(
        "  - {{name: {name}, type: nats, url: '{url}', stream: {stream}, subject_prefix: {prefix}}}"
    )
}

/// A command of the program that ends by itself: its exit code, its output, its errors.
pub(crate) fn command(arguments: &[&str]) -> (Option<i32>, String, String) {
    command_with(arguments, &[])
}

/// As [`command`], with these variables in its environment.
pub(crate) fn command_with(
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let output = Command::new(program())
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_onboarding-bridge")
}

impl Bridge {
    /// Writes the configuration into the folder and starts the program; it may still fail.
    pub(crate) fn spawn(folder: &Path, yaml: &str) -> Self {
        Self::spawn_with(folder, yaml, &[])
    }

    /// As [`spawn`](Self::spawn), with these variables in its environment.
    fn spawn_with(folder: &Path, yaml: &str, variables: &[(&str, &str)]) -> Self {
        // A test that restarts the bridge has no minute to wait for the vendor.
        std::fs::remove_file(folder.join("journal.db.budget")).unwrap_or_default();
        Self::spawn_again(folder, yaml, variables)
    }

    /// Starts the program in a folder where it ran before, as an orchestrator would.
    pub(crate) fn spawn_again(folder: &Path, yaml: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawn_as(folder, yaml, variables, &[])
    }

    /// As [`spawn_again`](Self::spawn_again), with further arguments.
    fn spawn_as(folder: &Path, yaml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let path = folder.join("bridge.yaml");
        std::fs::write(&path, yaml).unwrap();
        let log = folder.join(format!("{}.log", super::unique("bridge")));
        let output = std::fs::File::create(log.with_extension("out")).unwrap();
        let child = Command::new(program())
            .args(["run", "--config"])
            .arg(path)
            .args(arguments)
            .envs(variables.iter().copied())
            // What it leaves behind by accident is found there.
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            admin: None,
        }
    }

    /// Starts the program and waits for its admin port.
    pub(crate) fn start(folder: &Path, yaml: &str) -> Self {
        Self::start_with(folder, yaml, &[])
    }

    /// As [`start`](Self::start), with these variables in its environment.
    pub(crate) fn start_with(folder: &Path, yaml: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_as(folder, yaml, variables, &[])
    }

    /// As [`start_with`](Self::start_with), with further arguments.
    pub(crate) fn start_as(
        folder: &Path,
        yaml: &str,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        // A test that restarts the bridge has no minute to wait for the vendor.
        std::fs::remove_file(folder.join("journal.db.budget")).unwrap_or_default();
        let mut bridge = Self::spawn_as(folder, yaml, variables, arguments);
        let address = super::eventually("the admin port", || {
            if let Some(status) = bridge.child.try_wait().unwrap() {
                panic!("the bridge has ended with {status}: {}", bridge.log());
            }
            let log = std::fs::read_to_string(&bridge.log).unwrap();
            log.lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                let serving = line["message"].as_str()?.starts_with("serving metrics");
                serving.then(|| line["address"].as_str().unwrap().to_owned())
            })
        });
        bridge.admin = Some(address);
        bridge
    }

    /// Starts the program with a standard error that is read up to the line of the admin port and then never
    /// again, for as long as what is given beside it lives.
    pub(crate) fn start_unread(folder: &Path, yaml: &str) -> (Self, impl Sized) {
        let path = folder.join("bridge.yaml");
        std::fs::write(&path, yaml).unwrap();
        let (errors, writes) = std::io::pipe().unwrap();
        let child = Command::new(program())
            .args(["run", "--config"])
            .arg(path)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writes)
            .spawn()
            .unwrap();
        let mut errors = std::io::BufReader::with_capacity(1, errors);
        let admin = std::io::BufRead::lines(&mut errors).find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
            Some(line["address"].as_str()?.to_owned())
        });
        let bridge = Self {
            child,
            log: folder.join("unread.log"),
            admin: Some(admin.expect("the admin port")),
        };
        (bridge, errors)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Status code and body of a path of the admin port.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        answer(agent().get(self.url(path)).call().unwrap())
    }

    /// Puts a text to a path of the admin port: status code and body.
    pub(crate) fn put(&self, path: &str, text: &str) -> (u16, String) {
        answer(agent().put(self.url(path)).send(text).unwrap())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin.as_deref().unwrap())
    }

    /// `/status`.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// The value of a series, written as `/metrics` does but without the prefix:
    /// `sink_lag_records{sink="kafka"}`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").1;
        let wanted = format!("onboarding_bridge_{series} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&wanted));
        found
            .unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .parse()
            .unwrap()
    }

    /// The sum of all series of a metric, whatever their labels.
    pub(crate) fn metric_sum(&self, name: &str) -> f64 {
        let text = self.get("/metrics").1;
        let wanted = format!("onboarding_bridge_{name}{{");
        let series = text.lines().filter(|line| line.starts_with(&wanted));
        series
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until `/readyz` says yes.
    pub(crate) fn wait_ready(&self) {
        super::eventually("the bridge to be ready", || {
            (self.get("/readyz").0 == 200).then_some(())
        });
    }

    /// Waits until every sink has everything that is in the journal.
    pub(crate) fn wait_delivered(&self) {
        super::eventually("every sink to have everything", || {
            (self.metric_sum("sink_lag_records") == 0.0).then_some(())
        });
    }

    /// Sends a signal: TERM, INT, KILL, STOP, CONT.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end: exit code 0 is required.
    pub(crate) fn terminate(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        super::eventually("the bridge to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> (u16, String) {
    (
        response.status().as_u16(),
        response.body_mut().read_to_string().unwrap(),
    )
}

/// How long anything may take that is not measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again and again until there is an answer; panics after [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, ask)
}

/// The same, for what may rightly take longer.
pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited {patience:?} for {what}");
}
