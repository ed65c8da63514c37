//! The only place that asks the system for the time; everything else is told.
//!
//! A [`Clock`] is either the machine's or a test's. A test's clock stands still until it is advanced,
//! and wakes whoever sleeps on it, so that an approval's half hour passes in no time at all.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System,
    Manual(Arc<watch::Sender<Moment>>),
}

/// What a test's clock shows, and how long it has really run.
#[derive(Clone, Copy)]
struct Moment {
    shown: Timestamp,
    passed: Duration,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] or [`Clock::set`].
    pub fn manual(start: Timestamp) -> Self {
        Self(Kind::Manual(Arc::new(watch::Sender::new(Moment { shown: start, passed: Duration::ZERO }))))
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that may")]
            Kind::System => Timestamp::now(),
            Kind::Manual(now) => now.borrow().shown,
        }
    }

    /// Returns once `now() >= at`. Follows jumps of a manual clock; a system clock that is set back or
    /// forth is looked at again at least once a minute.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &self.0 {
            Kind::System => loop {
                let left = at.duration_since(self.now());
                match Duration::try_from(left) {
                    Ok(left) if !left.is_zero() => {
                        tokio::time::sleep(left.min(Duration::from_secs(60))).await;
                    }
                    _ => return,
                }
            },
            Kind::Manual(now) => {
                let mut now = now.subscribe();
                // The sender lives as long as this clock, so the wait ends only by the condition.
                let _ = now.wait_for(|now| now.shown >= at).await;
            }
        }
    }

    /// Returns when so much time has passed, whatever the clock was set to meanwhile.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Kind::System => tokio::time::sleep(duration).await,
            Kind::Manual(now) => {
                let mut now = now.subscribe();
                let end = now.borrow().passed.saturating_add(duration);
                let _ = now.wait_for(|now| now.passed >= end).await;
            }
        }
    }

    /// Moves a manual clock. Panics on the machine's clock: only tests call it.
    pub fn advance(&self, by: Duration) {
        let Kind::Manual(now) = &self.0 else { panic!("only a manual clock can be advanced") };
        now.send_modify(|now| {
            now.shown = now.shown.checked_add(by).unwrap_or(Timestamp::MAX);
            now.passed = now.passed.saturating_add(by);
        });
    }

    /// Sets a manual clock, also back: it shows another time, and none has passed. Panics on the machine's clock.
    pub fn set(&self, to: Timestamp) {
        let Kind::Manual(now) = &self.0 else { panic!("only a manual clock can be set") };
        now.send_modify(|now| now.shown = to);
    }
}

/// How long this machine has been up, the time included that it was suspended: what no clock's being set changes,
/// and what a laptop that slept does not forget. Only differences mean anything.
pub fn uptime() -> Duration {
    let read = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    read.expect("every Linux has this clock").into()
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::System => f.write_str("Clock::system"),
            Kind::Manual(now) => write!(f, "Clock::manual({})", now.borrow().shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_a_manual_clock_passes_their_time() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(1800)).await }
        });
        clock.advance(Duration::from_secs(1799));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        // The sleeper may have subscribed before or after the first step; either way 31 minutes suffice.
        clock.advance(Duration::from_secs(1861));
        sleeper.await.expect("the sleeper ends");
    }
}
