//! The metrics of each sink: one set of series a configured sink, none for anything else.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts,
};

use super::{ErrorClass, Maker, SECONDS_BUCKETS};

/// What a sink is doing; the value of the label `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Connecting, or asking the destination what it holds.
    Opening,
    /// Publishing, or waiting for something to publish.
    Delivering,
    /// Waiting for an operator to mend the configuration.
    Halted,
    /// Waiting before the next try.
    Retrying,
    /// Ended.
    Stopped,
}

impl SinkState {
    /// Every value, for metrics that must exist from the start.
    pub const ALL: [Self; 5] = [
        Self::Opening,
        Self::Delivering,
        Self::Halted,
        Self::Retrying,
        Self::Stopped,
    ];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Delivering => "delivering",
            Self::Halted => "halted",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
        }
    }
}

/// The metrics of one sink.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help text of each says what it is")]
pub struct SinkMetrics {
    pub name: String,
    pub lag_records: IntGauge,
    pub lag_seconds: Gauge,
    pub published: IntCounter,
    pub skipped_held: IntCounter,
    pub late_duplicates: IntCounter,
    pub publish_duration: Histogram,
    pub event_lag: Histogram,
    pub restarts: IntCounter,
    pub last_success: Gauge,
    pub certificate_expiry: Gauge,
    pub at_least_once: IntGauge,
    pub notices_dropped: IntCounter,
    errors: IntCounterVec,
    states: IntGaugeVec,
}

impl SinkMetrics {
    /// Counts an error of this class.
    pub fn error(&self, class: ErrorClass) {
        self.errors
            .with_label_values(&[class.as_str(), self.name.as_str()])
            .inc();
    }

    /// Exactly one state of a sink is 1.
    pub fn state(&self, now: SinkState) {
        for state in SinkState::ALL {
            let value = i64::from(state == now);
            self.states
                .with_label_values(&[self.name.as_str(), state.as_str()])
                .set(value);
        }
    }
}

/// Makes the families of one label, `sink`.
struct Families<'a>(&'a Maker);

impl Families<'_> {
    fn gauges(&self, name: &str, help: &str) -> IntGaugeVec {
        self.0
            .add(IntGaugeVec::new(Opts::new(name, help), &["sink"]))
    }

    fn floats(&self, name: &str, help: &str) -> GaugeVec {
        self.0.add(GaugeVec::new(Opts::new(name, help), &["sink"]))
    }

    fn counters(&self, name: &str, help: &str) -> IntCounterVec {
        self.0
            .add(IntCounterVec::new(Opts::new(name, help), &["sink"]))
    }

    fn histograms(&self, name: &str, help: &str) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(SECONDS_BUCKETS.to_vec());
        self.0.add(HistogramVec::new(options, &["sink"]))
    }
}

/// Each class of each sink is there from the start.
fn errors(make: &Maker, names: &[&str]) -> IntCounterVec {
    let errors = Opts::new("sink_errors_total", "Errors by what they ask for");
    let errors = make.add(IntCounterVec::new(errors, &["class", "sink"]));
    for (name, class) in names
        .iter()
        .flat_map(|name| ErrorClass::ALL.map(|class| (name, class)))
    {
        errors.with_label_values(&[class.as_str(), name]);
    }
    errors
}

fn states(make: &Maker) -> IntGaugeVec {
    let states = Opts::new("sink_state", "1 for the state that the sink is in");
    make.add(IntGaugeVec::new(states, &["sink", "state"]))
}

pub(super) fn register(make: &Maker, names: &[&str]) -> Vec<SinkMetrics> {
    let of = Families(make);
    let lag_records = of.gauges(
        "sink_lag_records",
        "Records in the journal that the sink lacks",
    );
    let lag_seconds = of.floats(
        "sink_lag_seconds",
        "Age of the oldest event that the sink lacks",
    );
    let published = of.counters("sink_published_total", "Records that the sink acknowledged");
    let skipped_held = of.counters(
        "sink_skipped_held_total",
        "Records that were not published again, because the destination already held them",
    );
    let late_duplicates = of.counters(
        "sink_late_duplicates_total",
        "Records that a dead process had handed to a slow network and that arrived after all",
    );
    let publish_duration = of.histograms(
        "sink_publish_duration_seconds",
        "Time from publishing a batch to its outcome",
    );
    let event_lag = of.histograms(
        "sink_event_lag_seconds",
        "From the vendor's timestamp, or our receipt if there is none, to the acknowledgement",
    );
    let restarts = of.counters(
        "sink_restarts_total",
        "Times that the sink's client was built anew",
    );
    let last_success = of.floats(
        "sink_last_success_timestamp_seconds",
        "Unix time of the last acknowledgement, or of the opening",
    );
    let certificate_expiry = of.floats(
        "sink_certificate_expiry_timestamp_seconds",
        "Unix time at which the first of the sink's certificate files is of no use any more; 1 where one cannot be read, 0 where there is none",
    );
    let at_least_once = of.gauges(
        "sink_at_least_once",
        "1 if the destination cannot be asked what it holds, so that after an unclean end events may come twice",
    );
    let notices_dropped = of.counters(
        "sink_notices_dropped_total",
        "Control records and copies of dead letters that the side channel could not take; they stay in the journal",
    );
    let (errors, states) = (errors(make, names), states(make));
    let sink = |name: &&str| {
        let metrics = SinkMetrics {
            name: (*name).to_owned(),
            lag_records: lag_records.with_label_values(&[name]),
            lag_seconds: lag_seconds.with_label_values(&[name]),
            published: published.with_label_values(&[name]),
            skipped_held: skipped_held.with_label_values(&[name]),
            late_duplicates: late_duplicates.with_label_values(&[name]),
            publish_duration: publish_duration.with_label_values(&[name]),
            event_lag: event_lag.with_label_values(&[name]),
            restarts: restarts.with_label_values(&[name]),
            last_success: last_success.with_label_values(&[name]),
            certificate_expiry: certificate_expiry.with_label_values(&[name]),
            at_least_once: at_least_once.with_label_values(&[name]),
            notices_dropped: notices_dropped.with_label_values(&[name]),
            errors: errors.clone(),
            states: states.clone(),
        };
        metrics.state(SinkState::Opening);
        metrics
    };
    names.iter().map(sink).collect()
}
