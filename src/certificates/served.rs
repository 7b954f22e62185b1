//! When the certificate ends that a server shows. It trusts nobody and tells nothing: whether the
//! certificate is to be believed is judged where the server is used.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For connection, greeting and handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// A longer greeting is none.
const GREETING_MAX: u64 = 64 * 1024;

/// Whether a server says something before TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing.
    None,
    /// One line, as a NATS server does.
    Line,
}

/// Unix time in seconds; `None` where nothing was shown.
pub async fn ends(host: &str, port: u16, greeting: Greeting) -> Option<u64> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let noted = Arc::new(Noted {
        ends: OnceLock::new(),
        provider: Arc::clone(&provider),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&noted) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let look = async {
        let mut stream = BufReader::new(TcpStream::connect((host, port)).await?);
        if greeting == Greeting::Line {
            let mut line = Vec::new();
            (&mut stream)
                .take(GREETING_MAX)
                .read_until(b'\n', &mut line)
                .await?;
        }
        TlsConnector::from(Arc::new(config))
            .connect(name, stream.into_inner())
            .await
            .map(drop)
    };
    // A server that wants a client certificate refuses, after it has shown its own.
    drop(timeout(PATIENCE, look).await);
    *noted.ends.get()?
}

/// Notes the end of the certificate that it is shown.
#[derive(Debug)]
struct Noted {
    ends: OnceLock<Option<u64>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Noted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.ends.get_or_init(|| super::not_after(certificate));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
