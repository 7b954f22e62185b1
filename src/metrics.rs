//! Every metric in one place, one struct a stage, in the order of the flow.
//!
//! All series exist from the start: label values come from enums and from the configuration only,
//! and never from an event. docs/metrics.md lists what [`Metrics::new`] registers.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::event::{EventType, Origin};
use crate::feed::{FrameKind, LostReason};
use crate::journal::Blocked;
use crate::normalise::Reason;
use crate::reconcile::Outcome;
use crate::sink::ErrorClass;

mod sinks;

pub use sinks::{SinkMetrics, SinkState};

/// Prefix of every metric of the bridge.
pub const PREFIX: &str = "onboarding_bridge";

/// From a tenth of a millisecond to a minute and a half.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    20.0, 90.0,
];

/// The feed's metrics.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct FeedMetrics {
    pub connected: IntGauge,
    pub connects: IntCounter,
    pub reconnects: IntCounterVec,
    pub last_frame: Gauge,
    pub last_event: Gauge,
    pub frames: IntCounterVec,
    pub gaps: IntCounter,
    pub missing: IntCounter,
    pub regressions: IntCounter,
    pub blind_seconds: prometheus::Counter,
    pub request_budget: Gauge,
    pub certificate_expiry: Gauge,
    pub unhealed: IntGauge,
}

/// The metrics of normalising.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct NormaliseMetrics {
    pub events: IntCounterVec,
    pub rejected: IntCounterVec,
    pub unknown_fields: IntCounter,
    pub duplicates: IntCounter,
}

/// The journal's metrics.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct JournalMetrics {
    pub records: IntGauge,
    pub bytes: IntGauge,
    pub capacity: IntGauge,
    pub blocked: IntGaugeVec,
    pub commit_duration: Histogram,
    pub commit_records: Histogram,
}

/// The metrics of the repair by the REST list.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct ReconcileMetrics {
    pub runs: IntCounterVec,
    pub differences: IntCounter,
    pub duration: Histogram,
    pub last_success: Gauge,
}

/// What was set aside or lost.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct LossMetrics {
    pub dead_letters_total: IntCounterVec,
    pub dead_letters: IntGauge,
    pub events_lost: IntCounterVec,
}

/// Every metric of the bridge, and the registry that `/metrics` prints.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "one struct a stage")]
pub struct Metrics {
    pub feed: FeedMetrics,
    pub normalise: NormaliseMetrics,
    pub journal: JournalMetrics,
    pub sinks: Vec<SinkMetrics>,
    pub reconcile: ReconcileMetrics,
    pub loss: LossMetrics,
    registries: [Registry; 2],
}

/// How a reconcile ended; the value of the label `outcome`.
pub const RECONCILE_OUTCOMES: [&str; Outcome::ALL.len()] = {
    let [success, failed, refused, undecided] = Outcome::ALL;
    [
        success.as_str(),
        failed.as_str(),
        refused.as_str(),
        undecided.as_str(),
    ]
};

/// Why a record became a dead letter on its way to a sink; frames have [`Reason`].
pub const REASON_SINK: &str = "sink";

/// An event was dropped because the journal took none, as `journal.when_full: drop_newest` asks.
pub const LOST_FULL: &str = "journal_full";

/// A record that some sink lacked could not be read from a damaged journal.
pub const LOST_CORRUPT: &str = "journal_corrupt";

/// The only policy that loses events is one that an operator chose; the only fault, a damaged file.
const LOST_REASONS: [&str; 2] = [LOST_FULL, LOST_CORRUPT];

/// Makes metrics and registers them; the only place that can panic, and only on a name used twice.
struct Maker(Registry);

impl Maker {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("the names and labels of metrics are constants");
        self.0
            .register(Box::new(metric.clone()))
            .expect("each metric is registered once");
        metric
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> IntGaugeVec {
        let family = self.add(IntGaugeVec::new(Opts::new(name, help), &[label]));
        for value in values {
            family.with_label_values(&[value]);
        }
        family
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> IntCounterVec {
        let family = self.add(IntCounterVec::new(Opts::new(name, help), &[label]));
        for value in values {
            family.with_label_values(&[value]);
        }
        family
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(options))
    }
}

impl Metrics {
    /// Registers every metric for the sinks of these names.
    pub fn new(sinks: &[&str]) -> Self {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)
            .expect("the prefix is a valid metric name");
        let make = Maker(registry.clone());
        let process = Registry::new();
        #[cfg(target_os = "linux")]
        process
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("the process collector is registered once");
        let build = make.add(GaugeVec::new(
            Opts::new("build_info", "Always 1; the labels say what is running"),
            &["version"],
        ));
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Self {
            feed: feed(&make),
            normalise: normalise(&make),
            journal: journal(&make),
            sinks: sinks::register(&make, sinks),
            reconcile: ReconcileMetrics {
                runs: make.counters(
                    "reconcile_runs_total",
                    "Comparisons with the vendor's list by how they ended",
                    "outcome",
                    RECONCILE_OUTCOMES,
                ),
                differences: make.counter(
                    "reconcile_differences_total",
                    "Events that only the list told of",
                ),
                duration: make.histogram(
                    "reconcile_duration_seconds",
                    "Time from the request for the list to the last comparison",
                    &SECONDS_BUCKETS,
                ),
                last_success: make.float(
                    "reconcile_last_success_timestamp_seconds",
                    "Unix time of the last list that was compared in full and decided everything; 0 before the first",
                ),
            },
            loss: loss(&make),
            registries: [registry, process],
        }
    }

    /// Prometheus text format, sorted by name.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(32 * 1024);
        for registry in &self.registries {
            TextEncoder::new()
                .encode(&registry.gather(), &mut text)
                .expect("writing to memory cannot fail");
        }
        text
    }

    /// Name, type and help of every metric, sorted.
    pub fn list(&self) -> Vec<(String, String, String)> {
        let families = self.registries.iter().flat_map(Registry::gather);
        families
            .map(|family| {
                let kind = format!("{:?}", family.get_field_type()).to_lowercase();
                (family.name().to_owned(), kind, family.help().to_owned())
            })
            .collect()
    }
}

fn feed(make: &Maker) -> FeedMetrics {
    FeedMetrics {
        connected: make.gauge("feed_connected", "1 while subscribed to the vendor's feed"),
        connects: make.counter("feed_connects_total", "Subscriptions that were confirmed"),
        reconnects: make.counters(
            "feed_reconnects_total",
            "Connections, and attempts to connect, that ended, by reason",
            "reason",
            LostReason::ALL.map(LostReason::as_str),
        ),
        last_frame: make.float(
            "feed_last_frame_timestamp_seconds",
            "Unix time of the last frame of any kind, pongs included",
        ),
        last_event: make.float(
            "feed_last_event_timestamp_seconds",
            "Unix time of the last message of the feed",
        ),
        frames: make.counters(
            "feed_frames_total",
            "Frames by kind; heard = event + rejected",
            "kind",
            FrameKind::ALL.map(FrameKind::as_str),
        ),
        gaps: make.counter(
            "feed_sequence_gaps_total",
            "Runs of missing sequence numbers",
        ),
        missing: make.counter("feed_sequence_missing_total", "Missing sequence numbers"),
        regressions: make.counter(
            "feed_sequence_regressions_total",
            "Sequence numbers that had been seen before or came too late",
        ),
        blind_seconds: make.add(prometheus::Counter::new(
            "feed_blind_seconds_total",
            "Seconds in which the feed was not heard, counted while they last",
        )),
        request_budget: make.float(
            "feed_request_budget_remaining",
            "Requests that the vendor's limit still allows in this minute",
        ),
        certificate_expiry: make.float(
            "feed_certificate_expiry_timestamp_seconds",
            "Unix time at which the first of feed.ca_file and reconcile.ca_file is of no use any more; 1 where one cannot be read, 0 where there is none",
        ),
        unhealed: make.gauge(
            "feed_blind_windows_unhealed",
            "Blind windows that no list has healed yet, an open one included",
        ),
    }
}

fn normalise(make: &Maker) -> NormaliseMetrics {
    let events = make.add(IntCounterVec::new(
        Opts::new("normalise_events_total", "Events that are in the journal"),
        &["event_type", "origin"],
    ));
    for event_type in EventType::ALL {
        for origin in Origin::ALL {
            events.with_label_values(&[event_type.as_str(), origin.as_str()]);
        }
    }
    NormaliseMetrics {
        events,
        rejected: make.counters(
            "normalise_rejected_total",
            "Frames that could not become an event, by reason",
            "reason",
            Reason::ALL.map(Reason::as_str),
        ),
        unknown_fields: make.counter(
            "normalise_unknown_fields_total",
            "Fields of the vendor that this version does not know, dropped",
        ),
        duplicates: make.counter(
            "normalise_duplicates_total",
            "Messages that repeat one of the same user's last events",
        ),
    }
}

fn journal(make: &Maker) -> JournalMetrics {
    JournalMetrics {
        records: make.gauge("journal_records", "Records in the journal"),
        bytes: make.gauge("journal_bytes", "Bytes of the journal in use"),
        capacity: make.gauge("journal_capacity_bytes", "Bytes that the journal may use"),
        blocked: make.gauges(
            "journal_blocked",
            "1 while the journal takes no events, by reason: its limit, the disk, another's lock",
            "reason",
            Blocked::ALL.map(Blocked::as_str),
        ),
        commit_duration: make.histogram(
            "journal_commit_duration_seconds",
            "Time of one commit, fsync included",
            &SECONDS_BUCKETS,
        ),
        commit_records: make.histogram(
            "journal_commit_records",
            "Records in one commit",
            &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0],
        ),
    }
}

fn loss(make: &Maker) -> LossMetrics {
    let reasons = Reason::ALL.map(Reason::as_str);
    LossMetrics {
        dead_letters_total: make.counters(
            "dead_letters_total",
            "Messages and records that were set aside, by reason",
            "reason",
            reasons.into_iter().chain([REASON_SINK]),
        ),
        dead_letters: make.gauge("dead_letters", "Dead letters in the journal"),
        events_lost: make.counters(
            "events_lost_total",
            "Events that were heard and lost; 0 unless a losing policy was chosen or the journal's file was damaged",
            "reason",
            LOST_REASONS,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_from_the_start() {
        let text = String::from_utf8(Metrics::new(&["kafka", "nats"]).encode()).unwrap();
        for series in [
            "onboarding_bridge_feed_reconnects_total{reason=\"idle\"} 0",
            "onboarding_bridge_normalise_events_total{event_type=\"user.removed\",origin=\"reconcile\"} 0",
            "onboarding_bridge_sink_lag_records{sink=\"nats\"} 0",
            "onboarding_bridge_sink_errors_total{class=\"fatal\",sink=\"kafka\"} 0",
            "onboarding_bridge_events_lost_total{reason=\"journal_full\"} 0",
            "onboarding_bridge_build_info{version=",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(series), "{series} is missing from\n{text}");
        }
    }
}
