//! Built-ins for standing approvals of schedules: asking for one, and ending it.
//!
//! Must not: give one without the consent that the schedule's command takes.

use super::Call;
use super::freezes::until_and_reason;
use super::schedules::{change, named, row_of};
use crate::access::Action;
use crate::chat::{scheduled, standing};
use crate::ids::ServiceName;
use crate::runs::standing::Allow;
use crate::text::{defuse, said, typed};

/// A run like every other: nothing is said when its own messages say it.
pub(super) async fn allow(call: &Call<'_>) -> Option<String> {
    let schedule = match named(call) {
        Ok(schedule) => schedule,
        Err(text) => return Some(text),
    };
    let (parts, cause) = (&call.dispatcher.parts, call.cause);
    let command = match scheduled::command(call.config, schedule) {
        Ok(command) => command,
        Err(why) => return Some(why),
    };
    // Nobody has others do what they may not ask for themselves.
    let person = call.dispatcher.people.person(&cause.by).await;
    let action = Action::of(command.command, command.bound.values.as_typed(), &cause.room);
    if let Err(denied) = call.dispatcher.people.access().authorize(&person, action) {
        return Some(denied.to_string());
    }
    let (Some((environment, policy)), Some(basis)) =
        (standing::takes(call.config, &command), standing::basis(call.config, schedule, &command))
    else {
        return Some(format!(
            "{} needs no approval: *{}* asks nobody as it is.",
            typed(&schedule.run),
            schedule.name
        ));
    };
    let typed_when = call.bound.values.text("when").unwrap_or_default();
    let typed_when = typed_when.strip_prefix("for ").or_else(|| typed_when.strip_prefix("until "));
    let typed_when = typed_when.unwrap_or_else(|| call.bound.values.text("when").unwrap_or_default());
    let read = until_and_reason(typed_when, parts.clock.now(), schedule.cron.zone());
    let (until, why) = match read {
        Ok(read) => read,
        Err(text) => return Some(text),
    };
    // There is a row from the first look on, which is there by now unless nothing can be written.
    if row_of(call, schedule).await.0.is_none() {
        return Some(format!("*{}* was not looked at yet: say it again in a moment.", schedule.name));
    }
    let allow = Allow {
        asked: cause.id.clone(),
        schedule: schedule.name.clone(),
        runs: command.bound.canonical.clone(),
        command_name: command.command.name.clone(),
        service: command.bound.values.text("service").map(ServiceName::from),
        until,
        why,
        by: cause.by.clone(),
        basis,
    };
    let mut plan = allow.plan(call.bound.canonical.clone(), environment, Some(policy));
    plan.basis = call.config.basis(&plan);
    call.begin(plan).await
}

pub(super) async fn revoke(call: &Call<'_>) -> String {
    let schedule = match named(call) {
        Ok(schedule) => schedule,
        Err(text) => return text,
    };
    let (was, mut row) = row_of(call, schedule).await;
    let Some(allowed) = row.allowed.take() else {
        return format!("Nothing lets *{}* begin without asking.", schedule.name);
    };
    let reason = call.bound.values.text("reason");
    let why = reason.map(|why| format!(": {}", said(why))).unwrap_or_default();
    let result = match reason {
        Some(reason) => format!("{}: {reason}", allowed.describe()),
        None => allowed.describe(),
    };
    if let Err(error) = change(call, was, row, "standing approval revoked", Some(result)).await {
        return error.to_string();
    }
    let whose: Vec<String> = std::iter::once(&allowed.asked_by)
        .chain(&allowed.by)
        .filter(|who| who.id != call.cause.by.id)
        .map(|who| format!("@{}", who.username))
        .collect();
    let whose = if whose.is_empty() { String::new() } else { format!(" {}, it was yours.", whose.join(" ")) };
    format!(
        ":no_entry_sign: *{}* asks each time from now on ({} is revoked{why}).{whose}",
        defuse(schedule.name.as_str()),
        allowed.run
    )
}
