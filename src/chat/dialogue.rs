//! Asking once for an argument that is missing, and taking the answer.
//!
//! Must not: keep state of its own (a [`Pending`] is data that the caller stores and hands back), or wait for ever:
//! who answers wrongly may answer again, until the time is over.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bind::{BindError, Known, Outcome, Problem, bind};
use super::parse::{Addressed, CommandLine, addressed, command_line, quote_if_needed};
use crate::command::{ArgumentKind, CommandSpec};
use crate::gateway::events::{Inbound, RoomKind};
use crate::ids::{MessageId, RoomId, UserId};
use crate::text::{duration, or_list, typed};

/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A question that was asked for a missing argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The command so far, without prefix, up to where the answer belongs.
    pub before: String,
    /// And what follows.
    pub after: String,
    pub argument: String,
    /// What it is for.
    pub doc: String,
    /// Free text: the whole answer is the value.
    pub free: bool,
    /// Empty when that is not a list.
    pub choices: Vec<String>,
    pub by: UserId,
    pub room: RoomId,
    /// Where the answer is expected in a room; in a direct message anywhere.
    pub thread: MessageId,
    pub direct: bool,
    /// The command's message: it stays the cause of what is done in the end.
    pub message: MessageId,
    pub asked_at: Timestamp,
}

/// What a later message is to a question.
#[derive(Debug)]
pub enum Answer<'s> {
    /// From somebody else, or elsewhere: the question stays.
    Unrelated,
    /// Too late: the question is gone, and the message is to be read as any other.
    Expired,
    /// Itself a command: the question is gone, and the command is to be carried out.
    Cancelled,
    Complete(Outcome<'s>),
    /// Taken, and something else is missing too: the next question takes the place of this one.
    Asks(Box<Pending>),
    /// The question stays.
    Wrong(Box<BindError>),
}

impl Pending {
    /// The question for what `error` says is missing; none if something else is wrong.
    pub fn new(error: &BindError, line: &CommandLine, message: &Inbound, now: Timestamp) -> Option<Self> {
        let Problem::Missing { argument, kind, doc, choices } = &error.problem else { return None };
        let name_words = error.command.as_ref()?.split(' ').count();
        let start = line.tokens.first()?.span.start;
        // By name and right behind the command, so that free text at its end stays at its end. An alias
        // may have another number of words, but never more tokens than there are.
        let words = if alias_of_other_length(line, error) { 1 } else { name_words };
        let at = line.tokens.get(words - 1)?.span.end;
        Some(Self {
            before: line.text[start..at].to_owned(),
            after: line.first_line()[at..].trim_end().to_owned(),
            argument: argument.clone(),
            doc: doc.clone(),
            free: matches!(kind, ArgumentKind::Text | ArgumentKind::Rest),
            choices: choices.clone(),
            by: message.by.id.clone(),
            room: message.room.id.clone(),
            thread: message.thread.clone().unwrap_or_else(|| message.id.clone()),
            direct: message.room.kind == RoomKind::Direct,
            message: message.id.clone(),
            asked_at: now,
        })
    }

    /// For the thread.
    pub fn question(&self) -> String {
        let typed = typed(format!("{}{}", self.before, self.after).trim());
        // `which run (the run)` would say nothing.
        let says_more = !self.doc.is_empty() && !self.doc.contains(&self.argument);
        let doc = if says_more { format!(" ({})", self.doc) } else { String::new() };
        let ask = if self.free { "what" } else { "which" };
        let choices = match self.choices.len() {
            0 => String::new(),
            1..=20 => format!("\nOne of {}.", or_list(&self.choices)),
            n => format!("\nOne of {} and {} more.", or_list(&self.choices[..19]), n - 19),
        };
        format!(
            "{typed}: {ask} `{}`{doc}?{choices}\nAnswer here within {}, or give another command.",
            self.argument,
            duration(PATIENCE)
        )
    }

    pub fn expires_at(&self) -> Timestamp {
        self.asked_at.checked_add(PATIENCE).unwrap_or(Timestamp::MAX)
    }

    pub fn answer<'s>(
        &self,
        message: &Inbound,
        bot: &str,
        commands: &'s [CommandSpec],
        known: &Known,
        now: Timestamp,
    ) -> Answer<'s> {
        let here =
            message.room.id == self.room && (self.direct || message.thread.as_ref() == Some(&self.thread));
        if message.by.id != self.by || !here {
            return Answer::Unrelated;
        }
        if now >= self.expires_at() {
            return Answer::Expired;
        }
        let read = command_line(&message.text);
        let said = read.text.trim_start_matches(['!', '/']).trim();
        let plain = said.trim_end_matches(['.', ',', '!', '?']);
        // A choice is a choice even if a command has the same name.
        let choice =
            self.choices.iter().find(|c| *c == plain && !message.text.trim_start().starts_with(['!', '/']));
        let value = match (choice, addressed(&message.text, bot, message.room.kind, commands)) {
            (Some(choice), _) => choice.clone(),
            (None, Some(Addressed::Command(_) | Addressed::Unknown(_))) => return Answer::Cancelled,
            (None, Some(Addressed::Question(text))) => text,
            (None, None) => said.to_owned(),
        };
        let line = command_line(&self.completed(&value));
        match bind(&line, commands, known) {
            Ok(outcome) => Answer::Complete(outcome),
            Err(error) => match Self::new(&error, &line, message, now) {
                Some(next) => Answer::Asks(Box::new(Self {
                    thread: self.thread.clone(),
                    direct: self.direct,
                    message: self.message.clone(),
                    ..next
                })),
                None => Answer::Wrong(error),
            },
        }
    }

    /// The command with this answer in its place.
    fn completed(&self, value: &str) -> String {
        let mut words = value.trim().splitn(2, char::is_whitespace);
        // `web 1.8` where the service was asked for: what follows the value goes on with the command.
        let (value, more) = if self.free {
            (value.split_whitespace().collect::<Vec<_>>().join(" "), "")
        } else {
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default())
        };
        format!("{} {}={}{} {more}", self.before, self.argument, quote_if_needed(&value), self.after)
    }
}

/// Whether the command was typed by an alias of one word although its name has two.
fn alias_of_other_length(line: &CommandLine, error: &BindError) -> bool {
    let name: Vec<&str> = error.command.as_deref().unwrap_or_default().split(' ').collect();
    name.len() == 2 && line.tokens.get(1).is_none_or(|t| !t.text.eq_ignore_ascii_case(name[1]))
}

#[cfg(test)]
mod tests {
    use super::super::bind::fixture::{commands, known};
    use super::*;
    use crate::gateway::events::{Actor, Room};

    fn message(text: &str, by: &str, thread: Option<&str>) -> Inbound {
        Inbound {
            id: "m".into(),
            room: Room { id: "r".into(), kind: RoomKind::Public, name: Some("ops".into()) },
            thread: thread.map(Into::into),
            by: Actor { id: by.into(), username: by.into() },
            text: text.into(),
            sent_at: Timestamp::UNIX_EPOCH,
            age: Duration::ZERO,
            caught_up: false,
        }
    }

    fn asked(text: &str) -> Pending {
        let line = command_line(text);
        let error = bind(&line, commands(), &known()).expect_err("something is missing");
        Pending::new(&error, &line, &message(text, "ann", None), Timestamp::UNIX_EPOCH)
            .expect("it can be asked for")
    }

    fn answer(pending: &Pending, text: &str) -> Answer<'static> {
        let message = message(text, "ann", Some("m"));
        pending.answer(&message, "houston", commands(), &known(), Timestamp::UNIX_EPOCH)
    }

    fn canonical(answer: Answer<'_>) -> String {
        match answer {
            Answer::Complete(Outcome::Run(bound)) => bound.canonical,
            other => panic!("not complete: {other:?}"),
        }
    }

    #[test]
    fn a_missing_argument_is_asked_for_with_its_choices_and_completed() {
        let pending = asked("!rollback prod");
        let question = pending.question();
        assert!(question.contains("which `service`") && question.contains("`api` or `web`"), "{question}");
        assert_eq!(canonical(answer(&pending, "`web`")), "rollback prod web");
        assert_eq!(canonical(answer(&pending, "@houston web")), "rollback prod web");
        assert_eq!(canonical(answer(&pending, "web.")), "rollback prod web");
        assert_eq!(canonical(answer(&asked("!rollback"), "prod web")), "rollback prod web");
        assert_eq!(canonical(answer(&asked("!lock prod"), "disk \"full\"")), "lock prod disk \"full\"");
    }

    #[test]
    fn only_the_same_person_in_the_same_thread_in_time_answers() {
        let pending = asked("!rollback prod");
        let ask = |m: Inbound, at: i64| {
            let now = Timestamp::from_second(at).expect("in range");
            pending.answer(&m, "houston", commands(), &known(), now)
        };
        assert!(matches!(ask(message("web", "bob", Some("m")), 0), Answer::Unrelated));
        assert!(matches!(ask(message("web", "ann", None), 0), Answer::Unrelated));
        assert!(matches!(ask(message("web", "ann", Some("m")), 300), Answer::Expired));
    }

    #[test]
    fn a_command_cancels_and_after_a_wrong_answer_there_may_be_a_right_one() {
        let pending = asked("!rollback prod");
        assert!(matches!(answer(&pending, "!status"), Answer::Cancelled));
        let Answer::Wrong(error) = answer(&pending, "wbe") else { panic!("`wbe` is no service") };
        assert!(error.problem.to_string().contains("did you mean `web`?"), "{error}");
        assert_eq!(canonical(answer(&pending, "web")), "rollback prod web");
    }

    #[test]
    fn one_question_follows_the_other_until_nothing_is_missing() {
        let pending = asked("!rollback");
        let Answer::Asks(next) = answer(&pending, "prod") else { panic!("the service is missing too") };
        assert!(
            next.question().starts_with("`rollback environment=prod`: which `service`?"),
            "{}",
            next.question()
        );
        assert_eq!((&next.thread, &next.message), (&pending.thread, &pending.message));
        assert_eq!(canonical(answer(&next, "web")), "rollback prod web");
    }

    #[test]
    fn a_pending_question_survives_storage() {
        let pending = asked("!rollback prod");
        let stored = serde_json::to_string(&pending).expect("serializes");
        assert_eq!(serde_json::from_str::<Pending>(&stored).expect("reads back"), pending);
    }
}
