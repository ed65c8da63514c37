//! Messages: sent, edited, deleted, pinned; each change emits the whole document again.

use serde_json::{Value, json};

use super::rooms::Kind;
use super::{Doc, TRASH, World, date, millis, text};
use crate::ids::random_id;
use crate::sandbox::refusal::Refusal;

/// Which door a message came through; the doors check different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Ddp,
    SendMessage,
    PostMessage,
    Upload,
}

/// A message on its way in.
#[derive(Debug)]
pub struct Sending {
    pub doc: Doc,
    pub via: Via,
}

/// How many messages a room keeps.
const MOST_MESSAGES: usize = 20_000;
/// What only the server may say about a message.
const FORCED: &[&str] = &["u", "_updatedAt", "urls", "mentions", "channels", "md"];

impl World {
    /// Checks, stores and emits a message. `Ok(None)`: there is one with this id already.
    pub fn send(&mut self, uid: &str, sending: Sending) -> Result<Option<Doc>, Refusal> {
        let Sending { mut doc, via } = sending;
        let refuse = |code: &str, reason: &str| Refusal::of("sendMessage", code, reason);
        if doc.contains_key("tshow") && !doc.contains_key("tmid") {
            return Err(refuse("invalid-params", "tshow provided but missing tmid"));
        }
        let now = self.now();
        let ts = match doc.get("ts").and_then(millis) {
            Some(ts) if (ts - now).abs() > 60_000 => {
                return Err(refuse("error-message-ts-out-of-sync", "Message timestamp is out of sync"));
            }
            Some(ts) if (ts - now).abs() <= 10_000 => ts,
            _ => now,
        };
        let limit = usize::try_from(self.number("Message_MaxAllowedSize")).unwrap_or(usize::MAX);
        if text(&doc, "msg").encode_utf16().count() > limit {
            if via == Via::SendMessage || via == Via::Ddp {
                return Err(refuse(
                    "error-message-size-exceeded",
                    "Message size exceeds Message_MaxAllowedSize",
                ));
            }
            if !self.is_old() {
                return Err(Refusal::plain("error-message-size-exceeded"));
            }
        }
        let attached = doc.get("attachments").and_then(Value::as_array).into_iter().flatten();
        let long =
            attached.filter_map(|one| one["text"].as_str()).any(|said| said.encode_utf16().count() > limit);
        if long && via == Via::PostMessage && !self.is_old() {
            return Err(Refusal::plain("error-message-size-exceeded"));
        }
        if let Some(parent) = doc.get("tmid").and_then(Value::as_str).and_then(|tmid| self.messages.get(tmid))
        {
            let (rid, root) = (text(parent, "rid").to_owned(), parent.get("tmid").cloned());
            doc.insert("rid".into(), rid.into());
            if let Some(root) = root {
                doc.insert("tmid".into(), root);
            }
        }
        let rid = text(&doc, "rid").to_owned();
        self.may_send(uid, &rid, &mut doc, via)?;
        if doc.get("_id").and_then(Value::as_str).is_some_and(|id| self.messages.contains_key(id)) {
            return Ok(None);
        }
        let stamp = self.people.get(uid).map(super::Person::stamp).unwrap_or_default();
        for key in FORCED {
            doc.shift_remove(*key);
        }
        if !doc.contains_key("msg") {
            doc.insert("msg".into(), "".into());
        }
        if !self.is_old() {
            let clean = text(&doc, "msg").replace('\0', "");
            doc.insert("msg".into(), clean.into());
        }
        doc.insert("ts".into(), date(ts));
        doc.insert("u".into(), stamp);
        if !doc.get("_id").is_some_and(Value::is_string) {
            doc.insert("_id".into(), random_id().into());
        }
        self.enrich(&mut doc, &rid);
        let mid = self.store(doc);
        self.announce_message(&rid, &mid, uid);
        Ok(self.messages.get(&mid).cloned())
    }

    fn may_send(&self, uid: &str, rid: &str, doc: &mut Doc, via: Via) -> Result<(), Refusal> {
        let Some(room) = self.rooms.get(rid) else { return Err(Refusal::plain("error-invalid-room")) };
        let Some(person) = self.people.get(uid) else { return Err(Refusal::plain("error-not-allowed")) };
        let ephemeral = |said: &str| self.emit_ephemeral(uid, rid, said);
        // What `chat.postMessage` refuses it says in its answer alone, except for mentions.
        let explain = |said: &str| {
            if via != Via::PostMessage {
                ephemeral(said);
            }
        };
        if !self.can_access(rid, uid) {
            explain("Not allowed");
            return Err(match via {
                Via::Ddp => Refusal::of("sendMessage", "error-not-allowed", "Not allowed"),
                _ => Refusal::plain("error-not-allowed"),
            });
        }
        if room.muted.contains(&person.username) {
            explain("You have been muted and cannot speak in this room");
            return Err(Refusal::plain("You_have_been_muted"));
        }
        if room.read_only && !self.may(uid, "post-readonly", Some(rid)) {
            explain("You can't send messages because the room is readonly.");
            return Err(Refusal::plain("You can't send messages because the room is readonly."));
        }
        let is_e2e = text(doc, "t") == "e2e";
        if room.encrypted && !is_e2e && !self.flag("E2E_Allow_Unencrypted_Messages") {
            let reason = "Not allowed to send un-encrypted messages in an encrypted room";
            return Err(Refusal::of("sendMessage", "error-not-allowed", reason));
        }
        let said = text(doc, "msg").to_owned();
        for (name, permission, method, all, what) in [
            ("all", "mention-all", "filterATAllTag", "Notify_all_in_this_room", "Notify all"),
            ("here", "mention-here", "filterATHereTag", "Notify_active_in_this_room", "Notify active users"),
        ] {
            if mentions(&said).any(|mention| mention == name) && !self.may(uid, permission, Some(rid)) {
                let reason = format!("Notify {name} in this room not allowed");
                ephemeral(&format!("{what} in this room is not allowed"));
                explain("{{action}} is not allowed");
                return Err(Refusal::new("error-action-not-allowed", &reason)
                    .details(json!({"method": method, "action": all})));
            }
        }
        let disguised = ["alias", "avatar", "emoji"].iter().any(|key| !text(doc, key).is_empty());
        if disguised && !self.may(uid, "message-impersonate", Some(rid)) {
            explain("Not enough permission");
            return Err(Refusal::plain("Not enough permission"));
        }
        self.check_attachments(doc)?;
        let bare =
            said.is_empty() && ["attachments", "blocks", "content"].iter().all(|key| !doc.contains_key(*key));
        if bare && !self.is_old() && doc.get("t").is_none() {
            return Err(Refusal::of("sendMessage", "invalid-params", "Message is empty"));
        }
        Ok(())
    }

    fn check_attachments(&self, doc: &mut Doc) -> Result<(), Refusal> {
        if doc.get("attachments").is_some_and(|attachments| !attachments.is_array()) {
            doc.shift_remove("attachments");
        }
        let Some(attachments) = doc.get_mut("attachments").and_then(Value::as_array_mut) else {
            return Ok(());
        };
        for attachment in attachments.iter_mut().filter_map(Value::as_object_mut) {
            let wicked = attachment
                .iter()
                .filter(|(key, _)| key.ends_with("link") || key.ends_with("url"))
                .any(|(_, value)| {
                    value.as_str().is_some_and(|url| url.trim().to_lowercase().starts_with("javascript:"))
                });
            if wicked {
                return Err(Refusal::plain("Invalid href value provided"));
            }
            let fields = attachment.get("fields").and_then(Value::as_array).into_iter().flatten();
            let hollow = fields.clone().any(|field| !truthy(&field["title"]) || !truthy(&field["value"]));
            if hollow && !self.is_old() {
                return Err(Refusal::plain("Invalid attachment field, title and value is required"));
            }
            // A text on every wire, as the real server has it.
            attachment.entry("ts").or_insert("1970-01-01T00:00:00.000Z".into());
        }
        Ok(())
    }

    /// Derives links and mentions from the text.
    fn enrich(&self, doc: &mut Doc, rid: &str) {
        let said = text(doc, "msg").to_owned();
        let urls: Vec<Value> = said
            .split_whitespace()
            .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
            .map(|url| json!({"url": url, "meta": {}}))
            .collect();
        let mut who: Vec<Value> = Vec::new();
        for mention in mentions(&said) {
            let value = match mention {
                "all" | "here" => json!({"_id": mention, "username": mention}),
                _ => match self.id_of(mention).and_then(|id| self.people.get(&id)) {
                    Some(person) => json!({"_id": person.id, "username": person.username,
                        "name": person.name, "type": "user"}),
                    None => continue,
                },
            };
            if !who.contains(&value) {
                who.push(value);
            }
        }
        let channels: Vec<Value> = words_after(&said, '#')
            .filter_map(|name| self.find_room(name))
            .filter(|room| room.kind == Kind::Public && room.id != rid)
            .map(|room| json!({"_id": room.id, "name": room.name}))
            .collect();
        if doc.get("parseUrls") != Some(&Value::Bool(false)) {
            doc.insert("urls".into(), Value::Array(urls));
        }
        doc.insert("mentions".into(), Value::Array(who));
        doc.insert("channels".into(), Value::Array(channels));
    }

    /// Puts a finished document into its room without a word to anyone.
    pub fn store(&mut self, mut doc: Doc) -> String {
        let now = self.now();
        doc.entry("_updatedAt").or_insert(date(now));
        let (mid, rid) = (text(&doc, "_id").to_owned(), text(&doc, "rid").to_owned());
        let timeline = self.timeline.entry(rid.clone()).or_default();
        timeline.push(mid.clone());
        if timeline.len() > MOST_MESSAGES {
            let oldest = timeline.remove(0);
            self.messages.remove(&oldest);
        }
        let (ts, is_reply) = (doc.get("ts").and_then(millis), doc.contains_key("tmid"));
        let is_system = doc.contains_key("t");
        self.messages.insert(mid.clone(), doc);
        if let Some(room) = self.rooms.get_mut(&rid) {
            room.count += 1;
            room.updated = now;
            // A thread reply and a system message move the room's `_updatedAt`, but neither `lm` nor
            // `lastMessage`.
            if !is_reply && !is_system {
                room.lm = ts;
                room.last = Some(mid.clone());
            }
        }
        mid
    }

    /// Everything that follows a new message: frames, unread counters, its thread's root, its discussion.
    pub fn announce_message(&mut self, rid: &str, mid: &str, uid: &str) {
        self.emit_message(mid);
        let mentioned: Vec<String> = self.messages.get(mid).map(mentioned_ids).unwrap_or_default();
        let is_system = self.messages.get(mid).is_some_and(|message| message.contains_key("t"));
        let all_count = self.settings.get("Unread_Count").is_some_and(|count| count == "all_messages")
            || self.rooms.get(rid).is_some_and(|room| room.kind == Kind::Direct);
        for member in self.members_of(rid) {
            // A system message is nobody's to read.
            if !is_system
                && member != uid
                && let Some(membership) = self.members.get_mut(&(rid.to_owned(), member.clone()))
            {
                let is_mentioned = mentioned.contains(&member);
                let before = (membership.alert, membership.open, membership.unread);
                (membership.alert, membership.open) = (true, true);
                membership.unread += u64::from(all_count || is_mentioned);
                membership.mentions += u64::from(is_mentioned);
                if before != (true, true, membership.unread) {
                    self.touch_subscription(rid, &member);
                }
            }
            self.announce_room(rid, &member, "updated");
        }
        let root = self.messages.get(mid).and_then(|message| message.get("tmid")).and_then(Value::as_str);
        if let Some(root) = root.map(str::to_owned) {
            self.count_reply(&root, mid, uid);
        }
        if self.rooms.get(rid).is_some_and(|room| room.parent.is_some()) {
            self.reemit_marker(rid);
        }
    }

    fn count_reply(&mut self, root: &str, reply: &str, uid: &str) {
        let now = self.now();
        let tlm = self.messages.get(reply).and_then(|reply| reply.get("ts")).cloned();
        let Some(message) = self.messages.get_mut(root) else { return };
        let count = message.get("tcount").and_then(Value::as_i64).unwrap_or(0) + 1;
        let author = message.get("u").and_then(|u| u.get("_id")).cloned();
        let mut replies = message.get("replies").and_then(Value::as_array).cloned().unwrap_or_default();
        for who in author.into_iter().chain([Value::from(uid)]) {
            if !replies.contains(&who) {
                replies.push(who);
            }
        }
        message.insert("replies".into(), Value::Array(replies));
        message.insert("tlm".into(), tlm.unwrap_or_else(|| date(now)));
        message.insert("tcount".into(), count.into());
        message.insert("_updatedAt".into(), date(now));
        self.emit_message(root);
    }

    /// A message in a discussion emits the marker in its parent room again.
    fn reemit_marker(&mut self, rid: &str) {
        let now = self.now();
        let marker = self.messages.values_mut().find(|message| text(message, "drid") == rid);
        let Some(marker) = marker else { return };
        let count = marker.get("dcount").and_then(Value::as_i64).unwrap_or(0) + 1;
        marker.insert("dcount".into(), count.into());
        marker.insert("dlm".into(), date(now));
        marker.insert("_updatedAt".into(), date(now));
        let mid = text(marker, "_id").to_owned();
        self.emit_message(&mid);
    }

    /// What the server itself says in a room.
    pub fn system_message(&mut self, rid: &str, kind: &str, msg: &str, uid: &str) -> String {
        let mut stamp = self.people.get(uid).map(super::Person::stamp).unwrap_or_default();
        // Who has added somebody is told by user name only.
        if kind == "au"
            && let Some(stamp) = stamp.as_object_mut()
        {
            stamp.shift_remove("name");
        }
        let now = self.now();
        let doc = json!({"_id": random_id(), "t": kind, "rid": rid, "ts": date(now), "msg": msg, "u": stamp,
            "groupable": false});
        let Value::Object(doc) = doc else { return String::new() };
        let mid = self.store(doc);
        self.announce_message(rid, &mid, uid);
        mid
    }

    /// A new text (or, over DDP on new servers and old, other parts that may change).
    pub fn update(&mut self, uid: &str, mid: &str, changes: &Doc, via: Via) -> Result<Doc, Refusal> {
        let Some(message) = self.messages.get(mid) else {
            return Err(Refusal::plain(&format!("No message found with the id of \"{mid}\".")));
        };
        let rid = text(message, "rid").to_owned();
        let own = message["u"]["_id"] == uid;
        let not_allowed = Refusal::new("error-action-not-allowed", "Message editing not allowed")
            .details(json!({"method": "updateMessage", "action": "Message_editing"}));
        let privileged = self.may(uid, "edit-message", Some(&rid));
        if !(privileged || own && self.flag("Message_AllowEditing")) || text(message, "t") == "rm" {
            return Err(not_allowed);
        }
        if !self.can_access(&rid, uid) {
            return Err(Refusal::of("updateMessage", "error-not-allowed", "Not allowed"));
        }
        let now = self.now();
        let minutes = self.number("Message_AllowEditing_BlockEditInMinutes");
        let ts = message.get("ts").and_then(millis).unwrap_or(now);
        if minutes > 0
            && now - ts > minutes * 60_000
            && !self.may(uid, "bypass-time-limit-edit-and-delete", None)
        {
            return Err(Refusal::of(
                "updateMessage",
                "error-message-editing-blocked",
                "Message editing is blocked",
            ));
        }
        let said = text(changes, "msg").to_owned();
        let limit = usize::try_from(self.number("Message_MaxAllowedSize")).unwrap_or(usize::MAX);
        if !self.is_old() && said.encode_utf16().count() > limit {
            return Err(Refusal::plain("error-message-size-exceeded"));
        }
        if changes.contains_key("msg") && said == text(message, "msg") {
            return Ok(message.clone());
        }
        let editor = self.people.get(uid).map(|p| json!({"_id": p.id, "username": p.username}));
        let mut doc = message.clone();
        for (key, value) in changes {
            let changeable = match via {
                Via::Ddp => &["tshow", "alias", "attachments", "avatar", "emoji", "msg", "customFields"][..],
                _ => &["msg", "customFields"][..],
            };
            if changeable.contains(&key.as_str()) {
                doc.insert(key.clone(), value.clone());
            }
        }
        doc.insert("editedAt".into(), date(now));
        doc.insert("editedBy".into(), editor.unwrap_or_default());
        doc.insert("_updatedAt".into(), date(now));
        self.enrich(&mut doc, &rid);
        self.messages.insert(mid.to_owned(), doc.clone());
        self.emit_message(mid);
        if self.rooms.get(&rid).is_some_and(|room| room.last.as_deref() == Some(mid)) {
            for member in self.members_of(&rid) {
                self.announce_room(&rid, &member, "updated");
            }
        }
        Ok(doc)
    }

    /// Removes a message, or leaves a tombstone where it has replies or deletions are shown.
    pub fn delete(&mut self, uid: &str, mid: &str) -> Result<Doc, Refusal> {
        let Some(message) = self.messages.get(mid).cloned() else {
            return Err(Refusal::plain(&format!("No message found with the id of \"{mid}\".")));
        };
        let rid = text(&message, "rid").to_owned();
        let own = message["u"]["_id"] == uid && self.may(uid, "delete-own-message", Some(&rid));
        let forced = ["delete-message", "force-delete-message"].iter().any(|p| self.may(uid, p, Some(&rid)));
        if !(forced || own && self.flag("Message_AllowDeleting")) || !self.can_access(&rid, uid) {
            return Err(Refusal::new("error-action-not-allowed", "Not allowed"));
        }
        let replies = message.get("tcount").and_then(Value::as_i64).unwrap_or(0);
        if replies > 0 || self.flag("Message_ShowDeletedStatus") {
            self.entomb(uid, mid);
        } else {
            self.forget(mid, true);
        }
        Ok(message)
    }

    fn entomb(&mut self, uid: &str, mid: &str) {
        let now = self.now();
        let editor = self.people.get(uid).map(|p| json!({"_id": p.id, "username": p.username}));
        let Some(message) = self.messages.get_mut(mid) else { return };
        for key in ["md", "blocks", "file", "files"] {
            message.shift_remove(key);
        }
        for (key, value) in [
            ("t", json!("rm")),
            ("msg", json!("")),
            ("urls", json!([])),
            ("mentions", json!([])),
            ("attachments", json!([])),
            ("reactions", json!({})),
            ("editedAt", date(now)),
            ("editedBy", editor.unwrap_or_default()),
            ("_updatedAt", date(now)),
        ] {
            message.insert(key.into(), value);
        }
        self.emit_message(mid);
    }

    /// Takes the message out of the store; `say` also tells the room's deleteMessage stream.
    pub fn forget(&mut self, mid: &str, say: bool) {
        let now = self.now();
        let Some(message) = self.messages.remove(mid) else { return };
        let rid = text(&message, "rid").to_owned();
        if let Some(timeline) = self.timeline.get_mut(&rid) {
            timeline.retain(|other| other != mid);
        }
        if self.trash.len() >= TRASH {
            self.trash.pop_front();
        }
        self.trash.push_back((rid.clone(), mid.to_owned(), now));
        let last = self.timeline.get(&rid).and_then(|timeline| {
            timeline
                .iter()
                .rev()
                .find(|mid| self.messages.get(*mid).is_some_and(|m| !m.contains_key("tmid")))
                .cloned()
        });
        if let Some(room) = self.rooms.get_mut(&rid) {
            room.updated = now;
            if room.last.as_deref() == Some(mid) {
                room.last = last;
            }
        }
        let root = message.get("tmid").and_then(Value::as_str).map(str::to_owned);
        if let Some(root) = root.and_then(|root| self.messages.get_mut(&root)) {
            let count = root.get("tcount").and_then(Value::as_i64).unwrap_or(1) - 1;
            if count > 0 {
                root.insert("tcount".into(), count.into());
            } else {
                for key in ["tcount", "tlm", "replies"] {
                    root.shift_remove(key);
                }
            }
            root.insert("_updatedAt".into(), date(now));
            let root = text(root, "_id").to_owned();
            self.emit_message(&root);
        }
        if say {
            self.emit("stream-notify-room", &format!("{rid}/deleteMessage"), &json!([{"_id": mid}]), None);
        }
    }

    /// Pins a message: the message again, and a system message that quotes it.
    pub fn pin(&mut self, uid: &str, mid: &str, pinned: bool) -> Result<Option<Doc>, Refusal> {
        let method = if pinned { "pinMessage" } else { "unpinMessage" };
        let missing =
            Refusal::of(method, "error-invalid-message", "Message you are trying to pin is invalid");
        let Some(message) = self.messages.get(mid).cloned() else { return Err(missing) };
        let rid = text(&message, "rid").to_owned();
        if !self.can_access(&rid, uid) || !self.may(uid, "pin-message", Some(&rid)) {
            return Err(Refusal::of(method, "not-authorized", "Not Authorized"));
        }
        let now = self.now();
        let who = self.people.get(uid).map(|p| json!({"_id": p.id, "username": p.username}));
        let name = self.people.get(uid).map(|p| p.username.clone()).unwrap_or_default();
        if let Some(message) = self.messages.get_mut(mid) {
            message.insert("pinned".into(), pinned.into());
            message.insert("pinnedAt".into(), date(now));
            message.insert("pinnedBy".into(), who.unwrap_or_default());
            message.insert("_updatedAt".into(), date(now));
        }
        self.emit_message(mid);
        if !pinned {
            return Ok(None);
        }
        let quote = json!([{"text": text(&message, "msg"), "author_name": name,
            "author_icon": format!("/avatar/{name}"), "ts": message.get("ts"), "attachments": []}]);
        let system = json!({"_id": random_id(), "t": "message_pinned", "rid": rid, "ts": date(now), "msg": "",
            "u": self.people.get(uid).map(super::Person::stamp), "groupable": false, "attachments": quote});
        let Value::Object(system) = system else { return Ok(None) };
        let system = self.store(system);
        self.announce_message(&rid, &system, uid);
        Ok(self.messages.get(&system).cloned())
    }

    /// The room's messages in the order in which they were stored.
    pub fn messages_in(&self, rid: &str) -> impl DoubleEndedIterator<Item = &Doc> {
        self.timeline
            .get(rid)
            .into_iter()
            .flatten()
            .filter_map(|mid| self.messages.get(mid))
            .filter(|message| message.get("_hidden").and_then(Value::as_bool) != Some(true))
    }
}

fn mentioned_ids(message: &Doc) -> Vec<String> {
    let mentions = message.get("mentions").and_then(Value::as_array).into_iter().flatten();
    mentions.filter_map(|mention| mention["_id"].as_str().map(str::to_owned)).collect()
}

/// JavaScript's notion of a value that counts.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// User names after `@`.
fn mentions(said: &str) -> impl Iterator<Item = &str> {
    words_after(said, '@')
}

fn words_after(said: &str, mark: char) -> impl Iterator<Item = &str> {
    said.match_indices(mark).filter_map(move |(at, _)| {
        let before = said[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == mark) {
            return None;
        }
        let rest = &said[at + mark.len_utf8()..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).unwrap_or(rest.len());
        let word = rest[..end].trim_end_matches('.');
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_a_reader_would() {
        let found: Vec<&str> = mentions("@houston. mail a@b.c (@bob) @@x @carol-ann!").collect();
        assert_eq!(found, ["houston", "bob", "carol-ann"]);
    }
}
