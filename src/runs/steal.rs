//! A lock that is taken from whoever has it and does not give it back: a person who is away, or a run that is stuck.
//! It is a plan like every other, with one step: shown on a card, consented to, void when things are otherwise by then.
//!
//! Must not: take a lock that a run works under. Such a run is cancelled or abandoned.

use serde::{Deserialize, Serialize};

use super::locks::{Held, Holder, ManualLock};
use super::state::{Phase, RunState};
use crate::change::Change;
use crate::conversation::Actor;
use crate::digest::Digest;
use crate::ids::{RunId, UserId};
use crate::playbook::model::{
    ApprovalPolicy, Basis, LockName, OnFailure, Plan, PlannedStep, PlannedUndo, Preview, Retry, STEAL_LOCK,
};

/// What is stolen, from whom, by whom. The parameters of the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steal {
    pub lock: LockName,
    pub from: From,
    pub by: Actor,
    pub why: String,
}

/// Who has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    Person(ManualLock),
    /// It is abandoned, and so gives up every lock that it has.
    Stuck {
        run: RunId,
        command: String,
        by: Actor,
        locks: Vec<LockName>,
    },
}

impl From {
    /// `None`: a lock of this holder cannot be stolen.
    pub fn of(held: &Held, run: Option<&RunState>) -> Option<Self> {
        match &held.holder {
            Holder::Person(lock) => Some(Self::Person(lock.clone())),
            Holder::Run { command, by, .. } => {
                let run = run.filter(|run| matches!(run.phase, Phase::Stuck))?;
                let (command, by) = (command.clone(), by.clone());
                Some(Self::Stuck { run: run.id, command, by, locks: run.plan.locks.clone() })
            }
            Holder::Unreadable { .. } => None,
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> &Actor {
        match self {
            Self::Person(lock) => &lock.by,
            Self::Stuck { by, .. } => by,
        }
    }

    /// For people: `bob, since 12:01 UTC: hotfix`.
    fn describe(&self) -> String {
        match self {
            Self::Person(lock) => {
                format!("{}, since {}: {}", lock.by.username, lock.at.strftime("%H:%M UTC"), lock.reason)
            }
            Self::Stuck { run, command, by, .. } => format!("{run}, stuck ({command}, by {})", by.username),
        }
    }
}

/// Who has the lock now, as far as it could be stolen.
pub(super) type Now = Option<From>;

impl Steal {
    /// Of a plan that steals a lock.
    pub fn of(plan: &Plan) -> Option<Self> {
        let step = plan.steps.iter().find(|step| step.kind == STEAL_LOCK)?;
        serde_json::from_value(step.params.clone()).ok()
    }

    /// Who is told: not the one who does it.
    pub fn whom_to_tell(&self) -> Option<UserId> {
        let owner = self.from.owner();
        (owner.id != self.by.id).then(|| owner.id.clone())
    }

    pub fn plan(&self, command: String, approval: Option<ApprovalPolicy>) -> Plan {
        let preview = self.preview(Some(&self.from));
        let undo = match self.from {
            From::Person(_) => PlannedUndo::NotNeeded,
            From::Stuck { .. } => PlannedUndo::Impossible,
        };
        let step = PlannedStep {
            id: "steal".into(),
            kind: STEAL_LOCK.to_owned(),
            title: self.title(),
            params: serde_json::to_value(self).expect("plain data"),
            preview,
            undo,
            retry: Retry::default(),
            timeout: None,
            service: self.lock.service.clone(),
            approval: None,
            whole: None,
        };
        Plan {
            command,
            command_name: "unlock".to_owned(),
            playbook: "unlock".to_owned(),
            playbook_digest: Digest::of(&[]),
            basis: Basis::default(),
            environment: Some(self.lock.environment.clone()),
            locks: Vec::new(),
            steps: vec![step],
            on_failure: OnFailure::Stop,
            approval,
            reason: Some(self.why.clone()),
            report: None,
            break_glass: None,
            standing: None,
        }
    }

    pub(super) fn title(&self) -> String {
        match &self.from {
            From::Person(lock) => format!("steal the lock of `{}` from {}", self.lock, lock.by.username),
            From::Stuck { run, .. } => {
                format!("steal the lock of `{}` from {run}, which is stuck", self.lock)
            }
        }
    }

    pub(super) fn preview(&self, now: Option<&From>) -> Preview {
        let has = now.map_or_else(|| "nobody".to_owned(), From::describe);
        let what = format!("holder of {}", self.lock);
        let change = Change { what: what.clone(), from: Some(has.clone()), to: Some("nobody".to_owned()) };
        let mut notes = Vec::new();
        if let From::Stuck { run, locks, .. } = &self.from {
            let locks: Vec<String> = locks.iter().map(ToString::to_string).collect();
            notes.push(format!(
                "{run} is abandoned: what it has changed and not undone stays, and it gives up {}",
                crate::text::plain_and_list(&locks)
            ));
        }
        Preview { changes: vec![change], observed: [(what, has)].into(), notes, ..Preview::default() }
    }
}
