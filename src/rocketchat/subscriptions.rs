//! The subscriptions that we want, over all connections: which are sent, which wait for the rate limit.
//!
//! Must not: touch a socket or read a clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::budget::Window;
use super::error::DdpError;

/// Rocket.Chat allows 40 subscriptions of one stream in 40 s per connection, 80 per user; refused ones count.
/// A few are left for other programs that use the account.
const PER_CONNECTION: u32 = 36;
const PER_USER: u32 = 72;
const WINDOW: Duration = Duration::from_secs(40);

/// Before a subscription that failed for another reason is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A stream's name and the event in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub stream: &'static str,
    pub event: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// In the queue, or delayed.
    Waiting,
    Asked(String),
    Ready(String),
    /// The server will not give it; asked for again on the next connection.
    Refused,
}

/// All that is wanted.
#[derive(Default)]
pub struct Subscriptions {
    /// In the order in which they were wanted, which is the order after a reconnect.
    wanted: Vec<Key>,
    states: HashMap<Key, State>,
    by_id: HashMap<String, Key>,
    queue: VecDeque<Key>,
    delayed: BTreeMap<(Duration, u64), Key>,
    next_delay: u64,
    connection: HashMap<&'static str, Window>,
    user: HashMap<&'static str, Window>,
}

impl Subscriptions {
    /// Wants a subscription from now on; wanting it twice is wanting it once.
    pub fn want(&mut self, key: Key) {
        match self.states.get(&key) {
            Some(State::Refused) => {}
            Some(_) => return,
            None => self.wanted.push(key.clone()),
        }
        self.states.insert(key.clone(), State::Waiting);
        self.queue.push_back(key);
    }

    /// Wants it no longer; the id to end, if the server knows of it.
    pub fn forget(&mut self, key: &Key) -> Option<String> {
        self.wanted.retain(|wanted| wanted != key);
        self.queue.retain(|queued| queued != key);
        self.delayed.retain(|_, delayed| delayed != key);
        match self.states.remove(key)? {
            State::Asked(id) | State::Ready(id) => {
                self.by_id.remove(&id);
                Some(id)
            }
            State::Waiting | State::Refused => None,
        }
    }

    /// A new connection: nothing is subscribed.
    pub fn reset(&mut self) {
        self.by_id.clear();
        self.delayed.clear();
        self.connection.clear();
        self.queue = self.wanted.iter().cloned().collect();
        self.states = self.wanted.iter().map(|key| (key.clone(), State::Waiting)).collect();
    }

    /// The next one whose turn it is. Answer with [`Self::asked`].
    pub fn next_due(&mut self, now: Duration) -> Option<Key> {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.queue.push_back(entry.remove());
        }
        while let Some(key) = self.queue.pop_front() {
            let connection =
                self.connection.entry(key.stream).or_insert_with(|| Window::new(PER_CONNECTION, WINDOW));
            let user = self.user.entry(key.stream).or_insert_with(|| Window::new(PER_USER, WINDOW));
            match connection.take(now).and_then(|()| user.take(now)) {
                Ok(()) => return Some(key),
                Err(at) => self.delay(key, at),
            }
        }
        None
    }

    /// When [`Self::next_due`] is worth asking again.
    pub fn next_timer(&self) -> Option<Duration> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    /// It was asked for under this id.
    pub fn asked(&mut self, key: &Key, id: &str) {
        self.by_id.insert(id.to_owned(), key.clone());
        self.states.insert(key.clone(), State::Asked(id.to_owned()));
    }

    /// The server confirmed it.
    pub fn ready(&mut self, id: &str) -> Option<&Key> {
        let key = self.by_id.get(id)?;
        self.states.insert(key.clone(), State::Ready(id.to_owned()));
        Some(key)
    }

    /// The server refused or ended it; tried again later if that makes sense.
    pub fn refused(&mut self, now: Duration, id: &str, retryable: bool, error: &DdpError) -> Option<Key> {
        let key = self.by_id.remove(id)?;
        self.states.insert(key.clone(), if retryable { State::Waiting } else { State::Refused });
        if error.is_rate_limit() {
            let window =
                self.connection.entry(key.stream).or_insert_with(|| Window::new(PER_CONNECTION, WINDOW));
            window.refused(now, error.time_to_reset);
            self.queue.push_back(key.clone());
        } else if retryable {
            self.delay(key.clone(), now + RETRY);
        }
        Some(key)
    }

    /// Whether the server confirmed it.
    pub fn is_ready(&self, key: &Key) -> bool {
        matches!(self.states.get(key), Some(State::Ready(_)))
    }

    fn delay(&mut self, key: Key, until: Duration) {
        self.delayed.insert((until, self.next_delay), key);
        self.next_delay += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn key(n: usize) -> Key {
        Key { stream: "stream-notify-room", event: format!("r{n}/deleteMessage") }
    }

    fn ask_all_due(subs: &mut Subscriptions, now: Duration) -> Vec<Key> {
        let mut due = Vec::new();
        while let Some(key) = subs.next_due(now) {
            subs.asked(&key, &format!("{}-{}", due.len(), now.as_millis()));
            due.push(key);
        }
        due
    }

    #[test]
    fn sixty_rooms_are_watched_without_tripping_the_limit() {
        let mut subs = Subscriptions::default();
        (0..60).for_each(|n| subs.want(key(n)));
        let first = ask_all_due(&mut subs, START);
        assert_eq!(first, (0..36).map(key).collect::<Vec<_>>());
        assert_eq!(subs.next_timer(), Some(START + WINDOW));
        assert_eq!(ask_all_due(&mut subs, START + WINDOW - Duration::from_millis(1)), []);
        assert_eq!(ask_all_due(&mut subs, START + WINDOW).len(), 24);
    }

    #[test]
    fn wanting_twice_asks_once() {
        let mut subs = Subscriptions::default();
        subs.want(key(1));
        subs.want(key(1));
        assert_eq!(ask_all_due(&mut subs, START).len(), 1);
        subs.want(key(1));
        assert_eq!(ask_all_due(&mut subs, START).len(), 0);
    }

    #[test]
    fn a_reconnect_asks_for_all_again_in_order() {
        let mut subs = Subscriptions::default();
        (0..3).for_each(|n| subs.want(key(n)));
        ask_all_due(&mut subs, START);
        subs.forget(&key(1));
        subs.reset();
        assert_eq!(ask_all_due(&mut subs, START), [key(0), key(2)]);
    }

    #[test]
    fn the_told_waiting_time_is_only_an_upper_bound() {
        let mut subs = Subscriptions::default();
        subs.want(key(0));
        let due = subs.next_due(START).expect("due");
        subs.asked(&due, "1");
        let error = DdpError {
            code: "too-many-requests".into(),
            reason: String::new(),
            time_to_reset: Some(Duration::from_secs(500)),
        };
        subs.refused(START, "1", true, &error);
        assert_eq!(subs.next_due(START), None);
        assert_eq!(subs.next_timer(), Some(START + WINDOW));
        assert_eq!(subs.next_due(START + WINDOW), Some(key(0)));
    }

    #[test]
    fn what_is_not_allowed_is_not_asked_again_on_this_connection() {
        let mut subs = Subscriptions::default();
        subs.want(key(0));
        ask_all_due(&mut subs, START);
        let id = format!("0-{}", START.as_millis());
        subs.refused(START, &id, false, &DdpError::local("not-allowed", "no"));
        assert_eq!(subs.next_due(START + WINDOW), None);
        assert_eq!(subs.next_timer(), None);
        subs.reset();
        assert_eq!(subs.next_due(START + WINDOW), Some(key(0)));
    }

    #[test]
    fn forgetting_tells_the_id_to_end() {
        let mut subs = Subscriptions::default();
        subs.want(key(0));
        subs.want(key(1));
        let due = subs.next_due(START).expect("due");
        subs.asked(&due, "7");
        assert!(subs.ready("7").is_some());
        assert_eq!(subs.forget(&key(0)), Some("7".to_owned()));
        assert_eq!(subs.forget(&key(1)), None);
        assert_eq!(subs.next_due(START), None);
    }
}
