//! The tables within docs/errors.md, from the `match` of each sink. The words around them stay.

use std::fmt::Write;

use onboarding_bridge::sink::{ErrorRow, kafka, nats};

/// The document with its tables made anew.
pub(super) fn render(document: &str) -> String {
    let kafka = within(document, "kafka", &table(&kafka::error_table()));
    within(&kafka, "nats", &table(&nats::error_table()))
}

fn table(rows: &[ErrorRow]) -> String {
    let mut text =
        "| class | what happened | codes | held by |\n| --- | --- | --- | --- |\n".to_owned();
    let list = |names: Vec<&str>| {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    for row in rows {
        let codes = list(row.codes.iter().map(String::as_str).collect());
        let (class, what, tests) = (row.class.as_str(), row.what, list(row.tests.to_vec()));
        writeln!(text, "| *{class}* | {what} | {codes} | {tests} |").unwrap();
    }
    text
}

/// Puts `text` between the two comments of this name.
pub(super) fn within(document: &str, name: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: generated from the code -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (before, rest) = document
        .split_once(&begin)
        .expect("the table has its place");
    let (_, after) = rest.split_once(&end).expect("the table has its end");
    format!("{before}{begin}\n{text}\n{end}{after}")
}
