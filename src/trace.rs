//! Under which names ids stand in logs and in traces, and the spans that give them to every line inside. One name
//! per id: what a line says of itself goes by the same ones.
//!
//! Must not: say anything, or know where lines and spans go (`cli` does).

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::ids::{MessageId, RoomId, RunId, UserId};

/// Where the spans of this module are declared: they are there whatever the log is asked to leave out, so that what it
/// does say has its ids.
pub const TARGET: &str = module_path!();

/// Who said or asked for something: a message, its room, its author.
#[derive(Clone, Copy)]
pub struct Cause<'a> {
    pub message: &'a MessageId,
    pub room: &'a RoomId,
    pub user: &'a UserId,
}

/// A message that was heard, whatever it says.
pub fn message(cause: Cause<'_>) -> Span {
    let Cause { message, room, user } = cause;
    info_span!(parent: None, "message", message.id = %message, room.id = %room, user.id = %user, run.id = Empty)
}

/// A command that was understood, until it is answered.
pub fn command(name: &str, cause: Cause<'_>) -> Span {
    let Cause { message, room, user } = cause;
    info_span!(
        "command",
        command.name = name,
        message.id = %message,
        room.id = %room,
        user.id = %user,
        run.id = Empty
    )
}

/// The command inside which this is said is about `run`, or has begun it.
pub fn about(run: RunId) {
    Span::current().record("run.id", display(run));
}

/// What somebody says by a reaction to a message about a run.
pub fn reaction(run: RunId, cause: Cause<'_>) -> Span {
    let Cause { message, room, user } = cause;
    info_span!(
        parent: None, "reaction", run.id = %run, message.id = %message, room.id = %room, user.id = %user
    )
}

/// A run that moves. `cause` is what it was asked for by; whoever moved it on is no part of it.
pub fn run(run: RunId, cause: Option<Cause<'_>>) -> Span {
    let span = info_span!(
        parent: None, "run", run.id = %run, message.id = Empty, room.id = Empty, user.id = Empty
    );
    if let Some(Cause { message, room, user }) = cause {
        span.record("message.id", display(message));
        span.record("room.id", display(room));
        span.record("user.id", display(user));
    }
    span
}

/// What is done about a step.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Perform,
    Probe,
    Undo,
}

/// An attempt at a step of the run inside which this is.
pub fn step(run: RunId, id: &str, kind: &str, act: Act, attempt: u32) -> Span {
    let act = match act {
        Act::Perform => "perform",
        Act::Probe => "probe",
        Act::Undo => "undo",
    };
    info_span!(
        "step", run.id = %run, step.id = id, step.kind = kind, step.act = act, step.attempt = attempt
    )
}

/// Somebody asks over the admin socket or over HTTP.
pub fn request(method: &str, path: &str) -> Span {
    let id = crate::ids::random_id();
    info_span!(parent: None, "request", request.id = id, request.method = method, request.path = path)
}
