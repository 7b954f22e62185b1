//! What `deliver` does with a sink, without a journal: batch after batch, and after an error that may
//! pass `open`, a wait, `held`, and the rest. It stops at an error that an operator must mend.

use std::sync::Arc;
use std::time::Duration;

use onboarding_bridge::event::Record;
use onboarding_bridge::sink::{ErrorClass, Sink, SinkError};
use tokio::time::{Instant, sleep};

use super::bridge::PATIENCE;

/// The wait that `deliver` calls `settle`.
const SETTLE: Duration = Duration::from_millis(500);

/// Publishes all records, whatever happens to the destination meanwhile; `trouble` is called while a
/// batch is under way, with its number. The errors that came in between.
pub(crate) async fn publish_all(
    sink: &mut impl Sink,
    records: &[Arc<Record>],
    batch: usize,
    trouble: impl AsyncFn(usize),
) -> Vec<SinkError> {
    let mut errors = Vec::new();
    open(sink, &mut errors).await;
    for (number, batch) in records.chunks(batch).enumerate() {
        let mut rest = batch.to_vec();
        let (published, ()) = tokio::join!(sink.publish(&rest), trouble(number));
        let mut published = published;
        while let Err(error) = published {
            errors.push(may_pass(error.failed[0].1.clone()));
            rest = ask_for_the_rest(sink, &rest, &mut errors).await;
            published = sink.publish(&rest).await;
        }
    }
    errors
}

async fn ask_for_the_rest(
    sink: &mut impl Sink,
    rest: &[Arc<Record>],
    errors: &mut Vec<SinkError>,
) -> Vec<Arc<Record>> {
    loop {
        open(sink, errors).await;
        sleep(SETTLE).await;
        match sink.held(rest[0].received_at).await {
            Ok(held) => {
                let rest = rest
                    .iter()
                    .filter(|record| !held.contains(&record.event_id));
                return rest.cloned().collect();
            }
            Err(error) => errors.push(may_pass(error)),
        }
    }
}

async fn open(sink: &mut impl Sink, errors: &mut Vec<SinkError>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = sink.open().await {
        assert!(Instant::now() < deadline, "{error}");
        errors.push(may_pass(error));
        sleep(Duration::from_millis(100)).await;
    }
}

fn may_pass(error: SinkError) -> SinkError {
    let passes = matches!(error.class, ErrorClass::Transient | ErrorClass::Fatal);
    assert!(passes, "{}: {error}", error.class.as_str());
    error
}
