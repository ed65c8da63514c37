//! Rocket.Chat's rate limits, learned from its answers, and the order in which calls wait for them.
//!
//! Must not: read a clock (every decision takes `now`; [`Limiter`] alone knows the timer), or trust a server's
//! waiting time beyond its window.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::waits::Waits;

/// Which of the calls that wait goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Approval requests, results, questions: what somebody waits for.
    High,
    #[default]
    Normal,
    /// Progress edits: the next one replaces this one.
    Low,
}

/// How far away a window's end is believed to be: one that is configured to last longer is asked again.
const MAX_TOLD_WAIT: Duration = Duration::from_secs(300);

/// Calls of one route at a time, once the server is known not to count them.
const PARALLEL: u32 = 16;

/// Calls of one route at a time, as long as nothing is known: few are lost if the limit turns out to be low.
const PROBING: u32 = 4;

/// One part in this many of each window is not for calls of low priority: what somebody waits for finds room
/// at any time in it.
const KEPT_FROM_LOW: u32 = 3;

/// Rocket.Chat's default limit per route, verb and address, and its window.
const DEFAULT_LIMIT: u32 = 10;
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);

/// What an answer says about the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateHeaders {
    /// Whether the call itself succeeded; refusals before the limiter carry no headers and mean nothing.
    pub success: bool,
    /// `X-RateLimit-Limit`. Absent for accounts that bypass the limit.
    pub limit: Option<u64>,
    /// `X-RateLimit-Remaining`
    pub remaining: Option<u64>,
    /// `X-RateLimit-Reset`: absolute, in milliseconds of the server's clock.
    pub reset_ms: Option<u64>,
    /// The server's clock at the answer, from `Date` (full seconds, rounded down).
    pub date_ms: Option<u64>,
}

impl RateHeaders {
    /// How long until the window ends. Up to a second too long, because `Date` has no fractions.
    fn until_reset(&self) -> Duration {
        match (self.reset_ms, self.date_ms) {
            (Some(reset), Some(date)) => Duration::from_millis(reset.saturating_sub(date)).min(MAX_TOLD_WAIT),
            _ => DEFAULT_WINDOW,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Knowledge {
    Unknown,
    /// The server does not count our calls.
    Bypass,
    Limited {
        limit: u32,
        /// The least that the server said remained in this window.
        remaining: u32,
        /// The end of the window; unknown until a call of the new window was answered.
        resets_at: Option<Duration>,
    },
}

/// The budget of one route and verb, and who waits for it. Times are since any fixed moment.
#[derive(Debug)]
pub struct Route<T> {
    knowledge: Knowledge,
    in_flight: u32,
    waiting: BTreeMap<(Priority, u64), T>,
    next: u64,
}

impl<T> Default for Route<T> {
    fn default() -> Self {
        Self { knowledge: Knowledge::Unknown, in_flight: 0, waiting: BTreeMap::new(), next: 0 }
    }
}

impl<T> Route<T> {
    /// Queues a call behind those of the same priority.
    pub fn enqueue(&mut self, priority: Priority, waiter: T) -> (Priority, u64) {
        let ticket = (priority, self.next);
        self.next += 1;
        self.waiting.insert(ticket, waiter);
        ticket
    }

    /// Gives up waiting.
    pub fn leave(&mut self, ticket: (Priority, u64)) -> Option<T> {
        self.waiting.remove(&ticket)
    }

    /// The next call that may go now; it is in flight from here on.
    pub fn next_ready(&mut self, now: Duration) -> Option<T> {
        let (first, _) = *self.waiting.first_key_value()?.0;
        if !self.has_room(now, first) {
            return None;
        }
        let (_, waiter) = self.waiting.pop_first()?;
        self.in_flight += 1;
        Some(waiter)
    }

    /// When it is worth asking [`Self::next_ready`] again, if nothing is answered before.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.knowledge {
            Knowledge::Limited { resets_at, .. } => resets_at,
            _ => None,
        }
    }

    fn has_room(&mut self, now: Duration, priority: Priority) -> bool {
        match &mut self.knowledge {
            Knowledge::Unknown => self.in_flight < PROBING,
            Knowledge::Bypass => self.in_flight < PARALLEL,
            Knowledge::Limited { limit, remaining, resets_at } => {
                if resets_at.is_some_and(|at| at <= now) {
                    (*remaining, *resets_at) = (*limit, None);
                }
                let kept = if priority == Priority::Low { *limit / KEPT_FROM_LOW } else { 0 };
                *remaining > self.in_flight + kept && self.in_flight < PARALLEL
            }
        }
    }

    /// A call in flight was answered.
    pub fn answered(&mut self, now: Duration, headers: &RateHeaders) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let (Some(limit), Some(left)) = (headers.limit, headers.remaining) else {
            if headers.success {
                self.knowledge = Knowledge::Bypass;
            }
            return;
        };
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (limit, left, wait) = (small(limit), small(left), headers.until_reset());
        if wait.is_zero() {
            return; // of a window that is over
        }
        let ends = now + wait;
        let same_window = match self.knowledge {
            Knowledge::Limited { resets_at: Some(at), .. } => at.abs_diff(ends) < Duration::from_secs(2),
            _ => false,
        };
        let remaining = match self.knowledge {
            Knowledge::Limited { remaining, .. } if same_window => remaining.min(left),
            _ => left,
        };
        let resets_at = match self.knowledge {
            Knowledge::Limited { resets_at: Some(at), .. } if same_window => at.max(ends),
            _ => ends,
        };
        self.knowledge = Knowledge::Limited { limit, remaining, resets_at: Some(resets_at) };
    }

    /// A call in flight got no answer; the server may have counted it.
    pub fn unanswered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Knowledge::Limited { remaining, .. } = &mut self.knowledge {
            *remaining = remaining.saturating_sub(1);
        }
    }

    /// A call was refused for its rate: nothing goes before the returned time is over. What the server tells is
    /// an upper bound, and can be far too long; the end of the window, as its headers gave it, is better known.
    pub fn refused(&mut self, now: Duration, told: Duration) -> Duration {
        let (limit, window) = match self.knowledge {
            Knowledge::Limited { limit, resets_at: Some(at), .. } if at > now => (limit, at - now),
            Knowledge::Limited { limit, .. } => (limit, DEFAULT_WINDOW),
            _ => (DEFAULT_LIMIT, DEFAULT_WINDOW),
        };
        let wait = told.min(window);
        self.knowledge = Knowledge::Limited { limit, remaining: 0, resets_at: Some(now + wait) };
        wait
    }
}

/// DDP's limits: so many calls in a fixed window, per connection and name (`stream-*`: 40 in 40 s, methods: 10 in
/// 10 s). Nobody lifts them for the `bot` role.
#[derive(Clone, Debug)]
pub struct Window {
    limit: u32,
    length: Duration,
    used: u32,
    ends: Option<Duration>,
}

impl Window {
    pub fn new(limit: u32, length: Duration) -> Self {
        Self { limit, length, used: 0, ends: None }
    }

    /// Takes one call out of the window, or says when to come back.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if self.ends.is_some_and(|ends| ends <= now) {
            (self.used, self.ends) = (0, None);
        }
        let ends = *self.ends.get_or_insert(now + self.length);
        if self.used >= self.limit {
            return Err(ends);
        }
        self.used += 1;
        Ok(())
    }

    /// The server refused. Its `timeToReset` is an upper bound: 58 s were told for a window of 10 s.
    pub fn refused(&mut self, now: Duration, told: Option<Duration>) {
        self.used = self.limit;
        self.ends = Some(now + told.unwrap_or(self.length).min(self.length));
    }
}

/// [`Route`]s by verb and route, with tasks waiting in them.
#[derive(Clone)]
pub struct Limiter {
    routes: Arc<Mutex<Routes>>,
    /// The end of a window became known, or another: whoever waits looks again when that is.
    changed: Arc<Notify>,
    waits: Waits,
    start: Instant,
}

type Key = (reqwest::Method, &'static str);
type Routes = HashMap<Key, Route<oneshot::Sender<Permit>>>;

impl Default for Limiter {
    fn default() -> Self {
        Self {
            routes: Arc::default(),
            changed: Arc::default(),
            waits: Waits::default(),
            start: Instant::now(),
        }
    }
}

impl Limiter {
    /// Waits for this call's turn; the error is how much longer it would take than `max_wait`.
    pub async fn admit(&self, key: &Key, priority: Priority, max_wait: Duration) -> Result<Permit, Duration> {
        let (sender, mut turn) = oneshot::channel();
        let ticket = self.lock().entry(key.clone()).or_default().enqueue(priority, sender);
        let place = Place { limiter: self, key, ticket };
        self.pump(key);
        if let Ok(permit) = turn.try_recv() {
            return Ok(permit);
        }
        let began = Instant::now();
        let admitted = self.queue(key, place, turn, max_wait).await;
        self.waits.waited(priority, began.elapsed());
        admitted
    }

    async fn queue(
        &self,
        key: &Key,
        place: Place<'_>,
        mut turn: oneshot::Receiver<Permit>,
        max_wait: Duration,
    ) -> Result<Permit, Duration> {
        let deadline = Instant::now() + max_wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look at the end of the window, or a change right after it is missed.
            changed.as_mut().enable();
            let wake = self.pump(key).map_or(deadline, |at| (self.start + at).min(deadline));
            tokio::select! {
                biased;
                permit = &mut turn => return permit.map_err(|_| Duration::ZERO),
                () = changed => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            if Instant::now() >= deadline {
                drop(place);
                // The turn may have come in the last moment.
                let wait = self.lock().get(key).and_then(Route::wake_at);
                return turn
                    .try_recv()
                    .map_err(|_| wait.map_or(DEFAULT_WINDOW, |at| at.saturating_sub(self.now())));
            }
        }
    }

    /// The server refused a call of this route for its rate; how long its calls wait now.
    pub fn refused(&self, key: &Key, told: Duration) -> Duration {
        let now = self.now();
        self.waits.refused();
        let wait = self.lock().entry(key.clone()).or_default().refused(now, told);
        self.changed.notify_waiters();
        wait
    }

    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Lets go all whose turn it is; when to come back if others still wait.
    fn pump(&self, key: &Key) -> Option<Duration> {
        let now = self.now();
        let mut routes = self.lock();
        let route = routes.get_mut(key)?;
        while let Some(waiter) = route.next_ready(now) {
            let permit = Permit { limiter: self.clone(), key: key.clone(), open: true };
            if let Err(mut unwanted) = waiter.send(permit) {
                unwanted.open = false;
                route.in_flight = route.in_flight.saturating_sub(1);
            }
        }
        route.wake_at()
    }

    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A place in the queue, given up when its task is cancelled.
struct Place<'a> {
    limiter: &'a Limiter,
    key: &'a Key,
    ticket: (Priority, u64),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(route) = self.limiter.lock().get_mut(self.key) {
            route.leave(self.ticket);
        }
    }
}

/// The right to make one call. Dropped without an answer: the call may have been counted.
pub struct Permit {
    limiter: Limiter,
    key: Key,
    open: bool,
}

impl Permit {
    /// The call was answered.
    pub fn answered(mut self, headers: &RateHeaders) {
        self.open = false;
        let now = self.limiter.now();
        if let Some(route) = self.limiter.lock().get_mut(&self.key) {
            let before = route.wake_at();
            route.answered(now, headers);
            if route.wake_at() != before {
                self.limiter.changed.notify_waiters();
            }
        }
        self.limiter.pump(&self.key);
    }

    /// The call got no answer.
    pub fn unanswered(self) {
        drop(self);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            if let Some(route) = self.limiter.lock().get_mut(&self.key) {
                route.unanswered();
            }
            self.limiter.pump(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that counts `limit` calls per minute, by a clock that is years away from ours.
    struct Server {
        limit: Option<u64>,
        used: u64,
        window: Duration,
    }

    const SERVER_CLOCK: u64 = 1_795_377_000_000;

    impl Server {
        fn new(limit: Option<u64>) -> Self {
            Self { limit, used: 0, window: Duration::ZERO }
        }

        /// Answers a call, or refuses it.
        fn call(&mut self, now: Duration) -> Result<RateHeaders, RateHeaders> {
            if now >= self.window + DEFAULT_WINDOW || self.used == 0 {
                (self.used, self.window) = (0, now);
            }
            self.used += 1;
            let Some(limit) = self.limit else {
                return Ok(RateHeaders { success: true, ..RateHeaders::default() });
            };
            let ms = |at: Duration| SERVER_CLOCK + u64::try_from(at.as_millis()).unwrap_or(0);
            let headers = RateHeaders {
                success: self.used <= limit,
                limit: Some(limit),
                remaining: Some(limit.saturating_sub(self.used)),
                reset_ms: Some(ms(self.window + DEFAULT_WINDOW)),
                date_ms: Some(ms(now) / 1000 * 1000),
            };
            if headers.success { Ok(headers) } else { Err(headers) }
        }
    }

    /// Lets calls go in rounds until none waits; who went when, and how many the server refused.
    fn drain(route: &mut Route<&'static str>, server: &mut Server) -> (Vec<(u64, &'static str)>, u32) {
        let (mut now, mut went, mut refused) = (Duration::from_millis(500), Vec::new(), 0);
        for _ in 0..1000 {
            let mut round = Vec::new();
            while let Some(call) = route.next_ready(now) {
                round.push(call);
            }
            for call in &round {
                went.push((now.as_secs(), *call));
                match server.call(now) {
                    Ok(headers) => route.answered(now, &headers),
                    Err(headers) => {
                        refused += 1;
                        route.answered(now, &headers);
                    }
                }
            }
            if route.waiting.is_empty() {
                break;
            }
            if round.is_empty() {
                now = route.wake_at().expect("somebody waits for a moment").max(now);
            }
        }
        (went, refused)
    }

    #[test]
    fn progress_leaves_a_part_of_each_window_to_what_somebody_waits_for() {
        let (mut route, mut server) = (Route::default(), Server::new(Some(10)));
        let now = Duration::from_millis(500);
        let mut edits = 0;
        for _ in 0..10 {
            let ticket = route.enqueue(Priority::Low, "edit");
            match route.next_ready(now) {
                Some(_) => {
                    edits += 1;
                    let headers = server.call(now).expect("within the limit");
                    route.answered(now, &headers);
                }
                None => drop(route.leave(ticket)),
            }
        }
        assert_eq!(edits, 7, "three are kept");
        for _ in 0..3 {
            route.enqueue(Priority::High, "card");
            assert_eq!(route.next_ready(now), Some("card"), "at once");
            let headers = server.call(now).expect("within the limit");
            route.answered(now, &headers);
        }
    }

    #[test]
    fn without_the_bypass_no_call_is_refused_and_each_window_is_used_up() {
        let (mut route, mut server) = (Route::default(), Server::new(Some(10)));
        (0..25).for_each(|_| {
            route.enqueue(Priority::Normal, "call");
        });
        let (went, refused) = drain(&mut route, &mut server);
        assert_eq!(refused, 0);
        let seconds: Vec<u64> = went.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds[..10], [0; 10]);
        assert!(seconds[10..20].iter().all(|second| (60..=61).contains(second)), "{seconds:?}");
        assert!(seconds[20..].iter().all(|second| (120..=122).contains(second)), "{seconds:?}");
    }

    #[test]
    fn with_the_bypass_nothing_waits_for_time() {
        let (mut route, mut server) = (Route::default(), Server::new(None));
        (0..300).for_each(|_| {
            route.enqueue(Priority::Normal, "call");
        });
        let (went, _) = drain(&mut route, &mut server);
        assert_eq!(went.len(), 300);
        assert!(went.iter().all(|(second, _)| *second == 0));
    }

    #[test]
    fn few_calls_go_before_anything_is_known_and_many_at_once_after() {
        let mut route = Route::default();
        (0..100).for_each(|_| {
            route.enqueue(Priority::Normal, "call");
        });
        let ready =
            |route: &mut Route<&'static str>| std::iter::from_fn(|| route.next_ready(Duration::ZERO)).count();
        assert_eq!(ready(&mut route), 4);
        route.answered(Duration::ZERO, &RateHeaders { success: true, ..RateHeaders::default() });
        assert_eq!(ready(&mut route), 13);
    }

    #[test]
    fn what_people_wait_for_goes_before_progress() {
        let (mut route, mut server) = (Route::default(), Server::new(Some(2)));
        route.refused(Duration::ZERO, Duration::from_secs(5));
        for (priority, call) in [
            (Priority::Low, "edit 1"),
            (Priority::Normal, "answer"),
            (Priority::Low, "edit 2"),
            (Priority::High, "approval"),
            (Priority::High, "result"),
        ] {
            route.enqueue(priority, call);
        }
        let order: Vec<_> = drain(&mut route, &mut server).0.into_iter().map(|(_, call)| call).collect();
        assert_eq!(order, ["approval", "result", "answer", "edit 1", "edit 2"]);
    }

    #[test]
    fn a_refusal_stops_all_until_its_time_is_over_but_never_for_long() {
        let mut route = Route::default();
        route.enqueue(Priority::High, "call");
        route.refused(Duration::ZERO, Duration::from_secs(53));
        assert_eq!(route.next_ready(Duration::from_secs(52)), None);
        assert_eq!(route.wake_at(), Some(Duration::from_secs(53)));
        assert_eq!(route.next_ready(Duration::from_secs(53)), Some("call"));
        // Servers have told far more than their window.
        let mut route: Route<&str> = Route::default();
        assert_eq!(route.refused(Duration::ZERO, Duration::from_secs(290)), DEFAULT_WINDOW);
        assert_eq!(route.wake_at(), Some(DEFAULT_WINDOW));
        // A window of ten seconds, by the headers, of which seven are left.
        let mut route: Route<&str> = Route::default();
        let headers = RateHeaders {
            limit: Some(10),
            remaining: Some(0),
            reset_ms: Some(17_000),
            date_ms: Some(10_000),
            ..RateHeaders::default()
        };
        route.answered(Duration::ZERO, &headers);
        assert_eq!(route.refused(Duration::ZERO, Duration::from_secs(58)), Duration::from_secs(7));
        // One of five minutes that an administrator has set is waited for.
        let mut route: Route<&str> = Route::default();
        route.answered(Duration::ZERO, &RateHeaders { reset_ms: Some(250_000), ..headers });
        assert_eq!(route.refused(Duration::ZERO, Duration::from_secs(240)), Duration::from_secs(240));
    }

    #[test]
    fn a_refused_login_says_nothing_about_the_limit() {
        let mut route: Route<()> = Route::default();
        route.answered(Duration::ZERO, &RateHeaders::default());
        assert!(matches!(route.knowledge, Knowledge::Unknown));
    }

    #[test]
    fn ddp_windows_are_fixed_and_a_told_time_is_an_upper_bound() {
        let (start, length) = (Duration::from_secs(7), Duration::from_secs(10));
        let mut window = Window::new(2, length);
        assert_eq!(window.take(start), Ok(()));
        assert_eq!(window.take(start + Duration::from_secs(9)), Ok(()));
        assert_eq!(window.take(start + Duration::from_secs(9)), Err(start + length));
        assert_eq!(window.take(start + length), Ok(()));
        window.refused(start + length, Some(Duration::from_millis(58_881)));
        assert_eq!(window.take(start + length), Err(start + length + length));
        window.refused(start, Some(Duration::from_secs(1)));
        assert_eq!(window.take(start), Err(start + Duration::from_secs(1)));
    }

    const KEY: Key = (reqwest::Method::POST, "chat.sendMessage");

    #[tokio::test(start_paused = true)]
    async fn a_call_that_would_wait_too_long_is_told_how_long() {
        let limiter = Limiter::default();
        limiter.refused(&KEY, Duration::from_secs(50));
        let wait =
            limiter.admit(&KEY, Priority::High, Duration::from_secs(10)).await.err().expect("too long");
        assert_eq!(wait, Duration::from_secs(40));
        assert!(limiter.admit(&KEY, Priority::High, Duration::from_secs(41)).await.is_ok());
        let waited = limiter.waits().so_far(Priority::High);
        assert_eq!((waited.calls, waited.time.as_secs(), limiter.waits().refusals()), (2, 50, 1));
        assert_eq!(limiter.waits().so_far(Priority::Low).calls, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_since_before_the_end_of_the_window_was_known_goes_at_its_end() {
        let limiter = Limiter::default();
        let mut open = Vec::new();
        for _ in 0..PROBING {
            open.push(limiter.admit(&KEY, Priority::High, DEFAULT_WINDOW).await.expect("room"));
        }
        let begun = Instant::now();
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.admit(&KEY, Priority::High, Duration::from_secs(70)).await.is_ok() }
        });
        tokio::task::yield_now().await;
        let headers = RateHeaders {
            success: true,
            limit: Some(4),
            remaining: Some(0),
            reset_ms: Some(13_000),
            date_ms: Some(10_000),
        };
        for permit in open {
            permit.answered(&headers);
        }
        assert!(waiting.await.expect("no panic"), "it is not given up");
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_leaves_no_hole() {
        let limiter = Limiter::default();
        let mut open = Vec::new();
        for _ in 0..PROBING {
            open.push(limiter.admit(&KEY, Priority::Normal, DEFAULT_WINDOW).await.expect("room"));
        }
        let gave_up = tokio::time::timeout(
            Duration::from_millis(1),
            limiter.admit(&KEY, Priority::High, DEFAULT_WINDOW),
        );
        assert!(gave_up.await.is_err());
        drop(open.pop());
        let next = limiter.admit(&KEY, Priority::Low, Duration::from_millis(1)).await;
        assert!(next.is_ok(), "the place of the one that gave up is free");
    }
}
