//! Every fault by name: how it is switched on, and the action that does it.
//!
//! Plain data, from which the table of docs/simulator.md is made; tests hold it against the command
//! line and against [`Action`](super::Action), so that none is missing.

/// One fault, or one thing that can be told to the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it belongs to.
    pub group: &'static str,
    /// What it does.
    pub what: &'static str,
    /// The switches of `simulate`, where it can be constant.
    pub switch: Option<&'static str>,
    /// The action, as in `do` of a script and as name and body at the control endpoint.
    pub action: Option<&'static str>,
}

const fn fault(
    group: &'static str,
    what: &'static str,
    switch: &'static str,
    action: &'static str,
) -> Fault {
    Fault {
        group,
        what,
        switch: if switch.is_empty() {
            None
        } else {
            Some(switch)
        },
        action: if action.is_empty() {
            None
        } else {
            Some(action)
        },
    }
}

/// All of them, in the order of a connection's life.
pub const FAULTS: &[Fault] = &[
    fault(
        "Upgrade",
        "101, the upgrade is granted",
        "--upgrade ok",
        r#"{"upgrade":{"mode":"ok"}}"#,
    ),
    fault(
        "Upgrade",
        "429",
        "--upgrade too-many-requests",
        r#"{"upgrade":{"mode":"too-many-requests"}}"#,
    ),
    fault(
        "Upgrade",
        "403",
        "--upgrade forbidden",
        r#"{"upgrade":{"mode":"forbidden"}}"#,
    ),
    fault(
        "Upgrade",
        "503",
        "--upgrade unavailable",
        r#"{"upgrade":{"mode":"unavailable"}}"#,
    ),
    fault(
        "Upgrade",
        "401",
        "--upgrade unauthorized",
        r#"{"upgrade":{"mode":"unauthorized"}}"#,
    ),
    fault(
        "Upgrade",
        "the connection is dropped without an answer",
        "--upgrade drop",
        r#"{"upgrade":{"mode":"drop"}}"#,
    ),
    fault(
        "Upgrade",
        "never answered; the connection stays open",
        "--upgrade silence",
        r#"{"upgrade":{"mode":"silence"}}"#,
    ),
    fault(
        "Authentication",
        "success for the right key, an error reply without words for a wrong one",
        "--auth ok",
        r#"{"auth":{"mode":"ok"}}"#,
    ),
    fault(
        "Authentication",
        "an error reply without words, also for the right key",
        "--auth error",
        r#"{"auth":{"mode":"error"}}"#,
    ),
    fault(
        "Authentication",
        "an error reply that says why",
        "--auth error-words",
        r#"{"auth":{"mode":"error-words"}}"#,
    ),
    fault(
        "Authentication",
        "an error reply that speaks of a limit",
        "--auth error-limit",
        r#"{"auth":{"mode":"error-limit"}}"#,
    ),
    fault(
        "Authentication",
        "no answer",
        "--auth silence",
        r#"{"auth":{"mode":"silence"}}"#,
    ),
    fault(
        "Authentication",
        "the connection is closed (1008)",
        "--auth close",
        r#"{"auth":{"mode":"close"}}"#,
    ),
    fault(
        "Authentication",
        "a TCP reset",
        "--auth reset",
        r#"{"auth":{"mode":"reset"}}"#,
    ),
    fault(
        "Authentication",
        "the success of another command comes first",
        "--auth other-first",
        r#"{"auth":{"mode":"other-first"}}"#,
    ),
    fault(
        "Authentication",
        "`enterprise` is taken as `true` and as `\"true\"`",
        "--enterprise any",
        r#"{"enterprise":{"form":"any"}}"#,
    ),
    fault(
        "Authentication",
        "only as `true`",
        "--enterprise boolean",
        r#"{"enterprise":{"form":"boolean"}}"#,
    ),
    fault(
        "Authentication",
        "only as `\"true\"`",
        "--enterprise string",
        r#"{"enterprise":{"form":"string"}}"#,
    ),
    fault(
        "Authentication",
        "another key from now on; open connections stay",
        "--api-key KEY",
        r#"{"rotate_key":{"key":"another"}}"#,
    ),
    fault(
        "Authentication",
        "replies in the form of 2018: without `payload` and `action`",
        "--old-replies",
        r#"{"old_replies":{"on":true}}"#,
    ),
    fault(
        "Subscription",
        "success, and the events follow",
        "--subscribe ok",
        r#"{"subscribe":{"mode":"ok"}}"#,
    ),
    fault(
        "Subscription",
        "an error reply without words",
        "--subscribe error",
        r#"{"subscribe":{"mode":"error"}}"#,
    ),
    fault(
        "Subscription",
        "an error reply that says why",
        "--subscribe error-words",
        r#"{"subscribe":{"mode":"error-words"}}"#,
    ),
    fault(
        "Subscription",
        "an error reply that speaks of a limit",
        "--subscribe error-limit",
        r#"{"subscribe":{"mode":"error-limit"}}"#,
    ),
    fault(
        "Subscription",
        "no answer, and no events",
        "--subscribe silence",
        r#"{"subscribe":{"mode":"silence"}}"#,
    ),
    fault(
        "Subscription",
        "the connection is closed (1008)",
        "--subscribe close",
        r#"{"subscribe":{"mode":"close"}}"#,
    ),
    fault(
        "Subscription",
        "a TCP reset",
        "--subscribe reset",
        r#"{"subscribe":{"mode":"reset"}}"#,
    ),
    fault(
        "Subscription",
        "the success of another command comes first",
        "--subscribe other-first",
        r#"{"subscribe":{"mode":"other-first"}}"#,
    ),
    fault(
        "Subscription",
        "the state of up to three users comes before the reply",
        "--subscribe data-first",
        r#"{"subscribe":{"mode":"data-first"}}"#,
    ),
    fault(
        "Subscription",
        "the state of every user: right after the first subscription of a connection, or now",
        "--snapshot",
        r#"{"snapshot":{}}"#,
    ),
    fault(
        "Numbers",
        "a gap: events take their numbers and are not sent",
        "--gap-every 100 --gap-size 3",
        r#"{"gap":{"n":3}}"#,
    ),
    fault(
        "Numbers",
        "a repeat, byte for byte",
        "--repeat-every 10",
        r#"{"repeat":{}}"#,
    ),
    fault(
        "Numbers",
        "disorder: an event comes after later ones, with its own number",
        "--reorder-every 10",
        r#"{"reorder":{"n":3}}"#,
    ),
    fault(
        "Numbers",
        "the numbering begins again on an open connection",
        "--restart-numbers-every 50",
        r#"{"restart_numbers":{"at":1}}"#,
    ),
    fault(
        "Numbers",
        "the first number of a connection: any, also a huge one",
        "--first-sequence 9223372036854775800",
        r#"{"restart_numbers":{"at":9223372036854775800}}"#,
    ),
    fault(
        "Numbers",
        "the number and time of the frame before, with other content",
        "--duplicate-envelope-every 10",
        r#"{"same_envelope":{"user":7}}"#,
    ),
    fault(
        "Odd events",
        "no `sequence`",
        "--odd sequence-missing --odd-every 5",
        r#"{"odd":{"shape":"sequence-missing","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`sequence` as a string",
        "--odd sequence-string --odd-every 5",
        r#"{"odd":{"shape":"sequence-string","n":1}}"#,
    ),
    fault(
        "Odd events",
        "no `timestamp`",
        "--odd timestamp-missing --odd-every 5",
        r#"{"odd":{"shape":"timestamp-missing","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`timestamp` as a string of digits",
        "--odd timestamp-string --odd-every 5",
        r#"{"odd":{"shape":"timestamp-string","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`timestamp` in seconds",
        "--odd timestamp-seconds --odd-every 5",
        r#"{"odd":{"shape":"timestamp-seconds","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`timestamp` in milliseconds",
        "--odd timestamp-millis --odd-every 5",
        r#"{"odd":{"shape":"timestamp-millis","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`timestamp` in microseconds",
        "--odd timestamp-micros --odd-every 5",
        r#"{"odd":{"shape":"timestamp-micros","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`timestamp` in nanoseconds: the usual form",
        "--odd timestamp-nanos --odd-every 5",
        r#"{"odd":{"shape":"timestamp-nanos","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`timestamp` as RFC 3339",
        "--odd timestamp-rfc3339 --odd-every 5",
        r#"{"odd":{"shape":"timestamp-rfc3339","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`payload` as a string that holds JSON",
        "--odd payload-string --odd-every 5",
        r#"{"odd":{"shape":"payload-string","n":1}}"#,
    ),
    fault(
        "Odd events",
        "no `user_token`",
        "--odd token-missing --odd-every 5",
        r#"{"odd":{"shape":"token-missing","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`user_token` null",
        "--odd token-null --odd-every 5",
        r#"{"odd":{"shape":"token-null","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`user_token` that has expired",
        "--odd token-expired --odd-every 5",
        r#"{"odd":{"shape":"token-expired","n":1}}"#,
    ),
    fault(
        "Odd events",
        "another `user_token` than before",
        "--odd token-changed --odd-every 5",
        r#"{"odd":{"shape":"token-changed","n":1}}"#,
    ),
    fault(
        "Odd events",
        "fields that no page mentions",
        "--odd unknown-fields --odd-every 5",
        r#"{"odd":{"shape":"unknown-fields","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`requirements` by tier, one level deeper",
        "--odd requirements-nested --odd-every 5",
        r#"{"odd":{"shape":"requirements-nested","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`requirements` null",
        "--odd requirements-null --odd-every 5",
        r#"{"odd":{"shape":"requirements-null","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`requirements` empty",
        "--odd requirements-empty --odd-every 5",
        r#"{"odd":{"shape":"requirements-empty","n":1}}"#,
    ),
    fault(
        "Odd events",
        "an unknown `status`",
        "--odd status-unknown --odd-every 5",
        r#"{"odd":{"shape":"status-unknown","n":1}}"#,
    ),
    fault(
        "Odd events",
        "an unknown `account_role`",
        "--odd role-unknown --odd-every 5",
        r#"{"odd":{"shape":"role-unknown","n":1}}"#,
    ),
    fault(
        "Odd events",
        "an unknown `account_type`",
        "--odd type-unknown --odd-every 5",
        r#"{"odd":{"shape":"type-unknown","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`corporate` for `corporation`",
        "--odd type-corporate --odd-every 5",
        r#"{"odd":{"shape":"type-corporate","n":1}}"#,
    ),
    fault(
        "Odd events",
        "`account_type` and `account_role` in capitals",
        "--odd capitals --odd-every 5",
        r#"{"odd":{"shape":"capitals","n":1}}"#,
    ),
    fault(
        "Odd events",
        "every field but `user_id` and `status` absent",
        "--odd fields-absent --odd-every 5",
        r#"{"odd":{"shape":"fields-absent","n":1}}"#,
    ),
    fault(
        "Odd events",
        "every field but `user_id` and `status` null",
        "--odd fields-null --odd-every 5",
        r#"{"odd":{"shape":"fields-null","n":1}}"#,
    ),
    fault(
        "Odd events",
        "escapes, and a name of 4 KiB",
        "--odd long-text --odd-every 5",
        r#"{"odd":{"shape":"long-text","n":1}}"#,
    ),
    fault(
        "Frames of nobody",
        "a binary frame",
        "--noise binary --noise-every 10",
        r#"{"noise":{"frame":"binary"}}"#,
    ),
    fault(
        "Frames of nobody",
        "text that is no JSON",
        "--noise malformed --noise-every 10",
        r#"{"noise":{"frame":"malformed"}}"#,
    ),
    fault(
        "Frames of nobody",
        "a data frame that is cut in half",
        "--noise truncated --noise-every 10",
        r#"{"noise":{"frame":"truncated"}}"#,
    ),
    fault(
        "Frames of nobody",
        "bytes that are no UTF-8 in a text frame",
        "--noise invalid-utf8 --noise-every 10",
        r#"{"noise":{"frame":"invalid-utf8"}}"#,
    ),
    fault(
        "Frames of nobody",
        "a data frame of 2 MiB",
        "--noise oversized --noise-every 10",
        r#"{"noise":{"frame":"oversized"}}"#,
    ),
    fault(
        "Frames of nobody",
        "data of a feed whose name starts with ours",
        "--noise sibling --noise-every 10",
        r#"{"noise":{"frame":"sibling"}}"#,
    ),
    fault(
        "Frames of nobody",
        "`payload` as an array",
        "--noise payload-array --noise-every 10",
        r#"{"noise":{"frame":"payload-array"}}"#,
    ),
    fault(
        "Frames of nobody",
        "no `payload`",
        "--noise payload-missing --noise-every 10",
        r#"{"noise":{"frame":"payload-missing"}}"#,
    ),
    fault(
        "Frames of nobody",
        "no `user_id`",
        "--noise user-id-missing --noise-every 10",
        r#"{"noise":{"frame":"user-id-missing"}}"#,
    ),
    fault(
        "Frames of nobody",
        "`user_id` null",
        "--noise user-id-null --noise-every 10",
        r#"{"noise":{"frame":"user-id-null"}}"#,
    ),
    fault(
        "Frames of nobody",
        "the e-mail address is a list",
        "--noise field-type --noise-every 10",
        r#"{"noise":{"frame":"field-type"}}"#,
    ),
    fault(
        "Frames of nobody",
        "JSON that is neither data nor a reply",
        "--noise unrecognised --noise-every 10",
        r#"{"noise":{"frame":"unrecognised"}}"#,
    ),
    fault(
        "Frames of nobody",
        "a success reply that nobody asked for",
        "--noise stray-reply --noise-every 10",
        r#"{"noise":{"frame":"stray-reply"}}"#,
    ),
    fault(
        "Frames of nobody",
        "an error reply that nobody asked for",
        "--noise stray-error --noise-every 10",
        r#"{"noise":{"frame":"stray-error"}}"#,
    ),
    fault(
        "Frames of nobody",
        "a ping with application data",
        "--noise ping --noise-every 10",
        r#"{"noise":{"frame":"ping"}}"#,
    ),
    fault(
        "Frames of nobody",
        "a pong that nobody asked for",
        "--noise pong --noise-every 10",
        r#"{"noise":{"frame":"pong"}}"#,
    ),
    fault(
        "Frames of nobody",
        "any text, as it is; it takes no number",
        "",
        r#"{"raw_text":{"text":"{}"}}"#,
    ),
    fault(
        "Frames of nobody",
        "any bytes in a binary frame",
        "",
        r#"{"raw_binary":{"hex":"00ff"}}"#,
    ),
    fault(
        "Frames of nobody",
        "any payload for any recipient, with the next number",
        "",
        r#"{"envelope":{"recipient":"private.enterprise.users.trades","payload":{"user_id":"client_x"}}}"#,
    ),
    fault(
        "Liveness",
        "pings only: no data and no numbers, while the world goes on",
        "--mute",
        r#"{"mute":{"on":true}}"#,
    ),
    fault(
        "Liveness",
        "no pings",
        "--ping-interval 0s",
        r#"{"pings":{"on":false}}"#,
    ),
    fault(
        "Liveness",
        "pongs withheld",
        "--withhold-pongs",
        r#"{"withhold_pongs":{"on":true}}"#,
    ),
    fault(
        "Liveness",
        "half-open: nothing is read or sent; events take their numbers and are lost",
        "--disconnect-every 100 --disconnect-by stall",
        r#"{"stall":{"on":true}}"#,
    ),
    fault(
        "Liveness",
        "a reader that stalls: nothing is read, but data is sent",
        "--stop-reading",
        r#"{"stop_reading":{"on":true}}"#,
    ),
    fault(
        "Liveness",
        "a data frame byte by byte",
        "--drip bytes --drip-every 10",
        r#"{"drip":{"by":"bytes","interval":"20ms"}}"#,
    ),
    fault(
        "Liveness",
        "a data frame in fragments of a byte, pings and pongs between them",
        "--drip fragments --drip-every 10 --drip-interval 5ms",
        r#"{"drip":{"by":"fragments","interval":"5ms"}}"#,
    ),
    fault(
        "Ends",
        "a close with any code",
        "--disconnect-every 100 --disconnect-by close --close-code 1012",
        r#"{"close":{"code":1012}}"#,
    ),
    fault(
        "Ends",
        "a close without a code",
        "--disconnect-every 100 --disconnect-by no-code",
        r#"{"close_without_code":{}}"#,
    ),
    fault(
        "Ends",
        "the end of the stream without a close",
        "--disconnect-every 100 --disconnect-by eof",
        r#"{"eof":{}}"#,
    ),
    fault(
        "Ends",
        "a TCP reset",
        "--disconnect-every 100 --disconnect-by reset",
        r#"{"reset":{}}"#,
    ),
    fault(
        "Ends",
        "the vendor is away: connections are reset, new ones dropped, the world goes on",
        "",
        r#"{"down":{"on":true}}"#,
    ),
    fault(
        "Limits",
        "a breach blocks the address",
        "--enforce-limits --block-duration 120s",
        "",
    ),
    fault(
        "Limits",
        "the limits themselves",
        "--limit-window 60s --limit-connections 10 --limit-requests 40",
        "",
    ),
    fault(
        "Limits",
        "everybody is blocked for a span, without a breach",
        "",
        r#"{"block":{"span":"120s"}}"#,
    ),
    fault(
        "Limits",
        "blocked: 429 at the upgrade and of the list; a command gets an error reply and a close",
        "--block-form too-many-requests",
        r#"{"block":{"span":"120s","form":"too-many-requests"}}"#,
    ),
    fault(
        "Limits",
        "blocked: the same with 403",
        "--block-form forbidden",
        r#"{"block":{"span":"120s","form":"forbidden"}}"#,
    ),
    fault(
        "Limits",
        "blocked: the same with 503",
        "--block-form unavailable",
        r#"{"block":{"span":"120s","form":"unavailable"}}"#,
    ),
    fault(
        "Limits",
        "blocked: the upgrade is granted, a command gets an error reply that speaks of a limit",
        "--block-form error-reply",
        r#"{"block":{"span":"120s","form":"error-reply"}}"#,
    ),
    fault(
        "Limits",
        "blocked: dropped without a word",
        "--block-form drop",
        r#"{"block":{"span":"120s","form":"drop"}}"#,
    ),
    fault("List", "the list", "--rest ok", r#"{"rest":{"mode":"ok"}}"#),
    fault(
        "List",
        "401, whatever the key",
        "--rest unauthorized",
        r#"{"rest":{"mode":"unauthorized"}}"#,
    ),
    fault(
        "List",
        "403",
        "--rest forbidden",
        r#"{"rest":{"mode":"forbidden"}}"#,
    ),
    fault(
        "List",
        "404",
        "--rest not-found",
        r#"{"rest":{"mode":"not-found"}}"#,
    ),
    fault(
        "List",
        "406",
        "--rest not-acceptable",
        r#"{"rest":{"mode":"not-acceptable"}}"#,
    ),
    fault(
        "List",
        "422",
        "--rest unprocessable",
        r#"{"rest":{"mode":"unprocessable"}}"#,
    ),
    fault(
        "List",
        "429",
        "--rest too-many-requests",
        r#"{"rest":{"mode":"too-many-requests"}}"#,
    ),
    fault(
        "List",
        "500",
        "--rest server-error",
        r#"{"rest":{"mode":"server-error"}}"#,
    ),
    fault(
        "List",
        "503",
        "--rest unavailable",
        r#"{"rest":{"mode":"unavailable"}}"#,
    ),
    fault(
        "List",
        "200 and a page of HTML",
        "--rest html",
        r#"{"rest":{"mode":"html"}}"#,
    ),
    fault(
        "List",
        "200 and half a list",
        "--rest truncated",
        r#"{"rest":{"mode":"truncated"}}"#,
    ),
    fault(
        "List",
        "no answer",
        "--rest silence",
        r#"{"rest":{"mode":"silence"}}"#,
    ),
    fault(
        "List",
        "the connection is dropped without an answer",
        "--rest drop",
        r#"{"rest":{"mode":"drop"}}"#,
    ),
    fault(
        "List",
        "64 bytes at a time (`--drip-interval`)",
        "--rest drip",
        r#"{"rest":{"mode":"drip"}}"#,
    ),
    fault(
        "List",
        "`advisor_user_id` twice in each object",
        "--rest duplicate-keys",
        r#"{"rest":{"mode":"duplicate-keys"}}"#,
    ),
    fault(
        "List",
        "every tenth user twice, first as it was one event ago",
        "--rest user-twice",
        r#"{"rest":{"mode":"user-twice"}}"#,
    ),
    fault(
        "List",
        "an empty list",
        "--rest empty",
        r#"{"rest":{"mode":"empty"}}"#,
    ),
    fault(
        "List",
        "a further key at the top, as pages would have",
        "--rest paged",
        r#"{"rest":{"mode":"paged"}}"#,
    ),
    fault(
        "List",
        "every tenth user is followed by `null`, a number or an object without `user_id`",
        "--rest unreadable",
        r#"{"rest":{"mode":"unreadable"}}"#,
    ),
    fault(
        "List",
        "the third generation: `id`, `individual` and more, all invented",
        "--rest wide",
        r#"{"rest":{"mode":"wide"}}"#,
    ),
    fault(
        "List",
        "a share of the users is missing, always the same ones",
        "--rest-lacks 0.5",
        r#"{"rest_lacks":{"share":0.5}}"#,
    ),
    fault(
        "List",
        "read-after-write lag: the world as it was so long ago",
        "--rest-lag 30s",
        r#"{"rest_lag":{"span":"30s"}}"#,
    ),
    fault("World", "events now", "", r#"{"step":{"n":5}}"#),
    fault(
        "World",
        "an event of this user",
        "",
        r#"{"event":{"user":7}}"#,
    ),
    fault(
        "World",
        "changes that the feed is not told of",
        "",
        r#"{"change_silently":{"n":5}}"#,
    ),
    fault(
        "World",
        "a user is deactivated: gone from the list, and the feed is not told",
        "",
        r#"{"remove_user":{"user":7}}"#,
    ),
    fault("World", "the world stands still", "", r#"{"pause":{}}"#),
    fault(
        "World",
        "it goes on at its first rate",
        "",
        r#"{"resume":{}}"#,
    ),
    fault(
        "World",
        "another rate",
        "--rate 20",
        r#"{"rate":{"events_per_second":20.0}}"#,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args, Parser, ValueEnum};

    use super::*;
    use crate::simulator::options::{
        AuthMode, BlockForm, DisconnectBy, DripBy, EnterpriseForm, Noise, Oddity, RestMode,
        SubscribeMode, UpgradeMode,
    };
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
        let shown: BTreeSet<&str> = FAULTS
            .iter()
            .filter_map(|fault| fault.switch)
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
        for switch in FAULTS.iter().filter_map(|fault| fault.switch) {
            let line = std::iter::once("simulate").chain(switch.split_whitespace());
            let parsed = Line::try_parse_from(line);
            assert!(parsed.is_ok(), "{switch}: {:?}", parsed.err());
        }
    }

    #[test]
    fn every_action_of_the_table_is_one_and_none_is_missing() {
        let mut shown = BTreeSet::new();
        for text in FAULTS.iter().filter_map(|fault| fault.action) {
            let action: Action =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
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
    fn every_way_of_every_enum_is_in_the_table() {
        fn ways<T: ValueEnum>(name: &str) -> Vec<String> {
            let values = T::value_variants().iter().filter_map(T::to_possible_value);
            values
                .map(|value| format!("--{name} {}", value.get_name()))
                .collect()
        }
        let all = [
            ways::<UpgradeMode>("upgrade"),
            ways::<AuthMode>("auth"),
            ways::<EnterpriseForm>("enterprise"),
            ways::<SubscribeMode>("subscribe"),
            ways::<RestMode>("rest"),
            ways::<DisconnectBy>("disconnect-by"),
            ways::<BlockForm>("block-form"),
            ways::<Oddity>("odd"),
            ways::<Noise>("noise"),
            ways::<DripBy>("drip"),
        ];
        for way in all.concat() {
            let found = FAULTS
                .iter()
                .filter_map(|fault| fault.switch)
                .any(|switch| format!("{switch} ").contains(&format!("{way} ")));
            assert!(found, "{way} is not in the table");
        }
    }
}
