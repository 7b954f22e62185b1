//! What the integration tests share: real servers, and records to publish.

pub(crate) mod beds;
pub(crate) mod records;

/// A name that no other test and no earlier run has.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{:016x}", rand::random::<u64>())
}
