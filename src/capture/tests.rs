//! The bound, the room and the file of a capture.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::config::PrivacyConfig;
use crate::normalise;

const AT: Timestamp = Timestamp(1_750_000_000_000_000_000);

const MESSAGE: &str = r#"{"recipient":"private.enterprise.users","payload":{"user_id":"ada"}}"#;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.jsonl");
    (folder, path)
}

fn opened(path: &Path, max_bytes: u64) -> (Tap, Writer) {
    let privacy = Privacy::new(&PrivacyConfig::default(), None).unwrap();
    open(path, max_bytes, privacy).unwrap()
}

fn hear(tap: &Tap, text: &str) {
    tap.heard(AT, "c", text, &normalise::frame(text));
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn each_frame_is_a_line_and_what_cannot_be_read_has_its_shape_and_length() {
    let (_folder, path) = folder();
    let (tap, writer) = opened(&path, MAX_BYTES);
    hear(&tap, MESSAGE);
    hear(&tap, "no json");
    hear(
        &tap,
        r#"{"recipient":"private.enterprise.users","payload":{"email":"ada"}}"#,
    );
    hear(&tap, r#"{"type":"error","error":"ada"}"#);
    tap.unread(AT, "c", Reason::Binary, 3);
    drop(tap);
    writer.run();
    let line = |kind: &str, bytes: usize, reason: Option<&str>, frame: Value| {
        let mut line = json!({"at_us": 1_750_000_000_000_000_u64, "connection": "c", "kind": kind,
            "bytes": bytes, "frame": frame});
        if let Some(reason) = reason {
            line["reason"] = reason.into();
        }
        line
    };
    let message: Value = serde_json::from_str(MESSAGE).unwrap();
    let unnamed = json!({"recipient": "private.enterprise.users", "payload": {"email": "***"}});
    assert_eq!(
        lines(&path),
        [
            json!({"capture": 1}),
            line("data", MESSAGE.len(), None, message),
            line("rejected", 7, Some("malformed"), Value::Null),
            line("rejected", 66, Some("user_id"), unnamed),
            line("reply", 30, None, json!({"type": "error", "error": "***"})),
            line("rejected", 3, Some("binary"), Value::Null),
        ]
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_capture_ends_before_the_line_that_would_pass_its_bound() {
    let (_folder, path) = folder();
    let (tap, writer) = opened(&path, 400);
    for _ in 0..10 {
        hear(&tap, MESSAGE);
    }
    writer.run();
    let held = lines(&path).len();
    assert!((2..10).contains(&held), "{held}");
    assert!(std::fs::metadata(&path).unwrap().len() <= 400);
    // The feed goes on, and tells nobody.
    hear(&tap, MESSAGE);
    assert_eq!(tap.left_out.load(Ordering::Relaxed), 0);
}

#[test]
fn what_finds_no_room_is_left_out_and_that_is_in_the_capture() {
    let (_folder, path) = folder();
    let (tap, writer) = opened(&path, MAX_BYTES);
    let busy = Arc::clone(&tap.room).try_acquire_many_owned(u32::try_from(WAITING.1).unwrap());
    hear(&tap, MESSAGE);
    hear(&tap, MESSAGE);
    drop(busy);
    hear(&tap, MESSAGE);
    drop(tap);
    writer.run();
    let kinds: Vec<_> = lines(&path)
        .into_iter()
        .map(|line| (line["kind"].clone(), line["count"].clone()))
        .collect();
    assert_eq!(
        kinds,
        [
            (Value::Null, Value::Null),
            ("left_out".into(), 2.into()),
            ("data".into(), Value::Null)
        ]
    );
}

#[test]
fn a_capture_is_appended_to_after_a_torn_line_and_anything_else_is_left_as_it_is() {
    let (_folder, path) = folder();
    let begun = "{\"capture\":1}\n{\"kind\":\"da";
    std::fs::write(&path, begun).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (tap, writer) = opened(&path, MAX_BYTES);
    let privacy = || Privacy::new(&PrivacyConfig::default(), None).unwrap();
    let again = open(&path, MAX_BYTES, privacy());
    assert!(matches!(again, Err(CaptureError::InUse(_))));
    hear(&tap, MESSAGE);
    drop(tap);
    writer.run();
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, line) = text.split_at_checked(begun.len() + 1).unwrap();
    assert_eq!(before, format!("{begun}\n"));
    assert!(line.contains("\"kind\":\"data\""), "{line}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    for other in ["{\"event_id\":1}\n", "x", "\u{fffd}"] {
        std::fs::write(&path, other).unwrap();
        let refused = open(&path, MAX_BYTES, privacy());
        assert!(matches!(refused, Err(CaptureError::Foreign(_))), "{other}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    }
    let device = open(Path::new("/dev/null"), MAX_BYTES, privacy());
    assert!(matches!(device, Err(CaptureError::Foreign(_))));
}

#[test]
fn a_disk_that_takes_nothing_ends_the_capture_and_nothing_else() {
    let (_folder, path) = folder();
    let (tap, mut writer) = opened(&path, MAX_BYTES);
    // A file that may only be read stands for a disk that takes nothing.
    writer.file = std::fs::File::open(&path).unwrap();
    hear(&tap, MESSAGE);
    writer.run();
    assert!(tap.lines.is_closed());
    hear(&tap, MESSAGE);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}
