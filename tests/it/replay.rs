//! Recorded exchanges of a real Rocket.Chat 6.5.3, replayed against the sandbox: the same requests in the same
//! order at the same times, with the ids and tokens of the recording mapped to those of the day. Compared are
//! status, keys, texts of errors, and the order of what is no event; what is left out stands in [`LEFT_OUT`]
//! and [`LOOSE_KEYS`] with the reason.

use std::collections::{BTreeMap, BTreeSet};

use houston::clock::Clock;
use houston::sandbox::{Options, Seed, Version, start};
use serde_json::{Value, json};

use crate::support::rc::{Socket, http};

/// Exchanges that are not replayed or not compared, by scenario and name (or DDP method), and why.
const LEFT_OUT: &[(&str, &str, &str)] = &[
    ("02-reactions", "getMessage after race", RACE),
    ("04-rooms", "team create (private)", TEAMS),
    ("04-rooms", "message in team main room", TEAMS),
    ("04-rooms", "channel in team", TEAMS),
    ("04-rooms", "message in team public channel, bot is team member, not in channel", TEAMS),
    ("06-08-slash-identity-content", "rooms.upload", FILES),
    ("06-08-slash-identity-content", "rooms.upload txt", FILES),
    ("06-08-slash-identity-content", "download", FILES),
    ("06-08-slash-identity-content", "download noauth", FILES),
    ("06-08-slash-identity-content", "commands.list", "the sandbox knows fewer commands, in another order"),
    ("09-reconnect", "subs before", OTHERS),
    ("09-reconnect", "rooms.get after only a reaction on an old message", OTHERS),
    ("09-reconnect", "rooms.get after an edit of an old message", OTHERS),
    ("09-reconnect", "rooms.get updatedSince", OTHERS),
    (
        "09-reconnect",
        "subscriptions.get updatedSince",
        "the recording has an old change that was not its own",
    ),
    ("10-12-tokens-identity-presence", "permissions.listAll by bot", "the sandbox dates no permission"),
    ("10-12-tokens-identity-presence", "roles.getUsersInRole admin by bot after the grant", PROFILE),
];

const RACE: &str =
    "the real server lost one of two reactions of the same moment; the sandbox has no such race";
const TEAMS: &str = "the sandbox has no teams";
const FILES: &str =
    "the recording lacks the file's bytes; `files_are_uploaded_as_each_release_does…` tests it";
const OTHERS: &str = "rooms of other recordings, made at the same time on the same server, are in the answer";
const PROFILE: &str = "of a person's own page, which no client in a room reads";

/// Keys that either side may have alone, and why.
const LOOSE_KEYS: &[(&str, &str)] = &[
    (".md", "the sandbox builds no syntax tree of a text"),
    (".archived", "absent until a room was archived once; the sandbox leaves `false` out"),
    (".attachments[].ts", "the date of an attachment is 0 either way; over DDP its spelling differs"),
    (".verified", "in the sandbox whoever has a second factor has a verified address, and nobody else"),
    (".statusText", PROFILE),
    (".statusDefault", PROFILE),
    (".utcOffset", PROFILE),
    (".createdAt", PROFILE),
    (".services", PROFILE),
    (".preferences", PROFILE),
    (".settings", PROFILE),
    (".avatarUrl", PROFILE),
    (".me.type", PROFILE),
    (".nameInsensitive", PROFILE),
    (".lastLogin", PROFILE),
    (".__rooms", PROFILE),
    (".user._updatedAt", PROFILE),
    ("me with PAT: .type", PROFILE),
    (".user.status", "who is online is the recording's earlier history"),
    (".me.status", "who is online is the recording's earlier history"),
    (".members[].status", "who is online is the recording's earlier history"),
    ("getStatus: .message", PROFILE),
];

const PEOPLE: [(&str, &str, &str, &str); 7] = [
    ("admin", "6b034849a05dffaafd8c8cdb", "Admin", "admin"),
    ("deploybot", "gKQJ9sqgfibBRJwsb", "Bot", "bot"),
    ("alice", "6YtYAPekhohp4DcK9", "Alice", "user"),
    ("bob", "3wtFsKaunHefnzFT2", "Bob", "user"),
    ("carol", "JMgeRFxt4oAXpvf6Y", "Carol", "user"),
    ("lim", "EeziQgGkvxdJ7jghY", "Lim", "user"),
    ("limbot", "WdasN4Yfoec2Dfexo", "Limbot", "bot"),
];

struct Replay {
    scenario: &'static str,
    url: String,
    tokens: BTreeMap<&'static str, String>,
    /// From what the recording calls something to what it is called today.
    names: BTreeMap<String, String>,
    sockets: BTreeMap<String, Socket>,
    /// Answers that are no events, by connection, as far as they have come.
    compared: usize,
    differences: Vec<String>,
}

/// Replaces what stands for a long text: `{{x*5001}}`.
fn unfold(text: &str) -> String {
    let Some((before, rest)) = text.split_once("{{") else { return text.to_owned() };
    let Some((inner, after)) = rest.split_once("}}") else { return text.to_owned() };
    let Some((unit, times)) = inner.rsplit_once('*') else { return text.to_owned() };
    let Ok(times) = times.parse() else { return text.to_owned() };
    format!("{before}{}{}", unit.repeat(times), unfold(after))
}

impl Replay {
    fn left_out(&self, name: &str) -> bool {
        LEFT_OUT.iter().any(|(scenario, left, _)| *scenario == self.scenario && *left == name)
    }

    fn today_text(&self, text: &str) -> String {
        let mut text = unfold(text);
        if text.chars().count() < 4000 {
            for (then, now) in &self.names {
                text = text.replace(then, now);
            }
        }
        text
    }

    fn today(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.today_text(text).into(),
            Value::Array(list) => list.iter().map(|value| self.today(value)).collect(),
            Value::Object(doc) => {
                doc.iter().map(|(key, value)| (self.today_text(key), self.today(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Learns the names of today by going through a recorded value and its answer side by side.
    fn learn(&mut self, then: &Value, now: &Value) {
        match (then, now) {
            (Value::Object(then), Value::Object(now)) => {
                for (key, then) in then {
                    let Some(now) = now.get(key) else { continue };
                    if let (Value::String(then), Value::String(now)) = (then, now) {
                        let is_name = matches!(
                            key.as_str(),
                            "_id"
                                | "rid"
                                | "authToken"
                                | "token"
                                | "fileId"
                                | "channel"
                                | "teamId"
                                | "roomId"
                                | "drid"
                        );
                        let is_person = PEOPLE.iter().any(|one| one.1 == then);
                        if is_name
                            && !is_person
                            && then.len() >= 5
                            && then != "REDACTED"
                            && then != "GENERAL"
                            && then != now
                        {
                            self.names.entry(then.clone()).or_insert_with(|| now.clone());
                        }
                    } else {
                        self.learn(then, now);
                    }
                }
            }
            (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
                then.iter().zip(now).for_each(|(then, now)| self.learn(then, now));
            }
            _ => {}
        }
    }

    fn differ(&mut self, what: &str, path: &str, then: &Value, now: &Value) {
        match (then, now) {
            (Value::Object(then), Value::Object(now)) => {
                let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
                for key in keys {
                    let path = format!("{path}.{key}");
                    if LOOSE_KEYS.iter().any(|(loose, _)| format!("{what}: {path}").ends_with(loose)) {
                        continue;
                    }
                    match (then.get(key), now.get(key)) {
                        (Some(then), Some(now)) => self.differ(what, &path, then, now),
                        (Some(then), None) => self.differences.push(format!("{what}: lacks {path} = {then}")),
                        (_, now) => self.differences.push(format!("{what}: has {path} = {now:?} besides")),
                    }
                }
            }
            (Value::Array(then), Value::Array(now)) => {
                if then.is_empty() != now.is_empty() {
                    self.differences.push(format!(
                        "{what}: {path} has {} entries, not {}",
                        now.len(),
                        then.len()
                    ));
                }
                if let (Some(then), Some(now)) = (then.first(), now.first()) {
                    self.differ(what, &format!("{path}[]"), then, now);
                }
            }
            (Value::String(then), Value::String(now)) => {
                let is_text = ["error", "reason", "message", "errorType", "status", "msg", "t"]
                    .iter()
                    .any(|key| path.ends_with(&format!(".{key}")));
                let then = self.today_text(then);
                if is_text && then != *now {
                    self.differences.push(format!("{what}: {path} is {now:?}, not {then:?}"));
                }
            }
            (Value::Bool(then), Value::Bool(now)) if then != now => {
                self.differences.push(format!("{what}: {path} is {now}, not {then}"));
            }
            (then, now) if std::mem::discriminant(then) != std::mem::discriminant(now) => {
                self.differences.push(format!("{what}: {path} is {now}, not {then}"));
            }
            _ => {}
        }
    }

    async fn rest(&mut self, then: &Value) {
        let name = then["name"].as_str().expect("a name").to_owned();
        if self.left_out(&name) {
            return;
        }
        let url = format!("{}{}", self.url, self.today_text(then["path"].as_str().expect("a path")));
        let mut request = match then["method"].as_str() {
            Some("GET") => http().get(url),
            _ => http().post(url).json(&self.today(&then["body"])),
        };
        if let Some((who, id, ..)) =
            then["as"].as_str().and_then(|who| PEOPLE.iter().find(|one| one.0 == who))
        {
            let token = then["token"].as_str().map(|token| self.today_text(token));
            let token = token.unwrap_or_else(|| self.tokens[who].clone());
            request = request.header("X-User-Id", *id).header("X-Auth-Token", token);
        }
        let reply = request.send().await.expect("an answer");
        let status = json!(reply.status().as_u16());
        let reply: Value = reply.json().await.unwrap_or(Value::Null);
        let what = format!("{}/{name}", self.scenario);
        if status != then["status"] {
            self.differences.push(format!("{what}: status {status}, not {}: {reply}", then["status"]));
        } else if then["response"].is_object() {
            self.learn(&then["response"], &reply);
            self.differ(&what, "", &then["response"], &reply);
        }
        self.compared += 1;
    }

    /// A message of which the recording has the traces only, not the call that made it.
    async fn said(&mut self, then: &Value) {
        let (rid, msg) = (self.today(&then["rid"]), self.today(&then["msg"]));
        let (route, body) = match then["by"].as_str() {
            Some("post") => ("chat.postMessage", json!({"roomId": rid, "text": msg})),
            _ => ("chat.sendMessage", json!({"message": {"rid": rid, "msg": msg}})),
        };
        let who = PEOPLE.iter().find(|one| then["as"] == one.0).expect("somebody");
        let request = http().post(format!("{}/api/v1/{route}", self.url)).json(&body);
        let request = request.header("X-User-Id", who.1).header("X-Auth-Token", &self.tokens[who.0]);
        let reply: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert!(reply["message"]["_id"].is_string(), "{then}: {reply}");
        self.learn(then, &reply["message"]);
    }

    async fn frame(&mut self, then: &Value) {
        let connection = then["c"].as_str().expect("a connection").to_owned();
        let frame = &then["m"];
        match then["dir"].as_str() {
            Some("open") => {
                let socket = Socket::open(&self.url).await;
                self.sockets.insert(connection, socket);
            }
            Some(">") => {
                let frame = self.today(frame);
                let socket = self.sockets.get_mut(&connection).expect("an open socket");
                socket.send(frame).await;
            }
            Some("<") => self.answer(&connection, frame).await,
            _ => {
                self.sockets.remove(&connection);
            }
        }
    }

    /// The next frame that is no event has to be the recorded one; an event has to come, of the same shape.
    async fn answer(&mut self, connection: &str, then: &Value) {
        let kind = then["msg"].clone();
        let Some(socket) = self.sockets.get_mut(connection) else { return };
        let what = format!("{}/{connection} {kind}", self.scenario);
        let is_event = |frame: &Value| matches!(frame["msg"].as_str(), Some("changed" | "ping" | "pong"));
        if kind == "changed" {
            return;
        }
        let now = tokio::time::timeout(
            std::time::Duration::from_secs(5),
            socket.frame(&what, |frame| !is_event(frame)),
        );
        let Ok(now) = now.await else {
            self.differences.push(format!("{what}: never came: {then}"));
            return;
        };
        let what = format!("{what} {}", then["id"]);
        self.learn(then, &now);
        self.differ(&what, "", then, &now);
        self.compared += 1;
    }
}

async fn replay(scenario: &'static str, recorded: &str) -> usize {
    let recorded: Vec<Value> = serde_json::from_str(recorded).expect("JSON");
    let people: Vec<Value> = PEOPLE
        .iter()
        .map(|(username, id, name, role)| {
            json!({"username": username, "id": id, "name": name, "roles": [role], "password": "PASSWORD"})
        })
        .collect();
    let seed = json!({"people": people, "rooms": [{"name": "general"}]}).to_string();
    let moment = |event: &Value| {
        jiff::Timestamp::from_millisecond(event["t"].as_i64().expect("a time")).expect("a time")
    };
    let clock = Clock::manual(moment(&recorded[0]));
    let options = Options {
        seed: Seed::from_json(&seed).expect("a seed"),
        server: Version::V6_5,
        clock: clock.clone(),
        rate_limits: false,
        ..Options::default()
    };
    let sandbox = start(options).await.expect("a port");
    let mut replay = Replay {
        scenario,
        url: sandbox.url(),
        tokens: BTreeMap::new(),
        names: BTreeMap::new(),
        sockets: BTreeMap::new(),
        compared: 0,
        differences: Vec::new(),
    };
    for (at, (username, ..)) in PEOPLE.iter().enumerate() {
        let body = json!({"user": username, "password": "PASSWORD"});
        let reply =
            http().post(format!("{}/api/v1/login", replay.url)).json(&body).send().await.expect("an answer");
        let reply: Value = reply.json().await.expect("JSON");
        let token = reply["data"]["authToken"].as_str().expect("a token").to_owned();
        replay.names.insert(format!("TOKEN-{}", at + 2), token.clone());
        replay.tokens.insert(username, token);
    }
    for event in &recorded {
        clock.set(moment(event));
        if event["said"].is_object() {
            replay.said(&event["said"]).await;
        } else if event["rest"].is_object() {
            replay.rest(&event["rest"]).await;
        } else {
            replay.frame(&event["ddp"]).await;
        }
    }
    assert!(replay.differences.is_empty(), "{}\n{} compared", replay.differences.join("\n"), replay.compared);
    replay.compared
}

macro_rules! replayed {
    ($test:ident, $scenario:literal, $least:literal) => {
        #[tokio::test]
        async fn $test() {
            let recorded =
                include_str!(concat!("../fixtures/rocketchat-6.5.3/exchanges/", $scenario, ".json"));
            let compared = replay($scenario, recorded).await;
            assert!(compared >= $least, "only {compared} compared");
        }
    };
}

replayed!(reactions, "02-reactions", 40);
replayed!(reaction_races_and_cursors, "02b-09b-race-window-cursors-forgery", 40);
replayed!(deletion_and_threads, "03-05-deletion-threads", 40);
replayed!(rooms_of_every_kind, "04-rooms", 50);
replayed!(a_kick_from_a_private_room, "04b-kick-private-room", 20);
replayed!(slash_words_identity_and_content, "06-08-slash-identity-content", 60);
replayed!(reconnecting, "09-reconnect", 40);
replayed!(tokens_roles_and_presence, "10-12-tokens-identity-presence", 60);
