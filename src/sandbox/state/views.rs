//! What is asked for by many doors: lists of rooms, subscriptions and changes; slash words.

use serde_json::{Value, json};

use super::rooms::Kind;
use super::{Doc, Sending, Via, World, date, millis, permissions, text};
use crate::sandbox::refusal::Refusal;

impl World {
    /// The user's rooms; with `since` only those changed later, and as `{update, remove}`.
    pub fn rooms_of(&self, uid: &str, since: Option<i64>, always_split: bool) -> Value {
        let rooms: Vec<Doc> = self
            .rooms
            .values()
            .filter(|room| self.is_member(&room.id, uid))
            .filter(|room| since.is_none_or(|since| room.updated > since))
            .map(|room| self.room_doc(&room.id))
            .collect();
        if since.is_some() || always_split { json!({"update": rooms, "remove": []}) } else { json!(rooms) }
    }

    /// The user's subscriptions, in the same two forms.
    pub fn subscriptions_of(&self, uid: &str, since: Option<i64>) -> Value {
        let all: Vec<Doc> = self
            .members
            .values()
            .filter(|membership| membership.uid == uid)
            .filter(|membership| since.is_none_or(|since| membership.updated > since))
            .filter_map(|membership| self.subscription_doc(&membership.rid, uid))
            .collect();
        if since.is_some() { json!({"update": all, "remove": []}) } else { json!(all) }
    }

    /// Everything that changed in a room after `since`, newest `ts` first.
    pub fn changes_since(&self, rid: &str, since: i64) -> Value {
        let mut updated: Vec<&Doc> =
            self.messages_in(rid).filter(|message| updated_at(message) > since).collect();
        updated.sort_by_key(|message| std::cmp::Reverse(message.get("ts").and_then(millis)));
        json!({"updated": updated, "deleted": self.deleted_since(rid, since)})
    }

    /// Newest first.
    pub fn deleted_since(&self, rid: &str, since: i64) -> Vec<Value> {
        self.trash
            .iter()
            .rev()
            .filter(|(room, _, at)| room == rid && *at > since)
            .map(|(_, id, at)| json!({"_id": id, "_deletedAt": date(*at)}))
            .collect()
    }

    pub fn read_room(&mut self, rid: &str, uid: &str) {
        let now = self.now();
        let Some(membership) = self.members.get_mut(&(rid.to_owned(), uid.to_owned())) else { return };
        membership.unread = 0;
        membership.mentions = 0;
        membership.alert = false;
        membership.read_at = Some(now);
        self.touch_subscription(rid, uid);
    }

    /// Online once a socket has logged in; offline when the last one is gone.
    pub fn set_online(&mut self, uid: &str) {
        if self.people.get(uid).is_some_and(|person| person.status == "offline") {
            self.set_status(uid, "online", None);
        }
    }

    /// Forgets a socket.
    pub fn disconnect(&mut self, connection: u64) {
        let Some(gone) = self.connections.remove(&connection) else { return };
        let Some(uid) = gone.uid else { return };
        if !self.connections.values().any(|other| other.uid.as_ref() == Some(&uid)) {
            self.set_status(&uid, "offline", None);
        }
    }

    /// One of Rocket.Chat's own slash commands, in the room and with the id (if any) of `said`. The caller has
    /// checked that there is one of this name.
    pub fn slash(&mut self, uid: &str, command: &str, params: &str, said: &Value) -> Result<(), Refusal> {
        let rid = said["rid"].as_str().unwrap_or_default();
        let entry = permissions::SLASH.iter().find(|(name, ..)| *name == command);
        if let Some((.., Some(permission))) = entry
            && !self.may(uid, permission, Some(rid))
        {
            return Err(Refusal::of(command, "unauthorized", "You are not authorized to do this"));
        }
        let first = params.split_whitespace().next().unwrap_or_default();
        let named_room = || self.find_room(first).map(|room| room.id.clone());
        let who = self.id_of(first);
        let missing = || Refusal::of(command, "error-invalid-user", "Invalid user");
        let say = |world: &mut Self, msg: String, rid: &str| {
            let Value::Object(mut doc) = json!({"rid": rid, "msg": msg}) else { return Ok(()) };
            if let Some(id) = said.get("_id") {
                doc.insert("_id".into(), id.clone());
            }
            world.send(uid, Sending { doc, via: Via::SendMessage }).map(|_| ())
        };
        match command {
            "me" => say(self, format!("_{params}_"), rid)?,
            "shrug" => say(self, format!("{params} ¯\\\\_(ツ)_/¯").trim().to_owned(), rid)?,
            "tableflip" => say(self, format!("{params} (╯°□°）╯︵ ┻━┻").trim().to_owned(), rid)?,
            "unflip" => say(self, format!("{params} ┬─┬ ノ( ゜-゜ノ)").trim().to_owned(), rid)?,
            "lennyface" => say(self, format!("{params} ( ͡° ͜ʖ ͡°)").trim().to_owned(), rid)?,
            "gimme" => say(self, format!("༼ つ ◕_◕ ༽つ {params}").trim().to_owned(), rid)?,
            "topic" => {
                let topic = params.to_owned();
                self.change_room(rid, |room| room.topic = Some(topic));
                self.system_message(rid, "room_changed_topic", params, uid);
            }
            "status" => {
                let status = self.people.get(uid).map(|p| p.status.clone()).unwrap_or_default();
                self.set_status(uid, &status, Some(params));
                self.emit_ephemeral(uid, rid, "Status message changed successfully.");
            }
            "msg" => {
                let other = who.ok_or_else(missing)?;
                let direct = self.direct_room(uid, &[other])?;
                let said = params.trim_start().strip_prefix(first).unwrap_or_default().trim().to_owned();
                say(self, said, &direct)?;
            }
            "invite" => self.add_member(rid, &who.ok_or_else(missing)?, uid),
            "kick" => self.remove_member(rid, &who.ok_or_else(missing)?, uid),
            "leave" | "part" => self.remove_member(rid, uid, uid),
            "join" => {
                if let Some(room) = named_room() {
                    self.add_member(&room, uid, uid);
                }
            }
            "create" => {
                self.create_room(Kind::Public, first.trim_start_matches('#'), uid, &[])?;
            }
            "mute" | "unmute" => {
                let name = self.people.get(&who.ok_or_else(missing)?).map(|p| p.username.clone());
                let name = name.unwrap_or_default();
                self.change_room(rid, |room| {
                    room.muted.retain(|muted| *muted != name);
                    if command == "mute" {
                        room.muted.push(name.clone());
                    }
                });
                let kind = if command == "mute" { "user-muted" } else { "user-unmuted" };
                self.system_message(rid, kind, &name, uid);
            }
            "archive" | "unarchive" => {
                let room = named_room().unwrap_or_else(|| rid.to_owned());
                self.archive(&room, command == "archive", uid);
            }
            "help" => {
                self.emit_ephemeral(uid, rid, "Keyboard shortcuts and slash commands: /msg /join /invite …");
            }
            _ => {}
        }
        Ok(())
    }

    pub fn archive(&mut self, rid: &str, archived: bool, uid: &str) {
        for ((room, _), membership) in &mut self.members {
            if room == rid {
                (membership.open, membership.alert) = (!archived, false);
            }
        }
        self.change_room(rid, |room| room.archived = Some(archived));
        self.system_message(rid, if archived { "room-archived" } else { "room-unarchived" }, "", uid);
    }
}

/// When the document last changed; 0 when it does not say.
pub fn updated_at(message: &Doc) -> i64 {
    message.get("_updatedAt").and_then(millis).unwrap_or(0)
}

/// Whether a message stands in the room itself, not only in a thread.
pub fn is_shown(message: &Doc) -> bool {
    text(message, "tmid").is_empty() || message.get("tshow").and_then(Value::as_bool) == Some(true)
}
