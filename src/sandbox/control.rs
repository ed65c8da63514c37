//! `POST /_sandbox/<act>`: the hand that reaches into the server from outside. No part of Rocket.Chat.
//!
//! It needs no login, so it answers only programs of this machine: a request that a web page of another
//! site could have sent is refused by its `Origin` and `Host`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::emit::Out;
use super::faults::FrameFault;
use super::refusal::Refusal;
use super::seed::SeedPerson;
use super::server::Shared;
use super::state::{Doc, Kind, Person, Sending, Via, World, date, text};
use crate::ids::random_id;

/// The HTTP side of [`perform`].
pub async fn act(State(shared): State<Arc<Shared>>, Path(act): Path<String>, body: Bytes) -> Response {
    let reply = |status: StatusCode, body: &Value| {
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    let body = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&body) };
    let Ok(body) = body else {
        return reply(StatusCode::BAD_REQUEST, &json!({"error": "the body is not JSON"}));
    };
    match perform(&shared, &act, &body).await {
        Ok(body) => reply(StatusCode::OK, &body),
        Err(error) => reply(StatusCode::BAD_REQUEST, &json!({"error": error})),
    }
}

/// Answers nobody but this machine: a page of another site that a person has open could otherwise act as
/// Alice, whose password is her name.
pub async fn only_local(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "the sandbox answers only programs and pages of this machine\n").into_response()
}

/// No page of another site, and no name that merely resolves to this machine.
fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned());
    let Some(host) = text(header::HOST) else { return false };
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let loopback = matches!(name, "127.0.0.1" | "localhost" | "[::1]");
    let same_site = text(header::ORIGIN).is_none_or(|origin| origin == format!("http://{host}"));
    loopback && same_site
}

/// One act.
pub async fn perform(shared: &Shared, act: &str, body: &Value) -> Result<Value, String> {
    if act == "wait_frames" {
        return wait(shared, body).await;
    }
    let mut world = shared.world();
    let world = &mut *world;
    let done = Ok(json!({"ok": true}));
    match act {
        "drop" => drop_sockets(world, body)?,
        "refuse" => {
            let next = u32::try_from(number(body, "requests")).unwrap_or(u32::MAX);
            let until = world.now().saturating_add(i64::try_from(number(body, "ms")).unwrap_or(i64::MAX));
            world.faults.refuse(next, until);
        }
        "delay" => frames(world, body, FrameFault::Delay(Duration::from_millis(number(body, "ms"))))?,
        "duplicate" => {
            let copies = usize::try_from(number(body, "copies").clamp(2, 100)).unwrap_or(2);
            frames(world, body, FrameFault::Copies(copies))?;
        }
        "reorder" => frames(world, body, FrameFault::Reverse(Vec::new()))?,
        "lose" => frames(world, body, FrameFault::Lose)?,
        "rate_limit" => {
            let count = u32::try_from(number(body, "count").max(1)).unwrap_or(1);
            world.faults.limit(string(body, "method")?, count);
        }
        "clear" => world.faults.clear(),
        "keep_room_subs" => world.faults.keep_room_subs = true,
        "revoke" => match body.get("token").and_then(Value::as_str) {
            Some(token) => world.revoke(token),
            None => {
                let uid = user(world, body)?;
                world.revoke_all(&uid, None);
            }
        },
        "kick" | "invite" | "join" => {
            let (uid, rid) = (user(world, body)?, room(world, body)?);
            let by = body.get("by").and_then(Value::as_str).and_then(|by| world.id_of(by));
            match act {
                "kick" => world.remove_member(&rid, &uid, by.as_deref().unwrap_or("rocket.cat")),
                "invite" => world.add_member(&rid, &uid, by.as_deref().unwrap_or("rocket.cat")),
                _ => world.add_member(&rid, &uid, &uid),
            }
        }
        "reemit" => {
            for _ in 0..number(body, "count").clamp(1, 10_000) {
                world.emit_message(string(body, "message")?);
            }
        }
        "preview" => preview(world, string(body, "message")?)?,
        "raw" => raw(world, body)?,
        "set" => {
            let settings = body.as_object().cloned().unwrap_or_default();
            for (name, value) in settings {
                world.set(&name, &value);
            }
        }
        "grant" => {
            let roles = body.get("roles").and_then(Value::as_array).into_iter().flatten();
            let roles = roles.filter_map(|role| role.as_str().map(str::to_owned)).collect();
            world.grants.insert(string(body, "permission")?.to_owned(), roles);
        }
        "say" => return say(world, body),
        "send" => return send(world, body),
        "react" => {
            let uid = user(world, body)?;
            let should = body.get("should").and_then(Value::as_bool);
            let missing = Refusal::plain("there is no such message");
            let (message, emoji) = (string(body, "message")?, string(body, "emoji")?);
            world
                .react(&uid, message, emoji, should, missing)
                .map_err(|refusal| refusal.to_rest().to_string())?;
        }
        "rename" => {
            let uid = user(world, body)?;
            let to = string(body, "to")?;
            world.rename_person(&uid, Some(to), None).map_err(|refusal| refusal.to_rest().to_string())?;
        }
        "delete" => {
            let mid = string(body, "message")?;
            world.forget(mid, true);
        }
        "room" => return change_room(world, body),
        "person" => {
            let seed: SeedPerson = serde_json::from_value(body.clone()).map_err(|error| error.to_string())?;
            if world.id_of(&seed.username).is_some() {
                return Err(format!("there is a `{}` already", seed.username));
            }
            let person = Person::seeded(&seed);
            let id = person.id.clone();
            world.people.insert(id.clone(), person);
            return Ok(json!({"_id": id}));
        }
        "log" => return Ok(log(world, body)),
        "state" => return Ok(state(world)),
        _ => return Err(format!("there is no act `{act}`")),
    }
    done
}

fn drop_sockets(world: &mut World, body: &Value) -> Result<(), String> {
    let uid = if body.get("user").is_some() { Some(user(world, body)?) } else { None };
    let hit = |connection: &super::emit::Connection| uid.is_none() || connection.uid == uid;
    match body.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()) {
        Some(code) => world.close_where(code, hit),
        None => {
            for connection in world.connections.values().filter(|connection| hit(connection)) {
                connection.push(Out::Drop);
            }
        }
    }
    Ok(())
}

fn frames(world: &World, body: &Value, fault: FrameFault) -> Result<(), String> {
    let uid = if body.get("user").is_some() { Some(user(world, body)?) } else { None };
    let count = usize::try_from(number(body, "count").max(1)).unwrap_or(1);
    world.faults.add(uid, count, fault);
    Ok(())
}

/// The second frame of a message with a link: its preview is there.
fn preview(world: &mut World, mid: &str) -> Result<(), String> {
    let now = world.now();
    let message = world.messages.get_mut(mid).ok_or("there is no such message")?;
    for url in message.get_mut("urls").and_then(Value::as_array_mut).into_iter().flatten() {
        url["meta"] = json!({"pageTitle": "A page", "description": "What it says"});
        url["headers"] = json!({"contentType": "text/html"});
    }
    message.insert("_updatedAt".into(), date(now));
    world.emit_message(mid);
    Ok(())
}

fn raw(world: &World, body: &Value) -> Result<(), String> {
    let uid = user(world, body)?;
    let out = if let Some(frame) = body.get("frame") {
        Out::Text(frame.to_string().into())
    } else if let Some(text) = body.get("text").and_then(Value::as_str) {
        Out::Text(text.into())
    } else {
        let bytes = body.get("bytes").and_then(Value::as_array).ok_or("give `frame`, `text` or `bytes`")?;
        let bytes: Vec<u8> =
            bytes.iter().filter_map(Value::as_u64).map(|byte| byte.to_le_bytes()[0]).collect();
        Out::Binary(bytes.into())
    };
    for connection in world.connections.values().filter(|connection| connection.uid.as_deref() == Some(&uid))
    {
        connection.push(out.clone());
    }
    Ok(())
}

/// What a person types: through the same checks as theirs.
fn say(world: &mut World, body: &Value) -> Result<Value, String> {
    let (uid, rid) = (user(world, body)?, room(world, body)?);
    let Value::Object(mut doc) = json!({"rid": rid, "msg": string(body, "msg")?}) else {
        return Ok(Value::Null);
    };
    for key in ["_id", "tmid"] {
        if let Some(value) = body.get(key) {
            doc.insert(key.into(), value.clone());
        }
    }
    match world.send(&uid, Sending { doc, via: Via::SendMessage }) {
        Ok(message) => Ok(json!({"message": message})),
        Err(refusal) => Err(refusal.to_rest().to_string()),
    }
}

/// Documents stored and emitted as they are, forged or late or in the same millisecond. `silent` ones are
/// stored only, as if their frames were lost.
fn send(world: &mut World, body: &Value) -> Result<Value, String> {
    let given = match (body.get("messages").and_then(Value::as_array), body.get("message")) {
        (Some(many), _) => many.clone(),
        (None, Some(one)) => vec![one.clone()],
        (None, None) => return Err("give `message` or `messages`".to_owned()),
    };
    let silent = body.get("silent").and_then(Value::as_bool).unwrap_or(false);
    let now = world.now();
    let mut ids = Vec::new();
    for message in given {
        let Value::Object(mut doc) = message else { return Err("a message is an object".to_owned()) };
        let rid = match doc.get("room").or_else(|| doc.get("rid")).and_then(Value::as_str) {
            Some(named) => {
                world.find_room(named).map(|room| room.id.clone()).ok_or("there is no such room")?
            }
            None => return Err("a message needs `room` or `rid`".to_owned()),
        };
        doc.shift_remove("room");
        doc.insert("rid".into(), rid.as_str().into());
        if let Some(name) = doc.get("u").and_then(Value::as_str) {
            let person = world.find_person(name).ok_or_else(|| format!("there is no `{name}`"))?;
            let stamp = person.stamp();
            doc.insert("u".into(), stamp);
        }
        doc.entry("_id").or_insert_with(|| random_id().into());
        doc.entry("ts").or_insert_with(|| date(now));
        doc.entry("msg").or_insert_with(|| "".into());
        let author =
            doc.get("u").and_then(|u| u.get("_id")).and_then(Value::as_str).unwrap_or_default().to_owned();
        ids.push(text(&doc, "_id").to_owned());
        if world.messages.contains_key(text(&doc, "_id")) {
            let mid = text(&doc, "_id").to_owned();
            doc.entry("_updatedAt").or_insert_with(|| date(now));
            world.messages.insert(mid.clone(), doc);
            if !silent {
                world.emit_message(&mid);
            }
            continue;
        }
        let mid = world.store(doc);
        if !silent {
            world.announce_message(&rid, &mid, &author);
        }
    }
    Ok(json!({"ids": ids}))
}

/// Makes a room, or changes one: `kind` (`c`, `p`), `members`, `read_only`, `archived`, `encrypted`, `muted`.
fn change_room(world: &mut World, body: &Value) -> Result<Value, String> {
    let name = string(body, "room")?;
    let rid = match world.find_room(name) {
        Some(room) => room.id.clone(),
        None => {
            let kind = if body.get("kind").and_then(Value::as_str) == Some("p") {
                Kind::Private
            } else {
                Kind::Public
            };
            let members = body.get("members").and_then(Value::as_array).into_iter().flatten();
            let mut members: Vec<String> =
                members.filter_map(|name| name.as_str().map(str::to_owned)).collect();
            let creator = if members.is_empty() { "rocket.cat".to_owned() } else { members.remove(0) };
            let creator = world.id_of(&creator).ok_or_else(|| format!("there is no `{creator}`"))?;
            world
                .create_room(kind, name, &creator, &members)
                .map_err(|refusal| refusal.to_rest().to_string())?
        }
    };
    let flag = |key: &str| body.get(key).and_then(Value::as_bool);
    let muted = body.get("muted").and_then(Value::as_array).map(|names| {
        names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<String>>()
    });
    let changes = ["read_only", "archived", "encrypted"].into_iter().any(|key| flag(key).is_some());
    if changes || muted.is_some() {
        world.change_room(&rid, |room| {
            room.read_only = flag("read_only").unwrap_or(room.read_only);
            room.archived = flag("archived").or(room.archived);
            room.encrypted = flag("encrypted").unwrap_or(room.encrypted);
            if let Some(muted) = muted {
                room.muted = muted;
            }
        });
    }
    Ok(json!({"rid": rid}))
}

/// Lines of what was received, after the line `after`, of one user and route or method if named.
fn log(world: &World, body: &Value) -> Value {
    let after = number(body, "after");
    let named = |key: &str| body.get(key).and_then(Value::as_str);
    let lines: Vec<&Value> = world
        .log
        .iter()
        .filter(|line| line["n"].as_u64().is_some_and(|n| n > after))
        .filter(|line| named("user").is_none_or(|user| line["user"] == user))
        .filter(|line| {
            named("name").is_none_or(|name| {
                line["route"] == name || line["frame"]["method"] == name || line["frame"]["name"] == name
            })
        })
        .collect();
    json!({"lines": lines, "last": world.log_next})
}

/// Waits until the log holds `count` (1) lines that fit, for at most `ms` (5000).
async fn wait(shared: &Shared, body: &Value) -> Result<Value, String> {
    let wanted = usize::try_from(number(body, "count").max(1)).unwrap_or(1);
    let time = Duration::from_millis(body.get("ms").and_then(Value::as_u64).unwrap_or(5000));
    let found = async {
        loop {
            let heard = shared.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let found = log(&shared.world(), body);
            if found["lines"].as_array().is_some_and(|lines| lines.len() >= wanted) {
                return found;
            }
            heard.await;
        }
    };
    match tokio::time::timeout(time, found).await {
        Ok(found) => Ok(found),
        Err(_) => Err(format!("fewer than {wanted} such lines within {} ms", time.as_millis())),
    }
}

fn state(world: &World) -> Value {
    let people: Vec<Value> = world
        .people
        .values()
        .map(|p| json!({"_id": p.id, "username": p.username, "roles": p.roles}))
        .collect();
    let rooms: Vec<Doc> = world.rooms.keys().map(|rid| world.room_doc(rid)).collect();
    let sockets: Vec<Value> = world
        .connections
        .values()
        .map(|c| {
            let subs: Vec<Value> = c.subs.iter().map(|s| json!([s.stream, s.event])).collect();
            json!({"user": c.uid.as_ref().and_then(|uid| world.people.get(uid)).map(|p| &p.username), "subs": subs})
        })
        .collect();
    json!({"people": people, "rooms": rooms, "sockets": sockets})
}

fn string<'a>(body: &'a Value, key: &str) -> Result<&'a str, String> {
    body.get(key).and_then(Value::as_str).ok_or_else(|| format!("`{key}` is missing"))
}

fn number(body: &Value, key: &str) -> u64 {
    body.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn user(world: &World, body: &Value) -> Result<String, String> {
    let named = string(body, "user")?;
    world.find_person(named).map(|person| person.id.clone()).ok_or_else(|| format!("there is no `{named}`"))
}

fn room(world: &World, body: &Value) -> Result<String, String> {
    let named = string(body, "room")?;
    if let Some(other) = named.strip_prefix('@') {
        // The direct room of the user and this other person.
        let uid = user(world, body)?;
        let mut uids = [uid, world.id_of(other).ok_or_else(|| format!("there is no `{other}`"))?];
        uids.sort();
        return Ok(uids.concat());
    }
    world.find_room(named).map(|room| room.id.clone()).ok_or_else(|| format!("there is no room `{named}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn a_page_of_another_site_cannot_reach_the_control_endpoint() {
        assert!(is_local(&headers(&[("host", "127.0.0.1:3000")])));
        assert!(is_local(&headers(&[("host", "localhost:3000"), ("origin", "http://localhost:3000")])));
        assert!(is_local(&headers(&[("host", "[::1]:3000")])));
        assert!(!is_local(&headers(&[("host", "127.0.0.1:3000"), ("origin", "https://evil.example")])));
        assert!(!is_local(&headers(&[("host", "127.0.0.1:3000"), ("origin", "null")])));
        assert!(!is_local(&headers(&[("host", "rebound.example:3000")])));
        assert!(!is_local(&headers(&[])));
    }
}
