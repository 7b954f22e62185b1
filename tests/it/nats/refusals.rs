//! A stream, an account or a server that refuses what it took a moment before: each is for an operator
//! to mend, and only what is about the record itself is about the record.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use onboarding_bridge::event::Record;
use onboarding_bridge::sink::nats::tail::ensure_stream;
use onboarding_bridge::sink::{ErrorClass, PublishError, Sink};

use super::{create, sink, sink_of};
use crate::support::beds::OwnBed;
use crate::support::records::{record, records};
use crate::support::{beds, unique};

/// All of this length failed, as a matter of configuration and with these words.
fn all_are_configuration(error: &PublishError, records: usize, words: &str) {
    assert_eq!(error.failed.len(), records, "{error}");
    for (_, error) in &error.failed {
        assert_eq!(error.class, ErrorClass::Configuration, "{error}");
        assert!(error.message.contains(words), "no {words:?} in {error}");
    }
}

fn takes(name: &str, prefix: &str) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{prefix}.>")],
        ..stream::Config::default()
    }
}

#[tokio::test]
async fn a_key_too_long_for_the_headers_takes_no_other_with_it() {
    let (name, prefix) = (unique("HEADER"), unique("header"));
    ensure_stream(beds::nats(), &name, &prefix).await.unwrap();
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    let mut batch = records(5, 5);
    // Percent-encoded it is three times as long, and it is there twice.
    Arc::<Record>::make_mut(&mut batch[2]).key = "\u{e9}".repeat(8_000);
    let error = sink.publish(&batch).await.unwrap_err();
    let failed: Vec<_> = error
        .failed
        .iter()
        .map(|(index, error)| (*index, error.class))
        .collect();
    assert_eq!(failed, [(2, ErrorClass::Record)], "{error}");
    assert_eq!(sink.held(batch[0].received_at).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_stream_that_is_sealed_meanwhile_stops_the_batch() {
    let (name, prefix) = (unique("SEALED"), unique("sealed"));
    let context = create(beds::nats(), takes(&name, &prefix)).await;
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    sink.publish(&records(5, 5)).await.unwrap();
    let sealed = stream::Config {
        sealed: true,
        ..takes(&name, &prefix)
    };
    context.update_stream(sealed).await.unwrap();
    let error = sink.publish(&records(5, 5)).await.unwrap_err();
    all_are_configuration(&error, 5, "sealed");
    assert_eq!(
        sink.open().await.unwrap_err().class,
        ErrorClass::Configuration
    );
}

#[tokio::test]
async fn another_stream_that_takes_the_subjects_meanwhile_is_no_place_for_them() {
    let (name, prefix) = (unique("MINE"), unique("mine"));
    let context = create(beds::nats(), takes(&name, &prefix)).await;
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    sink.publish(&records(5, 5)).await.unwrap();
    let (other, elsewhere) = (unique("OTHER"), unique("elsewhere"));
    context
        .update_stream(takes(&name, &elsewhere))
        .await
        .unwrap();
    context.create_stream(takes(&other, &prefix)).await.unwrap();
    let error = sink.publish(&records(5, 5)).await.unwrap_err();
    all_are_configuration(&error, 5, "expected stream does not match");
    let mut other = context.get_stream(&other).await.unwrap();
    assert_eq!(other.info().await.unwrap().state.messages, 0);
}

#[tokio::test]
async fn a_stream_that_counts_takes_no_event() {
    let (name, prefix) = (unique("COUNTS"), unique("counts"));
    // The client's own form of a stream has no such field in this build.
    let counter = serde_json::json!({
        "name": name, "subjects": [format!("{prefix}.>")], "allow_msg_counter": true,
        "storage": "file", "retention": "limits", "num_replicas": 1,
    });
    let client = async_nats::connect(beds::nats()).await.unwrap();
    let subject = format!("$JS.API.STREAM.CREATE.{name}");
    let answer = client.request(subject, counter.to_string().into()).await;
    let answer = String::from_utf8(answer.unwrap().payload.to_vec()).unwrap();
    assert!(answer.contains("allow_msg_counter"), "{answer}");
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    let error = sink.publish(&records(3, 3)).await.unwrap_err();
    all_are_configuration(&error, 3, "increment");
}

#[tokio::test]
async fn a_server_without_storage_stops_the_batch() {
    let store = tempfile::tempdir().unwrap();
    let limited = format!(
        "jetstream={{ max_file: 256KB, store_dir: \"{}\" }}",
        store.path().display()
    );
    let bed = OwnBed::nats(&[&limited]);
    ensure_stream(&bed.address, "S", "p").await.unwrap();
    let mut sink = sink(&bed.address, "S", "p", "");
    sink.open().await.unwrap();
    let large = |n| {
        let mut record = record(n, "one");
        Arc::<Record>::make_mut(&mut record)
            .body
            .resize(20_000, b' ');
        record
    };
    let batch: Vec<_> = (0..40).map(large).collect();
    let error = sink.publish(&batch).await.unwrap_err();
    let taken = batch.len() - error.failed.len();
    assert!((5..30).contains(&taken), "{taken} were taken");
    all_are_configuration(&error, 40 - taken, "resources");
    assert_eq!(error.failed[0].0, taken, "in order");
    let context = jetstream::new(async_nats::connect(&bed.address).await.unwrap());
    context
        .get_stream("S")
        .await
        .unwrap()
        .purge()
        .await
        .unwrap();
    sink.open().await.unwrap();
    sink.publish(&batch[taken..taken + 5]).await.unwrap();
}

#[tokio::test]
async fn an_account_without_jetstream_is_a_matter_of_configuration() {
    let accounts = "accounts={ NONE: { users: [ { user: none, password: n } ] }, \
        SOME: { jetstream: enabled, users: [ { user: some, password: s } ] } }";
    let bed = OwnBed::nats(&[accounts]);
    let (_file, mut none) = sink_of(&bed, ("none", "n"), "S", "p");
    let error = none.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    assert!(error.message.contains("not enabled"), "{error}");
}

#[tokio::test]
async fn a_server_on_which_no_jetstream_answers_may_get_one() {
    // The same as a cluster whose servers with JetStream are all away.
    let bed = OwnBed::nats(&["jetstream=disabled"]);
    let error = sink(&bed.address, "S", "p", "").open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn a_listener_on_the_subjects_of_a_missing_stream_hides_nothing() {
    let (name, prefix) = (unique("TAPPED"), unique("tapped"));
    let context = create(beds::nats(), takes(&name, &prefix)).await;
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    let tap = async_nats::connect(beds::nats()).await.unwrap();
    let _listening = tap.subscribe(format!("{prefix}.>")).await.unwrap();
    tap.flush().await.unwrap();
    context.delete_stream(&name).await.unwrap();
    // Somebody hears it, so no server says that nobody does; only the time-out tells.
    let started = tokio::time::Instant::now();
    let error = sink.publish(&records(3, 3)).await.unwrap_err();
    assert_eq!(error.failed.len(), 3);
    assert_eq!(error.failed[0].1.class, ErrorClass::Transient, "{error}");
    assert!(started.elapsed() < Duration::from_secs(15));
    assert_eq!(
        sink.open().await.unwrap_err().class,
        ErrorClass::Configuration
    );
}
