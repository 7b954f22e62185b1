//! Reading the repository as text: its files, and what a Markdown document has in it.

use std::collections::BTreeSet;
use std::path::Path;

/// Folders that hold nothing of ours.
const FOREIGN: [&str; 3] = ["target", ".git", ".cache"];

/// The repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub(super) fn read(path: &str) -> String {
    let full = root().join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// Every file of the repository with one of these endings (none: with any), from its root.
pub(super) fn files(endings: &[&str]) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if FOREIGN.contains(&relative) {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if endings.is_empty() || ending.is_some_and(|it| endings.contains(&it)) {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

/// All Rust code of the repository, one file after the other.
pub(super) fn sources() -> String {
    files(&["rs"]).iter().map(|path| read(path)).collect()
}

/// The fenced blocks of a language.
pub(super) fn blocks<'a>(document: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("```{language}\n");
    let block = |rest: &'a str| rest.split_once("\n```").map(|(block, _)| block);
    let pieces: Vec<&str> = document.split(&start).skip(1).collect();
    pieces.into_iter().filter_map(block)
}

/// The fenced block after a comment.
pub(super) fn after_marker(document: &str, marker: &str) -> String {
    let (_, rest) = document.split_once(marker).unwrap();
    blocks(rest, "json").next().unwrap().to_owned()
}

/// The targets of the links that stay in the repository.
pub(super) fn links(document: &str) -> impl Iterator<Item = &str> {
    let target = |rest: &'_ str| -> Option<usize> { rest.find(')') };
    document
        .split("](")
        .skip(1)
        .filter_map(move |rest| rest.get(..target(rest)?))
        .filter(|link| !link.contains("://"))
}

/// A path that a document names, from the root.
pub(super) fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of the headings, as they are made on the web.
pub(super) fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            other => other.is_alphanumeric().then_some(other),
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

/// Names between backticks that can only be those of tests: four words and more.
pub(super) fn cited(document: &str) -> impl Iterator<Item = &str> {
    document.split('`').skip(1).step_by(2).filter(|name| {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        name.bytes().all(is_name) && name.split('_').filter(|word| !word.is_empty()).count() >= 4
    })
}
