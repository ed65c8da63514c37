//! `ssh`: runs a command on a host of the environment. One that may change something is left to the host under
//! a name made of run and step, and followed: it outlives the connection and Houston, and starts once.
//!
//! Must not: build a shell string. A command is a list of words.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, UndoMode, params,
};
use crate::exec::{Command, Detached, ExecError, Follow, Host, Standing, Stream};
use crate::playbook::model::Preview;
use crate::text::{chat_len, code, defuse, ellipsis, shell_words};

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "host",
        kind: ParamKind::Text,
        required: true,
        doc: "A host of the environment file; a temporary one is that of this run.",
    },
    ParamSpec {
        name: "command",
        kind: ParamKind::Argv,
        required: true,
        doc: "Program and arguments, a list of words.",
    },
    ParamSpec {
        name: "stdin",
        kind: ParamKind::Text,
        required: false,
        doc: "Fed to its standard input. Default: nothing.",
    },
    ParamSpec {
        name: "timeout",
        kind: ParamKind::Duration,
        required: false,
        doc: "After which it is stopped. Default: the step's own `timeout`.",
    },
    ParamSpec {
        name: "expect_exit",
        kind: ParamKind::Integer,
        required: false,
        doc: "The exit status of success. Default 0.",
    },
    ParamSpec {
        name: "repeat",
        kind: ParamKind::Enum(&["safe", "idempotent", "once"]),
        required: false,
        doc: "What a repeat means: it only reads (`safe`: it runs within the connection, and again after a crash), \
              it ends in the same state (`idempotent`: run again when the host took it down), or it must not be \
              repeated by itself (`once`). Default `once`.",
    },
];

/// Of a command in a title.
const TITLE: usize = 80;

pub(super) struct Ssh;

fn command(given: &Json) -> Result<Command, StepError> {
    let mut words = params::list(given, "command").into_iter();
    let Some(program) = words.next() else { return Err(StepError::new("the step's `command` is empty")) };
    Ok(Command {
        program,
        args: words.collect(),
        stdin: params::text(given, "stdin").map(str::to_owned),
        timeout: params::duration(given, "timeout")?,
    })
}

impl StepKind for Ssh {
    fn name(&self) -> &'static str {
        "ssh"
    }
    fn doc(&self) -> &'static str {
        "Runs a command on a host of the environment; the output is `exit` and `tail`."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, given: &Json) -> Repeat {
        // What does not only read is found again by its name.
        if reads_only(given) { Repeat::Safe } else { Repeat::Keyed }
    }
    fn undo_mode(&self, given: &Json) -> UndoMode {
        if reads_only(given) { UndoMode::NotNeeded } else { UndoMode::Impossible }
    }
    fn title(&self, given: &Json) -> String {
        let typed = shell_words(&params::list(given, "command"));
        let host = params::text(given, "host").unwrap_or("a host");
        let input =
            if params::text(given, "stdin").is_some() { ", with text on its standard input" } else { "" };
        format!("run {} on {}{input}", code(&ellipsis(&typed, TITLE)), code(host))
    }
    fn whole(&self, given: &Json) -> Option<String> {
        let typed = shell_words(&params::list(given, "command"));
        match params::text(given, "stdin") {
            Some(stdin) => Some(format!("{typed}\n# on its standard input\n{stdin}")),
            None if chat_len(&typed) > TITLE || typed.contains('\n') => Some(typed),
            None => None,
        }
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let empty = given.get("command").and_then(Json::as_array).is_some_and(Vec::is_empty);
        if empty { vec!["`command` is empty".to_owned()] } else { Vec::new() }
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            command(given)?;
            // Only whether the host is known: a plan must not hang on a host that is down.
            host(context, given)?;
            Ok(Preview::default())
        })
    }

    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let command = command(given)?;
            let expected = params::integer(given, "expect_exit")?.unwrap_or(0);
            let host = host(context, given)?;
            let redact = |t: &str| context.redactor.redact(t).into_owned();
            let reads_only = reads_only(given);
            let ended = if reads_only {
                let say = |_: Stream, line: &str| context.progress.output(&redact(line));
                host.run(&command, &say, &context.cancel).await
            } else {
                let job = Detached {
                    name: &job_name(context),
                    command: &command,
                    seen: context.earlier.followed,
                    resumed: context.earlier.open,
                };
                host.follow(&job, &Followed(context), &context.cancel).await
            };
            let exit = ended.map_err(|error| explain(&error, params::text(given, "repeat")))?;
            let tail = redact(&defuse(&exit.tail));
            if exit.code.is_some_and(|c| u64::try_from(c) == Ok(expected)) {
                return Ok(json!({ "exit": exit.code, "tail": tail }));
            }
            let how = match exit.code {
                Some(status) => format!("ended with status {status}"),
                None => "was killed by a signal".to_owned(),
            };
            let message = format!("{} on {} {how}", code(&command.program), code(&host.name()));
            let error = StepError::new(message);
            let error = if tail.is_empty() { error } else { error.tail(tail) };
            Err(if reads_only { error } else { error.with_effects() })
        })
    }

    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            let host = host(context, given)?;
            match host.standing(&job_name(context)).await {
                Ok(Standing::Absent) if context.earlier.followed > 0 => Ok(Probed::Unknown(
                    "it has begun, since it wrote something, and its host knows nothing of it any more"
                        .to_owned(),
                )),
                Ok(Standing::Absent) => Ok(Probed::DidNotHappen),
                Ok(Standing::Running) => {
                    let on = code(&host.name());
                    Ok(Probed::UnderWay(format!("the command that I started still runs on {on}")))
                }
                Ok(Standing::Ended) => {
                    let on = code(&host.name());
                    Ok(Probed::UnderWay(format!("the command that I started has ended on {on} meanwhile")))
                }
                Err(error) => Err(StepError::new(defuse(&error.to_string()).into_owned()).transient()),
            }
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        let (Ok(host), Ok(command)) = (host(context, given), command(given)) else {
            return ByHand::default();
        };
        let mut act = vec![host.typed(&command)];
        if command.stdin.is_some() {
            act.insert(0, "# with the step's `stdin` on its standard input".to_owned());
        }
        if reads_only(given) {
            return ByHand { look: act.clone(), act, undo: Vec::new() };
        }
        // What the wrapper leaves there; the folder is removed when the outcome is known.
        let jobs = "${XDG_STATE_HOME:-$HOME/.local/state}/houston/jobs";
        let look = format!("cd \"{jobs}/{}\" && tail out; cat status", job_name(context));
        let look = Command {
            program: "sh".to_owned(),
            args: vec!["-c".to_owned(), look],
            stdin: None,
            timeout: None,
        };
        ByHand { look: vec![host.typed(&look)], act, undo: Vec::new() }
    }

    fn outlives(&self, given: &Json) -> bool {
        !reads_only(given)
    }

    fn forget<'a>(&'a self, context: &'a StepContext, given: &'a Json) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !reads_only(given)
                && let Ok(host) = host(context, given)
            {
                host.clear(&job_name(context)).await;
            }
        })
    }
}

fn reads_only(given: &Json) -> bool {
    params::text(given, "repeat") == Some("safe")
}

fn host(context: &StepContext, given: &Json) -> Result<Arc<dyn Host>, StepError> {
    let environment = super::swarm_service::environment(context)?;
    context.world.host(environment, params::required(given, "host")?, &context.token)
}

/// An attempt whose end was seen is not taken up again: the next one has a name of its own.
fn job_name(context: &StepContext) -> String {
    format!("{}-{}", context.token, context.earlier.ended)
}

/// Where a detached command's output goes.
struct Followed<'a>(&'a StepContext);

impl Follow for Followed<'_> {
    fn line(&self, line: &str) {
        self.0.progress.output(&self.0.redactor.redact(line));
    }
    fn seen(&self, bytes: u64) {
        self.0.progress.followed(bytes);
    }
    fn status(&self, text: &str) {
        self.0.progress.status(&defuse(text));
    }
}

fn explain(error: &ExecError, repeat: Option<&str>) -> StepError {
    let reads_only = repeat == Some("safe");
    let out = StepError::new(defuse(&error.to_string()).into_owned());
    let out = match error {
        ExecError::NotStarted { hint, transient, .. } => {
            return StepError { hint: hint.clone(), transient: *transient, ..out };
        }
        ExecError::Lost { .. } if reads_only => out.transient(),
        ExecError::Lost { .. } => out.transient().under_way().hint(
            "it may still be running there; `retry` follows what was started, and starts nothing beside it",
        ),
        // Whatever ended it is over; whether that left something half done is for the command to know.
        ExecError::Vanished { .. } if repeat == Some("idempotent") => out.transient(),
        ExecError::Vanished { .. } => out.hint("look at what it has done before you repeat it"),
        ExecError::TimedOut { .. } => out,
        ExecError::Cancelled { .. } => out.cancelled(),
    };
    if reads_only { out } else { out.with_effects() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Effects;
    use super::super::testing::{Lines, Scripted, context};
    use super::*;
    use crate::exec::Exit;

    async fn run(
        given: Json,
        exit: Result<Exit, ExecError>,
    ) -> (Result<Json, StepError>, Vec<String>, Command) {
        let (script, lines) = (Arc::new(Scripted::default()), Arc::new(Lines::default()));
        script.exits.lock().expect("not poisoned").push_back(exit);
        let result = Ssh.run(&context(&script, &lines), &given).await;
        let lines = lines.0.lock().expect("not poisoned").clone();
        let command = script.commands.lock().expect("not poisoned")[0].clone();
        (result, lines, command)
    }

    fn exit(code: i32) -> Result<Exit, ExecError> {
        Ok(Exit { code: Some(code), tail: "the secret-word is out".into() })
    }

    #[tokio::test]
    async fn words_stay_words_and_output_is_redacted() {
        let given = json!({ "host": "node1", "command": ["echo", "a b; rm -rf /"] });
        let (result, lines, command) = run(given, exit(0)).await;
        assert_eq!(result, Ok(json!({ "exit": 0, "tail": "the [redacted] is out" })));
        assert_eq!(lines, ["one line of [redacted]"]);
        assert_eq!((command.program.as_str(), command.args), ("echo", vec!["a b; rm -rf /".to_owned()]));
    }

    #[tokio::test]
    async fn another_status_is_a_failure_that_may_have_done_something() {
        let given = json!({ "host": "node1", "command": ["make"] });
        let error = run(given, exit(2)).await.0.expect_err("status 2");
        assert_eq!(error.message, "`make` on `node1 (deploy@\u{200b}10.0.0.2)` ended with status 2");
        assert_eq!(
            (error.effects, error.tail.as_deref()),
            (Effects::Possible, Some("the [redacted] is out"))
        );
        let given = json!({ "host": "node1", "command": ["test"], "expect_exit": "2", "repeat": "safe" });
        assert!(run(given, exit(2)).await.0.is_ok());
    }

    #[tokio::test]
    async fn a_lost_connection_is_not_taken_for_a_failure_without_effects() {
        let lost = || Err(ExecError::Lost { what: "node1".into(), reason: "reset".into() });
        let once = json!({ "host": "node1", "command": ["make"] });
        let error = run(once, lost()).await.0.expect_err("lost");
        assert!(error.transient && error.effects == Effects::Possible);
        let reads = json!({ "host": "node1", "command": ["uptime"], "repeat": "safe" });
        assert_eq!(run(reads, lost()).await.0.expect_err("lost").effects, Effects::None);
    }
}
