//! The vendor's REST list, `GET /v1/enterprise/users`, in its second generation: no paging, no token.
//!
//! The list is written chunk by chunk as the client reads it, never whole. Between two chunks the
//! world goes on, as it does behind the real one.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use super::hub::Hub;
use super::options::RestMode;

/// Body of a 429.
pub(super) const LIMITED: &str = r#"{"error":"too many requests"}"#;

/// Users in one chunk of the list: what is held in memory.
const CHUNK: u32 = 256;

#[derive(Clone, Debug)]
struct Rest {
    hub: Arc<Hub>,
    peer: IpAddr,
}

/// Serves one connection until the client closes it or the hub stops.
pub(super) async fn serve(stream: TcpStream, peer: IpAddr, hub: Arc<Hub>) {
    let stopped = Arc::clone(&hub);
    let router = Router::new()
        .route("/v1/enterprise/users", get(list))
        .fallback(|| async { failure(StatusCode::NOT_FOUND, "not found") })
        .with_state(Rest { hub, peer });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a REST connection broke");
    }
}

async fn list(State(rest): State<Rest>, headers: HeaderMap, uri: Uri) -> Response {
    rest.hub.count(|stats| stats.rest_requests += 1);
    if rest.hub.down.load(Ordering::SeqCst) {
        // Only a connection that was kept alive gets here.
        return failure(StatusCode::SERVICE_UNAVAILABLE, "down");
    }
    if rest.hub.refuses_request(rest.peer) {
        return json(StatusCode::TOO_MANY_REQUESTS, LIMITED);
    }
    let (mode, right) = {
        let modes = rest.hub.modes();
        let sent = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let wanted = format!("Bearer {}", modes.key.expose());
        (modes.rest, sent == Some(wanted.as_bytes()))
    };
    match mode {
        RestMode::TooManyRequests => return json(StatusCode::TOO_MANY_REQUESTS, LIMITED),
        RestMode::Unavailable => return failure(StatusCode::SERVICE_UNAVAILABLE, "maintenance"),
        RestMode::ServerError => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
        }
        RestMode::Silence => std::future::pending::<()>().await,
        RestMode::Ok | RestMode::Truncated | RestMode::Html | RestMode::DuplicateKeys => {}
    }
    if !right {
        return failure(StatusCode::UNAUTHORIZED, "invalid api key");
    }
    if mode == RestMode::Html {
        let page = "<!doctype html><title>Sign in</title><p>Please sign in.";
        return (StatusCode::OK, [(CONTENT_TYPE, "text/html")], page).into_response();
    }
    let role = account_role(&uri);
    let pages = stream::unfold(Some(Pages::new(rest.hub, mode, role)), |pages| async move {
        let pages = pages?;
        // Lets the server send what it has before a truncated list breaks off.
        tokio::task::yield_now().await;
        Some(pages.next())
    });
    json(StatusCode::OK, Body::from_stream(pages))
}

/// Where a list stands.
struct Pages {
    hub: Arc<Hub>,
    mode: RestMode,
    role: Option<String>,
    next: u32,
    /// Whether an object was written: the next one needs a comma.
    any: bool,
    /// Whether the list breaks off here.
    broken: bool,
}

type Page = (Result<Bytes, io::Error>, Option<Pages>);

impl Pages {
    fn new(hub: Arc<Hub>, mode: RestMode, role: Option<String>) -> Self {
        Self {
            hub,
            mode,
            role,
            next: 0,
            any: false,
            broken: false,
        }
    }

    fn next(mut self) -> Page {
        if self.broken {
            let error = io::Error::other("the list is cut here on purpose");
            return (Err(error), None);
        }
        let mut text = String::with_capacity(CHUNK as usize * 400);
        if self.next == 0 {
            text.push_str(r#"{"data":["#);
        }
        let done = self.write(&mut text);
        if self.mode == RestMode::Truncated {
            self.broken = true;
            let mut bytes = text.into_bytes();
            bytes.truncate(bytes.len() / 2);
            return (Ok(bytes.into()), Some(self));
        }
        if done {
            text.push_str("]}");
            self.hub.count(|stats| stats.rest_lists_complete += 1);
            return (Ok(text.into()), None);
        }
        (Ok(text.into()), Some(self))
    }

    /// Writes the next users; whether they were the last.
    fn write(&mut self, text: &mut String) -> bool {
        let world = self.hub.world();
        let end = world.len().min(self.next.saturating_add(CHUNK));
        for person in (self.next..end).filter_map(|index| world.present(index)) {
            let role = person.account_role();
            if self
                .role
                .as_deref()
                .is_some_and(|wanted| !role.eq_ignore_ascii_case(wanted))
            {
                continue;
            }
            if self.any {
                text.push(',');
            }
            self.any = true;
            person
                .write_object(text, self.mode == RestMode::DuplicateKeys)
                .expect("a String takes everything");
        }
        self.next = end;
        end == world.len()
    }
}

fn account_role(uri: &Uri) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let mut named = pairs.filter_map(|pair| pair.split_once('='));
    named
        .find(|(name, _)| *name == "accountRole")
        .map(|(_, role)| role.to_owned())
}

fn failure(status: StatusCode, text: &str) -> Response {
    json(status, format!(r#"{{"error":"{text}"}}"#))
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.into()).into_response()
}
