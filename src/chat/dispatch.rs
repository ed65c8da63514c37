//! From events to acts: reads what people say and react, and hands it to who can do it.
//!
//! Commands that only read are answered side by side. Acts on runs and locks (approve, cancel, lock …) go
//! one after another, in the order in which they were said. Plans are made side by side, since looking at
//! the world takes time, and nothing is decided before the run is durable.
//!
//! Must not: be obeyed by anything but a message that the gateway hands out, once.

mod answers;
mod begun;
mod dialogues;
mod votes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use self::dialogues::Continued;
pub use self::votes::ineligible;
use super::bind::{Bound, Known, Outcome, bind};
use super::builtin;
use super::dialogue::Pending;
use super::parse::{Addressed, CommandLine, addressed, too_long};
use super::people::People;
use super::reload::Reloads;
use crate::access::{Access, Action, Authorized, Denied, Person, RateLimit};
use crate::audit::{Audit, Event as AuditEvent, Who as AuditWho};
use crate::clock::Clock;
use crate::command::{Action as SpecAction, CommandSpec};
use crate::config::{Config, Current};
use crate::gateway::events::{Actor, Event, Inbound, Post, Reaction, Room, RoomKind, SendError};
use crate::gateway::{Chat, Ledger, Priority};
use crate::ids::{EnvName, MessageId, RoomId, RunId, derived_id};
use crate::lease::Lease;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::playbook::model::LockName;
use crate::playbook::plan::Planner;
use crate::playbook::steps::{Kinds, World};
use crate::runs::maintenance::Maintenance;
use crate::runs::state::Phase;
use crate::runs::{Engine, restored};
use crate::secret::Redactor;
use crate::store::{Store, StoreError};
use crate::text::{self, defuse, typed};
use crate::trace;

/// Pauses before an answer is tried again at once: most of what goes wrong on a line is over by then.
const AT_ONCE_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1)];

/// To whoever asks a question.
const NO_ANSWERS: &str =
    "I take commands; answering questions is not part of me yet. `!help` lists what I can do here.";

/// The world as a configuration describes it.
pub type Worlds = Arc<dyn Fn(Arc<Config>) -> Arc<dyn World> + Send + Sync>;

pub struct DispatcherParts {
    pub chat: Chat,
    pub engine: Engine,
    pub ledger: Ledger,
    pub config: Current,
    pub kinds: Kinds,
    pub worlds: Worlds,
    pub store: Store,
    pub audit: Audit,
    pub clock: Clock,
    pub redactor: Redactor,
    pub metrics: Metrics,
    /// To pages of runs.
    pub links: Links,
    pub lease: Lease,
}

/// Clones share everything.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

pub struct Shared {
    pub parts: DispatcherParts,
    pub people: People,
    rate: Mutex<RateLimit>,
    pub(super) reloads: Reloads,
    /// Acts of earlier processes that nobody was told the outcome of.
    left: Mutex<Vec<begun::Begun>>,
    /// When the store was brought back from an export, if ever.
    restored_at: Option<Timestamp>,
    tasks: TaskTracker,
}

impl std::ops::Deref for Dispatcher {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// A command, bound and to be carried out under the configuration that it was bound with. `cause` is the
/// message that made it complete.
struct Work {
    config: Arc<Config>,
    cause: Inbound,
    line: String,
    spec: usize,
    bound: OwnedBound,
    /// When it was understood.
    since: Instant,
}

/// [`Bound`] without its borrow of the schema.
#[derive(Clone)]
pub struct OwnedBound {
    pub values: super::bind::Values,
    pub dry_run: bool,
    pub reason: Option<String>,
    pub break_glass: Option<String>,
    pub canonical: String,
    pub note: Option<String>,
}

impl OwnedBound {
    pub fn of(bound: &Bound<'_>) -> Self {
        Self {
            values: bound.values.clone(),
            dry_run: bound.dry_run,
            reason: bound.reason.clone(),
            break_glass: bound.break_glass.clone(),
            canonical: bound.canonical.clone(),
            note: bound.note(),
        }
    }
}

impl Dispatcher {
    pub fn new(parts: DispatcherParts) -> Result<Self, StoreError> {
        let config = parts.config.get();
        let people = People::new(
            parts.chat.clone(),
            parts.store.clone(),
            parts.clock.clone(),
            config.access.clone(),
            config.names_revision(),
        )?;
        let rate = Mutex::new(RateLimit::new(config.limits.commands_per_minute));
        let left = Mutex::new(begun::left(&parts.store)?);
        let restored_at = restored::at(&parts.store)?;
        Ok(Self(Arc::new(Shared {
            parts,
            people,
            rate,
            reloads: Reloads::default(),
            left,
            restored_at,
            tasks: TaskTracker::new(),
        })))
    }

    /// The configuration in force now. A command is carried out under the one that it was bound with.
    pub fn config(&self) -> Arc<Config> {
        self.parts.config.get()
    }

    pub async fn maintenance_of(&self, environment: Option<&EnvName>) -> Vec<Maintenance> {
        match environment {
            Some(name) => self.parts.engine.maintenance_of(name).await,
            None => Vec::new(),
        }
    }

    /// From now on for everybody.
    pub(super) fn limit(&self, per_minute: u32) {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner) = RateLimit::new(per_minute);
    }

    /// Beside everything else, about the same as the caller; waited for at the end.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work.in_current_span());
    }

    pub fn world(&self, config: &Arc<Config>) -> Arc<dyn World> {
        (self.parts.worlds)(Arc::clone(config))
    }

    pub fn planner(&self, config: &Arc<Config>) -> Planner {
        Planner {
            kinds: Arc::clone(&self.parts.kinds),
            world: self.world(config),
            clock: self.parts.clock.clone(),
            redactor: self.parts.redactor.clone(),
        }
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
    async fn act_in_order(self, mut acts: mpsc::UnboundedReceiver<InSpan>) {
        while let Some((span, act)) = acts.recv().await {
            self.act(act).instrument(span).await;
        }
    }

    async fn act(&self, act: Act) {
        match act {
            Act::Command(work) => self.carry_out(*work).await,
            Act::Reactions { message, room, added, removed } => {
                self.reactions(&message, &room, added, removed).await;
            }
            Act::Deleted(message) => self.deleted(&message).await,
            Act::Reply(message) => self.maybe_answer(&message).await,
        }
    }

    fn event(&self, event: Event, lane: &Lane) {
        let _inside = span_of(&event).entered();
        // A lane that is gone means that Houston stops: what was not done is found again at catch-up.
        let send = |act| drop(lane.send((Span::current(), act)));
        match event {
            Event::Message(message) => self.message(message, lane),
            Event::Reactions { message, room, added, removed } => {
                send(Act::Reactions { message, room, added, removed });
            }
            Event::Deleted { message, .. } => send(Act::Deleted(message)),
            Event::Edited { id, room, thread, by, text } => {
                let now = self.parts.clock.now();
                if self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(&by.id, now).is_err() {
                    return;
                }
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.edited(&id, &room, thread, &by, &text).await });
            }
            Event::Online { me } => {
                tracing::info!(user.id = %me.id, "online as {}", me.username);
                let dispatcher = self.clone();
                self.spawn(async move {
                    dispatcher.people.pin().await;
                    dispatcher.tell_leads().await;
                });
            }
            Event::CaughtUp => {
                tracing::info!("caught up");
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.tell_of_the_begun().await });
            }
            Event::Offline { reason, rejected: false } => tracing::warn!("offline, trying again: {reason}"),
            Event::Offline { reason, rejected: true } => {
                tracing::error!(
                    "{reason}. Houston takes a new one when its file changes, or by `houston reload`; `houston doctor` says what is wrong"
                );
            }
            Event::Joined(room) => tracing::info!(room.id = %room.id, "joined {}", room_name(&room)),
            Event::Left(room) => {
                tracing::info!(room.id = %room, "left {room}");
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.left(&room).await });
            }
            Event::Encrypted { room, by } => {
                tracing::warn!(room.id = %room.id, "{} is encrypted end to end: nothing in it can be read", room_name(&room));
                if let Some(by) = by {
                    let dispatcher = self.clone();
                    self.spawn(async move { dispatcher.encrypted(&room, &by).await });
                }
            }
        }
    }

    // ----- messages -------------------------------------------------------------------------------

    fn message(&self, message: Inbound, lane: &Lane) {
        if let Continued::Taken = self.continue_dialogue(&message, lane) {
            return;
        }
        let Some(me) = self.parts.chat.me() else { return };
        let addressed = addressed(&message.text, &me.username, message.room.kind, &self.config().commands);
        self.parts.metrics.heard(match &addressed {
            None => "others",
            Some(Addressed::Command(_)) => "command",
            Some(Addressed::Unknown(_)) => "unknown",
            Some(Addressed::Question(_)) => "question",
        });
        match addressed {
            None => {
                // In a run's thread it may be the answer that the run waits for.
                if message.thread.is_some() {
                    drop(lane.send((Span::current(), Act::Reply(Box::new(message)))));
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

    fn command(&self, message: Inbound, line: &CommandLine, lane: &Lane) {
        if let Some(text) = too_long(&line.text) {
            self.answer(message, text);
            return;
        }
        let config = self.config();
        match bind(line, &config.commands, &Known::of(&config.environments)) {
            Ok(Outcome::Help(spec)) => {
                let about = super::help::about(spec, super::help::prefix(message.room.kind), &[]);
                self.answer(message, about);
            }
            Ok(Outcome::Run(bound)) => {
                let acts = match &bound.command.action {
                    SpecAction::Builtin(name) => builtin::acts(name),
                    SpecAction::Playbook(_) => bound.command.changes && !bound.dry_run,
                };
                if acts && (message.age > config.limits.stale_after || self.was_before_restored(&message)) {
                    self.ask_whether_still_meant(&message, &bound.canonical);
                    return;
                }
                let text = line.first_line().trim().to_owned();
                self.start(&config, message, text, &bound, lane);
            }
            Err(error) => {
                if line.reads_like_question()
                    && !matches!(line.form, super::parse::Form::Bang | super::parse::Form::Slash)
                {
                    self.answer(message, NO_ANSWERS.to_owned());
                } else if let Some(pending) = Pending::new(&error, line, &message, self.parts.clock.now()) {
                    self.ask_for_argument(&message, pending);
                } else {
                    self.answer(message, error.to_string());
                }
            }
        }
    }

    /// The store that knew whether it was obeyed is gone.
    fn was_before_restored(&self, message: &Inbound) -> bool {
        let said_at = self.parts.clock.now().checked_sub(message.age).unwrap_or(Timestamp::MIN);
        self.restored_at.is_some_and(|restored| said_at <= restored)
    }

    fn start(&self, config: &Arc<Config>, cause: Inbound, line: String, bound: &Bound<'_>, lane: &Lane) {
        let Some(spec) = config.commands.iter().position(|spec| std::ptr::eq(spec, bound.command)) else {
            return;
        };
        let work = Work {
            config: Arc::clone(config),
            cause,
            line,
            spec,
            bound: OwnedBound::of(bound),
            since: Instant::now(),
        };
        let in_order = match &bound.command.action {
            SpecAction::Builtin(name) => builtin::acts(name),
            SpecAction::Playbook(_) => false,
        };
        if in_order {
            drop(lane.send((Span::current(), Act::Command(Box::new(work)))));
        } else {
            let dispatcher = self.clone();
            self.spawn(async move { dispatcher.carry_out(work).await });
        }
    }

    async fn carry_out(&self, work: Work) {
        let command = trace::command(&work.config.commands[work.spec].name, work.cause.cause());
        self.carry_out_inside(work).instrument(command).await;
    }

    async fn carry_out_inside(&self, work: Work) {
        let Work { config, cause, line, spec, bound, since } = work;
        let spec = &config.commands[spec];
        if let Some(run) = bound.values.run("run") {
            trace::about(run);
        }
        let note = bound.note.clone();
        let mut outcome = "answered";
        let mut acts = false;
        let reply = match self.authorize(&config, &cause, spec, &bound).await {
            Err(denied) => {
                outcome = "refused";
                Some(denied)
            }
            Ok(_) if let Some(idle) = self.may_not_act(spec, &bound) => {
                outcome = "refused";
                // Under an id of its own: the Houston that acts may answer the same message.
                let id = derived_id(&format!("idle/{}", cause.id)).into();
                let (room, thread) = (cause.room.id.clone(), cause.thread.clone());
                self.post(Post { id, room, thread, text: idle }).await;
                None
            }
            Ok(authorized) => match &spec.action {
                SpecAction::Builtin(name) => {
                    acts = builtin::acts(name) && !bound.dry_run;
                    // Before the act: after a crash it is not done twice, and not left without a word.
                    match if acts { self.begin(&cause, &bound).await } else { Ok(()) } {
                        Ok(()) => builtin::run(self, &config, name, &cause, &bound, &authorized).await,
                        Err(not_begun) => Some(not_begun),
                    }
                }
                SpecAction::Playbook(playbook) => {
                    super::operate::run(self, &config, playbook, spec, &cause, &bound, &authorized).await
                }
            },
        };
        if let Some(mut text) = reply {
            if let Some(note) = note {
                text = format!("{text}\n_{note}_");
            }
            self.say(&cause, cause.thread.clone(), text).await;
        }
        if acts {
            self.answered(&cause.id);
        }
        self.dealt_with(&cause.id);
        self.parts.metrics.command(&spec.name, outcome, since.elapsed());
        // Last, since somebody waits for the answer.
        tracing::info!("`{line}` from {}", cause.by.username);
    }

    /// Why nothing that acts is taken now. What only reads is answered: twice is no harm, and whoever looks for what
    /// is wrong needs it.
    fn may_not_act(&self, spec: &CommandSpec, bound: &OwnedBound) -> Option<String> {
        let acts = match &spec.action {
            SpecAction::Builtin(name) => builtin::acts(name),
            SpecAction::Playbook(_) => true,
        };
        let why = self.parts.lease.may_act().err().filter(|_| acts && !bound.dry_run)?;
        Some(format!(
            ":no_entry_sign: I did nothing with {}: {}.\nI answer what only reads, such as `!status`. Where it is certain that no other Houston runs, `lease: {{enabled: false}}` in `houston.yaml` and a restart let me act without a lease.",
            typed(&bound.canonical),
            defuse(&why.to_string())
        ))
    }

    /// The proof, or the refusal for the room.
    async fn authorize(
        &self,
        config: &Config,
        cause: &Inbound,
        spec: &CommandSpec,
        bound: &OwnedBound,
    ) -> Result<Authorized<Action>, String> {
        let access = self.people.access();
        let free = !spec.changes && config.access.rules.is_empty();
        let person = if free { Person::new(&cause.by, []) } else { self.people.person(&cause.by).await };
        let access = if free { access } else { self.people.access() };
        let action = Action::of(spec, bound.values.as_typed(), &cause.room);
        let authorized = match bound.values.run("run") {
            Some(run) if let Ok(state) = self.parts.engine.state(run).await => {
                authorize_for(&access, &person, action, &state.plan.concerns())
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

    /// Whoever speaks in an encrypted room is told, in a direct message, that nothing of it arrives.
    async fn encrypted(&self, room: &Room, by: &Actor) {
        let text = format!(
            "{} is encrypted end to end, so I can read nothing of what is said there. Give me commands in another room, or here.",
            room_name(room)
        );
        self.tell(by, &format!("encrypted/{}/{}", room.id, by.id), text).await;
    }

    /// Whoever waits for an approval in a room that Houston is no longer in hears how it goes on.
    async fn left(&self, room: &RoomId) {
        for run in self.parts.engine.open_runs().await {
            if run.origin.room.id == *room && !run.is_done() {
                let text = format!(
                    "I am no longer in the room where you asked for {} {}. {} Say `!show {}` here or in another room to follow it.",
                    run.id,
                    typed(&run.plan.command),
                    match run.phase {
                        Phase::Deciding { .. } | Phase::Asking { .. } =>
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
    pub(super) async fn tell(&self, who: &Actor, seed: &str, text: String) {
        match self.parts.chat.direct(&who.id).await {
            Ok(room) => self.post(Post { id: derived_id(seed).into(), room, thread: None, text }).await,
            Err(error) => tracing::warn!(user.id = %who.id, "{} was not told: {error}", who.username),
        }
    }

    /// An edit never executes; who edits a command is told so.
    async fn edited(&self, id: &MessageId, room: &Room, thread: Option<MessageId>, by: &Actor, new: &str) {
        let Some(me) = self.parts.chat.me() else { return };
        let Some(Addressed::Command(_)) = addressed(new, &me.username, room.kind, &self.config().commands)
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
        self.spawn(async move {
            dispatcher.say(&message, thread, text).await;
            dispatcher.dealt_with(&message.id);
        });
    }

    /// The one answer to a message: said again after a crash, it is still one.
    pub async fn say(&self, cause: &Inbound, thread: Option<MessageId>, text: String) {
        let id = derived_id(&format!("reply/{}", cause.id)).into();
        self.post(Post { id, room: cause.room.id.clone(), thread, text }).await;
    }

    /// What the server does not take now is tried again in a moment, and then left to whoever says what runs
    /// have to say: late, but also by the next process. The id stays the same.
    async fn post(&self, post: Post) {
        let mut pauses = AT_ONCE_AGAIN.into_iter();
        let reason = loop {
            match self.parts.chat.post(post.clone(), Priority::Urgent).await {
                Ok(()) => return,
                Err(SendError::Refused { reason }) => {
                    tracing::warn!("an answer was refused: {reason}");
                    return;
                }
                Err(SendError::Unavailable { reason, retry_after }) => match pauses.next() {
                    Some(pause) if retry_after.is_none() => tokio::time::sleep(pause).await,
                    _ => break reason,
                },
            }
        };
        tracing::debug!("an answer is said later: {reason}");
        if let Err(error) = self.parts.engine.say(post).await {
            tracing::error!("an answer was not said: {reason}; and it cannot be kept: {error}");
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
                self.config().limits.commands_per_minute,
                text::duration(slow_down.retry_after)
            );
            self.answer(message.clone(), text);
        } else {
            self.dealt_with(&message.id);
        }
        true
    }

    /// Into the audit log; what cannot be written is said loudly. For refusals: they change nothing, and whoever is
    /// refused could fill the disk if they were kept until they can be written.
    pub async fn audit(
        &self,
        action: &str,
        by: &Actor,
        command: &str,
        target: Option<String>,
        run: Option<RunId>,
        result: Option<String>,
    ) {
        let event = audit_entry(action, by, command, target, run, result);
        if let Err(error) = self.parts.audit.append(&self.parts.clock, event).await {
            self.parts.metrics.audit_failed();
            tracing::error!("the audit log cannot be written: {error}");
        }
    }
}

pub(super) fn audit_entry(
    action: &str,
    by: &Actor,
    command: &str,
    target: Option<String>,
    run: Option<RunId>,
    result: Option<String>,
) -> AuditEvent {
    AuditEvent {
        who: AuditWho { id: by.id.clone(), name: by.username.clone() },
        action: action.to_owned(),
        command: command.to_owned(),
        target,
        run,
        approval: None,
        result,
        event: None,
        happened_at: None,
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

/// What is done in the order in which it was said, and inside of what.
type InSpan = (Span, Act);
type Lane = mpsc::UnboundedSender<InSpan>;

/// What was heard, for the lines about it.
fn span_of(event: &Event) -> Span {
    match event {
        Event::Message(message) => trace::message(message.cause()),
        Event::Edited { id, room, by, .. } => {
            trace::message(trace::Cause { message: id, room: &room.id, user: &by.id })
        }
        _ => Span::none(),
    }
}

enum Act {
    Command(Box<Work>),
    Reactions { message: MessageId, room: RoomId, added: Vec<Reaction>, removed: Vec<Reaction> },
    Deleted(MessageId),
    Reply(Box<Inbound>),
}

fn room_name(room: &Room) -> String {
    match &room.name {
        Some(name) => format!("#{}", defuse(name)),
        None => format!("room {}", room.id),
    }
}
