//! What the simulator can be told: on the command line by `simulate`, in code by `demo` and the tests.
//!
//! Plain data. Nothing here opens a socket, and the key is never shown by `Debug`.

mod groups;
mod modes;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::Secret;

pub use groups::{FrameFaults, LimitOptions, LinkFaults, ListFaults, PlayOptions};
pub use modes::{
    AuthMode, BlockForm, DisconnectBy, DripBy, EnterpriseForm, Noise, Oddity, RestMode,
    SubscribeMode, UpgradeMode,
};

/// The key that the simulator takes unless told otherwise. It opens nothing else in the world.
pub const EXAMPLE_KEY: &str = "example-enterprise-key";

/// How the simulated vendor behaves. The fields that are skipped on the command line are for code.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Address of both the WebSocket (/ws) and REST; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// The enterprise API key that clients must send.
    #[arg(long, value_name = "KEY", default_value = EXAMPLE_KEY, value_parser = secret)]
    pub api_key: Secret,
    /// File that holds the key instead; blanks around it are cut.
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    pub api_key_file: Option<PathBuf>,
    /// Events per second; 0 sends as fast as the socket takes them, while somebody is subscribed.
    #[arg(long, value_name = "EVENTS_PER_SECOND", default_value = "10", value_parser = rate)]
    pub rate: f64,
    /// Users in the simulated world.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub users: u32,
    /// Users that are registered from the start; the others are registered by their first event
    /// [default: all].
    #[arg(long, value_name = "N")]
    pub registered: Option<u32>,
    /// Stop generating after this many events [default: never].
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
    /// The same seed makes the same users and the same course of events.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// WebSocket pings are sent this often; 0s never sends one.
    #[arg(long, value_name = "SPAN", default_value = "27s", value_parser = humantime::parse_duration)]
    pub ping_interval: Duration,
    /// Fault: lose each connection after this many events on it; 0 never does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub disconnect_every: u64,
    /// How `--disconnect-every` ends a connection.
    #[arg(long, value_enum, value_name = "HOW", default_value = "close")]
    pub disconnect_by: DisconnectBy,
    /// Fault: after this many events on a connection leave some out; 0 never does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gap_every: u64,
    /// Events that one gap leaves out. Their sequence numbers are consumed.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub gap_size: u64,
    /// Fault: each Nth event of a connection repeats the sequence and timestamp of the one before,
    /// with other content, as the vendor's own sample does; 0 never does.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub duplicate_envelope_every: u64,
    /// How the upgrade to a WebSocket is answered.
    #[arg(long, value_enum, value_name = "MODE", default_value = "ok")]
    pub upgrade: UpgradeMode,
    /// How `authenticate` is answered when the key is right.
    #[arg(long, value_enum, value_name = "MODE", default_value = "ok")]
    pub auth: AuthMode,
    /// Which form of the `enterprise` flag is taken.
    #[arg(long, value_enum, value_name = "FORM", default_value = "any")]
    pub enterprise: EnterpriseForm,
    /// How `subscribe` is answered.
    #[arg(long, value_enum, value_name = "MODE", default_value = "ok")]
    pub subscribe: SubscribeMode,
    /// How the REST list is answered.
    #[arg(long, value_enum, value_name = "MODE", default_value = "ok")]
    pub rest: RestMode,
    /// Answer in the form of 2018: without payload and action.
    #[arg(long)]
    pub old_replies: bool,
    /// Send the state of every user right after the first subscribe of a connection.
    #[arg(long)]
    pub snapshot: bool,
    /// Refuse and block a client that breaks the vendor's limits, instead of only counting it.
    #[arg(long)]
    pub enforce_limits: bool,
    /// How long such a client is blocked.
    #[arg(long, value_name = "SPAN", default_value = "120s", value_parser = humantime::parse_duration)]
    pub block_duration: Duration,
    /// What the limits are, and how a blocked client is answered.
    #[command(flatten)]
    pub limits: LimitOptions,
    /// Faults of the frames of a connection.
    #[command(flatten)]
    pub frames: FrameFaults,
    /// Faults of the connection below its frames.
    #[command(flatten)]
    pub link: LinkFaults,
    /// Faults of the list.
    #[command(flatten)]
    pub list: ListFaults,
    /// What is played.
    #[command(flatten)]
    pub play: PlayOptions,
    /// Whether the world goes on at its rate while nobody is subscribed, as the real one does.
    #[arg(skip = true)]
    pub generate_when_unsubscribed: bool,
    /// Whether to generate nothing until [`Control::resume`](super::Control::resume).
    #[arg(skip)]
    pub paused: bool,
    /// Whether each data frame that is sent is noted for [`Simulator::sent`](super::Simulator::sent).
    #[arg(skip)]
    pub record_ledger: bool,
}

impl Options {
    /// For tests: a free port, no pings, nothing generated but on demand, and the ledger kept.
    pub fn for_tests() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            ping_interval: Duration::ZERO,
            paused: true,
            record_ledger: true,
            ..Self::default()
        }
    }
}

/// The same as an empty command line.
impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8090).into(),
            api_key: Secret::new(EXAMPLE_KEY.to_owned()),
            api_key_file: None,
            rate: 10.0,
            users: 100,
            registered: None,
            events: None,
            seed: 1,
            ping_interval: Duration::from_secs(27),
            disconnect_every: 0,
            disconnect_by: DisconnectBy::Close,
            gap_every: 0,
            gap_size: 1,
            duplicate_envelope_every: 0,
            upgrade: UpgradeMode::Ok,
            auth: AuthMode::Ok,
            enterprise: EnterpriseForm::Any,
            subscribe: SubscribeMode::Ok,
            rest: RestMode::Ok,
            old_replies: false,
            snapshot: false,
            enforce_limits: false,
            block_duration: Duration::from_secs(120),
            limits: LimitOptions::default(),
            frames: FrameFaults::default(),
            link: LinkFaults::default(),
            list: ListFaults::default(),
            play: PlayOptions::default(),
            generate_when_unsubscribed: true,
            paused: false,
            record_ledger: false,
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the form that clap asks for")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be between 0 and 1000000000".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn an_empty_command_line_is_the_default() {
        let line = Line::try_parse_from(["simulate"]).unwrap();
        assert_eq!(
            format!("{:?}", line.options),
            format!("{:?}", Options::default())
        );
    }

    #[test]
    fn a_rate_below_zero_or_not_a_number_is_refused() {
        for bad in ["-1", "NaN", "inf", "much"] {
            assert!(Line::try_parse_from(["simulate", &format!("--rate={bad}")]).is_err());
        }
    }

    #[test]
    fn the_key_comes_from_the_line_or_from_a_file_not_both() {
        let file = ["simulate", "--api-key-file", "key"];
        assert!(Line::try_parse_from(file).is_ok());
        assert!(Line::try_parse_from(file.into_iter().chain(["--api-key", "x"])).is_err());
    }

    #[test]
    fn the_key_is_not_shown() {
        let line = Line::try_parse_from(["simulate", "--api-key", "visible"]).unwrap();
        assert_eq!(line.options.api_key.expose(), "visible");
        assert!(!format!("{line:?}").contains("visible"));
    }
}
