//! onboarding-bridge.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail by panic"))]

pub mod config;
pub mod event;
pub mod simulator;
pub mod sink;
pub mod state;
