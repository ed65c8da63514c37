//! Docker Swarm through the Docker Engine API: reads services, tasks and nodes, changes services under
//! `Version.Index`, and waits for the state that a change really ends in.
//!
//! Must not: know what a run, a playbook or a room is; drop a field of a spec that it does not know.

mod connection;
mod down;
mod error;
mod images;
mod lease;
mod logs;
mod rollout;
pub mod spec;
mod status;
mod view;

use std::time::Duration;

use serde_json::{Value as Json, json};

pub use connection::{Manager, Swarm};
pub use down::Down;
pub use error::{Problem, SwarmError, Tried};
pub use lease::SwarmLease;
pub(crate) use rollout::advice;
pub use rollout::{Failure, Lost, Outcome, Patience, Verdict, Watch};
pub use status::{EnvironmentStatus, NodeStatus, ServiceStatus, status};
pub use view::{Engine, Node, Service, Task, UpdateState, UpdateStatus};

use connection::Request;

/// Most log bytes that are read of one task.
const LOG_BYTES: usize = 64 * 1024;

impl Swarm {
    /// Every service.
    pub async fn services(&self) -> Result<Vec<Service>, SwarmError> {
        self.list("services", Request::get("/services")).await.map(|all| view::read(&all, Service::read))
    }

    /// One service by its exact name; `None` when there is none of that name.
    pub async fn service(&self, name: &str) -> Result<Option<Service>, SwarmError> {
        // A path would also match an id or a unique prefix of one; a `name` filter matches beginnings.
        let filters = json!({ "name": [name] }).to_string();
        let found = self.list("services", Request::get("/services").query("filters", filters)).await?;
        Ok(view::read(&found, Service::read).into_iter().find(|s| s.name == name))
    }

    /// The tasks of a service, old ones too as long as the Swarm remembers them.
    pub async fn tasks(&self, service: &str) -> Result<Vec<Task>, SwarmError> {
        let filters = json!({ "service": [service] }).to_string();
        let found = self.list("tasks", Request::get("/tasks").query("filters", filters)).await?;
        Ok(view::read(&found, Task::read))
    }

    /// The tasks of all services.
    pub async fn all_tasks(&self) -> Result<Vec<Task>, SwarmError> {
        self.list("tasks", Request::get("/tasks")).await.map(|all| view::read(&all, Task::read))
    }

    /// The engine that answers, also one that is in no Swarm.
    pub async fn engine(&self) -> Result<Engine, SwarmError> {
        let version = self.json("version", Request::get("/version")).await?;
        let info = self.json("info", Request::get("/info")).await?;
        Engine::read(&version, &info).ok_or_else(|| SwarmError::Unreadable {
            what: "version".to_owned(),
            reason: "it names none".to_owned(),
        })
    }

    pub async fn nodes(&self) -> Result<Vec<Node>, SwarmError> {
        self.list("nodes", Request::get("/nodes")).await.map(|all| view::read(&all, Node::read))
    }

    /// Swarm networks as (id, name).
    pub async fn networks(&self) -> Result<Vec<(String, String)>, SwarmError> {
        let filters = json!({ "scope": ["swarm"] }).to_string();
        let found = self.list("networks", Request::get("/networks").query("filters", filters)).await?;
        Ok(view::read(&found, view::network))
    }

    /// Makes an attachable overlay network.
    pub async fn create_network(&self, name: &str, labels: &Json) -> Result<(), SwarmError> {
        let body = json!({
            "Name": name, "Driver": "overlay", "Scope": "swarm", "Attachable": true,
            "CheckDuplicate": true, "Labels": labels,
        });
        self.json("network", Request::post("/networks/create").body(&body)).await.map(drop)
    }

    /// Removes a network that no task uses.
    pub async fn remove_network(&self, name: &str) -> Result<(), SwarmError> {
        self.json(&format!("network `{name}`"), Request::delete(format!("/networks/{name}"))).await.map(drop)
    }

    /// The last `lines` lines that a task wrote, both streams in the order of the engine.
    pub async fn task_log(&self, task: &Task, lines: u32) -> Result<String, SwarmError> {
        let request = Request::get(format!("/tasks/{}/logs", task.id))
            .query("stdout", "true")
            .query("stderr", "true")
            .query("tail", lines.to_string())
            .timeout(Duration::from_secs(5))
            .at_most(LOG_BYTES);
        let (status, bytes) = self.send(&request).await?;
        if !status.is_success() {
            return Err(SwarmError::refused(&format!("the log of task `{}`", task.id), status, &bytes));
        }
        let text =
            if task.tty { String::from_utf8_lossy(&bytes).into_owned() } else { logs::demultiplex(&bytes) };
        Ok(logs::last_lines(&text, lines as usize))
    }

    /// What the health check of an unhealthy task last said. Only known to the node that runs it: `None`
    /// elsewhere, and when it is healthy.
    pub async fn unhealthy_because(&self, task: &Task) -> Option<String> {
        let container = task.container.as_deref()?;
        let request = Request::get(format!("/containers/{container}/json")).timeout(Duration::from_secs(3));
        let found = self.json("container", request).await.ok()?;
        if found.pointer("/State/Health/Status")?.as_str()? != "unhealthy" {
            return None;
        }
        let last = found.pointer("/State/Health/Log")?.as_array()?.last()?;
        let output = last.get("Output")?.as_str()?.trim();
        let exit = last.get("ExitCode").and_then(Json::as_i64).unwrap_or_default();
        Some(if output.is_empty() { format!("status {exit}") } else { logs::last_lines(output, 3) })
    }

    /// Creates a service. A service of that name is [`SwarmError::Conflict`].
    pub async fn create_service(&self, spec: &Json) -> Result<(), SwarmError> {
        let what = format!("service `{}`", spec.pointer("/Name").and_then(Json::as_str).unwrap_or("?"));
        self.json(&what, Request::post("/services/create").body(spec)).await.map(drop)
    }

    /// Replaces the whole spec of `base`, exactly as read. [`SwarmError::Stale`] when the service has
    /// moved on since.
    pub async fn update_service(&self, base: &Service, spec: &Json) -> Result<(), SwarmError> {
        let request = Request::post(format!("/services/{}/update", base.id))
            .query("version", base.index.to_string())
            .body(spec);
        self.json(&format!("service `{}`", base.name), request).await.map(drop)
    }

    /// Removes a service; one that is gone already is fine.
    pub async fn remove_service(&self, name: &str) -> Result<(), SwarmError> {
        let Some(service) = self.service(name).await? else { return Ok(()) };
        let request = Request::delete(format!("/services/{}", service.id));
        match self.json(&format!("service `{name}`"), request).await {
            Ok(_) | Err(SwarmError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, what: &str, request: Request<'_>) -> Result<Vec<Json>, SwarmError> {
        match self.json(what, request).await? {
            Json::Array(items) => Ok(items),
            // Older engines answer `null` for an empty list.
            Json::Null => Ok(Vec::new()),
            _ => Err(SwarmError::Unreadable { what: what.to_owned(), reason: "it is no list".to_owned() }),
        }
    }

    async fn json(&self, what: &str, request: Request<'_>) -> Result<Json, SwarmError> {
        let (status, bytes) = self.send(&request).await?;
        if !status.is_success() {
            return Err(SwarmError::refused(what, status, &bytes));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Json::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| SwarmError::Unreadable { what: what.to_owned(), reason: e.to_string() })
    }
}
