//! The control endpoint: the simulated vendor is driven and asked over HTTP, on its own port.
//!
//! `POST /_control/ACTION` with the arguments as JSON, `GET /_control/stats` and others. It is no part
//! of the vendor: it counts as no request, and works while the vendor is away. Only for this machine,
//! unless the operator says otherwise.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::action::Action;
use super::catalogue::known_faults;
use super::control::Control;
use super::hub::Hub;
use super::rest::{self, serve_router};

/// Where it is.
pub(super) const PATH: &str = "/_control";

/// Serves one connection until the client closes it or the hub stops.
pub(super) async fn serve(stream: TcpStream, hub: Arc<Hub>) {
    let allowed = hub.options.listen.ip().is_loopback() || hub.options.play.allow_remote_control;
    let router = if allowed {
        Router::new()
            .route(PATH, get(index))
            .route("/_control/stats", get(stats))
            .route("/_control/users", get(users))
            .route("/_control/deaf", get(deaf))
            .route("/_control/sent", get(sent))
            .route("/_control/{action}", post(act))
            .fallback(|| async { failure(StatusCode::NOT_FOUND, "not found; see GET /_control") })
            .with_state(Control::new(Arc::clone(&hub)))
    } else {
        Router::new().fallback(|| async {
            let advice =
                "this port can be reached from other machines: start with --allow-remote-control";
            failure(StatusCode::FORBIDDEN, advice)
        })
    };
    serve_router(stream, router, &hub, &Notify::new()).await;
}

async fn index() -> Response {
    let actions = known_faults().into_iter().filter_map(|fault| fault.action);
    let actions: Vec<String> = actions.collect();
    answer(&json!({"get": ["stats", "users", "deaf", "sent"], "post": actions}))
}

async fn stats(State(control): State<Control>) -> Response {
    answer(&control.stats())
}

async fn users(State(control): State<Control>) -> Response {
    answer(&json!({"users": control.users()}))
}

async fn deaf(State(control): State<Control>) -> Response {
    answer(&control.deaf())
}

async fn sent(State(control): State<Control>) -> Response {
    answer(&json!({"sent": control.sent()}))
}

async fn act(
    State(control): State<Control>,
    Path(name): Path<String>,
    arguments: String,
) -> Response {
    let arguments = match arguments.trim() {
        "" => Ok(json!({})),
        text => serde_json::from_str::<Value>(text),
    };
    let action = arguments.and_then(|arguments| {
        let action = json!({name: arguments});
        serde_json::from_value::<Action>(action)
    });
    match action {
        Ok(action) => match control.perform(action).await {
            Ok(count) => answer(&json!({"done": true, "count": count})),
            Err(error) => failure(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        Err(error) => failure(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn answer(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => rest::json(StatusCode::OK, text),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn failure(status: StatusCode, words: &str) -> Response {
    rest::json(status, json!({"error": words}).to_string())
}
