//! onboarding-bridge.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail by panic"))]

pub mod backoff;
pub mod config;
pub mod deliver;
pub mod event;
pub mod feed;
pub mod ingest;
pub mod journal;
pub mod metrics;
pub mod normalise;
pub mod privacy;
pub mod reconcile;
pub mod shutdown;
pub mod sink;
pub mod state;
