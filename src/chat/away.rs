//! How it reads that Houston was away while a run moved: one line of the run's own message, true at every moment and
//! replaced when it happens again. Pure.
//!
//! Must not: be a message of its own. Nobody has to do anything about it; what asks for a person is a question.

use std::time::Duration;

use crate::runs::event::Found;
use crate::runs::state::{Away, Phase, RunState, StepState};
use crate::text;

/// `I was away for 12 s. R-41 continues at step 3 of 5; the update that I started is still running …`
pub fn line(run: &RunState) -> Option<String> {
    let away = run.away.as_ref()?;
    let again = if away.times > 1 { format!(" ({} times so far)", away.times) } else { String::new() };
    let went = went_on(run, away);
    Some(format!("_I was away {}{again}{went}_", how_long(away)))
}

fn how_long(away: &Away) -> String {
    let time = Duration::try_from(away.until.duration_since(away.since)).unwrap_or_default();
    if time < Duration::from_secs(1) {
        return "for less than a second".to_owned();
    }
    format!("for {}", text::duration(time))
}

/// With the mark that it begins with.
fn went_on(run: &RunState, away: &Away) -> String {
    let id = run.id;
    let of = |step: usize| format!("step {} of {}", step + 1, run.plan.steps.len());
    let Some(step) = away.step else { return ".".to_owned() };
    let there = run.at_step() == Some(step) && run.steps[step].state != StepState::Undone;
    match &run.phase {
        Phase::Undoing if there => format!(". {id} goes on undoing at {}.", of(step)),
        Phase::Waiting { .. } if there => format!(". {id} still waits at {}.", of(step)),
        Phase::Unknown { step, .. } => {
            format!(", while {} ran. Whether it happened is not known.", of(*step))
        }
        Phase::Running if there => match &away.found {
            Some(Found::UnderWay { what }) => {
                format!(". {id} continues at {}; {}.", of(step), text::inert(what))
            }
            Some(Found::NotBegun) => {
                format!(". {id} continues at {}, of which nothing had begun outside.", of(step))
            }
            Some(Found::Harmless { only_reads: true }) => {
                format!(". {id} continues at {}: it only reads, so it is done again.", of(step))
            }
            Some(Found::Harmless { only_reads: false }) => {
                format!(". {id} continues at {}: it ends in the same state, so it is done again.", of(step))
            }
            Some(Found::Happened) | None if begun(run, step) => {
                format!(". {id} is at {}; I look what has become of it.", of(step))
            }
            Some(Found::Happened) | None => format!(". {id} continues at {}.", of(step)),
        },
        // The run has moved on: what was so then is all that is left to say.
        _ if away.found == Some(Found::Happened) => format!("; {} was done meanwhile.", of(step)),
        _ => format!(", at {}.", of(step)),
    }
}

/// An attempt is recorded, and its end is not.
fn begun(run: &RunState, step: usize) -> bool {
    matches!(run.steps[step].state, StepState::Running { .. })
}
