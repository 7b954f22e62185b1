//! Somebody else's sentence, with only those words that are known to say nothing of a person.
//!
//! A list of what may be shown, not of what may not: a name, a key or an address can look like any
//! word, so a word that is not in the list is three stars.

/// What stands for a word that is not known.
pub(super) const STARS: &str = "***";

/// The words of replies, refusals and feeds, and what joins them. In lower case, sorted.
const KNOWN: &[&str] = &[
    "a",
    "access",
    "account",
    "accounts",
    "action",
    "active",
    "address",
    "after",
    "again",
    "allowed",
    "already",
    "an",
    "and",
    "another",
    "any",
    "api",
    "apikey",
    "are",
    "at",
    "authenticate",
    "authenticated",
    "authentication",
    "authorization",
    "authorized",
    "available",
    "bad",
    "balance",
    "balances",
    "be",
    "because",
    "been",
    "before",
    "block",
    "blocked",
    "body",
    "book",
    "by",
    "call",
    "cannot",
    "channel",
    "client",
    "close",
    "closed",
    "code",
    "command",
    "connect",
    "connected",
    "connection",
    "connections",
    "could",
    "credential",
    "credentials",
    "data",
    "denied",
    "detail",
    "disabled",
    "does",
    "empty",
    "enterprise",
    "error",
    "event",
    "exceed",
    "exceeded",
    "exist",
    "exists",
    "expected",
    "expired",
    "failed",
    "failure",
    "feed",
    "feeds",
    "field",
    "first",
    "for",
    "forbidden",
    "format",
    "found",
    "frame",
    "frequent",
    "from",
    "gateway",
    "has",
    "have",
    "header",
    "in",
    "inactive",
    "incorrect",
    "internal",
    "invalid",
    "ip",
    "is",
    "it",
    "its",
    "json",
    "key",
    "later",
    "limit",
    "limited",
    "limits",
    "login",
    "maintenance",
    "malformed",
    "many",
    "market",
    "maximum",
    "message",
    "messages",
    "method",
    "minute",
    "minutes",
    "missing",
    "more",
    "must",
    "net",
    "no",
    "not",
    "number",
    "of",
    "on",
    "one",
    "only",
    "open",
    "or",
    "order",
    "orderbook",
    "orders",
    "over",
    "parameter",
    "parse",
    "password",
    "payload",
    "per",
    "permission",
    "permissions",
    "permitted",
    "please",
    "post",
    "private",
    "protocol",
    "provided",
    "quota",
    "rate",
    "reached",
    "reason",
    "recipient",
    "refused",
    "rejected",
    "request",
    "requested",
    "requests",
    "required",
    "reset",
    "restricted",
    "retry",
    "revoked",
    "right",
    "rights",
    "role",
    "second",
    "seconds",
    "sequence",
    "server",
    "service",
    "session",
    "settlement",
    "should",
    "slow",
    "socket",
    "status",
    "string",
    "subscribe",
    "subscribed",
    "subscription",
    "subscriptions",
    "success",
    "such",
    "supported",
    "suspended",
    "temporarily",
    "test",
    "that",
    "the",
    "this",
    "throttled",
    "ticker",
    "time",
    "timeout",
    "timestamp",
    "to",
    "token",
    "tokens",
    "too",
    "trade",
    "trades",
    "true",
    "try",
    "type",
    "unable",
    "unauthenticated",
    "unauthorised",
    "unauthorized",
    "unavailable",
    "unexpected",
    "unknown",
    "unsubscribe",
    "unsupported",
    "upgrade",
    "user",
    "users",
    "valid",
    "value",
    "version",
    "wait",
    "was",
    "websocket",
    "were",
    "with",
    "wrong",
    "you",
    "your",
];

/// The sentence in lower case, with three stars for every word that is not known.
pub fn words(text: &str) -> String {
    let shown = text.split_whitespace().map(|word| {
        let word = word.to_lowercase();
        let letters = word.trim_matches(|it: char| it.is_ascii_punctuation());
        if is_known(letters) || is_code(letters) || letters.split('_').all(is_known) {
            word
        } else {
            STARS.to_owned()
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A dotted name, such as that of a feed, with three stars for every part that is not known.
pub(super) fn dotted(name: &str) -> String {
    let part = |part: &str| match part.split(['-', '_']).all(is_known) {
        true => part.to_owned(),
        false => STARS.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn is_known(word: &str) -> bool {
    KNOWN.binary_search(&word).is_ok()
}

/// Three digits, as HTTP has them; four could be the last ones of a number.
fn is_code(word: &str) -> bool {
    word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_words_are_sorted_and_in_lower_case() {
        assert!(KNOWN.is_sorted_by(|one, next| one < next));
        assert!(
            KNOWN
                .iter()
                .all(|word| word.bytes().all(|it| it.is_ascii_lowercase()))
        );
    }

    #[test]
    fn somebody_elses_sentence_keeps_only_plain_words() {
        for (said, shown) in [
            (
                "Rate limit exceeded, code 429",
                "rate limit exceeded, code 429",
            ),
            ("RATE_LIMIT_EXCEEDED", "rate_limit_exceeded"),
            ("unknown API key SECRET-KEY-123", "unknown api key ***"),
            ("bad key example-enterprise-key", "bad key ***"),
            (
                "no such user ada@example.test +15550100001",
                "no such user *** ***",
            ),
            ("bad token 0123abcd a-b", "bad token *** ***"),
        ] {
            assert_eq!(words(said), shown);
        }
    }

    #[test]
    fn no_name_passes_for_a_word_however_it_is_written() {
        for name in [
            "Ada",
            "ada",
            "ADA",
            "Lovelace",
            "client_ada",
            "4711",
            "王小明",
            "Ada.",
        ] {
            assert_eq!(words(&format!("no such user {name}")), "no such user ***");
        }
        assert_eq!(
            words("user: ada_lovelace is not allowed"),
            "user: *** is not allowed"
        );
    }

    #[test]
    fn a_feeds_name_keeps_the_parts_that_are_known() {
        let own = "private.enterprise.users.balances";
        assert_eq!(dotted(own), own);
        assert_eq!(
            dotted("private.user.open-orders"),
            "private.user.open-orders"
        );
        assert_eq!(dotted("private.client_ada.orders"), "private.***.orders");
        assert_eq!(dotted(""), STARS);
    }
}
