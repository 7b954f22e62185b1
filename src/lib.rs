//! Carries the sFOX Connect feed `private.enterprise.users` to Kafka and NATS JetStream.
//!
//! Whatever the bridge has heard, every sink gets, once, in order per user. Whatever it could not
//! hear, it says so and repairs from the REST list.
//!
//! ```text
//!          one task, never waits for a broker                   one task a sink, never waits for the vendor
//!   ┌───────────────────────────────────────────────────┐        ┌───────────────────────────┐
//!   feed ──▶ normalise ──▶ state ──▶ privacy ──▶ journal ═══════▶ deliver ──▶ sink ──▶ Kafka | NATS | file
//!   socket   pure: wire    pure:     pure: drop,  SQLite,         batch, order,  one file
//!   session  → observation news?     mask, hash   group commit    retry, once    a destination
//!     ▲                      ▲                                        │
//!     │                      │ ingest decides for both                └─▶ dead letters, halted
//!     └── gap, lost ──▶ reconcile ── GET /v1/enterprise/users
//!   beside the line: config app admin metrics telemetry shutdown     in the box: simulator demo
//! ```
//!
//! The modules below are in the order of the flow, which is the order to read them in.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail by panic"))]

// The line, from left to right.
pub mod feed;
pub mod normalise;
pub mod event;
pub mod notice;
pub mod state;
pub mod privacy;
pub mod ingest;
pub mod journal;
pub mod deliver;
pub mod sink;
pub mod reconcile;

// Beside the line, never in it.
pub mod config;
pub mod app;
pub mod admin;
pub mod metrics;
pub mod certificates;
pub mod telemetry;
pub mod process;
pub mod shutdown;
pub mod backoff;
pub mod failpoint;
pub mod capture;
pub mod private;
pub mod blocking;
pub mod cli;

// In the box.
pub mod simulator;
