//! What an environment looks like now, beside what its file declares. Data only; how it reads in a room is
//! not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Node, Service, Swarm, SwarmError, Task, UpdateStatus, spec};
use crate::clock::Clock;
use crate::config::environment::{Environment, Service as Declared};

#[derive(Clone, Debug)]
pub struct EnvironmentStatus {
    /// The manager that answered.
    pub manager: String,
    pub nodes: Vec<NodeStatus>,
    /// The declared services in the order of the file, then others of the Swarm by name.
    pub services: Vec<ServiceStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub node: Node,
    /// Tasks that run on it.
    pub tasks: usize,
}

impl NodeStatus {
    /// Ready and taking tasks.
    pub fn is_well(&self) -> bool {
        self.node.state == "ready" && self.node.availability == "active"
    }
}

#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// As the environment file calls it; the Swarm's name for one that it does not declare.
    pub name: String,
    pub declared: bool,
    /// False: declared, but not there.
    pub exists: bool,
    pub wanted: u64,
    pub running: u64,
    /// Without the digest of a resolved tag. Empty when it does not exist.
    pub image: String,
    pub version: String,
    pub declared_version: Option<String>,
    /// The running image is not the declared one.
    pub drift: bool,
    /// What else is not as declared: `ports`, `update policy`, … Replicas only beyond their limits, since
    /// scaling within them is no drift.
    pub differs: Vec<String>,
    /// Since the last change of the service.
    pub age: Option<Duration>,
    pub changed_at: Option<Timestamp>,
    pub update: Option<UpdateStatus>,
    /// Of the newest failed task whose slot does not run: why.
    pub failure: Option<String>,
    /// The effect token of the run that changed it last, where Houston did.
    pub run: Option<String>,
}

impl ServiceStatus {
    /// All wanted tasks run what is declared, and no update hangs.
    pub fn is_well(&self) -> bool {
        let settled = self.update.as_ref().is_none_or(|u| {
            use super::UpdateState::{Completed, RollbackCompleted};
            matches!(u.state, Completed | RollbackCompleted)
        });
        self.exists && self.running == self.wanted && !self.drift && self.differs.is_empty() && settled
    }
}

/// Looks at the whole Swarm: three requests, however many services there are.
pub async fn status(
    swarm: &Swarm,
    environment: &Environment,
    clock: &Clock,
) -> Result<EnvironmentStatus, SwarmError> {
    let (services, tasks, nodes) = tokio::try_join!(swarm.services(), swarm.all_tasks(), swarm.nodes())?;
    let networks = match environment.services.iter().any(|service| !service.networks.is_empty()) {
        true => swarm.networks().await?,
        false => Vec::new(),
    };
    let now = clock.now();
    let mut running_on: BTreeMap<&str, usize> = BTreeMap::new();
    for task in tasks.iter().filter(|t| t.is_running()) {
        if let Some(node) = &task.node_id {
            *running_on.entry(node).or_default() += 1;
        }
    }
    let mut nodes: Vec<NodeStatus> = nodes
        .iter()
        .map(|n| NodeStatus { node: n.clone(), tasks: running_on.get(n.id.as_str()).copied().unwrap_or(0) })
        .collect();
    nodes.sort_by(|a, b| a.node.hostname.cmp(&b.node.hostname).then_with(|| a.node.id.cmp(&b.node.id)));

    let mut all = Vec::new();
    for declared in &environment.services {
        let found = services.iter().find(|s| s.name == declared.swarm_name);
        let mut one = one_service(declared.name.as_str(), found, &tasks, now);
        one.declared = true;
        one.declared_version = Some(declared.version.clone());
        let wanted_image = declared.image_with(&declared.version);
        one.drift = found.is_some_and(|s| !same_image(s.image(), &wanted_image));
        one.differs = found.map(|service| differences(service, declared, &networks)).unwrap_or_default();
        if found.is_none() {
            one.wanted = u64::from(declared.replicas.count);
        }
        all.push(one);
    }
    let is_declared = |s: &Service| environment.services.iter().any(|d| d.swarm_name == s.name);
    let mut others: Vec<&Service> = services.iter().filter(|s| !is_declared(s)).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    all.extend(others.into_iter().map(|s| one_service(&s.name, Some(s), &tasks, now)));
    Ok(EnvironmentStatus { manager: swarm.manager().to_owned(), nodes, services: all })
}

/// A declared tag equals the same tag with a resolved digest; a declared digest must be that digest.
/// What of a service is not as its file says, leaving its image aside.
fn differences(service: &Service, declared: &Declared, networks: &[(String, String)]) -> Vec<String> {
    let mut wanted = service.spec.clone();
    spec::declare(&mut wanted, declared, spec::version(service.image()), networks);
    let changes = spec::changes(Some(&service.spec), &wanted, networks);
    let mut differs: Vec<String> =
        changes.into_iter().map(|change| change.what).filter(|what| what != "image").collect();
    let limits = u64::from(declared.replicas.min)..=u64::from(declared.replicas.max);
    if service.replicas().is_some_and(|replicas| !limits.contains(&replicas)) {
        differs.push("replicas".to_owned());
    }
    differs.dedup();
    differs
}

pub(super) fn same_image(running: &str, declared: &str) -> bool {
    running == declared || spec::short_image(running) == declared || {
        match (running.split_once('@'), declared.split_once('@')) {
            (Some((_, running)), Some((_, declared))) => running == declared,
            _ => false,
        }
    }
}

fn one_service(name: &str, service: Option<&Service>, tasks: &[Task], now: Timestamp) -> ServiceStatus {
    let mine: Vec<&Task> =
        service.map_or_else(Vec::new, |s| tasks.iter().filter(|t| t.service_id == s.id).collect());
    // A slot counts once: an update that starts first has an old and a new task in it.
    let slots = |pick: &dyn Fn(&Task) -> bool| {
        mine.iter().filter(|t| pick(t)).map(|t| t.place()).collect::<BTreeSet<_>>()
    };
    let runs = slots(&Task::is_running);
    let should_run = slots(&|t| t.desired == "running").len() as u64;
    let failed = mine.iter().filter(|t| {
        (t.has_failed() || t.state == "pending") && t.error.is_some() && !runs.contains(&t.place())
    });
    let age = service.and_then(|s| s.updated_at).and_then(|t| Duration::try_from(now.duration_since(t)).ok());
    ServiceStatus {
        name: name.to_owned(),
        declared: false,
        exists: service.is_some(),
        wanted: service.map_or(0, |s| s.replicas().unwrap_or(should_run)),
        running: runs.len() as u64,
        image: service.map(|s| spec::short_image(s.image()).to_owned()).unwrap_or_default(),
        version: service.map(|s| spec::version(s.image()).to_owned()).unwrap_or_default(),
        declared_version: None,
        drift: false,
        differs: Vec::new(),
        age,
        changed_at: service.and_then(|s| s.updated_at),
        update: service.and_then(|s| s.update.clone()),
        failure: failed.max_by_key(|t| t.created_at).and_then(|t| t.error.clone()),
        run: service.and_then(|s| s.label(spec::LABEL_RUN)).map(str::to_owned),
    }
}
