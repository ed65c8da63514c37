//! Performs steps, takes up one that an earlier process began, undoes one, ends the run. The order is
//! always the same: append the intent, sync, act, append the outcome, sync. An outcome and the intent that
//! follows it share a batch.
//!
//! Must not: decide what is to be done next.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::standing::AllowSchedule;
use super::steal::StealLock;
use super::{CANCEL_GRACE, Engine, GRACE, Work, step_card};
use crate::ids::{EffectToken, RunId};
use crate::playbook::model::{ALLOW_SCHEDULE, PlannedStep, PlannedUndo, Preview, STEAL_LOCK};
use crate::playbook::steps::{
    ByHand, Earlier, Pause, Probed, Progress, Repeat, StepContext, StepError, StepKind, Undid,
};
use crate::runs::event::{Event, Found, Outcome, ToUndo};
use crate::runs::followed::{self, Place};
use crate::runs::locks::LockProof;
use crate::runs::next::{AfterCrash, Next, UNDO_ATTEMPTS, after_crash, next, steps_to_undo};
use crate::runs::outbox::Notice;
use crate::runs::state::{RunState, StepState};
use crate::runs::steal::Steal;
use crate::runs::usual;
use crate::runs::{releases, saved};
use crate::store::Batch;
use crate::trace::{self, Act};

/// What a look at the world may take.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// What clearing away may take.
const FORGET_LIMIT: Duration = Duration::from_secs(30);

/// A step whose intent is durable.
struct Begun {
    state: RunState,
    step: usize,
    attempt: u32,
    kind: Arc<dyn StepKind>,
    cancel: CancellationToken,
}

impl Engine {
    /// Performs a step, and those that follow it without anything in between.
    pub(super) async fn perform(&self, state: &RunState, step: usize, attempt: u32, locks: &LockProof) {
        self.perform_after(None, state, step, attempt, locks).await;
    }

    /// As [`Self::perform`]; what became of an earlier attempt goes into the journal with the intent.
    async fn perform_after(
        &self,
        found: Option<Event>,
        state: &RunState,
        step: usize,
        attempt: u32,
        _locks: &LockProof,
    ) {
        let run = state.id;
        let planned = &state.plan.steps[step];
        let kind = match self.kind(&planned.kind) {
            Ok(kind) => kind,
            Err(error) => {
                let events = vec![started(state, step, attempt), Event::StepFailed { step, error }];
                self.decide(state, events, Vec::new()).await;
                return;
            }
        };
        if let Some(pause) = kind.pause(&planned.params) {
            let (until, notices) = match &pause {
                Pause::For(time) => {
                    (Some(self.now().checked_add(*time).unwrap_or(jiff::Timestamp::MAX)), Vec::new())
                }
                Pause::Answer { .. } => {
                    (None, vec![Notice::Progress { run }, Notice::question(run, state.next_seq)])
                }
            };
            let notices = step_card(state).into_iter().chain(notices).collect();
            self.decide(state, vec![Event::StepWaiting { step, pause, until }], notices).await;
            return;
        }
        // Whoever cancels or abandons from here on finds the step under way; who did so before moved the
        // run, and the intent is not taken.
        let cancel = self.begin(run, Work::Step(step));
        self.learn_what_is_usual(state);
        let intent = found.into_iter().chain([started(state, step, attempt)]).collect();
        // From here on nobody's consent is followed any more.
        let begun = self.decide(state, intent, step_card(state).into_iter().collect()).await;
        let mut begun = begun.map(|state| Begun { state, step, attempt, kind, cancel });
        while let Some(step) = begun {
            // Whoever may act next finds it under way.
            let planned = &step.state.plan.steps[step.step];
            let of = step.state.of_run();
            let span = trace::step(of, planned.id.as_str(), &planned.kind, Act::Perform, step.attempt);
            let Some(outcome) = self.carry_out(&step).instrument(span).await else { break };
            let open = matches!(&outcome, Event::StepFailed { error, .. } if error.under_way);
            // What the run goes by is let go with its end.
            let token = CancellationToken::new();
            let clearing = (!open).then(|| self.context(&step.state, Work::Step(step.step), token));
            begun = self.conclude(run, outcome).await;
            if let Some(context) = clearing {
                self.forget(step, context);
            }
        }
        self.end(run);
    }

    /// Acts, and says what came of it. The intent is durable. `None`: Houston stops or may not act any more, and the
    /// step goes on without it.
    async fn carry_out(&self, begun: &Begun) -> Option<Event> {
        let Begun { state, step, attempt, kind, cancel } = begun;
        let (run, step) = (state.id, *step);
        let planned = &state.plan.steps[step];
        let lease = &self.0.parts.lease;
        // Making the intent durable may have taken its time.
        if lease.may_act().is_err() {
            return None;
        }
        if state.cancel.is_some() {
            cancel.cancel();
        }
        let context = self.context(state, Work::Step(step), cancel.clone());
        self.0.parts.transcripts.remark(run, &heading("", planned, *attempt));
        let limit = planned.timeout.unwrap_or_else(|| self.footing(state.id).step_timeout);
        let work = self.bounded(kind.run(&context, &planned.params), limit, cancel);
        let result = tokio::select! {
            result = work => result,
            () = self.0.shutdown.cancelled(), if kind.outlives(&planned.params) => return None,
            // Whoever acts now may be asked to change the same thing.
            () = lease.lost(), if kind.outlives(&planned.params) => return None,
        };
        let error = match result {
            Ok(output) => {
                let output = self.0.parts.redactor.redact_json(&output);
                tracing::info!("{run} `{}` succeeded", planned.id);
                return Some(Event::StepSucceeded { step, output, adopted: false });
            }
            Err(error) => self.redact(error),
        };
        self.0.parts.transcripts.remark(run, &format!("failed: {}", error.message));
        // What the room is shown stands in the whole output too.
        for line in error.tail.iter().flat_map(|tail| tail.lines()) {
            self.0.parts.transcripts.line(run, &format!("  {line}"));
        }
        trace::step_failed();
        tracing::warn!("{run} `{}` failed: {}", planned.id, error.message);
        if let Some(detail) = &error.detail {
            tracing::warn!("{run} `{}`: {detail}", planned.id);
        }
        Some(Event::StepFailed { step, error })
    }

    /// Lets the kind clear away what it kept outside to find the step by; nobody waits for that.
    fn forget(&self, step: Begun, context: StepContext) {
        let engine = self.clone();
        let forget = async move {
            let params = &step.state.plan.steps[step.step].params;
            let forget = AssertUnwindSafe(step.kind.forget(&context, params)).catch_unwind();
            tokio::select! {
                _ = tokio::time::timeout(FORGET_LIMIT, forget) => {}
                () = engine.0.shutdown.cancelled() => {}
            }
        };
        self.0.tasks.spawn(forget.in_current_span());
    }

    /// Appends an outcome and, where a step follows at once, the intent of that: one batch and one sync for
    /// both, so that there is no next step without a durable outcome, and no waiting for the device twice.
    async fn conclude(&self, run: RunId, outcome: Event) -> Option<Begun> {
        while let Ok(seen) = self.state(run).await
            && let Some((step, attempt, kind)) = self.follower(&seen, &outcome)
        {
            let cancel = self.begin(run, Work::Step(step));
            let events = vec![outcome.clone(), started(&seen, step, attempt)];
            if let Some(state) = self.decide(&seen, events, Vec::new()).await {
                return Some(Begun { state, step, attempt, kind, cancel });
            }
            let moved = self.state(run).await.is_ok_and(|now| now.next_seq != seen.next_seq);
            if !moved {
                break;
            }
        }
        self.record(run, outcome).await;
        None
    }

    /// The step that begins when this outcome is in the journal, if one does and nothing has to be asked or
    /// waited for before.
    fn follower(&self, seen: &RunState, outcome: &Event) -> Option<(usize, u32, Arc<dyn StepKind>)> {
        if self.0.shutdown.is_cancelled() || self.0.parts.lease.may_act().is_err() {
            return None;
        }
        let after = seen.after(outcome.clone(), self.now()).ok()?;
        let Next::Step { step, attempt } = next(&after, self.now()) else { return None };
        let planned = &after.plan.steps[step];
        let kind = self.kind(&planned.kind).ok()?;
        kind.pause(&planned.params).is_none().then_some((step, attempt, kind))
    }

    /// A step that an earlier process started.
    pub(super) async fn recover(&self, state: &RunState, step: usize, attempt: u32, locks: &LockProof) {
        let run = state.id;
        let planned = &state.plan.steps[step];
        let unknown = async |why: String| {
            let notices = vec![Notice::Progress { run }, Notice::question(run, state.next_seq)];
            let look = self.by_hand(state, Work::Look(step), &planned.kind, &planned.params).look;
            self.decide(state, vec![Event::OutcomeUnknown { step, why, look }], notices).await;
        };
        let kind = match self.kind(&planned.kind) {
            Ok(kind) => kind,
            Err(error) => return unknown(error.message).await,
        };
        let found = |found: Found| Some(Event::Found { step, found });
        let repeat = kind.repeat(&planned.params);
        match after_crash(repeat) {
            AfterCrash::RunAgain => {
                let found = found(Found::Harmless { only_reads: repeat == Repeat::Safe });
                self.perform_after(found, state, step, attempt + 1, locks).await;
            }
            AfterCrash::AskAPerson => {
                unknown("Houston was stopped while it ran, and cannot look whether it happened".to_owned())
                    .await;
            }
            AfterCrash::Probe => match self.probe(state, step, attempt, &*kind).await {
                Ok(Probed::Happened(output)) => {
                    let output = self.0.parts.redactor.redact_json(&output);
                    let events = found(Found::Happened).into_iter();
                    let events =
                        events.chain([Event::StepSucceeded { step, output, adopted: true }]).collect();
                    self.decide(state, events, Vec::new()).await;
                }
                Ok(Probed::DidNotHappen) => {
                    self.perform_after(found(Found::NotBegun), state, step, attempt + 1, locks).await;
                }
                Ok(Probed::UnderWay(what)) => {
                    let found = found(Found::UnderWay { what: self.clean(&what) });
                    self.perform_after(found, state, step, attempt + 1, locks).await;
                }
                Ok(Probed::Unknown(why)) => unknown(why).await,
                // The run stays where it is, and the next turn looks again.
                Err(error) if error.transient => {
                    tracing::warn!(run.id = %run, "{run} cannot look at `{}` yet: {error}", planned.id);
                }
                Err(error) => unknown(self.redact(error).message).await,
            },
        }
    }

    async fn probe(
        &self,
        state: &RunState,
        step: usize,
        attempt: u32,
        kind: &dyn StepKind,
    ) -> Result<Probed, StepError> {
        let run = state.id;
        self.begin(run, Work::Look(step));
        // Looking changes nothing: a cancel is obeyed by what follows.
        let context = self.context(state, Work::Look(step), CancellationToken::new());
        context.progress.status("looking whether it happened");
        let params = &state.plan.steps[step].params;
        let planned = &state.plan.steps[step];
        let span = trace::step(state.of_run(), planned.id.as_str(), &planned.kind, Act::Probe, attempt);
        let probed = self.look(kind.probe(&context, params)).instrument(span).await;
        match &probed {
            Err(error) => context.progress.status(&format!("cannot look whether it happened: {error}")),
            Ok(_) => self.end(run),
        }
        probed
    }

    pub(super) async fn undo(&self, state: &RunState, step: usize, attempt: u32, _locks: &LockProof) {
        let run = state.id;
        let planned = &state.plan.steps[step];
        // An undo is not cancelled: it is what a cancel asks for. So the token is one of its own.
        self.begin(run, Work::Undo(step));
        let intent = vec![Event::UndoStarted { step, attempt }];
        let notices = step_card(state).into_iter().chain([Notice::Progress { run }]).collect();
        let span = trace::step(state.of_run(), planned.id.as_str(), &planned.kind, Act::Undo, attempt);
        if let Some(state) = self.decide(state, intent, notices).await
            && let Some(event) = self.perform_undo(&state, step, attempt).instrument(span).await
        {
            if let Event::UndoFailed { error, .. } = &event {
                let line = format!("undo of {} failed: {}", planned.id, error.message);
                self.0.parts.transcripts.remark(run, &line);
            }
            self.record(run, event).await;
        }
        self.end(run);
    }

    /// What a person types; no secret of Houston's is in it.
    fn by_hand(&self, state: &RunState, work: Work, kind: &str, params: &Json) -> ByHand {
        let Ok(kind) = self.kind(kind) else { return ByHand::default() };
        let output = match &state.steps[work.step()].state {
            StepState::Succeeded { output } => Some(output),
            StepState::Undoing { output, .. } | StepState::UndoFailed { output, .. } => output.as_ref(),
            _ => None,
        };
        let context = self.context(state, work, CancellationToken::new());
        let ByHand { look, act, undo } = kind.by_hand(&context, params, output);
        let clean = |lines: Vec<String>| lines.iter().map(|line| self.clean(line)).collect();
        ByHand { look: clean(look), act: clean(act), undo: clean(undo) }
    }

    /// What a run that is stuck would still undo, and how a person does that.
    pub(super) fn still_to_undo(&self, state: &RunState) -> Vec<ToUndo> {
        steps_to_undo(state)
            .into_iter()
            .map(|step| {
                let planned = &state.plan.steps[step];
                let commands = match &planned.undo {
                    PlannedUndo::ByKind => {
                        self.by_hand(state, Work::Step(step), &planned.kind, &planned.params).undo
                    }
                    PlannedUndo::Step { kind, params } => {
                        self.by_hand(state, Work::Undo(step), kind, params).act
                    }
                    PlannedUndo::NotNeeded | PlannedUndo::Impossible => Vec::new(),
                };
                ToUndo { step, commands }
            })
            .collect()
    }

    /// `None`: Houston stops, or may not act any more.
    async fn perform_undo(&self, state: &RunState, step: usize, attempt: u32) -> Option<Event> {
        let planned = &state.plan.steps[step];
        let output = match &state.steps[step].state {
            StepState::Undoing { output, .. } => output.clone(),
            _ => None,
        };
        // The first of a round, which a person may have asked for, is made at once.
        let before = (attempt - 1) % UNDO_ATTEMPTS;
        if before > 0 {
            let backoff = Duration::from_secs(1 << (before - 1));
            tokio::select! {
                () = self.0.parts.clock.sleep(backoff) => {}
                () = self.0.shutdown.cancelled() => return None,
            }
        }
        if self.0.parts.lease.may_act().is_err() {
            return None;
        }
        let cancel = CancellationToken::new();
        self.0.parts.transcripts.remark(state.id, &heading("undo ", planned, attempt));
        let limit = planned.timeout.unwrap_or_else(|| self.footing(state.id).step_timeout);
        let result = match &planned.undo {
            PlannedUndo::NotNeeded | PlannedUndo::Impossible => Ok(Undid::Something),
            PlannedUndo::ByKind => match self.kind(&planned.kind) {
                Ok(kind) => {
                    let context = self.context(state, Work::Step(step), cancel.clone());
                    self.bounded(kind.undo(&context, &planned.params, output.as_ref()), limit, &cancel).await
                }
                Err(error) => Err(error),
            },
            PlannedUndo::Step { kind, params } => match self.kind(kind) {
                Ok(kind) => {
                    let context = self.context(state, Work::Undo(step), cancel.clone());
                    self.bounded(kind.run(&context, params), limit, &cancel).await.map(|_| Undid::Something)
                }
                Err(error) => Err(error),
            },
        };
        let run = state.id;
        Some(match result {
            Ok(Undid::Nothing) => {
                tracing::info!("{run} `{}` had left nothing to undo", planned.id);
                Event::UndoSucceeded { step, nothing: true }
            }
            Ok(Undid::Something) => {
                tracing::info!("{run} `{}` was undone", planned.id);
                Event::UndoSucceeded { step, nothing: false }
            }
            Err(error) => {
                let error = self.redact(error);
                trace::step_failed();
                tracing::warn!("{run} `{}` was not undone: {}", planned.id, error.message);
                Event::UndoFailed { step, error }
            }
        })
    }

    pub(super) async fn finish(&self, state: &RunState, outcome: Outcome) {
        let run = state.id;
        let mut batch = Batch::new();
        releases::record(state, self.now(), &mut batch);
        saved::record(state, &self.0.parts.store, &mut batch);
        if let Err(error) = followed::forget(run, &self.0.parts.store, &mut batch) {
            tracing::warn!(run.id = %run, %error, "what was followed of it stays in the store");
        }
        // A request for consent that nobody has decided is over with it.
        let mut notices: Vec<Notice> =
            step_card(state).into_iter().chain([Notice::Progress { run }, Notice::result(run)]).collect();
        if outcome == Outcome::Succeeded
            && let Some(owner) = Steal::of(&state.plan).and_then(|steal| steal.whom_to_tell())
        {
            notices.push(Notice::steal(run, owner, true));
        }
        if state.plan.report.is_some() {
            notices.push(Notice::report(run));
        }
        let events = vec![Event::Finished { outcome }];
        if self.decide_and_audit(state, events, notices, batch, outcome.word()).await.is_none() {
            return;
        }
        self.0.parts.transcripts.line(run, &format!("── {}", outcome.word()));
    }

    /// Runs `work` for at most `limit`; then, or when it panics, says so. After the limit the step is asked
    /// to end and given a grace to say what is so.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, StepError>>,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<T, StepError> {
        let clock = &self.0.parts.clock;
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let timed_out = || format!("it took longer than {}", crate::text::duration(limit));
        let late = tokio::select! {
            done = &mut work => return done.map_err(bug).flatten(),
            () = cancel.cancelled() => false,
            () = clock.sleep(limit) => true,
        };
        cancel.cancel();
        // Putting a service back takes its time; a step that does not end at all is given up.
        tokio::select! {
            done = &mut work => match done {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(mut error)) if late => {
                    error.message = format!("{} ({})", timed_out(), error.message);
                    error.cancelled = false;
                    Err(error)
                }
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(bug(panic)),
            },
            () = clock.sleep(if late { GRACE } else { limit.min(CANCEL_GRACE) }) => {
                let why = if late { timed_out() } else { "it was cancelled and did not end".to_owned() };
                let error = StepError::new(why).with_effects();
                Err(if late { error } else { error.cancelled() })
            }
        }
    }

    /// Looks at the world: changes nothing, so it may be dropped, and be tried again when it took too long.
    pub(super) async fn look<T>(
        &self,
        work: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        tokio::select! {
            done = AssertUnwindSafe(work).catch_unwind() => done.map_err(bug).flatten(),
            () = self.0.parts.clock.sleep(LOOK_LIMIT) => {
                let limit = crate::text::duration(LOOK_LIMIT);
                Err(StepError::new(format!("no answer within {limit}")).transient())
            }
        }
    }

    pub(super) fn context(&self, state: &RunState, work: Work, cancel: CancellationToken) -> StepContext {
        let parts = &self.0.parts;
        let (run, card, step) = (state.id, &state.consent.card, work.step());
        let record = &state.steps[step];
        let undo = matches!(work, Work::Undo(_));
        let (token, planned, ended, open) = if undo {
            // Whether an earlier process began it is not recorded.
            (EffectToken::of_undo(run, card, step), Preview::default(), record.undo_ended, true)
        } else {
            // What people have consented to last.
            let planned = state.ask_of(step).map_or(&state.plan.steps[step].preview, |ask| &ask.preview);
            let planned = planned.clone();
            (EffectToken::new(run, card, step), planned, record.ended, record.open)
        };
        let place = Place { run, step, undo, ended };
        let earlier = Earlier { ended, open, followed: place.read(&parts.store) };
        StepContext {
            world: self.footing(state.id).world,
            environment: state.plan.environment.clone(),
            service: state.plan.steps[step].service.clone(),
            clock: parts.clock.clone(),
            redactor: parts.redactor.clone(),
            cancel,
            progress: Arc::new(Reporter { engine: self.clone(), place }),
            token,
            earlier,
            outputs: Arc::new(state.outputs()),
            planned,
        }
    }

    pub(super) fn kind(&self, name: &str) -> Result<Arc<dyn StepKind>, StepError> {
        if name == STEAL_LOCK {
            return Ok(Arc::new(StealLock(self.clone())));
        }
        if name == ALLOW_SCHEDULE {
            return Ok(Arc::new(AllowSchedule(self.clone())));
        }
        self.0.parts.kinds.get(name).cloned().ok_or_else(|| {
            StepError::new(format!("this version of Houston knows no step kind `{name}`"))
                .hint("the run was planned by another version: start that one, or abandon the run")
        })
    }

    fn begin(&self, run: RunId, work: Work) -> CancellationToken {
        let mut live = self.live_map();
        let entry = live.entry(run).or_default();
        entry.work = Some(work);
        entry.status = None;
        entry.cancel = CancellationToken::new();
        entry.cancel.clone()
    }

    /// For whoever watches; a run does not depend on it.
    fn learn_what_is_usual(&self, state: &RunState) {
        if self.live_map().get(&state.id).is_some_and(|live| live.usual.is_some()) {
            return;
        }
        let usual = usual::durations(&self.0.parts.store, state).unwrap_or_else(|error| {
            tracing::warn!(run.id = %state.id, %error, "how long its steps usually take cannot be read");
            Vec::new()
        });
        if let Some(entry) = self.live_map().get_mut(&state.id) {
            entry.usual = Some(usual);
        }
    }

    fn end(&self, run: RunId) {
        if let Some(entry) = self.live_map().get_mut(&run) {
            entry.work = None;
            entry.status = None;
        }
    }

    /// What people type is kept too, and may hold a secret that Houston knows.
    pub(super) fn clean(&self, text: &str) -> String {
        self.0.parts.redactor.redact(text).into_owned()
    }

    pub(super) fn redact(&self, mut error: StepError) -> StepError {
        let redactor = &self.0.parts.redactor;
        let clean = |text: Option<String>| text.map(|text| redactor.redact(&text).into_owned());
        error.message = redactor.redact(&error.message).into_owned();
        error.hint = clean(error.hint);
        error.tail = clean(error.tail);
        error.detail = clean(error.detail);
        error
    }
}

fn bug(_panic: Box<dyn std::any::Any + Send>) -> StepError {
    StepError::new("the step failed unexpectedly; this is a bug in Houston").with_effects()
}

fn started(run: &RunState, step: usize, attempt: u32) -> Event {
    Event::StepStarted { step, attempt, token: EffectToken::new(run.id, &run.consent.card, step) }
}

/// Progress of one run's step: the last line for the room, every line for the transcript.
struct Reporter {
    engine: Engine,
    place: Place,
}

impl Progress for Reporter {
    fn status(&self, line: &str) {
        let line = self.engine.0.parts.redactor.redact(line).into_owned();
        self.engine.0.parts.transcripts.remark(self.place.run, &line);
        if let Some(live) = self.engine.live_map().get_mut(&self.place.run) {
            live.status = Some(line);
        }
        let _ = self.engine.0.changed.send(self.place.run);
    }
    fn output(&self, line: &str) {
        self.engine.0.parts.transcripts.line(self.place.run, line);
    }
    fn followed(&self, bytes: u64) {
        if let Err(error) = self.place.write(&self.engine.0.parts.store, bytes) {
            tracing::warn!(run.id = %self.place.run, %error, "how far output was followed cannot be kept");
        }
    }
}

/// Of an attempt, in the transcript.
fn heading(what: &str, step: &PlannedStep, attempt: u32) -> String {
    format!("── {what}{} ({}), attempt {attempt}", step.title, step.id)
}
