//! Messages: send exactly once, edit, react, delete, read again, catch up.
//!
//! Must not: send `ts` (the server's clock decides), or call a message refused that was sent.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Rest, missing};

use super::super::error::RestError;
use super::super::model::{Message, objects};

/// A message to send. With the same `id` it may be sent again: there will be one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Made by the caller: 17 characters of an unambiguous alphabet, as the server's own.
    pub id: String,
    pub rid: String,
    pub text: String,
    /// The thread it belongs to.
    pub tmid: Option<String>,
    /// A displayed name; needs the permission `message-impersonate`.
    pub alias: Option<String>,
    /// Attachments as the wire has them; they can never be edited over REST.
    pub attachments: Option<Value>,
}

/// What became of [`Rest::send_message`].
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    Now(Message),
    /// An earlier attempt had got through.
    AlreadySent(Message),
}

/// Which changes of a room to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// All changes after this moment (by `_updatedAt`), unbounded, newest message first. Works everywhere.
    Since(Timestamp),
    /// A page of updated messages after this moment, oldest change first. Unknown to 6.5.
    UpdatedPage { after: Timestamp, count: u32 },
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncPage {
    pub updated: Vec<Message>,
    /// Ids of deleted messages.
    pub deleted: Vec<String>,
    /// Where the next page begins; only for [`Sync::UpdatedPage`], absent on the last page.
    pub next: Option<Timestamp>,
}

impl Rest {
    /// Sends a message under the caller's id, whose links the server does not fetch for a preview. A refusal is checked against what the room holds, since a server
    /// refuses an id that exists already (6.5: 400 `Cannot read property 'starred' of undefined`).
    pub async fn send_message(&self, outgoing: &Outgoing) -> Result<Sent, RestError> {
        let route = "chat.sendMessage";
        let mut message = json!({ "_id": outgoing.id, "rid": outgoing.rid, "msg": outgoing.text });
        let optional = [
            ("tmid", outgoing.tmid.clone().map(Value::String)),
            ("alias", outgoing.alias.clone().map(Value::String)),
            ("attachments", outgoing.attachments.clone()),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                message[key] = value;
            }
        }
        let refusal = match self.post(route, &json!({ "message": message, "previewUrls": [] })).await {
            Ok(mut answer) => match answer.remove("message").and_then(Message::from_value) {
                Some(message) => return Ok(Sent::Now(message)),
                None => missing(route, "message"),
            },
            Err(error @ RestError::Refused { status: 400, .. }) => error,
            Err(error) => return Err(error),
        };
        match self.get_message(&outgoing.id).await? {
            Some(found) if self.user_id().is_none_or(|me| me == found.user.id) => {
                Ok(Sent::AlreadySent(found))
            }
            _ => Err(refusal),
        }
    }

    /// Replaces the text of one of our messages; no link in it is fetched for a preview. The same text again is a silent success. Attachments stay.
    pub async fn update(&self, rid: &str, id: &str, text: &str) -> Result<(), RestError> {
        let body = json!({ "roomId": rid, "msgId": id, "text": text, "previewUrls": [] });
        self.post("chat.update", &body).await.map(drop)
    }

    /// Sets or takes back our reaction; repeating changes nothing.
    pub async fn react(&self, id: &str, emoji: &str, on: bool) -> Result<(), RestError> {
        self.post("chat.react", &json!({ "messageId": id, "emoji": emoji, "shouldReact": on }))
            .await
            .map(drop)
    }

    /// Deletes one of our messages; the `bot` role alone may not (`delete-own-message`).
    pub async fn delete(&self, rid: &str, id: &str) -> Result<(), RestError> {
        self.post("chat.delete", &json!({ "roomId": rid, "msgId": id })).await.map(drop)
    }

    /// A message as it is now; `None` when it does not exist or we may not see it, which the server does not
    /// tell apart.
    pub async fn get_message(&self, id: &str) -> Result<Option<Message>, RestError> {
        match self.get("chat.getMessage", &[("msgId", id)]).await {
            Ok(mut answer) => Ok(answer.remove("message").and_then(Message::from_value)),
            Err(RestError::Refused { status: 400 | 403 | 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What changed in a room: new, edited, reacted to, thread replies, and deletions.
    pub async fn sync_messages(&self, rid: &str, sync: Sync) -> Result<SyncPage, RestError> {
        let route = "chat.syncMessages";
        let mut answer = match sync {
            Sync::Since(moment) => {
                let since = format!("{moment:.3}");
                self.get(route, &[("roomId", rid), ("lastUpdate", &since)]).await?
            }
            Sync::UpdatedPage { after, count } => {
                let (next, count) = (after.as_millisecond().to_string(), count.to_string());
                let query = [("roomId", rid), ("type", "UPDATED"), ("next", &next), ("count", &count)];
                self.get(route, &query).await?
            }
        };
        let Some(Value::Object(mut result)) = answer.remove("result") else {
            return Err(missing(route, "result"));
        };
        let id = |mut doc: Value| match doc.get_mut("_id").map(Value::take) {
            Some(Value::String(id)) => Some(id),
            _ => None,
        };
        Ok(SyncPage {
            updated: objects(result.remove("updated")).filter_map(Message::from_value).collect(),
            deleted: objects(result.remove("deleted")).filter_map(id).collect(),
            next: result.get("cursor").and_then(|cursor| cursor.get("next")).and_then(cursor_moment),
        })
    }
}

/// Milliseconds, as a number or as text.
fn cursor_moment(cursor: &Value) -> Option<Timestamp> {
    match cursor.as_str().and_then(|text| text.parse().ok()) {
        Some(ms) => Timestamp::from_millisecond(ms).ok(),
        None => super::super::ejson::timestamp(cursor),
    }
}
