//! Rocket.Chat's documents, as far as a bot reads them: every field but the ids may be missing or odd.
//!
//! Must not: decide anything. A user can send a new message that already carries `reactions`, `editedAt`,
//! `bot` or `t`; only `u`, `ts` and `rid` are the server's own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ejson::timestamp;

type Fields = Map<String, Value>;

/// Somebody, as a document names them. Authority comes from `id` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRef {
    pub id: String,
    pub username: String,
    /// The displayed name.
    pub name: Option<String>,
}

/// A message document. The server sends the whole of it again on every change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub id: String,
    pub rid: String,
    /// The text; empty for encrypted and deleted messages.
    pub msg: String,
    pub ts: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    /// Who sent it. Cannot be forged.
    pub user: UserRef,
    /// `t`: what kind of system message this is (`uj`, `rm`, `e2e`…); absent for what people write.
    pub kind: Option<String>,
    /// The thread it stands in.
    pub tmid: Option<String>,
    /// A displayed name other than the sender's. Empty in the wire's own messages means none.
    pub alias: Option<String>,
    /// Whether it is shown with a picture (`avatar`) or a sign (`emoji`) other than the sender's picture.
    pub avatar: bool,
    /// Whether it says that an integration or an SDK sent it.
    pub bot: bool,
    pub edited_at: Option<Timestamp>,
    pub edited_by: Option<UserRef>,
    /// `:+1:` → user names, at the time of the reaction. Empty when there are none.
    pub reactions: BTreeMap<String, Vec<String>>,
    /// How many replies its thread has.
    pub tcount: u64,
    /// Ephemeral: shown to one user, never stored.
    pub private: bool,
    /// User names that it mentions, `all` and `here` among them.
    pub mentions: Vec<UserRef>,
    /// How many files and attachments it has.
    pub attachments: usize,
    pub pinned: bool,
    /// The discussion that it is the marker of; re-emitted on each message there.
    pub drid: Option<String>,
}

impl Message {
    /// Reads a document; `None` without `_id` and `rid`.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        let id = text(&mut doc, "_id").filter(|id| !id.is_empty())?;
        let rid = text(&mut doc, "rid").filter(|rid| !rid.is_empty())?;
        Some(Self {
            id,
            rid,
            msg: text(&mut doc, "msg").unwrap_or_default(),
            ts: doc.get("ts").and_then(timestamp),
            updated_at: doc.get("_updatedAt").and_then(timestamp),
            user: doc.remove("u").and_then(UserRef::from_value).unwrap_or_default(),
            kind: non_empty(&mut doc, "t"),
            tmid: non_empty(&mut doc, "tmid"),
            alias: non_empty(&mut doc, "alias"),
            avatar: ["avatar", "emoji"].iter().any(|key| doc.get(*key).is_some_and(truthy)),
            bot: doc.get("bot").is_some_and(truthy),
            edited_at: doc.get("editedAt").and_then(timestamp),
            edited_by: doc.remove("editedBy").and_then(UserRef::from_value),
            reactions: doc.remove("reactions").map(reactions).unwrap_or_default(),
            tcount: doc.get("tcount").and_then(Value::as_u64).unwrap_or_default(),
            private: doc.get("private").is_some_and(truthy),
            mentions: objects(doc.remove("mentions")).filter_map(UserRef::from_value).collect(),
            attachments: doc.get("attachments").and_then(Value::as_array).map_or(0, Vec::len),
            pinned: doc.get("pinned").is_some_and(truthy),
            drid: non_empty(&mut doc, "drid"),
        })
    }

    /// Whether it is what is left of a deleted message.
    pub fn is_tombstone(&self) -> bool {
        self.kind.as_deref() == Some("rm")
    }
}

impl UserRef {
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        Some(Self {
            id: text(&mut doc, "_id")?,
            username: text(&mut doc, "username").unwrap_or_default(),
            name: non_empty(&mut doc, "name"),
        })
    }
}

/// What the server says about a message's room beside it. Servers around 0.72 do not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Whether we are in the room: public rooms that we never joined are delivered too.
    pub room_participant: bool,
    /// `c` public, `p` private, `d` direct, `l` omnichannel.
    pub room_type: Option<String>,
    /// Absent for direct messages; an id for discussions.
    pub room_name: Option<String>,
}

impl Meta {
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        Some(Self {
            room_participant: doc.get("roomParticipant").is_some_and(truthy),
            room_type: non_empty(&mut doc, "roomType"),
            room_name: non_empty(&mut doc, "roomName"),
        })
    }
}

/// A room document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Room {
    pub id: String,
    /// `c` public, `p` private, `d` direct, `l` omnichannel.
    pub kind: String,
    /// Absent for direct messages; an id for discussions.
    pub name: Option<String>,
    /// The displayed name; the readable one of a discussion.
    pub fname: Option<String>,
    /// The parent room of a discussion.
    pub prid: Option<String>,
    pub encrypted: bool,
    pub read_only: bool,
    pub archived: bool,
    /// When the last message was sent. A thread reply or a reaction does not move it.
    pub last_message_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    /// Of a direct conversation.
    pub usernames: Vec<String>,
    /// Of a direct conversation.
    pub uids: Vec<String>,
}

impl Room {
    /// Reads a document; `None` without an id.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        Some(Self {
            // `im.create` of older servers answers with `rid` alone.
            id: non_empty(&mut doc, "_id").or_else(|| non_empty(&mut doc, "rid"))?,
            kind: text(&mut doc, "t").unwrap_or_default(),
            name: non_empty(&mut doc, "name"),
            fname: non_empty(&mut doc, "fname"),
            prid: non_empty(&mut doc, "prid"),
            encrypted: doc.get("encrypted").is_some_and(truthy),
            read_only: doc.get("ro").is_some_and(truthy),
            archived: doc.get("archived").is_some_and(truthy),
            last_message_at: doc.get("lm").and_then(timestamp),
            updated_at: doc.get("_updatedAt").and_then(timestamp),
            usernames: strings(doc.remove("usernames")),
            uids: strings(doc.remove("uids")),
        })
    }
}

/// Our membership in a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscription {
    pub id: String,
    pub rid: String,
    /// `c`, `p`, `d`, `l`; may be empty when the membership was removed.
    pub kind: String,
    pub name: Option<String>,
    pub fname: Option<String>,
    /// Roles in this room: `owner`, `moderator`, `leader`.
    pub roles: Vec<String>,
    pub archived: bool,
    pub encrypted: bool,
    pub updated_at: Option<Timestamp>,
}

impl Subscription {
    /// Reads a document; `None` without `rid`.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        Some(Self {
            rid: non_empty(&mut doc, "rid")?,
            id: text(&mut doc, "_id").unwrap_or_default(),
            kind: text(&mut doc, "t").unwrap_or_default(),
            name: non_empty(&mut doc, "name"),
            fname: non_empty(&mut doc, "fname"),
            roles: strings(doc.remove("roles")),
            archived: doc.get("archived").is_some_and(truthy),
            encrypted: doc.get("encrypted").is_some_and(truthy),
            updated_at: doc.get("_updatedAt").and_then(timestamp),
        })
    }
}

/// A user, as far as the server shows them to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub username: String,
    pub name: Option<String>,
    /// Absent when hidden from us, which is the rule for others without `view-full-other-user-info`.
    pub roles: Option<Vec<String>>,
    pub active: bool,
    /// `user`, `bot`, `app`.
    pub kind: String,
    /// How many minutes their clock is ahead of UTC, as their client told last.
    pub utc_offset: Option<i32>,
}

/// Of an offset in hours; the zones of the world are within a day.
fn minutes(hours: f64) -> Option<i32> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
    (hours.abs() < 24.0).then(|| (hours * 60.0).round() as i32)
}

impl User {
    /// Reads a document; `None` without an id.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        Some(Self {
            id: non_empty(&mut doc, "_id")?,
            username: text(&mut doc, "username").unwrap_or_default(),
            name: non_empty(&mut doc, "name"),
            roles: doc.contains_key("roles").then(|| strings(doc.remove("roles"))),
            active: doc.get("active").is_none_or(truthy),
            kind: text(&mut doc, "type").unwrap_or_default(),
            utc_offset: doc.get("utcOffset").and_then(Value::as_f64).and_then(minutes),
        })
    }
}

/// Which messages a prune removed: those of `rid` between the bounds, or exactly `ids` when given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeletedBulk {
    pub rid: String,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    pub exclude_pinned: bool,
    /// Only theirs, by user name; everybody's when empty.
    pub users: Vec<String>,
    pub ids: Vec<String>,
}

impl DeletedBulk {
    pub fn from_value(value: Value, rid: &str) -> Option<Self> {
        let Value::Object(mut doc) = value else { return None };
        let bounds = doc.remove("ts").unwrap_or_default();
        let bound = |keys: [&str; 2]| keys.iter().find_map(|key| bounds.get(*key).and_then(timestamp));
        Some(Self {
            after: bound(["$gt", "$gte"]),
            before: bound(["$lt", "$lte"]),
            rid: non_empty(&mut doc, "rid").unwrap_or_else(|| rid.to_owned()),
            exclude_pinned: doc.get("excludePinned").is_some_and(truthy),
            users: strings(doc.remove("users")),
            ids: strings(doc.remove("ids")),
        })
    }
}

/// All strings under `key` of a list of documents, or the strings of a list.
pub(super) fn strings(value: Option<Value>) -> Vec<String> {
    objects(value)
        .filter_map(|item| match item {
            Value::String(text) => Some(text),
            _ => None,
        })
        .collect()
}

pub(super) fn objects(value: Option<Value>) -> impl Iterator<Item = Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
    .into_iter()
}

/// Takes a string out of a document.
pub(super) fn text(doc: &mut Fields, key: &str) -> Option<String> {
    match doc.get_mut(key)?.take() {
        Value::String(text) => Some(text),
        _ => None,
    }
}

pub(super) fn non_empty(doc: &mut Fields, key: &str) -> Option<String> {
    text(doc, key).filter(|text| !text.is_empty())
}

/// As JavaScript would see it, since that is what wrote it.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(n) => n.as_f64().is_some_and(|n| n != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn reactions(value: Value) -> BTreeMap<String, Vec<String>> {
    let Value::Object(map) = value else { return BTreeMap::new() };
    map.into_iter()
        .filter_map(|(emoji, mut who)| {
            let names = strings(who.get_mut("usernames").map(Value::take));
            (!names.is_empty()).then_some((emoji, names))
        })
        .collect()
}
