//! What differs between two configurations, in words: for the audit log and for whoever reloads.
//!
//! Must not: show a value that might be a secret, or say that something is in force that needs a restart.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::environment::{BreakGlassRule, Environment};
use super::{Access, Auth, Config, basis};
use crate::text::{self, plain_and_list};

/// From one configuration to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that were added, removed or changed: `changed environments/prod.yaml`.
    pub files: Vec<String>,
    /// What that means: `version of web in prod: 1.7 → 1.8`.
    pub words: Vec<String>,
    /// What was changed in the files and stays as it was until a restart.
    pub restart: Vec<&'static str>,
}

impl Changes {
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut files = Vec::new();
        named(&old.files, &new.files, |kind, path| files.push(format!("{kind} {}", path.display())));
        let mut words = Vec::new();
        access(&old.access, &new.access, &mut words);
        named(&keyed(&old.environments, shown), &keyed(&new.environments, shown), |kind, name| {
            if kind != "changed" {
                words.push(format!("{kind} environment {name}"));
            }
        });
        for (name, was) in &old.environments {
            if let Some(is) = new.environments.get(name) {
                environment(was, is, &mut words);
            }
        }
        let commands = |config: &Config| -> BTreeMap<String, String> {
            config.commands.iter().map(|c| (c.name.clone(), without_places(c))).collect()
        };
        named(&commands(old), &commands(new), |kind, name| words.push(format!("{kind} command {name}")));
        let playbooks = |config: &Config| keyed(&config.playbooks, |p| p.digest.clone());
        named(&playbooks(old), &playbooks(new), |kind, name| words.push(format!("{kind} playbook {name}")));
        if shown(&old.limits) != shown(&new.limits) {
            words.push("changed limits".to_owned());
        }
        if old.approval_expires != new.approval_expires {
            words.push(format!(
                "approvals expire after {}, not {}",
                text::duration(new.approval_expires),
                text::duration(old.approval_expires)
            ));
        }
        if old.approval_buttons != new.approval_buttons {
            let now = if new.approval_buttons { "have buttons" } else { "have no buttons any more" };
            words.push(format!("approval cards {now}"));
        }
        if old.exports != new.exports {
            words.push("changed when the store is exported".to_owned());
        }
        if old.retention != new.retention {
            words.push("changed how long what is kept is kept".to_owned());
        }
        if old.maintenance != new.maintenance {
            words.push("changed where and when maintenance is announced".to_owned());
        }
        if old.providers.hetzner != new.providers.hetzner {
            words.push("changed how Hetzner is asked".to_owned());
        }
        let schedules = |config: &Config| keyed(&config.schedules, super::schedules::Schedule::meaning);
        named(&schedules(old), &schedules(new), |kind, name| words.push(format!("{kind} schedule {name}")));
        if breakers(old.break_glass.as_ref()) != breakers(new.break_glass.as_ref()) {
            words.push("changed who may break the glass".to_owned());
        }
        Self { files, words, restart: restart(old, new) }
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.words.is_empty()
    }
}

/// Read once, at the start.
fn restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut found = Vec::new();
    if old.rocketchat.url != new.rocketchat.url {
        found.push("rocketchat.url");
    }
    if account(&old.rocketchat.auth) != account(&new.rocketchat.auth) {
        found.push("rocketchat's account");
    }
    if shown(&old.http) != shown(&new.http) {
        found.push("http");
    }
    // Also when it follows from an environment that has come or gone.
    if old.lease != new.lease {
        found.push("lease");
    }
    found
}

/// As whom Houston logs in, and by what: a new token or password of the same needs no restart.
fn account(auth: &Auth) -> (&str, &str) {
    match auth {
        Auth::Token { user_id, .. } => ("user id", user_id),
        Auth::Password { username, .. } => ("user name", username),
    }
}

fn access(old: &Access, new: &Access, words: &mut Vec<String>) {
    let roles = |access: &Access| keyed(&access.roles, |role| shown(&(&role.users, &role.rocketchat_roles)));
    named(&roles(old), &roles(new), |kind, name| {
        let members = |access: &Access| {
            let role = access.roles.get(name.as_str())?;
            Some(role.users.iter().chain(&role.rocketchat_roles).cloned().collect::<Vec<_>>())
        };
        let (was, is) = (members(old).unwrap_or_default(), members(new).unwrap_or_default());
        let only = |of: &[String], not: &[String]| -> Vec<String> {
            of.iter().filter(|name| !not.contains(name)).cloned().collect()
        };
        let (came, went) = (only(&is, &was), only(&was, &is));
        let mut said = format!("{kind} role {name}");
        if !came.is_empty() {
            said.push_str(&format!(", with {}", plain_and_list(&came)));
        }
        if !went.is_empty() {
            said.push_str(&format!(", without {}", plain_and_list(&went)));
        }
        words.push(said);
    });
    let rules = |access: &Access| -> Vec<String> {
        let rule =
            |r: &super::Rule| shown(&(r.allow, &r.roles, &r.users, &r.rooms, &r.commands, &r.arguments));
        access.rules.iter().map(rule).collect()
    };
    let (was, is) = (rules(old), rules(new));
    if was != is {
        let count = |n: usize| text::count(n, "access rule");
        words.push(match was.len() == is.len() {
            true => format!("changed one or more of {}", count(is.len())),
            false => format!("{} instead of {}", count(is.len()), was.len()),
        });
    }
}

fn environment(old: &Environment, new: &Environment, words: &mut Vec<String>) {
    let name = &new.name;
    let services = |e: &Environment| -> BTreeMap<String, (String, String)> {
        e.services.iter().map(|s| (s.name.to_string(), (s.version.clone(), basis::declared(s)))).collect()
    };
    let (was, is) = (services(old), services(new));
    named(&was, &is, |kind, service| match (was.get(service), is.get(service)) {
        (Some((from, _)), Some((to, _))) if from != to => {
            words.push(format!("version of {service} in {name}: {from} → {to}"));
        }
        (_, Some((version, _))) if kind == "added" => {
            words.push(format!("added service {service} to {name} at {version}"));
        }
        (_, None) => words.push(format!("removed service {service} from {name}")),
        _ => words.push(format!("changed service {service} in {name}")),
    });
    let backups = |e: &Environment| e.backups.as_ref().map(basis::backups);
    if backups(old) != backups(new) {
        words.push(format!("changed backups of {name}"));
    }
    let freezes =
        |e: &Environment| shown(&e.freezes.iter().map(|f| (&f.window, &f.reason)).collect::<Vec<_>>());
    if freezes(old) != freezes(new) {
        words.push(format!("changed freezes of {name}"));
    }
    let maintenance = |e: &Environment| {
        let rules = &e.maintenance;
        let windows: Vec<_> = rules.windows.iter().map(|w| (&w.window, &w.reason)).collect();
        shown(&(&rules.announcing, windows, rules.required_for.keys().collect::<Vec<_>>()))
    };
    if maintenance(old) != maintenance(new) {
        words.push(format!("changed maintenance of {name}"));
    }
    if old.time_zone != new.time_zone {
        words.push(format!("changed time zone of {name}"));
    }
    if old.reached() != new.reached() {
        words.push(format!("changed hosts or Swarm of {name}"));
    }
    let rented = |e: &Environment| keyed(&e.temporary, |host| shown(&basis::rented(host)));
    named(&rented(old), &rented(new), |kind, host| {
        words.push(format!("{kind} temporary host {host} of {name}"));
    });
    named(&old.variables, &new.variables, |kind, variable| {
        words.push(format!("{kind} variable {variable} of {name}"));
    });
    let approvals = |e: &Environment| {
        keyed(&e.approvals, |rule| {
            let mut policy = rule.policy.clone();
            if let Some(policy) = &mut policy {
                policy.rule.clear();
            }
            shown(&policy)
        })
    };
    named(&approvals(old), &approvals(new), |kind, command| {
        words.push(format!("{kind} approval of {command} in {name}"));
    });
    if breakers(old.break_glass.as_ref()) != breakers(new.break_glass.as_ref()) {
        words.push(format!("changed who may break the glass in {name}"));
    }
}

fn without_places(command: &crate::command::CommandSpec) -> String {
    let argument = |a: &crate::command::Argument| shown(&(&a.name, &a.kind, a.required, &a.default, &a.doc));
    let arguments: Vec<String> = command.arguments.iter().chain(&command.flags).map(argument).collect();
    shown(&(
        &command.summary,
        &command.details,
        &command.examples,
        command.changes,
        &command.action,
        arguments,
        command.arguments.len(),
    ))
}

fn breakers(rule: Option<&BreakGlassRule>) -> Option<&[crate::ids::RoleName]> {
    rule.map(|rule| rule.from.as_slice())
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn keyed<K: ToString, V, T>(map: &BTreeMap<K, V>, value: impl Fn(&V) -> T) -> BTreeMap<String, T> {
    map.iter().map(|(key, v)| (key.to_string(), value(v))).collect()
}

/// Says of each name whether it was added, removed or changed.
fn named<K: Ord, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    mut say: impl FnMut(&'static str, &K),
) {
    for (name, value) in new {
        match old.get(name) {
            None => say("added", name),
            Some(was) if was != value => say("changed", name),
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        say("removed", name);
    }
}
