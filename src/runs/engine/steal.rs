//! The step that steals a lock. It acts on what the engine itself keeps, so it is no step kind of playbooks.
//!
//! Must not: free anything but what was consented to: that lock of that person, that run while it is stuck.

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::{Engine, own_messages};
use crate::ids::RunId;
use crate::playbook::model::{Preview, STEAL_LOCK};
use crate::playbook::steps::{ParamSpec, Repeat, StepContext, StepError, StepKind, UndoMode};
use crate::runs::ActError;
use crate::runs::event::Event;
use crate::runs::locks::{Held, ManualLock};
use crate::runs::state::Phase;
use crate::runs::steal::{From, Now, Steal};
use crate::store::Batch;

pub(super) struct StealLock(pub(super) Engine);

impl StepKind for StealLock {
    fn name(&self) -> &'static str {
        STEAL_LOCK
    }
    fn doc(&self) -> &'static str {
        "Takes a lock from whoever has it."
    }
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }
    /// A lock that was taken is not there to be taken again.
    fn repeat(&self, _params: &Json) -> Repeat {
        Repeat::Idempotent
    }
    fn undo_mode(&self, _params: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, params: &Json) -> String {
        read(params).map(|steal| steal.title()).unwrap_or_default()
    }
    fn preview<'a>(
        &'a self,
        _context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async {
            let steal = read(params)?;
            Ok(steal.preview(self.0.may_be_stolen(&steal).await.as_ref()))
        })
    }
    fn run<'a>(
        &'a self,
        _context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async {
            let steal = read(params)?;
            match &steal.from {
                From::Person(lock) => self.0.free(lock).await?,
                From::Stuck { run, .. } => self.0.give_up_stuck(*run, &steal).await?,
            }
            Ok(Json::Null)
        })
    }
}

fn read(params: &Json) -> Result<Steal, StepError> {
    serde_json::from_value(params.clone())
        .map_err(|error| StepError::new("what was to be stolen cannot be read").detail(error.to_string()))
}

fn not_written(error: impl std::fmt::Display) -> StepError {
    StepError::new(format!("the state folder cannot be written: {error}")).with_effects()
}

impl Engine {
    /// Who has what `steal` is about now, if it could still be stolen from them.
    async fn may_be_stolen(&self, steal: &Steal) -> Now {
        let journal = self.0.journal.lock().await;
        let now: Vec<Held> = journal.held().into_iter().filter(|held| held.name == steal.lock).collect();
        now.iter().find_map(|held| {
            let run = match &held.holder {
                crate::runs::locks::Holder::Run { run, .. } => journal.open_run(*run),
                _ => None,
            };
            From::of(held, run)
        })
    }

    /// Frees exactly this lock. One that its owner has given back meanwhile is no error.
    async fn free(&self, lock: &ManualLock) -> Result<(), StepError> {
        let mut journal = self.0.journal.lock().await;
        match journal.manual_locks().iter().find(|other| other.name == lock.name) {
            None => {}
            Some(now) if now == lock => {
                journal.remove_lock(&lock.name, Batch::new()).map_err(not_written)?;
            }
            Some(now) => {
                let (name, by) = (&lock.name, &now.by.username);
                return Err(StepError::new(format!("`{name}` is locked anew, by {by}: nothing was taken")));
            }
        }
        drop(journal);
        self.0.parts.store.sync().await.map_err(not_written)?;
        self.nudge_waiting().await;
        Ok(())
    }

    async fn give_up_stuck(&self, run: RunId, steal: &Steal) -> Result<(), StepError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run).map_err(|error| StepError::new(ActError::from(error).to_string()))?;
        if state.is_done() {
            return Ok(());
        }
        if !matches!(state.phase, Phase::Stuck) || self.is_at_work(run) {
            return Err(StepError::new(format!("{run} is not stuck any more: nothing was taken")));
        }
        let event = Event::Abandoned { by: steal.by.clone(), reason: steal.why.clone() };
        let audited = Some(("abandoned", Some(steal.by.clone())));
        self.act(journal, run, vec![event], own_messages(&state), audited).await.map_err(not_written)?;
        Ok(())
    }
}
