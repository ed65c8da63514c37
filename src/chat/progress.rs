//! The message that follows a run and its last word, how its steps and their errors are shown. Pure.
//!
//! Must not: send anything, or ask for anything; `cards` asks for consent, `trouble` for help.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::cards::{abandoned, clock_time, differences, name, since, voided, whom};
use super::{away, step_cards};
use crate::links::Link;
use crate::playbook::model::{MOST_SHOWN, PlannedStep, PlannedUndo};
use crate::playbook::steps::{Effects, Pause, StepError};
use crate::runs::LiveStatus;
use crate::runs::event::Outcome;
use crate::runs::state::{Decision, Phase, RunState, StepRecord, StepState};
use crate::text::{self, typed};

/// Lines of a failed task's log that the room sees.
const TAIL_LINES: usize = 12;

/// The message that follows a run, at any time of its life.
pub fn progress(run: &RunState, live: &LiveStatus, now: Timestamp) -> String {
    super::schedules::around(run, super::glass::around(run, moving(run, live, now)))
}

fn moving(run: &RunState, live: &LiveStatus, now: Timestamp) -> String {
    let head = |sign: &str, state: &str| format!("{sign} *{}* {} {state}", run.id, typed(&run.plan.command));
    let started = run.started_at.unwrap_or(run.created_at);
    if let Some(changed) = &run.footing_changed {
        let head = head(":warning:", "needs a person: what it goes by has changed");
        return format!("{head}\n{}{}", differences(&changed.differences), step_lines(run, live, now));
    }
    let mut out = match &run.phase {
        Phase::Deciding { .. } => return head(":clipboard:", "waits for approval"),
        Phase::Ready => head(":hourglass_flowing_sand:", "is about to start"),
        Phase::Queued { behind } => {
            let mut out = head(":hourglass_flowing_sand:", &queued(behind, live));
            let _ = write!(out, "\n_It starts by itself. `!cancel {}` takes it out._", run.id);
            return out;
        }
        Phase::Frozen { why, .. } => {
            let mut out = head(":hourglass_flowing_sand:", &format!("is about to start: {why}"));
            let _ =
                write!(out, "\n_It starts by itself when that is over. `!cancel {}` takes it out._", run.id);
            return out;
        }
        Phase::Running => {
            let done = run.steps.iter().filter(|s| matches!(s.state, StepState::Succeeded { .. })).count();
            let step = (done + 1).min(run.steps.len());
            let cancelling = run.cancel.as_ref().map(|by| format!(", cancelling for {}", name(by)));
            head(
                ":arrow_forward:",
                &format!(
                    "step {step} of {}, {}{}",
                    run.steps.len(),
                    since(started, now),
                    cancelling.unwrap_or_default()
                ),
            )
        }
        Phase::Asking { .. } => head(":raised_hand:", &step_cards::in_progress(run).unwrap_or_default()),
        Phase::Waiting { pause: Pause::For(_), until, .. } => head(
            ":hourglass_flowing_sand:",
            &until.map_or_else(|| "waits".to_owned(), |until| format!("waits until {}", clock_time(until))),
        ),
        Phase::Waiting { .. } => head(":raising_hand:", "waits for an answer"),
        Phase::Paused { .. } => head(":double_vertical_bar:", "is paused"),
        Phase::Unknown { .. } => head(":grey_question:", "needs a person"),
        Phase::Undoing => {
            head(":leftwards_arrow_with_hook:", &format!("undoes what was done, {}", since(started, now)))
        }
        Phase::Stuck => head(":sos:", "is stuck"),
        Phase::Done { outcome } => return finished(run, *outcome),
    };
    if let Some(line) = away::line(run) {
        let _ = write!(out, "\n{line}");
    }
    out.push('\n');
    out.push_str(&step_lines(run, live, now));
    if let Phase::Asking { .. } = run.phase {
        let _ =
            write!(out, "\n_its card is in the thread: `!approve {id}` or `!deny {id} why`_", id = run.id);
    }
    if matches!(run.phase, Phase::Running | Phase::Asking { .. } | Phase::Waiting { .. })
        && run.cancel.is_none()
    {
        let _ = write!(out, "\n_:octagonal_sign: or `!cancel {}` cancels_", run.id);
    }
    out
}

/// Where a run stands that waits for others.
pub fn queued(behind: &[String], live: &LiveStatus) -> String {
    match &live.place {
        Some(place) if place.behind.is_empty() => "is about to start".to_owned(),
        Some(place) => format!("is {}", super::queue::place(place)),
        None => format!("is queued behind {}", text::plain_and_list(behind)),
    }
}

/// Under a message of a run, where it is for the eyes of who may see the run.
pub fn with_link(message: String, link: Option<Link>) -> String {
    match link {
        Some(Link { address, until }) => format!(
            "{message}\n:link: [Steps and live output]({address}), until {}",
            until.strftime("%-d %b %H:%M UTC")
        ),
        None => message,
    }
}

fn step_lines(run: &RunState, live: &LiveStatus, now: Timestamp) -> String {
    let mut lines = Vec::new();
    for (index, (step, record)) in run.plan.steps.iter().zip(&run.steps).enumerate() {
        let live = if live.step == Some(index) { live } else { &LiveStatus::default() };
        lines.push(match (&run.phase, &record.state) {
            (Phase::Asking { step: asking, .. }, _) if *asking == index => {
                format!(":raised_hand: {}", text::inert(&step.title))
            }
            (Phase::Done { .. }, StepState::RetryAt { error, .. }) => {
                format!(":x: {}: {}", text::inert(&step.title), reason(error))
            }
            _ => step_line(step, record, live, now),
        });
    }
    if lines.len() > MOST_SHOWN {
        let hidden = lines.len() - MOST_SHOWN;
        lines.drain(..hidden);
        lines.insert(0, format!("… {} before", text::count(hidden, "step")));
    }
    lines.join("\n")
}

fn step_line(step: &PlannedStep, record: &StepRecord, live: &LiveStatus, now: Timestamp) -> String {
    let title = text::inert(&step.title);
    let took = |record: &StepRecord| match (record.started_at, record.ended_at) {
        (Some(from), Some(to)) => format!(" ({})", since(from, to)),
        _ => String::new(),
    };
    let resumed = if record.resumed { ", taken up again after a restart" } else { "" };
    match &record.state {
        StepState::Pending => format!(":white_circle: {title}"),
        StepState::Running { attempt, since: from } => {
            let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let status =
                live.line.as_deref().map(|line| format!(": {}", first_line(line))).unwrap_or_default();
            let usual =
                live.usual.map(|usual| format!(", usually {}", text::duration(usual))).unwrap_or_default();
            format!(":arrow_forward: {title}{status} ({}{usual}{attempt}{resumed})", since(*from, now))
        }
        StepState::Failed { error, .. } => format!(":x: {title}: {}", reason(error)),
        StepState::RetryAt { attempt, at, error } => format!(
            ":repeat: {title}: attempt {attempt} failed ({}), again at {}",
            reason(error),
            at.strftime("%H:%M:%S UTC")
        ),
        StepState::Waiting { .. } => format!(":hourglass_flowing_sand: {title}"),
        StepState::Unknown { .. } => format!(":grey_question: {title}: it is not known whether it happened"),
        StepState::Succeeded { .. } => format!(":white_check_mark: {title}{}{resumed}", took(record)),
        StepState::Undoing { .. } => format!(":leftwards_arrow_with_hook: undoing: {title}"),
        StepState::UndoFailed { error, .. } => {
            format!(":sos: {title}: could not be undone: {}", reason(error))
        }
        StepState::Undone => match &record.error {
            Some(error) => format!(":leftwards_arrow_with_hook: {title}: {}; undone", reason(error)),
            None => format!(":leftwards_arrow_with_hook: {title}: undone"),
        },
    }
}

/// Of what a step says about itself, in the room; its transcript has the whole.
const LONGEST_REASON: usize = 600;

pub(super) fn reason(error: &StepError) -> String {
    text::shorten(&text::inert(&error.message), LONGEST_REASON).into_owned()
}

/// The last thing that a step said, on one line of a progress message.
fn first_line(said: &str) -> String {
    text::shorten(&text::inert(said.lines().next().unwrap_or_default()), text::LONGEST_SHOWN_LINE)
        .into_owned()
}

/// `deployed`, `scaled`, …: what a command has done when it is done.
fn done_word(run: &RunState) -> &'static str {
    match run.plan.command_name.as_str() {
        "deploy" => "deployed",
        "rollback" => "rolled back",
        "scale" => "scaled",
        "restore" => "restored",
        "backup" => "backed up",
        _ => "done",
    }
}

/// The last edit: the truth.
fn finished(run: &RunState, outcome: Outcome) -> String {
    let id = run.id;
    let command = typed(&run.plan.command);
    let end = run.ended_at.unwrap_or(run.created_at);
    let took = run.started_at.map(|from| since(from, end));
    let mut out = match outcome {
        Outcome::Succeeded => {
            let away = away::line(run).map(|line| line + "\n").unwrap_or_default();
            return format!(
                ":white_check_mark: *{id}* {command} {} in {}\n{away}{}",
                done_word(run),
                took.unwrap_or_default(),
                step_lines(run, &LiveStatus::default(), end)
            );
        }
        Outcome::Failed => {
            format!(":x: *{id}* {command} *failed* after {}", took.unwrap_or_default())
        }
        Outcome::Cancelled => {
            let by = run.cancel.as_ref().map(|by| format!(" by {}", name(by))).unwrap_or_default();
            match took {
                Some(took) => format!(":no_entry_sign: *{id}* {command} *cancelled*{by} after {took}"),
                None => {
                    return format!(
                        ":no_entry_sign: *{id}* {command} *cancelled*{by} before it started. Nothing was changed."
                    );
                }
            }
        }
        Outcome::Void => match &run.consent.decision {
            Some(Decision::Voided { differences, at }) => {
                return format!("*{id}* {command}\n{}", voided(run, differences, *at));
            }
            _ => format!(":warning: *{id}* {command} is void"),
        },
        Outcome::Abandoned => format!("*{id}* {command}\n{}", abandoned(run)),
        Outcome::Denied | Outcome::Expired => format!("*{id}* {command} {}", outcome.word()),
    };
    out.push('\n');
    if let Some(line) = away::line(run) {
        let _ = writeln!(out, "{line}");
    }
    out.push_str(&step_lines(run, &LiveStatus::default(), end));
    if let Some((step, error)) = failure(run) {
        out.push_str(&explain(error));
        let record = &run.steps[step];
        if error.effects == Effects::Possible && record.touched && record.state != StepState::Undone {
            out.push_str("\n:warning: it may have left something behind: look before you try again.");
        }
    }
    let kept: Vec<String> = run
        .plan
        .steps
        .iter()
        .zip(&run.steps)
        .filter(|(step, record)| {
            step.undo != PlannedUndo::NotNeeded && matches!(record.state, StepState::Succeeded { .. })
        })
        .map(|(step, _)| text::inert(&step.title))
        .collect();
    if !kept.is_empty() {
        let _ = write!(out, "\nDone and kept: {}.", text::plain_and_list(&kept));
    }
    let _ = write!(out, "\n_`!logs {id}` shows the whole output_");
    out
}

/// The step that made the run fail, and why.
pub fn failure(run: &RunState) -> Option<(usize, &StepError)> {
    run.steps.iter().enumerate().find_map(|(index, record)| record.error.as_ref().map(|error| (index, error)))
}

/// The tail of what failed, and what to do.
pub(super) fn explain(error: &StepError) -> String {
    let mut out = String::new();
    if let Some(tail) = &error.tail {
        let _ = write!(out, "\n{}", text::fence(&text::head_and_tail(tail, 2, TAIL_LINES - 2)));
    }
    if let Some(hint) = &error.hint {
        let _ = write!(out, "\n:bulb: {}", text::line(hint));
    }
    out
}

/// To whoever asked, in the thread of the progress message: one line that notifies.
pub fn result(run: &RunState) -> String {
    let took = match (run.started_at, run.ended_at) {
        (Some(from), Some(to)) => since(from, to),
        _ => String::new(),
    };
    let what = match run.outcome() {
        Some(Outcome::Succeeded) => format!("{} in {took}", done_word(run)),
        Some(Outcome::Failed) => match failure(run) {
            Some((_, error)) => format!("failed: {}", reason(error)),
            None => "failed".to_owned(),
        },
        Some(outcome) => outcome.word().to_owned(),
        None => run.word().to_owned(),
    };
    // The one mention that is meant.
    format!("{} {} {what}", whom(run), typed(&run.plan.command))
}
