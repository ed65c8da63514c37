//! The step that gives a schedule its standing approval. It acts on what the engine itself keeps, so it is no step kind
//! of playbooks.
//!
//! Must not: allow anything but what was consented to.

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::{ActError, Engine};
use crate::playbook::model::{ALLOW_SCHEDULE, Preview};
use crate::playbook::steps::{ParamSpec, Repeat, StepContext, StepError, StepKind, UndoMode};
use crate::runs::schedules::Change;
use crate::runs::standing::Allow;
use crate::store::Batch;

pub(super) struct AllowSchedule(pub(super) Engine);

impl StepKind for AllowSchedule {
    fn name(&self) -> &'static str {
        ALLOW_SCHEDULE
    }
    fn doc(&self) -> &'static str {
        "Lets a schedule begin without asking each time."
    }
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }
    /// The same once more is the same.
    fn repeat(&self, _params: &Json) -> Repeat {
        Repeat::Idempotent
    }
    fn undo_mode(&self, _params: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, params: &Json) -> String {
        read(params).map(|allow| allow.title()).unwrap_or_default()
    }
    fn preview<'a>(
        &'a self,
        _context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async { Ok(read(params)?.preview()) })
    }
    fn run<'a>(
        &'a self,
        _context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async {
            self.0.allow_schedule(&read(params)?, params).await?;
            Ok(Json::Null)
        })
    }
}

fn read(params: &Json) -> Result<Allow, StepError> {
    serde_json::from_value(params.clone())
        .map_err(|error| StepError::new("what was to be allowed cannot be read").detail(error.to_string()))
}

fn not_written(error: impl std::fmt::Display) -> StepError {
    StepError::new(format!("the state folder cannot be written: {error}")).with_effects()
}

impl Engine {
    async fn allow_schedule(&self, allow: &Allow, params: &Json) -> Result<(), StepError> {
        let mut journal = self.0.journal.lock().await;
        let run = journal.open_runs().find(|run| run.plan.steps.iter().any(|step| step.params == *params));
        let run = run.ok_or_else(|| StepError::new("the run that allows it is over"))?.clone();
        let was = journal.schedules().iter().find(|row| row.name == allow.schedule).cloned();
        let Some(mut is) = was.clone() else {
            return Err(StepError::new(format!("there is no schedule `{}` any more", allow.schedule)));
        };
        is.allowed = Some(allow.allowed(&run, self.now()));
        let change = Change { was, is };
        let written = journal.change_schedule(change, None, Vec::new(), Batch::new(), self.now());
        written.map_err(not_written)?.ok_or_else(|| not_written(ActError::Meanwhile))?;
        drop(journal);
        self.0.parts.store.sync().await.map_err(not_written)?;
        self.0.schedules_changed.notify_one();
        Ok(())
    }
}
