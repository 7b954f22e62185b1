//! What happens to the bridge's own process: killed at random, killed at named points, stopped.

use onboarding_bridge::failpoint::Point;
use tokio::time::sleep;

use crate::world::World;

/// `kill -9`, from before the feed is subscribed to long after the sinks have settled and caught up.
pub(super) async fn kill(world: &mut World, faults: u64) {
    let settle = u64::try_from(world.scale.settle.as_millis()).unwrap_or(u64::MAX);
    for _ in 0..faults {
        world.start();
        world.under_load(20..2_000 + settle).await;
        world.kill().await;
        if world.rng.one_in(4) {
            world.under_load(1..500).await;
        }
    }
    world.start();
    world.under_load(500..1_500).await;
}

/// `kill -9` of the running bridge, and the next one.
pub(super) async fn kill_once(world: &mut World) {
    world.kill().await;
    world.under_load(1..300).await;
    world.start();
}

/// Death at every fail-point, soon or later after the start. Each fault is a round of all points.
pub(super) async fn points(world: &mut World, faults: u64) {
    for _ in 0..faults {
        for point in Point::ALL {
            // Messages are many, commits few, batches fewer.
            let most = match point {
                Point::Received | Point::Published => 3_000,
                Point::Committing | Point::Committed => 100,
                Point::Publishing | Point::Acknowledged => 20,
                Point::MovingCursor | Point::MovedCursor => 10,
            };
            let nth = 1 + world.rng.below(most);
            let name = format!("{}:{nth}", point.as_str());
            world.start_to_die(Some(&name));
            world.wait_dead(&name).await;
        }
    }
    world.start();
    world.under_load(500..1_500).await;
}

/// SIGSTOP, for a moment or for longer than every idle time-out; then SIGCONT, or sometimes `kill -9`.
pub(super) async fn stop(world: &mut World) {
    let span = match world.rng.one_in(3) {
        true => world.rng.millis(7_000..9_000),
        false => world.rng.millis(50..2_000),
    };
    world.bridge().signal("STOP");
    sleep(span).await;
    world.tally.faults += 1;
    if world.rng.one_in(4) {
        world.kill_stopped();
        world.start();
    } else {
        world.bridge().signal("CONT");
    }
}
