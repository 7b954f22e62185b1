//! The log: on stderr, JSON where no person looks, one fact a line.
//!
//! Levels are by the operator's duty: error, somebody must act; warn, unexpected and recovered;
//! info, milestones. No key, no body and no credential is ever logged: only fields that a list names
//! are printed (`fields.rs`), whoever logs them and at whichever level.

pub mod fields;
mod line;

use tracing_subscriber::EnvFilter;

use line::Style;

pub use line::{Line, say};

/// At finer levels these libraries print what goes over the wire: keys, tokens, people. `RUST_LOG`
/// cannot raise them. No other library's words are printed at finer levels than info (`line.rs`).
const CAPPED: [&str; 9] = [
    "tungstenite=warn",
    "tokio_tungstenite=warn",
    "ureq=warn",
    "ureq_proto=warn",
    "rustls=warn",
    // At info it tells what the server refuses, with the subject, which holds the record's key; and
    // `nats::watch` tells it without.
    "async_nats=warn",
    "rdkafka=info",
    "librdkafka=info",
    "hyper=warn",
];

/// What is logged where nothing else is asked for.
pub const USUAL: &str = "info,librdkafka=warn,rdkafka=warn,async_nats=warn";

/// Starts logging at these levels; `RUST_LOG` overrides them. Called once, before anything else.
///
/// # Errors
/// When `RUST_LOG` cannot be understood.
pub fn start(levels: &str) -> Result<(), String> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(error) if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() => {
            return Err(format!("RUST_LOG: {error}"));
        }
        Err(_) => EnvFilter::new(levels),
    };
    let filter = CAPPED.iter().fold(filter, |filter, directive| {
        filter.add_directive(directive.parse().expect("the directives are constants"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Style::of_stderr())
        .try_init()
        .map_err(|error| error.to_string())
}
