//! Step kinds for tests of checking: their schemas only, nothing behind them.

use futures_util::future::BoxFuture;
use houston::playbook::model::Preview;
use houston::playbook::steps::{ParamKind, ParamSpec, Repeat, StepContext, StepError, StepKind, UndoMode};
use serde_json::Value as Json;

/// A kind that is never run.
pub struct Schema {
    pub name: &'static str,
    pub params: &'static [ParamSpec],
    pub undo: UndoMode,
}

const fn param(name: &'static str, kind: ParamKind, required: bool) -> ParamSpec {
    ParamSpec { name, kind, required, doc: "as in the reference" }
}

/// The shapes that the default playbooks use.
pub const KINDS: &[Schema] = &[
    Schema {
        name: "swarm_service",
        params: &[
            param("action", ParamKind::Enum(&["update", "scale", "rollback"]), true),
            param("service", ParamKind::Text, true),
            param("version", ParamKind::Text, false),
            param("replicas", ParamKind::Integer, false),
        ],
        undo: UndoMode::ByKind,
    },
    Schema {
        name: "http_check",
        params: &[
            param("url", ParamKind::Text, true),
            param("expect_status", ParamKind::Integer, false),
            param("expect_body", ParamKind::Text, false),
            param("within", ParamKind::Duration, false),
        ],
        undo: UndoMode::NotNeeded,
    },
    Schema {
        name: "ssh",
        params: &[param("host", ParamKind::Text, true), param("command", ParamKind::Argv, true)],
        undo: UndoMode::Impossible,
    },
    Schema {
        name: "restic",
        params: &[
            param("action", ParamKind::Text, true),
            param("source", ParamKind::Text, false),
            param("snapshot", ParamKind::Text, false),
            param("to", ParamKind::Text, false),
            param("in_place", ParamKind::Text, false),
        ],
        undo: UndoMode::ByKind,
    },
    Schema { name: "wait", params: &[param("for", ParamKind::Duration, true)], undo: UndoMode::NotNeeded },
];

pub fn kinds() -> Vec<&'static dyn StepKind> {
    KINDS.iter().map(|kind| kind as &dyn StepKind).collect()
}

impl StepKind for Schema {
    fn name(&self) -> &'static str {
        self.name
    }
    fn doc(&self) -> &'static str {
        "A kind for tests."
    }
    fn params(&self) -> &'static [ParamSpec] {
        self.params
    }
    fn repeat(&self, _: &Json) -> Repeat {
        Repeat::Safe
    }
    fn undo_mode(&self, _: &Json) -> UndoMode {
        self.undo
    }
    fn title(&self, _: &Json) -> String {
        self.name.into()
    }
    fn preview<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async { Ok(Preview::default()) })
    }
    fn run<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async { Ok(Json::Null) })
    }
}
