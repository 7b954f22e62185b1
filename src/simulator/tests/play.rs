//! What is played: scripts, captures, and the control endpoint by a plain HTTP client.

use std::path::{Path, PathBuf};

use super::super::{EXAMPLE_KEY, PlayOptions};
use super::list::{get, users};
use super::*;

/// The example of docs/simulator.md.
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/an_hour.script.yaml"
);

fn playing(play: PlayOptions) -> Options {
    Options {
        play,
        ..Options::for_tests()
    }
}

/// A frame without what only the clock decides.
fn without_clock(text: &str) -> String {
    let Ok(mut frame) = serde_json::from_str::<Value>(text) else {
        return text.to_owned();
    };
    frame["timestamp"] = Value::Null;
    if let Some(token) = frame["payload"]["user_token"].as_object_mut() {
        token.remove("expires");
    }
    frame.to_string()
}

async fn heard(seed: u64, script: &Path) -> Vec<String> {
    let simulator = with(Options {
        seed,
        ..playing(PlayOptions {
            script: Some(script.to_owned()),
            speed: 100.0,
            ..PlayOptions::default()
        })
    })
    .await;
    let mut client = Client::subscribed(&simulator).await;
    let mut frames = Vec::new();
    loop {
        match client.next().await {
            Some(Ok(Message::Text(text))) => frames.push(without_clock(&text)),
            Some(Ok(Message::Close(_))) | None => return frames,
            Some(_) => {}
        }
    }
}

#[tokio::test]
async fn the_same_script_and_seed_make_the_same_frames() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.yaml");
    let yaml = "rate: 5\nlength: 30s\ntimeline:\n  - {every: 4s, do: {gap: {n: 2}}}\n  - {times: 5, until: 20s, do: {odd: {shape: capitals}}}\n  - {times: 3, until: 20s, do: {noise: {frame: sibling}}}\n  - {at: 8s, for: 3s, do: {mute: {}}}\n  - {at: 30s, do: {close: {}}}\n";
    std::fs::write(&script, yaml).unwrap();
    let first = heard(3, &script).await;
    assert!(first.len() > 100, "{}", first.len());
    assert_eq!(first, heard(3, &script).await);
    assert_ne!(first, heard(4, &script).await);
}

#[tokio::test]
async fn the_example_script_is_played_to_its_end() {
    let simulator = with(playing(PlayOptions {
        script: Some(PathBuf::from(SCRIPT)),
        speed: 600.0,
        ..PlayOptions::default()
    }))
    .await;
    let control = simulator.control();
    let listen = async {
        loop {
            let Ok((socket, _)) = connect_async(simulator.ws_url()).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let mut client = Client(socket);
            let login = json!({"type": "authenticate", "apiKey": EXAMPLE_KEY, "enterprise": true});
            let subscribe = json!({"type": "subscribe", "feeds": [FEED_NAME]});
            for command in [login, subscribe] {
                client
                    .0
                    .send(Message::text(command.to_string()))
                    .await
                    .unwrap_or_default();
            }
            while let Some(Ok(_)) = client.0.next().await {}
        }
    };
    tokio::select! {
        stats = within("the end", control.wait_for(|stats| stats.played)) => {
            assert!(stats.events_generated > 3_000, "{stats:?}");
            assert!(stats.subscribes > 1 && stats.events_skipped > 0, "{stats:?}");
        }
        () = listen => unreachable!("it listens on"),
    }
    let missed: u64 = control.deaf().spans.iter().map(|span| span.missed).sum();
    assert!(missed > 0);
}

#[tokio::test]
async fn a_script_that_is_wrong_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script.yaml");
    std::fs::write(&path, "length: 1h\ntimeline: [{at: 1s, do: {explode: {}}}]").unwrap();
    let play = PlayOptions {
        script: Some(path),
        ..PlayOptions::default()
    };
    let error = Simulator::start(playing(play))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("timeline[0].do") && error.contains("explode"),
        "{error}"
    );
}

async fn post(simulator: &Simulator, action: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let request = format!(
        "POST /_control/{action} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_endpoint_acts_and_tells_also_while_the_vendor_is_away() {
    let simulator = started().await;
    let mut client = Client::subscribed(&simulator).await;
    let (status, body) = post(&simulator, "gap", r#"{"n":2}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"count":2,"done":true}"#));
    assert_eq!(post(&simulator, "step", "").await.0, 200);
    assert_eq!(client.sequences(1).await, [5]);
    for (action, body) in [
        ("explode", "{}"),
        ("gap", "{\"m\":1}"),
        ("gap", "no"),
        ("event", r#"{"user":4000}"#),
    ] {
        assert_eq!(
            post(&simulator, action, body).await.0,
            400,
            "{action} {body}"
        );
    }
    assert_eq!(post(&simulator, "down", "{}").await.0, 200);
    assert!(connect_async(simulator.ws_url()).await.is_err());
    let ask = async |what: &str| {
        let answer = get(&simulator, &format!("/_control/{what}"), "").await;
        serde_json::from_str::<Value>(&answer.unwrap().1).unwrap()
    };
    assert_eq!(ask("stats").await["events_skipped"], 2);
    assert_eq!(ask("users").await["users"].as_array().unwrap().len(), 100);
    assert_eq!(ask("deaf").await["spans"][1]["cause"], "gap");
    assert_eq!(ask("sent").await["sent"].as_array().unwrap().len(), 1);
    assert_eq!(
        simulator.stats().rest_requests,
        0,
        "it is no part of the vendor"
    );
    assert_eq!(post(&simulator, "down", r#"{"on":false}"#).await.0, 200);
    let _client = Client::subscribed(&simulator).await;
}

#[tokio::test]
async fn a_port_that_others_reach_has_no_endpoint_unless_it_is_allowed() {
    for (allowed, expected) in [(false, 403), (true, 200)] {
        let simulator = with(Options {
            listen: ([0, 0, 0, 0], 0).into(),
            ..playing(PlayOptions {
                allow_remote_control: allowed,
                ..PlayOptions::default()
            })
        })
        .await;
        assert_eq!(post(&simulator, "step", "").await.0, expected);
    }
}

#[tokio::test]
async fn a_capture_is_played_connection_by_connection_and_the_list_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.jsonl");
    let frame = |at: u64, connection: &str, sequence: u64, status: &str| {
        json!({"at_us": at, "connection": connection, "kind": "data", "frame": {
            "sequence": sequence, "recipient": FEED_NAME, "timestamp": at,
            "payload": {"user_id": "client_a", "status": status}}})
        .to_string()
    };
    let lines = [
        json!({"capture": 1}).to_string(),
        json!({"at_us": 0, "connection": "a", "kind": "reply", "frame": {}}).to_string(),
        frame(5, "a", 3, "PENDING"),
        frame(60_000_000, "b", 3, "VERIFIED"),
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let simulator = with(playing(PlayOptions {
        replay: Some(path),
        ..PlayOptions::default()
    }))
    .await;
    for status in ["PENDING", "VERIFIED"] {
        let mut client = Client::subscribed(&simulator).await;
        let frame = client.frame().await;
        assert_eq!(
            (&frame["sequence"], &frame["payload"]["status"]),
            (&json!(3), &json!(status))
        );
        if status == "PENDING" {
            assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        }
    }
    within(
        "the end",
        simulator.control().wait_for(|stats| stats.played),
    )
    .await;
    let listed = users(&simulator, "/v1/enterprise/users").await;
    assert_eq!(
        listed,
        [json!({"user_id": "client_a", "status": "VERIFIED"})]
    );
}
