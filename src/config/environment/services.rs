//! `services:` of an environment file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    EndpointMode, FailureAction, HealthCheck, Port, PortMode, Replicas, Service, UpdateOrder, UpdatePolicy,
};
use crate::command::is_version;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::ServiceName;
use crate::text;
use crate::yaml::{Key, Node, Value};

/// `max` of a service that does not say it.
const DEFAULT_MAX: u32 = 20;
/// More tasks of one service than anybody means.
const MOST_REPLICAS: i64 = 1000;

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Vec<Service> {
    let entries = node.entries(found).unwrap_or_default();
    let services: Vec<Service> = entries.iter().filter_map(|(key, node)| service(key, node, found)).collect();
    // Dependencies are looked up among all names, so that a service with another mistake is still known.
    let names: Vec<&str> = entries.iter().map(|(key, _)| &*key.name).collect();
    check_dependencies(&services, entries, &names, found);
    check_uniqueness(&services, found);
    services
}

fn service(key: &Key, node: &Node, found: &mut Diagnostics) -> Option<Service> {
    super::read::check_name("service", &key.name, &key.at, found);
    let mut map = node.map(found)?;
    let image = map.need("image", "the image without its tag: registry.example.com/web", found);
    let image = image.and_then(|node| image_name(node, found));
    let version = map.need("version", "the tag or digest that should run, in quotes: \"1.7\"", found);
    let version = version.and_then(|node| version_text(node, found));
    let swarm_name = map.take("swarm_name").and_then(|node| Some((node.text(found)?.to_owned(), &node.at)));
    if let Some((name, at)) = &swarm_name {
        super::read::check_name("Swarm service", name, at, found);
    }
    let texts = |node: Option<&Node>, found: &mut Diagnostics| -> Vec<String> {
        let list = node.and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
        list.into_iter().map(|(text, _)| text).collect()
    };
    let service = Service {
        name: ServiceName::from(&*key.name),
        swarm_name: swarm_name.map_or_else(|| key.name.to_string(), |(name, _)| name),
        image: String::new(),
        version: String::new(),
        replicas: replicas(map.take("replicas"), found),
        depends_on: texts(map.take("depends_on"), found).into_iter().map(ServiceName::from).collect(),
        health: map.take("health").and_then(|node| health(node, found)),
        update: map.take("update").map_or_else(UpdatePolicy::default, |node| update(node, found)),
        placement: placement(map.take("placement"), found),
        environment: map.take("environment").map(|node| variables(node, found)).unwrap_or_default(),
        ports: map.take("ports").map(|node| ports(node, found)).unwrap_or_default(),
        networks: texts(map.take("networks"), found),
        command: map.take("command").and_then(|node| node.argv(found)),
        endpoint_mode: map
            .take("endpoint_mode")
            .and_then(|n| n.choice(&[("vip", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)], found))
            .unwrap_or_default(),
        at: key.at.clone(),
    };
    map.finish(found);
    if service.endpoint_mode == EndpointMode::Dnsrr
        && service.ports.iter().any(|port| port.mode == PortMode::Ingress)
    {
        found.push(
            Diagnostic::error(key.at.clone(), format!("`{}` publishes ports and uses `dnsrr`", key.name))
                .hint("Swarm publishes ports of such services only with {mode: host}"),
        );
    }
    // With a mistake in it nothing is loaded, but its dependencies are looked at all the same.
    Some(Service { image: image.unwrap_or_default(), version: version.unwrap_or_default(), ..service })
}

fn image_name(node: &Node, found: &mut Diagnostics) -> Option<String> {
    let image = node.text(found)?.trim();
    let last = image.rsplit('/').next().unwrap_or(image);
    if let Some((name, tag)) = image.split_once('@').or_else(|| last.split_once(':')) {
        let bare = image.strip_suffix(tag).map_or(name, |rest| rest.trim_end_matches(['@', ':']));
        found.push(
            node.expected("the image without its version")
                .hint(format!("write image: {bare} and version: \"{tag}\"")),
        );
        return None;
    }
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/:".contains(c);
    // The registry's host may have capitals and a port; the rest may not.
    let repository = image.split_once('/').filter(|(host, _)| host.contains(['.', ':']));
    let repository = repository.map_or(image, |(_, repository)| repository);
    if !repository.chars().all(good) || repository.split('/').any(str::is_empty) {
        found.push(node.expected("an image").hint("lower-case letters, digits, `.`, `_`, `-` and `/`"));
        return None;
    }
    Some(image.to_owned())
}

fn version_text(node: &Node, found: &mut Diagnostics) -> Option<String> {
    let version = node.text(found)?.trim();
    if !is_version(version) {
        found.push(
            node.expected("a tag or a digest")
                .hint("a tag has letters, digits, `.`, `_` and `-`; a digest is sha256: and 64 digits"),
        );
        return None;
    }
    if version == "latest" {
        found.push(
            Diagnostic::warning(node.at.clone(), "`latest` is not a version that one can return to")
                .hint("name the release: then `status` shows drift and `rollback` finds the last one"),
        );
    }
    Some(version.to_owned())
}

/// A number, or `{count, min, max}`.
fn replicas(node: Option<&Node>, found: &mut Diagnostics) -> Replicas {
    let mut replicas = Replicas { count: 1, min: 0, max: DEFAULT_MAX };
    let Some(node) = node else { return replicas };
    let number = |node: &Node, found: &mut Diagnostics| {
        node.integer(0..=MOST_REPLICAS, found).and_then(|n| u32::try_from(n).ok())
    };
    let Value::Map(_) = node.value else {
        if let Some(count) = number(node, found) {
            replicas.count = count;
            replicas.max = DEFAULT_MAX.max(count);
        }
        return replicas;
    };
    let Some(mut map) = node.map(found) else { return replicas };
    let count = map.take("count").and_then(|node| number(node, found));
    let min = map.take("min").and_then(|node| number(node, found));
    let max = map.take("max").and_then(|node| number(node, found));
    map.finish(found);
    replicas.min = min.unwrap_or(0);
    replicas.count = count.unwrap_or_else(|| replicas.min.max(1));
    replicas.max = max.unwrap_or_else(|| DEFAULT_MAX.max(replicas.count).max(replicas.min));
    let Replicas { count, min, max } = replicas;
    let problem = if min > max {
        Some(format!("`min` {min} is more than `max` {max}"))
    } else if count < min {
        Some(format!("`count` {count} is less than `min` {min}"))
    } else if count > max {
        Some(format!("`count` {count} is more than `max` {max}"))
    } else {
        None
    };
    if let Some(problem) = problem {
        found.push(Diagnostic::error(node.at.clone(), problem).hint("min ≤ count ≤ max"));
    }
    replicas
}

fn health(node: &Node, found: &mut Diagnostics) -> Option<HealthCheck> {
    let mut map = node.map(found)?;
    let url = map.need("url", "the address that answers when the service is well", found);
    let url = url.and_then(|node| {
        let url = node.text(found)?;
        let http = url::Url::parse(&url.replace("{version}", "0"))
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !http {
            found.push(node.expected("an address").hint("it begins with http:// or https://"));
        }
        http.then(|| url.to_owned())
    });
    let status = map.take("expect_status").and_then(|node| node.integer(100..=599, found));
    let expect_body = map.take("expect_body").and_then(|node| Some(node.text(found)?.to_owned()));
    let second = Duration::from_secs(1);
    let within = map.take("within").and_then(|node| node.duration(second..=second * 3600, found));
    map.finish(found);
    Some(HealthCheck {
        url: url?,
        expect_status: status.and_then(|n| u16::try_from(n).ok()).unwrap_or(200),
        expect_body,
        within: within.unwrap_or(second * 30),
    })
}

fn update(node: &Node, found: &mut Diagnostics) -> UpdatePolicy {
    let mut policy = UpdatePolicy::default();
    let Some(mut map) = node.map(found) else { return policy };
    let up_to_an_hour = Duration::ZERO..=Duration::from_secs(3600);
    let orders = [("start-first", UpdateOrder::StartFirst), ("stop-first", UpdateOrder::StopFirst)];
    if let Some(order) = map.take("order").and_then(|n| n.choice(&orders, found)) {
        policy.order = order;
    }
    if let Some(n) = map.take("parallelism").and_then(|n| n.integer(0..=MOST_REPLICAS, found)) {
        policy.parallelism = u32::try_from(n).unwrap_or(u32::MAX);
    }
    if let Some(delay) = map.take("delay").and_then(|n| n.duration(up_to_an_hour.clone(), found)) {
        policy.delay = delay;
    }
    if let Some(monitor) = map.take("monitor").and_then(|n| n.duration(up_to_an_hour.clone(), found)) {
        policy.monitor = monitor;
    }
    let actions = [
        ("rollback", FailureAction::Rollback),
        ("pause", FailureAction::Pause),
        ("continue", FailureAction::Continue),
    ];
    if let Some(action) = map.take("failure_action").and_then(|n| n.choice(&actions, found)) {
        policy.failure_action = action;
    }
    if let Some(ratio) = map.take("max_failure_ratio").and_then(|n| n.ratio(found)) {
        policy.max_failure_ratio = ratio;
    }
    map.finish(found);
    policy
}

/// Swarm's constraints: `node.role==manager`, `node.labels.zone!=a`.
fn placement(node: Option<&Node>, found: &mut Diagnostics) -> Vec<String> {
    let list = node.and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
    list.into_iter()
        .filter_map(|(constraint, at)| {
            let parts = constraint.split_once("==").or_else(|| constraint.split_once("!="));
            let good = parts.is_some_and(|(what, value)| {
                (what.trim().starts_with("node.") || what.trim().starts_with("engine."))
                    && !value.trim().is_empty()
            });
            if !good {
                found.push(
                    Diagnostic::error(at, format!("`{constraint}` is not a constraint"))
                        .hint("for example node.labels.zone==a, or node.role!=manager"),
                );
            }
            good.then_some(constraint)
        })
        .collect()
}

/// Name → value; numbers and truth values count as they are written.
pub(super) fn variables(node: &Node, found: &mut Diagnostics) -> BTreeMap<String, String> {
    if let Value::List(_) = node.value {
        found.push(node.expected("a mapping").hint("write NAME: value, not - NAME=value"));
        return BTreeMap::new();
    }
    let entries = node.entries(found).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(key, node)| {
            if node.is_null() {
                return Some((key.name.to_string(), String::new()));
            }
            Some((key.name.to_string(), node.scalar(found)?))
        })
        .collect()
}

fn ports(node: &Node, found: &mut Diagnostics) -> Vec<Port> {
    node.list(found).unwrap_or_default().iter().filter_map(|node| port(node, found)).collect()
}

/// `"8080:80"`, `80`, or `{published, target, mode}`.
fn port(node: &Node, found: &mut Diagnostics) -> Option<Port> {
    if let Value::Map(_) = node.value {
        let mut map = node.map(found)?;
        let number = |node: &Node, found: &mut Diagnostics| {
            node.integer(1..=65_535, found).and_then(|n| u16::try_from(n).ok())
        };
        let target = map.need("target", "the port in the container", found);
        let target = target.and_then(|node| number(node, found));
        let published = map.take("published").and_then(|node| number(node, found));
        let mode = map
            .take("mode")
            .and_then(|n| n.choice(&[("ingress", PortMode::Ingress), ("host", PortMode::Host)], found))
            .unwrap_or(PortMode::Ingress);
        map.finish(found);
        return Some(Port { published, target: target?, mode });
    }
    let written = match &node.value {
        Value::Integer(_, written) | Value::Text(written) => written.as_str(),
        _ => "",
    };
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let parsed = match written.split_once(':') {
        Some((published, target)) => port(published).zip(port(target)).map(|(p, t)| (Some(p), t)),
        None => port(written).map(|target| (None, target)),
    };
    let Some((published, target)) = parsed else {
        found.push(
            node.expected("a port")
                .hint("write \"8080:80\" (published:container), or {target: 80, mode: host}"),
        );
        return None;
    };
    Some(Port { published, target, mode: PortMode::Ingress })
}

fn check_dependencies(
    services: &[Service],
    entries: &[(Key, Node)],
    names: &[&str],
    found: &mut Diagnostics,
) {
    let by_name: BTreeMap<&str, &Service> = services.iter().map(|s| (s.name.as_str(), s)).collect();
    for service in services {
        for dependency in &service.depends_on {
            if names.contains(&dependency.as_str()) {
                continue;
            }
            let at = dependency_place(entries, service, dependency).unwrap_or_else(|| service.at.clone());
            let finding = Diagnostic::error(
                at,
                format!(
                    "`{}` depends on `{dependency}`, which is not a service of this environment",
                    service.name
                ),
            );
            found.push(match text::did_you_mean(dependency.as_str(), names.iter().copied()) {
                Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                None => finding.hint(format!("services are {}", text::and_list(names))),
            });
        }
    }
    for cycle in cycles(services, &by_name) {
        let at = by_name.get(cycle[0]).map(|service| service.at.clone());
        found.push(
            Diagnostic::error(
                at,
                format!("services depend on each other in a circle: {}", cycle.join(" → ")),
            )
            .hint("take one of these out of `depends_on`"),
        );
    }
}

fn dependency_place(
    entries: &[(Key, Node)],
    service: &Service,
    dependency: &ServiceName,
) -> Option<Location> {
    let (_, node) = entries.iter().find(|(key, _)| *key.name == *service.name.as_str())?;
    let Value::Map(keys) = &node.value else { return None };
    let (_, list) = keys.iter().find(|(key, _)| &*key.name == "depends_on")?;
    match &list.value {
        Value::List(items) => items
            .iter()
            .find(|item| matches!(&item.value, Value::Text(text) if text == dependency.as_str()))
            .map(|item| item.at.clone()),
        _ => Some(list.at.clone()),
    }
}

/// Each circle once, beginning and ending with the same name. Without recursion: the file may be hostile.
fn cycles<'s>(services: &'s [Service], by_name: &BTreeMap<&'s str, &'s Service>) -> Vec<Vec<&'s str>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        OnPath,
        Done,
    }
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    let mut cycles = Vec::new();
    for start in services {
        // The path from `start`, each with the index of the dependency that is looked at next.
        let mut path: Vec<(&Service, usize)> = Vec::new();
        if marks.contains_key(start.name.as_str()) {
            continue;
        }
        marks.insert(start.name.as_str(), Mark::OnPath);
        path.push((start, 0));
        while let Some((service, next)) = path.last_mut() {
            let Some(dependency) = service.depends_on.get(*next) else {
                marks.insert(service.name.as_str(), Mark::Done);
                path.pop();
                continue;
            };
            *next += 1;
            let Some(dependency) = by_name.get(dependency.as_str()) else { continue };
            match marks.get(dependency.name.as_str()) {
                Some(Mark::Done) => {}
                Some(Mark::OnPath) => {
                    let from = path.iter().position(|(s, _)| s.name == dependency.name).unwrap_or(0);
                    let mut cycle: Vec<&str> = path[from..].iter().map(|(s, _)| s.name.as_str()).collect();
                    cycle.push(dependency.name.as_str());
                    cycles.push(cycle);
                }
                None => {
                    marks.insert(dependency.name.as_str(), Mark::OnPath);
                    path.push((dependency, 0));
                }
            }
        }
    }
    cycles
}

/// Two services must not be one for the Swarm, nor publish one port.
fn check_uniqueness(services: &[Service], found: &mut Diagnostics) {
    let mut names: BTreeMap<&str, &Service> = BTreeMap::new();
    let mut published: BTreeMap<u16, &Service> = BTreeMap::new();
    for service in services {
        if let Some(first) = names.insert(&service.swarm_name, service) {
            found.push(
                Diagnostic::error(
                    service.at.clone(),
                    format!(
                        "`{}` and `{}` are both the Swarm service `{}`",
                        first.name, service.name, service.swarm_name
                    ),
                )
                .hint("give one of them another `swarm_name`"),
            );
        }
        for port in service.ports.iter().filter(|port| port.mode == PortMode::Ingress) {
            let Some(number) = port.published else { continue };
            if let Some(first) = published.insert(number, service) {
                found.push(
                    Diagnostic::error(
                        service.at.clone(),
                        format!("`{}` and `{}` both publish port {number}", first.name, service.name),
                    )
                    .hint("a port of the Swarm belongs to one service"),
                );
            }
        }
    }
}

/// Fields of a declared service, as templates may name them.
pub const FIELDS: &[&str] = &[
    "name",
    "swarm_name",
    "image",
    "version",
    "replicas",
    "depends_on",
    "health",
    "update",
    "placement",
    "environment",
    "ports",
    "networks",
    "command",
    "endpoint_mode",
    "at",
];
