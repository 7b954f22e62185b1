//! The REST list, read by a real HTTP client.

use std::io::Read;

use super::super::{EXAMPLE_KEY, RestMode};
use super::*;

/// Status and body; an error when the body breaks off.
pub(super) async fn get(
    simulator: &Simulator,
    path: &str,
    key: &str,
) -> Result<(u16, String), String> {
    let (url, key) = (format!("{}{path}", simulator.rest_url()), key.to_owned());
    let request = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(DEADLINE))
            .build()
            .into();
        let mut response = agent
            .get(url)
            .header("authorization", format!("Bearer {key}"))
            .call()
            .map_err(|error| error.to_string())?;
        let mut body = String::new();
        let mut reader = response.body_mut().as_reader();
        reader
            .read_to_string(&mut body)
            .map_err(|error| error.to_string())?;
        Ok((response.status().as_u16(), body))
    });
    within("the answer", request).await.unwrap()
}

pub(super) const LIST: &str = "/v1/enterprise/users";

pub(super) async fn users(simulator: &Simulator, path: &str) -> Vec<Value> {
    let (status, body) = get(simulator, path, EXAMPLE_KEY).await.unwrap();
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    body["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_list_is_the_world() {
    let simulator = with(Options {
        users: 1_000,
        registered: Some(900),
        ..Options::for_tests()
    })
    .await;
    let control = simulator.control();
    control.change_silently(2_000);
    assert!(control.remove_user(17));
    let listed: Vec<_> = users(&simulator, LIST)
        .await
        .iter()
        .map(|user| {
            let text = |key: &str| user[key].as_str().unwrap().to_owned();
            assert!(user.get("user_token").is_none());
            (text("user_id"), text("status"), text("last_name"))
        })
        .collect();
    let expected: Vec<_> = control
        .users()
        .into_iter()
        .map(|user| {
            let name = format!("Example-{}", user.counter);
            (user.user_id, user.status.to_owned(), name)
        })
        .collect();
    assert_eq!(listed, expected);
    assert!(!listed.iter().any(|user| user.0 == control.user_id(17)));
}

#[tokio::test]
async fn the_role_selects_and_a_world_without_users_is_an_empty_list() {
    let simulator = started().await;
    for (role, count) in [("advisor", 5), ("client", 95), ("nobody", 0)] {
        let path = format!("{LIST}?accountRole={role}");
        assert_eq!(users(&simulator, &path).await.len(), count);
    }
    let empty = with(Options {
        registered: Some(0),
        ..Options::for_tests()
    })
    .await;
    let (_, body) = get(&empty, LIST, EXAMPLE_KEY).await.unwrap();
    assert_eq!(body, r#"{"data":[]}"#);
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_path_are_errors_in_json() {
    let simulator = started().await;
    let (status, body) = get(&simulator, LIST, "wrong").await.unwrap();
    assert_eq!(
        (status, body.as_str()),
        (401, r#"{"error":"invalid api key"}"#)
    );
    for path in ["/", "/v1/enterprise/users/x", "/wsx"] {
        let (status, body) = get(&simulator, path, EXAMPLE_KEY).await.unwrap();
        assert_eq!((status, body.as_str()), (404, r#"{"error":"not found"}"#));
    }
    assert_eq!(simulator.stats().rest_requests, 1);
}

#[tokio::test]
async fn every_mode_answers_as_it_says() {
    let simulator = started().await;
    let control = simulator.control();
    for (mode, status) in [
        (RestMode::TooManyRequests, 429),
        (RestMode::Unavailable, 503),
        (RestMode::ServerError, 500),
    ] {
        control.set_rest(mode);
        let (answer, body) = get(&simulator, LIST, EXAMPLE_KEY).await.unwrap();
        assert_eq!(answer, status);
        assert!(body.starts_with(r#"{"error":"#));
    }
    control.set_rest(RestMode::Html);
    let (status, body) = get(&simulator, LIST, EXAMPLE_KEY).await.unwrap();
    assert!(status == 200 && body.starts_with("<!doctype"));
    control.set_rest(RestMode::DuplicateKeys);
    let (_, body) = get(&simulator, LIST, EXAMPLE_KEY).await.unwrap();
    assert_eq!(body.matches("advisor_user_id").count(), 200);
    control.set_rest(RestMode::Ok);
    let (_, body) = get(&simulator, LIST, EXAMPLE_KEY).await.unwrap();
    assert_eq!(body.matches("advisor_user_id").count(), 100);
    assert_eq!(simulator.stats().rest_lists_complete, 2);
}

#[tokio::test]
async fn a_truncated_list_starts_well_and_breaks_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let simulator = started().await;
    simulator.control().set_rest(RestMode::Truncated);
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let request =
        format!("GET {LIST} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {EXAMPLE_KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = within("the end", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("200 OK") && answer.contains(r#"{"data":[{"#));
    assert!(!answer.ends_with("0\r\n\r\n"), "{read:?}");
    let whole = get(&simulator, LIST, EXAMPLE_KEY).await;
    assert!(whole.is_err(), "{whole:?}");
    assert_eq!(simulator.stats().rest_lists_complete, 0);
}

#[tokio::test]
async fn a_hundred_thousand_users_stream() {
    let simulator = with(Options {
        users: 100_000,
        ..Options::for_tests()
    })
    .await;
    let (url, control) = (
        format!("{}{LIST}", simulator.rest_url()),
        simulator.control(),
    );
    let request = tokio::task::spawn_blocking(move || {
        let mut response = ureq::get(url)
            .header("authorization", format!("Bearer {EXAMPLE_KEY}"))
            .call()
            .unwrap();
        let mut reader = response.body_mut().as_reader();
        let mut some = vec![0; 64 * 1024];
        reader.read_exact(&mut some).unwrap();
        // Far from read, and so far from written: nobody holds the whole.
        assert_eq!(control.stats().rest_lists_complete, 0);
        let mut body = String::from_utf8(some).unwrap();
        reader.read_to_string(&mut body).unwrap();
        body
    });
    let body = within("the list", request).await.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["data"].as_array().unwrap().len(), 100_000);
    assert_eq!(simulator.stats().rest_lists_complete, 1);
}

#[tokio::test]
async fn a_head_in_pieces_is_understood() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let simulator = started().await;
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    for piece in ["GET /", "w", "rong HTTP/1.1\r\nconnection: close\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}
