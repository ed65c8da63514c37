//! Recorded exchanges of a real Rocket.Chat 6.5.3, replayed against the sandbox: the same requests in the same
//! order at the same times, with the ids and tokens of the recording mapped to those of the day. Compared are
//! status, keys, texts, numbers, who closed a socket and how, the order of answers on a socket and that of
//! events on each stream of it (between streams no order is fixed). What is left out stands in `exceptions`.

mod compare;
mod exceptions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston::clock::Clock;
use houston::sandbox::{Options, Seed, Version, start};
use serde_json::{Value, json};

use crate::support::rc::{Socket, http};
use compare::Compare;
use exceptions::{LEFT_OUT, LOOSE, STREAMS_LEFT_OUT, UNCAUSED};

const PEOPLE: [(&str, &str, &str, &str); 7] = [
    ("admin", "6b034849a05dffaafd8c8cdb", "Admin", "admin"),
    ("deploybot", "gKQJ9sqgfibBRJwsb", "Bot", "bot"),
    ("alice", "6YtYAPekhohp4DcK9", "Alice", "user"),
    ("bob", "3wtFsKaunHefnzFT2", "Bob", "user"),
    ("carol", "JMgeRFxt4oAXpvf6Y", "Carol", "user"),
    ("lim", "EeziQgGkvxdJ7jghY", "Lim", "user"),
    ("limbot", "WdasN4Yfoec2Dfexo", "Limbot", "bot"),
];

/// One socket, with what came on it then and now.
struct Line {
    name: String,
    socket: Socket,
    then: Vec<Value>,
    now: Vec<Value>,
}

struct Replay {
    url: String,
    tokens: BTreeMap<&'static str, String>,
    sockets: BTreeMap<String, Line>,
    closed: Vec<Line>,
    compare: Compare,
    /// Ids of messages whose beginning is not in the recording.
    said: Vec<String>,
    compared: usize,
    /// Its times are kept.
    paced: bool,
}

fn is_event(frame: &Value) -> bool {
    frame["msg"] == "changed"
}

impl Replay {
    async fn rest(&mut self, then: &Value) {
        let name = then["name"].as_str().expect("a name").to_owned();
        let url = format!("{}{}", self.url, self.compare.today_text(then["path"].as_str().expect("a path")));
        let mut request = match then["method"].as_str() {
            Some("GET") => http().get(url),
            _ => http().post(url).json(&self.compare.today(&then["body"])),
        };
        if let Some((who, id, ..)) =
            then["as"].as_str().and_then(|who| PEOPLE.iter().find(|one| one.0 == who))
        {
            let token = then["token"].as_str().map(|token| self.compare.today_text(token));
            let token = token.unwrap_or_else(|| self.tokens[who].clone());
            request = request.header("X-User-Id", *id).header("X-Auth-Token", token);
        }
        // The sandbox tells addresses apart by what a client says of its own.
        let from = then["from"].as_str().map(|from| ("x-forwarded-for", from));
        let named = then["headers"].as_object().into_iter().flatten();
        let named = named.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        for (name, value) in named.chain(from) {
            request = request.header(name, value);
        }
        // Calls with the same answer were left out of the recording.
        for _ in 0..then["left_out"].as_u64().unwrap_or(0) {
            let again = request.try_clone().expect("no stream").send().await.expect("an answer");
            assert!(again.status().is_success(), "{name}");
        }
        let reply = request.send().await.expect("an answer");
        let header = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok());
        let limit = json!([header("x-ratelimit-limit"), header("x-ratelimit-remaining")]);
        if then["limit"].is_array() && limit != then["limit"] {
            self.compare.note(&name, &format!("limit {limit}, not {}", then["limit"]));
        }
        let status = json!(reply.status().as_u16());
        let reply: Value = reply.json().await.unwrap_or(Value::Null);
        if status != then["status"] {
            self.compare.note(&name, &format!("status {status}, not {}: {reply}", then["status"]));
        } else if then["response"].is_object() {
            self.compare.learn(&then["response"], &reply);
            self.compare.differ(&name, "", &then["response"], &reply);
        }
        self.compared += 1;
    }

    /// A message of which the recording has the traces only, not the call that made it.
    async fn said(&mut self, then: &Value) {
        let (rid, msg) = (self.compare.today(&then["rid"]), self.compare.today(&then["msg"]));
        let (route, body) = match then["by"].as_str() {
            None => ("chat.postMessage", json!({"channel": then["channel"], "text": msg})),
            Some("post") => ("chat.postMessage", json!({"roomId": rid, "text": msg})),
            _ => ("chat.sendMessage", json!({"message": {"rid": rid, "msg": msg}})),
        };
        let who = PEOPLE.iter().find(|one| then["as"] == one.0).expect("somebody");
        let request = http().post(format!("{}/api/v1/{route}", self.url)).json(&body);
        let request = request.header("X-User-Id", who.1).header("X-Auth-Token", &self.tokens[who.0]);
        let reply: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert!(reply["message"]["_id"].is_string(), "{then}: {reply}");
        self.compare.learn(then, &reply["message"]);
        self.said.extend(reply["message"]["_id"].as_str().map(str::to_owned));
    }

    async fn frame(&mut self, then: &Value) {
        let name = then["c"].as_str().expect("a connection").to_owned();
        let frame = &then["m"];
        if then["dir"] == "open" {
            let mut socket = Socket::open(&self.url).await;
            // In these the client's pongs are recorded, or that there were none.
            socket.pongs = !self.paced;
            let line = Line { name: name.clone(), socket, then: Vec::new(), now: Vec::new() };
            self.sockets.insert(name, line);
            return;
        }
        let line = self.sockets.get_mut(&name).expect("an open socket");
        match then["dir"].as_str() {
            Some(">") => line.socket.send(self.compare.today(frame)).await,
            Some("<") if is_event(frame) => line.then.push(frame.clone()),
            Some("<") => self.answer(&name, frame).await,
            _ => self.close(&name, frame).await,
        }
    }

    /// The next frame that is no event has to be the recorded one; events before it are kept for the end.
    async fn answer(&mut self, name: &str, then: &Value) {
        let what = format!("{name} {} {}", then["msg"], then["id"]);
        let Some(line) = self.sockets.get_mut(name) else { return };
        line.then.push(then.clone());
        loop {
            let next = tokio::time::timeout(Duration::from_secs(5), line.socket.next()).await;
            let Ok(Some(now)) = next else {
                self.compare.note(&what, &format!("never came: {then}"));
                return;
            };
            line.now.push(now.clone());
            if !is_event(&now) {
                self.compare.learn(then, &now);
                self.compare.differ(&what, "", then, &now);
                self.compared += 1;
                return;
            }
        }
    }

    /// Who closed a socket then has to close it now, with the same code and the same words.
    async fn close(&mut self, name: &str, then: &Value) {
        let Some(mut line) = self.sockets.remove(name) else { return };
        // The client's own goodbye has no words in the recording.
        if then["reason"] == "" {
            line.now.extend(line.socket.settle_all().await);
        } else {
            while let Some(frame) = line.socket.next().await {
                line.now.push(frame);
            }
            let now = json!({"code": line.socket.code, "reason": line.socket.reason});
            self.compare.differ(&format!("{name} close"), "", then, &now);
            self.compared += 1;
        }
        self.closed.push(line);
    }

    /// Lays what each stream of each socket carried beside the recording: the same frames in the same order.
    fn events(&mut self) {
        let lines = std::mem::take(&mut self.closed);
        let mut streams: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for line in &lines {
            for then in line.then.iter().filter(|frame| is_event(frame) && self.is_caused(frame)) {
                let what = format!("{} {}", line.name, self.compare.today_text(&stream_of(then)));
                streams.entry(what).or_default().0.push(then);
            }
            for now in line.now.iter().filter(|frame| is_event(frame) && self.is_traced(frame, &line.then)) {
                streams.entry(format!("{} {}", line.name, stream_of(now))).or_default().1.push(now);
            }
        }
        streams.retain(|what, _| {
            !STREAMS_LEFT_OUT.iter().any(|left| left.0 == self.compare.scenario && what.contains(left.1))
        });
        for (what, (then, now)) in &mut streams {
            if what.ends_with("/rooms-changed") {
                (*then, *now) = (firsts(then), firsts(now));
            }
            if then.len() == now.len() {
                then.iter().zip(now).for_each(|(then, now)| self.compare.learn(then, now));
            } else {
                let told =
                    format!("{} events, not {}:{}\n  not{}", now.len(), then.len(), brief(now), brief(then));
                self.compare.note(what, &told);
            }
        }
        for (what, (then, now)) in streams.iter().filter(|(_, (then, now))| then.len() == now.len()) {
            for (then, now) in then.iter().zip(now) {
                self.compare.differ(what, "", then, now);
                self.compared += 1;
            }
        }
    }

    /// Whether the recording has what caused a frame of it: not another recording of the same day did, in a
    /// room of its own.
    fn is_caused(&self, then: &Value) -> bool {
        let args = &then["fields"]["args"];
        let names = &self.compare.names;
        let is_known = |rid: &str| {
            names.contains_key(rid) || rid == "GENERAL" || PEOPLE.iter().any(|one| rid.starts_with(one.1))
        };
        let room = [&args[0]["rid"], &args[1]["rid"], &args[1]["_id"]].into_iter().find_map(Value::as_str);
        room.is_none_or(is_known)
            && !UNCAUSED.iter().any(|(scenario, which, _)| *scenario == self.compare.scenario && which(args))
    }

    /// Whether the recording has the frames of a message: not of those that were said in its stead.
    fn is_traced(&self, now: &Value, then: &[Value]) -> bool {
        let message = &now["fields"]["args"][0]["_id"];
        let named = |frame: &Value| self.compare.today(&frame["fields"]["args"][0]["_id"]) == *message;
        !self.said.iter().any(|said| message == said.as_str()) || then.iter().any(named)
    }
}

/// The frames that tell of a room in a way for the first time. How often the same is told again is the
/// server's own affair.
fn firsts<'a>(frames: &[&'a Value]) -> Vec<&'a Value> {
    let mut seen = BTreeSet::new();
    let key = |frame: &Value| {
        let args = &frame["fields"]["args"];
        (args[0].to_string(), args[1]["_id"].to_string())
    };
    frames.iter().copied().filter(|frame| seen.insert(key(frame))).collect()
}

fn brief(frames: &[&Value]) -> String {
    let args = frames.iter().map(|frame| frame["fields"]["args"].to_string());
    args.map(|args| format!("\n    {}", args.chars().take(150).collect::<String>())).collect()
}

/// The stream and the event of a frame, with ids as they are.
fn stream_of(frame: &Value) -> String {
    let event = frame["fields"]["eventName"].as_str().unwrap_or_default();
    format!("{} {event}", frame["collection"].as_str().unwrap_or_default())
}

/// `paced`: under a clock of tokio's that stands still, the time between two events of the recording passes before the
/// later one; and Rocket.Chat's rate limits are on.
async fn replay(scenario: &'static str, recorded: &str, paced: bool) -> usize {
    let recorded: Vec<Value> = serde_json::from_str(recorded).expect("JSON");
    let people: Vec<Value> = PEOPLE
        .iter()
        .map(|(username, id, name, role)| {
            json!({"username": username, "id": id, "name": name, "roles": [role], "password": "PASSWORD"})
        })
        .collect();
    let seed = json!({"people": people, "rooms": [{"name": "general"}],
        "settings": {"Unread_Count": "user_and_group_mentions_only"}})
    .to_string();
    let moment = |event: &Value| {
        jiff::Timestamp::from_millisecond(event["t"].as_i64().expect("a time")).expect("a time")
    };
    let clock = Clock::manual(moment(&recorded[0]));
    let options = Options {
        seed: Seed::from_json(&seed).expect("a seed"),
        server: Version::V6_5,
        clock: clock.clone(),
        rate_limits: paced,
        ..Options::default()
    };
    let sandbox = start(options).await.expect("a port");
    let mut replay = Replay {
        url: sandbox.url(),
        tokens: BTreeMap::new(),
        sockets: BTreeMap::new(),
        closed: Vec::new(),
        compare: Compare::new(scenario, PEOPLE.iter().map(|one| one.1).collect()),
        said: Vec::new(),
        compared: 0,
        paced,
    };
    sandbox.control("keep_room_subs", json!({})).await.expect("known");
    // Accounts are named after their people in the sandbox.
    replay.compare.names.insert("bot@example.com".into(), "deploybot@example.com".into());
    // Whose end that is; it is read after the other.
    replay.compare.names.insert("limdeploybot@example.com".into(), "limbot@example.com".into());
    for (at, (username, ..)) in PEOPLE.iter().enumerate() {
        let body = json!({"user": username, "password": "PASSWORD"});
        let reply =
            http().post(format!("{}/api/v1/login", replay.url)).json(&body).send().await.expect("an answer");
        let reply: Value = reply.json().await.expect("JSON");
        let token = reply["data"]["authToken"].as_str().expect("a token").to_owned();
        replay.compare.names.insert(format!("TOKEN-{}", at + 2), token.clone());
        replay.tokens.insert(username, token);
    }
    let begun = tokio::time::Instant::now();
    for (at, event) in recorded.iter().enumerate() {
        if LEFT_OUT.iter().any(|(name, place, ..)| *name == scenario && *place == at) {
            continue;
        }
        clock.set(moment(event));
        if paced {
            let passed = moment(event).duration_since(moment(&recorded[0]));
            tokio::time::sleep_until(begun + passed.unsigned_abs()).await;
        }
        if event["said"].is_object() {
            replay.said(&event["said"]).await;
        } else if event["rest"].is_object() {
            replay.rest(&event["rest"]).await;
        } else {
            replay.frame(&event["ddp"]).await;
        }
    }
    while let Some((name, mut line)) = replay.sockets.pop_first() {
        // What was never let in gets no answer.
        if !line.then.is_empty() {
            // Some were left by their client at a time that is not recorded, and are dropped for their silence here.
            line.now.extend(if paced { line.socket.left().await } else { line.socket.settle_all().await });
        }
        assert_eq!(name, line.name);
        replay.closed.push(line);
    }
    replay.events();
    let Replay { compare, compared, .. } = replay;
    assert!(compare.differences.is_empty(), "{}\n{compared} compared", compare.differences.join("\n"));
    for (at, entry) in LOOSE.iter().enumerate().filter(|(_, entry)| entry.0 == scenario) {
        assert!(compare.used.contains(&at), "{entry:?} is not needed any more");
    }
    compared
}

macro_rules! replayed {
    ($test:ident, $scenario:literal, $least:literal) => {
        #[tokio::test]
        async fn $test() {
            let recorded =
                include_str!(concat!("../fixtures/rocketchat-6.5.3/exchanges/", $scenario, ".json"));
            let compared = replay($scenario, recorded, false).await;
            assert!(compared >= $least, "only {compared} compared");
        }
    };
}

macro_rules! paced {
    ($test:ident, $scenario:literal, $least:literal) => {
        #[tokio::test(start_paused = true)]
        async fn $test() {
            let recorded =
                include_str!(concat!("../fixtures/rocketchat-6.5.3/exchanges/", $scenario, ".json"));
            let compared = replay($scenario, recorded, true).await;
            assert!(compared >= $least, "only {compared} compared");
        }
    };
}

paced!(heartbeats_and_what_is_no_protocol, "11-heartbeat", 50);
paced!(limits_of_subscriptions_and_typing, "11b-counters", 100);
paced!(limits_by_address_and_of_sending, "01b-rate-limits", 80);
paced!(limits_of_rest_of_methods_and_of_subscriptions, "01-rate-limits", 200);
replayed!(reactions, "02-reactions", 40);
replayed!(reaction_races_and_cursors, "02b-09b-race-window-cursors-forgery", 40);
replayed!(deletion_and_threads, "03-05-deletion-threads", 40);
replayed!(rooms_of_every_kind, "04-rooms", 50);
replayed!(a_kick_from_a_private_room, "04b-kick-private-room", 20);
replayed!(slash_words_identity_and_content, "06-08-slash-identity-content", 60);
replayed!(reconnecting, "09-reconnect", 40);
replayed!(tokens_roles_and_presence, "10-12-tokens-identity-presence", 60);
