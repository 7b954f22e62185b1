//! Bodies that are a list, bodies that are not, and what is taken of each.

use super::*;

const ADA: &str = r#"{"user_id":"ada","status":"PENDING"}"#;
const BOB: &str = r#"{"user_id":"bob","status":"VERIFIED"}"#;

/// The users that a body gives, and what is said of it.
fn read_bounded(body: impl AsRef<[u8]>, most: u64) -> (Vec<String>, Result<bool, String>) {
    let (sender, mut listed) = mpsc::channel(1024);
    let outcome =
        super::users(body.as_ref(), Size(most), &sender).map_err(|error| error.to_string());
    let mut users = Vec::new();
    while let Ok(batch) = listed.try_recv() {
        let Listed::Users(batch) = batch else {
            panic!("only users: {batch:?}");
        };
        assert!(batch.len() <= BATCH.0);
        users.extend(batch.into_iter().map(|user| user.user_id));
    }
    (users, outcome)
}

fn read(body: impl AsRef<[u8]>) -> (Vec<String>, Result<bool, String>) {
    read_bounded(body, u64::MAX)
}

fn whole(body: &str) -> (Vec<String>, bool) {
    let (users, complete) = read(body);
    (users, complete.unwrap())
}

fn said(body: &str) -> String {
    read(body).1.unwrap_err()
}

#[test]
fn a_list_is_read_in_order_and_in_batches_and_an_empty_one_too() {
    assert_eq!(whole(r#"{"data":[]}"#), (vec![], true));
    let many: Vec<String> = (0..1000).map(|number| format!("user{number}")).collect();
    let entries = many.iter().map(|user| format!(r#"{{"user_id":"{user}"}}"#));
    let body = format!("{{\"data\":[{}]}}", entries.collect::<Vec<_>>().join(" , "));
    assert_eq!(whole(&body), (many, true));
}

#[test]
fn what_breaks_off_has_told_what_came_and_is_no_list() {
    let body = format!(r#"{{"data":[{ADA},{BOB}]}}"#);
    for end in 1..body.len() {
        let (users, outcome) = read(&body.as_bytes()[..end]);
        assert!(outcome.unwrap_err().contains("it breaks off"));
        assert!(users.len() <= 2);
    }
    let half = body.find(BOB).unwrap();
    assert_eq!(read(&body.as_bytes()[..half]).0, ["ada"]);
}

#[test]
fn a_body_that_is_no_list_is_named_and_never_quoted() {
    let html = "<!doctype html><title>Sign in, Ada</title>";
    assert!(said(html).contains("it is not valid JSON (line 1 column 1)"));
    for body in [
        "[]",
        "null",
        "{}",
        "1",
        r#""data""#,
        r#"{"data":{}}"#,
        r#"{"data":null}"#,
    ] {
        assert!(
            said(body).contains("not an object with a list `data`"),
            "{body}"
        );
    }
    let body = format!(r#"{{"data":[{ADA}]}}"#);
    assert!(
        said(&format!("{body}{body}")).contains("not valid JSON"),
        "repeated"
    );
    let secret = r#"{"data":"ada@example.test"}"#;
    assert!(!said(secret).contains("ada"));
}

#[test]
fn a_list_with_another_key_or_two_of_data_is_read_and_not_complete() {
    for more in [r#""next":"/page/2""#, r#""count":7"#, r#""data":[]"#] {
        assert_eq!(
            whole(&format!(r#"{{"data":[{ADA}],{more}}}"#)),
            (vec!["ada".into()], false)
        );
    }
    let early = format!(r#"{{"meta":{{"pages":[1,2]}},"data":[{BOB}]}}"#);
    assert_eq!(whole(&early), (vec!["bob".into()], false));
}

#[test]
fn an_entry_that_cannot_be_read_costs_only_itself_and_the_completeness() {
    for bad in [
        "null",
        "7",
        "[]",
        "{}",
        r#"{"user_id":null}"#,
        r#"{"user_id":"x","email":[]}"#,
    ] {
        let body = format!(r#"{{"data":[{ADA},{bad},{BOB}]}}"#);
        assert_eq!(
            whole(&body),
            (vec!["ada".into(), "bob".into()], false),
            "{bad}"
        );
    }
}

#[test]
fn a_list_beyond_its_bound_is_named_and_not_read_on() {
    let body = format!(r#"{{"data":[{ADA},{BOB}]}}"#);
    let (users, outcome) = read_bounded(&body, body.len() as u64 - 1);
    assert_eq!(users, ["ada", "bob"]);
    assert!(outcome.unwrap_err().contains("reconcile.max_bytes"));
    assert!(read_bounded(&body, body.len() as u64).1.unwrap());
    // Blanks without end are no way around it.
    let blanks = format!("{{\"data\":[{}", " ".repeat(5000));
    assert!(
        read_bounded(&blanks, 1000)
            .1
            .unwrap_err()
            .contains("reconcile.max_bytes")
    );
}

#[test]
fn an_entry_beyond_its_bound_is_named() {
    let long = "x".repeat(usize::try_from(VALUE_MAX).unwrap());
    let body = format!(r#"{{"data":[{ADA},{{"user_id":"{long}"}}]}}"#);
    let (users, outcome) = read(&body);
    assert_eq!(users, ["ada"]);
    assert!(outcome.unwrap_err().contains("an entry is longer"));
}
