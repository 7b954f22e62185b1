//! Integration tests against real servers, in one binary. `make it` starts them; run by hand, the
//! tests start what they need by tests/beds, and fail if they cannot: nothing is skipped.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod end_to_end;
mod kafka;
mod nats;
mod outage;
mod restart;
mod smoke;
mod sink_contract;
mod support;
