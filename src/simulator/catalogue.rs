//! Every fault by name: how it is switched on, and the action that does it.
//!
//! What an enum of [modes](super::options) lists is taken from there, with its words; the rest is plain
//! data. The table of docs/simulator.md is made from it; tests hold it against the command line and against
//! [`Action`](super::Action), so that none is missing.

use clap::ValueEnum;

use super::options::{
    AuthMode, BlockForm, EnterpriseForm, Noise, Oddity, RestMode, SubscribeMode, UpgradeMode,
};

/// One fault, or one thing that can be told to the simulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it belongs to.
    pub group: &'static str,
    /// What it does.
    pub what: String,
    /// The switches of `simulate`, where it can be constant.
    pub switch: Option<String>,
    /// The action, as in `do` of a script and as name and body at the control endpoint.
    pub action: Option<String>,
}

/// All of them, in the order of a connection's life.
pub fn known_faults() -> Vec<Fault> {
    [
        ways::<UpgradeMode>("Upgrade", "", "--upgrade @", r#"{"upgrade":{"mode":"@"}}"#),
        ways::<AuthMode>("Authentication", "", "--auth @", r#"{"auth":{"mode":"@"}}"#),
        ways::<EnterpriseForm>(
            "Authentication",
            "`enterprise` is taken: ",
            "--enterprise @",
            r#"{"enterprise":{"form":"@"}}"#,
        ),
        plain("Authentication", AUTHENTICATION),
        ways::<SubscribeMode>(
            "Subscription",
            "",
            "--subscribe @",
            r#"{"subscribe":{"mode":"@"}}"#,
        ),
        plain("Subscription", SUBSCRIPTION),
        plain("Numbers", NUMBERS),
        ways::<Oddity>(
            "Odd events",
            "",
            "--odd @ --odd-every 5",
            r#"{"odd":{"shape":"@","n":1}}"#,
        ),
        ways::<Noise>(
            "Frames of nobody",
            "",
            "--noise @ --noise-every 10",
            r#"{"noise":{"frame":"@"}}"#,
        ),
        plain("Frames of nobody", FRAMES_OF_NOBODY),
        plain("Liveness", LIVENESS),
        plain("Ends", ENDS),
        ways::<BlockForm>(
            "Limits",
            "blocked: ",
            "--block-form @",
            r#"{"block":{"span":"120s","form":"@"}}"#,
        ),
        plain("Limits", LIMITS),
        ways::<RestMode>("List", "", "--rest @", r#"{"rest":{"mode":"@"}}"#),
        plain("List", LIST),
        plain("World", WORLD),
    ]
    .concat()
}

/// What it does, its switch and its action; empty where there is none.
type Row = (&'static str, &'static str, &'static str);

fn plain(group: &'static str, rows: &[Row]) -> Vec<Fault> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let fault = |(what, switch, action): &Row| Fault {
        group,
        what: (*what).to_owned(),
        switch: some(switch),
        action: some(action),
    };
    rows.iter().map(fault).collect()
}

/// A fault for each way, whose word stands for `@`.
fn ways<T: ValueEnum>(group: &'static str, what: &str, switch: &str, action: &str) -> Vec<Fault> {
    let ways = T::value_variants().iter().filter_map(T::to_possible_value);
    let fault = |way: clap::builder::PossibleValue| {
        let help = way.get_help().map(ToString::to_string).unwrap_or_default();
        // The words begin a sentence where they come from.
        let mut letters = help.chars();
        let first = letters.next().into_iter().flat_map(char::to_lowercase);
        Fault {
            group,
            what: what.chars().chain(first).chain(letters).collect(),
            switch: Some(switch.replace('@', way.get_name())),
            action: Some(action.replace('@', way.get_name())),
        }
    };
    ways.map(fault).collect()
}

#[rustfmt::skip]
const AUTHENTICATION: &[Row] = &[
    ("another key from now on; open connections stay",
        "--api-key KEY", r#"{"rotate_key":{"key":"another"}}"#),
    ("replies in the form of 2018: without `payload` and `action`",
        "--old-replies", r#"{"old_replies":{"on":true}}"#),
];

#[rustfmt::skip]
const SUBSCRIPTION: &[Row] = &[
    ("the state of every user: right after the first subscription of a connection, or now",
        "--snapshot", r#"{"snapshot":{}}"#),
];

#[rustfmt::skip]
const NUMBERS: &[Row] = &[
    ("a gap: events take their numbers and are not sent",
        "--gap-every 100 --gap-size 3", r#"{"gap":{"n":3}}"#),
    ("a repeat, byte for byte",
        "--repeat-every 10", r#"{"repeat":{}}"#),
    ("disorder: an event comes after later ones, with its own number",
        "--reorder-every 10", r#"{"reorder":{"n":3}}"#),
    ("the numbering begins again on an open connection",
        "--restart-numbers-every 50", r#"{"restart_numbers":{"at":1}}"#),
    ("the first number of a connection: any, also a huge one",
        "--first-sequence 9223372036854775800", r#"{"restart_numbers":{"at":9223372036854775800}}"#),
    ("the number and time of the frame before, with other content",
        "--duplicate-envelope-every 10", r#"{"same_envelope":{"user":7}}"#),
];

#[rustfmt::skip]
const FRAMES_OF_NOBODY: &[Row] = &[
    ("any text, as it is; it takes no number",
        "", r#"{"raw_text":{"text":"{}"}}"#),
    ("any bytes in a binary frame",
        "", r#"{"raw_binary":{"hex":"00ff"}}"#),
    ("any payload for any recipient, with the next number",
        "", r#"{"envelope":{"recipient":"private.enterprise.users.trades","payload":{"user_id":"client_x"}}}"#),
];

#[rustfmt::skip]
const LIVENESS: &[Row] = &[
    ("pings only: no data and no numbers, while the world goes on",
        "--mute", r#"{"mute":{"on":true}}"#),
    ("no pings",
        "--ping-interval 0s", r#"{"pings":{"on":false}}"#),
    ("pongs withheld",
        "--withhold-pongs", r#"{"withhold_pongs":{"on":true}}"#),
    ("half-open: nothing is read or sent; events take their numbers and are lost",
        "--disconnect-every 100 --disconnect-by stall", r#"{"stall":{"on":true}}"#),
    ("a reader that stalls: nothing is read, but data is sent",
        "--stop-reading", r#"{"stop_reading":{"on":true}}"#),
    ("a data frame byte by byte",
        "--drip bytes --drip-every 10", r#"{"drip":{"by":"bytes","interval":"20ms"}}"#),
    ("a data frame in fragments of a byte, pings and pongs between them",
        "--drip fragments --drip-every 10 --drip-interval 5ms", r#"{"drip":{"by":"fragments","interval":"5ms"}}"#),
];

#[rustfmt::skip]
const ENDS: &[Row] = &[
    ("a close with any code",
        "--disconnect-every 100 --disconnect-by close --close-code 1012", r#"{"close":{"code":1012}}"#),
    ("a close without a code",
        "--disconnect-every 100 --disconnect-by no-code", r#"{"close_without_code":{}}"#),
    ("the end of the stream without a close",
        "--disconnect-every 100 --disconnect-by eof", r#"{"eof":{}}"#),
    ("a TCP reset",
        "--disconnect-every 100 --disconnect-by reset", r#"{"reset":{}}"#),
    ("the vendor is away: connections are reset, new ones dropped, the world goes on",
        "", r#"{"down":{"on":true}}"#),
];

#[rustfmt::skip]
const LIMITS: &[Row] = &[
    ("a breach blocks the address",
        "--enforce-limits --block-duration 120s", ""),
    ("the limits themselves",
        "--limit-window 60s --limit-connections 10 --limit-requests 40", ""),
    ("everybody is blocked for a span, without a breach",
        "", r#"{"block":{"span":"120s"}}"#),
];

#[rustfmt::skip]
const LIST: &[Row] = &[
    ("a share of the users is missing, always the same ones",
        "--rest-lacks 0.5", r#"{"rest_lacks":{"share":0.5}}"#),
    ("read-after-write lag: the world as it was so long ago",
        "--rest-lag 30s", r#"{"rest_lag":{"span":"30s"}}"#),
];

#[rustfmt::skip]
const WORLD: &[Row] = &[
    ("events now",
        "", r#"{"step":{"n":5}}"#),
    ("an event of this user",
        "", r#"{"event":{"user":7}}"#),
    ("changes that the feed is not told of",
        "", r#"{"change_silently":{"n":5}}"#),
    ("a user is deactivated: gone from the list, and the feed is not told",
        "", r#"{"remove_user":{"user":7}}"#),
    ("the world stands still",
        "", r#"{"pause":{}}"#),
    ("it goes on at its first rate",
        "", r#"{"resume":{}}"#),
    ("another rate",
        "--rate 20", r#"{"rate":{"events_per_second":20.0}}"#),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args, Parser};

    use super::*;
    use crate::simulator::options::{DisconnectBy, DripBy};
    use crate::simulator::{Action, Options};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// What is no fault: the place, the world, what is played.
    const PLAIN: [&str; 13] = [
        "listen",
        "api-key-file",
        "users",
        "registered",
        "events",
        "seed",
        "script",
        "replay",
        "speed",
        "allow-remote-control",
        "close-code",
        "drip-interval",
        "help",
    ];

    #[test]
    fn every_switch_is_in_the_table_and_is_taken() {
        let faults = known_faults();
        let switches = faults.iter().filter_map(|fault| fault.switch.as_deref());
        let shown: BTreeSet<&str> = switches
            .clone()
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.strip_prefix("--"))
            .collect();
        let command = Options::augment_args(clap::Command::new("simulate"));
        for argument in command.get_arguments() {
            let name = argument.get_long().unwrap();
            assert!(
                shown.contains(name) || PLAIN.contains(&name),
                "--{name} is not in the table"
            );
        }
        for switch in switches {
            let line = std::iter::once("simulate").chain(switch.split_whitespace());
            let parsed = Line::try_parse_from(line);
            assert!(parsed.is_ok(), "{switch}: {:?}", parsed.err());
        }
    }

    #[test]
    fn every_action_of_the_table_is_one_and_none_is_missing() {
        let mut shown = BTreeSet::new();
        for text in known_faults().into_iter().filter_map(|fault| fault.action) {
            let action: Action =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            shown.insert(action.name());
        }
        // What serde would take: it lists the names when it is given one that does not exist.
        let refused = serde_json::from_str::<Action>(r#"{"":{}}"#)
            .unwrap_err()
            .to_string();
        let known = refused.split('`').skip(3).step_by(2).map(str::to_owned);
        assert_eq!(known.collect::<BTreeSet<_>>(), shown);
    }

    #[test]
    fn every_way_of_the_enums_that_are_written_out_is_in_the_table() {
        let faults = known_faults();
        for (enum_, name) in [
            (
                DisconnectBy::ALL.iter().map(word).collect::<Vec<_>>(),
                "disconnect-by",
            ),
            (DripBy::ALL.iter().map(word).collect(), "drip"),
        ] {
            for way in enum_ {
                let way = format!("--{name} {way} ");
                let mut switches = faults.iter().filter_map(|fault| fault.switch.as_deref());
                let is_there = switches.any(|switch| format!("{switch} ").contains(&way));
                assert!(is_there, "{way} is not in the table");
            }
        }
    }

    fn word(way: &impl ValueEnum) -> String {
        way.to_possible_value().unwrap().get_name().to_owned()
    }
}
