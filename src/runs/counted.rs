//! What of a run's events is counted, and under which words.
//!
//! Must not: change anything. It is told of what stands in the journal.

use std::time::Duration;

use jiff::Timestamp;

use super::event::{Event, Recorded};
use super::state::{Decision, Phase, RunState};
use crate::approvals::Choice;
use crate::metrics::Metrics;

/// `records` are in the journal, and `state` is the run after them.
pub fn count(metrics: &Metrics, state: &RunState, was_done: bool, records: &[Recorded]) {
    for record in records {
        count_one(metrics, state, record);
    }
    if let Some(outcome) = state.outcome().filter(|_| !was_done) {
        metrics.run_finished(&state.plan.command_name, outcome.word());
    }
}

fn count_one(metrics: &Metrics, state: &RunState, record: &Recorded) {
    let kind = |step: usize| state.plan.steps.get(step).map_or("none", |step| step.kind.as_str());
    match &record.event {
        Event::Created { .. } => metrics.run_created(&state.plan.command_name),
        Event::Voted { vote, .. } => metrics.voted(match vote.choice {
            Choice::Approve => "approve",
            Choice::Deny => "deny",
        }),
        Event::StepSucceeded { step, .. } => {
            metrics.step(kind(*step), "succeeded");
            if let Some(started) = state.steps.get(*step).and_then(|step| step.started_at) {
                metrics.step_took(kind(*step), between(started, record.at));
            }
        }
        Event::StepFailed { step, .. } => metrics.step(kind(*step), "failed"),
        Event::OutcomeUnknown { step, .. } => metrics.step(kind(*step), "unknown"),
        Event::UndoSucceeded { step, nothing: false } => metrics.step(kind(*step), "undone"),
        Event::UndoFailed { step, .. } => metrics.step(kind(*step), "undo_failed"),
        Event::Approved | Event::Denied { .. } | Event::Expired | Event::Voided { .. } => {
            let ballot = state.latest_ballot();
            if let Some(decision) = &ballot.decision {
                metrics.decided(word(decision), between(ballot.asked_at, record.at));
            }
        }
        _ => {}
    }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Approved { .. } => "approved",
        Decision::Denied { .. } => "denied",
        Decision::Expired { .. } => "expired",
        Decision::Voided { .. } => "voided",
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Every state of a run that is not done, and how many are in it.
pub fn open(runs: &[RunState]) -> Vec<(&'static str, usize)> {
    const STATES: [&str; 13] = [
        "deciding",
        "ready",
        "queued",
        "frozen",
        "maintenance",
        "running",
        "asking",
        "waiting",
        "paused",
        "unknown",
        "undoing",
        "stuck",
        "footing",
    ];
    STATES.map(|state| (state, runs.iter().filter(|run| state_word(run) == state).count())).to_vec()
}

fn state_word(run: &RunState) -> &'static str {
    if run.footing_changed.is_some() {
        return "footing";
    }
    match &run.phase {
        Phase::Deciding { .. } => "deciding",
        Phase::Ready => "ready",
        Phase::Queued { .. } => "queued",
        Phase::Frozen { for_maintenance: true, .. } => "maintenance",
        Phase::Frozen { .. } => "frozen",
        Phase::Running => "running",
        Phase::Asking { .. } => "asking",
        Phase::Waiting { .. } => "waiting",
        Phase::Paused { .. } => "paused",
        Phase::Unknown { .. } => "unknown",
        Phase::Undoing => "undoing",
        Phase::Stuck => "stuck",
        Phase::Done { .. } => "done",
    }
}
