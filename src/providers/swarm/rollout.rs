//! Waits until a change of a service has really ended, by its `UpdateStatus` and its tasks.
//!
//! A Swarm client's "converged" is not enough: it is also said after an automatic rollback, and while one
//! has only begun. So an end is a terminal state *and* the tasks that go with it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::down::and_before;
use super::{Down, Service, Swarm, SwarmError, Task, UpdateState, spec};
use crate::text;

/// Failed tasks whose log is read; the others fail for the same reason.
const LOGS_READ: usize = 2;
const LOG_LINES: u32 = 20;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between looks; grows from this to `slowest` while nothing changes.
    pub fastest: Duration,
    pub slowest: Duration,
    /// How long the wanted tasks must have run where Swarm itself does not watch them: after creation and
    /// after scaling.
    pub settle: Duration,
    /// How long a task may find no node before the change counts as stuck: Swarm would wait for ever.
    pub pending: Duration,
    /// How long after Swarm called the update finished its tasks may still be missing.
    pub after_end: Duration,
    /// How long no manager may tell what is so. A lost leader is replaced in 14 to 22 s.
    pub unreachable: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            fastest: Duration::from_millis(100),
            slowest: Duration::from_millis(500),
            settle: Duration::ZERO,
            pending: Duration::from_secs(20),
            after_end: Duration::from_secs(30),
            unreachable: Duration::from_secs(90),
        }
    }
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All wanted tasks run what the service's spec says.
    Done,
    /// Swarm put the previous spec back by itself.
    RolledBack,
    /// Swarm stopped in the middle, as its failure action says.
    Paused,
    /// The automatic rollback failed too.
    RollbackPaused,
    /// It will not end by itself; why.
    Stuck(String),
    /// Somebody else has changed the service meanwhile.
    Overtaken,
    /// The service is gone.
    Removed,
    /// We were asked to stop waiting.
    Cancelled,
}

/// The state that the wait ended in.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Absent when it was removed.
    pub service: Option<Service>,
    /// Tasks that run the service's present spec.
    pub running: u64,
    pub wanted: u64,
    pub failures: Vec<Failure>,
    /// Nodes without which it had to do.
    pub down: Vec<Down>,
}

/// Nobody tells what became of a change.
#[derive(Clone, Debug)]
pub struct Lost {
    pub error: SwarmError,
    /// How it stood when somebody last did.
    pub last: Option<String>,
}

/// A task of the change that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub slot: u64,
    pub node: Option<String>,
    /// In the engine's words.
    pub error: String,
    /// What it wrote last; read only of the first few.
    pub log: Option<String>,
}

impl Failure {
    /// For people: `failed its health check`, `exited with 1`.
    pub fn reason(&self) -> String {
        if self.error.contains("unhealthy") {
            return "failed its health check".to_owned();
        }
        if self.error.contains("No such image") || self.error.contains("no such image") {
            return "found no such image".to_owned();
        }
        if self.error.starts_with("ended early") {
            return self.error.clone();
        }
        match self.error.split_once("non-zero exit (") {
            Some((_, rest)) => format!("exited with {}", rest.split(')').next().unwrap_or("an error")),
            None => format!("failed: {}", text::ellipsis(&self.error, 200)),
        }
    }
}

/// What to do about an engine's words, where we know.
pub(crate) fn advice(error: &str) -> Option<&'static str> {
    let known = [
        (
            "o such image",
            "check the version's spelling, and that the image is pushed and the nodes may pull it",
        ),
        (
            "port already in use",
            "a fixed host port is free only once: use `order: stop-first`, or leave the host port out",
        ),
        ("scheduling constraints", "no node meets the service's `placement`: check the nodes' labels"),
        ("insufficient resources", "no node has the memory or processors that the service reserves"),
        ("unsupported platform", "the image is built for another processor"),
        ("unhealthy", "the image's health check failed: see the log lines"),
        ("no suitable node", "see whether nodes are down or drained: `nodes ENV`"),
    ];
    known.iter().find(|(words, _)| error.contains(words)).map(|(_, advice)| *advice)
}

/// What is waited for.
pub struct Watch<'a> {
    pub name: &'a str,
    /// The token in the labels of the spec that was posted; absent: whatever the service has.
    pub token: Option<&'a str>,
    /// Tasks that were there before: their failures are not this change's.
    pub known: &'a HashSet<String>,
    pub patience: Patience,
    pub cancel: &'a CancellationToken,
    /// Told the present state in one line, when it changes.
    pub say: &'a (dyn Fn(&str) + Send + Sync),
}

impl Swarm {
    /// Waits for the end of a change. An error only when no manager has answered for too long.
    pub async fn watch(&self, watch: &Watch<'_>) -> Result<Outcome, Lost> {
        let mut memory = Memory::new(Instant::now());
        let mut failures: Vec<(String, Failure)> = Vec::new();
        let mut interval = watch.patience.fastest;
        let mut said = String::new();
        let mut last: Option<String> = None;
        let mut down: Vec<Down> = Vec::new();
        loop {
            let read = async {
                Ok::<_, SwarmError>((self.service(watch.name).await?, self.tasks(watch.name).await))
            };
            let (service, tasks) = match read.await {
                Ok((None, _)) => {
                    return Ok(end(Verdict::Removed, None, &Picture::default(), failures, down));
                }
                Ok((Some(service), Ok(tasks))) => (service, tasks),
                // Removed between the two reads, or unreachable: the next look will tell.
                Ok((Some(_), Err(error))) | Err(error) => {
                    if memory.unreachable_for(Instant::now()) > watch.patience.unreachable
                        || !error.may_pass()
                    {
                        return Err(Lost { error, last });
                    }
                    let line =
                        format!("{}; what was sent stands, and is looked at again", error.waited_for());
                    if line != said {
                        (watch.say)(&line);
                        said = line;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(watch.patience.slowest) => {}
                        () = watch.cancel.cancelled() => return Err(Lost { error, last }),
                    }
                    continue;
                }
            };
            let now = Instant::now();
            memory.reached(now);
            for task in new_failures(watch, &service, &tasks, &failures) {
                let failure = self.autopsy(task, failures.len() < LOGS_READ).await;
                failures.push((task.id.clone(), failure));
            }
            if failures.is_empty()
                && let Some(task) = blamed(&service).and_then(|id| tasks.iter().find(|t| t.id == id))
            {
                failures.push((task.id.clone(), self.autopsy(task, true).await));
            }
            let picture = Picture::of(&service, &tasks);
            if picture.is_whole() {
                down = and_before(&[], &down);
            } else if memory.stands(&picture) {
                down = and_before(&self.down(&tasks).await, &down);
            }
            if down.iter().any(|down| down.counted_on) {
                // What a lost node had is made anew, which takes a while; the version is not to blame.
                memory.ended_since = None;
            }
            if let Some(verdict) = memory.decide(watch, &service, &picture, failures.len(), now) {
                return Ok(end(verdict, Some(service), &picture, failures, down));
            }
            let mut line = picture.line(&service);
            let missing: Vec<&Down> = down.iter().filter(|down| !down.back).collect();
            for down in &missing {
                line.push_str(&format!("; {}", down.words()));
            }
            if !missing.is_empty() {
                line.push_str("; start it again, or take it out of the Swarm");
            }
            last = Some(line.clone());
            if line == said {
                interval = (interval * 3 / 2).min(watch.patience.slowest);
            } else {
                (watch.say)(&line);
                said = line;
                interval = watch.patience.fastest;
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = watch.cancel.cancelled() => {
                    return Ok(end(Verdict::Cancelled, Some(service), &picture, failures, down));
                }
            }
        }
    }

    /// Why a task failed and what it said last. A task that ends cleanly when it is stopped for being
    /// unhealthy is only told apart by its container.
    async fn autopsy(&self, task: &Task, read_log: bool) -> Failure {
        let mut error = task.error.clone().unwrap_or_else(|| format!("ended early ({})", task.state));
        let mut log = String::new();
        if read_log {
            log = self.task_log(task, LOG_LINES).await.unwrap_or_default();
            if (task.error.is_none() || error.contains("unhealthy"))
                && let Some(said) = self.unhealthy_because(task).await
            {
                if task.error.is_none() {
                    "unhealthy container".clone_into(&mut error);
                }
                if !log.is_empty() {
                    log.push('\n');
                }
                log.push_str("health check: ");
                log.push_str(&said);
            }
        }
        let log = (!log.is_empty()).then_some(log);
        Failure { slot: task.slot, node: task.node_id.clone(), error, log }
    }
}

fn end(
    verdict: Verdict,
    service: Option<Service>,
    picture: &Picture,
    failures: Vec<(String, Failure)>,
    down: Vec<Down>,
) -> Outcome {
    Outcome {
        verdict,
        service,
        running: picture.current,
        wanted: picture.wanted,
        failures: failures.into_iter().map(|(_, f)| f).collect(),
        down,
    }
}

/// The task for whose sake Swarm stopped an update, which need not have failed by its own account:
/// `update rolled back due to failure or early termination of task <id>`.
fn blamed(service: &Service) -> Option<&str> {
    let update = service.update.as_ref()?;
    let stopped = matches!(update.state, UpdateState::RollbackStarted | UpdateState::Paused);
    update.message.rsplit_once("of task ").filter(|_| stopped).map(|(_, id)| id.trim())
}

fn new_failures<'t>(
    watch: &Watch<'_>,
    service: &Service,
    tasks: &'t [Task],
    seen: &[(String, Failure)],
) -> Vec<&'t Task> {
    let in_rollback = service.update.as_ref().is_some_and(|u| u.state.is_rollback());
    let ours = |t: &Task| match (watch.token, spec::task_token(&t.spec)) {
        (Some(ours), Some(theirs)) if ours == theirs => true,
        _ => !in_rollback && t.is_of(&service.spec),
    };
    tasks
        .iter()
        .filter(|t| t.has_failed() && ours(t) && !watch.known.contains(&t.id))
        .filter(|t| !seen.iter().any(|(id, _)| *id == t.id))
        .collect()
}

/// The tasks of a service at one look.
#[derive(Clone, Debug, Default, PartialEq)]
struct Picture {
    wanted: u64,
    /// Running the present spec.
    current: u64,
    /// Running an older one.
    other: u64,
    /// Tasks of the present spec that find no node, and why.
    pending: Option<String>,
}

impl Picture {
    fn of(service: &Service, tasks: &[Task]) -> Self {
        let should_run = || tasks.iter().filter(|t| t.desired == "running");
        // A slot counts once: while an update starts first, it has an old and a new task.
        let slots = |of_present: bool| -> u64 {
            let running = tasks.iter().filter(|t| t.is_running() && t.is_of(&service.spec) == of_present);
            running.map(Task::place).collect::<BTreeSet<_>>().len() as u64
        };
        let wanted = service
            .replicas()
            .unwrap_or_else(|| should_run().map(Task::place).collect::<BTreeSet<_>>().len() as u64);
        let waits = |t: &&Task| t.state == "pending" && t.is_of(&service.spec);
        Self {
            wanted,
            current: slots(true),
            other: slots(false),
            pending: should_run().find(waits).and_then(|t| t.error.clone()),
        }
    }

    fn is_whole(&self) -> bool {
        self.current == self.wanted && self.other == 0
    }

    /// `2 of 3 tasks run v2`
    fn line(&self, service: &Service) -> String {
        let version = spec::version(service.image());
        let mut line = format!(
            "{} of {} {} {version}",
            self.current,
            text::count(usize::try_from(self.wanted).unwrap_or(usize::MAX), "task"),
            if self.wanted == 1 { "runs" } else { "run" },
        );
        match service.update.as_ref().map(|u| &u.state) {
            Some(UpdateState::RollbackStarted) => line.insert_str(0, "rolling back: "),
            Some(UpdateState::Updating) if self.is_whole() => line.push_str(", being watched"),
            _ => {}
        }
        if let Some(reason) = &self.pending {
            line.push_str(&format!("; one waits: {}", text::ellipsis(reason, 120)));
        }
        line
    }
}

/// What one look does not show: since when things are as they are.
struct Memory {
    reached: Instant,
    picture: Picture,
    whole_since: Option<Instant>,
    pending_since: Option<Instant>,
    ended_since: Option<Instant>,
}

impl Memory {
    fn new(now: Instant) -> Self {
        Self {
            reached: now,
            picture: Picture::default(),
            whole_since: None,
            pending_since: None,
            ended_since: None,
        }
    }
    fn reached(&mut self, now: Instant) {
        self.reached = now;
    }
    /// Whether it looks as it did the last time.
    fn stands(&mut self, picture: &Picture) -> bool {
        std::mem::replace(&mut self.picture, picture.clone()) == *picture
    }
    fn unreachable_for(&self, now: Instant) -> Duration {
        now.duration_since(self.reached)
    }

    fn decide(
        &mut self,
        watch: &Watch<'_>,
        service: &Service,
        picture: &Picture,
        failures: usize,
        now: Instant,
    ) -> Option<Verdict> {
        let since = |slot: &mut Option<Instant>, is: bool| match is {
            true => Some(now.duration_since(*slot.get_or_insert(now))),
            false => {
                *slot = None;
                None
            }
        };
        let whole = since(&mut self.whole_since, picture.is_whole());
        let pending = since(&mut self.pending_since, picture.pending.is_some());
        let state = service.update.as_ref().map(|u| &u.state);
        let ended = since(
            &mut self.ended_since,
            matches!(state, Some(UpdateState::Completed | UpdateState::RollbackCompleted)),
        );
        let in_rollback = state.is_some_and(UpdateState::is_rollback);
        if let Some(token) = watch.token
            && !in_rollback
            && service.token() != Some(token)
        {
            return Some(Verdict::Overtaken);
        }
        match state {
            Some(UpdateState::Paused) => return Some(Verdict::Paused),
            Some(UpdateState::RollbackPaused) => return Some(Verdict::RollbackPaused),
            Some(UpdateState::RollbackCompleted) => {
                return (whole.is_some() || ended > Some(watch.patience.after_end))
                    .then_some(Verdict::RolledBack);
            }
            Some(UpdateState::Completed) => {
                if whole.is_some() {
                    return Some(Verdict::Done);
                }
                if ended > Some(watch.patience.after_end) {
                    return Some(Verdict::Stuck(format!(
                        "the update has ended, but only {} of {} tasks run",
                        picture.current, picture.wanted
                    )));
                }
            }
            // Nobody watches these tasks but us.
            None => {
                if whole >= Some(watch.patience.settle) {
                    return Some(Verdict::Done);
                }
                if failures as u64 > picture.wanted.max(2) {
                    return Some(Verdict::Stuck("its tasks fail again and again".to_owned()));
                }
            }
            Some(UpdateState::Updating | UpdateState::RollbackStarted | UpdateState::Other(_)) => {}
        }
        if pending > Some(watch.patience.pending) {
            return picture.pending.clone().map(Verdict::Stuck);
        }
        None
    }
}
