//! What the vendor does: ends connections well or badly, leaves numbers out, repeats, reorders, falls
//! silent, is away.

use std::time::Duration;

use tokio::time::sleep;

use crate::world::World;

/// One fault of the vendor.
pub(super) async fn fault(world: &mut World) {
    let control = world.control.clone();
    match world.rng.below(7) {
        0 => control.close(1001).await,
        1 => control.reset().await,
        2 => drop(control.skip(1 + world.rng.below(20)).await),
        3 => {
            let n = usize::try_from(1 + world.rng.below(7)).unwrap_or(1);
            control.reorder(n).await;
        }
        4 => control.repeat_last().await,
        5 => {
            // Longer than the bridge's idle time-out, or not.
            let span = world
                .rng
                .pick(&[Duration::from_millis(500), Duration::from_secs(8)]);
            control.stall(true).await;
            sleep(span).await;
            control.stall(false).await;
        }
        _ => {
            control.set_down(true).await;
            world.under_load(200..3_000).await;
            control.set_down(false).await;
        }
    }
    world.tally.faults += 1;
}
