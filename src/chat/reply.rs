//! Says what the outbox holds, in order, and keeps progress messages moving.
//!
//! One task does both, so that a progress edit never overtakes the last word. What the outbox holds is
//! said until the server has it; progress is best effort and coalesced.
//!
//! Must not: decide what is to be said.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::cards::Place;
use super::{cards, glass, maintenance, plan_text, progress, steal, step_cards, trouble};
use crate::clock::Clock;
use crate::config::Current;
use crate::gateway::events::{Post, SendError};
use crate::gateway::{Button, Chat, Priority};
use crate::ids::{MessageId, RoomId, RunId};
use crate::lease::Lease;
use crate::links::Links;
use crate::playbook::model::PlannedStep;
use crate::runs::ballot::Ballot;
use crate::runs::outbox::{self, Notice, OutboxEntry};
use crate::runs::state::{Decision, Phase, RunState};
use crate::runs::{Engine, PLAN};
use crate::store::Store;
use crate::text::defuse;
use crate::trace;

/// Between two edits of one progress message. People read no faster, and edits share the rate budget.
const EDIT_EVERY: Duration = Duration::from_millis(1000);

/// A run that says nothing new still shows that time passes.
const SHOW_TIME_EVERY: Duration = Duration::from_secs(10);

/// After Rocket.Chat could not be reached; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Of one message while everything else gets through: about five minutes.
const MOST_TRIES: u32 = 15;

/// At the end, for what is still to be said.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Rooms that could not be spoken into at one time, before it is the server that cannot be reached.
const MOST_HELD_UP: usize = 3;

/// One pass over the outbox.
struct Pass {
    /// Something got through.
    said: bool,
    left: Left,
}

/// What has to be tried again.
#[derive(PartialEq)]
enum Left {
    Nothing,
    /// The other rooms are not kept waiting by them.
    SomeRooms,
    /// Rocket.Chat, or the store, cannot be reached now.
    Everything,
}

pub struct Voice {
    chat: Chat,
    engine: Engine,
    store: Store,
    clock: Clock,
    config: Current,
    links: Links,
    /// Without it nothing is said that nobody asked for.
    lease: Lease,
    /// Runs that began before this may have been shown by an earlier process.
    started_at: Timestamp,
    /// Messages that this process has posted.
    posted: HashSet<MessageId>,
    /// Progress messages to be edited, and when each may be edited next.
    dirty: BTreeSet<RunId>,
    editable: HashMap<RunId, Instant>,
    /// What those that are queued show: it changes with what is in their way, not with time.
    queued: HashMap<RunId, String>,
    /// The message that could not be said last, and how often.
    failing: (u64, u32),
}

impl Voice {
    pub fn new(
        chat: Chat,
        engine: Engine,
        store: Store,
        clock: Clock,
        config: Current,
        links: Links,
        lease: Lease,
    ) -> Self {
        let started_at = clock.now();
        Self {
            chat,
            engine,
            store,
            clock,
            config,
            links,
            lease,
            started_at,
            posted: HashSet::new(),
            dirty: BTreeSet::new(),
            editable: HashMap::new(),
            queued: HashMap::new(),
            failing: (0, 0),
        }
    }

    /// Until `stop`; what was not said stays in the outbox.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.engine.subscribe();
        // A message that was perhaps never said would be taken for one that somebody deleted: it is watched when it
        // is said.
        let unsaid = outbox::waiting(&self.store).unwrap_or_default();
        let unsaid: HashSet<RunId> = unsaid.iter().filter_map(|entry| run_of(&entry.notice)).collect();
        for run in self.engine.open_runs().await.iter().filter(|run| !unsaid.contains(&run.id)) {
            self.watch(run);
        }
        // What an earlier process showed goes on in the same message.
        self.everything_moved().await;
        let mut wait = FIRST_WAIT;
        let mut tick = tokio::time::interval(SHOW_TIME_EVERY);
        loop {
            let pass = self.say_all().await;
            let held_up = pass.left != Left::Nothing;
            // On a bad line something gets through each time: that is no reason to wait longer and longer.
            if pass.said || !held_up {
                wait = FIRST_WAIT;
            }
            if pass.left != Left::Everything {
                self.edit_progress().await;
            }
            let next_edit = self.next_edit();
            tokio::select! {
                () = stop.cancelled() => {
                    let _ = tokio::time::timeout(LAST_WORDS, self.say_all()).await;
                    return;
                }
                () = self.engine.outbox_changed() => {}
                () = self.lease.regained(), if self.lease.may_act().is_err() => wait = FIRST_WAIT,
                changed = changes.recv() => match changed {
                    Ok(run) => {
                        self.dirty.insert(run);
                        // What it does is shown by those that wait for it.
                        self.dirty.extend(self.engine.queued().await.iter().map(|run| run.id));
                    }
                    Err(RecvError::Lagged(_)) => self.everything_moved().await,
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => self.time_passed().await,
                () = tokio::time::sleep(wait), if held_up => wait = (wait * 2).min(LONGEST_WAIT),
                () = tokio::time::sleep_until(next_edit.unwrap_or_else(Instant::now)), if next_edit.is_some() && !held_up => {}
            }
        }
    }

    /// Whether this message has failed so often, while Houston was online, that it will never get through.
    fn hopeless(&mut self, entry: u64) -> bool {
        if !self.chat.health().online {
            return false;
        }
        let tries = if self.failing.0 == entry { self.failing.1 + 1 } else { 1 };
        self.failing = (entry, tries);
        tries > MOST_TRIES
    }

    async fn everything_moved(&mut self) {
        for run in self.engine.open_runs().await {
            if run.holds_locks() || matches!(run.phase, Phase::Queued { .. } | Phase::Frozen { .. }) {
                self.dirty.insert(run.id);
            }
        }
    }

    /// Only what shows a time that grows: whatever waits for people costs no edits meanwhile.
    async fn time_passed(&mut self) {
        for run in self.engine.open_runs().await {
            if matches!(run.phase, Phase::Running | Phase::Undoing) && run.footing_changed.is_none() {
                self.dirty.insert(run.id);
            }
        }
    }

    async fn say_all(&mut self) -> Pass {
        let mut pass = Pass { said: false, left: Left::Everything };
        let mut held_up: HashSet<RoomId> = HashSet::new();
        // Runs whose messages cannot be edited yet: nothing waits for that but what comes after it.
        let mut later: HashSet<RunId> = HashSet::new();
        loop {
            let waiting = match outbox::waiting(&self.store) {
                Ok(waiting) => waiting,
                Err(error) => {
                    tracing::error!("the outbox cannot be read: {error}");
                    return pass;
                }
            };
            let mut said = false;
            // What was shown since the outbox was read shows everything that stood in it.
            let mut shown: Vec<Notice> = Vec::new();
            for entry in waiting {
                if self.lease.may_act().is_err() {
                    return pass;
                }
                if !self.engine.may_say(entry.id) {
                    break;
                }
                let run = run_of(&entry.notice);
                let span = run.map_or_else(Span::none, |run| trace::run(run, None));
                if run.is_some_and(|run| later.contains(&run)) {
                    continue;
                }
                let room = self.room_of(&entry.notice).await;
                if room.as_ref().is_some_and(|room| held_up.contains(room)) {
                    continue;
                }
                let again = matches!(
                    entry.notice,
                    Notice::Card { .. } | Notice::StepCard { .. } | Notice::Progress { .. }
                );
                let spoken = if again && shown.contains(&entry.notice) {
                    Ok(())
                } else {
                    self.say(&entry).instrument(span.clone()).await
                };
                match spoken {
                    Ok(()) if again => shown.push(entry.notice.clone()),
                    Ok(()) => {}
                    Err(SendError::Unavailable { reason, retry_after: Some(_) }) if again => {
                        span.in_scope(|| tracing::debug!("not shown yet: {reason}"));
                        later.extend(run);
                        continue;
                    }
                    Err(SendError::Unavailable { reason, .. }) if !self.hopeless(entry.id) => {
                        span.in_scope(|| tracing::debug!("not said yet: {reason}"));
                        // In order within a room; past a few rooms it is the server.
                        held_up.extend(room);
                        if held_up.len() >= MOST_HELD_UP {
                            return pass;
                        }
                        continue;
                    }
                    // The server is there for everything else: this one must not hold up the rest.
                    Err(SendError::Unavailable { reason, .. }) => {
                        self.refused(&entry, &reason).instrument(span).await;
                    }
                    Err(SendError::Refused { reason }) => {
                        self.refused(&entry, &reason).instrument(span).await;
                    }
                }
                if let Err(error) = outbox::delivered(&self.store, &entry) {
                    tracing::error!("the outbox cannot be written: {error}");
                    return pass;
                }
                said = true;
                pass.said = true;
            }
            if !said {
                if held_up.is_empty() && later.is_empty() {
                    pass.left = Left::Nothing;
                } else {
                    pass.left = Left::SomeRooms;
                }
                return pass;
            }
        }
    }

    async fn room_of(&self, notice: &Notice) -> Option<RoomId> {
        match notice {
            Notice::Say { post } => Some(post.room.clone()),
            Notice::Maintenance { room, .. } => Some(room.clone()),
            // Its room is only looked up when it is said; nothing else waits for that.
            Notice::BreakGlassTo { to, .. } | Notice::Steal { to, .. } => {
                Some(RoomId::new(format!("direct/{to}")))
            }
            other => Some(self.engine.state(run_of(other)?).await.ok()?.origin.room.id),
        }
    }

    async fn say(&mut self, entry: &OutboxEntry) -> Result<(), SendError> {
        let run = match run_of(&entry.notice) {
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
            (Notice::Card { .. }, Some(run)) => {
                let text = cards::card(&run, now, Place::OwnMessage);
                self.show(&run, &run.consent.card, None, text, Priority::Urgent).await?;
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
                    for ballot in run.asks.iter().map(|ask| &ask.ballot).chain([&run.consent]) {
                        self.posted.remove(&ballot.card);
                        self.posted.remove(&buttons_of(ballot));
                    }
                    self.editable.remove(&run.id);
                }
                Ok(())
            }
            (Notice::Result { id, .. }, Some(run)) => {
                self.reply(&run, id, &run.progress, progress::result(&run)).await
            }
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

    /// In the run's own room, so with the link to its page.
    async fn progress(&self, run: &RunState, now: Timestamp) -> String {
        let link = self.links.to(run.id, self.config.get().http.as_ref(), now);
        progress::with_link(progress::progress(run, &self.engine.live(run.id).await, now), link)
    }

    /// Posts a message of a run, or edits it to what is so now. `under`: in the thread of that one, unless the run
    /// was asked for in a thread itself.
    async fn show(
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
        if run.created_at < self.started_at || run.is_done() {
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
                Some(step) => format!("*{}* {}", run.id, defuse(&step.title)),
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
    async fn refused(&self, entry: &OutboxEntry, reason: &str) {
        tracing::warn!("a message was refused: {reason}");
        let Some(run) = run_of(&entry.notice) else { return };
        let Ok(run) = self.engine.state(run).await else { return };
        let text = match &entry.notice {
            Notice::Card { .. } => cards::card(&run, self.clock.now(), Place::OwnMessage),
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
            Notice::Result { .. }
            | Notice::Undecided { .. }
            | Notice::AskWhyDenied { .. }
            | Notice::BreakGlass { .. }
            | Notice::BreakGlassTo { .. }
            | Notice::Steal { .. }
            | Notice::ReviewReminder { .. }
            | Notice::Maintenance { .. }
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

    /// Reactions are followed while they can mean something.
    fn watch(&self, run: &RunState) {
        let room: &RoomId = &run.origin.room.id;
        for ballot in run.asks.iter().map(|ask| &ask.ballot).chain([&run.consent]) {
            // One that is looked at before it is said would be taken for one that was deleted.
            let said = self.posted.contains(&ballot.card) || ballot.asked_at < self.started_at;
            if run.open_ballot() != Some(ballot) {
                self.chat.unwatch(&ballot.card);
            } else if said {
                self.chat.watch(room, &ballot.card);
            }
        }
        if run.is_done() {
            self.chat.unwatch(&run.progress);
        } else if self.posted.contains(&run.progress) || run.started_at.is_some() {
            self.chat.watch(room, &run.progress);
        }
    }

    fn note_queued(&mut self, run: &RunState, text: String) {
        if let Phase::Queued { .. } = run.phase {
            self.queued.insert(run.id, text);
        } else {
            self.queued.remove(&run.id);
        }
    }

    fn next_edit(&self) -> Option<Instant> {
        self.dirty.iter().map(|run| self.editable.get(run).copied().unwrap_or_else(Instant::now)).min()
    }

    /// An edit that fails is made up for by a later one, with what is so by then.
    async fn edit_progress(&mut self) {
        if self.lease.may_act().is_err() {
            return;
        }
        let now = Instant::now();
        let due: Vec<RunId> = self
            .dirty
            .iter()
            .filter(|run| self.editable.get(run).is_none_or(|at| *at <= now))
            .copied()
            .collect();
        for id in due {
            self.dirty.remove(&id);
            let Ok(run) = self.engine.state(id).await else { continue };
            if run.is_done() {
                // Its last word went through the outbox.
                self.editable.remove(&id);
                self.queued.remove(&id);
                continue;
            }
            // By an earlier process: whatever had begun to move.
            let before = run.created_at < self.started_at && (run.started_at.is_some() || run.was_queued);
            let shown = before || self.posted.contains(&run.progress);
            if !shown || !(run.holds_locks() || run.wants_locks()) {
                continue;
            }
            let text = self.progress(&run, self.clock.now()).await;
            let mut wait = EDIT_EVERY;
            if self.queued.get(&id) == Some(&text) {
                self.editable.insert(id, Instant::now() + wait);
                continue;
            }
            let edited = self.show(&run, &run.progress, None, text.clone(), Priority::Progress).await;
            if edited.is_ok() {
                self.note_queued(&run, text);
            }
            if let Err(error) = edited {
                tracing::debug!(run.id = %id, "progress of {id} was not shown: {error}");
                if let SendError::Unavailable { retry_after, .. } = error {
                    // A run that waits moves for nobody: no other edit would ever make up for this one.
                    wait = wait.max(retry_after.unwrap_or_default());
                    self.dirty.insert(id);
                }
            }
            self.editable.insert(id, Instant::now() + wait);
        }
    }
}

fn buttons_of(ballot: &Ballot) -> MessageId {
    MessageId::new(crate::ids::derived_id(&format!("{}/buttons", ballot.card)))
}

fn run_of(notice: &Notice) -> Option<RunId> {
    match notice {
        Notice::Card { run }
        | Notice::StepCard { run, .. }
        | Notice::Progress { run }
        | Notice::Result { run, .. }
        | Notice::Question { run, .. }
        | Notice::Undecided { run, .. }
        | Notice::Void { run, .. }
        | Notice::Expired { run, .. }
        | Notice::Whole { run, .. }
        | Notice::BreakGlass { run, .. }
        | Notice::BreakGlassTo { run, .. }
        | Notice::Steal { run, .. }
        | Notice::ReviewReminder { run, .. }
        | Notice::AskWhyDenied { run, .. } => Some(*run),
        Notice::Maintenance { .. } | Notice::Say { .. } => None,
    }
}
