//! The vendor's server on loopback: WebSocket at `/ws` and the REST list, on one port.
//!
//! It serves the command `simulate`, the demo and the integration tests, and misbehaves on demand in
//! the ways that the vendor's pages allow. Every person in it is invented. It shares no code with
//! the bridge's own reading of the protocol, so that a misreading there cannot hide here.
//!
//! ```text
//!   accept ─┬─ /ws ──▶ session ─ command (login, subscribe) ─ outbox (numbers, faults) ─▶ client
//!           └─ else ─▶ rest ── list, chunk by chunk ─▶ client
//!   generator, Control ──▶ hub ── batch of events ──▶ each session that is subscribed
//!                           └─ world: every user, by its index and a counter
//! ```

mod accept;
mod batch;
mod command;
mod control;
mod faults;
mod generator;
mod hub;
mod limits;
mod options;
mod outbox;
mod person;
mod registry;
mod rest;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Secret;
use crate::process;

pub use control::{Control, UserState};
pub use options::{
    AuthMode, DisconnectBy, EXAMPLE_KEY, EnterpriseForm, Options, RestMode, SubscribeMode,
};
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
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let hub = Arc::new(Hub::new(options, key));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::run(listener, Arc::clone(&hub)));
        tasks.spawn(generator::run(Arc::clone(&hub)));
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

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
