//! Waiting a moment for more, where events come a few at a time but faster than they are acknowledged.
//!
//! How long is for the sink to say. One that comes alone, and many, are never held up.

use tokio::time::sleep;

use super::Deliver;

/// Fewer records are few.
const FEW: usize = 64;

impl Deliver {
    /// Some came while the last ones were published: more are about to.
    pub(super) async fn gather(&mut self) {
        let waiting = self.tail.committed().saturating_sub(self.cursor);
        let few = self.taken > 1 && self.taken < FEW && waiting < FEW as u64;
        let time = self.sink.gather();
        // To sleep for no time is to sleep until the next tick of the timer.
        if few && !time.is_zero() {
            sleep(time).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use tokio::sync::{Semaphore, watch};
    use tokio::task::JoinSet;

    use super::super::model::{append, journal};
    use super::super::{Deliver, Pace, SinkStatus, Start};
    use crate::event::{EventId, Record, Timestamp};
    use crate::metrics::Metrics;
    use crate::shutdown;
    use crate::sink::{Destination, PublishError, Sink, SinkError};

    /// Notes how many records come at a time, and lets them go when it is let.
    struct Counting {
        sizes: Arc<Mutex<Vec<usize>>>,
        may: Arc<Semaphore>,
    }

    impl Sink for Counting {
        fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>> {
            async { Ok(Destination::default()) }.boxed()
        }

        fn held(&mut self, _: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>> {
            async { Ok(HashSet::new()) }.boxed()
        }

        fn publish<'a>(
            &'a mut self,
            batch: &'a [Arc<Record>],
        ) -> BoxFuture<'a, Result<(), PublishError>> {
            async {
                self.sizes.lock().unwrap().push(batch.len());
                self.may.acquire().await.unwrap().forget();
                Ok(())
            }
            .boxed()
        }

        fn gather(&self) -> Duration {
            Duration::from_secs(2)
        }

        fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
            async { Ok(()) }.boxed()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_is_published_at_once_and_a_few_wait_for_those_that_follow() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = journal(&folder, &[1]).await;
        let (sizes, may) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Semaphore::new(0)),
        );
        let sink = Counting {
            sizes: Arc::clone(&sizes),
            may: Arc::clone(&may),
        };
        let start = Start {
            index: 0,
            cursor: 0,
            clean: true,
            settle: Duration::ZERO,
            pace: Pace::default(),
        };
        let (_stopper, stop) = shutdown::channel();
        let (last, until) = watch::channel(None);
        let metrics = Metrics::new(&["s"]);
        let status = Arc::new(SinkStatus::new("s", 0));
        let deliver = Deliver::new(
            start,
            Box::new(sink),
            &journal.handle,
            metrics.sinks[0].clone(),
            Arc::clone(&status),
            stop,
            until,
            Timestamp::now,
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(deliver.run());
        let delivered = async |position| {
            while status.report().delivered < position {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        may.add_permits(1);
        delivered(1).await;
        // While the next one is under way three more come.
        append(&mut journal, &[2]).await;
        while sizes.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        append(&mut journal, &[3, 4, 5]).await;
        may.add_permits(2);
        delivered(5).await;
        // These follow one by one.
        for key in 6..=9 {
            append(&mut journal, &[key]).await;
        }
        may.add_permits(9);
        delivered(9).await;
        last.send(Some(9)).unwrap();
        tasks.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(*sizes.lock().unwrap(), [1, 1, 3, 4]);
        journal.handle.close();
    }
}
