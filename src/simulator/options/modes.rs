//! The ways in which the simulated vendor can answer, each with one name for the command line, the
//! script and the control endpoint.
//!
//! Plain data.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// An enum of ways: one word each, the same everywhere.
macro_rules! modes {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every way.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
    };
}

modes! {
    /// How the upgrade to a WebSocket is answered.
    UpgradeMode {
        /// With 101.
        Ok,
        /// With 429.
        TooManyRequests,
        /// With 403.
        Forbidden,
        /// With 503.
        Unavailable,
        /// With 401.
        Unauthorized,
        /// By dropping the connection without an answer.
        Drop,
        /// Never; the connection stays open.
        Silence,
    }
}

modes! {
    /// How `authenticate` is answered when the key is right.
    AuthMode {
        /// With success.
        Ok,
        /// With the error reply that a wrong key gets: no words.
        Error,
        /// With an error reply that says why in words.
        ErrorWords,
        /// With an error reply that speaks of a limit.
        ErrorLimit,
        /// Not at all.
        Silence,
        /// By closing the connection.
        Close,
        /// By a TCP reset.
        Reset,
        /// With the success of another command first, then with its own.
        OtherFirst,
    }
}

modes! {
    /// How `subscribe` is answered.
    SubscribeMode {
        /// With success, and the events follow.
        Ok,
        /// With an error reply without words.
        Error,
        /// With an error reply that says why in words.
        ErrorWords,
        /// With an error reply that speaks of a limit.
        ErrorLimit,
        /// Not at all, and no events follow.
        Silence,
        /// By closing the connection.
        Close,
        /// By a TCP reset.
        Reset,
        /// With the success of another command first, then with its own.
        OtherFirst,
        /// With success, but the state of up to three users comes before it.
        DataFirst,
    }
}

modes! {
    /// Which form of the `enterprise` flag is taken: the vendor's pages show both.
    EnterpriseForm {
        /// `true` and `"true"`.
        Any,
        /// Only `true`.
        Boolean,
        /// Only `"true"`.
        String,
    }
}

modes! {
    /// How `GET /v1/enterprise/users` is answered.
    RestMode {
        /// With the list.
        Ok,
        /// With 401, whatever the key.
        Unauthorized,
        /// With 403.
        Forbidden,
        /// With 404.
        NotFound,
        /// With 406.
        NotAcceptable,
        /// With 422.
        Unprocessable,
        /// With 429.
        TooManyRequests,
        /// With 503, as in a maintenance.
        Unavailable,
        /// With 500.
        ServerError,
        /// With 200 and half a list; then the connection is closed.
        Truncated,
        /// With 200 and a page of HTML.
        Html,
        /// With the list, each object with `advisor_user_id` twice, as in the vendor's sample.
        DuplicateKeys,
        /// Never.
        Silence,
        /// By dropping the connection without an answer.
        Drop,
        /// With the list, a few bytes at a time.
        Drip,
        /// With the list, every tenth user twice: first as it was one event ago.
        UserTwice,
        /// With a list of nobody.
        Empty,
        /// With the list and a further key at the top, as pages would have.
        Paged,
        /// With the list, every tenth user followed by an entry that cannot be read.
        Unreadable,
        /// With the list in the third generation: wider objects, with identity data.
        Wide,
    }
}

modes! {
    /// How a connection is lost.
    DisconnectBy {
        /// By a close frame (`--close-code`), everything before it delivered.
        Close,
        /// By a close frame without a code.
        NoCode,
        /// By the end of the TCP stream, without a close frame.
        Eof,
        /// By a TCP reset: what is under way is lost.
        Reset,
        /// By going half-open: it stays, and nothing is read or sent any more.
        Stall,
    }
}

modes! {
    /// How a client is answered that the vendor has blocked.
    BlockForm {
        /// With 429 at the upgrade and of the list; a command with an error reply and a close.
        TooManyRequests,
        /// The same with 403.
        Forbidden,
        /// The same with 503.
        Unavailable,
        /// The upgrade is granted, each command gets an error reply that speaks of a limit.
        ErrorReply,
        /// By dropping the connection without a word, at the upgrade, a command and the list.
        Drop,
    }
}

modes! {
    /// In which pieces a data frame comes.
    DripBy {
        /// Byte by byte.
        Bytes,
        /// In WebSocket fragments of one byte, with pings and pongs between them.
        Fragments,
    }
}

modes! {
    /// How a data frame differs from the vendor's sample and still tells of its user.
    Oddity {
        /// No `sequence`.
        SequenceMissing,
        /// `sequence` as a string.
        SequenceString,
        /// No `timestamp`.
        TimestampMissing,
        /// `timestamp` as a string of digits.
        TimestampString,
        /// `timestamp` in seconds.
        TimestampSeconds,
        /// `timestamp` in milliseconds.
        TimestampMillis,
        /// `timestamp` in microseconds.
        TimestampMicros,
        /// `timestamp` in nanoseconds: the usual form, for mixing.
        TimestampNanos,
        /// `timestamp` as RFC 3339.
        TimestampRfc3339,
        /// `payload` as a string that holds JSON.
        PayloadString,
        /// No `user_token`.
        TokenMissing,
        /// `user_token` null.
        TokenNull,
        /// `user_token` that has expired.
        TokenExpired,
        /// Another `user_token` than in the events before.
        TokenChanged,
        /// Fields that no page mentions, in the envelope and in the payload.
        UnknownFields,
        /// `requirements` by tier, one level deeper.
        RequirementsNested,
        /// `requirements` null.
        RequirementsNull,
        /// `requirements` empty.
        RequirementsEmpty,
        /// `status` of a value that no page mentions.
        StatusUnknown,
        /// `account_role` of a value that no page mentions.
        RoleUnknown,
        /// `account_type` of a value that no page mentions.
        TypeUnknown,
        /// `account_type` `corporate` for `corporation`.
        TypeCorporate,
        /// `account_type` and `account_role` in capitals.
        Capitals,
        /// Every field but `user_id` and `status` absent.
        FieldsAbsent,
        /// Every field but `user_id` and `status` null.
        FieldsNull,
        /// Text with escapes, and a name of 4 KiB.
        LongText,
    }
}

modes! {
    /// A frame that tells of no user of the feed. What has an envelope takes a sequence number.
    Noise {
        /// A binary frame.
        Binary,
        /// Text that is no JSON.
        Malformed,
        /// A data frame that is cut in half.
        Truncated,
        /// Bytes that are no UTF-8 in a text frame: breaks the WebSocket protocol.
        InvalidUtf8,
        /// A data frame of 2 MiB.
        Oversized,
        /// A data frame of a feed whose name starts with ours.
        Sibling,
        /// A data frame whose payload is an array.
        PayloadArray,
        /// A data frame without a payload.
        PayloadMissing,
        /// A data frame without `user_id`.
        UserIdMissing,
        /// A data frame whose `user_id` is null.
        UserIdNull,
        /// A data frame whose e-mail address is a list.
        FieldType,
        /// An object of JSON that is neither data nor a reply.
        Unrecognised,
        /// A success reply that nobody asked for.
        StrayReply,
        /// An error reply that nobody asked for.
        StrayError,
        /// A WebSocket ping with application data.
        Ping,
        /// A WebSocket pong that nobody asked for.
        Pong,
    }
}
