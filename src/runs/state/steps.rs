//! Events about steps, done and undone, and what they make of the run.
//!
//! Must not: read the clock, the store or the world.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::fold::{Moved, Why};
use super::{Phase, RunState, StepRecord, StepState};
use crate::conversation::Actor;
use crate::playbook::model::AfterRetries;
use crate::playbook::steps::{Effects, Pause, StepError};
use crate::runs::event::{Found, Resolution, ToUndo};
use crate::text;

const NOT_ON_THIS_FOOTING: Why = "what it goes by has changed, and nobody has consented yet";

impl RunState {
    pub(super) fn slot(&mut self, step: usize) -> Result<&mut StepRecord, Why> {
        self.steps.get_mut(step).ok_or("there is no such step")
    }

    /// Everything before the step has succeeded, or failed in vain.
    pub(super) fn is_turn_of(&self, step: usize) -> bool {
        let over = |(before, record): (usize, &StepRecord)| match record.state {
            StepState::Succeeded { .. } => true,
            StepState::Failed { .. } => self.plan.steps[before].retry.then == AfterRetries::GoOn,
            _ => false,
        };
        self.steps.iter().take(step).enumerate().all(over)
    }

    /// It has failed, and the steps after it are done all the same: one of them has begun.
    pub(in crate::runs) fn is_past(&self, step: usize) -> bool {
        let begun = |record: &StepRecord| !matches!(record.state, StepState::Pending);
        matches!(self.steps[step].state, StepState::Failed { .. })
            && self.steps.iter().skip(step + 1).any(begun)
    }

    /// Consent to the step is past.
    fn begun(&mut self, step: usize) {
        if let Some(ask) = self.asks.iter_mut().rfind(|ask| ask.step == step) {
            ask.begun = true;
        }
    }

    /// See [`Event::Found`](crate::runs::event::Event::Found).
    pub(super) fn found(&mut self, step: usize, found: &Found) -> Moved {
        if !matches!(self.slot(step)?.state, StepState::Running { .. }) {
            return Err("the step was not begun");
        }
        if let Some(away) = &mut self.away {
            away.found = Some(found.clone());
        }
        Ok(())
    }

    pub(super) fn step_started(&mut self, step: usize, attempt: u32, at: Timestamp) -> Moved {
        if self.footing_changed.is_some() {
            return Err(NOT_ON_THIS_FOOTING);
        }
        if self.must_ask(step) {
            return Err("nobody has consented to the step");
        }
        let running = matches!(self.phase, Phase::Running) && self.is_turn_of(step);
        let slot = self.slot(step)?;
        let legal = match &slot.state {
            StepState::Pending => attempt == 1,
            // After a crash the same step is started again.
            StepState::Running { attempt: last, .. }
            | StepState::Failed { attempt: last, .. }
            | StepState::RetryAt { attempt: last, .. }
            | StepState::Unknown { attempt: last } => attempt == last + 1,
            _ => false,
        };
        if !running || !legal {
            return Err("the step cannot be started now");
        }
        let resumed = matches!(slot.state, StepState::Running { .. });
        slot.resumed |= resumed;
        slot.touched |= resumed;
        slot.open |= resumed;
        slot.started_at.get_or_insert(at);
        slot.state = StepState::Running { attempt, since: at };
        self.begun(step);
        Ok(())
    }

    pub(super) fn step_succeeded(
        &mut self,
        step: usize,
        output: &Json,
        adopted: bool,
        at: Timestamp,
    ) -> Moved {
        let slot = self.slot(step)?;
        if !matches!(slot.state, StepState::Running { .. }) {
            return Err("the step does not run");
        }
        slot.resumed |= adopted;
        slot.ended_at = Some(at);
        slot.state = StepState::Succeeded { output: output.clone() };
        Ok(())
    }

    pub(super) fn step_failed(&mut self, step: usize, error: &StepError, at: Timestamp) -> Moved {
        let slot = self.slot(step)?;
        let StepState::Running { attempt, .. } = slot.state else {
            return Err("the step does not run");
        };
        slot.ended_at = Some(at);
        slot.touched |= error.effects == Effects::Possible;
        slot.open = error.under_way;
        slot.ended += u32::from(!error.under_way);
        slot.error = Some(error.clone());
        slot.state = StepState::Failed { attempt, error: error.clone() };
        Ok(())
    }

    pub(super) fn retry_at(&mut self, step: usize, when: Timestamp) -> Moved {
        if !matches!(self.phase, Phase::Running) {
            return Err("it does not run");
        }
        let slot = self.slot(step)?;
        let StepState::Failed { attempt, error } = &slot.state else {
            return Err("the step has not failed");
        };
        slot.state = StepState::RetryAt { attempt: *attempt, at: when, error: error.clone() };
        Ok(())
    }

    pub(super) fn step_waiting(
        &mut self,
        step: usize,
        pause: &Pause,
        until: Option<Timestamp>,
        at: Timestamp,
    ) -> Moved {
        if self.footing_changed.is_some() {
            return Err(NOT_ON_THIS_FOOTING);
        }
        if !matches!(self.phase, Phase::Running) || !self.is_turn_of(step) {
            return Err("it is not the step's turn");
        }
        if self.must_ask(step) {
            return Err("nobody has consented to the step");
        }
        let slot = self.slot(step)?;
        if !matches!(slot.state, StepState::Pending) {
            return Err("the step has begun");
        }
        slot.started_at = Some(at);
        slot.state = StepState::Waiting { since: at };
        self.begun(step);
        self.phase = Phase::Waiting { step, pause: pause.clone(), until };
        Ok(())
    }

    pub(super) fn wait_ended(&mut self, step: usize, output: Json, at: Timestamp) -> Moved {
        if !matches!(self.phase, Phase::Waiting { step: waiting, .. } if waiting == step) {
            return Err("it waits for no answer");
        }
        let slot = self.slot(step)?;
        slot.ended_at = Some(at);
        slot.state = StepState::Succeeded { output };
        self.phase = Phase::Running;
        Ok(())
    }

    pub(super) fn answered(&mut self, step: usize, by: &Actor, answer: &str, at: Timestamp) -> Moved {
        let stops = matches!(&self.phase, Phase::Waiting { pause: Pause::Answer { stop, .. }, .. }
            if stop.iter().any(|word| word.eq_ignore_ascii_case(answer)));
        self.wait_ended(step, serde_json::json!({ "answer": answer, "by": by.id }), at)?;
        if stops {
            let error = StepError::new(format!("{} answered {}", by.username, text::typed(answer)));
            let slot = self.slot(step)?;
            slot.error = Some(error.clone());
            slot.state = StepState::Failed { attempt: 1, error };
        }
        Ok(())
    }

    pub(super) fn outcome_unknown(&mut self, step: usize, why: &str, look: &[String]) -> Moved {
        let slot = self.slot(step)?;
        let StepState::Running { attempt, .. } = slot.state else {
            return Err("the step does not run");
        };
        slot.state = StepState::Unknown { attempt };
        self.phase = Phase::Unknown { step, why: why.to_owned(), look: look.to_vec() };
        Ok(())
    }

    pub(super) fn resolved(&mut self, step: usize, resolution: Resolution, at: Timestamp) -> Moved {
        if resolution == Resolution::Undone {
            return self.undone_by_hand();
        }
        if !matches!(&self.phase, Phase::Unknown { step: asked, .. } if *asked == step) {
            return Err("nothing is unknown about that step");
        }
        let slot = self.slot(step)?;
        let StepState::Unknown { attempt } = slot.state else {
            return Err("nothing is unknown about that step");
        };
        match resolution {
            Resolution::Happened => {
                slot.ended_at = Some(at);
                slot.state = StepState::Succeeded { output: Json::Null };
            }
            Resolution::DidNotHappen | Resolution::Undone => {}
            Resolution::Undo => {
                let error = StepError::new("its outcome is unknown; it is undone").with_effects();
                slot.touched = true;
                slot.open = true;
                slot.error = Some(error.clone());
                slot.state = StepState::Failed { attempt, error };
            }
        }
        self.phase = if resolution == Resolution::Undo { Phase::Undoing } else { Phase::Running };
        Ok(())
    }

    fn undone_by_hand(&mut self) -> Moved {
        if !matches!(self.phase, Phase::Stuck) {
            return Err("no undo of it has failed for good");
        }
        for slot in &mut self.steps {
            if matches!(slot.state, StepState::UndoFailed { .. }) {
                slot.state = StepState::Undone;
            }
        }
        self.phase = Phase::Undoing;
        Ok(())
    }

    pub(super) fn paused(&mut self, step: usize) -> Moved {
        let failed = |slot: &StepRecord| matches!(slot.state, StepState::Failed { .. });
        if !matches!(self.phase, Phase::Running) || !self.steps.get(step).is_some_and(failed) {
            return Err("the step has not failed");
        }
        self.phase = Phase::Paused { step };
        Ok(())
    }

    pub(super) fn retry_requested(&mut self, at: Timestamp) -> Moved {
        match self.phase {
            Phase::Paused { step } => {
                self.phase = Phase::Running;
                if let Ok(slot) = self.slot(step)
                    && let StepState::Failed { attempt, error } = &slot.state
                {
                    slot.state = StepState::RetryAt { attempt: *attempt, at, error: error.clone() };
                }
            }
            Phase::Stuck => {
                self.phase = Phase::Undoing;
                for slot in &mut self.steps {
                    if let StepState::UndoFailed { attempt, output, .. } = &slot.state {
                        slot.state = StepState::Undoing { attempt: *attempt, output: output.clone() };
                    }
                }
            }
            _ => return Err("it is neither paused nor stuck"),
        }
        Ok(())
    }

    pub(super) fn undo_started(&mut self, step: usize, attempt: u32) -> Moved {
        if self.footing_changed.is_some() {
            return Err(NOT_ON_THIS_FOOTING);
        }
        if !matches!(
            self.phase,
            Phase::Running
                | Phase::Undoing
                | Phase::Waiting { .. }
                | Phase::Asking { .. }
                | Phase::Paused { .. }
        ) {
            return Err("nothing is to be undone");
        }
        if self.steps.iter().any(|slot| matches!(slot.state, StepState::Running { .. })) {
            return Err("a step is under way");
        }
        let slot = self.slot(step)?;
        let (last, output) = match &slot.state {
            StepState::Succeeded { output } => (0, Some(output.clone())),
            StepState::Undoing { attempt, output } | StepState::UndoFailed { attempt, output, .. } => {
                (*attempt, output.clone())
            }
            StepState::Failed { .. } | StepState::RetryAt { .. } => (0, None),
            _ => return Err("the step was not done"),
        };
        if attempt != last + 1 {
            return Err("the attempts have a gap");
        }
        slot.state = StepState::Undoing { attempt, output };
        self.phase = Phase::Undoing;
        Ok(())
    }

    /// A failed step that had left `nothing` behind is a failed one, as if nobody had looked.
    pub(super) fn undo_succeeded(&mut self, step: usize, nothing: bool) -> Moved {
        let slot = self.slot(step)?;
        if !matches!(slot.state, StepState::Undoing { .. }) {
            return Err("the step is not being undone");
        }
        slot.state = match &slot.error {
            Some(error) if nothing => StepState::Failed { attempt: slot.ended.max(1), error: error.clone() },
            _ => StepState::Undone,
        };
        slot.touched &= !nothing;
        Ok(())
    }

    pub(super) fn undo_failed(&mut self, step: usize, error: &StepError) -> Moved {
        let slot = self.slot(step)?;
        let StepState::Undoing { attempt, output } = &slot.state else {
            return Err("the step is not being undone");
        };
        slot.undo_ended += u32::from(!error.under_way);
        slot.state =
            StepState::UndoFailed { attempt: *attempt, output: output.clone(), error: error.clone() };
        Ok(())
    }

    pub(super) fn stuck(&mut self, by_hand: &[ToUndo]) -> Moved {
        let failed = |slot: &StepRecord| matches!(slot.state, StepState::UndoFailed { .. });
        if !matches!(self.phase, Phase::Undoing) || !self.steps.iter().any(failed) {
            return Err("no undo has failed");
        }
        self.by_hand = by_hand.to_vec();
        self.phase = Phase::Stuck;
        Ok(())
    }
}
