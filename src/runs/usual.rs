//! How long each step of a run usually takes: from the journal of earlier runs of the same command in the
//! same environment that succeeded.
//!
//! Must not: keep records of its own, or read more than a bounded part of the journal.

use std::time::Duration;

use super::journal::{headers, read_log};
use super::state::{RunState, StepState};
use crate::playbook::model::PlannedStep;
use crate::runs::event::Outcome;
use crate::store::{Store, StoreError};

/// Runs that are looked at, newest first.
const MOST_HEADERS: usize = 200;

/// Runs of the same command that are compared.
const MOST_RUNS: usize = 5;

/// One time is no habit.
const FEWEST: usize = 2;

/// By the steps of `run`; `None` for a step that was not seen often enough.
pub fn durations(store: &Store, run: &RunState) -> Result<Vec<Option<Duration>>, StoreError> {
    let mut seen: Vec<Vec<Duration>> = vec![Vec::new(); run.plan.steps.len()];
    let mut compared = 0;
    let succeeded = Outcome::Succeeded.word();
    for header in headers(store).take(MOST_HEADERS) {
        let header = header?;
        if header.run == run.id || header.state != succeeded || header.environment != run.plan.environment {
            continue;
        }
        // A run that this version cannot read teaches it nothing.
        let Ok(Some(earlier)) = RunState::fold(&read_log(store, header.run)?) else { continue };
        if earlier.plan.command_name != run.plan.command_name {
            continue;
        }
        for (step, seen) in run.plan.steps.iter().zip(&mut seen) {
            seen.extend(took(&earlier, step));
        }
        compared += 1;
        if compared == MOST_RUNS {
            break;
        }
    }
    Ok(seen.into_iter().map(median).collect())
}

/// How long the step that corresponds to `step` took. A new version changes its title and parameters, not
/// what it is.
fn took(earlier: &RunState, step: &PlannedStep) -> Option<Duration> {
    let same = |other: &PlannedStep| {
        (&other.id, &other.kind, &other.service) == (&step.id, &step.kind, &step.service)
    };
    let (_, record) = earlier.plan.steps.iter().zip(&earlier.steps).find(|(other, _)| same(other))?;
    if !matches!(record.state, StepState::Succeeded { .. }) {
        return None;
    }
    Duration::try_from(record.ended_at?.duration_since(record.started_at?)).ok()
}

fn median(mut durations: Vec<Duration>) -> Option<Duration> {
    if durations.len() < FEWEST {
        return None;
    }
    durations.sort_unstable();
    Some(durations[durations.len() / 2])
}
