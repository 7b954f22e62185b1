//! The port: takes connections and tells WebSocket, REST and control by the first bytes of each.
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

use super::endpoint;
use super::hub::Hub;
use super::options::{BlockForm, UpgradeMode};
use super::rest;
use super::session::Session;
use super::wire::Wire;

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
    let asked = timeout(HEAD_WAIT, asked(&stream)).await;
    let down = hub.down.load(Ordering::SeqCst);
    match asked {
        Ok(Asked::Control) => endpoint::serve(stream, hub).boxed().await,
        Ok(Asked::WebSocket | Asked::Rest) if down => hang_up(&stream),
        Ok(Asked::WebSocket) => upgrade(stream, peer, hub).boxed().await,
        Ok(Asked::Rest) => rest::serve(stream, peer.ip(), hub).boxed().await,
        Err(_) => tracing::debug!("a client sent no request"),
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    WebSocket,
    Control,
    Rest,
}

/// Looks at the first bytes without taking them.
async fn asked(stream: &TcpStream) -> Asked {
    let mut head = [0; 24];
    loop {
        let seen = match stream.peek(&mut head).await {
            Ok(0) | Err(_) => return Asked::Rest,
            Ok(length) => head.get(..length).unwrap_or_default(),
        };
        match told(seen) {
            Some(asked) => return asked,
            // A head in pieces: the peek would return at once with the same piece.
            None => sleep(Duration::from_millis(1)).await,
        }
    }
}

/// What these first bytes ask for, if they are enough to tell.
fn told(seen: &[u8]) -> Option<Asked> {
    let mut open = false;
    for (start, asked) in [
        (format!("GET {PATH}"), Asked::WebSocket),
        (format!("GET {}", endpoint::PATH), Asked::Control),
        (format!("POST {}", endpoint::PATH), Asked::Control),
    ] {
        let start = start.as_bytes();
        let same = seen.iter().zip(start).all(|(seen, start)| seen == start);
        match seen.get(start.len()) {
            Some(b' ' | b'?' | b'/') if same => return Some(asked),
            None => open |= same,
            Some(_) => {}
        }
    }
    (!open).then_some(Asked::Rest)
}

/// Takes what the client says and answers nothing, until it or the simulator goes.
async fn leave_waiting(stream: &TcpStream, hub: &Hub) {
    let mut heard = [0; 1024];
    let heard = async {
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut heard) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = heard => {}
        () = hub.stopped() => {}
    }
}

/// The status with which an upgrade is refused; 101 stands for none.
const fn refusal(mode: UpgradeMode) -> StatusCode {
    match mode {
        UpgradeMode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        UpgradeMode::Forbidden => StatusCode::FORBIDDEN,
        UpgradeMode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        UpgradeMode::Unauthorized => StatusCode::UNAUTHORIZED,
        UpgradeMode::Ok | UpgradeMode::Drop | UpgradeMode::Silence => {
            StatusCode::SWITCHING_PROTOCOLS
        }
    }
}

async fn upgrade(stream: TcpStream, peer: SocketAddr, hub: Arc<Hub>) {
    let (mode, form) = {
        let modes = hub.modes();
        (modes.upgrade, modes.block_form)
    };
    let place = match mode {
        UpgradeMode::Ok => hub.register(peer.ip()),
        UpgradeMode::Drop => return hang_up(&stream),
        UpgradeMode::Silence => return leave_waiting(&stream, &hub).await,
        UpgradeMode::TooManyRequests
        | UpgradeMode::Forbidden
        | UpgradeMode::Unavailable
        | UpgradeMode::Unauthorized => None,
    };
    let blocked = place.is_none() && mode == UpgradeMode::Ok;
    if blocked && (hub.down.load(Ordering::SeqCst) || form == BlockForm::Drop) {
        return hang_up(&stream);
    }
    let refused = match (blocked, place.is_none()) {
        (true, _) => Some(rest::block_status(form)),
        (false, true) => Some(refusal(mode)),
        (false, false) => None,
    };
    #[allow(
        clippy::result_large_err,
        reason = "the form that the library asks for"
    )]
    let answer = |_: &Request, response: Response| -> Result<Response, ErrorResponse> {
        if let Some(status) = refused {
            let mut error = ErrorResponse::new(Some(rest::refusal(status)));
            *error.status_mut() = status;
            return Err(error);
        }
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .max_message_size(Some(COMMAND_BYTES))
        .max_frame_size(Some(COMMAND_BYTES));
    let wire = Wire::new(stream, Arc::clone(&hub.withhold_pongs));
    let socket = timeout(
        HEAD_WAIT,
        accept_hdr_async_with_config(wire, answer, Some(config)),
    );
    match (socket.await, place) {
        (Ok(Ok(mut socket)), Some(place)) => {
            socket.get_mut().begins_frames();
            Session::new(socket, place).run().await;
        }
        (Ok(Err(error)), _) => tracing::debug!(%error, "no WebSocket came of it"),
        (Ok(Ok(_)), None) | (Err(_), _) => tracing::debug!("no WebSocket came of it"),
    }
}
