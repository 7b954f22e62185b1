//! One row of the matrix: the real program under one policy, with a canary in every spot of everything
//! that a vendor sends it, and a look at every byte that comes of it.
//!
//! It knows from the policy where which canary may be. There it must be, so that a run in which nothing
//! happened is red; anywhere else is a leak.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use onboarding_bridge::simulator::{Control, Options, Simulator};
use serde_json::Value;

use super::corpus::{Corpus, Sent};
use super::scanner::Scanner;
use crate::support::bridge::{Bridge, command_with, config, eventually, file_sink};
use crate::support::list_server::{Answer, ListServer};
use crate::support::sealed;

/// The fields of a person, in the order of `privacy.fields`.
const FIELDS: [&str; 8] = [
    "account_type",
    "account_role",
    "email",
    "first_name",
    "last_name",
    "phone_number",
    "status",
    "requirements",
];

/// Those of whom something becomes a record. Of the list no token is ever taken.
const HEARD: [&str; 4] = ["heard", "heard-again", "spoken", "large"];
const LISTED: [&str; 3] = ["listed", "listed-again", "heard-listed"];

/// What was said last: the bridge panicked before it became a record.
const PANICKED: &str = "panic";

/// Users of the simulator's own, who make gaps in the numbers.
const USERS: u32 = 2;

/// A policy.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// `drop`, `fingerprint`, `encrypt` or `forward`.
    pub(super) token: &'static str,
    /// `plain` or `hmac`.
    pub(super) key: &'static str,
    /// A policy for each of [`FIELDS`] in turn, begun anew where there are fewer.
    pub(super) fields: &'static [&'static str],
    /// Whether the journal is encrypted.
    pub(super) encrypted: bool,
    /// Whether a record goes from the journal as soon as it is delivered.
    pub(super) pruned: bool,
    /// Whether one destination refuses a large record, which becomes a dead letter with its content.
    pub(super) refused: bool,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    /// What consumers get.
    Sink,
    Journal,
    /// Where a record is that a destination refused.
    Letters,
    /// What was captured of the feed.
    Capture,
    /// What commands show of records when they are asked for them.
    Export,
    /// What commands show of records' keys when they are asked for them.
    Keys,
    /// Everything else.
    Silent,
}

impl Row {
    fn policy(&self, field: &str) -> &'static str {
        let place = FIELDS.iter().position(|name| *name == field).unwrap();
        self.fields[place % self.fields.len()]
    }

    /// Whether a canary may be there by the policy.
    fn allows(&self, name: &str, channel: Channel) -> bool {
        let (who, spot) = name.split_once('.').unwrap();
        let is_told = match channel {
            Channel::Capture => HEARD.contains(&who) || who == PANICKED,
            _ => HEARD.contains(&who) || LISTED.contains(&who),
        };
        if !is_told || channel == Channel::Silent || (channel == Channel::Journal && self.encrypted)
        {
            return false;
        }
        if channel == Channel::Letters && !(who == "large" && self.refused) {
            return false;
        }
        let is_shown = match spot {
            "user_id" => return self.key == "plain",
            "token" => self.token == "forward" && !LISTED.contains(&who),
            "note" | "requirement" => self.policy("requirements") == "keep",
            field => FIELDS.contains(&field) && self.policy(field) == "keep",
        };
        is_shown && channel != Channel::Keys
    }

    /// Whether it may be in the journal once everything was delivered.
    fn stays(&self, name: &str) -> bool {
        let is_state = name.ends_with(".user_id") || name.ends_with(".status");
        self.allows(name, Channel::Journal) && (!self.pruned || is_state)
    }

    fn yaml(&self, plain: &str, secrets: &Path) -> String {
        let file = |name: &str| secrets.join(name).display().to_string();
        let mut journal = "journal:\n".to_owned();
        if self.encrypted {
            journal += &format!("  encryption_key_file: {}\n", file("journal.key"));
        }
        if self.pruned {
            journal += "  retention: 0s\n";
        }
        let fields = FIELDS.map(|name| format!("{name}: {}", self.policy(name)));
        let mut privacy = format!("user_token: {}, key: {}", self.token, self.key);
        if self.token == "encrypt" {
            privacy += &format!(", token_recipients: ['{}']", sealed::RECIPIENTS[0]);
        }
        format!(
            "{}privacy: {{{privacy}, hmac_key_file: {}, hmac_key_version: v1, fields: {{{}}}}}\n",
            plain.replacen("journal:\n", &journal, 1),
            file("hmac.key"),
            fields.join(", ")
        )
    }
}

/// What was found, and where.
#[derive(Debug)]
pub(super) struct Findings {
    row: Row,
    names: BTreeSet<String>,
    scanner: Scanner,
    found: BTreeMap<Channel, BTreeSet<String>>,
    leaks: BTreeSet<String>,
}

impl Findings {
    pub(super) fn new(row: &Row, corpus: &Corpus) -> Self {
        let names = corpus.canaries.iter().map(|canary| canary.name.clone());
        Self {
            row: row.clone(),
            names: names.collect(),
            scanner: Scanner::new(&corpus.canaries),
            found: BTreeMap::new(),
            leaks: BTreeSet::new(),
        }
    }

    pub(super) fn look(&mut self, channel: Channel, place: &str, bytes: &[u8]) {
        for (name, forms) in self.scanner.find(bytes) {
            if !self.row.allows(&name, channel) {
                self.leaks
                    .insert(format!("{name} is in {place}, {forms:?}"));
            }
            self.found.entry(channel).or_default().insert(name);
        }
    }

    /// Every file in the folder.
    pub(super) fn look_at_files(&mut self, folder: &Path, when: &str) {
        for (name, bytes) in files(folder) {
            let channel = match name.as_str() {
                "events.jsonl" => Channel::Sink,
                "capture.jsonl" => Channel::Capture,
                "events.jsonl.dead" => Channel::Letters,
                "journal.db" | "journal.db-wal" | "journal.db-shm" => Channel::Journal,
                _ => Channel::Silent,
            };
            self.look(channel, &format!("{name}, {when}"), &bytes);
        }
    }

    /// What is allowed in a channel and was never there, but for what `is_gone`.
    fn lacks(&self, channel: Channel, is_gone: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.found.get(&channel).cloned().unwrap_or_default();
        let lacking = self.names.difference(&found);
        let lacking = lacking.filter(|name| self.row.allows(name, channel) && !is_gone(name));
        lacking
            .map(|name| format!("{name} is not in {channel:?}"))
            .collect()
    }

    /// Nothing is where it may not be, and everything where it must be.
    #[track_caller]
    pub(super) fn judge(&self, channels: &[Channel]) {
        self.judge_without("nobody", channels);
    }

    /// As [`judge`](Self::judge), where one person need not be anywhere.
    #[track_caller]
    pub(super) fn judge_without(&self, who: &str, channels: &[Channel]) {
        let is_out = |name: &str| name.split('.').next() == Some(who);
        let mut wrong: Vec<String> = self.leaks.iter().cloned().collect();
        for channel in channels {
            wrong.extend(match channel {
                Channel::Sink | Channel::Letters => self.lacks(*channel, is_out),
                Channel::Journal => self.lacks(Channel::Journal, |name| !self.row.stays(name)),
                Channel::Export => self.lacks(Channel::Export, |_| self.row.pruned),
                // The last frame may not have come to the disk.
                Channel::Capture => self.lacks(*channel, |name| name.starts_with(PANICKED)),
                // Of the others there was no change when it was looked at.
                Channel::Keys => self.lacks(Channel::Keys, |name| name != "heard.user_id"),
                Channel::Silent => Vec::new(),
            });
        }
        let found = self.found.iter();
        let counts: Vec<_> = found
            .map(|(channel, names)| (channel, names.len()))
            .collect();
        assert!(
            wrong.is_empty(),
            "{:?}: {wrong:#?}; found: {counts:?}",
            self.row
        );
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The log beside the journal may go while it is looked at.
        found.push((name, std::fs::read(&path).unwrap_or_default()));
    }
    assert!(found.len() >= 6, "{found:?}");
    found
}

/// The stage of one row.
struct Stage {
    row: Row,
    corpus: Corpus,
    simulator: Simulator,
    control: Control,
    list: ListServer,
    folder: tempfile::TempDir,
    secrets: tempfile::TempDir,
    api_key: String,
    yaml: String,
    /// What the vendor said, for the proof that there was something to find.
    said: Vec<u8>,
    lists_failed: u32,
}

/// Writes the secrets of a row into a folder that is not the process's own; the API key.
pub(super) fn secrets(corpus: &mut Corpus, folder: &Path) -> String {
    for name in ["api.key", "journal.key", "hmac.key"] {
        let half = corpus.word(&format!("secret.{name}"));
        std::fs::write(folder.join(name), half.repeat(2)).unwrap();
    }
    std::fs::read_to_string(folder.join("api.key")).unwrap()
}

impl Stage {
    async fn new(row: &Row, more_sinks: &[String]) -> Self {
        let mut corpus = Corpus::new(&format!("{row:?}"));
        let (folder, secret_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let api_key = secrets(&mut corpus, secret_folder.path());
        let options = Options {
            users: USERS,
            api_key: onboarding_bridge::config::Secret::new(api_key.clone()),
            ..Options::for_tests()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let half = corpus.half_a_list();
        let list = ListServer::start(Answer::ok(half.clone())).await;
        let sink = file_sink("local", &folder.path().join("events.jsonl"));
        let sinks = [&[sink], more_sinks].concat().join("\n");
        let sinks = sinks.replace('}', ", dead_letters: true}");
        // A gap is certain with the next number, and a run of this test is within the limits.
        let feed = "reorder_window: 0\nmax_frame_bytes: 64KiB\nlimits: {requests_per_minute: 40}";
        let key = format!("api_key: {}\n", onboarding_bridge::simulator::EXAMPLE_KEY);
        let key_file = secret_folder.path().join("api.key");
        let plain = config(&simulator, folder.path(), feed, &sinks)
            .replacen(&key, &format!("api_key_file: {}\n", key_file.display()), 1)
            .replacen(&simulator.rest_url(), &list.url(), 1);
        Self {
            yaml: row.yaml(&plain, secret_folder.path()),
            control: simulator.control(),
            row: row.clone(),
            corpus,
            simulator,
            list,
            folder,
            secrets: secret_folder,
            api_key,
            said: half.into_bytes(),
            lists_failed: 0,
        }
    }

    fn start(&self, variables: &[(&str, &str)]) -> Bridge {
        let capture = self.folder.path().join("capture.jsonl");
        let bridge = Bridge::start_as(
            self.folder.path(),
            &self.yaml,
            &[variables, &[("RUST_LOG", "trace")]].concat(),
            &["--capture", capture.to_str().unwrap()],
        );
        bridge.wait_ready();
        bridge
    }

    async fn send(&mut self, sent: Sent) {
        self.said.extend(sent.bytes());
        match sent {
            Sent::Envelope(recipient, payload) => {
                self.control.send_envelope(&recipient, &payload).await;
            }
            Sent::Text(text) => self.control.send_raw_text(text).await,
            Sent::Binary(bytes) => self.control.send_raw_binary(bytes).await,
        }
    }

    /// Messages, and frames that are none: each becomes an event or a dead letter.
    async fn frames(&mut self, bridge: &Bridge) -> usize {
        let (messages, malformed) = (self.corpus.messages(), self.corpus.malformed());
        let events = messages.len();
        // The record that is refused comes before the frames, so its letter is the first.
        let letters = malformed.len() + usize::from(self.row.refused);
        for sent in messages {
            self.send(sent).await;
        }
        reaches(bridge, "feed_frames_total{kind=\"event\"}", events);
        reaches(bridge, "dead_letters", usize::from(self.row.refused));
        for sent in malformed {
            self.send(sent).await;
        }
        reaches(bridge, "dead_letters", letters);
        letters
    }

    /// A refusal that quotes what it was given; the bridge connects anew.
    async fn refusal(&mut self, bridge: &Bridge) {
        let [refusal, _] = self.corpus.refusals(&self.api_key).try_into().unwrap();
        let subscribed = self.control.stats().subscribes;
        self.send(Sent::Text(refusal)).await;
        self.control
            .wait_for(|stats| stats.subscribes > subscribed)
            .await;
        assert!(bridge.log().contains("no right for"), "{}", bridge.log());
        self.lists_failed += 1;
        self.wait_for_failed_lists(bridge);
    }

    fn wait_for_failed_lists(&self, bridge: &Bridge) {
        let failed = "reconcile_runs_total{outcome=\"failed\"}";
        reaches(bridge, failed, self.lists_failed as usize);
    }

    /// Lets the list be asked for.
    async fn gap(&self) {
        self.control.skip(1).await;
        self.control.step(1).await;
    }

    /// Lists that are none, and answers that are no list, to the bridge and to a command.
    async fn bad_lists(&mut self, bridge: &Bridge, findings: &mut Vec<(Channel, String, Vec<u8>)>) {
        let mut answers = Vec::new();
        for body in self.corpus.no_lists() {
            self.said.extend(body.as_bytes());
            answers.push(Answer::ok(body));
        }
        let word = self.corpus.word("answer.header");
        let body = self.corpus.person("answer", "answer").to_string();
        self.said.extend(format!("{word} {body}").into_bytes());
        // Not 401 or 403, after which the bridge asks no more for minutes; nor 429 and 503, for the same.
        for status in [302, 418, 500] {
            let answer = Answer::status(status, body.clone()).with("location", format!("/{word}"));
            answers.push(answer.with("www-authenticate", word.clone()));
        }
        for (number, answer) in answers.into_iter().enumerate() {
            self.list.set(answer);
            // Each of them to one, two to both.
            if number % 2 == 0 {
                self.gap().await;
                self.lists_failed += 1;
                self.wait_for_failed_lists(bridge);
            } else {
                let words = ["reconcile", "--dry-run", "--keys", "--json"];
                findings.push(self.operator(Channel::Silent, &words, Some(69)));
            }
        }
    }

    /// A command of an operator, with every level of the log.
    fn operator(
        &self,
        channel: Channel,
        words: &[&str],
        code: Option<i32>,
    ) -> (Channel, String, Vec<u8>) {
        let config = self.folder.path().join("bridge.yaml");
        let words = [words, &["--config", config.to_str().unwrap()]].concat();
        let (ended, output, errors) = command_with(&words, &[("RUST_LOG", "trace")]);
        assert_eq!(ended, code, "{words:?}: {output}{errors}");
        (channel, words.join(" "), (output + &errors).into_bytes())
    }

    /// Everything that commands and the admin port show.
    fn shown(&self, bridge: &Bridge, letters: usize) -> Vec<(Channel, String, Vec<u8>)> {
        let mut shown = Vec::new();
        for page in [
            "/metrics",
            "/status",
            "/livez",
            "/readyz",
            "/",
            "/nothing?x=1",
        ] {
            let (code, body) = bridge.get(page);
            shown.push((
                Channel::Silent,
                format!("{page} ({code})"),
                body.into_bytes(),
            ));
        }
        let ids: Vec<String> = (1..=letters).map(|id| id.to_string()).collect();
        let mut commands: Vec<(Channel, Vec<&str>)> = vec![
            (Channel::Silent, vec!["run", "--print-config"]),
            (Channel::Silent, vec!["journal", "stats", "--json"]),
            (Channel::Silent, vec!["journal", "verify", "--json"]),
            (Channel::Silent, vec!["journal", "list", "--limit", "1000"]),
            (Channel::Keys, vec!["journal", "list", "--keys"]),
            (
                Channel::Export,
                vec!["journal", "list", "--keys", "--bodies"],
            ),
            (Channel::Export, vec!["journal", "export"]),
            (Channel::Silent, vec!["dead-letters", "list"]),
            (Channel::Silent, vec!["dead-letters", "list", "--json"]),
            (Channel::Silent, vec!["reconcile", "--dry-run"]),
            (
                Channel::Keys,
                vec!["reconcile", "--dry-run", "--keys", "--json"],
            ),
            (
                Channel::Silent,
                vec!["replay", "--sink", "local", "--since", "1h", "--dry-run"],
            ),
            (
                Channel::Silent,
                vec!["replay", "--sink", "local", "--since", "1h"],
            ),
        ];
        for id in &ids {
            commands.push((Channel::Letters, vec!["dead-letters", "show", id]));
        }
        for (channel, words) in commands {
            shown.push(self.operator(channel, &words, Some(0)));
        }
        shown
    }

    /// Waits until the journal holds nothing but what may stay.
    fn wait_pruned(&self, findings: &Findings) {
        eventually("the journal to be rid of what was delivered", || {
            let left = files(self.folder.path()).into_iter();
            let left = left.filter(|(name, _)| name.starts_with("journal.db"));
            let mut names = left.flat_map(|(_, bytes)| findings.scanner.find(&bytes).into_keys());
            names.all(|name| self.row.stays(&name)).then_some(())
        });
    }

    /// Under `encrypt` the tokens are in the sink, for who has the key.
    fn tokens_can_be_opened(&self) {
        let text = std::fs::read_to_string(self.folder.path().join("events.jsonl")).unwrap();
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut opened = Vec::new();
        for event in events.filter(|event| event["user_token"]["sealed"].is_array()) {
            let (entry, id) = (
                &event["user_token"]["sealed"][0],
                event["event_id"].as_str(),
            );
            opened.extend(sealed::open(entry, &[7; 32], id.unwrap()).unwrap());
        }
        let found = Scanner::new(&self.corpus.canaries).find(&opened);
        for who in HEARD {
            assert!(found.contains_key(&format!("{who}.token")), "{found:?}");
        }
    }
}

fn reaches(bridge: &Bridge, series: &str, value: usize) {
    eventually(&format!("{series} to be {value}"), || {
        #[allow(clippy::cast_precision_loss, reason = "a few")]
        let is_there = bridge.metric(series) == value as f64;
        is_there.then_some(())
    });
}

/// As [`run_with`], with a file sink alone.
pub(super) async fn run(row: Row) {
    run_with(row, &[]).await;
}

/// Runs the row: every path, then a `kill -9`, then a panic; and looks at every byte after each. What is
/// at the further sinks is for the caller to look at.
pub(super) async fn run_with(row: Row, more_sinks: &[String]) -> Corpus {
    let mut stage = Stage::new(&row, more_sinks).await;
    let bridge = stage.start(&[]);
    stage.lists_failed = 1;
    stage.wait_for_failed_lists(&bridge);
    let letters = stage.frames(&bridge).await;
    stage.refusal(&bridge).await;
    let mut shown = Vec::new();
    stage.bad_lists(&bridge, &mut shown).await;
    let list = stage.corpus.list();
    stage.said.extend(list.as_bytes());
    stage.list.set(Answer::ok(list));
    shown.extend(stage.shown(&bridge, letters));
    stage.gap().await;
    reaches(&bridge, "reconcile_runs_total{outcome=\"success\"}", 1);
    bridge.wait_delivered();
    shown.push(stage.operator(Channel::Export, &["journal", "export"], Some(0)));
    let panicked = stage.corpus.person(PANICKED, PANICKED);
    let mut findings = Findings::new(&row, &stage.corpus);
    for (channel, place, bytes) in &shown {
        findings.look(*channel, place, bytes);
    }
    findings.look_at_files(stage.folder.path(), "running");
    if row.pruned {
        stage.wait_pruned(&findings);
    }
    bridge.kill();
    findings.look_at_files(stage.folder.path(), "killed");

    let variables = [
        ("ONBOARDING_BRIDGE_FAIL_POINT", "panic"),
        ("RUST_BACKTRACE", "1"),
    ];
    let mut bridge = stage.start(&variables);
    let panicked = Sent::Envelope(
        onboarding_bridge::event::FEED_NAME.to_owned(),
        panicked.to_string(),
    );
    stage.send(panicked).await;
    assert_eq!(bridge.wait().code(), Some(70), "{}", bridge.log());
    findings.look_at_files(stage.folder.path(), "after a panic");
    if row.token == "encrypt" {
        stage.tokens_can_be_opened();
    }
    everything_was_said(&stage, &findings);
    findings.judge(&[
        Channel::Sink,
        Channel::Journal,
        Channel::Letters,
        Channel::Capture,
        Channel::Export,
        Channel::Keys,
    ]);
    drop(stage.secrets);
    stage.simulator.shutdown().await;
    stage.corpus
}

/// Every canary was in what the vendor said, or is a secret.
fn everything_was_said(stage: &Stage, findings: &Findings) {
    let said = findings.scanner.find(&stage.said);
    for name in &findings.names {
        // The second refusal is for a connection of its own.
        let is_aside = name.starts_with("secret.") || name.starts_with("refusal.");
        assert!(is_aside || said.contains_key(name), "{name} was never said");
    }
}
