//! `port_open`: waits until a port takes connections.

use std::time::Duration;

use futures_util::future::BoxFuture;
use houston::playbook::model::Preview;
use houston::playbook::steps::{ParamKind, ParamSpec, Repeat, StepContext, StepError, StepKind, UndoMode};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "address",
        kind: ParamKind::Text,
        required: true,
        doc: "Where: `db.example.com:5432`.",
    },
    ParamSpec { name: "attempts", kind: ParamKind::Integer, required: false, doc: "How often. Default 10." },
];

pub struct PortOpen;

fn address(given: &Json) -> &str {
    given["address"].as_str().unwrap_or_default()
}

impl StepKind for PortOpen {
    fn name(&self) -> &'static str {
        "port_open"
    }
    fn doc(&self) -> &'static str {
        "Waits until a port takes connections."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    /// It only looks: after a crash it is simply run again.
    fn repeat(&self, _: &Json) -> Repeat {
        Repeat::Safe
    }
    fn undo_mode(&self, _: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, given: &Json) -> String {
        format!("wait until `{}` takes connections", address(given))
    }
    /// What would change: nothing.
    fn preview<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async { Ok(Preview::default()) })
    }
    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let attempts = given["attempts"].as_u64().unwrap_or(10);
            for attempt in 1..=attempts {
                context.progress.status(&format!("attempt {attempt} of {attempts}"));
                if TcpStream::connect(address(given)).await.is_ok() {
                    return Ok(json!({"attempts": attempt}));
                }
                tokio::select! {
                    () = context.clock.sleep(Duration::from_secs(1)) => {}
                    () = context.cancel.cancelled() => return Err(StepError::new("cancelled").cancelled()),
                }
            }
            // What happened, to what, what to do next; whether another attempt is worth it is no text.
            Err(StepError::new(format!("nothing listens on `{}`", address(given)))
                .hint("look whether it runs, and whether a firewall is between")
                .transient())
        })
    }
}
