//! What one check found, and how all of them are shown.

use std::io::Write;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: String,
    pub ok: bool,
    pub detail: String,
    pub warnings: Vec<String>,
    /// Exit code that this finding asks for.
    #[serde(skip)]
    pub code: u8,
}

impl Finding {
    pub(super) fn good(check: impl Into<String>, detail: impl Into<String>) -> Self {
        let (check, detail) = (check.into(), detail.into());
        Self {
            check,
            ok: true,
            detail,
            warnings: Vec::new(),
            code: 0,
        }
    }

    pub(super) fn bad(check: impl Into<String>, detail: impl Into<String>, code: u8) -> Self {
        Self {
            ok: false,
            code,
            ..Self::good(check, detail)
        }
    }

    pub(super) fn warned(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

pub(super) fn print(findings: &[Finding], ready: bool, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let report = serde_json::json!({"ready": ready, "checks": findings});
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
