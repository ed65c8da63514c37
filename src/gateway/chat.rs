//! What Houston can say and ask: posts that are confirmed, edits, reactions, lookups.
//!
//! Must not: make foreign text harmless (callers do, [`crate::text`]), or say what the redactor knows.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::doc::{Doc, kind};
use super::events::{Actor, Inbound, Post, Reaction, RoomKind, SendError};
use super::shared::Shared;
use super::split::{cut, part_id, split};
use super::{Health, Load, Priority, UserInfo, Who};
use crate::ids::{MessageId, RoomId, UserId};
use crate::rocketchat::rest::{Outgoing, Upload, UserQuery};
use crate::rocketchat::{Rest, RestError, budget};

/// A button of a message.
#[derive(Clone, Copy, Debug)]
pub struct Button<'a> {
    pub label: &'a str,
    /// What a click says.
    pub command: &'a str,
}

/// Clones speak through one connection.
#[derive(Clone)]
pub struct Chat(pub(super) Arc<Shared>);

impl Chat {
    /// Who Houston is; `None` before the first login.
    pub fn me(&self) -> Option<Actor> {
        self.0.status().me.clone()
    }

    /// Says it and returns when the server has it. Said once per id: after an error that is
    /// [`SendError::Unavailable`] the same post may be sent again, and what had got through stays as it is.
    pub async fn post(&self, post: Post, priority: Priority) -> Result<(), SendError> {
        let text = self.0.redactor.redact(&post.text);
        let rest = self.rest(priority);
        for (n, part) in split(&text, self.max_message_len()).into_iter().enumerate() {
            let outgoing = Outgoing {
                id: part_id(&post.id, n).as_str().to_owned(),
                rid: post.room.as_str().to_owned(),
                text: part,
                tmid: post.thread.as_ref().map(|thread| thread.as_str().to_owned()),
                alias: None,
                attachments: None,
            };
            self.send(&rest, &outgoing).await?;
        }
        Ok(())
    }

    /// Buttons under a line of text. A click makes the clicker's own client send the button's command, so it
    /// comes in as any other message of that person. Cannot be edited; posting again under the id changes
    /// nothing.
    pub async fn post_buttons(&self, post: Post, buttons: &[Button<'_>]) -> Result<(), SendError> {
        let action = |button: &Button<'_>| {
            json!({
                "type": "button",
                "text": button.label,
                "msg": self.0.redactor.redact(button.command),
                "msg_in_chat_window": true,
                "msg_processing_type": "sendMessage",
            })
        };
        let actions: Vec<Value> = buttons.iter().map(action).collect();
        let outgoing = Outgoing {
            id: post.id.as_str().to_owned(),
            rid: post.room.as_str().to_owned(),
            text: cut(&self.0.redactor.redact(&post.text), self.max_message_len()),
            tmid: post.thread.as_ref().map(|thread| thread.as_str().to_owned()),
            alias: None,
            attachments: Some(json!([{"button_alignment": "horizontal", "actions": actions}])),
        };
        self.send(&self.rest(Priority::Urgent), &outgoing).await
    }

    async fn send(&self, rest: &Rest, outgoing: &Outgoing) -> Result<(), SendError> {
        let failure = match rest.send_message(outgoing).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        // No answer, or one that cannot be read: it may have been sent all the same.
        if matches!(failure, RestError::Unavailable { .. } | RestError::Malformed { .. })
            && let Ok(Some(found)) = rest.get_message(&outgoing.id).await
            && self.is_me(&found.user.id)
        {
            return Ok(());
        }
        Err(send_error(&failure))
    }

    /// Gives one of Houston's own messages another text. The text that it was given last is not sent again;
    /// one that is too long is cut and says so. It never waits for the rate limit, since others would wait
    /// behind it: it is `Unavailable` at once, and what is so by then is shown later.
    pub async fn edit(
        &self,
        room: &RoomId,
        message: &MessageId,
        text: &str,
        priority: Priority,
    ) -> Result<(), SendError> {
        let text = cut(&self.0.redactor.redact(text), self.max_message_len());
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&text);
        if self.0.last_text(message) == Some(hash) {
            return Ok(());
        }
        let rest = self.rest(priority).without_waiting();
        rest.update(room.as_str(), message.as_str(), &text).await.map_err(|e| send_error(&e))?;
        self.0.set_last_text(message, hash);
        Ok(())
    }

    /// Sets or takes back Houston's own reaction; repeating changes nothing.
    pub async fn react(&self, message: &MessageId, emoji: &str, on: bool) -> Result<(), SendError> {
        self.rest(Priority::Normal).react(message.as_str(), emoji, on).await.map_err(|e| send_error(&e))
    }

    /// Shows or hides that Houston is writing. Best effort, and returns at once; lasts a few seconds.
    pub fn typing(&self, room: &RoomId, on: bool) {
        let status = self.0.status().clone();
        if let Some(name) = status.displayed_name.or(status.me.map(|me| me.username)) {
            self.0.realtime.typing(room.as_str(), &name, on);
        }
    }

    /// The direct conversation with a person, made when there is none.
    pub async fn direct(&self, user: &UserId) -> Result<RoomId, SendError> {
        if let Some(room) = self.0.direct_with(user) {
            return Ok(room);
        }
        let found = self.user(Who::Id(user)).await?;
        let Some(found) = found else {
            return Err(SendError::Refused { reason: format!("there is no user with the id `{user}`") });
        };
        let rest = self.rest(Priority::Urgent);
        // The client remembers rooms by name, and names change hands.
        rest.forget_direct(&found.username);
        let room = RoomId::new(rest.im_create(&found.username).await.map_err(|e| send_error(&e))?);
        self.0.set_direct_with(user, &room);
        Ok(room)
    }

    /// From now on reactions on this message of Houston's own, and its deletion, are reported. What it has
    /// already is reported as added, also after a restart: count by person and emoji, not by event.
    pub fn watch(&self, room: &RoomId, message: &MessageId) {
        self.0.watch(room, message);
    }

    /// Nothing more is reported of it, and what was known is forgotten.
    pub fn unwatch(&self, message: &MessageId) {
        self.0.unwatch(message);
    }

    /// The reactions of others on one of Houston's own messages, read from the server now. On anybody
    /// else's message they prove nothing, so that is refused.
    pub async fn reactions(&self, message: &MessageId) -> Result<Vec<Reaction>, SendError> {
        // Before the login nothing is known to be one's own, and an approval would seem to have vanished.
        if self.me().is_none() {
            let reason = "not logged in yet".to_owned();
            return Err(SendError::Unavailable { reason, retry_after: None });
        }
        let rest = self.rest(Priority::Urgent);
        // Just after the start nobody knows yet who "Houston" is: that says nothing about the reactions.
        if self.me().is_none() {
            return Err(SendError::Unavailable { reason: "not logged in yet".to_owned(), retry_after: None });
        }
        let refused = |reason: &str| SendError::Refused { reason: format!("{reason}: `{message}`") };
        let found = rest.get_message(message.as_str()).await.map_err(|e| send_error(&e))?;
        let found = found.ok_or_else(|| refused("the message is gone"))?;
        if !self.is_me(&found.user.id) {
            return Err(refused("only reactions on Houston's own messages count"));
        }
        let doc = Doc::from(found);
        let known = self.0.known_reactions(message);
        let mut reactions = Vec::new();
        for (emoji, names) in &self.0.that_mean_anything(&doc.reactions) {
            for name in names {
                let id = match known.as_ref().and_then(|known| known.id(emoji, name)) {
                    Some(id) => Some(id.clone()),
                    None => self.0.people.id_of(&rest, name).await.map_err(|e| send_error(&e))?,
                };
                if let Some(id) = id.filter(|id| !self.is_me(id.as_str())) {
                    let by = Actor { id, username: name.clone() };
                    reactions.push(Reaction { emoji: emoji.clone(), by });
                }
            }
        }
        Ok(reactions)
    }

    /// Somebody as the server describes them now; `None` when there is nobody.
    pub async fn user(&self, who: Who<'_>) -> Result<Option<UserInfo>, SendError> {
        let query = match who {
            Who::Id(id) => UserQuery::Id(id.as_str()),
            Who::Name(name) => UserQuery::Name(name),
        };
        let rest = self.rest(Priority::Urgent);
        let Some(user) = rest.user_info(query).await.map_err(|e| send_error(&e))? else { return Ok(None) };
        self.0.people.met(&user);
        let id = UserId::new(user.id);
        let roles = match user.roles {
            Some(roles) => Some(roles),
            None => self.visible_roles(&rest, &id).await,
        };
        Ok(Some(UserInfo {
            id,
            username: user.username,
            roles,
            active: user.active,
            utc_offset: user.utc_offset,
        }))
    }

    /// Who has this role of Rocket.Chat's. Without the right to ask for that (`access-permissions`), as far as the
    /// role is shown in public.
    pub async fn having(&self, role: &str) -> Result<Vec<UserId>, SendError> {
        let rest = self.rest(Priority::Urgent);
        let refused = match rest.users_in_role(role).await {
            Ok(users) => return Ok(users.into_iter().map(|user| UserId::new(user.id)).collect()),
            Err(error @ RestError::Refused { .. }) => error,
            Err(error) => return Err(send_error(&error)),
        };
        let public = rest.users_in_public_roles().await.map_err(|_| send_error(&refused))?;
        let has = |user: &crate::rocketchat::model::User| user.roles.iter().flatten().any(|had| had == role);
        let found: Vec<UserId> = public.into_iter().filter(has).map(|user| UserId::new(user.id)).collect();
        if found.is_empty() { Err(send_error(&refused)) } else { Ok(found) }
    }

    /// Without the right to see them in full: roles that are shown in public, else what the last change of
    /// presence said.
    async fn visible_roles(&self, rest: &Rest, id: &UserId) -> Option<Vec<String>> {
        let told = self.0.people.roles_of(id);
        if told.is_some() {
            return told;
        }
        let public = rest.users_in_public_roles().await.ok()?;
        public.into_iter().find(|user| user.id == id.as_str()).and_then(|user| user.roles)
    }

    /// Puts a file into a room; returns the message that shows it. Not idempotent: the server makes the id.
    pub async fn upload(
        &self,
        room: &RoomId,
        thread: Option<&MessageId>,
        name: &str,
        bytes: Vec<u8>,
        description: &str,
    ) -> Result<MessageId, SendError> {
        // Files of text go through the same sink.
        let (bytes, media_type) = match String::from_utf8(bytes) {
            Ok(text) => (self.0.redactor.redact(&text).into_owned().into_bytes(), "text/plain"),
            Err(binary) => (binary.into_bytes(), "application/octet-stream"),
        };
        let upload = Upload {
            rid: room.as_str().to_owned(),
            tmid: thread.map(|thread| thread.as_str().to_owned()),
            file_name: name.to_owned(),
            media_type: media_type.to_owned(),
            bytes,
            text: self.0.redactor.redact(description).into_owned(),
        };
        let message = self.rest(Priority::Normal).upload(&upload).await.map_err(|e| send_error(&e))?;
        Ok(MessageId::new(message.id))
    }

    /// A room by its id, or by its name with or without `#`. `None`: there is none that Houston can see.
    pub async fn room(&self, named: &str) -> Result<Option<RoomId>, SendError> {
        let id = RoomId::new(named);
        if self.0.room(&id).is_some() {
            return Ok(Some(id));
        }
        match self.rest(Priority::Normal).room_by_name(named.trim_start_matches('#')).await {
            Ok(room) => Ok(Some(RoomId::new(room.id))),
            Err(RestError::Refused { .. }) => Ok(None),
            Err(error) => Err(send_error(&error)),
        }
    }

    /// Everybody in a room.
    pub async fn members(&self, room: &RoomId) -> Result<Vec<Actor>, SendError> {
        let rest = self.rest(Priority::Normal);
        let t = match self.0.room(room) {
            Some(room) => room.kind,
            None => kind(&rest.room_info(room.as_str()).await.map_err(|e| send_error(&e))?.kind),
        };
        let t = match t {
            RoomKind::Public => "c",
            RoomKind::Private => "p",
            RoomKind::Direct => "d",
        };
        let members = rest.members(room.as_str(), t).await.map_err(|e| send_error(&e))?;
        let actor = |user: crate::rocketchat::model::User| Actor {
            id: UserId::new(user.id),
            username: user.username,
        };
        Ok(members.into_iter().map(actor).collect())
    }

    /// When it was typed at the latest, by Houston's clock: what the server's says is off by the difference, and
    /// counts whole milliseconds.
    pub fn said_at(&self, message: &Inbound) -> Timestamp {
        let within = SignedDuration::from_nanos(999_999);
        let at = self.0.by_our_clock(message.sent_at);
        at.checked_add(within).unwrap_or(at)
    }

    pub fn health(&self) -> Health {
        self.0.health()
    }

    pub fn load(&self) -> Load {
        self.0.load()
    }

    /// In UTF-16 units, as the server said last; 5000 before.
    pub fn max_message_len(&self) -> usize {
        self.0.max_message_len()
    }

    /// Closes the connection and writes the cursors; returns when that is done. Later calls over REST still
    /// work, so that a farewell can be said.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.stopped.cancelled().await;
    }

    fn rest(&self, priority: Priority) -> Rest {
        self.0.rest.with_priority(match priority {
            Priority::Urgent => budget::Priority::High,
            Priority::Normal => budget::Priority::Normal,
            Priority::Progress => budget::Priority::Low,
        })
    }

    fn is_me(&self, id: &str) -> bool {
        self.0.status().me.as_ref().is_some_and(|me| me.id.as_str() == id)
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("me", &self.me()).finish_non_exhaustive()
    }
}

fn send_error(error: &RestError) -> SendError {
    match error {
        RestError::Unavailable { retry_after, .. } => {
            SendError::Unavailable { reason: error.to_string(), retry_after: *retry_after }
        }
        RestError::RateLimited { retry_after, .. } => {
            SendError::Unavailable { reason: error.to_string(), retry_after: Some(*retry_after) }
        }
        // The connection finds out whether the token is dead; a post may succeed after a new login.
        RestError::Unauthorized { .. } | RestError::Malformed { .. } => {
            SendError::Unavailable { reason: error.to_string(), retry_after: None }
        }
        RestError::Refused { .. } => SendError::Refused { reason: error.to_string() },
    }
}
