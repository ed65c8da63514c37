//! Logging in and out, and the caller's own tokens.

use serde_json::{Value, json};

use super::{Answer, Call};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{World, date};

pub fn login(world: &mut World, call: &Call) -> Answer {
    let (uid, token) = if call.has("resume") {
        let (uid, _) = world
            .check_token(call.text("resume"))
            .ok_or_else(|| Refusal::number(403, crate::sandbox::state::LOGGED_OUT))?;
        (uid, call.text("resume").to_owned())
    } else {
        let user = ["user", "username", "email"].into_iter().find_map(|key| match call.params.get(key) {
            Some(Value::String(name)) => Some(name.clone()),
            Some(Value::Object(user)) => user.values().next().and_then(Value::as_str).map(str::to_owned),
            _ => None,
        });
        let (password, is_digest) = match call.params.get("password") {
            Some(Value::Object(object)) => {
                let digest = object.get("hashed").or_else(|| object.get("digest")).and_then(Value::as_str);
                (digest.unwrap_or_default().to_owned(), true)
            }
            _ => (call.text("password").to_owned(), false),
        };
        let code = call.params.get("code").and_then(Value::as_str).or(call.code.as_deref());
        let user = user.unwrap_or_default();
        if world.id_of(user.strip_suffix("@example.com").unwrap_or(&user)).is_none() {
            return Err(Refusal::code("Unauthorized"));
        }
        let uid = world.check_password(&user, &password, is_digest, code)?;
        let token = world.new_token(&uid, None).value;
        (uid, token)
    };
    let now = world.now();
    let me = world.people.get(&uid).map(|person| person.own_doc(now));
    let mut body = json!({"status": "success", "data": {"userId": uid, "authToken": token, "me": me}});
    if !world.is_old() {
        body["success"] = true.into();
    }
    Ok(body)
}

/// The body of a 401 of `login`.
pub fn failed(refusal: &Refusal) -> Value {
    let Refusal::Meteor(error) = refusal else { return refusal.to_rest() };
    let mut body = json!({"status": "error", "error": error.code});
    if let Some(details) = &error.details {
        body["details"] = details.clone();
    }
    body["message"] = error.reason.clone().unwrap_or_else(|| refusal.code_text()).into();
    body
}

pub fn logout(world: &mut World, call: &Call) -> Answer {
    world.revoke(&call.token);
    Ok(json!({"status": "success", "data": {"message": "You've been logged out!"}}))
}

pub fn me(world: &mut World, call: &Call) -> Answer {
    let now = world.now();
    Ok(world.people.get(&call.uid).map(|person| Value::Object(person.own_doc(now))).unwrap_or_default())
}

pub fn generate_token(world: &mut World, call: &Call) -> Answer {
    let of = |code: &str, reason: &str| Refusal::of("personalAccessTokens:generateToken", code, reason);
    if !world.may(&call.uid, "create-personal-access-tokens", None) {
        return Err(of("not-authorized", "Not Authorized"));
    }
    let name = call.text("tokenName");
    let taken =
        world.people.get(&call.uid).is_some_and(|p| p.tokens.iter().any(|t| t.name.as_deref() == Some(name)));
    if taken {
        return Err(of("error-token-already-exists", "A token with this name already exists"));
    }
    let value = world.new_token(&call.uid, Some(name)).value;
    let bypasses = call.params.get("bypassTwoFactor").and_then(Value::as_bool).unwrap_or(false);
    let tokens = world.people.get_mut(&call.uid).into_iter().flat_map(|person| &mut person.tokens);
    for token in tokens.filter(|token| token.value == value) {
        token.bypasses_two_factor = bypasses;
    }
    Ok(json!({"token": value}))
}

pub fn tokens(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "create-personal-access-tokens", None) {
        return Err(Refusal::new("not-authorized", "Not Authorized"));
    }
    let tokens = world.people.get(&call.uid).map(|person| person.tokens.as_slice()).unwrap_or_default();
    let tokens: Vec<Value> = tokens
        .iter()
        .filter_map(|token| {
            let tail: String =
                token.value.chars().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect();
            Some(
                json!({"name": token.name.as_ref()?, "createdAt": date(token.created), "lastTokenPart": tail,
                "bypassTwoFactor": token.bypasses_two_factor}),
            )
        })
        .collect();
    Ok(json!({"tokens": tokens}))
}

pub fn remove_token(world: &mut World, call: &Call) -> Answer {
    if !world.may(&call.uid, "create-personal-access-tokens", None) {
        return Err(Refusal::of("personalAccessTokens:removeToken", "not-authorized", "Not Authorized"));
    }
    let name = call.text("tokenName");
    let value = world.people.get(&call.uid).and_then(|person| {
        person
            .tokens
            .iter()
            .find(|token| token.name.as_deref() == Some(name))
            .map(|token| token.value.clone())
    });
    let Some(value) = value else {
        let of = "personalAccessTokens:removeToken";
        return Err(Refusal::of(of, "error-token-does-not-exists", "Token does not exist"));
    };
    world.revoke(&value);
    Ok(json!({}))
}

pub fn logout_others(world: &mut World, call: &Call) -> Answer {
    world.revoke_all(&call.uid, Some(&call.token));
    let expires = world.check_token(&call.token).and_then(|(_, expires)| expires);
    Ok(json!({"token": call.token, "tokenExpires": expires.map(date)}))
}
