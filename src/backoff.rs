//! The one backoff of the program: full jitter, capped, reset after success.
//!
//! Randomness comes in as an argument, so that it can be tested.

use std::time::Duration;

use rand::Rng;

/// Waits that grow from `first` to `cap`, each drawn evenly from zero to its bound.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// A backoff at its start.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            attempt: 0,
        }
    }

    /// Forgets the failures.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait.
    pub fn next(&mut self, random: &mut impl Rng) -> Duration {
        let bound = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.attempt))
            .min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(random.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn waits_grow_are_spread_and_never_pass_the_cap() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut longest = [Duration::ZERO; 100];
        for _ in 0..200 {
            backoff.reset();
            for place in &mut longest {
                *place = backoff.next(&mut random).max(*place);
            }
        }
        assert!(longest[0] <= Duration::from_secs(1) && longest[0] > Duration::from_millis(900));
        assert!(longest[3] > Duration::from_secs(6) && longest[3] <= Duration::from_secs(8));
        assert!(longest.iter().all(|wait| *wait <= Duration::from_secs(60)));
    }
}
