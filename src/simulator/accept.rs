//! The port: takes connections and tells WebSocket from REST by the first bytes of each.
//!
//! Every connection is a task of this one and ends with it at the latest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::hub::Hub;
use super::rest;
use super::session::Session;

/// The path of the WebSocket.
pub(super) const PATH: &str = "/ws";
/// Connections of both kinds; those above are dropped.
const CONNECTIONS_MAX: usize = 512;
/// How long a client may take to send the head of its request.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long the connections may take to end at a shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// Largest frame that a client may send: a command.
const COMMAND_BYTES: usize = 64 * 1024;

/// Runs until the hub stops, then waits for the connections to end.
pub(super) async fn run(listener: TcpListener, hub: Arc<Hub>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if hub.down.load(Ordering::SeqCst) => hang_up(&stream),
                Ok((stream, peer)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve(stream, peer, Arc::clone(&hub)));
                }
                Ok(_) => tracing::warn!("too many connections, dropped one"),
                Err(error) => {
                    tracing::warn!(%error, "could not accept");
                    sleep(Duration::from_millis(20)).await;
                }
            },
            Some(ended) = connections.join_next() => report(ended),
            () = hub.stopped() => break,
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(SHUTDOWN_WAIT, all_ended).await.is_err() {
        tracing::warn!("connections did not end in time");
    }
}

/// Prepares the stream to be reset when it is dropped.
pub(super) fn hang_up(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::warn!(%error, "could not prepare a reset");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(
            reason = crate::process::end_of(&error),
            "a connection's task failed"
        );
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, hub: Arc<Hub>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no nodelay");
    }
    match timeout(HEAD_WAIT, asks_for_websocket(&stream)).await {
        Ok(true) => upgrade(stream, peer, hub).boxed().await,
        Ok(false) => rest::serve(stream, peer.ip(), hub).boxed().await,
        Err(_) => tracing::debug!("a client sent no request"),
    }
}

/// Looks at the first bytes without taking them.
async fn asks_for_websocket(stream: &TcpStream) -> bool {
    let wanted = format!("GET {PATH}");
    let mut head = [0; 16];
    loop {
        let seen = match stream.peek(&mut head).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => head.get(..length).unwrap_or_default(),
        };
        let same = seen
            .iter()
            .zip(wanted.as_bytes())
            .all(|(seen, wanted)| seen == wanted);
        match seen.get(wanted.len()) {
            _ if !same => return false,
            Some(after) => return matches!(after, b' ' | b'?'),
            // A head in pieces: the peek would return at once with the same piece.
            None => sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn upgrade(stream: TcpStream, peer: SocketAddr, hub: Arc<Hub>) {
    let place = hub.register(peer.ip());
    let refused = place.is_none();
    if refused && hub.down.load(Ordering::SeqCst) {
        return hang_up(&stream);
    }
    #[allow(
        clippy::result_large_err,
        reason = "the form that the library asks for"
    )]
    let answer = |_: &Request, response: Response| -> Result<Response, ErrorResponse> {
        if refused {
            let mut error = ErrorResponse::new(Some(rest::LIMITED.to_owned()));
            *error.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            return Err(error);
        }
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .max_message_size(Some(COMMAND_BYTES))
        .max_frame_size(Some(COMMAND_BYTES));
    let socket = timeout(
        HEAD_WAIT,
        accept_hdr_async_with_config(stream, answer, Some(config)),
    );
    match (socket.await, place) {
        (Ok(Ok(socket)), Some(place)) => Session::new(socket, place).run().await,
        (Ok(Err(error)), _) => tracing::debug!(%error, "no WebSocket came of it"),
        (Ok(Ok(_)), None) | (Err(_), _) => tracing::debug!("no WebSocket came of it"),
    }
}
