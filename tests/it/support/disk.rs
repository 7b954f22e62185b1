//! Disks with faults: a small file system that really gets full, and a process whose writes fail.
//!
//! Both need what CI has: root, to mount, and a C compiler. Where they cannot be had the test fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A file system of its own, as small as asked for; unmounted when it is dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn of_mebibytes(mebibytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "small-disk"])
            .arg(folder.path()));
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves so many bytes free.
    pub(crate) fn fill(&self, leave: u64) {
        let output = Command::new("df")
            .args(["-B1", "--output=avail"])
            .arg(self.path())
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let free: u64 = text.lines().last().unwrap().trim().parse().unwrap();
        let ballast = vec![1; usize::try_from(free.saturating_sub(leave)).unwrap()];
        std::fs::write(self.path().join("ballast"), ballast).unwrap();
    }

    /// Frees what [`fill`](Self::fill) took.
    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }

    /// From now on it can only be read; nobody has a file open for writing.
    pub(crate) fn read_only(&self) {
        run(Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a failing test may still have files open in it.
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
}

/// A library that makes calls on the journal's files fail, once a file says which and how.
pub(crate) struct Faults(tempfile::TempDir);

impl Faults {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// What the process needs in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let order = self.order().display().to_string();
        let library = library().display().to_string();
        [("LD_PRELOAD", library), ("DISK_FAULT_FILE", order)]
    }

    /// From now on `call` (`sync` or `write`) fails with this error number.
    pub(crate) fn fail(&self, call: &str, number: i32) {
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("{call} {number}")).unwrap();
        std::fs::rename(new, self.order()).unwrap();
    }

    fn order(&self) -> PathBuf {
        self.0.path().join("order")
    }
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let name = super::unique("disk-fault");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(super::beds::path("disk_fault.c"))
            .arg("-ldl"));
        library
    })
}
