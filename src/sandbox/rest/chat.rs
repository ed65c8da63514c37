//! `chat.*`: messages.

use serde_json::{Value, json};

use super::{Answer, Call};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{Doc, Sending, Via, World, is_shown, millis, text, updated_at};

/// What a message of `chat.sendMessage` may hold on 8.x.
const SEND_KEYS: &[&str] = &[
    "_id",
    "rid",
    "msg",
    "tmid",
    "tshow",
    "alias",
    "emoji",
    "avatar",
    "attachments",
    "blocks",
    "customFields",
    "t",
    "content",
    "e2e",
    "e2eMentions",
    "groupable",
];

pub fn send_message(world: &mut World, call: &Call) -> Answer {
    let Some(doc) = call.params.get("message").and_then(Value::as_object) else {
        return Err(Refusal::new("invalid-params", "The \"message\" parameter must be provided."));
    };
    if !world.is_old() && doc.keys().any(|key| !SEND_KEYS.contains(&key.as_str())) {
        return Err(Refusal::new("invalid-params", "must NOT have additional properties"));
    }
    match world.send(&call.uid, Sending { doc: doc.clone(), via: Via::SendMessage })? {
        Some(message) => Ok(json!({"message": message})),
        // There is a message with this id. The real server stumbles over its own silence.
        None => Err(Refusal::plain("Cannot read property 'starred' of undefined")),
    }
}

pub fn post_message(world: &mut World, call: &Call) -> Answer {
    let rooms: Vec<String> = match call.params.get("roomId").or_else(|| call.params.get("channel")) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let mut answer = Err(Refusal::code("invalid-channel"));
    for room in rooms {
        let rid = if let Some(name) = room.strip_prefix('@') {
            let other = world.id_of(name).ok_or_else(|| Refusal::code("invalid-channel"))?;
            world.direct_room(&call.uid, &[other])?
        } else {
            let found = world.find_room(&room).map(|room| room.id.clone());
            found.ok_or_else(|| Refusal::code("invalid-channel"))?
        };
        let mut doc = Doc::new();
        doc.insert("alias".into(), call.text("alias").into());
        doc.insert("msg".into(), call.text("text").into());
        let attachments =
            call.params.get("attachments").and_then(Value::as_array).cloned().unwrap_or_default();
        // With attachments the text is not looked through for links, unless asked for.
        let parse_urls = call.flag("parseUrls").unwrap_or(attachments.is_empty());
        doc.insert("attachments".into(), attachments.into());
        doc.insert("parseUrls".into(), parse_urls.into());
        doc.insert("groupable".into(), false.into());
        for key in ["tmid", "emoji", "avatar", "customFields"] {
            if let Some(value) = call.params.get(key) {
                doc.insert(key.into(), value.clone());
            }
        }
        if !world.can_access(&rid, &call.uid) {
            return Err(Refusal::plain("error-not-allowed"));
        }
        doc.insert("rid".into(), rid.as_str().into());
        if world.rooms.get(&rid).is_some_and(|room| room.kind == crate::sandbox::state::Kind::Public) {
            world.add_member(&rid, &call.uid, &call.uid);
        }
        let message = world.send(&call.uid, Sending { doc, via: Via::PostMessage })?;
        answer = Ok(json!({"ts": world.now(), "channel": rid, "message": message}));
    }
    answer
}

pub fn get_message(world: &mut World, call: &Call) -> Answer {
    let message = world.messages.get(call.text("msgId"));
    match message.filter(|message| world.can_access(text(message, "rid"), &call.uid)) {
        Some(message) => Ok(json!({"message": message})),
        None => Err(Refusal::Bare),
    }
}

pub fn update(world: &mut World, call: &Call) -> Answer {
    let mid = call.text("msgId");
    if let Some(message) = world.messages.get(mid)
        && text(message, "rid") != call.text("roomId")
    {
        return Err(Refusal::plain("The room id provided does not match where the message is from."));
    }
    let mut changes = Doc::new();
    changes.insert("msg".into(), call.text("text").into());
    if let Some(fields) = call.params.get("customFields") {
        changes.insert("customFields".into(), fields.clone());
    }
    let message = world.update(&call.uid, mid, &changes, Via::SendMessage)?;
    Ok(json!({"message": message}))
}

pub fn react(world: &mut World, call: &Call) -> Answer {
    let emoji = if call.has("emoji") { call.text("emoji") } else { call.text("reaction") };
    let reason = "The provided \"messageId\" does not match any existing message.";
    let missing = Refusal::new("error-message-not-found", reason);
    world.react(&call.uid, call.text("messageId"), emoji, call.flag("shouldReact"), missing)?;
    Ok(json!({}))
}

pub fn delete(world: &mut World, call: &Call) -> Answer {
    let mid = call.text("msgId");
    let message = world.delete(&call.uid, mid)?;
    let brief = json!({"_id": mid, "rid": message.get("rid"), "u": message.get("u")});
    Ok(json!({"_id": mid, "ts": world.now().to_string(), "message": brief}))
}

pub fn pin(world: &mut World, call: &Call) -> Answer {
    let message = world.pin(&call.uid, call.text("messageId"), true)?;
    Ok(json!({"message": message}))
}

pub fn unpin(world: &mut World, call: &Call) -> Answer {
    world.pin(&call.uid, call.text("messageId"), false)?;
    Ok(json!({}))
}

pub fn search(world: &mut World, call: &Call) -> Answer {
    let rid = call.text("roomId");
    if !world.can_access(rid, &call.uid) {
        return Err(Refusal::of("messageSearch", "error-not-allowed", "Not allowed"));
    }
    let wanted = call.text("searchText").to_lowercase();
    let found =
        world.messages_in(rid).rev().filter(|message| text(message, "msg").to_lowercase().contains(&wanted));
    let found: Vec<Value> = found.cloned().map(Value::Object).collect();
    Ok(json!({"messages": found}))
}

pub fn sync_messages(world: &mut World, call: &Call) -> Answer {
    let rid = call.text("roomId");
    if rid.is_empty() {
        let reason = "The required \"roomId\" query param is missing.";
        return Err(Refusal::new("error-param-required", reason));
    }
    let by_cursor = !world.is_old() && call.has("type");
    if !by_cursor && !call.has("lastUpdate") {
        let reason = "The required \"lastUpdate\" query param is missing.";
        return Err(Refusal::new("error-lastUpdate-param-not-provided", reason));
    }
    let last_update = call.date("lastUpdate");
    if !by_cursor && last_update.is_none() {
        let reason = "The \"lastUpdate\" query parameter must be a valid date.";
        return Err(Refusal::new("error-roomId-param-invalid", reason));
    }
    if !world.can_access(rid, &call.uid) {
        return Err(Refusal::of("messages/get", "error-not-allowed", "Not allowed"));
    }
    if !by_cursor {
        return Ok(json!({"result": world.changes_since(rid, last_update.unwrap_or(0))}));
    }
    let (next, previous) = (call.int("next"), call.int("previous"));
    let count = usize::try_from(call.int("count").unwrap_or(50).clamp(1, 100)).unwrap_or(50);
    let mut all: Vec<(i64, Value)> = if call.text("type") == "DELETED" {
        let deleted = world.deleted_since(rid, i64::MIN);
        deleted.into_iter().map(|doc| (doc.get("_deletedAt").and_then(millis).unwrap_or(0), doc)).collect()
    } else {
        world.messages_in(rid).map(|message| (updated_at(message), Value::Object(message.clone()))).collect()
    };
    all.retain(|(at, _)| {
        next.is_none_or(|next| *at > next) && previous.is_none_or(|previous| *at < previous)
    });
    all.sort_by_key(|(at, _)| *at);
    if previous.is_some() && next.is_none() && all.len() > count {
        all.drain(..all.len() - count);
    }
    let more = all.len() > count;
    all.truncate(count);
    let cursor = json!({
        "next": all.last().filter(|_| more).map(|(at, _)| at.to_string()),
        "previous": all.first().map(|(at, _)| at.to_string()),
    });
    let page: Vec<Value> = all.into_iter().map(|(_, doc)| doc).collect();
    let deleted = call.text("type") == "DELETED";
    let (updated, deleted) = if deleted { (Vec::new(), page) } else { (page, Vec::new()) };
    Ok(json!({"result": {"updated": updated, "deleted": deleted, "cursor": cursor}}))
}

fn replies(world: &World, call: &Call) -> Result<Vec<Doc>, Refusal> {
    let root = world.messages.get(call.text("tmid"));
    let root = root.ok_or_else(|| Refusal::new("error-invalid-message", "Invalid Message"))?;
    let rid = text(root, "rid");
    if !world.can_access(rid, &call.uid) {
        return Err(Refusal::new("error-not-allowed", "Not Allowed"));
    }
    let tmid = call.text("tmid");
    let mut replies: Vec<Doc> = world.messages_in(rid).filter(|m| text(m, "tmid") == tmid).cloned().collect();
    replies.sort_by_key(|message| message.get("ts").and_then(millis));
    Ok(replies)
}

pub fn thread(world: &mut World, call: &Call) -> Answer {
    let replies = replies(world, call)?.into_iter().map(Value::Object).collect();
    Ok(call.page(world, "messages", replies))
}

pub fn sync_thread(world: &mut World, call: &Call) -> Answer {
    let since = call.date("updatedSince").unwrap_or(0);
    let update: Vec<Doc> =
        replies(world, call)?.into_iter().filter(|reply| updated_at(reply) > since).collect();
    Ok(json!({"messages": {"update": update, "remove": []}}))
}

pub fn threads(world: &mut World, call: &Call) -> Answer {
    let rid = call.text("rid");
    if !world.can_access(rid, &call.uid) {
        return Err(Refusal::new("error-not-allowed", "Not Allowed"));
    }
    let mut roots: Vec<&Doc> =
        world.messages_in(rid).filter(|message| message.contains_key("tcount")).collect();
    roots.sort_by_key(|message| std::cmp::Reverse(message.get("tlm").and_then(millis)));
    let roots = roots.into_iter().cloned().map(Value::Object).collect();
    Ok(call.page(world, "threads", roots))
}

pub fn deleted(world: &mut World, call: &Call) -> Answer {
    let rid = call.text("roomId");
    if !world.can_access(rid, &call.uid) {
        return Err(Refusal::new("error-not-allowed", "Not allowed"));
    }
    let since = call.date("since").unwrap_or(0);
    let gone =
        world.deleted_since(rid, since).into_iter().rev().map(|doc| json!({"_id": doc["_id"]})).collect();
    Ok(call.page(world, "messages", gone))
}

pub fn no_file(_: &mut World, _: &Call) -> Answer {
    Err(Refusal::code("No file uploaded"))
}

/// The second step of an upload on 8.x: the message about the file.
pub fn confirm_media(world: &mut World, call: &Call) -> Answer {
    let rid = call.args.first().map(String::as_str).unwrap_or_default();
    let id = call.args.get(1).map(String::as_str).unwrap_or_default();
    super::files::announce(world, &call.uid, rid, id, &call.params)
}

/// The newest messages of a room as `*.history` gives them: by `ts`, without replies that stand only in
/// their thread.
pub fn history(world: &World, call: &Call, rid: &str) -> Value {
    let (oldest, latest) = (call.date("oldest"), call.date("latest"));
    let inclusive = call.flag("inclusive").unwrap_or(false);
    let mut all: Vec<&Doc> = world
        .messages_in(rid)
        .filter(|message| is_shown(message))
        .filter(|message| {
            let ts = message.get("ts").and_then(millis).unwrap_or(0);
            let after = oldest.is_none_or(|oldest| ts > oldest || inclusive && ts == oldest);
            let before = latest.is_none_or(|latest| ts < latest || inclusive && ts == latest);
            after && before
        })
        .collect();
    all.reverse();
    all.sort_by_key(|message| std::cmp::Reverse(message.get("ts").and_then(millis)));
    let offset = usize::try_from(call.int("offset").unwrap_or(0)).unwrap_or(0);
    let count = usize::try_from(call.int("count").unwrap_or(20).clamp(1, 100)).unwrap_or(20);
    let page: Vec<&Doc> = all.into_iter().skip(offset).take(count).collect();
    json!({"messages": page})
}
