//! The HTTP face: Docker Engine API v1.41, the Swarm part, with or without a version in the path.
//! Logs are answered as they stand; `follow` is not followed.
//!
//! Must not: hold the state's lock while it waits, or answer anything but Docker's shapes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::filter::Filters;
use super::logs::{self, Line, Wanted};
use super::world::{Refusal, Shared, State as TaskState, Task, Thing, UpdateStatus, World, object_id};
use super::{render, spec};

type Params = HashMap<String, String>;
type Answer = Result<Response, Refusal>;

pub fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(params): Query<Params>,
    body: Bytes,
) -> Response {
    let path: Vec<String> = uri.path().split('/').filter(|part| !part.is_empty()).map(decoded).collect();
    let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
    if path.first().is_some_and(|first| is_version(first)) {
        path.remove(0);
    }
    let answer = dispatch(&shared, &method, &path, &params, &body).await;
    let mut response = answer.unwrap_or_else(|refusal| {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(json!({"message": refusal.message}))).into_response()
    });
    let headers = response.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(render::API_VERSION));
    headers.insert("Ostype", HeaderValue::from_static(std::env::consts::OS));
    headers.insert(header::SERVER, HeaderValue::from_static("Houston-sandbox-engine (not Docker)"));
    response
}

async fn dispatch(
    shared: &Arc<Shared>,
    method: &Method,
    path: &[&str],
    params: &Params,
    body: &Bytes,
) -> Answer {
    match (method.as_str(), path) {
        ("GET" | "HEAD", ["_ping"]) => Ok("OK".into_response()),
        ("GET", ["version"]) => ok(render::version()),
        ("GET", ["info"]) => ok(shared.read(render::info)),
        ("GET", ["swarm"]) => ok(shared.read(render::swarm)),
        ("GET", ["nodes"]) => list_nodes(shared, params),
        ("GET", ["nodes", id]) => shared.read(|world| {
            let at = find_node(world, id)?;
            ok(render::node(&world.nodes[at], at == 0))
        }),
        ("POST", ["nodes", id, "update"]) => update_node(shared, id, params, body),
        ("GET", ["services"]) => list_services(shared, params),
        ("POST", ["services", "create"]) => {
            let id = shared.create_service(parse(body)?).await?;
            Ok((StatusCode::CREATED, axum::Json(json!({"ID": id}))).into_response())
        }
        ("GET", ["services", id]) => shared.read(|world| {
            let id = world.resolve_service(id)?;
            world
                .services
                .get(&id)
                .map_or_else(|| not_found(&id), |one| ok(render::service(world, one, false)))
        }),
        ("DELETE", ["services", id]) => remove_service(shared, id),
        ("POST", ["services", id, "update"]) => update_service(shared, id, params, body),
        ("GET", ["services", id, "logs"]) => service_logs(shared, id, params),
        ("GET", ["tasks"]) => list_tasks(shared, params),
        ("GET", ["tasks", id]) => shared.read(|world| ok(render::task(find_task(world, id)?))),
        ("GET", ["tasks", id, "logs"]) => {
            let wanted = wanted(params)?;
            let lines = shared.read(|world| find_task(world, id).map(|task| task.log.select(wanted)))?;
            Ok(stream(&lines, wanted.timestamps))
        }
        ("GET", ["containers", id, "json"]) => shared.read(|world| {
            let is = |task: &&Task| task.container.as_ref().is_some_and(|one| one.id.starts_with(id));
            let task = world.tasks.values().find(is);
            let container = task.and_then(|task| render::container(world, task));
            container.map_or_else(|| Err(Refusal::new(404, format!("No such container: {id}"))), ok)
        }),
        ("GET", ["images", "json"]) => ok(shared.options.images.keys().map(|tag| image(tag)).collect()),
        ("GET", ["images", name @ .., "json"]) => {
            let name = name.join("/");
            let key = spec::image_key(&name);
            match shared.options.images.contains_key(&key) {
                true => ok(image(&key)),
                false => Err(Refusal::new(404, format!("No such image: {name}"))),
            }
        }
        (_, [kind @ ("networks" | "secrets" | "configs"), rest @ ..]) => {
            let kind = ["networks", "secrets", "configs"].into_iter().find(|known| known == kind);
            things(shared, method, kind.unwrap_or("networks"), rest, params, body)
        }
        _ => Err(Refusal::new(404, "page not found")),
    }
}

// ---- services

fn list_services(shared: &Shared, params: &Params) -> Answer {
    let filters = Filters::parse(params.get("filters"))?.known(&["id", "name", "label", "mode"])?;
    let with_status = flag(params, "status");
    shared.read(|world| {
        let fits = |service: &&super::world::Service| {
            let mode = if service.spec.pointer("/Mode/Global").is_some() { "global" } else { "replicated" };
            filters.any("id", |id| service.id.starts_with(id))
                && filters.any("name", |name| spec::name(&service.spec).starts_with(name))
                && filters.any("mode", |wanted| wanted == mode)
                && filters.labels("label", service.spec.get("Labels"))
        };
        ok(world.services.values().filter(fits).map(|one| render::service(world, one, with_status)).collect())
    })
}

fn update_service(shared: &Shared, reference: &str, params: &Params, body: &Bytes) -> Answer {
    let version = version_of(params)?;
    let rollback = match params.get("rollback").map(String::as_str) {
        None | Some("") => false,
        Some("previous") => true,
        Some(_) => return Err(Refusal::new(400, "unrecognized rollback option")),
    };
    // With `rollback=previous` Docker ignores what the body says.
    let spec = if rollback { Value::Null } else { parse(body)? };
    if let (false, Some(problem)) = (rollback, spec::problem(&spec)) {
        return Err(Refusal::new(400, problem));
    }
    let now = shared.now();
    shared.change(|world| {
        let index = world.index;
        let id = world.resolve_service(reference)?;
        let service = world.services.get_mut(&id).ok_or_else(|| Refusal::new(404, "service not found"))?;
        if service.index != version {
            return Err(out_of_sequence());
        }
        if rollback {
            let previous = service.previous.take().ok_or_else(|| {
                let desc = format!("service {id} does not have a previous spec");
                Refusal::new(400, format!("rpc error: code = FailedPrecondition desc = {desc}"))
            })?;
            service.previous = Some(std::mem::replace(&mut service.spec, previous));
            service.update = Some(UpdateStatus {
                state: "rollback_started",
                started: now,
                completed: None,
                message: "manually requested rollback".to_owned(),
            });
        } else {
            if spec::name(&spec) != spec::name(&service.spec) {
                return Err(Refusal::new(
                    501,
                    "rpc error: code = Unimplemented desc = renaming services is not supported",
                ));
            }
            service.previous = Some(std::mem::replace(&mut service.spec, spec));
            service.update = None;
        }
        service.generation += 1;
        service.restarts.clear();
        (service.index, service.changed) = (index, now);
        ok(json!({"Warnings": null}))
    })
}

fn remove_service(shared: &Shared, reference: &str) -> Answer {
    shared.change(|world| {
        let id = world.resolve_service(reference)?;
        if let Some(service) = world.services.remove(&id) {
            service.gone.cancel();
        }
        let tasks: Vec<String> =
            world.tasks.values().filter(|task| task.service == id).map(|task| task.id.clone()).collect();
        for task in tasks {
            world.end_task(&task, TaskState::Remove);
        }
        Ok(StatusCode::OK.into_response())
    })
}

fn service_logs(shared: &Shared, reference: &str, params: &Params) -> Answer {
    let wanted = wanted(params)?;
    let mut lines = shared.read(|world| {
        let id = world.resolve_service(reference)?;
        let tasks = world.tasks.values().filter(|task| task.service == id);
        Ok(tasks.flat_map(|task| task.log.select(wanted)).collect::<Vec<Line>>())
    })?;
    lines.sort_by_key(|line| line.at);
    Ok(stream(&lines, wanted.timestamps))
}

// ---- tasks

fn list_tasks(shared: &Shared, params: &Params) -> Answer {
    let keys = ["id", "name", "service", "node", "desired-state", "label"];
    let filters = Filters::parse(params.get("filters"))?.known(&keys)?;
    if let Some(odd) = filters
        .values("desired-state")
        .iter()
        .find(|state| !matches!(state.as_str(), "running" | "shutdown" | "accepted"))
    {
        return Err(Refusal::new(400, format!("invalid filter 'desired-state={odd}'")));
    }
    shared.read(|world| {
        let fits = |task: &&Task| {
            let name = world.services.get(&task.service).map_or("", |service| spec::name(&service.spec));
            let host = task.node.as_ref().and_then(|id| world.nodes.iter().find(|node| node.id == *id));
            let desired = if task.desired == TaskState::Running { "running" } else { "shutdown" };
            filters.any("id", |id| task.id.starts_with(id))
                && filters.any("service", |service| service == task.service || service == name)
                && filters
                    .any("name", |wanted| format!("{name}.{}.{}", task.slot, task.id).starts_with(wanted))
                && filters
                    .any("node", |node| host.is_some_and(|host| host.id == node || host.hostname == node))
                && filters.any("desired-state", |state| state == desired)
                && filters.labels("label", None)
        };
        ok(world.tasks.values().filter(fits).map(render::task).collect())
    })
}

fn find_task<'a>(world: &'a World, reference: &str) -> Result<&'a Task, Refusal> {
    let mut starts = world.tasks.values().filter(|task| task.id.starts_with(reference));
    match (starts.next(), starts.next()) {
        (Some(task), None) => Ok(task),
        _ => Err(Refusal::new(404, format!("task {reference} not found"))),
    }
}

// ---- nodes

fn find_node(world: &World, reference: &str) -> Result<usize, Refusal> {
    let is = |node: &super::world::Node| node.id == reference || node.hostname == reference;
    let at = if reference == "self" { Some(0) } else { world.nodes.iter().position(is) };
    at.filter(|at| *at < world.nodes.len())
        .ok_or_else(|| Refusal::new(404, format!("node {reference} not found")))
}

fn list_nodes(shared: &Shared, params: &Params) -> Answer {
    let keys = ["id", "name", "role", "label", "node.label", "membership"];
    let filters = Filters::parse(params.get("filters"))?.known(&keys)?;
    shared.read(|world| {
        let nodes = world.nodes.iter().enumerate().filter(|(_, node)| {
            filters.any("id", |id| node.id.starts_with(id))
                && filters.any("name", |name| node.hostname.starts_with(name))
                && filters.any("role", |role| node.spec.get("Role").and_then(Value::as_str) == Some(role))
                && filters.labels("node.label", node.spec.get("Labels"))
        });
        ok(nodes.map(|(at, node)| render::node(node, at == 0)).collect())
    })
}

/// A node that is drained or comes back makes every service look again.
fn update_node(shared: &Shared, reference: &str, params: &Params, body: &Bytes) -> Answer {
    let version = version_of(params)?;
    let spec = parse(body)?;
    let availability = spec.get("Availability").and_then(Value::as_str);
    if !matches!(availability, Some("active" | "pause" | "drain")) {
        return Err(Refusal::new(400, "invalid Availability: it is active, pause or drain"));
    }
    shared.change(|world| {
        let at = find_node(world, reference)?;
        let index = world.index;
        let node = &mut world.nodes[at];
        if node.index != version {
            return Err(out_of_sequence());
        }
        (node.spec, node.index) = (spec, index);
        for service in world.services.values_mut() {
            service.generation += 1;
        }
        Ok(StatusCode::OK.into_response())
    })
}

// ---- networks, secrets, configs

fn things(
    shared: &Shared,
    method: &Method,
    kind: &'static str,
    rest: &[&str],
    params: &Params,
    body: &Bytes,
) -> Answer {
    let singular = kind.trim_end_matches('s');
    let name = |thing: &Thing| thing.spec.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
    let missing = |id: &str| Refusal::new(404, format!("{singular} {id} not found"));
    match (method.as_str(), rest) {
        ("GET", []) => {
            let filters = Filters::parse(params.get("filters"))?;
            shared.read(|world| {
                let all = world.things.get(kind).map_or(&[][..], Vec::as_slice);
                let fits = |thing: &&Thing| {
                    filters.any("id", |id| thing.id.starts_with(id))
                        && filters.any("name", |wanted| name(thing).starts_with(wanted))
                        && filters.labels("label", thing.spec.get("Labels"))
                };
                ok(all.iter().filter(fits).map(|thing| render::thing(kind, thing)).collect())
            })
        }
        ("POST", ["create"]) => {
            let spec = parse(body)?;
            let wanted = spec.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
            if wanted.is_empty() {
                return Err(Refusal::new(400, format!("a {singular} needs a Name")));
            }
            if kind == "configs" && spec.get("Data").and_then(Value::as_str).unwrap_or("").is_empty() {
                let desc = "config data must be larger than 0 and less than 1024000 bytes";
                return Err(Refusal::new(400, format!("rpc error: code = InvalidArgument desc = {desc}")));
            }
            let created = shared.now();
            let id = object_id();
            shared.change(|world| {
                let index = world.index;
                let all = world.things.entry(kind).or_default();
                if all.iter().any(|thing| name(thing) == wanted) {
                    let desc = format!("{singular} {wanted} already exists");
                    return Err(Refusal::new(409, format!("rpc error: code = AlreadyExists desc = {desc}")));
                }
                all.push(Thing { id: id.clone(), index, created, changed: created, spec });
                let key = if kind == "networks" { "Id" } else { "ID" };
                Ok((StatusCode::CREATED, axum::Json(json!({key: id}))).into_response())
            })
        }
        ("GET", [id]) => shared.read(|world| {
            let mut all = world.things.get(kind).into_iter().flatten();
            let thing = all.find(|thing| thing.id == *id || name(thing) == *id);
            ok(render::thing(kind, thing.ok_or_else(|| missing(id))?))
        }),
        ("DELETE", [id]) => shared.change(|world| {
            let all = world.things.entry(kind).or_default();
            let at = all.iter().position(|thing| thing.id == *id || name(thing) == *id);
            all.remove(at.ok_or_else(|| missing(id))?);
            Ok(StatusCode::NO_CONTENT.into_response())
        }),
        ("POST", [id, "update"]) if kind != "networks" => relabel(shared, kind, id, params, body),
        _ => Err(Refusal::new(404, "page not found")),
    }
}

/// Of secrets and configs only the labels change, under their version.
fn relabel(shared: &Shared, kind: &'static str, id: &str, params: &Params, body: &Bytes) -> Answer {
    let singular = kind.trim_end_matches('s');
    let version = params.get("version").and_then(|version| version.parse::<u64>().ok());
    let version = version.ok_or_else(|| Refusal::new(400, format!("invalid {singular} version")))?;
    let spec = parse(body)?;
    let now = shared.now();
    shared.change(|world| {
        let index = world.index;
        let all = world.things.entry(kind).or_default();
        let found = all.iter_mut().find(|thing| thing.id == id || thing.spec["Name"] == id);
        let thing = found.ok_or_else(|| Refusal::new(404, format!("{singular} {id} not found")))?;
        let data = spec.get("Data").filter(|data| !data.is_null());
        if spec.get("Name") != thing.spec.get("Name")
            || data.is_some_and(|data| thing.spec.get("Data") != Some(data))
        {
            let desc = "only updates to Labels are allowed";
            return Err(Refusal::new(400, format!("rpc error: code = InvalidArgument desc = {desc}")));
        }
        if thing.index != version {
            return Err(out_of_sequence());
        }
        thing.spec["Labels"] = spec.get("Labels").cloned().unwrap_or_else(|| json!({}));
        (thing.index, thing.changed) = (index, now);
        Ok(StatusCode::OK.into_response())
    })
}

// ---- small parts

fn ok(value: Value) -> Answer {
    Ok(axum::Json(value).into_response())
}

fn not_found(id: &str) -> Answer {
    Err(Refusal::new(404, format!("service {id} not found")))
}

fn out_of_sequence() -> Refusal {
    Refusal::new(500, "rpc error: code = Unknown desc = update out of sequence")
}

fn parse(body: &Bytes) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(400, format!("invalid JSON: {error}")))
}

fn version_of(params: &Params) -> Result<u64, Refusal> {
    let text = params.get("version").map_or("", String::as_str);
    text.parse().map_err(|_| Refusal::new(400, format!("invalid service version '{text}'")))
}

fn flag(params: &Params, key: &str) -> bool {
    params.get(key).is_some_and(|value| matches!(value.as_str(), "1" | "true" | "True"))
}

fn wanted(params: &Params) -> Result<Wanted, Refusal> {
    let (out, err) = (flag(params, "stdout"), flag(params, "stderr"));
    if !out && !err {
        return Err(Refusal::new(400, "Bad parameters: you must choose at least one stream"));
    }
    let seconds =
        params.get("since").and_then(|text| text.split('.').next()).and_then(|text| text.parse().ok());
    Ok(Wanted {
        out,
        err,
        tail: params.get("tail").and_then(|tail| tail.parse().ok()),
        since: Timestamp::from_second(seconds.unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH),
        timestamps: flag(params, "timestamps"),
    })
}

fn stream(lines: &[Line], timestamps: bool) -> Response {
    let mut bytes = Vec::new();
    for line in lines {
        logs::frame(line, timestamps, &mut bytes);
    }
    ([(header::CONTENT_TYPE, "application/vnd.docker.multiplexed-stream")], bytes).into_response()
}

fn image(tag: &str) -> Value {
    json!({"Id": format!("houston-sandbox:{tag}"), "RepoTags": [tag], "RepoDigests": [], "Size": 0})
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|version| {
        version.split('.').count() == 2 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

/// Percent-decoding of one part of a path. What is not valid stays as it was written.
fn decoded(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = part.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_the_path_is_told_from_a_name() {
        assert!(is_version("v1.41") && is_version("v1.24"));
        assert!(!is_version("version") && !is_version("v1") && !is_version("services"));
    }

    #[test]
    fn paths_are_decoded_and_broken_escapes_stay() {
        assert_eq!(decoded("a%2Fb"), "a/b");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
