//! Frames that wait, by room: for the gap before them, or for what the room is.
//!
//! Must not: decide whether they wait.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::doc::{Doc, Meta};
use crate::ids::RoomId;

/// Over all rooms. Beyond, order is given up; at the first start, reading stops.
const MOST: usize = 10_000;

pub struct Frame {
    pub doc: Doc,
    pub meta: Option<Meta>,
}

#[derive(Default)]
pub struct Held {
    rooms: HashMap<RoomId, InRoom>,
    count: usize,
    late: HashSet<RoomId>,
}

struct InRoom {
    since: Instant,
    frames: Vec<Frame>,
}

impl Held {
    /// Another gap: nothing is late yet.
    pub fn begin(&mut self) {
        self.late.clear();
    }

    pub fn push(&mut self, frame: Frame) {
        let room = self.rooms.entry(frame.doc.room.clone());
        room.or_insert_with(|| InRoom { since: Instant::now(), frames: Vec::new() }).frames.push(frame);
        self.count += 1;
    }

    pub fn take(&mut self, room: &RoomId) -> Vec<Frame> {
        let frames = self.rooms.remove(room).map(|held| held.frames).unwrap_or_default();
        self.count -= frames.len();
        frames
    }

    pub fn rooms(&self) -> Vec<RoomId> {
        self.rooms.keys().cloned().collect()
    }

    pub fn is_full(&self) -> bool {
        self.count >= MOST
    }

    /// Since when the oldest waits, those of `but` apart.
    pub fn oldest(&self, but: &HashSet<RoomId>) -> Option<Instant> {
        self.rooms.iter().filter(|(room, _)| !but.contains(*room)).map(|(_, held)| held.since).min()
    }

    /// Rooms whose frames have waited so long, those of `but` apart.
    pub fn longer_than(&self, time: Duration, but: &HashSet<RoomId>) -> Vec<RoomId> {
        let long =
            self.rooms.iter().filter(|(room, held)| held.since.elapsed() >= time && !but.contains(*room));
        long.map(|(room, _)| room.clone()).collect()
    }

    /// Reading the gap before this room took too long: nothing waits there any more.
    pub fn late(&mut self, room: RoomId) {
        self.late.insert(room);
    }

    pub fn is_late(&self, room: &RoomId) -> bool {
        self.late.contains(room)
    }
}
