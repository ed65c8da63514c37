//! `users.*`.

use serde_json::{Value, json};

use super::{Answer, Call};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::seed::SeedPerson;
use crate::sandbox::state::{Person, World, date};

fn not_allowed(method: &str) -> Refusal {
    Refusal::of(method, "error-not-allowed", "Not allowed")
}

pub fn info(world: &mut World, call: &Call) -> Answer {
    let found = if call.has("userId") {
        world.people.get(call.text("userId"))
    } else {
        world.id_of(call.text("username")).and_then(|id| world.people.get(&id))
    };
    let Some(person) = found else { return Err(Refusal::plain("User not found.")) };
    let full = world.may(&call.uid, "view-full-other-user-info", None);
    let full = full || person.id == call.uid;
    let mut doc = person.public_doc(full);
    doc.insert("canViewAllInfo".into(), full.into());
    Ok(json!({"user": doc}))
}

pub fn list(world: &mut World, call: &Call) -> Answer {
    let full = world.may(&call.uid, "view-full-other-user-info", None);
    let people = world.people.values().map(|person| {
        let mut doc = person.public_doc(full);
        doc.insert("nameInsensitive".into(), person.name.to_lowercase().into());
        Value::Object(doc)
    });
    let people = people.collect();
    Ok(call.page(world, "users", people))
}

pub fn presence(world: &mut World, call: &Call) -> Answer {
    let ids = if call.has("ids[]") { call.text("ids[]") } else { call.text("ids") };
    let ids: Vec<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    let people = world.people.values().filter(|person| {
        if ids.is_empty() { person.status != "offline" } else { ids.contains(&person.id.as_str()) }
    });
    let people: Vec<Value> = people
        .map(|person| {
            json!({"_id": person.id, "username": person.username, "status": person.status, "name": person.name,
                "statusText": person.status_text})
        })
        .collect();
    // Who asks for some people by id never gets the whole list.
    Ok(json!({"users": people, "full": ids.is_empty() && !call.has("from")}))
}

pub fn status(world: &mut World, call: &Call) -> Answer {
    let who =
        ["userId", "username", "user"].into_iter().map(|key| call.text(key)).find(|who| !who.is_empty());
    let person = world.find_person(who.unwrap_or(&call.uid));
    let person = person.ok_or_else(|| Refusal::plain("User not found."))?;
    let mut body = json!({"_id": person.id, "status": person.status});
    if person.id == call.uid {
        body["message"] = person.status_text.as_str().into();
        body["connectionStatus"] = person.status.as_str().into();
    }
    Ok(body)
}

pub fn set_status(world: &mut World, call: &Call) -> Answer {
    let status = match call.text("status") {
        "" => world.people.get(&call.uid).map(|person| person.status.clone()).unwrap_or_default(),
        known @ ("online" | "away" | "busy" | "offline") => known.to_owned(),
        _ => {
            let reason = "Valid status types include online, away, offline, and busy.";
            return Err(Refusal::of("users.setStatus", "error-invalid-status", reason));
        }
    };
    let message = call.has("message").then(|| call.text("message"));
    world.set_status(&call.uid, &status, message);
    Ok(json!({}))
}

pub fn create(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "create-user", None) {
        return Err(not_allowed("insertOrUpdateUser"));
    }
    let username = call.text("username").to_owned();
    if world.id_of(&username).is_some() {
        return Err(Refusal::new("error-field-unavailable", &format!("{username} is already in use :("))
            .details(json!({"method": "insertOrUpdateUser", "field": username})));
    }
    let roles = call.params.get("roles").and_then(Value::as_array);
    let roles = roles.map(|roles| roles.iter().filter_map(|role| role.as_str().map(str::to_owned)).collect());
    let person = Person::seeded(&SeedPerson {
        name: call.has("name").then(|| call.text("name").to_owned()),
        password: Some(call.text("password").to_owned()),
        roles,
        id: Some(crate::ids::random_id()),
        username,
        ..SeedPerson::default()
    });
    let (id, doc) = (person.id.clone(), person.public_doc(true));
    world.people.insert(id.clone(), person);
    if call.flag("joinDefaultChannels") != Some(false) {
        world.add_member("GENERAL", &id, &id);
    }
    Ok(json!({"user": doc}))
}

pub fn update(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "edit-other-user-info", None) {
        return Err(not_allowed("insertOrUpdateUser"));
    }
    let (now, uid) = (world.now(), call.text("userId").to_owned());
    let data = call.params.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let part = |key: &str| data.get(key).and_then(Value::as_str);
    world.rename_person(&uid, part("username"), part("name"))?;
    let Some(person) = world.people.get_mut(&uid) else { return Err(Refusal::plain("User not found.")) };
    if let Some(password) = part("password") {
        password.clone_into(&mut person.password);
    }
    if let Some(roles) = data.get("roles").and_then(Value::as_array) {
        person.roles = roles.iter().filter_map(|role| role.as_str().map(str::to_owned)).collect();
    }
    let mut doc = person.public_doc(true);
    doc.shift_remove("utcOffset");
    doc.insert("_updatedAt".into(), date(now));
    doc.insert("settings".into(), json!({}));
    Ok(json!({"user": doc}))
}

pub fn set_active(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "edit-other-user-active-status", None) {
        return Err(not_allowed("setUserActiveStatus"));
    }
    let (uid, active) = (call.text("userId").to_owned(), call.flag("activeStatus").unwrap_or(true));
    let Some(person) = world.people.get_mut(&uid) else { return Err(Refusal::plain("User not found.")) };
    person.active = active;
    if !active {
        world.revoke_all(&uid, None);
    }
    Ok(json!({"user": {"_id": uid, "active": active}}))
}
