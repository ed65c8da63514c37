//! What the page of a run shows, as plain data: its state in words. Pure.
//!
//! Must not: mark anything up, but for what `marks` makes of what chat says too.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::marks;
use crate::approvals::{self, Choice, Via};
use crate::chat::{away, glass, progress, trouble};
use crate::conversation::Actor;
use crate::playbook::model::{PlannedStep, PlannedUndo};
use crate::playbook::steps::{Effects, Pause, StepError};
use crate::runs::LiveStatus;
use crate::runs::ballot::Ballot;
use crate::runs::event::Outcome;
use crate::runs::state::{Decision, Phase, RunState, StepRecord, StepState};
use crate::text;

/// How something looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tone {
    Good,
    Bad,
    /// It moves.
    Busy,
    /// It waits for people.
    Asks,
    Quiet,
}

#[derive(Serialize)]
pub(super) struct View {
    id: String,
    command: String,
    state: String,
    tone: Tone,
    by: String,
    environment: Option<String>,
    locks: Vec<String>,
    reason: Option<String>,
    asked: Moment,
    started: Option<Moment>,
    ended: Option<Moment>,
    took: Option<String>,
    /// HTML.
    needs: Option<String>,
    /// HTML.
    notes: Vec<String>,
    consents: Vec<Consent>,
    steps: Vec<Step>,
}

#[derive(Serialize)]
pub(super) struct Moment {
    pub iso: String,
    pub text: String,
}

pub(super) fn moment(at: Timestamp) -> Moment {
    Moment {
        iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        text: at.strftime("%-d %b %H:%M:%S UTC").to_string(),
    }
}

/// A request for consent, and what came of it.
#[derive(Serialize)]
struct Consent {
    /// `the plan`, `step 2, …`; HTML.
    of: String,
    needs: String,
    asked: Moment,
    /// While it can be decided.
    until: Option<Moment>,
    /// How to decide now.
    how: Option<String>,
    votes: Vec<Voice>,
    result: Option<String>,
    /// What differed, where it is void.
    lines: Vec<String>,
    tone: Tone,
}

#[derive(Serialize)]
struct Voice {
    who: String,
    said: String,
    at: Option<Moment>,
}

#[derive(Serialize)]
struct Step {
    /// HTML.
    title: String,
    kind: String,
    state: String,
    tone: Tone,
    started: Option<Moment>,
    took: Option<String>,
    /// What is happening to it; HTML.
    line: Option<String>,
    changes: Vec<String>,
    undo: Option<String>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    /// HTML.
    message: String,
    tail: Option<String>,
    /// HTML.
    hint: Option<String>,
    look: bool,
}

impl From<&StepError> for Failure {
    fn from(error: &StepError) -> Self {
        Self {
            message: said(&error.message),
            tail: error.tail.as_deref().map(clean),
            hint: error.hint.as_deref().map(said),
            look: error.effects == Effects::Possible,
        }
    }
}

fn clean(foreign: &str) -> String {
    text::printable(foreign).into_owned()
}

/// In Houston's own words, with foreign ones in them: marked up as in chat.
fn said(line: &str) -> String {
    marks::line(&text::printable(line))
}

fn name(who: &Actor) -> String {
    clean(&who.username)
}

fn names(who: &[Actor]) -> String {
    text::plain_and_list(&who.iter().map(name).collect::<Vec<_>>())
}

fn between(from: Timestamp, to: Timestamp) -> String {
    text::duration(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// `R-41 succeeded`
pub(super) fn sentence(run: &RunState, live: &LiveStatus) -> String {
    format!("{} {}", run.id, state(run, live))
}

pub(super) fn of(run: &RunState, live: &LiveStatus, now: Timestamp) -> View {
    let end = run.ended_at.unwrap_or(now);
    let steps = run.plan.steps.iter().zip(&run.steps).enumerate();
    View {
        id: run.id.to_string(),
        command: clean(&run.plan.command),
        state: state(run, live),
        tone: tone(run),
        by: name(&run.by),
        environment: run.plan.environment.as_ref().map(ToString::to_string),
        locks: run.plan.locks.iter().filter(|_| run.holds_locks()).map(ToString::to_string).collect(),
        reason: run.plan.reason.as_deref().map(clean),
        asked: moment(run.created_at),
        started: run.started_at.map(moment),
        ended: run.ended_at.map(moment),
        took: run.started_at.map(|from| between(from, end)),
        needs: needs(run).map(|said| marks::html(&said)),
        notes: notes(run, now),
        consents: consents(run),
        steps: steps
            .map(|(index, (step, record))| {
                let live = if live.step == Some(index) { live } else { &LiveStatus::default() };
                self::step(run, index, step, record, live, now)
            })
            .collect(),
    }
}

fn state(run: &RunState, live: &LiveStatus) -> String {
    match &run.phase {
        _ if run.footing_changed.is_some() => run.word().to_owned(),
        Phase::Running if run.cancel.is_some() => "being cancelled".to_owned(),
        Phase::Queued { behind } => clean(&progress::queued(behind, live)).replace('`', ""),
        Phase::Frozen { why, .. } => format!("about to start: {}", clean(why)),
        Phase::Waiting { pause: Pause::Answer { .. }, .. } => "waits for an answer".to_owned(),
        Phase::Waiting { until: Some(until), .. } => format!("waits until {}", moment(*until).text),
        Phase::Done { outcome: Outcome::Cancelled } => match &run.cancel {
            Some(by) => format!("cancelled by {}", name(by)),
            None => "cancelled".to_owned(),
        },
        Phase::Done { outcome: Outcome::Abandoned } => match &run.abandoned {
            Some((by, why)) => format!("abandoned by {}: {}", name(by), clean(why)),
            None => "abandoned".to_owned(),
        },
        phase => phase.word().to_owned(),
    }
}

fn tone(run: &RunState) -> Tone {
    match &run.phase {
        _ if run.footing_changed.is_some() => Tone::Asks,
        Phase::Deciding { .. }
        | Phase::Asking { .. }
        | Phase::Paused { .. }
        | Phase::Unknown { .. }
        | Phase::Waiting { pause: Pause::Answer { .. }, .. } => Tone::Asks,
        Phase::Ready | Phase::Queued { .. } | Phase::Frozen { .. } | Phase::Waiting { .. } => Tone::Quiet,
        Phase::Running | Phase::Undoing => Tone::Busy,
        Phase::Stuck | Phase::Done { outcome: Outcome::Failed } => Tone::Bad,
        Phase::Done { outcome: Outcome::Succeeded } => Tone::Good,
        Phase::Done { .. } => Tone::Quiet,
    }
}

/// What only a person can say, in the words of the room.
fn needs(run: &RunState) -> Option<String> {
    let asks = run.footing_changed.is_some()
        || matches!(
            run.phase,
            Phase::Paused { .. }
                | Phase::Unknown { .. }
                | Phase::Stuck
                | Phase::Waiting { pause: Pause::Answer { .. }, .. }
        );
    asks.then(|| trouble::question(run))
}

fn notes(run: &RunState, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(glass) = &run.plan.break_glass {
        notes.push(format!(":rotating_light: *BREAK-GLASS*: {}", text::defuse(&glass.reason)));
        if let Some(review) = &run.review {
            let (by, at) = (text::defuse(&review.by.username), moment(review.at).text);
            notes.push(format!("*reviewed* by {by} at {at}: {}", text::defuse(&review.findings)));
        } else if run.is_done() && run.review_open() {
            notes.push(glass::open_review(run, now));
        }
    }
    if let Some(line) = away::line(run) {
        notes.push(line.trim_matches('_').to_owned());
    }
    notes.iter().map(|note| marks::html(note)).collect()
}

fn consents(run: &RunState) -> Vec<Consent> {
    let plan = Some(("the plan".to_owned(), &run.consent));
    let steps = run.asks.iter().map(|ask| {
        let title = run.plan.steps.get(ask.step).map(|step| said(&step.title)).unwrap_or_default();
        (format!("step {}, {title}", ask.step + 1), &ask.ballot)
    });
    plan.into_iter().chain(steps).filter_map(|(of, ballot)| consent(run, of, ballot)).collect()
}

fn consent(run: &RunState, of: String, ballot: &Ballot) -> Option<Consent> {
    let policy = ballot.policy()?;
    let open = run.asking() == Some(ballot);
    let votes = ballot.votes.values().map(|vote| Voice {
        who: name(&vote.by),
        said: format!(
            "{} {}",
            match vote.choice {
                Choice::Approve => "approved",
                Choice::Deny => "denied",
            },
            match &vote.via {
                Via::Reaction(_) => "by a reaction",
                Via::Command => "in words",
            }
        ),
        at: Some(moment(vote.at)),
    });
    let lost = ballot.vanished.iter().map(|who| (who, "had a reaction that vanished: it does not count"));
    let lost =
        lost.chain(ballot.lost.iter().map(|who| (who, "has left or lost the role: it does not count")));
    let lost = lost.map(|(who, said)| Voice { who: name(who), said: said.to_owned(), at: None });
    let (result, tone, differences) = match &ballot.decision {
        None if open => (None, Tone::Asks, &[][..]),
        None => (Some("not decided".to_owned()), Tone::Quiet, &[][..]),
        Some(Decision::Approved { by, at }) => {
            (Some(format!("approved by {} at {}", names(by), moment(*at).text)), Tone::Good, &[][..])
        }
        Some(Decision::Denied { by, reason, at }) => {
            let reason = reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
            (Some(format!("denied by {} at {}{reason}", name(by), moment(*at).text)), Tone::Bad, &[][..])
        }
        Some(Decision::Expired { at }) => {
            let said = format!("expired at {}: it was not approved in time", moment(*at).text);
            (Some(said), Tone::Quiet, &[][..])
        }
        Some(Decision::Voided { differences, at }) => {
            let said =
                format!("void at {}: things are not as they were when this was asked", moment(*at).text);
            (Some(said), Tone::Bad, differences.as_slice())
        }
    };
    Some(Consent {
        of,
        needs: approvals::describe(&policy),
        asked: moment(ballot.asked_at),
        until: open.then(|| moment(ballot.expires_at)),
        how: open.then(|| format!("React to its card, or say !approve {id} or !deny {id} why", id = run.id)),
        votes: votes.chain(lost).collect(),
        result,
        lines: differences.iter().map(|one| clean(&one.in_words().to_string())).collect(),
        tone,
    })
}

fn step(
    run: &RunState,
    index: usize,
    step: &PlannedStep,
    record: &StepRecord,
    live: &LiveStatus,
    now: Timestamp,
) -> Step {
    let took = match (record.started_at, record.ended_at, &record.state) {
        (_, _, StepState::Running { since, .. }) => Some(format!("for {}", between(*since, now))),
        (Some(from), Some(to), _) => Some(between(from, to)),
        _ => None,
    };
    let (state, tone) = standing(run, index, record);
    let usual = live.usual.map(|usual| format!("usually {}", text::duration(usual)));
    let resumed = record.resumed.then(|| "taken up again after a restart".to_owned());
    let line: Vec<String> = live.line.as_deref().map(said).into_iter().chain(usual).chain(resumed).collect();
    Step {
        title: said(&step.title),
        kind: step.kind.clone(),
        state,
        tone,
        started: record.started_at.map(moment),
        took,
        line: Some(line.join(" · ")).filter(|line| !line.is_empty()),
        changes: step.preview.changes.iter().map(|change| clean(&change.to_string())).collect(),
        undo: undo(step, record),
        error: match &record.state {
            StepState::UndoFailed { error, .. } => Some(error.into()),
            _ => record.error.as_ref().map(Failure::from),
        },
    }
}

fn standing(run: &RunState, index: usize, record: &StepRecord) -> (String, Tone) {
    let as_is = |text: &str, tone| (text.to_owned(), tone);
    match &record.state {
        _ if matches!(run.phase, Phase::Asking { step, .. } if step == index) => {
            as_is("waits for approval", Tone::Asks)
        }
        StepState::Pending if run.is_done() => as_is("never begun", Tone::Quiet),
        StepState::Pending => as_is("not begun", Tone::Quiet),
        StepState::Running { attempt: 1, .. } => as_is("running", Tone::Busy),
        StepState::Running { attempt, .. } => (format!("running, attempt {attempt}"), Tone::Busy),
        StepState::Failed { .. } => as_is("failed", Tone::Bad),
        StepState::RetryAt { .. } if run.is_done() => as_is("failed", Tone::Bad),
        StepState::RetryAt { attempt, at, .. } => {
            (format!("attempt {attempt} failed, again at {}", moment(*at).text), Tone::Busy)
        }
        StepState::Waiting { .. } => as_is("waiting", Tone::Asks),
        StepState::Unknown { .. } => as_is("not known whether it happened", Tone::Asks),
        StepState::Succeeded { .. } => as_is("done", Tone::Good),
        StepState::Undoing { .. } => as_is("being undone", Tone::Busy),
        StepState::UndoFailed { .. } => as_is("could not be undone", Tone::Bad),
        StepState::Undone => as_is("undone", Tone::Quiet),
    }
}

/// What undoing it would take, or has.
fn undo(step: &PlannedStep, record: &StepRecord) -> Option<String> {
    let done = matches!(record.state, StepState::Succeeded { .. });
    match (&step.undo, &record.state) {
        (_, StepState::Undone | StepState::Undoing { .. } | StepState::UndoFailed { .. })
        | (PlannedUndo::NotNeeded, _) => None,
        (PlannedUndo::Impossible, _) => Some("cannot be undone".to_owned()),
        (PlannedUndo::ByKind | PlannedUndo::Step { .. }, _) if done => Some("can be undone".to_owned()),
        _ => None,
    }
}
