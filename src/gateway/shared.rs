//! What the listener, the watcher and [`super::Chat`] share.
//!
//! Must not: hold a lock across an await.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::doc::Names;
use super::events::{Actor, Event, Room};
use super::people::People;
use super::reactions::{Difference, Known, Watched};
use super::recent::Recent;
use super::watcher::Due;
use super::{Health, Ledger, Load, Priority, Timings};
use crate::clock::Clock;
use crate::ids::{MessageId, RoomId, UserId};
use crate::rocketchat::{Realtime, Rest, budget};
use crate::secret::Redactor;
use crate::store::{Batch, Store, Tree};

/// Last texts kept, so that an edit to the same text is not sent.
const EDITS: usize = 1024;

/// The server's clock is told in whole seconds; a smaller difference is none.
const CLOCKS_AGREE: i64 = 1500;

/// What it is made of.
pub struct Fixed {
    pub rest: Rest,
    pub realtime: Realtime,
    pub redactor: Redactor,
    pub store: Store,
    pub clock: Clock,
    pub ledger: Ledger,
    pub timings: Timings,
    /// Emoji that can mean anything.
    pub meant: fn(&str) -> bool,
    /// Only looked at: it keeps no receiver waiting.
    pub events: mpsc::WeakSender<Event>,
}

pub struct Shared {
    fixed: Fixed,
    pub people: People,
    /// Asks everything to end.
    pub stop: CancellationToken,
    /// Everything has ended and is written.
    pub stopped: CancellationToken,
    status: Mutex<Status>,
    watches: Mutex<HashMap<MessageId, Watched>>,
    due: Due,
    /// Rooms whose deletions are heard.
    heard: Mutex<HashSet<RoomId>>,
    rooms: Mutex<HashMap<RoomId, Room>>,
    directs: Mutex<HashMap<UserId, RoomId>>,
    last_texts: Mutex<Recent<u64>>,
    max_message_len: AtomicUsize,
    server_clock: ServerClock,
}

/// How far the server's clock is from ours. Told anew with each of its answers, since either may be set.
#[derive(Clone)]
struct ServerClock {
    ours: Clock,
    /// Milliseconds by which the server's is ahead.
    ahead: Arc<AtomicI64>,
}

impl ServerClock {
    fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.ahead.load(Ordering::Relaxed));
        let now = self.ours.now();
        now.checked_add(ahead).unwrap_or(now)
    }

    /// What it calls `at`, by ours.
    fn by_ours(&self, at: Timestamp) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.ahead.load(Ordering::Relaxed));
        at.checked_sub(ahead).unwrap_or(at)
    }

    /// It stands at `server` now.
    fn is(&self, server: Timestamp) {
        let ahead = server.duration_since(self.ours.now()).as_millis();
        let ahead = i64::try_from(ahead).unwrap_or_default();
        let ahead = if ahead.abs() <= CLOCKS_AGREE { 0 } else { ahead };
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

/// How the connection is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Stays after the first login.
    pub me: Option<Actor>,
    /// Where the server shows real names: ours.
    pub displayed_name: Option<String>,
    pub online: bool,
    pub caught_up: bool,
}

impl std::ops::Deref for Shared {
    type Target = Fixed;
    fn deref(&self) -> &Fixed {
        &self.fixed
    }
}

impl Shared {
    pub fn new(fixed: Fixed) -> Self {
        let server_clock = ServerClock { ours: fixed.clock.clone(), ahead: Arc::default() };
        let told = server_clock.clone();
        fixed.rest.tell_clock(move |server| told.is(server));
        Self {
            fixed,
            people: People::default(),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
            status: Mutex::default(),
            watches: Mutex::default(),
            due: Due::default(),
            heard: Mutex::default(),
            rooms: Mutex::default(),
            directs: Mutex::default(),
            last_texts: Mutex::new(Recent::new(EDITS)),
            max_message_len: AtomicUsize::new(5000),
            server_clock,
        }
    }

    pub fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }

    pub fn health(&self) -> Health {
        let status = self.status();
        Health {
            online: status.online,
            caught_up: status.caught_up,
            last_frame_age: self.realtime.last_frame_age(),
            silence: self.timings.silence,
        }
    }

    pub fn load(&self) -> Load {
        let waits = self.rest.waits();
        let events = self.events.upgrade();
        Load {
            traffic: self.realtime.traffic(),
            waits: [
                (Priority::Urgent, waits.so_far(budget::Priority::High)),
                (Priority::Normal, waits.so_far(budget::Priority::Normal)),
                (Priority::Progress, waits.so_far(budget::Priority::Low)),
            ],
            rate_refusals: waits.refusals(),
            waiting: events.map_or(0, |events| events.max_capacity() - events.capacity()),
        }
    }

    /// By the server's clock.
    pub fn server_now(&self) -> Timestamp {
        self.server_clock.now()
    }

    /// What the server's clock calls `at`, by Houston's.
    pub fn by_our_clock(&self, at: Timestamp) -> Timestamp {
        self.server_clock.by_ours(at)
    }

    pub fn max_message_len(&self) -> usize {
        self.max_message_len.load(Ordering::Relaxed)
    }

    pub fn set_max_message_len(&self, units: usize) {
        self.max_message_len.store(units, Ordering::Relaxed);
    }

    pub fn room(&self, id: &RoomId) -> Option<Room> {
        lock(&self.rooms).get(id).cloned()
    }

    /// Returns whether something about the room is new.
    pub fn set_room(&self, room: &Room) -> bool {
        let mut rooms = lock(&self.rooms);
        if rooms.get(&room.id) == Some(room) {
            return false;
        }
        rooms.insert(room.id.clone(), room.clone());
        true
    }

    pub fn forget_room(&self, id: &RoomId) {
        lock(&self.rooms).remove(id);
        lock(&self.directs).retain(|_, room| room != id);
    }

    pub fn direct_with(&self, user: &UserId) -> Option<RoomId> {
        lock(&self.directs).get(user).cloned()
    }

    pub fn set_direct_with(&self, user: &UserId, room: &RoomId) {
        lock(&self.directs).insert(user.clone(), room.clone());
    }

    /// Hash of the text that a message was given last.
    pub fn last_text(&self, message: &MessageId) -> Option<u64> {
        lock(&self.last_texts).get_mut(message).copied()
    }

    pub fn set_last_text(&self, message: &MessageId, hash: u64) {
        lock(&self.last_texts).insert(message.clone(), hash);
    }

    pub fn watch(&self, room: &RoomId, message: &MessageId) {
        {
            let mut watches = lock(&self.watches);
            if watches.contains_key(message) {
                return;
            }
            let key = message.as_str().as_bytes();
            let known = self.store.get::<Known>(Tree::Watches, key).unwrap_or_else(|error| {
                tracing::error!(%error, message.id = %message, "who reacted before is not known; names are looked up anew");
                None
            });
            watches.insert(message.clone(), Watched::new(room.clone(), known.unwrap_or_default()));
        }
        self.hear_deletions();
        self.due.add([message.clone()]);
    }

    pub fn unwatch(&self, message: &MessageId) {
        if lock(&self.watches).remove(message).is_some() {
            let mut batch = Batch::new();
            batch.delete(Tree::Watches, message.as_str().as_bytes());
            self.write(batch);
            self.hear_deletions();
        }
    }

    /// There is no stream of all deletions: one is heard per room with a watched message.
    pub fn hear_deletions(&self) {
        let wanted: HashSet<RoomId> = lock(&self.watches).values().map(|w| w.room.clone()).collect();
        let mut heard = lock(&self.heard);
        for room in wanted.difference(&heard) {
            self.realtime.watch_room(room.as_str());
        }
        for room in heard.difference(&wanted) {
            self.realtime.unwatch_room(room.as_str());
        }
        *heard = wanted;
    }

    /// Houston is not in this room any more.
    pub fn stop_hearing(&self, room: &RoomId) {
        if lock(&self.heard).remove(room) {
            self.realtime.unwatch_room(room.as_str());
        }
    }

    pub fn watched(&self) -> Vec<MessageId> {
        lock(&self.watches).keys().cloned().collect()
    }

    pub fn watched_in(&self, room: &RoomId) -> Vec<MessageId> {
        let watches = lock(&self.watches);
        watches.iter().filter(|(_, w)| w.room == *room).map(|(id, _)| id.clone()).collect()
    }

    pub fn watched_room(&self, message: &MessageId) -> Option<RoomId> {
        lock(&self.watches).get(message).map(|watched| watched.room.clone())
    }

    /// These watched messages have to be read again.
    pub fn read_again(&self, messages: impl IntoIterator<Item = MessageId>) {
        self.due.add(messages);
    }

    pub async fn due(&self) -> Vec<MessageId> {
        self.due.take().await
    }

    /// Of the reactions to a message those that can mean anything.
    pub fn that_mean_anything(&self, names: &Names) -> Names {
        let meant = names.iter().filter(|(emoji, _)| (self.meant)(emoji));
        meant.map(|(emoji, names)| (emoji.clone(), names.clone())).collect()
    }

    /// A frame of one of Houston's own messages shows these names.
    pub fn glimpse(&self, message: &MessageId, names: &Names) {
        let mut watches = lock(&self.watches);
        let Some(watched) = watches.get_mut(message) else { return };
        let look = watched.glimpse(&self.that_mean_anything(names));
        drop(watches);
        if look {
            self.due.add([message.clone()]);
        }
    }

    pub fn known_reactions(&self, message: &MessageId) -> Option<Known> {
        lock(&self.watches).get(message).map(|watched| watched.known.clone())
    }

    pub fn names_to_look_up(&self, message: &MessageId, names: &Names) -> BTreeSet<String> {
        let watches = lock(&self.watches);
        let Some(watched) = watches.get(message) else { return BTreeSet::new() };
        let mut unknown = watched.known.unresolved(names);
        unknown.extend(watched.known.unresolved(watched.glimpsed()));
        unknown
    }

    /// The message was read again and shows `names`; `None` when it is not watched any more.
    pub fn settle(
        &self,
        message: &MessageId,
        names: &Names,
        ids: &HashMap<String, UserId>,
        me: &UserId,
    ) -> Option<Difference> {
        let mut watches = lock(&self.watches);
        let watched = watches.get_mut(message)?;
        let before = watched.known.clone();
        let difference = watched.settle(names, ids, me);
        if watched.known != before {
            let mut batch = Batch::new();
            batch.put(Tree::Watches, message.as_str().as_bytes(), &watched.known);
            // Under the lock, so that an `unwatch` at the same time is not undone.
            self.write(batch);
        }
        Some(difference)
    }

    /// Lazily: what is lost with the power is looked up again.
    pub fn write(&self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.store.apply(batch) {
            tracing::error!(%error, "how far rooms were read cannot be written");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A while before `at`.
pub fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
