//! The engine's objects as the API's JSON.
//!
//! Must not: change anything.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::NAME;
use super::spec;
use super::world::{Node, Service, State, Task, Thing, World};

/// The API version that is spoken; any other prefix is taken as well.
pub const API_VERSION: &str = "1.41";

fn meta(id: &str, index: u64, created: Timestamp, updated: Timestamp) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("ID".into(), json!(id));
    map.insert("Version".into(), json!({"Index": index}));
    map.insert("CreatedAt".into(), json!(created.to_string()));
    map.insert("UpdatedAt".into(), json!(updated.to_string()));
    map
}

pub fn version() -> Value {
    json!({
        "Platform": {"Name": NAME},
        "Components": [{"Name": NAME, "Version": env!("CARGO_PKG_VERSION"), "Details": {}}],
        "Version": concat!(env!("CARGO_PKG_VERSION"), "-houston-sandbox"),
        "ApiVersion": API_VERSION,
        "MinAPIVersion": "1.24",
        "Os": std::env::consts::OS,
        "Arch": std::env::consts::ARCH,
    })
}

pub fn info(world: &World) -> Value {
    let leader = world.nodes.first();
    let managers: Vec<Value> =
        world.nodes.iter().map(|node| json!({"NodeID": node.id, "Addr": "127.0.0.1:2377"})).collect();
    let running = world.tasks.values().filter(|task| task.state == State::Running).count();
    json!({
        "ID": "HOUSTON:SANDBOX",
        "Name": NAME,
        "ServerVersion": concat!(env!("CARGO_PKG_VERSION"), "-houston-sandbox"),
        "OperatingSystem": NAME,
        "OSType": std::env::consts::OS,
        "Architecture": std::env::consts::ARCH,
        "Containers": running,
        "ContainersRunning": running,
        "Warnings": ["This is the Houston sandbox engine: its tasks are small local processes, not containers."],
        "Swarm": {
            "NodeID": leader.map_or("", |node| node.id.as_str()),
            "NodeAddr": "127.0.0.1",
            "LocalNodeState": "active",
            "ControlAvailable": true,
            "Error": "",
            "RemoteManagers": managers,
            "Nodes": world.nodes.len(),
            "Managers": world.nodes.len(),
            "Cluster": {"ID": "houstonsandbox0000cluster"},
        },
    })
}

pub fn swarm(world: &World) -> Value {
    let created = world.nodes.first().map_or(Timestamp::UNIX_EPOCH, |node| node.created);
    let mut map = meta("houstonsandbox0000cluster", 1, created, created);
    map.insert(
        "Spec".into(),
        json!({"Name": "default", "Labels": {}, "Orchestration": {"TaskHistoryRetentionLimit": 5}}),
    );
    Value::Object(map)
}

pub fn node(node: &Node, leader: bool) -> Value {
    let mut map = meta(&node.id, node.index, node.created, node.created);
    map.insert("Spec".into(), node.spec.clone());
    let engine = json!({"EngineVersion": concat!(env!("CARGO_PKG_VERSION"), "-houston-sandbox")});
    map.insert(
        "Description".into(),
        json!({
            "Hostname": node.hostname,
            "Platform": {"Architecture": std::env::consts::ARCH, "OS": std::env::consts::OS},
            "Resources": {"NanoCPUs": 2_000_000_000u64, "MemoryBytes": 4_294_967_296u64},
            "Engine": engine,
        }),
    );
    map.insert("Status".into(), json!({"State": "ready", "Addr": "127.0.0.1"}));
    map.insert(
        "ManagerStatus".into(),
        if leader {
            json!({"Leader": true, "Reachability": "reachable", "Addr": "127.0.0.1:2377"})
        } else {
            json!({"Reachability": "reachable", "Addr": "127.0.0.1:2377"})
        },
    );
    Value::Object(map)
}

pub fn service(world: &World, service: &Service, with_status: bool) -> Value {
    let mut map = meta(&service.id, service.index, service.created, service.changed);
    map.insert("Spec".into(), service.spec.clone());
    if let Some(previous) = &service.previous {
        map.insert("PreviousSpec".into(), previous.clone());
    }
    let endpoint = service.spec.get("EndpointSpec").cloned().unwrap_or_else(|| json!({}));
    let ports = endpoint.get("Ports").cloned().unwrap_or_else(|| json!([]));
    map.insert("Endpoint".into(), json!({"Spec": endpoint, "Ports": ports}));
    if let Some(update) = &service.update {
        let mut status = json!({
            "State": update.state,
            "StartedAt": update.started.to_string(),
            "Message": update.message,
        });
        if let Some(completed) = update.completed {
            status["CompletedAt"] = json!(completed.to_string());
        }
        map.insert("UpdateStatus".into(), status);
    }
    if with_status {
        let count = |state| {
            world.tasks.values().filter(|task| task.service == service.id && task.state == state).count()
        };
        map.insert(
            "ServiceStatus".into(),
            json!({
                "RunningTasks": count(State::Running),
                "DesiredTasks": spec::replicas(&service.spec, world.active_nodes()),
                "CompletedTasks": count(State::Complete),
            }),
        );
    }
    Value::Object(map)
}

pub fn task(task: &Task) -> Value {
    let mut map = meta(&task.id, task.index, task.created, task.changed);
    let template = task.part.get("TaskTemplate").cloned().unwrap_or(Value::Null);
    map.insert("Labels".into(), json!({}));
    map.insert("Spec".into(), template);
    map.insert("ServiceID".into(), json!(task.service));
    map.insert("Slot".into(), json!(task.slot));
    if let Some(node) = &task.node {
        map.insert("NodeID".into(), json!(node));
    }
    let mut status = json!({
        "Timestamp": task.changed.to_string(),
        "State": task.state.name(),
        "Message": task.message,
    });
    if !task.error.is_empty() {
        status["Err"] = json!(task.error);
    }
    if let Some(container) = &task.container {
        status["ContainerStatus"] = json!({
            "ContainerID": container.id,
            "PID": if container.exit.is_none() { container.pid } else { 0 },
            "ExitCode": container.exit.unwrap_or(0),
        });
    }
    status["PortStatus"] = match task.port {
        Some(port) => json!({"Ports": [{
            "Protocol": "tcp",
            "TargetPort": task.part.pointer("/Ports/0/TargetPort").and_then(Value::as_u64).unwrap_or(8080),
            "PublishedPort": port,
            "PublishMode": "host",
        }]}),
        None => json!({}),
    };
    map.insert("Status".into(), status);
    map.insert("DesiredState".into(), json!(task.desired.name()));
    Value::Object(map)
}

/// A task's process as `GET /containers/{id}/json` shows a container; None before it was started.
pub fn container(world: &World, task: &Task) -> Option<Value> {
    let container = task.container.as_ref()?;
    let running = container.exit.is_none();
    let mut state = json!({
        "Status": if running { "running" } else { "exited" },
        "Running": running,
        "Pid": if running { container.pid } else { 0 },
        "ExitCode": container.exit.unwrap_or(0),
    });
    if let Some(health) = container.health {
        state["Health"] = json!({"Status": health, "FailingStreak": container.failing_streak, "Log": []});
    }
    let service = world.services.get(&task.service).map_or("", |service| spec::name(&service.spec));
    Some(json!({
        "Id": container.id,
        "Created": task.created.to_string(),
        "Name": format!("/{service}.{}.{}", task.slot, task.id),
        "State": state,
        "Image": spec::image(&task.part),
        "Config": {
            "Image": spec::image(&task.part),
            "Labels": {
                "com.docker.swarm.service.id": task.service,
                "com.docker.swarm.service.name": service,
                "com.docker.swarm.task.id": task.id,
                "com.docker.swarm.node.id": task.node,
            },
        },
    }))
}

/// A network, secret or config. The data of a secret is never shown, as Docker never does.
pub fn thing(kind: &str, thing: &Thing) -> Value {
    if kind == "networks" {
        let mut network = thing.spec.clone();
        network["Id"] = json!(thing.id);
        network["Created"] = json!(thing.created.to_string());
        network["Scope"] = json!("swarm");
        return network;
    }
    let mut spec = thing.spec.clone();
    if let (true, Some(spec)) = (kind == "secrets", spec.as_object_mut()) {
        spec.shift_remove("Data");
    }
    let mut map = meta(&thing.id, thing.index, thing.created, thing.changed);
    map.insert("Spec".into(), spec);
    Value::Object(map)
}
