//! The fields that the code logs against the list of those that are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use onboarding_bridge::telemetry::fields::ALLOWED;

/// Every file of the program.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// What stands between the brackets of each call of a macro of `tracing`.
fn calls(code: &str) -> Vec<Vec<String>> {
    let levels = ["error", "warn", "info", "debug", "trace", "event", "span"];
    let of_level = |level: &str| {
        let start = format!("{level}!(");
        let rests = code.split(&start).skip(1);
        rests.map(arguments).collect::<Vec<_>>()
    };
    levels.into_iter().flat_map(of_level).collect()
}

/// The arguments up to the bracket that closes them, cut at the commas.
fn arguments(source: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut found = vec![String::new()];
    for character in source.chars() {
        let last = found.last_mut().unwrap();
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return found,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        last.push(character);
    }
    panic!("no end of {source}");
}

/// The name of the field that an argument logs, if it is one: all before the message.
fn field(argument: &str) -> String {
    let name = argument.split(" =").next().unwrap().trim();
    name.trim_start_matches(['%', '?']).to_owned()
}

/// Each field that the code logs, with one of the calls.
fn logged() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for source in sources() {
        // A test of the formatter logs what is not on the list.
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for call in calls(code) {
            let is_message = |argument: &&String| argument.trim_start().starts_with('"');
            for argument in call.iter().take_while(|argument| !is_message(argument)) {
                if !argument.trim().is_empty() {
                    found.insert(field(argument), call.join(","));
                }
            }
        }
        // What the hook of the panics tells.
        for rest in code.split("line.add(\"").skip(1) {
            let name = rest.split('"').next().unwrap().to_owned();
            found.insert(name, "line.add".to_owned());
        }
    }
    found
}

#[test]
fn every_field_that_is_logged_was_decided_on_and_none_is_listed_that_is_not() {
    let logged = logged();
    assert!(logged.len() > 40, "{logged:?}");
    let allowed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    for (name, call) in &logged {
        assert!(
            allowed.contains(name.as_str()),
            "`{name}` is logged and not in telemetry::fields::ALLOWED, so it is shown as ***; see \
             there whether it may be added: {call}"
        );
    }
    let unused: Vec<_> = allowed
        .iter()
        .filter(|name| !logged.contains_key(**name))
        .collect();
    assert!(unused.is_empty(), "allowed and never logged: {unused:?}");
    let sorted = ALLOWED.is_sorted_by_key(|(name, _)| *name);
    assert!(
        sorted && allowed.len() == ALLOWED.len(),
        "in order, each once"
    );
}

#[test]
fn no_name_of_a_persons_field_is_ever_on_the_list() {
    let personal = [
        "body",
        "email",
        "event",
        "first_name",
        "frame",
        "key",
        "last_name",
        "observation",
        "password",
        "payload",
        "person",
        "phone_number",
        "record",
        "subject",
        "token",
        "user",
        "user_id",
        "user_token",
        "value",
    ];
    for (name, _) in ALLOWED {
        assert!(!personal.contains(&name), "{name}");
    }
}
