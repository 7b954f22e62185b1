//! Files that only the bridge's own user may read: what is in them is personal.
//!
//! It takes rights away, and gives none but to a file that was just created.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
}
