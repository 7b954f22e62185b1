//! A vendor's list of which a test writes every byte: its status, its headers, its body and its pace.
//!
//! The simulator tells the truth at its own moment; this one can be behind, be wrong, and be endless.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use bytes::Bytes;
use futures_util::stream;
use onboarding_bridge::simulator::{EXAMPLE_KEY, Options, Simulator};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::line::Line;

/// What is answered.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    body: Content,
}

#[derive(Clone)]
enum Content {
    Whole(Bytes),
    /// These bytes, then this again and again, each after so long.
    Endless(Bytes, Bytes, Duration),
    /// The nth part, until there is none.
    Parts(Arc<dyn Fn(u64) -> Option<Bytes> + Send + Sync>),
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned())],
            body: Content::Whole(body.into()),
        }
    }

    pub(crate) fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            ..Self::ok(body)
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn users(users: &[Value]) -> Self {
        Self::ok(json!({"data": users}).to_string())
    }

    pub(crate) fn endless(begin: &'static str, again: &'static str, every: Duration) -> Self {
        let body = Content::Endless(begin.into(), again.into(), every);
        Self {
            body,
            ..Self::ok("")
        }
    }

    pub(crate) fn parts(part: impl Fn(u64) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self {
            body: Content::Parts(Arc::new(part)),
            ..Self::ok("")
        }
    }

    fn response(self) -> Response<Body> {
        let body = match self.body {
            Content::Whole(bytes) => Body::from(bytes),
            Content::Endless(begin, again, every) => {
                let next = move |begun: bool| {
                    let part = if begun { again.clone() } else { begin.clone() };
                    async move {
                        if begun && !every.is_zero() {
                            tokio::time::sleep(every).await;
                        }
                        Some((Ok::<_, std::io::Error>(part), true))
                    }
                };
                Body::from_stream(stream::unfold(false, next))
            }
            Content::Parts(part) => {
                let parts = (0..).map_while(move |number| part(number));
                Body::from_stream(stream::iter(parts.map(Ok::<_, std::io::Error>)))
            }
        };
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(body).unwrap()
    }
}

struct Script {
    answer: Answer,
    requests: u64,
}

/// The server. Dropping it ends it.
pub(crate) struct ListServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

impl ListServer {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = 0;
        let script = Arc::new(Mutex::new(Script { answer, requests }));
        let router = Router::new()
            .fallback(|State(script): State<Arc<Mutex<Script>>>| async move {
                let mut script = script.lock().unwrap();
                script.requests += 1;
                script.answer.clone().response()
            })
            .with_state(Arc::clone(&script));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            script,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers so from now on.
    pub(crate) fn set(&self, answer: Answer) {
        self.script.lock().unwrap().answer = answer;
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.script.lock().unwrap().requests
    }

    /// A line whose list is this server's, and whose feed is a simulator's; it has begun.
    pub(crate) async fn line(&self, options: Options, feed: &str, reconcile: &str) -> Line {
        let url = format!("url: {}", self.url());
        let indented = |text: &str| -> String {
            let lines = text.lines();
            lines.map(|line| format!("  {line}\n")).collect()
        };
        Line::start_with(options, |yaml, _| {
            let (before, after) = yaml.split_once("reconcile:\n").unwrap();
            let (_, after) = after.split_once("journal:\n").unwrap();
            let before = before.replacen("feed:\n", &format!("feed:\n{}", indented(feed)), 1);
            format!(
                "{before}reconcile:\n  {url}\n{}journal:\n{after}",
                indented(reconcile)
            )
        })
        .await
    }
}

/// What the simulated vendor would list at this moment.
pub(crate) fn truth(simulator: &Simulator) -> Vec<Value> {
    let url = format!("{}/v1/enterprise/users", simulator.rest_url());
    let request = ureq::get(url).header("Authorization", format!("Bearer {EXAMPLE_KEY}"));
    let text = tokio::task::block_in_place(|| {
        let mut response = request.call().unwrap();
        response.body_mut().read_to_string().unwrap()
    });
    let list: Value = serde_json::from_str(&text).unwrap();
    list["data"].as_array().unwrap().clone()
}
