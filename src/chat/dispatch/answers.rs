//! What people say in a run's thread without addressing Houston: the answer that a run waits for, or a
//! denier's reason.
//!
//! Must not: take anything for a command.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Dispatcher, authorize_for};
use crate::access::Action;
use crate::chat::parse::too_long;
use crate::gateway::events::{Actor, Inbound};
use crate::ids::{MessageId, RoleName, RunId};
use crate::playbook::steps::Pause;
use crate::runs::event::Outcome;
use crate::runs::journal::Header;
use crate::runs::state::{Decision, Phase, RunState, StepState};
use crate::text;
use crate::trace;

/// Runs that are looked through for the one that somebody has just denied.
const LATEST: usize = 50;

/// How long after a denial its reason is taken.
const TO_EXPLAIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// A reaction is counted a while after it was given; its reason may be there by then.
const TO_BE_COUNTED: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);

/// Of a reason; more is cut.
const LONGEST_REASON: usize = text::QUOTED;

impl Dispatcher {
    pub(super) async fn maybe_answer(&self, message: &Inbound) {
        if let Some(thread) = &message.thread
            && crate::secret::looks_like_a_secret(&message.text).is_none()
        {
            let (asking, later) = self.runs_that_ask_in(thread, message).await;
            let (named, said) = answer_to(message.text.trim());
            match asking.as_slice() {
                [] if !later.is_empty() => self.not_asked_yet(&later, message).await,
                [] => {
                    if !self.explain_denial(thread, message).await {
                        self.passed_over(message);
                        return;
                    }
                }
                [one] if named != Some(*one) => self.answer_run(*one, message, message.text.trim()).await,
                several => match named.filter(|run| several.contains(run)) {
                    Some(run) => self.answer_run(run, message, said).await,
                    None => self.ask_which(several, message).await,
                },
            }
        }
        self.dealt_with(&message.id);
    }

    /// A run asks in the thread of its progress. One that was asked for in a thread asks there, since Rocket.Chat
    /// has no threads within threads; also in the thread of an earlier run. Apart from them, those that asked only
    /// after this was written: whoever wrote it cannot mean their question.
    async fn runs_that_ask_in(&self, thread: &MessageId, message: &Inbound) -> (Vec<RunId>, Vec<RunState>) {
        let written = self.parts.chat.said_at(message);
        let now = self.parts.clock.now();
        let (mut asking, mut later) = (Vec::new(), Vec::new());
        for run in self.parts.engine.open_runs().await {
            let here = run.progress == *thread || run.origin.thread.as_ref() == Some(thread);
            match asked_at(&run).filter(|_| here) {
                // A time ahead is of a clock that was set back since, and tells nothing.
                Some(asked) if written < asked && asked <= now => later.push(run),
                Some(_) => asking.push(run.id),
                None => {}
            }
        }
        (asking, later)
    }

    /// A second `yes` behind the first must not answer what nobody has read yet.
    async fn not_asked_yet(&self, later: &[RunState], message: &Inbound) {
        let (_, said) = answer_to(message.text.trim());
        let fits = |run: &&RunState| choice_of(run, message.text.trim()).or(choice_of(run, said)).is_some();
        if let Some(run) = later.iter().find(fits)
            && let Phase::Waiting { pause: Pause::Answer { question, .. }, .. } = &run.phase
            && !self.too_fast(message)
        {
            let text = format!(
                "{} asked after you wrote that, so I did not take it for an answer: {} Say it again if you mean that.",
                run.id,
                text::said(question)
            );
            self.say(message, message.thread.clone(), text).await;
        }
    }

    /// Whoever answers has one of the questions in mind, and nobody knows which.
    async fn ask_which(&self, several: &[RunId], message: &Inbound) {
        let mut fits = false;
        for run in several {
            let state = self.parts.engine.state(*run).await;
            fits |= state.is_ok_and(|state| choice_of(&state, message.text.trim()).is_some());
        }
        if fits && !self.too_fast(message) {
            let runs: Vec<String> = several.iter().map(ToString::to_string).collect();
            let text = format!(
                "{} ask here, so I took that for none of them. Put the run before your answer: {}.",
                text::plain_and_list(&runs),
                text::code(&format!("{} {}", runs[0], text::ellipsis(message.text.trim(), 40)))
            );
            self.say(message, message.thread.clone(), text).await;
        }
    }

    async fn answer_run(&self, run: RunId, message: &Inbound, said: &str) {
        trace::about(run);
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        let Phase::Waiting { pause: Pause::Answer { choices, from, .. }, .. } = &state.phase else {
            return;
        };
        let answer = choice_of(&state, said);
        // A sentence is talk about the question; a word is a slip of the answer, and is told so.
        if answer.is_none() && (choices.is_empty() || said.split_whitespace().nth(1).is_some()) {
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
        let Some(answer) = answer else {
            if may && !self.too_fast(message) {
                let near = text::did_you_mean(said, choices.iter().map(String::as_str));
                let near =
                    near.map(|near| format!(" Did you mean {}?", text::code(near))).unwrap_or_default();
                let said = text::ellipsis(said, 40);
                let told = format!(
                    "{} is no answer to {run}.{near} Answer with {}.",
                    text::code(&said),
                    text::or_list(choices)
                );
                self.say(message, message.thread.clone(), told).await;
            }
            return;
        };
        if let (true, Some(text)) = (may, too_long(said)) {
            self.say(message, message.thread.clone(), text).await;
        } else if may {
            if let Err(error) = engine.answer(run, &message.by, answer).await {
                self.say(message, message.thread.clone(), error.to_string()).await;
            }
        } else if !self.too_fast(message) {
            let who: Vec<&str> = from.iter().map(RoleName::as_str).collect();
            let who = if who.is_empty() { "an operator or lead".to_owned() } else { who.join(" or ") };
            self.say(message, message.thread.clone(), format!("That question is for {who}.")).await;
        }
    }

    /// A denial may be the end of its run, so the run is looked up among the latest. Whether there was one to explain.
    async fn explain_denial(&self, thread: &MessageId, message: &Inbound) -> bool {
        let engine = &self.parts.engine;
        let Ok(latest) = engine.list(LATEST) else { return false };
        let now = self.parts.clock.now();
        let written = self.parts.chat.said_at(message);
        let lately = |header: &&Header| {
            header.ended_at.is_none_or(|ended| now.duration_since(ended) < TO_EXPLAIN)
                && header.state != Outcome::Succeeded.word()
        };
        for header in latest.iter().filter(lately) {
            let Ok(state) = engine.state(header.run).await else { continue };
            // A plan is asked about on its card, a step in the thread of the progress.
            let asked = if state.asks.is_empty() { &state.consent.card } else { &state.progress };
            if (asked == thread || state.origin.thread.as_ref() == Some(thread))
                && just_denied(&state, written, now)
                && self.explains_denial(header.run, &message.by, &message.text).await
            {
                return true;
            }
        }
        false
    }

    /// Takes `text` for the reason of a denial of `by`, if it still has none.
    pub(in crate::chat) async fn explains_denial(&self, run: RunId, by: &Actor, text: &str) -> bool {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return false };
        let Some(Decision::Denied { by: denier, reason: None, .. }) = &state.latest_ballot().decision else {
            return false;
        };
        if denier.id != by.id {
            return false;
        }
        let reason = text::ellipsis(text.trim(), LONGEST_REASON).into_owned();
        let kept = engine.explain_denial(run, reason).await;
        if let Err(error) = &kept {
            tracing::warn!(run.id = %run, "the reason was not kept: {error}");
        }
        kept.is_ok()
    }
}

/// Not long before `now`, and before this was `written`.
fn just_denied(run: &RunState, written: Timestamp, now: Timestamp) -> bool {
    let decision = &run.latest_ballot().decision;
    let Some(Decision::Denied { at, .. }) = decision else { return false };
    now.duration_since(*at) < TO_EXPLAIN && at.duration_since(written) < TO_BE_COUNTED
}

/// Since when the run waits for an answer.
fn asked_at(run: &RunState) -> Option<Timestamp> {
    let Phase::Waiting { step, pause: Pause::Answer { .. }, .. } = &run.phase else { return None };
    match run.steps.get(*step)?.state {
        StepState::Waiting { since } => Some(since),
        _ => None,
    }
}

/// `R-7 yes`: the run that is named, and the answer.
fn answer_to(said: &str) -> (Option<RunId>, &str) {
    let (first, rest) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
    let named = first.starts_with(['R', 'r']).then(|| first.parse().ok()).flatten();
    (named, rest.trim())
}

/// What this says to the question that the run waits with; `None` when it is no answer to it.
fn choice_of(run: &RunState, said: &str) -> Option<String> {
    let Phase::Waiting { pause: Pause::Answer { choices, .. }, .. } = &run.phase else { return None };
    if choices.is_empty() {
        return (!said.is_empty()).then(|| said.to_owned());
    }
    choices.iter().find(|choice| choice.eq_ignore_ascii_case(said)).cloned()
}
