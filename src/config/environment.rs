//! `environments/<name>.yaml`: hosts, the Swarm, services as declared, variables, approvals.
//!
//! Must not: look at the world. What runs there is the provider's to say.

mod backups;
mod hosts;
pub(crate) mod read;
mod services;
mod temporary;

pub use backups::{Backups, Keep, READ_ALL_IN_DAYS, Source, What};
pub use services::FIELDS;
pub use temporary::{Image, Reached, Rented, Temporary};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use jiff::tz::TimeZone;

use crate::config::maintenance;
use crate::config::window::Window;
use crate::diagnostic::Location;
use crate::ids::{EnvName, RoleName, ServiceName};
use crate::playbook::model::ApprovalPolicy;

/// One environment, checked.
#[derive(Clone, Debug)]
pub struct Environment {
    pub name: EnvName,
    pub at: Location,
    pub hosts: BTreeMap<String, Host>,
    /// Of `hosts`, those that are there only while a run has them.
    pub temporary: BTreeMap<String, Temporary>,
    pub swarm: Option<SwarmAccess>,
    pub backups: Option<Backups>,
    /// In the order of the file.
    pub services: Vec<Service>,
    pub variables: BTreeMap<String, String>,
    /// By command name; [`super::Config::approval`] adds the built-in defaults.
    pub approvals: BTreeMap<String, ApprovalPolicyRule>,
    /// Of times that people name here. Default: the configuration's.
    pub time_zone: TimeZone,
    pub freezes: Vec<Freeze>,
    pub maintenance: maintenance::Rules,
    /// Absent: [`super::Config::break_glass`].
    pub break_glass: Option<BreakGlassRule>,
}

/// Who may start without consent.
#[derive(Clone, Debug)]
pub struct BreakGlassRule {
    /// Empty: nobody.
    pub from: Vec<RoleName>,
    pub at: Location,
}

impl Environment {
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.iter().find(|s| &s.name == name)
    }
}

/// Times in which nothing that changes this environment begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    pub window: Window,
    pub reason: String,
    pub at: Location,
}

/// A rule of the file, with its place.
#[derive(Clone, Debug)]
pub struct ApprovalPolicyRule {
    /// Absent: this command needs no approval here.
    pub policy: Option<ApprovalPolicy>,
    pub at: Location,
}

/// A machine that Houston reaches over SSH.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    /// Host name or address.
    pub address: String,
    pub user: Option<String>,
    /// Default 22.
    pub port: u16,
    /// Private key file; absent: ssh's own defaults and agent.
    pub identity: Option<PathBuf>,
    /// `known_hosts` file; absent: the user's. Unknown or changed keys are always refused.
    pub known_hosts: Option<PathBuf>,
    /// `[user@]host[:port]`, first hop first.
    pub jump: Vec<String>,
    pub at: Location,
}

/// How the Docker Engine API of a Swarm manager is reached.
#[derive(Clone, Debug)]
pub enum SwarmAccess {
    /// A socket on this machine: `/var/run/docker.sock`.
    Socket(PathBuf),
    /// Names of `hosts`, tried in order; the socket on them (default `/var/run/docker.sock`).
    Managers { hosts: Vec<String>, socket: PathBuf },
}

/// A service as its environment file declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: ServiceName,
    /// The Swarm service's name; default: the service's own.
    pub swarm_name: String,
    /// Repository without tag: `registry.example.com/web`.
    pub image: String,
    /// The declared tag, or a digest `sha256:…`.
    pub version: String,
    pub replicas: Replicas,
    pub depends_on: Vec<ServiceName>,
    pub health: Option<HealthCheck>,
    pub update: UpdatePolicy,
    /// Swarm constraints: `node.labels.zone==a`.
    pub placement: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    pub networks: Vec<String>,
    /// argv, replacing the image's command.
    pub command: Option<Vec<String>>,
    /// Swarm's endpoint mode: `vip` (default) or `dnsrr`.
    pub endpoint_mode: EndpointMode,
    pub at: Location,
}

impl Service {
    /// `image:version`, or `image@sha256:…`.
    pub fn image_with(&self, version: &str) -> String {
        let joint = if version.starts_with("sha256:") { '@' } else { ':' };
        format!("{}{joint}{version}", self.image)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// What `deploy` creates a service with; a scaled service keeps its scale.
    pub count: u32,
    /// `scale` refuses less. Default 0.
    pub min: u32,
    /// `scale` refuses more. Default 20.
    pub max: u32,
}

/// An HTTP check of the service from outside, made after an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub url: String,
    /// Default 200.
    pub expect_status: u16,
    /// Must occur in the body. `{version}` in it is the version that was deployed.
    pub expect_body: Option<String>,
    /// Until it has to be so. Default 30 s.
    pub within: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    StartFirst,
    StopFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureAction {
    Rollback,
    Pause,
    Continue,
}

/// Swarm's update configuration; also used for its rollback.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdatePolicy {
    /// Default `start-first`.
    pub order: UpdateOrder,
    /// Tasks at a time. Default 1; 0 is all at once.
    pub parallelism: u32,
    /// Between batches. Default 0 s.
    pub delay: Duration,
    /// How long a new task is watched. Default 5 s.
    pub monitor: Duration,
    /// Default `rollback`.
    pub failure_action: FailureAction,
    /// Share of tasks that may fail, 0 to 1. Default 0.
    pub max_failure_ratio: f64,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            order: UpdateOrder::StartFirst,
            parallelism: 1,
            delay: Duration::ZERO,
            monitor: Duration::from_secs(5),
            failure_action: FailureAction::Rollback,
            max_failure_ratio: 0.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// On the host or the mesh; absent with `mode: host`: any free one.
    pub published: Option<u16>,
    /// In the container.
    pub target: u16,
    pub mode: PortMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMode {
    Ingress,
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointMode {
    #[default]
    Vip,
    Dnsrr,
}
