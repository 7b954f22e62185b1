//! What is done to the bridge and its servers while the load runs. Each fault is a small function that ends
//! with everything whole again; all chance comes from the run's seed.

mod disk;
mod feed;
mod network;
mod outage;
mod processes;
mod servers;

use std::fmt;
use std::path::Path;

use clap::ValueEnum;

use crate::oracle::Verdict;
use crate::world::{Scale, Servers, Tally, World};

/// One way to make trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// `kill -9` at random instants.
    Kill,
    /// The same at a fifth of the load, so that the sinks are where the journal is.
    Calm,
    /// Death at each named fail-point.
    Points,
    /// SIGSTOP and SIGCONT, for a moment or longer than every idle time-out.
    Stop,
    /// Kafka and NATS are killed or stopped, and come back.
    Brokers,
    /// Three Kafka brokers; the leader is killed.
    KafkaLeader,
    /// Three NATS nodes; the leader of the stream is killed.
    NatsLeader,
    /// Cut, silent, slow and late ways to the vendor, to Kafka and to NATS.
    Network,
    /// `kill -9` while all bytes to the brokers are late by `--hold`.
    Late,
    /// Closes, resets, gaps, repeats, stalls and absences of the vendor.
    Feed,
    /// The journal's file system is full for a while.
    Disk,
    /// One sink is away for long.
    Outage,
    /// Everything that one broker of each kind allows.
    Mixed,
}

impl Scenario {
    /// What a run of no named scenario is chosen from.
    pub(crate) const CHOICE: [Self; 11] = [
        Self::Kill,
        Self::Calm,
        Self::Points,
        Self::Stop,
        Self::Brokers,
        Self::KafkaLeader,
        Self::NatsLeader,
        Self::Network,
        Self::Feed,
        Self::Disk,
        Self::Mixed,
    ];

    /// Faults of one run, unless told otherwise: about a minute's worth.
    const fn faults(self) -> u64 {
        match self {
            Self::Kill | Self::Calm => 20,
            Self::Points => 2,
            Self::Stop | Self::Brokers | Self::KafkaLeader | Self::NatsLeader => 5,
            Self::Network | Self::Late | Self::Feed | Self::Mixed => 8,
            Self::Disk => 3,
            Self::Outage => 1,
        }
    }

    const fn servers(self) -> Servers {
        match self {
            Self::Kill
            | Self::Calm
            | Self::Points
            | Self::Stop
            | Self::Brokers
            | Self::Feed
            | Self::Disk
            | Self::Outage => Servers::Single,
            Self::KafkaLeader => Servers::ThreeBrokers,
            Self::NatsLeader => Servers::ThreeNodes,
            Self::Network | Self::Late | Self::Mixed => Servers::Proxied,
        }
    }

    /// One run of it.
    pub(crate) async fn run(self, seed: u64, scale: Scale, folder: &Path) -> (Tally, Verdict) {
        let (rate, users) = match self {
            Self::Calm => (scale.rate / 5.0, scale.users / 10),
            _ => (scale.rate, scale.users),
        };
        let scale = Scale {
            rate,
            users,
            ..scale
        };
        let mut world = World::new(seed, scale, folder, self.servers()).await;
        let faults = scale.faults.unwrap_or(self.faults());
        world.resume();
        match self {
            Self::Kill | Self::Calm => processes::kill(&mut world, faults).await,
            Self::Points => processes::points(&mut world, faults).await,
            Self::Outage => outage::run(&mut world).await,
            Self::Disk => disk::run(&mut world, folder, faults).await,
            _ => {
                world.start();
                world.under_load(500..2_000).await;
                for _ in 0..faults {
                    Box::pin(self.fault(&mut world)).await;
                    world.under_load(200..2_000).await;
                }
            }
        }
        world.calm_down().await;
        let verdict = world.judge().await;
        let tally = std::mem::take(&mut world.tally);
        world.end().await;
        (tally, verdict)
    }

    /// One fault of it, with a running bridge before and after.
    async fn fault(self, world: &mut World) {
        match self {
            Self::Kill | Self::Calm | Self::Points | Self::Disk | Self::Outage => {
                processes::kill_once(world).await
            }
            Self::Stop => processes::stop(world).await,
            Self::Brokers => servers::restart(world).await,
            Self::KafkaLeader => servers::kill_kafka_leader(world).await,
            Self::NatsLeader => servers::kill_nats_leader(world).await,
            Self::Network => network::fault(world).await,
            Self::Late => network::killed_with_bytes_on_their_way(world, world.scale.hold).await,
            Self::Feed => feed::fault(world).await,
            Self::Mixed => {
                let kinds = [
                    Self::Kill,
                    Self::Stop,
                    Self::Brokers,
                    Self::Network,
                    Self::Feed,
                ];
                let kind = world.rng.pick(&kinds);
                Box::pin(kind.fault(world)).await;
            }
        }
    }
}

/// Its name on the command line.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.pad(value.get_name())
    }
}
