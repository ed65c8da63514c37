//! Whether approval policies can be met by the people that there are.
//!
//! Must not: ask Rocket.Chat who has a role; what depends on it is a warning.

use std::collections::BTreeSet;

use super::Access;
use super::approvals::{EVERY_COMMAND, LEAD, OPERATOR, UNLOCK, built_in};
use super::environment::{BreakGlassRule, Environment};
use crate::command::{Action, CommandSpec};
use crate::conversation::schedule_named;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::{EnvName, RoleName};
use crate::playbook::check::ApprovalUse;
use crate::playbook::model::{ApprovalGroup, ApprovalPolicy};
use crate::text;

/// `commands` is absent when a file of them could not be read: then nothing is said about names.
pub(super) fn check(
    environment: &Environment,
    access: &Access,
    commands: Option<&[CommandSpec]>,
    found: &mut Diagnostics,
) {
    for (name, rule) in &environment.approvals {
        if commands.is_some_and(|commands| !command_exists(name, commands, &rule.at, found)) {
            continue;
        }
        let Some(policy) = &rule.policy else { continue };
        if roles_exist(policy, access, &rule.at, found) {
            let what = format!("`{name}` in `{}`", environment.name);
            satisfiable(policy, access, &what, Some(&rule.at), found);
        }
    }
    if let Some(rule) = &environment.break_glass {
        breakers_exist(rule, access, found);
    }
    defaults(environment, access, commands.unwrap_or_default(), found);
}

/// A step's own rule.
pub(super) fn of_step(usage: &ApprovalUse, access: &Access, found: &mut Diagnostics) {
    if roles_exist(&usage.policy, access, &usage.at, found) {
        satisfiable(&usage.policy, access, &usage.what, Some(&usage.at), found);
    }
}

/// A role that is not there would let nobody break the glass, on the one day on which it matters.
pub(super) fn breakers_exist(rule: &BreakGlassRule, access: &Access, found: &mut Diagnostics) {
    for role in rule.from.iter().filter(|role| !access.roles.contains_key(*role)) {
        found.push(unknown_role(role, access, &rule.at));
    }
}

fn command_exists(name: &str, commands: &[CommandSpec], at: &Location, found: &mut Diagnostics) -> bool {
    if [EVERY_COMMAND, UNLOCK].contains(&name) {
        return true;
    }
    match commands.iter().find(|command| command.name == name) {
        Some(command) if matches!(command.action, Action::Playbook(_)) => return true,
        Some(_) => found.push(
            Diagnostic::error(at.clone(), format!("`{name}` is a command that nobody has to approve"))
                .hint("only commands with a playbook have a plan to consent to: remove the line"),
        ),
        None => {
            let finding = Diagnostic::error(at.clone(), format!("`{name}` is not a command"));
            let names: Vec<&str> = commands
                .iter()
                .filter(|command| matches!(command.action, Action::Playbook(_)))
                .map(|command| command.name.as_str())
                .chain([UNLOCK, EVERY_COMMAND])
                .collect();
            found.push(match text::did_you_mean(name, names.iter().copied()) {
                Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                None => finding.hint(format!("write {}", text::or_list(&names))),
            });
        }
    }
    false
}

fn groups(policy: &ApprovalPolicy) -> impl Iterator<Item = &ApprovalGroup> {
    policy.any_of.iter().flatten().chain(policy.escalate.iter().flat_map(|escalation| &escalation.to))
}

fn roles_exist(policy: &ApprovalPolicy, access: &Access, at: &Location, found: &mut Diagnostics) -> bool {
    let unknown: BTreeSet<&RoleName> = groups(policy)
        .flat_map(|group| &group.from)
        .filter(|role| !access.roles.contains_key(*role))
        .collect();
    for role in &unknown {
        found.push(unknown_role(role, access, at));
    }
    unknown.is_empty()
}

pub(super) fn unknown_role(role: &RoleName, access: &Access, at: &Location) -> Diagnostic {
    let names: Vec<&str> = access.roles.keys().map(RoleName::as_str).collect();
    let finding = Diagnostic::error(at.clone(), format!("`{role}` is not a role"));
    match text::did_you_mean(role.as_str(), names.iter().copied()) {
        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
        None if names.is_empty() => finding.hint("declare it under `access.roles` in houston.yaml"),
        None => finding.hint(format!("roles are {}", text::and_list(&names))),
    }
}

/// The people of a group as the files name them, and whether Rocket.Chat knows of more.
fn people<'a>(group: &ApprovalGroup, access: &'a Access) -> (BTreeSet<&'a str>, bool) {
    let roles = || group.from.iter().filter_map(|role| access.roles.get(role));
    let users = roles().flat_map(|role| &role.users).map(String::as_str);
    // A schedule asks, and consents to nothing.
    let users = users.filter(|user| schedule_named(user).is_none()).collect();
    (users, roles().any(|role| !role.rocketchat_roles.is_empty()))
}

/// One alternative that can be met is enough.
fn satisfiable(
    policy: &ApprovalPolicy,
    access: &Access,
    what: &str,
    at: Option<&Location>,
    found: &mut Diagnostics,
) {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Verdict {
        Never(String),
        Perhaps(String),
        Yes,
    }
    let of_group = |group: &ApprovalGroup| {
        let (users, more) = people(group, access);
        let (have, need) = (users.len(), group.count as usize);
        let from = text::or_list(&group.from);
        let has = if have == 0 {
            "nobody".to_owned()
        } else {
            text::count(have, "person").replace("persons", "people")
        };
        let text = format!("{what} needs {need} of {from}, and the files name {has}");
        if have > need || (have == need && !policy.not_requester) {
            Verdict::Yes
        } else if more {
            Verdict::Perhaps(text)
        } else if have < need {
            Verdict::Never(text)
        } else {
            Verdict::Perhaps(format!("{text}: when one of them asks, too few are left"))
        }
    };
    let of_alternative =
        |groups: &Vec<ApprovalGroup>| groups.iter().map(of_group).min().unwrap_or(Verdict::Yes);
    match policy.any_of.iter().map(of_alternative).max() {
        Some(Verdict::Never(text)) => found.push(
            Diagnostic::error(at.cloned(), text).hint("name more people in these roles, or ask for fewer"),
        ),
        Some(Verdict::Perhaps(text)) => found.push(
            Diagnostic::warning(at.cloned(), text)
                .hint("name more people in these roles, or see that Rocket.Chat's roles have them"),
        ),
        _ => {}
    }
}

/// Commands that can do nothing where no backups are declared.
const OF_BACKUPS: &[&str] = &["backup", "backup init", "backup verify", "restore"];

/// What holds where the file says nothing.
fn defaults(environment: &Environment, access: &Access, commands: &[CommandSpec], found: &mut Diagnostics) {
    let name = &environment.name;
    if environment.approvals.contains_key(EVERY_COMMAND) {
        return;
    }
    let silent: Vec<&CommandSpec> = commands
        .iter()
        .filter(|command| matches!(command.action, Action::Playbook(_)))
        .filter(|command| !environment.approvals.contains_key(&command.name))
        .filter(|command| environment.backups.is_some() || !OF_BACKUPS.contains(&command.name.as_str()))
        .collect();
    if silent.is_empty() {
        return;
    }
    if looks_like_production(name) {
        let names: Vec<&str> = silent.iter().map(|command| command.name.as_str()).collect();
        found.push(
            Diagnostic::warning(
                environment.at.clone(),
                format!("nobody has to approve {} in `{name}`", text::and_list(&names)),
            )
            .hint("the built-in approvals are for an environment called `prod`")
            .hint("write approvals: {default: {count: 1, from: [operator, lead]}}, or {default: none} to say that it is meant"),
        );
        return;
    }
    // The same policy holds for several commands: said once.
    let mut said = BTreeSet::new();
    for command in silent {
        let Some(policy) = built_in(name, &command.name, super::approvals::EXPIRES) else { continue };
        if !said.insert(format!("{:?}", policy.any_of)) {
            continue;
        }
        let what = format!("by default `{}` in `{name}`", command.name);
        let known = [OPERATOR, LEAD].iter().any(|role| access.roles.contains_key(*role));
        if known {
            satisfiable(&policy, access, &what, Some(&environment.at), found);
        } else {
            found.push(
                Diagnostic::error(
                    environment.at.clone(),
                    format!(
                        "{what} needs the consent of an `{OPERATOR}` or `{LEAD}`, and there are no such roles"
                    ),
                )
                .hint("declare them under `access.roles` in houston.yaml")
                .hint("or write approvals: {default: {count: 1, from: [YOUR-ROLE]}}"),
            );
        }
    }
}

fn looks_like_production(name: &EnvName) -> bool {
    let name = name.as_str();
    name != "prod"
        && name.split(['-', '_', '.']).any(|part| matches!(part, "prod" | "production" | "live" | "prd"))
}
