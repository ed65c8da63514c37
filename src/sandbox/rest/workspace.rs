//! Roles, permissions, settings, slash commands, and methods over REST.

use serde_json::{Value, json};

use super::{Answer, Call};
use crate::sandbox::ddp;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{
    Person, World, date, permissions::ROLES, permissions::SLASH, permissions::is_slash_command,
};

pub fn roles(_: &mut World, _: &Call) -> Answer {
    let roles: Vec<Value> = ROLES
        .iter()
        .map(|(id, scope, description)| {
            json!({"_id": id, "scope": scope, "description": description, "mandatory2fa": false, "name": id,
                "protected": true})
        })
        .collect();
    Ok(json!({"roles": roles}))
}

pub fn users_in_role(world: &mut World, call: &Call) -> Answer {
    let not_allowed = Refusal::new("error-not-allowed", "Not allowed");
    let needs_room = call.has("roomId") && !world.may(&call.uid, "view-other-user-channels", None);
    if !world.may(&call.uid, "access-permissions", None) || needs_room {
        return Err(not_allowed);
    }
    let role = call.text("role").to_owned();
    let people: Vec<&Person> = if call.has("roomId") {
        let in_room =
            world.members.values().filter(|m| m.rid == call.text("roomId") && m.roles.contains(&role));
        in_room.filter_map(|membership| world.people.get(&membership.uid)).collect()
    } else {
        world.people.values().filter(|person| person.roles.contains(&role)).collect()
    };
    let people: Vec<Value> = people
        .into_iter()
        .map(|person| {
            json!({"_id": person.id, "name": person.name, "username": person.username, "emails": person.emails(),
                "createdAt": date(0), "_updatedAt": date(0)})
        })
        .collect();
    let mut body = call.page(world, "users", people);
    if let Some(body) = body.as_object_mut() {
        body.retain(|key, _| key == "users" || key == "total");
    }
    Ok(body)
}

pub fn users_in_public_roles(world: &mut World, _: &Call) -> Answer {
    const PUBLIC: &[&str] = &["admin", "moderator", "leader", "owner"];
    let people = world.people.values().filter(|p| p.roles.iter().any(|role| PUBLIC.contains(&role.as_str())));
    let people: Vec<Value> = people
        .map(|person| json!({"_id": person.id, "username": person.username, "roles": person.roles}))
        .collect();
    Ok(json!({"users": people}))
}

fn granted(world: &World) -> Vec<Value> {
    world.grants.iter().map(|(id, roles)| json!({"_id": id, "_updatedAt": date(0), "roles": roles})).collect()
}

pub fn permissions(world: &mut World, _: &Call) -> Answer {
    Ok(json!({"update": granted(world), "remove": []}))
}

pub fn update_permissions(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "access-permissions", None) {
        return Err(Refusal::new("error-not-allowed", "Editing permissions is not allowed"));
    }
    let changes = call.params.get("permissions").and_then(Value::as_array).cloned().unwrap_or_default();
    for change in changes {
        let roles =
            change["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        world.grants.insert(change["_id"].as_str().unwrap_or_default().to_owned(), roles.collect());
    }
    Ok(json!({"permissions": granted(world)}))
}

pub fn public_settings(world: &mut World, call: &Call) -> Answer {
    let wanted: Vec<&str> = call.text("_id").split(',').filter(|id| !id.is_empty()).collect();
    let settings = world.settings.iter().filter(|(id, _)| wanted.is_empty() || wanted.contains(&id.as_str()));
    let settings =
        settings.map(|(id, value)| json!({"_id": id, "value": value, "enterprise": false})).collect();
    Ok(call.page(world, "settings", settings))
}

pub fn setting(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "edit-privileged-setting", None) {
        return Err(Refusal::new("unauthorized", "You are not allowed"));
    }
    let id = call.args.first().map(String::as_str).unwrap_or_default();
    let value =
        world.settings.get(id).ok_or_else(|| Refusal::new("error-invalid-setting", "Invalid setting"))?;
    Ok(json!({"_id": id, "value": value}))
}

pub fn set_setting(world: &mut World, call: &Call) -> Answer {
    setting(world, call)?;
    let id = call.args.first().cloned().unwrap_or_default();
    world.set(&id, call.params.get("value").unwrap_or(&Value::Null));
    Ok(json!({}))
}

fn command_doc(entry: &(&str, &str, Option<&str>)) -> Value {
    let (command, params, permission) = entry;
    let mut doc = json!({"command": command, "params": params, "description": command, "clientOnly": false,
        "providesPreview": false});
    if let Some(permission) = permission {
        doc["permission"] = (*permission).into();
    }
    doc
}

pub fn commands(world: &mut World, call: &Call) -> Answer {
    Ok(call.page(world, "commands", SLASH.iter().map(command_doc).collect()))
}

pub fn command(_: &mut World, call: &Call) -> Answer {
    let name = call.text("command");
    match SLASH.iter().find(|(command, ..)| *command == name) {
        Some(entry) => Ok(json!({"command": command_doc(entry)})),
        None => Err(Refusal::Plain(format!("There is no command in the system by the name of: {name}"))),
    }
}

pub fn run_command(world: &mut World, call: &Call) -> Answer {
    if !is_slash_command(call.text("command")) {
        return Err(Refusal::plain("The command provided does not exist (or is disabled)."));
    }
    if !world.can_access(call.text("roomId"), &call.uid) {
        return Err(Refusal::code("unauthorized"));
    }
    let said = json!({"rid": call.text("roomId")});
    world.slash(&call.uid, call.text("command"), call.text("params").trim(), &said)?;
    Ok(json!({}))
}

/// A method of the realtime API in an envelope; a refused one is a 400 with the same envelope.
pub fn method_call(world: &mut World, call: &Call) -> Answer {
    let message: Value = serde_json::from_str(call.text("message")).unwrap_or_default();
    let name = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    let params = message.get("params").and_then(Value::as_array).cloned().unwrap_or_default();
    let uid = (!call.uid.is_empty()).then_some(call.uid.as_str());
    let mut result = json!({"msg": "result", "id": message.get("id")});
    match ddp::run(world, uid, None, &name, &params) {
        Ok(Some(value)) => result["result"] = value,
        Ok(None) => {}
        Err(refusal) => {
            result["error"] = refusal.to_ddp();
            return Err(Refusal::Envelope(result.to_string()));
        }
    }
    Ok(json!({"message": result.to_string()}))
}
