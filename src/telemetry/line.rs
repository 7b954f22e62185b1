//! One line of the log: a JSON object where no person looks, else words.
//!
//! It prints only the fields that [`ALLOWED`](super::fields::ALLOWED) names, and three stars for the
//! value of any other; of another crate's event it prints the message alone.

use std::fmt;
use std::io::{IsTerminal, Write as _};

use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields;

/// The crate whose fields are shown at all: this one.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// How `log` names the target of what came through it.
const LOG_TARGET: &str = "log.target";

/// One line, before it is written.
#[derive(Debug)]
pub struct Line {
    level: Level,
    target: String,
    message: String,
    /// In the order in which they were given.
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// A line without fields.
    pub fn new(level: Level, target: &str, message: &str) -> Self {
        Self {
            level,
            target: target.to_owned(),
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    /// Adds a field; one that the list does not name becomes three stars.
    pub fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = match fields::is_allowed(name) {
            true => value.into(),
            false => "***".into(),
        };
        self.fields.push((name, value));
    }

    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut line = Self::new(*metadata.level(), metadata.target(), "");
        event.record(&mut line);
        if !is_ours(&line.target) {
            line.fields.clear();
        }
        line
    }

    /// Whether it is to be printed: another crate's finer words are about what it carries.
    fn is_fit(&self) -> bool {
        is_ours(&self.target) || self.level <= Level::INFO
    }

    /// In an order that people can read.
    fn json(&self, time: &str) -> serde_json::Result<String> {
        let mut bytes = Vec::with_capacity(256);
        let mut serializer = serde_json::Serializer::new(&mut bytes);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", time)?;
        object.serialize_entry("level", self.level.as_str())?;
        object.serialize_entry("message", &self.message)?;
        for (name, value) in &self.fields {
            object.serialize_entry(name, value)?;
        }
        object.serialize_entry("target", &self.target)?;
        object.end()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn words(&self, time: &str, colour: bool) -> String {
        let level = self.level.as_str();
        let mut text = match colour {
            true => format!(
                "\x1b[2m{time}\x1b[0m {}{level:>5}\x1b[0m ",
                paint(self.level)
            ),
            false => format!("{time} {level:>5} "),
        };
        push_plain(&mut text, &self.message);
        for (name, value) in &self.fields {
            text.push(' ');
            text.push_str(name);
            text.push('=');
            match value {
                Value::String(value) => push_plain(&mut text, value),
                value => push_plain(&mut text, &value.to_string()),
            }
        }
        text
    }
}

fn is_ours(target: &str) -> bool {
    let rest = target.strip_prefix(OURS);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

const fn paint(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// A line is a line, and moves no cursor, whatever somebody else's words hold.
fn push_plain(text: &mut String, words: &str) {
    for character in words.chars() {
        match character.is_control() {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
}

impl Visit for Line {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What is not shown is not put into words either.
        if field.name() == "message"
            || field.name() == LOG_TARGET
            || fields::is_allowed(field.name())
        {
            self.take(field, format!("{value:?}"));
        } else {
            self.add(field.name(), "***");
        }
    }
}

impl Line {
    fn take(&mut self, field: &Field, value: impl Into<Value>) {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match field.name() {
            "message" => self.message = text(value.into()),
            LOG_TARGET => self.target = text(value.into()),
            // The rest of what `log` adds.
            name if name.starts_with("log.") => {}
            name => self.add(name, value),
        }
    }
}

/// Makes a line of each event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    Json,
    Words,
}

impl Style {
    /// What fits who reads standard error.
    pub(super) fn of_stderr() -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::Words,
            false => Self::Json,
        }
    }

    fn render(self, line: &Line, colour: bool) -> String {
        let mut time = String::new();
        SystemTime
            .format_time(&mut Writer::new(&mut time))
            .unwrap_or_default();
        match self {
            Self::Json => line.json(&time).unwrap_or_default(),
            Self::Words => line.words(&time, colour),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = Line::of(event);
        if !line.is_fit() {
            return Ok(());
        }
        let text = self.render(&line, writer.has_ansi_escapes());
        writeln!(writer, "{text}")
    }
}

/// Writes a line that no level can silence. It goes through nothing that could be the cause of what
/// it tells, and does not fail.
pub fn say(line: &Line) {
    let style = Style::of_stderr();
    let text = style.render(line, matches!(style, Style::Words));
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Sheet(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sheet {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sheet {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is written while this logs, at every level.
    fn written(style: Style, log: impl FnOnce()) -> String {
        let sheet = Sheet::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(sheet.clone())
            .with_ansi(false)
            .event_format(style)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(sheet.0.lock().unwrap().clone()).unwrap()
    }

    fn json(log: impl FnOnce()) -> Value {
        serde_json::from_str(&written(Style::Json, log)).unwrap()
    }

    #[test]
    fn a_field_that_the_list_does_not_name_is_three_stars_at_every_level() {
        let email = "ada@example.test";
        for log in [
            || tracing::error!(email = "ada@example.test", wait_ms = 5, "it failed"),
            || tracing::trace!(email = ?Some("ada@example.test"), wait_ms = 5, "it failed"),
        ] {
            let line = json(log);
            assert_eq!(line["email"], "***");
            assert_eq!(line["wait_ms"], 5);
            assert_eq!(line["message"], "it failed");
        }
        let line = written(
            Style::Words,
            || tracing::warn!(user = %email, known = true, "it"),
        );
        assert!(line.ends_with(" WARN it user=*** known=true\n"), "{line}");
    }

    #[test]
    fn what_is_not_shown_is_not_even_put_into_words() {
        struct Alarm;
        impl fmt::Debug for Alarm {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("it was asked for its words")
            }
        }
        let line = json(|| tracing::info!(person = ?Alarm, "it"));
        assert_eq!(line["person"], "***");
    }

    #[test]
    fn of_another_crate_only_the_message_is_printed_and_nothing_below_info() {
        let line = json(|| tracing::info!(target: "wire", reason = "ada", "sent"));
        assert_eq!(line.get("reason"), None);
        assert_eq!(
            (&line["message"], &line["target"]),
            (&"sent".into(), &"wire".into())
        );
        let finer = || {
            tracing::debug!(target: "wire", "ada");
            tracing::trace!(target: "onboarding_bridge_of_another", "ada");
        };
        assert_eq!(written(Style::Json, finer), "");
    }

    #[test]
    fn a_line_has_the_shape_that_readers_of_logs_know() {
        let log = || tracing::info!(sink = "kafka", behind = 3_u64, "opened {}", "a topic");
        let text = written(Style::Json, log);
        let (time, rest) = text.split_once("\",\"level\"").unwrap();
        assert!(
            time.starts_with("{\"timestamp\":\"20") && time.ends_with('Z'),
            "{time}"
        );
        assert_eq!(
            rest,
            ":\"INFO\",\"message\":\"opened a topic\",\"sink\":\"kafka\",\"behind\":3,\
             \"target\":\"onboarding_bridge::telemetry::line::tests\"}\n"
        );
    }

    #[test]
    fn nobody_elses_words_make_a_line_or_move_a_cursor() {
        let words = "one\n2026 ERROR two\x1b[2J";
        let text = written(Style::Words, || tracing::warn!(reason = words, "{words}"));
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
