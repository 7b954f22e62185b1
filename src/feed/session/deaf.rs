//! Being deaf by our own choice: the socket is not read while there is no room before the disk.
//!
//! It waits, says so aloud after the idle timeout, and never drops what it waits with.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};

use super::{Session, gone};
use crate::event::Timestamp;
use crate::feed::socket::Failed;
use crate::feed::{Heard, LostReason};

/// A wait for room that is shorter is nothing: the vendor's frames lie in the socket meanwhile.
const WAIT_NOTED: Duration = Duration::from_secs(1);

impl Session<'_> {
    pub(super) async fn tell_of_deafness(&mut self) -> Result<(), Failed> {
        match self.deaf.take() {
            Some((from, to)) => self.tell(Heard::Deaf { from, to }).await,
            None => Ok(()),
        }
    }

    /// The vendor may have gone while we did not read, and then not all that it had to say was in the
    /// socket: nobody can tell since when. When we go, all that it said until then is there, and what is
    /// left unread lies in the window of our end.
    pub(super) async fn lost_while_deaf(&mut self, reason: LostReason) {
        if let Some((from, over)) = self.waited
            && reason != LostReason::Shutdown
            && self.deaf.is_none()
            && over.elapsed() < self.config.idle_timeout.0
        {
            self.deaf = Some((from, (self.feed.clock)()));
        }
        // Whoever does not listen any more needs no word.
        self.tell_of_deafness().await.unwrap_or_default();
    }

    /// Waits for something before the disk; what is not there when the end is asked for was not heard.
    ///
    /// The socket is not read meanwhile. After the idle timeout that is said aloud.
    pub(super) async fn unless_ending<T>(
        &mut self,
        wait: impl Future<Output = T>,
    ) -> Result<T, Failed> {
        let mut wait = std::pin::pin!(wait);
        // There is nearly always room: then no clock is asked.
        if let Some(done) = wait.as_mut().now_or_never() {
            return Ok(done);
        }
        let (since, from) = (Instant::now(), (self.feed.clock)());
        let in_time = tokio::select! {
            biased;
            done = &mut wait => Some(done),
            () = self.feed.stop.draining() => return Err(gone()),
            () = sleep_until(since + self.config.idle_timeout.0) => None,
        };
        let done = match in_time {
            Some(done) if since.elapsed() < WAIT_NOTED => return Ok(done),
            Some(done) => done,
            None => {
                self.goes_deaf(from);
                let done = tokio::select! {
                    done = &mut wait => done,
                    () = self.feed.stop.draining() => return Err(gone()),
                };
                self.hears_again(from);
                done
            }
        };
        self.waited = Some((from, Instant::now()));
        Ok(done)
    }

    fn goes_deaf(&self, from: Timestamp) {
        self.feed.metrics.connected.set(0);
        self.feed.deaf.send_replace(Some(from));
        tracing::error!(
            since = %from,
            "the feed is not read, because the journal takes no events: a blind window is open"
        );
    }

    fn hears_again(&mut self, from: Timestamp) {
        self.feed.metrics.connected.set(1);
        self.feed.deaf.send_replace(None);
        let from = self.deaf.map_or(from, |(earlier, _)| earlier.min(from));
        self.deaf = Some((from, (self.feed.clock)()));
        tracing::warn!(since = %from, "the feed is read again");
    }

    pub(super) async fn tell(&mut self, heard: Heard) -> Result<(), Failed> {
        let feed = self.feed;
        let told = self.unless_ending(feed.heard.send(heard)).await?;
        told.map_err(|_| gone())
    }
}
