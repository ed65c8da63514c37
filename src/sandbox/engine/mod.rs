//! A stand-in for a Docker Swarm manager: the Swarm part of the Docker Engine API over a Unix socket,
//! for `houston demo` and for fast tests. It says that it is one in `GET /version` and `GET /info`.
//!
//! What it manages is real, only smaller: every task is a child process that serves HTTP on a loopback
//! port, has a health check and writes logs; updates, rollbacks and restarts follow the service's spec.
//! Written from Docker's published API and the behaviour of its orchestrator.
//!
//! Must not: pull images, run anything but [`Options::program`], listen beyond loopback, outlive its
//! owner (children end when [`Engine`] is stopped or dropped, or when this process dies).

mod api;
mod filter;
mod front;
mod logs;
mod orchestrate;
mod render;
mod runtime;
mod spec;
pub mod task;
mod world;

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use world::Shared;

/// What `Name`, `Platform` and `Components` of the engine say, so that nobody takes it for Docker.
pub const NAME: &str = "Houston sandbox engine (not Docker)";

/// The hidden subcommand of [`Options::program`] that is one task: [`task::main`].
pub const TASK_SUBCOMMAND: &str = "sandbox-task";

/// How long a task has after SIGTERM, and the connections through the front before it.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What the processes of one image do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Serves, and is healthy as soon as it listens.
    Healthy,
    /// Writes a few last lines to standard error and exits with 1.
    Crash,
    /// Serves, and answers its health check with 503 for ever.
    Unhealthy,
    /// Serves; its health check answers 503 for this many milliseconds.
    Slow(u64),
}

/// What an engine starts with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API listens. A socket file that is left over there is replaced.
    pub socket: PathBuf,
    /// The program whose subcommand [`TASK_SUBCOMMAND`] is a task: `std::env::current_exe()`, or in
    /// tests `env!("CARGO_BIN_EXE_houston")`.
    pub program: PathBuf,
    /// The images that exist, by `repository:tag`. A task of another one is rejected.
    pub images: BTreeMap<String, Behaviour>,
    /// The hostnames of the nodes; the first one is the leader. All are managers.
    pub nodes: Vec<String>,
    /// Service specs that are created at the start, as `POST /services/create` takes them.
    pub services: Vec<Value>,
    /// Where the front of a service listens (loopback). A service that is not named here gets a free port.
    pub fronts: BTreeMap<String, SocketAddr>,
    /// How many ended tasks of a slot are kept.
    pub history: usize,
    pub clock: Clock,
}

impl Options {
    /// Three nodes, no images, no services, the machine's clock.
    pub fn new(socket: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            program: program.into(),
            images: BTreeMap::new(),
            nodes: ["node1", "node2", "node3"].map(str::to_owned).to_vec(),
            services: Vec::new(),
            fronts: BTreeMap::new(),
            history: 5,
            clock: Clock::system(),
        }
    }

    #[must_use]
    pub fn image(mut self, reference: &str, behaviour: Behaviour) -> Self {
        self.images.insert(reference.to_owned(), behaviour);
        self
    }

    #[must_use]
    pub fn history(mut self, tasks: usize) -> Self {
        self.history = tasks;
        self
    }

    #[must_use]
    pub fn service(mut self, spec: Value) -> Self {
        self.services.push(spec);
        self
    }

    #[must_use]
    pub fn front(mut self, service: &str, address: SocketAddr) -> Self {
        self.fronts.insert(service.to_owned(), address);
        self
    }
}

/// A sensible spec for a sample service: start-first, one task at a time, watched for a second and
/// rolled back by itself.
pub fn service_spec(name: &str, image: &str, replicas: u64) -> Value {
    let update = json!({"Parallelism": 1, "Delay": 0, "FailureAction": "rollback", "Monitor": 1_000_000_000u64,
        "MaxFailureRatio": 0, "Order": "start-first"});
    let mut rollback = update.clone();
    rollback["FailureAction"] = json!("pause");
    json!({
        "Name": name,
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": image},
            "RestartPolicy": {"Condition": "any", "Delay": 500_000_000u64, "MaxAttempts": 0},
            "ForceUpdate": 0
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "UpdateConfig": update,
        "RollbackConfig": rollback,
        "EndpointSpec": {"Mode": "dnsrr", "Ports": [{"Protocol": "tcp", "TargetPort": 8080, "PublishMode": "host"}]}
    })
}

/// A running engine. Dropping it ends its children too, but less politely than [`Engine::stop`].
pub struct Engine {
    shared: Arc<Shared>,
    socket: PathBuf,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

/// Starts an engine. Returns when the socket listens and the services' fronts are bound; their tasks
/// are then still starting.
pub async fn start(options: Options) -> io::Result<Engine> {
    match std::fs::remove_file(&options.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&options.socket)?;
    let socket = options.socket.clone();
    let cancel = CancellationToken::new();
    let tracker = TaskTracker::new();
    let services = options.services.clone();
    let shared = Arc::new(Shared::new(options, cancel.clone(), tracker.clone()));
    let engine = Engine { shared: shared.clone(), socket, cancel: cancel.clone(), tracker };
    for spec in services {
        shared.create_service(spec).await.map_err(|refusal| io::Error::other(refusal.message))?;
    }
    let app = api::router(shared);
    engine.tracker.spawn(async move {
        let server = axum::serve(listener, app).into_future();
        tokio::select! {
            _ = server => {}
            () = cancel.cancelled() => {}
        }
    });
    Ok(engine)
}

impl Engine {
    /// The API's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where people reach the service: a loopback address that forwards new connections to its running
    /// tasks in turn. None if there is no such service.
    pub fn service_addr(&self, name: &str) -> Option<SocketAddr> {
        self.shared.front_of(name)
    }

    /// Ends every task (SIGTERM, then SIGKILL for what is left), then the API, and removes the socket.
    pub async fn stop(self) {
        self.shared.shutting_down();
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
