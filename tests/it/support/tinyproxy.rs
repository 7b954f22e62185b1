//! A real HTTP proxy, tinyproxy, that lets in one login only.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::bridge::eventually;

/// A running proxy on loopback. Dropping it kills it, and every connection through it.
pub(crate) struct Tinyproxy {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Tinyproxy {
    /// Lets in this user with this password.
    pub(crate) fn start(user: &str, password: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::start_at(port, user, password)
    }

    /// The same proxy with another login.
    pub(crate) fn restart(self, user: &str, password: &str) -> Self {
        let port = self.port;
        drop(self);
        Self::start_at(port, user, password)
    }

    fn start_at(port: u16, user: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("tinyproxy.conf");
        let log = folder.path().join("log");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nBasicAuth {user} {password}\nLogLevel Connect\nLogFile \"{}\"\n",
            log.display()
        );
        std::fs::write(&settings, text).unwrap();
        let child = Command::new("tinyproxy")
            .args(["-d", "-c", settings.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| match error.kind() {
                ErrorKind::NotFound => panic!("tinyproxy is missing; .ci/run installs it"),
                _ => panic!("tinyproxy: {error}"),
            });
        let proxy = Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            child,
            folder,
        };
        eventually("tinyproxy", || TcpStream::connect(("127.0.0.1", port)).ok());
        proxy
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// How often it was asked to connect to this `host:port`.
    pub(crate) fn asked_for(&self, target: &str) -> usize {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.matches(&format!("CONNECT {target} HTTP")).count()
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
