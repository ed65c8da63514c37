//! A step that people have to consent to when its run has come to it: asks with what the step would do now, and
//! looks once more before it begins.
//!
//! Must not: wait. A run that asks is a row with a deadline; it holds its locks.

use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::drive::Turn;
use super::write::{STEP_ASKED, STEP_VOID};
use super::{Engine, Objection, Work, own_messages};
use crate::change::Change;
use crate::digest::Digest;
use crate::ids::random_id;
use crate::playbook::model::{PlannedStep, Preview};
use crate::playbook::steps::StepError;
use crate::runs::event::Event;
use crate::runs::outbox::Notice;
use crate::runs::state::RunState;
use crate::store::Batch;

impl Engine {
    /// `None`: it has asked, or the run has moved.
    pub(super) async fn ask(&self, state: &RunState, step: usize) -> Option<Turn> {
        let (run, planned) = (state.id, &state.plan.steps[step]);
        let approval = planned.approval.as_ref()?;
        let preview = match self.seen_now(state, step).await {
            Ok(preview) => preview,
            Err(error) => {
                let error = match self.unseen(run, error) {
                    Ok(error) => error,
                    Err(turn) => return Some(turn),
                };
                // People decide whether what the plan saw is good enough; before the step begins it is looked
                // at again.
                let mut preview = planned.preview.clone();
                preview.notes.push(format!(
                    "it cannot be looked at now ({}): this is what the plan saw",
                    error.message
                ));
                preview
            }
        };
        let event = Event::StepAsked {
            step,
            digest: digest(state, planned, &preview),
            preview,
            card: random_id().into(),
            expires_at: self.now().checked_add(approval.policy.expires).unwrap_or(Timestamp::MAX),
        };
        // The card first: its reactions are followed from when the run shows itself.
        let ask = state.asks.len();
        let mut notices = vec![Notice::StepCard { run, ask }];
        notices.extend(planned.whole.is_some().then(|| Notice::whole(run, Some(ask))));
        notices.push(Notice::Progress { run });
        self.decide_and_audit(state, vec![event], notices, Batch::new(), STEP_ASKED).await;
        None
    }

    /// `None`: the step needs no consent of its own, or what it was given still stands, for what it would still
    /// do.
    pub(super) async fn consent_to_step(&self, state: &RunState, step: usize) -> Option<Turn> {
        let run = state.id;
        let ask = state.open_ask().filter(|ask| ask.step == step)?;
        let objections = match self.objections(state).await {
            Ok(objections) => objections,
            Err(turn) => return Some(turn),
        };
        // Who asked for a run that is under way asked for it with the right to.
        let withdrawn: Vec<Event> = objections.into_iter().filter_map(Objection::withdrawal).collect();
        if !withdrawn.is_empty() {
            self.decide(state, withdrawn, own_messages(state)).await;
            return Some(Turn::Moved);
        }
        let differences = match self.seen_now(state, step).await {
            Ok(now) => differences(&state.plan.steps[step], &ask.preview, &now),
            Err(error) => match self.unseen(run, error) {
                Ok(error) => vec![cannot_be_looked_at(error)],
                Err(turn) => return Some(turn),
            },
        };
        if differences.is_empty() {
            return None;
        }
        let voided = vec![Event::Voided { differences }];
        self.decide_and_audit(state, voided, own_messages(state), Batch::new(), STEP_VOID).await;
        Some(Turn::Moved)
    }

    async fn seen_now(&self, state: &RunState, step: usize) -> Result<Preview, StepError> {
        let planned = &state.plan.steps[step];
        let kind = self.kind(&planned.kind)?;
        let context = self.context(state, Work::Look(step), CancellationToken::new());
        self.look(kind.preview(&context, &planned.params)).await
    }
}

/// Of all that somebody consents to who consents to a step.
fn digest(state: &RunState, planned: &PlannedStep, preview: &Preview) -> Digest {
    let all = json!({
        "plan": state.consent.digest,
        "step": planned,
        "outputs": state.outputs(),
        "preview": preview,
    });
    Digest::of(all.to_string().as_bytes())
}

/// What was observed and is not so any more.
pub(super) fn differences(step: &PlannedStep, was: &Preview, now: &Preview) -> Vec<Change> {
    let mut names: Vec<&String> = was.observed.keys().chain(now.observed.keys()).collect();
    names.sort();
    names.dedup();
    let subject = step.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name, was.observed.get(name), now.observed.get(name)))
        .filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| Change {
            what: format!("{subject}{name}"),
            from: was.cloned(),
            to: is.cloned(),
        })
        .collect()
}

pub(super) fn cannot_be_looked_at(error: StepError) -> Change {
    Change { what: "the world cannot be looked at".into(), from: None, to: Some(error.message) }
}
