//! Rooms and memberships.
//!
//! Must not: take a room's `lm` for "nothing happened": reactions, edits and thread replies do not move it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::error::RestError;
use super::super::model::{Room, Subscription, User, objects};
use super::{Answer, Rest, missing};

/// The server's largest page, unless an administrator changed it.
const PAGE: usize = 100;

/// A room with more members than this is not listed to the end.
const MAX_MEMBERS: usize = 10_000;

/// What changed since a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<T> {
    pub updated: Vec<T>,
    /// Ids of what is gone.
    pub removed: Vec<String>,
}

impl Rest {
    /// Our rooms: all, or those whose `_updatedAt` is later than `since`.
    pub async fn rooms_get(&self, since: Option<Timestamp>) -> Result<Changes<Room>, RestError> {
        Ok(changes(self.changed("rooms.get", since).await?, Room::from_value))
    }

    /// Our memberships: all, or those changed after `since`.
    pub async fn subscriptions_get(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Changes<Subscription>, RestError> {
        Ok(changes(self.changed("subscriptions.get", since).await?, Subscription::from_value))
    }

    async fn changed(&self, route: &'static str, since: Option<Timestamp>) -> Result<Answer, RestError> {
        match since {
            Some(moment) => self.get(route, &[("updatedSince", &format!("{moment:.3}"))]).await,
            None => self.get(route, &[]).await,
        }
    }

    /// A room by id.
    pub async fn room_info(&self, rid: &str) -> Result<Room, RestError> {
        self.room("rooms.info", &[("roomId", rid)]).await
    }

    /// A room by name, without `#`.
    pub async fn room_by_name(&self, name: &str) -> Result<Room, RestError> {
        self.room("rooms.info", &[("roomName", name)]).await
    }

    async fn room(&self, route: &'static str, query: &[(&str, &str)]) -> Result<Room, RestError> {
        let mut answer = self.get(route, query).await?;
        answer.remove("room").and_then(Room::from_value).ok_or_else(|| missing(route, "room"))
    }

    /// The direct room with a user, made when it does not exist. Remembered.
    pub async fn im_create(&self, username: &str) -> Result<String, RestError> {
        let directs = || self.shared.directs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(rid) = directs().get(username) {
            return Ok(rid.clone());
        }
        let mut answer = self.post("im.create", &json!({ "username": username })).await?;
        let room = answer.remove("room").and_then(Room::from_value);
        let rid = room.ok_or_else(|| missing("im.create", "room"))?.id;
        directs().insert(username.to_owned(), rid.clone());
        Ok(rid)
    }

    /// Forgets which direct room belongs to a user name: names change hands.
    pub fn forget_direct(&self, username: &str) {
        self.shared.directs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(username);
    }

    /// Who is in a room. `kind` is [`Room::kind`].
    pub async fn members(&self, rid: &str, kind: &str) -> Result<Vec<User>, RestError> {
        let route = match kind {
            "p" => "groups.members",
            "d" => "im.members",
            _ => "channels.members",
        };
        let mut members = Vec::new();
        loop {
            let (offset, count) = (members.len().to_string(), PAGE.to_string());
            let query = [("roomId", rid), ("offset", offset.as_str()), ("count", count.as_str())];
            let mut answer = self.get(route, &query).await?;
            let total = answer.get("total").and_then(Value::as_u64).unwrap_or_default();
            let before = members.len();
            members.extend(objects(answer.remove("members")).filter_map(User::from_value));
            let all = members.len() as u64 >= total || members.len() >= MAX_MEMBERS;
            if all || members.len() == before {
                return Ok(members);
            }
        }
    }
}

fn changes<T>(mut answer: Answer, read: impl Fn(Value) -> Option<T>) -> Changes<T> {
    let id = |mut doc: Value| match doc.get_mut("_id").map(Value::take) {
        Some(Value::String(id)) => Some(id),
        _ => None,
    };
    Changes {
        updated: objects(answer.remove("update")).filter_map(read).collect(),
        removed: objects(answer.remove("remove")).filter_map(id).collect(),
    }
}
