//! A run's log in words, a line for each event: `houston runs show`. Pure.
//!
//! Must not: leave an event out. What a line leaves out of an event is in `--json`.

use jiff::Timestamp;

use crate::approvals::{Choice, Via};
use crate::change::Change;
use crate::conversation::Actor;
use crate::playbook::model::Plan;
use crate::playbook::steps::{Pause, StepError};
use crate::runs::event::{Event, Found, Recorded, Resolution};
use crate::text;

/// All of them.
pub fn lines(events: &[Recorded]) -> Vec<String> {
    let plan = events.iter().find_map(|record| match &record.event {
        Event::Created { plan, .. } => Some(&**plan),
        _ => None,
    });
    let mut out = Vec::new();
    for record in events {
        let said = plain(&Story { plan }.of(&record.event));
        let mut parts = said.lines();
        let first = parts.next().unwrap_or_default();
        out.push(format!("{}  {first}", record.at.strftime("%F %H:%M:%S%.3fZ")));
        out.extend(parts.map(|part| format!("    {part}")));
    }
    out
}

/// Without Markdown's marks, and without what a terminal would obey.
fn plain(said: &str) -> String {
    said.chars().filter(|c| *c != '`' && (*c == '\n' || !c.is_control())).collect()
}

struct Story<'a> {
    plan: Option<&'a Plan>,
}

impl Story<'_> {
    fn of(&self, event: &Event) -> String {
        self.consent(event).or_else(|| self.step(event)).unwrap_or_else(|| self.run(event))
    }

    /// `step 2 (update web to 1.8)`
    fn at(&self, step: usize) -> String {
        let title = self.plan.and_then(|plan| plan.steps.get(step)).map(|step| format!(" ({})", step.title));
        format!("step {}{}", step + 1, title.unwrap_or_default())
    }

    fn consent(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Voted { vote, .. } => {
                let what = match vote.choice {
                    Choice::Approve => "approves",
                    Choice::Deny => "denies",
                };
                let how = match &vote.via {
                    Via::Reaction(emoji) => format!("by {emoji}"),
                    Via::Command => "by command".to_owned(),
                };
                format!("{} {what}, {how}", name(&vote.by))
            }
            Event::VoteWithdrawn { by, vanished: true, .. } => {
                format!("the reaction of {} vanished and counts no more", name(by))
            }
            Event::VoteWithdrawn { by, lost: true, .. } => {
                format!("{} has left or lost the role: the vote counts no more", name(by))
            }
            Event::VoteWithdrawn { by, .. } => format!("{} takes the vote back", name(by)),
            Event::Told { who } => format!("the account {who} was told that its vote does not count"),
            Event::CardReplaced { .. } => "its card was deleted: it asks with a new one".to_owned(),
            Event::Reminded => "nobody has decided yet: the room is reminded".to_owned(),
            Event::Escalated => "nobody has decided yet: others may now too".to_owned(),
            Event::Approved => "approved".to_owned(),
            Event::Denied { by, reason } => format!("denied by {}{}", name(by), why(reason.as_ref())),
            Event::DenialExplained { reason } => format!("why it was denied: {}", on_a_line(reason)),
            Event::Expired => "expired: nobody decided in time".to_owned(),
            Event::Voided { differences } => {
                format!("void: things are not as they were when it was planned{}", listed(differences))
            }
            Event::FootingAccepted { vote } => {
                format!("{} lets it go on by the configuration in force", name(&vote.by))
            }
            Event::ReviewReminded => "its review is still open: the room is reminded".to_owned(),
            Event::Reviewed { by, findings } => format!("reviewed by {}: {}", name(by), on_a_line(findings)),
            _ => return None,
        })
    }

    fn step(&self, event: &Event) -> Option<String> {
        let at = |step: &usize| self.at(*step);
        Some(match event {
            Event::StepAsked { step, expires_at, .. } => {
                format!("{} asks for consent, until {}", at(step), moment(*expires_at))
            }
            Event::StepStarted { step, attempt, .. } => format!("{} begins{}", at(step), again(*attempt)),
            Event::StepSucceeded { step, adopted: true, .. } => format!("{} had succeeded", at(step)),
            Event::StepSucceeded { step, .. } => format!("{} succeeded", at(step)),
            Event::StepFailed { step, error } => format!("{} failed: {}", at(step), failure(error)),
            Event::RetryAt { step, at: when } => format!("{} is tried again at {}", at(step), moment(*when)),
            Event::StepWaiting { step, pause: Pause::Answer { question, .. }, .. } => {
                format!("{} asks: {question}", at(step))
            }
            Event::StepWaiting { step, until: Some(until), .. } => {
                format!("{} waits until {}", at(step), moment(*until))
            }
            Event::StepWaiting { step, .. } => format!("{} waits", at(step)),
            Event::WaitEnded { step } => format!("{}: its wait is over", at(step)),
            Event::Answered { step, by, answer } => format!("{}: {} answers {answer}", at(step), name(by)),
            Event::OutcomeUnknown { step, why, .. } => {
                format!("{}: nobody can tell whether it happened: {why}", at(step))
            }
            Event::Resolved { step, by, resolution } => {
                format!("{}: {} says that {}", at(step), name(by), resolved(*resolution))
            }
            Event::Found { step, found } => format!("{}: {}", at(step), looked(found)),
            Event::Paused { step } => format!("{}: paused until somebody decides", at(step)),
            Event::UndoStarted { step, attempt } => format!("undo of {} begins{}", at(step), again(*attempt)),
            Event::UndoSucceeded { step, nothing: true } => {
                format!("undo of {}: there was nothing to undo", at(step))
            }
            Event::UndoSucceeded { step, .. } => format!("{} is undone", at(step)),
            Event::UndoFailed { step, error } => format!("undo of {} failed: {}", at(step), failure(error)),
            _ => return None,
        })
    }

    fn run(&self, event: &Event) -> String {
        match event {
            Event::Created { plan, digest, by, origin, expires_at, .. } => {
                let room = origin.room.name.as_ref();
                let room = room.map_or_else(String::new, |room| format!(" in #{room}"));
                let until = expires_at
                    .map_or_else(String::new, |at| format!(", to be approved until {}", moment(at)));
                let mut out = format!("asked for by {}{room}{until}; plan {}", name(by), digest.short());
                if let Some(reason) = &plan.reason {
                    out += &format!("\nreason: {}", on_a_line(reason));
                }
                for (index, step) in plan.steps.iter().enumerate() {
                    out += &format!("\n{}. {}", index + 1, step.title);
                    for change in &step.preview.changes {
                        out += &format!("\n   {change}");
                    }
                }
                out
            }
            Event::Queued { behind } => format!("waits behind {}", text::plain_and_list(behind)),
            Event::Frozen { why, .. } => format!("waits: {why}"),
            Event::Started => "started".to_owned(),
            Event::TakenUp { away_since } => {
                format!("taken up by another process: nobody had moved it since {}", moment(*away_since))
            }
            Event::FootingChanged { differences, .. } => {
                format!("stops: the configuration is not the one that it began with{}", listed(differences))
            }
            Event::FootingRestored => "the configuration that it began with is in force again".to_owned(),
            Event::RetryRequested { by } => format!("{} says to try again", name(by)),
            Event::CancelRequested { by } => format!("{} cancels it", name(by)),
            Event::Stuck { by_hand } => {
                let steps: Vec<String> = by_hand.iter().map(|undo| self.at(undo.step)).collect();
                match steps.as_slice() {
                    [] => "stuck: an undo failed for good".to_owned(),
                    steps => {
                        format!("stuck: an undo failed for good, and {} is left", text::plain_and_list(steps))
                    }
                }
            }
            Event::Finished { outcome } => format!("ended: {}", outcome.word()),
            Event::Abandoned { by, reason } => format!("abandoned by {}: {}", name(by), on_a_line(reason)),
            // In words above; a new one is at least named.
            other => serde_json::to_value(other)
                .ok()
                .and_then(|event| Some(event.get("type")?.as_str()?.replace('_', " ")))
                .unwrap_or_else(|| "event".to_owned()),
        }
    }
}

fn name(who: &Actor) -> &str {
    &who.username
}

fn moment(at: Timestamp) -> String {
    at.strftime("%F %H:%MZ").to_string()
}

fn why(reason: Option<&String>) -> String {
    reason.map(|reason| format!(": {}", on_a_line(reason))).unwrap_or_default()
}

/// What people wrote is no line of ours.
fn on_a_line(text: &str) -> String {
    crate::text::printable(text).replace('\n', " ")
}

fn again(attempt: u32) -> String {
    if attempt > 1 { format!(", attempt {attempt}") } else { String::new() }
}

fn listed(differences: &[Change]) -> String {
    differences.iter().map(|one| format!("\n{}", one.in_words())).collect()
}

fn failure(error: &StepError) -> String {
    let mut out = error.message.clone();
    for more in [&error.hint, &error.tail].into_iter().flatten() {
        out.push('\n');
        out.push_str(more.trim_end());
    }
    out
}

fn resolved(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Happened => "it happened",
        Resolution::DidNotHappen => "it did not happen",
        Resolution::Undo => "it is to be undone",
        Resolution::Undone => "it was undone by hand",
    }
}

fn looked(found: &Found) -> String {
    match found {
        Found::Happened => "a look shows that it happened".to_owned(),
        Found::NotBegun => "a look shows that nothing of it had begun".to_owned(),
        Found::UnderWay { what } => format!("a look shows that it is under way: {what}"),
        Found::Harmless { only_reads: true } => "it only reads, and is done again".to_owned(),
        Found::Harmless { only_reads: false } => "it ends the same, and is done again".to_owned(),
    }
}
