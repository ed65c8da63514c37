//! Misbehaviour on purpose: what a network, a proxy or an operator does to a bot sooner or later.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::emit::{Connection, Out};

/// What happens to the next frames of events (`changed`); answers to calls are left alone.
#[derive(Debug, Clone)]
pub enum FrameFault {
    /// Arrives this much later; frames behind it overtake it.
    Delay(Duration),
    /// Arrives this often.
    Copies(usize),
    /// As many frames as are affected are held back and arrive in opposite order.
    Reverse(Vec<Utf8Bytes>),
    /// Never arrives.
    Lose,
}

#[derive(Debug)]
struct Affected {
    /// `None`: everyone.
    uid: Option<String>,
    left: usize,
    fault: FrameFault,
}

/// The faults that are switched on.
#[derive(Debug, Default)]
pub struct Faults {
    /// As 6.5.3 sometimes does: a per-room subscription outlives the kick from a private room.
    pub keep_room_subs: bool,
    /// Answered with 502, REST and realtime alike.
    refuse_next: u32,
    /// Milliseconds since the epoch; 0 when the server is up.
    refuse_until: i64,
    limited: HashMap<String, u32>,
    active: AtomicBool,
    frames: Mutex<Vec<Affected>>,
}

impl Faults {
    /// The next requests, and all until `until` (milliseconds since the epoch), meet a server that is down.
    pub fn refuse(&mut self, next: u32, until: i64) {
        self.refuse_next = next;
        self.refuse_until = until;
    }

    /// Whether this request meets a server that is down.
    pub fn is_down(&mut self, now: i64) -> bool {
        if self.refuse_next > 0 {
            self.refuse_next -= 1;
            return true;
        }
        now < self.refuse_until
    }

    /// The next `count` calls of a DDP method or REST route are told to slow down.
    pub fn limit(&mut self, name: &str, count: u32) {
        self.limited.insert(name.to_owned(), count);
    }

    pub fn is_limited(&mut self, name: &str) -> bool {
        match self.limited.get_mut(name) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    pub fn add(&self, uid: Option<String>, count: usize, fault: FrameFault) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.push(Affected { uid, left: count, fault });
        self.active.store(true, Ordering::Release);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Hands a frame to a connection, the way the faults want it.
    pub fn deliver(&self, connection: &Connection, frame: Utf8Bytes) {
        if !self.active.load(Ordering::Acquire) {
            connection.push(Out::Text(frame));
            return;
        }
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = frames.iter().position(|affected| {
            affected.left > 0 && affected.uid.as_ref().is_none_or(|uid| connection.uid.as_ref() == Some(uid))
        });
        let Some(at) = hit else {
            connection.push(Out::Text(frame));
            return;
        };
        let affected = &mut frames[at];
        affected.left -= 1;
        match &mut affected.fault {
            FrameFault::Delay(time) => {
                let (time, out) = (*time, connection.out.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    let _ = out.send(Out::Text(frame)).await;
                });
            }
            FrameFault::Copies(copies) => {
                for _ in 0..*copies {
                    connection.push(Out::Text(frame.clone()));
                }
            }
            FrameFault::Reverse(held) => {
                held.push(frame);
                if affected.left == 0 {
                    for frame in held.drain(..).rev() {
                        connection.push(Out::Text(frame));
                    }
                }
            }
            FrameFault::Lose => {}
        }
        frames.retain(|affected| affected.left > 0);
        self.active.store(!frames.is_empty(), Ordering::Release);
    }
}
