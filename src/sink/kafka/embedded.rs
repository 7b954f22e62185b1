//! For the demo and for tests only: a Kafka broker within this process, which forgets everything.
//!
//! It is librdkafka's mock cluster: it speaks the protocol on a loopback port to any client, keeps
//! records in memory, and knows neither settings nor rights nor times: whoever asks it which records
//! came since a moment, as `held` does, is told none. The bridge itself never uses it.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
#[cfg(test)]
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::super::{Destination, ErrorClass, SinkError};
use super::client::{Aside, Context};
use super::{errors, topic};
use crate::config::KafkaConfig;

/// How the cluster id of every mock cluster begins.
const CLUSTER_ID: &str = "mockCluster";

/// A broker on loopback that ends when this is dropped.
pub struct EmbeddedBroker {
    /// The mock cluster lives in a client of its own.
    host: Aside<BaseProducer<DefaultProducerContext>>,
    address: String,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Starts a broker with one topic.
    ///
    /// # Errors
    /// When no port is free, or the topic's name is none.
    pub fn start(topic: &str, partitions: i32) -> Result<Self, SinkError> {
        let failed = |error| errors::of_client("embedded broker", &error);
        let host: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .map_err(failed)?;
        let cluster = host.client().mock_cluster().ok_or_else(no_cluster)?;
        cluster.create_topic(topic, partitions, 1).map_err(failed)?;
        let address = cluster.bootstrap_servers();
        drop(cluster);
        Ok(Self {
            host: Aside::new(host),
            address,
        })
    }

    /// Its address, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Creates one more topic.
    ///
    /// # Errors
    /// When the topic exists, or its name is none.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), SinkError> {
        let cluster = self.host.client().mock_cluster().ok_or_else(no_cluster)?;
        cluster
            .create_topic(topic, partitions, 1)
            .map_err(|error| errors::of_client("embedded broker", &error))
    }

    /// Refuses every connection from now on.
    #[cfg(test)]
    pub(super) fn go_down(&self) {
        if let Some(cluster) = self.host.client().mock_cluster() {
            cluster.broker_down(-1).expect("-1 is every broker");
        }
    }

    /// Lets the next produce requests fail, each with one of these errors, to see what a client does.
    #[cfg(test)]
    pub(super) fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        self.fail(RDKafkaApiKey::Produce, errors);
    }

    /// As [`fail_produce`](Self::fail_produce), with requests to end a transaction.
    #[cfg(test)]
    pub(super) fn fail_end_of_transaction(&self, errors: &[RDKafkaRespErr]) {
        self.fail(RDKafkaApiKey::EndTxn, errors);
    }

    #[cfg(test)]
    fn fail(&self, requests: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        if let Some(cluster) = self.host.client().mock_cluster() {
            cluster.request_errors(requests, errors);
        }
    }
}

/// Whether the broker behind a client that has its metadata is an embedded one.
pub(super) fn is_embedded(client: &Client<Context>) -> bool {
    let id = client.fetch_cluster_id(Duration::ZERO);
    id.is_some_and(|id| id.starts_with(CLUSTER_ID))
}

/// What there is to say of an embedded broker; it has no answer to any further question.
pub(super) fn destination(config: &KafkaConfig, partitions: i32) -> Destination {
    Destination {
        description: format!(
            "topic {} at the embedded broker {} ({partitions} partition(s))",
            config.topic,
            topic::at(config)
        ),
        can_tell_what_it_holds: false,
        warnings: vec!["the embedded broker forgets everything when its process ends".to_owned()],
    }
}

fn no_cluster() -> SinkError {
    SinkError::new(ErrorClass::Fatal, "this librdkafka has no mock cluster")
}
