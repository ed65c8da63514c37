//! What the gateway tells the rest, and what it takes: Houston's own words for Rocket.Chat's traffic.
//!
//! Must not: carry Rocket.Chat's wire types, or decide what a message means.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, RoomId};
use crate::trace::Cause;

pub use crate::conversation::{Actor, Post, Room, RoomKind};

/// A person's message that was not seen before, was never edited, and is neither Houston's own, nor a
/// bot's, nor a system message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    pub id: MessageId,
    pub room: Room,
    /// The thread it stands in.
    pub thread: Option<MessageId>,
    pub by: Actor,
    pub text: String,
    /// By the server's clock.
    pub sent_at: Timestamp,
    /// Age by the server's clock when it was received.
    pub age: Duration,
    /// Found at catch-up, or so late that its own frame must have been lost; not live.
    pub caught_up: bool,
}

impl Inbound {
    /// For the lines about what it asks for.
    pub fn cause(&self) -> Cause<'_> {
        Cause { message: &self.id, room: &self.room.id, user: &self.by.id }
    }
}

/// A reaction, resolved to a user id at the moment in which its frame arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reaction {
    /// With colons: `:+1:`
    pub emoji: String,
    pub by: Actor,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Connected, logged in and subscribed; catch-up follows.
    Online {
        me: Actor,
    },
    /// The gap before `Online` has been read; everything later is live.
    CaughtUp,
    Offline {
        reason: String,
        /// Token or password are not accepted: only other ones help.
        rejected: bool,
    },
    Message(Inbound),
    /// A message that was handed out before as [`Event::Message`] has another text now; or one that was edited
    /// before it was first seen, and is therefore never handed out. Nothing is executed by it.
    Edited {
        id: MessageId,
        room: Room,
        thread: Option<MessageId>,
        by: Actor,
        text: String,
    },
    /// On a message that is watched ([`super::Chat::watch`]): difference to what was known before, after the
    /// message was read again from the server. After [`super::Chat::watch`], also in a new process, everything
    /// that is there is told as added. A name in `removed` may never have been in `added`: the server loses
    /// reactions that are made at the same instant, and cannot tell that from one that was taken back.
    Reactions {
        message: MessageId,
        room: RoomId,
        added: Vec<Reaction>,
        removed: Vec<Reaction>,
    },
    /// A watched message is gone.
    Deleted {
        message: MessageId,
        room: RoomId,
    },
    /// Houston is in another room now.
    Joined(Room),
    /// Houston was removed from a room, or the room is gone.
    Left(RoomId),
    /// The room is encrypted end to end: Houston cannot read it.
    Encrypted {
        room: Room,
        /// Who spoke there; absent when Houston has only seen that the room is so.
        by: Option<Actor>,
    },
}

/// Why something was not said.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SendError {
    /// Not connected, 5xx, timed out, rate limited: worth another attempt.
    #[error("Rocket.Chat cannot be reached: {reason}")]
    Unavailable { reason: String, retry_after: Option<Duration> },
    /// It will not take this message: room gone, muted, read-only, encrypted, not allowed.
    #[error("Rocket.Chat refused the message: {reason}")]
    Refused { reason: String },
}
