//! Rocket.Chat's rate limits: fixed windows that begin with their first call; refused calls count too.

use std::collections::HashMap;
use std::hash::Hash;

/// A window of `allowed` calls in `window_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub allowed: u32,
    pub window_ms: i64,
}

/// Counters by key, forgotten when their window is over.
#[derive(Debug)]
pub struct Windows<K> {
    open: HashMap<K, (i64, u32)>,
}

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Self { open: HashMap::new() }
    }
}

/// What one call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    pub passed: bool,
    pub remaining: u32,
    /// Milliseconds since the epoch.
    pub reset_at: i64,
}

/// More keys than this are never kept: the oldest windows go first.
const MOST_KEYS: usize = 10_000;

impl<K: Hash + Eq + Clone> Windows<K> {
    /// Counts a call.
    pub fn hit(&mut self, key: K, rule: Rule, now: i64) -> Hit {
        if self.open.len() >= MOST_KEYS {
            self.open.retain(|_, (end, _)| *end > now);
        }
        if self.open.len() >= MOST_KEYS {
            self.open.clear();
        }
        let window = self.open.entry(key).or_insert((now + rule.window_ms, 0));
        if window.0 <= now {
            *window = (now + rule.window_ms, 0);
        }
        window.1 = window.1.saturating_add(1);
        Hit {
            passed: window.1 <= rule.allowed,
            remaining: rule.allowed.saturating_sub(window.1),
            reset_at: window.0,
        }
    }
}

/// What a DDP call is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DdpKey {
    User(String),
    Connection(u64),
    UserName { user: String, sub: bool, name: String },
    ConnectionName { connection: u64, sub: bool, name: String },
    UserSend(String),
}

/// The limiter of methods and subscriptions.
#[derive(Debug, Default)]
pub struct DdpLimiter {
    windows: Windows<DdpKey>,
}

impl DdpLimiter {
    /// Milliseconds to wait as Rocket.Chat would tell them: an upper bound that may be far too long, since
    /// it is filled from the 60 s windows too when the rule of the user, not of the connection, refused.
    pub fn call(
        &mut self,
        connection: u64,
        user: Option<&str>,
        sub: bool,
        name: &str,
        send_many: bool,
        now: i64,
    ) -> Result<(), i64> {
        let minute = |allowed| Rule { allowed, window_ms: 60_000 };
        let by_connection = self.windows.hit(DdpKey::Connection(connection), minute(600), now);
        let by_user = user.map(|user| self.windows.hit(DdpKey::User(user.to_owned()), minute(1200), now));
        if !by_connection.passed {
            return Err(by_connection.reset_at - now);
        }
        if let Some(hit) = by_user.filter(|hit| !hit.passed) {
            return Err(hit.reset_at - now);
        }
        if name == "sendMessage" && !sub {
            if send_many {
                return Ok(());
            }
            let key = DdpKey::UserSend(user.unwrap_or_default().to_owned());
            let hit = self.windows.hit(key, Rule { allowed: 5, window_ms: 1000 }, now);
            return if hit.passed { Ok(()) } else { Err(hit.reset_at - now) };
        }
        let times = if name.starts_with("stream-") { 4 } else { 1 };
        let rule = |allowed: u32| Rule { allowed: allowed * times, window_ms: 10_000 * i64::from(times) };
        let name = name.to_owned();
        let of_connection =
            self.windows.hit(DdpKey::ConnectionName { connection, sub, name: name.clone() }, rule(10), now);
        let of_user = user.map(|user| {
            self.windows.hit(
                DdpKey::UserName { user: user.to_owned(), sub, name: name.clone() },
                rule(20),
                now,
            )
        });
        if of_user.is_some_and(|hit| !hit.passed) {
            return Err(by_connection.reset_at - now);
        }
        if of_connection.passed { Ok(()) } else { Err(of_connection.reset_at - now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_call_of_a_connection_is_refused_until_the_window_ends() {
        let mut limiter = DdpLimiter::default();
        for call in 0..10 {
            assert_eq!(limiter.call(1, Some("u"), false, "setReaction", false, call), Ok(()));
        }
        assert_eq!(limiter.call(1, Some("u"), false, "setReaction", false, 1000), Err(9000));
        assert_eq!(limiter.call(1, Some("u"), false, "setReaction", false, 10_000), Ok(()));
    }

    #[test]
    fn refused_calls_count_against_the_user_on_every_connection() {
        let mut limiter = DdpLimiter::default();
        for _ in 0..13 {
            let _ = limiter.call(1, Some("u"), false, "getRoomIdByNameOrId", false, 0);
        }
        let passed = (0..10)
            .filter(|_| limiter.call(2, Some("u"), false, "getRoomIdByNameOrId", false, 0).is_ok())
            .count();
        assert_eq!(passed, 7);
        let told = limiter.call(2, Some("u"), false, "getRoomIdByNameOrId", false, 1000);
        assert_eq!(told, Err(59_000), "an upper bound, far above the 9 s that are left");
    }

    #[test]
    fn streams_have_four_times_the_room_and_methods_do_not_count_against_subscriptions() {
        let mut limiter = DdpLimiter::default();
        let subs =
            (0..45).filter(|_| limiter.call(1, None, true, "stream-notify-room", false, 0).is_ok()).count();
        let methods =
            (0..45).filter(|_| limiter.call(1, None, false, "stream-notify-room", false, 0).is_ok()).count();
        assert_eq!((subs, methods), (40, 40));
    }

    #[test]
    fn five_messages_a_second_unless_many_are_allowed() {
        let mut limiter = DdpLimiter::default();
        let sent = |limiter: &mut DdpLimiter, many| {
            (0..30).filter(|_| limiter.call(1, Some("u"), false, "sendMessage", many, 0).is_ok()).count()
        };
        assert_eq!(sent(&mut limiter, false), 5);
        assert_eq!(sent(&mut limiter, true), 30);
    }
}
