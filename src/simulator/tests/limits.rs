//! The vendor's limits: counted always, enforced on demand.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::EXAMPLE_KEY;
use super::*;

/// The status line of a REST call.
async fn call(simulator: &Simulator) -> String {
    let addr = (Ipv4Addr::LOCALHOST, simulator.addr().port());
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "GET /v1/enterprise/users HTTP/1.1\r\nconnection: close\r\nauthorization: Bearer {EXAMPLE_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn requests_of_both_kinds_count_together_and_are_served_while_not_enforced() {
    let simulator = with(Options {
        users: 3,
        ..Options::for_tests()
    })
    .await;
    let _client = Client::subscribed(&simulator).await;
    for _ in 0..38 {
        assert_eq!(call(&simulator).await, "HTTP/1.1 200 OK");
    }
    let stats = simulator.stats();
    assert_eq!((stats.limit_breaches, stats.requests_peak), (0, 40));
    assert_eq!(call(&simulator).await, "HTTP/1.1 200 OK");
    let stats = simulator.stats();
    assert_eq!((stats.limit_breaches, stats.requests_peak), (1, 41));
}

#[tokio::test]
async fn a_block_on_demand_refuses_everybody_without_a_breach() {
    let simulator = started().await;
    let control = simulator.control();
    control.block(Duration::from_secs(60));
    assert!(connect_async(simulator.ws_url()).await.is_err());
    assert_eq!(call(&simulator).await, "HTTP/1.1 429 Too Many Requests");
    control.block(Duration::ZERO);
    let _client = Client::subscribed(&simulator).await;
    assert_eq!(control.stats().limit_breaches, 0);
}

#[tokio::test]
async fn an_enforced_limit_refuses_everything_until_the_block_is_over() {
    let simulator = with(Options {
        users: 3,
        enforce_limits: true,
        block_duration: Duration::from_millis(300),
        ..Options::for_tests()
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::connect(&simulator).await);
    }
    let refused = |error: tungstenite::Error| match error {
        tungstenite::Error::Http(response) => response.status().as_u16(),
        other => panic!("no answer: {other}"),
    };
    let eleventh = connect_async(simulator.ws_url()).await.unwrap_err();
    assert_eq!(refused(eleventh), 429);
    assert_eq!(call(&simulator).await, "HTTP/1.1 429 Too Many Requests");
    let client = &mut clients[0];
    client.authenticate(EXAMPLE_KEY).await;
    assert_eq!(client.frame().await["type"], "error");
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    let stats = simulator.stats();
    assert_eq!((stats.limit_breaches, stats.connections_peak), (1, 10));
    let free = async {
        while call(&simulator).await != "HTTP/1.1 200 OK" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of the block", free).await;
}
