//! What a playbook says, and what a plan is: the data that the journal pins and the approval binds to.
//!
//! Must not: read files (`parse` does), look at the world (`plan` does) or execute (`runs` does).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::change::Change;
use crate::diagnostic::Location;
use crate::digest::Digest;
use crate::ids::{EnvName, RoleName, RunId, ServiceName, StepId};

/// A file of `playbooks/`, parsed and checked.
#[derive(Clone, Debug)]
pub struct Playbook {
    /// The file's name without `.yaml`; commands refer to it.
    pub name: String,
    pub description: String,
    /// Values that the command must bind: `environment`, `service`, …
    pub inputs: BTreeMap<String, Input>,
    /// Expanded once per item; `services`: the services of the environment that differ from what the
    /// command asks, in the order of their dependencies. Absent: once.
    pub each: Option<Each>,
    pub steps: Vec<StepTemplate>,
    pub on_failure: OnFailure,
    /// Where the report of a run of it goes, and what it is made with.
    pub report: Option<Report>,
    pub at: Location,
    /// Of the file's bytes.
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The same type names as command arguments have: `environment`, `service`, `integer`, `text`, …
    pub kind: String,
    pub required: bool,
    pub at: Location,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// In each expansion `service` and `version` are bound to one service of the plan.
    Services,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEach {
    /// `source` is bound to each source of the environment's backups, or to the one that the input `source` names.
    Sources,
}

/// What is posted when a run has ended, however that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// A room's name.
    pub room: String,
    /// Of `prompts/reports/`, without its `.j2`.
    pub template: String,
}

/// A step as written: its parameters are still templates.
#[derive(Clone, Debug)]
pub struct StepTemplate {
    pub id: StepId,
    pub kind: String,
    /// A step for each of these, one after the other.
    pub each: Option<StepEach>,
    /// A minijinja expression; the step is left out of the plan when it is false.
    pub when: Option<String>,
    /// Parameters of the step kind; strings in it are minijinja templates over inputs and variables.
    pub params: Json,
    /// What to do when this step has to be undone; absent: what the step kind does by itself.
    pub undo: Option<UndoTemplate>,
    pub retry: Retry,
    pub timeout: Option<Duration>,
    /// Whose consent it waits for when the run has come to it.
    pub approval: Option<StepApproval>,
    pub at: Location,
}

#[derive(Clone, Debug)]
pub enum UndoTemplate {
    /// `undo: none`: said in the plan, before approval.
    None,
    /// `undo: {kind: …, …}`: another step.
    Step { kind: String, params: Json },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Leave what was done, say what it is.
    #[default]
    Stop,
    /// Undo what was done, last first.
    Undo,
}

/// Retry as a value; attempts are events, so that they survive a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// In all, the first included.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one, with a ceiling of a minute.
    pub backoff: Duration,
    /// From the first attempt's start; then `then`, whatever attempts are left.
    pub max_elapsed: Option<Duration>,
    pub then: AfterRetries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterRetries {
    /// As `on_failure` of the playbook says.
    #[default]
    Fail,
    /// The steps after it are done all the same, and then the run has failed.
    GoOn,
    /// Wait for a person: `retry R-1`, `abandon R-1`, `cancel R-1`.
    Pause,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, backoff: Duration::from_secs(1), max_elapsed: None, then: AfterRetries::Fail }
    }
}

/// The parts of the configuration that a plan rests on, by name, each as a short text that differs when the
/// part does. What is not among them may change without touching the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Basis(BTreeMap<String, String>);

/// Beginnings of the names of parts that say whether a run may begin. One that has begun has what it needs of
/// them in its plan.
const MAY_BEGIN: [&str; 4] = [Basis::COMMAND, Basis::PLAYBOOK, Basis::APPROVAL, Basis::BREAK_GLASS];

impl Basis {
    pub const COMMAND: &str = "command ";
    pub const PLAYBOOK: &str = "playbook ";
    pub const APPROVAL: &str = "approval in ";
    pub const BREAK_GLASS: &str = "break-glass in ";

    pub fn insert(&mut self, part: impl Into<String>, is: impl Into<String>) {
        self.0.insert(part.into(), is.into());
    }

    /// What differs, for people.
    pub fn differences(&self, now: &Self) -> Vec<Change> {
        self.differing(now, |_| true)
    }

    /// As [`Self::differences`], of what a run that has begun still takes from the configuration: where its
    /// steps go, and what is declared there.
    pub fn differences_under_way(&self, now: &Self) -> Vec<Change> {
        self.differing(now, |part| !MAY_BEGIN.iter().any(|of| part.starts_with(of)))
    }

    fn differing(&self, now: &Self, which: impl Fn(&str) -> bool) -> Vec<Change> {
        let mut parts: Vec<&String> = self.0.keys().chain(now.0.keys()).filter(|part| which(part)).collect();
        parts.sort();
        parts.dedup();
        parts
            .into_iter()
            .map(|part| (part, self.0.get(part), now.0.get(part)))
            .filter(|(_, was, is)| was != is)
            .map(|(part, was, is)| Change {
                what: format!("configuration of {part}"),
                from: was.cloned(),
                to: is.cloned(),
            })
            .collect()
    }
}

/// A playbook bound to its inputs and looked at against the real world. Pinned in the run's first event;
/// [`Plan::digest`] is what approvals are for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The canonical command, as one would type it: `deploy prod web 1.8`.
    pub command: String,
    /// The command's name in `commands/`: `deploy`.
    pub command_name: String,
    pub playbook: String,
    pub playbook_digest: Digest,
    /// What of the configuration it rests on; another one at the start is drift.
    #[serde(default)]
    pub basis: Basis,
    pub environment: Option<EnvName>,
    /// What the run needs the right to change.
    pub locks: Vec<LockName>,
    pub steps: Vec<PlannedStep>,
    pub on_failure: OnFailure,
    /// Absent: no approval is needed.
    pub approval: Option<ApprovalPolicy>,
    /// The requester's reason, where given.
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Present: it starts without the consent that it would need, and is reviewed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
    /// Present: people consented before to its beginning, again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<StandingApproval>,
}

/// The consent that a schedule begins by, and the one that it goes without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingApproval {
    pub without: ApprovalPolicy,
    /// The run that gave it.
    pub run: RunId,
    /// By whom, until when and by which run, in words.
    pub given: String,
}

/// Why a plan goes past consent, and who looks at it afterwards. Pinned with the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlass {
    pub reason: String,
    /// The consent that it goes without; absent: none would have been needed.
    pub without: Option<ApprovalPolicy>,
    /// The steps whose consent it goes without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepId>,
    /// The freeze that it goes through, in words.
    pub through: Option<String>,
    /// It begins otherwise only in maintenance, and there was none; in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
    /// The roles whose people may review it; the requester never may.
    pub reviewers: Vec<RoleName>,
}

/// The kind of the step that takes a lock from whoever has it. No playbook has such a step.
pub const STEAL_LOCK: &str = "steal_lock";

/// The kind of the step that gives a schedule its standing approval. No playbook has such a step.
pub const ALLOW_SCHEDULE: &str = "allow_schedule";

/// So many steps stand on a card.
pub const MOST_SHOWN: usize = 20;

impl Plan {
    /// Whether it takes a lock from whoever has it.
    pub fn steals(&self) -> bool {
        self.steps.iter().any(|step| step.kind == STEAL_LOCK)
    }
    /// The command that it lets a schedule give without asking, by its name.
    pub fn allows(&self) -> Option<&str> {
        self.steps.iter().find(|step| step.kind == ALLOW_SCHEDULE)?.params["command_name"].as_str()
    }
    /// What people need rights to who ask for it, decide on it or stop it: what it locks, the lock that it steals, or
    /// what the schedule is about that it allows.
    pub fn concerns(&self) -> Vec<LockName> {
        match (&self.environment, self.steps.first()) {
            (Some(environment), Some(step)) if self.steals() || self.allows().is_some() => {
                vec![LockName { environment: environment.clone(), service: step.service.clone() }]
            }
            _ => self.locks.clone(),
        }
    }
    /// Over the canonical JSON of the whole plan: what is seen on the card and what will be executed.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a plan is plain data"))
    }
    /// Whether both would do the same, for whatever reasons and whatever the world looked like when they were made.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let steps =
            |plan: &Self| plan.steps.iter().map(|s| (s.kind.clone(), s.params.clone())).collect::<Vec<_>>();
        self.command_name == other.command_name && self.locks == other.locks && steps(self) == steps(other)
    }
    /// Environments that it changes as a whole beside its own.
    pub fn changed_elsewhere(&self) -> impl Iterator<Item = &EnvName> {
        let whole = self.locks.iter().filter(|lock| lock.service.is_none()).map(|lock| &lock.environment);
        whole.filter(|environment| Some(*environment) != self.environment.as_ref())
    }
    /// Whether carrying it out would change nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
    /// Whether a card shows less than would be done: what it leaves out is said beside it.
    pub fn shown_in_part(&self) -> bool {
        self.steps.len() > MOST_SHOWN || self.steps.iter().any(|step| step.whole.is_some())
    }
    /// The steps that wait for consent of their own.
    pub fn asking_steps(&self) -> impl Iterator<Item = (&PlannedStep, &StepApproval)> {
        self.steps.iter().filter_map(|step| Some((step, step.approval.as_ref()?)))
    }
}

/// A step with its final parameters. Secrets in them are references, never values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    pub id: StepId,
    pub kind: String,
    /// For people: `update web to 1.8`.
    pub title: String,
    pub params: Json,
    pub preview: Preview,
    pub undo: PlannedUndo,
    pub retry: Retry,
    pub timeout: Option<Duration>,
    /// The service that the step is about, for progress and reports.
    pub service: Option<ServiceName>,
    /// Whose consent it waits for when the run has come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<StepApproval>,
    /// All that it would run, where the title says less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
}

/// Who must consent before a step begins, in the middle of its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepApproval {
    pub policy: ApprovalPolicy,
    /// Whether the consent of those who have approved the plan counts for nothing here. Off by default.
    pub not_approver: bool,
    /// When it is denied or nobody decides in time.
    pub otherwise: AfterRetries,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedUndo {
    /// The step kind knows how, from its recorded parameters and output.
    ByKind,
    /// Another step does it.
    Step { kind: String, params: Json },
    /// Nothing to undo: it only reads or tells.
    NotNeeded,
    /// It cannot be undone; shown before approval.
    Impossible,
}

/// What a step kind found when it looked at the world for the plan. Reads only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// What would change.
    pub changes: Vec<Change>,
    /// Facts that the plan rests on, by name (`image`, `version_index`, …). Looked at again before the
    /// start; a difference is drift and voids the approval.
    pub observed: BTreeMap<String, String>,
    /// Sentences for the card.
    pub notes: Vec<String>,
    /// What was so as well and may be otherwise by the start without harm, by name: a look after a crash tells by it
    /// what has happened since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, String>,
    /// It cannot be undone here, although its kind can elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub irreversible: bool,
}

/// The right to change a whole environment, or one service of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockName {
    pub environment: EnvName,
    pub service: Option<ServiceName>,
}

impl LockName {
    /// `env` excludes every `env/service` in it; two services of one environment run side by side.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.environment == other.environment
            && (self.service.is_none() || other.service.is_none() || self.service == other.service)
    }
}
impl std::fmt::Display for LockName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{}/{service}", self.environment),
            None => write!(f, "{}", self.environment),
        }
    }
}

/// Who must consent, pinned with the plan. Met when every group of at least one alternative is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalPolicy {
    pub any_of: Vec<Vec<ApprovalGroup>>,
    /// Whether the requester's own consent counts for nothing. On by default.
    pub not_requester: bool,
    pub expires: Duration,
    /// Whether the requester has to say why.
    pub reason_required: bool,
    /// Who may consent instead when nobody has decided for some time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalation>,
    /// The rule in the configuration, for `can` and for refusals; `built-in` where the default applies.
    pub rule: String,
}

impl ApprovalPolicy {
    /// What meets both: each way of the one with each way of the other. Nobody else decides when nobody has.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let pairs =
            self.any_of.iter().flat_map(|one| other.any_of.iter().map(move |two| [&one[..], two].concat()));
        Self {
            any_of: pairs.collect(),
            not_requester: self.not_requester || other.not_requester,
            expires: self.expires.min(other.expires),
            reason_required: self.reason_required || other.reason_required,
            escalate: None,
            rule: format!("{} and {}", self.rule, other.rule),
        }
    }
}

/// A second way to consent, that opens later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    pub after: Duration,
    /// All of them.
    pub to: Vec<ApprovalGroup>,
}

/// `count` different people of any of the roles `from`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalGroup {
    pub count: u32,
    pub from: Vec<RoleName>,
}
