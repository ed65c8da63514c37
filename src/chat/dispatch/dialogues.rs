//! Questions to a person that wait for an answer: for an argument that is missing, and whether an old
//! command is still meant. Kept in the store, so that an answer after a restart is one.
//!
//! Must not: keep what a secret of the configuration stands in, or let one answer be taken for two questions.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Dispatcher, Lane};
use crate::chat::bind::{Known, Outcome};
use crate::chat::dialogue::{Answer, PATIENCE, Pending};
use crate::chat::help;
use crate::chat::parse::{Addressed, addressed, command_line, too_long};
use crate::gateway::events::{Inbound, RoomKind};
use crate::ids::MessageId;
use crate::store::{Batch, StoreError, Tree};
use crate::text::{self, typed};

/// A question in a room to a person, one at a time in each thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "dialogue", rename_all = "snake_case")]
pub(super) enum Dialogue {
    /// For an argument that is missing.
    Argument { pending: Pending },
    /// Whether an old command is still meant.
    Stale { text: String, asked_at: Timestamp },
}

/// A question with the key that it is kept under.
pub(super) struct Open {
    key: Vec<u8>,
    dialogue: Dialogue,
}

/// What a message is to the questions that are open.
pub(super) enum Continued {
    Taken,
    NotMeant,
}

/// Under this stand the questions to a person in a room; behind it the thread, if there is one.
fn keys_of(message: &Inbound) -> Vec<u8> {
    format!("{}\0{}\0", message.room.id, message.by.id).into_bytes()
}

fn key(message: &Inbound, thread: Option<&MessageId>) -> Vec<u8> {
    let mut key = keys_of(message);
    key.extend_from_slice(thread.map_or("", MessageId::as_str).as_bytes());
    key
}

impl Dialogue {
    fn asked_at(&self) -> Timestamp {
        match self {
            Self::Argument { pending } => pending.asked_at,
            Self::Stale { asked_at, .. } => *asked_at,
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.asked_at().checked_add(PATIENCE).is_ok_and(|end| now >= end)
    }
}

impl Dispatcher {
    /// Takes a message as an answer, if it is one.
    pub(super) fn continue_dialogue(&self, message: &Inbound, lane: &Lane) -> Continued {
        // An answer that waited while Houston was away may be to a world that has moved on. The question
        // stays: what is that old may also have been said before it.
        let config = self.config();
        if message.age > config.limits.stale_after
            || crate::secret::looks_like_a_secret(&message.text).is_some()
        {
            return Continued::NotMeant;
        }
        let mut open = self.open_dialogues(message);
        if open.is_empty() {
            return Continued::NotMeant;
        }
        let bot = self.parts.chat.me().map(|me| me.username).unwrap_or_default();
        let commands = &config.commands;
        // Only a command that was given after the questions takes the place of the old ones.
        let another = !message.caught_up
            && matches!(
                addressed(&message.text, &bot, RoomKind::Public, commands),
                Some(Addressed::Command(_))
            );
        if another {
            open.retain(|open| {
                let stays = matches!(open.dialogue, Dialogue::Argument { .. });
                if !stays {
                    self.end_dialogue(&open.key);
                }
                stays
            });
        }
        let here = key(message, message.thread.as_ref());
        let meant = match open.iter().position(|open| open.key == here) {
            Some(here) => open.swap_remove(here),
            // In a direct conversation nobody else is spoken to, so one question needs no thread.
            None if message.room.kind == RoomKind::Direct && message.thread.is_none() && open.len() == 1 => {
                open.remove(0)
            }
            None => return Continued::NotMeant,
        };
        if let Some(text) = too_long(&message.text) {
            self.answer(message.clone(), text);
            return Continued::Taken;
        }
        match meant.dialogue {
            Dialogue::Argument { pending } => {
                let answer = pending.answer(
                    message,
                    &bot,
                    commands,
                    &Known::of(&config.environments),
                    self.parts.clock.now(),
                );
                match answer {
                    Answer::Unrelated => return Continued::NotMeant,
                    Answer::Expired | Answer::Cancelled => {
                        self.end_dialogue(&meant.key);
                        return Continued::NotMeant;
                    }
                    Answer::Complete(Outcome::Run(bound)) => {
                        self.end_dialogue(&meant.key);
                        self.start(&config, message.clone(), bound.canonical.clone(), &bound, lane);
                    }
                    Answer::Complete(Outcome::Help(spec)) => {
                        self.end_dialogue(&meant.key);
                        let about = help::about(spec, help::prefix(message.room.kind), &[]);
                        self.answer(message.clone(), about);
                    }
                    Answer::Asks(next) => {
                        self.end_dialogue(&meant.key);
                        self.ask_for_argument(message, *next);
                    }
                    Answer::Wrong(error) => {
                        let text = format!("{}\nAnswer again, or give another command.", error.problem);
                        self.answer(message.clone(), text);
                    }
                }
            }
            Dialogue::Stale { text, .. } => {
                let said = message.text.trim().trim_end_matches(['.', '!']).to_lowercase();
                match said.as_str() {
                    "yes" | "y" => {
                        self.end_dialogue(&meant.key);
                        self.command(message.clone(), &command_line(&text), lane);
                    }
                    "no" | "n" => {
                        self.end_dialogue(&meant.key);
                        self.answer(message.clone(), "Left alone.".to_owned());
                    }
                    _ => return Continued::NotMeant,
                }
            }
        }
        Continued::Taken
    }

    /// Asks for what is missing.
    pub(super) fn ask_for_argument(&self, message: &Inbound, pending: Pending) {
        // In a direct conversation the answer needs no thread.
        let direct = message.room.kind == RoomKind::Direct;
        let thread = if direct { message.thread.clone() } else { Some(pending.thread.clone()) };
        let question = pending.question();
        self.ask(message, thread, &Dialogue::Argument { pending }, question);
    }

    /// A command that waited while Houston was away is not run without asking; in a thread of its own, since
    /// there may be several.
    pub(super) fn ask_whether_still_meant(&self, message: &Inbound, canonical: &str) {
        let mut question = format!(
            "You asked for {} {} ago, when I was away. Is it still meant? Answer `yes` or `no` here, or send it again.",
            typed(canonical),
            text::duration(message.age)
        );
        let thread = message.thread.clone().unwrap_or_else(|| message.id.clone());
        // Rocket.Chat has no threads within threads.
        let here = key(message, Some(&thread));
        let earlier = self.open_dialogues(message).into_iter().find(|open| open.key == here);
        if let Some(Dialogue::Stale { text, .. }) = earlier.map(|open| open.dialogue) {
            let _ =
                write!(question, "\nI no longer ask about {}: send it again if you mean it.", typed(&text));
        }
        let dialogue = Dialogue::Stale { text: canonical.to_owned(), asked_at: self.parts.clock.now() };
        self.ask(message, Some(thread), &dialogue, question);
    }

    fn ask(&self, message: &Inbound, thread: Option<MessageId>, dialogue: &Dialogue, question: String) {
        // What stands in the store stands in backups too.
        let holds_a_secret = serde_json::to_value(dialogue)
            .is_ok_and(|stored| self.parts.redactor.redact_json(&stored) != stored);
        let question = if holds_a_secret {
            "A secret of my configuration stands in that, so I did nothing with it. Replace the secret: it is known to everybody in this room now.".to_owned()
        } else {
            let mut batch = Batch::new();
            batch.put(Tree::Dialogues, &key(message, thread.as_ref()), dialogue);
            if let Err(error) = self.parts.store.apply(batch) {
                tracing::error!("a question cannot be kept: {error}");
            }
            question
        };
        self.answer_in(message.clone(), thread, question);
    }

    /// The questions to whoever wrote this, in its room. What is over is forgotten.
    fn open_dialogues(&self, message: &Inbound) -> Vec<Open> {
        let now = self.parts.clock.now();
        let found: Result<Vec<_>, StoreError> =
            self.parts.store.scan::<Dialogue>(Tree::Dialogues, &keys_of(message)).collect();
        let found = found.unwrap_or_else(|error| {
            tracing::error!("questions cannot be read: {error}");
            Vec::new()
        });
        let (over, open): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, dialogue)| dialogue.is_over(now));
        for (key, _) in over {
            self.end_dialogue(&key);
        }
        open.into_iter().map(|(key, dialogue)| Open { key, dialogue }).collect()
    }

    fn end_dialogue(&self, key: &[u8]) {
        let mut batch = Batch::new();
        batch.delete(Tree::Dialogues, key);
        if let Err(error) = self.parts.store.apply(batch) {
            tracing::error!("a question cannot be forgotten: {error}");
        }
    }
}
