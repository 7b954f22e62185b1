//! The disk: a journal that cannot be used ends the start with exit code 74 and says which file.

use std::path::{Path, PathBuf};
use std::process::Command;

use onboarding_bridge::simulator::{Options, Simulator};

use super::{RIGHT, changed, refused};
use crate::support::bridge::{Bridge, config, file_sink};
use crate::support::line::Line;

fn with_journal(folder: &Path, journal: &Path) -> String {
    let journal = journal.display().to_string();
    RIGHT
        .replacen("FOLDER/journal.db", &journal, 1)
        .replace("FOLDER", folder.to_str().unwrap())
}

/// A file system of its own that is mounted read-only; it goes with this value.
struct ReadOnly(PathBuf);

impl ReadOnly {
    /// `None` without the right to mount.
    fn mount(folder: &Path) -> Option<Self> {
        let place = folder.join("read-only");
        std::fs::create_dir(&place).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "ro", "none"])
            .arg(&place)
            .output();
        mount
            .is_ok_and(|mount| mount.status.success())
            .then_some(Self(place))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_named_and_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let missing = folder.path().join("missing");
    let read_only = ReadOnly::mount(folder.path());
    let mut places = vec![
        file,
        missing,
        PathBuf::from("/proc"),
        PathBuf::from("/proc/self"),
    ];
    match &read_only {
        Some(mounted) => places.push(mounted.0.clone()),
        None => eprintln!("no right to mount: not tried on a read-only file system, only on /proc"),
    }
    for place in places {
        let journal = place.join("journal.db");
        let line = refused(folder.path(), &with_journal(folder.path(), &journal), 74);
        for word in [
            journal.to_str().unwrap(),
            "cannot open the journal",
            "`journal.path`",
        ] {
            assert!(line.contains(word), "no {word:?} in {line}");
        }
    }
}

#[test]
fn a_file_that_is_no_journal_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let foreign = "This is somebody's letter, and no database at all. ".repeat(100);
    std::fs::write(&journal, &foreign).unwrap();
    // Nothing is to be said of its mode.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&journal, private).unwrap();
    let line = refused(folder.path(), &changed(folder.path(), "", ""), 74);
    assert!(
        line.contains(journal.to_str().unwrap()) && line.contains("move it away"),
        "{line}"
    );
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), foreign);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_in_use_is_named_and_its_owner_goes_on() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let yaml = config(&simulator, folder.path(), "", &file_sink("local", &events));
    let owner = Bridge::start(folder.path(), &yaml);
    let line = refused(folder.path(), &yaml, 74);
    for word in ["journal.db", "in use by another process", "`journal.path`"] {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    owner.wait_ready();
    simulator.control().step(5).await;
    owner.wait_delivered();
    owner.terminate();
    let text = std::fs::read_to_string(&events).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line.contains("\"origin\":\"feed\""))
            .count(),
        5
    );
    // It is free again at once, however its owner ended.
    let heir = Bridge::start(folder.path(), &yaml);
    heir.wait_ready();
    heir.kill();
    let last = Bridge::start(folder.path(), &yaml);
    last.wait_ready();
    last.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_sink_without_its_folder_halts_and_goes_on_when_it_is_there() {
    let mut folder = None;
    let line = Line::start_with(Options::for_tests(), |yaml, path| {
        folder = Some(path.join("later"));
        yaml.replace("events.jsonl", "later/events.jsonl")
    })
    .await;
    let said = super::said(&line.bridge, &["\"ERROR\"", "halted until this is mended"]);
    let reason = said["reason"].as_str().unwrap();
    assert!(reason.contains("later/events.jsonl") && reason.contains("create its directory"));
    assert_eq!(line.bridge.status()["sinks"][0]["state"], "halted");
    line.reaches("feed_connected", 1.0);
    line.control.step(20).await;
    line.heard(20);
    std::fs::create_dir(folder.unwrap()).unwrap();
    line.bridge.wait_delivered();
    line.listed("success", 1.0);
    let ended = line.end_with("later/events.jsonl").await;
    ended.assert_repaired();
    ended.assert_once();
    assert_eq!(ended.by("feed").len(), 20);
}
