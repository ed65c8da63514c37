//! How long to wait between attempts to connect.
//!
//! Must not: wait.

use std::time::Duration;

use rand::RngExt as _;

use super::Timings;

/// A connection that was up for this long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// Full jitter over a bound that doubles, so that all clients of a restarted server do not come at once.
pub(super) struct Backoff {
    first: Duration,
    from: Duration,
    to: Duration,
    /// Attempts that failed in a row.
    failed: u32,
}

impl Backoff {
    pub(super) fn new(timings: &Timings) -> Self {
        Self { first: timings.first_retry, from: timings.retry_from, to: timings.retry_to, failed: 0 }
    }

    /// A connection is over; `up` says how long it was logged in.
    pub(super) fn ended(&mut self, up: Option<Duration>) {
        if up.is_some_and(|up| up >= GOOD) {
            self.failed = 0;
        }
    }

    /// The next wait is at most this.
    pub(super) fn bound(&mut self) -> Duration {
        let bound = match self.failed {
            0 => self.first,
            n => self.from.saturating_mul(1 << (n - 1).min(20)).min(self.to),
        };
        self.failed = self.failed.saturating_add(1);
        bound
    }

    pub(super) fn wait(&mut self) -> Duration {
        let bound = self.bound();
        // Half of it at least the first time, so that a server that is going down is not asked at once.
        let least = if self.failed == 1 { bound / 2 } else { Duration::ZERO };
        rand::rng().random_range(least..=bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(backoff: &mut Backoff, n: usize) -> Vec<u64> {
        (0..n).map(|_| backoff.bound().as_millis() as u64).collect()
    }

    #[test]
    fn the_first_retry_is_fast_and_the_last_ones_a_minute_apart() {
        let mut backoff = Backoff::new(&Timings::default());
        let expected = [250, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(bounds(&mut backoff, 9), expected);
    }

    #[test]
    fn only_a_connection_that_held_starts_over() {
        let mut backoff = Backoff::new(&Timings::default());
        bounds(&mut backoff, 3);
        backoff.ended(Some(Duration::from_secs(1)));
        assert_eq!(bounds(&mut backoff, 1), [4000]);
        backoff.ended(None);
        assert_eq!(bounds(&mut backoff, 1), [8000]);
        backoff.ended(Some(GOOD));
        assert_eq!(bounds(&mut backoff, 1), [250]);
    }

    #[test]
    fn no_wait_exceeds_its_bound() {
        let mut backoff = Backoff::new(&Timings::default());
        for _ in 0..200 {
            assert!(backoff.wait() <= Duration::from_secs(60));
        }
    }
}
