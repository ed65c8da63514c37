//! The methods of the realtime API.

use serde_json::{Value, json};

use super::login;
use super::session::Session;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{Doc, Sending, Via, World, is_shown, millis, permissions, text};

/// What `sendMessage` takes on 8.x; anything else is no match.
const SEND_KEYS: &[&str] = &[
    "_id",
    "rid",
    "msg",
    "tmid",
    "tshow",
    "ts",
    "t",
    "bot",
    "content",
    "e2e",
    "e2eMentions",
    "customFields",
    "federation",
    "groupable",
    "sentByEmail",
];
/// What `updateMessage` may change, or carry unchanged.
const UPDATE_KEYS: &[&str] = &[
    "_id",
    "rid",
    "msg",
    "tshow",
    "alias",
    "attachments",
    "avatar",
    "emoji",
    "customFields",
    "content",
    "e2eMentions",
];

type Outcome = Result<Option<Value>, Refusal>;

/// Runs one method for a socket.
pub fn call(world: &mut World, session: &Session, name: &str, params: &[Value]) -> Outcome {
    match name {
        "login" => return login::login(world, session, params.first().unwrap_or(&Value::Null)),
        "logout" => {
            let token = world.connections.get_mut(&session.id).and_then(|connection| {
                connection.uid = None;
                connection.subs.retain(|sub| sub.event == "__my_messages__");
                connection.token.take()
            });
            if let Some(token) = token {
                world.revoke(&token);
            }
            return Ok(None);
        }
        _ => {}
    }
    let uid = session.uid(world);
    run(world, uid.as_deref(), Some(session.id), name, params)
}

/// Runs one method for a user; also REST's `method.call` comes here.
pub fn run(
    world: &mut World,
    uid: Option<&str>,
    connection: Option<u64>,
    name: &str,
    params: &[Value],
) -> Outcome {
    let first = params.first().unwrap_or(&Value::Null);
    let known_without_login = name == "public-settings/get";
    if known_without_login {
        let settings: Vec<Value> =
            world.settings.iter().map(|(id, value)| json!({"_id": id, "value": value})).collect();
        return Ok(Some(settings.into()));
    }
    if !is_known(world, name) {
        return Err(Refusal::number(404, &format!("Method '{name}' not found")));
    }
    let Some(uid) = uid else { return Err(Refusal::of(name, "error-invalid-user", "Invalid user")) };
    let as_text = |at: usize| params.get(at).and_then(Value::as_str).unwrap_or_default();
    match name {
        "sendMessage" => send_message(world, uid, first),
        "updateMessage" => update_message(world, uid, first),
        "deleteMessage" => {
            let id = first.get("_id").and_then(Value::as_str).unwrap_or_default();
            world.delete(uid, id).map(|_| None)
        }
        "setReaction" => {
            let missing = Refusal::of("setReaction", "error-not-allowed", "Not allowed");
            world.react(uid, as_text(1), as_text(0), params.get(2).and_then(Value::as_bool), missing)?;
            Ok(None)
        }
        "createDirectMessage" => {
            let others: Vec<String> =
                params.iter().filter_map(Value::as_str).filter_map(|name| world.id_of(name)).collect();
            if others.is_empty() {
                return Err(Refusal::of(name, "error-invalid-user", "Invalid user"));
            }
            let rid = world.open_direct(uid, &others)?;
            let mut answer = world.direct_answer(&rid);
            if let Some(answer) = answer.as_object_mut() {
                answer.shift_remove("_id");
            }
            Ok(Some(answer))
        }
        "joinRoom" => {
            let rid = as_text(0);
            if !world.can_access(rid, uid) {
                return Err(Refusal::of(name, "error-not-allowed", "Not allowed"));
            }
            world.add_member(rid, uid, uid);
            Ok(Some(true.into()))
        }
        "leaveRoom" => {
            world.remove_member(as_text(0), uid, uid);
            Ok(None)
        }
        "rooms/get" => Ok(Some(world.rooms_of(uid, millis(first), false))),
        "subscriptions/get" => Ok(Some(world.subscriptions_of(uid, millis(first)))),
        "messages/get" => {
            let rid = as_text(0);
            if !world.can_access(rid, uid) {
                return Err(Refusal::of("messages/get", "error-not-allowed", "Not allowed"));
            }
            let since = params.get(1).and_then(|options| options.get("lastUpdate")).and_then(millis);
            Ok(Some(world.changes_since(rid, since.unwrap_or(0))))
        }
        "getRoomIdByNameOrId" | "getRoomByTypeAndName" => {
            let wanted = if name == "getRoomIdByNameOrId" { as_text(0) } else { as_text(1) };
            let room = world.find_room(wanted).filter(|room| world.can_access(&room.id, uid));
            match room {
                Some(room) if name == "getRoomIdByNameOrId" => Ok(Some(room.id.as_str().into())),
                Some(room) => Ok(Some(Value::Object(world.room_doc(&room.id)))),
                None => Err(Refusal::of(name, "error-not-allowed", "Not allowed")),
            }
        }
        "getRoomNameById" => match world.rooms.get(as_text(0)).filter(|room| world.can_access(&room.id, uid))
        {
            Some(room) => Ok(Some(room.name.as_str().into())),
            None => Err(Refusal::of(name, "error-not-allowed", "Not allowed")),
        },
        "loadHistory" => {
            let rid = as_text(0);
            if !world.can_access(rid, uid) {
                return Err(Refusal::of(name, "error-not-allowed", "Not allowed"));
            }
            let end = params.get(1).and_then(millis).unwrap_or(i64::MAX);
            let count = params.get(2).and_then(Value::as_u64).unwrap_or(20).min(100);
            let mut messages: Vec<&Doc> = world
                .messages_in(rid)
                .filter(|message| is_shown(message))
                .filter(|message| message.get("ts").and_then(millis).is_some_and(|ts| ts < end))
                .collect();
            messages.reverse();
            messages.sort_by_key(|message| std::cmp::Reverse(message.get("ts").and_then(millis)));
            messages.truncate(usize::try_from(count).unwrap_or(100));
            Ok(Some(json!({"messages": messages, "unreadNotLoaded": 0})))
        }
        "readMessages" => {
            world.read_room(as_text(0), uid);
            Ok(None)
        }
        "stream-notify-room" => {
            let (rid, event) = as_text(0).split_once('/').unwrap_or_default();
            let own = world.people.get(uid).is_some_and(|person| person.username == as_text(1));
            // Somebody else's name, and the event of before 6.0, are ignored without a word.
            if event == "user-activity" && own && world.can_access(rid, uid) {
                world.emit("stream-notify-room", as_text(0), &json!(params[1..]), connection);
            }
            Ok(None)
        }
        // Presence is told by the server alone; a client's word is taken and dropped.
        "stream-user-presence" => Ok(None),
        "slashCommand" => {
            let command = first.get("cmd").and_then(Value::as_str).unwrap_or_default();
            let rest = first.get("params").and_then(Value::as_str).unwrap_or_default();
            if !permissions::is_slash_command(command) {
                return Err(Refusal::of(
                    "executeSlashCommandPreview",
                    "error-invalid-command",
                    "Invalid Command Provided",
                ));
            }
            world.slash(uid, command, rest.trim(), &first["msg"])?;
            Ok(None)
        }
        "setUserStatus" => {
            world.set_status(uid, as_text(0), params.get(1).and_then(Value::as_str));
            Ok(None)
        }
        "UserPresence:online" | "UserPresence:away" | "UserPresence:setDefaultStatus" => {
            let status = name.rsplit(':').next().filter(|word| *word != "setDefaultStatus");
            world.set_status(uid, status.unwrap_or(as_text(0)), None);
            Ok(status.map(|_| true.into()))
        }
        "getUserRoles" => {
            let people =
                world.people.values().filter(|person| person.roles.iter().any(|role| role == "admin"));
            let people: Vec<Value> =
                people.map(|p| json!({"_id": p.id, "username": p.username, "roles": p.roles})).collect();
            Ok(Some(people.into()))
        }
        _ => Err(Refusal::number(404, &format!("Method '{name}' not found"))),
    }
}

fn is_known(world: &World, name: &str) -> bool {
    const BOTH: &[&str] = &[
        "sendMessage",
        "updateMessage",
        "setReaction",
        "createDirectMessage",
        "joinRoom",
        "leaveRoom",
        "rooms/get",
        "subscriptions/get",
        "messages/get",
        "getRoomIdByNameOrId",
        "getRoomByTypeAndName",
        "getRoomNameById",
        "loadHistory",
        "readMessages",
        "stream-notify-room",
        "stream-user-presence",
        "slashCommand",
        "setUserStatus",
        "UserPresence:online",
        "UserPresence:away",
        "UserPresence:setDefaultStatus",
    ];
    BOTH.contains(&name) || world.is_old() && ["deleteMessage", "getUserRoles"].contains(&name)
}

/// Most errors vanish here: a frame without result and without error means "not sent", or "sent before".
fn send_message(world: &mut World, uid: &str, message: &Value) -> Outcome {
    let Some(doc) = message.as_object() else { return Err(Refusal::number(400, "Match failed")) };
    if !world.is_old() && doc.keys().any(|key| !SEND_KEYS.contains(&key.as_str())) {
        return Err(Refusal::number(400, "Match failed"));
    }
    match world.send(uid, Sending { doc: doc.clone(), via: Via::Ddp }) {
        Ok(message) => Ok(message.map(Value::Object)),
        Err(refusal)
            if ["error-not-allowed", "restricted-workspace"].contains(&refusal.code_text().as_str()) =>
        {
            Err(refusal)
        }
        Err(_) => Ok(None),
    }
}

fn update_message(world: &mut World, uid: &str, message: &Value) -> Outcome {
    let Some(doc) = message.as_object() else { return Err(Refusal::number(400, "Match failed")) };
    let id = text(doc, "_id");
    let same = |key: &str, value: &Value| world.messages.get(id).and_then(|old| old.get(key)) == Some(value);
    for (key, value) in doc {
        // 6.5.3 refuses `ts` even when it is the same.
        if !UPDATE_KEYS.contains(&key.as_str()) && (key == "ts" || !same(key, value)) {
            let reason = format!("Cannot update the message {key}");
            return Err(Refusal::of("updateMessage", "error-invalid-update-key", &reason));
        }
    }
    world.update(uid, id, doc, Via::Ddp).map(|_| None)
}
