//! What a Kafka operator does: topics with placed replicas, their end, rights, and passwords.

use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use tokio::time::{Instant, sleep};

use super::beds;
use super::bridge::PATIENCE;

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).create().unwrap()
}

/// Creates a topic whose partitions have their replicas on these brokers, the leader first.
pub(crate) async fn create_placed(brokers: &str, topic: &str, replicas: &[&[i32]]) {
    let new = NewTopic::new(
        topic,
        i32::try_from(replicas.len()).unwrap(),
        TopicReplication::Variable(replicas),
    );
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let created = admin(brokers)
        .create_topics([&new], &options)
        .await
        .unwrap();
    created.into_iter().for_each(|topic| drop(topic.unwrap()));
    let deadline = Instant::now() + PATIENCE;
    let found = |leaders: Vec<i32>| leaders.len() == replicas.len();
    while leaders(brokers, topic)
        .await
        .is_none_or(|leaders| !found(leaders))
    {
        assert!(Instant::now() < deadline, "topic {topic} has no leaders");
    }
}

/// Deletes a topic, and waits until no broker of the list knows it any more.
pub(crate) async fn delete(brokers: &str, topic: &str) {
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let deleted = admin(brokers)
        .delete_topics(&[topic], &options)
        .await
        .unwrap();
    deleted.into_iter().for_each(|topic| drop(topic.unwrap()));
    let deadline = Instant::now() + PATIENCE;
    while leaders(brokers, topic).await.is_some() {
        assert!(Instant::now() < deadline, "topic {topic} is still there");
    }
}

/// Gives a topic these settings and the default of every other.
pub(crate) async fn alter(brokers: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in settings {
        config = config.set(name, value);
    }
    let altered = admin(brokers)
        .alter_configs([&config], &AdminOptions::new())
        .await;
    altered
        .unwrap()
        .into_iter()
        .for_each(|topic| drop(topic.unwrap()));
}

/// The leader of each partition, when the topic is there and each has one.
pub(crate) async fn leaders(brokers: &str, topic: &str) -> Option<Vec<i32>> {
    // A pause, because whoever calls this asks again.
    sleep(Duration::from_millis(50)).await;
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let ask = move || {
        let client = admin(&brokers);
        let metadata = client
            .inner()
            .fetch_metadata(Some(&topic), Duration::from_secs(5))
            .ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let leaders: Vec<i32> = partitions
            .iter()
            .map(|partition| partition.leader())
            .collect();
        let each_has_one = !leaders.is_empty() && leaders.iter().all(|leader| *leader > 0);
        each_has_one.then_some(leaders)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// Grants a user operations on a resource (`topic:NAME`, `group:NAME`, `transactional:ID`, `cluster`).
pub(crate) fn grant(brokers: &str, user: &str, resource: &str, operations: &[&str]) {
    rights(brokers, "grant", user, resource, operations);
}

/// Takes back what was granted.
pub(crate) fn revoke(brokers: &str, user: &str, resource: &str, operations: &[&str]) {
    rights(brokers, "revoke", user, resource, operations);
}

/// Sets the password of a user who logs in by SCRAM.
pub(crate) fn set_password(brokers: &str, user: &str, password: &str) {
    java("Scram.java", &[brokers, user, password]);
}

fn rights(brokers: &str, what: &str, user: &str, resource: &str, operations: &[&str]) {
    let who = [brokers, what, user, resource];
    java("Rights.java", &[&who, operations].concat());
}

fn java(program: &str, arguments: &[&str]) {
    let output = Command::new("java")
        .arg("-cp")
        .arg(beds::kafka_classpath())
        .arg(beds::path(program))
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}
