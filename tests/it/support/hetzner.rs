//! A fake of Hetzner Cloud's API, written from what Hetzner publishes about it: servers that are really there
//! (`rented.rs`), actions that take time, pages, rate limits, and every way of failing that is documented.
//!
//! Must not: name a type of Houston's, or of the crate that Houston asks with: a wrong field would be wrong twice.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::hetzner_json::{firewall, images, is_label, page, parameters, pricing, server_type, snapshot};
use super::rented::Machine;

pub const TOKEN: &str = "LRK9DAWQ1ZAEFSrCNEEzLCUwhYX1U3g7wMg4dTlkkDC96fyDuyJ39nVbVjCKSDfj";

/// Its servers go with it.
pub struct Hetzner {
    pub url: String,
    /// On which all of its servers listen, each at an address of its own.
    pub port: u16,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    dir: tempfile::TempDir,
    port: u16,
    token: String,
    ssh_key: String,
    servers: Vec<Made>,
    /// Images, networks and so on, by the name of their list.
    things: Vec<(&'static str, Vec<Value>)>,
    actions: Vec<Act>,
    last_id: i64,
    faults: VecDeque<Fault>,
    failing: Vec<(&'static str, &'static str, &'static str)>,
    asked: Vec<String>,
    takes: Duration,
    /// Servers that were ever made.
    ever: usize,
    /// Servers have a host key that nobody gave them.
    stranger: bool,
}

struct Made {
    json: Value,
    machine: Machine,
}

struct Act {
    id: i64,
    command: &'static str,
    server: i64,
    due: Instant,
    state: &'static str,
    error: Option<(&'static str, &'static str)>,
    effect: Effect,
}

enum Effect {
    Nothing,
    On,
    Off,
    Remove,
    Type(String),
}

/// What the next request of a sort comes to.
pub struct Fault {
    method: Method,
    path: &'static str,
    status: u16,
    body: String,
    retry_after: Option<u64>,
    /// It is carried out all the same, and the answer is lost.
    carried_out: bool,
}

impl Fault {
    /// As the API refuses.
    pub fn refused(method: Method, path: &'static str, status: u16, code: &str, message: &str) -> Self {
        let body = json!({"error": {"code": code, "message": message, "details": {}}}).to_string();
        Self { method, path, status, body, retry_after: None, carried_out: false }
    }
    /// A page of whoever stands before the API.
    pub fn page(method: Method, path: &'static str, status: u16) -> Self {
        let body = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>".to_owned();
        Self { method, path, status, body, retry_after: None, carried_out: false }
    }
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
    pub fn carried_out(mut self) -> Self {
        self.carried_out = true;
        self
    }
}

impl Hetzner {
    /// `ssh_key` is the public half of the project's key `houston`.
    pub async fn start(ssh_key: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let named = |list: &[&str]| -> Vec<Value> {
            list.iter().zip(100..).map(|(name, id)| json!({"id": id, "name": name, "labels": {}})).collect()
        };
        let state = State {
            dir: tempfile::tempdir().expect("a folder"),
            port,
            token: TOKEN.to_owned(),
            ssh_key: ssh_key.trim().to_owned(),
            servers: Vec::new(),
            things: vec![
                (
                    "server_types",
                    vec![server_type(104, "cx22", 2, "0.0060"), server_type(105, "cx32", 4, "0.0113")],
                ),
                ("images", images()),
                ("networks", named(&["private"])),
                ("firewalls", vec![firewall(102, "closed", &json!([]))]),
                ("placement_groups", named(&["apart"])),
                ("volumes", named(&["cache"])),
                ("ssh_keys", named(&["houston"])),
            ],
            actions: Vec::new(),
            last_id: 1000,
            faults: VecDeque::new(),
            failing: Vec::new(),
            asked: Vec::new(),
            takes: Duration::from_millis(300),
            ever: 0,
            stranger: false,
        };
        let state = Arc::new(Mutex::new(state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { url, port, state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub fn fault(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// The next action of this command ends in an error.
    pub fn fail(&self, command: &'static str, code: &'static str, message: &'static str) {
        self.state().failing.push((command, code, message));
    }

    /// How long actions take from now on.
    pub fn takes(&self, time: Duration) {
        self.state().takes = time;
    }

    /// From now on somebody else answers at the address of each new server.
    pub fn strangers(&self) {
        self.state().stranger = true;
    }

    pub fn replace_token(&self, token: &str) {
        self.state().token = token.to_owned();
    }

    /// Names of the servers that are there.
    pub fn servers(&self) -> Vec<String> {
        let state = self.state();
        state.servers.iter().map(|made| made.json["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A firewall's rules, in short.
    pub fn rules(&self, firewall: &str) -> Option<Vec<String>> {
        let state = self.state();
        let found = state.list("firewalls").iter().find(|known| known["name"] == firewall)?;
        let short = |rule: &Value| {
            format!("{} {} {}", rule["description"], rule["direction"], rule["port"]).replace('"', "")
        };
        Some(found["rules"].as_array()?.iter().map(short).collect())
    }

    /// Descriptions of the snapshots.
    pub fn snapshots(&self) -> Vec<String> {
        let state = self.state();
        let found = state.list("images").iter().filter(|image| image["type"] == "snapshot");
        found.map(|image| image["description"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// As the API would show it.
    pub fn server(&self, name: &str) -> Option<Value> {
        self.state().servers.iter().find(|made| made.json["name"] == name).map(|made| made.json.clone())
    }

    pub fn ever_made(&self) -> usize {
        self.state().ever
    }

    /// `POST /servers`, in order.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// Somebody makes one by hand: it has these labels, and is no machine.
    pub fn leave_behind(&self, name: &str, labels: &Value) {
        let mut state = self.state();
        let body = json!({"name": name, "server_type": "cx22", "location": "nbg1", "image": "debian-12",
            "labels": labels, "ssh_keys": ["houston"]});
        state.create(&body).expect("it may be made");
        // It was made long ago.
        for act in &mut state.actions {
            act.state = "success";
        }
        state.servers.last_mut().expect("it was made").json["status"] = "running".into();
    }

    /// Where the server's files are, for marks that commands leave.
    pub fn folder(&self) -> PathBuf {
        self.state().dir.path().to_owned()
    }
}

impl Drop for Hetzner {
    fn drop(&mut self) {
        self.task.abort();
        self.state.lock().map(|mut state| state.servers.clear()).ok();
    }
}

// ----- answers ------------------------------------------------------------------------------------

type Refusal = (u16, &'static str, String);

fn refuse<T>(status: u16, code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err((status, code, message.into()))
}

async fn answer(
    Shared(state): Shared<Arc<Mutex<State>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = state.lock().expect("no panic");
    state.pass_time();
    let path = uri.path().strip_prefix("/v1").unwrap_or(uri.path()).to_owned();
    state.asked.push(format!("{method} {path}"));
    let fault = state.faults.iter().position(|f| f.method == method && path.starts_with(f.path));
    let fault = fault.and_then(|at| state.faults.remove(at));
    let done = match &fault {
        Some(fault) if !fault.carried_out => Ok((200, Value::Null)),
        _ if headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok())
            != Some(&format!("Bearer {}", state.token)) =>
        {
            refuse(401, "unauthorized", "unable to authenticate")
        }
        _ => state.route(&method, &path, uri.query().unwrap_or_default(), &body),
    };
    let (status, text, retry_after) = match (fault, done) {
        (None, Ok((204, _))) => (204, String::new(), None),
        (Some(fault), _) => (fault.status, fault.body, fault.retry_after),
        (None, Ok((status, body))) => (status, body.to_string(), None),
        (None, Err((status, code, message))) => {
            (status, json!({"error": {"code": code, "message": message, "details": null}}).to_string(), None)
        }
    };
    let kind = if text.starts_with('<') { "text/html" } else { "application/json" };
    let mut answer = (
        StatusCode::from_u16(status).expect("a status"),
        [(header::CONTENT_TYPE, kind)],
        [("RateLimit-Limit", "3600"), ("RateLimit-Remaining", "3599"), ("RateLimit-Reset", "1794000000")],
        text,
    )
        .into_response();
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

impl State {
    fn route(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Result<(u16, Value), Refusal> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let body: Value = if body.is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(body) {
                Ok(body) => body,
                Err(_) => return refuse(400, "json_error", "invalid JSON"),
            }
        };
        let id = |text: &str| text.parse::<i64>().or_else(|_| refuse(404, "not_found", "not found"));
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["servers"]) => self.create(&body).map(|made| (201, made)),
            ("GET", ["servers"]) => {
                let all = self.servers.iter().map(|made| made.json.clone()).collect();
                Ok((200, page("servers", all, query)))
            }
            ("GET", ["servers", server]) => {
                let made = self.find(id(server)?)?;
                Ok((200, json!({"server": made.json})))
            }
            ("DELETE", ["servers", server]) => {
                let server = self.unlocked(id(server)?)?;
                Ok((200, json!({"action": self.begin("delete_server", server, Effect::Remove)})))
            }
            ("GET", ["servers", server, "actions"]) => {
                let server = self.find(id(server)?)?.json["id"].as_i64().expect("an id");
                let all = self.actions.iter().filter(|act| act.server == server).map(Act::json).collect();
                Ok((200, page("actions", all, query)))
            }
            ("POST", ["servers", server, "actions", "create_image"]) => {
                let server = self.unlocked(id(server)?)?;
                let (id, number) = (self.new_id(), self.list("images").len());
                let made =
                    snapshot(id, body["description"].as_str().unwrap_or_default(), number, &body["labels"]);
                self.list_mut("images").push(made.clone());
                Ok((
                    201,
                    json!({"image": made, "action": self.begin("create_image", server, Effect::Nothing)}),
                ))
            }
            ("DELETE", ["images", image]) => {
                let wanted = id(image)?;
                let known = self.list("images").len();
                self.list_mut("images").retain(|image| image["id"] != wanted || image["type"] != "snapshot");
                if self.list("images").len() == known {
                    return refuse(404, "not_found", "image not found");
                }
                Ok((204, Value::Null))
            }
            ("GET", ["images", _, "actions"]) => Ok((200, page("actions", Vec::new(), query))),
            ("POST", ["servers", server, "actions", action]) => {
                let server = self.unlocked(id(server)?)?;
                self.act(server, action, &body).map(|action| (201, json!({"action": action})))
            }
            ("GET", ["actions"]) => {
                let wanted: Vec<String> =
                    parameters(query).into_iter().filter(|(key, _)| key == "id").map(|(_, id)| id).collect();
                let all = self.actions.iter().filter(|act| wanted.contains(&act.id.to_string()));
                Ok((200, json!({"actions": all.map(Act::json).collect::<Vec<_>>()})))
            }
            ("POST", ["firewalls"]) => {
                let name = body["name"].as_str().unwrap_or_default().to_owned();
                if self.list("firewalls").iter().any(|known| known["name"] == name.as_str()) {
                    return refuse(409, "uniqueness_error", "firewall name is already used");
                }
                let made = firewall(self.new_id(), &name, &body["rules"]);
                self.list_mut("firewalls").push(made.clone());
                Ok((201, json!({"firewall": made, "actions": []})))
            }
            ("POST", ["firewalls", firewall_id, "actions", "set_rules"]) => {
                let wanted = id(firewall_id)?;
                let Some(known) = self.list_mut("firewalls").iter_mut().find(|known| known["id"] == wanted)
                else {
                    return refuse(404, "not_found", "firewall not found");
                };
                let name = known["name"].as_str().unwrap_or_default().to_owned();
                *known = firewall(wanted, &name, &body["rules"]);
                Ok((201, json!({"actions": [self.begin("set_firewall_rules", 0, Effect::Nothing)]})))
            }
            ("DELETE", ["firewalls", firewall_id]) => {
                let wanted = id(firewall_id)?;
                self.list_mut("firewalls").retain(|known| known["id"] != wanted);
                Ok((204, Value::Null))
            }
            ("GET", ["pricing"]) => Ok((200, pricing())),
            ("GET", ["images", image]) => {
                let wanted = id(image)?;
                match self.list("images").iter().find(|image| image["id"] == wanted) {
                    Some(image) => Ok((200, json!({"image": image}))),
                    None => refuse(404, "not_found", format!("image with ID '{wanted}' not found")),
                }
            }
            ("GET", [list]) if self.things.iter().any(|(name, _)| name == list) => {
                Ok((200, page(list, self.list(list).to_vec(), query)))
            }
            _ => refuse(404, "not_found", "the requested resource was not found"),
        }
    }

    fn list(&self, name: &str) -> &[Value] {
        self.things.iter().find(|(list, _)| *list == name).map_or(&[], |(_, things)| things)
    }

    fn list_mut(&mut self, name: &str) -> &mut Vec<Value> {
        let list = self.things.iter_mut().find(|(list, _)| *list == name);
        &mut list.expect("a list that there is").1
    }

    fn find(&self, id: i64) -> Result<&Made, Refusal> {
        match self.servers.iter().find(|made| made.json["id"] == id) {
            Some(made) => Ok(made),
            None => refuse(404, "not_found", format!("server with ID '{id}' not found")),
        }
    }

    fn unlocked(&self, id: i64) -> Result<i64, Refusal> {
        self.find(id)?;
        if self.actions.iter().any(|act| act.server == id && act.state == "running") {
            return refuse(423, "locked", "server is locked");
        }
        Ok(id)
    }

    fn new_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    fn begin(&mut self, command: &'static str, server: i64, effect: Effect) -> Value {
        let failing = self.failing.iter().position(|(failing, ..)| *failing == command);
        let error = failing.map(|at| self.failing.remove(at)).map(|(_, code, message)| (code, message));
        let (id, due) = (self.new_id(), Instant::now() + self.takes);
        let act = Act { id, command, server, due, state: "running", error, effect };
        let json = act.json();
        self.actions.push(act);
        json
    }

    fn create(&mut self, body: &Value) -> Result<Value, Refusal> {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let invalid = |field: &str| refuse(422, "invalid_input", format!("invalid input in field '{field}'"));
        let name = text("name");
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) || name.ends_with('-') {
            return invalid("name");
        }
        if self.servers.iter().any(|made| made.json["name"] == name.as_str()) {
            return refuse(409, "uniqueness_error", "server name is already used");
        }
        let kind = self.list("server_types").iter().find(|kind| kind["name"] == text("server_type")).cloned();
        let Some(kind) = kind else { return invalid("server_type") };
        let named = |thing: &Value| {
            thing["name"] == text("image") || text("image").parse().is_ok_and(|id: i64| thing["id"] == id)
        };
        let Some(image) = self.list("images").iter().find(|image| named(image)).cloned() else {
            return refuse(404, "not_found", "image not found");
        };
        if !["nbg1", "fsn1"].contains(&text("location").as_str()) {
            return invalid("location");
        }
        for (key, value) in body["labels"].as_object().into_iter().flatten() {
            if !is_label(key) || !value.as_str().is_some_and(is_label) {
                return invalid("labels");
            }
        }
        let keys = body["ssh_keys"].as_array().cloned().unwrap_or_default();
        if keys.iter().any(|key| !self.list("ssh_keys").iter().any(|known| known["name"] == *key)) {
            return refuse(404, "not_found", "SSH key not found");
        }
        for (field, list) in [("networks", "networks"), ("volumes", "volumes")] {
            let ids = body[field].as_array().cloned().unwrap_or_default();
            if ids.iter().any(|id| !self.list(list).iter().any(|known| known["id"] == *id)) {
                return invalid(field);
            }
        }
        let user_data = text("user_data");
        if user_data.len() > 32 * 1024 {
            return invalid("user_data");
        }
        Ok(self.make(body, &name, &kind, &image, &user_data))
    }

    fn make(&mut self, body: &Value, name: &str, kind: &Value, image: &Value, user_data: &str) -> Value {
        let id = self.new_id();
        let part = |from: u8| rand::rng().random_range(from..255u8);
        // Each server has an address of its own, as everywhere; here they are all this machine's.
        let address = format!("127.{}.{}.{}", part(64), part(1), part(1));
        let private: Vec<Value> = body["networks"].as_array().into_iter().flatten().map(|network| {
            json!({"network": network, "ip": address, "alias_ips": [], "mac_address": "86:00:ff:2a:7d:e1"})
        }).collect();
        let location = body["location"].as_str().unwrap_or_default();
        let server = json!({
            "id": id, "name": name, "status": "initializing", "created": "2026-06-01T01:30:00+00:00",
            "public_net": {"ipv4": {"id": 42, "ip": address, "blocked": false, "dns_ptr": "server01.example.com"},
                "ipv6": null, "floating_ips": [], "firewalls": []},
            "private_net": private, "server_type": kind, "image": image, "iso": null,
            "datacenter": {"id": 42, "name": format!("{location}-dc3"), "description": "", "location":
                {"id": 2, "name": location, "description": "", "country": "DE", "city": "Nuremberg",
                "latitude": 49.45, "longitude": 11.07, "network_zone": "eu-central"}},
            "rescue_enabled": false, "locked": false, "backup_window": null, "outgoing_traffic": 0,
            "ingoing_traffic": 0, "included_traffic": 654_321, "protection": {"delete": false, "rebuild": false},
            "labels": body["labels"].as_object().cloned().unwrap_or_default(), "volumes": [], "load_balancers": [],
            "primary_disk_size": 40, "placement_group": null,
        });
        let authorized = [self.ssh_key.clone()];
        let dir = self.dir.path().join(name);
        let user_data = if self.stranger { "" } else { user_data };
        let machine = Machine::new(&dir, &address, self.port, user_data, &authorized);
        self.ever += 1;
        self.servers.push(Made { json: server.clone(), machine });
        let action = self.begin("create_server", id, Effect::On);
        let next = self.begin("start_server", id, Effect::Nothing);
        json!({"server": server, "action": action, "next_actions": [next], "root_password": null})
    }

    fn act(&mut self, server: i64, action: &str, body: &Value) -> Result<Value, Refusal> {
        let status = self.find(server)?.json["status"].clone();
        Ok(match action {
            "poweron" => self.begin("start_server", server, Effect::On),
            "poweroff" => self.begin("stop_server", server, Effect::Off),
            "shutdown" => self.begin("shutdown_server", server, Effect::Off),
            "change_type" => {
                if status != "off" {
                    return refuse(409, "server_not_stopped", "server must be stopped");
                }
                let kind = body["server_type"].as_str().unwrap_or_default().to_owned();
                if !self.list("server_types").iter().any(|known| known["name"] == kind.as_str()) {
                    return refuse(422, "invalid_input", "invalid input in field 'server_type'");
                }
                self.begin("change_server_type", server, Effect::Type(kind))
            }
            _ => return refuse(404, "not_found", "the requested resource was not found"),
        })
    }

    /// Actions come to their end.
    fn pass_time(&mut self) {
        let now = Instant::now();
        for at in 0..self.actions.len() {
            if self.actions[at].state != "running" || self.actions[at].due > now {
                continue;
            }
            let server = self.actions[at].server;
            if self.actions[at].error.is_some() {
                self.actions[at].state = "error";
                self.set(server, "off");
                continue;
            }
            self.actions[at].state = "success";
            match std::mem::replace(&mut self.actions[at].effect, Effect::Nothing) {
                Effect::Nothing => {}
                Effect::On => self.set(server, "running"),
                Effect::Off => self.set(server, "off"),
                Effect::Remove => self.servers.retain(|made| made.json["id"] != server),
                Effect::Type(kind) => {
                    let kind = self
                        .list("server_types")
                        .iter()
                        .find(|known| known["name"] == kind.as_str())
                        .cloned();
                    for made in self.servers.iter_mut().filter(|made| made.json["id"] == server) {
                        made.json["server_type"] = kind.clone().unwrap_or_default();
                    }
                }
            }
        }
    }

    fn set(&mut self, server: i64, status: &str) {
        for made in self.servers.iter_mut().filter(|made| made.json["id"] == server) {
            made.json["status"] = status.into();
            match status {
                "running" => made.machine.on(),
                _ => made.machine.off(),
            }
        }
    }
}

impl Act {
    fn json(&self) -> Value {
        let error = self.error.filter(|_| self.state == "error");
        json!({"id": self.id, "command": self.command, "status": self.state,
            "progress": if self.state == "running" { 40 } else { 100 },
            "started": "2026-06-01T01:30:00+00:00",
            "finished": if self.state == "running" { Value::Null } else { "2026-06-01T01:30:09+00:00".into() },
            "resources": [{"id": self.server, "type": "server"}],
            "error": error.map(|(code, message)| json!({"code": code, "message": message}))})
    }
}
