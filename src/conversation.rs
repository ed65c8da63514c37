//! Who speaks, where, and what is said: the words that everything uses which deals with people, the journal among it.
//!
//! Must not: know how it travels (`gateway` does), or what it means.

use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, RoomId, UserId};

/// Somebody, as the transport vouches for them. Authority comes from `id` alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    pub id: UserId,
    /// At the moment of the event; names change hands.
    pub username: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    Public,
    Private,
    Direct,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub id: RoomId,
    pub kind: RoomKind,
    /// Absent for direct messages.
    pub name: Option<String>,
}

/// A message to post. `id` is made by the caller, so that a resend is not a second message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    pub id: MessageId,
    pub room: RoomId,
    pub thread: Option<MessageId>,
    /// Rocket.Chat's markdown; redacted when it is sent. Longer than the server takes: split between
    /// lines, the first part under `id`, the others under ids derived from it.
    pub text: String,
}
