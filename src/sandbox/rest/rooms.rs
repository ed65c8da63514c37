//! `channels.*`, `groups.*`, `im.*`, `rooms.*`, `subscriptions.*`.

use serde_json::{Value, json};

use super::{Answer, Call, chat};
use crate::ids::random_id;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{Doc, Kind, Membership, Room, Sending, Via, World, date, millis, text};

fn no_room(what: &str) -> Refusal {
    let reason = format!("The required \"roomId\" or \"roomName\" param provided does not match any {what}");
    Refusal::new("error-room-not-found", &reason)
}

/// The room that the call names: by `roomId` as an id, by `roomName` as a name, never crosswise.
fn named<'a>(world: &'a World, call: &Call) -> Option<&'a Room> {
    let id = ["roomId", "rid"].into_iter().map(|key| call.text(key)).find(|id| !id.is_empty());
    let room = match id {
        Some(id) => world.rooms.get(id),
        None => world.find_room(call.text("roomName")).filter(|room| room.name == call.text("roomName")),
    };
    room.filter(|room| world.can_access(&room.id, &call.uid))
}

/// That room, if it is of this kind.
fn room(world: &World, call: &Call, kind: Kind) -> Result<String, Refusal> {
    let what = match kind {
        Kind::Public => "channel",
        Kind::Private => "group",
        Kind::Direct => "dm",
    };
    let room = named(world, call).filter(|room| room.kind == kind);
    room.map(|room| room.id.clone()).ok_or_else(|| no_room(what))
}

/// That room, of whatever kind.
fn any_room(world: &World, call: &Call) -> Result<String, Refusal> {
    named(world, call).map(|room| room.id.clone()).ok_or_else(|| no_room("channel"))
}

/// That room, if the caller has a right in it.
fn governed(world: &World, call: &Call, permission: &str) -> Result<String, Refusal> {
    let rid = any_room(world, call)?;
    if world.may(&call.uid, permission, Some(&rid)) {
        Ok(rid)
    } else {
        Err(Refusal::new("error-not-allowed", "Not allowed"))
    }
}

fn person(world: &World, call: &Call) -> Result<String, Refusal> {
    let who = if call.has("userId") { call.text("userId") } else { call.text("username") };
    let person = world.find_person(who).map(|person| person.id.clone());
    person.ok_or_else(|| {
        Refusal::new("error-invalid-user", "The required \"userId\" or \"username\" param was not provided")
    })
}

/// `{"channel": …}` or `{"group": …}`.
fn shown(world: &World, rid: &str) -> Answer {
    let key =
        if world.rooms.get(rid).is_some_and(|room| room.kind == Kind::Private) { "group" } else { "channel" };
    Ok(json!({key: world.room_doc(rid)}))
}

pub fn channel_history(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Public)?;
    Ok(chat::history(world, call, &rid))
}

pub fn group_history(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Private)?;
    Ok(chat::history(world, call, &rid))
}

pub fn direct_history(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Direct)?;
    Ok(chat::history(world, call, &rid))
}

pub fn channel_messages(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Public)?;
    let mut all: Vec<&Doc> = world.messages_in(&rid).collect();
    all.sort_by_key(|message| std::cmp::Reverse(message.get("ts").and_then(millis)));
    let all = all.into_iter().cloned().map(Value::Object).collect();
    Ok(call.page(world, "messages", all))
}

fn list(world: &World, call: &Call, name: &str, wanted: impl Fn(&Room) -> bool) -> Answer {
    let rooms = world.rooms.values().filter(|room| wanted(room));
    let rooms = rooms.map(|room| Value::Object(world.room_doc(&room.id))).collect();
    Ok(call.page(world, name, rooms))
}

pub fn channels(world: &mut World, call: &Call) -> Answer {
    list(world, call, "channels", |room| room.kind == Kind::Public && world.can_access(&room.id, &call.uid))
}

pub fn joined_channels(world: &mut World, call: &Call) -> Answer {
    list(world, call, "channels", |room| room.kind == Kind::Public && world.is_member(&room.id, &call.uid))
}

pub fn groups(world: &mut World, call: &Call) -> Answer {
    list(world, call, "groups", |room| room.kind == Kind::Private && world.is_member(&room.id, &call.uid))
}

pub fn directs(world: &mut World, call: &Call) -> Answer {
    list(world, call, "ims", |room| room.kind == Kind::Direct && world.is_member(&room.id, &call.uid))
}

fn members(world: &World, call: &Call, rid: &str) -> Value {
    let people = world.members_of(rid).into_iter().filter_map(|uid| {
        let person = world.people.get(&uid)?;
        Some(json!({"_id": person.id, "username": person.username, "status": person.status,
            "_updatedAt": date(world.now()), "name": person.name}))
    });
    call.page(world, "members", people.collect())
}

pub fn channel_members(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Public)?;
    Ok(members(world, call, &rid))
}

pub fn group_members(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Private)?;
    Ok(members(world, call, &rid))
}

pub fn direct_members(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Direct)?;
    Ok(members(world, call, &rid))
}

pub fn channel_info(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Public)?;
    shown(world, &rid)
}

pub fn group_info(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Private)?;
    shown(world, &rid)
}

/// Owners and moderators, without any right needed.
pub fn roles(world: &mut World, call: &Call) -> Answer {
    let rid = any_room(world, call)?;
    let roles: Vec<Value> = world
        .members
        .values()
        .filter(|membership| membership.rid == rid && !membership.roles.is_empty())
        .filter_map(|membership| {
            let person = world.people.get(&membership.uid)?;
            Some(json!({"_id": membership.id, "rid": rid, "roles": membership.roles,
                "u": {"_id": person.id, "username": person.username}}))
        })
        .collect();
    Ok(json!({"roles": roles}))
}

fn create(world: &mut World, call: &Call, kind: Kind) -> Answer {
    let members = call.params.get("members").and_then(Value::as_array).into_iter().flatten();
    let members: Vec<String> = members.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    let rid = world.create_room(kind, call.text("name"), &call.uid, &members)?;
    if call.flag("readOnly") == Some(true) {
        world.change_room(&rid, |room| room.read_only = true);
    }
    shown(world, &rid)
}

pub fn create_channel(world: &mut World, call: &Call) -> Answer {
    create(world, call, Kind::Public)
}

pub fn create_group(world: &mut World, call: &Call) -> Answer {
    create(world, call, Kind::Private)
}

pub fn invite(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "add-user-to-joined-room")?;
    let one = if call.has("userId") { call.text("userId") } else { call.text("username") };
    let many =
        ["userIds", "usernames"].into_iter().filter_map(|key| call.params.get(key)?.as_array()).flatten();
    let mut who: Vec<String> = many.filter_map(|who| who.as_str().map(str::to_owned)).collect();
    if !one.is_empty() {
        who.push(one.to_owned());
    }
    for who in who {
        let uid = world.find_person(&who).map(|person| person.id.clone());
        let uid = uid.ok_or_else(|| Refusal::new("error-invalid-user", "Invalid user"))?;
        world.add_member(&rid, &uid, &call.uid);
    }
    shown(world, &rid)
}

pub fn kick(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "remove-user")?;
    let uid = person(world, call)?;
    if !world.is_member(&rid, &uid) {
        return Err(Refusal::of("removeUserFromRoom", "error-user-not-in-room", "User is not in this room"));
    }
    world.remove_member(&rid, &uid, &call.uid);
    if world.rooms.get(&rid).is_some_and(|room| room.kind == Kind::Private) {
        Ok(json!({}))
    } else {
        shown(world, &rid)
    }
}

pub fn join(world: &mut World, call: &Call) -> Answer {
    let rid = room(world, call, Kind::Public)?;
    world.add_member(&rid, &call.uid, &call.uid);
    shown(world, &rid)
}

pub fn leave(world: &mut World, call: &Call) -> Answer {
    let rid = any_room(world, call)?;
    if !world.is_member(&rid, &call.uid) {
        return Err(Refusal::of("leaveRoom", "error-user-not-in-room", "You are not in this room"));
    }
    let body = shown(world, &rid);
    world.remove_member(&rid, &call.uid, &call.uid);
    body
}

pub fn rename(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "edit-room")?;
    world.rename_room(&rid, call.text("name"), &call.uid);
    shown(world, &rid)
}

pub fn delete(world: &mut World, call: &Call) -> Answer {
    let rid = any_room(world, call)?;
    let private = world.rooms.get(&rid).is_some_and(|room| room.kind == Kind::Private);
    governed(world, call, if private { "delete-p" } else { "delete-c" })?;
    world.delete_room(&rid);
    Ok(json!({}))
}

pub fn archive(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "archive-room")?;
    world.archive(&rid, true, &call.uid);
    Ok(json!({}))
}

pub fn unarchive(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "archive-room")?;
    world.archive(&rid, false, &call.uid);
    Ok(json!({}))
}

pub fn set_read_only(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "set-readonly")?;
    let read_only = call.flag("readOnly").unwrap_or(false);
    world.change_room(&rid, |room| room.read_only = read_only);
    let kind = if read_only { "room-set-read-only" } else { "room-removed-read-only" };
    world.system_message(&rid, kind, "", &call.uid);
    shown(world, &rid)
}

pub fn set_topic(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "edit-room")?;
    let topic = call.text("topic").to_owned();
    world.change_room(&rid, |room| room.topic = Some(topic.clone()));
    world.system_message(&rid, "room_changed_topic", &topic, &call.uid);
    Ok(json!({"topic": topic}))
}

pub fn get(world: &mut World, call: &Call) -> Answer {
    Ok(world.rooms_of(&call.uid, call.date("updatedSince"), true))
}

pub fn info(world: &mut World, call: &Call) -> Answer {
    let rid = any_room(world, call)?;
    Ok(json!({"room": world.room_doc(&rid)}))
}

pub fn is_member(world: &mut World, call: &Call) -> Answer {
    let rid = any_room(world, call)?;
    let uid = person(world, call)?;
    Ok(json!({"isMember": world.is_member(&rid, &uid)}))
}

fn set_muted(world: &mut World, call: &Call, command: &str) -> Answer {
    let rid = any_room(world, call)?;
    let uid = person(world, call)?;
    let name = world.people.get(&uid).map(|person| person.username.clone()).unwrap_or_default();
    world.slash(&call.uid, command, &name, &json!({"rid": rid}))?;
    Ok(json!({}))
}

pub fn mute(world: &mut World, call: &Call) -> Answer {
    set_muted(world, call, "mute")
}

pub fn unmute(world: &mut World, call: &Call) -> Answer {
    set_muted(world, call, "unmute")
}

/// Prune: the room's stream is told the bounds, not the messages.
pub fn clean_history(world: &mut World, call: &Call) -> Answer {
    let rid = governed(world, call, "clean-channel-history")?;
    let (oldest, latest) = (call.date("oldest").unwrap_or(0), call.date("latest").unwrap_or(i64::MAX));
    let gone: Vec<String> = world
        .messages_in(&rid)
        .filter(|message| message.get("ts").and_then(millis).is_some_and(|ts| ts > oldest && ts < latest))
        .map(|message| text(message, "_id").to_owned())
        .collect();
    for mid in &gone {
        world.forget(mid, false);
    }
    let args = json!([{"rid": rid, "excludePinned": call.flag("excludePinned").unwrap_or(false),
        "ignoreDiscussion": call.flag("ignoreDiscussion").unwrap_or(false), "ts": {"$gt": date(oldest), "$lt": date(latest)}, "users": []}]);
    world.emit("stream-notify-room", &format!("{rid}/deleteMessageBulk"), &args, None);
    Ok(json!({"_id": rid, "count": gone.len()}))
}

pub fn create_discussion(world: &mut World, call: &Call) -> Answer {
    let parent = call.text("prid").to_owned();
    if !world.can_access(&parent, &call.uid) || !world.may(&call.uid, "start-discussion", Some(&parent)) {
        return Err(Refusal::of(
            "DiscussionCreation",
            "error-action-not-allowed",
            "You are not allowed to create a discussion",
        ));
    }
    let now = world.now();
    let (id, title) = (random_id(), call.text("t_name").to_owned());
    let kind = world.rooms.get(&parent).map_or(Kind::Public, |room| room.kind);
    let mut room = Room::new(&id, kind, &random_id(), &call.uid, now);
    room.fname = Some(title.clone());
    room.parent = Some(parent.clone());
    room.topic = world.rooms.get(&parent).map(|parent| parent.name.clone());
    world.rooms.insert(id.clone(), room);
    let users = call.params.get("users").and_then(Value::as_array).into_iter().flatten();
    let mut members: Vec<String> =
        users.filter_map(Value::as_str).filter_map(|name| world.id_of(name)).collect();
    members.push(call.uid.clone());
    for uid in members {
        world.members.insert((id.clone(), uid.clone()), Membership::new(&id, &uid, now));
        world.announce_member(&id, &uid, "inserted");
    }
    // The answer is the room as it was made, before anything was said in it.
    let mut discussion = world.room_doc(&id);
    for (key, value) in [("rid", json!(id)), ("inserted", true.into()), ("usersCount", 0.into())] {
        discussion.insert(key.into(), value);
    }
    let stamp = world.people.get(&call.uid).map(crate::sandbox::state::Person::stamp);
    let marker = json!({"_id": random_id(), "t": "discussion-created", "rid": parent, "ts": date(now), "msg": title,
        "u": stamp, "drid": id, "groupable": false});
    if let Value::Object(marker) = marker {
        let marker = world.store(marker);
        world.announce_message(&parent, &marker, &call.uid);
    }
    if !call.text("reply").is_empty()
        && let Value::Object(doc) = json!({"rid": id, "msg": call.text("reply")})
    {
        world.send(&call.uid, Sending { doc, via: Via::SendMessage })?;
    }
    Ok(json!({"discussion": discussion}))
}

pub fn subscriptions(world: &mut World, call: &Call) -> Answer {
    let since = call.date("updatedSince").or(Some(i64::MIN));
    Ok(world.subscriptions_of(&call.uid, since))
}

pub fn subscription(world: &mut World, call: &Call) -> Answer {
    Ok(json!({"subscription": world.subscription_doc(call.text("roomId"), &call.uid)}))
}

pub fn read(world: &mut World, call: &Call) -> Answer {
    let rid = any_room(world, call)?;
    world.read_room(&rid, &call.uid);
    Ok(json!({}))
}

pub fn create_direct(world: &mut World, call: &Call) -> Answer {
    let names = if call.has("username") { call.text("username") } else { call.text("usernames") };
    let mut others = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let uid = world.id_of(name);
        others.push(
            uid.ok_or_else(|| Refusal::of("createDirectMessage", "error-invalid-user", "Invalid user"))?,
        );
    }
    if others.is_empty() {
        return Err(Refusal::new(
            "error-room-not-found",
            "The required \"username\" or \"usernames\" param was not provided",
        ));
    }
    let rid = world.open_direct(&call.uid, &others)?;
    Ok(json!({"room": world.direct_answer(&rid)}))
}
