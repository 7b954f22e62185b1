//! The simulated vendor seen by a real WebSocket client and a real HTTP client, on a free port.

mod endings;
mod faults;
mod handshake;
mod limits;
mod list;
mod play;
mod stream;

use std::future::Future;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Options, Simulator};
use crate::event::FEED_NAME;

/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// The value, or a panic at the deadline.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

async fn started() -> Simulator {
    with(Options::for_tests()).await
}

async fn with(options: Options) -> Simulator {
    Simulator::start(options).await.unwrap()
}

/// A client that does only what it is told.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(simulator: &Simulator) -> Self {
        let (socket, _) = connect_async(simulator.ws_url()).await.unwrap();
        Self(socket)
    }

    /// Connected, authenticated and subscribed; both replies read.
    async fn subscribed(simulator: &Simulator) -> Self {
        let mut client = Self::connect(simulator).await;
        client.authenticate(super::EXAMPLE_KEY).await;
        assert_eq!(client.frame().await["type"], "success");
        client.subscribe().await;
        assert_eq!(client.frame().await["type"], "success");
        client
    }

    async fn authenticate(&mut self, key: &str) {
        self.say(&json!({"type": "authenticate", "apiKey": key, "enterprise": true}))
            .await;
    }

    async fn subscribe(&mut self) {
        self.say(&json!({"type": "subscribe", "feeds": [FEED_NAME]}))
            .await;
    }

    async fn say(&mut self, command: &Value) {
        self.0
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        within("a frame", self.0.next()).await
    }

    async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    async fn frame(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    async fn sequences(&mut self, n: usize) -> Vec<u64> {
        let mut sequences = Vec::new();
        for _ in 0..n {
            sequences.push(self.frame().await["sequence"].as_u64().unwrap());
        }
        sequences
    }
}
