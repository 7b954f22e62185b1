//! From nothing to a confirmed subscription: connect, authenticate, subscribe.
//!
//! Each command waits for its reply, with a deadline. It reads what comes meanwhile and judges nothing.

use futures_util::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message as Wire;

use super::Session;
use super::liveness::Liveness;
use crate::config::EnterpriseFlag;
use crate::event::FEED_NAME;
use crate::feed::limits::speaks_of_limit;
use crate::feed::sequence::Tracker;
use crate::feed::socket::{self, Failed, Refused};
use crate::feed::{Feed, LostReason, api_key};
use crate::normalise::Reply;
use crate::privacy;

impl<'a> Session<'a> {
    /// Connects, authenticates and subscribes; what the vendor's answers say of its limits is noted.
    pub(super) async fn open(feed: &'a Feed) -> Result<Self, Failed> {
        let mut session = Self::connect(feed).await?;
        match session.subscribe().await {
            Ok(()) => Ok(session),
            Err((LostReason::Closed | LostReason::Broken, detail)) => {
                let detail = format!(
                    "{detail}, before the subscription was confirmed: that is how a limit or a refused \
                     key may look"
                );
                Err((LostReason::Limited, detail))
            }
            Err(failed) => Err(failed),
        }
    }

    async fn connect(feed: &'a Feed) -> Result<Self, Failed> {
        let config = &feed.config;
        let opened = timeout(config.reply_timeout.0, socket::open(config, (feed.clock)()));
        let socket = match opened.await {
            Ok(Ok(socket)) => socket,
            Ok(Err(refused)) => return Err(judge(feed, refused)),
            Err(_) => {
                let waited = config.reply_timeout;
                let detail = format!("{} did not answer within {waited}", config.url);
                return Err((LostReason::Unreachable, detail));
            }
        };
        feed.budget.answered();
        let now = Instant::now();
        Ok(Self {
            feed,
            config,
            socket,
            tracker: Tracker::new(config.reorder_window),
            connection: ulid::Ulid::new().to_string().into(),
            last_frame: (feed.clock)(),
            liveness: Liveness::new(config.reply_timeout.0, config.idle_timeout.0, now),
            heard_until: (feed.clock)(),
            deaf: None,
            waited: None,
            gap_heard: false,
        })
    }

    async fn subscribe(&mut self) -> Result<(), Failed> {
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

/// What it means that there is no connection, noted for every process of this address.
fn judge(feed: &Feed, refused: Refused) -> Failed {
    let Refused {
        failed: (reason, detail),
        answered,
        retry_after,
    } = refused;
    if answered {
        feed.budget.answered();
    }
    if let (LostReason::Limited, Some(asked)) = (reason, retry_after) {
        feed.budget.block_for(asked);
        let detail = format!("{detail}, and asks for {} s of silence", asked.as_secs());
        return (reason, detail);
    }
    // A load balancer drops connections while it is deployed, once; a block drops each of them.
    if reason == LostReason::Dropped && feed.budget.dropped_again() {
        return (LostReason::Limited, format!("{detail}, again"));
    }
    (reason, detail)
}

pub(super) fn refusal(what: &str, reply: &Reply, refused: LostReason) -> Failed {
    let why = match reply.explanation.is_empty() {
        true => "no reason given".to_owned(),
        false => privacy::words(&reply.explanation),
    };
    let reason = match speaks_of_limit(&reply.explanation) {
        true => LostReason::Limited,
        false => refused,
    };
    (reason, format!("{what} was answered with an error: {why}"))
}
