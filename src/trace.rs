//! Under which names ids stand in logs and in traces, and the spans that give them to every line inside. One name
//! per id: what a line says of itself goes by the same ones.
//!
//! Must not: say anything, or know where lines and spans go (`cli` does).

#[cfg(feature = "otel")]
pub mod otel;

use jiff::Timestamp;
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
        otel.name = %format_args!("command {name}"),
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

/// A run; `card` is what no other run has, in no other installation.
#[derive(Clone, Copy)]
pub struct OfRun<'a> {
    pub run: RunId,
    pub card: &'a MessageId,
}

/// An attempt at a step of a run.
pub fn step(of: OfRun<'_>, id: &str, kind: &str, act: Act, attempt: u32) -> Span {
    let act = match act {
        Act::Perform => "perform",
        Act::Probe => "probe",
        Act::Undo => "undo",
    };
    let span = info_span!(
        "step",
        otel.name = %format_args!("step {kind}"),
        otel.status_code = Empty,
        run.id = %of.run,
        step.id = id,
        step.kind = kind,
        step.act = act,
        step.attempt = attempt
    );
    #[cfg(feature = "otel")]
    otel::belongs_to(&span, of);
    span
}

/// The attempt at a step inside which this is said came to nothing.
pub fn step_failed() {
    Span::current().record("otel.status_code", "error");
}

/// A run that is over.
pub struct Ended<'a> {
    pub of: OfRun<'a>,
    pub cause: Cause<'a>,
    pub command: &'a str,
    pub outcome: &'static str,
    pub failed: bool,
    pub from: Timestamp,
    /// When people had decided about its plan, where they were asked.
    pub decided: Option<Timestamp>,
    pub to: Timestamp,
}

/// Said once of each run, where traces are kept.
#[cfg_attr(
    not(feature = "otel"),
    expect(unused_variables, reason = "there are no traces without the feature")
)]
pub fn run_ended(run: &Ended<'_>) {
    #[cfg(feature = "otel")]
    otel::ended(run);
}

/// Somebody asks over the admin socket or over HTTP.
pub fn request(method: &str, path: &str) -> Span {
    let id = crate::ids::random_id();
    info_span!(parent: None, "request", request.id = id, request.method = method, request.path = path)
}
