//! Who must consent to what: the rules of the environment files over the built-in defaults.
//!
//! Must not: look at a request, or count votes.

use std::time::Duration;

use super::Config;
use crate::ids::{EnvName, RoleName};
use crate::playbook::model::{ApprovalGroup, ApprovalPolicy};

/// How long a request waits for consent when nothing else is said.
pub const EXPIRES: Duration = Duration::from_secs(30 * 60);

/// The roles of [`Config::approval`]'s defaults.
pub const OPERATOR: &str = "operator";
/// See [`OPERATOR`].
pub const LEAD: &str = "lead";

/// Stands for all commands in `approvals`.
pub const EVERY_COMMAND: &str = "default";

impl Config {
    /// What `command` needs in `environment`; `None`: nobody has to consent. Read-only commands and those
    /// that are no playbook (`cancel`, `lock`) never need approval. The first that is there decides: the
    /// file's line for the command, the file's `default`, the built-in one.
    ///
    /// Built in: `prod` needs one operator or lead who is not the requester, and for `restore` and
    /// `nodes remove` two of whom one is a lead; other environments need nobody.
    pub fn approval(&self, environment: &EnvName, command: &str) -> Option<ApprovalPolicy> {
        let spec = self.commands.iter().find(|spec| spec.name == command);
        let needs_plan = spec
            .is_none_or(|spec| spec.changes && matches!(spec.action, crate::chat::spec::Action::Playbook(_)));
        if !needs_plan {
            return None;
        }
        let rules = self.environments.get(environment).map(|e| &e.approvals);
        let rule = rules.and_then(|rules| rules.get(command).or_else(|| rules.get(EVERY_COMMAND)));
        match rule {
            Some(rule) => rule.policy.clone(),
            None => built_in(environment, command),
        }
    }
}

fn built_in(environment: &EnvName, command: &str) -> Option<ApprovalPolicy> {
    if environment.as_str() != "prod" {
        return None;
    }
    let group = |count, from: &[&str]| ApprovalGroup {
        count,
        from: from.iter().map(|role| RoleName::from(*role)).collect(),
    };
    let either = &[OPERATOR, LEAD];
    let groups = match command {
        "restore" | "nodes remove" => vec![group(2, either), group(1, &[LEAD])],
        _ => vec![group(1, either)],
    };
    Some(ApprovalPolicy {
        any_of: vec![groups],
        not_requester: true,
        expires: EXPIRES,
        reason_required: false,
        rule: "built-in".into(),
    })
}
