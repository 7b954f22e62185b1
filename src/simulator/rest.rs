//! The vendor's REST list, `GET /v1/enterprise/users`: its answers, and whom it refuses.
//!
//! It never holds the list as a whole: `pages` writes it as the client reads it.

mod pages;

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
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::hub::Hub;
use super::options::{BlockForm, RestMode};
use pages::Pages;

#[derive(Clone, Debug)]
struct Rest {
    hub: Arc<Hub>,
    peer: IpAddr,
    /// Told when the connection is to be dropped without an answer.
    drop_it: Arc<Notify>,
}

/// Serves one connection until the client closes it or the hub stops.
pub(super) async fn serve(stream: TcpStream, peer: IpAddr, hub: Arc<Hub>) {
    let drop_it = Arc::new(Notify::new());
    let router = Router::new()
        .route("/v1/enterprise/users", get(list))
        .fallback(|| async { failure(StatusCode::NOT_FOUND, "not found") })
        .with_state(Rest {
            hub: Arc::clone(&hub),
            peer,
            drop_it: Arc::clone(&drop_it),
        });
    serve_router(stream, router, &hub, &drop_it).await;
}

/// Serves a router on one connection.
pub(super) async fn serve_router(stream: TcpStream, router: Router, hub: &Hub, drop_it: &Notify) {
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drop_it.notified() => return,
        () = hub.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

async fn list(State(rest): State<Rest>, headers: HeaderMap, uri: Uri) -> Response {
    rest.hub.count(|stats| stats.rest_requests += 1);
    if rest.hub.down.load(Ordering::SeqCst) {
        // Only a connection that was kept alive gets here.
        return failure(StatusCode::SERVICE_UNAVAILABLE, "down");
    }
    let blocked = rest.hub.refuses_request(rest.peer);
    let (mode, form, right) = {
        let modes = rest.hub.modes();
        let sent = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let wanted = format!("Bearer {}", modes.key.expose());
        let right = sent == Some(wanted.as_bytes());
        (modes.rest, modes.block_form, right)
    };
    if (blocked && form == BlockForm::Drop) || mode == RestMode::Drop {
        rest.drop_it.notify_one();
        std::future::pending::<()>().await;
    }
    if blocked {
        let status = block_status(form);
        return json(status, refusal(status));
    }
    if let Some(status) = status(mode) {
        return json(status, refusal(status));
    }
    if mode == RestMode::Silence {
        std::future::pending::<()>().await;
    }
    if !right {
        return failure(StatusCode::UNAUTHORIZED, "invalid api key");
    }
    if mode == RestMode::Html {
        let page = "<!doctype html><title>Sign in</title><p>Please sign in.";
        return (StatusCode::OK, [(CONTENT_TYPE, "text/html")], page).into_response();
    }
    let role = account_role(&uri);
    let pages = Pages::new(rest.hub, mode, role);
    json(StatusCode::OK, Body::from_stream(pages.into_stream()))
}

/// The status with which the list is refused, if this way of answering refuses it.
const fn status(mode: RestMode) -> Option<StatusCode> {
    match mode {
        RestMode::Unauthorized => Some(StatusCode::UNAUTHORIZED),
        RestMode::Forbidden => Some(StatusCode::FORBIDDEN),
        RestMode::NotFound => Some(StatusCode::NOT_FOUND),
        RestMode::NotAcceptable => Some(StatusCode::NOT_ACCEPTABLE),
        RestMode::Unprocessable => Some(StatusCode::UNPROCESSABLE_ENTITY),
        RestMode::TooManyRequests => Some(StatusCode::TOO_MANY_REQUESTS),
        RestMode::Unavailable => Some(StatusCode::SERVICE_UNAVAILABLE),
        RestMode::ServerError => Some(StatusCode::INTERNAL_SERVER_ERROR),
        RestMode::Ok
        | RestMode::Truncated
        | RestMode::Html
        | RestMode::DuplicateKeys
        | RestMode::Silence
        | RestMode::Drop
        | RestMode::Drip
        | RestMode::UserTwice
        | RestMode::Empty
        | RestMode::Paged
        | RestMode::Unreadable
        | RestMode::Wide => None,
    }
}

/// The status with which a blocked client is refused, where there is a status.
pub(super) const fn block_status(form: BlockForm) -> StatusCode {
    match form {
        BlockForm::TooManyRequests | BlockForm::ErrorReply | BlockForm::Drop => {
            StatusCode::TOO_MANY_REQUESTS
        }
        BlockForm::Forbidden => StatusCode::FORBIDDEN,
        BlockForm::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The body of an answer of this status.
pub(super) fn refusal(status: StatusCode) -> String {
    let words = match status {
        StatusCode::SERVICE_UNAVAILABLE => "maintenance".to_owned(),
        status => status.canonical_reason().unwrap_or("error").to_lowercase(),
    };
    format!(r#"{{"error":"{words}"}}"#)
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

pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.into()).into_response()
}
