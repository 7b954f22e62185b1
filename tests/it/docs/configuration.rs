//! docs/configuration.md, from the schema of the configuration.

use std::fmt::Write;

use onboarding_bridge::config::Config;
use serde_json::{Map, Value};

const HEAD: &str = "# Configuration

<!-- Generated from src/config.rs and src/config/sinks.rs by `UPDATE_DOCS=1 cargo test --test it docs`. -->

One YAML file, given with `--config`.
An unknown key is refused with the nearest known name.
`onboarding-bridge schema config` prints the same as a JSON Schema.

An environment variable `BRIDGE__SECTION__KEY` overrides a value of the file: `BRIDGE__FEED__URL` sets `feed.url`, `BRIDGE__FEED__LIMITS__CONNECTIONS` sets `feed.limits.connections`, `BRIDGE__SINKS__0__TOPIC` the topic of the first sink.

A *span* is written with its unit: `250ms`, `15s`, `6h`.
A *size* is a number of bytes, or a number with a unit: `64KiB`, `1MiB`, `8GiB`.
A key of a file that holds a secret ends in `_file`; [rotation.md](rotation.md) says when a change of it takes effect.
";

/// The sections in the order of the flow: heading, definition, title of the definition.
const SECTIONS: [(&str, &str); 8] = [
    ("feed", "FeedConfig"),
    ("feed.limits", "LimitsConfig"),
    ("feed.proxy", "ProxyConfig"),
    ("reconcile", "ReconcileConfig"),
    ("journal", "JournalConfig"),
    ("privacy", "PrivacyConfig"),
    ("admin", "AdminConfig"),
    ("shutdown", "ShutdownConfig"),
];

/// The whole document.
pub(super) fn render() -> String {
    let schema = Value::from(schemars::schema_for!(Config));
    let definitions = object(&schema["$defs"]);
    let mut document = HEAD.to_owned();
    for (heading, name) in SECTIONS {
        let section = &definitions[name];
        write!(document, "\n## `{heading}`\n\n{}\n", text(section)).unwrap();
        table(&mut document, section, definitions, heading == "feed");
        if heading == "privacy" {
            sinks(&mut document, definitions);
        }
    }
    let described: Vec<&str> = SECTIONS.iter().map(|(heading, _)| *heading).collect();
    for name in object(&schema["properties"]).keys() {
        assert!(
            name == "sinks" || described.contains(&name.as_str()),
            "no section for {name}"
        );
    }
    document
}

fn sinks(document: &mut String, definitions: &Map<String, Value>) {
    let sinks = definitions["SinkConfig"]["oneOf"].as_array().unwrap();
    document.push_str("\n## `sinks`\n\nA list; at least one. Each entry has a `type`.\n");
    for sink in sinks {
        let kind = sink["properties"]["type"]["const"].as_str().unwrap();
        write!(document, "\n### `type: {kind}`\n\n{}\n", text(sink)).unwrap();
        table(document, sink, definitions, false);
    }
}

fn table(document: &mut String, section: &Value, definitions: &Map<String, Value>, nested: bool) {
    document.push_str("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    let required = section["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in object(&section["properties"]) {
        let is_section = nested && ["limits", "proxy"].contains(&name.as_str());
        if name == "type" || is_section {
            continue;
        }
        let kind = kind(property, definitions);
        let default = match &property["default"] {
            _ if required.contains(&name.as_str().into()) => "required".to_owned(),
            Value::Null => "none".to_owned(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        let meaning = text(property);
        writeln!(document, "| `{name}` | {kind} | {default} | {meaning} |").unwrap();
    }
}

fn kind(property: &Value, definitions: &Map<String, Value>) -> String {
    if let Some(reference) = property["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return values(&definitions[name]);
    }
    let is = |name: &str| match &property["type"] {
        Value::Array(kinds) => kinds.contains(&name.into()),
        kind => kind == name,
    };
    let pattern = property["pattern"].as_str().unwrap_or_default();
    match () {
        () if pattern.contains("ms|s|m") => "span".to_owned(),
        () if pattern.contains("KMGT") => "size".to_owned(),
        () if is("array") => "list of strings".to_owned(),
        () if is("object") => match property["additionalProperties"]["$ref"].as_str() {
            Some(of) => format!(
                "field to {}",
                values(&definitions[of.rsplit('/').next().unwrap()])
            ),
            None => match property["properties"].as_object() {
                Some(fields) => {
                    let of = fields.values().next().unwrap()["$ref"].as_str().unwrap();
                    format!(
                        "field to {}",
                        values(&definitions[of.rsplit('/').next().unwrap()])
                    )
                }
                None => "option to value".to_owned(),
            },
        },
        () if is("integer") => "integer".to_owned(),
        () if is("number") => "number".to_owned(),
        () if is("boolean") => "boolean".to_owned(),
        () if is("string") => "string".to_owned(),
        () => panic!("a kind that this test does not know: {property}"),
    }
}

/// The values of an enum, each with what it means.
fn values(definition: &Value) -> String {
    let value = |value: &Value| {
        let meaning = text(value);
        format!(
            "`{}`: {}",
            value["const"].as_str().unwrap(),
            meaning.trim_end_matches('.')
        )
    };
    let values = definition["oneOf"].as_array().unwrap().iter().map(value);
    values.collect::<Vec<_>>().join("<br>")
}

fn text(described: &Value) -> String {
    let text = described["description"].as_str().unwrap_or_default();
    assert!(!text.is_empty(), "without a description: {described}");
    text.replace('\n', " ").replace('|', "\\|")
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}
