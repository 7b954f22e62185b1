//! How the process is told to end: first to drain, then, by a second signal or a deadline, at once.
//!
//! A value that is passed in; nothing here ends anything by itself.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Now,
}

/// The receiving side: cheap to clone, handed to every task.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Phase>);

/// The sending side.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Phase>);

/// A pair of both.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Whether the feed is to be read no longer.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Resolves when the feed is to be read no longer.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when everything is to end at its next safe point.
    pub async fn now(&self) {
        self.reached(Phase::Now).await;
    }

    async fn reached(&self, phase: Phase) {
        // A stopper that is gone will never say it; then the process is ending anyway.
        let mut receiver = self.0.clone();
        if receiver.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stopper {
    /// Asks to drain.
    pub fn drain(&self) {
        self.0
            .send_modify(|phase| *phase = Phase::Draining.max(*phase));
    }

    /// Asks to end at once.
    pub fn now(&self) {
        self.0.send_replace(Phase::Now);
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes over both signals.
    ///
    /// # Errors
    /// When the runtime cannot register a handler.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
