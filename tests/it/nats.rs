//! The NATS sink where it differs from the others: errors and their classes, rights, limits, repeats,
//! and a server that goes away.

mod cluster;
mod credentials;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use onboarding_bridge::event::{Record, Timestamp};
use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader, ensure_stream};
use onboarding_bridge::sink::nats::{NatsSink, subject};
use onboarding_bridge::sink::{ErrorClass, Sink, SinkError};

use crate::support::beds::OwnBed;
use crate::support::records::{HOSTILE_KEYS, record, record_at, records};
use crate::support::{beds, unique};

fn sink(url: &str, stream: &str, prefix: &str, more: &str) -> NatsSink {
    let text =
        format!("{{name: n, url: '{url}', stream: {stream}, subject_prefix: {prefix}{more}}}");
    NatsSink::new(&serde_norway::from_str(&text).unwrap()).unwrap()
}

async fn create(url: &str, config: stream::Config) -> jetstream::Context {
    let context = jetstream::new(async_nats::connect(url).await.unwrap());
    context.create_stream(config).await.unwrap();
    context
}

#[tokio::test]
async fn a_message_has_the_subject_of_its_key_and_all_headers() {
    let (stream, prefix) = (unique("HEADERS"), unique("headers"));
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    let mut sink = sink(beds::nats(), &stream, &prefix, "");
    sink.open().await.unwrap();
    let batch: Vec<_> = (0..)
        .zip(HOSTILE_KEYS)
        .map(|(n, key)| record(n, key))
        .collect();
    sink.publish(&batch).await.unwrap();
    let filter = format!("{prefix}.*");
    let mut tail = TailReader::open(beds::nats(), &stream, &filter, TailFrom::Beginning)
        .await
        .unwrap();
    for record in &batch {
        let found = tail.next().await.unwrap();
        assert_eq!(
            found.subject,
            format!("{prefix}.{}", subject::encode(&record.key))
        );
        assert_eq!(found.body, record.body);
        let header = |name: &str| {
            let found = found.headers.iter().find(|(key, _)| key == name);
            found.unwrap_or_else(|| panic!("no {name}")).1.clone()
        };
        assert_eq!(header("Nats-Msg-Id"), record.event_id.to_string());
        assert_eq!(header("Nats-Expected-Stream"), stream);
        assert_eq!(header("ce-id"), record.event_id.to_string());
        assert_eq!(header("ce-specversion"), "1.0");
        assert_eq!(header("ce-datacontenttype"), "application/json");
        assert!(
            header("ce-subject")
                .bytes()
                .all(|byte| byte.is_ascii_graphic())
        );
        assert_eq!(found.headers.len(), 11);
    }
}

#[tokio::test]
async fn a_repeat_is_success_and_stored_once() {
    let (stream, prefix) = (unique("REPEAT"), unique("repeat"));
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    let mut sink = sink(beds::nats(), &stream, &prefix, "");
    sink.open().await.unwrap();
    let batch = records(50, 5);
    sink.publish(&batch).await.unwrap();
    sink.publish(&batch).await.unwrap();
    let context = jetstream::new(async_nats::connect(beds::nats()).await.unwrap());
    let mut found = context.get_stream(&stream).await.unwrap();
    assert_eq!(found.info().await.unwrap().state.messages, 50);
}

#[tokio::test]
async fn a_missing_stream_says_what_to_do_and_is_not_created() {
    let (stream, prefix) = (unique("MISSING"), unique("missing"));
    for _ in 0..2 {
        let error = sink(beds::nats(), &stream, &prefix, "")
            .open()
            .await
            .unwrap_err();
        assert_eq!(error.class, ErrorClass::Configuration);
        for words in [stream.as_str(), &format!("{prefix}.>"), "create it"] {
            assert!(error.message.contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_stream_for_other_subjects_is_refused_and_an_unsafe_one_is_warned_of() {
    let (name, prefix) = (unique("OTHER"), unique("other"));
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![format!("{prefix}.a.>")],
        max_messages: 10,
        duplicate_window: Duration::from_secs(1),
        storage: stream::StorageType::Memory,
        ..stream::Config::default()
    };
    create(beds::nats(), config).await;
    let error = sink(beds::nats(), &name, &prefix, "")
        .open()
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(
        error.message.contains(&format!("but not `{prefix}.>`")),
        "{error}"
    );
    let destination = sink(beds::nats(), &name, &format!("{prefix}.a"), "")
        .open()
        .await
        .unwrap();
    assert!(destination.can_tell_what_it_holds);
    let warnings = destination.warnings.join("\n");
    for words in ["1 replica(s)", "memory", "1s", "discard: old"] {
        assert!(warnings.contains(words), "{warnings}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_may_come_back() {
    let error = sink("nats://127.0.0.1:1", "S", "p", "")
        .open()
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.message.contains("nats://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_refused() {
    let url = beds::nats().replace("nats://", "tls://");
    sink(&url, "S", "p", "").open().await.unwrap_err();
}

#[tokio::test]
async fn a_record_too_large_for_stream_or_server_takes_no_other_with_it() {
    let (name, prefix) = (unique("LARGE"), unique("large"));
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![format!("{prefix}.>")],
        max_message_size: 20_000,
        ..stream::Config::default()
    };
    create(beds::nats(), config).await;
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    let mut batch = records(6, 1);
    for (index, bytes) in [(1, 30_000), (3, 3_000_000)] {
        Arc::<Record>::make_mut(&mut batch[index])
            .body
            .resize(bytes, b' ');
    }
    let error = sink.publish(&batch).await.unwrap_err();
    let failed: Vec<_> = error
        .failed
        .iter()
        .map(|(index, error)| (*index, error.class))
        .collect();
    assert_eq!(
        failed,
        [(1, ErrorClass::Record), (3, ErrorClass::Record)],
        "{error}"
    );
    assert_eq!(sink.held(batch[0].received_at).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_full_stream_stops_the_batch_until_an_operator_makes_room() {
    let (name, prefix) = (unique("FULL"), unique("full"));
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![format!("{prefix}.>")],
        max_messages: 10,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    let context = create(beds::nats(), config).await;
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    let batch = records(30, 1);
    let error = sink.publish(&batch).await.unwrap_err();
    let failed: Vec<_> = error.failed.iter().map(|(index, _)| *index).collect();
    assert_eq!(failed, (10..30).collect::<Vec<_>>());
    assert!(
        error
            .failed
            .iter()
            .all(|(_, e)| e.class == ErrorClass::Configuration),
        "{error}"
    );
    assert!(
        error.failed[0]
            .1
            .message
            .contains("maximum messages exceeded"),
        "{error}"
    );
    context
        .get_stream(&name)
        .await
        .unwrap()
        .purge()
        .await
        .unwrap();
    sink.open().await.unwrap();
    sink.publish(&batch[10..20]).await.unwrap();
}

#[tokio::test]
async fn a_record_that_found_no_room_is_overtaken_by_none_of_its_key() {
    let (name, prefix) = (unique("ROOM"), unique("room"));
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![format!("{prefix}.>")],
        max_bytes: 40_000,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    create(beds::nats(), config).await;
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    // The second large one finds no room, but what is behind it would.
    let mut batch: Vec<_> = (0..20).map(|n| record(n, "one")).collect();
    for index in [1, 2] {
        Arc::<Record>::make_mut(&mut batch[index])
            .body
            .resize(25_000, b' ');
    }
    let error = sink.publish(&batch).await.unwrap_err();
    let failed: Vec<_> = error.failed.iter().map(|(index, _)| *index).collect();
    assert_eq!(failed, (2..20).collect::<Vec<_>>());
    let held = sink.held(batch[0].received_at).await.unwrap();
    assert_eq!(
        held,
        batch[..2].iter().map(|record| record.event_id).collect()
    );
}

#[tokio::test]
async fn a_stream_that_is_deleted_meanwhile_is_found_missing() {
    let (name, prefix) = (unique("GONE"), unique("gone"));
    ensure_stream(beds::nats(), &name, &prefix).await.unwrap();
    let mut sink = sink(beds::nats(), &name, &prefix, "");
    sink.open().await.unwrap();
    let context = jetstream::new(async_nats::connect(beds::nats()).await.unwrap());
    context.delete_stream(&name).await.unwrap();
    let error = sink.publish(&records(3, 3)).await.unwrap_err();
    assert_eq!(error.failed.len(), 3);
    assert_eq!(error.failed[0].1.class, ErrorClass::Transient);
    assert_eq!(
        sink.open().await.unwrap_err().class,
        ErrorClass::Configuration
    );
}

/// A server with two users: `admin` may everything; `writer` may publish and ask, but read nothing.
fn with_users() -> OwnBed {
    let users = "{ users: [ { user: admin, password: a }, \
        { user: writer, password: w, permissions: { publish: [ \"ok.>\", \"$JS.API.STREAM.INFO.*\" ], \
          subscribe: [ \"_INBOX.>\" ] } } ] }";
    OwnBed::nats(&[&format!("authorization={users}")])
}

/// The address with the credentials of `admin`, for everything but the sink.
fn as_admin(bed: &OwnBed) -> String {
    bed.address.replace("nats://", "nats://admin:a@")
}

/// A sink that is the given user; the file with the password goes with the first of the pair.
fn sink_of(
    bed: &OwnBed,
    (user, password): (&str, &str),
    stream: &str,
    prefix: &str,
) -> (tempfile::NamedTempFile, NatsSink) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{password}\n")).unwrap();
    let more = format!(", user: {user}, password_file: '{}'", file.path().display());
    let sink = sink(&bed.address, stream, prefix, &more);
    (file, sink)
}

#[tokio::test]
async fn missing_rights_are_told_by_name_and_never_with_the_key() {
    let bed = with_users();
    for (stream, prefix) in [("OK", "ok.users"), ("NO", "no.users")] {
        ensure_stream(&as_admin(&bed), stream, prefix)
            .await
            .unwrap();
    }
    // It may publish but not read: the promise is less, and it says so.
    let (_file, mut may) = sink_of(&bed, ("writer", "w"), "OK", "ok.users");
    let destination = may.open().await.unwrap();
    assert!(!destination.can_tell_what_it_holds);
    let warnings = destination.warnings.join("\n");
    assert!(warnings.contains("cannot be read"), "{warnings}");
    may.publish(&records(5, 5)).await.unwrap();
    let error = may.held(records(1, 1)[0].received_at).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    may.publish(&records(5, 5)).await.unwrap();

    let (_file, mut may_not) = sink_of(&bed, ("writer", "w"), "NO", "no.users");
    may_not.open().await.unwrap();
    let started = tokio::time::Instant::now();
    let error = may_not.publish(&records(5, 5)).await.unwrap_err();
    assert_eq!(error.failed.len(), 5);
    let configuration = |(_, e): &(_, SinkError)| e.class == ErrorClass::Configuration;
    assert!(error.failed.iter().all(configuration), "{error}");
    assert!(error.to_string().contains("`no.users.*`"), "{error}");
    assert!(!format!("{error:?}").contains("user_"), "{error:?}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "not by a time-out"
    );
}

#[tokio::test]
async fn a_wrong_password_is_a_matter_of_configuration_and_is_not_told() {
    let bed = with_users();
    ensure_stream(&as_admin(&bed), "OK", "ok.users")
        .await
        .unwrap();
    let (_file, mut wrong) = sink_of(&bed, ("admin", "hush"), "OK", "ok.users");
    let error = wrong.open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration);
    assert!(!error.message.contains("hush"), "{error}");
    let (file, mut right) = sink_of(&bed, ("admin", "a"), "OK", "ok.users");
    right.open().await.unwrap();
    // A secret is read again at each open.
    std::fs::write(file.path(), "hush").unwrap();
    assert_eq!(
        right.open().await.unwrap_err().class,
        ErrorClass::Configuration
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_an_unknown_outcome_and_no_double() {
    let bed = OwnBed::nats(&[]);
    ensure_stream(&bed.address, "S", "p").await.unwrap();
    let mut sink = sink(&bed.address, "S", "p", "");
    sink.open().await.unwrap();
    let batch = records(20_000, 500);
    let started = tokio::time::Instant::now();
    let (published, ()) = tokio::join!(sink.publish(&batch), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        tokio::task::block_in_place(|| bed.signal("KILL"));
    });
    let error = published.expect_err("it was killed in the middle");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "a lost connection is no time-out"
    );
    assert!(
        error
            .failed
            .iter()
            .all(|(_, e)| e.class == ErrorClass::Transient),
        "{error}"
    );
    assert_eq!(sink.open().await.unwrap_err().class, ErrorClass::Transient);
    tokio::task::block_in_place(|| bed.restart());
    sink.open().await.unwrap();
    let held = sink.held(batch[0].received_at).await.unwrap();
    for (index, record) in batch.iter().enumerate() {
        let failed = error.failed.iter().any(|(i, _)| *i == index);
        assert!(
            failed || held.contains(&record.event_id),
            "acknowledged, so it is there"
        );
    }
    let rest: Vec<_> = batch
        .iter()
        .filter(|r| !held.contains(&r.event_id))
        .cloned()
        .collect();
    sink.publish(&rest).await.unwrap();
    let context = jetstream::new(async_nats::connect(&bed.address).await.unwrap());
    let mut found = context.get_stream("S").await.unwrap();
    assert_eq!(found.info().await.unwrap().state.messages, 20_000);
}

#[tokio::test]
async fn a_clock_that_was_set_back_hides_nothing_that_is_held() {
    let (stream, prefix) = (unique("CLOCK"), unique("clock"));
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    let mut sink = sink(beds::nats(), &stream, &prefix, "");
    sink.open().await.unwrap();
    // Received while our clock was three hours ahead; by now it is right. The stream's clock always was.
    let ahead = Timestamp(Timestamp::now().0 + 10_800_000_000_000);
    let batch: Vec<_> = (0..3).map(|n| record_at(n, "one", ahead)).collect();
    sink.publish(&batch).await.unwrap();
    let held = sink.held(ahead).await.unwrap();
    assert!(batch.iter().all(|record| held.contains(&record.event_id)));
}
