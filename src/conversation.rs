//! Who speaks, where, and what is said: the words that everything uses which deals with people, the journal among it.
//!
//! Must not: know how it travels (`gateway` does), or what it means.

use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, RoomId, ScheduleName, UserId};

/// Before the name of a schedule where it is somebody. Neither ids nor names of Rocket.Chat's have a colon in them.
const SCHEDULE: &str = "schedule:";

/// Somebody, as the transport vouches for them. Authority comes from `id` alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    pub id: UserId,
    /// At the moment of the event; names change hands.
    pub username: String,
}

impl Actor {
    /// As whom a schedule acts: `schedule:nightly`. The configuration's roles and rules name it so.
    pub fn schedule(name: &ScheduleName) -> Self {
        let id = format!("{SCHEDULE}{name}");
        Self { username: id.clone(), id: id.into() }
    }

    /// The schedule that it is; `None`: a person.
    pub fn as_schedule(&self) -> Option<ScheduleName> {
        schedule_named(self.id.as_str())
    }
}

/// The schedule that an entry of roles and rules means; `None`: it means a person.
pub fn schedule_named(entry: &str) -> Option<ScheduleName> {
    entry.strip_prefix(SCHEDULE).map(ScheduleName::from)
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
