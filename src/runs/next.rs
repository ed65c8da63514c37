//! What a run does next: a pure decision over its state. The executor carries it out and records it;
//! after a crash the same decision is made again, from the same log.
//!
//! Must not: read the clock, the store or the world.

use std::time::Duration;

use jiff::Timestamp;

use super::event::Outcome;
use super::state::{Phase, RunState, StepState};
use crate::playbook::model::{AfterRetries, OnFailure, PlannedUndo};
use crate::playbook::steps::Repeat;

/// How often an undo is tried before the run is stuck.
pub(super) const UNDO_ATTEMPTS: u32 = 3;

/// Backoff never grows beyond this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing until an event comes from outside.
    Rest,
    /// The approval's time is over.
    Expire,
    /// Half of it is over: append `reminded`.
    Remind,
    /// A day has passed over an open review: append `review_reminded`.
    RemindOfReview,
    /// Nobody has decided in time: append `escalated`.
    Escalate,
    /// Nothing until then.
    Sleep(Timestamp),
    /// Look at what the step would do now, append `step_asked`.
    Ask {
        step: usize,
    },
    /// Append `step_started`, perform, append the outcome.
    Step {
        step: usize,
        attempt: u32,
    },
    /// Started by a process that is gone; what now depends on what a repeat means.
    Recover {
        step: usize,
        attempt: u32,
    },
    /// Append `retry_at`.
    ScheduleRetry {
        step: usize,
        at: Timestamp,
    },
    /// Attempts are used up and the playbook wants a person.
    Pause {
        step: usize,
    },
    /// A wait for time is over.
    EndWait {
        step: usize,
    },
    Undo {
        step: usize,
        attempt: u32,
    },
    Stuck,
    Finish(Outcome),
}

pub fn next(run: &RunState, now: Timestamp) -> Next {
    let next = on_its_footing(run, now);
    let acts =
        matches!(next, Next::Ask { .. } | Next::Step { .. } | Next::Recover { .. } | Next::Undo { .. });
    if acts && run.footing_changed.is_some() { Next::Rest } else { next }
}

/// What follows when what the run goes by is what it began with.
fn on_its_footing(run: &RunState, now: Timestamp) -> Next {
    match &run.phase {
        Phase::Asking { .. } if run.cancel.is_some() => after_failure(run, Outcome::Cancelled),
        Phase::Deciding { expires_at } | Phase::Asking { expires_at, .. } if *expires_at <= now => {
            Next::Expire
        }
        Phase::Deciding { expires_at } | Phase::Asking { expires_at, .. } => {
            match (run.escalate_at(), run.remind_at()) {
                // First, so that a reminder names everybody who may decide.
                (Some(at), _) if at <= now => Next::Escalate,
                (_, Some(at)) if at <= now => Next::Remind,
                (escalate, remind) => {
                    Next::Sleep([escalate, remind].into_iter().flatten().fold(*expires_at, Timestamp::min))
                }
            }
        }
        Phase::Frozen { until, .. } => Next::Sleep(*until),
        Phase::Ready | Phase::Queued { .. } | Phase::Unknown { .. } | Phase::Stuck => Next::Rest,
        Phase::Done { .. } => match run.remind_of_review_at() {
            Some(at) if at <= now => Next::RemindOfReview,
            Some(at) => Next::Sleep(at),
            None => Next::Rest,
        },
        Phase::Paused { .. } => {
            if run.cancel.is_some() {
                after_failure(run, Outcome::Cancelled)
            } else {
                Next::Rest
            }
        }
        Phase::Waiting { step, until, .. } => {
            if run.cancel.is_some() {
                return after_failure(run, Outcome::Cancelled);
            }
            match until {
                Some(until) if *until <= now => Next::EndWait { step: *step },
                Some(until) => Next::Sleep(*until),
                None => Next::Rest,
            }
        }
        Phase::Running => running(run, now),
        Phase::Undoing => undoing(run),
    }
}

fn running(run: &RunState, now: Timestamp) -> Next {
    for (index, record) in run.steps.iter().enumerate() {
        match &record.state {
            StepState::Succeeded { .. } => {}
            StepState::Failed { .. } if run.is_past(index) => {}
            StepState::Pending => {
                if run.cancel.is_some() {
                    return after_failure(run, Outcome::Cancelled);
                }
                return begin(run, index, 1);
            }
            StepState::Running { attempt, .. } => return Next::Recover { step: index, attempt: *attempt },
            StepState::Unknown { .. } if run.cancel.is_some() => {
                return after_failure(run, Outcome::Cancelled);
            }
            // Resolved as "did not happen".
            StepState::Unknown { attempt } => return Next::Step { step: index, attempt: attempt + 1 },
            StepState::RetryAt { at, attempt, .. } => {
                if run.cancel.is_some() {
                    return after_failure(run, Outcome::Cancelled);
                }
                return if *at <= now { begin(run, index, attempt + 1) } else { Next::Sleep(*at) };
            }
            StepState::Failed { attempt, error } => {
                if error.cancelled || run.cancel.is_some() {
                    return after_failure(run, Outcome::Cancelled);
                }
                let planned = &run.plan.steps[index];
                if run.was_refused(index) {
                    let otherwise = planned.approval.as_ref().map(|approval| approval.otherwise);
                    return match otherwise.unwrap_or_default() {
                        AfterRetries::Pause => Next::Pause { step: index },
                        AfterRetries::Fail | AfterRetries::GoOn => after_failure(run, Outcome::Failed),
                    };
                }
                let retry = &planned.retry;
                let first = record.started_at.unwrap_or(now);
                let doubled = retry.backoff.saturating_mul(1 << (attempt - 1).min(16));
                let failed_at = record.ended_at.unwrap_or(now);
                let at = failed_at.checked_add(doubled.min(LONGEST_BACKOFF)).unwrap_or(now);
                let in_time = retry
                    .max_elapsed
                    .is_none_or(|max| first.checked_add(max).is_ok_and(|deadline| at <= deadline));
                if error.transient && *attempt < retry.attempts && in_time {
                    return Next::ScheduleRetry { step: index, at };
                }
                match retry.then {
                    AfterRetries::Pause if error.transient => return Next::Pause { step: index },
                    AfterRetries::GoOn => {}
                    AfterRetries::Pause | AfterRetries::Fail => return after_failure(run, Outcome::Failed),
                }
            }
            StepState::Waiting { .. }
            | StepState::Undoing { .. }
            | StepState::UndoFailed { .. }
            | StepState::Undone => return after_failure(run, Outcome::Failed),
        }
    }
    if run.steps.iter().any(|record| matches!(record.state, StepState::Failed { .. })) {
        return after_failure(run, Outcome::Failed);
    }
    Next::Finish(Outcome::Succeeded)
}

/// A step that people have to consent to asks first.
fn begin(run: &RunState, step: usize, attempt: u32) -> Next {
    if run.must_ask(step) { Next::Ask { step } } else { Next::Step { step, attempt } }
}

/// Stop where it is, or undo: the playbook says.
fn after_failure(run: &RunState, outcome: Outcome) -> Next {
    match run.plan.on_failure {
        OnFailure::Stop => Next::Finish(outcome),
        OnFailure::Undo => match undo_step(run) {
            Some((step, attempt)) => Next::Undo { step, attempt },
            None => Next::Finish(outcome),
        },
    }
}

fn undoing(run: &RunState) -> Next {
    let given_up = run
        .steps
        .iter()
        .any(|record| matches!(&record.state, StepState::UndoFailed { attempt, .. } if attempt % UNDO_ATTEMPTS == 0));
    if given_up {
        return Next::Stuck;
    }
    match undo_step(run) {
        Some((step, attempt)) => Next::Undo { step, attempt },
        None => Next::Finish(if run.cancel.is_some() { Outcome::Cancelled } else { Outcome::Failed }),
    }
}

/// The last step that is still to be undone, and the attempt.
fn undo_step(run: &RunState) -> Option<(usize, u32)> {
    (0..run.steps.len()).rev().find_map(|step| Some((step, undo_attempt(run, step)?)))
}

/// Everything that is still to be undone, in this order.
pub(super) fn steps_to_undo(run: &RunState) -> Vec<usize> {
    (0..run.steps.len()).rev().filter(|step| undo_attempt(run, *step).is_some()).collect()
}

/// What is undone: steps that succeeded, and failed ones that may have left something behind.
fn undo_attempt(run: &RunState, step: usize) -> Option<u32> {
    match run.plan.steps[step].undo {
        PlannedUndo::NotNeeded | PlannedUndo::Impossible => return None,
        PlannedUndo::ByKind | PlannedUndo::Step { .. } => {}
    }
    let record = &run.steps[step];
    match &record.state {
        StepState::Succeeded { .. } => Some(1),
        StepState::Failed { .. } | StepState::RetryAt { .. } if record.touched => Some(1),
        StepState::Undoing { attempt, .. } | StepState::UndoFailed { attempt, .. } => Some(attempt + 1),
        _ => None,
    }
}

/// What to do with a step that an earlier process started and did not see the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCrash {
    RunAgain,
    Probe,
    AskAPerson,
}

pub fn after_crash(repeat: Repeat) -> AfterCrash {
    match repeat {
        Repeat::Safe | Repeat::Idempotent => AfterCrash::RunAgain,
        Repeat::Keyed => AfterCrash::Probe,
        Repeat::Once => AfterCrash::AskAPerson,
    }
}
