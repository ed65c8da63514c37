//! Built-ins that only read.

use std::fmt::Write as _;

use super::Call;
use crate::access::Action;
use crate::chat::bind::{Known, Outcome, bind};
use crate::chat::hindrances::Hindrances;
use crate::chat::{
    cards, glass, help as help_text, maintenance, parse, progress, queue, scheduled, standing,
    status as status_text,
};
use crate::command::CommandSpec;
use crate::conversation::schedule_named;
use crate::exec::transcript::Piece;
use crate::gateway::events::{Actor, RoomKind};
use crate::gateway::{Priority, Who};
use crate::ids::{EnvName, RunId};
use crate::links::Link;
use crate::playbook::model::ApprovalPolicy;
use crate::providers::swarm;
use crate::runs::ActError;
use crate::runs::releases;
use crate::runs::state::RunState;
use crate::runs::transcripts::Transcripts;
use crate::text::{self, code, defuse, typed};

/// Bytes of a transcript that are attached; the rest stays with `houston runs logs`.
const LARGEST_ATTACHED: usize = 4 * 1024 * 1024;

/// Units of a message that are kept for what stands around the lines.
const AROUND_LOGS: usize = 400;

/// Lines of a transcript in the room; the rest goes into a file.
const MOST_LOG_LINES: i64 = 200;

pub(super) fn ping(call: &Call<'_>) -> String {
    match call.bound.values.text("text") {
        Some(said) => format!("pong {}", text::said(said)),
        None => "pong".to_owned(),
    }
}

pub(super) async fn help(call: &Call<'_>) -> String {
    let config = call.config;
    match call.bound.values.text("command") {
        Some(name) => {
            help_text::answer(name, &config.commands, help_text::prefix(call.cause.room.kind), &|spec| {
                facts(call, spec)
            })
        }
        None => {
            let person = call.dispatcher.people.person(&call.cause.by).await;
            let access = call.dispatcher.people.access();
            help_text::list(&config.commands, help_text::prefix(call.cause.room.kind), &|spec| {
                access.may_some(&person, &spec.name, spec.changes, &call.cause.room)
            })
        }
    }
}

/// Which approval a command needs, environment by environment.
fn facts(call: &Call<'_>, spec: &CommandSpec) -> Vec<String> {
    let config = call.config;
    let steps = config.asking_steps(spec).map(|(step, approval)| {
        format!("its step {} waits for {}", code(step.as_str()), crate::approvals::describe(&approval.policy))
    });
    if !matches!(spec.action, crate::command::Action::Playbook(_)) {
        return Vec::new();
    }
    config
        .environments
        .keys()
        .map(|name| match config.approval(name, &spec.name) {
            Some(policy) => {
                format!("in {} it needs {}", code(name.as_str()), crate::approvals::describe(&policy))
            }
            None => format!("in {} it needs no approval", code(name.as_str())),
        })
        .chain(steps)
        .collect()
}

pub(super) async fn whoami(call: &Call<'_>) -> String {
    let person = call.dispatcher.people.person(&call.cause.by).await;
    call.dispatcher.people.access().whoami(&person)
}

pub(super) async fn can(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let (Some(user), Some(line)) = (call.bound.values.text("user"), call.bound.values.text("command")) else {
        return "Say who and what: `!can bob deploy prod web`".to_owned();
    };
    let name = user.trim_start_matches('@');
    let actor = match schedule_named(name).filter(|name| call.config.schedules.contains_key(name)) {
        Some(schedule) => Actor::schedule(&schedule),
        None => match parts.chat.user(Who::Name(name)).await {
            Ok(Some(found)) => Actor { id: found.id, username: found.username },
            Ok(None) => return format!("There is nobody called {} in Rocket.Chat.", typed(name)),
            Err(error) => return error.to_string(),
        },
    };
    let person = call.dispatcher.people.person(&actor).await;
    let line = parse::command_line(line);
    let bound = match bind(&line, &call.config.commands, &Known::of(&call.config.environments)) {
        Ok(Outcome::Run(bound)) => bound,
        Ok(Outcome::Help(spec)) => {
            return help_text::about(spec, help_text::prefix(call.cause.room.kind), &facts(call, spec));
        }
        Err(error) => return error.to_string(),
    };
    let mut action = Action::of(bound.command, bound.values.as_typed(), &call.cause.room);
    let of_schedule = bound.values.text("schedule");
    action.arguments.extend(scheduled::concerns(call.config, of_schedule));
    let steals = bound.values.text("steal").is_some();
    let place = if steals { action.arguments.get("environment").cloned() } else { None };
    let place = place.or_else(|| bound.values.text("environment").map(str::to_owned));
    let approval = place.map(|environment| {
        let environment = EnvName::from(environment);
        let policy = match steals {
            true => call.config.approval_to_steal(&environment),
            false => call.config.approval(&environment, &bound.command.name),
        };
        described(policy)
    });
    // What gives a schedule's command, or lets it be given, takes what that command takes.
    let gives = ["schedules run", "schedules allow"].contains(&bound.command.name.as_str());
    let given = of_schedule.filter(|_| gives).and_then(|name| call.config.schedules.get(name));
    let given = given.and_then(|schedule| scheduled::command(call.config, schedule).ok());
    let approval = approval.or_else(|| {
        let given = given?;
        Some(described(standing::takes(call.config, &given).map(|(_, policy)| policy)))
    });
    let mut text = call.dispatcher.people.access().explain(&person, &action, approval).to_string();
    for (step, approval) in call.config.asking_steps(bound.command) {
        let _ = write!(
            text,
            "\nStep {}: it waits in the middle of the run for {} ({})",
            code(step.as_str()),
            crate::approvals::describe(&approval.policy),
            approval.policy.rule
        );
    }
    let environment = bound.values.text("environment").map(EnvName::from);
    let roles = call.dispatcher.people.roles(&person);
    let hindrances = Hindrances {
        config: call.config,
        command: bound.command,
        frozen: parts.engine.frozen(environment.iter(), false).await,
        maintenance: call.dispatcher.maintenance_of(environment.as_ref()).await,
        now: parts.clock.now(),
        environment,
        files_only: false,
        who: Some((&person.username, &roles)),
    };
    for line in hindrances.lines() {
        let _ = write!(text, "\n{line}");
    }
    text
}

fn described(policy: Option<ApprovalPolicy>) -> String {
    match policy {
        Some(policy) => format!("it needs {} ({})", crate::approvals::describe(&policy), policy.rule),
        None => "it needs no approval".to_owned(),
    }
}

pub(super) async fn status(call: &Call<'_>) -> String {
    let only = call.bound.values.text("service");
    let names: Vec<EnvName> = match call.bound.values.text("environment") {
        Some(name) => vec![EnvName::from(name)],
        None => call.config.environments.keys().cloned().collect(),
    };
    if names.is_empty() {
        return "No environment is configured: add `environments/NAME.yaml`.".to_owned();
    }
    let looks = names.iter().map(|name| one_status(call, name, only));
    let mut parts = futures_util::future::join_all(looks).await;
    let asked = call.bound.values.text("environment");
    parts.extend(call.dispatcher.rented.lines(asked, call.dispatcher.parts.clock.now()));
    parts.extend(call.dispatcher.refused_configuration());
    let idle = call.dispatcher.parts.lease.may_act().err();
    parts.extend(idle.map(|why| format!(":warning: I begin nothing: {}.", text::inert(&why.to_string()))));
    parts.join("\n\n")
}

async fn one_status(call: &Call<'_>, name: &EnvName, only: Option<&str>) -> String {
    let parts = &call.dispatcher.parts;
    let mut seen = look_at(call, name, only).await;
    if let Some(frozen) = parts.engine.frozen([name], false).await {
        let _ = write!(seen, "\n:snowflake: {}", frozen.describe());
    }
    let known = parts.engine.maintenance_of(name).await;
    if let Some(line) = maintenance::in_status(&known, parts.clock.now()) {
        let _ = write!(seen, "\n{line}");
    }
    seen
}

async fn look_at(call: &Call<'_>, name: &EnvName, only: Option<&str>) -> String {
    let parts = &call.dispatcher.parts;
    let Some(environment) = call.config.environments.get(name) else {
        return format!("There is no environment {}.", code(name.as_str()));
    };
    let unknown = |why: String, hint: Option<String>| {
        let hint = hint.map(|hint| format!("\n:bulb: {}", text::line(&hint))).unwrap_or_default();
        format!(":red_circle: *{}* cannot be looked at: {}{hint}", defuse(name.as_str()), text::inert(&why))
    };
    let mut world = match call.dispatcher.world(call.config).swarm(name) {
        Ok(swarm) => match swarm::status(&swarm, environment, &parts.clock).await {
            Ok(world) => world,
            Err(error) => return unknown(error.to_string(), error.hint()),
        },
        Err(error) => return unknown(error.message, error.hint),
    };
    // Environments may share a Swarm: what another one declares is not astray here.
    let elsewhere = |service: &swarm::ServiceStatus| {
        call.config
            .environments
            .values()
            .any(|other| other.services.iter().any(|s| s.swarm_name == service.name))
    };
    world.services.retain(|service| service.declared || !elsewhere(service));
    let releases: Vec<_> = environment
        .services
        .iter()
        .filter_map(|service| releases::of_service(&parts.store, name, &service.name).ok())
        .filter_map(|newest_first| newest_first.into_iter().find(|release| !release.found))
        .collect();
    let here = |of: &Option<EnvName>| of.as_ref() == Some(name);
    let runs: Vec<_> =
        parts.engine.open_runs().await.into_iter().filter(|run| here(&run.plan.environment)).collect();
    let locks: Vec<_> =
        parts.engine.held().await.into_iter().filter(|held| held.name.environment == *name).collect();
    let reviews: Vec<_> =
        parts.engine.open_reviews().await.into_iter().filter(|run| here(&run.plan.environment)).collect();
    let seen = status_text::Seen {
        name: name.as_str(),
        world: &world,
        releases: &releases,
        runs: &runs,
        reviews: &reviews,
        locks: &locks,
        only,
        whole: call.bound.values.text("environment").is_some(),
    };
    status_text::render(&seen, parts.clock.now())
}

pub(super) async fn runs(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let limit = usize::try_from(call.bound.values.integer("limit").unwrap_or(10)).unwrap_or(10);
    let environment = call.bound.values.text("environment");
    // Some are filtered out, so more are read than shown.
    let headers = match parts.engine.list(if environment.is_some() { 1000 } else { limit }) {
        Ok(headers) => headers,
        Err(error) => return error.to_string(),
    };
    let now = parts.clock.now();
    let rows: Vec<[String; 4]> = headers
        .into_iter()
        .filter(|h| environment.is_none_or(|name| h.environment.as_ref().is_some_and(|e| e.as_str() == name)))
        .take(limit)
        .map(|h| {
            [h.run.to_string(), h.state, h.command, format!("{} by {}", text::ago(h.created_at, now), h.by)]
        })
        .collect();
    let Some([newest, ..]) = rows.first() else { return "No runs yet.".to_owned() };
    let table = status_text::columns(["run", "state", "command", "asked"], &rows);
    let mut out = format!("{}\n`!show {newest}` shows one.", text::fence(&table));
    for run in parts.engine.queued().await {
        let here =
            environment.is_none_or(|name| run.plan.environment.as_ref().is_some_and(|e| e.as_str() == name));
        if let (true, Some(place)) = (here, parts.engine.live(run.id).await.place) {
            let _ = write!(out, "\n*{}* is {}", run.id, queue::place(&place));
        }
    }
    for run in parts.engine.open_reviews().await {
        if environment.is_none_or(|name| run.plan.environment.as_ref().is_some_and(|e| e.as_str() == name)) {
            let _ = write!(out, "\n{}", glass::open_review(&run, now));
        }
    }
    out
}

pub(super) async fn show(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let Some(run) = call.bound.values.run("run") else { return "Which run?".to_owned() };
    match parts.engine.state(run).await {
        Ok(state) if !may_see(call, &state).await => not_here(run),
        Ok(state) => {
            let same = parts.engine.same_asked(&state).await;
            let shown = cards::show(&state, &same, &parts.engine.live(run).await, parts.clock.now());
            progress::with_link(shown, link(call, &state))
        }
        Err(error @ ActError::Removed { .. }) => super::audit::of_gone(call, run, &error).await,
        Err(error) => error.to_string(),
    }
}

pub(super) async fn logs(call: &Call<'_>) -> Option<String> {
    let parts = &call.dispatcher.parts;
    let run = call.bound.values.run("run")?;
    let lines = call.bound.values.integer("lines").unwrap_or(40).clamp(1, MOST_LOG_LINES);
    let link = match parts.engine.state(run).await {
        Ok(state) if !may_see(call, &state).await => return Some(not_here(run)),
        Ok(state) => link(call, &state),
        Err(error) => return Some(error.to_string()),
    };
    let transcripts = parts.engine.transcripts().clone();
    let lines = usize::try_from(lines).unwrap_or(40);
    let most = parts.chat.max_message_len().saturating_sub(AROUND_LOGS);
    let read = tokio::task::spawn_blocking(move || {
        let Some(mut text) = transcripts.read(run, 5, lines)? else { return Ok(None) };
        text.fit(most);
        let file = if text.is_whole() { None } else { Some(end_of(run, &transcripts)?) };
        std::io::Result::Ok(Some((text, file)))
    });
    match read.await {
        Ok(Ok(None)) => {
            let nothing = match parts.engine.transcript_removed(run) {
                Some(removed) => format!("The output of {run} was {}.", removed.words()),
                None => format!("{run} has written nothing."),
            };
            Some(progress::with_link(nothing, link))
        }
        Ok(Ok(Some((text, None)))) => {
            Some(progress::with_link(format!("*{run}*\n{}", text::fence(&text.into_text())), link))
        }
        Ok(Ok(Some((text, Some((file, left_out)))))) => {
            let attached = match left_out {
                0 => "The whole output is attached.".to_owned(),
                bytes => format!(
                    "The end of the output is attached, {} of it are not; `houston runs logs {run}` prints the whole.",
                    text::count(usize::try_from(bytes).unwrap_or(usize::MAX), "byte")
                ),
            };
            let mut said = format!("*{run}*\n{}\n{attached}", text::fence(&text.into_text()));
            if let Some(note) = &call.bound.note {
                let _ = write!(said, "\n_{note}_");
            }
            let said = progress::with_link(said, link);
            call.dispatcher.say(call.cause, call.cause.thread.clone(), said).await;
            // Before the upload, whose message the server names: after a crash it is not uploaded twice.
            call.dispatcher.dealt_with(&call.cause.id);
            attach(call, run, file).await;
            None
        }
        Ok(Err(error)) => Some(format!("The transcript of {run} cannot be read: {error}")),
        Err(_) => Some(format!("The transcript of {run} cannot be read.")),
    }
}

/// The end of a transcript, as much as is attached, from a line's beginning where it is cut; and how many
/// bytes before it are not there, which the file says as well.
fn end_of(run: RunId, transcripts: &Transcripts) -> std::io::Result<(Vec<u8>, u64)> {
    let Piece { mut text, from: left_out, .. } = transcripts.last(run, LARGEST_ATTACHED)?;
    if left_out > 0 {
        let said = format!(
            "({left_out} bytes before this are left out; `houston runs logs {run}` prints the whole)\n"
        );
        text.insert_str(0, &said);
    }
    Ok((text.into_bytes(), left_out))
}

/// Where everybody who reads it may see the run: in its own room, or between the two of us.
fn link(call: &Call<'_>, run: &RunState) -> Option<Link> {
    let here = &call.cause.room;
    let parts = &call.dispatcher.parts;
    let among_those = here.id == run.origin.room.id || here.kind == RoomKind::Direct;
    let http = call.config.http.as_ref().filter(|_| among_those);
    parts.links.to(run.id, http, parts.clock.now())
}

/// Details of a run are for people with a role, and for the room where it was asked for.
async fn may_see(call: &Call<'_>, run: &RunState) -> bool {
    if run.origin.room.id == call.cause.room.id {
        return true;
    }
    let person = call.dispatcher.people.person(&call.cause.by).await;
    !call.dispatcher.people.roles(&person).is_empty()
}

fn not_here(run: RunId) -> String {
    format!("{run} was asked for in another room: its details are for that room and for operators and leads.")
}

async fn attach(call: &Call<'_>, run: RunId, whole: Vec<u8>) {
    let name = format!("{run}.log");
    let cause = call.cause;
    let description = format!("output of {run}");
    let uploaded = call
        .dispatcher
        .parts
        .chat
        .upload(&cause.room.id, cause.thread.as_ref(), &name, whole, &description)
        .await;
    if let Err(error) = uploaded {
        tracing::warn!(run.id = %run, "the transcript was not uploaded: {error}");
        let id = crate::ids::derived_id(&format!("upload/{}", cause.id)).into();
        let text = format!("The file could not be attached: {}", text::inert(&error.to_string()));
        let post = crate::gateway::events::Post {
            id,
            room: cause.room.id.clone(),
            thread: cause.thread.clone(),
            text,
        };
        let _ = call.dispatcher.parts.chat.post(post, Priority::Normal).await;
    }
}

pub(super) async fn locks(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let held = parts.engine.held().await;
    let now = parts.clock.now();
    let mut lines = Vec::new();
    for held in &held {
        let doing = parts.engine.doing(&held.holder).await;
        lines.push(format!("- {}", queue::held(held, doing.as_ref(), now)));
    }
    for name in call.config.environments.keys() {
        if let Some(frozen) = parts.engine.frozen([name], false).await {
            lines.push(format!("- :snowflake: {}", frozen.describe()));
        }
    }
    for run in parts.engine.queued().await {
        if let Some(place) = parts.engine.live(run.id).await.place {
            lines.push(format!("- {} {} is {}", run.id, typed(&run.plan.command), queue::in_short(&place)));
        }
    }
    for run in parts.engine.open_runs().await {
        if let crate::runs::state::Phase::Frozen { why, .. } = &run.phase {
            lines.push(format!("- {} {} waits: {why}", run.id, typed(&run.plan.command)));
        }
    }
    if lines.is_empty() { "Nothing is locked.".to_owned() } else { lines.join("\n") }
}
