//! Options in groups, each a part of the command line of `simulate`.
//!
//! Plain data; a group that is left alone changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

use super::modes::{BlockForm, DripBy, Noise, Oddity};

/// The vendor's limits.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// The span over which requests are counted.
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = parse_duration)]
    pub limit_window: Duration,
    /// WebSocket connections that one address may have open.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub limit_connections: usize,
    /// Requests that one address may make within that span.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub limit_requests: usize,
    /// How a blocked client is answered.
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value = "too-many-requests"
    )]
    pub block_form: BlockForm,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            limit_window: Duration::from_secs(60),
            limit_connections: 10,
            limit_requests: 40,
            block_form: BlockForm::TooManyRequests,
        }
    }
}

/// Faults of the frames of each connection.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Faults of frames")]
pub struct FrameFaults {
    /// The first sequence number of a connection.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first_sequence: u64,
    /// Begin the numbers again at the first one after this many events; 0 never does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub restart_numbers_every: u64,
    /// Send each Nth event twice, byte for byte; 0 never does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub repeat_every: u64,
    /// Send each Nth event after the one that follows it; 0 never does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub reorder_every: u64,
    /// Shape events differently from the vendor's sample.
    #[arg(long, value_enum, value_name = "SHAPE")]
    pub odd: Option<Oddity>,
    /// Which events are shaped so: each Nth of a connection.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "odd")]
    pub odd_every: u64,
    /// Send frames that tell of nobody.
    #[arg(long, value_enum, value_name = "FRAME")]
    pub noise: Option<Noise>,
    /// Before which events: each Nth of a connection.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "noise")]
    pub noise_every: u64,
    /// Send events in pieces.
    #[arg(long, value_enum, value_name = "PIECES")]
    pub drip: Option<DripBy>,
    /// Which events: each Nth of a connection.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "drip")]
    pub drip_every: u64,
    /// The time between two pieces, of frames and of a list that drips.
    #[arg(long, value_name = "SPAN", default_value = "20ms", value_parser = parse_duration)]
    pub drip_interval: Duration,
}

impl Default for FrameFaults {
    fn default() -> Self {
        Self {
            first_sequence: 1,
            restart_numbers_every: 0,
            repeat_every: 0,
            reorder_every: 0,
            odd: None,
            odd_every: 1,
            noise: None,
            noise_every: 10,
            drip: None,
            drip_every: 10,
            drip_interval: Duration::from_millis(20),
        }
    }
}

/// Faults of each connection below its frames.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Faults of connections")]
pub struct LinkFaults {
    /// Send pings, but no data: the world goes on, and no numbers are consumed.
    #[arg(long)]
    pub mute: bool,
    /// Answer no ping.
    #[arg(long)]
    pub withhold_pongs: bool,
    /// Read nothing any more once a connection is subscribed, but go on sending.
    #[arg(long)]
    pub stop_reading: bool,
    /// The code of a close by `--disconnect-every`.
    #[arg(long, value_name = "CODE", default_value_t = 1001)]
    pub close_code: u16,
}

impl Default for LinkFaults {
    fn default() -> Self {
        Self {
            mute: false,
            withhold_pongs: false,
            stop_reading: false,
            close_code: 1001,
        }
    }
}

/// Faults of the list, beside `--rest`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Faults of the list")]
pub struct ListFaults {
    /// Show the world as it was so long ago (up to 10 minutes).
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = parse_duration)]
    pub rest_lag: Duration,
    /// Leave this share of the users out, from 0 to 1; always the same ones.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub rest_lacks: f64,
}

/// What is played instead of a world at a constant rate, and who may interfere.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(next_help_heading = "Play")]
pub struct PlayOptions {
    /// Play this timeline of faults (YAML); see docs/simulator.md.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Play what `run --capture` has written to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "script")]
    pub replay: Option<PathBuf>,
    /// Play so many times as fast; 0 plays a capture as fast as the sockets take it.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Serve /_control although --listen can be reached from other machines.
    #[arg(long)]
    pub allow_remote_control: bool,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self {
            script: None,
            replay: None,
            speed: 1.0,
            allow_remote_control: false,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1.0)
}

fn speed(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1e6)
}

fn within(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!(
            "must be between {} and {}",
            range.start(),
            range.end()
        ))
    }
}
