//! What a schedule asks for: its command, bound as one that somebody types, and whether it may ask. `houston check`
//! looks at that with the rest of the folder, and so nothing of it fails at night.
//!
//! Must not: know times.

use super::bind::{Bound, Known, Outcome, bind};
use super::dispatch::OwnedBound;
use super::parse;
use crate::access::{Access, Action, Authorized, Denied, Person};
use crate::command::{Action as SpecAction, CommandSpec};
use crate::config::Config;
use crate::config::schedules::Schedule;
use crate::conversation::{Actor, Room, RoomKind};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ids::RoomId;
use crate::text;

/// A schedule's command.
pub struct Scheduled<'c> {
    pub command: &'c CommandSpec,
    pub playbook: &'c str,
    pub bound: OwnedBound,
}

/// `Err`: why it cannot be given, as a sentence.
pub fn command<'c>(config: &'c Config, schedule: &Schedule) -> Result<Scheduled<'c>, String> {
    let known = Known::of(&config.environments);
    let bound = bound(config, &known, schedule)?;
    let SpecAction::Playbook(playbook) = &bound.command.action else {
        return Err(format!("`{}` is not carried out by a playbook", bound.command.name));
    };
    Ok(Scheduled { command: bound.command, playbook, bound: OwnedBound::of(&bound) })
}

fn bound<'c>(config: &'c Config, known: &Known, schedule: &Schedule) -> Result<Bound<'c>, String> {
    let line = parse::command_line(&schedule.run);
    match bind(&line, &config.commands, known) {
        Ok(Outcome::Run(bound)) => Ok(bound),
        Ok(Outcome::Help(spec)) => {
            Err(format!("`{}` only asks for help about `{}`", schedule.run, spec.name))
        }
        Err(error) => {
            // What is typed is shown in a fence; what is wrong stands after it.
            let error = error.to_string();
            let why = error.rsplit("```").next().and_then(|rest| rest.lines().find(|line| !line.is_empty()));
            Err(format!("`{}` cannot be given: {}", schedule.run, why.unwrap_or_default()))
        }
    }
}

/// The room as rules see it.
pub fn room(schedule: &Schedule, id: RoomId) -> Room {
    Room { id, kind: RoomKind::Private, name: Some(schedule.room.clone()) }
}

/// What a command about a schedule is about, for rules: the schedule's environment and service.
pub fn concerns(config: &Config, schedule: Option<&str>) -> Vec<(String, String)> {
    let schedule = schedule.and_then(|name| config.schedules.get(name));
    let bound = schedule.and_then(|schedule| command(config, schedule).ok()).map(|command| command.bound);
    let value = |name: &str| Some((name.to_owned(), bound.as_ref()?.values.text(name)?.to_owned()));
    ["environment", "service"].into_iter().filter_map(value).collect()
}

/// The proof that it may ask for that, or why not.
pub fn authorize(
    access: &Access,
    schedule: &Schedule,
    scheduled: &Scheduled<'_>,
    room: &Room,
) -> Result<Authorized<Action>, Box<Denied>> {
    let who = Person::new(&Actor::schedule(&schedule.name), []);
    access.authorize(&who, Action::of(scheduled.command, scheduled.bound.values.as_typed(), room))
}

/// Every schedule that would not begin.
pub fn check(config: &Config, access: &Access, known: &Known, found: &mut Diagnostics) {
    for schedule in config.schedules.values() {
        check_one(config, access, known, schedule, found);
    }
}

fn check_one(config: &Config, access: &Access, known: &Known, schedule: &Schedule, found: &mut Diagnostics) {
    let at = || schedule.run_at.clone();
    let bound = match bound(config, known, schedule) {
        Ok(bound) => bound,
        Err(why) => {
            found.push(
                Diagnostic::error(at(), text::ellipsis(&why, 300)).hint("write it as one would type it"),
            );
            return;
        }
    };
    if !matches!(bound.command.action, SpecAction::Playbook(_)) {
        let why =
            format!("`{}` is not carried out by a playbook, so it cannot be scheduled", bound.command.name);
        found.push(
            Diagnostic::error(at(), why).hint("schedule a command that has a playbook, such as deploy"),
        );
        return;
    }
    if bound.dry_run || bound.break_glass.is_some() {
        let flag = if bound.dry_run { "--dry-run" } else { "--break-glass" };
        found.push(
            Diagnostic::error(at(), format!("a schedule cannot say `{flag}`"))
                .hint("leave it out; `schedules allow` lets it begin without asking each time"),
        );
    }
    let scheduled = Scheduled { command: bound.command, playbook: "", bound: OwnedBound::of(&bound) };
    let room = room(schedule, RoomId::from(schedule.room.as_str()));
    if let Err(denied) = authorize(access, schedule, &scheduled, &room) {
        let (who, name) = (Actor::schedule(&schedule.name).username, &denied.command);
        let why = format!("`{who}` may not `{name}` in #{}: {}", schedule.room, denied.rule);
        found.push(Diagnostic::error(at(), why).hint(format!(
            "let it: access: {{rules: [{{allow: {{users: [\"{who}\"], commands: [{name}]}}}}]}}"
        )));
    }
}
