//! One command over a connection: started so that its process group is known, streamed, and stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use openssh::{Session, Stdio};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exec::output::Sink;
use crate::exec::{Command, ExecError, Exit, Stream};
use crate::secret::Redactor;
use crate::text;

/// For a small command of ours to answer over a connection that works.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a command's output is open until the host is asked whether the command still runs.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// At most, between such looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Lines of login scripts that are kept until the command has begun.
const EARLY_LINES: usize = 100;

pub(super) struct Job<'a> {
    pub(super) session: &'a Session,
    pub(super) what: String,
    pub(super) command: &'a Command,
    pub(super) redactor: &'a Redactor,
    pub(super) grace: Duration,
}

enum Ended {
    Waited(Result<std::process::ExitStatus, openssh::Error>),
    Cancelled,
    TimedOut,
}

impl Job<'_> {
    pub(super) async fn run(
        self,
        on_line: &(dyn Fn(Stream, &str) + Send + Sync),
        cancel: &CancellationToken,
        deadline: Option<Instant>,
    ) -> Result<Exit, ExecError> {
        // sshd makes every command the leader of a session of its own. `exec` keeps that process, so that
        // its number, told on the first line of stderr, is the number of the group.
        let mark = format!("houston-{} ", crate::ids::random_id());
        let mut process =
            self.session.raw_command(format!("exec sh -c 'echo \"{mark}$$\" >&2; exec \"$@\"' houston"));
        process.arg(&self.command.program).args(&self.command.args);
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        process.stdin(if self.command.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = process.spawn().await.map_err(|error| self.not_started(&error))?;
        let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());

        let group = OnceLock::<u32>::new();
        let sink = Sink::new(self.redactor, on_line);
        let (mut out_lines, mut err_lines) = (sink.lines(), sink.lines());
        let to_out = |line: &str| sink.line(Stream::Out, line);
        // Before the mark the account's login scripts speak, not the command. Where it never comes they say why.
        let (marked, early) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let to_err = |line: &str| {
            if marked.load(Ordering::Relaxed) {
                return sink.line(Stream::Err, line);
            }
            let Some(id) = line.strip_prefix(&mark) else {
                let mut early = early.lock().unwrap_or_else(PoisonError::into_inner);
                if early.len() < EARLY_LINES {
                    early.push(line.to_owned());
                }
                return;
            };
            marked.store(true, Ordering::Relaxed);
            // A number that is none leaves the group unknown; then nothing is promised about a stop.
            if let Some(id) = id.trim().parse().ok().filter(|id| *id > 1) {
                let _ = group.set(id);
            }
        };
        let ended = {
            let feed = async {
                if let (Some(mut stdin), Some(text)) = (stdin, &self.command.stdin) {
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
            let mut streams = streams.fuse();
            // Whoever hears of the end closes the session, and with it the output, of which sshd may have
            // much to send yet: it tells the end as soon as the process is gone. So the end is not asked
            // for before the output has ended, or the host has said that the process is gone.
            let mut waited = std::pin::pin!(child.wait());
            let mut over = false;
            let mut settled = std::pin::pin!(async {
                self.gone(&group).await;
                sink.silence().await;
            });
            let mut ended = loop {
                tokio::select! {
                    result = &mut waited, if over => break Ended::Waited(result),
                    _ = &mut streams, if !streams.is_terminated() => over = true,
                    () = &mut settled, if !over => over = true,
                    () = cancel.cancelled() => break Ended::Cancelled,
                    () = sleep_until(deadline) => break Ended::TimedOut,
                }
            };
            if !matches!(ended, Ended::Waited(_)) {
                let stopped = {
                    let stop = self.stop(&group);
                    let mut stop = std::pin::pin!(stop);
                    loop {
                        tokio::select! {
                            stopped = &mut stop => break stopped,
                            _ = &mut streams, if !streams.is_terminated() => {}
                        }
                    }
                };
                if let Err(reason) = stopped {
                    return Err(ExecError::Lost { what: self.what.clone(), reason });
                }
                if !streams.is_terminated() {
                    sink.drain(std::pin::Pin::new(&mut streams)).await;
                }
                // The group is gone; its exit is on the way.
                let _ = tokio::time::timeout(PROBE_TIMEOUT, &mut waited).await;
            } else if let Ended::Waited(Err(openssh::Error::Remote(_))) = ended {
                // The crate takes exit code 127 for an error of its own.
                ended = Ended::Waited(Ok(std::os::unix::process::ExitStatusExt::from_raw(127 << 8)));
            }
            if !streams.is_terminated() {
                sink.drain(std::pin::Pin::new(&mut streams)).await;
            }
            ended
        };
        out_lines.finish(&mut |line| to_out(line));
        err_lines.finish(&mut |line| to_err(line));
        if !marked.load(Ordering::Relaxed) {
            for line in early.into_inner().unwrap_or_else(PoisonError::into_inner) {
                sink.line(Stream::Err, &line);
            }
        }
        match ended {
            Ended::Waited(Ok(status)) => Ok(Exit { code: status.code(), tail: sink.into_tail() }),
            // The protocol has one answer for "killed by a signal" and "the connection is gone".
            Ended::Waited(Err(openssh::Error::RemoteProcessTerminated)) if self.is_alive().await => {
                Ok(Exit { code: None, tail: sink.into_tail() })
            }
            Ended::Waited(Err(error)) => {
                let reason = match error {
                    openssh::Error::RemoteProcessTerminated | openssh::Error::Disconnected => {
                        "it ended while the command was running".to_owned()
                    }
                    other => text::with_causes(&other),
                };
                Err(ExecError::Lost { what: self.what, reason })
            }
            Ended::Cancelled => Err(ExecError::Cancelled { what: self.what }),
            Ended::TimedOut => {
                Err(ExecError::TimedOut { what: self.what, after: self.command.timeout.unwrap_or_default() })
            }
        }
    }

    fn not_started(&self, error: &openssh::Error) -> ExecError {
        let what = self.what.clone();
        let not_started = |reason: String, hint: Option<&str>, transient| ExecError::NotStarted {
            what: what.clone(),
            reason,
            hint: hint.map(str::to_owned),
            transient,
        };
        match error {
            openssh::Error::InvalidCommand => not_started(
                "an argument contains a NUL byte, which no command can be given".into(),
                None,
                false,
            ),
            openssh::Error::SshMux(openssh_error) if is_refusal(&openssh_error.to_string()) => not_started(
                "the server refused another session".into(),
                Some("its `MaxSessions` may be below 10"),
                true,
            ),
            // The connection was there a moment ago. It may have taken the request with it.
            other => ExecError::Lost { what, reason: text::with_causes(other) },
        }
    }

    /// Stops the command's process group. An error says why it is not known to be gone.
    async fn stop(&self, group: &OnceLock<u32>) -> Result<(), String> {
        let known = Instant::now() + PROBE_TIMEOUT;
        let id = loop {
            match group.get() {
                Some(id) => break id,
                None if Instant::now() > known => {
                    return Err("it was to be stopped, but its process is not known".into());
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let tenths = self.grace.as_millis() / 100;
        let script = format!(
            "gone() {{ ! kill -0 -{id} 2>/dev/null; }}; \
             wait_gone() {{ n=0; while [ $n -lt $1 ]; do gone && return 0; sleep 0.1 2>/dev/null || \
             {{ sleep 1; n=$((n+9)); }}; n=$((n+1)); done; gone; }}; \
             kill -TERM -{id} 2>/dev/null; wait_gone {tenths} && exit 0; \
             kill -KILL -{id} 2>/dev/null; wait_gone 50"
        );
        let mut kill = self.session.shell(script);
        kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match tokio::time::timeout(self.grace + PROBE_TIMEOUT, kill.status()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(_)) => Err(format!("it was to be stopped, but its process group {id} is still there")),
            Ok(Err(error)) => {
                Err(format!("it was to be stopped, but that failed: {}", text::with_causes(&error)))
            }
            Err(_) => Err("it was to be stopped, but the host did not answer".into()),
        }
    }

    /// Returns when the host says that the command's own process is gone. What it has left behind may still
    /// hold its output open.
    async fn gone(&self, group: &OnceLock<u32>) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let Some(id) = group.get() else { continue };
            // A signal cannot be sent to another user's process, which `sudo` is.
            let mut look = self.session.shell(format!(
                "kill -0 {id} 2>/dev/null || \
                 if [ -d /proc/self ]; then [ -d /proc/{id} ]; else ps -p {id} >/dev/null 2>&1; fi"
            ));
            look.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let answer = tokio::time::timeout(PROBE_TIMEOUT, look.status()).await;
            if matches!(answer, Ok(Ok(status)) if status.code() == Some(1)) {
                return;
            }
        }
    }

    /// Whether the connection carries a command to the host and its end back.
    async fn is_alive(&self) -> bool {
        let mut probe = self.session.raw_command("exec true");
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        matches!(tokio::time::timeout(PROBE_TIMEOUT, probe.status()).await, Ok(Ok(_)))
    }
}

/// Two variants of openssh-mux-client's error, whose type openssh does not give out, by their texts.
fn is_refusal(text: &str) -> bool {
    text.starts_with("Server refused the request")
}

/// Never, when there is no deadline.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tells the master behind a control socket to end. Best effort: one that nobody tells ends when idle.
pub(super) fn end_master(socket: &Path) {
    if !socket.exists() {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "exec/ is where processes are started")]
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-O", "exit", "-S"]).arg(socket).arg(super::config::ALIAS);
    let null = std::process::Stdio::null;
    let _ = ssh.stdin(null()).stdout(null()).stderr(null()).status();
}
