//! docs/metrics.md, from the registry itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use onboarding_bridge::metrics::{Metrics, PREFIX};

const HEAD: &str = "# Metrics

<!-- Generated from src/metrics.rs by `UPDATE_DOCS=1 cargo test --test it docs`. -->

`/metrics` on the admin port, in the text format of Prometheus.
`onboarding-bridge metrics` prints the same list.

Every series exists from the start, so that an alert can tell 0 from absent.
The values of a label come from the code or, for `sink`, from the names of the configured sinks; no label holds personal data.
The lag of each sink is measured at each scrape.

Frames that were heard are accounted for: `feed_frames_total` of the kinds `event` and `rejected` is `normalise_events_total` of the origin `feed`, and `normalise_duplicates_total`, and `normalise_rejected_total`, as soon as what is under way is committed.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
";

/// The whole document.
pub(super) fn render() -> String {
    let metrics = Metrics::new(&["sink"]);
    let exposition = String::from_utf8(metrics.encode()).unwrap();
    let mut document = HEAD.to_owned();
    for (name, kind, help) in metrics.list() {
        let labels = labels(&exposition, &name)
            .into_iter()
            .map(|(label, values)| match label.as_str() {
                "sink" | "version" => format!("`{label}`"),
                _ => format!(
                    "`{label}`: {}",
                    values.into_iter().collect::<Vec<_>>().join(", ")
                ),
            });
        let labels = labels.collect::<Vec<_>>().join("<br>");
        writeln!(document, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    document
}

/// Every name, with and without the prefix.
pub(super) fn names() -> BTreeSet<String> {
    let names = Metrics::new(&["sink"])
        .list()
        .into_iter()
        .map(|(name, _, _)| name);
    let short = |name: &str| name.strip_prefix(&format!("{PREFIX}_")).map(str::to_owned);
    let names: Vec<String> = names.collect();
    names
        .iter()
        .filter_map(|name| short(name))
        .chain(names.clone())
        .collect()
}

/// The labels of a metric with their values, except the bound of a histogram's bucket.
fn labels(exposition: &str, name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in exposition.lines() {
        let Some((series, rest)) = line.split_once('{') else {
            continue;
        };
        if series != name && series != format!("{name}_bucket") {
            continue;
        }
        let pairs = rest.split_once('}').unwrap().0;
        for pair in pairs.split(',') {
            let (label, value) = pair.split_once('=').unwrap();
            if label != "le" {
                let values = found.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    found
}
