//! The WebSocket itself: TCP, TLS, upgrade. The only file that makes connections to the feed.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::LostReason;
use crate::config::FeedConfig;

/// A frame beyond this multiple of `max_frame_bytes` ends the connection; up to it, a long message
/// is read to its end and set aside.
const HARD_FRAME_FACTOR: usize = 16;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What went wrong, in our words.
pub(super) type Failed = (LostReason, String);

/// Opens the connection; the caller bounds the time.
pub(super) async fn open(config: &FeedConfig) -> Result<Socket, Failed> {
    let unreachable = |reason: &dyn std::fmt::Display| {
        (
            LostReason::Unreachable,
            format!("cannot reach {}: {reason}", config.url),
        )
    };
    let request = config
        .url
        .as_str()
        .into_client_request()
        .map_err(|error| unreachable(&error))?;
    let host = request
        .uri()
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let secure = request.uri().scheme_str() == Some("wss");
    let port = request
        .uri()
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    let connector = if secure {
        let tls = tls(config.ca_file.as_deref()).map_err(|error| unreachable(&error))?;
        Connector::Rustls(tls)
    } else {
        Connector::Plain
    };
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| unreachable(&error))?;
    stream
        .set_nodelay(true)
        .map_err(|error| unreachable(&error))?;
    let frame = usize::try_from(config.max_frame_bytes.0).unwrap_or(usize::MAX);
    let hard = frame.saturating_mul(HARD_FRAME_FACTOR);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(hard))
        .max_frame_size(Some(hard));
    match client_async_tls_with_config(request, stream, Some(limits), Some(connector)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let status = response.status();
            let reason = match status.as_u16() {
                429 | 403 | 503 => LostReason::Limited,
                401 => LostReason::Authentication,
                _ => LostReason::Unreachable,
            };
            Err((reason, format!("the upgrade was answered with {status}")))
        }
        Err(error) => Err(unreachable(&error)),
    }
}

/// What an error of an open connection means.
pub(super) fn failed(error: &Error) -> Failed {
    let reason = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => LostReason::Closed,
        Error::Io(_) | Error::Tls(_) => LostReason::Broken,
        _ => LostReason::Protocol,
    };
    // Never the error's own words for a message: they might quote it.
    let detail = match error {
        Error::Utf8(_) => "a text frame is not UTF-8".to_owned(),
        Error::WriteBufferFull(_) => "the write buffer is full".to_owned(),
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
