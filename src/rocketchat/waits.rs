//! How often and how long calls waited for the rate limit: numbers for whoever watches.
//!
//! Must not: decide anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::budget::Priority;

/// Since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    pub calls: u64,
    pub time: Duration,
}

/// Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    of: [Of; 3],
    refusals: AtomicU64,
}

#[derive(Debug, Default)]
struct Of {
    calls: AtomicU64,
    micros: AtomicU64,
}

impl Waits {
    fn of(&self, priority: Priority) -> &Of {
        let [high, normal, low] = &self.0.of;
        match priority {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        }
    }

    /// A call waited so long, whether it went then or gave up.
    pub fn waited(&self, priority: Priority, time: Duration) {
        let of = self.of(priority);
        of.calls.fetch_add(1, Ordering::Relaxed);
        of.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The server refused a call.
    pub fn refused(&self) {
        self.0.refusals.fetch_add(1, Ordering::Relaxed);
    }

    pub fn so_far(&self, priority: Priority) -> Waited {
        let of = self.of(priority);
        let time = Duration::from_micros(of.micros.load(Ordering::Relaxed));
        Waited { calls: of.calls.load(Ordering::Relaxed), time }
    }

    pub fn refusals(&self) -> u64 {
        self.0.refusals.load(Ordering::Relaxed)
    }
}
