//! What the outbox holds in words, and where each of it is said.
//!
//! Must not: decide what is to be said.

use jiff::Timestamp;

use super::Voice;
use crate::chat::cards::{self, Place};
use crate::chat::{glass, maintenance, plan_text, progress, report, schedules, steal, step_cards, trouble};
use crate::gateway::events::{Post, SendError};
use crate::gateway::{Button, Priority};
use crate::ids::MessageId;
use crate::playbook::model::PlannedStep;
use crate::runs::PLAN;
use crate::runs::ballot::Ballot;
use crate::runs::outbox::{Notice, OutboxEntry};
use crate::runs::state::{Decision, RunState};
use crate::text::defuse;
use crate::text::inert;

impl Voice {
    pub(super) async fn say(&mut self, entry: &OutboxEntry) -> Result<(), SendError> {
        let run = match entry.notice.run() {
            Some(run) => match self.engine.state(run).await {
                Ok(run) => Some(run),
                Err(error) => {
                    tracing::error!(run.id = %run, "nothing can be said about {run}: {error}");
                    return Ok(());
                }
            },
            None => None,
        };
        let now = self.clock.now();
        match (&entry.notice, run) {
            (Notice::Say { post }, _) => self.chat.post(post.clone(), Priority::Urgent).await,
            (Notice::Maintenance { id, room, announcement }, _) => {
                let moving = self.engine.open_runs().await;
                let Some(text) = maintenance::announcement(announcement, &moving, now) else {
                    return Ok(());
                };
                let post = Post { id: id.clone(), room: room.clone(), thread: None, text };
                self.chat.post(post, Priority::Normal).await
            }
            (Notice::Schedule { id, room, told }, _) => {
                let (id, text) = (id.clone(), schedules::told(told));
                self.chat.post(Post { id, room: room.clone(), thread: None, text }, Priority::Normal).await
            }
            (Notice::Card { .. }, Some(run)) => {
                self.card(&run, now).await?;
                self.same_asked(&run, now).await;
                self.watch(&run);
                self.buttons(&run, &run.consent, None).await;
                Ok(())
            }
            (Notice::StepCard { ask, .. }, Some(run)) => {
                let (Some(asked), Some(text)) =
                    (run.asks.get(*ask), step_cards::card(&run, *ask, now, Place::OwnMessage))
                else {
                    return Ok(());
                };
                let card = &asked.ballot.card;
                self.show(&run, card, Some(&run.progress), text, Priority::Urgent).await?;
                self.watch(&run);
                self.buttons(&run, &asked.ballot, run.plan.steps.get(asked.step)).await;
                Ok(())
            }
            (Notice::Whole { id, ask, .. }, Some(run)) => {
                let (under, only) = match ask.and_then(|ask| run.asks.get(ask)) {
                    Some(asked) => (&run.progress, Some(asked.step)),
                    None => (&run.consent.card, None),
                };
                match plan_text::whole(&run.plan, only) {
                    Some(text) => self.reply(&run, id, under, text).await,
                    None => Ok(()),
                }
            }
            (Notice::Progress { .. }, Some(run)) => {
                let text = self.progress(&run, now).await;
                self.show(&run, &run.progress, None, text.clone(), Priority::Normal).await?;
                self.dirty.remove(&run.id);
                self.note_queued(&run, text);
                self.watch(&run);
                if run.is_done() {
                    // Should there be another word about it, it is posted again under its id, and edited.
                    self.posted.remove(&run.progress);
                    for ballot in super::ballots(&run) {
                        self.posted.remove(&ballot.card);
                        self.posted.remove(&buttons_of(ballot));
                    }
                    self.editable.remove(&run.id);
                }
                Ok(())
            }
            // Nobody waits for it, and the run's own message says it.
            (Notice::Result { .. }, Some(run)) if schedules::is_as_usual(&run) => Ok(()),
            (Notice::Result { id, .. }, Some(run)) => {
                self.reply(&run, id, &run.progress, progress::result(&run)).await
            }
            (Notice::Report { id, .. }, Some(run)) => self.report(&run, id).await,
            (Notice::Question { id, .. }, Some(run)) => {
                self.reply(&run, id, &run.progress, trouble::question(&run)).await
            }
            (Notice::Void { id, .. }, Some(run)) => {
                let under = if run.plan.approval.is_some() { &run.consent.card } else { &run.progress };
                self.reply(&run, id, under, cards::void(&run)).await
            }
            (Notice::Expired { id, .. }, Some(run)) => {
                self.reply(&run, id, &run.consent.card, cards::expired(&run)).await
            }
            (Notice::Denied { id, .. }, Some(run)) => {
                self.reply(&run, id, &run.consent.card, cards::denied(&run)).await
            }
            (Notice::Undecided { id, ask, escalated, .. }, Some(run)) => {
                // Decided before this was said: nothing to remind of any more.
                let Some(text) = cards::still_undecided(&run, *ask, now, *escalated) else { return Ok(()) };
                // Where the card is, not in a thread under it that nobody may follow.
                let (room, thread) = (run.origin.room.id.clone(), run.origin.thread.clone());
                self.chat.post(Post { id: id.clone(), room, thread, text }, Priority::Urgent).await
            }
            (Notice::Steal { id, to, done, .. }, Some(run)) => {
                // Decided before this was said: what became of it is told by itself.
                let Some(text) = steal::to_owner(&run, *done) else { return Ok(()) };
                let room = self.chat.direct(to).await?;
                self.chat.post(Post { id: id.clone(), room, thread: None, text }, Priority::Urgent).await
            }
            (Notice::BreakGlass { id, .. }, Some(run)) => {
                let (room, text) = (run.origin.room.id.clone(), glass::announcement(&run));
                self.chat.post(Post { id: id.clone(), room, thread: None, text }, Priority::Urgent).await
            }
            (Notice::BreakGlassTo { id, to, .. }, Some(run)) => {
                let (room, text) = (self.chat.direct(to).await?, glass::announcement(&run));
                self.chat.post(Post { id: id.clone(), room, thread: None, text }, Priority::Urgent).await
            }
            (Notice::ReviewReminder { id, .. }, Some(run)) => {
                // Closed before this was said: nothing to remind of any more.
                if !run.review_open() {
                    return Ok(());
                }
                let (room, text) = (run.origin.room.id.clone(), glass::open_review(&run, now));
                self.chat.post(Post { id: id.clone(), room, thread: None, text }, Priority::Urgent).await
            }
            (Notice::AskWhyDenied { id, .. }, Some(run)) => {
                let decision = &run.latest_ballot().decision;
                let Some(Decision::Denied { by, reason: None, .. }) = decision else {
                    return Ok(());
                };
                let text = format!(
                    "@{} why? One line in this thread, and I put it on the card of {}.",
                    by.username, run.id
                );
                let under = if run.asks.is_empty() { &run.consent.card } else { &run.progress };
                self.reply(&run, id, under, text).await
            }
            (_, None) => Ok(()),
        }
    }

    /// The request for consent to the plan, as it is now.
    async fn card(&mut self, run: &RunState, now: Timestamp) -> Result<(), SendError> {
        let same = self.engine.same_asked(run).await;
        let text = cards::card(run, &same, now, Place::OwnMessage);
        self.show(run, &run.consent.card, None, text, Priority::Urgent).await
    }

    /// Those that ask for the same name this run, or do not any more. A convenience: each is drawn again by itself when
    /// anything becomes of it.
    async fn same_asked(&mut self, run: &RunState, now: Timestamp) {
        for same in self.engine.same_asked(run).await {
            let Ok(other) = self.engine.state(same.run).await else { continue };
            let stands = self.posted.contains(&other.consent.card) || self.earlier.runs.contains(&other.id);
            if stands && let Err(error) = self.card(&other, now).await {
                tracing::debug!(run.id = %other.id, "the card of {} was not shown: {error}", other.id);
            }
        }
    }

    /// In the run's own room, so with the link to its page.
    pub(super) async fn progress(&self, run: &RunState, now: Timestamp) -> String {
        let link = self.links.to(run.id, self.config.get().http.as_ref(), now);
        progress::with_link(progress::progress(run, &self.engine.live(run.id).await, now), link)
    }

    /// Posts a message of a run, or edits it to what is so now. `under`: in the thread of that one, unless the run
    /// was asked for in a thread itself.
    pub(super) async fn show(
        &mut self,
        run: &RunState,
        message: &MessageId,
        under: Option<&MessageId>,
        text: String,
        priority: Priority,
    ) -> Result<(), SendError> {
        let room = &run.origin.room.id;
        if self.posted.contains(message) {
            return self.chat.edit(room, message, &text, priority).await;
        }
        let post = Post {
            id: message.clone(),
            room: room.clone(),
            thread: run.origin.thread.clone().or_else(|| under.cloned()),
            text: text.clone(),
        };
        self.chat.post(post, Priority::Urgent).await?;
        self.posted.insert(message.clone());
        if self.earlier.runs.contains(&run.id) || run.is_done() {
            // It may have been posted before, with an older text.
            self.chat.edit(room, message, &text, priority).await?;
        }
        Ok(())
    }

    /// Buttons under a card, as long as it can be decided. A convenience: one that cannot be posted is not
    /// missed, since every button has an equal text on the card.
    async fn buttons(&mut self, run: &RunState, ballot: &Ballot, step: Option<&PlannedStep>) {
        let wanted = self.config.get().approval_buttons && run.asking() == Some(ballot);
        let id = buttons_of(ballot);
        if !wanted || !self.posted.insert(id.clone()) {
            return;
        }
        // A button that is clicked late says what it was for.
        let of = step.map_or(PLAN, |step| step.id.as_str());
        let (approve, deny) = (format!("!approve {} {of}", run.id), format!("!deny {}", run.id));
        let buttons =
            [Button { label: "Approve", command: &approve }, Button { label: "Deny", command: &deny }];
        let post = Post {
            id,
            room: run.origin.room.id.clone(),
            thread: run.origin.thread.clone().or_else(|| step.map(|_| run.progress.clone())),
            text: match step {
                Some(step) => format!("*{}* {}", run.id, inert(&step.title)),
                None => format!("*{}* {}", run.id, crate::text::typed(&run.plan.command)),
            },
        };
        if let Err(error) = self.chat.post_buttons(post, &buttons).await {
            tracing::debug!(run.id = %run.id, "no buttons for {}: {error}", run.id);
        }
    }

    /// In the thread in which the run was asked for, or else in the one under its message.
    async fn reply(
        &self,
        run: &RunState,
        id: &MessageId,
        under: &MessageId,
        text: String,
    ) -> Result<(), SendError> {
        let thread = run.origin.thread.clone().unwrap_or_else(|| under.clone());
        let post = Post { id: id.clone(), room: run.origin.room.id.clone(), thread: Some(thread), text };
        self.chat.post(post, Priority::Urgent).await
    }

    /// The room will not take it: the person who asked is told in a direct message.
    pub(super) async fn refused(&self, entry: &OutboxEntry, reason: &str) {
        tracing::warn!("a message was refused: {reason}");
        let Some(run) = entry.notice.run() else { return };
        let Ok(run) = self.engine.state(run).await else { return };
        let text = match &entry.notice {
            Notice::Card { .. } => {
                let same = self.engine.same_asked(&run).await;
                cards::card(&run, &same, self.clock.now(), Place::OwnMessage)
            }
            Notice::StepCard { ask, .. } => {
                match step_cards::card(&run, *ask, self.clock.now(), Place::OwnMessage) {
                    Some(card) => card,
                    None => return,
                }
            }
            Notice::Progress { .. } if !run.is_done() => return,
            Notice::Progress { .. } => {
                progress::progress(&run, &self.engine.live(run.id).await, self.clock.now())
            }
            Notice::Question { .. } => trouble::question(&run),
            Notice::Void { .. } => cards::void(&run),
            Notice::Whole { .. } => match plan_text::whole(&run.plan, None) {
                Some(whole) => whole,
                None => return,
            },
            Notice::Expired { .. } => cards::expired(&run),
            Notice::Denied { .. } => cards::denied(&run),
            Notice::Result { .. }
            | Notice::Report { .. }
            | Notice::Undecided { .. }
            | Notice::AskWhyDenied { .. }
            | Notice::BreakGlass { .. }
            | Notice::BreakGlassTo { .. }
            | Notice::Steal { .. }
            | Notice::ReviewReminder { .. }
            | Notice::Maintenance { .. }
            | Notice::Schedule { .. }
            | Notice::Say { .. } => return,
        };
        let text = format!("I could not say this where you asked for it ({reason}):\n{text}");
        match self.chat.direct(&run.by.id).await {
            Ok(room) => {
                let id = crate::ids::derived_id(&format!("refused/{}/{}", run.id, entry.id)).into();
                let post = Post { id, room, thread: None, text };
                if let Err(error) = self.chat.post(post, Priority::Urgent).await {
                    tracing::error!(run.id = %run.id, "nobody could be told about {}: {error}", run.id);
                }
            }
            Err(error) => tracing::error!(run.id = %run.id, "nobody could be told about {}: {error}", run.id),
        }
    }
}

impl Voice {
    /// In the room that the playbook names; where there is none, beside the run, which is told as well.
    async fn report(&self, run: &RunState, id: &MessageId) -> Result<(), SendError> {
        let Some(asked) = &run.plan.report else { return Ok(()) };
        let config = self.config.get();
        let Some(template) = config.reports.get(&asked.template) else {
            tracing::error!(run.id = %run.id, "there is no report `{}` any more", asked.template);
            return Ok(());
        };
        let mut text = report::text(run, template, &self.store, self.clock.now());
        let room = match self.chat.room(&asked.room).await? {
            Some(room) => room,
            None => {
                let room = defuse(&asked.room);
                text.push_str(&format!("\n_It belongs into #{room}: invite me there, and I report there._"));
                run.origin.room.id.clone()
            }
        };
        let post = Post { id: id.clone(), room, thread: None, text };
        self.chat.post(post, Priority::Normal).await
    }
}

pub(super) fn buttons_of(ballot: &Ballot) -> MessageId {
    MessageId::new(crate::ids::derived_id(&format!("{}/buttons", ballot.card)))
}
