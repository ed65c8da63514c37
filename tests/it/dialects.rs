//! Where releases and dialects of Rocket.Chat part: each call with what 6.5 and 8 answer, each conversation
//! with what the monolith and the streamer say in it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use houston::sandbox::{Dialect, Options, Version, start};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::rc::Person;

enum Ask {
    Get(&'static str),
    Post(&'static str, Value),
    Method(&'static str, Value),
}

fn sent(more: &Value) -> Value {
    let mut message = json!({"rid": "r-ops"});
    for (key, value) in more.as_object().expect("an object") {
        message[key] = value.clone();
    }
    message
}

/// Each with the answer of 6.5 and that of 8: status and code of a REST call, `result`, `nothing` or the code
/// of a method.
fn asks() -> Vec<(Ask, &'static str, &'static str)> {
    use Ask::{Get, Method, Post};
    let long = || "x".repeat(5001);
    let send = |more: Value| Post("chat.sendMessage", json!({"message": sent(&more)}));
    let post = |mut body: Value| {
        body["roomId"] = "r-ops".into();
        Post("chat.postMessage", body)
    };
    let say = |more: Value| Method("sendMessage", json!([sent(&more)]));
    let (closed, size) = ("400 invalid-params", "400 error-message-size-exceeded");
    vec![
        (send(json!({"msg": "x", "nope": 1})), "200", closed),
        (send(json!({"msg": "x", "reactions": {}})), "200", closed),
        (send(json!({"msg": "x", "bot": {"i": "x"}})), "200", closed),
        (send(json!({"msg": "x", "blocks": []})), "200", "200"),
        (send(json!({"msg": ""})), "200", closed),
        (send(json!({"msg": long()})), size, size),
        (send(json!({"msg": "x", "tshow": true})), closed, closed),
        (post(json!({"text": "x", "nope": 1})), "200", closed),
        (post(json!({"text": "x", "blocks": []})), "200", closed),
        (post(json!({"text": "x", "_id": "mine"})), "200", closed),
        (post(json!({"msg": "x"})), "200", closed),
        (post(json!({"text": long()})), "200", size),
        (post(json!({"text": "x", "attachments": [{"text": long()}]})), "200", size),
        (
            post(json!({"text": "x", "attachments": [{"fields": [{"title": "env", "value": ""}]}]})),
            "200",
            "400 Invalid attachment field, title and value is required",
        ),
        (Post("chat.update", json!({"roomId": "r-ops", "msgId": "m1", "text": long()})), "200", size),
        (Post("chat.react", json!({"messageId": "m1", "emoji": "eyes", "nope": 1})), "200", closed),
        (Get("chat.getMessage?msgId=m1&nope=1"), "200", closed),
        (
            Get("chat.syncMessages?roomId=r-ops&type=UPDATED&next=0"),
            "400 error-lastUpdate-param-not-provided",
            "200",
        ),
        (Get("chat.syncMessages?roomId=r-ops&lastUpdate=2026-01-01T00:00:00.000Z"), "200", "200"),
        (Get("roles.getUsersInPublicRoles"), "200 page", "200"),
        (Post("rooms.upload/r-ops", json!({})), "400 No file uploaded", "405"),
        (Post("rooms.media/r-ops", json!({})), "405", "400 No file uploaded"),
        (say(json!({"msg": "x"})), "result", "result"),
        (say(json!({"msg": "x", "attachments": []})), "result", "400"),
        (say(json!({"msg": "x", "alias": "Bob"})), "nothing", "400"),
        (say(json!({"msg": ""})), "result", "nothing"),
        (say(json!({"msg": long()})), "nothing", "nothing"),
        (say(json!({"msg": "again", "_id": "m1"})), "nothing", "nothing"),
        (Method("updateMessage", json!([{"_id": "m1", "ts": 1}])), ERROR_KEY, ERROR_KEY),
        (Method("deleteMessage", json!([{"_id": "m2"}])), "nothing", "404"),
        (Method("getUserRoles", json!([])), "result", "404"),
    ]
}

const ERROR_KEY: &str = "error-invalid-update-key";

fn code(refusal: &Value) -> String {
    let code = refusal.get("errorType").unwrap_or(&refusal["error"]);
    code.as_str().map_or_else(|| code.to_string(), |code| code.trim_matches(['[', ']']).to_owned())
}

#[tokio::test]
async fn each_release_takes_and_refuses_what_is_its_own() {
    for (server, is_old) in [(Version::V6_5, true), (Version::V8, false)] {
        let sandbox = start(Options { server, rate_limits: false, ..Options::default() }).await.unwrap();
        let mut alice = Person::login(&sandbox.url(), "alice").await;
        for id in ["m1", "m2"] {
            let message = json!({"message": {"rid": "r-ops", "msg": id, "_id": id}});
            assert_eq!(alice.post("chat.sendMessage", message).await.0, 200);
        }
        for (ask, of_6_5, of_8) in asks() {
            let (what, (status, body)) = match ask {
                Ask::Get(path) => (path.to_owned(), alice.get(path).await),
                Ask::Post(path, body) => (format!("{path} {body:.100}"), alice.post(path, body).await),
                Ask::Method(name, params) => {
                    let what = format!("{name} {params:.100}");
                    (
                        what,
                        (
                            0,
                            alice
                                .socket
                                .call(name, params)
                                .await
                                .unwrap_or_else(|error| json!({"no": error})),
                        ),
                    )
                }
            };
            let answer = match (status, &body) {
                (0, Value::Null) => "nothing".to_owned(),
                (0, body) if body.get("no").is_some() => match &body["no"]["error"] {
                    Value::String(code) => code.clone(),
                    code => code.to_string(),
                },
                (0, _) => "result".to_owned(),
                (200, Value::Null) => "200 page".to_owned(),
                (200 | 405, _) => status.to_string(),
                (status, body) => format!("{status} {}", code(body)),
            };
            assert_eq!(answer, if is_old { of_6_5 } else { of_8 }, "{server:?}: {what}: {body}");
        }
    }
}

/// A conversation: its name, the address, what the client says, and what each dialect says in it. `closed`
/// ends it. Where the client is not connected in the end, all frames are listed.
struct Talk {
    what: &'static str,
    path: &'static str,
    says: Vec<Message>,
    monolith: &'static [&'static str],
    streamer: &'static [&'static str],
}

const CONNECT: &str = r#"{"msg":"connect","version":"1","support":["1","pre2","pre1"]}"#;

/// A conversation that begins with `connect`.
fn talk(
    what: &'static str,
    then: &[Value],
    monolith: &'static [&'static str],
    streamer: &'static [&'static str],
) -> Talk {
    let mut says = vec![Message::text(CONNECT)];
    says.extend(then.iter().map(|frame| Message::text(frame.to_string())));
    Talk { what, path: "/websocket", says, monolith, streamer }
}

fn method(name: &str, params: &Value) -> Value {
    json!({"msg": "method", "id": "m", "method": name, "params": params})
}

fn talks(token: &str, direct: &str) -> Vec<Talk> {
    let raw = |what, path, says, monolith, streamer| Talk { what, path, says, monolith, streamer };
    let sub = |id: &str, params: Value| json!({"msg": "sub", "id": id, "name": "stream-room-messages", "params": params});
    let resume = method("login", &json!([{"resume": token}]));
    let password = method("login", &json!([{"user": {"username": "alice"}, "password": "alice"}]));
    let mine = sub("s", json!(["__my_messages__", false]));
    let packed = json!([CONNECT]).to_string();
    vec![
        raw("nothing", "/websocket", vec![], &[], &["server_id"]),
        talk("connect", &[], &["connected"], &["server_id", "connected"]),
        raw(
            "a version nobody knows",
            "/websocket",
            vec![Message::text(r#"{"msg":"connect","version":"2","support":["2"]}"#)],
            &["failed", "closed 1000 Normal closure"],
            &["server_id", "connected"],
        ),
        raw(
            "a ping before connect",
            "/websocket",
            vec![Message::text(r#"{"msg":"ping"}"#)],
            &["error Must connect first"],
            &["server_id", "closed 1002 "],
        ),
        raw(
            "no JSON",
            "/websocket",
            vec![Message::text(CONNECT), Message::text("{no")],
            &["connected", "error Bad request"],
            &["server_id", "connected", "closed 1007 "],
        ),
        raw(
            "a binary frame",
            "/websocket",
            vec![Message::text(CONNECT), Message::binary(vec![1])],
            &["connected"],
            &["server_id", "connected", "closed 1007 "],
        ),
        raw(
            "another address",
            "/websocket?x",
            vec![Message::text(CONNECT)],
            &["connected"],
            &["sockjs open", "sockjs server_id", "closed 1007 "],
        ),
        raw(
            "another address, SockJS",
            "/websocket/",
            vec![Message::text(packed)],
            &["error Bad request"],
            &["sockjs open", "sockjs server_id", "sockjs connected"],
        ),
        talk(
            "unsubscribing what is not subscribed",
            &[json!({"msg": "unsub", "id": "none"})],
            &["connected", "nosub"],
            &["server_id", "connected"],
        ),
        talk(
            "a subscription twice",
            &[mine.clone(), mine],
            &["connected", "ready"],
            &["server_id", "connected", "ready"],
        ),
        talk(
            "a subscription with useCollection",
            &[sub("s", json!(["__my_messages__", true]))],
            &["connected", "added", "ready"],
            &["server_id", "connected", "ready"],
        ),
        talk(
            "a room before login",
            &[sub("s", json!(["r-ops", false]))],
            &["connected", "nosub not-allowed"],
            &["server_id", "connected", "nosub not-allowed"],
        ),
        talk(
            "an unknown method",
            &[method("nope", &json!([]))],
            &["connected", "result 404", "updated"],
            &["server_id", "connected", "result 404", "updated"],
        ),
        talk(
            "a login by password",
            &[password],
            &["connected", "added", "updated", "result ok"],
            &["server_id", "connected", "result 403", "updated"],
        ),
        talk(
            "a login by token, and what JavaScript holds for false",
            &[resume.clone(), method("getRoomNameById", &json!([direct]))],
            &["connected", "added", "updated", "result ok", "updated", "result ok"],
            &["server_id", "connected", "result ok", "updated", "result", "updated"],
        ),
        talk(
            "a logout",
            &[resume, method("logout", &json!([]))],
            &["connected", "added", "updated", "result ok", "updated", "result"],
            &["server_id", "connected", "result ok", "updated", "result", "updated", "closed 1002 "],
        ),
    ]
}

/// A frame in a few words.
fn brief(frame: &Value) -> String {
    let msg = frame["msg"].as_str().unwrap_or_default();
    let error = &frame["error"]["error"];
    match msg {
        "error" => format!("error {}", frame["reason"].as_str().unwrap_or_default()),
        "result" | "nosub" if !error.is_null() => format!("{msg} {}", error.to_string().trim_matches('"')),
        "result" if frame.get("result").is_some() => "result ok".to_owned(),
        _ => msg.to_owned(),
    }
}

/// What comes on a socket while the client says its part: to the answer to a last ping, or to the end.
async fn heard(url: &str, talk: &Talk, expected: usize) -> Vec<String> {
    let url = format!("{}{}", url.replacen("http", "ws", 1), talk.path);
    let (mut socket, _) = connect_async(url).await.expect("a socket");
    for frame in &talk.says {
        // It may have been closed at an earlier frame.
        let _ = socket.send(frame.clone()).await;
    }
    let mut heard: Vec<String> = Vec::new();
    let (mut is_packed, mut asked) = (false, false);
    loop {
        if heard.len() == expected && !asked {
            asked = true;
            let ping = json!({"msg": "ping", "id": "the last"}).to_string();
            let ping = if is_packed { json!([ping]).to_string() } else { ping };
            let _ = socket.send(Message::text(ping)).await;
        }
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
        match message.unwrap_or_else(|_| panic!("{}: only {heard:?}", talk.what)) {
            Some(Ok(Message::Text(text))) if text == "o" => {
                is_packed = true;
                heard.push("sockjs open".to_owned());
            }
            Some(Ok(Message::Text(text))) => {
                let frame = if is_packed { unpacked(&text) } else { text.to_string() };
                if frame.contains("the last") {
                    return heard;
                }
                let frame: Value = serde_json::from_str(&frame).expect("JSON");
                // A streamer may ping at any time, even before `connected`.
                if frame["msg"] == "ping" {
                    continue;
                }
                heard.push(format!("{}{}", if is_packed { "sockjs " } else { "" }, brief(&frame)));
            }
            // A ping is no way to begin with a streamer.
            Some(Ok(Message::Close(_))) if heard == ["server_id"] && expected == 1 => return heard,
            Some(Ok(Message::Close(Some(close)))) => {
                heard.push(format!("closed {} {}", u16::from(close.code), close.reason));
                return heard;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return heard,
        }
    }
}

/// The one frame in a SockJS message.
fn unpacked(text: &str) -> String {
    let frames: Vec<String> = serde_json::from_str(text.trim_start_matches('a')).expect("an array of texts");
    frames.concat()
}

#[tokio::test]
async fn each_dialect_speaks_and_refuses_as_its_server_does() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let sandbox = start(Options { dialect, rate_limits: false, ..Options::default() }).await.unwrap();
        let alice = Person::login(&sandbox.url(), "alice").await;
        let direct = alice.direct("bob").await;
        for number in 0..talks("", "").len() {
            let (_, token) = sandbox.personal_token("alice").expect("alice");
            let talk = talks(&token, &direct).swap_remove(number);
            let wanted = if dialect == Dialect::Streamer { talk.streamer } else { talk.monolith };
            let heard = heard(&sandbox.url(), &talk, wanted.len()).await;
            assert_eq!(heard, wanted, "{dialect:?}: {}", talk.what);
        }
    }
}
