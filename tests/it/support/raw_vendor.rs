//! A vendor that can be bad in ways that no server library allows: half a frame, fragments without end, a
//! connection that is dropped in the middle of an answer. One connection at a time; a test plays it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use onboarding_bridge::event::FEED_NAME;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::bridge::PATIENCE;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CONTINUED: u8 = 0x0;
pub(crate) const PING: u8 = 0x9;

/// A port of a vendor.
pub(crate) struct RawVendor {
    pub(crate) url: String,
    listener: TcpListener,
}

/// One client.
pub(crate) type Client = WebSocketStream<TcpStream>;

impl RawVendor {
    pub(crate) fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that a vendor that does not read is full soon.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(16).unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        Self { url, listener }
    }

    /// The next connection, as soon as it comes.
    pub(crate) async fn connection(&self) -> TcpStream {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("a connection").unwrap().0
    }

    /// Whether nobody connects for so long.
    pub(crate) async fn is_left_alone_for(&self, span: Duration) -> bool {
        timeout(span, self.listener.accept()).await.is_err()
    }

    /// The next connection, whose request is answered with this text and the end.
    pub(crate) async fn answer_upgrade(&self, answer: &str) {
        let mut stream = self.connection().await;
        head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    /// The next connection, dropped when its request is here; with a reset or an end in order.
    pub(crate) async fn drop_before_upgrade(&self, reset: bool) {
        let mut stream = self.connection().await;
        head(&mut stream).await;
        if reset {
            stream.set_zero_linger().unwrap();
        }
    }

    /// The next connection, upgraded.
    pub(crate) async fn upgraded(&self) -> Client {
        let stream = self.connection().await;
        tokio_tungstenite::accept_async(stream).await.unwrap()
    }

    /// The next connection, upgraded and authenticated.
    pub(crate) async fn authenticated(&self) -> Client {
        let mut client = self.upgraded().await;
        expect(&mut client, "authenticate").await;
        reply(&mut client, "success", json!({"action": "authenticate"})).await;
        client
    }

    /// The next connection, upgraded, authenticated and subscribed.
    pub(crate) async fn subscribed(&self) -> Client {
        let mut client = self.authenticated().await;
        expect(&mut client, "subscribe").await;
        reply(&mut client, "success", json!({"action": "subscribe"})).await;
        client
    }
}

/// Reads the head of a request to its end.
async fn head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// Reads the next command, which must be this one.
pub(crate) async fn expect(client: &mut Client, command: &str) {
    let said = timeout(PATIENCE, client.next()).await;
    let said = said.expect("a command").unwrap().unwrap();
    let said: Value = serde_json::from_str(said.to_text().unwrap()).unwrap();
    assert_eq!(said["type"], command);
}

/// Sends a reply with these further keys.
pub(crate) async fn reply(client: &mut Client, kind: &str, mut keys: Value) {
    keys["type"] = kind.into();
    client.send(Message::text(keys.to_string())).await.unwrap();
}

/// A message of the feed about this user.
pub(crate) fn message(sequence: u64, user_id: &str, last_name: &str) -> String {
    json!({"sequence": sequence, "recipient": FEED_NAME, "timestamp": 1_750_000_000_000_000_000_u64 + sequence,
        "payload": {"user_id": user_id, "last_name": last_name, "status": "PENDING"}})
    .to_string()
}

/// A frame of a server, as bytes.
pub(crate) fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..126 => bytes.push(u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// Writes one byte each 20 ms, until all are written or the client is gone.
pub(crate) async fn drip(client: &mut Client, bytes: &[u8]) {
    for byte in bytes.chunks(1) {
        if !write(client, byte).await {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Writes bytes below the WebSocket; false when the client is gone.
pub(crate) async fn write(client: &mut Client, bytes: &[u8]) -> bool {
    client.get_mut().write_all(bytes).await.is_ok()
}
