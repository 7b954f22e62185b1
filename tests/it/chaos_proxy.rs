//! The proxy of the chaos harness does to bytes what it says.

#[allow(dead_code, reason = "the harness uses the rest of it")]
#[path = "../chaos/proxy.rs"]
mod proxy;

use std::time::Duration;

use proxy::{Proxy, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const DELAY: Duration = Duration::from_millis(500);

/// A client and the server's end of its connection, with the proxy between them.
async fn line() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start().await;
    proxy.lead_to(listener.local_addr().unwrap());
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (proxy, client, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_dead_client_arrive_after_their_delay() {
    let (proxy, mut client, mut server) = line().await;
    proxy.set(Way {
        delay: [DELAY, Duration::ZERO],
        ..Way::default()
    });
    let sent = Instant::now();
    client.write_all(b"late").await.unwrap();
    // What the proxy has not taken yet is the kernel's, and a reset may cost it.
    tokio::time::sleep(DELAY / 5).await;
    client.set_zero_linger().unwrap();
    drop(client);
    // From now on the way is without delay; what is on it keeps its own.
    proxy.set(Way::default());
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"late");
    assert!(sent.elapsed() >= DELAY, "{:?}", sent.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_way_keeps_bytes_and_a_whole_one_brings_them() {
    let (proxy, mut client, mut server) = line().await;
    proxy.set(Way {
        silent: true,
        ..Way::default()
    });
    client.write_all(b"kept").await.unwrap();
    let mut bytes = [0; 4];
    assert!(timeout(DELAY, server.read_exact(&mut bytes)).await.is_err());
    proxy.set(Way::default());
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_resets_both_sides() {
    let (proxy, mut client, mut server) = line().await;
    client.write_all(b"here").await.unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).await.unwrap();
    proxy.cut();
    for side in [&mut client, &mut server] {
        let ended = side.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
