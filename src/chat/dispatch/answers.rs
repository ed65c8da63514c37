//! What people say in a run's thread without addressing Houston: the answer that a run waits for, or a
//! denier's reason.
//!
//! Must not: take anything for a command.

use std::collections::BTreeMap;

use super::{Dispatcher, authorize_for};
use crate::access::Action;
use crate::gateway::events::Inbound;
use crate::ids::{MessageId, RoleName, RunId};
use crate::playbook::steps::Pause;
use crate::runs::RunMessage;
use crate::runs::journal::Header;
use crate::runs::state::{Decision, Phase, RunState};
use crate::text;

/// Runs that are looked through for the one that somebody has just denied.
const LATEST: usize = 50;

/// How long after a denial its reason is taken.
const TO_EXPLAIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// Of a reason; more is cut.
const LONGEST_REASON: usize = 300;

impl Dispatcher {
    pub(super) async fn maybe_answer(&self, message: &Inbound) {
        if let Some(thread) = &message.thread
            && crate::secret::looks_like_a_secret(&message.text).is_none()
        {
            match self.run_that_asks_in(thread).await {
                Some(run) => self.answer_run(run, message).await,
                None => self.explain_denial(thread, message).await,
            }
        }
        self.dealt_with(&message.id);
    }

    async fn run_that_asks_in(&self, thread: &MessageId) -> Option<RunId> {
        let engine = &self.parts.engine;
        let waits = |run: &RunState| matches!(run.phase, Phase::Waiting { pause: Pause::Answer { .. }, .. });
        if let Some((run, RunMessage::Progress)) = engine.run_of_message(thread).await
            && engine.state(run).await.is_ok_and(|state| waits(&state))
        {
            return Some(run);
        }
        // A run that was asked for in a thread asks there, since Rocket.Chat has no threads within threads;
        // also in the thread of an earlier run.
        let asks = |run: &RunState| waits(run) && run.origin.thread.as_ref() == Some(thread);
        engine.open_runs().await.iter().find(|run| asks(run)).map(|run| run.id)
    }

    async fn answer_run(&self, run: RunId, message: &Inbound) {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        let Phase::Waiting { pause: Pause::Answer { choices, from, .. }, .. } = &state.phase else {
            return;
        };
        let said = message.text.trim();
        let choice = choices.iter().find(|choice| choice.eq_ignore_ascii_case(said));
        if !choices.is_empty() && choice.is_none() {
            return;
        }
        let person = self.people.person(&message.by).await;
        let may = if from.is_empty() {
            let action = Action {
                command: state.plan.command_name.clone(),
                changes: true,
                arguments: BTreeMap::new(),
                room: message.room.clone(),
            };
            authorize_for(&self.people.access(), &person, action, &state.plan.locks).is_ok()
        } else {
            let roles = self.people.roles(&person);
            from.iter().any(|role| roles.contains(role))
        };
        if may {
            let answer = choice.cloned().unwrap_or_else(|| said.to_owned());
            if let Err(error) = engine.answer(run, &message.by, answer).await {
                self.say(message, message.thread.clone(), error.to_string()).await;
            }
        } else if !self.too_fast(message) {
            let who: Vec<&str> = from.iter().map(RoleName::as_str).collect();
            let who = if who.is_empty() { "an operator or lead".to_owned() } else { who.join(" or ") };
            self.say(message, message.thread.clone(), format!("That question is for {who}.")).await;
        }
    }

    /// A denial is the end of its run, so the run is looked up by its card among the latest.
    async fn explain_denial(&self, thread: &MessageId, message: &Inbound) {
        let engine = &self.parts.engine;
        let Ok(latest) = engine.list(LATEST) else { return };
        let now = self.parts.clock.now();
        let just_denied = |header: &&Header| {
            let ended = header.ended_at.unwrap_or(header.created_at);
            header.state == "denied" && now.duration_since(ended) < TO_EXPLAIN
        };
        for header in latest.iter().filter(just_denied) {
            let Ok(state) = engine.state(header.run).await else { continue };
            if let Some(Decision::Denied { by, reason: None, .. }) = &state.decision
                && by.id == message.by.id
                && (state.card == *thread || state.origin.thread.as_ref() == Some(thread))
            {
                let reason = text::ellipsis(message.text.trim(), LONGEST_REASON).into_owned();
                if let Err(error) = engine.explain_denial(header.run, reason).await {
                    tracing::warn!(run.id = %header.run, "the reason was not kept: {error}");
                }
                return;
            }
        }
    }
}
