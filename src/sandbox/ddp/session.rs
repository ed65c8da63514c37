//! One socket's conversation: frames in, frames out, without I/O of its own.

use serde_json::{Value, json};

use super::{methods, streams};
use crate::ids::random_id;
use crate::sandbox::Dialect;
use crate::sandbox::emit::Out;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::server::Shared;
use crate::sandbox::state::{Doc, World, text};

/// Whether the conversation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Go,
    Close(u16),
}

/// What a socket has agreed on so far.
#[derive(Debug)]
pub struct Session {
    pub id: u64,
    pub dialect: Dialect,
    connected: bool,
    /// The oldest version of the protocol has none.
    heartbeat: bool,
}

const VERSIONS: &[&str] = &["1", "pre2", "pre1"];

impl Session {
    pub fn new(id: u64, dialect: Dialect) -> Self {
        Self { id, dialect, connected: false, heartbeat: true }
    }

    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether it is to be asked for a sign of life.
    pub fn has_heartbeat(&self) -> bool {
        self.connected && self.heartbeat
    }

    /// A binary frame: the streamer hangs up, the monolith cannot read it.
    pub fn hear_binary(&self) -> Next {
        if self.dialect == Dialect::Streamer { Next::Close(1007) } else { Next::Go }
    }

    /// One text frame.
    pub fn hear(&mut self, shared: &Shared, frame: &str) -> Next {
        let mut world = shared.world();
        let world = &mut *world;
        let parsed = serde_json::from_str::<Value>(frame).ok();
        let Some(Value::Object(frame)) = parsed else {
            if self.dialect == Dialect::Streamer {
                return Next::Close(1007);
            }
            self.say(world, &json!({"msg": "error", "reason": "Bad request"}));
            return Next::Go;
        };
        self.log(world, &frame);
        let kind = text(&frame, "msg").to_owned();
        if !self.connected {
            return self.open(world, &kind, &frame);
        }
        match kind.as_str() {
            "ping" => {
                let mut pong = json!({"msg": "pong"});
                if let Some(id) = frame.get("id") {
                    pong["id"] = id.clone();
                }
                self.say(world, &pong);
            }
            "pong" => {}
            "connect" => self.complain(world, "Already connected", &frame),
            "method" => return self.method(world, &frame),
            "sub" => self.sub(world, &frame),
            "unsub" => self.unsub(world, &frame),
            _ => self.complain(world, "Bad request", &frame),
        }
        Next::Go
    }

    fn open(&mut self, world: &mut World, kind: &str, frame: &Doc) -> Next {
        let streamer = self.dialect == Dialect::Streamer;
        if kind != "connect" {
            if streamer {
                return Next::Close(1002);
            }
            self.complain(world, "Must connect first", frame);
            return Next::Go;
        }
        if !streamer {
            let wanted = text(frame, "version");
            let offered = frame.get("support").and_then(Value::as_array).cloned().unwrap_or_default();
            let offered: Vec<&str> = offered.iter().filter_map(Value::as_str).collect();
            let best = offered.iter().find(|version| VERSIONS.contains(version)).copied().unwrap_or("1");
            if !offered.contains(&wanted) || best != wanted {
                self.say(world, &json!({"msg": "failed", "version": best}));
                return Next::Close(1000);
            }
            self.heartbeat = wanted != "pre1";
        }
        self.connected = true;
        self.say(world, &json!({"msg": "connected", "session": random_id()}));
        Next::Go
    }

    fn method(&self, world: &mut World, frame: &Doc) -> Next {
        let params = match frame.get("params") {
            None => Vec::new(),
            Some(Value::Array(params)) => params.clone(),
            Some(_) => return self.malformed(world, "Malformed method invocation", frame),
        };
        let (Some(id), Some(name)) =
            (frame.get("id").and_then(Value::as_str), frame.get("method").and_then(Value::as_str))
        else {
            return self.malformed(world, "Malformed method invocation", frame);
        };
        let outcome =
            self.limited(world, name, false).and_then(|()| methods::call(world, self, name, &params));
        let unknown = matches!(&outcome, Err(refusal) if refusal.code_text() == "404");
        let mut result = json!({"msg": "result", "id": id});
        match outcome {
            // The streamer leaves out every value that JavaScript holds for false.
            Ok(Some(value)) if self.dialect == Dialect::Streamer && is_falsy(&value) => {}
            Ok(Some(value)) => result["result"] = value,
            Ok(None) => {}
            Err(refusal) => result["error"] = refusal.to_ddp(),
        }
        let updated = json!({"msg": "updated", "methods": [id]});
        if self.dialect == Dialect::Streamer || unknown {
            self.say(world, &result);
            self.say(world, &updated);
        } else {
            self.say(world, &updated);
            self.say(world, &result);
        }
        if name == "logout" && self.dialect == Dialect::Streamer {
            return Next::Close(1002);
        }
        Next::Go
    }

    fn sub(&self, world: &mut World, frame: &Doc) {
        let (Some(id), Some(name)) =
            (frame.get("id").and_then(Value::as_str), frame.get("name").and_then(Value::as_str))
        else {
            self.complain(world, "Malformed subscription", frame);
            return;
        };
        let Some(connection) = world.connections.get(&self.id) else { return };
        if connection.subs.iter().any(|sub| sub.id == id) {
            return;
        }
        let params = frame.get("params").and_then(Value::as_array).cloned().unwrap_or_default();
        let outcome =
            self.limited(world, name, true).and_then(|()| streams::subscribe(world, self, id, name, &params));
        match outcome {
            Ok(added) => {
                if let Some(added) = added {
                    self.say(world, &added);
                }
                self.say(world, &json!({"msg": "ready", "subs": [id]}));
            }
            Err(refusal) => self.say(world, &json!({"msg": "nosub", "id": id, "error": refusal.to_ddp()})),
        }
    }

    fn unsub(&self, world: &mut World, frame: &Doc) {
        let id = text(frame, "id");
        let Some(connection) = world.connections.get_mut(&self.id) else { return };
        let before = connection.subs.len();
        connection.subs.retain(|sub| sub.id != id);
        let known = connection.subs.len() < before;
        if known || self.dialect == Dialect::Monolith {
            self.say(world, &json!({"msg": "nosub", "id": id}));
        }
    }

    /// Rocket.Chat's limiter, or the one that a test has switched on.
    fn limited(&self, world: &mut World, name: &str, sub: bool) -> Result<(), Refusal> {
        if world.faults.is_limited(name) {
            return Err(too_many(8000));
        }
        if !world.rate_limits {
            return Ok(());
        }
        let uid = self.uid(world);
        let many = uid.as_deref().is_some_and(|uid| world.may(uid, "send-many-messages", None));
        let now = world.now();
        world.ddp_limiter.call(self.id, uid.as_deref(), sub, name, many, now).map_err(too_many)
    }

    pub fn uid(&self, world: &World) -> Option<String> {
        world.connections.get(&self.id).and_then(|connection| connection.uid.clone())
    }

    /// Sends a frame on this socket.
    pub fn say(&self, world: &World, frame: &Value) {
        if let Some(connection) = world.connections.get(&self.id) {
            connection.push(Out::Text(frame.to_string().into()));
        }
    }

    fn complain(&self, world: &World, reason: &str, frame: &Doc) {
        self.say(world, &json!({"msg": "error", "reason": reason, "offendingMessage": frame}));
    }

    fn malformed(&self, world: &World, reason: &str, frame: &Doc) -> Next {
        self.complain(world, reason, frame);
        Next::Go
    }

    fn log(&self, world: &mut World, frame: &Doc) {
        let user = self.uid(world).and_then(|uid| world.people.get(&uid).map(|p| p.username.clone()));
        let mut entry = Doc::new();
        entry.insert("via".into(), "ddp".into());
        entry.insert("user".into(), user.into());
        let mut frame = frame.clone();
        // Passwords and tokens are nobody's business, not even a test's.
        if text(&frame, "method") == "login" {
            frame.insert("params".into(), "hidden".into());
        }
        entry.insert("frame".into(), Value::Object(frame));
        world.log(entry);
    }
}

fn too_many(wait: i64) -> Refusal {
    let seconds = (wait + 999) / 1000;
    let reason = format!(
        "Error, too many requests. Please slow down. You must wait {seconds} seconds before trying again."
    );
    Refusal::new("too-many-requests", &reason).details(json!({"timeToReset": wait}))
}

fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}
