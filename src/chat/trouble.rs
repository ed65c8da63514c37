//! What a run asks of people where it cannot go on by itself: what is so, how to see more, what can be said, and what
//! each of that does. Pure.
//!
//! Must not: leave anybody to guess a command. What stands in a block can be copied into a shell as it is.

use std::fmt::Write as _;

use super::cards::{differences, title};
use super::progress::{explain, reason};
use crate::approvals;
use crate::playbook::model::{OnFailure, PlannedUndo};
use crate::playbook::steps::Pause;
use crate::runs::state::{ChangedFooting, Phase, RunState, StepRecord, StepState};
use crate::text::{self, code, defuse, typed};

/// Something only a person can say, in the run's thread.
pub fn question(run: &RunState) -> String {
    let id = run.id;
    if let Some(changed) = &run.footing_changed {
        return on_another_footing(run, changed);
    }
    match &run.phase {
        Phase::Unknown { step, why, look } => unknown(run, *step, why, look),
        Phase::Paused { step } => paused(run, *step),
        Phase::Stuck => stuck(run),
        Phase::Waiting { pause: Pause::Answer { question, choices, .. }, .. } => {
            let choices = if choices.is_empty() {
                String::new()
            } else {
                format!("\nOne of {}", text::or_list(choices))
            };
            format!(":raising_hand: *{id}* {}{choices}\n_Answer in this thread._", defuse(question))
        }
        _ => format!("*{id}* {}", run.phase.word()),
    }
}

/// What may become of a run that would go on by another configuration than its own.
fn on_another_footing(run: &RunState, changed: &ChangedFooting) -> String {
    let id = run.id;
    let undoes = run.plan.on_failure == OnFailure::Undo;
    let goes_on = match run.phase {
        Phase::Undoing | Phase::Stuck => "goes on undoing",
        _ if run.cancel.is_some() && undoes => "undoes what was done",
        _ if run.cancel.is_some() => "ends it",
        _ => "goes on",
    };
    let at = match run.at_step() {
        Some(step) if goes_on == "goes on" => format!(" at step {} ({})", step + 1, title(run, step)),
        _ => String::new(),
    };
    let takes = match &changed.consent {
        Some(policy) => format!(" (it takes {})", approvals::describe(policy)),
        None => String::new(),
    };
    let mut out = format!(
        ":warning: *{id}* {} has stopped{at}: I was started again, and the configuration is not the one that it began with.\n{}Nothing is done or undone by itself. Look, then say one of\n`!retry {id}`: {goes_on}, by the configuration in force now{takes}\n",
        typed(&run.plan.command),
        differences(&changed.differences),
    );
    if run.cancel.is_none() && goes_on == "goes on" {
        let what = if undoes { "what was done is to be undone" } else { "what was done stays" };
        let _ = writeln!(out, "`!cancel {id}`: ends it, {what}");
    }
    let _ = write!(
        out,
        "`!abandon {id} why`: gives it up as it is\nWhen the configuration that it began with is put back and in force again (`!reload`), it goes on by itself."
    );
    out
}

/// `step 2 of 3 (update `web` to `1.8`)`
fn place(run: &RunState, step: usize) -> String {
    format!("step {} of {} ({})", step + 1, run.plan.steps.len(), title(run, step))
}

fn unknown(run: &RunState, step: usize, why: &str, look: &[String]) -> String {
    let id = run.id;
    let mut out = format!(
        ":grey_question: *{id}* I do not know whether {} happened: {}.\n",
        place(run, step),
        text::inert(why)
    );
    if look.is_empty() {
        out.push_str("Look whether it did, then say one of\n");
    } else {
        let _ = writeln!(out, "This shows it:\n{}\nThen say one of", text::commands(look));
    }
    let next = match step + 1 < run.plan.steps.len() {
        _ if run.cancel.is_some() => format!("{id} goes no further, as was asked"),
        true => format!("{id} goes on with step {}", step + 2),
        false => format!("{id} is done"),
    };
    let _ = writeln!(out, "`!resolve {id} happened`: {next}");
    let again = if run.cancel.is_some() { "it is not done again" } else { "it is done again" };
    let _ = writeln!(out, "`!resolve {id} did-not-happen`: {again}");
    let _ = writeln!(out, "`!resolve {id} undo`: {}", undoing(run, step));
    let _ = write!(out, "`!abandon {id} why`: {}", abandoning(run));
    out
}

/// What asking for an undo at this step would do.
fn undoing(run: &RunState, step: usize) -> String {
    let before = (0..step).filter(|step| can_be_undone(run, *step)).count();
    match (can_be_undone(run, step), before) {
        (true, 0) => "it is undone, whether it happened or not".to_owned(),
        (true, n) => format!("it and {} before it are undone", text::count(n, "step")),
        (false, 0) => format!("{} ends as failed; there is nothing that can be undone", run.id),
        (false, n) => format!("{} before it are undone; it cannot be", text::count(n, "step")),
    }
}

fn can_be_undone(run: &RunState, step: usize) -> bool {
    matches!(run.plan.steps[step].undo, PlannedUndo::ByKind | PlannedUndo::Step { .. })
}

/// What is so after `abandon`.
fn abandoning(run: &RunState) -> String {
    let locks: Vec<String> = run.plan.locks.iter().map(|lock| code(&lock.to_string())).collect();
    let locks = match locks.as_slice() {
        [] => String::new(),
        [one] => format!(", and {one} is free"),
        some => format!(", and {} are free", text::plain_and_list(some)),
    };
    format!("everything stays as it is{locks}")
}

fn paused(run: &RunState, step: usize) -> String {
    let id = run.id;
    let refused = run.was_refused(step);
    let why = run.steps.get(step).and_then(|record| record.error.as_ref());
    let undone = match run.steps.iter().filter(|record| stands(record)).count() {
        0 => "ends the run".to_owned(),
        _ if run.plan.on_failure == OnFailure::Stop => "ends the run; what was done stays".to_owned(),
        _ => "ends the run, and undoes what was done".to_owned(),
    };
    format!(
        ":double_vertical_bar: *{id}* {} {} and waits for you{}\n`!retry {id}` {}, `!cancel {id}` {undone}.",
        place(run, step),
        if refused { "was not approved" } else { "failed" },
        why.map(|error| format!(": {}{}", reason(error), explain(error))).unwrap_or_default(),
        if refused { "asks again" } else { "tries it again" }
    )
}

fn stands(record: &StepRecord) -> bool {
    matches!(record.state, StepState::Succeeded { .. })
}

/// Everything that was done, in the order in which it would be undone, with how a person does it.
fn stuck(run: &RunState) -> String {
    let id = run.id;
    let mut out = format!(":sos: *{id}* {} is stuck: undoing failed for good.\n", typed(&run.plan.command));
    for (index, record) in run.steps.iter().enumerate().rev() {
        let place = place(run, index);
        match &record.state {
            StepState::UndoFailed { error, .. } => {
                let _ = writeln!(out, "*not undone*: {place}: {}{}", reason(error), explain(error));
            }
            StepState::Succeeded { .. } if run.plan.steps[index].undo == PlannedUndo::Impossible => {
                let _ = writeln!(out, "*done*: {place}; it cannot be undone");
            }
            StepState::Succeeded { .. } if run.plan.steps[index].undo == PlannedUndo::NotNeeded => {}
            StepState::Succeeded { .. } => {
                let _ = writeln!(out, "*still done*: {place}");
            }
            StepState::Undone => {
                let _ = writeln!(out, "*undone*: {place}");
            }
            StepState::Failed { .. } | StepState::RetryAt { .. } if record.touched => {
                let _ = writeln!(out, "*perhaps half done*: {place}");
            }
            _ => {}
        }
        if let Some(by_hand) = run.by_hand.iter().find(|by_hand| by_hand.step == index) {
            match by_hand.commands.as_slice() {
                [] => out.push_str("By hand: I know no command for it.\n"),
                commands => {
                    let _ = writeln!(out, "By hand:\n{}", text::commands(commands));
                }
            }
        }
    }
    let never = run.steps.iter().filter(|record| record.state == StepState::Pending).count();
    if never > 0 {
        let _ = writeln!(out, "*never begun*: {}", text::count(never, "step"));
    }
    let rest = (0..run.steps.len()).any(|step| stands(&run.steps[step]) && can_be_undone(run, step));
    let rest = if rest { "I go on with what is still done" } else { "the run ends" };
    let _ = write!(
        out,
        "Say one of\n`!retry {id}`: I try again to undo it\n`!resolve {id} undone`: you have undone by hand what I could not; {rest}\n`!abandon {id} why`: {}",
        abandoning(run)
    );
    out
}
