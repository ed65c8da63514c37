//! Break-glass: who may start without consent, what is put into the plan for it, and how loudly it is said.
//!
//! Must not: weaken anything but consent. Such a run is planned, locked, compared with the world and written
//! down like every other.

use jiff::Timestamp;

use super::cards::clock_time;
use super::dispatch::{Dispatcher, OwnedBound};
use super::plan_text::{Rest, and_whole, decided_about, plan_lines};
use crate::access::Person;
use crate::approvals;
use crate::command::CommandSpec;
use crate::config::Config;
use crate::config::approvals::{LEAD, OPERATOR};
use crate::conversation::{Actor, RoomKind};
use crate::gateway::events::Inbound;
use crate::ids::{EnvName, RoleName, UserId};
use crate::playbook::model::{BreakGlass, Plan};
use crate::runs::maintenance::HeldUp;
use crate::runs::state::RunState;
use crate::text::{self, code, defuse, or_list, said, typed};

/// Why this person may not break the glass here, if they want to; in the audit log, too.
pub async fn refused(
    dispatcher: &Dispatcher,
    config: &Config,
    command: &CommandSpec,
    cause: &Inbound,
    bound: &OwnedBound,
    who: &Person,
) -> Option<String> {
    bound.break_glass.as_ref()?;
    // It is loud or it is nothing: a direct message has no others who could object.
    if cause.room.kind == RoomKind::Direct && !bound.dry_run {
        return Some("The glass is broken in a room, where others see it: say it there.".to_owned());
    }
    let roles = dispatcher.people.roles(who);
    let environment = bound.values.text("environment").map(EnvName::from);
    let held_up = dispatcher.parts.engine.held_up(environment.iter(), &command.name, false).await.is_some();
    let why = may_break(config, command, bound, &roles, held_up).err()?;
    if !bound.dry_run {
        let target = bound.values.text("environment").map(str::to_owned);
        let result = Some("may not break the glass".to_owned());
        dispatcher.audit("refused", &cause.by, &bound.canonical, target, None, result).await;
    }
    Some(why)
}

/// `Err`: the text for the one who asks.
pub fn may_break(
    config: &Config,
    command: &CommandSpec,
    bound: &OwnedBound,
    roles: &[RoleName],
    held_up: bool,
) -> Result<(), String> {
    if bound.break_glass.is_none() {
        return Ok(());
    }
    let environment = bound.values.text("environment").map(EnvName::from);
    let in_the_way = environment.filter(|name| {
        held_up || config.approval(name, &command.name).is_some() || config.some_step_asks(command)
    });
    let Some(environment) = in_the_way else {
        return Err(format!(
            "{} waits for nothing: it needs no approval. Send it again without `--break-glass`. Nothing was changed.",
            typed(&bound.canonical)
        ));
    };
    may(config, &environment, roles)
}

/// Whether the right that a waiting run was begun with still stands.
pub fn may_still_break(config: &Config, plan: &Plan, roles: &[RoleName]) -> Result<(), String> {
    match (&plan.break_glass, &plan.environment) {
        (Some(_), Some(environment)) => std::iter::once(environment)
            .chain(plan.changed_elsewhere())
            .try_for_each(|of| may(config, of, roles)),
        _ => Ok(()),
    }
}

fn may(config: &Config, environment: &EnvName, roles: &[RoleName]) -> Result<(), String> {
    let allowed = config.may_break_glass(environment);
    if allowed.iter().any(|role| roles.contains(role)) {
        return Ok(());
    }
    let place = code(environment.as_str());
    if allowed.is_empty() {
        return Err(format!(
            "Nobody may break the glass in {place}: no file says who. `approvals: {{break_glass: {{from: [{LEAD}]}}}}` in \
             `houston.yaml`, or in the file of {place}, would let every {LEAD} do it. Nothing was changed."
        ));
    }
    let who: Vec<String> = allowed.iter().map(|role| with_people(config, role)).collect();
    Err(format!(
        "You may not break the glass in {place}: it takes {}. Nothing was changed.",
        text::plain_or_list(&who)
    ))
}

/// `lead (carol)`
pub(super) fn with_people(config: &Config, role: &RoleName) -> String {
    let Some(found) = config.access.roles.get(role) else { return code(role.as_str()) };
    let groups = found.rocketchat_roles.iter().map(|name| format!("Rocket.Chat's {name}"));
    let people: Vec<String> = found.users.iter().cloned().chain(groups).collect();
    if people.is_empty() {
        return code(role.as_str());
    }
    format!("{} ({})", code(role.as_str()), defuse(&people.join(", ")))
}

/// Takes the consent out of a plan and pins what stands in its place.
pub fn put(plan: &mut Plan, reason: Option<&String>) {
    let Some(reason) = reason else { return };
    let without = plan.approval.take();
    let asking: Vec<_> = plan
        .steps
        .iter_mut()
        .filter_map(|step| Some((step.id.clone(), step.approval.take()?.policy)))
        .collect();
    let policies = without.iter().chain(asking.iter().map(|(_, policy)| policy));
    let groups = policies.flat_map(|policy| policy.any_of.iter().flatten());
    let mut reviewers: Vec<RoleName> = groups.flat_map(|group| group.from.iter().cloned()).collect();
    if reviewers.is_empty() {
        reviewers = [OPERATOR, LEAD].map(RoleName::from).to_vec();
    }
    reviewers.sort();
    reviewers.dedup();
    let steps = asking.iter().map(|(step, _)| step.clone()).collect();
    plan.break_glass =
        Some(BreakGlass { reason: reason.clone(), without, steps, through: None, outside: None, reviewers });
}

/// The leads, but the one who does it.
pub async fn whom_to_tell(dispatcher: &Dispatcher, plan: &Plan, by: &Actor) -> Vec<UserId> {
    if plan.break_glass.is_none() {
        return Vec::new();
    }
    let mut leads = dispatcher.people.members(&RoleName::from(LEAD)).await;
    leads.retain(|lead| *lead != by.id);
    leads
}

/// Pins what else it goes through: the freeze, or that it is no maintenance, as it is now.
pub async fn say_through_what(dispatcher: &Dispatcher, plan: &mut Plan) {
    let Some(glass) = &mut plan.break_glass else { return };
    let environments = plan.locks.iter().map(|lock| &lock.environment);
    match dispatcher.parts.engine.held_up(environments, &plan.command_name, false).await {
        Some(HeldUp::Frozen(frozen)) => glass.through = Some(frozen.describe()),
        Some(HeldUp::Outside(outside)) => glass.outside = Some(outside.describe()),
        None => {}
    }
}

fn consent(glass: &BreakGlass) -> String {
    let without = glass.without.as_ref();
    let without = without.map(|policy| format!("without the approval of {}", approvals::describe(policy)));
    let steps: Vec<&str> = glass.steps.iter().map(crate::ids::StepId::as_str).collect();
    let steps = (!steps.is_empty()).then(|| {
        let noun = if steps.len() == 1 { "step" } else { "steps" };
        format!("without the approval of {noun} {}", text::and_list(&steps))
    });
    let through = glass.through.as_ref().map(|freeze| format!("through a freeze ({freeze})"));
    let outside = glass.outside.as_ref().map(|why| format!("outside of maintenance ({why})"));
    let both: Vec<String> = without.into_iter().chain(steps).chain(through).chain(outside).collect();
    text::plain_and_list(&both)
}

/// For a dry run.
pub fn of_plan(plan: &Plan) -> String {
    let Some(glass) = &plan.break_glass else { return String::new() };
    format!(
        ":rotating_light: *BREAK-GLASS*: it would start at once, {}: _{}_\nThe room and the leads would be told, and it would have to be reviewed.",
        consent(glass),
        said(&glass.reason)
    )
}

/// To the room and to each lead, when the run begins.
pub fn announcement(run: &RunState) -> String {
    let Some(glass) = &run.plan.break_glass else { return String::new() };
    let (id, by) = (run.id, defuse(&run.by.username));
    format!(
        ":rotating_light: *BREAK-GLASS* *{id}* {} by {by}, {}\n_why: {}_\n{}\n`!cancel {id}` stops it. It has to be reviewed \
         when it has ended: {}.",
        decided_about(&run.plan),
        consent(glass),
        said(&glass.reason),
        plan_lines(&run.plan, &[], Rest::Below),
        how_to_review(run, glass),
    ) + &and_whole(&run.plan)
}

fn how_to_review(run: &RunState, glass: &BreakGlass) -> String {
    let by = defuse(&run.by.username);
    let reviewers: Vec<&str> = glass.reviewers.iter().map(RoleName::as_str).collect();
    format!("`!review {} what was found`, by {}, not {by}", run.id, or_list(&reviewers))
}

/// Puts it under the first line of a run's message, and the review at its end.
pub fn around(run: &RunState, message: String) -> String {
    let Some(glass) = &run.plan.break_glass else { return message };
    let (head, rest) = message.split_once('\n').unwrap_or((&message, ""));
    let mut out = format!(
        "{head}\n:rotating_light: *BREAK-GLASS* by {}, {}: _{}_",
        defuse(&run.by.username),
        consent(glass),
        said(&glass.reason)
    );
    if !rest.is_empty() {
        out.push('\n');
        out.push_str(rest);
    }
    if let Some(review) = &run.review {
        let (by, at) = (defuse(&review.by.username), clock_time(review.at));
        out.push_str(&format!("\n:memo: *reviewed* by {by} at {at}: {}", said(&review.findings)));
    } else if run.is_done() && run.review_open() {
        out.push_str(&format!("\n:memo: *review open*: {}", how_to_review(run, glass)));
    }
    out
}

/// One line for `status`, for `runs` and for the reminder.
pub fn open_review(run: &RunState, now: Timestamp) -> String {
    let Some(glass) = &run.plan.break_glass else { return String::new() };
    let ended = run.ended_at.unwrap_or(run.created_at);
    format!(
        ":memo: *{}* {} by {} broke the glass and is not reviewed; it ended {}. Say {}.",
        run.id,
        typed(&run.plan.command),
        defuse(&run.by.username),
        text::ago(ended, now),
        how_to_review(run, glass)
    )
}
