//! From events to acts: reads what people say and react, and hands it to who can do it.
//!
//! Commands that only read are answered side by side. Acts on runs and locks (approve, cancel, lock …) go
//! one after another, in the order in which they were said. Plans are made side by side, since looking at
//! the world takes time, and nothing is decided before the run is durable.
//!
//! Must not: be obeyed by anything but a message that the gateway hands out, once.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::{Bound, Known, Outcome, bind};
use super::builtin;
use super::dialogue::{Answer, Pending};
use super::parse::{Addressed, CommandLine, addressed};
use super::people::People;
use super::spec::{Action as SpecAction, CommandSpec};
use crate::access::{Access, Action, Authorized, Denied, Person, RateLimit};
use crate::approvals::{self, Choice, Ineligible, Via, Vote};
use crate::audit::{Audit, Event as AuditEvent, Who as AuditWho};
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::events::{Actor, Event, Inbound, Post, Reaction, Room, RoomKind, SendError};
use crate::gateway::{Chat, Ledger, Priority};
use crate::ids::{MessageId, RoleName, RunId, derived_id};
use crate::playbook::model::LockName;
use crate::playbook::plan::Planner;
use crate::playbook::steps::Pause;
use crate::runs::state::{Decision, Phase, RunState};
use crate::runs::{Consent, Engine, Objection, RunMessage, Voted};
use crate::store::{Batch, Store, StoreError, Tree};
use crate::text::{self, code, defuse};

/// To whoever asks a question.
const NO_ANSWERS: &str =
    "I take commands; answering questions is not part of me yet. `!help` lists what I can do here.";

pub struct DispatcherParts {
    pub chat: Chat,
    pub engine: Engine,
    pub ledger: Ledger,
    pub planner: Planner,
    pub config: Arc<Config>,
    pub store: Store,
    pub audit: Audit,
    pub clock: Clock,
}

/// Clones share everything.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

pub struct Shared {
    pub parts: DispatcherParts,
    pub people: People,
    pub known: Known,
    rate: Mutex<RateLimit>,
    tasks: TaskTracker,
}

impl std::ops::Deref for Dispatcher {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// A question that waits for an answer in a room, by person; one at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "dialogue", rename_all = "snake_case")]
enum Dialogue {
    /// For an argument that is missing.
    Argument { pending: Pending },
    /// Whether an old command is still meant.
    Stale { text: String, thread: MessageId, asked_at: jiff::Timestamp },
}

/// A command, bound and to be carried out. `cause` is the message that made it complete.
struct Work {
    cause: Inbound,
    line: String,
    spec: usize,
    bound: OwnedBound,
}

/// [`Bound`] without its borrow of the schema.
#[derive(Clone)]
pub struct OwnedBound {
    pub values: super::bind::Values,
    pub dry_run: bool,
    pub reason: Option<String>,
    pub canonical: String,
    pub note: Option<String>,
}

impl OwnedBound {
    pub fn of(bound: &Bound<'_>) -> Self {
        Self {
            values: bound.values.clone(),
            dry_run: bound.dry_run,
            reason: bound.reason.clone(),
            canonical: bound.canonical.clone(),
            note: bound.note(),
        }
    }
}

impl Dispatcher {
    pub fn new(parts: DispatcherParts) -> Result<Self, StoreError> {
        let people = People::new(
            parts.chat.clone(),
            parts.store.clone(),
            parts.clock.clone(),
            parts.config.access.clone(),
            parts.config.revision.clone(),
        )?;
        let known = Known::of(&parts.config.environments);
        let rate = Mutex::new(RateLimit::new(parts.config.limits.commands_per_minute));
        Ok(Self(Arc::new(Shared { parts, people, known, rate, tasks: TaskTracker::new() })))
    }

    /// Until `stop` or the gateway's end; waits for what is under way.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let (lane, acts) = mpsc::unbounded_channel();
        self.tasks.spawn(self.clone().act_in_order(acts));
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
            };
            self.event(event, &lane);
        }
        drop(lane);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Acts on runs and locks, one after another.
    async fn act_in_order(self, mut acts: mpsc::UnboundedReceiver<Act>) {
        while let Some(act) = acts.recv().await {
            match act {
                Act::Command(work) => self.carry_out(*work).await,
                Act::Reactions { message, added, removed } => self.reactions(&message, added, removed).await,
                Act::Deleted(message) => self.deleted(&message).await,
                Act::Reply(message) => self.maybe_answer(&message).await,
            }
        }
    }

    fn event(&self, event: Event, lane: &mpsc::UnboundedSender<Act>) {
        // A lane that is gone means that Houston stops: what was not done is found again at catch-up.
        let send = |act| drop(lane.send(act));
        match event {
            Event::Message(message) => self.message(message, lane),
            Event::Reactions { message, added, removed, .. } => {
                send(Act::Reactions { message, added, removed });
            }
            Event::Deleted { message, .. } => send(Act::Deleted(message)),
            Event::Edited { id, room, thread, by, text } => {
                let now = self.parts.clock.now();
                if self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(&by.id, now).is_err() {
                    return;
                }
                let dispatcher = self.clone();
                self.tasks.spawn(async move { dispatcher.edited(&id, &room, thread, &by, &text).await });
            }
            Event::Online { me } => {
                tracing::info!(user.id = %me.id, "online as {}", me.username);
                let dispatcher = self.clone();
                self.tasks.spawn(async move { dispatcher.people.pin().await });
            }
            Event::CaughtUp => tracing::info!("caught up"),
            Event::Offline { reason } => tracing::warn!("offline, trying again: {reason}"),
            Event::Joined(room) => tracing::info!(room.id = %room.id, "joined {}", room_name(&room)),
            Event::Left(room) => {
                tracing::info!(room.id = %room, "left {room}");
                let dispatcher = self.clone();
                self.tasks.spawn(async move { dispatcher.left(&room).await });
            }
            Event::Encrypted { room, by } => {
                tracing::warn!(room.id = %room.id, "{} is encrypted end to end: nothing in it can be read", room_name(&room));
                if let Some(by) = by {
                    let dispatcher = self.clone();
                    self.tasks.spawn(async move { dispatcher.encrypted(&room, &by).await });
                }
            }
        }
    }

    // ----- messages -------------------------------------------------------------------------------

    fn message(&self, message: Inbound, lane: &mpsc::UnboundedSender<Act>) {
        let dialogue = self.dialogue(&message);
        if let Some(dialogue) =
            dialogue.filter(|_| crate::secret::looks_like_a_secret(&message.text).is_none())
        {
            match self.continue_dialogue(&message, dialogue, lane) {
                Continued::Taken => return,
                Continued::NotMeant => {}
            }
        }
        let Some(me) = self.parts.chat.me() else { return };
        match addressed(&message.text, &me.username, message.room.kind, &self.parts.config.commands) {
            None => {
                // In a run's thread it may be the answer that the run waits for.
                if message.thread.is_some() {
                    drop(lane.send(Act::Reply(Box::new(message))));
                } else {
                    self.dealt_with(&message.id);
                }
            }
            Some(Addressed::Command(line)) => {
                if self.too_fast(&message) {
                    return;
                }
                // Nothing of it is kept: not in the journal, not in the audit log, not in ours.
                if let Some(what) = crate::secret::looks_like_a_secret(&message.text) {
                    let text = format!(
                        "That looks like {what}, so I did nothing with it. Delete the message and replace the secret: it is known to everybody in this room now."
                    );
                    self.answer(message, text);
                    return;
                }
                self.command(message, &line, lane);
            }
            Some(Addressed::Unknown(unknown)) => {
                if !self.too_fast(&message) {
                    self.answer(message, unknown.hint());
                }
            }
            Some(Addressed::Question(_)) => {
                if !self.too_fast(&message) {
                    self.answer(message, NO_ANSWERS.to_owned());
                }
            }
        }
    }

    fn command(&self, message: Inbound, line: &CommandLine, lane: &mpsc::UnboundedSender<Act>) {
        match bind(line, &self.parts.config.commands, &self.known) {
            Ok(Outcome::Help(spec)) => {
                let facts = Vec::new();
                self.answer(message, super::help::about(spec, &facts));
            }
            Ok(Outcome::Run(bound)) => {
                let acts = match &bound.command.action {
                    SpecAction::Builtin(name) => builtin::acts(name),
                    SpecAction::Playbook(_) => bound.command.changes && !bound.dry_run,
                };
                if acts && message.age > self.parts.config.limits.stale_after {
                    self.ask_whether_still_meant(message, &bound.canonical);
                    return;
                }
                let text = line.first_line().trim().to_owned();
                self.start(message, text, &bound, lane);
            }
            Err(error) => {
                if line.reads_like_question()
                    && !matches!(line.form, super::parse::Form::Bang | super::parse::Form::Slash)
                {
                    self.answer(message, NO_ANSWERS.to_owned());
                } else if let Some(pending) = Pending::new(&error, line, &message, self.parts.clock.now()) {
                    self.ask(&message, &Dialogue::Argument { pending: pending.clone() });
                    let thread = if message.room.kind == RoomKind::Direct {
                        message.thread.clone()
                    } else {
                        Some(pending.thread.clone())
                    };
                    self.answer_in(message, thread, pending.question());
                } else {
                    self.answer(message, error.to_string());
                }
            }
        }
    }

    fn start(&self, cause: Inbound, line: String, bound: &Bound<'_>, lane: &mpsc::UnboundedSender<Act>) {
        let Some(spec) = self.parts.config.commands.iter().position(|spec| std::ptr::eq(spec, bound.command))
        else {
            return;
        };
        let work = Work { cause, line, spec, bound: OwnedBound::of(bound) };
        let in_order = match &bound.command.action {
            SpecAction::Builtin(name) => builtin::acts(name),
            SpecAction::Playbook(_) => false,
        };
        if in_order {
            drop(lane.send(Act::Command(Box::new(work))));
        } else {
            let dispatcher = self.clone();
            self.tasks.spawn(async move { dispatcher.carry_out(work).await });
        }
    }

    async fn carry_out(&self, work: Work) {
        let Work { cause, line, spec, bound } = work;
        let spec = &self.parts.config.commands[spec];
        let note = bound.note.clone();
        let reply = match self.authorize(&cause, spec, &bound).await {
            Err(denied) => Some(denied),
            Ok(authorized) => match &spec.action {
                SpecAction::Builtin(name) => {
                    if builtin::acts(name) {
                        // Before the act, whose own sync makes both durable: after a crash it is not done twice.
                        self.dealt_with(&cause.id);
                    }
                    builtin::run(self, name, &cause, &bound, &authorized).await
                }
                SpecAction::Playbook(playbook) => {
                    super::operate::run(self, playbook, spec, &cause, &bound, &authorized).await
                }
            },
        };
        if let Some(mut text) = reply {
            if let Some(note) = note {
                text = format!("{text}\n_{note}_");
            }
            self.say(&cause, cause.thread.clone(), text).await;
        }
        self.dealt_with(&cause.id);
        // Last, since somebody waits for the answer.
        tracing::info!(
            message.id = %cause.id, room.id = %cause.room.id, user.id = %cause.by.id,
            "`{}` from {}", line, cause.by.username
        );
    }

    /// The proof, or the refusal for the room.
    async fn authorize(
        &self,
        cause: &Inbound,
        spec: &CommandSpec,
        bound: &OwnedBound,
    ) -> Result<Authorized<Action>, String> {
        let access = self.people.access();
        let free = !spec.changes && self.parts.config.access.rules.is_empty();
        let person = if free { Person::new(&cause.by, []) } else { self.people.person(&cause.by).await };
        let access = if free { access } else { self.people.access() };
        let action = action_of(spec, bound, &cause.room);
        let authorized = match bound.values.run("run") {
            Some(run) if let Ok(state) = self.parts.engine.state(run).await => {
                authorize_for(&access, &person, action, &state.plan.locks)
            }
            _ => access.authorize(&person, action),
        };
        match authorized {
            Ok(authorized) => Ok(authorized),
            Err(denied) => {
                if spec.changes {
                    let target = bound.values.text("environment").map(str::to_owned);
                    self.audit(
                        "refused",
                        &cause.by,
                        &bound.canonical,
                        target,
                        None,
                        Some(denied.rule.clone()),
                    )
                    .await;
                }
                Err(denied.to_string())
            }
        }
    }

    // ----- dialogues ------------------------------------------------------------------------------

    fn dialogue_key(message: &Inbound) -> Vec<u8> {
        format!("{}\0{}", message.room.id, message.by.id).into_bytes()
    }

    fn dialogue(&self, message: &Inbound) -> Option<Dialogue> {
        match self.parts.store.get(Tree::Dialogues, &Self::dialogue_key(message)) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("a question cannot be read: {error}");
                None
            }
        }
    }

    fn ask(&self, message: &Inbound, dialogue: &Dialogue) {
        let mut batch = Batch::new();
        batch.put(Tree::Dialogues, &Self::dialogue_key(message), dialogue);
        if let Err(error) = self.parts.store.apply(batch) {
            tracing::error!("a question cannot be kept: {error}");
        }
    }

    fn end_dialogue(&self, message: &Inbound) {
        let mut batch = Batch::new();
        batch.delete(Tree::Dialogues, &Self::dialogue_key(message));
        if let Err(error) = self.parts.store.apply(batch) {
            tracing::error!("a question cannot be forgotten: {error}");
        }
    }

    fn continue_dialogue(
        &self,
        message: &Inbound,
        dialogue: Dialogue,
        lane: &mpsc::UnboundedSender<Act>,
    ) -> Continued {
        // An answer that waited while Houston was away may be to a world that has moved on. The question
        // stays: what is that old may also have been said before it.
        if message.age > self.parts.config.limits.stale_after {
            return Continued::NotMeant;
        }
        let bot = self.parts.chat.me().map(|me| me.username).unwrap_or_default();
        match dialogue {
            Dialogue::Argument { pending } => {
                let answer = pending.answer(
                    message,
                    &bot,
                    &self.parts.config.commands,
                    &self.known,
                    self.parts.clock.now(),
                );
                match answer {
                    Answer::Unrelated => return Continued::NotMeant,
                    Answer::Expired | Answer::Cancelled => {
                        self.end_dialogue(message);
                        return Continued::NotMeant;
                    }
                    Answer::Complete(Outcome::Run(bound)) => {
                        self.end_dialogue(message);
                        self.start(message.clone(), bound.canonical.clone(), &bound, lane);
                    }
                    Answer::Complete(Outcome::Help(spec)) => {
                        self.end_dialogue(message);
                        self.answer(message.clone(), super::help::about(spec, &[]));
                    }
                    Answer::Wrong(error) => {
                        self.end_dialogue(message);
                        self.answer(message.clone(), error.to_string());
                    }
                }
            }
            Dialogue::Stale { text, thread, asked_at } => {
                let now = self.parts.clock.now();
                let age = std::time::Duration::try_from(now.duration_since(asked_at)).unwrap_or_default();
                let commands = &self.parts.config.commands;
                // Only a command that was given after the question takes its place.
                let another = !message.caught_up
                    && matches!(
                        addressed(&message.text, &bot, RoomKind::Public, commands),
                        Some(Addressed::Command(_))
                    );
                if age > super::dialogue::PATIENCE || another {
                    self.end_dialogue(message);
                    return Continued::NotMeant;
                }
                let direct = message.room.kind == RoomKind::Direct && message.thread.is_none();
                let here = direct || message.thread.as_ref() == Some(&thread);
                let said = message.text.trim().trim_end_matches(['.', '!']).to_lowercase();
                if !here || !matches!(said.as_str(), "yes" | "y" | "no" | "n") {
                    return Continued::NotMeant;
                }
                self.end_dialogue(message);
                if said.starts_with('n') {
                    self.answer(message.clone(), "Left alone.".to_owned());
                } else {
                    let line = super::parse::command_line(&text);
                    self.command(message.clone(), &line, lane);
                }
            }
        }
        Continued::Taken
    }

    /// A command that waited while Houston was away is not run without asking.
    fn ask_whether_still_meant(&self, message: Inbound, canonical: &str) {
        let thread = message.thread.clone().unwrap_or_else(|| message.id.clone());
        let text = format!(
            "You asked for {} {} ago, when I was away. Is it still meant? Answer `yes` or `no` here, or send it again.",
            code(canonical),
            text::duration(message.age)
        );
        let dialogue = Dialogue::Stale {
            text: canonical.to_owned(),
            thread: thread.clone(),
            asked_at: self.parts.clock.now(),
        };
        self.ask(&message, &dialogue);
        let thread =
            if message.room.kind == RoomKind::Direct { message.thread.clone() } else { Some(thread) };
        self.answer_in(message, thread, text);
    }

    /// Something unaddressed in a thread: the answer that a run waits for, or a denier's reason.
    async fn maybe_answer(&self, message: &Inbound) {
        self.answer_run(message).await;
        self.dealt_with(&message.id);
    }

    async fn answer_run(&self, message: &Inbound) {
        let engine = &self.parts.engine;
        let Some(thread) = &message.thread else { return };
        if crate::secret::looks_like_a_secret(&message.text).is_some() {
            return;
        }
        // A run that was asked for in a thread asks there, since Rocket.Chat has no threads within threads.
        let of_thread = async || {
            let open = engine.open_runs().await;
            let asks =
                |run: &&RunState| matches!(&run.phase, Phase::Waiting { pause: Pause::Answer { .. }, .. });
            open.iter().filter(asks).find(|run| run.origin.thread.as_ref() == Some(thread)).map(|run| run.id)
        };
        let asking = match engine.run_of_message(thread).await {
            Some((run, RunMessage::Progress)) => Some(run),
            _ => of_thread().await,
        };
        if let Some(run) = asking {
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
            let roles = self.people.roles(&person);
            let action = Action {
                command: state.plan.command_name.clone(),
                changes: true,
                arguments: std::collections::BTreeMap::new(),
                room: message.room.clone(),
            };
            let may = if from.is_empty() {
                authorize_for(&self.people.access(), &person, action, &state.plan.locks).is_ok()
            } else {
                from.iter().any(|role| roles.contains(role))
            };
            if !may && self.too_fast(message) {
                return;
            }
            if !may {
                let who: Vec<&str> = from.iter().map(crate::ids::RoleName::as_str).collect();
                let who = if who.is_empty() { "an operator or lead".to_owned() } else { who.join(" or ") };
                self.say(message, message.thread.clone(), format!("That question is for {who}.")).await;
                return;
            }
            let answer = choice.cloned().unwrap_or_else(|| said.to_owned());
            if let Err(error) = engine.answer(run, &message.by, answer).await {
                self.say(message, message.thread.clone(), error.to_string()).await;
            }
            return;
        }
        // A denial is the end of its run, so the run is looked up by its card among the latest.
        let Ok(latest) = engine.list(50) else { return };
        let now = self.parts.clock.now();
        let lately = |header: &&crate::runs::journal::Header| {
            let ended = header.ended_at.unwrap_or(header.created_at);
            header.state == "denied" && now.duration_since(ended) < jiff::SignedDuration::from_mins(10)
        };
        for header in latest.iter().filter(lately) {
            let Ok(state) = engine.state(header.run).await else { continue };
            if let Some(Decision::Denied { by, reason: None, .. }) = &state.decision
                && by.id == message.by.id
                && (state.card == *thread || state.origin.thread.as_ref() == Some(thread))
            {
                let reason = text::ellipsis(message.text.trim(), 300).into_owned();
                if let Err(error) = engine.explain_denial(header.run, reason).await {
                    tracing::warn!(run.id = %header.run, "the reason was not kept: {error}");
                }
                return;
            }
        }
    }

    // ----- reactions, edits, deletions ------------------------------------------------------------

    async fn reactions(&self, message: &MessageId, added: Vec<Reaction>, removed: Vec<Reaction>) {
        let Some((run, which)) = self.parts.engine.run_of_message(message).await else { return };
        match which {
            RunMessage::Card => {
                for reaction in removed {
                    self.reaction_vanished(run, message, &reaction).await;
                }
                for reaction in added {
                    if let Some(choice) = approvals::reading(&reaction.emoji) {
                        self.vote_by_reaction(run, &reaction, choice).await;
                    }
                }
            }
            RunMessage::Progress => {
                for reaction in added.iter().filter(|reaction| approvals::asks_to_cancel(&reaction.emoji)) {
                    self.cancel_by_reaction(run, &reaction.by).await;
                }
            }
        }
    }

    async fn vote_by_reaction(&self, run: RunId, reaction: &Reaction, choice: Choice) {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        // Told again after a restart or a re-read: it counts already.
        if state.votes.get(&reaction.by.id).is_some_and(|vote| vote.choice == choice) {
            return;
        }
        self.look_at_votes_again(run).await;
        let person = self.people.person(&reaction.by).await;
        // The same rules as for the words: whoever may not say `approve` may not show it either.
        let command = if choice == Choice::Approve { "approve" } else { "deny" };
        let arguments = [("run".to_owned(), run.to_string())].into_iter().collect();
        let action = Action {
            command: command.to_owned(),
            changes: false,
            arguments,
            room: state.origin.room.clone(),
        };
        if let Err(denied) = authorize_for(&self.people.access(), &person, action, &state.plan.locks) {
            let id = derived_id(&format!("ineligible/{run}/{}", reaction.by.id)).into();
            self.under_card(run, id, denied.to_string()).await;
            return;
        }
        let vote = Vote {
            by: reaction.by.clone(),
            choice,
            via: Via::Reaction(reaction.emoji.clone()),
            roles: self.people.roles(&person),
            at: self.parts.clock.now(),
        };
        match engine.vote(run, vote, None).await {
            Ok(Voted::Ineligible { why, first: true }) => {
                let text = format!("@{} {}", reaction.by.username, ineligible(run, &why));
                let id = derived_id(&format!("ineligible/{run}/{}", reaction.by.id)).into();
                self.under_card(run, id, text).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(run.id = %run, "a vote was not taken: {error}"),
        }
    }

    /// What of a run's consent stands no more: a reaction that is gone, a person who left or lost a role,
    /// a requester who may not ask for this any more.
    async fn consent_of(&self, run: &RunState) -> Result<Vec<Objection>, String> {
        let Some(policy) = &run.plan.approval else { return Ok(Vec::new()) };
        let chat = &self.parts.chat;
        let by_reaction = |vote: &&Vote| matches!(vote.via, Via::Reaction(_));
        let standing = if run.votes.values().any(|vote| by_reaction(&vote)) {
            match chat.reactions(&run.card).await {
                Ok(standing) => standing,
                // Deleted, or in a room that Houston has left: what it cannot see stands no more.
                Err(SendError::Refused { .. }) => Vec::new(),
                Err(error) => return Err(error.to_string()),
            }
        } else {
            Vec::new()
        };
        let mut objections = Vec::new();
        for vote in run.votes.values().filter(|vote| vote.choice == Choice::Approve) {
            let vanished = by_reaction(&vote)
                && !standing.iter().any(|reaction| {
                    reaction.by.id == vote.by.id
                        && approvals::reading(&reaction.emoji) == Some(Choice::Approve)
                });
            let roles = self.roles_now(&vote.by).await?;
            if vanished || approvals::may_vote(policy, &run.by.id, &vote.by.id, &roles).is_err() {
                objections.push(Objection::Vote { by: vote.by.clone(), vanished });
            }
        }
        let gone = !self.is_active(&run.by).await?;
        let person = self.people.person(&run.by).await;
        let action = Action {
            command: run.plan.command_name.clone(),
            changes: true,
            arguments: std::collections::BTreeMap::new(),
            room: run.origin.room.clone(),
        };
        match authorize_for(&self.people.access(), &person, action, &run.plan.locks) {
            Ok(_) if !gone => {}
            Ok(_) => objections.push(Objection::Requester("the account is not active".to_owned())),
            Err(denied) => objections.push(Objection::Requester(denied.rule.clone())),
        }
        Ok(objections)
    }

    async fn is_active(&self, who: &Actor) -> Result<bool, String> {
        let found = self.parts.chat.user(crate::gateway::Who::Id(&who.id)).await;
        found.map(|user| user.is_some_and(|user| user.active)).map_err(|error| error.to_string())
    }

    /// None for somebody who is gone.
    async fn roles_now(&self, who: &Actor) -> Result<Vec<RoleName>, String> {
        if !self.is_active(who).await? {
            return Ok(Vec::new());
        }
        let person = self.people.person(who).await;
        Ok(self.people.roles(&person))
    }

    /// Who gave a vote earlier may have left or lost the role since; before another vote is counted with it,
    /// it is looked at again.
    pub async fn look_at_votes_again(&self, run: RunId) {
        let Ok(state) = self.parts.engine.state(run).await else { return };
        let Some(policy) = &state.plan.approval else { return };
        for vote in state.votes.values().filter(|vote| vote.choice == Choice::Approve) {
            // Who cannot be looked up now keeps the vote that was checked when it was given; it is looked at
            // again before the start.
            let Ok(roles) = self.roles_now(&vote.by).await else { continue };
            if approvals::may_vote(policy, &state.by.id, &vote.by.id, &roles).is_err()
                && let Err(error) = self.parts.engine.withdraw(run, &vote.by, false).await
            {
                tracing::warn!(run.id = %run, "a vote that counts no more was not taken back: {error}");
            }
        }
    }

    /// A name that is gone from the reactions does not count any more, unless the same person still says
    /// the same with another one.
    async fn reaction_vanished(&self, run: RunId, message: &MessageId, gone: &Reaction) {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        let Some(vote) = state.votes.get(&gone.by.id) else { return };
        // Whichever of several reactions it was that counted: what matters is whether one still stands.
        let by_reaction = matches!(vote.via, Via::Reaction(_));
        if !by_reaction || approvals::reading(&gone.emoji) != Some(vote.choice) {
            return;
        }
        if let Ok(now) = self.parts.chat.reactions(message).await {
            let still = now.iter().any(|reaction| {
                reaction.by.id == gone.by.id && approvals::reading(&reaction.emoji) == Some(vote.choice)
            });
            if still {
                return;
            }
        }
        if let Err(error) = engine.withdraw(run, &gone.by, true).await {
            tracing::debug!(run.id = %run, "nothing to withdraw: {error}");
        }
    }

    async fn cancel_by_reaction(&self, run: RunId, by: &Actor) {
        let Some(spec) = self.parts.config.commands.iter().find(|spec| spec.name == "cancel") else { return };
        let Ok(state) = self.parts.engine.state(run).await else { return };
        if state.cancel.is_some() {
            return;
        }
        let person = self.people.person(by).await;
        let arguments = [("run".to_owned(), run.to_string())].into_iter().collect();
        let action =
            Action { command: spec.name.clone(), changes: true, arguments, room: state.origin.room.clone() };
        let text = match authorize_for(&self.people.access(), &person, action, &state.plan.locks) {
            Ok(_) => match self.parts.engine.cancel(run, by).await {
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
            Err(denied) => denied.to_string(),
        };
        let id = derived_id(&format!("cancel/{run}/{}", by.id)).into();
        let post = Post {
            id,
            room: state.origin.room.id.clone(),
            thread: Some(state.origin.thread.clone().unwrap_or(state.progress)),
            text,
        };
        self.post(post).await;
    }

    async fn deleted(&self, message: &MessageId) {
        let Some((run, RunMessage::Card)) = self.parts.engine.run_of_message(message).await else { return };
        let Ok(state) = self.parts.engine.state(run).await else { return };
        if matches!(state.phase, Phase::Deciding { .. })
            && let Err(error) = self.parts.engine.replace_card(run).await
        {
            tracing::warn!(run.id = %run, "the deleted card of {run} was not replaced: {error}");
        }
    }

    /// Whoever speaks in an encrypted room is told, in a direct message, that nothing of it arrives.
    async fn encrypted(&self, room: &Room, by: &Actor) {
        let text = format!(
            "{} is encrypted end to end, so I can read nothing of what is said there. Give me commands in another room, or here.",
            room_name(room)
        );
        self.tell(by, &format!("encrypted/{}/{}", room.id, by.id), text).await;
    }

    /// Whoever waits for an approval in a room that Houston is no longer in hears how it goes on.
    async fn left(&self, room: &crate::ids::RoomId) {
        for run in self.parts.engine.open_runs().await {
            if run.origin.room.id == *room && !run.is_done() {
                let text = format!(
                    "I am no longer in the room where you asked for {} {}. {} Say `!show {}` here or in another room to follow it.",
                    run.id,
                    code(&run.plan.command),
                    match run.phase {
                        Phase::Deciding { .. } =>
                            format!("It can still be approved by text in any room: `!approve {}`.", run.id),
                        _ => "It goes on.".to_owned(),
                    },
                    run.id
                );
                self.tell(&run.by, &format!("left/{room}/{}", run.id), text).await;
            }
        }
    }

    /// In a direct message, once per `seed`.
    async fn tell(&self, who: &Actor, seed: &str, text: String) {
        match self.parts.chat.direct(&who.id).await {
            Ok(room) => self.post(Post { id: derived_id(seed).into(), room, thread: None, text }).await,
            Err(error) => tracing::warn!(user.id = %who.id, "{} was not told: {error}", who.username),
        }
    }

    /// An edit never executes; who edits a command is told so.
    async fn edited(&self, id: &MessageId, room: &Room, thread: Option<MessageId>, by: &Actor, new: &str) {
        let Some(me) = self.parts.chat.me() else { return };
        let Some(Addressed::Command(_)) =
            addressed(new, &me.username, room.kind, &self.parts.config.commands)
        else {
            return;
        };
        let text = format!(
            "@{} edits are never carried out; what you sent first is what counts. Send it as a new message.",
            by.username
        );
        let thread = thread.or_else(|| (room.kind != RoomKind::Direct).then(|| id.clone()));
        let id = derived_id(&format!("edited/{id}")).into();
        self.post(Post { id, room: room.id.clone(), thread, text }).await;
    }

    // ----- saying ---------------------------------------------------------------------------------

    /// Answers without waiting, then marks the message as dealt with.
    fn answer(&self, message: Inbound, text: String) {
        let thread = message.thread.clone();
        self.answer_in(message, thread, text);
    }

    fn answer_in(&self, message: Inbound, thread: Option<MessageId>, text: String) {
        let dispatcher = self.clone();
        self.tasks.spawn(async move {
            dispatcher.say(&message, thread, text).await;
            dispatcher.dealt_with(&message.id);
        });
    }

    /// The one answer to a message: said again after a crash, it is still one.
    pub async fn say(&self, cause: &Inbound, thread: Option<MessageId>, text: String) {
        let id = derived_id(&format!("reply/{}", cause.id)).into();
        self.post(Post { id, room: cause.room.id.clone(), thread, text }).await;
    }

    async fn under_card(&self, run: RunId, id: MessageId, text: String) {
        let Ok(state) = self.parts.engine.state(run).await else { return };
        let thread = state.origin.thread.clone().unwrap_or(state.card);
        self.post(Post { id, room: state.origin.room.id.clone(), thread: Some(thread), text }).await;
    }

    async fn post(&self, post: Post) {
        if let Err(error) = self.parts.chat.post(post, Priority::Urgent).await {
            tracing::warn!("an answer was not said: {error}");
        }
    }

    pub fn dealt_with(&self, id: &MessageId) {
        if let Err(error) = self.parts.ledger.mark_read_only(id) {
            tracing::error!("the ledger cannot be written: {error}");
        }
    }

    fn too_fast(&self, message: &Inbound) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(slow_down) = rate.take(&message.by.id, self.parts.clock.now()) else { return false };
        drop(rate);
        if slow_down.tell {
            let text = format!(
                "That is more than {} commands a minute; I listen again in {}.",
                self.parts.config.limits.commands_per_minute,
                text::duration(slow_down.retry_after)
            );
            self.answer(message.clone(), text);
        } else {
            self.dealt_with(&message.id);
        }
        true
    }

    /// Into the audit log; what cannot be written is said loudly.
    pub async fn audit(
        &self,
        action: &str,
        by: &Actor,
        command: &str,
        target: Option<String>,
        run: Option<RunId>,
        result: Option<String>,
    ) {
        let event = AuditEvent {
            who: AuditWho { id: by.id.clone(), name: by.username.clone() },
            action: action.to_owned(),
            command: command.to_owned(),
            target,
            run,
            approval: None,
            result,
        };
        if let Err(error) = self.parts.audit.append(&self.parts.clock, event).await {
            tracing::error!("the audit log cannot be written: {error}");
        }
    }
}

/// An action on a run is one on everything that the run changes: each service has to be allowed.
pub fn authorize_for(
    access: &Access,
    person: &Person,
    action: Action,
    locks: &[LockName],
) -> Result<Authorized<Action>, Box<Denied>> {
    let mut last = None;
    for lock in locks {
        let mut action = action.clone();
        action.arguments.insert("environment".into(), lock.environment.to_string());
        if let Some(service) = &lock.service {
            action.arguments.insert("service".into(), service.to_string());
        }
        last = Some(access.authorize(person, action)?);
    }
    match last {
        Some(authorized) => Ok(authorized),
        None => access.authorize(person, action),
    }
}

impl Consent for Dispatcher {
    fn look_again<'a>(&'a self, run: &'a RunState) -> BoxFuture<'a, Result<Vec<Objection>, String>> {
        Box::pin(self.consent_of(run))
    }
}

enum Act {
    Command(Box<Work>),
    Reactions { message: MessageId, added: Vec<Reaction>, removed: Vec<Reaction> },
    Deleted(MessageId),
    Reply(Box<Inbound>),
}

enum Continued {
    Taken,
    NotMeant,
}

/// As [`Action::of`], for a bound command that outlived its borrow of the schema.
fn action_of(spec: &CommandSpec, bound: &OwnedBound, room: &Room) -> Action {
    let bound = Bound {
        command: spec,
        values: bound.values.clone(),
        dry_run: bound.dry_run,
        reason: bound.reason.clone(),
        canonical: bound.canonical.clone(),
        further_lines: 0,
    };
    Action::of(&bound, room)
}

/// Why a vote does not count, for the one who gave it.
pub fn ineligible(run: RunId, why: &Ineligible) -> String {
    match why {
        Ineligible::OwnRequest => {
            format!("you asked for {run} yourself: somebody else has to approve it.")
        }
        Ineligible::NoRole(roles) => {
            let roles: Vec<&str> = roles.iter().map(crate::ids::RoleName::as_str).collect();
            format!(
                "your vote on {run} does not count: it takes {}. `!whoami` shows your roles.",
                text::or_list(&roles)
            )
        }
    }
}

fn room_name(room: &Room) -> String {
    match &room.name {
        Some(name) => format!("#{}", defuse(name)),
        None => format!("room {}", room.id),
    }
}
