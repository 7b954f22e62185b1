//! How a connection ends or goes quiet: close, reset, stall, shutdown, drop.

use std::io::ErrorKind;

use super::*;

#[tokio::test]
async fn a_close_delivers_everything_that_was_sent_before() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.step(2_000).await;
    within("the close", control.close(4001)).await;
    assert_eq!(control.connected(), 0);
    assert_eq!(client.sequences(2_000).await.last(), Some(&2_002));
    let end = client.next().await.unwrap().unwrap();
    assert!(matches!(end, Message::Close(Some(frame)) if u16::from(frame.code) == 4001));
    assert!(client.next().await.is_none());
    let answered = |stats: &super::super::Stats| stats.last_close_code_from_client == Some(4001);
    within("the answer", control.wait_for(answered)).await;
}

#[tokio::test]
async fn a_reset_is_a_connection_reset() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    within("the reset", control.reset()).await;
    assert_eq!((control.connected(), control.stats().subscribed), (0, 0));
    match client.next().await {
        Some(Err(tungstenite::Error::Io(error))) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        other => panic!("no reset: {other:?}"),
    }
}

#[tokio::test]
async fn a_stalled_connection_answers_no_ping_until_the_stall_ends() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.stall(true).await;
    client.0.send(Message::Ping("alive".into())).await.unwrap();
    assert_eq!(within("events", control.step(3)).await, 3);
    let quiet = timeout(Duration::from_millis(200), client.0.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(control.connected(), 1);
    control.stall(false).await;
    let pong = client.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("alive".into()));
    control.step(1).await;
    assert_eq!(
        client.sequences(1).await,
        [6],
        "three were lost in the stall"
    );
    assert_eq!(control.stats().pings_received, 1);
}

#[tokio::test]
async fn a_stalled_connection_can_be_reset() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    control.stall(true).await;
    within("the reset", control.reset()).await;
    assert!(client.next().await.unwrap().is_err());
}

#[tokio::test]
async fn a_vendor_that_is_down_drops_everybody_and_its_world_goes_on() {
    let simulator = started().await;
    let control = simulator.control();
    let mut client = Client::subscribed(&simulator).await;
    within("the end", control.set_down(true)).await;
    assert!(client.next().await.unwrap().is_err());
    assert!(connect_async(simulator.ws_url()).await.is_err());
    assert_eq!(control.step(5).await, 5);
    control.set_down(false).await;
    let mut client = Client::subscribed(&simulator).await;
    control.step(1).await;
    assert_eq!(client.sequences(1).await, [3]);
    let stats = control.stats();
    assert_eq!((stats.events_generated, stats.events_sent), (6, 1));
}

#[tokio::test]
async fn a_key_file_is_read_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "from-a-file\n").unwrap();
    let options = || Options {
        api_key_file: Some(path.clone()),
        ..Options::for_tests()
    };
    let simulator = with(options()).await;
    let mut client = Client::connect(&simulator).await;
    client.authenticate("from-a-file").await;
    assert_eq!(client.frame().await["type"], "success");
    std::fs::remove_file(&path).unwrap();
    assert!(Simulator::start(options()).await.is_err());
}

#[tokio::test]
async fn pings_are_sent_and_their_pongs_counted() {
    let simulator = with(Options {
        ping_interval: Duration::from_millis(20),
        ..Options::for_tests()
    })
    .await;
    let mut client = Client::subscribed(&simulator).await;
    for _ in 0..3 {
        let ping = client.next().await.unwrap().unwrap();
        assert!(matches!(ping, Message::Ping(_)));
    }
    client.0.flush().await.unwrap();
    let control = simulator.control();
    within("a pong", control.wait_for(|stats| stats.pongs_received > 0)).await;
}

#[tokio::test]
async fn the_close_code_of_the_client_is_kept() {
    let simulator = started().await;
    let mut client = Client::subscribed(&simulator).await;
    let frame = tungstenite::protocol::CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    };
    client.0.close(Some(frame)).await.unwrap();
    let control = simulator.control();
    let stats = within("the end", control.wait_for(|stats| stats.connected == 0)).await;
    assert_eq!(stats.last_close_code_from_client, Some(1000));
    while let Some(frame) = client.next().await {
        assert!(matches!(frame.unwrap(), Message::Close(_)));
    }
}

#[tokio::test]
async fn a_shutdown_delivers_what_was_sent_and_frees_the_port() {
    let simulator = started().await;
    let mut client = Client::subscribed(&simulator).await;
    simulator.control().step(500).await;
    let addr = simulator.addr();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(simulator.shutdown());
    assert_eq!(client.sequences(500).await.last(), Some(&502));
    assert!(matches!(
        client.next().await.unwrap().unwrap(),
        Message::Close(Some(frame)) if u16::from(frame.code) == 1001
    ));
    assert!(client.next().await.is_none());
    within("the shutdown", tasks.join_next())
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn dropping_the_simulator_ends_its_connections() {
    let simulator = started().await;
    let mut client = Client::subscribed(&simulator).await;
    drop(simulator);
    assert!(!matches!(client.next().await, Some(Ok(_))));
}
