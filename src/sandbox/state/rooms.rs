//! Rooms and who is in them.

use serde_json::{Value, json};

use super::{Doc, Person, World, date};
use crate::ids::random_id;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::seed::SeedRoom;

/// `c` public, `p` private, `d` direct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Public,
    Private,
    Direct,
}

impl Kind {
    pub fn letter(self) -> &'static str {
        match self {
            Self::Public => "c",
            Self::Private => "p",
            Self::Direct => "d",
        }
    }
}

/// A room.
#[derive(Debug, Clone)]
pub struct Room {
    pub id: String,
    pub kind: Kind,
    /// Empty for a direct room.
    pub name: String,
    pub fname: Option<String>,
    pub topic: Option<String>,
    pub owner: String,
    /// User ids of a direct room.
    pub uids: Vec<String>,
    /// The room that this discussion belongs to.
    pub parent: Option<String>,
    pub read_only: bool,
    /// Said from the first time on that it was.
    pub archived: Option<bool>,
    pub encrypted: bool,
    /// User names.
    pub muted: Vec<String>,
    pub ts: i64,
    pub updated: i64,
    pub lm: Option<i64>,
    pub last: Option<String>,
    pub count: u64,
}

/// A subscription: one person in one room.
#[derive(Debug, Clone)]
pub struct Membership {
    pub id: String,
    pub rid: String,
    pub uid: String,
    pub roles: Vec<String>,
    pub ts: i64,
    pub updated: i64,
    pub read_at: Option<i64>,
    pub unread: u64,
    pub mentions: u64,
    /// Something was said that may be unread, also where only mentions are counted.
    pub alert: bool,
    pub open: bool,
    /// Not there from the room's beginning: such subscriptions carry the member's name.
    pub later: bool,
}

impl Membership {
    pub fn new(rid: &str, uid: &str, now: i64) -> Self {
        Self {
            id: random_id(),
            rid: rid.to_owned(),
            uid: uid.to_owned(),
            roles: Vec::new(),
            ts: now,
            updated: now,
            read_at: None,
            unread: 0,
            mentions: 0,
            alert: false,
            open: true,
            later: false,
        }
    }

    /// `u` of the subscription.
    fn stamp(&self, person: &Person) -> Value {
        let mut stamp = json!({"_id": person.id, "username": person.username});
        if self.later {
            stamp["name"] = person.name.as_str().into();
        }
        stamp
    }
}

impl Room {
    pub fn new(id: &str, kind: Kind, name: &str, owner: &str, now: i64) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            name: name.to_owned(),
            fname: None,
            topic: None,
            owner: owner.to_owned(),
            uids: Vec::new(),
            parent: None,
            read_only: false,
            archived: None,
            encrypted: false,
            muted: Vec::new(),
            ts: now,
            updated: now,
            lm: None,
            last: None,
            count: 0,
        }
    }

    pub fn seeded(seed: &SeedRoom, now: i64) -> Self {
        let usual = if seed.name == "general" { "GENERAL".to_owned() } else { format!("r-{}", seed.name) };
        let kind = if seed.private { Kind::Private } else { Kind::Public };
        Self {
            topic: seed.topic.clone(),
            read_only: seed.read_only,
            archived: seed.archived.then_some(true),
            encrypted: seed.encrypted,
            ..Self::new(seed.id.as_deref().unwrap_or(&usual), kind, &seed.name, "rocket.cat", now)
        }
    }
}

impl World {
    /// By id or by name, with or without `#`.
    pub fn find_room(&self, room: &str) -> Option<&Room> {
        let name = room.trim_start_matches('#');
        self.rooms
            .get(room)
            .or_else(|| self.rooms.values().find(|room| room.kind != Kind::Direct && room.name == name))
    }

    pub fn is_member(&self, rid: &str, uid: &str) -> bool {
        self.members.contains_key(&(rid.to_owned(), uid.to_owned()))
    }

    /// User ids.
    pub fn members_of(&self, rid: &str) -> Vec<String> {
        self.members.keys().filter(|(room, _)| room == rid).map(|(_, uid)| uid.clone()).collect()
    }

    /// Rocket.Chat's `canAccessRoom`.
    pub fn can_access(&self, rid: &str, uid: &str) -> bool {
        let Some(room) = self.rooms.get(rid) else { return false };
        if !self.people.contains_key(uid) {
            return false;
        }
        if let Some(parent) = &room.parent
            && room.kind != Kind::Direct
            && parent != rid
            && self.can_access(parent, uid)
        {
            return true;
        }
        if room.kind == Kind::Public && room.parent.is_none() && self.may(uid, "view-c-room", None) {
            return true;
        }
        let specific = match room.kind {
            Kind::Public => "view-c-room",
            Kind::Private => "view-p-room",
            Kind::Direct => "view-d-room",
        };
        self.is_member(rid, uid)
            && (self.may(uid, "view-joined-room", Some(rid)) || self.may(uid, specific, Some(rid)))
    }

    /// The room as rooms-changed, rooms.get and rooms.info carry it.
    pub fn room_doc(&self, rid: &str) -> Doc {
        let Some(room) = self.rooms.get(rid) else { return Doc::new() };
        let mut doc = Doc::new();
        doc.insert("_id".into(), room.id.as_str().into());
        doc.insert("t".into(), room.kind.letter().into());
        if room.kind == Kind::Direct {
            let names: Vec<&str> =
                room.uids.iter().filter_map(|uid| Some(self.people.get(uid)?.username.as_str())).collect();
            doc.insert("uids".into(), json!(room.uids));
            doc.insert("usernames".into(), json!(names));
            doc.insert("default".into(), false.into());
            doc.insert("ro".into(), false.into());
            doc.insert("sysMes".into(), true.into());
        } else {
            doc.insert("name".into(), room.name.as_str().into());
            doc.insert("fname".into(), room.fname.as_deref().unwrap_or(&room.name).into());
            doc.insert("default".into(), (room.id == "GENERAL").into());
            doc.insert("ro".into(), room.read_only.into());
            doc.insert("sysMes".into(), true.into());
            if room.parent.is_some() {
                doc.insert("encrypted".into(), false.into());
            } else {
                doc.insert("customFields".into(), json!({}));
            }
        }
        if room.kind != Kind::Direct
            && let Some(owner) = self.people.get(&room.owner)
        {
            doc.insert("u".into(), owner.stamp());
        }
        doc.insert("msgs".into(), room.count.into());
        doc.insert("usersCount".into(), self.members_of(rid).len().into());
        doc.insert("ts".into(), date(room.ts));
        doc.insert("_updatedAt".into(), date(room.updated));
        for (key, value) in [("topic", &room.topic), ("prid", &room.parent)] {
            if let Some(value) = value {
                doc.insert(key.into(), value.as_str().into());
            }
        }
        if let Some(archived) = room.archived {
            doc.insert("archived".into(), archived.into());
        }
        if room.encrypted {
            doc.insert("encrypted".into(), true.into());
        }
        if !room.muted.is_empty() {
            doc.insert("muted".into(), json!(room.muted));
        }
        if let Some(lm) = room.lm {
            doc.insert("lm".into(), date(lm));
        }
        if let Some(last) = room.last.as_ref().and_then(|last| self.messages.get(last)) {
            doc.insert("lastMessage".into(), Value::Object(last.clone()));
        }
        doc
    }

    /// What opening a direct room answers: not the room's document, only how to address it.
    pub fn direct_answer(&self, rid: &str) -> Value {
        let room = self.room_doc(rid);
        let usernames = room.get("usernames").cloned().unwrap_or_default();
        json!({"t": "d", "rid": rid, "_id": rid, "usernames": usernames})
    }

    /// The subscription as subscriptions-changed and subscriptions.get carry it.
    pub fn subscription_doc(&self, rid: &str, uid: &str) -> Option<Doc> {
        let membership = self.members.get(&(rid.to_owned(), uid.to_owned()))?;
        let room = self.rooms.get(rid)?;
        let person = self.people.get(uid)?;
        let mut doc = Doc::new();
        doc.insert("_id".into(), membership.id.as_str().into());
        doc.insert("rid".into(), rid.into());
        doc.insert("u".into(), membership.stamp(person));
        doc.insert("t".into(), room.kind.letter().into());
        let (name, fname) = match room.kind {
            Kind::Direct => {
                let other = room.uids.iter().find(|other| *other != uid).unwrap_or(&membership.uid);
                let other = self.people.get(other)?;
                (other.username.as_str(), other.name.as_str())
            }
            _ => (room.name.as_str(), room.fname.as_deref().unwrap_or(&room.name)),
        };
        doc.insert("name".into(), name.into());
        doc.insert("fname".into(), fname.into());
        doc.insert("open".into(), membership.open.into());
        doc.insert("alert".into(), membership.alert.into());
        doc.insert("unread".into(), membership.unread.into());
        doc.insert("userMentions".into(), membership.mentions.into());
        doc.insert("groupMentions".into(), 0.into());
        if !membership.roles.is_empty() {
            doc.insert("roles".into(), json!(membership.roles));
        }
        if let Some(parent) = &room.parent {
            doc.insert("prid".into(), parent.as_str().into());
        }
        if let Some(archived) = room.archived {
            doc.insert("archived".into(), archived.into());
        }
        if let Some(at) = membership.read_at {
            doc.insert("ls".into(), date(at));
            doc.insert("lr".into(), date(at));
        }
        if room.kind != Kind::Direct {
            doc.insert("ts".into(), date(membership.ts));
        }
        doc.insert("_updatedAt".into(), date(membership.updated));
        Some(doc)
    }

    /// A new channel or group with its creator as owner.
    pub fn create_room(
        &mut self,
        kind: Kind,
        name: &str,
        creator: &str,
        members: &[String],
    ) -> Result<String, Refusal> {
        let method = if kind == Kind::Public { "createChannel" } else { "createPrivateGroup" };
        let permission = if kind == Kind::Public { "create-c" } else { "create-p" };
        if !self.may(creator, permission, None) {
            return Err(Refusal::of(method, "error-not-allowed", "Not allowed"));
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            let reason = format!("'{name}' is not a valid room name.");
            return Err(Refusal::new("error-invalid-room-name", &reason)
                .details(json!({"function": "RocketChat.getValidRoomName", "channel_name": name})));
        }
        if self.find_room(name).is_some() {
            let reason = format!("A channel with name '{name}' exists");
            return Err(Refusal::new("error-duplicate-channel-name", &reason)
                .details(json!({"function": "RocketChat.getValidRoomName", "channel_name": name})));
        }
        let now = self.now();
        let id = random_id();
        self.rooms.insert(id.clone(), Room::new(&id, kind, name, creator, now));
        let mut owner = Membership::new(&id, creator, now);
        owner.roles.push("owner".into());
        self.members.insert((id.clone(), creator.to_owned()), owner);
        self.announce_member(&id, creator, "inserted");
        for member in members {
            if let Some(uid) = self.id_of(member).filter(|uid| uid != creator) {
                self.members.insert((id.clone(), uid.clone()), Membership::new(&id, &uid, now));
                self.announce_member(&id, &uid, "inserted");
            }
        }
        Ok(id)
    }

    /// The direct room of these people; made when there is none.
    pub fn direct_room(&mut self, uid: &str, others: &[String]) -> Result<String, Refusal> {
        let mut uids: Vec<String> = others.to_vec();
        uids.push(uid.to_owned());
        uids.sort();
        uids.dedup();
        let id: String = uids.concat();
        let now = self.now();
        if !self.rooms.contains_key(&id) {
            if !self.may(uid, "create-d", None) {
                return Err(Refusal::of("createDirectMessage", "error-not-allowed", "Not allowed"));
            }
            let mut room = Room::new(&id, Kind::Direct, "", uid, now);
            room.uids.clone_from(&uids);
            self.rooms.insert(id.clone(), room);
        }
        for member in &uids {
            if !self.is_member(&id, member) {
                let mut membership = Membership::new(&id, member, now);
                membership.open = member == uid;
                self.members.insert((id.clone(), member.clone()), membership);
                self.announce_member(&id, member, "inserted");
            }
        }
        Ok(id)
    }

    /// Adds somebody, with the frames in the order of the real server: subscription, room, system message.
    /// `by` is who invited; the person joins by themselves when it is the same.
    pub fn add_member(&mut self, rid: &str, uid: &str, by: &str) {
        if self.is_member(rid, uid) || !self.rooms.contains_key(rid) {
            return;
        }
        let now = self.now();
        // Who comes later has been mentioned by that.
        let (unread, mentions, alert, later) = (1, 1, true, true);
        let membership = Membership { unread, mentions, alert, later, ..Membership::new(rid, uid, now) };
        self.members.insert((rid.to_owned(), uid.to_owned()), membership);
        self.announce_member(rid, uid, "inserted");
        let username = self.people.get(uid).map(|person| person.username.clone()).unwrap_or_default();
        let kind = if by == uid { "uj" } else { "au" };
        self.system_message(rid, kind, &username, by);
    }

    /// Removes somebody. The subscription goes first, so that the system message about it does not reach
    /// who was removed from a private room.
    pub fn remove_member(&mut self, rid: &str, uid: &str, by: &str) {
        let Some(membership) = self.members.remove(&(rid.to_owned(), uid.to_owned())) else { return };
        let Some(person) = self.people.get(uid) else { return };
        let username = person.username.clone();
        let gone = json!(["removed", {"_id": membership.id, "rid": rid, "u": membership.stamp(person)}]);
        self.emit("stream-notify-user", &format!("{uid}/subscriptions-changed"), &gone, None);
        self.drop_room_subs(rid, uid);
        let kind = if by == uid { "ul" } else { "ru" };
        self.system_message(rid, kind, &username, by);
    }

    /// Changes a room and says so to its members; subscriptions are told where what they say has changed.
    pub fn change_room(&mut self, rid: &str, change: impl FnOnce(&mut Room)) {
        let now = self.now();
        let members = self.members_of(rid);
        let before: Vec<_> = members.iter().map(|uid| self.subscription_doc(rid, uid)).collect();
        let Some(room) = self.rooms.get_mut(rid) else { return };
        change(room);
        room.updated = now;
        for (uid, before) in members.iter().zip(before) {
            if self.subscription_doc(rid, uid) != before {
                self.touch_subscription(rid, uid);
            }
            self.announce_room(rid, uid, "updated");
        }
    }

    /// The subscription has changed: dates it and says so.
    pub fn touch_subscription(&mut self, rid: &str, uid: &str) {
        let now = self.now();
        let Some(membership) = self.members.get_mut(&(rid.to_owned(), uid.to_owned())) else { return };
        membership.updated = now;
        self.announce_subscription(rid, uid, "updated");
    }

    /// The direct room of these people, asked for by name: it opens again for all of them.
    pub fn open_direct(&mut self, uid: &str, others: &[String]) -> Result<String, Refusal> {
        let known: Vec<String> = self
            .rooms
            .values()
            .filter(|room| room.kind == Kind::Direct)
            .map(|room| room.id.clone())
            .collect();
        let rid = self.direct_room(uid, others)?;
        if known.contains(&rid) {
            for member in self.members_of(&rid) {
                self.touch_subscription(&rid, &member);
            }
        }
        Ok(rid)
    }

    /// A new name, with its system message.
    pub fn rename_room(&mut self, rid: &str, name: &str, by: &str) {
        self.change_room(rid, |room| name.clone_into(&mut room.name));
        self.system_message(rid, "r", name, by);
    }

    pub fn delete_room(&mut self, rid: &str) {
        let discussions: Vec<String> = self
            .rooms
            .values()
            .filter(|room| room.parent.as_deref() == Some(rid))
            .map(|room| room.id.clone())
            .collect();
        for id in std::iter::once(rid.to_owned()).chain(discussions) {
            for uid in self.members_of(&id) {
                let Some(membership) = self.members.remove(&(id.clone(), uid.clone())) else { continue };
                let Some(person) = self.people.get(&uid) else { continue };
                let gone =
                    json!(["removed", {"_id": membership.id, "rid": id, "u": membership.stamp(person)}]);
                self.emit("stream-notify-user", &format!("{uid}/subscriptions-changed"), &gone, None);
            }
            for message in self.timeline.remove(&id).unwrap_or_default() {
                self.messages.remove(&message);
            }
            self.rooms.remove(&id);
        }
    }

    /// subscriptions-changed and rooms-changed for one member.
    pub fn announce_member(&self, rid: &str, uid: &str, what: &str) {
        self.announce_subscription(rid, uid, what);
        self.announce_room(rid, uid, what);
    }

    /// subscriptions-changed for one member.
    fn announce_subscription(&self, rid: &str, uid: &str, what: &str) {
        let event = format!("{uid}/subscriptions-changed");
        if self.has_listener("stream-notify-user", &event)
            && let Some(mut doc) = self.subscription_doc(rid, uid)
        {
            // Those of the beginning are written without a date of their own.
            match self.members.get(&(rid.to_owned(), uid.to_owned())) {
                Some(membership) if what == "inserted" && membership.later => {
                    doc.insert("customFields".into(), json!({}));
                }
                Some(_) if what == "inserted" => {
                    doc.shift_remove("_updatedAt");
                }
                _ => {}
            }
            self.emit_ref("stream-notify-user", &event, &json!([what, doc]), None);
        }
    }

    /// rooms-changed for one member.
    pub fn announce_room(&self, rid: &str, uid: &str, what: &str) {
        let event = format!("{uid}/rooms-changed");
        if self.has_listener("stream-notify-user", &event) {
            self.emit_ref("stream-notify-user", &event, &json!([what, self.room_doc(rid)]), None);
        }
    }
}
