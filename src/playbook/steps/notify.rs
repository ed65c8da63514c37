//! `notify`: posts a message into a room, once.

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, UndoMode, params,
};
use crate::playbook::model::Preview;
use crate::text::code;

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "room",
        kind: ParamKind::Text,
        required: true,
        doc: "Name or id of a room that Houston is in.",
    },
    ParamSpec { name: "text", kind: ParamKind::Text, required: true, doc: "What is posted." },
];

pub(super) struct Notify;

impl StepKind for Notify {
    fn name(&self) -> &'static str {
        "notify"
    }
    fn doc(&self) -> &'static str {
        "Posts a message into a room."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, _params: &Json) -> Repeat {
        Repeat::Keyed
    }
    fn undo_mode(&self, _params: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, given: &Json) -> String {
        format!("tell {}", code(params::text(given, "room").unwrap_or("a room")))
    }
    fn preview<'a>(
        &'a self,
        _: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            params::required(given, "room")?;
            params::required(given, "text").map(|_| Preview::default())
        })
    }
    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let room = params::required(given, "room")?;
            // Inputs of the command stand in it: nobody is to be able to call a whole room with them.
            let text = params::required(given, "text")?
                .replace("@all", "@\u{200b}all")
                .replace("@here", "@\u{200b}here");
            let text = context.redactor.redact(&text).into_owned();
            context.world.notify(room, &text, &context.token).await?;
            Ok(json!({ "room": room }))
        })
    }
    fn by_hand(&self, _: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        let (room, said) = (params::text(given, "room"), params::text(given, "text"));
        let said = said.unwrap_or_default().replace('\n', " ");
        ByHand { act: vec![format!("# say in {}: {said}", room.unwrap_or("the room"))], ..ByHand::default() }
    }
    /// Sending again is looking: the same token makes no second message.
    fn probe<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Probed, StepError>> {
        let what = "the message is sent again under its own id, so nobody sees it twice";
        Box::pin(async move { Ok(Probed::UnderWay(what.to_owned())) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Lines, Scripted, context};
    use super::*;

    #[tokio::test]
    async fn a_notice_is_sent_under_the_steps_token_without_secrets() {
        let (script, lines) = (Arc::new(Scripted::default()), Arc::new(Lines::default()));
        let given = json!({ "room": "ops", "text": "the secret-word works" });
        Notify.run(&context(&script, &lines), &given).await.expect("sent");
        let sent = script.notices.lock().expect("not poisoned").clone();
        let expected = ("ops".to_owned(), "the [redacted] works".to_owned(), "houston-R-7-card-2".to_owned());
        assert_eq!(sent, [expected]);
    }
}
