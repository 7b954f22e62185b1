//! What in the vendor's answers looks like its limit.
//!
//! The vendor says that it blocks an address for two minutes and never in which form. Pure: no clock, no
//! I/O. When in doubt it is the limit: to wait once too often costs two minutes, to ask once too often
//! may cost the address.

use std::time::Duration;

use jiff::fmt::rfc2822;

use crate::event::Timestamp;

/// No `Retry-After` is honoured for longer: a mistake in it must not silence the bridge for a day.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Words of an error reply, or of a close, that speak of a limit.
const WORDS: [&str; 7] = [
    "limit",
    "too many",
    "429",
    "throttl",
    "exceeded",
    "try again later",
    "temporarily blocked",
];

/// Whether a text of the vendor's speaks of a limit.
pub fn speaks_of_limit(text: &str) -> bool {
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// Whether a close while reading points to the limit: 1008 is "against our policy", 1013 "try again
/// later". All other codes say no more than that the connection is over.
pub(super) fn closed_by_limit(code: Option<u16>, words: &str) -> bool {
    matches!(code, Some(1008 | 1013)) || speaks_of_limit(words)
}

/// Whether the status of an answer to the upgrade points to the limit.
pub(super) const fn refused_by_limit(status: u16) -> bool {
    matches!(status, 429 | 403 | 503)
}

/// A date of an HTTP header.
pub fn http_date(value: &str) -> Option<Timestamp> {
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Timestamp(date.as_second().saturating_mul(1_000_000_000)))
}

/// How long a `Retry-After` asks for, in seconds or until a date; at most [`RETRY_AFTER_MAX`].
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let left = http_date(value)?.0.saturating_sub(now.0) / 1_000_000_000;
            Duration::from_secs(u64::try_from(left).unwrap_or(0))
        }
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_close_codes_only_two_point_to_the_limit() {
        let all = (1000..=1015).chain(3000..=4999).map(Some).chain([None]);
        let limits: Vec<_> = all.filter(|code| closed_by_limit(*code, "")).collect();
        assert_eq!(limits, [Some(1008), Some(1013)]);
        assert!(closed_by_limit(Some(4000), "Rate limit reached"));
        assert!(closed_by_limit(None, "too many requests"));
        assert!(!closed_by_limit(Some(1001), "going away"));
    }

    #[test]
    fn of_all_statuses_three_point_to_the_limit() {
        let limits: Vec<_> = (100..600)
            .filter(|status| refused_by_limit(*status))
            .collect();
        assert_eq!(limits, [403, 429, 503]);
    }

    #[test]
    fn words_of_a_limit_are_known_in_any_case() {
        for text in [
            "Rate limit exceeded",
            "TOO MANY REQUESTS",
            "code 429",
            "throttled",
            "please try again later",
        ] {
            assert!(speaks_of_limit(text), "{text}");
        }
        for text in ["", "invalid api key", "unknown feed", "not authenticated"] {
            assert!(!speaks_of_limit(text), "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_its_bound() {
        let now = Timestamp::parse("2024-05-29T17:55:00Z").unwrap();
        let seconds = |value| retry_after(value, now).map(|span| span.as_secs());
        assert_eq!(seconds("300"), Some(300));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("86400"), Some(600));
        assert_eq!(seconds("Wed, 29 May 2024 17:58:20 GMT"), Some(200));
        assert_eq!(seconds("Wed, 29 May 2024 17:00:00 GMT"), Some(0));
        assert_eq!(seconds("Thu, 30 May 2024 17:00:00 GMT"), Some(600));
        for nonsense in ["", "soon", "-5", "1.5", "99999999999999999999999"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }
}
