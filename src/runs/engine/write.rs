//! How anything gets into the journal: append, sync, then let the others know. Nothing follows an event
//! before the device has it.
//!
//! Must not: decide what is appended.

use std::sync::atomic::Ordering;

use tokio::sync::MutexGuard;

use super::{ActError, Engine, WRITE_RETRY};
use crate::audit;
use crate::gateway::events::Actor;
use crate::ids::RunId;
use crate::runs::event::{Event, Outcome};
use crate::runs::journal::{Journal, JournalError};
use crate::runs::outbox::Notice;
use crate::runs::state::{Decision, RunState};
use crate::store::{Batch, StoreError};

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
        let (state, last) = journal.append(run, events, notices, Batch::new(), self.now())?;
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
                engine.0.tasks.spawn(async move { later.settle_surely(&state, last).await });
                return Err(error.into());
            }
            if let Some((what, by)) = audited {
                engine.audit(&state, what, by.as_ref()).await;
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
        match self.0.tasks.spawn(work(self.clone())).await {
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

    /// An act or its result, in the audit log. Whether it could be written.
    pub(super) async fn audit(&self, state: &RunState, what: &str, by: Option<&Actor>) -> bool {
        let targets: Vec<String> = state.plan.locks.iter().map(ToString::to_string).collect();
        let approval = match &state.decision {
            Some(Decision::Approved { by, .. }) => {
                Some(audit::Approval { by: by.iter().map(who).collect(), digest: state.digest.clone() })
            }
            _ => None,
        };
        let result = match state.outcome() {
            Some(Outcome::Failed) => {
                let error = state.steps.iter().find_map(|step| step.error.as_ref());
                Some(error.map_or_else(|| "failed".to_owned(), |error| format!("failed: {}", error.message)))
            }
            outcome => outcome.map(|outcome| outcome.word().to_owned()),
        };
        self.audit_event(audit::Event {
            who: who(by.unwrap_or(&state.by)),
            action: what.to_owned(),
            command: state.plan.command.clone(),
            target: (!targets.is_empty()).then(|| targets.join(" ")),
            run: Some(state.id),
            approval,
            result,
        })
        .await
    }

    /// What cannot be written is an error of its own, loudly. It keeps runs from starting; it does not keep
    /// people from ending what runs: an operator who puts things right on a full disk needs that, and the
    /// journal has it all the same.
    pub(super) async fn audit_event(&self, event: audit::Event) -> bool {
        let run = event.run;
        match self.0.parts.audit.append(&self.0.parts.clock, event).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(run.id = ?run, "the audit log cannot be written: {error}");
                false
            }
        }
    }
}

pub(super) fn who(actor: &Actor) -> audit::Who {
    audit::Who { id: actor.id.clone(), name: actor.username.clone() }
}
