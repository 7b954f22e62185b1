//! Files that only the bridge's own user may read: what is in them is personal, or a secret.
//!
//! It takes rights away from the bridge's own files, gives none but to a file that was just created, and only
//! tells of files that somebody else brings.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{self, Config};

/// The mode of each of them.
pub const MODE: u32 = 0o600;

/// Sees to it that nobody else may read or write this open file; says so where somebody could.
///
/// A file that is still empty gets [`MODE`], whatever the umask had left of it.
///
/// # Errors
/// When others may, and that cannot be changed.
pub fn keep(file: &File, path: &Path) -> io::Result<()> {
    let set = |permissions| file.set_permissions(permissions);
    tighten(&file.metadata()?, path, set)
}

/// As [`keep`], for a file that may be absent, and that this process must not open and close: that would
/// end the locks which SQLite has on it.
///
/// # Errors
/// As [`keep`].
pub fn keep_at(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) => {
            let set = |permissions| std::fs::set_permissions(path, permissions);
            tighten(&metadata, path, set)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn tighten(
    metadata: &Metadata,
    path: &Path,
    set: impl FnOnce(Permissions) -> io::Result<()>,
) -> io::Result<()> {
    let mode = metadata.permissions().mode() & 0o7777;
    let is_new = metadata.len() == 0;
    let private = if is_new { MODE } else { mode & MODE };
    if mode == private || !metadata.is_file() {
        return Ok(());
    }
    if let Err(error) = set(Permissions::from_mode(private)) {
        // One that is too narrow shows itself when it is used.
        return if mode & !MODE == 0 {
            Ok(())
        } else {
            Err(refused(path, mode, &error))
        };
    }
    if mode & !MODE != 0 {
        tracing::warn!(
            path = %path.display(),
            was = format_args!("{mode:04o}"),
            is = format_args!("{private:04o}"),
            "others could read or use this file of personal data: its mode was tightened"
        );
    }
    Ok(())
}

fn refused(path: &Path, mode: u32, error: &io::Error) -> io::Error {
    let path = path.display();
    io::Error::new(
        error.kind(),
        format!(
            "{path} has the mode {mode:04o} and that cannot be changed ({error}): give it to the \
             bridge's user, with the mode 0600"
        ),
    )
}

/// A sentence for each file that a configuration names and everybody may use, after its key.
pub fn exposed_files(config: &Config) -> Vec<String> {
    let files = config::files(config).into_iter();
    let exposed = files.filter_map(|file| {
        let why = exposed(&file.path, file.is_secret)?;
        Some(format!("`{}`: {why}", file.key))
    });
    exposed.collect()
}

/// What somebody else may do with a file that this process only reads, or a folder that it writes to, as a
/// sentence with what to do; nothing where it is well kept, or cannot be asked.
///
/// Whose group it is stays the operator's choice.
pub fn exposed(path: &Path, is_secret: bool) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let (what, better) = match (metadata.is_dir(), is_secret) {
        (true, _) => ("put files into it", "0700"),
        (false, true) => ("read it", "0600, or 0640 for a group"),
        (false, false) => ("change it", "0644"),
    };
    let may = if is_secret && metadata.is_file() {
        0o006
    } else {
        0o002
    };
    (mode & may != 0).then(|| {
        let path = path.display();
        format!(
            "{path} has the mode {mode:04o}: everybody on this machine may {what}; make it {better}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_that_others_may_read_is_tightened_and_a_narrower_one_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (before, content, after) in [
            (0o644, "x", 0o600),
            (0o4777, "x", 0o600),
            (0o440, "x", 0o400),
            (0o400, "x", 0o400),
            (0o200, "", 0o600),
            (0o666, "", 0o600),
        ] {
            std::fs::remove_file(&path).unwrap_or_default();
            std::fs::write(&path, content).unwrap();
            let file = File::open(&path).unwrap();
            for by_name in [false, true] {
                std::fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
                let kept = if by_name {
                    keep_at(&path)
                } else {
                    keep(&file, &path)
                };
                kept.unwrap();
                assert_eq!(mode(&path), after, "{before:o} {content:?}");
            }
        }
    }

    #[test]
    fn a_secret_that_everybody_may_read_is_told_and_a_certificate_only_if_everybody_may_change_it()
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "x").unwrap();
        for (mode, is_secret, told) in [
            (0o600, true, None),
            (0o440, true, None),
            (0o644, true, Some("may read it; make it 0600")),
            (0o666, true, Some("has the mode 0666")),
            (0o644, false, None),
            (0o646, false, Some("may change it; make it 0644")),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let said = exposed(&path, is_secret);
            let is_right = match told {
                None => said.is_none(),
                Some(words) => said.as_ref().is_some_and(|said| said.contains(words)),
            };
            assert!(is_right, "{mode:o} {is_secret}: {said:?}");
        }
        for (mode, told) in [(0o755, false), (0o777, true)] {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposed(folder.path(), true).is_some(), told, "{mode:o}");
        }
        assert_eq!(exposed(Path::new("/nonexistent/key"), true), None);
    }
}
