//! `wait`: lets time pass. The executor journals until when, and nothing sleeps meanwhile.

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::{
    ByHand, ParamKind, ParamSpec, Pause, Repeat, StepContext, StepError, StepKind, UndoMode, params,
};
use crate::playbook::model::Preview;
use crate::text;

const PARAMS: &[ParamSpec] =
    &[ParamSpec { name: "for", kind: ParamKind::Duration, required: true, doc: "How long: `10s`, `5m`." }];

pub(super) struct Wait;

impl StepKind for Wait {
    fn name(&self) -> &'static str {
        "wait"
    }
    fn doc(&self) -> &'static str {
        "Waits for a time; survives restarts."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, _params: &Json) -> Repeat {
        Repeat::Safe
    }
    fn undo_mode(&self, _params: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, given: &Json) -> String {
        match params::duration(given, "for") {
            Ok(Some(time)) => format!("wait {}", text::duration(time)),
            _ => "wait".to_owned(),
        }
    }
    fn pause(&self, given: &Json) -> Option<Pause> {
        params::duration(given, "for").ok().flatten().map(Pause::For)
    }
    fn preview<'a>(
        &'a self,
        _: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            match params::duration(given, "for")? {
                Some(_) => Ok(Preview::default()),
                None => Err(StepError::new("the step's parameter `for` is empty")),
            }
        })
    }
    fn by_hand(&self, _: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        ByHand { act: vec![format!("# {}", self.title(given))], ..ByHand::default() }
    }
    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let time = params::duration(given, "for")?.unwrap_or_default();
            tokio::select! {
                () = context.clock.sleep(time) => Ok(Json::Null),
                () = context.cancel.cancelled() => Err(StepError::new("the wait was cancelled").cancelled()),
            }
        })
    }
}
