//! Everything the sandbox knows, in memory: one [`World`] behind one lock.
//!
//! Documents are kept in the shape of the realtime API (dates are `{"$date": ms}`), so that a frame costs
//! one serialization; `rest::iso` turns them into REST's. Must not: wait for anything while it is borrowed.

mod messages;
mod people;
pub mod permissions;
mod reactions;
mod rooms;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::emit::Connection;
use super::faults::Faults;
use super::limits::{DdpLimiter, Windows};
use super::seed::Seed;
use super::{Dialect, Options, Version};
use crate::clock::Clock;

pub use messages::{Sending, Via};
pub use people::{LOGGED_OUT, Person};
pub use rooms::{Kind, Membership, Room};
pub use views::{is_shown, updated_at};

/// A JSON object.
pub type Doc = Map<String, Value>;

/// How many lines of what the server received are kept.
const LOG_LINES: usize = 20_000;
/// How many deletions are remembered for `chat.syncMessages`.
pub const TRASH: usize = 20_000;

/// The state of the server.
pub struct World {
    pub version: Version,
    pub dialect: Dialect,
    pub clock: Clock,
    pub rate_limits: bool,
    pub settings: BTreeMap<String, Value>,
    /// By user id.
    pub people: BTreeMap<String, Person>,
    /// By room id.
    pub rooms: BTreeMap<String, Room>,
    /// By room id and user id.
    pub members: BTreeMap<(String, String), Membership>,
    /// By message id.
    pub messages: HashMap<String, Doc>,
    /// Message ids per room, in the order in which they were stored.
    pub timeline: HashMap<String, Vec<String>>,
    /// Room id, message id, time.
    pub trash: VecDeque<(String, String, i64)>,
    pub grants: BTreeMap<String, BTreeSet<String>>,
    pub connections: BTreeMap<u64, Connection>,
    pub files: BTreeMap<String, File>,
    pub faults: Faults,
    pub ddp_limiter: DdpLimiter,
    /// By verb, route and address.
    pub rest_limiter: Windows<(String, String)>,
    /// What clients sent, newest last, each with a number that grows.
    pub log: VecDeque<Value>,
    pub log_next: u64,
}

/// An uploaded file.
pub struct File {
    pub room: String,
    pub owner: String,
    pub name: String,
    pub content_type: String,
    pub bytes: bytes::Bytes,
}

impl World {
    pub fn new(options: &Options) -> Self {
        let mut world = Self {
            version: options.server,
            dialect: options.dialect,
            clock: options.clock.clone(),
            rate_limits: options.rate_limits,
            settings: default_settings(),
            people: BTreeMap::new(),
            rooms: BTreeMap::new(),
            members: BTreeMap::new(),
            messages: HashMap::new(),
            timeline: HashMap::new(),
            trash: VecDeque::new(),
            grants: permissions::defaults(),
            connections: BTreeMap::new(),
            files: BTreeMap::new(),
            faults: Faults::default(),
            ddp_limiter: DdpLimiter::default(),
            rest_limiter: Windows::default(),
            log: VecDeque::new(),
            log_next: 0,
        };
        world.plant(&options.seed);
        world
    }

    /// Milliseconds since the epoch.
    pub fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Whether this request meets a server that pretends to be down.
    pub fn is_down(&mut self) -> bool {
        let now = self.now();
        self.faults.is_down(now)
    }

    pub fn is_old(&self) -> bool {
        self.version == Version::V6_5
    }

    /// A setting as a flag; false when it is not known.
    pub fn flag(&self, setting: &str) -> bool {
        self.settings.get(setting).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn number(&self, setting: &str) -> i64 {
        self.settings.get(setting).and_then(Value::as_i64).unwrap_or(0)
    }

    /// Changes a setting and tells who listens.
    pub fn set(&mut self, setting: &str, value: &Value) {
        self.settings.insert(setting.to_owned(), value.clone());
        let now = self.now();
        let args = json!(["updated", {"_id": setting, "value": value, "_updatedAt": date(now)}]);
        self.emit("stream-notify-all", "public-settings-changed", &args, None);
    }

    /// Remembers what a client sent.
    pub fn log(&mut self, mut entry: Doc) {
        self.log_next += 1;
        entry.insert("n".into(), self.log_next.into());
        entry.insert("at".into(), self.now().into());
        if self.log.len() >= LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(Value::Object(entry));
    }

    fn plant(&mut self, seed: &Seed) {
        for (name, value) in &seed.settings {
            self.settings.insert(name.clone(), value.clone());
        }
        self.people.insert("rocket.cat".into(), Person::rocket_cat());
        for person in &seed.people {
            let person = Person::seeded(person);
            self.people.insert(person.id.clone(), person);
        }
        let now = self.now();
        for seed_room in &seed.rooms {
            let room = Room::seeded(seed_room, now);
            let rid = room.id.clone();
            let members: Vec<String> = match &seed_room.members {
                Some(names) => names.iter().filter_map(|name| self.id_of(name)).collect(),
                None => self.people.keys().filter(|id| *id != "rocket.cat").cloned().collect(),
            };
            self.rooms.insert(rid.clone(), room);
            let owner = seed_room
                .members
                .as_ref()
                .and_then(|names| names.first())
                .or(seed.people.first().map(|person| &person.username))
                .and_then(|name| self.id_of(name));
            if let (Some(room), Some(owner)) = (self.rooms.get_mut(&rid), &owner) {
                room.owner = owner.clone();
            }
            for uid in members {
                let mut membership = Membership::new(&rid, &uid, now);
                if Some(&uid) == owner.as_ref() {
                    membership.roles.push("owner".into());
                }
                self.members.insert((rid.clone(), uid), membership);
            }
        }
    }
}

/// A date as the realtime API writes it.
pub fn date(ms: i64) -> Value {
    json!({"$date": ms})
}

/// Milliseconds of a date in any of the forms that clients send.
pub fn millis(value: &Value) -> Option<i64> {
    match value {
        Value::Object(object) => object.get("$date").and_then(Value::as_i64),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond).or_else(|| text.parse::<i64>().ok())
        }
        _ => None,
    }
}

/// The text at `key`; empty when there is none.
pub fn text<'a>(doc: &'a Doc, key: &str) -> &'a str {
    doc.get(key).and_then(Value::as_str).unwrap_or("")
}

fn default_settings() -> BTreeMap<String, Value> {
    let settings = json!({
        "Accounts_LoginExpiration": 90,
        "Accounts_TwoFactorAuthentication_Enabled": true,
        "API_Enable_Rate_Limiter": true,
        "API_Enable_Rate_Limiter_Limit_Calls_Default": 10,
        "API_Enable_Rate_Limiter_Limit_Time_Default": 60000,
        "API_Upper_Count_Limit": 100,
        "E2E_Enable": true,
        "E2E_Allow_Unencrypted_Messages": false,
        "FileUpload_Enabled": true,
        "FileUpload_MaxFileSize": 104_857_600,
        "FileUpload_ProtectFiles": true,
        "Message_AllowDeleting": true,
        "Message_AllowEditing": true,
        "Message_AllowEditing_BlockEditInMinutes": 0,
        "Message_AllowUnrecognizedSlashCommand": false,
        "Unread_Count": "all_messages",
        "Message_KeepHistory": false,
        "Message_MaxAllowedSize": 5000,
        "Message_ShowDeletedStatus": false,
        "Site_Name": "Houston sandbox",
        "UI_Use_Real_Name": false,
    });
    let Value::Object(settings) = settings else { return BTreeMap::new() };
    settings.into_iter().collect()
}
