//! What it means when restic does not end well, and what to do about it. Statuses where restic has them; before 0.17
//! it ends with 1 whatever happened, and only its words tell.
//!
//! Must not: repeat a credential.

use super::{Action, Job, SHOWN_LINES};
use crate::exec::Exit;
use crate::playbook::steps::StepError;
use crate::providers::restic::Said;
use crate::text::{self, code};

impl Job<'_> {
    pub(super) fn explain(&self, exit: &Exit, said: &Said) -> StepError {
        let on = code(&self.host.name());
        let repository = code(&self.backups.repository);
        let error = if said.absent {
            StepError::new(format!("restic is not installed on {on}"))
                .hint("install it there: `apt-get install restic`")
        } else if let Some(status) = said.dump_failed {
            self.dump_failed(status)
        } else if let Some(status) = said.restore_failed {
            self.not_taken_back(status)
        } else {
            match exit.code {
                Some(3) => self.unread(said),
                Some(65) if self.action == Action::Compare => self.not_the_same(said),
                Some(66 | 67) if self.action == Action::Restore => {
                    let why = said.text.last().map_or("", String::as_str);
                    StepError::new(format!("it cannot be restored there: {why}"))
                }
                Some(10) => self.no_repository(),
                Some(11) => Self::locked(said),
                Some(12) => self.wrong_password(),
                // Before 0.17; texts of 0.14.
                _ if said.says("is there a repository at the following location") && said.says("access denied")
                    || said.says("accessdenied")
                    || said.says("access key id you provided does not exist")
                    || said.says("signature") && said.says("does not match") =>
                {
                    StepError::new(format!("{repository} refuses the credentials"))
                        .hint("look at `credentials` under `backups`: the key may be wrong, expired, or for another bucket")
                }
                _ if said.says("wrong password or no key found") => self.wrong_password(),
                _ if said.says("specified bucket does not exist") || said.says("nosuchbucket") => {
                    StepError::new(format!("the bucket of {repository} does not exist")).hint(self.make_it())
                }
                _ if said.says("connection refused") || said.says("no such host") || said.says("i/o timeout") => {
                    StepError::new(format!("{repository} does not answer from {on}")).transient()
                }
                _ if said.says("is there a repository at the following location") => self.no_repository(),
                _ if said.says("already locked") => Self::locked(said),
                _ if said.says("no space left on device") || said.says("quota") => {
                    StepError::new(format!("there is no room left in {repository}, or on {on}"))
                        .hint("`backup prune` removes data that no backup needs; look at the disk and the quota")
                }
                _ if self.action == Action::Check => {
                    StepError::new(format!("the repository {repository} is damaged"))
                        .hint("nothing was changed; look at `restic repair` before anything is pruned, and keep the bucket as it is")
                        .unfit()
                }
                Some(status) => StepError::new(format!("restic on {on} ended with status {status}")),
                None => StepError::new(format!("restic on {on} was killed by a signal")).transient(),
            }
        };
        let tail = text::head_and_tail(&said.text.join("\n"), 0, SHOWN_LINES);
        if tail.trim().is_empty() || said.absent { error } else { error.tail(tail) }
    }

    fn dump_failed(&self, status: i64) -> StepError {
        let source = self.source.as_ref().map_or("", |source| &source.name);
        let on = code(&self.host.name());
        StepError::new(format!(
            "the dump of {} on {on} ended with status {status}; nothing of it was saved",
            code(source)
        ))
    }

    fn not_taken_back(&self, status: i64) -> StepError {
        let source = self.source.as_ref().map_or("", |source| &source.name);
        StepError::new(format!("the command that takes {} back ended with status {status}", code(source)))
            .hint("what it has done until then stands: look at it, and restore it again")
            .with_effects()
    }

    fn not_the_same(&self, said: &Said) -> StepError {
        let source = self.source.as_ref().map_or("", |source| &source.name);
        let which =
            said.text.first().map(|line| format!(": {}", text::ellipsis(line, 200))).unwrap_or_default();
        StepError::new(format!("what was restored of {} is not what was saved{which}", code(source)))
            .hint("do not rely on this backup; look at the repository and at the host's memory and disks")
            .unfit()
    }

    fn unread(&self, said: &Said) -> StepError {
        let source = self.source.as_ref().map_or("", |source| &source.name);
        let unread = text::count(said.unread.len().max(1), "file");
        StepError::new(format!("{} was saved, but {unread} could not be read", code(source)))
            .hint("a snapshot of the rest exists; let the user read them, or add them to `exclude`")
    }

    fn no_repository(&self) -> StepError {
        StepError::new(format!("there is no repository at {}", code(&self.backups.repository)))
            .hint(self.make_it())
    }

    fn make_it(&self) -> String {
        format!(
            "if that is the right place and it is new: `!backup init {}`; else correct `repository` under `backups`",
            self.environment
        )
    }

    fn wrong_password(&self) -> StepError {
        StepError::new(format!("{} has another password", code(&self.backups.repository)))
            .hint("look at `password` under `backups`: without the right one nothing can be read")
    }

    fn locked(said: &Said) -> StepError {
        let whose = said.text.iter().find(|line| line.contains("locked"));
        let whose = whose.map(|line| format!(": {}", text::ellipsis(line.trim(), 200))).unwrap_or_default();
        StepError::new(format!("somebody else works on the repository{whose}"))
            .hint("locks of processes that are gone were looked for and removed; wait for this one to end")
            .transient()
    }
}
