//! A TCP proxy that holds back what a client sends, and lets it arrive even when the client is dead: the
//! network in which a killed process still speaks.
//!
//! It never changes, drops or reorders a byte of one connection, and never delays what a server says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// One read, and how many of them may wait in one connection; beyond that the client waits.
const CHUNK: usize = 64 * 1024;
const QUEUE: usize = 4096;

/// A port on loopback that leads to a server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    listener: Option<TcpListener>,
    state: Arc<State>,
    task: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// What is read from now on arrives so much later.
    delay: Mutex<Duration>,
    /// Connections of clients end when this changes; what they sent still arrives.
    cut: watch::Sender<u64>,
    /// Bytes that were read and not yet handed on.
    held: AtomicU64,
}

impl Proxy {
    /// Takes a port, at which nobody is served yet.
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            listener: Some(listener),
            state: Arc::default(),
            task: JoinSet::new(),
        }
    }

    /// Serves from now on, by this server.
    pub(crate) fn lead_to(&mut self, server: &str) {
        let (server, state): (SocketAddr, _) = (server.parse().unwrap(), Arc::clone(&self.state));
        let listener = self.listener.take().unwrap();
        self.task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(client, server, Arc::clone(&state)));
            }
        });
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What clients send from now on arrives so much later.
    pub(crate) fn hold_back(&self, delay: Duration) {
        *self.state.delay() = delay;
    }

    /// Ends every connection as its client sees it; what it sent before still arrives in its time.
    pub(crate) fn cut(&self) {
        self.state.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Bytes that are on their way at this moment.
    pub(crate) fn held(&self) -> u64 {
        self.state.held.load(Ordering::Relaxed)
    }
}

impl State {
    fn delay(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.delay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, until the server has closed it or has got the client's last byte.
async fn serve(client: TcpStream, server: SocketAddr, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // Both fail only on a connection that is gone, which the next read says.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (dead, mut died) = watch::channel(false);
    let mut cut = state.cut.subscribe();
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            // An error is the end as well: a killed client resets its connection.
            let bytes = tokio::select! {
                bytes = read(&mut from_client, &mut buffer) => bytes.unwrap_or(0),
                _ = cut.changed() => 0,
            };
            if bytes == 0 {
                break;
            }
            state.held.fetch_add(bytes as u64, Ordering::Relaxed);
            let at = Instant::now() + *state.delay();
            if queue.send((at, buffer[..bytes].to_vec())).await.is_err() {
                break;
            }
        }
        drop((queue, from_client));
        dead.send_replace(true);
    };
    let writing = async {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            let written = to_server.write_all(&bytes).await;
            state.held.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
            if written.is_err() {
                due.close();
            }
        }
        // So that the server sees the last byte before the end.
        to_server.shutdown().await.ok();
    };
    let answering = async {
        let mut buffer = vec![0; CHUNK];
        let mut client = Some(to_client);
        loop {
            let bytes = tokio::select! {
                bytes = read(&mut from_server, &mut buffer) => bytes.unwrap_or(0),
                _ = died.wait_for(|dead| *dead), if client.is_some() => {
                    client = None;
                    continue;
                }
            };
            if bytes == 0 {
                break;
            }
            // What is said to the dead must be taken from the server, though nobody listens.
            if let Some(to_client) = &mut client
                && to_client.write_all(&buffer[..bytes]).await.is_err()
            {
                client = None;
            }
        }
    };
    tokio::join!(reading, writing, answering);
}

#[allow(
    clippy::disallowed_methods,
    reason = "a short read is what a proxy hands on"
)]
async fn read(from: &mut (impl AsyncReadExt + Unpin), buffer: &mut [u8]) -> std::io::Result<usize> {
    from.read(buffer).await
}
