//! Commands on this machine, each in a process group of its own, so that a stop reaches its children.
//!
//! Must not: go through a shell, or hand Houston's own environment on (it may hold secrets).

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::output::Sink;
use super::{Command, ExecError, Exit, Runner, Stream};
use crate::secret::Redactor;

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(10);

/// The runner for this machine.
///
/// Promised: after a timeout or a cancellation the whole process group gets TERM and, after the grace
/// period, KILL, before [`Runner::run`] returns; when its future is dropped the group gets KILL at once.
/// A child that made a session of its own is out of reach. When Houston itself is killed the command runs
/// on until it writes to the pipe that nobody reads.
#[derive(Clone, Debug)]
pub struct Local {
    redactor: Redactor,
    grace: Duration,
    dir: Option<PathBuf>,
    whole_environment: bool,
}

impl Local {
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, grace: GRACE, dir: None, whole_environment: false }
    }

    /// From TERM to KILL. Default 10 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The folder to run in. Default: Houston's own.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Hands on the whole environment; for commands that fetch secrets, which are logged in by it.
    #[must_use]
    pub(super) fn with_whole_environment(mut self) -> Self {
        self.whole_environment = true;
        self
    }

    fn start(&self, command: &Command, what: &str) -> Result<tokio::process::Child, ExecError> {
        #[expect(clippy::disallowed_methods, reason = "exec/ is where processes are started")]
        let mut process = tokio::process::Command::new(&command.program);
        process
            .args(&command.args)
            .stdin(if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if !self.whole_environment {
            process.env_clear().envs(crate::config::env::handed_on());
        }
        if let Some(dir) = &self.dir {
            process.current_dir(dir);
        }
        process.spawn().map_err(|error| ExecError::NotStarted {
            what: what.to_owned(),
            reason: error.to_string(),
            hint: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Some(format!("is `{}` installed, and in the PATH of Houston?", command.program))
                }
                std::io::ErrorKind::PermissionDenied => {
                    Some(format!("may Houston's user execute `{}`?", command.program))
                }
                _ => None,
            },
            transient: matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory
            ),
        })
    }
}

impl Runner for Local {
    fn name(&self) -> String {
        "this machine".into()
    }

    fn typed(&self, command: &Command) -> String {
        crate::text::shell_words(&command.words())
    }

    fn run<'a>(
        &'a self,
        command: &'a Command,
        on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move {
            let what = format!("`{}` on this machine", command.program);
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled { what });
            }
            let mut child = self.start(command, &what)?;
            let group = Group::of(&child);
            let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let sink = Sink::new(&self.redactor, on_line);
            let (mut out_lines, mut err_lines) = (sink.lines(), sink.lines());
            let ended = {
                let to_out = |line: &str| sink.line(Stream::Out, line);
                let to_err = |line: &str| sink.line(Stream::Err, line);
                let feed = async {
                    if let (Some(mut stdin), Some(text)) = (stdin, &command.stdin) {
                        // A command that does not read its input to the end is no error.
                        let _ = stdin.write_all(text.as_bytes()).await;
                        let _ = stdin.shutdown().await;
                    }
                };
                let streams = std::pin::pin!(futures_util::future::join3(
                    feed,
                    sink.pump(stdout, &mut out_lines, &to_out),
                    sink.pump(stderr, &mut err_lines, &to_err),
                ));
                let mut streams = futures_util::FutureExt::fuse(streams);
                let deadline = async {
                    match command.timeout {
                        Some(timeout) => tokio::time::sleep(timeout).await,
                        None => std::future::pending().await,
                    }
                };
                let mut deadline = std::pin::pin!(deadline);
                let ended = loop {
                    tokio::select! {
                        status = child.wait() => break Ended::Exited(status),
                        _ = &mut streams => {}
                        () = cancel.cancelled() => break Ended::Cancelled,
                        () = &mut deadline => break Ended::TimedOut,
                    }
                };
                if !matches!(ended, Ended::Exited(_)) {
                    let stopped = group.stop(self.grace, &mut child);
                    let mut stopped = std::pin::pin!(stopped);
                    loop {
                        tokio::select! {
                            () = &mut stopped => break,
                            _ = &mut streams => {}
                        }
                    }
                }
                if !futures_util::future::FusedFuture::is_terminated(&streams) {
                    sink.drain(std::pin::Pin::new(&mut streams)).await;
                }
                ended
            };
            group.disarm();
            out_lines.finish(&mut |line| sink.line(Stream::Out, line));
            err_lines.finish(&mut |line| sink.line(Stream::Err, line));
            match ended {
                Ended::Exited(Ok(status)) => Ok(Exit { code: status.code(), tail: sink.into_tail() }),
                Ended::Exited(Err(error)) => Err(ExecError::Lost { what, reason: error.to_string() }),
                Ended::Cancelled => Err(ExecError::Cancelled { what }),
                Ended::TimedOut => {
                    Err(ExecError::TimedOut { what, after: command.timeout.unwrap_or_default() })
                }
            }
        })
    }
}

enum Ended {
    Exited(std::io::Result<std::process::ExitStatus>),
    Cancelled,
    TimedOut,
}

/// The process group of a child; killed when it is dropped while armed.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// TERM, grace, KILL; returns when nobody of the group is left.
    async fn stop(&self, grace: Duration, child: &mut tokio::process::Child) {
        let Some(id) = self.0 else { return };
        for (signal, wait) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, GRACE)] {
            if killpg(id, signal) == Err(Errno::ESRCH) {
                break;
            }
            let gone = async {
                // The leader has to be reaped, or the group would never be empty.
                let _ = child.wait().await;
                while killpg(id, None) != Err(Errno::ESRCH) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            if tokio::time::timeout(wait, gone).await.is_ok() {
                break;
            }
        }
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            let _ = killpg(id, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn sh(script: &str) -> Command {
        Command {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            stdin: None,
            timeout: Some(Duration::from_secs(30)),
        }
    }

    async fn run(runner: &Local, command: &Command) -> (Result<Exit, ExecError>, Vec<(Stream, String)>) {
        let lines = Mutex::new(Vec::new());
        let on_line = |stream, line: &str| lines.lock().expect("no panic").push((stream, line.to_owned()));
        let result = runner.run(command, &on_line, &CancellationToken::new()).await;
        (result, lines.into_inner().expect("no panic"))
    }

    #[tokio::test]
    async fn output_exit_code_and_input_come_through() {
        let local = Local::new(Redactor::new());
        let mut command = sh("cat; echo oops >&2; printf unfinished; exit 3");
        command.stdin = Some("from stdin\n".into());
        let (exit, lines) = run(&local, &command).await;
        let exit = exit.expect("runs");
        assert_eq!(exit.code, Some(3));
        assert!(lines.contains(&(Stream::Out, "from stdin".into())), "{lines:?}");
        assert!(lines.contains(&(Stream::Out, "unfinished".into())), "{lines:?}");
        assert!(lines.contains(&(Stream::Err, "oops".into())), "{lines:?}");
        assert!(exit.tail.contains("oops") && exit.tail.contains("unfinished"));
    }

    #[tokio::test]
    async fn arguments_are_data_and_never_a_shell_string() {
        let odd = "; $(id) `id` ' \" \n é * ~ \\ &&";
        let command = Command {
            program: "printf".into(),
            args: vec!["%s".into(), odd.into()],
            stdin: None,
            timeout: None,
        };
        let (exit, _) = run(&Local::new(Redactor::new()), &command).await;
        assert_eq!(exit.expect("runs").tail, odd);
    }

    #[tokio::test]
    async fn a_missing_program_is_not_started_and_says_what_to_do() {
        let command = Command { program: "no-such-program".into(), args: vec![], stdin: None, timeout: None };
        match run(&Local::new(Redactor::new()), &command).await.0 {
            Err(ExecError::NotStarted { what, hint: Some(hint), transient: false, .. }) => {
                assert_eq!(what, "`no-such-program` on this machine");
                assert!(hint.contains("installed"), "{hint}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_secret_in_the_output_leaves_neither_by_line_nor_by_tail() {
        let redactor = Redactor::new();
        redactor.learn("MARKER-s3cr3t");
        let (exit, lines) = run(&Local::new(redactor), &sh("echo token=MARKER-s3cr3t")).await;
        assert_eq!(lines, [(Stream::Out, "token=[redacted]".into())]);
        assert_eq!(exit.expect("runs").tail, "token=[redacted]");
    }

    #[tokio::test]
    async fn a_timeout_stops_the_whole_group_and_a_deaf_process_is_killed() {
        let dir = tempfile::tempdir().expect("a folder");
        let local = Local::new(Redactor::new()).grace(Duration::from_millis(200)).dir(dir.path());
        let mut command =
            sh("(trap '' TERM; echo $BASHPID; sh -c 'echo $PPID > deaf; exec sleep 1000') & wait");
        command.timeout = Some(Duration::from_millis(500));
        let (result, _) = run(&local, &command).await;
        assert!(matches!(result, Err(ExecError::TimedOut { .. })), "{result:?}");
        let deaf = std::fs::read_to_string(dir.path().join("deaf")).expect("the child wrote its parent's id");
        let deaf = Pid::from_raw(deaf.trim().parse().expect("a number"));
        assert_eq!(nix::sys::signal::kill(deaf, None), Err(Errno::ESRCH), "the grandchild is gone");
    }

    #[tokio::test]
    async fn a_cancellation_ends_the_command() {
        let cancel = CancellationToken::new();
        let local = Local::new(Redactor::new());
        let on_line = {
            let cancel = cancel.clone();
            move |_: Stream, _: &str| cancel.cancel()
        };
        let command = sh("echo started; sleep 1000");
        let result = local.run(&command, &on_line, &cancel).await;
        assert!(matches!(result, Err(ExecError::Cancelled { .. })), "{result:?}");
        let result = local.run(&command, &on_line, &cancel).await;
        assert!(matches!(result, Err(ExecError::Cancelled { .. })), "a cancelled command is not started");
    }

    #[tokio::test]
    async fn houstons_own_environment_is_not_handed_on() {
        // Cargo sets this variable for every test.
        let (exit, _) = run(&Local::new(Redactor::new()), &sh("echo \"[$CARGO_MANIFEST_DIR]\"")).await;
        assert_eq!(exit.expect("runs").tail, "[]");
    }

    #[tokio::test]
    async fn a_killed_command_has_no_exit_code() {
        let (exit, _) = run(&Local::new(Redactor::new()), &sh("kill -KILL $$")).await;
        assert_eq!(exit.expect("runs").code, None);
    }
}
