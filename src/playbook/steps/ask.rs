//! `ask`: asks people in the run's thread and waits for an answer. The executor journals the question.

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::{ParamKind, ParamSpec, Pause, Repeat, StepContext, StepError, StepKind, UndoMode, params};
use crate::ids::RoleName;
use crate::playbook::model::Preview;
use crate::text::{self, code, defuse};

const PARAMS: &[ParamSpec] = &[
    ParamSpec { name: "question", kind: ParamKind::Text, required: true, doc: "What is asked." },
    ParamSpec {
        name: "choices",
        kind: ParamKind::Argv,
        required: false,
        doc: "The possible answers. Default: any text.",
    },
    ParamSpec {
        name: "from",
        kind: ParamKind::Argv,
        required: false,
        doc: "Roles whose members may answer. Default: whoever may run the command.",
    },
    ParamSpec {
        name: "stop",
        kind: ParamKind::Argv,
        required: false,
        doc: "Answers after which the run goes no further, as after a step that fails. Default: every answer goes on.",
    },
];

pub(super) struct Ask;

impl StepKind for Ask {
    fn name(&self) -> &'static str {
        "ask"
    }
    fn doc(&self) -> &'static str {
        "Asks people in the run's thread; the output is `answer` and `by`."
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
        format!("ask: {}", defuse(&text::ellipsis(params::text(given, "question").unwrap_or("?"), 100)))
    }
    fn pause(&self, given: &Json) -> Option<Pause> {
        Some(Pause::Answer {
            question: params::text(given, "question")?.to_owned(),
            choices: params::list(given, "choices"),
            from: params::list(given, "from").into_iter().map(RoleName::from).collect(),
            stop: params::list(given, "stop"),
        })
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let (choices, stop) = (params::list(given, "choices"), params::list(given, "stop"));
        if choices.is_empty() {
            return Vec::new();
        }
        let mut wrong: Vec<String> = stop
            .iter()
            .filter(|answer| !choices.contains(answer))
            .map(|answer| format!("{} of `stop` is none of the `choices`", code(answer)))
            .collect();
        if choices.iter().all(|choice| stop.contains(choice)) {
            wrong.push("every one of the `choices` stops the run".to_owned());
        }
        wrong
    }
    fn preview<'a>(
        &'a self,
        _: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move { params::required(given, "question").map(|_| Preview::default()) })
    }
    fn run<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async { Err(StepError::new("a question is answered by people, not by running it")) })
    }
}
