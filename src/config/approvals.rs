//! Who must consent to what: the rules of the environment files over the built-in defaults.
//!
//! Must not: look at a request, or count votes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Config;
use super::environment::{ApprovalPolicyRule, BreakGlassRule};
use crate::command::{Action, CommandSpec};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::{EnvName, RoleName, StepId};
use crate::playbook::model::{AfterRetries, ApprovalGroup, ApprovalPolicy, Escalation, Plan, StepApproval};
use crate::text;
use crate::yaml::{Map, Node, Value};

/// How long a request waits for consent when nothing else is said.
pub const EXPIRES: Duration = Duration::from_secs(30 * 60);

/// What `expires` may be.
pub(super) const EXPIRES_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);

/// What `after` of an escalation may be.
const ESCALATES_RANGE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);

/// The roles of [`Config::approval`]'s defaults.
pub const OPERATOR: &str = "operator";
/// See [`OPERATOR`].
pub const LEAD: &str = "lead";

/// Stands for all commands in `approvals`.
pub const EVERY_COMMAND: &str = "default";

/// Its line in `approvals` is about locks of others: one's own takes nobody's consent.
pub const UNLOCK: &str = "unlock";

/// The key of `approvals` that says who may start without consent.
pub const BREAK_GLASS: &str = "break_glass";

impl Config {
    /// What `command` needs in `environment`; `None`: nobody has to consent. Read-only commands and those
    /// that are no playbook (`cancel`, `lock`) never need approval. The first that is there decides: the
    /// file's line for the command, the file's `default`, the built-in one.
    ///
    /// Built in: `prod` needs one operator or lead who is not the requester, and for `restore` and
    /// `nodes remove` two of whom one is a lead; other environments need nobody.
    pub fn approval(&self, environment: &EnvName, command: &str) -> Option<ApprovalPolicy> {
        let spec = self.commands.iter().find(|spec| spec.name == command);
        let needs_plan = spec.is_none_or(|spec| spec.changes && matches!(spec.action, Action::Playbook(_)));
        if !needs_plan {
            return None;
        }
        let rules = self.environments.get(environment).map(|e| &e.approvals);
        let rule = rules.and_then(|rules| rules.get(command).or_else(|| rules.get(EVERY_COMMAND)));
        match rule {
            Some(rule) => rule.policy.clone(),
            None => built_in(environment, command, self.approval_expires),
        }
    }
}

impl Config {
    /// What it takes to steal somebody's lock in `environment`, or that of a run that is stuck: the line for
    /// [`UNLOCK`] in its file, or else what holds for every command there.
    pub fn approval_to_steal(&self, environment: &EnvName) -> Option<ApprovalPolicy> {
        let rules = self.environments.get(environment).map(|e| &e.approvals);
        match rules.and_then(|rules| rules.get(UNLOCK).or_else(|| rules.get(EVERY_COMMAND))) {
            Some(rule) => rule.policy.clone(),
            None => built_in(environment, UNLOCK, self.approval_expires),
        }
    }

    /// What a plan needs under this configuration.
    pub fn approval_of(&self, plan: &Plan) -> Option<ApprovalPolicy> {
        let environment = plan.environment.as_ref()?;
        if plan.steals() {
            self.approval_to_steal(environment)
        } else if let Some(allowed) = plan.allows() {
            self.approval(environment, allowed)
        } else {
            let own = self.approval(environment, &plan.command_name);
            // What is restored elsewhere takes what it would take there as well.
            let there = plan.changed_elsewhere().filter_map(|other| self.approval(other, &plan.command_name));
            own.into_iter().chain(there).reduce(|all, one| all.and(&one))
        }
    }

    /// The steps of a command's playbook that wait for consent of their own.
    pub fn asking_steps<'c>(
        &'c self,
        command: &CommandSpec,
    ) -> impl Iterator<Item = (&'c StepId, &'c StepApproval)> + use<'c> {
        let playbook = match &command.action {
            Action::Playbook(name) => self.playbooks.get(name),
            Action::Builtin(_) => None,
        };
        let steps = playbook.map(|playbook| playbook.steps.as_slice()).unwrap_or_default();
        steps.iter().filter_map(|step| Some((&step.id, step.approval.as_ref()?)))
    }

    pub fn some_step_asks(&self, command: &CommandSpec) -> bool {
        self.asking_steps(command).next().is_some()
    }

    /// The roles whose people may start without consent in `environment`; none: nobody may.
    pub fn may_break_glass(&self, environment: &EnvName) -> &[RoleName] {
        let own = self.environments.get(environment).and_then(|e| e.break_glass.as_ref());
        own.or(self.break_glass.as_ref()).map(|rule| rule.from.as_slice()).unwrap_or_default()
    }
}

/// `break_glass: {from: [lead]}` or `none`, of an `approvals` section.
pub(super) fn break_glass(approvals: &Node, found: &mut Diagnostics) -> Option<BreakGlassRule> {
    let Value::Map(entries) = &approvals.value else { return None };
    let (key, node) = entries.iter().find(|(key, _)| &*key.name == BREAK_GLASS)?;
    let from = match &node.value {
        Value::Text(word) if word == "none" => Vec::new(),
        Value::Map(_) => {
            let mut map = node.map(found)?;
            let from = map.need("from", "the roles whose people may: [lead]", found);
            map.finish(found);
            from?.one_or_more_texts(found)?.into_iter().map(|(role, _)| RoleName::from(role)).collect()
        }
        _ => {
            found.push(node.expected("`none` or roles").hint("write {from: [lead]}"));
            return None;
        }
    };
    Some(BreakGlassRule { from, at: key.at.clone() })
}

pub(super) fn built_in(environment: &EnvName, command: &str, expires: Duration) -> Option<ApprovalPolicy> {
    if environment.as_str() != "prod" {
        return None;
    }
    let group = |count, from: &[&str]| ApprovalGroup {
        count,
        from: from.iter().map(|role| RoleName::from(*role)).collect(),
    };
    let either = &[OPERATOR, LEAD];
    let groups = match command {
        "restore" | "nodes remove" => vec![group(1, &[LEAD]), group(1, either)],
        _ => vec![group(1, either)],
    };
    Some(ApprovalPolicy {
        any_of: vec![groups],
        not_requester: true,
        expires,
        reason_required: false,
        escalate: None,
        rule: "built-in".into(),
    })
}

/// `approvals:` of an environment file: command → `none` or a policy.
pub(super) fn read(
    node: &Node,
    expires: Duration,
    found: &mut Diagnostics,
) -> BTreeMap<String, ApprovalPolicyRule> {
    let mut rules = BTreeMap::new();
    for (key, node) in node.entries(found).unwrap_or_default() {
        if &*key.name == BREAK_GLASS {
            continue;
        }
        let policy = match &node.value {
            Value::Text(word) if word == "none" => Some(None),
            Value::Map(_) => policy(node, &key.at, expires, found).map(Some),
            _ => {
                found.push(
                    node.expected("`none` or a policy").hint("write {count: 1, from: [operator, lead]}"),
                );
                None
            }
        };
        if let Some(policy) = policy {
            rules.insert(key.name.to_string(), ApprovalPolicyRule { policy, at: key.at.clone() });
        }
    }
    rules
}

fn policy(node: &Node, at: &Location, expires: Duration, found: &mut Diagnostics) -> Option<ApprovalPolicy> {
    let mut map = node.map(found)?;
    let policy = policy_of(&mut map, node, at, expires, found);
    map.finish(found);
    policy
}

/// `approval:` of a step: a policy, and what only a step has.
pub(crate) fn of_step(node: &Node, expires: Duration, found: &mut Diagnostics) -> Option<StepApproval> {
    let Value::Map(_) = node.value else {
        found.push(node.expected("a policy").hint("write approval: {count: 1, from: [lead]}"));
        return None;
    };
    let mut map = node.map(found)?;
    let policy = policy_of(&mut map, node, &node.at, expires, found);
    let not_approver = map.take("not_approver").and_then(|node| node.boolean(found));
    let ends = [("fail", AfterRetries::Fail), ("pause", AfterRetries::Pause)];
    let otherwise = map.take("otherwise").and_then(|node| node.choice(&ends, found));
    map.finish(found);
    Some(StepApproval {
        policy: policy?,
        not_approver: not_approver.unwrap_or_default(),
        otherwise: otherwise.unwrap_or_default(),
    })
}

fn policy_of(
    map: &mut Map<'_>,
    node: &Node,
    at: &Location,
    expires: Duration,
    found: &mut Diagnostics,
) -> Option<ApprovalPolicy> {
    let groups = groups(map, node, found);
    let not_requester = map.take("not_requester").and_then(|n| n.boolean(found)).unwrap_or(true);
    let expires = map.take("expires").and_then(|n| n.duration(EXPIRES_RANGE, found)).unwrap_or(expires);
    let reason = map.take("reason");
    let reason_required =
        reason.and_then(|n| n.choice(&[("required", true), ("optional", false)], found)).unwrap_or(false);
    let escalate = map.take("escalate").map(|node| escalation(node, expires, found));
    Some(ApprovalPolicy {
        escalate: match escalate {
            None => None,
            Some(escalation) => Some(escalation?),
        },
        any_of: groups?,
        not_requester,
        expires,
        reason_required,
        rule: format!("{}:{}", at.file.display(), at.line),
    })
}

/// `{after: 10m, to: {count: 1, from: [lead]}}`; `to` may be a list, of which all are needed.
fn escalation(node: &Node, expires: Duration, found: &mut Diagnostics) -> Option<Escalation> {
    let mut map = node.map(found)?;
    let after = map.need("after", "how long the first ones have: 10m", found);
    let after_at = after.map(|node| node.at.clone());
    let after = after.and_then(|node| node.duration(ESCALATES_RANGE, found));
    let to = map.need("to", "who may consent then: {count: 1, from: [lead]}", found);
    map.finish(found);
    if let (Some(after), Some(at)) = (after, after_at)
        && after >= expires
    {
        found.push(
            Diagnostic::error(
                at,
                format!("the request expires after {}, before it escalates", text::written_duration(expires)),
            )
            .hint("escalate earlier, or let it wait longer with `expires`"),
        );
    }
    let to = to?;
    let to = match &to.value {
        Value::List(list) => list.iter().map(|node| one_group(node, found)).collect::<Option<Vec<_>>>()?,
        _ => vec![one_group(to, found)?],
    };
    Some(Escalation { after: after?, to })
}

/// `count` and `from`; or `all_of: [group…]`; or `any_of: [group or {all_of: […]}…]`.
fn groups(map: &mut Map<'_>, node: &Node, found: &mut Diagnostics) -> Option<Vec<Vec<ApprovalGroup>>> {
    let simple = map.key_at("count").is_some() || map.key_at("from").is_some();
    let (all_of, any_of) = (map.take("all_of"), map.take("any_of"));
    if usize::from(simple) + usize::from(all_of.is_some()) + usize::from(any_of.is_some()) != 1 {
        map.take("count");
        map.take("from");
        found.push(
            Diagnostic::error(
                node.at.clone(),
                format!(
                    "the policy for `{}` needs exactly one of `count` with `from`, `all_of` and `any_of`",
                    node.label
                ),
            )
            .hint("write {count: 1, from: [operator, lead]}"),
        );
        return None;
    }
    let filled = |groups: Vec<Vec<ApprovalGroup>>| (!groups.is_empty()).then_some(groups);
    if let Some(list) = all_of {
        let groups = list.list(found)?.iter().filter_map(|n| one_group(n, found)).collect::<Vec<_>>();
        return filled(if groups.is_empty() { Vec::new() } else { vec![groups] });
    }
    if let Some(list) = any_of {
        let alternatives = list.list(found)?.iter().filter_map(|n| {
            let mut map = n.map(found)?;
            match map.take("all_of") {
                Some(inner) => {
                    map.finish(found);
                    Some(inner.list(found)?.iter().filter_map(|n| one_group(n, found)).collect())
                }
                None => Some(vec![one_group(n, found)?]),
            }
        });
        return filled(alternatives.filter(|groups: &Vec<_>| !groups.is_empty()).collect());
    }
    Some(vec![vec![group(map, found)?]])
}

fn one_group(node: &Node, found: &mut Diagnostics) -> Option<ApprovalGroup> {
    let mut map = node.map(found)?;
    let group = group(&mut map, found);
    map.finish(found);
    group
}

fn group(map: &mut Map<'_>, found: &mut Diagnostics) -> Option<ApprovalGroup> {
    // A count that is wrong must not become a smaller one.
    let count = map.take("count").map_or(Some(1), |n| n.integer(1..=100, found));
    let from = map.need("from", "the roles whose people may consent: [operator, lead]", found)?;
    let from = from.one_or_more_texts(found)?;
    Some(ApprovalGroup {
        count: u32::try_from(count?).ok()?,
        from: from.into_iter().map(|(role, _)| RoleName::from(role)).collect(),
    })
}
