//! How far each room was read: from the server's own times only, written lazily.
//!
//! A room's cursor stands still while there is a gap before what arrives live, and before the oldest message
//! that was handed out and not marked ([`super::Ledger`]). Must not: decide whether a message is new by its
//! time, beyond "from before Houston listened".

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::shared::earlier;
use crate::ids::RoomId;
use crate::rocketchat::model::{Room, Subscription};
use crate::store::{Batch, Store, StoreError, Tree};

/// The record of all rooms together; no room has the empty id.
const EVERYWHERE: &[u8] = b"";

/// How far the server's own times and the order of its frames may differ: a message that opens a direct
/// conversation can be older than the membership that is told before it.
const UNORDERED: Duration = Duration::from_secs(10);

/// A mark that is later than the server's clock by more than this was made before that was set back.
pub const SET_BACK: Duration = Duration::from_secs(60);

/// How far back is read then, since nobody tells when it was set back.
pub const READ_AGAIN: Duration = Duration::from_secs(3600);

/// One room, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Messages sent before this are from before Houston listened.
    since: Timestamp,
    /// Every change up to here was seen, in `_updatedAt`.
    at: Timestamp,
}

/// Before which rooms there may be changes that were not read.
#[derive(Debug, PartialEq)]
enum Gaps {
    /// Just connected: it is not known which rooms changed meanwhile.
    Anywhere,
    In(HashSet<RoomId>),
}

#[derive(Debug)]
pub struct Cursors {
    everywhere: Mark,
    rooms: HashMap<RoomId, Mark>,
    gaps: Gaps,
    /// What was seen live while its room had a gap.
    meanwhile: HashMap<RoomId, Timestamp>,
    dirty: HashSet<RoomId>,
    everywhere_dirty: bool,
}

/// As if all rooms had been read up to `at`, whoever read them.
pub fn begin_at(at: Timestamp, store: &Store, batch: &mut Batch) -> Result<(), StoreError> {
    for record in store.scan::<Mark>(Tree::Cursors, &[]) {
        batch.delete(Tree::Cursors, &record?.0);
    }
    batch.put(Tree::Cursors, EVERYWHERE, &Mark { since: at, at });
    Ok(())
}

impl Cursors {
    /// What an earlier process left; `None` when there never was one.
    pub fn load(store: &Store) -> Result<Option<Self>, StoreError> {
        let Some(everywhere) = store.get(Tree::Cursors, EVERYWHERE)? else { return Ok(None) };
        let mut rooms = HashMap::new();
        for record in store.scan::<Mark>(Tree::Cursors, &[]) {
            let (key, mark) = record?;
            if let (false, Ok(id)) = (key.is_empty(), String::from_utf8(key)) {
                rooms.insert(RoomId::new(id), mark);
            }
        }
        Ok(Some(Self::new(everywhere, rooms)))
    }

    /// The first start ever: nothing that was said before `now`, by the server's clock, is answered.
    pub fn first(now: Timestamp) -> Self {
        let mut first = Self::new(Mark { since: now, at: now }, HashMap::new());
        first.everywhere_dirty = true;
        first
    }

    fn new(everywhere: Mark, rooms: HashMap<RoomId, Mark>) -> Self {
        Self {
            everywhere,
            rooms,
            gaps: Gaps::Anywhere,
            meanwhile: HashMap::new(),
            dirty: HashSet::new(),
            everywhere_dirty: false,
        }
    }

    /// Whether the room was known to an earlier connection or process.
    pub fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// Messages of this room that were sent earlier are from before Houston listened.
    pub fn since(&self, room: &RoomId) -> Timestamp {
        match self.rooms.get(room) {
            Some(mark) => mark.since,
            None => earlier(self.everywhere.at, UNORDERED).max(self.everywhere.since),
        }
    }

    /// Every change of this room up to here was seen.
    pub fn at(&self, room: &RoomId) -> Timestamp {
        self.rooms.get(room).map_or(self.everywhere.at, |mark| mark.at)
    }

    /// Every room was read up to here.
    pub fn everywhere(&self) -> Timestamp {
        self.everywhere.at
    }

    /// Rooms of which something may have been missed, and since when each is to be read: those first in which something
    /// was said, the latest before all.
    pub fn missed(
        &self,
        rooms: &[Room],
        memberships: &[Subscription],
        overlap: Duration,
    ) -> Vec<(RoomId, Timestamp)> {
        let from = earlier(self.everywhere(), overlap);
        let mut missed: Vec<(RoomId, Timestamp, Option<Timestamp>)> = Vec::new();
        let mut there: HashSet<RoomId> = HashSet::new();
        for room in rooms {
            let id = RoomId::new(&*room.id);
            let read_to = self.at(&id);
            let since = if !self.knows(&id) {
                from
            } else if room.updated_at.is_none_or(|at| at >= read_to) {
                // Equal too: a millisecond has room for the last message that was heard and for one more.
                earlier(read_to, overlap)
            } else {
                continue;
            };
            if there.insert(id.clone()) {
                missed.push((id, since, room.last_message_at.filter(|said| *said >= read_to)));
            }
        }
        for membership in memberships {
            let id = RoomId::new(&*membership.rid);
            if !self.knows(&id) && there.insert(id.clone()) {
                missed.push((id, from, None));
            }
        }
        missed.sort_by_key(|(_, _, said)| std::cmp::Reverse(*said));
        missed.into_iter().map(|(room, since, _)| (room, since)).collect()
    }

    /// Houston was there when it first started: what was said later is for it.
    pub fn was_there(&mut self, room: &RoomId) {
        let mark = Mark { since: self.everywhere.since, at: self.everywhere.at };
        self.enter(room, mark);
    }

    /// Houston is in this room since `when`, by the server's clock.
    pub fn joined(&mut self, room: &RoomId, when: Timestamp) {
        let when = earlier(when, UNORDERED);
        self.enter(room, Mark { since: when, at: when });
    }

    fn enter(&mut self, room: &RoomId, mark: Mark) {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.clone(), mark);
            self.dirty.insert(room.clone());
        }
    }

    /// Houston is not there any more; should it come back, it is as if for the first time.
    pub fn left(&mut self, room: &RoomId) {
        if self.rooms.remove(room).is_some() {
            self.dirty.insert(room.clone());
        }
        self.meanwhile.remove(room);
        self.close(room);
    }

    /// A document of this room was dealt with.
    pub fn saw(&mut self, room: &RoomId, updated_at: Timestamp) {
        if self.has_gap(room) {
            let seen = self.meanwhile.entry(room.clone()).or_insert(updated_at);
            *seen = (*seen).max(updated_at);
            return;
        }
        let since = self.since(room);
        let mark = self.rooms.entry(room.clone()).or_insert(Mark { since, at: since });
        if updated_at > mark.at {
            mark.at = updated_at;
            self.dirty.insert(room.clone());
        }
        if self.all_closed() {
            self.forward(updated_at);
        }
    }

    /// The server's clock stands at `now`. Whether it was set back: then nothing counts as read that may have been
    /// said since.
    pub fn clock_is(&mut self, now: Timestamp) -> bool {
        let to_come = |mark: &Mark| earlier(mark.at, SET_BACK) > now;
        let back = earlier(now, READ_AGAIN);
        let mut set_back = to_come(&self.everywhere);
        if set_back {
            self.everywhere.at = back;
            self.everywhere_dirty = true;
        }
        for (room, mark) in self.rooms.iter_mut().filter(|(_, mark)| to_come(mark)) {
            mark.at = back;
            self.dirty.insert(room.clone());
            set_back = true;
        }
        self.meanwhile.retain(|_, seen| earlier(*seen, SET_BACK) <= now);
        set_back
    }

    /// The connection is new: what happened before it is not known.
    pub fn open_anywhere(&mut self) {
        self.gaps = Gaps::Anywhere;
    }

    /// These rooms changed while nobody listened; the others did not.
    pub fn open_in(&mut self, rooms: HashSet<RoomId>) {
        self.gaps = Gaps::In(rooms);
        for room in self.meanwhile.keys().cloned().collect::<Vec<_>>() {
            if !self.has_gap(&room) {
                self.catch_up_with_meanwhile(&room);
            }
        }
        self.forward_to_newest();
    }

    /// The gap before this room was read.
    pub fn close(&mut self, room: &RoomId) {
        if let Gaps::In(rooms) = &mut self.gaps
            && rooms.remove(room)
        {
            self.catch_up_with_meanwhile(room);
            self.forward_to_newest();
        }
    }

    pub fn has_gap(&self, room: &RoomId) -> bool {
        match &self.gaps {
            Gaps::Anywhere => true,
            Gaps::In(rooms) => rooms.contains(room),
        }
    }

    pub fn all_closed(&self) -> bool {
        matches!(&self.gaps, Gaps::In(rooms) if rooms.is_empty())
    }

    fn catch_up_with_meanwhile(&mut self, room: &RoomId) {
        if let Some(seen) = self.meanwhile.remove(room) {
            self.saw(room, seen);
        }
    }

    /// With no gap anywhere the newest change seen is as far as everything was read.
    fn forward_to_newest(&mut self) {
        if self.all_closed()
            && let Some(newest) = self.rooms.values().map(|mark| mark.at).max()
        {
            self.forward(newest);
        }
    }

    fn forward(&mut self, to: Timestamp) {
        if to > self.everywhere.at {
            self.everywhere.at = to;
            self.everywhere_dirty = true;
        }
    }

    /// What has to be written, held back before the oldest message per room that is `open` still.
    pub fn changes(&mut self, open: &HashMap<RoomId, Timestamp>) -> Batch {
        let mut batch = Batch::new();
        for room in std::mem::take(&mut self.dirty) {
            let key = room.as_str().as_bytes();
            match self.rooms.get(&room) {
                Some(mark) => {
                    let at = open.get(&room).map_or(mark.at, |oldest| mark.at.min(*oldest));
                    batch.put(Tree::Cursors, key, &Mark { at, ..*mark });
                    if at < mark.at {
                        // Written again when the message is marked.
                        self.dirty.insert(room);
                    }
                }
                None => {
                    batch.delete(Tree::Cursors, key);
                }
            }
        }
        if self.everywhere_dirty {
            let oldest = open.values().min().copied();
            let at = oldest.map_or(self.everywhere.at, |oldest| self.everywhere.at.min(oldest));
            batch.put(Tree::Cursors, EVERYWHERE, &Mark { at, ..self.everywhere });
            self.everywhere_dirty = at < self.everywhere.at;
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn caught_up() -> Cursors {
        let mut cursors = Cursors::first(at(100));
        cursors.was_there(&"R".into());
        cursors.open_in(HashSet::new());
        cursors
    }

    #[test]
    fn a_cursor_does_not_jump_over_a_gap() {
        let mut cursors = caught_up();
        let room = RoomId::from("R");
        cursors.saw(&room, at(110));
        cursors.open_anywhere();
        cursors.saw(&room, at(200));
        assert_eq!(cursors.at(&room), at(110), "what is before 200 was not read yet");
        cursors.open_in([room.clone()].into());
        assert_eq!((cursors.at(&room), cursors.everywhere()), (at(110), at(110)));
        cursors.close(&room);
        assert_eq!((cursors.at(&room), cursors.everywhere()), (at(200), at(200)));
        assert!(cursors.all_closed());
    }

    #[test]
    fn rooms_without_a_gap_go_on_while_another_is_read() {
        let mut cursors = caught_up();
        cursors.open_anywhere();
        cursors.saw(&"R".into(), at(200));
        cursors.open_in(["other".into()].into());
        assert_eq!(cursors.at(&"R".into()), at(200));
        assert_eq!(cursors.everywhere(), at(100), "but not everything was read up to there");
    }

    #[test]
    fn rooms_in_which_something_was_said_are_read_first() {
        let mut cursors = caught_up();
        for room in ["R", "quiet", "reacted", "late"] {
            cursors.was_there(&room.into());
        }
        let room = |id: &str, updated: i64, said: i64| Room {
            id: id.to_owned(),
            updated_at: Some(at(updated)),
            last_message_at: Some(at(said)),
            ..Room::default()
        };
        let rooms =
            [room("reacted", 300, 50), room("R", 200, 200), room("quiet", 90, 90), room("late", 300, 300)];
        let unknown = Subscription { rid: "new".to_owned(), ..Subscription::default() };
        let missed = cursors.missed(&rooms, &[unknown], Duration::from_secs(5));
        let missed: Vec<_> = missed.iter().map(|(room, since)| (room.as_str(), *since)).collect();
        assert_eq!(missed, ["late", "R", "reacted", "new"].map(|room| (room, at(95))));
    }

    #[test]
    fn a_room_that_was_joined_later_has_no_history_for_us() {
        let mut cursors = caught_up();
        cursors.joined(&"new".into(), at(500));
        assert_eq!(cursors.since(&"new".into()), at(490));
        assert_eq!(cursors.since(&"R".into()), at(100));
        cursors.left(&"new".into());
        cursors.joined(&"new".into(), at(900));
        assert_eq!(cursors.since(&"new".into()), at(890));
    }

    #[test]
    fn a_mark_of_a_time_that_is_still_to_come_is_taken_back() {
        let mut cursors = caught_up();
        let (room, hour) = (RoomId::from("R"), 3600);
        cursors.saw(&room, at(100_000));
        assert!(!cursors.clock_is(at(100_000 - 60)), "frames come in no order");
        assert!(cursors.clock_is(at(20_000)));
        assert_eq!((cursors.at(&room), cursors.everywhere()), (at(20_000 - hour), at(20_000 - hour)));
        cursors.saw(&room, at(20_001));
        assert_eq!((cursors.at(&room), cursors.everywhere()), (at(20_001), at(20_001)));
        assert!(!cursors.clock_is(at(20_002)));
    }

    #[test]
    fn what_is_written_waits_for_messages_that_are_not_marked() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        assert!(Cursors::load(&store).expect("read").is_none());
        let mut cursors = caught_up();
        cursors.saw(&"R".into(), at(300));
        let open = HashMap::from([(RoomId::from("R"), at(250))]);
        store.apply(cursors.changes(&open)).expect("written");
        let read = || Cursors::load(&store).expect("read").expect("there");
        assert_eq!((read().at(&"R".into()), read().everywhere()), (at(250), at(250)));
        store.apply(cursors.changes(&HashMap::new())).expect("written");
        assert_eq!((read().at(&"R".into()), read().everywhere()), (at(300), at(300)));
        assert!(cursors.changes(&HashMap::new()).is_empty(), "nothing left to write");
        assert!(read().knows(&"R".into()));
    }
}
