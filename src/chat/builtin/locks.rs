//! Built-ins for locks that people take, give back, and take from others.
//!
//! Must not: take a lock from anybody without what the environment's file says it takes.

use super::Call;
use crate::chat::operate::parse_lock;
use crate::chat::{cards, steal};
use crate::playbook::model::LockName;
use crate::runs::locks::{Held, Holder, ManualLock};
use crate::runs::steal::{From, Steal};
use crate::text::{self, code};

pub(super) async fn lock(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let name =
        match parse_lock(call.bound.values.text("target").unwrap_or_default(), &call.config.environments) {
            Ok(name) => name,
            Err(text) => return text,
        };
    let reason = call.bound.values.text("reason").unwrap_or_default().to_owned();
    let mut at = parts.clock.now();
    let mut before = None;
    if let Some(held) = parts.engine.manual_locks().await.into_iter().find(|held| held.name == name) {
        if held.by.id == call.cause.by.id {
            at = held.at;
            before = Some(held);
        } else {
            let holder = Holder::Person(held);
            return format!(
                "{}. {}",
                holder.describe(parts.clock.now()),
                steal::way(call.config, &name, &holder)
            );
        }
    }
    if let Some(held) = before.as_ref().filter(|held| held.reason == reason) {
        let held = Holder::Person(held.clone()).describe(parts.clock.now());
        return format!(":lock: {held}. That is your lock, and it stays.");
    }
    let lock = ManualLock { name: name.clone(), by: call.cause.by.clone(), reason, at };
    if let Err(error) = parts.engine.lock(lock, call.asked()).await {
        return error.to_string();
    }
    if let Some(before) = before {
        return format!(
            ":lock: {} stays locked, as it is since {} ({}). Your reason replaces the earlier one: _{}_",
            code(&name.to_string()),
            cards::clock_time(before.at),
            text::ago(before.at, parts.clock.now()),
            text::said(&before.reason)
        );
    }
    let moving: Vec<String> = parts
        .engine
        .open_runs()
        .await
        .iter()
        .filter(|run| run.holds_locks() && run.plan.locks.iter().any(|held| held.conflicts(&name)))
        .map(|run| run.id.to_string())
        .collect();
    let moving = if moving.is_empty() {
        String::new()
    } else {
        format!(" {} started before and goes on.", text::plain_and_list(&moving))
    };
    format!(":lock: {} is locked: nobody changes it until `!unlock {name}`.{moving}", code(&name.to_string()))
}

pub(super) async fn unlock(call: &Call<'_>) -> Option<String> {
    let parts = &call.dispatcher.parts;
    let name =
        match parse_lock(call.bound.values.text("target").unwrap_or_default(), &call.config.environments) {
            Ok(name) => name,
            Err(text) => return Some(text),
        };
    let held = parts.engine.held().await;
    // Of several holders of one name at most one is a person; no run begins under that lock.
    let by_person = held.iter().find(|held| held.name == name && matches!(held.holder, Holder::Person(_)));
    let Some(held) = by_person.or_else(|| held.iter().find(|held| held.name == name)) else {
        return Some(not_locked(call, &name, &held));
    };
    if let Holder::Person(lock) = &held.holder
        && lock.by.id == call.cause.by.id
    {
        let free = || format!("{} would be free; nothing was changed.", code(&name.to_string()));
        return Some(if call.bound.dry_run { free() } else { give_back(call, &name).await });
    }
    let run = match &held.holder {
        Holder::Run { run, .. } => parts.engine.state(*run).await.ok(),
        Holder::Person(_) | Holder::Unreadable { .. } => None,
    };
    let now = parts.clock.now();
    let Some(from) = From::of(held, run.as_ref()) else {
        return Some(steal::worked_under(&name, &held.holder, now));
    };
    match call.bound.values.text("steal") {
        Some(why) => {
            begin(call, Steal { lock: name, from, by: call.cause.by.clone(), why: why.to_owned() }).await
        }
        None => Some(format!("{}. {}", steal::has(held, now), steal::way(call.config, &name, &held.holder))),
    }
}

async fn give_back(call: &Call<'_>, name: &LockName) -> String {
    match call.dispatcher.parts.engine.unlock(name, call.asked()).await {
        Ok(Some(_)) => format!(":unlock: {} is free.", code(&name.to_string())),
        Ok(None) => format!("{} is not locked.", code(&name.to_string())),
        Err(error) => error.to_string(),
    }
}

/// There is no lock of that name; perhaps one of the whole environment.
fn not_locked(call: &Call<'_>, name: &LockName, held: &[Held]) -> String {
    let all = held.iter().find(|held| {
        name.service.is_some() && held.name.service.is_none() && held.name.environment == name.environment
    });
    match all {
        Some(all) if matches!(all.holder, Holder::Person(_)) => format!(
            "{} is not locked by itself: {}. `!unlock {}` frees all of it.",
            code(&name.to_string()),
            all.holder.describe(call.dispatcher.parts.clock.now()),
            all.name
        ),
        _ => format!("{} is not locked.", code(&name.to_string())),
    }
}

async fn begin(call: &Call<'_>, steal: Steal) -> Option<String> {
    let approval = call.config.approval_to_steal(&steal.lock.environment);
    let mut plan = steal.plan(call.bound.canonical.clone(), approval);
    plan.basis = call.config.basis(&plan);
    call.begin(plan).await
}
