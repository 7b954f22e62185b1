//! Building the bridge: everything is read, bound and opened, and nothing is started.
//!
//! It decides nothing about events and never speaks to the vendor or to a destination.

use std::path::Path;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{App, AppError};
use crate::admin::{Admin, Certificates, Status};
use crate::config::{Config, SinkConfig};
use crate::deliver::{Deliver, Pace, SinkStatus, Start};
use crate::event::Timestamp;
use crate::feed::{self, Feed, Heard, budget::Budget, budget::Ledger};
use crate::ingest::{Ingest, Ties};
use crate::journal::{Found, Handle, Journal};
use crate::metrics::Metrics;
use crate::normalise;
use crate::privacy::{self, Privacy};
use crate::private;
use crate::reconcile::{Asker, LISTED_QUEUE, Listed, Reconcile, Reports};
use crate::shutdown::{self, Stop};
use crate::sink::{self, Sink};

/// What may wait between the feed and ingest.
const QUEUE: usize = 1024;

impl App {
    /// Binds the admin port, reads the secrets, opens the journal, makes the sinks.
    ///
    /// # Errors
    /// [`AppError`] with what is wrong and what to do.
    pub async fn build(config: &Config) -> Result<Self, AppError> {
        let clock = Timestamp::now;
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name()).collect();
        let metrics = Metrics::new(&names);
        let privacy = privacy(config)?;
        for warning in privacy::warnings(&config.privacy) {
            tracing::warn!("{warning}");
        }
        check_secrets(config)?;
        let sinks = config.sinks.iter().map(sink::create);
        let sinks = sinks.collect::<Result<Vec<_>, _>>()?;
        let admin = bind(config).await?;
        let Journal {
            appender,
            handle,
            found,
            writer,
            lock,
        } = Journal::open(&config.journal, &names, &metrics, clock)?;
        // From here on nothing that somebody wrote can end the start, which is told by one line.
        warn_of_modes(config);
        let (stopper, stop) = shutdown::channel();
        let (last, last_receiver) = watch::channel(None);
        let parts = Parts {
            found: &found,
            journal: &handle,
            metrics: &metrics,
            stop: &stop,
            last: &last_receiver,
            clock,
        };
        let (delivers, statuses) = parts.delivers(&config.sinks, sinks);
        let Vendor {
            feed,
            heard,
            ties,
            reconcile,
            listed,
        } = vendor(config, &privacy, &metrics, appender.room(), &stop, clock);
        let (reports, budget) = (ties.reports.clone(), Arc::clone(&reconcile.budget));
        let ingest = Ingest::new(
            appender, &handle, &found, config, privacy, ties, &metrics, stop, clock,
        )?;
        let status = Arc::new(Status::new(
            metrics,
            handle.clone(),
            statuses,
            budget,
            reports,
            Certificates::of(config),
            clock,
        ));
        Ok(Self {
            feed,
            heard,
            reconcile,
            listed,
            ingest,
            delivers,
            last,
            journal: handle,
            writer,
            lock,
            admin,
            status,
            stopper,
            drain: config.shutdown.drain.0,
            capture: None,
        })
    }
}

/// The two tasks that speak to the vendor, and the ends of their queues.
struct Vendor {
    feed: Feed,
    heard: mpsc::Receiver<Heard>,
    ties: Ties,
    reconcile: Reconcile,
    listed: mpsc::Receiver<Listed>,
}

fn vendor(
    config: &Config,
    privacy: &Privacy,
    metrics: &Metrics,
    room: Arc<Semaphore>,
    stop: &Stop,
    clock: fn() -> Timestamp,
) -> Vendor {
    let (heard_sender, heard) = mpsc::channel(QUEUE);
    let (deaf_sender, deaf) = watch::channel(None);
    let (renew, renew_receiver) = watch::channel(0);
    let (listed_sender, listed) = mpsc::channel(LISTED_QUEUE);
    let asker = Asker::default();
    let budget = Budget::new(
        &config.feed.limits,
        Some(Ledger::beside(&config.journal.path)),
        metrics.feed.request_budget.clone(),
        clock,
    );
    let feed = Feed {
        config: config.feed.clone(),
        budget: Arc::clone(&budget),
        metrics: metrics.feed.clone(),
        heard: heard_sender,
        room,
        deaf: deaf_sender,
        renew: renew_receiver,
        read: match privacy.needs_token() {
            true => normalise::frame_with_token,
            false => normalise::frame,
        },
        capture: None,
        stop: stop.clone(),
        clock,
    };
    let reconcile = Reconcile {
        config: config.reconcile.clone(),
        feed: config.feed.clone(),
        budget,
        asker: asker.clone(),
        listed: listed_sender,
        metrics: metrics.reconcile.clone(),
        stop: stop.clone(),
        clock,
    };
    let ties = Ties {
        deaf,
        renew,
        asker,
        reports: Reports::default(),
    };
    Vendor {
        feed,
        heard,
        ties,
        reconcile,
        listed,
    }
}

/// What every sink's task works with.
struct Parts<'a> {
    found: &'a Found,
    journal: &'a Handle,
    metrics: &'a Metrics,
    stop: &'a Stop,
    last: &'a watch::Receiver<Option<u64>>,
    clock: fn() -> Timestamp,
}

impl Parts<'_> {
    /// A task for each sink, from where its cursor stands.
    fn delivers(
        &self,
        configs: &[SinkConfig],
        sinks: Vec<Box<dyn Sink>>,
    ) -> (Vec<Deliver>, Vec<Arc<SinkStatus>>) {
        let start = |(index, config): (usize, &SinkConfig)| {
            let (cursor, clean) = self.found.cursors[index];
            let settle = config.settle();
            Start {
                index,
                cursor,
                clean,
                settle,
                pace: Pace::default(),
            }
        };
        let starts = configs.iter().enumerate().map(start);
        starts
            .zip(sinks)
            .map(|(start, sink)| self.deliver(start, &configs[start.index], sink))
            .unzip()
    }

    fn deliver(
        &self,
        start: Start,
        config: &SinkConfig,
        sink: Box<dyn Sink>,
    ) -> (Deliver, Arc<SinkStatus>) {
        let metrics = self.metrics.sinks[start.index].clone();
        let status = Arc::new(SinkStatus::new(&metrics.name, start.cursor));
        let (stop, last) = (self.stop.clone(), self.last.clone());
        let shown = Arc::clone(&status);
        let deliver = Deliver::new(
            start,
            sink,
            self.journal,
            metrics,
            shown,
            stop,
            last,
            self.clock,
        )
        .with_notices(config)
        .with_rotation(config);
        (deliver, status)
    }
}

/// Says which secrets, and whether the journal's folder, everybody on this machine may use.
fn warn_of_modes(config: &Config) {
    for warning in private::exposed_files(config) {
        tracing::warn!("{warning}");
    }
    if let Some(why) = private::exposed(config.journal.folder(), false) {
        tracing::warn!("`journal.path`: {why}");
    }
}

/// Reads every secret and certificate once, so that a mistake shows before the feed opens.
fn check_secrets(config: &Config) -> Result<(), AppError> {
    feed::api_key(&config.feed).map_err(|error| {
        AppError::Configuration(format!(
            "the API key: {error}; make it readable for this user"
        ))
    })?;
    let authorities = [
        ("feed", &config.feed.ca_file),
        ("reconcile", &config.reconcile.ca_file),
    ];
    for (section, file) in authorities {
        feed::tls(file.as_deref())
            .map_err(|error| AppError::Configuration(format!("`{section}`: {error}")))?;
    }
    Ok(())
}

async fn bind(config: &Config) -> Result<Admin, AppError> {
    Admin::bind(config.admin.listen).await.map_err(|error| {
        AppError::Configuration(format!(
            "cannot listen on {}: {error}; set `admin.listen` to a free port of this machine",
            config.admin.listen
        ))
    })
}

/// The privacy policy with its keys, if it needs any.
///
/// # Errors
/// [`AppError::Configuration`] when a key cannot be read or used.
pub fn privacy(config: &Config) -> Result<Privacy, AppError> {
    let wrong = |text: String| AppError::Configuration(text);
    let cannot_read = |key: &str, path: &Path, error: std::io::Error| {
        let path = path.display();
        wrong(format!("cannot read `privacy.{key}` {path}: {error}"))
    };
    let mut policy = config.privacy.clone();
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map(Zeroizing::new);
        bytes.map_err(|error| cannot_read("hmac_key_file", path, error))
    };
    let key = policy.hmac_key_file.as_deref().map(read).transpose()?;
    if let Some(path) = &policy.token_recipients_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| cannot_read("token_recipients_file", path, error))?;
        let keys = privacy::recipient_keys(&text).and_then(|keys| {
            keys.iter()
                .try_for_each(|key| privacy::check_recipient(key))?;
            Ok(keys)
        });
        let keys = keys.map_err(|error| {
            let path = path.display();
            wrong(format!(
                "`privacy.token_recipients_file` {path}: a key {error}"
            ))
        })?;
        policy.token_recipients.extend(keys);
    }
    let key = key.as_ref().map(|key| key.as_slice());
    Privacy::new(&policy, key).map_err(|error| wrong(error.to_string()))
}
