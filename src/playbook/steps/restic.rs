//! `restic`: saves the sources that an environment declares, keeps what is to be kept, checks the repository. restic
//! runs on the source's host, detached: it outlives the connection and Houston.
//!
//! Must not: put a secret into a plan, an argument or an error.

mod explain;
mod list;
mod restore;

pub use list::list;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, params,
};
use crate::config::environment::{Backups, Source, What};
use crate::exec::{Command, Detached, ExecError, Exit, Follow, Host, Standing};
use crate::ids::EnvName;
use crate::playbook::model::{LockName, Preview};
use crate::providers::restic::{self, Access, Of, Said, Shown};
use crate::text::{self, code, defuse};

const ACTIONS: &[&str] = &["backup", "forget", "prune", "check", "compare", "restore", "init"];

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "action",
        kind: ParamKind::Enum(ACTIONS),
        required: true,
        doc: "`backup` saves a source; `forget` forgets the snapshots of a source that are not to be kept, and \
              `prune` removes their data; `check` checks the repository and reads a part of its data; `compare` \
              restores a sample of a source, or reads its dump back, and compares it; `restore` puts a snapshot in the \
              place of what is there; `init` makes the repository.",
    },
    ParamSpec {
        name: "source",
        kind: ParamKind::Text,
        required: false,
        doc: "Of the environment's `backups`; for `backup`, `forget`, `compare` and `restore`.",
    },
    ParamSpec {
        name: "snapshot",
        kind: ParamKind::Text,
        required: false,
        doc: "For `restore`: the beginning of its id. Default: the newest.",
    },
    ParamSpec {
        name: "to",
        kind: ParamKind::Text,
        required: false,
        doc: "For `restore`: the environment that it goes to; or",
    },
    ParamSpec {
        name: "in_place",
        kind: ParamKind::Text,
        required: false,
        doc: "`true`: it replaces what the environment has now.",
    },
];

/// The name under which steps about backups exclude each other in an environment.
const PART: &str = "backups";

/// Listing a repository may take so long.
const SNAPSHOTS_WITHIN: Duration = Duration::from_secs(60);

/// Of what restic says last, in an error.
const SHOWN_LINES: usize = 15;

pub(super) struct Restic;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Backup,
    Forget,
    Prune,
    Check,
    Compare,
    Restore,
    Init,
}

impl Action {
    fn of(given: &Json) -> Result<Self, StepError> {
        Ok(match params::required(given, "action")? {
            "backup" => Self::Backup,
            "forget" => Self::Forget,
            "prune" => Self::Prune,
            "check" => Self::Check,
            "compare" => Self::Compare,
            "restore" => Self::Restore,
            "init" => Self::Init,
            other => return Err(StepError::new(format!("`restic` has no action {}", code(other)))),
        })
    }
    fn of_source(self) -> bool {
        matches!(self, Self::Backup | Self::Forget | Self::Compare | Self::Restore)
    }
}

/// What a step is about, looked up.
struct Job<'a> {
    action: Action,
    environment: &'a EnvName,
    backups: Backups,
    source: Option<Source>,
    host: Arc<dyn Host>,
    /// Another number each day: which part is read, which sample is compared.
    turn: u64,
}

impl<'a> Job<'a> {
    fn new(context: &'a StepContext, given: &Json) -> Result<Self, StepError> {
        let action = Action::of(given)?;
        let environment = super::swarm_service::environment(context)?;
        let backups = context.world.backups(environment)?;
        let source = match params::text(given, "source").filter(|_| action.of_source()) {
            Some(name) => Some(source(environment, &backups, name)?.clone()),
            None if action.of_source() => return Err(StepError::new("the step names no source")),
            None => None,
        };
        let host = source.as_ref().map_or(&backups.host, |source| &source.host);
        let host = context.world.host(environment, host, &context.token)?;
        let turn = u64::try_from(context.clock.now().as_second().div_euclid(86_400)).unwrap_or(0);
        Ok(Self { action, environment, backups, source, host, turn })
    }

    fn of(&self) -> Of<'_> {
        let source = self.source.as_ref().map_or("", |source| &source.name);
        Of { environment: self.environment.as_str(), source }
    }

    /// restic's words, and the dump that it reads, if any.
    fn words(&self, context: &StepContext) -> (Vec<String>, Option<&[String]>) {
        let token = context.token.as_str();
        match (self.action, self.source.as_ref().map(|source| &source.what)) {
            (Action::Backup, Some(What::Dump { command, .. })) => {
                (restic::backup_input(&self.of(), token), Some(command))
            }
            (Action::Backup, Some(What::Paths { paths, exclude })) => {
                (restic::backup_paths(&self.of(), token, paths, exclude), None)
            }
            (Action::Forget, _) => (restic::forget(&self.of(), self.backups.keep, false), None),
            (Action::Prune, _) => (restic::prune(), None),
            (Action::Init, _) => (restic::init(), None),
            _ => {
                let (part, of) = self.part();
                (restic::check(part, of), None)
            }
        }
    }

    /// Which part of the data is read today: after so many days all was.
    fn part(&self) -> (u32, u32) {
        let of = self.backups.read_all_in_days.max(1);
        (u32::try_from(self.turn % u64::from(of)).unwrap_or(0) + 1, of)
    }

    /// The command, and the host that it runs on.
    async fn command(
        &self,
        context: &StepContext,
        given: &Json,
    ) -> Result<(Arc<dyn Host>, Command), StepError> {
        if self.action == Action::Restore {
            return self.restore(context, given).await;
        }
        let access = self.access(context).await?;
        let command = match (self.action, self.source.as_ref().map(|source| &source.what)) {
            (Action::Compare, Some(What::Dump { .. })) => access.compare_dump(&self.of()),
            (Action::Compare, _) => access.compare(&self.of(), self.turn),
            _ => match self.words(context) {
                (words, Some(dump)) => access.save_dump(dump, &words),
                (words, None) => access.run(&words),
            },
        };
        Ok((Arc::clone(&self.host), command))
    }

    async fn access(&self, context: &StepContext) -> Result<Access, StepError> {
        let mut credentials = Vec::new();
        for (name, reference) in &self.backups.credentials {
            credentials.push((name.clone(), context.world.secret(reference).await?));
        }
        let password = context.world.secret(&self.backups.password).await?;
        Ok(Access { repository: self.backups.repository.clone(), password, credentials })
    }

    /// How it went, as the step's output.
    fn output(
        &self,
        context: &StepContext,
        given: &Json,
        exit: &Exit,
        said: &Said,
    ) -> Result<Json, StepError> {
        if exit.code != Some(0) {
            let error = self.explain(exit, said);
            // What it left half done beside the live files is cleared away by the undo.
            return Err(if self.action == Action::Restore { error.with_effects() } else { error });
        }
        let source = self.source.as_ref().map(|source| &source.name);
        Ok(match self.action {
            Action::Backup => {
                let Some(summary) = &said.summary else {
                    return Err(StepError::new(format!(
                        "restic on {} told no result",
                        code(&self.host.name())
                    )));
                };
                json!({
                    "source": source,
                    "snapshot": summary.snapshot_id,
                    "files": summary.total_files_processed,
                    "bytes": summary.total_bytes_processed,
                    "added": summary.data_added,
                    "seconds": summary.total_duration,
                    "sha256": said.sha256,
                    "restic": said.version,
                })
            }
            Action::Forget => json!({
                "source": source,
                "kept": said.kept.unwrap_or(0),
                "removed": said.removed.unwrap_or(0),
            }),
            Action::Check => {
                let (part, of) = self.part();
                json!({ "part": part, "of": of })
            }
            Action::Compare => return self.compared(context, said),
            Action::Restore => return self.restored(context, given),
            Action::Prune | Action::Init => json!({}),
        })
    }
}

impl Job<'_> {
    /// What was restored is what was saved.
    fn compared(&self, context: &StepContext, said: &Said) -> Result<Json, StepError> {
        let name = self.source.as_ref().map_or("", |source| &source.name);
        if let Some(sum) = &said.read_back {
            let of_this = |output: &&Json| output.get("source").and_then(Json::as_str) == Some(name);
            let saved =
                context.outputs.values().filter(of_this).find_map(|output| output.get("sha256")?.as_str());
            if saved.is_some_and(|saved| saved != sum) {
                return Err(StepError::new(format!(
                    "what was read back of {} is not what was saved",
                    code(name)
                ))
                .hint("do not rely on this backup; look at the repository and at the host's memory and disks")
                .unfit());
            }
            return Ok(json!({ "source": name, "read_back": true, "compared": saved.is_some() }));
        }
        let Some(compared) = said.compared else {
            return Err(StepError::new(format!("nothing is known of what was restored of {}", code(name))));
        };
        Ok(json!({
            "source": name,
            "files": compared.files,
            "compared": compared.compared,
            "changed": compared.changed,
            "bytes": compared.bytes,
        }))
    }
}

/// A source by its name, or which there are.
pub(super) fn source<'b>(
    environment: &EnvName,
    backups: &'b Backups,
    name: &str,
) -> Result<&'b Source, StepError> {
    backups.source(name).ok_or_else(|| {
        let names = backups.names();
        let error = StepError::new(format!("{} has no source {}", code(environment.as_str()), code(name)));
        match text::did_you_mean(name, names.iter().copied()) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint(format!("its sources are {}", text::and_list(&names))),
        }
    })
}

impl StepKind for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }
    fn doc(&self) -> &'static str {
        "Saves, prunes and checks the backups that the environment declares, with restic on its hosts."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, _: &Json) -> Repeat {
        // Found again by its name on the host.
        Repeat::Keyed
    }
    fn undo_mode(&self, given: &Json) -> UndoMode {
        // A snapshot more harms nobody, and what was forgotten was to be.
        if restores(given) { UndoMode::ByKind } else { UndoMode::NotNeeded }
    }
    fn locks(&self, environment: &EnvName, given: &Json) -> Vec<LockName> {
        let backups = LockName { environment: environment.clone(), service: Some(PART.into()) };
        if !restores(given) {
            return vec![backups];
        }
        let to = params::text(given, "to").map_or_else(|| environment.clone(), EnvName::from);
        vec![backups, LockName { environment: to, service: None }]
    }
    fn title(&self, given: &Json) -> String {
        let source = code(params::text(given, "source").unwrap_or("a source"));
        match params::text(given, "action").unwrap_or_default() {
            "backup" => format!("save {source}"),
            "forget" => format!("forget the backups of {source} that are not to be kept"),
            "prune" => "remove data that no backup needs".to_owned(),
            "check" => "check the repository, and read a part of its data".to_owned(),
            "compare" => format!("restore a sample of {source}, and compare it"),
            "restore" => match params::text(given, "to") {
                Some(to) => format!("restore {source} to {}", code(to)),
                None => format!("restore {source} in place"),
            },
            _ => "make the repository".to_owned(),
        }
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let action = Action::of(given).ok();
        let source = given.get("source").is_some_and(|source| !source.is_null());
        match action {
            Some(action) if action.of_source() && !source => {
                vec!["`restic` needs `source` for this action".to_owned()]
            }
            Some(action) if !action.of_source() && source => {
                vec!["`source` goes with `backup`, `forget`, `compare` and `restore`".to_owned()]
            }
            _ => Vec::new(),
        }
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            // Only what is declared: a plan must not hang on a host that is down.
            let job = Job::new(context, given)?;
            if job.action == Action::Restore {
                // Which snapshot it is, only the repository knows.
                return job.preview_restore(context, given).await;
            }
            let keep = job.backups.keep;
            let note = match (job.action, job.source.as_ref().map(|source| &source.what)) {
                (Action::Backup, Some(What::Paths { paths, .. })) => {
                    format!("{} of {}", text::and_list(paths), code(&job.host.name()))
                }
                (Action::Backup, Some(What::Dump { command, .. })) => {
                    format!("what {} writes on {}", code(&text::shell_words(command)), code(&job.host.name()))
                }
                (Action::Forget, _) => format!(
                    "keeps {} daily, {} weekly and {} monthly ones",
                    keep.daily, keep.weekly, keep.monthly
                ),
                (Action::Init, _) => format!("{} must not hold one yet", code(&job.backups.repository)),
                _ => return Ok(Preview::default()),
            };
            Ok(Preview { notes: vec![note], ..Preview::default() })
        })
    }

    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let job = Job::new(context, given)?;
            let (host, command) = job.command(context, given).await?;
            let name = job_name(context);
            // Its whole output is read also when part of it was before: the result may stand there.
            let detached =
                Detached { name: &name, command: &command, seen: 0, resumed: context.earlier.open };
            let heard = Heard::new(context);
            let exit = host.follow(&detached, &heard, &context.cancel).await;
            let exit = exit.map_err(|error| match lost(&error) {
                error if job.action == Action::Restore => error.with_effects(),
                error => error,
            })?;
            job.output(context, given, &exit, &heard.said())
        })
    }

    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            let job = Job::new(context, given)?;
            let host = job.runs_on(context, given)?;
            let standing = host.standing(&job_name(context)).await;
            let standing = standing.map_err(|error| lost(&error).transient())?;
            let on = code(&host.name());
            Ok(match standing {
                Standing::Running => Probed::UnderWay(format!("restic, that I started, still runs on {on}")),
                Standing::Ended => Probed::UnderWay(format!("restic has ended on {on} meanwhile")),
                Standing::Absent => match job.saved(context).await? {
                    Some(output) => Probed::Happened(output),
                    None => Probed::DidNotHappen,
                },
            })
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        let Ok(job) = Job::new(context, given) else { return ByHand::default() };
        let (words, dump) = job.words(context);
        let typed = |words: &[String]| {
            let args =
                ["-r".to_owned(), job.backups.repository.clone()].into_iter().chain(words.iter().cloned());
            Command { program: "restic".to_owned(), args: args.collect(), stdin: None, timeout: None }
        };
        let look =
            typed(&restic::snapshots(job.environment.as_str(), job.source.as_ref().map(|s| s.name.as_str())));
        let act = match dump {
            // A pipe is typed on the host itself.
            Some(dump) => {
                let words = typed(&words);
                format!("{} | {}", text::shell_words(dump), text::shell_words(&words.words()))
            }
            None => job.host.typed(&typed(&words)),
        };
        let before = "# with RESTIC_PASSWORD and the credentials in the environment".to_owned();
        let undo = if restores(given) { job.put_back_by_hand(context, given) } else { Vec::new() };
        let act = if restores(given) { Vec::new() } else { vec![before.clone(), act] };
        ByHand { look: vec![before, job.host.typed(&look)], act, undo }
    }

    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
        _: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            if !restores(given) {
                return Ok(Undid::Nothing);
            }
            Job::new(context, given)?.put_back(context, given).await
        })
    }

    fn outlives(&self, _: &Json) -> bool {
        true
    }

    fn forget<'a>(&'a self, context: &'a StepContext, given: &'a Json) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(host) = Job::new(context, given).and_then(|job| job.runs_on(context, given)) {
                host.clear(&job_name(context)).await;
            }
        })
    }
}

impl Job<'_> {
    fn runs_on(&self, context: &StepContext, given: &Json) -> Result<Arc<dyn Host>, StepError> {
        match self.action {
            Action::Restore => restore::Target::of(context, self, given).map(|target| target.host()),
            _ => Ok(Arc::clone(&self.host)),
        }
    }

    /// The snapshot that an attempt of this step has made of which the host knows nothing any more.
    async fn saved(&self, context: &StepContext) -> Result<Option<Json>, StepError> {
        if self.action != Action::Backup || context.earlier.followed == 0 {
            return Ok(None);
        }
        let command = self.access(context).await?.list(&restic::snapshot_by(context.token.as_str()));
        let heard = Heard::new(context);
        let on_line = |_, line: &str| heard.take(line);
        let exit = self.host.run(&command, &on_line, &CancellationToken::new()).await;
        let exit = exit.map_err(|error| lost(&error).transient())?;
        let said = heard.said();
        if exit.code != Some(0) {
            return Err(self.explain(&exit, &said));
        }
        let source = self.source.as_ref().map(|source| &source.name);
        Ok(said.snapshots.last().map(|found| json!({ "source": source, "snapshot": found.short_id })))
    }
}

fn restores(given: &Json) -> bool {
    params::text(given, "action") == Some("restore")
}

/// An attempt whose end was seen is not taken up again: the next one has a name of its own.
fn job_name(context: &StepContext) -> String {
    format!("{}-{}", context.token, context.earlier.ended)
}

/// Nothing of restic is lost with its connection, and all that it does may be done again.
fn lost(error: &ExecError) -> StepError {
    let out = StepError::new(defuse(&error.to_string()).into_owned());
    match error {
        ExecError::NotStarted { hint, transient, .. } => {
            StepError { hint: hint.clone(), transient: *transient, ..out }
        }
        ExecError::Lost { .. } => out.transient().under_way().hint(
            "it may still be running there; `retry` follows what was started, and starts nothing beside it",
        ),
        ExecError::Vanished { .. } => out.transient(),
        ExecError::TimedOut { .. } => out,
        ExecError::Cancelled { .. } => out.cancelled(),
    }
}

/// Where restic's output goes.
struct Heard<'a> {
    context: &'a StepContext,
    said: Mutex<Said>,
}

impl<'a> Heard<'a> {
    fn new(context: &'a StepContext) -> Self {
        Self { context, said: Mutex::default() }
    }
    fn said(self) -> Said {
        self.said.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
    fn take(&self, line: &str) {
        let line = self.context.redactor.redact(line);
        let shown = self.said.lock().unwrap_or_else(PoisonError::into_inner).line(&line);
        match shown {
            Shown::Status(status) => self.context.progress.status(&status),
            Shown::Line(line) => self.context.progress.output(&line),
            Shown::Nothing => {}
        }
    }
}

impl Follow for Heard<'_> {
    fn line(&self, line: &str) {
        self.take(line);
    }
    fn seen(&self, bytes: u64) {
        self.context.progress.followed(bytes);
    }
    fn status(&self, text: &str) {
        self.context.progress.status(&defuse(text));
    }
}
