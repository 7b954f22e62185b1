//! Three Kafka brokers that lose a leader, their quorum, or a partition's only replica while records
//! are under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::event::Record;
use onboarding_bridge::sink::Sink;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::sink;
use crate::support::beds::OwnBed;
use crate::support::kafka_admin::{create_placed, leaders};
use crate::support::oracle::read_by_java;
use crate::support::patient::publish_all;
use crate::support::records::records;

const TOPIC: &str = "users";

fn start() -> OwnBed {
    OwnBed::kafka_with(&["--brokers", "3"])
}

/// Every record is there once, and those of one user in their order.
fn holds_exactly(brokers: &str, published: &[Arc<Record>]) {
    let found = read_by_java(brokers, TOPIC);
    assert_eq!(found.len(), published.len(), "once");
    let mut users: HashMap<&str, Vec<u64>> = HashMap::new();
    for found in &found {
        let body: Value = serde_json::from_str(found["value"].as_str().unwrap()).unwrap();
        let user = users.entry(found["key"].as_str().unwrap()).or_default();
        user.push(body["number"].as_u64().unwrap());
    }
    for (user, numbers) in users {
        // A user has one partition, and that is read in the order of its offsets.
        assert!(numbers.is_sorted_by(|a, b| a < b), "{user}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_leader_that_is_killed_costs_no_event_and_no_order() {
    let bed = start();
    create_placed(
        &bed.address,
        TOPIC,
        &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 3, 2]],
    )
    .await;
    let mut sink = sink(&bed.address, TOPIC, "{}");
    let all = records(20_000, 200);
    let started = Instant::now();
    let failures = publish_all(&mut sink, &all, 500, async |batch| {
        if batch == 5 {
            let leader = leaders(&bed.address, TOPIC).await.unwrap()[0];
            tokio::task::block_in_place(|| bed.signal_member(leader, "KILL"));
            println!("killed {leader} after {:?}", started.elapsed());
        }
        if batch == 6 {
            println!("the batch after it begins after {:?}", started.elapsed());
        }
    })
    .await;
    println!("{:?} in all, {failures:?}", started.elapsed());
    let now = leaders(&bed.address, TOPIC).await.unwrap();
    assert!(
        !now.contains(&1),
        "another leads what broker 1 led: {now:?}"
    );
    let (_, alive) = bed.address.split_once(',').unwrap(); // Java would wait for the dead one
    holds_exactly(alive, &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_enough_replicas_nothing_is_acknowledged_and_nothing_is_lost() {
    let bed = start();
    create_placed(&bed.address, TOPIC, &[&[1, 2, 3], &[1, 3, 2]]).await;
    let mut sink = sink(&bed.address, TOPIC, "{}");
    sink.open().await.unwrap();
    let all = records(3_000, 50);
    sink.publish(&all[..1_000]).await.unwrap();
    // The leader stays, with one replica of the two that must be in sync.
    for broker in [2, 3] {
        tokio::task::block_in_place(|| bed.signal_member(broker, "KILL"));
    }
    let mut publishing = sink.publish(&all[1_000..]);
    let waited = timeout(Duration::from_secs(10), &mut publishing).await;
    assert!(waited.is_err(), "{waited:?}");
    for broker in [2, 3] {
        tokio::task::block_in_place(|| bed.start_member(broker));
    }
    publishing.await.unwrap();
    holds_exactly(&bed.address, &all);
}

/// The limit of "nobody else's" at Kafka, as it is: a batch waits for each of its records.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_away_holds_back_its_topic_and_loses_nothing() {
    let bed = start();
    create_placed(&bed.address, TOPIC, &[&[1], &[2], &[3]]).await;
    let mut sink = sink(&bed.address, TOPIC, "{}");
    sink.open().await.unwrap();
    let all = records(3_000, 50);
    sink.publish(&all[..1_000]).await.unwrap();
    tokio::task::block_in_place(|| bed.signal_member(3, "KILL"));
    let away = Duration::from_secs(10);
    let mut publishing = sink.publish(&all[1_000..]);
    let waited = timeout(away, &mut publishing).await;
    assert!(waited.is_err(), "{waited:?}");
    tokio::task::block_in_place(|| bed.start_member(3));
    publishing.await.unwrap();
    holds_exactly(&bed.address, &all);
}
