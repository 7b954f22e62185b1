//! What the integration tests share: real servers, the real program, and records to publish.

pub(crate) mod beds;
pub(crate) mod bridge;
pub(crate) mod certificates;
pub(crate) mod course;
pub(crate) mod disk;
pub(crate) mod hearing;
pub(crate) mod journals;
pub(crate) mod kafka_admin;
pub(crate) mod line;
pub(crate) mod list_server;
pub(crate) mod mounted;
pub(crate) mod oracle;
pub(crate) mod patient;
pub(crate) mod proxy;
pub(crate) mod raw_vendor;
pub(crate) mod records;
pub(crate) mod sealed;
pub(crate) mod simulate;
pub(crate) mod tinyproxy;
pub(crate) mod tls_front;
pub(crate) mod told;

pub(crate) use bridge::eventually;

/// A name that no other test and no earlier run has.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{:016x}", rand::random::<u64>())
}
