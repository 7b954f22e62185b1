//! Three NATS servers with a stream of three replicas, whose leader is killed or steps down while
//! records are under way.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use onboarding_bridge::event::Record;
use onboarding_bridge::sink::nats::NatsSink;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::sink;
use crate::support::beds::OwnBed;
use crate::support::bridge::PATIENCE;
use crate::support::patient::publish_all;
use crate::support::records::records;

/// Batches as `deliver` makes them; the trouble comes after this one.
const BATCH: usize = 500;
const TROUBLE_AFTER: usize = 4;

struct Cluster {
    bed: OwnBed,
    context: jetstream::Context,
}

impl Cluster {
    async fn start() -> Self {
        let bed = OwnBed::nats_with(&["--nodes", "3"]);
        let servers: Vec<_> = bed.address.split(',').collect();
        let client = async_nats::connect(servers).await.unwrap();
        let context = jetstream::new(client);
        let config = stream::Config {
            name: "S".to_owned(),
            subjects: vec!["p.>".to_owned()],
            num_replicas: 3,
            ..stream::Config::default()
        };
        let deadline = Instant::now() + PATIENCE;
        // A cluster that has just found its leader may not know yet that all are there.
        while let Err(error) = context.create_stream(config.clone()).await {
            assert!(Instant::now() < deadline, "{error}");
            sleep(Duration::from_millis(100)).await;
        }
        Self { bed, context }
    }

    fn sink(&self) -> NatsSink {
        sink(&self.bed.address, "S", "p", "")
    }

    /// The number of the server that leads the stream.
    async fn leader(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut stream) = self.context.get_stream("S").await
                && let Ok(info) = stream.info().await
                && let Some(leader) = info.cluster.as_ref().and_then(|group| group.leader.clone())
            {
                return leader.strip_prefix("bed-").unwrap().parse().unwrap();
            }
            assert!(Instant::now() < deadline, "the stream has no leader");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is in the stream: the numbers of each user's records must rise, and all be there once.
    async fn holds_exactly(&self, published: &[Arc<Record>]) {
        let mut stream = self.context.get_stream("S").await.unwrap();
        let count = stream.info().await.unwrap().state.messages;
        let mut found = Vec::new();
        for sequence in 1..=count {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let body: Value = serde_json::from_slice(&message.payload).unwrap();
            let user = body["user_id"].as_str().unwrap().to_owned();
            found.push((user, body["number"].as_u64().unwrap()));
        }
        assert_eq!(found.len(), published.len(), "once");
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), published.len());
        found.sort_by(|a, b| a.0.cmp(&b.0)); // stable: the order of one user is as it was
        assert!(found.is_sorted(), "in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_leader_that_is_killed_costs_no_event_and_no_order() {
    let cluster = Cluster::start().await;
    let mut sink = cluster.sink();
    let all = records(10_000, 100);
    let failures = publish_all(&mut sink, &all, BATCH, async |batch| {
        if batch == TROUBLE_AFTER {
            let leader = cluster.leader().await;
            tokio::task::block_in_place(|| cluster.bed.signal_member(leader, "KILL"));
        }
    })
    .await;
    println!("{failures:?}");
    cluster.holds_exactly(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_steps_down_costs_no_event_and_no_order() {
    let cluster = Cluster::start().await;
    let mut sink = cluster.sink();
    let all = records(10_000, 100);
    let failures = publish_all(&mut sink, &all, BATCH, async |batch| {
        if batch % TROUBLE_AFTER == 0 {
            let answer = cluster
                .context
                .client()
                .request("$JS.API.STREAM.LEADER.STEPDOWN.S", "".into())
                .await
                .unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer["success"], true, "{answer}");
        }
    })
    .await;
    println!("{failures:?}");
    cluster.holds_exactly(&all).await;
}
