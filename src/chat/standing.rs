//! Standing approvals: whether one holds, what it puts into a plan, and how it is said. Pure.
//!
//! Must not: let anything begin without asking but what was consented to.

use jiff::Timestamp;

use super::scheduled::Scheduled;
use crate::approvals;
use crate::change::Change;
use crate::config::Config;
use crate::config::schedules::Schedule;
use crate::ids::EnvName;
use crate::playbook::model::{ApprovalPolicy, Basis, Plan, StandingApproval};
use crate::runs::standing::Allowed;
use crate::text::{code, defuse, plain_and_list, said};

/// Where the command is carried out, and what it takes there.
pub fn takes(config: &Config, command: &Scheduled<'_>) -> Option<(EnvName, ApprovalPolicy)> {
    let environment = EnvName::from(command.bound.values.text("environment")?);
    let policy = config.approval(&environment, &command.command.name)?;
    Some((environment, policy))
}

/// What a standing approval of it would rest on now.
pub fn basis(config: &Config, schedule: &Schedule, command: &Scheduled<'_>) -> Option<Basis> {
    let environment = EnvName::from(command.bound.values.text("environment")?);
    Some(config.schedule_basis(schedule, &command.command.name, &environment))
}

pub fn holds(
    config: &Config,
    schedule: &Schedule,
    command: &Scheduled<'_>,
    allowed: &Allowed,
    now: Timestamp,
) -> bool {
    !allowed.is_over(now) && basis(config, schedule, command).as_ref() == Some(&allowed.basis)
}

/// Takes the consent to the plan out, and pins what stands in its place.
pub(super) fn put(plan: &mut Plan, standing: Option<&Allowed>) {
    let Some(allowed) = standing else { return };
    if let Some(without) = plan.approval.take() {
        plan.standing = Some(StandingApproval { without, run: allowed.run, given: allowed.describe() });
    }
}

/// A line of `schedules`.
pub fn note(
    config: &Config,
    schedule: &Schedule,
    command: &Scheduled<'_>,
    allowed: Option<&Allowed>,
) -> Option<String> {
    let (_, policy) = takes(config, command)?;
    Some(match allowed {
        Some(allowed) => format!(
            ":ballot_box_with_check: it begins without asking, allowed by {}: {}",
            defuse(&allowed.describe()),
            said(&allowed.why)
        ),
        None => format!(
            "it asks for the approval of {} each time; {} would let it begin without",
            approvals::describe(&policy),
            again(schedule)
        ),
    })
}

/// What asks for one.
fn again(schedule: &Schedule) -> String {
    code(&format!("!schedules allow {} 30d why", schedule.name))
}

/// To the room: it ends soon.
pub fn ends_soon(schedule: &Schedule, allowed: &Allowed) -> String {
    format!(
        ":hourglass: What lets *{name}* begin without asking ends {} ({}). From then on it asks each time; {} renews it.",
        crate::config::window::words(&allowed.until),
        allowed.run,
        again(schedule),
        name = defuse(schedule.name.as_str()),
    )
}

/// To the room: it is over by its time.
pub fn ended(schedule: &Schedule, allowed: &Allowed) -> String {
    format!(
        ":hourglass: What let *{name}* begin without asking has ended ({}). It asks each time now; {} renews it.",
        allowed.run,
        again(schedule),
        name = defuse(schedule.name.as_str()),
    )
}

/// To the room: it was given for something else.
pub fn void(schedule: &Schedule, allowed: &Allowed, now: Option<&Basis>) -> String {
    let differences: Vec<Change> = now.map(|now| allowed.basis.differences(now)).unwrap_or_default();
    let what: Vec<String> = differences.iter().map(|one| super::plan_text::change(&one.in_words())).collect();
    let what = if what.is_empty() { String::new() } else { format!(": {}", plain_and_list(&what)) };
    format!(
        ":warning: What let *{name}* begin without asking is void ({}), since it is not what it was given for any more{what}. \
         It asks each time now; {} allows it as it is.",
        allowed.run,
        again(schedule),
        name = defuse(schedule.name.as_str()),
    )
}
