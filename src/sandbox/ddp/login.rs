//! The method `login` in its forms.

use serde_json::{Value, json};

use super::session::Session;
use crate::sandbox::Dialect;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{World, date};

/// Logs a socket in. A failure leaves an earlier login as it was.
pub fn login(world: &mut World, session: &Session, form: &Value) -> Result<Option<Value>, Refusal> {
    let (form, code) = match form.get("totp") {
        Some(totp) => (totp.get("login").unwrap_or(&Value::Null), totp.get("code").and_then(Value::as_str)),
        None => (form, None),
    };
    let (uid, token, expires, kind) = if let Some(resume) = form.get("resume").and_then(Value::as_str) {
        let Some((uid, expires)) = world.check_token(resume) else {
            return Err(Refusal::number(403, crate::sandbox::state::LOGGED_OUT));
        };
        (uid, resume.to_owned(), expires, "resume")
    } else if session.dialect == Dialect::Streamer {
        // Only tokens get in here: a password has to be turned into one over REST.
        return Err(Refusal::number(403, crate::sandbox::state::LOGGED_OUT));
    } else {
        let uid = by_password(world, form, code)?;
        let token = world.new_token(&uid, None);
        (uid, token.value, token.expires, "password")
    };
    if let Some(connection) = world.connections.get_mut(&session.id) {
        connection.uid = Some(uid.clone());
        connection.token = Some(token.clone());
    }
    if session.dialect == Dialect::Monolith
        && let Some(person) = world.people.get(&uid)
    {
        let fields = json!({"username": person.username, "emails": person.emails()});
        session.say(world, &json!({"msg": "added", "collection": "users", "id": uid, "fields": fields}));
        // What was subscribed before the login runs again under the new name, and says so.
        let subs = world.connections.get(&session.id).map(|connection| connection.subs.clone());
        for sub in subs.into_iter().flatten().filter(|sub| sub.event == "__my_messages__") {
            session.say(world, &json!({"msg": "ready", "subs": [sub.id]}));
        }
    }
    world.set_online(&uid);
    // Always there, null for a token that never ends: a known client stumbles over its absence.
    let expires = expires.map_or_else(|| json!({"$date": null}), date);
    Ok(Some(json!({"id": uid, "token": token, "tokenExpires": expires, "type": kind})))
}

fn by_password(world: &World, form: &Value, code: Option<&str>) -> Result<String, Refusal> {
    let user = form.get("user").unwrap_or(&Value::Null);
    let name = user.get("username").or_else(|| user.get("email")).and_then(Value::as_str);
    let Some(name) = name else { return Err(Refusal::number(400, "Match failed")) };
    match form.get("password") {
        Some(Value::String(plain)) => world.check_password(name, plain, false, code),
        Some(Value::Object(object)) => {
            let digest = object.get("digest").and_then(Value::as_str).unwrap_or_default();
            world.check_password(name, digest, true, code)
        }
        _ => Err(Refusal::number(400, "Match failed")),
    }
}
