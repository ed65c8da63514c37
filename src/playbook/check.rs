//! Checks a playbook against the step kinds and against its own declarations, before anything runs it.
//!
//! Must not: look at the world, or know environments.

use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::RoleName;
use crate::playbook::model::{
    ApprovalPolicy, Each, OnFailure, Playbook, StepEach, StepTemplate, UndoTemplate,
};
use crate::playbook::parse::{Located, STEP_WORDS, Undo};
use crate::playbook::steps::{ParamKind, ParamSpec, Pause, StepKind, UndoMode};
use crate::playbook::template;
use crate::text;
use crate::yaml::{Key, Node, Value};

/// A use of `variables.NAME`, to be compared with what the environments declare.
#[derive(Clone, Debug)]
pub struct VariableUse {
    pub name: String,
    pub at: Location,
}

/// A role whose members a step asks, to be compared with what the configuration declares.
#[derive(Clone, Debug)]
pub struct RoleUse {
    pub role: RoleName,
    pub at: Location,
}

/// What the steps of a playbook rely on that stands in other files.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub variables: Vec<VariableUse>,
    pub roles: Vec<RoleUse>,
    pub approvals: Vec<ApprovalUse>,
}

/// A step's rule of consent, to be compared with the roles and people that the configuration declares.
#[derive(Clone, Debug)]
pub struct ApprovalUse {
    pub policy: ApprovalPolicy,
    /// `step `cutover` of `migrate``
    pub what: String,
    pub at: Location,
}

/// Reports everything that is wrong with the steps; returns what they rely on.
pub fn check(located: &Located, kinds: &[&dyn StepKind], found: &mut Diagnostics) -> Uses {
    let playbook = &located.playbook;
    check_inputs(playbook, found);
    let mut check = Check { playbook, kinds, each: None, uses: Uses::default(), found };
    for (index, step) in playbook.steps.iter().enumerate() {
        let (params, undo_params) = &located.params[index];
        check.each = step.each;
        if let (Some(when), Some(at)) = (&step.when, &located.when[index]) {
            match template::names_in_expression(when) {
                Ok(names) => check.names(&names, at),
                Err(error) => check.template_error(error, at),
            }
        }
        if let Some(kind) = check.kind(&step.kind, &step.at)
            && let Some(params) = params
        {
            check.params(kind, &step.params, params, &step.at);
            check.asked(kind, &step.params, &step.at);
        }
        check.undo(step, undo_params.as_ref());
        if let Some(approval) = &step.approval {
            check.uses.approvals.push(ApprovalUse {
                policy: approval.policy.clone(),
                what: format!("step `{}` of `{}`", step.id, playbook.name),
                at: step.at.clone(),
            });
        }
    }
    check.uses
}

fn check_inputs(playbook: &Playbook, found: &mut Diagnostics) {
    let environment = playbook.inputs.values().any(|input| input.kind == "environment");
    let service = playbook.inputs.iter().find(|(_, input)| input.kind == "service");
    if let (Some((name, input)), false) = (service, environment) {
        found.push(
            Diagnostic::error(
                input.at.clone(),
                format!("`{name}` is a service, and no input says of which environment"),
            )
            .hint("add environment: {type: environment} to `inputs`"),
        );
    }
    if playbook.each == Some(Each::Services) && !environment {
        found.push(
            Diagnostic::error(playbook.at.clone(), "`each: services` needs an input of type `environment`")
                .hint("add environment: {type: environment} to `inputs`"),
        );
    }
    for step in playbook.steps.iter().filter(|step| step.each.is_some() && !environment) {
        found.push(
            Diagnostic::error(step.at.clone(), "`each: sources` needs an input of type `environment`")
                .hint("add environment: {type: environment} to `inputs`"),
        );
    }
    for (name, input) in &playbook.inputs {
        let taken = ["variables", "command", "requester", "reason", "declared"];
        if taken.contains(&name.as_str()) {
            found.push(
                Diagnostic::error(
                    input.at.clone(),
                    format!("`{name}` has a meaning in every template already"),
                )
                .hint("give the input another name"),
            );
        }
    }
}

struct Check<'c> {
    playbook: &'c Playbook,
    kinds: &'c [&'c dyn StepKind],
    /// Of the step that is looked at.
    each: Option<StepEach>,
    uses: Uses,
    found: &'c mut Diagnostics,
}

impl<'c> Check<'c> {
    fn kind(&mut self, name: &str, at: &Location) -> Option<&'c dyn StepKind> {
        if let Some(kind) = self.kinds.iter().find(|kind| kind.name() == name) {
            return Some(*kind);
        }
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let finding = Diagnostic::error(at.clone(), format!("`{name}` is not a step kind"));
        let meant = text::did_you_mean(name, names.iter().copied().chain(STEP_WORDS.iter().copied()));
        self.found.push(match meant {
            Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
            None => finding.hint(format!("step kinds are {}", text::and_list(&names))),
        });
        None
    }

    fn params(&mut self, kind: &dyn StepKind, params: &Json, node: &Node, at: &Location) {
        let before = self.found.count(crate::diagnostic::Severity::Error);
        let entries: &[(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.found.push(node.expected("a mapping of parameters"));
                return;
            }
        };
        let specs = kind.params();
        for (key, value) in entries {
            match specs.iter().find(|spec| spec.name == &*key.name) {
                Some(spec) => self.param(spec, value),
                None => {
                    let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
                    let finding = Diagnostic::error(
                        key.at.clone(),
                        format!("`{}` has no parameter `{}`", kind.name(), key.name),
                    );
                    self.found.push(match text::did_you_mean(&key.name, names.iter().copied()) {
                        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                        None if names.is_empty() => finding.hint("it takes none"),
                        None => finding.hint(format!("it takes {}", text::and_list(&names))),
                    });
                }
            }
            self.templates(value);
        }
        for spec in specs.iter().filter(|spec| spec.required) {
            if !entries.iter().any(|(key, value)| &*key.name == spec.name && !value.is_null()) {
                self.found.push(
                    Diagnostic::error(at.clone(), format!("`{}` needs `{}`", kind.name(), spec.name))
                        .hint(spec.doc),
                );
            }
        }
        // What the kind itself checks builds on the schema.
        if self.found.count(crate::diagnostic::Severity::Error) == before {
            for problem in kind.check(params) {
                self.found.push(Diagnostic::error(at.clone(), problem));
            }
        }
    }

    /// Whom a step asks. A role that is a template is known when the plan is made.
    fn asked(&mut self, kind: &dyn StepKind, params: &Json, at: &Location) {
        let Some(Pause::Answer { from, .. }) = kind.pause(params) else { return };
        let roles = from.into_iter().filter(|role| !role.as_str().contains("{{"));
        self.uses.roles.extend(roles.map(|role| RoleUse { role, at: at.clone() }));
    }

    /// The type of a value that is not a template; templates are known when the plan is made.
    fn param(&mut self, spec: &ParamSpec, node: &Node) {
        let is_template = |node: &Node| matches!(&node.value, Value::Text(text) if text.contains("{{") || text.contains("{%"));
        if is_template(node) {
            return;
        }
        match spec.kind {
            ParamKind::Text => {
                node.text(self.found);
            }
            ParamKind::Integer => {
                node.integer(i64::MIN..=i64::MAX, self.found);
            }
            ParamKind::Boolean => {
                node.boolean(self.found);
            }
            ParamKind::Duration => {
                if !matches!(&node.value, Value::Text(text) if text::parse_duration(text).is_some()) {
                    self.found.push(node.expected("a duration").hint("write it as 30s, 10m or 2h"));
                }
            }
            ParamKind::Argv => {
                node.argv(self.found);
            }
            ParamKind::Enum(words) => {
                let choices: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
                node.choice(&choices, self.found);
            }
            ParamKind::Map => {
                node.entries(self.found);
            }
        }
    }

    /// Every template in a parameter, however deep.
    fn templates(&mut self, node: &Node) {
        match &node.value {
            Value::Text(text) => match template::names(text) {
                Ok(names) => self.names(&names, &node.at),
                Err(error) => self.template_error(error, &node.at),
            },
            Value::List(items) => items.iter().for_each(|item| self.templates(item)),
            Value::Map(entries) => entries.iter().for_each(|(_, value)| self.templates(value)),
            Value::Null | Value::Bool(_) | Value::Integer(..) | Value::Float(..) => {}
        }
    }

    fn names(&mut self, names: &[String], at: &Location) {
        let each = self.playbook.each.is_some();
        for name in names {
            let (first, rest) = name.split_once('.').unwrap_or((name, ""));
            let known: Vec<&str> = (self.playbook.inputs.keys().map(String::as_str))
                .chain(template::BUILT_IN.iter().copied())
                .chain(template::PER_SERVICE.iter().copied().filter(|_| each))
                .chain(self.each.map(|StepEach::Sources| template::PER_SOURCE))
                .collect();
            if !known.contains(&first) {
                let finding =
                    Diagnostic::error(at.clone(), format!("`{first}` is not defined in this playbook"));
                self.found.push(if template::PER_SERVICE.contains(&first) {
                    finding.hint("it is there with `each: services`, or declare it under `inputs`")
                } else if first == template::PER_SOURCE {
                    finding.hint("it is there in a step with `each: sources`, or declare it under `inputs`")
                } else if let Some(meant) = text::did_you_mean(first, known.iter().copied()) {
                    finding.hint(format!("did you mean `{meant}`?"))
                } else {
                    finding.hint(format!("declare it under `inputs`, or use {}", text::or_list(&known)))
                });
            } else if first == "declared" && !rest.is_empty() {
                self.field(rest.split('.').next().unwrap_or(rest), at);
            } else if first == "variables" && !rest.is_empty() {
                let name = rest.split('.').next().unwrap_or(rest).to_owned();
                self.uses.variables.push(VariableUse { name, at: at.clone() });
            }
        }
    }

    fn field(&mut self, field: &str, at: &Location) {
        let fields = crate::config::environment::FIELDS;
        if fields.contains(&field) {
            return;
        }
        let finding = Diagnostic::error(at.clone(), format!("a declared service has no `{field}`"));
        self.found.push(match text::did_you_mean(field, fields.iter().copied()) {
            Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
            None => finding.hint(format!("it has {}", text::and_list(fields))),
        });
    }

    fn template_error(&mut self, error: template::TemplateError, at: &Location) {
        let finding = Diagnostic::error(at.clone(), error.what);
        self.found.push(match error.hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }

    /// An undo that nothing can reach was written in vain, and its author relies on it.
    fn undo(&mut self, step: &StepTemplate, written: Option<&Undo>) {
        let Some(undo) = &step.undo else { return };
        let kind = self.kinds.iter().find(|kind| kind.name() == step.kind);
        if let UndoTemplate::Step { kind: name, params } = undo
            && let Some((at, node)) = written
            && let Some(kind) = self.kind(name, at)
        {
            if let Some(Pause::Answer { .. }) = kind.pause(params) {
                self.found.push(
                    Diagnostic::error(at.clone(), format!("the undo of `{}` cannot be a question", step.id))
                        .hint("an undo is done without people; ask in a step before, or write undo: none"),
                );
            }
            self.params(kind, params, node, at);
        }
        let at = step.at.clone();
        let id = &step.id;
        if kind.is_some_and(|kind| kind.undo_mode(&step.params) == UndoMode::NotNeeded) {
            self.found.push(
                Diagnostic::error(
                    at,
                    format!("the undo of `{id}` is never reached: `{}` changes nothing", step.kind),
                )
                .hint("move the undo to the step that makes the change, or remove it"),
            );
        } else if self.playbook.on_failure == OnFailure::Stop && matches!(undo, UndoTemplate::Step { .. }) {
            self.found.push(
                Diagnostic::warning(
                    at,
                    format!("the undo of `{id}` is reached only by hand: `on_failure` is `stop`"),
                )
                .hint("set on_failure: undo, or remove the undo"),
            );
        }
    }
}
