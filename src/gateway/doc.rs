//! What the gateway looks at in a message document, whatever API it came from.
//!
//! Must not: believe anything in it but `u._id`, `rid` and, within seconds, `ts`: an ordinary user may send a
//! new message that already carries reactions, edits, pins and types.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::ids::{MessageId, RoomId, UserId};
use crate::rocketchat::model::{self, Message};

use super::events::{Actor, RoomKind};

/// Emoji with colons → user names, as a document lists them.
pub type Names = BTreeMap<String, BTreeSet<String>>;

#[derive(Clone, Debug, PartialEq)]
pub struct Doc {
    pub id: MessageId,
    pub room: RoomId,
    pub by: Option<Actor>,
    pub text: String,
    pub sent_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    pub thread: Option<MessageId>,
    /// `t`, when it is not empty: a system message, a tombstone (`rm`) or ciphertext (`e2e`).
    pub kind: Option<String>,
    /// `editedAt`
    pub edited_at: Option<Timestamp>,
    /// `editedAt` or `editedBy` is there.
    pub edited: bool,
    /// A true `bot`: an integration sent it. Whoever forges it is only ignored.
    pub bot: bool,
    /// A name or picture other than the sender's own is shown. Empty ones do not count: servers add
    /// `alias: ""` to ordinary messages.
    pub disguised: bool,
    pub reactions: Names,
}

/// What the stream says about the room beside the document. Absent on some servers and from REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Whether Houston is in the room; public rooms are heard by everybody.
    pub participant: bool,
    pub kind: RoomKind,
    pub name: Option<String>,
}

impl From<Message> for Doc {
    fn from(message: Message) -> Self {
        let by = (!message.user.id.is_empty())
            .then(|| Actor { id: UserId::new(message.user.id), username: message.user.username });
        Self {
            id: MessageId::new(message.id),
            room: RoomId::new(message.rid),
            by,
            text: message.msg,
            sent_at: message.ts,
            updated_at: message.updated_at,
            thread: message.tmid.map(MessageId::new),
            kind: message.kind,
            edited_at: message.edited_at,
            edited: message.edited_at.is_some() || message.edited_by.is_some(),
            bot: message.bot,
            disguised: message.alias.is_some() || message.avatar,
            reactions: names(message.reactions),
        }
    }
}

fn names(reactions: BTreeMap<String, Vec<String>>) -> Names {
    reactions.into_iter().map(|(emoji, names)| (emoji, names.into_iter().collect())).collect()
}

impl From<model::Meta> for Meta {
    fn from(meta: model::Meta) -> Self {
        Self {
            participant: meta.room_participant,
            kind: kind(meta.room_type.as_deref().unwrap_or_default()),
            name: meta.room_name,
        }
    }
}

/// Rocket.Chat's `t` of a room. What is not public counts as private.
pub fn kind(t: &str) -> RoomKind {
    match t {
        "c" => RoomKind::Public,
        "d" => RoomKind::Direct,
        _ => RoomKind::Private,
    }
}
