//! `check`: what would be found wrong after the start, found before it.
//!
//! It publishes nothing (a file sink's absent file is created, empty), and takes one connect and one list of the vendor's budget.

mod finding;
mod machine;
mod served;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use finding::{Finding, print};

use super::{ConfigArgs, Failed};
use crate::app;
use crate::config::{self, Config, SinkConfig};
use crate::event::Timestamp;
use crate::feed::budget::{Budget, Ledger};
use crate::feed::{self, CONNECT_COST, Feed, LostReason};
use crate::metrics::Metrics;
use crate::normalise;
use crate::notice::Channel;
use crate::privacy;
use crate::reconcile;
use crate::shutdown;
use crate::sink::{self, ErrorClass};

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

pub(super) async fn run(args: Args) -> Result<(), Failed> {
    let config = match config::load(&args.config.config) {
        Ok(config) => config,
        Err(error) if args.json => {
            let error = Failed::from(error);
            let found = Finding::bad("configuration", error.to_string(), error.exit_code());
            return ended(&[found], true);
        }
        Err(error) => return Err(error.into()),
    };
    let mut findings = vec![machine::configuration(&args.config.config)];
    findings.push(machine::files(&config));
    findings.push(match app::privacy(&config) {
        Ok(_) => {
            let warnings = privacy::warnings(&config.privacy);
            Finding::good("privacy", "the policy can be applied")
                .warned(warnings.into_iter().map(str::to_owned))
        }
        Err(error) => Finding::bad("privacy", error.to_string(), 64),
    });
    findings.push(machine::certificates(&config, Timestamp::now()));
    findings.push(machine::journal(&config.journal));
    findings.extend(machine::keys(&config.journal));
    findings.push(machine::disk(&config.journal));
    findings.push(machine::port(config.admin.listen).await);
    findings.push(machine::names(&config).await);
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
    match spent("list", &budget, 1) {
        Some(finding) => findings.push(finding),
        None => findings.extend(vendor_list(&config, &budget).await),
    }
    for sink in &config.sinks {
        findings.push(destination(sink).await);
    }
    ended(&findings, args.json)
}

/// Says what was found; the exit code is that of the first finding that has one.
fn ended(findings: &[Finding], json: bool) -> Result<(), Failed> {
    let mut codes = findings.iter().map(|finding| finding.exit_code);
    let code = codes.find(|code| *code != 0).unwrap_or_default();
    print(findings, code, json)?;
    match code {
        0 => Ok(()),
        code => Err(Failed::Said(code)),
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
        Ok(Ok(ends)) => subscribed(&config.feed.url, ends, Timestamp::now()),
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
                // It says itself what to look at.
                _ if detail.contains("`feed.proxy") => String::new(),
                reason => format!("; {}", reason.advice()),
            };
            Finding::bad("feed", detail + &advice, 69)
        }
        Err(_) => Finding::bad("feed", "no answer in time", 69),
    }
}

fn subscribed(url: &str, certificate_ends: Option<u64>, now: Timestamp) -> Finding {
    let found = Finding::good("feed", format!("subscribed at {url}"));
    match certificate_ends {
        Some(ends) => served::told(found, machine::days(ends, now), machine::host(url)),
        None => found,
    }
}

/// The list, and beside it the clock, which the vendor's answer tells.
async fn vendor_list(config: &Config, budget: &Budget) -> Vec<Finding> {
    budget.spend(1).await;
    let asked = Timestamp::now();
    let probe = reconcile::probe(&config.reconcile, &config.feed);
    match timeout(CHECK_TIMEOUT, probe).await {
        Ok(Ok(probed)) => {
            let (users, url) = (probed.users, &config.reconcile.url);
            let list = Finding::good("list", format!("{users} users at {url}"));
            let list = served::of_list(list, config, Timestamp::now()).await;
            let clock = probed.vendor_time;
            let clock = clock.map(|vendor| machine::clock(vendor, asked, Timestamp::now()));
            std::iter::once(list).chain(clock).collect()
        }
        Ok(Err(error)) => {
            error.note(budget);
            let code = if error.is_credential() { 64 } else { 69 };
            vec![Finding::bad("list", error.to_string(), code)]
        }
        Err(_) => vec![Finding::bad("list", "no answer in time", 69)],
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
            let finding = finding.warned(side_channels(config).await);
            served::of_sink(finding, config, Timestamp::now()).await
        }
        Ok(Err(error)) if error.class == ErrorClass::Configuration => {
            Finding::bad(name, error.message, 64)
        }
        Ok(Err(error)) => Finding::bad(name, error.message, 69),
        Err(_) => Finding::bad(name, "no answer in time", 69),
    }
}

/// A sentence for each side channel that the bridge would find missing; no event waits for one.
async fn side_channels(config: &SinkConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    for channel in Channel::ALL.into_iter().filter(|of| config.takes(*of)) {
        let why = match timeout(CHECK_TIMEOUT, sink::look_beside(config, channel)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.message,
            Err(_) => "no answer in time".to_owned(),
        };
        let (what, option) = match channel {
            Channel::Control => ("control records", "control"),
            Channel::Dead => ("copies of dead letters", "dead_letters"),
        };
        warnings.push(format!(
            "{what} have no place there: {why}; if nobody wants them, set `{option}: false`"
        ));
    }
    warnings
}
