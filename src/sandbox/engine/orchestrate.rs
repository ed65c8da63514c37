//! The orchestrator: makes the tasks of a service what its spec asks for, as Docker's does. Scaling
//! first, then the slots whose tasks are of another spec, by the update or rollback policy; failures
//! within the monitored time pause the update, roll it back or are passed over.
//!
//! One difference from Docker: a task that failed beside an older one that still serves its slot
//! (start-first) is not started again; the older one goes on.
//!
//! Must not: touch a process; `runtime` does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use super::runtime;
use super::spec::{self, FailureAction, Policy, RestartCondition};
use super::world::{Shared, State, UpdateStatus, World};

/// Looks after a service until it is removed. A change of its spec ends what the last one began.
pub async fn supervise(shared: Arc<Shared>, id: String) {
    let generation_of = |world: &World| world.services.get(&id).map(|service| service.generation);
    let Some(gone) = shared.read(|world| world.services.get(&id).map(|service| service.gone.clone())) else {
        return;
    };
    while let Some(generation) = shared.read(generation_of) {
        let changed = shared.wait_for(|world| (generation_of(world) != Some(generation)).then_some(()));
        tokio::pin!(changed);
        tokio::select! {
            () = reconcile(&shared, &id) => {
                tokio::select! {
                    () = &mut changed => {}
                    () = gone.cancelled() => return,
                }
            }
            () = &mut changed => {}
            () = gone.cancelled() => return,
        }
    }
}

/// What one look at a service finds to do.
struct Work {
    /// Slots to be filled at once: new ones.
    fill: Vec<u64>,
    /// Slots that change by the policy: their tasks are of another spec, or ended with it.
    dirty: Vec<u64>,
    policy: Policy,
    rolling_back: bool,
}

async fn reconcile(shared: &Arc<Shared>, id: &str) {
    let Some(work) = shared.change(|world| plan(world, id)) else { return };
    for slot in work.fill {
        start_task(shared, id, slot);
    }
    if work.dirty.is_empty() {
        complete(shared, id);
        return;
    }
    let now = shared.now();
    shared.change_service(id, |service| {
        if service.update.is_none() {
            service.update = Some(UpdateStatus {
                state: "updating",
                started: now,
                completed: None,
                message: "update in progress".to_owned(),
            });
        }
    });
    let made = Made::default();
    let policy = &work.policy;
    let slots = async {
        let each = |slot| {
            let made = &made;
            async move {
                update_slot(shared, id, slot, policy.start_first, made).await;
                sleep(policy.delay).await;
            }
        };
        let width = policy.parallelism.min(work.dirty.len()).max(1);
        futures_util::stream::iter(work.dirty.iter().copied()).for_each_concurrent(width, each).await;
        if policy.failure_action != FailureAction::Continue {
            sleep(policy.monitor).await;
        }
    };
    let failed = tokio::select! {
        biased;
        failed = too_many_failures(shared, policy, work.dirty.len(), &made) => failed,
        () = slots => {
            complete(shared, id);
            return;
        }
    };
    give_up(shared, id, policy, work.rolling_back, &failed);
}

/// Removes what is too much and what stands on a drained node, and says what is left to do.
fn plan(world: &mut World, id: &str) -> Option<Work> {
    let active = world.active_nodes();
    let idle: BTreeSet<String> =
        world.nodes.iter().filter(|node| !node.active()).map(|node| node.id.clone()).collect();
    let service = world.services.get(id)?;
    let wanted = spec::replicas(&service.spec, active);
    let part = spec::task_part(&service.spec);
    let rolling_back = service.update.as_ref().is_some_and(|update| update.state.starts_with("rollback"));
    let policy = spec::policy(&service.spec, if rolling_back { "RollbackConfig" } else { "UpdateConfig" });

    let mut end = Vec::new();
    let mut slots: BTreeMap<u64, (bool, bool, bool)> = BTreeMap::new(); // clean, dirty, ended with another spec
    for task in world.tasks.values().filter(|task| task.service == id) {
        if task.slot > wanted {
            end.push((task.id.clone(), State::Remove));
            continue;
        }
        let slot = slots.entry(task.slot).or_default();
        let stranded = task.node.as_ref().is_none_or(|node| idle.contains(node));
        match (task.live(), task.part == part) {
            (true, _) if stranded => end.push((task.id.clone(), State::Shutdown)),
            (true, true) => slot.0 = true,
            (true, false) => slot.1 = true,
            (false, true) => {}
            (false, false) => slot.2 = true,
        }
    }
    let slot_of = |slot: u64| slots.get(&slot).copied().unwrap_or_default();
    // A slot that an older task still serves needs only the others gone: after a rollback, mostly.
    for task in world.tasks.values().filter(|task| task.service == id && task.live() && task.part != part) {
        if slot_of(task.slot).0 {
            end.push((task.id.clone(), State::Shutdown));
        }
    }
    let (mut fill, mut dirty) = (Vec::new(), Vec::new());
    for slot in 1..=wanted {
        match slot_of(slot) {
            (true, _, _) => {}
            (false, true, _) | (false, false, true) => dirty.push(slot),
            (false, false, false) => fill.push(slot),
        }
    }
    for (task, desired) in end {
        world.end_task(&task, desired);
    }
    Some(Work { fill, dirty, policy, rolling_back })
}

/// The tasks that an update made, and since when they run.
#[derive(Default)]
struct Made(Mutex<BTreeMap<String, Option<Instant>>>);

impl Made {
    fn note(&self, task: &str, running: Option<Instant>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task.to_owned(), running);
    }

    /// Made by this update, and its failure still counts.
    fn counts(&self, task: &str, policy: &Policy) -> bool {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).get(task) {
            Some(Some(running)) => running.elapsed() <= policy.monitor,
            Some(None) => true,
            None => false,
        }
    }
}

async fn update_slot(shared: &Arc<Shared>, id: &str, slot: u64, start_first: bool, made: &Made) {
    let old: Vec<String> = shared.read(|world| {
        let of_slot =
            world.tasks.values().filter(|task| task.service == id && task.slot == slot && task.live());
        of_slot.map(|task| task.id.clone()).collect()
    });
    let stop_old = || {
        shared.change(|world| {
            for task in &old {
                world.end_task(task, State::Shutdown);
            }
        });
    };
    if !start_first {
        stop_old();
        shared
            .wait_for(|world| {
                let ended = |task: &String| world.tasks.get(task).is_none_or(|task| task.state.ended());
                old.iter().all(ended).then_some(())
            })
            .await;
    }
    let Some(new) = shared.new_task(id, slot) else { return };
    made.note(&new, None);
    runtime::launch(shared, new.clone());
    let state = shared
        .wait_for(|world| match world.tasks.get(&new) {
            Some(task) if task.state < State::Running => None,
            Some(task) => Some(Some(task.state)),
            None => Some(None),
        })
        .await;
    if state == Some(State::Running) {
        made.note(&new, Some(Instant::now()));
        if start_first {
            stop_old();
        }
    }
}

/// Returns the task whose failure was one too many. With `continue` it never returns.
async fn too_many_failures(shared: &Shared, policy: &Policy, slots: usize, made: &Made) -> String {
    if policy.failure_action == FailureAction::Continue {
        return std::future::pending().await;
    }
    let mut seen = BTreeSet::new();
    shared
        .wait_for(|world| {
            let failed = |state| matches!(state, State::Failed | State::Rejected | State::Complete);
            for task in world.tasks.values().filter(|task| failed(task.state)) {
                if !seen.contains(&task.id) && made.counts(&task.id, policy) {
                    seen.insert(task.id.clone());
                    if seen.len() as f64 / slots as f64 > policy.max_failure_ratio {
                        return Some(task.id.clone());
                    }
                }
            }
            None
        })
        .await
}

/// Pauses the update or rolls it back. A rollback is never rolled back.
fn give_up(shared: &Shared, id: &str, policy: &Policy, rolling_back: bool, task: &str) {
    let now = shared.now();
    shared.change_service(id, |service| {
        let because = format!("due to failure or early termination of task {task}");
        let started = service.update.as_ref().map_or(now, |update| update.started);
        let status = |state, message| UpdateStatus { state, started, completed: None, message };
        let roll_back = policy.failure_action == FailureAction::Rollback && !rolling_back;
        let previous = if roll_back { service.previous.take() } else { None };
        service.update = Some(match previous {
            _ if rolling_back => status("rollback_paused", format!("rollback paused {because}")),
            Some(previous) => {
                service.spec = previous;
                service.generation += 1;
                service.restarts.clear();
                status("rollback_started", format!("update rolled back {because}"))
            }
            None => status("paused", format!("update paused {because}")),
        });
    });
}

/// Ends an update that was in progress; a service that only scaled has none.
fn complete(shared: &Shared, id: &str) {
    let now = shared.now();
    let open = |state: &str| matches!(state, "updating" | "rollback_started");
    let is_open = shared.read(|world| {
        let update = world.services.get(id).and_then(|service| service.update.as_ref());
        update.is_some_and(|update| open(update.state))
    });
    if is_open {
        shared.change_service(id, |service| {
            if let Some(update) = &mut service.update {
                let rollback = update.state == "rollback_started";
                update.state = if rollback { "rollback_completed" } else { "completed" };
                update.message = if rollback { "rollback completed" } else { "update completed" }.to_owned();
                update.completed = Some(now);
            }
        });
    }
}

fn start_task(shared: &Arc<Shared>, service: &str, slot: u64) {
    if let Some(task) = shared.new_task(service, slot) {
        runtime::launch(shared, task);
    }
}

/// Starts a task's slot again when its process ended by itself and the restart policy says so.
pub async fn after_end(shared: &Arc<Shared>, id: &str) {
    let due = shared.touch(|world| {
        let task = world.tasks.get(id)?;
        let failed = matches!(task.state, State::Failed | State::Rejected);
        let (service, slot) = (task.service.clone(), task.slot);
        if !failed && task.state != State::Complete {
            return None;
        }
        let owner = world.services.get_mut(&service)?;
        let restart = spec::restart(&owner.spec);
        let wanted = match restart.condition {
            RestartCondition::Any => true,
            RestartCondition::OnFailure => failed,
            RestartCondition::Never => false,
        };
        let count = owner.restarts.entry(slot).or_default();
        if !wanted || (restart.max_attempts > 0 && *count >= restart.max_attempts) {
            return None;
        }
        *count += 1;
        Some((service, slot, owner.generation, restart.delay, owner.gone.clone()))
    });
    let Some((service, slot, generation, delay, gone)) = due else { return };
    tokio::select! {
        () = sleep(delay) => {}
        () = gone.cancelled() => return,
    }
    let still = shared.read(|world| {
        let taken =
            world.tasks.values().any(|task| task.service == service && task.slot == slot && task.live());
        !taken && world.services.get(&service).is_some_and(|service| service.generation == generation)
    });
    if still {
        start_task(shared, &service, slot);
    }
}
