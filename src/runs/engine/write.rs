//! How anything gets into the journal: append, sync, then let the others know. Nothing follows an event
//! before the device has it.
//!
//! Must not: decide what is appended.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{self, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::MutexGuard;
use tracing::Instrument as _;

use super::footing::FOOTING_CHANGED;
use super::{ActError, Engine, WRITE_RETRY};
use crate::audit::{self, AuditError};
use crate::conversation::Actor;
use crate::ids::RunId;
use crate::runs::event::{Event, Outcome};
use crate::runs::journal::{Journal, JournalError, read_log};
use crate::runs::outbox::Notice;
use crate::runs::owed::{Left, Owed};
use crate::runs::state::{Decision, RunState, StepAsk};
use crate::store::{Batch, StoreError};
use crate::trace;

/// Entries at the end of the audit log among which what is owed may stand already.
const LATELY_TOLD: usize = 10_000;

/// Between attempts to tell it; they begin at [`WRITE_RETRY`].
const LONGEST_WRITE_RETRY: Duration = Duration::from_secs(30);
/// What the audit log calls a request.
pub(super) const REQUESTED: &str = "requested";

/// What the audit log calls a request that goes past consent, and the closing of its review.
pub(super) const BREAK_GLASS: &str = "break-glass";
/// See [`BREAK_GLASS`].
pub(super) const REVIEWED: &str = "reviewed";

/// What the audit log calls what becomes of a step's request for consent.
pub(super) const STEP_ASKED: &str = "step asked";
/// See [`STEP_ASKED`].
pub(super) const STEP_APPROVED: &str = "step approved";
/// See [`STEP_ASKED`].
pub(super) const STEP_DENIED: &str = "step denied";
/// See [`STEP_ASKED`].
pub(super) const STEP_EXPIRED: &str = "step expired";
/// See [`STEP_ASKED`].
pub(super) const STEP_VOID: &str = "step void";

/// A line for the audit log: what was done, and by whom when it was not the requester.
pub(super) type Audited = (&'static str, Option<Actor>);

impl Engine {
    /// Appends what was decided from `seen`, unless the run has moved since: then `None`, and the decision
    /// has to be made again. `None` also on shutdown.
    pub(super) async fn decide(
        &self,
        seen: &RunState,
        events: Vec<Event>,
        notices: Vec<Notice>,
    ) -> Option<RunState> {
        self.write(seen.id, Some(seen.next_seq), events, notices, Batch::new()).await
    }

    /// As [`Self::decide`], for what the audit log is told of.
    pub(super) async fn decide_and_audit(
        &self,
        seen: &RunState,
        events: Vec<Event>,
        notices: Vec<Notice>,
        mut with: Batch,
        what: &'static str,
    ) -> Option<RunState> {
        let owed = owed(seen.id, last_of(seen, &events), &(what, None));
        owed.put(&mut with);
        let state = self.write(seen.id, Some(seen.next_seq), events, notices, with).await?;
        self.pay(&state, &owed).await;
        Some(state)
    }

    /// Appends what has happened, whatever came between.
    pub(super) async fn record(&self, run: RunId, event: Event) -> Option<RunState> {
        self.write(run, None, vec![event], Vec::new(), Batch::new()).await
    }

    /// Tries until the store takes it: without it there is no correct way on.
    pub(super) async fn write(
        &self,
        run: RunId,
        seen: Option<u32>,
        events: Vec<Event>,
        notices: Vec<Notice>,
        with: Batch,
    ) -> Option<RunState> {
        loop {
            let mut journal = self.0.journal.lock().await;
            if let Some(seen) = seen
                && journal.state(run).is_ok_and(|state| state.next_seq != seen)
            {
                return None;
            }
            let result = journal.append(run, events.clone(), notices.clone(), with.clone(), self.now());
            drop(journal);
            match result {
                Ok((state, last)) => return self.settle_surely(&state, last).await.then_some(state),
                Err(JournalError::Illegal(illegal)) => {
                    tracing::error!(run.id = %run, "{illegal}");
                    return None;
                }
                Err(error) => {
                    tracing::error!(run.id = %run, "the journal cannot be written, {run} waits: {error}");
                }
            }
            if self.0.shutdown.is_cancelled() {
                return None;
            }
            tokio::time::sleep(WRITE_RETRY).await;
        }
    }

    /// Appends for a person: fails at once. Once appended it takes its course, also when the caller is
    /// dropped while it waits for the device.
    pub(super) async fn act(
        &self,
        mut journal: MutexGuard<'_, Journal>,
        run: RunId,
        events: Vec<Event>,
        notices: Vec<Notice>,
        audited: Option<Audited>,
    ) -> Result<RunState, ActError> {
        let mut with = Batch::new();
        if let Some(audited) = &audited {
            owed(run, last_of(&journal.state(run)?, &events), audited).put(&mut with);
        }
        let (state, last) = journal.append(run, events, notices, with, self.now())?;
        drop(journal);
        self.act_settled(state, last, audited).await
    }

    pub(super) async fn act_settled(
        &self,
        state: RunState,
        last: u64,
        audited: Option<Audited>,
    ) -> Result<RunState, ActError> {
        self.to_the_end(async move |engine| {
            let settled = engine.settle(&state, last).await;
            if let Err(error) = settled {
                // It stands in the journal and will count as soon as the device has it.
                let later = engine.clone();
                let work = async move { later.settle_surely(&state, last).await };
                engine.0.tasks.spawn(work.in_current_span());
                return Err(error.into());
            }
            if let Some(audited) = audited {
                engine.pay(&state, &owed(state.id, state.next_seq - 1, &audited)).await;
            }
            Ok(state)
        })
        .await
    }

    /// Does `work` to its end, whatever becomes of the caller.
    pub(super) async fn to_the_end<T, W, F>(&self, work: W) -> Result<T, ActError>
    where
        T: Send + 'static,
        W: FnOnce(Engine) -> F,
        F: Future<Output = Result<T, ActError>> + Send + 'static,
    {
        match self.0.tasks.spawn(work(self.clone()).in_current_span()).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Write("Houston was stopped meanwhile".to_owned()).into()),
        }
    }

    /// Whether it is on the device; `false` only on shutdown.
    pub(super) async fn settle_surely(&self, state: &RunState, last_notice: u64) -> bool {
        let run = state.id;
        loop {
            match self.settle(state, last_notice).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(run.id = %run, "the journal cannot be synced, {run} waits: {error}");
                }
            }
            if self.0.shutdown.is_cancelled() {
                return false;
            }
            tokio::time::sleep(WRITE_RETRY).await;
        }
    }

    /// Makes it durable, then tells whoever waits. `state` may be old news by then: whoever is told looks
    /// for himself.
    async fn settle(&self, state: &RunState, last_notice: u64) -> Result<(), StoreError> {
        self.0.parts.store.sync().await?;
        self.announce(last_notice);
        let _ = self.0.changed.send(state.id);
        if state.cancel.is_some()
            && let Some(live) = self.live_map().get(&state.id)
        {
            live.cancel.cancel();
        }
        if state.is_done() {
            self.forget_footing(state.id);
        }
        self.nudge(state.id);
        if !state.holds_locks() && !state.wants_locks() {
            self.nudge_waiting().await;
        }
        Ok(())
    }

    pub(super) fn announce(&self, last_notice: u64) {
        self.0.durable_notices.fetch_max(last_notice, Ordering::SeqCst);
        self.0.outbox_changed.notify_one();
    }

    /// Tells the audit log what it is owed, and the log. What cannot be written now stays owed.
    async fn pay(&self, state: &RunState, owed: &Owed) {
        tracing::info!(
            run.id = %state.id, run.digest = state.consent.digest.short(),
            "{} `{}`: {} ({})",
            state.id, state.plan.command, owed.what, owed.by.as_ref().unwrap_or(&state.by).username
        );
        // Not when something is done about it later.
        if state.ended_at == Some(state.last_at)
            && let Some(outcome) = state.outcome()
        {
            trace::run_ended(&ended(state, outcome));
        }
        let mut event = entry(state, &owed.what, owed.by.as_ref());
        event.event = Some(owed.reference());
        if self.audit_event(event).await {
            self.paid(owed);
        } else {
            self.still_owed(|left| left.events.push(owed.clone()));
        }
    }

    /// Nobody else tells it any more: it is tried again until it is told.
    pub(super) fn still_owed(&self, note: impl FnOnce(&mut Left)) {
        note(&mut self.left_owed());
        self.0.owed_changed.notify_one();
    }

    fn left_owed(&self) -> sync::MutexGuard<'_, Left> {
        self.0.left_owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until shutdown; what is owed then is told at the next start.
    pub(super) async fn keep_paying(&self) {
        let mut wait = WRITE_RETRY;
        loop {
            let owing = async {
                if self.left_owed().is_empty() {
                    wait = WRITE_RETRY;
                    self.0.owed_changed.notified().await;
                }
                tokio::time::sleep(wait).await;
            };
            tokio::select! {
                () = owing => {}
                () = self.0.shutdown.cancelled() => return,
            }
            self.pay_what_is_owed().await;
            wait = (wait * 2).min(LONGEST_WRITE_RETRY);
        }
    }

    fn paid(&self, owed: &Owed) {
        if let Err(error) = owed.paid(&self.0.parts.store) {
            tracing::warn!(run.id = %owed.run, "{} will be looked for in the audit log again: {error}", owed.reference());
        }
    }

    /// Tells the audit log what this process or an earlier one could not tell it when it happened.
    pub(super) async fn pay_what_is_owed(&self) {
        let mut left = std::mem::take(&mut *self.left_owed());
        if left.is_empty() {
            return;
        }
        let told = self.0.parts.audit.tail(LATELY_TOLD).unwrap_or_else(|error| {
            tracing::error!("the audit log cannot be read, so an entry may stand in it twice: {error}");
            Vec::new()
        });
        let told: HashSet<String> = told.into_iter().filter_map(|entry| entry.event.event).collect();
        if let Err(error) = self.pay_left(&mut left, &told).await {
            let count = left.entries.len() + left.events.len();
            tracing::warn!(
                "{count} entries are still owed to the audit log, which cannot be written: {error}"
            );
            let mut since = self.left_owed();
            left.entries.append(&mut since.entries);
            left.events.append(&mut since.events);
            *since = left;
        }
    }

    /// Takes out of `left` what is paid, up to the first entry that cannot be written.
    async fn pay_left(&self, left: &mut Left, told: &HashSet<String>) -> Result<(), AuditError> {
        let (store, audit, clock) = (&self.0.parts.store, &self.0.parts.audit, &self.0.parts.clock);
        while let Some(owed) = left.entries.first() {
            if owed.entry.event.as_ref().is_none_or(|reference| !told.contains(reference)) {
                let entry = audit::Event { happened_at: Some(owed.at), ..owed.entry.clone() };
                audit.append(clock, entry).await?;
            }
            if let Err(error) = owed.paid(store) {
                tracing::warn!("an entry will be looked for in the audit log again: {error}");
            }
            left.entries.remove(0);
        }
        while let Some(owed) = left.events.first() {
            let reference = owed.reference();
            if !told.contains(&reference) {
                match self.as_it_was(owed) {
                    Ok(Some((state, at))) => {
                        let entry = entry(&state, &owed.what, owed.by.as_ref());
                        let entry = audit::Event { event: Some(reference), happened_at: Some(at), ..entry };
                        audit.append(clock, entry).await?;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(run.id = %owed.run, "{reference} cannot be told to the audit log before the next start: {error}");
                        left.events.remove(0);
                        continue;
                    }
                }
            }
            self.paid(owed);
            left.events.remove(0);
        }
        Ok(())
    }

    /// The run at the event that is owed, and when that was.
    fn as_it_was(&self, owed: &Owed) -> Result<Option<(RunState, Timestamp)>, JournalError> {
        let mut log = read_log(&self.0.parts.store, owed.run)?;
        log.retain(|record| record.seq <= owed.seq);
        let at = log.last().map(|record| record.at);
        Ok(RunState::fold(&log)?.zip(at))
    }

    /// The start of a run, in the audit log. Whether it could be written.
    pub(super) async fn audit_start(&self, state: &RunState) -> bool {
        self.audit_event(entry(state, "started", None)).await
    }

    /// What cannot be written is an error of its own, loudly. It keeps runs from starting; it does not keep
    /// people from ending what runs: an operator who puts things right on a full disk needs that, and the
    /// journal has it all the same.
    pub(super) async fn audit_event(&self, event: audit::Event) -> bool {
        let run = event.run;
        match self.0.parts.audit.append(&self.0.parts.clock, event).await {
            Ok(_) => true,
            Err(error) => {
                self.0.parts.metrics.audit_failed();
                tracing::error!(
                    run.id = run.map(tracing::field::display),
                    "the audit log cannot be written: {error}"
                );
                false
            }
        }
    }
}

pub(super) fn who(actor: &Actor) -> audit::Who {
    audit::Who { id: actor.id.clone(), name: actor.username.clone() }
}

fn ended(state: &RunState, outcome: Outcome) -> trace::Ended<'_> {
    let decided = state.consent.decision.as_ref().map(|decision| match decision {
        Decision::Approved { at, .. }
        | Decision::Denied { at, .. }
        | Decision::Expired { at }
        | Decision::Voided { at, .. } => *at,
    });
    trace::Ended {
        of: state.of_run(),
        cause: state.cause(),
        command: &state.plan.command_name,
        outcome: outcome.word(),
        failed: outcome == Outcome::Failed,
        from: state.created_at,
        decided: decided.filter(|_| state.plan.approval.is_some()),
        to: state.last_at,
    }
}

/// An act on a run, or what became of it.
fn entry(state: &RunState, what: &str, by: Option<&Actor>) -> audit::Event {
    let targets: Vec<String> = state.plan.concerns().iter().map(ToString::to_string).collect();
    let of_step = [STEP_ASKED, STEP_APPROVED, STEP_DENIED, STEP_EXPIRED, STEP_VOID].contains(&what);
    let ballot = if of_step { state.latest_ballot() } else { &state.consent };
    let approval = match &ballot.decision {
        Some(Decision::Approved { by, .. }) => {
            Some(audit::Approval { by: by.iter().map(who).collect(), digest: ballot.digest.clone() })
        }
        _ => None,
    };
    let why = match (state.outcome(), &state.consent.decision) {
        (Some(Outcome::Failed), _) => {
            state.steps.iter().find_map(|step| step.error.as_ref()).map(|error| &error.message)
        }
        (Some(Outcome::Denied), Some(Decision::Denied { reason, .. })) => reason.as_ref(),
        (Some(Outcome::Abandoned), _) => state.abandoned.as_ref().map(|(_, reason)| reason),
        _ => None,
    };
    let result = state.outcome().map(|outcome| match why {
        Some(why) => format!("{}: {why}", outcome.word()),
        None => outcome.word().to_owned(),
    });
    let result = match what {
        _ if of_step => state.asks.last().and_then(|ask| step_result(state, ask)),
        REQUESTED => {
            state.plan.standing.as_ref().map(|standing| format!("standing approval: {}", standing.given))
        }
        BREAK_GLASS => state.plan.break_glass.as_ref().map(|glass| glass.reason.clone()),
        FOOTING_CHANGED => state.footing_changed.as_ref().map(|changed| {
            let said: Vec<String> = changed.differences.iter().map(ToString::to_string).collect();
            said.join(", ")
        }),
        REVIEWED => state.review.as_ref().map(|review| review.findings.clone()),
        _ => result,
    };
    audit::Event {
        who: who(by.unwrap_or(&state.by)),
        action: what.to_owned(),
        command: state.plan.command.clone(),
        target: (!targets.is_empty()).then(|| targets.join(" ")),
        run: Some(state.id),
        approval,
        result,
        event: None,
        happened_at: None,
    }
}

/// Which step, and why it was denied.
fn step_result(state: &RunState, ask: &StepAsk) -> Option<String> {
    let step = state.plan.steps.get(ask.step)?;
    let reason = match &ask.ballot.decision {
        Some(Decision::Denied { reason: Some(reason), .. }) => format!(": {reason}"),
        _ => String::new(),
    };
    Some(format!("step {} ({}){reason}", step.id, step.title))
}

pub(super) fn owed(run: RunId, seq: u32, (what, by): &Audited) -> Owed {
    Owed { run, seq, what: (*what).to_owned(), by: by.clone() }
}

/// The number of the last of `events`, when they follow `state`.
fn last_of(state: &RunState, events: &[Event]) -> u32 {
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    state.next_seq.saturating_add(count).saturating_sub(1)
}
