//! Built-ins for schedules: how they stand, and what people change about them.
//!
//! Must not: give a person what was allowed to a schedule.

use super::Call;
use crate::access::Action;
use crate::chat::operate::{self, Order};
use crate::chat::schedules::list::{self, Ended, Standing};
use crate::chat::{scheduled, standing};
use crate::config::schedules::Schedule;
use crate::gateway::Who;
use crate::ids::{RunId, ScheduleName};
use crate::runs::event::OfSchedule;
use crate::runs::schedules::{self, Became, Change, Fire, Paused, Row};
use crate::runs::{ActError, Fired};
use crate::text::{self, code, did_you_mean, or_list, said, typed};

/// Of one schedule so much is shown.
const LATELY: usize = 8;

pub(super) async fn show(call: &Call<'_>) -> String {
    let named = match call.bound.values.text("schedule") {
        Some(_) => match named(call) {
            Ok(schedule) => Some(schedule),
            Err(text) => return text,
        },
        None => None,
    };
    let parts = &call.dispatcher.parts;
    let rows = parts.engine.schedules().await;
    let shown = call.config.schedules.values().filter(|one| named.is_none_or(|named| named.name == one.name));
    let mut standing = Vec::new();
    for schedule in shown {
        let row = rows.iter().find(|row| row.name == schedule.name);
        standing.push(stands(call, schedule, row, if named.is_some() { LATELY } else { 1 }).await);
    }
    let reader = reader(call).await;
    let now = parts.clock.now();
    match (named, standing.first()) {
        (Some(_), Some(one)) => list::one(one, &reader, now),
        _ => list::all(&standing, &reader, now),
    }
}

async fn stands<'a>(
    call: &Call<'_>,
    schedule: &'a Schedule,
    row: Option<&'a Row>,
    most: usize,
) -> Standing<'a> {
    let parts = &call.dispatcher.parts;
    let fires = schedules::fires(&parts.store, &schedule.name, most).unwrap_or_default();
    let mut lately = Vec::new();
    for fire in fires {
        let ended = match fire.became {
            Became::Run(run) => parts.engine.state(run).await.ok().map(|state| Ended {
                outcome: state.outcome(),
                word: state.word().to_owned(),
                at: state.ended_at.unwrap_or(state.last_at),
            }),
            _ => None,
        };
        lately.push((fire, ended));
    }
    let command = scheduled::command(call.config, schedule).ok();
    let allowed = row.and_then(|row| row.allowed.as_ref());
    let note = command.and_then(|command| standing::note(call.config, schedule, &command, allowed));
    Standing { schedule, row, fires: lately, notes: note.into_iter().collect() }
}

/// In whose zone times are shown.
async fn reader(call: &Call<'_>) -> list::Reader {
    let found = call.dispatcher.parts.chat.user(Who::Id(&call.cause.by.id)).await;
    list::reader(found.ok().flatten().and_then(|user| user.utc_offset))
}

/// The schedule that was named, or what to say.
pub(super) fn named<'c>(call: &'c Call<'_>) -> Result<&'c Schedule, String> {
    let written = call.bound.values.text("schedule").unwrap_or_default();
    if let Some(schedule) = call.config.schedules.get(written) {
        return Ok(schedule);
    }
    let known: Vec<&str> = call.config.schedules.keys().map(ScheduleName::as_str).collect();
    if known.is_empty() {
        return Err("There are no schedules. They stand under `schedules` in `houston.yaml`.".to_owned());
    }
    let meant = did_you_mean(written, known.iter().copied())
        .map(|near| format!(" Did you mean {}?", code(near)))
        .unwrap_or_default();
    Err(format!("There is no schedule {}.{meant} There are {}.", typed(written), or_list(&known)))
}

pub(super) async fn row_of(call: &Call<'_>, schedule: &Schedule) -> (Option<Row>, Row) {
    let parts = &call.dispatcher.parts;
    let was = parts.engine.schedule_row(&schedule.name).await;
    let row = was.clone().unwrap_or_else(|| Row::new(schedule, parts.clock.now()));
    (was, row)
}

/// As when the person typed the command: nothing is said when the run's own messages say it.
pub(super) async fn run(call: &Call<'_>) -> Option<String> {
    let schedule = match named(call) {
        Ok(schedule) => schedule,
        Err(text) => return Some(text),
    };
    let parts = &call.dispatcher.parts;
    let command = match scheduled::command(call.config, schedule) {
        Ok(command) => command,
        Err(why) => return Some(why),
    };
    let person = call.dispatcher.people.person(&call.cause.by).await;
    let action = Action::of(command.command, command.bound.values.as_typed(), &call.cause.room);
    let authorized = match call.dispatcher.people.access().authorize(&person, action) {
        Ok(authorized) => authorized,
        Err(denied) => return Some(denied.to_string()),
    };
    if let Some(run) = parts.engine.open_run_of(&schedule.name).await {
        return Some(format!("{}. `!show {run}` says how it stands.", overlaps(run)));
    }
    let mut bound = command.bound.clone();
    bound.dry_run = call.bound.dry_run;
    bound.reason = call.bound.reason.clone().or(bound.reason);
    let now = parts.clock.now();
    let (was, is) = row_of(call, schedule).await;
    let by = Some(call.cause.by.clone());
    let fired = Fired {
        change: Change { was, is },
        fire: Fire { due: now, at: now, by, became: Became::Run(RunId(0)) },
        told: None,
        pings: schedule.ping.is_some(),
    };
    let of = OfSchedule { name: schedule.name.clone(), due: now, tell: Vec::new() };
    let order = Order {
        config: call.config,
        playbook: command.playbook,
        command: command.command,
        cause: call.cause,
        bound: &bound,
        authorized: &authorized,
        schedule: Some((of, fired)),
        // That is the schedule's, not the person's.
        standing: None,
    };
    operate::run(call.dispatcher, order).await
}

fn overlaps(run: RunId) -> String {
    text::line(&ActError::Overlaps(run).to_string()).trim_end_matches('.').to_owned()
}

pub(super) async fn pause(call: &Call<'_>) -> String {
    let schedule = match named(call) {
        Ok(schedule) => schedule,
        Err(text) => return text,
    };
    let (was, mut row) = row_of(call, schedule).await;
    if let Some(paused) = &row.paused {
        return format!("*{}* is paused already, by {}.", schedule.name, text::defuse(&paused.by.username));
    }
    let reason = call.bound.values.text("reason").map(str::to_owned);
    let why = reason.as_ref().map(|why| format!(": {}", said(why))).unwrap_or_default();
    row.paused = Some(Paused {
        by: call.cause.by.clone(),
        at: call.dispatcher.parts.clock.now(),
        reason: reason.clone(),
    });
    if let Err(error) = change(call, was, row, "schedule paused", reason).await {
        return error.to_string();
    }
    let open = call.dispatcher.parts.engine.open_run_of(&schedule.name).await;
    let open = open.map(|run| format!(" {run} began before and goes on.")).unwrap_or_default();
    format!(
        ":double_vertical_bar: *{name}* does not begin until `!schedules resume {name}`{why}.{open}",
        name = schedule.name
    )
}

pub(super) async fn resume(call: &Call<'_>) -> String {
    let schedule = match named(call) {
        Ok(schedule) => schedule,
        Err(text) => return text,
    };
    let by_file = schedule
        .paused
        .as_ref()
        .map(|_| format!(" {} keeps it paused: change that there.", code(&schedule.at.to_string())));
    let (was, mut row) = row_of(call, schedule).await;
    if row.paused.take().is_none() {
        return match by_file {
            Some(by_file) => format!("Nobody paused *{}* here.{by_file}", schedule.name),
            None => format!("*{}* is not paused.", schedule.name),
        };
    }
    let now = call.dispatcher.parts.clock.now();
    row.next = schedule.cron.after(now).unwrap_or(jiff::Timestamp::MAX);
    let next = list::time(row.next, &reader(call).await, schedule, now);
    if let Err(error) = change(call, was, row, "schedule resumed", None).await {
        return error.to_string();
    }
    match by_file {
        Some(by_file) => format!("*{}* is not paused by anybody any more.{by_file}", schedule.name),
        None => format!(":arrow_forward: *{}* goes on; next: {next}.", schedule.name),
    }
}

pub(super) async fn change(
    call: &Call<'_>,
    was: Option<Row>,
    is: Row,
    what: &str,
    result: Option<String>,
) -> Result<(), ActError> {
    let engine = &call.dispatcher.parts.engine;
    engine.change_schedule(Change { was, is }, call.asked(), what, result, None).await
}
