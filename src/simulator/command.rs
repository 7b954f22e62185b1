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

use super::batch::{BATCH, Batch, Delivery, now_nanos, reply_frame};
use super::deaf::DeafCause;
use super::hub::Hub;
use super::options::{AuthMode, BlockForm, EnterpriseForm, SubscribeMode};
use super::session::{Goodbye, Session, Step};

/// Close code for a client that broke the limits.
const POLICY: u16 = 1008;

/// Words of error replies.
const KEY_WORDS: &str = "the key may not read this";
const FEED_WORDS: &str = "the feed cannot be had";
const LIMIT_WORDS: &str = "rate limit exceeded, too many requests";

/// Users whose state comes before the reply to `subscribe`, where it does.
const EARLY: usize = 3;

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
            return self.refuse(action).await;
        }
        match (action, command) {
            (Some("authenticate"), Some(command)) => self.authenticate(&command).await,
            (Some("subscribe"), Some(command)) => self.subscribe(&command).await,
            (Some("unsubscribe"), Some(command)) => self.unsubscribe(&command).await,
            (action, _) => self.reply(false, action, false).await,
        }
    }

    /// Answers a client that is blocked.
    async fn refuse(&mut self, action: Option<&'static str>) -> Step {
        let form = self.place.hub.modes().block_form;
        match form {
            BlockForm::TooManyRequests | BlockForm::Forbidden | BlockForm::Unavailable => {
                self.reply(false, action, false).await?;
            }
            BlockForm::ErrorReply => {
                self.error_in_words(action, LIMIT_WORDS).await?;
            }
            BlockForm::Drop => return Ok(Some(Goodbye::Reset)),
        }
        Ok(Some(Goodbye::Close(Some(POLICY))))
    }

    async fn authenticate(&mut self, command: &Command) -> Step {
        let hub = &self.place.hub;
        let action = Some("authenticate");
        let modes = hub.modes().clone();
        let right = command.api_key == modes.key.expose()
            && enterprise(&command.enterprise, modes.enterprise);
        let ok = right && matches!(modes.auth, AuthMode::Ok | AuthMode::OtherFirst);
        hub.count(|stats| {
            stats.auth_ok += u64::from(ok);
            stats.auth_failed += u64::from(!ok);
        });
        match modes.auth {
            AuthMode::Silence => Ok(None),
            AuthMode::Close => Ok(Some(Goodbye::Close(Some(POLICY)))),
            AuthMode::Reset => Ok(Some(Goodbye::Reset)),
            AuthMode::ErrorWords => self.error_in_words(action, KEY_WORDS).await,
            AuthMode::ErrorLimit => self.error_in_words(action, LIMIT_WORDS).await,
            AuthMode::Ok | AuthMode::Error => {
                self.login.authenticated = ok;
                self.reply(ok, action, false).await
            }
            AuthMode::OtherFirst => {
                self.login.authenticated = ok;
                self.reply(true, Some("unsubscribe"), false).await?;
                self.reply(ok, action, false).await
            }
        }
    }

    async fn subscribe(&mut self, command: &Command) -> Step {
        let mode = self.place.hub.modes().subscribe;
        let wanted = feeds(command);
        let action = Some("subscribe");
        match mode {
            SubscribeMode::Silence => return Ok(None),
            SubscribeMode::Close => return Ok(Some(Goodbye::Close(Some(POLICY)))),
            SubscribeMode::Reset => return Ok(Some(Goodbye::Reset)),
            SubscribeMode::ErrorWords => return self.error_in_words(action, FEED_WORDS).await,
            SubscribeMode::ErrorLimit => return self.error_in_words(action, LIMIT_WORDS).await,
            SubscribeMode::Error => return self.reply(false, action, false).await,
            SubscribeMode::Ok | SubscribeMode::OtherFirst | SubscribeMode::DataFirst => {}
        }
        let ok = self.login.authenticated;
        let Some(wanted) = wanted.filter(|_| ok) else {
            return self.reply(false, action, false).await;
        };
        if mode == SubscribeMode::OtherFirst {
            self.reply(true, Some("authenticate"), false).await?;
        }
        for feed in wanted {
            if !self.login.feeds.contains(&feed) {
                self.login.feeds.push(feed);
            }
        }
        if !self.login.feeds.contains(&FEED_NAME) {
            return self.reply(true, action, true).await;
        }
        self.begin_feed(mode).await
    }

    /// Puts the connection in line for the events, answers, and sends what goes around the answer.
    async fn begin_feed(&mut self, mode: SubscribeMode) -> Step {
        // From here on events are put in line, and they wait there until the reply is written.
        // With a snapshot the emission waits too, so that no older state can follow a newer one.
        let hub = Arc::clone(&self.place.hub);
        let snapshot = hub.options.snapshot && !self.login.snapshot_sent;
        let turn = match snapshot || mode == SubscribeMode::DataFirst {
            true => Some(hub.turn.lock().await),
            false => None,
        };
        if mode == SubscribeMode::DataFirst
            && let Some(end) = self.states(0, EARLY).await?
        {
            return Ok(Some(end));
        }
        self.subscribed(&hub);
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

    fn subscribed(&mut self, hub: &Hub) {
        self.place.subscribe(true);
        hub.count(|stats| stats.subscribes += 1);
        if self.muted {
            let now = now_nanos();
            let mut deaf = hub.deaf();
            deaf.begin(Some(self.place.connection), DeafCause::Muted, now);
        }
        self.unread |= hub.modes().stop_reading;
    }

    /// Sends every user as it stands. The turn is kept to the end.
    async fn snapshot(&mut self, turn: Option<MutexGuard<'_, ()>>) -> Step {
        let len = self.place.hub.world().len();
        for start in (0..len).step_by(BATCH) {
            let step = self.states(start, BATCH).await?;
            if step.is_some() {
                return Ok(step);
            }
        }
        drop(turn);
        Ok(None)
    }

    /// Sends the state of up to `n` users from this place on.
    async fn states(&mut self, start: u32, n: usize) -> Step {
        let people = self.place.hub.present(start, n);
        let batch = Batch::new(people, self.place.hub.timestamps(n));
        self.send_events(&batch, Delivery::InOrder).await
    }

    /// An error reply with a sentence, at both places where one was ever seen.
    async fn error_in_words(&mut self, action: Option<&str>, words: &str) -> Step {
        let timestamp = self.place.hub.timestamps(1);
        let action = action.unwrap_or_default();
        let frame = format!(
            r#"{{"type":"error","sequence":{},"timestamp":{timestamp},"payload":{{"action":"{action}","error":"{words}"}},"action":"{action}","message":"{words}"}}"#,
            self.outbox.next()
        );
        self.socket.send(Message::text(frame)).await?;
        Ok(None)
    }

    async fn reply(&mut self, ok: bool, action: Option<&str>, with_feeds: bool) -> Step {
        let hub = &self.place.hub;
        let timestamp = hub.timestamps(1);
        let old = hub.modes().old_replies;
        let action = action.filter(|_| !old);
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
