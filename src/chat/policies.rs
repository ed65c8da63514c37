//! The configuration folder as everybody loads it: read and checked by `config`, then held against what
//! `policies.yaml` expects, with the code that decides in chat; and refused when it locks everybody out.
//!
//! Must not: know a second way of deciding.

use std::path::Path;

use super::bind::{Bound, Known, Outcome, bind};
use super::parse;
use crate::access::{Access, Action, Found, Person, Pins};
use crate::approvals::{self, Choice, Via, Vote};
use crate::command::Action as SpecAction;
use crate::config::expectations::Expectation;
use crate::config::load::Report;
use crate::config::{self, Config};
use crate::conversation::{Actor, Room, RoomKind, schedule_named};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::{EnvName, RoomId, UserId};
use crate::playbook::model::ApprovalPolicy;
use crate::playbook::steps::StepKind;
use crate::text;

/// What `houston check`, `serve` and a reload call.
pub fn load(dir: &Path, kinds: &[&dyn StepKind]) -> Report {
    let mut report = config::load::check(dir, kinds);
    if let Some(config) = &report.config {
        check(config, &mut report.diagnostics);
    }
    report.config = report.config.filter(|_| !report.diagnostics.has_errors());
    report
}

/// Every expectation that is not met, and every environment that nobody can change.
pub fn check(config: &Config, found: &mut Diagnostics) {
    let policy = Policy::of(config);
    for expectation in &config.expectations {
        policy.hold(expectation, found);
    }
    policy.somebody_may_change(found);
    super::scheduled::check(config, &policy.access, &policy.known, found);
}

struct Policy<'c> {
    config: &'c Config,
    access: Access,
    known: Known,
}

impl<'c> Policy<'c> {
    fn of(config: &'c Config) -> Self {
        // Without a server: everybody who is named has an id of the same name.
        let mut pins = Pins::default();
        for (name, _) in config.access.people() {
            let found = Found { as_id: true, as_name: None };
            pins.learn(name, &found);
        }
        Self {
            config,
            access: Access::new(config.access.clone(), pins),
            known: Known::of(&config.environments),
        }
    }

    fn hold(&self, expected: &Expectation, found: &mut Diagnostics) {
        let line = parse::command_line(&expected.command);
        let bound = match bind(&line, &self.config.commands, &self.known) {
            Ok(Outcome::Run(bound)) => bound,
            Ok(Outcome::Help(spec)) => {
                let text = format!("`{}` only asks for help about `{}`", expected.command, spec.name);
                found.push(Diagnostic::error(expected.at.clone(), text).hint("write a whole command"));
                return;
            }
            Err(error) => {
                // What is typed is shown in a fence; the first line after it says what is wrong.
                let error = error.to_string();
                let why =
                    error.rsplit("```").next().and_then(|rest| rest.lines().find(|line| !line.is_empty()));
                let text = format!("`{}` is not a command of this folder", expected.command);
                found.push(Diagnostic::error(expected.at.clone(), text).hint(why.unwrap_or_default()));
                return;
            }
        };
        let person = person(&expected.who, &expected.rocketchat_roles);
        if let Some(may) = expected.may {
            self.hold_right(expected, may, &person, &bound, found);
        }
        let Ok(policy) = self.policy(expected, &bound, found) else { return };
        if let Some(needed) = expected.approval
            && needed != policy.is_some()
        {
            let text = format!("`{}` {}, which is not expected", expected.command, needs(policy.as_ref()));
            found.push(Diagnostic::error(expected.at.clone(), text));
        }
        if let Some((names, enough)) = &expected.approved_by {
            self.hold_consent(expected, names, *enough, &person, policy.as_ref(), found);
        }
    }

    /// The rule of the command, or of the step that is meant.
    fn policy(
        &self,
        expected: &Expectation,
        bound: &Bound<'_>,
        found: &mut Diagnostics,
    ) -> Result<Option<ApprovalPolicy>, ()> {
        let Some((step, at)) = &expected.step else {
            let environment = bound.values.text("environment").map(EnvName::from);
            return Ok(environment.and_then(|name| self.config.approval(&name, &bound.command.name)));
        };
        let SpecAction::Playbook(name) = &bound.command.action else {
            let text = format!("`{}` has no steps", bound.command.name);
            found.push(Diagnostic::error(at.clone(), text).hint("leave `step` away"));
            return Err(());
        };
        let steps = self.config.playbooks.get(name).map(|playbook| playbook.steps.as_slice());
        let steps = steps.unwrap_or_default();
        if let Some(step) = steps.iter().find(|found| found.id.as_str() == step) {
            return Ok(step.approval.as_ref().map(|approval| approval.policy.clone()));
        }
        let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
        let finding = Diagnostic::error(at.clone(), format!("the playbook `{name}` has no step `{step}`"));
        found.push(finding.hint(format!("its steps are {}", text::and_list(&ids))));
        Err(())
    }

    fn hold_right(
        &self,
        expected: &Expectation,
        may: bool,
        person: &Person,
        bound: &Bound<'_>,
        found: &mut Diagnostics,
    ) {
        let action = Action::of(bound.command, bound.values.as_typed(), &room(&expected.room));
        let explained = self.access.explain(person, &action, None);
        if explained.allowed == may {
            return;
        }
        let is = if explained.allowed { "may" } else { "may not" };
        let text = format!(
            "`{}` {is} `{}` in #{}, which is not expected",
            expected.who, expected.command, expected.room
        );
        let mut finding = Diagnostic::error(expected.at.clone(), text);
        if let Some(decided) = explained.looked_at.iter().find(|looked| looked.misses.is_none()) {
            let at = decided.at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            finding = finding.hint(format!("decided by {}{at}", decided.rule));
        }
        found.push(finding);
    }

    fn hold_consent(
        &self,
        expected: &Expectation,
        names: &[String],
        enough: bool,
        requester: &Person,
        policy: Option<&ApprovalPolicy>,
        found: &mut Diagnostics,
    ) {
        let Some(policy) = policy else {
            let text = format!("nobody has to approve `{}`, so nobody's consent counts", expected.command);
            found.push(Diagnostic::error(expected.at.clone(), text).hint("write approval: none"));
            return;
        };
        let votes: Vec<Vote> = names
            .iter()
            .map(|name| {
                let who = person(name, &[]);
                Vote {
                    roles: self.access.roles(&who).into_iter().collect(),
                    by: Actor { id: who.id, username: who.username },
                    choice: Choice::Approve,
                    via: Via::Command,
                    at: jiff::Timestamp::UNIX_EPOCH,
                }
            })
            .collect();
        if approvals::tally(policy, &requester.id, &votes).met == enough {
            return;
        }
        let is = if enough { "is not enough" } else { "is enough" };
        let text = format!(
            "the consent of {} to `{}` of {} {is}, which is not expected",
            text::and_list(names),
            expected.command,
            expected.who
        );
        found.push(Diagnostic::error(expected.at.clone(), text).hint(format!("it {}", needs(Some(policy)))));
    }

    /// Rules that keep everybody from every change are a slip, not a wish.
    fn somebody_may_change(&self, found: &mut Diagnostics) {
        let rules = &self.config.access.rules;
        // Who only Rocket.Chat knows of may be anybody.
        let unknown = self.config.access.roles.values().any(|role| !role.rocketchat_roles.is_empty());
        if rules.is_empty() || unknown {
            return;
        }
        let changes: Vec<_> = self
            .config
            .commands
            .iter()
            .filter(|spec| spec.changes && matches!(spec.action, SpecAction::Playbook(_)))
            .collect();
        let named = self.config.access.roles.values().flat_map(|role| &role.users);
        let named: Vec<&String> = named.filter(|name| schedule_named(name).is_none()).collect();
        let mut rooms: Vec<&str> = rules.iter().flat_map(|rule| &rule.rooms).map(String::as_str).collect();
        rooms.push("ops");
        let may = |environment: &EnvName| {
            named.iter().any(|name| {
                changes.iter().any(|spec| {
                    rooms.iter().any(|name_of_room| {
                        let mut action = Action {
                            command: spec.name.clone(),
                            changes: true,
                            arguments: std::collections::BTreeMap::new(),
                            room: room(name_of_room),
                        };
                        action.arguments.insert("environment".into(), environment.to_string());
                        self.access.authorize(&person(name, &[]), action).is_ok()
                    })
                })
            })
        };
        for environment in self.config.environments.values() {
            if changes.is_empty() || may(&environment.name) {
                continue;
            }
            let last: Option<&Location> = rules.iter().rfind(|rule| !rule.allow).map(|rule| &rule.at);
            found.push(
                Diagnostic::error(
                    last.cloned(),
                    format!("the rules let nobody change anything in `{}`", environment.name),
                )
                .hint("allow somebody before this rule: - allow: {roles: [lead], commands: [deploy]}"),
            );
        }
    }
}

fn person(name: &str, rocketchat_roles: &[String]) -> Person {
    let actor = Actor { id: UserId::from(name), username: name.to_owned() };
    Person::new(&actor, rocketchat_roles.iter().cloned())
}

fn room(name: &str) -> Room {
    Room { id: RoomId::from(name), kind: RoomKind::Private, name: Some(name.to_owned()) }
}

fn needs(policy: Option<&ApprovalPolicy>) -> String {
    match policy {
        Some(policy) => format!("needs {} ({})", approvals::describe(policy), policy.rule),
        None => "needs no approval".to_owned(),
    }
}
