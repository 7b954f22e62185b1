//! `check`: what would be found wrong after the start, found before it.
//!
//! It publishes nothing (a file sink's absent file is created, empty), and takes one connect and one list of the vendor's budget.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::{ConfigArgs, Failed};
use crate::app;
use crate::certificates::{self, CertificateError, CertificateFile};
use crate::config::{self, Config, SinkConfig};
use crate::event::Timestamp;
use crate::feed::budget::{Budget, Ledger};
use crate::feed::{self, CONNECT_COST, Feed, LostReason};
use crate::metrics::Metrics;
use crate::normalise;
use crate::privacy;
use crate::reconcile;
use crate::shutdown;
use crate::sink::{self, ErrorClass};

/// A certificate that ends earlier is warned of.
const CERTIFICATE_DAYS: i64 = 30;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// No single check takes longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(45);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    ok: bool,
    detail: String,
    warnings: Vec<String>,
    /// Exit code that this finding asks for.
    #[serde(skip)]
    code: u8,
}

impl Finding {
    fn good(check: impl Into<String>, detail: impl Into<String>) -> Self {
        let (check, detail) = (check.into(), detail.into());
        Self {
            check,
            ok: true,
            detail,
            warnings: Vec::new(),
            code: 0,
        }
    }

    fn bad(check: impl Into<String>, detail: impl Into<String>, code: u8) -> Self {
        let (check, detail) = (check.into(), detail.into());
        Self {
            check,
            ok: false,
            detail,
            warnings: Vec::new(),
            code,
        }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failed> {
    let config = config::load(&args.config.config)?;
    let mut findings = vec![Finding::good(
        "configuration",
        args.config.config.display().to_string(),
    )];
    findings.push(match app::privacy(&config) {
        Ok(_) => {
            let warnings = privacy::warnings(&config.privacy);
            Finding {
                warnings: warnings.into_iter().map(str::to_owned).collect(),
                ..Finding::good("privacy", "the policy can be applied")
            }
        }
        Err(error) => Finding::bad("privacy", error.to_string(), 64),
    });
    findings.push(certificates(&config, Timestamp::now()));
    findings.push(journal(&config.journal.path));
    let metrics = Metrics::new(&[]);
    let budget = Budget::new(
        &config.feed.limits,
        Some(Ledger::beside(&config.journal.path)),
        metrics.feed.request_budget.clone(),
        Timestamp::now,
    );
    findings.push(match spent("feed", &budget, CONNECT_COST) {
        Some(finding) => finding,
        None => vendor_feed(&config, metrics, &budget).await,
    });
    findings.push(match spent("list", &budget, 1) {
        Some(finding) => finding,
        None => vendor_list(&config, &budget).await,
    });
    for sink in &config.sinks {
        findings.push(destination(sink).await);
    }
    let code = findings
        .iter()
        .map(|finding| finding.code)
        .find(|code| *code != 0);
    print(&findings, code.is_none(), args.json)?;
    code.map_or(Ok(()), |code| Err(Failed::Said(code)))
}

fn print(findings: &[Finding], ready: bool, json: bool) -> std::io::Result<()> {
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

/// Whether each file of certificates is of use, and for how long.
fn certificates(config: &Config, now: Timestamp) -> Finding {
    let of_sinks = config.sinks.iter().flat_map(|sink| {
        let of_sink = certificates::of_sink(sink).into_iter();
        of_sink.map(|file| (format!("sink {}: ", sink.name()), file))
    });
    let of_vendor = certificates::of_vendor(config).into_iter();
    let files = of_vendor.map(|file| (String::new(), file)).chain(of_sinks);
    let (mut bad, mut warnings, mut good) = (Vec::new(), Vec::new(), 0);
    for (whose, file) in files {
        let what = format!("{whose}`{}` ({})", file.key, file.path.display());
        match days_left(&file, now) {
            Err(error) => bad.push(format!("{what} {error}")),
            Ok(days) if days < 0 => {
                bad.push(format!("{what} has expired; put a new one in its place"))
            }
            Ok(days) if days < CERTIFICATE_DAYS => {
                warnings.push(format!("{what} expires in {days} days"))
            }
            Ok(_) => good += 1,
        }
    }
    if !bad.is_empty() {
        return Finding::bad("certificates", bad.join("; "), 64);
    }
    let detail = match good + warnings.len() {
        0 => "no file of certificates is named".to_owned(),
        files => format!("{files} file(s), none of which has expired"),
    };
    Finding {
        warnings,
        ..Finding::good("certificates", detail)
    }
}

fn days_left(file: &CertificateFile, now: Timestamp) -> Result<i64, CertificateError> {
    let until = i64::try_from(file.expiry()?).unwrap_or(i64::MAX / 1000);
    Ok((until * 1000 - now.as_millis()).div_euclid(DAY_MS))
}

/// Whether the journal's folder can be written; the journal itself may be in use by a bridge.
fn journal(path: &Path) -> Finding {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let probe = folder.join(format!(".onboarding-bridge-check-{}", std::process::id()));
    let tried = std::fs::File::create_new(&probe).and_then(|file| {
        file.sync_all()?;
        std::fs::remove_file(&probe)
    });
    match tried {
        Ok(()) => Finding::good("journal", format!("{} can be written", folder.display())),
        Err(error) => {
            let folder = folder.display();
            let detail =
                format!("cannot write to {folder}: {error}; make it writable for this user");
            Finding::bad("journal", detail, 74)
        }
    }
}

/// What there is to say when the bridge with this journal, or an earlier check, has spent the share.
fn spent(check: &str, budget: &Budget, requests: usize) -> Option<Finding> {
    let wait = budget.must_wait(requests)?.as_secs() + 1;
    let detail = format!(
        "not tried: the share of the vendor's limits (`feed.limits`) is spent, or the vendor has \
         refused; check again in {wait} s"
    );
    Some(Finding::bad(check, detail, 69))
}

async fn vendor_feed(config: &Config, metrics: Metrics, budget: &Arc<Budget>) -> Finding {
    // A message that comes during the probe is nobody's: the bridge will see its effect in the list.
    let (heard, mut nobody) = tokio::sync::mpsc::channel(16);
    let (_stopper, stop) = shutdown::channel();
    let feed = Feed {
        config: config.feed.clone(),
        budget: Arc::clone(budget),
        metrics: metrics.feed,
        heard,
        room: Arc::new(tokio::sync::Semaphore::new(crate::journal::IN_FLIGHT_BYTES)),
        deaf: tokio::sync::watch::channel(None).0,
        renew: tokio::sync::watch::channel(0).1,
        read: normalise::frame,
        capture: None,
        stop,
        clock: Timestamp::now,
    };
    budget.spend(CONNECT_COST).await;
    let probe = async {
        tokio::select! {
            outcome = feed::probe(&feed) => outcome,
            () = async { while nobody.recv().await.is_some() {} } => unreachable!("the feed sends"),
        }
    };
    match timeout(CHECK_TIMEOUT, probe).await {
        Ok(Ok(())) => Finding::good("feed", format!("subscribed at {}", config.feed.url)),
        Ok(Err((LostReason::Credential, detail))) => Finding::bad("feed", detail, 64),
        Ok(Err((reason, detail))) => {
            if matches!(reason, LostReason::Limited) {
                budget.block();
            }
            let advice = match reason {
                LostReason::Limited => {
                    let wait = budget.must_wait(1).unwrap_or_default().as_secs() + 1;
                    format!(
                        "; taken for the vendor's limit: the bridge with this journal and each check \
                         are silent for {wait} s; {}",
                        reason.advice()
                    )
                }
                LostReason::Dropped => {
                    "; if the next connection ends so too, that counts as the vendor's limit"
                        .to_owned()
                }
                _ => String::new(),
            };
            Finding::bad("feed", detail + &advice, 69)
        }
        Err(_) => Finding::bad("feed", "no answer in time", 69),
    }
}

async fn vendor_list(config: &Config, budget: &Budget) -> Finding {
    budget.spend(1).await;
    match timeout(
        CHECK_TIMEOUT,
        reconcile::probe(&config.reconcile, &config.feed),
    )
    .await
    {
        Ok(Ok(users)) => {
            Finding::good("list", format!("{users} users at {}", config.reconcile.url))
        }
        Ok(Err(error)) => {
            error.note(budget);
            Finding::bad("list", error.to_string(), 69)
        }
        Err(_) => Finding::bad("list", "no answer in time", 69),
    }
}

async fn destination(config: &SinkConfig) -> Finding {
    let name = format!("sink {}", config.name());
    let mut sink = match sink::create(&sink::beside(config)) {
        Ok(sink) => sink,
        Err(error) => return Finding::bad(name, error.message, 64),
    };
    let opened = timeout(CHECK_TIMEOUT, sink.open()).await;
    let closed = timeout(CHECK_TIMEOUT, sink.close()).await;
    match opened {
        Ok(Ok(destination)) => {
            let mut finding = Finding::good(name, destination.description);
            finding.warnings = destination.warnings;
            if !destination.can_tell_what_it_holds {
                let warning = "it cannot tell what it holds: after a crash, at least once";
                finding.warnings.push(warning.to_owned());
            }
            if !matches!(closed, Ok(Ok(()))) {
                finding.warnings.push("it did not close".to_owned());
            }
            finding
        }
        Ok(Err(error)) if error.class == ErrorClass::Configuration => {
            Finding::bad(name, error.message, 64)
        }
        Ok(Err(error)) => Finding::bad(name, error.message, 69),
        Err(_) => Finding::bad(name, "no answer in time", 69),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an invented authority that ends at 2035-02-12.
    const PEM: &str = include_str!("../certificates/one.pem");
    const ENDS_MS: i64 = 2_054_899_688_000;

    fn found(pem: &str, days_before: i64) -> Finding {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let yaml = format!(
            "{{feed: {{api_key: k}}, journal: {{path: /j}}, sinks: [{{name: n, type: nats, url: 'tls://n', \
             stream: S, subject_prefix: p, ca_file: {}}}]}}",
            file.path().display()
        );
        let config: Config = serde_norway::from_str(&yaml).unwrap();
        certificates(
            &config,
            Timestamp((ENDS_MS - days_before * DAY_MS) * 1_000_000),
        )
    }

    #[test]
    fn a_certificate_that_ends_soon_is_warned_of_and_one_that_has_ended_is_wrong() {
        let far = found(PEM, 31);
        assert!(far.ok && far.warnings.is_empty(), "{far:?}");
        let soon = found(PEM, 29);
        assert!(soon.ok, "{soon:?}");
        let warning = &soon.warnings[0];
        assert!(
            warning.contains("sink n: `ca_file`") && warning.contains("in 29 days"),
            "{warning}"
        );
        let over = found(PEM, -1);
        assert!(!over.ok && over.detail.contains("has expired"), "{over:?}");
        assert_eq!(over.code, 64);
        let none = found("nothing", 31);
        assert!(
            !none.ok && none.detail.contains("no certificate in PEM form"),
            "{none:?}"
        );
    }
}
