//! TLS in front of a server that has none, with a certificate that can be changed while it serves.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificates::Issued;

/// A port on loopback that ends with this.
pub(crate) struct TlsFront {
    /// `localhost:PORT`
    pub(crate) address: String,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    acceptor: Mutex<TlsAcceptor>,
    /// TCP connections so far, whatever became of them.
    accepted: AtomicU64,
}

impl TlsFront {
    /// Leads to `server`, an address as in an URL or without its scheme and path.
    pub(crate) async fn before(server: &str, certificate: &Issued) -> Self {
        let (_, server) = server.split_once("://").unwrap_or(("", server));
        let server: SocketAddr = server.split('/').next().unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared {
            acceptor: Mutex::new(acceptor(certificate)),
            accepted: AtomicU64::default(),
        });
        let (mut task, of_task) = (JoinSet::new(), Arc::clone(&shared));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                of_task.accepted.fetch_add(1, Ordering::Relaxed);
                while connections.try_join_next().is_some() {}
                let acceptor = of_task.acceptor().clone();
                connections.spawn(serve(client, acceptor, server));
            }
        });
        Self {
            address,
            shared,
            _task: task,
        }
    }

    /// New connections see this one.
    pub(crate) fn show(&self, certificate: &Issued) {
        *self.shared.acceptor() = acceptor(certificate);
    }

    /// TCP connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn acceptor(&self) -> std::sync::MutexGuard<'_, TlsAcceptor> {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn acceptor(issued: &Issued) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// One connection; a client that does not trust the certificate ends it, which is its affair.
async fn serve(client: TcpStream, acceptor: TlsAcceptor, server: SocketAddr) {
    client.set_nodelay(true).ok();
    let Ok(mut client) = acceptor.accept(client).await else {
        return;
    };
    let mut server = TcpStream::connect(server).await.unwrap();
    server.set_nodelay(true).ok();
    copy_bidirectional(&mut client, &mut server).await.ok();
}
