//! The fields that a line of the log may show: all others are three stars.
//!
//! A name is added here together with the decision that what is logged under it can never say anything
//! of a person and is no credential, whoever logs it. Names that stand for many things (`event`,
//! `value`, `user`, `body`) are no names for this list.

/// Each field with what it holds.
pub const ALLOWED: [(&str, &str); 58] = [
    ("absent", "known users that a list lacks, a number"),
    (
        "action",
        "a step of a simulator's script, which is all invented",
    ),
    ("address", "where the admin port listens"),
    ("after", "a position of the journal"),
    (
        "backtrace",
        "functions and files, after a panic with RUST_BACKTRACE",
    ),
    ("behind", "records that a sink lacks, a number"),
    ("bytes", "a size"),
    ("capacity", "a size"),
    ("channel", "`control` or `dead`"),
    (
        "class",
        "what is done after a sink's error, as in docs/errors.md",
    ),
    ("code", "a broker's error code, by its name"),
    (
        "connection",
        "the bridge's own id of a connection to the feed",
    ),
    ("count", "a number"),
    (
        "damage",
        "what SQLite found wrong with the file, without content",
    ),
    (
        "detail",
        "what was seen, in our words, or plain words of the vendor's or a broker's",
    ),
    ("differences", "events that a list led to, a number"),
    ("doubts", "users, a number"),
    ("dropped", "events, a number"),
    ("entries", "entries of a list, a number"),
    (
        "error",
        "what failed, in the words of a library that sees no content, or in ours",
    ),
    ("event_id", "a digest that names an event"),
    ("event_ids", "the same, several"),
    ("facility", "which part of librdkafka speaks"),
    ("from", "a position or a time or a version"),
    ("held", "records that a destination has already, a number"),
    ("is", "a file's mode"),
    ("is_mute", "whether the feed told nothing at all"),
    ("known", "users, a number"),
    ("letter", "number of a dead letter"),
    ("letters", "dead letters, a number"),
    ("listed", "users of a list, a number"),
    ("location", "file and line of the program, after a panic"),
    ("lost", "records, a number"),
    ("missing", "sequence numbers, a number"),
    ("most", "a bound"),
    (
        "name",
        "a key of the vendor's messages that this version does not know, if it reads like one",
    ),
    ("outcome", "how a list ended"),
    ("pages", "pages of the journal, a number"),
    ("path", "a file of the configuration, or beside one"),
    ("position", "a position of the journal"),
    ("ranges", "positions of the journal"),
    ("reason", "why, by a name of the code, or as `detail`"),
    ("records", "a number"),
    ("rows", "rows of the journal, a number"),
    ("seconds", "a span"),
    ("signal", "the signal that ends the process"),
    ("since", "a time"),
    ("sink", "a sink's name in the configuration"),
    ("table", "a table of the journal"),
    ("thread", "a thread's name, after a panic"),
    ("to", "a position or a time or a version"),
    ("took", "a span"),
    ("topic", "a topic of the configuration"),
    ("undecided", "users, a number"),
    ("unreadable", "records, a number"),
    ("users", "a number"),
    ("wait_ms", "until the next attempt"),
    ("was", "a file's mode"),
];

/// Whether a field of this name is shown.
pub(super) fn is_allowed(name: &str) -> bool {
    ALLOWED.iter().any(|(allowed, _)| *allowed == name)
}
