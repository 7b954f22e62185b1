//! The journal's file system has no room for a while: the bridge stops hearing rather than losing, and goes
//! on by itself when there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::time::sleep;

use crate::world::World;

/// Room for the journal of a run, in MiB.
const SIZE: u64 = 192;

/// A small file system of its own. Dropping it takes it away.
struct Small(PathBuf);

impl Small {
    fn mount(folder: &Path) -> Self {
        let path = folder.join("small");
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}m"), "chaos"])
            .arg(&path)
            .output()
            .unwrap();
        // Not skipped in silence: whoever cannot mount must leave this scenario out by name.
        assert!(
            mounted.status.success(),
            "the scenario `disk` needs the right to mount a tmpfs: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily, because the bridge may still have files in it.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

pub(super) async fn run(world: &mut World, folder: &Path, faults: u64) {
    let small = Small::mount(folder);
    world.journal_folder = Some(small.0.clone());
    world.start();
    world.under_load(1_000..3_000).await;
    for _ in 0..faults {
        let filler = small.0.join("filler");
        fill(&filler);
        // Long enough that what the kernel takes for the bridge is full as well, or not.
        let span = match world.rng.one_in(3) {
            true => world.rng.millis(8_000..10_000),
            false => world.rng.millis(1_000..4_000),
        };
        sleep(span).await;
        // It lives on; killed now, it loses only what it could not write.
        let killed = world.rng.one_in(3);
        match killed {
            true => world.kill().await,
            false => world.bridge().must_live(),
        }
        std::fs::remove_file(&filler).unwrap();
        world.tally.faults += 1;
        if killed {
            world.start();
        }
        world.under_load(1_000..3_000).await;
    }
    world.calm_down().await;
    let kept = folder.join("journal.db");
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("journal.db{suffix}");
        let from = small.0.join(&name);
        if from.exists() {
            std::fs::copy(from, folder.join(&name)).unwrap();
        }
    }
    assert!(kept.exists());
    world.journal_folder = None;
}

/// Takes all the room that there is.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1024 * 1024, 4096] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
    }
}
