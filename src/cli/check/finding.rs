//! What one check found, and how all of them are shown.

use std::io::Write;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: String,
    pub ok: bool,
    pub detail: String,
    pub warnings: Vec<String>,
    /// Exit code that this finding asks for; 0 if it is good.
    pub exit_code: u8,
}

impl Finding {
    pub(super) fn good(check: impl Into<String>, detail: impl Into<String>) -> Self {
        let (check, detail) = (check.into(), detail.into());
        Self {
            check,
            ok: true,
            detail,
            warnings: Vec::new(),
            exit_code: 0,
        }
    }

    pub(super) fn bad(check: impl Into<String>, detail: impl Into<String>, code: u8) -> Self {
        Self {
            ok: false,
            exit_code: code,
            ..Self::good(check, detail)
        }
    }

    pub(super) fn warned(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

pub(super) fn print(findings: &[Finding], exit_code: u8, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let ready = exit_code == 0;
    if json {
        let report =
            serde_json::json!({"ready": ready, "exit_code": exit_code, "checks": findings});
        return writeln!(out, "{report:#}");
    }
    for finding in findings {
        let mark = if finding.ok { "ok  " } else { "FAIL" };
        writeln!(out, "{mark}  {}: {}", finding.check, finding.detail)?;
        for warning in &finding.warnings {
            writeln!(out, "        warning: {warning}")?;
        }
    }
    writeln!(out, "{}", if ready { "ready" } else { "not ready" })
}
