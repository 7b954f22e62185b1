//! Whether the feed, which looks alive, tells what it should.
//!
//! A server may answer pings and send no data; a subscription may be dropped without a word; messages
//! that were never sent have no numbers to miss. The evidence is a list that shows first what the feed
//! tells of: a registration, a change of `status` or `requirements`. It counts only where no blind
//! window explains it, and only when the feed has not told of that user within a grace time. What the
//! vendor documents no message for (removals, other fields) is no evidence. Nor are other `requirements`
//! of a user of whom the feed has told since the last proof: the list may write them in another form.
//!
//! ```text
//!   list, everything healed ── proof ──▶ list with differences ── suspects ──▶ grace over: not told?
//! ```
//!
//! Pure: time comes in.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Timestamp;
use crate::state::UserKey;

/// So many users are watched; more would say nothing else.
pub(super) const SUSPECTS_MAX: usize = 1024;

/// A user of whom the list told first, and the position of the record that was made of it.
type Suspect = (UserKey, u64);

/// Follows what list and feed tell.
#[derive(Debug)]
pub(super) struct Silence {
    grace: Duration,
    /// When the last list was asked for that found everything as the feed had told it, or repaired it, and
    /// the position of the journal at its end.
    proof: Option<(Timestamp, u64)>,
    /// Messages of the feed since then, and frames among them that could not be read.
    told: u64,
    rejected: u64,
    /// Of the list that is being compared.
    suspects: Vec<Suspect>,
    trial: Option<Trial>,
}

/// Suspects whose grace runs.
#[derive(Debug)]
struct Trial {
    from: Timestamp,
    to: Timestamp,
    told: u64,
    rejected: u64,
    differences: u64,
    suspects: Vec<Suspect>,
    due: Instant,
}

/// The feed was silent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// From the last proof that it was complete.
    pub(super) from: Timestamp,
    /// To the list that told more.
    pub(super) to: Timestamp,
    /// Users of whom it did not tell.
    pub(super) missing: u64,
    /// What that list repaired.
    pub(super) differences: u64,
    /// It told of nobody at all: the subscription may be gone.
    pub(super) is_mute: bool,
}

impl Silence {
    /// The feed gets `grace` to tell what a list told first; with none nothing is ever concluded.
    pub(super) const fn new(grace: Duration) -> Self {
        Self {
            grace,
            proof: None,
            told: 0,
            rejected: 0,
            suspects: Vec::new(),
            trial: None,
        }
    }

    /// The feed has told of a user.
    pub(super) const fn told(&mut self) {
        self.told += 1;
    }

    /// The feed has told something that could not be read: of one user at most.
    pub(super) const fn rejected(&mut self) {
        self.told += 1;
        self.rejected += 1;
    }

    /// A blind window explains whatever is missing.
    pub(super) fn is_blind(&mut self) {
        self.proof = None;
        self.suspects.clear();
        self.trial = None;
    }

    /// A list begins.
    pub(super) fn begins(&mut self) {
        self.suspects.clear();
    }

    /// The list told of this user first, with a record at this position.
    pub(super) fn suspect(&mut self, user: UserKey, position: u64) {
        if self.proof.is_some() && !self.grace.is_zero() && self.suspects.len() < SUSPECTS_MAX {
            self.suspects.push((user, position));
        }
    }

    /// Whether a state at this position is of after the last proof.
    pub(super) fn is_since(&self, position: u64) -> bool {
        self.proof.is_none_or(|(_, proved)| position > proved)
    }

    /// The list that was asked for at this time is compared and heals everything, the journal is at this
    /// position now; `is_clear` if nothing that was missed before or meanwhile is left to another list.
    pub(super) fn listed(
        &mut self,
        asked: Timestamp,
        position: u64,
        is_clear: bool,
        differences: u64,
        now: Instant,
    ) {
        let suspects = std::mem::take(&mut self.suspects);
        let proof = self.proof.take();
        if let Some((from, _)) = proof.filter(|_| !suspects.is_empty()) {
            let mut trial = self.trial.take().unwrap_or(Trial {
                from,
                to: asked,
                told: 0,
                rejected: 0,
                differences: 0,
                suspects: Vec::new(),
                due: now,
            });
            trial.to = asked;
            trial.due = now + self.grace;
            trial.differences += differences;
            trial.suspects.extend(suspects);
            trial.suspects.truncate(SUSPECTS_MAX);
            trial.told += self.told;
            trial.rejected += self.rejected;
            self.trial = Some(trial);
        } else if let Some(trial) = &mut self.trial {
            trial.told += self.told;
            trial.rejected += self.rejected;
        }
        (self.told, self.rejected) = (0, 0);
        self.proof = is_clear.then_some((asked, position));
    }

    /// Judges, when it is time: `position` says where the last record of a user is now.
    pub(super) fn verdict<E>(
        &mut self,
        now: Instant,
        position: impl Fn(&UserKey) -> Result<u64, E>,
    ) -> Result<Option<Verdict>, E> {
        let Some(trial) = self.trial.take_if(|trial| trial.due <= now) else {
            return Ok(None);
        };
        let mut silent = 0_u64;
        for (user, listed) in &trial.suspects {
            silent += u64::from(position(user)? == *listed);
        }
        let rejected = trial.rejected + self.rejected;
        let missing = silent.saturating_sub(rejected);
        Ok((missing > 0).then_some(Verdict {
            from: trial.from,
            to: trial.to,
            missing,
            differences: trial.differences,
            is_mute: trial.told + self.told == 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);
    const ADA: UserKey = [1; 16];
    const BOB: UserKey = [2; 16];

    fn proven() -> (Silence, Instant) {
        let mut silence = Silence::new(GRACE);
        let now = Instant::now();
        silence.begins();
        // Without a list before there is nothing to hold against it.
        silence.suspect(ADA, 1);
        silence.listed(Timestamp(100), 5, true, 5, now);
        assert!(judged(&mut silence, now + GRACE, 1).is_none());
        (silence, now)
    }

    fn judged(silence: &mut Silence, now: Instant, position: u64) -> Option<Verdict> {
        let judged: Result<_, Infallible> = silence.verdict(now, |_| Ok(position));
        judged.unwrap()
    }

    #[test]
    fn what_the_list_tells_and_the_feed_does_not_within_the_grace_is_silence() {
        let (mut silence, now) = proven();
        silence.begins();
        silence.suspect(ADA, 7);
        silence.suspect(BOB, 7);
        silence.listed(Timestamp(200), 5, true, 3, now);
        assert!(judged(&mut silence, now + GRACE - Duration::from_millis(1), 7).is_none());
        let verdict = judged(&mut silence, now + GRACE, 7).unwrap();
        let (from, to) = (Timestamp(100), Timestamp(200));
        let said = Verdict {
            from,
            to,
            missing: 2,
            differences: 3,
            is_mute: true,
        };
        assert_eq!(verdict, said);
        // Once.
        assert!(judged(&mut silence, now + GRACE * 2, 7).is_none());
    }

    #[test]
    fn a_message_that_was_on_its_way_is_no_silence() {
        let (mut silence, now) = proven();
        silence.begins();
        silence.suspect(ADA, 7);
        silence.listed(Timestamp(200), 5, true, 1, now);
        silence.told();
        assert!(judged(&mut silence, now + GRACE, 8).is_none());
    }

    #[test]
    fn a_feed_that_tells_of_others_is_silent_and_not_mute() {
        let (mut silence, now) = proven();
        silence.told();
        silence.begins();
        silence.suspect(ADA, 7);
        silence.listed(Timestamp(200), 5, true, 1, now);
        let verdict = judged(&mut silence, now + GRACE, 7).unwrap();
        assert!(!verdict.is_mute);
        // What was told before the proof is no sign of life since.
        silence.begins();
        silence.suspect(ADA, 9);
        silence.listed(Timestamp(300), 5, true, 1, now + GRACE);
        let verdict = judged(&mut silence, now + GRACE * 2, 9).unwrap();
        assert_eq!((verdict.from, verdict.is_mute), (Timestamp(200), true));
    }

    #[test]
    fn a_frame_that_could_not_be_read_may_have_been_the_message() {
        let (mut silence, now) = proven();
        silence.begins();
        silence.rejected();
        silence.suspect(ADA, 7);
        silence.listed(Timestamp(200), 5, true, 1, now);
        assert!(judged(&mut silence, now + GRACE, 7).is_none());
    }

    #[test]
    fn a_blind_window_before_or_within_the_grace_explains_it() {
        let (mut silence, now) = proven();
        silence.is_blind();
        silence.begins();
        silence.suspect(ADA, 7);
        silence.listed(Timestamp(200), 5, true, 1, now);
        assert!(judged(&mut silence, now + GRACE, 7).is_none());
        silence.begins();
        silence.suspect(ADA, 8);
        silence.listed(Timestamp(300), 5, true, 1, now);
        silence.is_blind();
        assert!(judged(&mut silence, now + GRACE, 8).is_none());
    }

    #[test]
    fn a_list_that_leaves_something_to_another_one_is_no_proof() {
        let (mut silence, now) = proven();
        silence.begins();
        silence.listed(Timestamp(200), 5, false, 0, now);
        silence.begins();
        silence.suspect(ADA, 7);
        silence.listed(Timestamp(300), 5, true, 1, now);
        assert!(judged(&mut silence, now + GRACE, 7).is_none());
    }

    #[test]
    fn a_state_of_after_the_proof_is_known_from_an_older_one() {
        let (mut silence, now) = proven();
        silence.begins();
        silence.listed(Timestamp(200), 40, true, 0, now);
        assert_eq!((silence.is_since(40), silence.is_since(41)), (false, true));
        silence.is_blind();
        assert!(silence.is_since(1));
    }

    #[test]
    fn suspects_are_bounded() {
        let (mut silence, now) = proven();
        silence.begins();
        (0..3 * SUSPECTS_MAX).for_each(|_| silence.suspect(ADA, 7));
        silence.listed(Timestamp(200), 5, true, 1, now);
        let verdict = judged(&mut silence, now + GRACE, 7).unwrap();
        assert_eq!(verdict.missing, SUSPECTS_MAX as u64);
    }

    #[test]
    fn without_a_grace_nothing_is_concluded() {
        let mut silence = Silence::new(Duration::ZERO);
        let now = Instant::now();
        silence.listed(Timestamp(100), 5, true, 0, now);
        silence.begins();
        silence.suspect(ADA, 7);
        silence.listed(Timestamp(200), 5, true, 1, now);
        assert!(judged(&mut silence, now + GRACE, 7).is_none());
    }
}
