//! The other commands: what `check`, `schema`, `--print-config` and `--help` answer.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use async_nats::jetstream::{self, stream};
use onboarding_bridge::config::SinkConfig;
use onboarding_bridge::simulator::{EXAMPLE_KEY, Options, Simulator};
use onboarding_bridge::sink;
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use onboarding_bridge::sink::nats::tail::ensure_stream;
use serde_json::Value;

use super::{CANARY, changed};
use crate::support::bridge::{
    Bridge, command, command_with, config, file_sink, kafka_sink, nats_sink,
};
use crate::support::records::records;
use crate::support::{beds, unique};

/// The example of the design, whole.
const EXAMPLE: &str = include_str!("../../data/bridge.yaml");

#[tokio::test(flavor = "multi_thread")]
async fn check_beside_a_working_bridge_does_not_shut_out_its_transactions() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let topic = unique("check-beside");
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    let entry =
        kafka_sink("kafka", beds::kafka(), &topic).replacen('}', ", exactly_once: true}", 1);
    let parsed: SinkConfig = serde_norway::from_str(entry.trim_start_matches("  - ")).unwrap();
    let mut working = sink::create(&parsed).unwrap();
    working.open().await.unwrap();
    working.publish(&records(10, 2)).await.unwrap();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, config(&simulator, folder.path(), "", &entry)).unwrap();
    let (code, output, said) = command(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{output}{said}");
    working.publish(&records(10, 2)).await.unwrap();
}

/// What `check` looks at, in this order.
const CHECKS: [&str; 14] = [
    "configuration",
    "files",
    "privacy",
    "certificates",
    "journal",
    "disk",
    "admin",
    "names",
    "feed",
    "list",
    "clock",
    "sink local",
    "sink kafka",
    "sink nats",
];

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_whole_line_says_ready_to_people_and_to_machines() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (topic, stream, prefix) = (unique("check"), unique("CHECK"), unique("check"));
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    ensure_stream(beds::nats(), &stream, &prefix).await.unwrap();
    let sinks = [
        file_sink("local", &folder.path().join("events.jsonl")),
        kafka_sink("kafka", beds::kafka(), &topic),
        nats_sink("nats", beds::nats(), &stream, &prefix),
    ];
    let limits = "limits: {requests_per_minute: 40}";
    let yaml = config(&simulator, folder.path(), limits, &sinks.join("\n"));
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, &yaml).unwrap();
    let path = path.to_str().unwrap();
    let (code, output, said) = command(&["check", "--config", path, "--json"]);
    assert_eq!(code, Some(0), "{output}{said}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["ready"], true);
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<_> = checks
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(names, CHECKS);
    for check in checks {
        assert_eq!(check["ok"], true, "{check}");
        assert_eq!(check["exit_code"], 0, "{check}");
        assert!(
            check["detail"].is_string() && check["warnings"].is_array(),
            "{check}"
        );
    }
    let (code, output, said) = command(&["check", "--config", path]);
    assert_eq!(code, Some(0), "{output}{said}");
    assert_eq!(output.lines().last(), Some("ready"));
    assert!(!output.contains(EXAMPLE_KEY) && !said.contains(EXAMPLE_KEY));
    assert!(!folder.path().join("journal.db").exists(), "it only looks");
    // One thing wrong at a time: its exit code, and all the others are checked all the same.
    for (part, by, name, wanted) in [
        (topic.as_str(), "no-such-topic", "sink kafka", 64),
        (stream.as_str(), "NO-SUCH-STREAM", "sink nats", 64),
        (EXAMPLE_KEY, "wrong", "feed", 69),
        ("journal.db", "missing/journal.db", "journal", 74),
        ("feed:", "feed:\n  ca_file: /dev/null", "certificates", 64),
        (beds::nats(), "tls://no-such-host.invalid:4222", "names", 69),
    ] {
        std::fs::write(path, yaml.replacen(part, by, 1)).unwrap();
        let (code, output, _) = command(&["check", "--config", path, "--json"]);
        assert_eq!(code, Some(wanted), "{by}: {output}");
        let report: Value = serde_json::from_str(&output).unwrap();
        let checks = report["checks"].as_array().unwrap();
        // Where the list is refused the vendor does not tell its time.
        let told = CHECKS.len() - usize::from(name == "feed");
        assert_eq!((&report["ready"], checks.len()), (&false.into(), told));
        let failed = checks.iter().find(|check| check["ok"] == false);
        assert_eq!(failed.unwrap()["check"], name, "{output}");
    }
    simulator.shutdown().await;
}

/// The report of `check --json` and its exit code.
fn report(path: &Path) -> (Option<i32>, Value) {
    let (code, output, said) = command(&["check", "--json", "--config", path.to_str().unwrap()]);
    assert_eq!(said, "", "the report says it all");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(Some(&report["exit_code"]), code.map(Value::from).as_ref());
    (code, report)
}

/// What it says of one thing.
fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|found| found["check"] == check).unwrap()
}

#[test]
fn check_tells_who_else_may_read_a_key_and_that_the_port_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let by = format!("api_key_file: {}", key.display());
    let yaml = changed(folder.path(), &format!("api_key: {CANARY}"), &by);
    let listen = taken.local_addr().unwrap().to_string();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, yaml.replace("127.0.0.1:0", &listen)).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(&key, CANARY).unwrap();
    mode(&key, 0o666);
    mode(folder.path(), 0o777);
    let (code, told) = report(&path);
    assert_eq!(code, Some(69), "nobody is at the vendor's port");
    for (check, words) in [
        ("files", ["`feed.api_key_file`", "0666"]),
        ("journal", ["0777", "everybody"]),
        ("admin", ["will not start", "`admin.listen`"]),
    ] {
        let warning = finding(&told, check)["warnings"][0].as_str().unwrap();
        assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
    }
    mode(&key, 0o600);
    mode(folder.path(), 0o700);
    drop(taken);
    let (_, told) = report(&path);
    for check in ["files", "journal", "admin"] {
        assert_eq!(
            finding(&told, check)["warnings"],
            serde_json::json!([]),
            "{check}"
        );
    }
}

#[test]
fn a_key_that_is_not_there_is_told_by_check_also_when_the_vendors_share_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let by = "api_key_file: /nonexistent/key\n  limits: {requests_per_minute: 4}";
    let yaml = changed(folder.path(), &format!("api_key: {CANARY}"), by);
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, yaml).unwrap();
    for _ in 0..2 {
        let (code, told) = report(&path);
        assert_eq!(code, Some(64), "{told}");
        let found = finding(&told, "files");
        let detail = found["detail"].as_str().unwrap();
        assert!(
            detail.contains("`feed.api_key_file`") && detail.contains("/nonexistent/key"),
            "{detail}"
        );
        assert_eq!(found["exit_code"], 64);
    }
}

#[test]
fn a_file_that_is_no_journal_is_told_by_check_as_by_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    let yaml = changed(folder.path(), "", "");
    std::fs::write(&path, &yaml).unwrap();
    let journal = folder.path().join("journal.db");
    std::fs::write(
        &journal,
        "no database at all, but long enough to have a header".repeat(90),
    )
    .unwrap();
    let (code, told) = report(&path);
    assert_eq!(code, Some(74), "{told}");
    let detail = finding(&told, "journal")["detail"].as_str().unwrap();
    assert!(detail.contains("journal.db"), "{detail}");
    super::refused(folder.path(), &yaml, 74);
}

#[test]
fn a_wrong_configuration_is_one_report_for_machines_and_one_line_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    let yaml = changed(folder.path(), "journal:", "sink: []\njournl: {}\njournal:");
    std::fs::write(&path, yaml).unwrap();
    let (code, told) = report(&path);
    assert_eq!((code, &told["ready"]), (Some(64), &false.into()));
    let detail = finding(&told, "configuration")["detail"].as_str().unwrap();
    assert!(
        detail.contains("`sink`") && detail.contains("`journl`"),
        "{detail}"
    );
    let (code, output, said) = command(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(
        (code, output.as_str(), said.lines().count()),
        (Some(64), "", 1)
    );
    let (code, told) = report(Path::new("/nonexistent/bridge.yaml"));
    assert_eq!(code, Some(64), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_side_channels_that_are_missing_and_only_then() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (topic, stream, prefix) = (unique("beside"), unique("BESIDE"), unique("beside"));
    let server = async_nats::connect(beds::nats()).await.unwrap();
    let server = jetstream::new(server);
    let make_stream = async |name: &str, subjects: &[String]| {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: subjects.to_vec(),
            ..stream::Config::default()
        };
        server.create_stream(config).await.unwrap();
    };
    ensure_topic(beds::kafka(), &topic, 1).await.unwrap();
    make_stream(&stream, &[format!("{prefix}.>")]).await;
    let sinks = [
        kafka_sink("kafka", beds::kafka(), &topic).replace("}", ", dead_letters: true}"),
        nats_sink("nats", beds::nats(), &stream, &prefix).replace("}", ", dead_letters: true}"),
    ];
    let path = folder.path().join("bridge.yaml");
    std::fs::write(
        &path,
        config(&simulator, folder.path(), "", &sinks.join("\n")),
    )
    .unwrap();
    let said = || {
        let (code, output, said) = command(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{output}{said}");
        output
    };
    let topics = ["control", "dead"].map(|channel| format!("{topic}.{channel}"));
    let subjects = [
        format!("{prefix}_control.feed.blind"),
        format!("{prefix}_dead"),
    ];
    let output = said();
    assert_eq!(output.matches("have no place there").count(), 4, "{output}");
    for name in topics.iter().chain(&subjects) {
        assert!(output.contains(name), "{name}: {output}");
    }
    for name in &topics {
        ensure_topic(beds::kafka(), name, 1).await.unwrap();
    }
    make_stream(&unique("ASIDE"), &subjects).await;
    let output = said();
    assert!(!output.contains("have no place there"), "{output}");
    simulator.shutdown().await;
}

/// Every alternative that this schema has, references followed.
fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = root.pointer(reference.trim_start_matches('#')).unwrap();
        return alternatives(root, found);
    }
    let mut found = vec![schema];
    for of in ["anyOf", "oneOf", "allOf"] {
        for inner in schema[of].as_array().into_iter().flatten() {
            found.extend(alternatives(root, inner));
        }
    }
    found
}

/// The keys of `value` that the schema does not know, or knows without describing them.
fn unknown(root: &Value, schema: &Value, value: &Value, place: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let schemas = alternatives(root, schema);
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let items = schemas
            .iter()
            .map(|schema| &schema["items"])
            .find(|items| items.is_object());
        let place = format!("{place}[{index}]");
        match items {
            Some(items) => all.extend(unknown(root, items, item, &place)),
            None => drop(all.insert(place)),
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        // A sink is described by the alternative of its type.
        let fits = |schema: &&&Value| {
            let kind = &schema["properties"]["type"]["const"];
            kind.is_null() || *kind == value["type"]
        };
        let of_type = |schema: &Value| schema["properties"]["type"]["const"].is_string();
        let typed = value["type"].is_string() && schemas.iter().any(|schema| of_type(schema));
        let known = schemas
            .iter()
            .filter(fits)
            .find_map(|schema| schema["properties"].get(key));
        let place = format!("{place}.{key}");
        match known {
            Some(known) if known["description"].is_string() || (typed && key == "type") => {
                all.extend(unknown(root, known, inner, &place));
            }
            _ => drop(all.insert(place)),
        }
    }
    all
}

#[test]
fn the_schema_of_the_configuration_knows_and_describes_every_key() {
    let (code, output, said) = command(&["schema", "config"]);
    assert_eq!(code, Some(0), "{said}");
    let schema: Value = serde_json::from_str(&output).unwrap();
    let mut example: Value = serde_norway::from_str(EXAMPLE).unwrap();
    assert_eq!(unknown(&schema, &schema, &example, ""), BTreeSet::new());
    // What this test sees, it also misses.
    example["feed"]["limits"]["wishes"] = 3.into();
    example["sinks"][0]["subject_prefix"] = "only NATS has one".into();
    let found: Vec<_> = unknown(&schema, &schema, &example, "")
        .into_iter()
        .collect();
    assert_eq!(found, [".feed.limits.wishes", ".sinks[0].subject_prefix"]);
}

#[test]
fn the_example_of_the_design_is_a_right_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let arguments = ["run", "--config", path.to_str().unwrap(), "--print-config"];
    let (code, output, said) = command(&arguments);
    assert_eq!(code, Some(0), "{said}");
    let (printed, example): (Value, Value) = (
        serde_norway::from_str(&output).unwrap(),
        serde_norway::from_str(EXAMPLE).unwrap(),
    );
    assert_eq!(lacks(&printed, &example, ""), BTreeSet::new());
}

/// Values of the example that are printed otherwise.
fn lacks(printed: &Value, example: &Value, place: &str) -> BTreeSet<String> {
    match example {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| lacks(&printed[key], value, &format!("{place}.{key}")))
            .collect(),
        Value::Array(items) => (0..)
            .zip(items)
            .flat_map(|(index, value)| lacks(&printed[index], value, &format!("{place}[{index}]")))
            .collect(),
        value if value == printed => BTreeSet::new(),
        value => [format!("{place}: {value} is printed as {printed}")].into(),
    }
}

#[test]
fn the_printed_configuration_hides_the_secret_wherever_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, changed(folder.path(), "", "")).unwrap();
    let arguments = ["run", "--config", path.to_str().unwrap(), "--print-config"];
    let from_environment = "canary-from-the-environment";
    for variables in [&[][..], &[("BRIDGE__FEED__API_KEY", from_environment)]] {
        let (code, output, said) = command_with(&arguments, variables);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let printed: Value = serde_norway::from_str(&output).unwrap();
        assert_eq!(printed["feed"]["api_key"], "***");
        assert!(
            !output.contains(CANARY) && !output.contains(from_environment),
            "{output}"
        );
    }
    let kafka = "- {name: k, type: kafka, brokers: ['localhost:1'], topic: t, options: {\
        sasl.password: CANARY, ssl.key.password: CANARY, ssl.key.pem: CANARY, \
        sasl.oauthbearer.client.secret: CANARY, sasl.username: shown, ssl.key.password_file: shown}}";
    let kafka = format!("{}\n  - name: local", kafka.replace("CANARY", CANARY));
    std::fs::write(&path, changed(folder.path(), "- name: local", &kafka)).unwrap();
    let (code, output, said) = command(&arguments);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let printed: Value = serde_norway::from_str(&output).unwrap();
    for (option, value) in printed["sinks"][0]["options"].as_object().unwrap() {
        let shown = ["sasl.username", "ssl.key.password_file"].contains(&option.as_str());
        assert_eq!(value, if shown { "shown" } else { "***" }, "{option}");
    }
    assert!(!output.contains(CANARY), "{output}");
    assert!(!folder.path().join("journal.db").exists(), "it only prints");
}

#[test]
fn every_command_has_help_with_an_example() {
    let (code, overview, _) = command(&["--help"]);
    assert_eq!(code, Some(0));
    for line in [
        "0   done",
        "64  bad usage",
        "69  a service",
        "70  a defect",
        "74  disk error",
    ] {
        assert!(overview.contains(line), "no {line} in {overview}");
    }
    let names = names(&overview);
    for name in ["run", "demo", "simulate", "check", "schema", "metrics"] {
        assert!(
            names.iter().any(|found| found == name),
            "no {name} in {names:?}"
        );
    }
    for name in names {
        let (code, help, said) = command(&[&name, "--help"]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{name}");
        assert!(help.contains("Usage: onboarding-bridge"), "{name}: {help}");
        let example = format!("Example:\n  onboarding-bridge {name}");
        assert!(help.contains(&example), "{name}: {help}");
    }
    let (code, version, _) = command(&["--version"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        version.trim(),
        concat!("onboarding-bridge ", env!("CARGO_PKG_VERSION"))
    );
}

/// The commands that the overview lists.
fn names(overview: &str) -> Vec<String> {
    let commands = overview.split("Commands:\n").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines();
    commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let names = names(&command(&["--help"]).1);
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, said) = command(&["completions", shell]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{shell}");
        for name in &names {
            assert!(script.contains(name), "no {name} for {shell}");
        }
    }
    let (code, page, _) = command(&["man"]);
    assert_eq!(code, Some(0));
    assert!(
        page.contains(".TH onboarding") && page.contains("disk error"),
        "{page}"
    );
    let folder = tempfile::tempdir().unwrap();
    let (code, _, said) = command(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    for name in &names {
        let page = folder.path().join(format!("onboarding-bridge-{name}.1"));
        assert!(page.is_file(), "{}", page.display());
    }
    let nowhere = command(&["man", "--dir", "/nonexistent"]);
    assert_eq!(nowhere.0, Some(74), "{}", nowhere.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_long_command_is_stands_on_a_terminal_and_in_no_pipe() {
    let simulator = Simulator::start(Options::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = file_sink("local", &folder.path().join("events.jsonl"));
    let yaml = config(&simulator, folder.path(), "", &sink);
    let bridge = Bridge::start(folder.path(), &yaml);
    bridge.wait_ready();
    simulator.control().step(3).await;
    bridge.wait_delivered();
    bridge.terminate();
    let path = folder.path().join("bridge.yaml");
    let path = path.to_str().unwrap();
    let sinks = ["--sink", "local", "--since", "1h"];
    for (words, more, says) in [
        (&["journal", "verify"][..], &[][..], "reading the journal"),
        (
            &["reconcile", "--dry-run"],
            &[],
            "reading the vendor's list",
        ),
        (&["replay"], &sinks, "waiting for a running bridge"),
    ] {
        let words = [words, &["--config", path], more].concat();
        let (code, output, errors) = command(&words);
        assert_eq!(code, Some(0), "{words:?}: {errors}");
        assert!(
            !output.contains(says) && !errors.contains(says),
            "{words:?}: {errors}"
        );
        let on_terminal = on_a_terminal(&words);
        assert!(on_terminal.contains(says), "{words:?}: {on_terminal}");
    }
    simulator.shutdown().await;
}

/// What a command shows where its output and its errors go to one terminal.
fn on_a_terminal(words: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_onboarding-bridge");
    let line = format!("{program} {}", words.join(" "));
    let shown = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(shown.status.success(), "{words:?}");
    String::from_utf8_lossy(&shown.stdout).into_owned()
}
