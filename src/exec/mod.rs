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

impl Command {
    pub fn words(&self) -> Vec<&str> {
        std::iter::once(self.program.as_str()).chain(self.args.iter().map(String::as_str)).collect()
    }
}

/// How a command ended. Not zero is not an error of the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Absent: killed by a signal.
    pub code: Option<i32>,
    /// The last lines of both streams, in order, at most 64 KiB.
    pub tail: String,
}

/// A command that goes on when the connection to its host is lost, or Houston stops.
#[derive(Clone, Copy, Debug)]
pub struct Detached<'a> {
    /// Letters, digits and `-`. Under one name a host runs one command, once.
    pub name: &'a str,
    pub command: &'a Command,
    /// Bytes of its output that were dealt with by an earlier process.
    pub seen: u64,
    /// An earlier process may have started it.
    pub resumed: bool,
}

/// Somebody who follows a detached command.
pub trait Follow: Send + Sync {
    /// A line of its output, both streams in the order in which it wrote them.
    fn line(&self, line: &str);
    /// Everything before this byte of its output was handed out.
    fn seen(&self, bytes: u64);
    /// How it stands with the connection, for people.
    fn status(&self, text: &str);
}

/// How a detached command stands on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was never started.
    Absent,
    Running,
    /// By itself or not: whoever follows it hears how.
    Ended,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecError {
    /// The program was not started: nothing happened.
    #[error("{what}: {reason}")]
    NotStarted { what: String, reason: String, hint: Option<String>, transient: bool },
    /// The connection went away; what the command does now is not known.
    #[error("{what}: the connection was lost: {reason}")]
    Lost { what: String, reason: String },
    /// It was started and has not ended by itself.
    #[error("{what}: {reason}")]
    Vanished { what: String, reason: String },
    #[error("{what}: stopped after {}", crate::text::duration(*after))]
    TimedOut { what: String, after: std::time::Duration },
    #[error("{what}: cancelled")]
    Cancelled { what: String },
}

/// Something that runs commands: a host over SSH, this machine, or a script in a test.
pub trait Runner: Send + Sync {
    /// For messages: `node1 (deploy@10.0.0.2)`, `this machine`.
    fn name(&self) -> String;
    /// What a person types into a shell of Houston's machine to do the same: `ssh -l deploy 10.0.0.2 -- uptime`.
    fn typed(&self, command: &Command) -> String;
    /// Runs to the end; lines are handed out as they come.
    fn run<'a>(
        &'a self,
        command: &'a Command,
        on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>>;
}

/// A host: commands can be left to it.
pub trait Host: Runner {
    /// Starts a command under a name, once however often this is called, and follows it to its end: through
    /// lost connections, and from where an earlier process left off.
    fn follow<'a>(
        &'a self,
        job: &'a Detached<'a>,
        follow: &'a dyn Follow,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>>;
    /// Looks how a detached command stands; changes nothing.
    fn standing<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Standing, ExecError>>;
    /// Forgets a detached command that has ended. Best effort.
    fn clear<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()>;
}
