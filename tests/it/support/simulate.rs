//! `simulate` as a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::eventually;

/// A running `onboarding-bridge simulate`. Dropping it kills it.
pub(crate) struct Simulate {
    child: Child,
    /// For `feed.url`.
    pub(crate) ws_url: String,
    /// For `reconcile.url`.
    pub(crate) rest_url: String,
}

impl Simulate {
    /// Starts it on a free port.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onboarding-bridge"))
            .args(["simulate", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut value = |name: &str| {
            let line = lines.next().unwrap_or_else(|| panic!("no {name}"));
            let line = line.unwrap();
            line.strip_prefix(name).unwrap().to_owned()
        };
        Self {
            ws_url: value("feed.url: "),
            rest_url: value("reconcile.url: "),
            child,
        }
    }

    /// What the control endpoint answers.
    pub(crate) fn control(&self, what: &str) -> Value {
        let url = format!("{}/_control/{what}", self.rest_url);
        let mut answer = ureq::get(url).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// Tells the control endpoint to do something; its status and its answer.
    pub(crate) fn act(&self, action: &str, arguments: &Value) -> (u16, Value) {
        let url = format!("{}/_control/{action}", self.rest_url);
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = ureq::Agent::from(config.build());
        let mut answer = agent.post(url).send(arguments.to_string()).unwrap();
        let body = answer.body_mut().read_to_string().unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Waits until a script or a capture is over.
    pub(crate) fn wait_played(&self) {
        eventually("the end of what is played", || {
            (self.control("stats")["played"] == true).then_some(())
        });
    }

    /// SIGTERM, and waits for the end: exit code 0 is required.
    pub(crate) fn terminate(mut self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(killed.unwrap().success());
        let ended = eventually("the simulator to end", || self.child.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Simulate {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
