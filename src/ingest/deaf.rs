//! When the feed is not heard: the blind windows that ingest opens and closes, and what hangs on them.
//!
//! A window begins where everything before it was heard for certain, ends when the feed is heard again,
//! and is healed by a list; see docs/reconcile.md. One that is still open at a start stays as it is. The start
//! adds its own, unless that would begin later.

use tokio::time::Instant;

use super::Ingest;
use super::silence::Verdict;
use crate::event::Timestamp;
use crate::feed::LostReason;
use crate::feed::sequence::{Gap, REORDER_WAIT};
use crate::journal::{JournalError, Reader, WindowChange};

/// From when the window of a start begins, unless one is open from before all that may have been lost. A
/// window overtakes the messages before it where the journal takes none: those are not written then.
pub(super) fn starts(
    reader: &Reader,
    last_written: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, JournalError> {
    let written = last_written.unwrap_or(now).min(now);
    let open = reader.open_since()?;
    if let Some(since) = open {
        tracing::warn!(%since, "the feed was not heard when the last run ended: its blind window stays open");
    }
    if open.is_some_and(|since| since <= written) {
        return Ok(None);
    }
    // A number that was awaited then is a gap that nobody has told of.
    Ok(Some(match last_written {
        Some(_) => written.minus(REORDER_WAIT),
        None => now,
    }))
}

impl Ingest {
    pub(super) async fn started(&mut self) -> Result<(), JournalError> {
        match self.starts.take() {
            Some(from) => self.window(from, None, "start", 0).await,
            None => Ok(()),
        }
    }

    pub(super) async fn up(&mut self, at: Timestamp) -> Result<(), JournalError> {
        let blind = self.unheard.ends(at);
        self.metrics.feed.blind_seconds.inc_by(blind);
        self.room.windows_are_closed();
        self.lists.deafness_ends(self.appender.position());
        self.journal.window(WindowChange::Close { to: at }).await?;
        self.asker.ask();
        Ok(())
    }

    pub(super) async fn lost(
        &mut self,
        reason: LostReason,
        last_frame: Timestamp,
    ) -> Result<(), JournalError> {
        self.unheard.begins(last_frame);
        self.window(last_frame, None, reason.as_str(), 0).await
    }

    pub(super) async fn gap(&mut self, gap: &Gap) -> Result<(), JournalError> {
        let blind = gap.to.seconds_since(gap.from).max(0.0);
        self.metrics.feed.blind_seconds.inc_by(blind);
        self.window(gap.from, Some(gap.to), "gap", gap.missing)
            .await?;
        self.lists.deafness_ends(self.appender.position());
        self.asker.ask();
        Ok(())
    }

    /// Opens a window from where we know that nothing was missed.
    pub(super) async fn window(
        &mut self,
        from: Timestamp,
        to: Option<Timestamp>,
        reason: &'static str,
        missing: u64,
    ) -> Result<(), JournalError> {
        let from = self.delay.before(from);
        self.open(WindowChange::Open {
            from,
            to,
            reason,
            missing,
        })
        .await
    }

    /// Opens a window that explains whatever a list finds from now on.
    pub(super) async fn open(&mut self, window: WindowChange) -> Result<(), JournalError> {
        self.silence.is_blind();
        self.lists.is_blind();
        self.journal.window(window).await
    }

    /// Whether, as far as is known, nothing is being missed at this moment.
    pub(super) const fn hears(&self) -> bool {
        !self.unheard.lasts() && !self.room.is_deaf()
    }

    /// What is due by the clock.
    pub(super) async fn tick(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        let blind = self.unheard.count((self.clock)());
        self.metrics.feed.blind_seconds.inc_by(blind);
        if self.lists.tick(now, self.appender.position()) {
            self.asker.ask();
        }
        let users = &self.users;
        let position = |user: &_| -> Result<u64, JournalError> {
            Ok(users.get(user)?.map_or(0, |state| state.position))
        };
        match self.silence.verdict(now, position)? {
            Some(verdict) => self.was_silent(&verdict).await,
            None => Ok(()),
        }
    }

    /// The feed looked alive and did not tell what it should; the list that showed it has repaired it.
    async fn was_silent(&mut self, verdict: &Verdict) -> Result<(), JournalError> {
        let (to, missing) = (verdict.to, verdict.missing);
        // The list that is the proof may have been behind the feed by as much.
        let from = verdict.from.minus(self.lists.read_after_write());
        let is_mute = verdict.is_mute;
        tracing::error!(
            since = %from,
            missing,
            is_mute,
            "the feed does not tell what the list shows: a blind window covers it; where it told of \
             nobody the connection is renewed"
        );
        let blind = to.seconds_since(from).max(0.0);
        self.metrics.feed.blind_seconds.inc_by(blind);
        let reason = LostReason::Silence.as_str();
        let open = WindowChange::Open {
            from,
            to: Some(to),
            reason,
            missing,
        };
        self.journal.window(open).await?;
        self.journal
            .window(WindowChange::Heal {
                asked: to,
                differences: verdict.differences,
            })
            .await?;
        if is_mute {
            self.renew.send_modify(|times| *times += 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::JournalConfig;
    use crate::journal::Journal;
    use crate::metrics::Metrics;

    /// From when a start is blind, where a window has been open since this second, after a last run that wrote
    /// what it heard until second 100.
    async fn blind_since(open_since: Option<i64>) -> Option<Timestamp> {
        let at = |second: i64| Timestamp(second * 1_000_000_000);
        let folder = tempfile::tempdir().unwrap();
        let config = JournalConfig::at(folder.path().join("journal.db"));
        let journal =
            Journal::open(&config, &["a"], &Metrics::new(&["a"]), Timestamp::now).unwrap();
        if let Some(second) = open_since {
            let open = WindowChange::Open {
                from: at(second),
                to: None,
                reason: "journal_full",
                missing: 0,
            };
            journal.handle.window(open).await.unwrap();
            journal.handle.sync().await.unwrap();
        }
        starts(&journal.handle.reader().unwrap(), Some(at(100)), at(500)).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn messages_that_a_window_overtook_on_the_way_to_a_full_journal_are_within_that_of_the_start()
     {
        let own = Timestamp(100_000_000_000).minus(REORDER_WAIT);
        assert_eq!(blind_since(None).await, Some(own));
        assert_eq!(blind_since(Some(160)).await, Some(own));
        assert_eq!(blind_since(Some(100)).await, None);
        assert_eq!(blind_since(Some(90)).await, None);
        assert!(REORDER_WAIT > Duration::ZERO);
    }
}
