//! One sink is away for long: the feed and the other sink notice nothing, memory stays flat, and afterwards
//! it catches up far faster than events arrive.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::world::World;

/// Memory may differ by so much while a sink is away.
const MEMORY: u64 = 20 * 1024 * 1024;

/// Catching up is at least so many times as fast as what arrives.
const CATCH_UP: f64 = 5.0;

/// Before it: long enough for memory to reach its level.
const WARM_UP: Duration = Duration::from_secs(30);

/// What was seen once a second.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    resident: u64,
    connected: bool,
    other_lag: f64,
    away_lag: f64,
}

pub(super) async fn run(world: &mut World) {
    let (away, other) = world.rng.pick(&[("kafka", "nats"), ("nats", "kafka")]);
    world.start();
    let before = watch(world, WARM_UP, away, other).await;
    let bed = if away == "kafka" {
        &world.kafka
    } else {
        &world.nats
    };
    bed.command("kill", &["--signal", "KILL"]).await;
    let outage = world.scale.outage;
    let during = watch(world, outage, away, other).await;
    let bed = if away == "kafka" {
        &world.kafka
    } else {
        &world.nats
    };
    bed.command("restart", &[]).await;
    world.tally.faults += 1;
    catch_up(world, away).await;
    compare(world, away, &before, &during);
}

async fn watch(world: &mut World, span: Duration, away: &str, other: &str) -> Vec<Seen> {
    let (start, mut seconds) = (Instant::now(), interval(Duration::from_secs(1)));
    let mut seen = Vec::new();
    while start.elapsed() < span {
        seconds.tick().await;
        world.bridge().must_live();
        let resident = world.bridge().resident();
        if let Some(metrics) = world.metrics().await {
            let lag = |sink| metrics.get(&format!("sink_lag_records{{sink=\"{sink}\"}}"));
            seen.push(Seen {
                resident,
                connected: metrics.get("feed_connected") > 0.5,
                other_lag: lag(other),
                away_lag: lag(away),
            });
        }
    }
    seen
}

/// How fast what was missed is delivered.
async fn catch_up(world: &mut World, away: &str) {
    let series = [
        format!("sink_published_total{{sink=\"{away}\"}}"),
        format!("sink_lag_records{{sink=\"{away}\"}}"),
    ];
    let mut begun: Option<(Instant, f64, f64)> = None;
    let give_up = Instant::now() + world.scale.outage + Duration::from_secs(120);
    loop {
        assert!(Instant::now() < give_up, "{away} does not catch up");
        world.under_load(100..101).await;
        let Some(metrics) = world.metrics().await else {
            continue;
        };
        let [published, lag] = series.each_ref().map(|series| metrics.get(series));
        match begun {
            None => begun = Some((Instant::now(), published, lag)),
            // Not yet open again: its wait and its settling are no catching up.
            Some((_, before, _)) if published == before => {
                begun = Some((Instant::now(), published, lag));
            }
            Some((since, before, behind)) if lag <= world.scale.rate => {
                let seconds = since.elapsed().as_secs_f64();
                let rate = (published - before) / seconds;
                let times = rate / world.scale.rate;
                world.tally.notes.push(format!(
                    "{away} was {behind} records behind and caught up in {seconds:.1} s, \
                     {rate:.0} records/s, {times:.1} times what arrived"
                ));
                if times < CATCH_UP {
                    world.tally.wrong.push(format!(
                        "caught up at only {times:.1} times the rate of arrival"
                    ));
                }
                return;
            }
            Some(_) => {}
        }
    }
}

fn compare(world: &mut World, away: &str, before: &[Seen], during: &[Seen]) {
    // The level is that of the second half of the warm-up.
    let level = &before[before.len() / 2..];
    let resident = |seen: &[Seen]| seen.iter().map(|seen| seen.resident).max().unwrap_or(0);
    let (usual, most) = (resident(level), resident(during));
    let lag = |seen: &[Seen]| seen.iter().map(|seen| seen.other_lag).fold(0.0, f64::max);
    let (usual_lag, most_lag) = (lag(level), lag(during));
    let mib = |bytes: u64| bytes / 1024 / 1024;
    let behind = during.last().map_or(0.0, |seen| seen.away_lag);
    world.tally.notes.push(format!(
        "memory {} MiB before, {} MiB at most while {away} was away; the other sink lagged by {usual_lag} \
         records at most before and {most_lag} meanwhile; {away} lacked {behind} at the end",
        mib(usual),
        mib(most)
    ));
    if most > usual + MEMORY {
        world
            .tally
            .wrong
            .push("memory grew by more than 20 MiB".to_owned());
    }
    // Half a second's worth is what commits and batches make at any time.
    if most_lag > usual_lag.max(world.scale.rate / 2.0) {
        world.tally.wrong.push("the other sink lagged".to_owned());
    }
    if during.iter().any(|seen| !seen.connected) {
        world.tally.wrong.push("the feed was lost".to_owned());
    }
}
