//! How many commands a person may give in a minute: a bucket of tokens each, refilled evenly.
//!
//! Must not: read the time or answer.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::ids::UserId;

/// Buckets by person. Bounded: who has a full bucket is forgotten.
#[derive(Debug)]
pub struct RateLimit {
    per_minute: u32,
    buckets: HashMap<UserId, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
    told: bool,
}

/// Refused until the bucket has filled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFast {
    pub retry_after: Duration,
    /// Whether to say so: only once until commands are taken again, or the refusals are a flood themselves.
    pub tell: bool,
}

/// Above it, full buckets are dropped.
const MANY: usize = 1024;

impl RateLimit {
    /// `per_minute` is also how many may come at once; 0 takes none.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: HashMap::new() }
    }

    pub fn take(&mut self, who: &UserId, now: Timestamp) -> Result<(), TooFast> {
        let most = f64::from(self.per_minute);
        if self.buckets.len() >= MANY && !self.buckets.contains_key(who) {
            self.buckets.retain(|_, b| b.refilled(now, most) < most);
        }
        let bucket = self.buckets.entry(who.clone()).or_insert(Bucket { tokens: most, at: now, told: false });
        bucket.tokens = bucket.refilled(now, most);
        // Also when the clock was set back: a bucket never waits for a time that was.
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            bucket.told = false;
            return Ok(());
        }
        let wait = if self.per_minute == 0 { 60.0 } else { (1.0 - bucket.tokens) * 60.0 / most };
        let tell = !std::mem::replace(&mut bucket.told, true);
        Err(TooFast { retry_after: Duration::from_secs_f64(wait), tell })
    }
}

impl Bucket {
    fn refilled(&self, now: Timestamp, most: f64) -> f64 {
        let elapsed = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        (self.tokens + elapsed.as_secs_f64() * most / 60.0).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("in range")
    }

    #[test]
    fn a_burst_is_taken_up_to_the_limit_and_refilled_evenly() {
        let mut limit = RateLimit::new(60);
        let (ann, bob) = (UserId::from("ann"), UserId::from("bob"));
        for _ in 0..60 {
            assert_eq!(limit.take(&ann, at(0)), Ok(()));
        }
        let refused = limit.take(&ann, at(0)).expect_err("the bucket is empty");
        assert!(refused.tell && refused.retry_after <= Duration::from_secs(1));
        assert!(!limit.take(&ann, at(0)).expect_err("still empty").tell, "said once");
        assert_eq!(limit.take(&bob, at(0)), Ok(()), "others have buckets of their own");
        assert_eq!(limit.take(&ann, at(1)), Ok(()));
        assert!(limit.take(&ann, at(1)).expect_err("one second is one token").tell);
    }

    #[test]
    fn a_clock_set_back_blocks_nobody_for_long() {
        let mut limit = RateLimit::new(1);
        let ann = UserId::from("ann");
        assert_eq!(limit.take(&ann, at(0)), Ok(()));
        assert!(limit.take(&ann, at(-100_000)).is_err());
        assert_eq!(limit.take(&ann, at(-99_940)), Ok(()));
    }

    #[test]
    fn memory_stays_bounded() {
        let mut limit = RateLimit::new(60);
        for i in 0..(MANY as i64 * 4) {
            let _ = limit.take(&UserId::from(format!("u{i}")), at(i * 2));
        }
        assert!(limit.buckets.len() <= MANY + 1);
    }
}
