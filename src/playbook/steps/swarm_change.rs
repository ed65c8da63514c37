//! One change of one Swarm service: posted under `Version.Index`, waited for, explained, and taken back.
//! What `swarm_service` and `swarm_stack` have in common.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ByHand, Effects, Probed, StepContext, StepError, Undid, swarm_wait};
use crate::playbook::model::Preview;
use crate::providers::swarm::{
    Lost, Outcome, Patience, Service, Swarm, SwarmError, UpdateState, Verdict, Watch, advice, spec,
};
use crate::text::{self, code, defuse};

/// Stands in `observed` for a service that does not exist.
const ABSENT: &str = "none";

/// In `seen`: the service's `Version.Index`.
const INDEX: &str = "version index";

/// In `seen`: when its last update began.
const UPDATED: &str = "last update";

/// A service that a step changes.
pub(super) struct Target<'a> {
    pub context: &'a StepContext,
    pub swarm: &'a Swarm,
    /// The Swarm's name for it.
    pub swarm_name: &'a str,
    /// Its name in the environment file.
    pub name: &'a str,
    /// Before the names of observed facts; empty where the step is about one service.
    pub prefix: String,
}

/// Makes the wanted spec out of the present one.
pub(super) type Desired<'a> = &'a (dyn Fn(Option<&Service>) -> Result<Json, StepError> + Send + Sync);

/// What a change left behind, for later steps, the undo and the release ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub service: String,
    pub swarm_name: String,
    pub before: Before,
    pub image: String,
    /// The tag, or the digest where there is no tag.
    pub version: String,
    pub replicas: Option<u64>,
    /// Digest of the spec.
    pub configuration: String,
    pub version_index: u64,
    /// False: everything was already so.
    pub changed: bool,
    pub running: u64,
    pub wanted: u64,
    pub took_ms: u64,
}

/// What was there before a change: what its undo returns to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    /// Absent: it did not exist.
    pub image: Option<String>,
    pub replicas: Option<u64>,
    /// Digest of the spec.
    pub configuration: Option<String>,
}

impl Before {
    fn of(service: Option<&Service>) -> Self {
        Self {
            image: service.map(|s| s.image().to_owned()),
            replicas: service.and_then(Service::replicas),
            configuration: service.map(|s| spec::digest(&s.spec).as_str().to_owned()),
        }
    }
    fn exists(&self) -> bool {
        self.image.is_some()
    }
}

impl From<SwarmError> for StepError {
    fn from(error: SwarmError) -> Self {
        let mut out = Self::new(defuse(&error.to_string()).into_owned());
        out.hint = error.hint();
        out.transient = error.is_transient();
        out
    }
}

impl From<Lost> for StepError {
    fn from(lost: Lost) -> Self {
        Self::from(lost.error)
    }
}

impl Target<'_> {
    fn fact(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What the plan rests on.
    pub(super) fn observe(&self, service: Option<&Service>, preview: &mut Preview) {
        let before = Before::of(service);
        let or_absent = |v: Option<String>| v.unwrap_or_else(|| ABSENT.to_owned());
        preview.observed.insert(self.fact("image"), or_absent(before.image));
        preview.observed.insert(self.fact("replicas"), or_absent(before.replicas.map(|r| r.to_string())));
        preview.observed.insert(self.fact("configuration"), or_absent(before.configuration));
        if let Some(service) = service {
            preview.seen.insert(self.fact(INDEX), service.index.to_string());
            preview.seen.insert(self.fact(UPDATED), last_update(service));
        }
    }

    /// What was so when the plan was made, and moves by itself. `None` when the plan did not look.
    fn seen(&self, name: &str) -> Option<&String> {
        self.context.planned.seen.get(&self.fact(name))
    }

    /// What was there when the plan was made. `None` when the plan did not look.
    fn planned(&self) -> Option<Before> {
        let fact = |name| self.context.planned.observed.get(&self.fact(name)).cloned();
        let present = |v: String| (v != ABSENT).then_some(v);
        Some(Before {
            image: present(fact("image")?),
            replicas: fact("replicas").and_then(|r| r.parse().ok()),
            configuration: fact("configuration").and_then(present),
        })
    }

    fn token(&self) -> &str {
        self.context.token.as_str()
    }

    /// Whether the service's spec was written by this run.
    fn is_of_this_run(&self, service: &Service) -> bool {
        service.token().is_some_and(|theirs| run_of(theirs) == run_of(self.token()))
    }

    /// Makes the change and waits for its real end. With `attach`, a change that is there already (also one
    /// that Swarm is rolling back, or has rolled back) is not made again.
    pub(super) async fn carry_out(&self, desired: Desired<'_>, attach: bool) -> Result<Done, StepError> {
        let started = Instant::now();
        let posted = self.post(desired, attach).await?;
        let settle = match &posted.spec {
            Some(after) if watched_by_us(posted.service.as_ref(), after) => spec::monitor(after),
            _ => Duration::ZERO,
        };
        let changed = posted.changed;
        let token = changed.then(|| self.token());
        // What was sent is on the Swarm, whoever answers here: it is waited for as long as the step has.
        let patience = Patience { settle, unreachable: Duration::MAX, ..Patience::default() };
        let outcome = self.wait(token, &posted.known, patience, &self.context.cancel).await;
        let outcome = outcome.map_err(|lost| self.lost_sight(lost, changed))?;
        match outcome.verdict.clone() {
            Verdict::Done => {
                let service = outcome.service.as_ref().expect("what is done is there");
                Ok(self.done(service, &outcome, posted.before, changed, started.elapsed()))
            }
            // Of an earlier update: it left what this step asks for.
            Verdict::RolledBack if !changed && outcome.running >= outcome.wanted => {
                let service = outcome.service.as_ref().expect("what was rolled back is there");
                Ok(self.done(service, &outcome, posted.before, changed, started.elapsed()))
            }
            Verdict::Cancelled if !changed => {
                Err(StepError::new(format!("{} was not changed", self.code())).cancelled())
            }
            Verdict::Cancelled => Err(self.cancelled(&posted).await),
            _ => Err(self.failed(&posted, &outcome).await),
        }
    }

    async fn post(&self, desired: Desired<'_>, attach: bool) -> Result<Posted, StepError> {
        // An update moves the index on by itself, so a stale index alone is no change by somebody else.
        let mut attempts = 0;
        // Whether something was sent that nobody answered.
        let mut unsure = false;
        loop {
            // What may be there is looked for as long as the step has.
            let patience = if unsure { Duration::MAX } else { swarm_wait::NOBODY_THERE };
            let (current, known) = self
                .look(&self.context.cancel, patience)
                .await
                .map_err(|error| if unsure { self.unsure(error) } else { StepError::from(error) })?;
            let planned = self.planned();
            // A person has asked for another attempt: sending the same spec again makes Swarm go on.
            let paused = current
                .as_ref()
                .and_then(|s| s.update.as_ref())
                .is_some_and(|u| u.state == UpdateState::Paused);
            let resume = paused && !attach;
            if let Some(service) = &current
                && !resume
                && (service.token() == Some(self.token()) || attach)
            {
                let before = planned.unwrap_or_else(|| before_of_previous(service));
                let (spec, service) = (Some(service.spec.clone()), None);
                return Ok(Posted { before, service, spec, known: HashSet::new(), changed: true });
            }
            if let (Some(planned), false) =
                (&planned, current.as_ref().is_some_and(|s| self.is_of_this_run(s)))
            {
                let now = Before::of(current.as_ref());
                if now != *planned {
                    return Err(self.drifted(planned, &now));
                }
            }
            let mut wanted = desired(current.as_ref())?;
            let before = Before::of(current.as_ref());
            if let Some(service) = &current
                && !resume
                && spec::digest(&service.spec) == spec::digest(&wanted)
            {
                return Ok(Posted { before, service: current, spec: None, known, changed: false });
            }
            if self.context.cancel.is_cancelled() {
                return Err(self.cancelled_before(current.as_ref()));
            }
            spec::mark(&mut wanted, current.as_ref(), self.token());
            let sent = match &current {
                Some(service) => self.swarm.update_service(service, &wanted).await,
                None => self.swarm.create_service(&wanted).await,
            };
            attempts += 1;
            match sent {
                Ok(()) => {
                    return Ok(Posted { before, service: current, spec: Some(wanted), known, changed: true });
                }
                // Somebody was faster; perhaps we were, through a manager that died before it answered.
                Err(SwarmError::Stale { .. }) if attempts < 10 => {}
                Err(SwarmError::Conflict { .. }) if attempts < 3 && current.is_none() => {}
                // It was sent under its index: sent again, it is one change.
                Err(error) if error.is_nobody_there() && attempts < 10 => unsure = true,
                // Some manager took it, and did not say what became of it.
                Err(error) if error.is_transient() => return Err(self.unsure(error)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The change was sent, and nobody answered.
    fn unsure(&self, error: SwarmError) -> StepError {
        let error = StepError::from(error);
        let name = self.code();
        let message = format!(
            "{}; the change of {name} was sent, and whether it was taken is not known",
            error.message
        );
        StepError { message, ..error }.with_effects()
    }

    /// The service and the tasks that it has. Waits for so long while no manager answers.
    async fn look(
        &self,
        cancel: &CancellationToken,
        patience: Duration,
    ) -> Result<(Option<Service>, HashSet<String>), SwarmError> {
        swarm_wait::look(self.context, cancel, patience, || async {
            let Some(service) = self.swarm.service(self.swarm_name).await? else {
                return Ok((None, HashSet::new()));
            };
            let tasks = self.swarm.tasks(self.swarm_name).await?;
            Ok((Some(service), tasks.into_iter().map(|task| task.id).collect()))
        })
        .await
    }

    async fn wait(
        &self,
        token: Option<&str>,
        known: &HashSet<String>,
        patience: Patience,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Lost> {
        let say = |line: &str| self.context.progress.status(&format!("{}: {}", self.code(), defuse(line)));
        let watch = Watch { name: self.swarm_name, token, known, patience, cancel, say: &say };
        self.swarm.watch(&watch).await
    }

    fn done(
        &self,
        service: &Service,
        outcome: &Outcome,
        before: Before,
        changed: bool,
        took: Duration,
    ) -> Done {
        Done {
            service: self.name.to_owned(),
            swarm_name: self.swarm_name.to_owned(),
            before,
            image: service.image().to_owned(),
            version: spec::version(service.image()).to_owned(),
            replicas: service.replicas(),
            configuration: spec::digest(&service.spec).as_str().to_owned(),
            version_index: service.index,
            changed,
            running: outcome.running,
            wanted: outcome.wanted,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn drifted(&self, planned: &Before, now: &Before) -> StepError {
        let words = |b: &Before| match &b.image {
            None => "does not exist".to_owned(),
            Some(image) => {
                let tasks = b.replicas.map(|r| format!(", {}", text::count(r as usize, "task")));
                format!("runs {}{}", code(spec::short_image(image)), tasks.unwrap_or_default())
            }
        };
        let (was, is) = (words(planned), words(now));
        let message = if was == is {
            format!("{} was configured otherwise after the plan was made", self.code())
        } else {
            format!("{} was changed after the plan was made: it {was} in the plan, and {is} now", self.code())
        };
        StepError::new(message).hint("ask for it again: the new plan shows what is so now")
    }

    fn code(&self) -> String {
        code(self.name)
    }

    /// The change was sent, or was there, and no manager tells what became of it.
    fn lost_sight(&self, lost: Lost, changed: bool) -> StepError {
        let last = lost.last.map(|last| format!("; when a manager last answered, {}", defuse(&last)));
        let error = StepError::from(lost.error);
        if !changed {
            return error;
        }
        let message = format!(
            "{}; {} was changed before that, and nobody tells how far that is{}",
            error.message,
            self.code(),
            last.unwrap_or_default()
        );
        StepError { message, ..error }.with_effects()
    }

    /// For people: what the service has come back to.
    fn back_at(before: &Before) -> String {
        match &before.image {
            Some(image) => format!("back at {}", code(spec::version(image))),
            None => "removed again".to_owned(),
        }
    }

    /// Cancelled, and nothing was sent by this attempt. An earlier one whose end nobody saw may have changed the
    /// service and put it back.
    fn cancelled_before(&self, current: Option<&Service>) -> StepError {
        let name = self.code();
        let message = match current {
            _ if !self.context.earlier.open => format!("{name} was not changed"),
            Some(service) => {
                format!("cancelled: {name} is at {}, as before", code(spec::version(service.image())))
            }
            None => format!("cancelled: {name} is not there, as before"),
        };
        StepError::new(message).cancelled()
    }

    async fn cancelled(&self, posted: &Posted) -> StepError {
        match self.put_back(&posted.before, posted.before_spec()).await {
            Ok(_) => {
                StepError::new(format!("cancelled: {} is {}", self.code(), Self::back_at(&posted.before)))
                    .cancelled()
            }
            Err(error) => StepError {
                message: format!("cancelled, but {} could not be put back: {}", self.code(), error.message),
                effects: Effects::Possible,
                ..error
            }
            .cancelled(),
        }
    }

    async fn failed(&self, posted: &Posted, outcome: &Outcome) -> StepError {
        let why = failures(outcome);
        let name = self.code();
        let because = |what: &str| match &why {
            Some(why) => format!("{what}: {why}"),
            None => what.to_owned(),
        };
        let error = match &outcome.verdict {
            Verdict::RolledBack => {
                let message = because(&format!("{name} was rolled back, it is {}", Self::back_at(&posted.before)));
                let whole = outcome.running >= outcome.wanted;
                let same = outcome.service.as_ref().map(|s| spec::digest(&s.spec).as_str().to_owned())
                    == posted.before.configuration;
                match (whole, same) {
                    (true, true) => StepError::new(message).unfit(),
                    (true, false) => StepError::new(message).with_effects().unfit(),
                    (false, _) => StepError::new(format!(
                        "{message}; only {} of {} run now",
                        outcome.running,
                        text::count(outcome.wanted as usize, "task"),
                    ))
                    .with_effects()
                    .unfit(),
                }
            }
            Verdict::Paused => StepError::new(because(&format!(
                "the update of {name} was stopped half-way by Swarm, as its failure action says; {} of {} run the new version",
                outcome.running,
                text::count(outcome.wanted as usize, "task"),
            )))
            .with_effects()
            .unfit(),
            Verdict::RollbackPaused => StepError::new(because(&format!(
                "{name} failed to update and to roll back; {} of {} run the old version",
                outcome.running,
                text::count(outcome.wanted as usize, "task"),
            )))
            .hint("look at the nodes and at the tasks' logs: Swarm does nothing more by itself")
            .with_effects()
            .unfit(),
            Verdict::Overtaken => {
                let now = outcome.service.as_ref().map(set_to).unwrap_or_default();
                StepError::new(format!("{name} was changed by somebody else meanwhile; it {now}, and was left so"))
            }
            Verdict::Removed => StepError::new(format!("{name} was removed by somebody else meanwhile")),
            Verdict::Stuck(reason) => return self.stuck(posted, outcome, reason, why).await,
            Verdict::Done | Verdict::Cancelled => unreachable!("no failures"),
        };
        self.explain(error, outcome, None)
    }

    /// Swarm would wait for ever. Where it was told to roll back failures, that is done for it.
    async fn stuck(
        &self,
        posted: &Posted,
        outcome: &Outcome,
        reason: &str,
        why: Option<String>,
    ) -> StepError {
        let name = self.code();
        let reason_words = why.unwrap_or_else(|| defuse(reason).into_owned());
        let rolls_back = posted.spec.as_ref().is_none_or(|s| {
            s.pointer("/UpdateConfig/FailureAction").and_then(Json::as_str) == Some("rollback")
        });
        let error = if rolls_back {
            self.context.progress.status(&format!("{name}: it cannot be finished, putting it back"));
            match self.put_back(&posted.before, posted.before_spec()).await {
                Ok(_) => StepError::new(format!(
                    "{name} could not be brought to what was asked, it is {}: {reason_words}",
                    Self::back_at(&posted.before)
                )),
                Err(error) => StepError::new(format!(
                    "{name} could not be brought to what was asked ({reason_words}), nor put back: {}",
                    error.message
                ))
                .with_effects(),
            }
        } else {
            StepError::new(format!(
                "{name} hangs at {} of {}: {reason_words}",
                outcome.running,
                text::count(outcome.wanted as usize, "task")
            ))
            .with_effects()
        };
        self.explain(error, outcome, Some(reason))
    }

    /// Adds the nodes that are missing, the failed tasks' last lines, and what to do about a known cause.
    fn explain(&self, mut error: StepError, outcome: &Outcome, reason: Option<&str>) -> StepError {
        for down in &outcome.down {
            error.message.push_str(&format!("; {}", defuse(&down.words())));
        }
        if !outcome.down.is_empty() {
            // A task that went with its node says nothing about the version.
            error.unfit = false;
        }
        if let Some(down) = outcome.down.iter().find(|down| !down.back) {
            error.hint = Some(down.hint());
        }
        let redact = |t: &str| self.context.redactor.redact(&defuse(t)).into_owned();
        let causes = || outcome.failures.iter().map(|f| f.error.as_str()).chain(reason);
        if error.hint.is_none() {
            error.hint = causes().find_map(advice).map(str::to_owned);
        }
        let log = outcome.failures.iter().find_map(|f| f.log.as_deref());
        error.tail = log.map(redact);
        let all: Vec<&str> = causes().collect();
        error.detail = (!all.is_empty()).then(|| redact(&all.join("; ")));
        error
    }

    /// Returns the service to what it was, waits for that, and verifies it. Nothing is done when it is so
    /// already, or when it is gone and was not there before.
    pub(super) async fn put_back(
        &self,
        before: &Before,
        before_spec: Option<&Json>,
    ) -> Result<Undid, StepError> {
        let mut attempts = 0;
        loop {
            // Not cancellable, as below.
            let (current, _) = self.look(&CancellationToken::new(), swarm_wait::NOBODY_THERE).await?;
            let Some(service) = current else {
                if before.exists() {
                    return Err(StepError::new(format!("{} is gone and cannot be put back", self.code()))
                        .hint("deploy it to make it anew"));
                }
                return Ok(if attempts > 0 { Undid::Something } else { Undid::Nothing });
            };
            let now = Before::of(Some(&service));
            if now.configuration == before.configuration {
                break;
            }
            if !self.is_of_this_run(&service) {
                return Err(StepError::new(format!(
                    "{} {}, which this run did not do: it was left alone",
                    self.code(),
                    set_to(&service)
                ))
                .hint("deploy the version that it should have"));
            }
            let sent = if before.exists() {
                let wanted = self.earlier(&service, before, before_spec);
                if spec::digest(&wanted) == spec::digest(&service.spec) {
                    break;
                }
                self.swarm.update_service(&service, &wanted).await
            } else {
                self.swarm.remove_service(self.swarm_name).await
            };
            attempts += 1;
            match sent {
                Ok(()) | Err(SwarmError::Stale { .. }) if attempts < 10 => {}
                Err(error) if error.is_nobody_there() && attempts < 10 => {}
                Ok(()) => return Err(StepError::new(format!("{} does not stay as it was put", self.code()))),
                Err(error) => return Err(error.into()),
            }
        }
        // Not cancellable: to stop half-way here would leave what nobody asked for.
        let outcome =
            self.wait(None, &HashSet::new(), Patience::default(), &CancellationToken::new()).await?;
        match outcome.verdict {
            Verdict::Done | Verdict::RolledBack if outcome.running >= outcome.wanted => {
                Ok(if attempts > 0 { Undid::Something } else { Undid::Nothing })
            }
            _ => {
                let why = failures(&outcome).map(|w| format!(": {w}")).unwrap_or_default();
                let error = StepError::new(format!(
                    "{} has its earlier configuration back, but {} of {} run{why}",
                    self.code(),
                    outcome.running,
                    text::count(outcome.wanted as usize, "task")
                ));
                Err(self.explain(error, &outcome, None).with_effects())
            }
        }
    }

    /// The spec of before, whole where it is still known, else what was recorded of it.
    fn earlier(&self, service: &Service, before: &Before, before_spec: Option<&Json>) -> Json {
        let is_it = |s: &&Json| Some(spec::digest(s).as_str()) == before.configuration.as_deref();
        if let Some(whole) = before_spec.or(service.previous_spec.as_ref().filter(is_it)) {
            return whole.clone();
        }
        let mut wanted = service.spec.clone();
        if let Some(image) = &before.image {
            spec::set_image(&mut wanted, image);
            spec::set_label(&mut wanted, spec::LABEL_VERSION, spec::version(image));
        }
        // Still this run's, but no longer this step's: a probe must not take it for done.
        spec::sent(&mut wanted, Some(service), &format!("{}-undo", run_of(self.token())));
        if let Some(replicas) = before.replicas {
            spec::set_replicas(&mut wanted, replicas);
        }
        wanted
    }

    /// Undoes the change. `done` is absent when the step failed with possible effects.
    pub(super) async fn undo(&self, done: Option<&Done>) -> Result<Undid, StepError> {
        let before = match done {
            Some(done) if !done.changed => return Ok(Undid::Nothing),
            Some(done) => Some(done.before.clone()),
            None => self.planned(),
        };
        let Some(before) = before else {
            return Err(StepError::new(format!("what {} was before is not known", self.code()))
                .hint("look at it, and deploy the version that it should have"));
        };
        self.put_back(&before, None).await
    }

    /// What a person types. Not `--rollback`: the one release that Swarm remembers need not be the one that the plan
    /// saw, and a second one would bring the failed version back.
    pub(super) fn by_hand(&self, done: Option<&Done>, act: &[&str]) -> ByHand {
        let docker = |arguments: &[&str]| self.swarm.typed(&[&["service"], arguments].concat());
        let name = self.swarm_name;
        let look = vec![docker(&["inspect", "--pretty", name]), docker(&["ps", "--no-trunc", name])];
        let act = if act.is_empty() { Vec::new() } else { vec![docker(act)] };
        let before = done.map(|done| done.before.clone()).or_else(|| self.planned());
        let undo = match before {
            _ if done.is_some_and(|done| !done.changed) => Vec::new(),
            None => vec![format!("# what {name} was before is not known: look, then set it")],
            Some(Before { image: None, .. }) => vec![docker(&["rm", name])],
            Some(Before { image: Some(image), replicas, .. }) => {
                let replicas = replicas.map(|count| count.to_string());
                let mut words = vec!["update", "--image", spec::short_image(&image)];
                if let Some(count) = &replicas {
                    words.extend(["--replicas", count]);
                }
                words.push(name);
                let mut lines = vec![docker(&words)];
                lines.extend(self.other_settings());
                lines
            }
        };
        ByHand { look, act, undo }
    }

    /// What the plan changed beyond version and number of tasks, as comments under a command.
    fn other_settings(&self) -> impl Iterator<Item = String> {
        let others = self.context.planned.changes.iter().filter_map(|change| {
            let what = change.what.strip_prefix(&self.prefix).unwrap_or(&change.what);
            let counted = matches!(what, "image" | "replicas" | "tasks" | "update");
            let known = self.prefix.is_empty() || change.what.starts_with(&self.prefix);
            (known && !counted).then(|| match &change.from {
                Some(from) => format!("# and {what} back to {from}"),
                None => format!("# and {what} removed again"),
            })
        });
        others.collect::<Vec<_>>().into_iter()
    }

    /// What became of the change that an earlier process made, for people.
    fn under_way(&self, state: Option<&UpdateState>) -> Probed {
        let what = format!("the update of {} that I started", self.code());
        Probed::UnderWay(match state {
            Some(UpdateState::Updating | UpdateState::Other(_)) => {
                format!("{what} is still running on the cluster")
            }
            Some(UpdateState::Completed) => {
                format!("{what} has ended on the cluster, and not all of its tasks run yet")
            }
            Some(UpdateState::Paused) => format!("{what} was stopped half-way by the cluster"),
            Some(UpdateState::RollbackStarted) => format!("the cluster is rolling {what} back"),
            Some(UpdateState::RollbackPaused) => {
                format!("the cluster began to roll {what} back, and stopped half-way")
            }
            Some(UpdateState::RollbackCompleted) => format!("the cluster has rolled {what} back meanwhile"),
            // Swarm keeps no status of a creation, nor of a change of the number of tasks.
            None => {
                format!("the change of {} that I made is there, its tasks are still coming up", self.code())
            }
        })
    }

    /// After a crash: whether the change happened. The service's own label is not enough: an automatic rollback
    /// brings the old labels back and forgets the previous spec, one by hand keeps the rolled back one as the previous
    /// spec. The tasks then still tell, as long as the Swarm keeps them; and what the plan saw tells whether anything
    /// has happened at all.
    pub(super) async fn probe(&self) -> Result<Probed, StepError> {
        let Some(service) = self.swarm.service(self.swarm_name).await? else {
            return Ok(match self.planned() {
                Some(before) if before.exists() => {
                    Probed::Unknown(format!("{} existed when this was planned, and is gone", self.code()))
                }
                _ => Probed::DidNotHappen,
            });
        };
        let state = service.update.as_ref().map(|u| &u.state);
        if service.token() == Some(self.token()) {
            if !matches!(state, Some(UpdateState::Completed)) {
                return Ok(self.under_way(state));
            }
            let known = HashSet::new();
            let cancel = CancellationToken::new();
            cancel.cancel();
            let outcome = self.wait(Some(self.token()), &known, Patience::default(), &cancel).await?;
            return Ok(match outcome.verdict {
                Verdict::Done => {
                    let before = self.planned().unwrap_or_else(|| before_of_previous(&service));
                    let done = self.done(&service, &outcome, before, true, Duration::ZERO);
                    Probed::Happened(serde_json::to_value(done).expect("plain data"))
                }
                _ => self.under_way(state),
            });
        }
        if self.seen(INDEX).is_some_and(|seen| *seen == service.index.to_string()) {
            return Ok(Probed::DidNotHappen);
        }
        let tasks = self.swarm.tasks(self.swarm_name).await?;
        let left_tasks = tasks.iter().any(|t| spec::task_token(&t.spec) == Some(self.token()));
        let previous = service.previous_spec.as_ref().and_then(|spec| spec::label(spec, spec::LABEL_RUN));
        let previous_is_ours = previous == Some(self.token());
        let rolled_back = state.is_some_and(UpdateState::is_rollback);
        if rolled_back && (left_tasks || previous_is_ours) {
            return Ok(self.under_way(state));
        }
        // An earlier attempt that came to its end was told of; it may have been put back since.
        let first = self.context.earlier.ended == 0;
        if first && rolled_back && self.seen(UPDATED).is_some_and(|seen| *seen != last_update(&service)) {
            return Ok(Probed::Unknown(format!(
                "{} is set to {}, an update of it was rolled back since this was planned, and the Swarm has kept no \
                 task that would show whose update that was",
                self.code(),
                code(spec::short_image(service.image()))
            )));
        }
        match self.planned() {
            None => Ok(Probed::DidNotHappen),
            Some(planned) if planned == Before::of(Some(&service)) || self.is_of_this_run(&service) => {
                Ok(Probed::DidNotHappen)
            }
            Some(_) if first && previous_is_ours => Ok(Probed::Unknown(format!(
                "this run changed {}, and somebody else has since: it {}",
                self.code(),
                set_to(&service)
            ))),
            Some(_) => Ok(Probed::Unknown(format!(
                "{} is set to {} now, and this run did not do that",
                self.code(),
                code(spec::short_image(service.image()))
            ))),
        }
    }
}

/// What was sent, or found to be there already.
struct Posted {
    before: Before,
    /// As it was when we sent; absent when it was created, or sent by a process before this one.
    service: Option<Service>,
    /// Absent: nothing had to be sent.
    spec: Option<Json>,
    /// Tasks that were there before.
    known: HashSet<String>,
    changed: bool,
}

impl Posted {
    fn before_spec(&self) -> Option<&Json> {
        self.service.as_ref().map(|s| &s.spec)
    }
}

/// Swarm watches only tasks that an update replaces: not the first ones, and not those that scaling adds.
fn watched_by_us(before: Option<&Service>, after: &Json) -> bool {
    let Some(before) = before else { return true };
    spec::replicas(after) > before.replicas() && before.spec.get("TaskTemplate") == after.get("TaskTemplate")
}

/// `is set to `web:1.8` now`, and what of ours is otherwise.
fn set_to(service: &Service) -> String {
    let changes = service.overwritten().map(|ours| spec::changes(Some(ours), &service.spec, &[]));
    let mut what: Vec<String> = changes.unwrap_or_default().into_iter().map(|c| c.what).collect();
    what.retain(|what| what != "image");
    let otherwise = match what.as_slice() {
        [] => String::new(),
        some => format!(" and otherwise in {}", text::plain_and_list(some)),
    };
    format!("is set to {}{otherwise} now", code(spec::short_image(service.image())))
}

/// When the last update of the service began; the same as long as no other one does.
fn last_update(service: &Service) -> String {
    let began = service.update.as_ref().and_then(|update| update.started_at);
    began.map_or_else(|| "never".to_owned(), |began| began.to_string())
}

fn before_of_previous(service: &Service) -> Before {
    let previous = service.previous_spec.clone().map(|spec| Service { spec, ..service.clone() });
    Before::of(previous.as_ref())
}

/// `houston-R-41-3` → `houston-R-41`
fn run_of(token: &str) -> &str {
    token.rsplit_once('-').map_or(token, |(run, _)| run)
}

/// `2 of 3 tasks failed their health check`
fn failures(outcome: &Outcome) -> Option<String> {
    let newest = outcome.failures.last()?;
    let reason = newest.reason();
    let places: HashSet<_> = outcome
        .failures
        .iter()
        .filter(|f| f.reason() == reason)
        .map(|f| (f.slot, if f.slot == 0 { f.node.as_deref() } else { None }))
        .collect();
    let reason = if places.len() == 1 { reason } else { reason.replace("its ", "their ") };
    let of = text::count(outcome.wanted.max(places.len() as u64) as usize, "task");
    Some(format!("{} of {of} {}", places.len(), defuse(&reason)))
}
