//! `restic` with `action: restore`: a snapshot takes the place of what is there, or of the same source elsewhere.
//!
//! Must not: put anything in place before all of it has come and was verified.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Heard, Job, lost, source};
use crate::change::Change;
use crate::config::environment::{Source, What};
use crate::exec::{Command, Host};
use crate::ids::EnvName;
use crate::playbook::model::Preview;
use crate::playbook::steps::{StepContext, StepError, Undid, params};
use crate::providers::restic::{self, Snapshot};
use crate::text::{self, code};

/// Of a plan: the snapshot that was chosen when it was made.
const SNAPSHOT: &str = "snapshot";

/// Snapshots that an error names.
const MOST_NAMED: usize = 5;

/// Where a source is restored to.
pub(super) struct Target {
    environment: EnvName,
    source: Source,
    host: Arc<dyn Host>,
}

impl Target {
    /// Said, never guessed: `to` another environment, or `in_place`.
    pub(super) fn of(context: &StepContext, job: &Job<'_>, given: &Json) -> Result<Self, StepError> {
        let from = job.source.as_ref().ok_or_else(|| StepError::new("the step names no source"))?;
        let in_place = params::text(given, "in_place") == Some("true");
        let environment = match (params::text(given, "to"), in_place) {
            (Some(to), false) => EnvName::from(to),
            (None, true) => job.environment.clone(),
            (None, false) => {
                let name = &from.name;
                return Err(StepError::new(format!("where {} is restored to is not said", code(name))).hint(
                    format!(
                        "`--to ENV` for another environment, `--in-place` to replace what {} has now",
                        job.environment
                    ),
                ));
            }
            (Some(_), true) => {
                return Err(StepError::new("it is restored to another environment or in place, not both")
                    .hint("leave out one of `--to` and `--in-place`"));
            }
        };
        let backups = context.world.backups(&environment)?;
        let source = source(&environment, &backups, &from.name)?.clone();
        let host = context.world.host(&environment, &source.host, &context.token)?;
        Ok(Self { environment, source, host })
    }

    pub(super) fn host(self) -> Arc<dyn Host> {
        self.host
    }

    /// What is restored, and what it takes the place of, in pairs; of a dump, the command that takes it.
    fn shape<'t>(&'t self, from: &'t Source) -> Result<Shape<'t>, StepError> {
        let name = code(&from.name);
        let there = code(self.environment.as_str());
        match (&from.what, &self.source.what) {
            (What::Paths { paths, .. }, What::Paths { paths: to, .. }) if paths.len() == to.len() => {
                Ok(Shape::Paths(paths.iter().zip(to).collect()))
            }
            (What::Paths { .. }, What::Paths { .. }) => {
                Err(StepError::new(format!("{name} has as many paths in neither environment"))
                    .hint(format!("name as many under `backups.sources` of {there}, in the same order")))
            }
            (What::Dump { .. }, What::Dump { restore: Some(command), .. }) => Ok(Shape::Dump(command)),
            (What::Dump { .. }, What::Dump { restore: None, .. }) => Err(StepError::new(format!(
                "{there} does not say how {name} is taken back"
            ))
            .hint(
                "add `restore: [PROGRAM, ARGUMENT…]` to the source: it gets the dump on its standard input",
            )),
            _ => Err(StepError::new(format!("{name} is files in one environment and a dump in the other"))
                .hint(format!("make the source of {there} one of the same sort"))),
        }
    }
}

enum Shape<'t> {
    Paths(Vec<(&'t String, &'t String)>),
    Dump(&'t [String]),
}

impl Job<'_> {
    /// Looks which snapshot it is, and says what it takes the place of.
    pub(super) async fn preview_restore(
        &self,
        context: &StepContext,
        given: &Json,
    ) -> Result<Preview, StepError> {
        let target = Target::of(context, self, given)?;
        let from = self.source.as_ref().ok_or_else(|| StepError::new("the step names no source"))?;
        let shape = target.shape(from)?;
        let snapshots = self.snapshots(context, &*target.host, Some(&from.name)).await?;
        let chosen = choose(from, &snapshots, params::text(given, "snapshot"))?;
        let now = context.clock.now();
        let on = code(&target.host.name());
        let taken = text::ago(chosen.time, now);
        let to =
            Some(format!("snapshot {} of {} ({taken})", chosen.short_id, chosen.time.strftime("%F %R UTC")));
        let (changes, note, irreversible) = match shape {
            Shape::Paths(pairs) => {
                let change = |(_, to_path): &(&String, &String)| Change {
                    what: format!("{to_path} on {on}"),
                    from: Some("what is there now".to_owned()),
                    to: to.clone(),
                };
                let note = "what is there now is kept beside it, under its name with `.before-…` behind it; there has to be room for both";
                (pairs.iter().map(change).collect(), note.to_owned(), false)
            }
            Shape::Dump(command) => {
                let what = format!("{} of {}", from.name, target.environment);
                let note = format!(
                    "{} on {on} takes it, after all of it was read once",
                    code(&text::shell_words(command))
                );
                (vec![Change { what, from: Some("what is there now".to_owned()), to }], note, true)
            }
        };
        Ok(Preview {
            changes,
            notes: vec![note],
            seen: [(SNAPSHOT.to_owned(), chosen.id.clone())].into(),
            irreversible,
            ..Preview::default()
        })
    }

    /// The command, and the host that it runs on.
    pub(super) async fn restore(
        &self,
        context: &StepContext,
        given: &Json,
    ) -> Result<(Arc<dyn Host>, Command), StepError> {
        let target = Target::of(context, self, given)?;
        let from = self.source.as_ref().ok_or_else(|| StepError::new("the step names no source"))?;
        let snapshot =
            context.planned.seen.get(SNAPSHOT).ok_or_else(|| {
                StepError::new("the plan does not say which snapshot").hint("ask for it again")
            })?;
        let access = self.access(context).await?;
        let command = match target.shape(from)? {
            Shape::Paths(pairs) => access.restore(true, snapshot, context.token.as_str(), &pairs),
            Shape::Dump(command) => access.restore_dump(snapshot, &from.name, command),
        };
        Ok((target.host, command))
    }

    /// Puts back what was there. Nothing to do for a dump: the plan has said so.
    pub(super) async fn put_back(&self, context: &StepContext, given: &Json) -> Result<Undid, StepError> {
        let target = Target::of(context, self, given)?;
        let from = self.source.as_ref().ok_or_else(|| StepError::new("the step names no source"))?;
        let Shape::Paths(pairs) = target.shape(from)? else { return Ok(Undid::Nothing) };
        let access = self.access(context).await?;
        let command = access.restore(false, "-", context.token.as_str(), &pairs);
        let heard = Heard::new(context);
        let on_line = |_, line: &str| heard.take(line);
        let exit =
            target.host.run(&command, &on_line, &context.cancel).await.map_err(|error| lost(&error))?;
        let said = heard.said();
        if exit.code != Some(0) {
            return Err(self.explain(&exit, &said).transient());
        }
        Ok(Undid::Something)
    }

    /// What became of it.
    pub(super) fn restored(&self, context: &StepContext, given: &Json) -> Result<Json, StepError> {
        let target = Target::of(context, self, given)?;
        let from = self.source.as_ref().ok_or_else(|| StepError::new("the step names no source"))?;
        let kept: Vec<String> = match target.shape(from)? {
            Shape::Paths(pairs) => {
                pairs.iter().map(|(_, to)| restic::before(to, context.token.as_str())).collect()
            }
            Shape::Dump(_) => Vec::new(),
        };
        Ok(json!({
            "source": from.name,
            "environment": target.environment,
            "snapshot": context.planned.seen.get(SNAPSHOT),
            "kept": kept,
        }))
    }

    /// What a person types to put it back.
    pub(super) fn put_back_by_hand(&self, context: &StepContext, given: &Json) -> Vec<String> {
        let Ok(target) = Target::of(context, self, given) else { return Vec::new() };
        let Some(Ok(Shape::Paths(pairs))) = self.source.as_ref().map(|from| target.shape(from)) else {
            return Vec::new();
        };
        pairs
            .iter()
            .map(|(_, to)| {
                let before = restic::before(to, context.token.as_str());
                let moved = format!(
                    "rm -rf {0} && mv {1} {0}",
                    text::shell_words(&[to.as_str()]),
                    text::shell_words(&[before])
                );
                let args = vec!["-c".to_owned(), moved];
                target.host.typed(&Command { program: "sh".into(), args, stdin: None, timeout: None })
            })
            .collect()
    }
}

/// The newest, or the one whose id begins so.
fn choose<'s>(
    from: &Source,
    snapshots: &'s [Snapshot],
    asked: Option<&str>,
) -> Result<&'s Snapshot, StepError> {
    let name = code(&from.name);
    let newest = snapshots.iter().max_by_key(|snapshot| snapshot.time);
    let Some(newest) = newest else {
        return Err(StepError::new(format!("there is no backup of {name}"))
            .hint("`!backup list` shows which there are"));
    };
    let Some(asked) = asked.filter(|asked| *asked != "latest") else { return Ok(newest) };
    let mut found = snapshots.iter().filter(|snapshot| snapshot.id.starts_with(asked));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(StepError::new(format!("several backups of {name} begin with {}", code(asked)))
                .hint("type more of it"))
        }
        (None, _) => {
            let newest: Vec<&str> =
                snapshots.iter().rev().take(MOST_NAMED).map(|s| s.short_id.as_str()).collect();
            Err(StepError::new(format!("there is no backup {} of {name}", code(asked)))
                .hint(format!("the newest are {}", text::and_list(&newest))))
        }
    }
}
