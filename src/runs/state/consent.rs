//! Events about consent, to the plan or to one of its steps, and what they make of the run.
//!
//! Must not: read the clock, the store or the world.

use jiff::Timestamp;

use super::fold::Moved;
use super::{Decision, Phase, RunState, StepAsk, StepState};
use crate::approvals::Vote;
use crate::change::Change;
use crate::conversation::Actor;
use crate::digest::Digest;
use crate::ids::{MessageId, UserId};
use crate::playbook::model::Preview;
use crate::playbook::steps::StepError;
use crate::runs::ballot::{Asked, Ballot};
use crate::runs::event::Outcome;

impl RunState {
    fn open_ballot_mut(&mut self) -> Option<&mut Ballot> {
        if self.before_start() {
            return Some(&mut self.consent).filter(|ballot| ballot.policy().is_some());
        }
        self.open_ask()?;
        self.asks.last_mut().map(|ask| &mut ask.ballot)
    }

    pub(super) fn voted(&mut self, vote: &Vote, digest: &Digest) -> Moved {
        let ballot = self.open_ballot_mut().ok_or("votes count until the start")?;
        if *digest != ballot.digest {
            return Err("the vote is for another plan or step");
        }
        ballot.vote(vote);
        Ok(())
    }

    pub(super) fn vote_withdrawn(&mut self, by: &Actor, vanished: bool, lost: bool) -> Moved {
        let ballot = self.open_ballot_mut().ok_or("votes can be withdrawn until the start")?;
        if !ballot.take_out(by, vanished, lost) {
            return Err("there is no vote of this person");
        }
        if ballot.is_approved() && ballot.tally().is_some_and(|tally| !tally.met) {
            // What is left of the time that it had.
            ballot.decision = None;
            let expires_at = ballot.expires_at;
            self.phase = match self.asks.last() {
                Some(ask) => Phase::Asking { step: ask.step, expires_at },
                None => Phase::Deciding { expires_at },
            };
        }
        Ok(())
    }

    pub(super) fn told(&mut self, who: &UserId) -> Moved {
        let told = match self.open_ballot_mut() {
            Some(ballot) => &mut ballot.told,
            None => &mut self.consent.told,
        };
        told.insert(who.clone());
        Ok(())
    }

    pub(super) fn reminded(&mut self) -> Moved {
        self.remind_at().ok_or("there is nothing to remind of")?;
        self.open_ballot_mut().ok_or("nobody is asked")?.reminded = true;
        Ok(())
    }

    pub(super) fn escalated(&mut self) -> Moved {
        self.escalate_at().ok_or("there is nobody to whom it could escalate")?;
        self.open_ballot_mut().ok_or("nobody is asked")?.escalate();
        Ok(())
    }

    pub(super) fn card_replaced(&mut self, card: &MessageId) -> Moved {
        // What its steps leave outside is found again by a name that the plan's card is in: that one stays as
        // it is from the start on.
        let ballot = if self.before_start() { Some(&mut self.consent) } else { self.open_ballot_mut() };
        ballot.ok_or("it has started")?.card = card.clone();
        Ok(())
    }

    pub(super) fn approved(&mut self, at: Timestamp) -> Moved {
        self.asking().ok_or("it waits for no approval")?;
        let before_start = self.before_start();
        self.open_ballot_mut().ok_or("it waits for no approval")?.approve(at)?;
        if before_start {
            self.ready_at = at;
            self.phase = Phase::Ready;
        } else {
            self.phase = Phase::Running;
        }
        Ok(())
    }

    pub(super) fn denied(&mut self, by: &Actor, reason: Option<&str>, at: Timestamp) -> Moved {
        let decision = Decision::Denied { by: by.clone(), reason: reason.map(str::to_owned), at };
        if self.before_start() {
            self.consent.decision = Some(decision);
            self.end(Outcome::Denied, at);
            return Ok(());
        }
        self.refuse_step(decision, denial(by, reason), at).map_err(|_| "it has started")
    }

    /// The reason of the latest denial, given afterwards.
    pub(super) fn denial_explained(&mut self, reason: &str) -> Moved {
        let ballot = self.asks.last_mut().map_or(&mut self.consent, |ask| &mut ask.ballot);
        let Some(Decision::Denied { by, reason: slot, .. }) = &mut ballot.decision else {
            return Err("it was not denied");
        };
        *slot = Some(reason.to_owned());
        let error = denial(by, Some(reason));
        if let Some(step) = self.asks.last().map(|ask| ask.step)
            && let Ok(record) = self.slot(step)
        {
            if let StepState::Failed { error: shown, .. } = &mut record.state {
                *shown = error.clone();
            }
            record.error = Some(error);
        }
        Ok(())
    }

    pub(super) fn expired(&mut self, at: Timestamp) -> Moved {
        self.asking().ok_or("it waits for no approval")?;
        if self.before_start() {
            self.consent.decision = Some(Decision::Expired { at });
            self.end(Outcome::Expired, at);
            return Ok(());
        }
        self.refuse_step(Decision::Expired { at }, StepError::new("nobody approved it in time"), at)
    }

    pub(super) fn voided(&mut self, differences: &[Change], at: Timestamp) -> Moved {
        let decision = Decision::Voided { differences: differences.to_vec(), at };
        if self.before_start() {
            self.consent.decision = Some(decision);
            self.end(Outcome::Void, at);
            return Ok(());
        }
        // It asks again, with what is so now.
        self.open_ballot_mut().ok_or("it has started")?.decision = Some(decision);
        self.phase = Phase::Running;
        Ok(())
    }

    pub(super) fn step_asked(
        &mut self,
        step: usize,
        preview: &Preview,
        digest: &Digest,
        card: &MessageId,
        expires_at: Timestamp,
        at: Timestamp,
    ) -> Moved {
        if !matches!(self.phase, Phase::Running) || !self.is_turn_of(step) {
            return Err("it is not the step's turn");
        }
        let rule = self.rule_of(step).filter(|_| self.must_ask(step));
        let rule = rule.ok_or("nobody has to consent to the step")?;
        let asks = matches!(
            self.steps.get(step).map(|record| &record.state),
            Some(StepState::Pending | StepState::RetryAt { .. })
        );
        if !asks {
            return Err("the step has begun");
        }
        let ballot = Ballot::new(Asked {
            card: card.clone(),
            digest: digest.clone(),
            rule: Some(rule.policy.clone()),
            requester: self.by.id.clone(),
            barred: if rule.not_approver { self.approvers() } else { Vec::new() },
            asked_at: at,
            expires_at,
        });
        self.asks.push(StepAsk { step, preview: preview.clone(), ballot, begun: false });
        self.phase = Phase::Asking { step, expires_at };
        Ok(())
    }

    /// Who has approved the plan.
    fn approvers(&self) -> Vec<UserId> {
        match &self.consent.decision {
            Some(Decision::Approved { by, .. }) => by.iter().map(|who| who.id.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// A step that people keep from beginning is one that has failed without a trace.
    fn refuse_step(&mut self, decision: Decision, error: StepError, at: Timestamp) -> Moved {
        let step = self.open_ask().ok_or("no step waits for consent")?.step;
        if let Some(ballot) = self.open_ballot_mut() {
            ballot.decision = Some(decision);
        }
        let slot = self.slot(step)?;
        let attempt = match slot.state {
            StepState::RetryAt { attempt, .. } => attempt,
            _ => 1,
        };
        slot.ended_at = Some(at);
        slot.error = Some(error.clone());
        slot.state = StepState::Failed { attempt, error };
        self.phase = Phase::Running;
        Ok(())
    }
}

fn denial(by: &Actor, reason: Option<&str>) -> StepError {
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    StepError::new(format!("{} denied it{reason}", by.username))
}
