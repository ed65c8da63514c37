//! How a step that waits for consent of its own looks in its run's thread, and what is said of such steps before
//! the run begins. Pure.
//!
//! Must not: send anything, or know a second way of showing who has consented; `cards` shows that.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::cards::{Place, approved, clock_time, name, undecided};
use super::plan_text::change;
use crate::approvals;
use crate::playbook::model::{AfterRetries, OnFailure, Plan, PlannedStep, StepApproval};
use crate::runs::event::Outcome;
use crate::runs::state::{Decision, Phase, RunState, StepAsk};
use crate::text::{self, code};

/// The card of one request, at any time of its life.
pub fn card(run: &RunState, ask: usize, now: Timestamp, place: Place) -> Option<String> {
    let asked = run.asks.get(ask)?;
    let step = run.plan.steps.get(asked.step)?;
    let approval = step.approval.as_ref()?;
    let mut out = format!(
        ":raised_hand: *{}* {} waits before step {} of {}: *{}*\n",
        run.id,
        code(&run.plan.command),
        asked.step + 1,
        run.plan.steps.len(),
        text::inert(&step.title)
    );
    if step.whole.is_some() {
        out.push_str("• all of it is in this thread\n");
    }
    for line in &asked.preview.changes {
        let _ = writeln!(out, "• {}", change(line));
    }
    for note in &asked.preview.notes {
        let _ = writeln!(out, "• {}", text::inert(note));
    }
    if step.undo == crate::playbook::model::PlannedUndo::Impossible {
        out.push_str("• :warning: cannot be undone\n");
    }
    match &asked.ballot.decision {
        None if run.open_ask() == Some(asked) => {
            out.push_str(&undecided(run, &asked.ballot, now, place));
            if approval.not_approver {
                out.push_str("\nWho approved the plan does not count here.");
            }
            let _ = write!(out, "\n{}{}", keeps(run), otherwise(run, approval));
            let _ = write!(out, "\n_step {} of plan {}_", step.id, run.consent.digest.short());
        }
        None => out.push_str(&over(run)),
        Some(decision) => out.push_str(&decided(run, asked, decision)),
    }
    Some(out)
}

/// The locks that it goes on holding.
fn keeps(run: &RunState) -> String {
    let locks: Vec<String> = run.plan.locks.iter().map(|lock| code(&lock.to_string())).collect();
    if locks.is_empty() {
        return String::new();
    }
    format!(":lock: Meanwhile {} keeps {} to itself. ", run.id, text::plain_and_list(&locks))
}

fn otherwise(run: &RunState, approval: &StepApproval) -> String {
    let then = match (approval.otherwise, run.plan.on_failure) {
        (AfterRetries::Pause, _) => "the run pauses",
        (AfterRetries::Fail | AfterRetries::GoOn, OnFailure::Undo) => "what was done is undone",
        (AfterRetries::Fail | AfterRetries::GoOn, OnFailure::Stop) => "the run ends, and what was done stays",
    };
    format!("If it is denied, or nobody decides in time, {then}.")
}

/// Nobody decided, and nobody has to any more.
fn over(run: &RunState) -> String {
    match (&run.cancel, &run.abandoned) {
        (Some(by), _) => format!(":no_entry_sign: *not decided*: {} cancelled the run.", name(by)),
        (_, Some((by, _))) => format!(":no_entry_sign: *not decided*: {} abandoned the run.", name(by)),
        _ => ":no_entry_sign: *not decided*: the run is over.".to_owned(),
    }
}

fn decided(run: &RunState, asked: &StepAsk, decision: &Decision) -> String {
    match decision {
        Decision::Approved { by, at } => {
            let mut out = approved(by, asked.ballot.asked_at, *at);
            if let (false, Phase::Done { outcome: Outcome::Cancelled }) = (asked.begun, &run.phase) {
                out.push_str("\n:no_entry_sign: The run was cancelled before the step began.");
            }
            out
        }
        Decision::Denied { by, reason, at } => format!(
            ":x: *denied* by {} at {}: {}",
            name(by),
            clock_time(*at),
            reason.as_deref().map_or_else(|| "no reason given yet".to_owned(), text::said)
        ),
        Decision::Expired { at } => {
            format!(":hourglass: *expired* at {}: it was not approved in time.", clock_time(*at))
        }
        Decision::Voided { differences, at } => {
            let mut out = format!(
                ":warning: *void* at {}: things are not as they were when this was asked, so the step asks anew\n",
                clock_time(*at)
            );
            for difference in differences {
                let _ = writeln!(out, "• {}", change(&difference.in_words()));
            }
            out.trim_end().to_owned()
        }
    }
}

/// `waits for 1 lead`, under a step of a plan.
pub fn in_plan(step: &PlannedStep) -> Option<String> {
    let approval = step.approval.as_ref()?;
    let not_approver = if approval.not_approver { ", and nobody who approved the plan" } else { "" };
    Some(format!(
        ":raised_hand: waits in the middle of the run for {}{not_approver}, at most {}",
        approvals::describe(&approval.policy),
        text::duration(approval.policy.expires)
    ))
}

/// The step that a run waits for people with, in its progress.
pub fn in_progress(run: &RunState) -> Option<String> {
    let Phase::Asking { step, expires_at } = run.phase else { return None };
    Some(format!(
        "waits for the approval of step {} of {}, until {}",
        step + 1,
        run.plan.steps.len(),
        clock_time(expires_at)
    ))
}

/// ``step `cutover` waits for 1 lead``, of a whole plan, for those who ask what they may.
pub fn of_plan(plan: &Plan) -> Vec<String> {
    plan.asking_steps()
        .map(|(step, approval)| {
            format!("step {} waits for {}", code(step.id.as_str()), approvals::describe(&approval.policy))
        })
        .collect()
}
