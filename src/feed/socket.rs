//! The WebSocket itself: TCP, TLS, upgrade. The only file that makes connections to the feed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::{Response, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_with_config};

use super::LostReason;
use super::limits::{refused_by_limit, retry_after};
use super::meter::Metered;
use super::proxy::{Way, bare};
use crate::certificates;
use crate::config::FeedConfig;
use crate::event::Timestamp;

/// A frame beyond this multiple of `max_frame_bytes` ends the connection; up to it, a long message
/// is read to its end and set aside.
const HARD_FRAME_FACTOR: usize = 16;

/// So many bytes of ours wait for a vendor that does not read; it may ping meanwhile, and each ping asks
/// for a pong. More than the library's buffer of 128 KiB.
const WRITE_BUFFER_MAX: usize = 256 * 1024;

pub(super) type Socket = WebSocketStream<Metered<MaybeTlsStream<TcpStream>>>;

/// What went wrong, in our words.
pub(super) type Failed = (LostReason, String);

/// Why there is no connection.
pub(super) struct Refused {
    pub failed: Failed,
    /// The vendor answered the upgrade, with something else than yes.
    pub answered: bool,
    /// For how long it asks for silence.
    pub retry_after: Option<Duration>,
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        Self {
            failed,
            answered: false,
            retry_after: None,
        }
    }
}

/// Opens the connection; the caller bounds the time.
pub(super) async fn open(config: &FeedConfig, now: Timestamp) -> Result<Socket, Refused> {
    let request = config.url.as_str().into_client_request();
    let request = request.map_err(|error| unreachable(config, &error))?;
    let stream = stream(config, request.uri()).await?;
    let frame = usize::try_from(config.max_frame_bytes.0).unwrap_or(usize::MAX);
    let hard = frame.saturating_mul(HARD_FRAME_FACTOR);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(hard))
        .max_frame_size(Some(hard))
        .max_write_buffer_size(WRITE_BUFFER_MAX);
    match client_async_with_config(request, Metered::new(stream), Some(limits)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(refused(&response.map(drop), now)),
        Err(Error::Protocol(ProtocolError::HandshakeIncomplete)) => Err(dropped(config).into()),
        Err(Error::Io(error)) if is_drop(&error) => Err(dropped(config).into()),
        Err(error) => Err(unreachable(config, &error).into()),
    }
}

/// TCP, and TLS where the address asks for it.
async fn stream(config: &FeedConfig, uri: &Uri) -> Result<MaybeTlsStream<TcpStream>, Failed> {
    let secure = uri.scheme_str() == Some("wss");
    let host = bare(uri.host().unwrap_or_default());
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    // Before the vendor hears of us: a file that is just being changed costs no connection.
    let tls = secure.then(|| tls(config.ca_file.as_deref())).transpose();
    let tls = tls.map_err(|error| unreachable(config, &error))?;
    let tcp = match &config.proxy {
        Some(proxy) => Way::of(proxy)?.connect(&host, port).await?,
        None => {
            let tcp = TcpStream::connect((host.as_str(), port)).await;
            tcp.map_err(|error| unreachable(config, &error))?
        }
    };
    tcp.set_nodelay(true)
        .map_err(|error| unreachable(config, &error))?;
    let Some(tls) = tls else {
        return Ok(MaybeTlsStream::Plain(tcp));
    };
    let name = ServerName::try_from(host).map_err(|error| unreachable(config, &error))?;
    match TlsConnector::from(tls).connect(name, tcp).await {
        Ok(stream) => Ok(MaybeTlsStream::Rustls(stream)),
        Err(error) if is_drop(&error) => Err(dropped(config)),
        Err(error) if error.to_string().contains("InvalidContentType") => Err(unreachable(
            config,
            &"that port does not speak TLS, as `wss` asks for",
        )),
        Err(error) => Err(unreachable(config, &error)),
    }
}

/// When the vendor's certificate ends, in Unix seconds.
pub(super) fn certificate_ends(socket: &Socket) -> Option<u64> {
    let MaybeTlsStream::Rustls(stream) = socket.get_ref().stream() else {
        return None;
    };
    let (_, connection) = stream.get_ref();
    certificates::not_after(connection.peer_certificates()?.first()?)
}

/// An answer to the upgrade that is not a WebSocket.
fn refused(response: &Response<()>, now: Timestamp) -> Refused {
    let status = response.status();
    let reason = match status.as_u16() {
        status if refused_by_limit(status) => LostReason::Limited,
        401 => LostReason::Authentication,
        _ => LostReason::Unreachable,
    };
    let asked = response.headers().get("retry-after");
    let asked = asked.and_then(|value| value.to_str().ok());
    Refused {
        failed: (reason, format!("the upgrade was answered with {status}")),
        answered: true,
        retry_after: asked.and_then(|value| retry_after(value, now)),
    }
}

/// Whether the other side ended a connection that it had taken.
fn is_drop(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn unreachable(config: &FeedConfig, reason: &dyn std::fmt::Display) -> Failed {
    let detail = format!("cannot reach {}: {reason}", config.url);
    (LostReason::Unreachable, detail)
}

fn dropped(config: &FeedConfig) -> Failed {
    let detail = format!(
        "{} took the connection and dropped it before it answered the upgrade",
        config.url
    );
    (LostReason::Dropped, detail)
}

/// What an error of an open connection means.
pub(super) fn failed(error: &Error) -> Failed {
    let reason = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => LostReason::Closed,
        // What we had to say lies there unread: as dead as one that says nothing.
        Error::WriteBufferFull(_) => LostReason::Idle,
        Error::Protocol(ProtocolError::SendAfterClosing) => LostReason::Closed,
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => LostReason::Broken,
        _ => LostReason::Protocol,
    };
    // Never the error's own words for a message: they might quote it.
    let detail = match error {
        Error::Utf8(_) => "a text frame is not UTF-8".to_owned(),
        Error::WriteBufferFull(_) => "the vendor does not read what we send".to_owned(),
        error => error.to_string(),
    };
    (reason, detail)
}

/// TLS with the public authorities, or with those of a PEM file instead.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn tls(ca_file: Option<&Path>) -> std::io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| {
                std::io::Error::other(format!("ca_file {}: {error}", path.display()))
            };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"there is no certificate in it"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
