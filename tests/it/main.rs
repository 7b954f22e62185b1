//! Integration tests against real servers, in one binary. `make it` starts them; run by hand, the
//! tests start what they need by tests/beds, and fail if they cannot: nothing is skipped.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod canary;
mod capture;
mod chaos_oracle;
mod chaos_proxy;
mod docs;
mod end_to_end;
mod errors;
mod feed;
mod file;
mod golden;
mod hour;
mod hygiene;
mod journal;
mod kafka;
mod letters;
mod nats;
mod oddities;
mod outage;
mod policies;
mod privacy;
mod restart;
mod rotation;
mod simulator;
mod sink_contract;
mod smoke;
mod support;
mod transactions;
mod zombie;
