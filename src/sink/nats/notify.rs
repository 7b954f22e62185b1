//! Publishes notices to the subjects beside the events' own: `<subject_prefix>_control.<type>` and
//! `<subject_prefix>_dead`, which a stream must take.
//!
//! By a connection of its own that lives for one call. Notices are rare.

use std::time::Duration;

use async_nats::jetstream::context::{GetStreamByNameErrorKind, PublishErrorKind};
use bytes::Bytes;
use tokio::time::timeout;

use super::super::{ErrorClass, SinkError};
use super::connect::{self, Connection};
use super::{errors, headers};
use crate::config::NatsConfig;
use crate::notice::{Channel, FEED_BLIND, Notice};

/// The longest look for a stream that takes a subject.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether a stream takes this channel's subject; where that may not be asked, nothing is known, and
/// nothing is said.
pub(crate) async fn look(config: &NatsConfig, channel: Channel) -> Result<(), SinkError> {
    let connection = connect::connect(config).await?;
    is_taken(&connection, &subject(config, channel, FEED_BLIND)).await
}

/// Publishes notices in order; resolves when each is acknowledged.
pub(crate) async fn notify(config: &NatsConfig, notices: &[Notice]) -> Result<(), SinkError> {
    let connection = connect::connect(config).await?;
    for notice in notices {
        let subject = subject(config, notice.channel, &notice.kind);
        tokio::select! {
            published = publish(&connection, &subject, notice) => published?,
            // The server refuses a right by an event and never by an answer.
            refused = connection.watch.request_refused() => {
                return Err(SinkError::new(ErrorClass::Configuration, format!("{subject}: {refused}")));
            }
        }
    }
    Ok(())
}

fn subject(config: &NatsConfig, channel: Channel, kind: &str) -> String {
    let prefix = &config.subject_prefix;
    match channel {
        Channel::Control => format!("{prefix}_control.{kind}"),
        Channel::Dead => format!("{prefix}_dead"),
    }
}

async fn publish(connection: &Connection, subject: &str, notice: &Notice) -> Result<(), SinkError> {
    let (headers, body) = (
        headers::of_notice(notice),
        Bytes::copy_from_slice(&notice.body),
    );
    let sent = connection
        .context
        .publish_with_headers(subject.to_owned(), headers, body)
        .await;
    let answered = match sent {
        Ok(answer) => answer.await.map(drop),
        Err(error) => Err(error),
    };
    let Err(error) = answered else {
        return Ok(());
    };
    if error.kind() == PublishErrorKind::StreamNotFound {
        // Nobody answered: an election passes, a subject that no stream takes does not.
        is_taken(connection, subject).await?;
    }
    Err(errors::of_publish(&error, subject))
}

async fn is_taken(connection: &Connection, subject: &str) -> Result<(), SinkError> {
    let taken = timeout(LOOK_TIMEOUT, connection.context.stream_by_subject(subject)).await;
    if let Ok(Err(none)) = taken
        && none.kind() == GetStreamByNameErrorKind::NotFound
    {
        let message = format!("no stream takes `{subject}`; add it to the subjects of one");
        return Err(SinkError::new(ErrorClass::Configuration, message));
    }
    Ok(())
}
