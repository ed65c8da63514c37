//! Built-ins that act on runs.
//!
//! Must not: decide who may; the proof of that is there, or the engine has it pinned.

use super::Call;
use crate::approvals::{Choice, Tally, Via, Vote};
use crate::chat::dispatch::ineligible;
use crate::ids::RunId;
use crate::playbook::model::{OnFailure, PlannedStep, PlannedUndo};
use crate::runs::event::Resolution;
use crate::runs::state::{RunState, StepRecord, StepState};
use crate::runs::{About, ActError, Retried, Voted};
use crate::text::{code, inert};

fn run_of(call: &Call<'_>) -> Result<RunId, String> {
    call.bound.values.run("run").ok_or_else(|| "Which run?".to_owned())
}

/// Nothing is said when the card says it.
pub(super) async fn vote(call: &Call<'_>, choice: Choice) -> Option<String> {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return Some(text),
    };
    let parts = &call.dispatcher.parts;
    call.dispatcher.look_at_votes_again(run).await;
    let person = call.dispatcher.people.person(&call.cause.by).await;
    let vote = Vote {
        by: call.cause.by.clone(),
        choice,
        via: Via::Command,
        roles: call.dispatcher.people.roles(&person),
        at: parts.clock.now(),
    };
    let reason = call.bound.values.text("reason").map(str::to_owned);
    if let (Choice::Deny, Some(reason)) = (choice, &reason)
        && call.dispatcher.explains_denial(run, &call.cause.by, reason).await
    {
        return Some(format!("The reason is on the card of {run}."));
    }
    let of = call.bound.values.text("of");
    let about = About::Words { said_at: parts.chat.said_at(call.cause), of };
    match parts.engine.vote(run, about, vote, reason).await {
        Ok(Voted::Decided) => Some(match choice {
            Choice::Approve => format!("{run} is approved."),
            Choice::Deny => format!("{run} is denied."),
        }),
        Ok(Voted::Counted(tally)) => {
            Some(format!("Your approval of {run} counts; {} missing.", missing(&tally)))
        }
        Ok(Voted::Ineligible { why, .. }) => {
            Some(format!("@{} {}", call.cause.by.username, ineligible(run, &why)))
        }
        Ok(Voted::Withdrawn) => None,
        Ok(Voted::NotAsked) => Some(not_asked(call, run, of).await),
        Ok(Voted::Closed(state)) => {
            Some(format!("There is nothing to decide any more about {run} ({state})."))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn missing(tally: &Tally) -> String {
    match tally.missing() {
        1 => "one more is".to_owned(),
        n => format!("{n} more are"),
    }
}

/// Consent that cannot be meant for what is asked now.
async fn not_asked(call: &Call<'_>, run: RunId, of: Option<&str>) -> String {
    let Ok(state) = call.dispatcher.parts.engine.state(run).await else { return format!("No run {run}.") };
    let step = state.open_ask().and_then(|ask| state.plan.steps.get(ask.step));
    match (step, of) {
        (Some(step), None) => format!(
            "You said that before step {} of {run} asked: look at its card, and say it again if you mean it.",
            code(step.id.as_str())
        ),
        (Some(step), Some(_)) => format!(
            "{run} asks about step {} now: {} approves that.",
            code(step.id.as_str()),
            code(&format!("!approve {run} {}", step.id))
        ),
        (None, _) => {
            format!("{run} asks about its plan now: {} approves that.", code(&format!("!approve {run}")))
        }
    }
}

pub(super) async fn withdraw(call: &Call<'_>) -> String {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return text,
    };
    let engine = &call.dispatcher.parts.engine;
    // Whoever asked may well mean the request.
    if let Ok(state) = engine.state(run).await
        && state.by.id == call.cause.by.id
        && !state.is_done()
        && !state.consent.votes.contains_key(&call.cause.by.id)
    {
        return format!(
            "You have not approved {run}, you asked for it: `!cancel {run}` takes the request back."
        );
    }
    match engine.withdraw(run, &call.cause.by, false).await {
        Ok(()) => format!(
            "Your approval of {run} is withdrawn. A reaction that still stands does not count; to approve after all, say `!approve {run}`."
        ),
        Err(ActError::Refused { why, .. }) => format!("There is nothing to withdraw from {run}: {why}."),
        Err(error) => error.to_string(),
    }
}

pub(super) async fn cancel(call: &Call<'_>) -> String {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return text,
    };
    let engine = &call.dispatcher.parts.engine;
    match engine.cancel(run, &call.cause.by).await {
        Ok(state) if state.is_done() => format!("{run} is cancelled. Nothing was changed."),
        Ok(state) if state.footing_changed.is_some() => format!(
            "{run} is to be cancelled. What was done cannot be undone before somebody has said by which configuration: see its thread."
        ),
        Ok(state) => {
            if let Some(step) =
                state.steps.iter().position(|step| matches!(step.state, StepState::Undoing { .. }))
            {
                return format!(
                    "{run} undoes what was done already, and goes on with that. Still under way: {}. I say here what is so when it has ended.",
                    inert(&state.plan.steps[step].title)
                );
            }
            let live = engine.live(run).await;
            let under_way = live.step.or_else(|| {
                state.steps.iter().position(|step| matches!(step.state, StepState::Running { .. }))
            });
            match under_way.and_then(|step| state.plan.steps.get(step)) {
                Some(step) => format!(
                    "Cancelling {run}. Still under way: {}{}. I say here what is so when it has ended.",
                    inert(&step.title),
                    live.line.map(|line| format!(" ({})", inert(&line))).unwrap_or_default()
                ),
                None => format!("Cancelling {run}; no step is under way.{}", what_becomes_of_it(&state)),
            }
        }
        Err(error) => error.to_string(),
    }
}

/// Of what the run has done so far.
fn what_becomes_of_it(run: &RunState) -> &'static str {
    let stands = |(step, record): (&PlannedStep, &StepRecord)| {
        step.undo != PlannedUndo::NotNeeded && matches!(record.state, StepState::Succeeded { .. })
    };
    match run.plan.on_failure {
        _ if !run.plan.steps.iter().zip(&run.steps).any(stands) => "",
        OnFailure::Undo => " What was done is undone now.",
        OnFailure::Stop => " What was done stays.",
    }
}

pub(super) async fn retry(call: &Call<'_>) -> String {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return text,
    };
    let engine = &call.dispatcher.parts.engine;
    let people = &call.dispatcher.people;
    let asks_for_consent = engine.state(run).await.is_ok_and(|state| state.footing_changed.is_some());
    let roles = people.roles(&people.person(&call.cause.by).await);
    match engine.retry(run, &call.cause.by, roles).await {
        Ok(Retried::GoesOn) if asks_for_consent => {
            format!("{run} goes on by the configuration in force now.")
        }
        Ok(Retried::GoesOn) => format!("{run} tries again."),
        Ok(Retried::Counted(tally)) => {
            format!("Your word that {run} goes on counts; {} missing.", missing(&tally))
        }
        Ok(Retried::Ineligible(why)) => format!("@{} {}", call.cause.by.username, ineligible(run, &why)),
        Err(error) => match engine.state(run).await {
            Ok(state) if state.is_done() => format!(
                "{run} has ended ({}). For a new run give its command again: {}",
                state.phase.word(),
                code(&format!("!{}", state.plan.command))
            ),
            _ => error.to_string(),
        },
    }
}

pub(super) async fn resolve(call: &Call<'_>) -> String {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return text,
    };
    let resolution = match call.bound.values.text("outcome") {
        Some("happened") => Resolution::Happened,
        Some("did-not-happen") => Resolution::DidNotHappen,
        Some("undo") => Resolution::Undo,
        Some("undone") => Resolution::Undone,
        _ => return "Say `happened`, `did-not-happen`, `undo` or `undone`.".to_owned(),
    };
    match call.dispatcher.parts.engine.resolve(run, &call.cause.by, resolution).await {
        Ok(()) => format!("{run} goes on."),
        Err(error) => error.to_string(),
    }
}

pub(super) async fn abandon(call: &Call<'_>) -> String {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return text,
    };
    let reason = call.bound.values.text("reason").unwrap_or("no reason given").to_owned();
    match call.dispatcher.parts.engine.abandon(run, &call.cause.by, reason).await {
        Ok(()) => format!("{run} is abandoned; its locks are free."),
        Err(error) => error.to_string(),
    }
}

/// Who may is for the engine to say: the plan has it pinned.
pub(super) async fn review(call: &Call<'_>) -> String {
    let run = match run_of(call) {
        Ok(run) => run,
        Err(text) => return text,
    };
    let people = &call.dispatcher.people;
    let roles = people.roles(&people.person(&call.cause.by).await);
    let findings = call.bound.values.text("findings").unwrap_or_default().to_owned();
    match call.dispatcher.parts.engine.review(run, &call.cause.by, &roles, findings).await {
        Ok(()) => format!("The review of {run} is closed."),
        Err(error) => error.to_string(),
    }
}
