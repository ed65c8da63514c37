//! What Houston can say and ask: posts that are confirmed, edits, reactions, lookups.
//!
//! Must not: make foreign text harmless (callers do, [`crate::text`]), or say what the redactor knows.

use super::events::{Actor, Post, Reaction, SendError};
use super::{Health, Priority, UserInfo, Who};
use crate::ids::{MessageId, RoomId, UserId};

/// Clones speak through one connection.
#[derive(Clone, Debug)]
pub struct Chat(std::sync::Arc<()>);

fn not_connected<T>() -> Result<T, SendError> {
    Err(SendError::Unavailable { reason: "not connected".to_owned(), retry_after: None })
}

impl Chat {
    pub(super) fn new() -> Self {
        Self(std::sync::Arc::new(()))
    }

    /// Who Houston is; `None` before the first login.
    pub fn me(&self) -> Option<Actor> {
        None
    }

    /// Says it, once per id, and returns when the server has it.
    pub async fn post(&self, post: Post, priority: Priority) -> Result<(), SendError> {
        let _ = (post, priority);
        not_connected()
    }

    /// Gives one of Houston's own messages another text.
    pub async fn edit(
        &self,
        room: &RoomId,
        message: &MessageId,
        text: &str,
        priority: Priority,
    ) -> Result<(), SendError> {
        let _ = (room, message, text, priority);
        not_connected()
    }

    /// Sets or takes back Houston's own reaction.
    pub async fn react(&self, message: &MessageId, emoji: &str, on: bool) -> Result<(), SendError> {
        let _ = (message, emoji, on);
        not_connected()
    }

    /// Best effort.
    pub fn typing(&self, room: &RoomId, thread: Option<&MessageId>, on: bool) {
        let _ = (room, thread, on);
    }

    /// The direct conversation with a person, made when there is none.
    pub async fn direct(&self, user: &UserId) -> Result<RoomId, SendError> {
        let _ = user;
        not_connected()
    }

    /// From now on reactions on this message of Houston's own, and its deletion, are reported.
    pub fn watch(&self, room: &RoomId, message: &MessageId) {
        let _ = (room, message);
    }

    pub fn unwatch(&self, message: &MessageId) {
        let _ = message;
    }

    /// The reactions of others on one of Houston's own messages, read from the server now.
    pub async fn reactions(&self, message: &MessageId) -> Result<Vec<Reaction>, SendError> {
        let _ = message;
        not_connected()
    }

    /// `None`: there is no such person.
    pub async fn user(&self, who: Who<'_>) -> Result<Option<UserInfo>, SendError> {
        let _ = who;
        not_connected()
    }

    /// Puts a file into a room; returns the message that shows it.
    pub async fn upload(
        &self,
        room: &RoomId,
        thread: Option<&MessageId>,
        name: &str,
        bytes: Vec<u8>,
        description: &str,
    ) -> Result<MessageId, SendError> {
        let _ = (room, thread, name, bytes, description);
        not_connected()
    }

    /// Everybody in a room.
    pub async fn members(&self, room: &RoomId) -> Result<Vec<Actor>, SendError> {
        let _ = room;
        not_connected()
    }

    pub fn health(&self) -> Health {
        Health { online: false, caught_up: false, last_frame_age: None }
    }

    /// In UTF-16 units.
    pub fn max_message_len(&self) -> usize {
        5000
    }

    /// Closes the connection and writes the cursors. Later calls fail.
    pub async fn shutdown(&self) {}
}
