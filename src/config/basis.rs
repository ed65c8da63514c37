//! What of the configuration a plan rests on: its command, its playbook, its approval, its environment as far
//! as it is about it. Everything else may change without touching the plan.
//!
//! Must not: depend on where in a file something stands, or on comments, except in the playbook, whose digest
//! people see.

use serde::Serialize;

use super::Config;
use super::environment::{Backups, Environment, Host, Service, Temporary};
use super::schedules::Schedule;
use crate::command::{Action, Argument};
use crate::diagnostic::Location;
use crate::digest::Digest;
use crate::ids::EnvName;
use crate::playbook::model::{Basis, Plan};

impl Config {
    /// Equal for two configurations when `plan` means the same under both.
    pub fn basis(&self, plan: &Plan) -> Basis {
        let mut basis = Basis::default();
        self.insert_command(&plan.command_name, &mut basis);
        if let (Some(command), Some(environment)) = (plan.allows(), &plan.environment) {
            let schedule = plan.steps.first().and_then(|step| step.params["schedule"].as_str());
            let schedule = schedule.and_then(|name| self.schedules.get(name));
            return schedule.map_or(basis, |found| self.schedule_basis(found, command, environment));
        }
        if let Some(playbook) = self.playbooks.get(&plan.playbook) {
            basis.insert(format!("{}{}", Basis::PLAYBOOK, playbook.name), playbook.digest.short());
        }
        let Some(environment) = plan.environment.as_ref().and_then(|name| self.environments.get(name)) else {
            return basis;
        };
        if let Some(mut policy) = self.approval_of(plan) {
            policy.rule.clear();
            let seen = short(&format!("{policy:?}"));
            basis.insert(format!("{}{}", Basis::APPROVAL, environment.name), seen);
        }
        if plan.break_glass.is_some() {
            let may = format!("{:?}", self.may_break_glass(&environment.name));
            basis.insert(format!("{}{}", Basis::BREAK_GLASS, environment.name), short(&may));
        }
        for host in environment.hosts.values() {
            let seen = format!("{}:{} ({})", host.address, host.port, short(&format!("{:?}", way_to(host))));
            basis.insert(format!("host {} of {}", host.name, environment.name), seen);
        }
        for host in environment.temporary.values() {
            let name = format!("temporary host {} of {}", host.name, environment.name);
            basis.insert(name, short(&format!("{:?}", rented(host))));
        }
        if let Some(swarm) = &environment.swarm {
            basis.insert(format!("swarm of {}", environment.name), short(&format!("{swarm:?}")));
        }
        for (name, value) in &environment.variables {
            basis.insert(format!("variable {name} of {}", environment.name), short(value));
        }
        if let Some(backups) =
            environment.backups.as_ref().filter(|_| plan.steps.iter().any(|s| s.kind == "restic"))
        {
            basis.insert(format!("backups of {}", environment.name), self::backups(backups));
        }
        for elsewhere in plan.changed_elsewhere().filter_map(|name| self.environments.get(name)) {
            let name = &elsewhere.name;
            basis.insert(format!("hosts of {name}"), short(&elsewhere.reached()));
            if let Some(backups) = &elsewhere.backups {
                basis.insert(format!("backups of {name}"), self::backups(backups));
            }
        }
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

impl Config {
    /// What a standing approval of a schedule rests on: what it gives when, and how that is carried out. Of the
    /// environment only who has to consent there: each of its runs is planned by what is so then.
    pub fn schedule_basis(&self, schedule: &Schedule, command: &str, environment: &EnvName) -> Basis {
        let mut basis = Basis::default();
        self.insert_command(command, &mut basis);
        let spec = self.commands.iter().find(|spec| spec.name == command);
        if let Some(Action::Playbook(name)) = spec.map(|spec| &spec.action)
            && let Some(playbook) = self.playbooks.get(name)
        {
            basis.insert(format!("{}{name}", Basis::PLAYBOOK), playbook.digest.short());
        }
        if let Some(mut policy) = self.approval(environment, command) {
            policy.rule.clear();
            let seen = short(&format!("{policy:?}"));
            basis.insert(format!("{}{environment}", Basis::APPROVAL), seen);
        }
        let given = format!("`{}` at `{}`", schedule.run, schedule.cron.timing());
        basis.insert(format!("schedule {}", schedule.name), given);
        basis
    }

    fn insert_command(&self, name: &str, basis: &mut Basis) {
        if let Some(command) = self.commands.iter().find(|command| command.name == name) {
            let argument = |a: &Argument| format!("{:?}", (&a.name, &a.kind, a.required, &a.default));
            let schema: Vec<String> = command.arguments.iter().chain(&command.flags).map(argument).collect();
            let seen = format!("{:?}", (command.changes, &command.action, schema));
            basis.insert(format!("{}{}", Basis::COMMAND, command.name), short(&seen));
        }
    }
}

/// `1.8 (a1b2c3d4)`: what people look at first, and a digest of all the rest.
pub(super) fn declared(service: &Service) -> String {
    let service = Service { at: Location::new("", 0, 0), ..service.clone() };
    format!("{} ({})", service.version, short(&json(&service)))
}

/// Where in the file it stands is no part of it.
pub(super) fn backups(backups: &Backups) -> String {
    short(&json(backups))
}

impl Environment {
    /// How its machines and its Swarm are reached: another text when that is another way.
    pub fn reached(&self) -> String {
        let hosts: Vec<_> = self.hosts.values().map(way_to).collect();
        format!("{:?}", (&self.swarm, hosts))
    }
}

/// Where in the file it stands is no part of it.
fn way_to(host: &Host) -> impl std::fmt::Debug {
    (&host.name, &host.address, &host.user, host.port, &host.identity, &host.known_hosts, &host.jump)
}

/// As [`way_to`], with what is rented.
pub(super) fn rented(host: &Temporary) -> impl std::fmt::Debug {
    (&host.name, &host.server, &host.user, host.port, &host.identity, &host.jump, host.address)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what a file declares is plain data")
}

fn short(text: &str) -> String {
    Digest::of(text.as_bytes()).short().to_owned()
}
