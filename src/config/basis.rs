//! What of the configuration a plan rests on: its command, its playbook, its approval, its environment as far
//! as it is about it. Everything else may change without touching the plan.
//!
//! Must not: depend on where in a file something stands, or on comments, except in the playbook, whose digest
//! people see.

use serde::Serialize;

use super::Config;
use super::environment::{Environment, Service};
use crate::chat::spec::Argument;
use crate::diagnostic::Location;
use crate::digest::Digest;
use crate::playbook::model::{Basis, Plan};

impl Config {
    /// Equal for two configurations when `plan` means the same under both.
    pub fn basis(&self, plan: &Plan) -> Basis {
        let mut basis = Basis::default();
        if let Some(command) = self.commands.iter().find(|command| command.name == plan.command_name) {
            let argument = |a: &Argument| format!("{:?}", (&a.name, &a.kind, a.required, &a.default));
            let schema: Vec<String> = command.arguments.iter().chain(&command.flags).map(argument).collect();
            let seen = format!("{:?}", (command.changes, &command.action, schema));
            basis.insert(format!("command {}", command.name), short(&seen));
        }
        if let Some(playbook) = self.playbooks.get(&plan.playbook) {
            basis.insert(format!("playbook {}", playbook.name), playbook.digest.short());
        }
        let Some(environment) = plan.environment.as_ref().and_then(|name| self.environments.get(name)) else {
            return basis;
        };
        if let Some(mut policy) = self.approval(&environment.name, &plan.command_name) {
            policy.rule.clear();
            basis.insert(format!("approval in {}", environment.name), short(&format!("{policy:?}")));
        }
        if plan.break_glass.is_some() {
            let may = format!("{:?}", self.may_break_glass(&environment.name));
            basis.insert(format!("break-glass in {}", environment.name), short(&may));
        }
        basis.insert(format!("hosts of {}", environment.name), short(&environment.reached()));
        basis.insert(
            format!("variables of {}", environment.name),
            short(&format!("{:?}", environment.variables)),
        );
        let whole = plan.locks.iter().any(|lock| lock.service.is_none());
        let about = |service: &&Service| {
            whole || plan.locks.iter().any(|lock| lock.service.as_ref() == Some(&service.name))
        };
        for service in environment.services.iter().filter(about) {
            basis.insert(format!("service {}", service.name), declared(service));
        }
        basis
    }
}

/// `1.8 (a1b2c3d4)`: what people look at first, and a digest of all the rest.
pub(super) fn declared(service: &Service) -> String {
    let service = Service { at: Location::new("", 0, 0), ..service.clone() };
    format!("{} ({})", service.version, short(&json(&service)))
}

impl Environment {
    /// How its machines and its Swarm are reached: another text when that is another way.
    pub fn reached(&self) -> String {
        let hosts: Vec<_> = self
            .hosts
            .values()
            .map(|h| (&h.name, &h.address, &h.user, h.port, &h.identity, &h.known_hosts, &h.jump))
            .collect();
        format!("{:?}", (&self.swarm, hosts))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a service is plain data")
}

fn short(text: &str) -> String {
    Digest::of(text.as_bytes()).short().to_owned()
}
