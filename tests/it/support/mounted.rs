//! Files of secrets as Kubernetes mounts them: each is a link by `..data`, which is swapped as a whole,
//! so that neither the name nor the link of a file ever changes.

use std::fs;
use std::os::unix::fs::symlink;

/// A folder of secrets.
pub(crate) struct Mounted {
    folder: tempfile::TempDir,
    generation: u32,
}

impl Mounted {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let mut mounted = Self {
            folder: tempfile::tempdir().unwrap(),
            generation: 0,
        };
        for (name, _) in files {
            let target = format!("..data/{name}");
            symlink(target, mounted.folder.path().join(name)).unwrap();
        }
        mounted.swap(files);
        mounted
    }

    /// The path of a file, for a configuration.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Puts these files in the place of all that were there, at one moment.
    pub(crate) fn swap(&mut self, files: &[(&str, &str)]) {
        self.generation += 1;
        let at = |name: &str| self.folder.path().join(name);
        let generation = format!("..{}", self.generation);
        fs::create_dir(at(&generation)).unwrap();
        for (name, text) in files {
            fs::write(at(&generation).join(name), text).unwrap();
        }
        symlink(&generation, at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
    }
}
