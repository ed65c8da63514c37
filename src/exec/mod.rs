//! Executing commands: argv as data, on this machine or over SSH. The only module that starts processes.
//!
//! Must not: know what a run, a playbook or a room is.

pub mod local;
pub mod output;
pub mod secret;
pub mod ssh;
pub mod transcript;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// A command as data: a program and its arguments, never a shell string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: String,
    pub args: Vec<String>,
    /// Fed to standard input.
    pub stdin: Option<String>,
    pub timeout: Option<std::time::Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// How a command ended. Not zero is not an error of the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Absent: killed by a signal.
    pub code: Option<i32>,
    /// The last lines of both streams, in order, at most 64 KiB.
    pub tail: String,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecError {
    /// The program was not started: nothing happened.
    #[error("{what}: {reason}")]
    NotStarted { what: String, reason: String, hint: Option<String>, transient: bool },
    /// The connection went away; what the command does now is not known.
    #[error("{what}: the connection was lost: {reason}")]
    Lost { what: String, reason: String },
    #[error("{what}: stopped after {}", crate::text::duration(*after))]
    TimedOut { what: String, after: std::time::Duration },
    #[error("{what}: cancelled")]
    Cancelled { what: String },
}

/// Something that runs commands: a host over SSH, this machine, or a script in a test.
pub trait Runner: Send + Sync {
    /// For messages: `node1 (deploy@10.0.0.2)`, `this machine`.
    fn name(&self) -> String;
    /// Runs to the end; lines are handed out as they come.
    fn run<'a>(
        &'a self,
        command: &'a Command,
        on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>>;
}
