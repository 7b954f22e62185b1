//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status`, `/log-level`, and a page for people at `/`.
//!
//! The only file that names the HTTP server of the bridge. It shows no personal data and changes
//! nothing but how much is logged, and that only for who is on this machine.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::certificates::{self, CertificateFile};
use crate::config::Config;
use crate::deliver::{SinkReport, SinkStatus};
use crate::event::Timestamp;
use crate::feed::budget::Budget;
use crate::journal::{Blocked, Handle, JournalError, Window};
use crate::metrics::Metrics;
use crate::process;
use crate::reconcile::{LastList, Reports};
use crate::telemetry;

/// Blind windows that `/status` shows.
const WINDOWS_SHOWN: usize = 10;

/// The longest text of levels.
const LEVELS_BYTES_MAX: usize = 4096;

/// Reads `/status` and `/metrics` every two seconds, and draws the flow with their figures.
const PAGE: &str = include_str!("admin/page.html");

/// Nothing but what stands in the page, and from nowhere else.
static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let inner = PAGE
            .split_once(&open)
            .and_then(|(_, rest)| rest.split_once(&close));
        BASE64_STANDARD.encode(Sha256::digest(inner.map_or("", |(inner, _)| inner)))
    };
    let (style, script) = (hash("style"), hash("script"));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The bound port.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the port shows, gathered from every part.
#[derive(Debug)]
pub struct Status {
    metrics: Metrics,
    journal: Handle,
    sinks: Vec<Arc<SinkStatus>>,
    budget: Arc<Budget>,
    lists: Reports,
    certificates: Certificates,
    clock: fn() -> Timestamp,
}

/// The files whose expiry is shown.
#[derive(Debug)]
pub struct Certificates {
    /// On the way to the vendor.
    vendor: Vec<CertificateFile>,
    /// Of each sink.
    sinks: Vec<Vec<CertificateFile>>,
}

impl Certificates {
    /// Those that this configuration names.
    pub fn of(config: &Config) -> Self {
        Self {
            vendor: certificates::of_vendor(config),
            sinks: config.sinks.iter().map(certificates::of_sink).collect(),
        }
    }
}

/// `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// Whether `/readyz` says yes, and if not, what it waits for.
    pub ready: Readiness,
    /// The feed.
    pub feed: FeedReport,
    /// The journal.
    pub journal: JournalReport,
    /// Each sink.
    pub sinks: Vec<SinkReport>,
    /// The vendor's list.
    pub reconcile: ReconcileReport,
}

/// Whether the bridge does what it is there for, or has done so once.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// All of it.
    pub ready: bool,
    /// What is still missing.
    pub waiting_for: Vec<String>,
}

/// The feed in `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct FeedReport {
    /// Subscribed at this moment.
    pub connected: bool,
    /// Subscriptions so far.
    pub connects: u64,
    /// The newest spans in which it was not heard, newest first.
    pub blind_windows: Vec<Window>,
}

/// The vendor's list in `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct ReconcileReport {
    /// What became of the last list; null before the first.
    pub last_list: Option<LastList>,
}

/// The journal in `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct JournalReport {
    /// Position up to which everything is durable.
    pub committed: u64,
    /// Records in the file.
    pub records: i64,
    /// Bytes in use.
    pub bytes: i64,
    /// Bytes that may be used.
    pub capacity_bytes: i64,
    /// Why it takes no events at this moment, if it does not: `full`, `disk_full` or `locked`.
    pub blocked: Option<&'static str>,
}

impl Status {
    /// Gathers the parts.
    pub const fn new(
        metrics: Metrics,
        journal: Handle,
        sinks: Vec<Arc<SinkStatus>>,
        budget: Arc<Budget>,
        lists: Reports,
        certificates: Certificates,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            metrics,
            journal,
            sinks,
            budget,
            lists,
            certificates,
            clock,
        }
    }

    /// The metrics, as they were last refreshed.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The whole report. Reads the journal: blocking.
    ///
    /// # Errors
    /// [`JournalError`] when the journal cannot be read.
    pub fn report(&self) -> Result<Report, JournalError> {
        let journal = &self.metrics.journal;
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            ready: self.readiness(),
            feed: FeedReport {
                connected: self.metrics.feed.connected.get() == 1,
                connects: self.metrics.feed.connects.get(),
                blind_windows: self.journal.reader()?.windows(WINDOWS_SHOWN)?,
            },
            journal: JournalReport {
                committed: self.journal.committed(),
                records: journal.records.get(),
                bytes: journal.bytes.get(),
                capacity_bytes: journal.capacity.get(),
                blocked: self.journal.blocked().borrow().map(Blocked::as_str),
            },
            sinks: self.sinks.iter().map(|sink| sink.report()).collect(),
            reconcile: ReconcileReport {
                last_list: self.lists.last(),
            },
        })
    }

    /// Readiness is a latch: what is wrong at this moment is for metrics and alerts to say.
    pub fn readiness(&self) -> Readiness {
        let mut waiting_for = Vec::new();
        if self.metrics.feed.connects.get() == 0 {
            waiting_for.push("the first subscription to the feed".to_owned());
        }
        let unopened = self.sinks.iter().filter(|sink| !sink.was_opened());
        waiting_for.extend(unopened.map(|sink| format!("sink {}", sink.report().name)));
        Readiness {
            ready: waiting_for.is_empty(),
            waiting_for,
        }
    }

    fn show_certificates(&self) {
        #[allow(clippy::cast_precision_loss, reason = "the gauge of a time is a float")]
        let seconds = |files: &[CertificateFile]| {
            certificates::first_expiry(files).map_or(0.0, |seconds| seconds as f64)
        };
        let of_vendor = seconds(&self.certificates.vendor);
        self.metrics.feed.certificate_expiry.set(of_vendor);
        for (files, metrics) in self.certificates.sinks.iter().zip(&self.metrics.sinks) {
            metrics.certificate_expiry.set(seconds(files));
        }
    }

    /// Prometheus text. Reads the journal for the age of what each sink lacks: blocking.
    ///
    /// # Errors
    /// [`JournalError`] when the journal cannot be read.
    pub fn scrape(&self) -> Result<Vec<u8>, JournalError> {
        self.budget.show();
        self.show_certificates();
        let reader = self.journal.reader()?;
        self.metrics.feed.unhealed.set(reader.unhealed_windows()?);
        let (committed, now) = (self.journal.committed(), (self.clock)());
        for (sink, metrics) in self.sinks.iter().zip(&self.metrics.sinks) {
            let report = sink.report();
            let delivered = report.delivered;
            let can_only_repeat = report.once == Some(false);
            metrics.at_least_once.set(i64::from(can_only_repeat));
            let lag = committed.saturating_sub(delivered);
            let oldest = if lag > 0 {
                reader.received_after(delivered)?
            } else {
                None
            };
            metrics
                .lag_records
                .set(i64::try_from(lag).unwrap_or(i64::MAX));
            metrics
                .lag_seconds
                .set(oldest.map_or(0.0, |at| now.seconds_since(at).max(0.0)));
        }
        Ok(self.metrics.encode())
    }
}

impl Admin {
    /// Binds the port; nothing is served yet.
    ///
    /// # Errors
    /// When the port is taken or the address is not of this machine.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The bound address, its port known.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is aborted.
    pub async fn serve(self, status: Arc<Status>) {
        let router = Router::new()
            .route(
                "/",
                get(|| async {
                    (
                        [(header::CONTENT_SECURITY_POLICY, &**PAGE_POLICY)],
                        Html(PAGE),
                    )
                }),
            )
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .route("/status", get(report))
            .route("/metrics", get(metrics))
            .route(
                "/log-level",
                get(log_level)
                    .put(change_log_level)
                    .layer(DefaultBodyLimit::max(LEVELS_BYTES_MAX)),
            )
            .with_state(status)
            .into_make_service_with_connect_info::<SocketAddr>();
        tracing::info!(address = %self.address, "serving metrics, health and status");
        if let Err(error) = axum::serve(self.listener, router).await {
            tracing::error!(%error, "the admin port has ended");
        }
    }
}

type Shared = State<Arc<Status>>;

async fn readyz(State(status): Shared) -> (StatusCode, String) {
    let Readiness { ready, waiting_for } = status.readiness();
    if ready {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {}\n", waiting_for.join(", ")),
        )
    }
}

async fn report(State(status): Shared) -> impl IntoResponse {
    answer(status, "application/json", |status| {
        let report = status.report()?;
        Ok(serde_json::to_vec_pretty(&report).expect("a report has only string keys"))
    })
    .await
}

async fn metrics(State(status): Shared) -> impl IntoResponse {
    answer(
        status,
        "text/plain; version=0.0.4; charset=utf-8",
        Status::scrape,
    )
    .await
}

async fn log_level() -> (StatusCode, String) {
    match telemetry::levels() {
        Ok(levels) => (StatusCode::OK, levels + "\n"),
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")),
    }
}

/// Answers with the levels that are in force then.
async fn change_log_level(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    levels: String,
) -> (StatusCode, String) {
    if is_of_a_page(&headers) {
        let why = "not from a page in a browser, and only to localhost, 127.0.0.1 or [::1]\n";
        return (StatusCode::FORBIDDEN, why.to_owned());
    }
    if !is_of_this_machine(peer) {
        let why = "only from the machine itself, or through a forwarded port\n";
        return (StatusCode::FORBIDDEN, why.to_owned());
    }
    // Before, because the new levels may leave it out.
    tracing::info!("the levels of the log are to be changed by the admin port");
    match telemetry::set_levels(levels.trim()) {
        Ok(()) => log_level().await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// Not all of 127.0.0.0/8: a mesh's sidecar hands on what comes from elsewhere as from 127.0.0.6.
fn is_of_this_machine(peer: SocketAddr) -> bool {
    let peer = peer.ip().to_canonical();
    peer == Ipv4Addr::LOCALHOST || peer == Ipv6Addr::LOCALHOST
}

/// Whether a browser asks for the sake of a page, which says whose it is; or by a name that somebody may have
/// given this machine's address so that the page seems to be ours.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(|host| host.to_str());
    let authority: Option<Authority> = host.and_then(|host| host.ok()?.parse().ok());
    let to_us =
        authority.is_some_and(|to| ["localhost", "127.0.0.1", "[::1]"].contains(&to.host()));
    headers.contains_key(header::ORIGIN) || !to_us
}

/// Runs what reads the journal aside, so that the line never waits for it.
async fn answer(
    status: Arc<Status>,
    content_type: &'static str,
    make: fn(&Status) -> Result<Vec<u8>, JournalError>,
) -> impl IntoResponse {
    match tokio::task::spawn_blocking(move || make(&status)).await {
        Ok(Ok(body)) => (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&process::end_of(&error)),
    }
}

fn failed(
    error: &dyn std::fmt::Display,
) -> (StatusCode, [(header::HeaderName, &'static str); 1], Vec<u8>) {
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        content_type,
        format!("{error}\n").into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_makes_no_markup_of_what_it_is_told() {
        for foreign in [
            "http://",
            "https://",
            "src=",
            "url(",
            "@import",
            "innerHTML",
            "eval(",
        ] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        // Of nothing, if the page had no such part.
        let of_nothing = BASE64_STANDARD.encode(Sha256::digest(""));
        assert_eq!(PAGE_POLICY.matches("'sha256-").count(), 2);
        assert!(!PAGE_POLICY.contains(&of_nothing), "{}", *PAGE_POLICY);
    }

    #[test]
    fn only_who_is_on_the_machine_changes_what_is_logged() {
        for (peer, may) in [
            ("127.0.0.1:4000", true),
            ("[::1]:4000", true),
            ("[::ffff:127.0.0.1]:4000", true),
            ("127.0.0.6:4000", false),
            ("192.0.2.7:4000", false),
            ("[2001:db8::1]:4000", false),
            ("[::ffff:192.0.2.7]:4000", false),
        ] {
            assert_eq!(is_of_this_machine(peer.parse().unwrap()), may, "{peer}");
        }
    }

    #[test]
    fn a_page_in_a_browser_changes_nothing_whatever_name_it_gives_this_machine() {
        for (host, origin, is_page) in [
            (Some("localhost:9464"), None, false),
            (Some("127.0.0.1:9464"), None, false),
            (Some("[::1]:9464"), None, false),
            (Some("localhost"), None, false),
            (Some("localhost:9464"), Some("http://localhost:9464"), true),
            (Some("localhost:9464"), Some("null"), true),
            (Some("evil.example.test:9464"), None, true),
            (Some("localhost.example.test"), None, true),
            (Some("192.0.2.7:9464"), None, true),
            (None, None, true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(is_of_a_page(&headers), is_page, "{host:?} {origin:?}");
        }
    }

    #[test]
    fn the_page_reads_only_metrics_that_there_are() {
        let names: Vec<String> = Metrics::new(&["sink"])
            .list()
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        let asked = PAGE.split("metrics.").skip(1).filter_map(|rest| {
            let rest = rest
                .strip_prefix("of(")
                .or_else(|| rest.strip_prefix("sum("))?;
            rest.trim_start_matches(['"', '`'])
                .split(['"', '`', '{'])
                .next()
        });
        let asked: Vec<&str> = asked.collect();
        assert!(asked.len() > 8, "{asked:?}");
        for name in asked {
            let name = format!("{}_{name}", crate::metrics::PREFIX);
            assert!(names.contains(&name), "{name}");
        }
    }
}
