//! The feed when it goes wrong: lost connections, gaps, repeats, frames that are no events, and the
//! list that repairs what was not heard. Figures are compared exactly.

mod answers;
mod blind;
mod budget;
mod doubted;
mod frames;
mod list;
mod liveness;
mod lost;
mod million;
mod numbers;
mod proxied;
mod refusals;
mod silence;

use onboarding_bridge::simulator::Options;
use serde_json::Value;

fn users(users: u32) -> Options {
    Options {
        users,
        ..Options::for_tests()
    }
}

fn reasons(windows: &[Value]) -> Vec<&str> {
    let reasons = windows.iter().map(|window| window["reason"].as_str());
    reasons.map(Option::unwrap).collect()
}
