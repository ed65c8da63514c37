//! A command that outlives the connection, and Houston: started once under a name on the host, followed until
//! it ends, by whoever comes back for it.
//!
//! On the host a folder per name holds what is known of it (`detached/*.sh`). Whoever makes `claim` in it runs
//! the command, so that starting again starts nothing; losing the connection loses nothing. Must not: believe
//! that a command has ended because nothing is heard of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use openssh::{Session, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::SshHost;
use super::remote::sleep_until;
use crate::exec::output::Sink;
use crate::exec::{Detached, ExecError, Exit, Follow, Standing, Stream};
use crate::text;

const START: &str = concat!(include_str!("detached/job.sh"), include_str!("detached/start.sh"));
const WRAP: &str = include_str!("detached/wrap.sh");
const FOLLOW: &str = concat!(include_str!("detached/job.sh"), include_str!("detached/follow.sh"));
const STOP: &str = concat!(include_str!("detached/job.sh"), include_str!("detached/stop.sh"));

/// With which `start.sh` ends when the command has not begun, and never will.
const NEVER: i32 = 3;

const ABSENT: &str = "the host knows nothing of it any more: its folder was removed";

/// For a small script of ours, beside what it waits for itself.
const ANSWER: Duration = Duration::from_secs(20);

/// Between attempts to reach a host again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often how far the output was read is told.
const TELL: Duration = Duration::from_millis(250);

/// Of what a script of ours says.
const MOST_SAID: u64 = 64 * 1024;

/// One command on one host.
pub(super) struct Job<'a> {
    pub host: &'a SshHost,
    pub job: &'a Detached<'a>,
    pub what: String,
    pub follow: &'a dyn Follow,
    pub cancel: &'a CancellationToken,
}

/// How a connection's part in following it ended.
enum Heard {
    Ended(i32),
    /// It is not there any more, and left no exit status.
    Gone(&'static str),
    /// The connection went away, or was never there.
    Lost(String),
}

/// Why it is to be stopped.
enum Stop {
    Cancelled,
    TimedOut(Duration),
}

/// A small script's end.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Job<'_> {
    pub async fn run(self) -> Result<Exit, ExecError> {
        let asked = Instant::now();
        let limit = self.job.command.timeout;
        if self.cancel.is_cancelled() && !self.job.resumed {
            return Err(ExecError::Cancelled { what: self.what });
        }
        // Not cut short: a request under way may start it.
        let started = self.start(limit.map(|limit| asked + limit)).await?;
        // Counted from when it began, also when that was before this process.
        let deadline = limit.map(|limit| started.checked_add(limit).unwrap_or(asked));
        let redactor = self.host.0.redactor.clone();
        let on_line = |_: Stream, line: &str| self.follow.line(line);
        let sink = Sink::new(&redactor, &on_line);
        let mut seen = self.job.seen;
        let mut pause = FIRST_PAUSE;
        let mut lost_at: Option<Instant> = None;
        let stop = loop {
            let heard = tokio::select! {
                heard = self.listen(&sink, &mut seen, &mut lost_at, &mut pause) => heard,
                () = self.cancel.cancelled() => break Stop::Cancelled,
                () = sleep_until(deadline) => break Stop::TimedOut(limit.unwrap_or_default()),
            };
            match heard {
                Heard::Ended(code) => {
                    self.follow.seen(seen);
                    return Ok(Exit { code: Some(code), tail: sink.into_tail() });
                }
                Heard::Gone(why) => {
                    return Err(ExecError::Vanished { what: self.what, reason: why.to_owned() });
                }
                Heard::Lost(reason) => {
                    let since = *lost_at.get_or_insert_with(Instant::now);
                    let for_so_long = crate::text::duration(since.elapsed());
                    self.follow.status(&format!(
                        "{} is out of reach since {for_so_long} ({reason}); what was started there goes on, and is followed again as soon as it answers",
                        self.host.0.settings
                    ));
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                        () = self.cancel.cancelled() => break Stop::Cancelled,
                        () = sleep_until(deadline) => break Stop::TimedOut(limit.unwrap_or_default()),
                    }
                }
            }
        };
        if let Err(reason) = self.stop().await {
            return Err(ExecError::Lost { what: self.what, reason });
        }
        // What it said last.
        let (mut lost_at, mut pause) = (None, FIRST_PAUSE);
        let rest = self.listen(&sink, &mut seen, &mut lost_at, &mut pause);
        let _ = tokio::time::timeout(ANSWER, rest).await;
        self.follow.seen(seen);
        Err(match stop {
            Stop::Cancelled => ExecError::Cancelled { what: self.what },
            Stop::TimedOut(after) => ExecError::TimedOut { what: self.what, after },
        })
    }

    /// Starts it, unless that was done before; returns when it began. Tries until it is known.
    async fn start(&self, deadline: Option<Instant>) -> Result<Instant, ExecError> {
        let mark = mark();
        let command = quoted(&self.job.command.program, &self.job.command.args);
        // What wrote something has begun.
        let known = if self.job.resumed && self.job.seen > 0 { "known" } else { "" };
        let arguments = [mark.as_str(), self.job.name, WRAP, &command, known];
        let input = self.job.command.stdin.as_deref().unwrap_or_default();
        // Whether it may have been started by an earlier process, or by a request whose answer was lost.
        let mut sent = self.job.resumed;
        let mut pause = FIRST_PAUSE;
        loop {
            let reason = match self.host.session().await {
                Err(ExecError::NotStarted { reason, hint, transient, .. }) if !sent => {
                    return Err(ExecError::NotStarted { what: self.what.clone(), reason, hint, transient });
                }
                Err(error) => why(error),
                Ok(session) => match ask(&session, START, &arguments, Some(input)).await {
                    Ok(Said { code: Some(0), out, .. }) if out.starts_with(&mark) => {
                        let told = out[mark.len()..].trim();
                        if told == "absent" {
                            return Err(ExecError::Vanished {
                                what: self.what.clone(),
                                reason: ABSENT.into(),
                            });
                        }
                        let age = told.parse().unwrap_or(0);
                        let now = Instant::now();
                        return Ok(now.checked_sub(Duration::from_secs(age)).unwrap_or(now));
                    }
                    Ok(Said { code: Some(code), err, .. }) => {
                        let reason = crate::text::ellipsis(err.trim(), 500).into_owned();
                        let what = self.what.clone();
                        return Err(if sent && code != NEVER {
                            ExecError::Lost { what, reason }
                        } else {
                            ExecError::NotStarted { what, reason, hint: None, transient: false }
                        });
                    }
                    Ok(Said { code: None, .. }) => "its connection ended".to_owned(),
                    Err(reason) => reason,
                },
            };
            sent = true;
            if self.cancel.is_cancelled() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(ExecError::Lost { what: self.what.clone(), reason });
            }
            self.follow.status(&format!(
                "{} is out of reach ({reason}); it may have begun there, and is looked for as soon as it answers",
                self.host.0.settings
            ));
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.cancel.cancelled() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Follows it over one connection.
    async fn listen(
        &self,
        sink: &Sink<'_>,
        seen: &mut u64,
        lost_at: &mut Option<Instant>,
        pause: &mut Duration,
    ) -> Heard {
        let session = match self.host.session().await {
            Ok(session) => session,
            Err(error) => return Heard::Lost(why(error)),
        };
        let mark = mark();
        let from = seen.to_string();
        let mut process = script(&session, FOLLOW, &[&mark, self.job.name, &from, "wait"]);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match process.spawn().await {
            Ok(child) => child,
            Err(error) => return Heard::Lost(text::with_causes(&error)),
        };
        if let Some(since) = lost_at.take() {
            let away = crate::text::duration(since.elapsed());
            self.follow.status(&format!("{} answers again, after {away}", self.host.0.settings));
            *pause = FIRST_PAUSE;
        }
        let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
        let (mut lines, mut notes) = (sink.lines(), sink.lines());
        let told = std::sync::Mutex::new(None);
        let note = |line: &str| {
            if let Some(state) = line.strip_prefix(&mark) {
                let host = &self.host.0.settings;
                if let Some(room) = state.trim().strip_prefix("full ") {
                    self.follow.status(&format!(
                        "there is no room on {host} for what it writes: {room}; make room there, its end is told once there is"
                    ));
                    return;
                }
                if state.trim() == "roomy" {
                    self.follow.status(&format!("there is room on {host} again"));
                    return;
                }
                *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(state.trim().to_owned());
            }
        };
        let whole = AtomicU64::new(*seen);
        let output = stdout.map(|inner| Whole { inner, read: *seen, complete: *seen, whole: &whole });
        let to_line = |line: &str| sink.line(Stream::Out, line);
        let tell = async {
            let mut told = *seen;
            loop {
                tokio::time::sleep(TELL).await;
                let now = whole.load(Ordering::Relaxed);
                if std::mem::replace(&mut told, now) != now {
                    self.follow.seen(now);
                }
            }
        };
        tokio::select! {
            _ = async { tokio::join!(sink.pump(output, &mut lines, &to_line), sink.pump(stderr, &mut notes, &note)) } => {}
            () = tell => {}
        }
        let state = told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).unwrap_or_default();
        *seen = whole.load(Ordering::Relaxed);
        let ended = match state.split_once(' ') {
            Some(("ended", status)) => status.parse().ok().map(Heard::Ended),
            _ => match state.as_str() {
                "killed" => Some(Heard::Gone(
                    "it was killed before it ended: there is no process of it any more, and no exit status",
                )),
                "rebooted" => Some(Heard::Gone("the host was restarted while it ran, and it went with it")),
                "absent" => Some(Heard::Gone(ABSENT)),
                _ => None,
            },
        };
        match ended {
            Some(heard) => {
                // What stands without a line end.
                lines.finish(&mut |line| to_line(line));
                heard
            }
            // What was read of a line without its end is read again.
            None => Heard::Lost("the connection was lost".to_owned()),
        }
    }

    /// An error says why it is not known to be gone.
    async fn stop(&self) -> Result<(), String> {
        let grace = self.host.0.options.grace;
        let tenths = (grace.as_millis() / 100).to_string();
        let until = Instant::now() + grace + ANSWER;
        loop {
            let reason = match self.host.session().await {
                Ok(session) => {
                    let arguments = [self.job.name, &tenths];
                    let asked = ask(&session, STOP, &arguments, None);
                    match tokio::time::timeout(grace + ANSWER, asked).await {
                        Ok(Ok(Said { code: Some(0), .. })) => return Ok(()),
                        Ok(Ok(Said { code: Some(_), err, .. })) => {
                            let why = crate::text::ellipsis(err.trim(), 300).into_owned();
                            return Err(format!("it was to be stopped, but {why}"));
                        }
                        Ok(Ok(Said { code: None, .. })) => "the connection ended".to_owned(),
                        Ok(Err(reason)) => reason,
                        Err(_) => "the host did not answer".to_owned(),
                    }
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return Err(format!("it was to be stopped, but {reason}"));
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }
}

/// How a job stands. An error means that the host could not be asked.
pub(super) async fn standing(host: &SshHost, name: &str) -> Result<Standing, ExecError> {
    let session = host.session().await?;
    let mark = mark();
    let said = ask(&session, FOLLOW, &[&mark, name, "0", "once"], None).await;
    let lost = |reason: String| ExecError::Lost { what: format!("{name} on {}", host.0.settings), reason };
    let said = said.map_err(lost)?;
    let state = said.err.lines().rev().find_map(|line| line.strip_prefix(&mark)).map(str::trim);
    match state {
        Some("absent") => Ok(Standing::Absent),
        Some("alive" | "starting") => Ok(Standing::Running),
        Some(_) => Ok(Standing::Ended),
        None => Err(lost(crate::text::ellipsis(said.err.trim(), 300).into_owned())),
    }
}

/// Forgets a job that has ended. Best effort: the host's leftovers are removed after a month in any case.
pub(super) async fn clear(host: &SshHost, name: &str) {
    const CLEAR: &str = r#"rm -rf -- "${XDG_STATE_HOME:-$HOME/.local/state}/houston/jobs/$1""#;
    if let Ok(session) = host.session().await {
        let _ = ask(&session, CLEAR, &[name], None).await;
    }
}

/// Without what it was about, which the sentence around it says.
fn why(error: ExecError) -> String {
    match error {
        ExecError::NotStarted { reason, .. } | ExecError::Lost { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn mark() -> String {
    format!("houston-{} ", crate::ids::random_id())
}

fn script<'s>(session: &'s Session, text: &str, arguments: &[&str]) -> openssh::OwningCommand<&'s Session> {
    let mut process = session.raw_command("exec sh -c");
    process.arg(text).arg("houston").args(arguments);
    process
}

/// Runs a small script of ours to its end.
async fn ask(session: &Session, text: &str, arguments: &[&str], input: Option<&str>) -> Result<Said, String> {
    let mut process = script(session, text, arguments);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    process.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let work = async {
        let mut child = process.spawn().await.map_err(|error| text::with_causes(&error))?;
        let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let feed = async {
            if let (Some(mut stdin), Some(text)) = (stdin, input) {
                let _ = stdin.write_all(text.as_bytes()).await;
                let _ = stdin.shutdown().await;
            }
        };
        let ((), out, err) = tokio::join!(feed, whole(stdout), whole(stderr));
        match child.wait().await {
            Ok(status) => Ok(Said { code: status.code(), out, err }),
            // The crate takes exit code 127 for an error of its own.
            Err(openssh::Error::Remote(_)) => Ok(Said { code: Some(127), out, err }),
            Err(error) => Err(text::with_causes(&error)),
        }
    };
    match tokio::time::timeout(ANSWER + Duration::from_secs(10), work).await {
        Ok(said) => said,
        Err(_) => Err("the host did not answer".to_owned()),
    }
}

async fn whole(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(MOST_SAID).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `set -- 'docker' 'service' …`: the words as the wrapper reads them back.
fn quoted(program: &str, arguments: &[String]) -> String {
    let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    let words: Vec<String> = words.map(text::shquote).collect();
    format!("set -- {}", words.join(" "))
}

/// Output on its way in, which knows up to where whole lines were handed on.
struct Whole<'a, R> {
    inner: R,
    read: u64,
    /// Behind the last line end that was read.
    complete: u64,
    whole: &'a AtomicU64,
}

impl<R: AsyncRead + Unpin> AsyncRead for Whole<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Whoever reads again has dealt with what was read before.
        self.whole.store(self.complete, Ordering::Relaxed);
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let new = &buffer.filled()[before..];
        if let Some(end) = new.iter().rposition(|byte| *byte == b'\n') {
            self.complete = self.read + end as u64 + 1;
        }
        self.read += new.len() as u64;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_so_that_a_shell_reads_them_back() {
        let arguments = ["-c".to_owned(), "echo 'it''s' $HOME; `id`\n".to_owned(), String::new()];
        assert_eq!(
            quoted("sh", &arguments),
            "set -- 'sh' '-c' 'echo '\\''it'\\'''\\''s'\\'' $HOME; `id`\n' ''"
        );
    }
}
