//! Notices as consumers see them: control records and dead letters beside the events.
//!
//! They come at least once: one that came again, and is the same to the byte, is taken once.

use std::collections::BTreeMap;

use onboarding_bridge::sink::nats::tail::{TailFrom, TailReader};
use serde_json::Value;

use super::oracle::{self, read_by_java};

/// A notice as a consumer sees it: its attributes and its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// Those that came, each at the place of its first time.
fn once(told: impl Iterator<Item = Told>) -> Vec<Told> {
    told.fold(Vec::new(), |mut before, told| {
        if !before.contains(&told) {
            before.push(told);
        }
        before
    })
}

/// What a topic of notices holds, in the order of its partition.
pub(crate) async fn kafka(brokers: &str, topic: &str) -> Vec<Told> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let read = tokio::task::spawn_blocking(move || read_by_java(&brokers, &topic));
    let told = read.await.unwrap().into_iter().map(|found| {
        let headers = found["headers"].as_object().unwrap().iter();
        let attributes = headers
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("ce_")?.to_owned();
                Some((name, value.as_str().unwrap().to_owned()))
            })
            .collect();
        let body = serde_json::from_str(found["value"].as_str().unwrap()).unwrap();
        Told { attributes, body }
    });
    once(told)
}

/// What a subject of notices holds, in the order of the stream.
pub(crate) async fn nats(url: &str, stream: &str, subject: &str) -> Vec<Told> {
    let count = oracle::stored(url, stream, subject).await;
    let mut told = Vec::new();
    let tail = TailReader::open(url, stream, subject, TailFrom::Beginning);
    let mut tail = tail.await.unwrap();
    for _ in 0..count {
        let message = tail.next().await.unwrap();
        let headers = message.headers.iter();
        let attributes: BTreeMap<String, String> = headers
            .filter_map(|(name, value)| Some((name.strip_prefix("ce-")?.to_owned(), value.clone())))
            .filter(|(name, _)| name != "datacontenttype")
            .collect();
        assert_eq!(message.message_id.as_ref(), attributes.get("id"));
        let body = serde_json::from_slice(&message.body).unwrap();
        told.push(Told { attributes, body });
    }
    once(told.into_iter())
}
