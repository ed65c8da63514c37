//! The sandbox answers as Rocket.Chat does: recorded refusals word for word, and the behaviour that clients
//! rely on, in both dialects.

use std::time::Duration;

use houston::clock::Clock;
use houston::sandbox::{Dialect, Options, Sandbox, Seed, Version, start};
use serde_json::{Value, json};

use crate::support::rc::{Person, Socket, control, http};

async fn sandbox(options: Options) -> Sandbox {
    start(options).await.expect("a port")
}

async fn of(dialect: Dialect, server: Version) -> Sandbox {
    sandbox(Options { dialect, server, rate_limits: false, ..Options::default() }).await
}

async fn plain() -> Sandbox {
    of(Dialect::Monolith, Version::V8).await
}

const DIALECTS: [Dialect; 2] = [Dialect::Monolith, Dialect::Streamer];

#[tokio::test]
async fn recorded_refusals_of_6_5_3_come_word_for_word() {
    let recorded = include_str!("../fixtures/rocketchat-6.5.3/refusals.json");
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let sandbox = of(Dialect::Monolith, Version::V6_5).await;
    let url = sandbox.url();
    control(&url, "person", json!({"username": "limbot", "roles": ["bot"]})).await;
    control(&url, "room", json!({"room": "quiet", "members": ["carol", "alice"]})).await;
    control(&url, "room", json!({"room": "hushed", "members": ["carol", "alice"], "muted": ["alice"]})).await;
    let mut carol = Person::login(&url, "carol").await;
    let mut houston = Person::login(&url, "houston").await;
    let alice = Person::login(&url, "alice").await;
    let mut limbot = Person::login(&url, "limbot").await;
    let room = sandbox.room_id("ops").expect("ops");
    let foreign = carol.say("ops", "carol's").await;
    let own = houston.say("ops", "houston's").await;
    let limbots = limbot.say("ops", "limbot's").await;
    let in_readonly = carol.say("quiet", "look").await;
    control(&url, "room", json!({"room": "quiet", "read_only": true})).await;
    let id = |name: &str| sandbox.room_id(name).expect("a room");
    let text_of = |message: &Value| message["_id"].as_str().expect("an id").to_owned();
    let replace = |text: &str| {
        text.replace("{room}", &room)
            .replace("{private}", &id("board"))
            .replace("{readonly}", &id("quiet"))
            .replace("{muted}", &id("hushed"))
            .replace("{foreign}", &text_of(&foreign))
            .replace("{own}", &text_of(&own))
            .replace("{limbots}", &text_of(&limbots))
            .replace("{inreadonly}", &text_of(&in_readonly))
            .replace("{long}", &"x".repeat(5001))
    };
    let calls = recorded["calls"].as_array().expect("calls");
    assert!(calls.len() > 30, "the fixture is whole");
    for call in calls {
        let who = match call["as"].as_str() {
            Some("houston") => Some(&houston),
            Some("alice") => Some(&alice),
            Some("limbot") => Some(&limbot),
            _ => None,
        };
        let path = replace(call["path"].as_str().expect("a path"));
        let mut request = match call["method"].as_str() {
            Some("GET") => http().get(format!("{url}{path}")),
            _ => {
                let body: Value = serde_json::from_str(&replace(&call["body"].to_string())).expect("JSON");
                http().post(format!("{url}{path}")).json(&body)
            }
        };
        if let Some(who) = who {
            request = request.header("X-User-Id", &who.uid).header("X-Auth-Token", &who.token);
        }
        let reply = request.send().await.expect("an answer");
        let status = reply.status().as_u16();
        let reply: Value = reply.json().await.unwrap_or(Value::Null);
        assert_eq!((&json!(status), &reply), (&call["status"], &call["response"]), "{}", call["name"]);
    }
}

#[tokio::test]
async fn answers_of_6_5_3_have_the_recorded_keys() {
    let recorded = include_str!("../fixtures/rocketchat-6.5.3/keys.json");
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let sandbox = of(Dialect::Monolith, Version::V6_5).await;
    let carol = Person::login(&sandbox.url(), "carol").await;
    let houston = Person::login(&sandbox.url(), "houston").await;
    let rid = sandbox.room_id("ops").expect("ops");
    let (_, sent) = carol.post("chat.sendMessage", json!({"message": {"rid": rid, "msg": "s0"}})).await;
    let (_, posted) = carol.post("chat.postMessage", json!({"roomId": rid, "text": "@houston hi"})).await;
    let (_, created) = carol.post("channels.create", json!({"name": "fresh"})).await;
    let (_, direct) = carol.post("im.create", json!({"username": "alice"})).await;
    let (_, deleted) =
        carol.post("chat.delete", json!({"roomId": rid, "msgId": sent["message"]["_id"]})).await;
    let (_, person) = houston.get("users.info?username=carol").await;
    let (_, presence) = houston.get("users.presence").await;
    for (name, answer) in [
        ("chat.sendMessage", &sent["message"]),
        ("chat.postMessage", &posted["message"]),
        ("channels.create", &created["channel"]),
        ("im.create", &direct["room"]),
        ("chat.delete", &deleted),
        ("users.info", &person["user"]),
        ("users.presence", &presence),
    ] {
        for key in recorded[name].as_array().expect("keys") {
            let key = key.as_str().expect("a key");
            // The syntax tree of the text is the one part that the sandbox leaves out.
            assert!(key == "md" || answer.get(key).is_some(), "{name} lacks {key}: {answer}");
        }
    }
}

#[tokio::test]
async fn the_monolith_negotiates_versions_and_complains_in_its_own_words() {
    let sandbox = plain().await;
    let mut socket = Socket::open(&sandbox.url()).await;
    socket.send(json!({"msg": "ping"})).await;
    assert_eq!(socket.next().await.expect("open")["reason"], "Must connect first");
    socket.send_text("{not json".into()).await;
    assert_eq!(socket.next().await, Some(json!({"msg": "error", "reason": "Bad request"})));
    socket.send(json!({"msg": "connect", "version": "pre2", "support": ["pre2"]})).await;
    assert_eq!(socket.next().await.expect("open")["msg"], "connected");
    socket.send(json!({"msg": "connect", "version": "1", "support": ["1"]})).await;
    assert_eq!(socket.next().await.expect("open")["reason"], "Already connected");
    socket.send(json!({"msg": "ping", "id": "7"})).await;
    assert_eq!(socket.next().await, Some(json!({"msg": "pong", "id": "7"})));
    let mut socket = Socket::open(&sandbox.url()).await;
    socket.send(json!({"msg": "connect", "version": "2", "support": ["2"]})).await;
    assert_eq!(socket.next().await, Some(json!({"msg": "failed", "version": "1"})));
    assert_eq!(socket.closed().await, 1000);
}

#[tokio::test]
async fn the_streamer_greets_first_and_hangs_up_on_what_is_no_connect() {
    let sandbox = of(Dialect::Streamer, Version::V8).await;
    let mut socket = Socket::open(&sandbox.url()).await;
    assert_eq!(socket.next().await, Some(json!({"msg": "server_id", "server_id": "0"})));
    let ping = socket.next().await.expect("a ping before `connected`, which the test client answers");
    assert_eq!(ping["msg"], "ping");
    assert_eq!(socket.closed().await, 1002);
    let mut socket = Socket::connect(&sandbox.url()).await;
    socket.send_text("{not json".into()).await;
    assert_eq!(socket.closed().await, 1007);
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_dropped() {
    for (dialect, code) in [(Dialect::Monolith, 1000), (Dialect::Streamer, 4000)] {
        let heartbeat = Some(Duration::from_millis(60));
        let sandbox = sandbox(Options { dialect, heartbeat, ..Options::default() }).await;
        let mut socket = Socket::connect(&sandbox.url()).await;
        assert_eq!(socket.closed().await, code, "{dialect:?}");
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_dialect() {
    for dialect in DIALECTS {
        let sandbox = of(dialect, Version::V8).await;
        let mut alice = Person::login(&sandbox.url(), "alice").await;
        alice.socket.settle_all().await;
        let rid = sandbox.room_id("ops").expect("ops");
        let message = json!({"rid": rid, "msg": "hi"});
        let frame = json!({"msg": "method", "id": "m", "method": "sendMessage", "params": [message]});
        alice.socket.send(frame).await;
        let frames = alice.socket.settle_all().await;
        let order: Vec<&str> = frames.iter().filter_map(|frame| frame["msg"].as_str()).collect();
        let wanted = match dialect {
            Dialect::Monolith => ["changed", "updated", "result"],
            Dialect::Streamer => ["changed", "result", "updated"],
        };
        assert_eq!(order, wanted, "{dialect:?}");
        let unknown = alice.socket.call("noSuchMethod", json!([])).await.expect_err("unknown");
        assert_eq!(unknown["error"], 404);
        assert_eq!(unknown["message"], "Method 'noSuchMethod' not found [404]");
    }
}

#[tokio::test]
async fn logins_take_every_form_on_the_monolith_and_only_tokens_on_the_streamer() {
    let digest = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"; // of "alice"
    let forms = [
        json!({"user": {"username": "alice"}, "password": {"digest": digest, "algorithm": "sha-256"}}),
        json!({"user": {"username": "alice"}, "password": "alice"}),
        json!({"user": {"email": "alice@example.com"}, "password": "alice"}),
    ];
    for dialect in DIALECTS {
        let sandbox = of(dialect, Version::V8).await;
        let (uid, token) = sandbox.personal_token("alice").expect("alice");
        let mut socket = Socket::connect(&sandbox.url()).await;
        for form in &forms {
            let outcome = socket.call("login", json!([form])).await;
            match dialect {
                Dialect::Monolith => {
                    let login = outcome.expect("logged in");
                    assert_eq!((&login["id"], &login["type"]), (&json!(uid), &json!("password")));
                    assert!(login["tokenExpires"]["$date"].is_i64());
                    socket.frame("users", |frame| frame["collection"] == "users").await;
                }
                Dialect::Streamer => assert_eq!(outcome.expect_err("refused")["error"], 403),
            }
        }
        let login = socket.call("login", json!([{"resume": token}])).await.expect("logged in");
        assert_eq!(login["tokenExpires"], json!({"$date": null}), "a personal token never ends");
        let dead = socket.call("login", json!([{"resume": "dead"}])).await.expect_err("refused");
        assert_eq!(dead["message"], "You've been logged out by the server. Please log in again. [403]");
        // The login of before stays.
        socket.sub("stream-notify-user", &format!("{uid}/message")).await.expect("still alice");
    }
}

#[tokio::test]
async fn a_second_factor_is_asked_for_by_name() {
    let mut seed = Seed::default();
    seed.people
        .iter_mut()
        .filter(|person| person.username == "alice")
        .for_each(|p| p.totp = Some("123456".into()));
    let sandbox = sandbox(Options { seed, ..Options::default() }).await;
    let mut socket = Socket::connect(&sandbox.url()).await;
    let form = json!({"user": {"username": "alice"}, "password": "alice"});
    let asked = socket.call("login", json!([form])).await.expect_err("a challenge");
    assert_eq!((&asked["error"], &asked["details"]["method"]), (&json!("totp-required"), &json!("totp")));
    let with = |code: &str| json!([{"totp": {"code": code, "login": form}}]);
    assert_eq!(socket.call("login", with("000000")).await.expect_err("wrong")["error"], "totp-invalid");
    socket.call("login", with("123456")).await.expect("logged in");
}

#[tokio::test]
async fn my_messages_waits_for_the_login_and_room_streams_do_not() {
    let sandbox = plain().await;
    let rid = sandbox.room_id("ops").expect("ops");
    let (_, token) = sandbox.personal_token("houston").expect("houston");
    let mut socket = Socket::connect(&sandbox.url()).await;
    socket.sub("stream-room-messages", "__my_messages__").await.expect("ready before login");
    let denied = socket.sub("stream-room-messages", &rid).await.expect_err("denied");
    assert_eq!(denied["error"], "not-allowed");
    let missing = socket.sub("stream-does-not-exist", "x").await.expect_err("unknown");
    assert_eq!(missing["error"], 404);
    sandbox.say("alice", "ops", "too early").await.expect("said");
    assert!(socket.settle().await.is_empty());
    socket.call("login", json!([{"resume": token}])).await.expect("logged in");
    sandbox.say("alice", "ops", "in time").await.expect("said");
    let frame = socket.frame("the message", |frame| frame["collection"] == "stream-room-messages").await;
    assert_eq!(frame["id"], "id");
    assert_eq!(frame["fields"]["args"][0]["msg"], "in time");
    let meta = json!({"roomParticipant": true, "roomType": "c", "roomName": "ops"});
    assert_eq!(frame["fields"]["args"][1], meta);
}

#[tokio::test]
async fn every_subscription_gets_its_own_copy_and_a_live_id_is_ignored() {
    let sandbox = plain().await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    let rid = sandbox.room_id("ops").expect("ops");
    houston.socket.sub("stream-room-messages", "__my_messages__").await.expect("again");
    let third = houston.socket.sub("stream-room-messages", &rid).await.expect("the room");
    let frame = json!({"msg": "sub", "id": third, "name": "stream-room-messages", "params": [rid, false]});
    houston.socket.send(frame).await;
    assert!(houston.socket.settle_all().await.iter().all(|frame| frame["msg"] != "ready"));
    sandbox.say("alice", "ops", "thrice").await.expect("said");
    let copies = houston.socket.settle().await;
    assert_eq!(copies.iter().filter(|frame| frame["collection"] == "stream-room-messages").count(), 3);
    houston.socket.send(json!({"msg": "unsub", "id": third})).await;
    houston.socket.frame("nosub", |frame| frame["msg"] == "nosub").await;
    sandbox.say("alice", "ops", "twice").await.expect("said");
    assert_eq!(houston.socket.settle().await.len(), 2);
}

#[tokio::test]
async fn every_change_emits_the_whole_document_again() {
    for dialect in DIALECTS {
        let sandbox = of(dialect, Version::V8).await;
        let mut alice = Person::login(&sandbox.url(), "alice").await;
        let mut houston = Person::login(&sandbox.url(), "houston").await;
        let root = alice.say("ops", "!deploy prod").await;
        let seen = houston.expect_from("alice", "!deploy").await;
        assert!(seen.get("editedAt").is_none() && seen.get("reactions").is_none());
        houston.reply(&root, "on it").await;
        houston.expect_from("houston", "on it").await;
        let parent = houston.expect_from("alice", "!deploy").await;
        assert_eq!(parent["tcount"], 1);
        alice.react(&root, "+1", true).await;
        let reacted = houston.expect_from("alice", "!deploy").await;
        assert_eq!(reacted["reactions"], json!({":+1:": {"usernames": ["alice"]}}));
        alice.react(&root, "+1", true).await;
        alice.react(&root, "+1", false).await;
        let bare = houston.expect_from("alice", "!deploy").await;
        assert!(
            bare.get("reactions").is_none(),
            "the repeated reaction made no frame, the last removal no key"
        );
        alice.edit(&root, "!deploy prod web").await;
        let edited = houston.expect_from("alice", "!deploy prod web").await;
        assert_eq!(edited["editedBy"]["username"], "alice");
        alice.edit(&root, "!deploy prod web").await;
        let frames = houston.socket.settle().await;
        assert!(
            frames.iter().all(|frame| frame["msg"] != "changed"),
            "the same text is no change: {frames:?}"
        );
    }
}

#[tokio::test]
async fn a_message_is_deleted_without_a_trace_or_to_a_tombstone_if_it_has_replies() {
    let sandbox = plain().await;
    let mut alice = Person::login(&sandbox.url(), "alice").await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    let rid = sandbox.room_id("ops").expect("ops");
    houston.socket.sub("stream-notify-room", &format!("{rid}/deleteMessage")).await.expect("subscribed");
    let lone = alice.say("ops", "lone").await;
    let root = alice.say("ops", "root").await;
    houston.reply(&root, "reply").await;
    houston.socket.settle().await;
    alice.delete(&lone).await;
    alice.delete(&root).await;
    let frames = houston.socket.settle().await;
    assert_eq!(frames[0]["fields"]["args"], json!([{"_id": lone["_id"]}]));
    let tomb = &frames[1]["fields"]["args"][0];
    assert_eq!((&tomb["t"], &tomb["msg"], &tomb["reactions"]), (&json!("rm"), &json!(""), &json!({})));
    let (_, sync) =
        houston.get(&format!("chat.syncMessages?roomId={rid}&lastUpdate=2020-01-01T00:00:00.000Z")).await;
    assert_eq!(sync["result"]["deleted"][0]["_id"], lone["_id"]);
}

#[tokio::test]
async fn who_is_kicked_from_a_private_room_hears_nothing_more() {
    let sandbox = plain().await;
    let url = sandbox.url();
    let mut houston = Person::login(&url, "houston").await;
    let mut carol = Person::login(&url, "carol").await;
    let uid = houston.uid.clone();
    houston.socket.sub("stream-notify-user", &format!("{uid}/subscriptions-changed")).await.expect("own");
    carol.say("board", "secret").await;
    assert!(houston.socket.settle().await.is_empty(), "not a member");
    control(&url, "invite", json!({"user": "houston", "room": "board", "by": "carol"})).await;
    houston.socket.frame("inserted", |frame| frame["fields"]["args"][0] == "inserted").await;
    carol.say("board", "welcome").await;
    houston.expect_from("carol", "welcome").await;
    control(&url, "kick", json!({"user": "houston", "room": "board", "by": "carol"})).await;
    houston.socket.frame("removed", |frame| frame["fields"]["args"][0] == "removed").await;
    houston.socket.settle().await;
    carol.say("board", "gone?").await;
    assert!(houston.socket.settle().await.is_empty());
    let (status, refused) = houston
        .post("chat.sendMessage", json!({"message": {"rid": sandbox.room_id("board"), "msg": "x"}}))
        .await;
    assert_eq!((status, &refused["error"]), (400, &json!("error-not-allowed")));
}

#[tokio::test]
async fn a_public_room_that_was_never_joined_is_heard_as_a_stranger() {
    let sandbox = plain().await;
    let url = sandbox.url();
    control(&url, "room", json!({"room": "lobby", "members": ["alice"]})).await;
    let mut houston = Person::login(&url, "houston").await;
    sandbox.say("alice", "lobby", "hello").await.expect("said");
    let frame = houston.socket.frame("hello", |frame| frame["msg"] == "changed").await;
    assert_eq!(frame["fields"]["args"][1]["roomParticipant"], false);
    let rid = sandbox.room_id("lobby").expect("lobby");
    houston.post("chat.postMessage", json!({"roomId": rid, "text": "hi"})).await;
    houston.expect("the join", |message| message["t"] == "uj").await;
}

#[tokio::test]
async fn new_servers_take_no_unknown_keys_and_old_ones_take_forged_reactions() {
    let forged = json!({"rid": "r-ops", "msg": "x", "reactions": {":+1:": {"usernames": ["bob"]}}});
    let new = plain().await;
    let mut alice = Person::login(&new.url(), "alice").await;
    let (status, refused) = alice.post("chat.sendMessage", json!({"message": forged})).await;
    assert_eq!((status, &refused["errorType"]), (400, &json!("invalid-params")));
    let (status, _) = alice.post("chat.postMessage", json!({"roomId": "r-ops", "msg": "x"})).await;
    assert_eq!(status, 400);
    let refused = alice.socket.call("sendMessage", json!([forged])).await.expect_err("no match");
    assert_eq!(refused["message"], "Match failed [400]");
    let long = json!([{"rid": "r-ops", "msg": "x".repeat(5001)}]);
    assert_eq!(alice.socket.call("sendMessage", long).await, Ok(Value::Null), "swallowed");
    let old = of(Dialect::Monolith, Version::V6_5).await;
    let alice = Person::login(&old.url(), "alice").await;
    let (status, sent) = alice.post("chat.sendMessage", json!({"message": forged})).await;
    assert_eq!((status, &sent["message"]["reactions"]), (200, &forged["reactions"]));
    assert_eq!(sent["message"]["u"]["username"], "alice", "the sender cannot be forged");
}

#[tokio::test]
async fn a_body_may_be_a_form_as_older_clients_send_it() {
    let sandbox = plain().await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    let request = http().post(format!("{}/api/v1/chat.postMessage", sandbox.url()));
    let request = request.header("X-User-Id", &houston.uid).header("X-Auth-Token", &houston.token);
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let reply = request.body("channel=r-ops&text=a+%26+b&avatar=").send().await.expect("an answer");
    assert_eq!(reply.status(), 200);
    houston.expect_from("houston", "a & b").await;
}

#[tokio::test]
async fn sizes_are_counted_in_utf_16_units() {
    let sandbox = plain().await;
    let alice = Person::login(&sandbox.url(), "alice").await;
    for (emoji, wanted) in [(2500, 200), (2501, 400)] {
        let message = json!({"message": {"rid": "r-ops", "msg": "😀".repeat(emoji)}});
        assert_eq!(alice.post("chat.sendMessage", message).await.0, wanted, "{emoji}");
    }
}

#[tokio::test]
async fn rest_is_limited_by_route_and_address_and_bots_are_not() {
    let clock = Clock::manual("2026-11-22T20:00:00Z".parse().expect("a time"));
    let sandbox = sandbox(Options { clock: clock.clone(), ..Options::default() }).await;
    let url = sandbox.url();
    let alice = sandbox.personal_token("alice").expect("alice");
    let houston = sandbox.personal_token("houston").expect("houston");
    let me = async |(uid, token): &(String, String)| {
        let request = http().get(format!("{url}/api/v1/me"));
        request.header("X-User-Id", uid).header("X-Auth-Token", token).send().await.expect("an answer")
    };
    for left in (0..10).rev() {
        let reply = me(&alice).await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["x-ratelimit-remaining"], left.to_string().as_str());
        assert_eq!(reply.headers()["x-ratelimit-reset"], "1795377660000");
    }
    let reply = me(&alice).await;
    assert_eq!(reply.status(), 429);
    let body: Value = reply.json().await.expect("JSON");
    let wanted = "Error, too many requests. Please slow down. You must wait 60 seconds before trying this endpoint \
        again. [error-too-many-requests]";
    assert_eq!(body, json!({"success": false, "error": wanted}));
    for _ in 0..12 {
        let reply = me(&houston).await;
        assert_eq!(reply.status(), 200);
        assert!(reply.headers().get("x-ratelimit-limit").is_none());
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!(me(&alice).await.status(), 200);
}

#[tokio::test]
async fn methods_are_limited_and_say_how_long_to_wait() {
    let clock = Clock::manual("2026-11-22T20:00:00Z".parse().expect("a time"));
    let sandbox = sandbox(Options { clock: clock.clone(), ..Options::default() }).await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    for _ in 0..10 {
        houston.socket.call("getRoomIdByNameOrId", json!(["ops"])).await.expect("allowed");
    }
    let refused = houston.socket.call("getRoomIdByNameOrId", json!(["ops"])).await.expect_err("too many");
    assert_eq!(
        (&refused["error"], &refused["details"]),
        (&json!("too-many-requests"), &json!({"timeToReset": 10000}))
    );
    for _ in 0..30 {
        let sent = houston.socket.call("sendMessage", json!([{"rid": "r-ops", "msg": "x"}])).await;
        sent.expect("bots may send many");
    }
    clock.advance(Duration::from_secs(10));
    houston.socket.call("getRoomIdByNameOrId", json!(["ops"])).await.expect("allowed again");
}

#[tokio::test]
async fn personal_tokens_are_for_who_may_make_them() {
    let sandbox = of(Dialect::Monolith, Version::V6_5).await;
    let url = sandbox.url();
    control(&url, "person", json!({"username": "limbot", "roles": ["bot"]})).await;
    let (alice, limbot) = (Person::login(&url, "alice").await, Person::login(&url, "limbot").await);
    assert_eq!(alice.get("users.getPersonalAccessTokens").await.0, 200);
    let (status, refusal) = limbot.get("users.getPersonalAccessTokens").await;
    assert_eq!((status, &refusal["errorType"]), (400, &json!("not-authorized")));
    for route in ["users.generatePersonalAccessToken", "users.removePersonalAccessToken"] {
        let (status, refusal) = limbot.post(route, json!({"tokenName": "mine"})).await;
        assert_eq!((status, &refusal["errorType"]), (400, &json!("not-authorized")), "{route}");
    }
}

#[tokio::test]
async fn a_revoked_token_closes_its_sockets_as_if_all_were_well() {
    let sandbox = plain().await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    control(&sandbox.url(), "revoke", json!({"user": "houston"})).await;
    assert_eq!(houston.socket.closed().await, 1000);
    let (status, body) = houston.get("me").await;
    assert_eq!((status, &body["message"]), (401, &json!("You must be logged in to do this.")));
}

#[tokio::test]
async fn a_rename_leaves_the_old_name_in_reactions() {
    let sandbox = plain().await;
    let url = sandbox.url();
    let mut houston = Person::login(&url, "houston").await;
    let bob = Person::login(&url, "bob").await;
    houston.socket.sub("stream-notify-logged", "Users:NameChanged").await.expect("subscribed");
    let card = houston.say("ops", "card").await;
    bob.react(&card, "+1", true).await;
    houston.expect("bob's vote", |message| message["reactions"][":+1:"]["usernames"][0] == "bob").await;
    control(&url, "rename", json!({"user": "bob", "to": "bob2"})).await;
    let renamed =
        houston.socket.frame("the rename", |frame| frame["fields"]["eventName"] == "Users:NameChanged").await;
    assert_eq!(renamed["fields"]["args"][0]["username"], "bob2");
    let (_, read) =
        houston.get(&format!("chat.getMessage?msgId={}", card["_id"].as_str().expect("an id"))).await;
    assert_eq!(read["message"]["reactions"][":+1:"]["usernames"], json!(["bob"]));
}

#[tokio::test]
async fn typing_reaches_others_under_the_own_name_only() {
    let sandbox = plain().await;
    let mut alice = Person::login(&sandbox.url(), "alice").await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    let event = "r-ops/user-activity";
    alice.socket.sub("stream-notify-room", event).await.expect("subscribed");
    houston.socket.sub("stream-notify-room", event).await.expect("subscribed");
    for name in ["bob", "houston"] {
        let typing = json!([event, name, ["user-typing"], {}]);
        houston.socket.call("stream-notify-room", typing).await.expect("no error");
    }
    let heard = alice.socket.settle().await;
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0]["fields"]["args"], json!(["houston", ["user-typing"], {}]));
    assert!(houston.socket.settle().await.is_empty());
}

#[tokio::test]
async fn direct_rooms_open_with_the_first_message_and_have_no_name() {
    let sandbox = plain().await;
    let mut alice = Person::login(&sandbox.url(), "alice").await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    let event = format!("{}/subscriptions-changed", houston.uid);
    houston.socket.sub("stream-notify-user", &event).await.expect("own");
    let rid = alice.direct("houston").await;
    assert_eq!(rid, alice.direct("houston").await, "the same room again");
    let inserted = houston.socket.frame("inserted", |frame| frame["fields"]["args"][0] == "inserted").await;
    assert_eq!(inserted["fields"]["args"][1]["open"], false);
    alice.say(&rid, "hello").await;
    let frame = houston.socket.frame("hello", |frame| frame["collection"] == "stream-room-messages").await;
    assert_eq!(frame["fields"]["args"][1], json!({"roomParticipant": true, "roomType": "d"}));
}

#[tokio::test]
async fn encrypted_rooms_refuse_plain_text() {
    let sandbox = plain().await;
    let url = sandbox.url();
    control(&url, "room", json!({"room": "ops", "encrypted": true})).await;
    let mut houston = Person::login(&url, "houston").await;
    let message = json!([{"rid": "r-ops", "msg": "x"}]);
    let refused = houston.socket.call("sendMessage", message).await.expect_err("refused");
    assert_eq!(refused["error"], "error-not-allowed");
    let content = json!({"algorithm": "rc.v1.aes-sha2", "ciphertext": "AAAA"});
    let message = json!([{"rid": "r-ops", "msg": "", "t": "e2e", "e2e": "pending", "content": content}]);
    houston.socket.call("sendMessage", message).await.expect("encrypted");
    assert_eq!(houston.expect("the message", |_| true).await["t"], "e2e");
}

#[tokio::test]
async fn missed_changes_come_in_pages_on_new_servers() {
    let clock = Clock::manual("2026-11-22T20:00:00Z".parse().expect("a time"));
    let sandbox = sandbox(Options { clock: clock.clone(), ..Options::default() }).await;
    let houston = Person::login(&sandbox.url(), "houston").await;
    for n in 0..5 {
        clock.advance(Duration::from_millis(1));
        sandbox.say("carol", "ops", &format!("m{n}")).await.expect("said");
    }
    let mut next = "0".to_owned();
    let mut seen = Vec::new();
    loop {
        let path = format!("chat.syncMessages?roomId=r-ops&type=UPDATED&next={next}&count=2");
        let (status, page) = houston.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let messages = page["result"]["updated"].as_array().expect("a page").clone();
        seen.extend(messages.iter().filter_map(|message| message["msg"].as_str().map(str::to_owned)));
        match page["result"]["cursor"]["next"].as_str() {
            Some(cursor) => next = cursor.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
}

#[tokio::test]
async fn slash_words_of_rocketchat_are_its_own_and_others_are_text() {
    let sandbox = plain().await;
    let mut alice = Person::login(&sandbox.url(), "alice").await;
    alice.say("ops", "/deploy prod").await;
    alice.expect_from("alice", "/deploy prod").await;
    let run = |command: &str| json!({"command": command, "params": "hm", "roomId": "r-ops"});
    assert_eq!(alice.post("commands.run", run("deploy")).await.0, 400);
    assert_eq!(alice.post("commands.run", run("shrug")).await.0, 200);
    alice.expect_from("alice", "hm ¯\\\\_(ツ)_/¯").await;
    let own = format!("{}/message", alice.uid);
    alice.socket.sub("stream-notify-user", &own).await.expect("one's own");
    assert_eq!(alice.post("commands.run", run("status")).await.0, 200);
    let told = alice.socket.frame("an answer", |f| f["fields"]["eventName"] == own.as_str()).await;
    assert_eq!(told["fields"]["args"][0]["msg"], "Status message changed successfully.");
    let (_, commands) = alice.get("commands.list").await;
    assert_eq!(commands["total"], 25);
}

#[tokio::test]
async fn files_are_uploaded_as_each_release_does_and_read_by_members() {
    for (server, dead) in [(Version::V8, "rooms.upload"), (Version::V6_5, "rooms.media")] {
        let sandbox = of(Dialect::Monolith, server).await;
        let mut houston = Person::login(&sandbox.url(), "houston").await;
        let upload = async |route: &str| {
            let part = reqwest::multipart::Part::bytes(b"line1\nline2\n".to_vec()).file_name("deploy.log");
            let form = reqwest::multipart::Form::new().part("file", part).text("msg", "the log");
            let request = http().post(format!("{}/api/v1/{route}/r-ops", sandbox.url())).multipart(form);
            let request = request.header("X-User-Id", &houston.uid).header("X-Auth-Token", &houston.token);
            let reply = request.send().await.expect("an answer");
            (reply.status().as_u16(), reply.json::<Value>().await.unwrap_or_default())
        };
        assert_eq!(upload(dead).await.0, 405, "{server:?}");
        if server == Version::V8 {
            let (_, file) = upload("rooms.media").await;
            let id = file["file"]["_id"].as_str().expect("an id").to_owned();
            let (status, _) =
                houston.post(&format!("rooms.mediaConfirm/r-ops/{id}"), json!({"msg": "the log"})).await;
            assert_eq!(status, 200);
        } else {
            assert_eq!(upload("rooms.upload").await.0, 200);
        }
        let message = houston.expect_from("houston", "the log").await;
        let link = message["attachments"][0]["title_link"].as_str().expect("a link").to_owned();
        let request = http().get(format!("{}{link}", sandbox.url()));
        assert_eq!(request.send().await.expect("an answer").status(), 403);
        let request = http().get(format!("{}{link}", sandbox.url()));
        let request = request.header("X-User-Id", &houston.uid).header("X-Auth-Token", &houston.token);
        assert_eq!(request.send().await.expect("an answer").text().await.expect("text"), "line1\nline2\n");
    }
}

#[tokio::test]
async fn faults_strike_events_and_leave_answers_alone() {
    let sandbox = plain().await;
    let url = sandbox.url();
    let mut houston = Person::login(&url, "houston").await;
    houston.socket.settle().await;
    let said = |frames: &[Value]| -> Vec<String> {
        let messages = frames.iter().filter_map(|frame| frame["fields"]["args"][0]["msg"].as_str());
        messages.map(str::to_owned).collect()
    };
    control(&url, "duplicate", json!({"user": "houston", "copies": 3})).await;
    sandbox.say("alice", "ops", "a").await.expect("said");
    assert_eq!(said(&houston.socket.settle().await), ["a", "a", "a"]);
    control(&url, "reorder", json!({"user": "houston", "count": 2})).await;
    sandbox.say("alice", "ops", "b").await.expect("said");
    sandbox.say("alice", "ops", "c").await.expect("said");
    assert_eq!(said(&houston.socket.settle().await), ["c", "b"]);
    control(&url, "lose", json!({"user": "houston"})).await;
    sandbox.say("alice", "ops", "d").await.expect("said");
    assert!(houston.socket.settle().await.is_empty());
    control(&url, "delay", json!({"user": "houston", "ms": 50})).await;
    sandbox.say("alice", "ops", "late").await.expect("said");
    sandbox.say("alice", "ops", "early").await.expect("said");
    assert_eq!(houston.expect("the first", |_| true).await["msg"], "early");
    assert_eq!(houston.expect("the second", |_| true).await["msg"], "late");
    control(&url, "rate_limit", json!({"method": "chat.sendMessage", "count": 1})).await;
    let message = json!({"message": {"rid": "r-ops", "msg": "x"}});
    assert_eq!(houston.post("chat.sendMessage", message.clone()).await.0, 429);
    control(&url, "refuse", json!({"requests": 1})).await;
    assert_eq!(houston.post("chat.sendMessage", message.clone()).await.0, 502);
    assert_eq!(houston.post("chat.sendMessage", message).await.0, 200);
    control(&url, "drop", json!({"user": "houston"})).await;
    assert_eq!(houston.socket.closed().await, 1006);
}

#[tokio::test]
async fn a_burst_in_one_millisecond_arrives_whole() {
    let sandbox = plain().await;
    let mut houston = Person::login(&sandbox.url(), "houston").await;
    houston.socket.settle().await;
    let burst: Vec<Value> = (0..300)
        .map(|n| json!({"room": "ops", "u": "alice", "msg": format!("!ping {n}"), "ts": {"$date": 7}}))
        .collect();
    sandbox.control("send", json!({"messages": burst})).await.expect("sent");
    let frames = houston.socket.settle().await;
    assert_eq!(frames.len(), 300);
    assert!(frames.iter().all(|frame| frame["fields"]["args"][0]["ts"] == json!({"$date": 7})));
}

#[tokio::test]
async fn what_clients_sent_can_be_waited_for_without_their_secrets() {
    let sandbox = plain().await;
    let houston = Person::login(&sandbox.url(), "houston").await;
    houston.post("chat.sendMessage", json!({"message": {"rid": "r-ops", "msg": "seen"}})).await;
    let body = json!({"user": "houston", "name": "chat.sendMessage"});
    let found = sandbox.control("wait_frames", body).await.expect("found");
    assert_eq!(found["lines"][0]["params"]["message"]["msg"], "seen");
    let all = sandbox.control("log", json!({})).await.expect("a log").to_string();
    assert!(!all.contains(&houston.token), "no token in the log");
}

#[tokio::test]
async fn a_stopped_server_says_goodbye_and_frees_its_port() {
    let first = plain().await;
    let addr = first.addr();
    let mut houston = Person::login(&first.url(), "houston").await;
    first.stop().await;
    assert_eq!(houston.socket.closed().await, 1001);
    let again = sandbox(Options { listen: addr, ..Options::default() }).await;
    assert_eq!(again.addr(), addr);
}

#[tokio::test]
async fn methods_can_be_called_over_rest() {
    let sandbox = plain().await;
    let houston = Person::login(&sandbox.url(), "houston").await;
    let call = async |method: &str| {
        let message = json!({"msg": "method", "id": "1", "method": method, "params": ["ops"]}).to_string();
        let (status, reply) =
            houston.post(&format!("method.call/{method}"), json!({"message": message})).await;
        let frame: Value = serde_json::from_str(reply["message"].as_str().expect("a frame")).expect("JSON");
        (status, frame)
    };
    let found = json!({"msg": "result", "id": "1", "result": "r-ops"});
    assert_eq!(call("getRoomIdByNameOrId").await, (200, found));
    let (status, frame) = call("noSuchMethod").await;
    assert_eq!((status, &frame["error"]["error"]), (400, &json!(404)));
}

#[tokio::test]
async fn unknown_paths_answer_with_the_web_page() {
    let sandbox = plain().await;
    let reply = http().get(format!("{}/api/v1/nope.nope", sandbox.url())).send().await.expect("an answer");
    assert_eq!(reply.status(), 200);
    assert!(reply.headers()["content-type"].to_str().expect("text").starts_with("text/html"));
    let info: Value = http()
        .get(format!("{}/api/info", sandbox.url()))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(info, json!({"version": "8.5", "success": true}));
}
