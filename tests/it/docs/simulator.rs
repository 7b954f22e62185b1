//! The table within docs/simulator.md, from the simulator's own list of faults. The words stay.

use std::fmt::Write;

use onboarding_bridge::simulator::known_faults;

use super::errors::within;

/// The document with its table made anew.
pub(super) fn render(document: &str) -> String {
    let mut text =
        "| group | what it does | switch | action |\n| --- | --- | --- | --- |\n".to_owned();
    let code = |text: Option<String>| text.map(|text| format!("`{text}`")).unwrap_or_default();
    for fault in known_faults() {
        let (switch, action) = (code(fault.switch), code(fault.action));
        writeln!(
            text,
            "| {} | {} | {switch} | {action} |",
            fault.group, fault.what
        )
        .unwrap();
    }
    within(document, "faults", &text)
}
