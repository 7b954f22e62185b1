//! What a client says, `authenticate`, `subscribe`, `unsubscribe`, and how the vendor answers.
//!
//! Where the vendor's pages are silent (a subscribe before the login, an unknown feed, no JSON) the
//! answer is an error reply and the connection stays open. The key is compared and never shown.

use std::sync::Arc;

use futures_util::SinkExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::MutexGuard;
use tokio_tungstenite::tungstenite::Message;

use crate::event::FEED_NAME;

use super::batch::{BATCH, Batch, Delivery, reply_frame};
use super::options::{AuthMode, EnterpriseForm, SubscribeMode};
use super::session::{Goodbye, Session, Step};

/// Close code for a client that broke the limits.
const POLICY: u16 = 1008;

/// The feeds that can be subscribed to; only the first one carries anything here.
const FEEDS: [&str; 4] = [
    FEED_NAME,
    "private.enterprise.users.balances",
    "private.enterprise.users.open-orders",
    "private.enterprise.users.trades",
];

/// What the client of one connection has reached.
#[derive(Debug, Default)]
pub(super) struct Login {
    authenticated: bool,
    feeds: Vec<&'static str>,
    /// The snapshot is sent once a connection.
    snapshot_sent: bool,
}

#[derive(Deserialize)]
struct Command {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "apiKey", default)]
    api_key: String,
    #[serde(default)]
    enterprise: Value,
    #[serde(default)]
    feeds: Vec<String>,
}

impl Session {
    /// Answers one text frame.
    pub(super) async fn command(&mut self, text: &str) -> Step {
        let refused = self.place.hub.refuses_request(self.place.peer);
        let command: Option<Command> = serde_json::from_str(text).ok();
        let action = command.as_ref().and_then(|command| known(&command.kind));
        if refused {
            self.reply(false, action, false).await?;
            return Ok(Some(Goodbye::Close(POLICY)));
        }
        match (action, command) {
            (Some("authenticate"), Some(command)) => self.authenticate(&command).await,
            (Some("subscribe"), Some(command)) => self.subscribe(&command).await,
            (Some("unsubscribe"), Some(command)) => self.unsubscribe(&command).await,
            (action, _) => self.reply(false, action, false).await,
        }
    }

    async fn authenticate(&mut self, command: &Command) -> Step {
        let hub = &self.place.hub;
        let modes = hub.modes().clone();
        let right = command.api_key == modes.key.expose()
            && enterprise(&command.enterprise, hub.options.enterprise);
        let ok = right && modes.auth == AuthMode::Ok;
        hub.count(|stats| {
            stats.auth_ok += u64::from(ok);
            stats.auth_failed += u64::from(!ok);
        });
        match modes.auth {
            AuthMode::Silence => Ok(None),
            AuthMode::Close => Ok(Some(Goodbye::Close(POLICY))),
            AuthMode::Ok | AuthMode::Error => {
                self.login.authenticated = ok;
                self.reply(ok, Some("authenticate"), false).await
            }
        }
    }

    async fn subscribe(&mut self, command: &Command) -> Step {
        let mode = self.place.hub.modes().subscribe;
        let wanted = feeds(command);
        let ok = self.login.authenticated && wanted.is_some() && mode == SubscribeMode::Ok;
        if mode == SubscribeMode::Silence {
            return Ok(None);
        }
        let Some(wanted) = wanted.filter(|_| ok) else {
            return self.reply(false, Some("subscribe"), false).await;
        };
        for feed in wanted {
            if !self.login.feeds.contains(&feed) {
                self.login.feeds.push(feed);
            }
        }
        if !self.login.feeds.contains(&FEED_NAME) {
            return self.reply(true, Some("subscribe"), true).await;
        }
        // From here on events are put in line, and they wait there until the reply is written.
        // With a snapshot the emission waits too, so that no older state can follow a newer one.
        let hub = Arc::clone(&self.place.hub);
        let snapshot = hub.options.snapshot && !self.login.snapshot_sent;
        let turn = match snapshot {
            true => Some(hub.turn.lock().await),
            false => None,
        };
        self.place.subscribe(true);
        hub.count(|stats| stats.subscribes += 1);
        let step = self.reply(true, Some("subscribe"), true).await?;
        if snapshot && step.is_none() {
            self.login.snapshot_sent = true;
            return self.snapshot(turn).await;
        }
        Ok(step)
    }

    async fn unsubscribe(&mut self, command: &Command) -> Step {
        let unwanted = feeds(command);
        let ok = self.login.authenticated && unwanted.is_some();
        let unwanted = unwanted.filter(|_| ok).unwrap_or_default();
        self.login.feeds.retain(|feed| !unwanted.contains(feed));
        if unwanted.contains(&FEED_NAME) {
            self.place.subscribe(false);
        }
        self.reply(ok, Some("unsubscribe"), true).await
    }

    /// Sends every user as it stands. The turn is kept to the end.
    async fn snapshot(&mut self, turn: Option<MutexGuard<'_, ()>>) -> Step {
        let hub = Arc::clone(&self.place.hub);
        let len = hub.world().len();
        for start in (0..len).step_by(BATCH) {
            let people: Vec<_> = {
                let world = hub.world();
                (start..len)
                    .take(BATCH)
                    .filter_map(|index| world.present(index))
                    .collect()
            };
            let batch = Batch::new(people, hub.timestamps(BATCH));
            let step = self.send_events(&batch, Delivery::InOrder).await?;
            if step.is_some() {
                return Ok(step);
            }
        }
        drop(turn);
        Ok(None)
    }

    async fn reply(&mut self, ok: bool, action: Option<&str>, with_feeds: bool) -> Step {
        let hub = &self.place.hub;
        let timestamp = hub.timestamps(1);
        let action = action.filter(|_| !hub.options.old_replies);
        let frame = reply_frame(
            if ok { "success" } else { "error" },
            self.outbox.next(),
            timestamp,
            action,
            (ok && with_feeds).then_some(self.login.feeds.as_slice()),
        );
        self.socket.send(Message::Text(frame)).await?;
        Ok(None)
    }
}

/// The command of that name, as a word that lives on.
fn known(kind: &str) -> Option<&'static str> {
    ["authenticate", "subscribe", "unsubscribe"]
        .into_iter()
        .find(|name| *name == kind)
}

/// The feeds that are named; none if one of them does not exist, or none is named.
fn feeds(command: &Command) -> Option<Vec<&'static str>> {
    let named: Option<Vec<_>> = command
        .feeds
        .iter()
        .map(|name| FEEDS.into_iter().find(|feed| feed == name))
        .collect();
    named.filter(|feeds| !feeds.is_empty())
}

fn enterprise(flag: &Value, form: EnterpriseForm) -> bool {
    let boolean = *flag == Value::Bool(true);
    let string = *flag == Value::String("true".to_owned());
    match form {
        EnterpriseForm::Any => boolean || string,
        EnterpriseForm::Boolean => boolean,
        EnterpriseForm::String => string,
    }
}
