//! Secrets that change while the bridge runs: a sink takes them up without a restart.
//!
//! ```text
//!   the sink's files ── every 10 s ──▶ other content? ──▶ does it open the destination? ──▶ due: the
//!   (secrets, certificates)                               (by a connection beside)          sink is
//!                                                                                           opened anew
//! ```
//!
//! A working connection is left alone until the new content has opened the destination once, so a file
//! that is empty, half written, or not yet known to the server breaks nothing. Content is compared, by a
//! digest, and not a time or a name: an orchestrator swaps a symbolic link above the files. Nothing of a
//! file is ever kept or logged.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::{Deliver, Pause};
use crate::config::SinkConfig;
use crate::sink::{self, ErrorClass, SinkError};

/// A trial that takes longer has failed.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Of each file so much is looked at; a bundle of every public authority is a quarter of it.
const FILE_BYTES: u64 = 1024 * 1024;

/// What the files of a sink held at one moment.
type Print = [u8; 32];

/// What the sink and its watcher know of each other.
#[derive(Clone, Copy, Default)]
struct Known {
    /// As the files were when the sink was opened last.
    in_use: Print,
    /// As they were when they opened the destination in a trial since then.
    good: Option<Print>,
}

impl Known {
    fn is_due(&self) -> bool {
        self.good.is_some_and(|good| good != self.in_use)
    }
}

/// The secrets of one sink; the task that watches them ends with it.
pub(super) struct Rotation {
    files: Arc<[PathBuf]>,
    /// Until it was started, by the first opening.
    watcher: Option<Watcher>,
    known: watch::Receiver<Known>,
    tell: watch::Sender<Known>,
    task: JoinSet<()>,
}

impl Rotation {
    /// Of a sink whose secrets are not watched.
    pub(super) fn none() -> Self {
        let (tell, known) = watch::channel(Known::default());
        Self {
            files: Arc::new([]),
            watcher: None,
            known,
            tell,
            task: JoinSet::new(),
        }
    }

    /// Of a sink with this configuration, looked at so often.
    pub(super) fn of(config: &SinkConfig, every: Duration) -> Self {
        let mut rotation = Self::none();
        rotation.files = config.secret_files().into();
        rotation.watcher = (!rotation.files.is_empty()).then(|| Watcher {
            config: config.clone(),
            files: Arc::clone(&rotation.files),
            every,
            tell: rotation.tell.clone(),
            said: None,
        });
        rotation
    }

    /// To be called before the sink is opened: what is in the files now is what it will have read, or
    /// older, and then one more opening follows.
    async fn opening(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let in_use = look(&self.files).await;
        self.tell.send_replace(Known { in_use, good: None });
        if let Some(watcher) = self.watcher.take() {
            self.task.spawn(watcher.run());
        }
    }

    /// Resolves when the files hold other secrets than the sink has, and those are good.
    pub(super) async fn due(&mut self) {
        if self.known.wait_for(Known::is_due).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Deliver {
    /// Opens the sink anew if its secrets were changed; nothing is under way between two batches.
    pub(super) async fn take_up_secrets(&mut self) -> Result<(), Pause> {
        if !self.rotation.known.borrow().is_due() {
            return Ok(());
        }
        tracing::info!(
            sink = self.metrics.name,
            reason = "rotated",
            "the secrets of this sink were changed and are good; it is opened anew"
        );
        self.metrics.restarts.inc();
        self.open().await
    }

    /// Notes which secrets an opening will read.
    pub(super) async fn note_secrets(&mut self) {
        self.rotation.opening().await;
    }
}

/// Looks at the files of one sink, for as long as it lives.
struct Watcher {
    config: SinkConfig,
    files: Arc<[PathBuf]>,
    every: Duration,
    tell: watch::Sender<Known>,
    /// What was said to be of no use, and why.
    said: Option<(Print, ErrorClass)>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            sleep(self.every).await;
            let found = look(&self.files).await;
            let known = *self.tell.borrow();
            if found == known.in_use {
                self.said = None;
            } else if known.good != Some(found) {
                self.try_out(found).await;
            }
        }
    }

    async fn try_out(&mut self, found: Print) {
        let trial = timeout(TRIAL_TIMEOUT, sink::rehearse(&self.config)).await;
        let late = |_| Err(SinkError::new(ErrorClass::Transient, "no answer in time"));
        match trial.unwrap_or_else(late) {
            Ok(()) => {
                // What was changed meanwhile is tried by the next look.
                if look(&self.files).await == found {
                    self.tell.send_modify(|known| known.good = Some(found));
                }
            }
            Err(error) => self.say_once(found, &error),
        }
    }

    fn say_once(&mut self, found: Print, error: &SinkError) {
        let now = Some((found, error.class));
        if std::mem::replace(&mut self.said, now) != now {
            tracing::warn!(
                sink = self.config.name(),
                class = error.class.as_str(),
                reason = error.message,
                "the secrets of this sink were changed and do not open its destination: a connection \
                 that works goes on with the old ones, and the new ones are tried again; this is said once"
            );
        }
    }
}

/// What the files hold now.
async fn look(files: &Arc<[PathBuf]>) -> Print {
    let files = Arc::clone(files);
    // It fails only while the runtime ends; then nobody asks any more.
    spawn_blocking(move || print_of(&files))
        .await
        .unwrap_or_default()
}

fn print_of(files: &[PathBuf]) -> Print {
    let mut all = Sha256::new();
    for path in files {
        all.update(content(path, true));
    }
    all.finalize().into()
}

/// The digest of one file, or of the files of a folder (as a set of authorities may be given). What
/// cannot be read has one too: then it is different once it can be.
fn content(path: &Path, enter: bool) -> Print {
    let Ok(found) = fs::metadata(path) else {
        return Print::default();
    };
    let mut all = Sha256::new();
    if found.is_dir() && enter {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            all.update(path.as_os_str().as_encoded_bytes());
            all.update(content(&path, false));
        }
    } else if found.is_file() {
        let mut bytes = Zeroizing::new(Vec::new());
        let file = fs::File::open(path).map(|file| file.take(FILE_BYTES));
        if file
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .is_err()
        {
            return Print::default();
        }
        all.update(&*bytes);
    }
    all.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_secret_is_another_by_its_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("one", "first"), ("two", "second"), ("same", "first")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("password"), text).unwrap();
        }
        let files = [at("data").join("password"), at("absent")];
        let mut seen = Vec::new();
        for target in ["one", "two", "same"] {
            symlink(at(target), at("next")).unwrap();
            fs::rename(at("next"), at("data")).unwrap();
            seen.push(print_of(&files));
        }
        assert_ne!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
        fs::write(at("absent"), "").unwrap();
        assert_ne!(print_of(&files), seen[2], "an empty file is no absent one");
    }

    #[test]
    fn a_folder_of_authorities_is_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().to_owned()];
        let empty = print_of(&files);
        fs::write(folder.path().join("a.pem"), "a").unwrap();
        let one = print_of(&files);
        fs::write(folder.path().join("a.pem"), "b").unwrap();
        assert!(empty != one && one != print_of(&files));
    }
}
