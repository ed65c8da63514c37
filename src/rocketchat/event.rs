//! What the streams tell, in words.
//!
//! Must not: decide anything, or fail: an event that cannot be read is none.

use serde_json::Value;

use super::model::{DeletedBulk, Message, Meta, Subscription, UserRef, strings};

/// What changed about a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Inserted,
    Updated,
    Removed,
}

/// What happened. In the order in which the server told it.
#[derive(Clone, Debug, PartialEq)]
pub enum RealtimeEvent {
    /// Connected, logged in and subscribed. What happened since the last connection was not told: catch up now.
    /// Messages may come before it, never ones from before its subscription.
    Online { user_id: String, username: String },
    /// The connection is gone, or the first attempt failed. Told once per gap; attempts go on.
    Offline { reason: String },
    /// The server does not accept token or password. Attempts go on slowly, since an operator may repair it.
    AuthRejected { reason: String },
    /// A message document, new or changed in any way, our own ones too.
    Message {
        message: Box<Message>,
        /// Old servers do not send it: look the room up then.
        meta: Option<Meta>,
    },
    /// We joined a room, left it, or our membership changed (also on unread counters).
    Subscription { change: Change, subscription: Box<Subscription> },
    /// In a watched room, a message was deleted.
    Deleted { room: String, id: String },
    /// In a watched room, messages were pruned.
    DeletedBulk(DeletedBulk),
    /// Shown to us alone, never stored: why something we sent was not taken.
    Ephemeral { room: String, text: String },
    /// The server is about to end our session.
    ForceLogout,
    /// Names change hands: forget who had this one.
    NameChanged { user_id: String, username: String, name: Option<String> },
    /// Somebody's presence or roles changed.
    UserStatus {
        user_id: String,
        username: String,
        /// 0 offline, 1 online, 2 away, 3 busy.
        status: u8,
        /// Absent when the server does not tell.
        roles: Option<Vec<String>>,
    },
}

impl RealtimeEvent {
    /// Reads an event of a stream.
    pub fn from_stream(collection: &str, event_name: &str, args: Vec<Value>) -> Option<Self> {
        let mut args = args.into_iter();
        let event = event_name.rsplit_once('/');
        match (collection, event) {
            ("stream-room-messages", _) => Some(Self::Message {
                message: Box::new(Message::from_value(args.next()?)?),
                meta: args.next().and_then(Meta::from_value),
            }),
            ("stream-notify-user", Some((_, "subscriptions-changed"))) => {
                let change = match args.next()?.as_str()? {
                    "inserted" => Change::Inserted,
                    "removed" => Change::Removed,
                    _ => Change::Updated,
                };
                let subscription = Box::new(Subscription::from_value(args.next()?)?);
                Some(Self::Subscription { change, subscription })
            }
            ("stream-notify-user", Some((_, "message"))) => {
                let mut doc = args.next()?;
                let mut take = |key: &str| match doc.get_mut(key).map(Value::take) {
                    Some(Value::String(text)) => Some(text),
                    _ => None,
                };
                Some(Self::Ephemeral { room: take("rid")?, text: take("msg").unwrap_or_default() })
            }
            ("stream-notify-user", Some((_, "force_logout"))) => Some(Self::ForceLogout),
            ("stream-notify-room", Some((room, "deleteMessage"))) => {
                let id = args.next()?.get("_id")?.as_str()?.to_owned();
                Some(Self::Deleted { room: room.to_owned(), id })
            }
            ("stream-notify-room", Some((room, "deleteMessageBulk"))) => {
                Some(Self::DeletedBulk(DeletedBulk::from_value(args.next()?, room)?))
            }
            ("stream-notify-logged", None) if event_name == "Users:NameChanged" => {
                let user = UserRef::from_value(args.next()?)?;
                Some(Self::NameChanged { user_id: user.id, username: user.username, name: user.name })
            }
            ("stream-notify-logged", None) if event_name == "user-status" => {
                // [uid, username, status, text, name, roles]
                let Value::Array(mut status) = args.next()? else { return None };
                let roles = status.get_mut(5).map(Value::take).filter(Value::is_array);
                Some(Self::UserStatus {
                    user_id: status.first()?.as_str()?.to_owned(),
                    username: status.get(1)?.as_str()?.to_owned(),
                    status: status
                        .get(2)
                        .and_then(Value::as_u64)
                        .and_then(|n| u8::try_from(n).ok())
                        .unwrap_or(0),
                    roles: roles.map(|roles| strings(Some(roles))),
                })
            }
            _ => None,
        }
    }
}
