//! Mistakes in the configuration: found before anything starts, all with exit code 64.

use std::net::TcpListener;

use super::{CANARY, changed, refused};
use crate::support::bridge::{command, command_with};

/// A part of the right configuration, what stands there instead, and what must be said.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    (
        "  url: ws:",
        "  ulr: ws:",
        &[
            "unknown key `feed.ulr`",
            "did you mean `url`?",
            "schema config",
        ],
    ),
    (
        "    path:",
        "    pth:",
        &["unknown key `sinks[0].pth`", "did you mean `path`?"],
    ),
    (
        "admin:",
        "adnim:",
        &["unknown key `adnim`", "did you mean `admin`?"],
    ),
    (
        "  api_key:",
        "  ping_interval: often\n  api_key:",
        &["`feed.ping_interval`", "`often`", "15s"],
    ),
    (
        "  api_key:",
        "  max_frame_bytes: much\n  api_key:",
        &["`feed.max_frame_bytes`", "`much`", "1MiB"],
    ),
    (
        "  api_key:",
        "  enterprise_flag: yes please\n  api_key:",
        &["`feed.enterprise_flag`", "boolean", "string"],
    ),
    (
        "  api_key:",
        "  limits: {connections: 11}\n  api_key:",
        &["`feed.limits.connections`", "2 to 10"],
    ),
    (
        "  api_key:",
        "  limits: {requests_per_minute: 41}\n  api_key:",
        &["`feed.limits.requests_per_minute`", "4 to 40"],
    ),
    (
        "sinks:\n",
        "sinks:\n  - {name: n, type: nats, url: 'nats://localhost:1', stream: s, subject_prefix: p, \
         token_file: /t, nkey_seed_file: /n}\n",
        &[
            "`sinks[0]`",
            "`nkey_seed_file` and `token_file`",
            "give one",
        ],
    ),
    (
        "  api_key:",
        "  idle_timeout: 5s\n  api_key:",
        &["`feed.idle_timeout`", "`feed.ping_interval`"],
    ),
    (
        "  api_key: canary-key-51f0\n",
        "",
        &[
            "API key is missing",
            "`feed.api_key_file`",
            "BRIDGE__FEED__API_KEY",
        ],
    ),
    (
        "  api_key:",
        "  api_key_file: key\n  api_key:",
        &["API key", "not both"],
    ),
    (
        "type: file",
        "type: fiel",
        &["`sinks[0].type`", "kafka, nats, file"],
    ),
    (
        "name: local",
        "name: 'not a name'",
        &["`sinks[0].name`", "letters, digits"],
    ),
    (
        "reconcile:",
        "privacy: {fields: {emial: drop}}\nreconcile:",
        &["`privacy.fields.emial`", "no such field"],
    ),
    (
        "reconcile:",
        "privacy: {key: hmac}\nreconcile:",
        &["`hmac`", "`privacy.hmac_key_file`"],
    ),
    (
        "reconcile:",
        "privacy: {user_token: fingerprint}\nreconcile:",
        &[
            "`privacy.user_token: fingerprint`",
            "`privacy.hmac_key_file`",
        ],
    ),
    (
        "reconcile:",
        "privacy: {user_token: encrypt}\nreconcile:",
        &[
            "`privacy.user_token: encrypt`",
            "set `privacy.token_recipients`",
        ],
    ),
    (
        "reconcile:",
        "privacy: {user_token: hash}\nreconcile:",
        &[
            "`privacy.user_token`",
            "`fingerprint`, `encrypt`, `forward`",
        ],
    ),
    (
        "reconcile:",
        "privacy: {token_recipients_file: keys.pem}\nreconcile:",
        &[
            "`privacy.token_recipients_file`",
            "of no use without `privacy.user_token: encrypt`",
        ],
    ),
    (
        "reconcile:",
        "privacy: {user_token: encrypt, token_recipients: [canary-key-51f0]}\nreconcile:",
        &[
            "`privacy.token_recipients[0]`",
            "no X25519 public key",
            "openssl pkey",
        ],
    ),
    (
        "reconcile:",
        "privacy: {user_token: encrypt, token_recipients: [MC4CAQAwBQYDK2VuBCIEIAkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ]}\nreconcile:",
        &[
            "`privacy.token_recipients[0]`",
            "is a private key",
            "give the public one",
        ],
    ),
    (
        "reconcile:",
        "privacy: {hmac_key_file: k, hmac_key_version: 'a:b'}\nreconcile:",
        &[
            "`privacy.hmac_key_version`",
            "1 to 16 letters, digits or `-`",
        ],
    ),
    (
        "reconcile:",
        "privacy: {hmac_key_version: v1}\nreconcile:",
        &[
            "`privacy.hmac_key_version`",
            "of no use without `privacy.hmac_key_file`",
        ],
    ),
    (
        "  listen: 127.0.0.1:0",
        "  listen: everywhere",
        &["`admin.listen`"],
    ),
    (
        "reconcile:",
        "reconcile: [",
        &["bridge.yaml is not valid YAML"],
    ),
    (
        "api_key: c",
        "api_key: \"c",
        &["bridge.yaml is not valid YAML"],
    ),
    ("api_key: c", "api_key: ? c", &["bridge.yaml"]),
];

#[test]
fn each_mistake_is_named_with_its_place_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (part, by, words) in MISTAKES {
        let line = refused(folder.path(), &changed(folder.path(), part, by), 64);
        for word in *words {
            assert!(line.contains(word), "{by:?}: no {word:?} in {line}");
        }
    }
    assert!(
        !folder.path().join("journal.db").exists(),
        "nothing was started"
    );
}

#[test]
fn all_values_that_are_wrong_together_are_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let wrong =
        "  limits: {connections: 1, requests_per_minute: 0}\n  max_frame_bytes: 1\n  api_key:";
    let line = refused(
        folder.path(),
        &changed(folder.path(), "  api_key:", wrong),
        64,
    );
    for key in [
        "limits.connections",
        "limits.requests_per_minute",
        "max_frame_bytes",
    ] {
        assert!(line.contains(key), "no {key} in {line}");
    }
}

#[test]
fn a_missing_configuration_file_is_named() {
    let (code, _, said) = command(&["run", "--config", "/nowhere/bridge.yaml"]);
    assert_eq!(code, Some(64), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("/nowhere/bridge.yaml") && said.contains("--config"),
        "{said}"
    );
}

#[test]
fn bad_usage_shows_the_way_to_the_help() {
    for (arguments, word) in [
        (&["fly"][..], "'fly'"),
        (&["run"], "--config <FILE>"),
        (&["run", "--config"], "--config <FILE>"),
        (&["check", "--fast"], "'--fast'"),
        (&["simulate", "--rate", "much"], "not a number"),
        (&[], "Usage: onboarding-bridge"),
    ] {
        let (code, _, said) = command(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {said}");
        assert!(
            said.contains(word) && said.contains("--help"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_variable_that_names_no_place_is_refused_and_a_log_level_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.yaml");
    std::fs::write(&path, changed(folder.path(), "", "")).unwrap();
    let arguments = ["run", "--config", path.to_str().unwrap(), "--print-config"];
    for (name, value, word) in [
        ("BRIDGE__FEED__ULR", "x", "did you mean `url`?"),
        ("BRIDGE__SINKS__7__NAME", "x", "BRIDGE__SINKS__7__NAME"),
        ("RUST_LOG", "bridge=loud", "RUST_LOG"),
    ] {
        let (code, _, said) = command_with(&arguments, &[(name, value)]);
        assert_eq!(code, Some(64), "{name}: {said}");
        assert!(
            said.contains(word) && said.lines().count() == 1,
            "{name}: {said}"
        );
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_named_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (empty, short) = (file("empty", " \n"), file("short", CANARY));
    let missing = folder.path().join("missing").display().to_string();
    let folder_name = folder.path().display().to_string();
    let inline = format!("api_key: {CANARY}");
    for (part, by, words) in [
        (
            inline.as_str(),
            format!("api_key_file: {missing}"),
            [missing.as_str(), "make it readable"],
        ),
        (
            &inline,
            format!("api_key_file: {empty}"),
            [&empty, "is empty"],
        ),
        (
            &inline,
            format!("api_key_file: {folder_name}"),
            [&folder_name, "make it readable"],
        ),
        (
            "reconcile:",
            format!("privacy: {{key: hmac, hmac_key_file: {missing}}}\nreconcile:"),
            [&missing, "privacy.hmac_key_file"],
        ),
        (
            "reconcile:",
            format!("privacy: {{key: hmac, hmac_key_file: {short}}}\nreconcile:"),
            ["holds 15 bytes", "at least 32 random bytes"],
        ),
        (
            "  api_key:",
            format!("  ca_file: {missing}\n  api_key:"),
            [&missing, "ca_file"],
        ),
        (
            "  api_key:",
            format!("  ca_file: {short}\n  api_key:"),
            [&short, "no certificate"],
        ),
        (
            "- name: local",
            format!(
                "- {{name: k, type: kafka, brokers: ['localhost:1'], topic: t, options: {{sasl.password_file: {missing}}}}}\n  - name: local"
            ),
            [&missing, "sasl.password_file"],
        ),
        (
            "- name: local",
            format!(
                "- {{name: n, type: nats, url: 'nats://localhost:1', stream: s, subject_prefix: p, token_file: {missing}}}\n  - name: local"
            ),
            [&missing, "token_file"],
        ),
    ] {
        let line = refused(folder.path(), &changed(folder.path(), part, &by), 64);
        for word in words {
            assert!(line.contains(word), "{by:?}: no {word:?} in {line}");
        }
    }
}

#[test]
fn a_file_of_public_keys_that_is_of_no_use_is_named_and_a_private_key_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let private = format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n");
    for (name, content, word) in [
        (
            "missing",
            None,
            "cannot read `privacy.token_recipients_file`",
        ),
        ("empty", Some(" \n"), "needs 1 to 8 public keys"),
        ("other", Some(CANARY), "no X25519 public key"),
        (
            "private",
            Some(private.as_str()),
            "is a private key, which must stay",
        ),
    ] {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let path = path.display();
        let privacy = format!("privacy: {{user_token: encrypt, token_recipients_file: {path}}}");
        let by = format!("{privacy}\nreconcile:");
        let line = refused(
            folder.path(),
            &changed(folder.path(), "reconcile:", &by),
            64,
        );
        for word in [word, "`privacy.token_recipients_file`"] {
            assert!(line.contains(word), "{name}: no {word:?} in {line}");
        }
    }
}

#[test]
fn an_admin_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let yaml = changed(folder.path(), "127.0.0.1:0", &address);
    let line = refused(folder.path(), &yaml, 64);
    for word in [address.as_str(), "`admin.listen`", "free port"] {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
}

#[test]
fn an_address_with_credentials_is_refused_without_showing_them() {
    let folder = tempfile::tempdir().unwrap();
    let nats = format!(
        "- {{name: n, type: nats, url: 'nats://localhost:1,nats://u:{CANARY}@localhost:2', stream: s, subject_prefix: p}}\n  - name: local"
    );
    for (part, by, word) in [
        ("url: ws://", format!("url: ws://u:{CANARY}@"), "`feed.url`"),
        (
            "url: http://",
            format!("url: http://{CANARY}@"),
            "`reconcile.url`",
        ),
        ("- name: local", nats, "`sinks[0].url`"),
    ] {
        let line = refused(folder.path(), &changed(folder.path(), part, &by), 64);
        assert!(
            line.contains(word) && line.contains("must not hold"),
            "{line}"
        );
    }
}

#[test]
fn plaintext_to_another_machine_is_refused_unless_it_is_allowed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let kafka =
        "- {name: k, type: kafka, brokers: ['kafka.example.test:9092'], topic: t}\n  - name: local";
    let nats = "- {name: n, type: nats, url: 'nats://nats.example.test', stream: s, subject_prefix: p}\n  - name: local";
    for (part, by, word) in [
        (
            "url: ws://127.0.0.1:9/ws",
            "url: ws://feed.example.test/ws",
            "`feed.url`",
        ),
        (
            "url: http://127.0.0.1:9",
            "url: http://api.example.test",
            "`reconcile.url`",
        ),
        ("- name: local", kafka, "kafka.example.test:9092"),
        ("- name: local", nats, "`sinks[0].url`"),
    ] {
        let line = refused(folder.path(), &changed(folder.path(), part, by), 64);
        assert!(
            line.contains(word) && line.contains("`allow_insecure: true`"),
            "{line}"
        );
        let allowed = if by.contains('{') {
            by.replacen('}', ", allow_insecure: true}", 1)
        } else {
            format!("{by}\n  allow_insecure: true")
        };
        let path = folder.path().join("allowed.yaml");
        std::fs::write(&path, changed(folder.path(), part, &allowed)).unwrap();
        let arguments = ["run", "--config", path.to_str().unwrap(), "--print-config"];
        let (code, _, said) = command(&arguments);
        assert_eq!(code, Some(0), "{said}");
    }
}
