//! The REST API: routing, authentication, limits and schemas; the routes themselves stand by area.

mod account;
mod chat;
mod files;
mod people;
mod rooms;
mod routes;
mod workspace;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::limits::Rule;
use super::refusal::Refusal;
use super::server::Shared;
use super::state::{Doc, World, millis};
pub use files::download;
use routes::{Found, Route};

/// The largest JSON body.
const MOST_BYTES: usize = 12 * 1024 * 1024;
const PAGE: &str = "<!DOCTYPE html>\n<html>\n<head>\n<title>Rocket.Chat</title></head><body></body></html>\n";

/// A REST call past authentication and schema.
pub struct Call {
    /// Empty where no login is needed and none was brought.
    pub uid: String,
    pub token: String,
    /// What stands behind the route's name, such as the room of `rooms.media/:rid`.
    pub args: Vec<String>,
    /// The body, or the query with texts as values.
    pub params: Doc,
    /// The code of a second factor, from its header.
    pub code: Option<String>,
}

/// The fields of a 200 besides `success`.
pub type Answer = Result<Value, Refusal>;

impl Call {
    pub fn text(&self, key: &str) -> &str {
        super::state::text(&self.params, key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.params.contains_key(key)
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.params.get(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => Some(text == "true"),
            _ => None,
        }
    }

    pub fn int(&self, key: &str) -> Option<i64> {
        match self.params.get(key)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn date(&self, key: &str) -> Option<i64> {
        self.params.get(key).and_then(millis)
    }

    /// One page of a list, with the counters around it.
    pub fn page(&self, world: &World, name: &str, all: Vec<Value>) -> Value {
        let most = world.number("API_Upper_Count_Limit").max(1);
        let count = match self.int("count") {
            None => 50,
            Some(0) => i64::MAX,
            Some(count) => count.clamp(1, most),
        };
        let (offset, total) = (self.int("offset").unwrap_or(0).max(0), all.len());
        let skip = usize::try_from(offset).unwrap_or(0);
        let page: Vec<Value> =
            all.into_iter().skip(skip).take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
        let mut body = json!({"count": page.len(), "offset": offset, "total": total});
        body[name] = page.into();
        body
    }
}

/// `GET /api/info`.
pub async fn info(State(shared): State<Arc<Shared>>) -> Response {
    let mut world = shared.world();
    if world.is_down() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let version = if world.is_old() { "6.5.3" } else { "8.5" };
    answer(StatusCode::OK, &json!({"version": version, "success": true}))
}

/// Whatever is not there: the web client's page, with 200.
pub async fn html() -> Response {
    page(StatusCode::OK)
}

/// `/api/v1/…`.
pub async fn api(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches("/api/v1/").to_owned();
    let mut segments = path.split('/').map(str::to_owned);
    let name = segments.next().unwrap_or_default();
    let args: Vec<String> = segments.collect();
    if shared.world().is_down() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let is_old = shared.world().is_old();
    let route = match routes::find(&parts.method, &name, is_old) {
        Found::Route(route) => route,
        Found::OtherVerb if args.is_empty() => {
            let body = json!({"status": "error", "message": "API endpoint does not exist"});
            return answer(StatusCode::METHOD_NOT_ALLOWED, &body);
        }
        Found::OtherVerb | Found::OtherVersion => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Found::Nothing => return page(StatusCode::OK),
    };
    let caller = match admit(&mut shared.world(), &parts.headers, &parts.method, &name, route) {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    let kind = |wanted: &[u8]| {
        let kind = parts.headers.get(header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(wanted))
    };
    let (is_multipart, is_form) = (kind(b"multipart/"), kind(b"application/x-www-form-urlencoded"));
    let reply = if is_multipart {
        let request = Request::from_parts(parts, body);
        files::receive(&shared, request, &caller, &name, args).await
    } else {
        let Ok(bytes) = to_bytes(body, MOST_BYTES).await else {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        };
        let params = if parts.method == Method::GET {
            query(parts.uri.query().unwrap_or_default())
        } else if bytes.is_empty() {
            Doc::new()
        } else if is_form {
            query(&String::from_utf8_lossy(&bytes))
        } else {
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(Value::Object(doc)) => doc,
                Ok(_) => Doc::new(),
                Err(_) => return page(StatusCode::BAD_REQUEST),
            }
        };
        let call = Call {
            uid: caller.uid.clone(),
            token: caller.token.clone(),
            args,
            params,
            code: caller.code.clone(),
        };
        let mut world = shared.world();
        note(&mut world, &parts.method, &name, &call);
        match routes::check(route, &call.params, is_old) {
            Ok(()) => (route.run)(&mut world, &call),
            Err(refusal) => Err(refusal),
        }
    };
    shared.heard.notify_waiters();
    let mut response = match reply {
        Ok(mut body) => {
            if let Some(body) = body.as_object_mut()
                && !matches!(name.as_str(), "login" | "logout")
            {
                body.insert("success".into(), true.into());
            }
            answer(StatusCode::OK, &body)
        }
        Err(refusal) if name == "login" => answer(StatusCode::UNAUTHORIZED, &account::failed(&refusal)),
        Err(refusal) => answer(StatusCode::BAD_REQUEST, &refusal.to_rest()),
    };
    response.headers_mut().extend(caller.headers);
    response
}

/// Who calls, past the limiter.
pub struct Caller {
    pub uid: String,
    pub token: String,
    code: Option<String>,
    headers: HeaderMap,
}

fn admit(
    world: &mut World,
    headers: &HeaderMap,
    method: &Method,
    name: &str,
    route: &Route,
) -> Result<Caller, Box<Response>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (user, token) = (text("x-user-id").unwrap_or_default(), text("x-auth-token").unwrap_or_default());
    let known = world.check_token(&token).map(|(uid, _)| uid).filter(|uid| *uid == user);
    if route.login && known.is_none() {
        let mut body = json!({"status": "error", "message": "You must be logged in to do this."});
        if !world.is_old() {
            body["success"] = false.into();
            body["error"] = body["message"].clone();
        }
        return Err(Box::new(answer(StatusCode::UNAUTHORIZED, &body)));
    }
    let mut caller = Caller {
        uid: known.clone().unwrap_or_default(),
        token: if known.is_some() { token } else { String::new() },
        code: text("x-2fa-code"),
        headers: HeaderMap::new(),
    };
    let forced = world.faults.is_limited(name);
    let limited = world.rate_limits && world.flag("API_Enable_Rate_Limiter");
    if !forced && (!limited || world.may(&caller.uid, "api-bypass-rate-limit", None)) {
        return Ok(caller);
    }
    // One bucket per address, as the client itself names it; all people behind it share the bucket.
    let address = text("x-forwarded-for").or_else(|| text("x-real-ip")).unwrap_or_default();
    let address = address.rsplit(',').next().unwrap_or_default().trim().to_owned();
    let rule = Rule {
        allowed: u32::try_from(world.number("API_Enable_Rate_Limiter_Limit_Calls_Default")).unwrap_or(10),
        window_ms: world.number("API_Enable_Rate_Limiter_Limit_Time_Default").max(1),
    };
    let now = world.now();
    let hit = world.rest_limiter.hit((format!("{method} {name}"), address), rule, now);
    for (name, value) in [
        ("x-ratelimit-limit", i64::from(rule.allowed)),
        ("x-ratelimit-remaining", i64::from(hit.remaining)),
        ("x-ratelimit-reset", hit.reset_at),
    ] {
        caller.headers.insert(name, HeaderValue::from(value));
    }
    if hit.passed && !forced {
        return Ok(caller);
    }
    let seconds = (hit.reset_at - now + 999) / 1000;
    let error = format!(
        "Error, too many requests. Please slow down. You must wait {seconds} seconds before trying this \
         endpoint again. [error-too-many-requests]"
    );
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, &json!({"success": false, "error": error}));
    response.headers_mut().extend(caller.headers);
    Err(Box::new(response))
}

fn note(world: &mut World, method: &Method, name: &str, call: &Call) {
    let mut entry = Doc::new();
    entry.insert("via".into(), "rest".into());
    entry.insert("user".into(), world.people.get(&call.uid).map(|person| person.username.clone()).into());
    entry.insert("method".into(), method.as_str().into());
    entry.insert("route".into(), name.into());
    let params = if name == "login" { "hidden".into() } else { Value::Object(call.params.clone()) };
    entry.insert("params".into(), params);
    world.log(entry);
}

fn query(text: &str) -> Doc {
    url::form_urlencoded::parse(text.as_bytes())
        .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
        .collect()
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], iso(body.clone()).to_string()).into_response()
}

fn page(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

/// Dates as REST writes them: `{"$date": ms}` becomes ISO 8601 with milliseconds.
pub fn iso(value: Value) -> Value {
    match value {
        Value::Object(object) if object.len() == 1 && object.contains_key("$date") => {
            let at = object
                .get("$date")
                .and_then(Value::as_i64)
                .and_then(|ms| Timestamp::from_millisecond(ms).ok());
            at.map_or(Value::Null, |at| format!("{at:.3}").into())
        }
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, value)| (key, iso(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(iso).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_leave_rest_as_iso_8601_with_milliseconds() {
        let value = json!({"ts": {"$date": 1_795_377_354_363_i64}, "list": [{"$date": 0}]});
        let expected = json!({"ts": "2026-11-22T19:55:54.363Z", "list": ["1970-01-01T00:00:00.000Z"]});
        assert_eq!(iso(value), expected);
    }
}
