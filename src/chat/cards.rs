//! How plans look in a room, and the card that asks for consent to one. Pure.
//!
//! Must not: send anything. Rocket.Chat's markdown has no tables and no nested lists; foreign text goes
//! through `text::{defuse, code, fence}`.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::plan_text::{Rest, and_whole, change, decided_about, plan_lines};
use super::progress::progress;
use super::step_cards;
use crate::approvals::{self, GroupTally};
use crate::change::Change;
use crate::gateway::events::{Actor, RoomKind};
use crate::playbook::model::MOST_SHOWN;
use crate::runs::ballot::Ballot;
use crate::runs::event::Outcome;
use crate::runs::state::{Decision, Phase, RunState};
use crate::runs::{LiveStatus, SameAsked};
use crate::text::{self, code, defuse, typed};

/// `14:32 UTC`
pub fn clock_time(at: Timestamp) -> String {
    at.strftime("%H:%M UTC").to_string()
}

pub(super) fn since(from: Timestamp, to: Timestamp) -> String {
    text::duration(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

pub(super) fn name(actor: &Actor) -> String {
    defuse(&actor.username).into_owned()
}

/// Whoever asked for it, so that they notice; of a schedule those whom it names.
pub(super) fn whom(run: &RunState) -> String {
    match &run.origin.schedule {
        Some(of) if run.by.as_schedule().is_some() => super::schedules::mentions(of),
        _ => format!("@{}", run.by.username),
    }
}

/// Where a card is read: a reaction counts on the request's own message, and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    OwnMessage,
    Elsewhere,
}

/// The approval message, at any time of its life.
pub fn card(run: &RunState, same: &[SameAsked], now: Timestamp, place: Place) -> String {
    let mut out =
        format!(":clipboard: *{}* {} asked by {}\n", run.id, decided_about(&run.plan), name(&run.by));
    if let Some(reason) = &run.plan.reason {
        let _ = writeln!(out, "_reason: {}_", text::said(reason));
    }
    let _ = writeln!(out, "{}", plan_lines(&run.plan, &[], Rest::InThread));
    match &run.consent.decision {
        None => {
            for other in same.iter().filter(|_| run.asking().is_some()) {
                let _ = writeln!(out, ":eyes: *{}* by {} asks for the same.", other.run, name(&other.by));
            }
            out.push_str(&undecided(run, &run.consent, now, place));
            let _ = write!(out, "\n_plan {}_", run.consent.digest.short());
        }
        Some(decision) => out.push_str(&decided(run, decision)),
    }
    out
}

/// Who has to consent, who has, until when, and how.
pub(super) fn undecided(run: &RunState, ballot: &Ballot, now: Timestamp, place: Place) -> String {
    let Some(policy) = ballot.policy() else { return String::new() };
    if let Phase::Done { outcome: Outcome::Cancelled } = run.phase {
        let by = run.cancel.as_ref().map(name).unwrap_or_default();
        return format!(":no_entry_sign: *cancelled* by {by} before it was decided. Nothing was changed.");
    }
    if let Phase::Done { outcome: Outcome::Abandoned } = run.phase {
        return abandoned(run);
    }
    let tally = ballot.tally();
    let have: Vec<String> = ballot
        .votes
        .values()
        .filter(|vote| vote.choice == approvals::Choice::Approve)
        .map(|vote| name(&vote.by))
        .collect();
    let missing: Vec<String> = tally
        .iter()
        .flat_map(|tally| &tally.groups)
        .filter(|group| group.missing() > 0)
        .map(missing_line)
        .collect();
    let mut out = format!(
        "*needs* {} · *has* {}",
        approvals::describe(&policy),
        if have.is_empty() { "nobody yet".to_owned() } else { text::plain_and_list(&have) },
    );
    if !have.is_empty() && !missing.is_empty() {
        let _ = write!(out, " · *missing* {}", text::plain_and_list(&missing));
    }
    if run.asking() == Some(ballot) {
        let expires_at = ballot.expires_at;
        let _ = write!(out, " · *until* {} ({})", clock_time(expires_at), left(now, expires_at));
    }
    if let (Some(at), Some(escalation)) = (run.escalate_at(), &policy.escalate) {
        let _ =
            write!(out, " · from {} on {} can decide too", clock_time(at), approvals::all_of(&escalation.to));
    }
    out.push('\n');
    for who in &ballot.vanished {
        let _ = writeln!(
            out,
            ":grey_question: {}'s reaction vanished and does not count. Rocket.Chat can lose reactions made at the same moment: {} can say `!approve {}`.",
            name(who),
            name(who),
            run.id
        );
    }
    for who in &ballot.lost {
        let who = name(who);
        let _ = writeln!(
            out,
            ":grey_question: {who} has left or has lost the role that it takes: {who}'s vote does not count. With the role again, {who} can say `!approve {}`; the reaction counts no more.",
            run.id
        );
    }
    let react = match place {
        Place::OwnMessage => "React with :+1: to approve or :-1: to deny, or say",
        Place::Elsewhere => "React on the request's own message, not on this one, or say",
    };
    let _ = write!(out, "{react} `!approve {id}`, `!deny {id} why`.", id = run.id);
    if run.origin.room.kind == RoomKind::Direct {
        // Else the requester waits for people who cannot know.
        let _ = write!(
            out,
            "\nOnly those in this direct message see this; others can say `!show {id}` and `!approve {id}` in a room where I am.",
            id = run.id
        );
    }
    out
}

/// The request for consent that a notice is about, if it can still be decided: that on the plan, or that of a
/// step by its place.
fn still_asks(run: &RunState, ask: Option<usize>) -> Option<&Ballot> {
    let place = run.open_ask().map(|_| run.asks.len() - 1);
    run.asking().filter(|_| place == ask)
}

/// `step 2 of `, where it is not the whole that waits.
fn of_step(run: &RunState) -> String {
    run.open_ask().map(|ask| format!("step {} of ", ask.step + 1)).unwrap_or_default()
}

/// While the run, or its step of that place, still waits for consent: half of the time is over, or it has
/// `escalated` to others.
pub fn still_undecided(
    run: &RunState,
    ask: Option<usize>,
    now: Timestamp,
    escalated: bool,
) -> Option<String> {
    let ballot = still_asks(run, ask)?;
    let (expires_at, policy) = (ballot.expires_at, ballot.policy()?);
    let (by, left, until) = (name(&run.by), left(now, expires_at), clock_time(expires_at));
    let (sign, how) = if escalated {
        let escalation = policy.escalate.as_ref()?;
        let others = approvals::all_of(&escalation.to);
        let after = text::duration(escalation.after);
        let how = format!(
            "of {by}: nobody decided within {after}, so {others} can decide now too, {left} (until {until})"
        );
        (":arrow_up:", how)
    } else {
        let groups = ballot.tally()?.groups;
        let missing: Vec<String> =
            groups.iter().filter(|group| group.missing() > 0).map(missing_line).collect();
        let missing = text::plain_and_list(&missing);
        let by = if policy.not_requester { format!("not {by}") } else { format!("asked by {by}") };
        (":alarm_clock:", format!("still waits for {missing}, {by}: {left}, then it expires (at {until})"))
    };
    Some(format!(
        "{sign} *{id}* {}{} {how}.\nSay `!approve {id}` or `!deny {id} why`, or react to its card.",
        of_step(run),
        typed(&run.plan.command),
        id = run.id,
    ))
}

fn left(now: Timestamp, until: Timestamp) -> String {
    match Duration::try_from(until.duration_since(now)) {
        // Whole minutes: the card is not edited every second.
        Ok(left) if left.as_secs() >= 60 => {
            format!("{} left", text::duration(Duration::from_secs(left.as_secs() / 60 * 60)))
        }
        Ok(left) if !left.is_zero() => "less than a minute left".to_owned(),
        _ => "over".to_owned(),
    }
}

fn missing_line(group: &GroupTally) -> String {
    let roles: Vec<&str> = group.group.from.iter().map(crate::ids::RoleName::as_str).collect();
    format!("{} {}", group.missing(), roles.join(" or "))
}

fn decided(run: &RunState, decision: &Decision) -> String {
    match decision {
        Decision::Approved { by, at } => {
            approved(by, run.created_at, *at)
                + &match run.phase {
                    Phase::Done { outcome: Outcome::Cancelled } if run.started_at.is_none() => format!(
                        "\n:no_entry_sign: *cancelled* by {} before it started. Nothing was changed.",
                        run.cancel.as_ref().map(name).unwrap_or_default()
                    ),
                    Phase::Done { outcome: Outcome::Abandoned } if run.started_at.is_none() => {
                        format!("\n{}", abandoned(run))
                    }
                    _ => String::new(),
                }
        }
        Decision::Denied { by, reason, at } => format!(
            ":x: *denied* by {} at {}: {}\nNothing was changed.",
            name(by),
            clock_time(*at),
            reason.as_deref().map_or_else(|| "no reason given yet".to_owned(), text::said)
        ),
        Decision::Expired { at } => format!(
            ":hourglass: *expired* at {}: it was not approved in time. Nothing was changed; send the command again.",
            clock_time(*at)
        ),
        Decision::Voided { differences, at } => voided(run, differences, *at),
    }
}

pub(super) fn approved(by: &[Actor], asked_at: Timestamp, at: Timestamp) -> String {
    let by: Vec<String> = by.iter().map(name).collect();
    format!(
        ":white_check_mark: *approved* by {} at {}, {} after it was asked for",
        text::plain_and_list(&by),
        clock_time(at),
        since(asked_at, at)
    )
}

pub(super) fn voided(run: &RunState, differences: &[Change], at: Timestamp) -> String {
    format!(
        ":warning: *void* at {}: things are not as they were when this was planned, so it was not started\n{}",
        clock_time(at),
        otherwise(run, differences)
    )
}

/// What differs, and the command that asks again.
fn otherwise(run: &RunState, differences: &[Change]) -> String {
    let again = code(&format!("!{}", run.plan.command));
    format!("{}Nothing was changed. To ask again: {again}", self::differences(differences))
}

/// To whoever asked for a run that is void, and to those who approved it: an edited card notifies nobody.
pub fn void(run: &RunState) -> String {
    let Some(Decision::Voided { differences, .. }) = &run.consent.decision else { return String::new() };
    let approved = run.consent.votes.values().filter(|vote| vote.choice == approvals::Choice::Approve);
    let approved = approved.map(|vote| &vote.by).filter(|by| by.id != run.by.id);
    // The mentions that are meant.
    let approved = approved.map(|who| format!("@{}", who.username));
    let whom: Vec<String> = std::iter::once(whom(run)).chain(approved).collect();
    let approved = if whom.len() > 1 {
        "it is not what was approved any more"
    } else {
        "it is not what was planned any more"
    };
    format!(
        "{} *{}* {} was not started: {approved}.\n{}",
        whom.join(" "),
        run.id,
        typed(&run.plan.command),
        otherwise(run, differences)
    )
}

/// To whoever asked for a run that nobody decided about: an edited card notifies nobody.
pub fn expired(run: &RunState) -> String {
    let Some(Decision::Expired { at }) = &run.consent.decision else { return String::new() };
    let groups = run.consent.tally().map(|tally| tally.groups).unwrap_or_default();
    let missing: Vec<String> = groups.iter().filter(|group| group.missing() > 0).map(missing_line).collect();
    // The one mention that is meant.
    format!(
        "{} *{}* {} expired at {}: {} did not decide in time. Nothing was changed. To ask again: {}",
        whom(run),
        run.id,
        typed(&run.plan.command),
        clock_time(*at),
        text::plain_and_list(&missing),
        code(&format!("!{}", run.plan.command))
    )
}

/// To whoever asked for a run that somebody else denied: an edited card notifies nobody.
pub fn denied(run: &RunState) -> String {
    let Some(Decision::Denied { by, reason, .. }) = &run.consent.decision else { return String::new() };
    let why = match reason {
        Some(reason) => format!(": {}", text::said(reason)),
        None => ", who is asked why".to_owned(),
    };
    // The one mention that is meant.
    format!(
        "{} *{}* {} was denied by {}{why}\nNothing was changed.",
        whom(run),
        run.id,
        typed(&run.plan.command),
        name(by)
    )
}

/// A line each.
pub(super) fn differences(of: &[Change]) -> String {
    let mut out: String =
        of.iter().take(MOST_SHOWN).map(|one| format!("• {}\n", change(&one.in_words()))).collect();
    if of.len() > MOST_SHOWN {
        let _ = writeln!(out, "… and {} more", text::count(of.len() - MOST_SHOWN, "difference"));
    }
    out
}

pub(super) fn abandoned(run: &RunState) -> String {
    match &run.abandoned {
        Some((by, reason)) => format!(":no_entry_sign: *abandoned* by {}: {}", name(by), text::said(reason)),
        None => ":no_entry_sign: *abandoned*".to_owned(),
    }
}

pub(super) fn title(run: &RunState, step: usize) -> String {
    run.plan.steps.get(step).map(|step| text::inert(&step.title)).unwrap_or_default()
}

/// The answer to `show`.
pub fn show(run: &RunState, same: &[SameAsked], live: &LiveStatus, now: Timestamp) -> String {
    let mut out = String::new();
    if run.plan.approval.is_some() {
        let _ = writeln!(out, "{}{}", card(run, same, now, Place::Elsewhere), and_whole(&run.plan));
    }
    if run.started_at.is_some() || run.plan.approval.is_none() {
        let _ = writeln!(out, "{}", progress(run, live, now));
    }
    if matches!(run.phase, Phase::Paused { .. } | Phase::Unknown { .. } | Phase::Stuck) {
        let _ = writeln!(out, "{}", super::trouble::question(run));
    }
    if let Some(card) =
        run.asks.len().checked_sub(1).and_then(|ask| step_cards::card(run, ask, now, Place::Elsewhere))
    {
        let _ = writeln!(out, "{card}");
    }
    let _ = write!(out, "_asked {} by {}_", text::ago(run.created_at, now), name(&run.by));
    out
}
