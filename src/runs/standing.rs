//! A standing approval: people's consent to a schedule's beginning, again and again, without asking each time. Giving it
//! is a plan like every other, with one step: shown on a card, consented to by whom the command itself takes, void when
//! things are otherwise by then. It ends at its time, is revoked, or is void when what it was given for changes.
//!
//! Must not: cover more than the consent to the plan. Steps that ask go on asking.

use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use super::state::{Decision, RunState};
use crate::change::Change;
use crate::config::window::words;
use crate::conversation::Actor;
use crate::digest::Digest;
use crate::ids::{EnvName, MessageId, RunId, ScheduleName, ServiceName};
use crate::playbook::model::{
    ALLOW_SCHEDULE, ApprovalPolicy, Basis, OnFailure, Plan, PlannedStep, PlannedUndo, Preview, Retry,
};

/// Before its end the room is told, so long or a quarter of its time.
const WARNED: SignedDuration = SignedDuration::from_hours(3 * 24);

/// As the row of the schedule has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allowed {
    /// The run that gave it.
    pub run: RunId,
    pub asked_by: Actor,
    /// Who consented.
    pub by: Vec<Actor>,
    pub at: Timestamp,
    #[serde(with = "super::zoned")]
    pub until: Zoned,
    pub why: String,
    /// Of the configuration that it was given for.
    pub basis: Basis,
    /// The room was told that it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warned: bool,
}

impl Allowed {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.timestamp() <= now
    }

    /// When the room is told that it ends.
    pub fn warns_at(&self) -> Timestamp {
        let lasts = self.until.timestamp().duration_since(self.at);
        let before = lasts.checked_div(4).unwrap_or_default().min(WARNED);
        self.until.timestamp().checked_sub(before).unwrap_or(Timestamp::MIN)
    }

    /// `bob, until Fri 25 Dec 2026 12:00 (Europe/Lisbon), R-3`
    pub fn describe(&self) -> String {
        let by: Vec<&str> = self.by.iter().map(|who| who.username.as_str()).collect();
        format!("{}, until {}, {}", crate::text::plain_and_list(&by), words(&self.until), self.run)
    }
}

/// What is asked for. The parameters of the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allow {
    /// The message that asked: what finds the run again that gave it.
    pub asked: MessageId,
    pub schedule: ScheduleName,
    /// The schedule's command, canonical, and its name in `commands/`.
    pub runs: String,
    pub command_name: String,
    pub service: Option<ServiceName>,
    #[serde(with = "super::zoned")]
    pub until: Zoned,
    pub why: String,
    pub by: Actor,
    pub basis: Basis,
}

impl Allow {
    /// Of a plan that gives one.
    pub fn of(plan: &Plan) -> Option<Self> {
        let step = plan.steps.iter().find(|step| step.kind == ALLOW_SCHEDULE)?;
        serde_json::from_value(step.params.clone()).ok()
    }

    pub fn plan(&self, command: String, environment: EnvName, approval: Option<ApprovalPolicy>) -> Plan {
        let step = PlannedStep {
            id: "allow".into(),
            kind: ALLOW_SCHEDULE.to_owned(),
            title: self.title(),
            params: serde_json::to_value(self).expect("plain data"),
            preview: self.preview(),
            undo: PlannedUndo::NotNeeded,
            retry: Retry::default(),
            timeout: None,
            service: self.service.clone(),
            approval: None,
            whole: None,
        };
        Plan {
            command,
            command_name: "schedules allow".to_owned(),
            playbook: "schedules allow".to_owned(),
            playbook_digest: Digest::of(&[]),
            basis: Basis::default(),
            environment: Some(environment),
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
        format!("let the schedule {} give `{}` without asking each time", self.schedule, self.runs)
    }

    pub(super) fn preview(&self) -> Preview {
        let change = Change {
            what: format!("standing approval of {}", self.schedule),
            from: None,
            to: Some(format!("until {}", words(&self.until))),
        };
        let notes = vec![
            "each run of it is planned and shown as before; only nobody is asked".to_owned(),
            format!(
                "`!schedules revoke {}` ends it; another command, time or playbook makes it void",
                self.schedule
            ),
        ];
        Preview { changes: vec![change], notes, ..Preview::default() }
    }

    /// What the row has when `run` has come to it.
    pub(super) fn allowed(&self, run: &RunState, now: Timestamp) -> Allowed {
        let by = match &run.consent.decision {
            Some(Decision::Approved { by, .. }) => by.clone(),
            _ => vec![self.by.clone()],
        };
        Allowed {
            run: run.id,
            asked_by: self.by.clone(),
            by,
            at: now,
            until: self.until.clone(),
            why: self.why.clone(),
            basis: self.basis.clone(),
            warned: false,
        }
    }
}
