//! What the connection says on its own: a refused right, a lost connection.
//!
//! A server refuses a right by an event and never by an answer, so without this a missing right would
//! look like a time-out. Nothing here acts; it only remembers and lets others wait.

use async_nats::{Event, ServerError};
use tokio::sync::watch;

use super::super::{ErrorClass, SinkError};

/// What was heard since the connection was made.
#[derive(Clone, Debug, Default)]
struct Heard {
    disconnects: u64,
    /// Publishing records is refused.
    publish_refused: Option<String>,
    /// A request (to read the stream, to make a consumer) or a subscription is refused.
    request_refused: Option<String>,
}

/// One connection's memory of its events.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    prefix: String,
    heard: watch::Sender<Heard>,
}

impl Watch {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            heard: watch::Sender::new(Heard::default()),
        }
    }

    /// Takes one event of the client.
    pub(super) fn take(&self, event: &Event) {
        match event {
            Event::Disconnected => {
                tracing::warn!("connection to NATS lost");
                self.heard.send_modify(|heard| heard.disconnects += 1);
            }
            Event::ServerError(ServerError::Other(text)) => self.take_error(text),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.take_error("authorization violation");
            }
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                tracing::warn!("NATS calls this client a slow consumer");
            }
            Event::Connected
            | Event::LameDuckMode
            | Event::Draining
            | Event::Closed
            | Event::ClientError(_) => tracing::debug!(reason = %event, "NATS"),
        }
    }

    fn take_error(&self, text: &str) {
        let lower = text.to_lowercase();
        let own_subject = format!("\"{}.", self.prefix.to_lowercase());
        if lower.contains("permissions violation for publish") && lower.contains(&own_subject) {
            // Without the subject: it holds the record's key.
            let text = format!(
                "the server refuses the right to publish to `{}.*`",
                self.prefix
            );
            tracing::warn!(error = text, "NATS");
            self.heard
                .send_modify(|heard| heard.publish_refused = Some(text));
        } else if lower.contains("violation") {
            tracing::warn!(error = text, "NATS");
            let subscription = lower.contains("for subscription");
            self.heard.send_modify(|heard| {
                heard.request_refused = Some(text.to_owned());
                // Answers come to a subscription, so without it no acknowledgement does either.
                if subscription {
                    heard.publish_refused = Some(text.to_owned());
                }
            });
        } else {
            tracing::warn!(error = text, "NATS");
        }
    }

    /// Forgets refusals, before something new is tried.
    pub(super) fn forget(&self) {
        self.heard.send_modify(|heard| {
            heard.publish_refused = None;
            heard.request_refused = None;
        });
    }

    /// Resolves when publishing is refused, or when the connection is lost after this call.
    pub(super) fn publish_trouble(&self) -> impl Future<Output = SinkError> + Send + use<> {
        let mut heard = self.heard.subscribe();
        let before = heard.borrow().disconnects;
        async move {
            let trouble = heard
                .wait_for(|heard| heard.publish_refused.is_some() || heard.disconnects > before)
                .await
                .map(|heard| heard.publish_refused.clone());
            match trouble {
                Ok(Some(text)) => SinkError::new(
                    ErrorClass::Configuration,
                    format!("{text}; give it to this sink's user"),
                ),
                Ok(None) | Err(_) => SinkError::new(
                    ErrorClass::Transient,
                    "the connection was lost; what was under way is of unknown outcome",
                ),
            }
        }
    }

    /// Resolves with the server's words when a request is refused.
    pub(super) async fn request_refused(&self) -> String {
        let mut heard = self.heard.subscribe();
        let refused = heard
            .wait_for(|heard| heard.request_refused.is_some())
            .await
            .map(|heard| heard.request_refused.clone());
        refused.ok().flatten().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn said(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.to_owned()))
    }

    #[test]
    fn a_refused_publish_is_told_without_the_key() {
        let watch = Watch::new("onboarding.users");
        watch.take(&said(
            r#"Permissions Violation for Publish to "onboarding.users.client_1""#,
        ));
        let error = watch.publish_trouble().now_or_never().unwrap();
        assert_eq!(error.class, ErrorClass::Configuration);
        assert!(error.message.contains("`onboarding.users.*`"), "{error}");
        assert!(!error.message.contains("client_1"), "{error}");
        watch.forget();
        assert!(watch.publish_trouble().now_or_never().is_none());
    }

    #[test]
    fn a_refused_request_is_no_refused_publish() {
        let watch = Watch::new("onboarding.users");
        watch.take(&said(
            r#"Permissions Violation for Publish to "$JS.API.CONSUMER.CREATE.S""#,
        ));
        assert!(watch.publish_trouble().now_or_never().is_none());
        assert!(
            watch
                .request_refused()
                .now_or_never()
                .unwrap()
                .contains("CONSUMER.CREATE")
        );
    }

    #[test]
    fn a_lost_connection_ends_only_what_was_under_way() {
        let watch = Watch::new("p");
        watch.take(&Event::Disconnected);
        assert!(watch.publish_trouble().now_or_never().is_none());
        let mut trouble = Box::pin(watch.publish_trouble());
        assert!(trouble.as_mut().now_or_never().is_none());
        watch.take(&Event::Disconnected);
        assert_eq!(trouble.now_or_never().unwrap().class, ErrorClass::Transient);
    }
}
