//! From a message to a command that is carried out: is it one, is it complete, may who said it do that, and who does it.
//!
//! Must not: act on runs or locks out of turn.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Dispatcher;
use super::dialogues::Continued;
use super::lane::{Act, Lane};
use crate::access::{Access, Action, Authorized, Denied, Person};
use crate::chat::bind::{Bound, Known, Outcome, Values, bind};
use crate::chat::builtin;
use crate::chat::dialogue::Pending;
use crate::chat::operate::{self, Order};
use crate::chat::parse::{Addressed, CommandLine, Form, addressed, too_long};
use crate::chat::{help, scheduled};
use crate::command::{Action as SpecAction, CommandSpec};
use crate::config::Config;
use crate::gateway::events::{Inbound, Post};
use crate::ids::derived_id;
use crate::playbook::model::LockName;
use crate::text::{inert, typed};
use crate::trace;

/// To whoever asks a question.
const NO_ANSWERS: &str =
    "I take commands; answering questions is not part of me yet. `!help` lists what I can do here.";

/// A command, bound and to be carried out under the configuration that it was bound with. `cause` is the
/// message that made it complete.
pub(super) struct Work {
    config: Arc<Config>,
    pub(super) cause: Inbound,
    pub(super) line: String,
    spec: usize,
    pub(super) bound: OwnedBound,
    /// When it was understood.
    since: Instant,
}

/// [`Bound`] without its borrow of the schema.
#[derive(Clone)]
pub struct OwnedBound {
    pub values: Values,
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
    pub(super) fn message(&self, message: Inbound, lane: &Lane) {
        // No account is called so; one that is all the same has nothing of a schedule's rights.
        if message.by.as_schedule().is_some() {
            tracing::error!("an account of Rocket.Chat's has the id of a schedule, and is not heard");
            return self.dealt_with(&message.id);
        }
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
                    self.in_turn(lane, Act::Reply(Box::new(message)));
                } else {
                    self.passed_over(&message);
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

    pub(super) fn command(&self, message: Inbound, line: &CommandLine, lane: &Lane) {
        if let Some(text) = too_long(&line.text) {
            self.answer(message, text);
            return;
        }
        let config = self.config();
        match bind(line, &config.commands, &Known::of(&config.environments)) {
            Ok(Outcome::Help(spec)) => {
                let about = help::about(spec, help::prefix(message.room.kind), &[]);
                self.answer(message, about);
            }
            Ok(Outcome::Run(bound)) => {
                let acts = match &bound.command.action {
                    SpecAction::Builtin(name) => builtin::acts(name) || builtin::orders(name),
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
                if line.reads_like_question() && !matches!(line.form, Form::Bang | Form::Slash) {
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

    pub(super) fn start(
        &self,
        config: &Arc<Config>,
        cause: Inbound,
        line: String,
        bound: &Bound<'_>,
        lane: &Lane,
    ) {
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
            self.in_turn(lane, Act::Command(Box::new(work)));
        } else {
            let dispatcher = self.clone();
            self.spawn(async move { dispatcher.carry_out(work).await });
        }
    }

    pub(super) async fn carry_out(&self, work: Work) {
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
                    let order = Order {
                        config: &config,
                        playbook,
                        command: spec,
                        cause: &cause,
                        bound: &bound,
                        authorized: &authorized,
                        schedule: None,
                        standing: None,
                    };
                    operate::run(self, order).await
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
            SpecAction::Builtin(name) => builtin::acts(name) || builtin::orders(name),
            SpecAction::Playbook(_) => true,
        };
        let why = self.parts.lease.may_act().err().filter(|_| acts && !bound.dry_run)?;
        Some(format!(
            ":no_entry_sign: I did nothing with {}: {}.\nI answer what only reads, such as `!status`. Where it is certain that no other Houston runs, `lease: {{enabled: false}}` in `houston.yaml` and a restart let me act without a lease.",
            typed(&bound.canonical),
            inert(&why.to_string())
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
        let mut action = Action::of(spec, bound.values.as_typed(), &cause.room);
        action.arguments.extend(scheduled::concerns(config, bound.values.text("schedule")));
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
