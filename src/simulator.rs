//! The vendor's server on loopback: WebSocket at `/ws` and the REST list, on one port.
//!
//! It serves the command `simulate`, the demo and the integration tests, and misbehaves on demand in
//! the ways that the vendor's pages allow. Every person in it is invented. It shares no code with
//! the bridge's own reading of the protocol, so that a misreading there cannot hide here.
//!
//! ```text
//!   accept ─┬─ /ws ──────▶ session ─ command (login, subscribe) ─ outbox (numbers, faults) ─▶ client
//!           ├─ /_control ─▶ endpoint ─ action ─▶ Control
//!           └─ else ─────▶ rest ── list, chunk by chunk ─▶ client
//!   generator | script | replay, Control ──▶ hub ── batch of events ──▶ each session that is subscribed
//!                                             ├─ world: every user, by its index and a counter
//!                                             └─ deaf: what reached nobody, and why
//! ```

mod accept;
mod action;
mod batch;
mod catalogue;
mod command;
mod control;
mod deaf;
mod endpoint;
mod faults;
mod generator;
mod hub;
mod limits;
mod modes;
mod noise;
mod odd;
mod options;
mod outbox;
mod person;
mod registry;
mod replay;
mod rest;
mod script;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod wire;
mod world;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Secret;
use crate::process;

pub use action::{Action, ActionError};
pub use catalogue::{Fault, known_faults};
pub use control::{Control, UserState};
pub use deaf::{DeafCause, DeafSpan, DeafSpans};
pub use options::{
    AuthMode, BlockForm, DisconnectBy, DripBy, EXAMPLE_KEY, EnterpriseForm, FrameFaults,
    LimitOptions, LinkFaults, ListFaults, Noise, Oddity, Options, PlayOptions, RestMode,
    SubscribeMode, UpgradeMode,
};
pub use script::{Script, ScriptError};
pub use stats::{Sent, Stats};

use hub::Hub;

/// A running simulated vendor. Dropping it aborts it; [`shutdown`](Self::shutdown) ends it in order.
pub struct Simulator {
    addr: SocketAddr,
    hub: Arc<Hub>,
    /// The port and the generator.
    tasks: JoinSet<()>,
}

impl Simulator {
    /// Binds the port and starts. Fails if the port is taken or the key file cannot be read.
    pub async fn start(options: Options) -> Result<Self, io::Error> {
        let key = match &options.api_key_file {
            Some(path) => Secret::new(std::fs::read_to_string(path)?.trim().to_owned()),
            None => options.api_key.clone(),
        };
        let mut options = options;
        let play = Play::load(&mut options)?;
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let hub = Arc::new(Hub::new(options, key));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::run(listener, Arc::clone(&hub)));
        match play {
            Play::World => tasks.spawn(generator::run(Arc::clone(&hub))),
            Play::Script(script) => tasks.spawn(script::player::run(Arc::clone(&hub), script)),
            Play::Capture(capture) => tasks.spawn(replay::run(Arc::clone(&hub), capture)),
        };
        Ok(Self { addr, hub, tasks })
    }

    /// The port that it listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `ws://127.0.0.1:PORT/ws`, for `feed.url`.
    pub fn ws_url(&self) -> String {
        format!("ws://{}{}", self.addr, accept::PATH)
    }

    /// `http://127.0.0.1:PORT`, for `reconcile.url`.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The handle that drives it.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.hub))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.hub.stats.borrow().clone()
    }

    /// `http://127.0.0.1:PORT/_control`, where it is driven by HTTP.
    pub fn control_url(&self) -> String {
        format!("http://{}{}", self.addr, endpoint::PATH)
    }

    /// What [`Control::sent`] says.
    pub fn sent(&self) -> Vec<Sent> {
        self.hub.ledger.sent()
    }

    /// Closes every connection with 1001, what was sent before it flushed, and stops.
    pub async fn shutdown(mut self) {
        self.hub.pace.send_replace(generator::Pace::Paused);
        self.hub.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(
                    reason = process::end_of(&error),
                    "a task of the simulator failed"
                );
            }
        }
    }
}

/// What makes the world go on.
enum Play {
    /// The generator, at its rate.
    World,
    Script(Script),
    Capture(replay::Capture),
}

impl Play {
    /// Reads the file that is to be played, if there is one.
    fn load(options: &mut Options) -> Result<Self, io::Error> {
        if let Some(path) = &options.play.script {
            let text = std::fs::read_to_string(path)?;
            let script = Script::parse(&text, options.seed).map_err(io::Error::other)?;
            // The script says when the world stands still.
            options.paused = false;
            options.rate = script.rate.unwrap_or(options.rate);
            return Ok(Self::Script(script));
        }
        match &options.play.replay {
            Some(path) => Ok(Self::Capture(replay::Capture::open(path)?)),
            None => Ok(Self::World),
        }
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
