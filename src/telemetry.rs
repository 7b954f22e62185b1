//! The log: on stderr, JSON where no person looks, one fact a line. A thread of its own writes it, so that a
//! stderr which nobody reads holds up nothing; what is beyond the lines that may wait then is dropped.
//!
//! Levels are by the operator's duty: error, somebody must act; warn, unexpected and recovered;
//! info, milestones. No key, no body and no credential is ever logged: only fields that a list names
//! are printed (`fields.rs`), whoever logs them and at whichever level.

pub mod fields;
mod line;

use std::sync::OnceLock;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

use line::Style;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

pub use line::{Line, say};

/// At finer levels these libraries print what goes over the wire: keys, tokens, people. `RUST_LOG`
/// cannot raise them. No other library's words are printed at finer levels than info (`line.rs`).
const CAPPED: [(&str, LevelFilter); 9] = [
    ("tungstenite", LevelFilter::WARN),
    ("tokio_tungstenite", LevelFilter::WARN),
    ("ureq", LevelFilter::WARN),
    ("ureq_proto", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    // At info it tells what the server refuses, with the subject, which holds the record's key; and
    // `nats::watch` tells it without.
    ("async_nats", LevelFilter::WARN),
    ("rdkafka", LevelFilter::INFO),
    ("librdkafka", LevelFilter::INFO),
    ("hyper", LevelFilter::WARN),
];

/// What is logged where nothing else is asked for.
pub const USUAL: &str = "info,librdkafka=warn,rdkafka=warn,async_nats=warn";

/// Lines that may wait for a stderr which is not read.
const LINES_MAX: usize = 4096;

/// Names the levels that are asked for.
const VARIABLE: &str = "RUST_LOG";

/// The levels of this process, once it logs.
static LEVELS: OnceLock<Levels> = OnceLock::new();

type Levels = reload::Handle<Targets, Registry>;

/// The log goes on until this is dropped, which writes what waits, but for two seconds at most.
#[must_use = "the log ends with it"]
#[derive(Debug)]
pub struct Log {
    _writes: WorkerGuard,
}

/// Why the levels stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum LevelsError {
    /// Ask again with another text.
    #[error("these are no levels, such as info,onboarding_bridge::feed=debug: {0}")]
    Unclear(String),
    /// This process does not log.
    #[error("nothing is logged by this process")]
    Silent,
}

/// Starts logging at these levels; `RUST_LOG` overrides them. Called once, before anything else.
///
/// # Errors
/// When `RUST_LOG` cannot be understood.
pub fn start(levels: &str) -> Result<Log, String> {
    let asked = std::env::var_os(VARIABLE).filter(|asked| !asked.is_empty());
    let filter = match &asked {
        Some(asked) => {
            filter(&asked.to_string_lossy()).map_err(|why| format!("{VARIABLE}: {why}"))?
        }
        None => filter(levels)?,
    };
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let (subscriber, handle) = subscriber(filter, lines, Style::of_stderr());
    subscriber.try_init().map_err(|error| error.to_string())?;
    LEVELS.set(handle).unwrap_or_default();
    Ok(Log { _writes: guard })
}

/// The levels in force, caps included, as a text that [`set_levels`] takes.
///
/// # Errors
/// [`LevelsError::Silent`] before [`start`].
pub fn levels() -> Result<String, LevelsError> {
    let handle = LEVELS.get().ok_or(LevelsError::Silent)?;
    handle
        .with_current(ToString::to_string)
        .map_err(|_| LevelsError::Silent)
}

/// Logs at these levels from now on, until the process ends; the caps of what may be printed stay.
///
/// # Errors
/// [`LevelsError::Unclear`] when the text cannot be understood.
pub fn set_levels(levels: &str) -> Result<(), LevelsError> {
    let filter = filter(levels).map_err(LevelsError::Unclear)?;
    let handle = LEVELS.get().ok_or(LevelsError::Silent)?;
    handle.reload(filter).map_err(|_| LevelsError::Silent)
}

/// Prints what passes the filter. That holds for everything and not for the printing layer alone: with
/// a layer's own filter, a library that asks by `log` whether it would be heard, as rdkafka does, leaves
/// its "no" on the thread, and the next line of ours on that thread is lost.
fn subscriber<W>(
    filter: Targets,
    writer: W,
    style: Style,
) -> (impl Subscriber + Send + Sync, Levels)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .event_format(style);
    let (filter, handle) = reload::Layer::new(filter);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    (subscriber, handle)
}

/// The levels of a text such as `info,onboarding_bridge::feed=debug`, none of them beyond its cap.
fn filter(levels: &str) -> Result<Targets, String> {
    // A lone word that is no level would be taken for a target, and nothing else be heard any more.
    let lone = |word: &&str| !word.is_empty() && !word.contains(['=', ':']);
    let mut words = levels.split(',').map(str::trim).filter(lone);
    if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(format!(
            "`{word}` is none of off, error, warn, info, debug and trace"
        ));
    }
    let asked: Targets = levels.parse().map_err(|error| format!("{error}"))?;
    let usual = asked.default_level();
    let mut filter = Targets::new();
    if let Some(level) = usual {
        filter = filter.with_default(level);
        // A cap also holds where only the level of everything is asked for.
        for (target, cap) in CAPPED {
            filter = filter.with_target(target, level.min(cap));
        }
    }
    for (target, level) in &asked {
        filter = filter.with_target(target, level.min(cap_of(target)));
    }
    Ok(filter)
}

/// The finest level at which a library, or a module of it, is printed.
fn cap_of(target: &str) -> LevelFilter {
    let library = target.split("::").next().unwrap_or_default();
    let cap = CAPPED.iter().find(|(name, _)| *name == library);
    cap.map_or(LevelFilter::TRACE, |(_, cap)| *cap)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn no_text_raises_a_library_that_prints_what_goes_over_the_wire() {
        for levels in [
            "trace",
            "tungstenite=trace",
            "trace,tungstenite::protocol=trace",
            "info,tungstenite=debug,tungstenite::protocol::frame=trace",
        ] {
            let filter = filter(levels).unwrap();
            for target in [
                "tungstenite",
                "tungstenite::protocol",
                "tungstenite::protocol::frame",
            ] {
                assert!(
                    !filter.would_enable(target, &Level::INFO),
                    "{levels}: {target}"
                );
            }
        }
        assert!(
            filter("warn")
                .unwrap()
                .would_enable("async_nats::connector", &Level::WARN)
        );
        assert!(
            !filter("error")
                .unwrap()
                .would_enable("async_nats", &Level::WARN)
        );
    }

    #[test]
    fn levels_are_taken_for_everything_and_for_a_module() {
        let filter = filter("info,onboarding_bridge::feed=debug").unwrap();
        assert!(filter.would_enable("onboarding_bridge::feed::session", &Level::DEBUG));
        assert!(!filter.would_enable("onboarding_bridge::journal", &Level::DEBUG));
        assert!(filter.would_enable("onboarding_bridge::journal", &Level::INFO));
        assert!(super::filter("bridge=loud").is_err());
        for no_level in ["warning", "err", "info,librdkafka", "onboarding_bridge"] {
            let error = super::filter(no_level).unwrap_err();
            assert!(error.contains("none of off, error"), "{no_level}: {error}");
        }
        for levels in ["off", "INFO", " warn , tungstenite=error", "0"] {
            assert!(super::filter(levels).is_ok(), "{levels}");
        }
        assert!(super::filter(USUAL).is_ok());
    }
    #[test]
    fn a_library_that_asks_in_vain_whether_it_would_be_heard_costs_us_no_line() {
        let (file, path) = tempfile::NamedTempFile::new().unwrap().into_parts();
        let filter = filter(USUAL).unwrap();
        let (subscriber, _) = subscriber(filter, file, Style::Json);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..2 {
                // What `log_enabled!` of a library comes to.
                let asks = |dispatch: &tracing::Dispatch| dispatch.enabled(&UNHEARD);
                assert!(!tracing::dispatcher::get_default(asks));
                tracing::info!("ours");
            }
        });
        let printed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(printed.matches("ours").count(), 2, "{printed}");
    }

    #[test]
    fn levels_are_changed_while_it_runs_and_never_beyond_their_caps() {
        let (file, path) = tempfile::NamedTempFile::new().unwrap().into_parts();
        let (subscriber, levels) = subscriber(filter(USUAL).unwrap(), file, Style::Json);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            levels.reload(filter("trace").unwrap()).unwrap();
            tracing::debug!("meanwhile");
            tracing::debug!(target: "tungstenite", "of the wire");
            let said = levels.with_current(ToString::to_string).unwrap();
            levels.reload(filter(&said).unwrap()).unwrap();
            tracing::debug!("as it said");
            levels.reload(filter("warn").unwrap()).unwrap();
            tracing::debug!("after");
        });
        let printed = std::fs::read_to_string(&path).unwrap();
        let seen = ["before", "meanwhile", "of the wire", "as it said", "after"]
            .map(|words| printed.contains(words));
        assert_eq!(seen, [false, true, false, true, false], "{printed}");
    }

    struct Library;

    impl tracing::Callsite for Library {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &tracing::Metadata<'_> {
            &UNHEARD
        }
    }

    static UNHEARD: tracing::Metadata<'static> = tracing::metadata! {
        name: "log record",
        target: "rdkafka::client",
        level: Level::DEBUG,
        fields: &[],
        callsite: &Library,
        kind: tracing::metadata::Kind::EVENT,
    };
}
