//! Subscriptions: which streams there are, and who may listen.

use serde_json::{Value, json};

use super::session::Session;
use crate::sandbox::Dialect;
use crate::sandbox::emit::Sub;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::World;

/// Publications that are accepted and then say nothing.
const SILENT: &[&str] = &[
    "stream-roles",
    "stream-importers",
    "stream-integrationHistory",
    "stream-canned-responses",
    "meteor.loginServiceConfiguration",
    "meteor_autoupdate_clientVersions",
    "_roles",
];

/// Accepts a subscription or says why not. Gives the `added` frame that some clients wait for.
pub fn subscribe(
    world: &mut World,
    session: &Session,
    id: &str,
    name: &str,
    params: &[Value],
) -> Result<Option<Value>, Refusal> {
    let event = params.first().and_then(Value::as_str).unwrap_or_default();
    let uid = session.uid(world);
    let uid = uid.as_deref();
    let allowed = match name {
        "stream-room-messages" => {
            event == "__my_messages__" || uid.is_some_and(|uid| world.can_access(event, uid))
        }
        "stream-notify-room" => {
            let rid = event.split('/').next().unwrap_or_default();
            uid.is_some_and(|uid| world.can_access(rid, uid))
        }
        "stream-notify-user" => uid.is_some_and(|uid| event.split('/').next() == Some(uid)),
        "stream-notify-logged" => uid.is_some(),
        "stream-notify-all" | "stream-user-presence" => true,
        name if SILENT.contains(&name) => true,
        _ => return Err(Refusal::number(404, &format!("Subscription '{name}' not found"))),
    };
    if event.is_empty() && name.starts_with("stream-") && name != "stream-user-presence" {
        return Err(Refusal::code("invalid-event-name"));
    }
    if !allowed {
        return Err(Refusal::code("not-allowed"));
    }
    let events: Vec<String> = if name == "stream-user-presence" {
        // Its parameters are `""` and `{added: [uid…]}`.
        let added =
            params.iter().filter_map(|param| param.get("added")).filter_map(Value::as_array).flatten();
        added.filter_map(|uid| uid.as_str().map(str::to_owned)).collect()
    } else {
        vec![event.to_owned()]
    };
    let Some(connection) = world.connections.get_mut(&session.id) else { return Ok(None) };
    for event in events {
        connection.subs.push(Sub { id: id.to_owned(), stream: name.to_owned(), event });
    }
    let use_collection = match params.get(1) {
        Some(Value::Bool(flag)) => *flag,
        Some(options) => options.get("useCollection").and_then(Value::as_bool).unwrap_or(false),
        None => false,
    };
    let added = json!({"msg": "added", "collection": name, "id": "id", "fields": {"eventName": event}});
    Ok((use_collection && session.dialect == Dialect::Monolith).then_some(added))
}
