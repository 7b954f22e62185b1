//! From nothing to a confirmed subscription: connect, authenticate, subscribe.
//!
//! Each command waits for its reply, with a deadline. It reads what comes meanwhile and judges nothing.

use futures_util::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message as Wire;

use super::Session;
use crate::config::EnterpriseFlag;
use crate::event::FEED_NAME;
use crate::feed::sequence::Tracker;
use crate::feed::socket::{self, Failed};
use crate::feed::{Feed, LostReason, api_key};
use crate::normalise::Reply;
use crate::privacy;

impl<'a> Session<'a> {
    pub(super) async fn open(feed: &'a Feed) -> Result<Self, Failed> {
        let config = &feed.config;
        let opened = timeout(config.reply_timeout.0, socket::open(config)).await;
        let socket = opened.map_err(|_| {
            let waited = config.reply_timeout;
            (
                LostReason::Unreachable,
                format!("{} did not answer within {waited}", config.url),
            )
        })??;
        Ok(Self {
            feed,
            config,
            socket,
            tracker: Tracker::new(config.reorder_window),
            connection: ulid::Ulid::new().to_string().into(),
            last_frame: (feed.clock)(),
            last_turn: Instant::now(),
            heard_until: (feed.clock)(),
            deaf: None,
            waited: None,
        })
    }

    pub(super) async fn subscribe(&mut self) -> Result<(), Failed> {
        let key =
            api_key(self.config).map_err(|error| (LostReason::Credential, error.to_string()))?;
        let enterprise = match self.config.enterprise_flag {
            EnterpriseFlag::Boolean => json!(true),
            EnterpriseFlag::String => json!("true"),
        };
        let authenticate = json!({"type": "authenticate", "apiKey": key.expose_secret(), "enterprise": enterprise});
        self.command(
            "authenticate",
            &authenticate.to_string(),
            LostReason::Authentication,
        )
        .await?;
        let subscribe = json!({"type": "subscribe", "feeds": [FEED_NAME]});
        self.command(
            "subscribe",
            &subscribe.to_string(),
            LostReason::Subscription,
        )
        .await
    }

    /// Sends a command and waits for its reply; messages that come meanwhile are heard as well.
    async fn command(
        &mut self,
        action: &str,
        text: &str,
        refused: LostReason,
    ) -> Result<(), Failed> {
        let deadline = Instant::now() + self.config.reply_timeout.0;
        let no_reply = || {
            let waited = self.config.reply_timeout;
            (
                LostReason::NoReply,
                format!("{action} was not answered within {waited}"),
            )
        };
        let sent = tokio::time::timeout_at(deadline, self.socket.send(Wire::text(text))).await;
        sent.map_err(|_| no_reply())?
            .map_err(|error| socket::failed(&error))?;
        loop {
            let next = tokio::time::timeout_at(deadline, self.socket.next()).await;
            let Some(reply) = self.take(next.map_err(|_| no_reply())?).await? else {
                continue;
            };
            if reply
                .action
                .as_deref()
                .is_some_and(|answered| answered != action)
            {
                continue;
            }
            return if reply.success {
                Ok(())
            } else {
                Err(refusal(action, &reply, refused))
            };
        }
    }
}

pub(super) fn refusal(what: &str, reply: &Reply, refused: LostReason) -> Failed {
    let words = reply.explanation.to_lowercase();
    let limited = ["limit", "too many", "429", "throttl"]
        .iter()
        .any(|word| words.contains(word));
    let why = match words.is_empty() {
        true => "no reason given".to_owned(),
        false => privacy::words(&reply.explanation),
    };
    let reason = if limited {
        LostReason::Limited
    } else {
        refused
    };
    (reason, format!("{what} was answered with an error: {why}"))
}
