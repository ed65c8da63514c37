//! What a run goes by: the configuration that it began with, or one that people consented to afterwards.
//!
//! Must not: let a run act by a configuration that it was not compared with.

use std::sync::PoisonError;

use tokio::sync::MutexGuard;

use super::drive::Turn;
use super::{ActError, Engine, Footing, Retried};
use crate::approvals::{self, Choice, Via, Vote};
use crate::conversation::Actor;
use crate::ids::{RoleName, RunId};
use crate::playbook::model::ApprovalPolicy;
use crate::playbook::steps::Pause;
use crate::runs::event::Event;
use crate::runs::journal::Journal;
use crate::runs::outbox::Notice;
use crate::runs::state::{ChangedFooting, Phase, RunState};
use crate::store::Batch;

/// What the audit log calls it when a run is kept from going on by another configuration than its own.
pub(super) const FOOTING_CHANGED: &str = "configuration changed";

impl Engine {
    /// What the run stands on since it was last compared with the configuration.
    pub(super) fn footing(&self, run: RunId) -> Footing {
        let mut footings = self.0.footings.lock().unwrap_or_else(PoisonError::into_inner);
        footings.entry(run).or_insert_with(|| (self.0.parts.footing)()).clone()
    }

    /// The configuration in force, from now on also for this run.
    pub(super) fn new_footing(&self, run: RunId) -> Footing {
        let footing = (self.0.parts.footing)();
        self.keep_footing(run, footing.clone());
        footing
    }

    pub(super) fn forget_footing(&self, run: RunId) {
        self.0.footings.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    fn keep_footing(&self, run: RunId, footing: Footing) {
        self.0.footings.lock().unwrap_or_else(PoisonError::into_inner).insert(run, footing);
    }

    fn has_footing(&self, run: RunId) -> bool {
        self.0.footings.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&run)
    }

    /// Gives a run that an earlier process began what it began with. `Some`: that is not in force any more, or
    /// is again, and the run has moved by that.
    pub(super) async fn take_footing(&self, state: &RunState) -> Option<Turn> {
        let run = state.id;
        if self.has_footing(run) {
            return None;
        }
        let footing = (self.0.parts.footing)();
        let now = (footing.basis)(&state.plan);
        let differences = state.basis().differences_under_way(&now);
        let (event, notices, what) = match &state.footing_changed {
            None if differences.is_empty() => {
                self.keep_footing(run, footing);
                return None;
            }
            Some(_) if differences.is_empty() => {
                (Event::FootingRestored, vec![Notice::Progress { run }], "configuration restored")
            }
            Some(asked) if asked.basis.differences_under_way(&now).is_empty() => return None,
            _ => {
                let consent = consent_to_go_on(state, &footing);
                let notices = vec![Notice::Progress { run }, Notice::question(run, state.next_seq)];
                (Event::FootingChanged { differences, basis: now, consent }, notices, FOOTING_CHANGED)
            }
        };
        self.decide_and_audit(state, vec![event], notices, Batch::new(), what).await;
        Some(self.moved(state).await)
    }

    /// `retry R-1`: another round for a paused or stuck run; for one whose footing has changed, the consent to
    /// going on by what is in force now.
    pub async fn retry(&self, run: RunId, by: &Actor, roles: Vec<RoleName>) -> Result<Retried, ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        if let Some(changed) = &state.footing_changed {
            return self.accept_footing(journal, &state, changed, by, roles).await;
        }
        let event = Event::RetryRequested { by: by.clone() };
        let audited = Some(("retry requested", Some(by.clone())));
        self.act(journal, run, vec![event], vec![Notice::Progress { run }], audited).await?;
        Ok(Retried::GoesOn)
    }

    async fn accept_footing(
        &self,
        journal: MutexGuard<'_, Journal>,
        state: &RunState,
        changed: &ChangedFooting,
        by: &Actor,
        roles: Vec<RoleName>,
    ) -> Result<Retried, ActError> {
        let run = state.id;
        let now = ((self.0.parts.footing)().basis)(&state.plan);
        if !changed.basis.differences_under_way(&now).is_empty() {
            drop(journal);
            self.nudge(run);
            let why = "was not told to go on: the configuration has changed again, and its thread says how";
            return Err(ActError::NotNow { run, why: why.to_owned() });
        }
        if let Some(policy) = &changed.consent
            && let Err(why) = approvals::may_vote(policy, &state.by.id, &by.id, &roles)
        {
            return Ok(Retried::Ineligible(why));
        }
        let (by, at) = (by.clone(), self.now());
        let vote = Vote { by: by.clone(), choice: Choice::Approve, via: Via::Command, roles, at };
        let event = Event::FootingAccepted { vote };
        let mut notices = vec![Notice::Progress { run }];
        let accepts = state.after(event.clone(), at).is_ok_and(|after| after.footing_changed.is_none());
        if accepts && waits_for_a_person(state) {
            // What it asked before stands above what it has asked since.
            notices.push(Notice::question(run, state.next_seq));
        }
        let audited = Some(("configuration accepted", Some(by)));
        let after = self.act(journal, run, vec![event], notices, audited).await?;
        Ok(match after.footing_changed.and_then(|changed| changed.tally(&after.by.id)) {
            Some(tally) => Retried::Counted(tally),
            None => Retried::GoesOn,
        })
    }
}

/// The rule in force; where there is none any more, the one that the plan was approved under. Who broke the
/// glass went past consent.
fn consent_to_go_on(state: &RunState, footing: &Footing) -> Option<ApprovalPolicy> {
    if state.plan.break_glass.is_some() {
        return None;
    }
    (footing.consent)(&state.plan).or_else(|| state.plan.approval.clone())
}

fn waits_for_a_person(state: &RunState) -> bool {
    matches!(
        state.phase,
        Phase::Paused { .. }
            | Phase::Unknown { .. }
            | Phase::Stuck
            | Phase::Waiting { pause: Pause::Answer { .. }, .. }
    )
}
