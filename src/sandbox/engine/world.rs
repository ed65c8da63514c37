//! The engine's state, behind one lock, and the rules that need all of it at once: names, versions,
//! which node takes a task. Every change has an index, as every object of Docker's store has.
//!
//! Must not: wait for anything, or start a process; `orchestrate` and `runtime` do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::logs::Log;
use super::{Options, front, orchestrate, spec};

/// A request that is not granted: an HTTP status and Docker's message.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// The states of a task in their order; from `Complete` on its process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    New,
    Pending,
    Preparing,
    Starting,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
    Remove,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
        }
    }
    pub fn ended(self) -> bool {
        self > Self::Running
    }
}

/// The process that stands in for a container.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub pid: u32,
    pub exit: Option<i32>,
    /// `starting`, `healthy`, `unhealthy`; None without a health check.
    pub health: Option<&'static str>,
    pub failing_streak: u32,
}

#[derive(Debug)]
pub struct Task {
    pub id: String,
    pub service: String,
    pub slot: u64,
    pub node: Option<String>,
    /// [`spec::task_part`] of the service when the task was made.
    pub part: Value,
    pub index: u64,
    pub created: Timestamp,
    pub changed: Timestamp,
    pub state: State,
    pub desired: State,
    pub message: String,
    pub error: String,
    pub container: Option<Container>,
    pub port: Option<u16>,
    pub log: Log,
    /// Open connections through the front: the process is asked to end when there are none.
    pub connections: usize,
    /// Cancelled when the task is to end.
    pub stop: CancellationToken,
}

impl Task {
    /// It is wanted, and its process runs or will run.
    pub fn live(&self) -> bool {
        self.desired == State::Running && !self.state.ended()
    }
    pub fn serving(&self) -> bool {
        self.desired == State::Running && self.state == State::Running
    }
}

#[derive(Clone, Debug)]
pub struct UpdateStatus {
    pub state: &'static str,
    pub started: Timestamp,
    pub completed: Option<Timestamp>,
    pub message: String,
}

#[derive(Debug)]
pub struct Service {
    pub id: String,
    pub spec: Value,
    pub previous: Option<Value>,
    pub index: u64,
    pub created: Timestamp,
    pub changed: Timestamp,
    pub update: Option<UpdateStatus>,
    /// Counts the times that the orchestrator has to look again.
    pub generation: u64,
    /// Restarts of each slot within the generation.
    pub restarts: BTreeMap<u64, u64>,
    pub front: SocketAddr,
    /// The front's place in the round.
    pub turn: usize,
    /// Cancelled when the service is removed.
    pub gone: CancellationToken,
}

#[derive(Debug)]
pub struct Node {
    pub id: String,
    pub hostname: String,
    pub index: u64,
    pub created: Timestamp,
    /// `{"Role", "Availability", "Labels"}`.
    pub spec: Value,
}

impl Node {
    pub fn active(&self) -> bool {
        self.spec.get("Availability").and_then(Value::as_str) == Some("active")
    }
}

/// Networks, secrets and configs: kept, listed, never used.
#[derive(Debug)]
pub struct Thing {
    pub id: String,
    pub index: u64,
    pub created: Timestamp,
    pub changed: Timestamp,
    pub spec: Value,
}

#[derive(Debug, Default)]
pub struct World {
    pub index: u64,
    pub nodes: Vec<Node>,
    pub services: BTreeMap<String, Service>,
    pub tasks: BTreeMap<String, Task>,
    pub things: BTreeMap<&'static str, Vec<Thing>>,
    /// The engine ends: nothing is started any more.
    pub stopping: bool,
}

impl World {
    pub fn service_by_name(&self, name: &str) -> Option<&Service> {
        self.services.values().find(|service| spec::name(&service.spec) == name)
    }

    /// By id, name, or a part of an id that begins only one.
    pub fn resolve_service(&self, reference: &str) -> Result<String, Refusal> {
        if self.services.contains_key(reference) {
            return Ok(reference.to_owned());
        }
        if let Some(service) = self.service_by_name(reference) {
            return Ok(service.id.clone());
        }
        let mut starts = self.services.keys().filter(|id| !reference.is_empty() && id.starts_with(reference));
        match (starts.next(), starts.next()) {
            (Some(id), None) => Ok(id.clone()),
            _ => Err(Refusal::new(404, format!("service {reference} not found"))),
        }
    }

    pub fn active_nodes(&self) -> usize {
        self.nodes.iter().filter(|node| node.active()).count()
    }

    /// The active node that meets the constraints and has the fewest tasks: of this service, then of all.
    fn place(&self, service: &str, template: &Value) -> Option<String> {
        let constraints = spec::constraints(template);
        let load = |node: &Node| {
            let here = |task: &&Task| task.live() && task.node.as_deref() == Some(node.id.as_str());
            let own = self.tasks.values().filter(here).filter(|task| task.service == service).count();
            (own, self.tasks.values().filter(here).count())
        };
        let fits = |node: &&Node| {
            let role = node.spec.get("Role").and_then(Value::as_str).unwrap_or("");
            let labels = node.spec.get("Labels").unwrap_or(&Value::Null);
            node.active()
                && constraints.iter().all(|one| spec::constraint_holds(one, &node.hostname, role, labels))
        };
        self.nodes.iter().filter(fits).min_by_key(|node| load(node)).map(|node| node.id.clone())
    }

    pub fn end_task(&mut self, id: &str, desired: State) {
        let index = self.index;
        if let Some(task) = self.tasks.get_mut(id) {
            task.desired = desired;
            task.index = index;
            task.stop.cancel();
            if task.state.ended() && desired == State::Remove {
                self.tasks.remove(id);
            }
        }
    }

    /// Forgets the oldest ended tasks of a slot.
    fn trim(&mut self, service: &str, slot: u64, kept: usize) {
        let of_slot = |task: &&Task| task.service == service && task.slot == slot && task.state.ended();
        let mut ended: Vec<_> =
            self.tasks.values().filter(of_slot).map(|task| (task.created, task.id.clone())).collect();
        ended.sort();
        let surplus = ended.len().saturating_sub(kept);
        for (_, id) in ended.drain(..surplus) {
            self.tasks.remove(&id);
        }
    }
}

/// The state, and what its users need with it.
pub struct Shared {
    pub options: Options,
    pub cancel: CancellationToken,
    pub tracker: TaskTracker,
    world: Mutex<World>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub fn new(options: Options, cancel: CancellationToken, tracker: TaskTracker) -> Self {
        let now = options.clock.now();
        let node = |hostname: &String| Node {
            id: object_id(),
            hostname: hostname.clone(),
            index: 1,
            created: now,
            spec: json!({"Role": "manager", "Availability": "active", "Labels": {"host": hostname}}),
        };
        let world = World { index: 1, nodes: options.nodes.iter().map(node).collect(), ..World::default() };
        Self { options, cancel, tracker, world: Mutex::new(world), changed: watch::Sender::new(0) }
    }

    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state under a new index, and wakes everyone who waits for a change.
    pub fn change<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        let (result, index) = {
            let mut world = self.lock();
            world.index += 1;
            (act(&mut world), world.index)
        };
        self.changed.send_replace(index);
        result
    }

    /// Changes what nobody waits for: log lines, the front's counters.
    pub fn touch<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        act(&mut self.lock())
    }

    /// Waits until the state answers.
    pub async fn wait_for<R>(&self, mut look: impl FnMut(&World) -> Option<R>) -> R {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(answer) = self.read(&mut look) {
                return answer;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    pub fn front_of(&self, name: &str) -> Option<SocketAddr> {
        self.read(|world| world.service_by_name(name).map(|service| service.front))
    }

    pub fn shutting_down(&self) {
        self.change(|world| {
            world.stopping = true;
            let live: Vec<String> = world.tasks.keys().cloned().collect();
            for id in live {
                world.end_task(&id, State::Shutdown);
            }
        });
    }

    /// Takes a spec, binds the service's front and lets the orchestrator fill it with tasks.
    pub async fn create_service(self: &Arc<Self>, spec: Value) -> Result<String, Refusal> {
        if let Some(problem) = spec::problem(&spec) {
            return Err(Refusal::new(400, problem));
        }
        let name = spec::name(&spec).to_owned();
        let wanted = self.options.fronts.get(&name).copied();
        let wanted = wanted.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let unbound = |error| Refusal::new(500, format!("the front {wanted} of {name}: {error}"));
        self.name_is_free(&name)?;
        let listener = TcpListener::bind(wanted).await.map_err(unbound)?;
        let front = listener.local_addr().map_err(unbound)?;
        let now = self.now();
        let id = object_id();
        let gone = self.cancel.child_token();
        let service = Service {
            id: id.clone(),
            spec,
            previous: None,
            index: 0,
            created: now,
            changed: now,
            update: None,
            generation: 1,
            restarts: BTreeMap::new(),
            front,
            turn: 0,
            gone: gone.clone(),
        };
        self.change(|world| {
            if world.service_by_name(&name).is_some() {
                return Err(name_conflict(&name));
            }
            let index = world.index;
            world.services.insert(id.clone(), Service { index, ..service });
            Ok(())
        })?;
        self.tracker.spawn(front::forward(self.clone(), id.clone(), listener, gone));
        self.tracker.spawn(orchestrate::supervise(self.clone(), id.clone()));
        Ok(id)
    }

    fn name_is_free(&self, name: &str) -> Result<(), Refusal> {
        match self.read(|world| world.service_by_name(name).is_some()) {
            true => Err(name_conflict(name)),
            false => Ok(()),
        }
    }

    /// Makes a task in a slot; the caller launches it. None when the service is gone.
    pub fn new_task(&self, service: &str, slot: u64) -> Option<String> {
        let now = self.now();
        self.change(|world| {
            if world.stopping {
                return None;
            }
            let part = spec::task_part(&world.services.get(service)?.spec);
            let node = world.place(service, part.get("TaskTemplate").unwrap_or(&Value::Null));
            let placed = node.is_some();
            let (active, all) = (world.active_nodes(), world.nodes.len());
            let task = Task {
                id: object_id(),
                service: service.to_owned(),
                slot,
                node,
                part,
                index: world.index,
                created: now,
                changed: now,
                state: if placed { State::New } else { State::Pending },
                desired: State::Running,
                message: if placed { "created" } else { "pending task scheduling" }.to_owned(),
                error: match (placed, active) {
                    (true, _) => String::new(),
                    (false, 0) => format!("no suitable node ({all} nodes not available for new tasks)"),
                    (false, _) => {
                        format!("no suitable node (scheduling constraints not satisfied on {active} nodes)")
                    }
                },
                container: None,
                port: None,
                log: Log::default(),
                connections: 0,
                stop: self.cancel.child_token(),
            };
            let id = task.id.clone();
            world.tasks.insert(id.clone(), task);
            world.trim(service, slot, self.options.history);
            Some(id)
        })
    }

    /// Changes a task, if it is still there.
    pub fn change_task(&self, id: &str, act: impl FnOnce(&mut Task)) {
        let now = self.now();
        self.change(|world| {
            let index = world.index;
            if let Some(task) = world.tasks.get_mut(id) {
                act(task);
                (task.index, task.changed) = (index, now);
                if task.state.ended() && task.desired == State::Remove {
                    world.tasks.remove(id);
                }
            }
        });
    }

    /// Changes a service, if it is still there.
    pub fn change_service(&self, id: &str, act: impl FnOnce(&mut Service)) {
        let now = self.now();
        self.change(|world| {
            let index = world.index;
            if let Some(service) = world.services.get_mut(id) {
                act(service);
                (service.index, service.changed) = (index, now);
            }
        });
    }
}

fn name_conflict(name: &str) -> Refusal {
    let desc = format!("name conflicts with an existing object: service {name} already exists");
    Refusal::new(409, format!("rpc error: code = AlreadyExists desc = {desc}"))
}

/// An id as swarm objects have it: 25 characters of base 36.
pub fn object_id() -> String {
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rng = rand::rng();
    (0..25).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())] as char).collect()
}

/// An id as containers and images have it: 64 hexadecimal digits.
pub fn hex_id() -> String {
    let mut rng = rand::rng();
    (0..64).map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0')).collect()
}
