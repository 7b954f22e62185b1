//! The keys that the configuration names, read from their files.
//!
//! A secret is forgotten as soon as its key is made.

use std::path::Path;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;

use super::{Key, Seal};
use crate::config::JournalConfig;
use crate::journal::JournalError;

/// Shortest secret that is taken, in bytes.
const SECRET_MIN: usize = 32;

/// The keys that the configuration names.
#[derive(Clone, Debug, Default)]
pub(in crate::journal) struct Keys {
    /// What is to be sealed with from now on.
    wanted: Seal,
    old: Vec<Seal>,
}

impl Keys {
    /// Reads the files.
    ///
    /// # Errors
    /// [`JournalError::KeyFile`] for one that cannot be read or holds too little.
    pub(in crate::journal) fn load(config: &JournalConfig) -> Result<Self, JournalError> {
        let wanted = match &config.encryption_key_file {
            Some(file) => read("encryption_key_file", file)?,
            None => Seal::default(),
        };
        let old = config.old_encryption_key_files.iter();
        let old = old.map(|file| read("old_encryption_key_files", file));
        Ok(Self {
            wanted,
            old: old.collect::<Result<_, _>>()?,
        })
    }

    /// What is to be sealed with from now on.
    pub(in crate::journal) const fn wanted(&self) -> &Seal {
        &self.wanted
    }

    /// The key of this id.
    pub(in crate::journal) fn of(&self, id: &str) -> Option<&Seal> {
        let mut all = std::iter::once(&self.wanted).chain(&self.old);
        all.find(|seal| seal.id().as_deref() == Some(id))
    }

    /// What is missing to open a file that was sealed with another key.
    pub(in crate::journal) fn lacks(
        &self,
        path: &Path,
        id: &str,
        file: Option<&str>,
    ) -> JournalError {
        let have: Vec<String> = std::iter::once(&self.wanted)
            .chain(&self.old)
            .filter_map(|seal| Some(format!("{} ({})", seal.id()?, seal.file()?)))
            .collect();
        JournalError::OtherKey {
            path: path.to_owned(),
            id: id.to_owned(),
            file: file.unwrap_or("unknown").to_owned(),
            have: if have.is_empty() {
                "none".to_owned()
            } else {
                have.join(", ")
            },
        }
    }
}

fn read(setting: &'static str, file: &Path) -> Result<Seal, JournalError> {
    let failed = |reason: String| JournalError::KeyFile {
        setting,
        file: file.to_owned(),
        reason,
    };
    let secret = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let secret = Zeroizing::new(secret);
    // A text ends with a line break that an editor may add or take away.
    let secret = if secret.is_ascii() {
        secret.trim_ascii()
    } else {
        &secret
    };
    if secret.len() < SECRET_MIN {
        return Err(failed(format!(
            "it holds {} bytes; give it at least {SECRET_MIN} random ones, as text or as they are",
            secret.len()
        )));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(Seal(Some(Arc::new(Key::new(secret, name.into_owned())))))
}
