//! Commands that a playbook carries out: plan, then run.
//!
//! Must not: change anything before the run is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::dispatch::{Dispatcher, OwnedBound, authorize_for};
use super::hindrances::Hindrances;
use super::plan_text;
use crate::access::{Action, Authorized};
use crate::command::{CommandSpec, Value};
use crate::config::Config;
use crate::config::environment::Environment;
use crate::gateway::events::Inbound;
use crate::ids::{EnvName, RunId, ServiceName};
use crate::playbook::model::{LockName, Plan};
use crate::playbook::plan::{PlanError, Planned, Planner, Request};
use crate::providers::swarm::spec;
use crate::runs::event::{OfSchedule, Origin};
use crate::runs::releases;
use crate::runs::standing::Allowed;
use crate::runs::{ActError, Fired, NewRun, locks};
use crate::store::{Batch, Store};
use crate::text::{self, code, defuse, did_you_mean, or_list, typed};
use crate::trace;

/// A command that a playbook carries out, and who gives it.
pub struct Order<'a> {
    pub config: &'a Arc<Config>,
    pub playbook: &'a str,
    pub command: &'a CommandSpec,
    pub cause: &'a Inbound,
    pub bound: &'a OwnedBound,
    pub authorized: &'a Authorized<Action>,
    /// The schedule that it is given for.
    pub schedule: Option<(OfSchedule, Fired)>,
    /// What lets it begin without asking.
    pub standing: Option<&'a Allowed>,
}

/// What became of it.
#[derive(Debug)]
pub enum Begun {
    Run(RunId),
    /// All is as it should be.
    Nothing(String),
    /// It would be done.
    Shown(String),
    Refused(String),
    NotPlanned(PlanError),
    NotBegun(ActError),
}

/// Plans and begins a run. Nothing is said when the run's own messages say it.
pub async fn run(dispatcher: &Dispatcher, order: Order<'_>) -> Option<String> {
    let (cause, command) = (order.cause, &order.bound.canonical);
    let show = |on| dispatcher.parts.chat.typing(&cause.room.id, on);
    show(true);
    let begun = begin(dispatcher, order).await;
    show(false);
    match begun {
        Begun::Run(run) => {
            trace::about(run);
            None
        }
        Begun::Nothing(text) | Begun::Shown(text) | Begun::Refused(text) => Some(text),
        Begun::NotPlanned(error) => Some(refusal(command, &error)),
        Begun::NotBegun(error) => Some(format!("{} was not started: {error}", typed(command))),
    }
}

/// As [`run`], for whoever has to know what became of it.
pub async fn begin(dispatcher: &Dispatcher, order: Order<'_>) -> Begun {
    let Order { config, playbook, command, cause, bound, authorized, schedule, standing } = order;
    let parts = &dispatcher.parts;
    if let Some(text) =
        super::glass::refused(dispatcher, config, command, cause, bound, authorized.who()).await
    {
        return Begun::Refused(text);
    }
    let asked = Asked {
        config,
        playbook,
        command,
        bound,
        requester: &authorized.who().username,
        store: Some(&parts.store),
    };
    let planned = plan(&asked, &dispatcher.planner(config)).await;
    let Planned { mut plan, already } = match planned {
        Ok(planned) => planned,
        Err(error) => return Begun::NotPlanned(error),
    };
    super::glass::say_through_what(dispatcher, &mut plan).await;
    super::standing::put(&mut plan, standing);
    if bound.dry_run {
        let roles = dispatcher.people.roles(authorized.who());
        let hindrances = Hindrances {
            config,
            command,
            environment: plan.environment.clone(),
            frozen: parts.engine.frozen(plan.locks.iter().map(|lock| &lock.environment), false).await,
            maintenance: dispatcher.maintenance_of(plan.environment.as_ref()).await,
            now: parts.clock.now(),
            files_only: false,
            who: Some((&authorized.who().username, &roles)),
        };
        return Begun::Shown(plan_text::dry_run(&plan, &already, &hindrances.lines()));
    }
    if plan.is_empty() {
        return Begun::Nothing(plan_text::nothing_to_do(&plan, &already));
    }
    // What was left out of the command is in the plan: each service that it changes has to be allowed.
    let access = dispatcher.people.access();
    let action = authorized.action().clone();
    if let Err(denied) = authorize_for(&access, authorized.who(), action, &plan.locks) {
        return Begun::Refused(denied.to_string());
    }
    if let Some(text) = missing_reason(&plan) {
        return Begun::Refused(text);
    }
    if let Some(text) = disk_full(&parts.store, config.limits.free_megabytes, &plan) {
        return Begun::Refused(text);
    }
    // A lock that a person holds is never waited for.
    let held = parts.engine.held().await;
    let by_people = locks::conflicts(&plan.locks, &held)
        .into_iter()
        .find(|held| matches!(held.holder, locks::Holder::Person(_)));
    if let Some(held) = by_people {
        let way = match &held.holder {
            locks::Holder::Person(lock) if lock.by.id == cause.by.id => {
                format!("`!unlock {}` frees it.", held.name)
            }
            holder => super::steal::way(config, &held.name, holder),
        };
        return Begun::Refused(format!(
            ":lock: {} was not started: {}. {way}",
            typed(&plan.command),
            held.holder.describe(parts.clock.now()),
        ));
    }
    let environments = plan.locks.iter().map(|lock| &lock.environment);
    let overridden = plan.break_glass.is_some();
    if let Some(held_up) = parts.engine.held_up(environments, &plan.command_name, overridden).await {
        let why = held_up.describe();
        let (command, target) = (&plan.command, Some(held_up.environment().to_string()));
        dispatcher.audit("refused", &cause.by, command, target, None, Some(why.clone())).await;
        let sign = held_up.sign();
        return Begun::Refused(format!(
            "{sign} {} was not started: {why}. {}",
            typed(command),
            held_up.way_out()
        ));
    }
    let mut with = Batch::new();
    parts.ledger.batch_for(&cause.id, &mut with);
    let (of, fired) = schedule.unzip();
    let origin = Origin {
        room: cause.room.clone(),
        thread: cause.thread.clone(),
        message: cause.id.clone(),
        schedule: of,
    };
    let tell = super::glass::whom_to_tell(dispatcher, &plan, &cause.by).await;
    match parts.engine.create(NewRun { plan, by: cause.by.clone(), origin, tell, with, fired }).await {
        Ok(state) => Begun::Run(state.id),
        Err(error) => Begun::NotBegun(error),
    }
}

/// What is to be planned, from chat or from the command line.
pub struct Asked<'a> {
    pub config: &'a Config,
    pub playbook: &'a str,
    pub command: &'a CommandSpec,
    pub bound: &'a OwnedBound,
    pub requester: &'a str,
    /// Where the releases are; without it `rollback` falls back on what the Swarm remembers.
    pub store: Option<&'a Store>,
}

pub async fn plan(asked: &Asked<'_>, planner: &Planner) -> Result<Planned, PlanError> {
    let Asked { config, command, bound, .. } = asked;
    let wrong = |message: String, hint: Option<String>| PlanError { message, hint };
    let playbook = config
        .playbooks
        .get(asked.playbook)
        .ok_or_else(|| wrong(format!("there is no playbook `{}`", asked.playbook), None))?;
    let environment = bound.values.text("environment").map(EnvName::from);
    let environment = match &environment {
        None => None,
        Some(name) => Some(
            config
                .environments
                .get(name)
                .ok_or_else(|| wrong(format!("there is no environment `{name}`"), None))?,
        ),
    };
    let mut inputs: BTreeMap<String, Json> = bound
        .values
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Integer(n) => Json::from(*n),
                Value::Switch(on) => Json::from(*on),
                other => Json::from(other.as_typed()),
            };
            (crate::command::input_name(name), value)
        })
        .collect();
    let mut canonical = bound.canonical.clone();
    if command.name == "rollback"
        && !inputs.contains_key("version")
        && let (Some(environment), Some(store)) = (environment, asked.store)
        && let Some(service) = bound.values.text("service")
        && let Some(version) = last_healthy(planner, store, environment, service).await?
    {
        // Before flags, where one types it.
        let head = format!("{} {} {service}", command.name, environment.name);
        canonical = match canonical.strip_prefix(&head) {
            Some(flags) => format!("{head} {version}{flags}"),
            None => format!("{canonical} {version}"),
        };
        inputs.insert("version".to_owned(), version.into());
    }
    let request = Request {
        playbook,
        command: canonical,
        command_name: command.name.clone(),
        environment,
        inputs,
        requester: asked.requester.to_owned(),
        reason: bound.reason.clone().or_else(|| bound.break_glass.clone()),
        approval: environment.and_then(|environment| config.approval(&environment.name, &command.name)),
    };
    let mut planned = planner.plan(request).await?;
    if environment.is_some() {
        // What it changes elsewhere is known by now.
        planned.plan.approval = config.approval_of(&planned.plan);
    }
    super::glass::put(&mut planned.plan, bound.break_glass.as_ref());
    planned.plan.basis = config.basis(&planned.plan);
    Ok(planned)
}

/// The version of the last healthy release, other than the running one. `None`: Houston knows of none.
async fn last_healthy(
    planner: &Planner,
    store: &Store,
    environment: &Environment,
    service: &str,
) -> Result<Option<String>, PlanError> {
    let name = ServiceName::from(service);
    let Some(declared) = environment.service(&name) else { return Ok(None) };
    let swarm = planner.world.swarm(&environment.name)?;
    let running = swarm
        .service(&declared.swarm_name)
        .await
        .map_err(|error| PlanError { hint: error.hint(), message: error.to_string() })?;
    let running = running.map(|service| spec::version(service.image()).to_owned());
    let ledger = releases::of_service(store, &environment.name, &name)
        .map_err(|error| PlanError { message: error.to_string(), hint: None })?;
    Ok(releases::last_healthy(&ledger, running.as_deref()).map(|release| release.version.clone()))
}

pub fn refusal(command: &str, error: &PlanError) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("\n:bulb: {}", text::line(hint))).unwrap_or_default();
    format!(
        ":x: {} cannot be planned: {}{hint}\nNothing was changed.",
        typed(command),
        text::inert(&error.message)
    )
}

fn missing_reason(plan: &Plan) -> Option<String> {
    let steps = plan.asking_steps().map(|(_, approval)| &approval.policy);
    let policy = plan.approval.iter().chain(steps).find(|policy| policy.reason_required)?;
    plan.reason.is_none().then(|| {
        format!(
            "{} needs a reason ({}): send it again with `--reason \"why\"`.",
            typed(&plan.command),
            defuse(&policy.rule)
        )
    })
}

/// A run that begins has to be able to write its journal and its output to the end.
fn disk_full(store: &Store, floor: u32, plan: &Plan) -> Option<String> {
    let free = store.free_megabytes()?;
    (free < u64::from(floor)).then(|| {
        format!(
            ":floppy_disk: {} was not started: the disk with Houston's state folder has {free} MB left, and \
             `limits.free_megabytes` asks for {floor} MB. Runs that are under way go on. Free some space, then \
             send it again.",
            typed(&plan.command)
        )
    })
}

/// `prod` or `prod/web`, checked against what exists.
pub fn parse_lock(typed: &str, environments: &BTreeMap<EnvName, Environment>) -> Result<LockName, String> {
    let (environment, service) = match typed.split_once('/') {
        Some((environment, service)) => (environment, Some(service)),
        None => (typed, None),
    };
    let unknown = |what: &str, typed: &str, known: Vec<&str>| {
        let meant = did_you_mean(typed, known.iter().copied())
            .map(|near| format!(" Did you mean {}?", code(near)))
            .unwrap_or_default();
        format!("There is no {what} {}.{meant} There are {}.", text::typed(typed), or_list(&known))
    };
    let Some(found) = environments.get(environment) else {
        return Err(unknown("environment", environment, environments.keys().map(EnvName::as_str).collect()));
    };
    let service = match service {
        None => None,
        Some(service) => match found.service(&ServiceName::from(service)) {
            Some(found) => Some(found.name.clone()),
            None => {
                let known = found.services.iter().map(|service| service.name.as_str()).collect();
                return Err(unknown("service", service, known));
            }
        },
    };
    Ok(LockName { environment: found.name.clone(), service })
}
