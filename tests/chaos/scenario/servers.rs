//! What happens to the servers behind the bridge: killed or stopped and started again on the same data,
//! one of them or both; of three, the leader.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::time::{Instant, sleep};

use crate::bridge::PATIENCE;
use crate::evidence;
use crate::world::{STREAM, TOPIC, World};

/// Kafka, NATS or both go away, in order or not, and come back after a moment.
pub(super) async fn restart(world: &mut World) {
    let (kafka, nats) = world
        .rng
        .pick(&[(true, false), (false, true), (true, true)]);
    let signal = world.rng.pick(&["KILL", "KILL", "TERM"]);
    let away = world.rng.millis(100..4_000);
    let beds = [(kafka, &world.kafka), (nats, &world.nats)];
    for (_, bed) in beds.iter().filter(|(chosen, _)| *chosen) {
        bed.command("kill", &["--signal", signal]).await;
    }
    sleep(away).await;
    for (_, bed) in beds.iter().filter(|(chosen, _)| *chosen) {
        // It waits for the end of one that was asked to end.
        bed.command("restart", &[]).await;
    }
    world.tally.faults += 1;
}

/// Kills the leader of a partition, waits until another leads, and brings it back.
pub(super) async fn kill_kafka_leader(world: &mut World) {
    let brokers = world.kafka.value("KAFKA_DIRECT");
    let (leader, _) = topic(&brokers);
    let id = leader.to_string();
    world.kafka.command("kill-broker", &["--id", &id]).await;
    wait_for("another leader", || topic(&brokers).0 != leader).await;
    world.under_load(500..3_000).await;
    world.kafka.command("start-broker", &["--id", &id]).await;
    // Else the next one would leave too few replicas.
    wait_for("every replica to be in sync", || topic(&brokers).1 == 3).await;
    world.tally.faults += 1;
}

/// The leader of the first partition, and how many replicas the poorest partition has in sync.
fn topic(brokers: &str) -> (i32, usize) {
    let asked = || -> Option<(i32, usize)> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()
            .ok()?;
        let metadata = client
            .fetch_metadata(Some(TOPIC), Duration::from_secs(5))
            .ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let in_sync = partitions.iter().map(|partition| partition.isr().len());
        Some((partitions.first()?.leader(), in_sync.min()?))
    };
    tokio::task::block_in_place(asked).unwrap_or((-1, 0))
}

/// Kills the leader of the stream, waits until another leads, and brings it back.
pub(super) async fn kill_nats_leader(world: &mut World) {
    let urls = world.nats.value("NATS_URL");
    let leader = stream(&urls).await.0;
    let leader = leader.expect("a stream has a leader when nothing is wrong");
    let id = leader.rsplit('-').next().unwrap_or_default().to_owned();
    world.nats.command("kill-node", &["--id", &id]).await;
    let start = Instant::now();
    while stream(&urls).await.0.is_none_or(|now| now == leader) {
        assert!(start.elapsed() < PATIENCE, "no other leader of the stream");
        sleep(Duration::from_millis(100)).await;
    }
    world.under_load(500..3_000).await;
    world.nats.command("start-node", &["--id", &id]).await;
    while stream(&urls).await.1 < 2 {
        assert!(start.elapsed() < PATIENCE, "a node does not come back");
        sleep(Duration::from_millis(100)).await;
    }
    world.tally.faults += 1;
}

/// The stream's leader, and how many others are up to date.
async fn stream(urls: &str) -> (Option<String>, usize) {
    let context = evidence::jetstream(urls).await;
    let Ok(mut stream) = context.get_stream(STREAM).await else {
        return (None, 0);
    };
    let Ok(info) = stream.info().await else {
        return (None, 0);
    };
    let Some(cluster) = &info.cluster else {
        return (None, 0);
    };
    let current = cluster
        .replicas
        .iter()
        .filter(|peer| peer.current && !peer.offline);
    (cluster.leader.clone(), current.count())
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        sleep(Duration::from_millis(200)).await;
    }
}
