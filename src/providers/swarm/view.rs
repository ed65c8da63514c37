//! What is read of the engine's objects. Tolerant: fields may be missing, new ones are ignored; the spec
//! stays the JSON that came, so that it can go back whole.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::spec;

/// A service as the Swarm has it now.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub id: String,
    pub name: String,
    /// `Version.Index`: an update must name it.
    pub index: u64,
    /// The whole spec, as it came.
    pub spec: Json,
    /// What an automatic rollback goes back to. Only one is kept.
    pub previous_spec: Option<Json>,
    /// Absent after creation, and after a change that replaces no task.
    pub update: Option<UpdateStatus>,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
}

impl Service {
    pub(super) fn read(v: &Json) -> Option<Self> {
        let spec = v.get("Spec")?.clone();
        Some(Self {
            id: text(v, "/ID")?,
            name: text(&spec, "/Name")?,
            index: v.pointer("/Version/Index")?.as_u64()?,
            spec,
            previous_spec: v.get("PreviousSpec").filter(|p| p.is_object()).cloned(),
            update: v.get("UpdateStatus").and_then(UpdateStatus::read),
            created_at: time(v, "/CreatedAt"),
            updated_at: time(v, "/UpdatedAt"),
        })
    }
    /// `web:1.7`, with a digest where one was resolved.
    pub fn image(&self) -> &str {
        spec::image(&self.spec)
    }
    /// Absent for a global service.
    pub fn replicas(&self) -> Option<u64> {
        spec::replicas(&self.spec)
    }
    pub fn label(&self, name: &str) -> Option<&str> {
        spec::label(&self.spec, name)
    }
    /// Under which token its spec was written, if nobody else has changed it since: `docker service update` leaves
    /// all labels as they are.
    pub fn token(&self) -> Option<&str> {
        let run = self.label(spec::LABEL_RUN)?;
        let version = self.label(spec::LABEL_VERSION);
        let same_version = version.is_none_or(|version| version == spec::version(self.image()));
        (same_version && self.overwritten().is_none()).then_some(run)
    }
    /// What Houston sent, where somebody else has changed that and kept its labels.
    pub fn overwritten(&self) -> Option<&Json> {
        let before = self.previous_spec.as_ref()?;
        let changed =
            spec::same_sending(before, &self.spec) && spec::digest(before) != spec::digest(&self.spec);
        changed.then_some(before)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateStatus {
    pub state: UpdateState,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
}

/// How far an update is. `RollbackCompleted` is a failed update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
    /// Of a newer engine.
    Other(String),
}

impl UpdateState {
    pub fn is_rollback(&self) -> bool {
        matches!(self, Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted)
    }
}

impl std::fmt::Display for UpdateState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rolling back",
            Self::RollbackPaused => "rollback paused",
            Self::RollbackCompleted => "rolled back",
            Self::Other(other) => other,
        })
    }
}

impl UpdateStatus {
    fn read(v: &Json) -> Option<Self> {
        let state = match v.get("State")?.as_str()? {
            "" => return None,
            "updating" => UpdateState::Updating,
            "paused" => UpdateState::Paused,
            "completed" => UpdateState::Completed,
            "rollback_started" => UpdateState::RollbackStarted,
            "rollback_paused" => UpdateState::RollbackPaused,
            "rollback_completed" => UpdateState::RollbackCompleted,
            other => UpdateState::Other(other.to_owned()),
        };
        Some(Self {
            state,
            message: text(v, "/Message").unwrap_or_default(),
            started_at: time(v, "/StartedAt"),
            completed_at: time(v, "/CompletedAt"),
        })
    }
}

/// One task: a container that runs, will run or ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: String,
    pub service_id: String,
    pub node_id: Option<String>,
    /// Counted from 1; 0 in a global service.
    pub slot: u64,
    /// `new`, `pending`, `assigned`, `preparing`, `starting`, `running`, `complete`, `failed`, `rejected`, …
    /// A task with a health check is `starting` until it is healthy.
    pub state: String,
    /// `running`, `ready`, `shutdown`, `remove`
    pub desired: String,
    /// Why it failed or cannot start.
    pub error: Option<String>,
    pub image: String,
    pub container: Option<String>,
    pub exit_code: Option<i64>,
    pub tty: bool,
    /// The task's own copy of the service's `TaskTemplate`.
    pub spec: Json,
    pub created_at: Option<Timestamp>,
    /// (published, target) of ports in host mode.
    pub ports: Vec<(u16, u16)>,
}

impl Task {
    pub(super) fn read(v: &Json) -> Option<Self> {
        let port = |p: &Json| {
            let number = |name| p.get(name)?.as_u64()?.try_into().ok();
            Some((number("PublishedPort")?, number("TargetPort")?))
        };
        Some(Self {
            id: text(v, "/ID")?,
            service_id: text(v, "/ServiceID").unwrap_or_default(),
            node_id: text(v, "/NodeID").filter(|id| !id.is_empty()),
            slot: v.pointer("/Slot").and_then(Json::as_u64).unwrap_or_default(),
            state: text(v, "/Status/State").unwrap_or_default(),
            desired: text(v, "/DesiredState").unwrap_or_default(),
            error: text(v, "/Status/Err").filter(|e| !e.is_empty()),
            image: text(v, "/Spec/ContainerSpec/Image").unwrap_or_default(),
            container: text(v, "/Status/ContainerStatus/ContainerID").filter(|id| !id.is_empty()),
            exit_code: v.pointer("/Status/ContainerStatus/ExitCode").and_then(Json::as_i64),
            tty: v.pointer("/Spec/ContainerSpec/TTY").and_then(Json::as_bool).unwrap_or_default(),
            spec: v.get("Spec").cloned().unwrap_or_default(),
            created_at: time(v, "/CreatedAt"),
            ports: v
                .pointer("/Status/PortStatus/Ports")
                .and_then(Json::as_array)
                .map(|ports| ports.iter().filter_map(port).collect())
                .unwrap_or_default(),
        })
    }
    pub fn is_running(&self) -> bool {
        self.state == "running" && self.desired == "running"
    }
    /// What it fills: its slot, or its node in a global service.
    pub fn place(&self) -> (u64, Option<&str>) {
        (self.slot, if self.slot == 0 { self.node_id.as_deref() } else { None })
    }
    /// Ended otherwise than it should have.
    pub fn has_failed(&self) -> bool {
        matches!(self.state.as_str(), "failed" | "rejected" | "orphaned")
            || (self.state == "complete" && self.error.is_some())
    }
    /// Whether its node has not said yet that it is over.
    pub fn is_open(&self) -> bool {
        !matches!(
            self.state.as_str(),
            "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned"
        )
    }
    /// Whether it was made from this service spec (and not from one before it).
    pub fn is_of(&self, service_spec: &Json) -> bool {
        let same =
            |path: &str| self.spec.pointer(path) == service_spec.pointer(&format!("/TaskTemplate{path}"));
        let forced = |v: Option<&Json>| v.and_then(Json::as_u64).unwrap_or_default();
        same("/ContainerSpec")
            && forced(self.spec.pointer("/ForceUpdate"))
                == forced(service_spec.pointer("/TaskTemplate/ForceUpdate"))
    }
}

/// A machine of the Swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    pub hostname: String,
    pub manager: bool,
    pub leader: bool,
    /// `ready`, `down`, `unknown`, `disconnected`
    pub state: String,
    /// `active`, `pause`, `drain`
    pub availability: String,
    /// Of a manager: `reachable`, `unreachable`
    pub reachability: Option<String>,
    pub engine: String,
    pub address: String,
}

impl Node {
    /// `node2 (10.0.0.2)`
    pub fn title(&self) -> String {
        format!("{} ({})", self.hostname, self.address)
    }

    pub(super) fn read(v: &Json) -> Option<Self> {
        Some(Self {
            id: text(v, "/ID")?,
            hostname: text(v, "/Description/Hostname").unwrap_or_default(),
            manager: text(v, "/Spec/Role").is_some_and(|r| r == "manager"),
            leader: v.pointer("/ManagerStatus/Leader").and_then(Json::as_bool).unwrap_or_default(),
            state: text(v, "/Status/State").unwrap_or_default(),
            availability: text(v, "/Spec/Availability").unwrap_or_default(),
            reachability: text(v, "/ManagerStatus/Reachability"),
            engine: text(v, "/Description/Engine/EngineVersion").unwrap_or_default(),
            address: address(v),
        })
    }
}

/// The leader has none but as a manager.
fn address(v: &Json) -> String {
    let own = text(v, "/Status/Addr").filter(|address| !address.is_empty() && address != "0.0.0.0");
    let manager = || Some(text(v, "/ManagerStatus/Addr")?.rsplit_once(':')?.0.to_owned());
    own.or_else(manager).unwrap_or_default()
}

/// An engine, whether it is in a Swarm or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `28.5.2`
    pub version: String,
    /// The newest version of the API that it speaks: `1.51`.
    pub api: String,
    /// `active`, `inactive`, `pending`, `error`, `locked`
    pub swarm: String,
    /// Whether it is a manager.
    pub manager: bool,
}

impl Engine {
    pub(super) fn read(version: &Json, info: &Json) -> Option<Self> {
        Some(Self {
            version: text(version, "/Version")?,
            api: text(version, "/ApiVersion")?,
            swarm: text(info, "/Swarm/LocalNodeState").unwrap_or_default(),
            manager: info.pointer("/Swarm/ControlAvailable").and_then(Json::as_bool).unwrap_or_default(),
        })
    }
}

pub(super) fn network(v: &Json) -> Option<(String, String)> {
    Some((text(v, "/Id")?, text(v, "/Name")?))
}

/// Everything that can be read; what cannot is logged and left out.
pub(super) fn read<T>(items: &[Json], one: impl Fn(&Json) -> Option<T>) -> Vec<T> {
    let read: Vec<T> = items.iter().filter_map(one).collect();
    if read.len() < items.len() {
        tracing::warn!(left_out = items.len() - read.len(), "objects of the engine that cannot be read");
    }
    read
}

fn text(v: &Json, path: &str) -> Option<String> {
    v.pointer(path)?.as_str().map(str::to_owned)
}

/// Absent also for Go's zero time, which stands for none.
fn time(v: &Json, path: &str) -> Option<Timestamp> {
    v.pointer(path)?.as_str()?.parse().ok().filter(|t| *t > Timestamp::UNIX_EPOCH)
}
