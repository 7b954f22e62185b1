//! A way between two processes that can be made bad: slow, silent, cut, or holding back bytes, also those
//! of a client that is dead.
//!
//! One listener before one server. What was taken from a client that then closes is still brought to the
//! server, after its delay: that is what a network does. Only a cut takes it away.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are taken at a time.
const CHUNK: usize = 16 * 1024;

/// Chunks that may be on their way in one direction of one connection; then the sender has to wait.
const ON_THE_WAY: usize = 4096;

/// How the way is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Way {
    /// Nothing is taken or brought, and nobody is told: half-open.
    pub(crate) silent: bool,
    /// New connections are refused by a reset.
    pub(crate) closed: bool,
    /// How late bytes to the server are, and those from it.
    pub(crate) delay: [Duration; 2],
    /// Bytes per second in each direction of each connection.
    pub(crate) bandwidth: Option<u32>,
}

/// A listener before a server. Dropping it ends every connection.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    cut: Arc<Notify>,
    upstream: Arc<Mutex<Option<SocketAddr>>>,
    _listening: JoinSet<()>,
}

impl Proxy {
    /// Listens; the server may be named later.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, cut, upstream) = (watch::Sender::default(), Arc::default(), Arc::default());
        let mut listening = JoinSet::new();
        listening.spawn(listen(
            listener,
            way.subscribe(),
            Arc::clone(&cut),
            Arc::clone(&upstream),
        ));
        Self {
            address,
            way,
            cut,
            upstream,
            _listening: listening,
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names the server.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        *locked(&self.upstream) = Some(server);
    }

    /// How the way is from now on, also for open connections.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Resets every connection, on both sides; what was on its way is gone.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

async fn listen(
    listener: TcpListener,
    way: watch::Receiver<Way>,
    cut: Arc<Notify>,
    upstream: Arc<Mutex<Option<SocketAddr>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let server = *locked(&upstream);
                let (way, cut) = (way.clone(), Arc::clone(&cut));
                connections.spawn(async move { connection(client, server, way, cut).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until both sides have closed, one broke, or it is cut.
async fn connection(
    client: TcpStream,
    server: Option<SocketAddr>,
    mut way: watch::Receiver<Way>,
    cut: Arc<Notify>,
) {
    let is_cut = cut.notified();
    let closed = way.borrow_and_update().closed;
    // A server that is away refuses; so does the proxy before it.
    let connected = match server {
        Some(server) if !closed => TcpStream::connect(server).await.ok(),
        _ => None,
    };
    let Some(server) = connected else {
        client.set_zero_linger().ok();
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let mut directions = JoinSet::new();
    let mut there = Direction::of(0, &way, &mut directions, client_reads, server_writes);
    let mut back = Direction::of(1, &way, &mut directions, server_reads, client_writes);
    tokio::select! {
        () = is_cut => {
            there.reset().await;
            back.reset().await;
        }
        () = async { while directions.join_next().await.is_some() {} } => {}
    }
}

/// One direction of one connection: taken at one end, brought to the other when it is due.
struct Direction(watch::Sender<bool>);

impl Direction {
    fn of(
        which: usize,
        way: &watch::Receiver<Way>,
        tasks: &mut JoinSet<()>,
        from: OwnedReadHalf,
        to: OwnedWriteHalf,
    ) -> Self {
        let (chunks, due) = mpsc::channel(ON_THE_WAY);
        let reset = watch::Sender::new(false);
        let ended = reset.subscribe();
        tasks.spawn(take(which, way.clone(), from, chunks));
        tasks.spawn(bring(way.clone(), to, due, ended));
        Self(reset)
    }

    /// Ends the direction by a reset.
    async fn reset(&mut self) {
        self.0.send_replace(true);
        self.0.closed().await;
    }
}

/// Takes bytes and notes when they are due. Ends when the sender has closed.
async fn take(
    which: usize,
    mut way: watch::Receiver<Way>,
    mut from: OwnedReadHalf,
    chunks: mpsc::Sender<(Instant, Vec<u8>)>,
) {
    loop {
        if way.wait_for(|way| !way.silent).await.is_err() {
            return;
        }
        let mut chunk = Vec::with_capacity(CHUNK);
        match from.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let now = *way.borrow();
        if let Some(bandwidth) = now.bandwidth {
            let seconds = chunk.len() as f64 / f64::from(bandwidth);
            sleep(Duration::from_secs_f64(seconds)).await;
        }
        let due = Instant::now() + now.delay[which];
        if chunks.send((due, chunk)).await.is_err() {
            return;
        }
    }
}

/// Brings bytes when they are due, then closes, as the sender did.
async fn bring(
    mut way: watch::Receiver<Way>,
    mut to: OwnedWriteHalf,
    mut due: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut reset: watch::Receiver<bool>,
) {
    let brought = async {
        while let Some((at, chunk)) = due.recv().await {
            sleep_until(at).await;
            if way.wait_for(|way| !way.silent).await.is_err() || to.write_all(&chunk).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = brought => {}
        Ok(_) = reset.wait_for(|reset| *reset) => {
            to.as_ref().set_zero_linger().ok();
            // Dropped otherwise, it would say goodbye first.
            to.forget();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
