//! What happens to the ways between the bridge and everybody else.

use std::time::Duration;

use tokio::time::sleep;

use crate::proxy::Way;
use crate::world::World;

/// One way, or all of them, is bad for a while.
pub(super) async fn fault(world: &mut World) {
    match world.rng.below(5) {
        0 => cut(world).await,
        1 => silent(world).await,
        2 => slow(world).await,
        3 => closed(world).await,
        _ => {
            // It arrives before `settle` is over.
            let delay = world.scale.settle.mul_f64(0.6).min(Duration::from_secs(1));
            killed_with_bytes_on_their_way(world, delay).await;
        }
    }
    world.tally.faults += 1;
}

/// Sets the chosen ways for a while, then all of them back.
async fn set_for(world: &mut World, way: Way, span: Duration) {
    let chosen = world.rng.below(4);
    let ways = world.ways.as_ref().expect("this scenario is proxied").all();
    for (place, proxy) in (0..).zip(ways) {
        if chosen == place || chosen == 3 {
            proxy.set(way);
        }
    }
    sleep(span).await;
    for proxy in world.ways.as_ref().expect("this scenario is proxied").all() {
        proxy.set(Way::default());
    }
}

/// Connections are reset, several times in a row; what was on its way is gone.
async fn cut(world: &mut World) {
    for _ in 0..=world.rng.below(3) {
        let chosen = world.rng.below(4);
        let ways = world.ways.as_ref().expect("this scenario is proxied").all();
        for (place, proxy) in (0..).zip(ways) {
            if chosen == place || chosen == 3 {
                proxy.cut();
            }
        }
        world.under_load(10..800).await;
    }
}

/// Half-open: for a moment, or for longer than the feed's idle time-out.
async fn silent(world: &mut World) {
    let span = match world.rng.one_in(2) {
        true => world.rng.millis(7_000..9_000),
        false => world.rng.millis(200..2_000),
    };
    let way = Way {
        silent: true,
        ..Way::default()
    };
    set_for(world, way, span).await;
}

async fn slow(world: &mut World) {
    let delay = world.rng.millis(20..400);
    let way = Way {
        delay: [delay, delay],
        bandwidth: Some(100_000 + u32::try_from(world.rng.below(900_000)).unwrap_or_default()),
        ..Way::default()
    };
    let span = world.rng.millis(1_000..4_000);
    set_for(world, way, span).await;
}

/// Refused connections, after those that there were are cut.
async fn closed(world: &mut World) {
    for proxy in world.ways.as_ref().expect("this scenario is proxied").all() {
        proxy.set(Way {
            closed: true,
            ..Way::default()
        });
        proxy.cut();
    }
    world.under_load(500..3_000).await;
    for proxy in world.ways.as_ref().expect("this scenario is proxied").all() {
        proxy.set(Way::default());
    }
}

/// `kill -9` while what the bridge has sent to the brokers is on its way; it arrives after its death.
pub(super) async fn killed_with_bytes_on_their_way(world: &mut World, delay: Duration) {
    let ways = world.ways.as_ref().expect("this scenario is proxied");
    for proxy in [&ways.kafka, &ways.nats] {
        proxy.set(Way {
            delay: [delay, Duration::ZERO],
            ..Way::default()
        });
    }
    // A batch is under way all the time, and the next one waits for it.
    sleep(delay).await;
    world.under_load(1_000..3_000).await;
    world.kill().await;
    // The next one has a way of its own, without delay; the dead one's bytes keep theirs.
    for proxy in world.ways.as_ref().expect("this scenario is proxied").all() {
        proxy.set(Way::default());
    }
    world.start();
    // Judged only when the last late byte has come.
    sleep(delay).await;
    world.under_load(100..1_000).await;
}
