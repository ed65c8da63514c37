//! What the dispatcher says itself: the one answer to a message, what is told to one person, and entries of the audit
//! log.
//!
//! Must not: word what runs have to say (`reply` does).

use std::sync::PoisonError;
use std::time::Duration;

use super::Dispatcher;
use crate::audit::{Event as AuditEvent, Who as AuditWho};
use crate::chat::parse::{Addressed, addressed};
use crate::gateway::Priority;
use crate::gateway::events::{Actor, Inbound, Post, Room, RoomKind, SendError};
use crate::ids::{MessageId, RoomId, RunId, derived_id};
use crate::runs::state::Phase;
use crate::text::{self, defuse, typed};

/// Pauses before an answer is tried again at once: most of what goes wrong on a line is over by then.
const AT_ONCE_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1)];

impl Dispatcher {
    /// Whoever speaks in an encrypted room is told, in a direct message, that nothing of it arrives.
    pub(super) async fn encrypted(&self, room: &Room, by: &Actor) {
        let text = format!(
            "{} is encrypted end to end, so I can read nothing of what is said there. Give me commands in another room, or here.",
            room_name(room)
        );
        self.tell(by, &format!("encrypted/{}/{}", room.id, by.id), text).await;
    }

    /// Whoever waits for an approval in a room that Houston is no longer in hears how it goes on.
    pub(super) async fn left(&self, room: &RoomId) {
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
    pub(in crate::chat) async fn tell(&self, who: &Actor, seed: &str, text: String) {
        match self.parts.chat.direct(&who.id).await {
            Ok(room) => self.post(Post { id: derived_id(seed).into(), room, thread: None, text }).await,
            Err(error) => tracing::warn!(user.id = %who.id, "{} was not told: {error}", who.username),
        }
    }

    /// An edit never executes; who edits a command is told so.
    pub(super) async fn edited(
        &self,
        id: &MessageId,
        room: &Room,
        thread: Option<MessageId>,
        by: &Actor,
        new: &str,
    ) {
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

    /// Answers without waiting, then marks the message as dealt with.
    pub(super) fn answer(&self, message: Inbound, text: String) {
        let thread = message.thread.clone();
        self.answer_in(message, thread, text);
    }

    pub(super) fn answer_in(&self, message: Inbound, thread: Option<MessageId>, text: String) {
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
    pub(in crate::chat) async fn post(&self, post: Post) {
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

    /// What is said among people. It leaves no mark, unless it has the form of a command: another configuration may
    /// have a command of that name.
    pub(super) fn passed_over(&self, message: &Inbound) {
        if message.text.trim_start().starts_with(['!', '/']) {
            self.dealt_with(&message.id);
        } else {
            self.parts.ledger.pass_over(&message.id);
        }
    }

    pub(super) fn too_fast(&self, message: &Inbound) -> bool {
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

pub(in crate::chat) fn audit_entry(
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

pub(super) fn room_name(room: &Room) -> String {
    match &room.name {
        Some(name) => format!("#{}", defuse(name)),
        None => format!("room {}", room.id),
    }
}
