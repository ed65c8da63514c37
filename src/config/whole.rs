//! What only shows when all files are seen together: commands against playbooks, rules against what
//! there is, variables against environments.
//!
//! Must not: read files.

use std::collections::BTreeMap;

use super::environment::{BreakGlassRule, Environment};
use super::{Access, Rule};
use crate::assets::BUILT_IN;
use crate::command::read::SLASH_WORDS;
use crate::command::{Action, Argument, ArgumentKind, CommandSpec, input_name};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::{EnvName, ScheduleName};
use crate::playbook::check::Uses;
use crate::playbook::model::Playbook;
use crate::text;

/// All of it, as far as it could be read. `None`: a file was not readable, so that absence means nothing.
pub(super) struct Everything<'a> {
    pub access: Option<&'a Access>,
    pub break_glass: Option<&'a BreakGlassRule>,
    pub maintenance: &'a super::maintenance::Announcing,
    pub schedules: &'a BTreeMap<ScheduleName, super::schedules::Schedule>,
    pub environments: &'a BTreeMap<EnvName, Environment>,
    pub commands: &'a [CommandSpec],
    pub commands_complete: bool,
    pub playbooks: &'a BTreeMap<String, Playbook>,
    /// Of every playbook file, readable or not.
    pub playbook_names: &'a [String],
    /// By name.
    pub reports: &'a BTreeMap<String, String>,
    /// By playbooks.
    pub uses: &'a Uses,
}

pub(super) fn check(all: &Everything<'_>, found: &mut Diagnostics) {
    command_names(all, found);
    for command in all.commands {
        command_and_playbook(command, all, found);
        default_environment(command, all, found);
    }
    unused_playbooks(all, found);
    for playbook in all.playbooks.values() {
        super::reports::check(playbook, all.reports, found);
    }
    super::schedules::check(all.access, all.schedules, found);
    if let (Some(rule), Some(access)) = (all.break_glass, all.access) {
        super::policies::breakers_exist(rule, access, found);
    }
    for environment in all.environments.values() {
        second_words(environment, all, found);
        let commands = all.commands_complete.then_some(all.commands);
        super::maintenance::check(environment, all.maintenance, commands, found);
        if let Some(access) = all.access {
            let commands = all.commands_complete.then_some(all.commands);
            super::policies::check(environment, access, commands, found);
        }
    }
    for rule in all.access.iter().flat_map(|access| &access.rules) {
        access_rule(rule, all, found);
    }
    variables(all, found);
    asked_roles(all, found);
}

/// A question for a role that nobody has is never answered, a step that waits for one never begins.
fn asked_roles(all: &Everything<'_>, found: &mut Diagnostics) {
    let Some(access) = all.access else { return };
    for usage in all.uses.roles.iter().filter(|usage| !access.roles.contains_key(&usage.role)) {
        found.push(super::policies::unknown_role(&usage.role, access, &usage.at));
    }
    for usage in &all.uses.approvals {
        super::policies::of_step(usage, access, found);
    }
}

fn suggest<'c>(finding: Diagnostic, written: &str, known: impl Iterator<Item = &'c str>) -> Diagnostic {
    let known: Vec<&str> = known.collect();
    match text::did_you_mean(written, known.iter().copied()) {
        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
        None if known.is_empty() => finding,
        None => finding.hint(format!("known here: {}", text::and_list(&known))),
    }
}

/// One name, one command; and Rocket.Chat's own slash words never arrive.
fn command_names(all: &Everything<'_>, found: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, &CommandSpec> = BTreeMap::new();
    for command in all.commands {
        for name in std::iter::once(&command.name).chain(&command.aliases) {
            if let Some(first) = seen.insert(name, command) {
                let finding = Diagnostic::error(
                    command.at.clone(),
                    format!("`{name}` is already a command, in {}", first.at),
                );
                found.push(match first.at.file.strip_prefix(BUILT_IN) {
                    Ok(path) => {
                        finding.hint(format!("to replace it, put a file {} into the folder", path.display()))
                    }
                    Err(_) => finding.hint("give one of them another name"),
                });
            }
            let own = !command.at.file.starts_with(BUILT_IN);
            let first_word = name.split(' ').next().unwrap_or(name);
            if own && SLASH_WORDS.contains(&first_word) && !is_default(name) {
                found.push(
                    Diagnostic::warning(
                        command.at.clone(),
                        format!("Rocket.Chat keeps `/{first_word}` for itself"),
                    )
                    .hint(format!("people have to type `!{name}`; another name works in both forms")),
                );
            }
        }
    }
}

/// Copies of the defaults keep the defaults' names.
fn is_default(name: &str) -> bool {
    crate::command::read::BUILTINS.contains(&name)
}

/// `backup list prod`: an environment called `list` could not be named.
fn second_words(environment: &Environment, all: &Everything<'_>, found: &mut Diagnostics) {
    let name = environment.name.as_str();
    let taken = all.commands.iter().find(|command| {
        command.name.split_once(' ').is_some_and(|(first, second)| {
            second == name && all.commands.iter().any(|other| other.name == first)
        })
    });
    if let (Some(command), false) = (taken, matches!(name, "list" | "verify")) {
        found.push(
            Diagnostic::error(environment.at.clone(), format!("an environment cannot be called `{name}`"))
                .hint(format!("`{}` is a command: rename the file", command.name)),
        );
    }
}

fn default_environment(command: &CommandSpec, all: &Everything<'_>, found: &mut Diagnostics) {
    for argument in command.arguments.iter().chain(&command.flags) {
        if let (ArgumentKind::Environment, Some(default)) = (&argument.kind, &argument.default)
            && !all.environments.contains_key(default.as_str())
        {
            let finding =
                Diagnostic::error(argument.at.clone(), format!("`{default}` is not an environment"));
            found.push(suggest(finding, default, all.environments.keys().map(EnvName::as_str)));
        }
    }
}

/// The word that playbooks use for an argument's type.
fn type_word(kind: &ArgumentKind) -> &'static str {
    match kind {
        ArgumentKind::Environment => "environment",
        ArgumentKind::Service => "service",
        ArgumentKind::Target => "target",
        ArgumentKind::Version => "version",
        ArgumentKind::Integer { .. } => "integer",
        ArgumentKind::Duration { .. } => "duration",
        ArgumentKind::Enum(_) => "enum",
        ArgumentKind::Run => "run",
        ArgumentKind::User => "user",
        ArgumentKind::Text => "text",
        ArgumentKind::Rest => "rest",
        ArgumentKind::Switch => "switch",
    }
}

fn command_and_playbook(command: &CommandSpec, all: &Everything<'_>, found: &mut Diagnostics) {
    let Action::Playbook(name) = &command.action else { return };
    let Some(playbook) = all.playbooks.get(name) else {
        if !all.playbook_names.contains(name) {
            let finding = Diagnostic::error(
                command.at.clone(),
                format!("`{}` names the playbook `{name}`, which does not exist", command.name),
            );
            found.push(suggest(finding, name, all.playbook_names.iter().map(String::as_str)));
        }
        return;
    };
    let given: Vec<&Argument> = command.arguments.iter().chain(&command.flags).collect();
    for argument in &given {
        let Some(input) = playbook.inputs.get(&input_name(&argument.name)) else {
            let finding = Diagnostic::error(
                argument.at.clone(),
                format!("`{}` is not an input of the playbook `{name}`", argument.name),
            );
            found.push(suggest(finding, &argument.name, playbook.inputs.keys().map(String::as_str)));
            continue;
        };
        let word = type_word(&argument.kind);
        let both_text = matches!((word, input.kind.as_str()), ("rest", "text") | ("text", "rest"));
        if input.kind != word && !both_text {
            found.push(
                Diagnostic::error(
                    argument.at.clone(),
                    format!(
                        "`{}` is of type `{word}` here and `{}` in the playbook `{name}`",
                        argument.name, input.kind
                    ),
                )
                .hint(format!("the input is declared in {}", input.at)),
            );
        }
        let always = argument.required || argument.default.is_some() || argument.kind == ArgumentKind::Switch;
        if input.required && !always {
            found.push(
                Diagnostic::error(
                    argument.at.clone(),
                    format!("`{}` may be left out, and the playbook `{name}` needs it", argument.name),
                )
                .hint("make it required, give it a default, or set required: false in the playbook"),
            );
        }
    }
    for (needed, input) in &playbook.inputs {
        if input.required && !given.iter().any(|argument| input_name(&argument.name) == *needed) {
            found.push(
                Diagnostic::error(
                    command.at.clone(),
                    format!(
                        "the playbook `{name}` needs `{needed}`, and `{}` has no such argument",
                        command.name
                    ),
                )
                .hint(format!("add {needed}: {{type: {}, doc: …}} to `arguments`", input.kind)),
            );
        }
    }
}

fn unused_playbooks(all: &Everything<'_>, found: &mut Diagnostics) {
    for playbook in all.playbooks.values() {
        let own = !playbook.at.file.starts_with(BUILT_IN);
        let used = all.commands.iter().any(|c| c.action == Action::Playbook(playbook.name.clone()));
        if own && !used && all.commands_complete {
            found.push(
                Diagnostic::warning(
                    playbook.at.clone(),
                    format!("no command runs the playbook `{}`", playbook.name),
                )
                .hint(format!("add a command with playbook: {} to a file of commands/", playbook.name)),
            );
        }
    }
}

fn access_rule(rule: &Rule, all: &Everything<'_>, found: &mut Diagnostics) {
    let Some(access) = all.access else { return };
    for role in rule.roles.iter().filter(|role| !access.roles.contains_key(*role)) {
        found.push(super::policies::unknown_role(role, access, &rule.at));
    }
    if !all.commands_complete {
        return;
    }
    let sorts = ["changing", "reading"];
    let named = |name: &str| all.commands.iter().find(|command| command.name == name);
    for name in rule.commands.iter().filter(|name| !sorts.contains(&name.as_str()) && named(name).is_none()) {
        let finding = Diagnostic::error(rule.at.clone(), format!("`{name}` is not a command"));
        let known = all.commands.iter().map(|command| command.name.as_str()).chain(sorts);
        found.push(match text::did_you_mean(name, known) {
            Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
            None => finding.hint("name commands, or `changing` or `reading` for all of a sort"),
        });
    }
    for (argument, values) in &rule.arguments {
        let kinds: Vec<&Argument> = all
            .commands
            .iter()
            .filter(|command| {
                rule.commands.is_empty()
                    || rule.commands.contains(&command.name)
                    || rule
                        .commands
                        .iter()
                        .any(|sort| sort == if command.changes { "changing" } else { "reading" })
            })
            .flat_map(|command| command.arguments.iter().chain(&command.flags))
            .collect();
        let Some(kind) = kinds.iter().find(|a| a.name == *argument).map(|a| &a.kind) else {
            let finding = Diagnostic::error(
                rule.at.clone(),
                format!("none of these commands has an argument `{argument}`"),
            );
            found.push(suggest_argument(finding, argument, &kinds));
            continue;
        };
        argument_values(kind, values, rule, all, found);
    }
}

fn suggest_argument(finding: Diagnostic, written: &str, known: &[&Argument]) -> Diagnostic {
    match text::did_you_mean(written, known.iter().map(|argument| argument.name.as_str())) {
        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
        None => finding.hint("arguments are named as `help COMMAND` shows them"),
    }
}

fn argument_values(
    kind: &ArgumentKind,
    values: &[String],
    rule: &Rule,
    all: &Everything<'_>,
    found: &mut Diagnostics,
) {
    let known: Vec<&str> = match kind {
        ArgumentKind::Environment => all.environments.keys().map(EnvName::as_str).collect(),
        ArgumentKind::Service => {
            all.environments.values().flat_map(|e| &e.services).map(|service| service.name.as_str()).collect()
        }
        ArgumentKind::Enum(words) => words.iter().map(String::as_str).collect(),
        _ => return,
    };
    let what = match kind {
        ArgumentKind::Environment => "an environment",
        ArgumentKind::Service => "a service",
        _ => "one of its words",
    };
    for value in values.iter().filter(|value| !known.contains(&value.as_str())) {
        let finding = Diagnostic::error(rule.at.clone(), format!("`{value}` is not {what}"));
        found.push(suggest(finding, value, known.iter().copied()));
    }
}

/// A variable that no environment has is a mistake; one that some lack fails there only.
fn variables(all: &Everything<'_>, found: &mut Diagnostics) {
    let mut said: Vec<(&str, &Location)> = Vec::new();
    for usage in &all.uses.variables {
        if said.contains(&(&usage.name, &usage.at)) {
            continue;
        }
        said.push((&usage.name, &usage.at));
        let (with, without): (Vec<&Environment>, Vec<&Environment>) =
            all.environments.values().partition(|e| e.variables.contains_key(&usage.name));
        let lacking: Vec<&str> = without.iter().map(|environment| environment.name.as_str()).collect();
        if lacking.is_empty() {
            continue;
        }
        if with.is_empty() {
            let finding = Diagnostic::error(
                usage.at.clone(),
                format!("no environment declares the variable `{}`", usage.name),
            );
            let known = all.environments.values().flat_map(|e| e.variables.keys()).map(String::as_str);
            found.push(match text::did_you_mean(&usage.name, known) {
                Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                None => finding.hint("declare it under `variables` in the files of environments/"),
            });
        } else {
            found.push(
                Diagnostic::warning(
                    usage.at.clone(),
                    format!("{} does not declare the variable `{}`", text::and_list(&lacking), usage.name),
                )
                .hint("the playbook fails there; declare it under `variables`"),
            );
        }
    }
}
