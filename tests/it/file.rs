//! The file sink where it differs from the others: what a crash leaves behind, and where it cannot be.

use std::path::Path;
use std::time::Duration;

use onboarding_bridge::event::Timestamp;
use onboarding_bridge::sink::file::FileSink;
use onboarding_bridge::sink::{ErrorClass, Sink};

use crate::support::records::records;

fn sink(path: &Path) -> FileSink {
    let text = format!("{{name: f, path: '{}'}}", path.display());
    FileSink::new(&serde_norway::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_line_that_a_crash_tore_is_cut_and_published_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let batch = records(10, 2);
    let mut first = sink(&path);
    first.open().await.unwrap();
    first.publish(&batch[..5]).await.unwrap();
    drop(first);
    let mut torn = std::fs::read(&path).unwrap();
    let whole = torn.clone();
    torn.extend_from_slice(&batch[5].body[..40]);
    std::fs::write(&path, torn).unwrap();

    let mut again = sink(&path);
    again.open().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    let since = Timestamp::now().minus(Duration::from_secs(60));
    assert_eq!(again.held(since).await.unwrap().len(), 5);
    again.publish(&batch[5..]).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let bodies: Vec<_> = text.lines().map(str::as_bytes).collect();
    assert!(bodies.iter().eq(batch.iter().map(|record| &record.body)));
}

#[tokio::test]
async fn a_missing_directory_says_what_to_do_and_is_not_created() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent/events.jsonl");
    for _ in 0..2 {
        let error = sink(&path).open().await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Configuration);
        assert!(error.message.contains("absent/events.jsonl"), "{error}");
        assert!(error.message.contains("create its directory"), "{error}");
    }
    let error = sink(directory.path()).open().await.unwrap_err();
    assert_eq!(
        error.class,
        ErrorClass::Configuration,
        "a directory is no file"
    );
}

#[tokio::test]
async fn two_bridges_never_write_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let (mut one, mut other) = (sink(&path), sink(&path));
    one.open().await.unwrap();
    let error = other.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(
        error.message.contains("another process writes it"),
        "{error}"
    );
    one.close().await.unwrap();
    other.open().await.unwrap();
}

#[tokio::test]
async fn a_device_is_no_file() {
    let error = sink(Path::new("/dev/full")).open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(error.message.contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn standard_output_cannot_tell_what_it_was_given() {
    let mut sink = sink(Path::new("-"));
    let destination = sink.open().await.unwrap();
    assert_eq!(destination.description, "standard output");
    assert!(!destination.can_tell_what_it_holds);
    assert!(sink.held(Timestamp(0)).await.unwrap().is_empty());
    sink.close().await.unwrap();
}
