//! Which messages were dealt with: durable, by message id, never by time.
//!
//! A message that was handed out and not marked yet holds its room's cursor back, so that it is found
//! again after a crash. Must not: decide what dealing with a message means, or keep a record of what people say to
//! each other: in a busy workspace that is nearly everything, and it would be kept for thirty days.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::ids::{MessageId, RoomId};
use crate::store::{Batch, Store, StoreError, Tree};

use super::recent::Recent;
use super::shared::earlier;

/// Entries older than this are dropped by [`Ledger::prune`], unless [`Ledger::keep_for`] says otherwise; so did every
/// Houston that did not write down what it had dropped.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// In [`Tree::Meta`]: entries of before were dropped.
const DROPPED_TO: &[u8] = b"marks_dropped_to";

/// What was said so lately is never taken for older than what was dropped: a clock that was set on for a while makes
/// nobody unheard.
const HEARD: Duration = Duration::from_secs(24 * 3600);

/// Entries that are dropped at once.
const AT_ONCE: usize = 1000;

/// A consumer that never marks what it was given must not hold a cursor back for ever.
const LONGEST_OPEN: Duration = Duration::from_secs(600);

/// Ids kept in memory, so that most repetitions are recognised without the store.
const IN_MEMORY: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
}

/// Clones share one ledger.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    kept: Duration,
    dropped_to: Timestamp,
    marked: Recent<()>,
    /// Handed out, not marked.
    open: HashMap<MessageId, Open>,
}

struct Open {
    room: RoomId,
    /// `_updatedAt` of the document.
    updated_at: Timestamp,
    /// By our clock.
    handed_out: Timestamp,
}

impl Ledger {
    pub fn new(store: Store, clock: Clock) -> Self {
        let now = clock.now();
        let dropped_to = store.get(Tree::Meta, DROPPED_TO).unwrap_or_else(|error| {
            tracing::error!(%error, "how long ago messages were obeyed that are known cannot be read");
            None
        });
        let shared = Shared {
            kept: KEPT,
            dropped_to: dropped_to.unwrap_or_else(|| earlier(now, KEPT)),
            marked: Recent::new(IN_MEMORY),
            open: HashMap::new(),
        };
        Self { store, clock, shared: Arc::new(Mutex::new(shared)) }
    }

    /// From now on entries are kept for so long.
    pub fn keep_for(&self, kept: Duration) {
        self.lock().kept = kept;
    }

    /// Nobody knows which messages of before were dealt with: they are never new.
    pub(super) fn forgotten(&self, now: Timestamp) -> Timestamp {
        let shared = self.lock();
        earlier(now, shared.kept).max(shared.dropped_to.min(earlier(now, HEARD)))
    }

    /// Whether the message was dealt with, ever (as far as [`Ledger::forgotten`]). A store that cannot be read counts as
    /// yes: better a command that must be sent again than one that runs twice.
    pub fn seen(&self, id: &MessageId) -> bool {
        if self.lock().marked.contains(id) {
            return true;
        }
        self.store.contains(Tree::Ledger, id.as_str().as_bytes()).unwrap_or_else(|error| {
            tracing::error!(%error, message.id = %id, "the ledger cannot be read; the message is left alone");
            true
        })
    }

    /// For what may be dealt with again after a crash, such as questions. Durable within about half a second.
    pub fn mark_read_only(&self, id: &MessageId) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        self.batch_for(id, &mut batch);
        self.store.apply(batch)
    }

    /// Puts the mark into `batch`, so that it becomes durable together with what the message caused.
    pub fn batch_for(&self, id: &MessageId, batch: &mut Batch) {
        batch.put(Tree::Ledger, id.as_str().as_bytes(), &Entry { at: self.clock.now() });
        let mut shared = self.lock();
        shared.marked.insert(id.clone(), ());
        shared.open.remove(id);
    }

    /// For talk that is nothing to Houston. Its room is not read again for it; told anew, by another process or long
    /// after, it is nothing again.
    pub fn pass_over(&self, id: &MessageId) {
        self.lock().open.remove(id);
    }

    /// Drops old entries; returns how many. Reads the whole ledger: call it seldom, on a blocking thread.
    pub fn prune(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        // Known before anything is dropped, so that nothing in between is new.
        let to = {
            let mut shared = self.lock();
            let to = earlier(now, shared.kept);
            shared.dropped_to = shared.dropped_to.max(to);
            to
        };
        let mut dropped = 0;
        let mut batch = Batch::new();
        for record in self.store.scan::<Entry>(Tree::Ledger, &[]) {
            let (key, entry) = record?;
            if entry.at < to {
                batch.delete(Tree::Ledger, &key);
                dropped += 1;
                if dropped % AT_ONCE == 0 {
                    self.drop_entries(std::mem::take(&mut batch))?;
                }
            }
        }
        if !batch.is_empty() {
            self.drop_entries(batch)?;
        }
        Ok(dropped)
    }

    fn drop_entries(&self, mut batch: Batch) -> Result<(), StoreError> {
        batch.put(Tree::Meta, DROPPED_TO, &self.lock().dropped_to);
        self.store.apply(batch)
    }

    /// The message goes out now; until it is marked its room is read again from before it.
    pub(super) fn handed_out(&self, id: MessageId, room: RoomId, updated_at: Timestamp) {
        let handed_out = self.clock.now();
        self.lock().open.insert(id, Open { room, updated_at, handed_out });
    }

    /// Per room the `_updatedAt` of the oldest message that was handed out and not marked.
    pub(super) fn open(&self) -> HashMap<RoomId, Timestamp> {
        let now = self.clock.now();
        let mut shared = self.lock();
        shared.open.retain(|_, open| open.handed_out.checked_add(LONGEST_OPEN).is_ok_and(|t| t > now));
        let mut oldest: HashMap<RoomId, Timestamp> = HashMap::new();
        for open in shared.open.values() {
            let at = oldest.entry(open.room.clone()).or_insert(open.updated_at);
            *at = (*at).min(open.updated_at);
        }
        oldest
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open: BTreeSet<_> = self.lock().open.keys().cloned().collect();
        f.debug_struct("Ledger").field("open", &open).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, Clock, Ledger) {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual("2026-09-01T00:00:00Z".parse().expect("a time"));
        let store = Store::open(dir.path()).expect("a store");
        let ledger = Ledger::new(store, clock.clone());
        (dir, clock, ledger)
    }

    #[tokio::test]
    async fn a_mark_is_found_by_another_process() {
        let (_dir, clock, ledger) = ledger();
        let id = MessageId::from("M1");
        assert!(!ledger.seen(&id));
        let mut batch = Batch::new();
        ledger.batch_for(&id, &mut batch);
        ledger.store.commit(batch).await.expect("written");
        let next = Ledger::new(ledger.store, clock);
        assert!(next.seen(&id));
        assert!(!next.seen(&MessageId::from("M2")));
    }

    #[test]
    fn a_message_that_was_handed_out_holds_its_room_back_until_it_is_marked() {
        let (_dir, clock, ledger) = ledger();
        let (early, late) = (clock.now(), clock.now() + Duration::from_secs(9));
        ledger.handed_out("M2".into(), "R".into(), late);
        ledger.handed_out("M1".into(), "R".into(), early);
        assert_eq!(ledger.open()[&RoomId::from("R")], early);
        ledger.mark_read_only(&"M1".into()).expect("written");
        assert_eq!(ledger.open()[&RoomId::from("R")], late);
        clock.advance(LONGEST_OPEN);
        assert!(ledger.open().is_empty(), "not for ever");
    }

    #[test]
    fn marks_are_pruned_after_thirty_days() {
        let (_dir, clock, ledger) = ledger();
        ledger.mark_read_only(&"old".into()).expect("written");
        clock.advance(KEPT);
        ledger.mark_read_only(&"new".into()).expect("written");
        clock.advance(Duration::from_secs(1));
        assert_eq!(ledger.prune().expect("pruned"), 1);
        let next = Ledger::new(ledger.store, clock);
        assert!(!next.seen(&"old".into()));
        assert!(next.seen(&"new".into()));
    }

    #[test]
    fn what_nobody_knows_any_more_is_not_new_however_long_marks_are_kept_now() {
        let (_dir, clock, ledger) = ledger();
        let said = clock.now();
        ledger.mark_read_only(&"old".into()).expect("written");
        clock.advance(3 * HEARD);
        ledger.keep_for(2 * HEARD);
        assert_eq!(ledger.prune().expect("pruned"), 1);
        let next = Ledger::new(ledger.store, clock.clone());
        next.keep_for(10 * KEPT);
        assert!(!next.seen(&"old".into()));
        assert!(said < next.forgotten(clock.now()), "it would be obeyed again");
        assert!(clock.now() > next.forgotten(clock.now()));
    }

    #[test]
    fn a_clock_that_was_set_on_for_a_while_makes_nobody_unheard() {
        let (_dir, clock, ledger) = ledger();
        let now = clock.now();
        clock.advance(20 * KEPT);
        ledger.mark_read_only(&"of a wrong time".into()).expect("written");
        ledger.prune().expect("pruned");
        assert_eq!(ledger.forgotten(now), earlier(now, HEARD));
    }
}
