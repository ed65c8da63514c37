//! Which backups there are, for people who ask.
//!
//! Must not: change anything.

use super::{Heard, Job, SNAPSHOTS_WITHIN, lost};
use crate::exec::{Command, Host};
use crate::playbook::steps::{StepContext, StepError};
use crate::providers::restic::{self, Snapshot};

/// The snapshots of the environment of `context`, or of one source of it; oldest first.
pub async fn list(context: &StepContext, source: Option<&str>) -> Result<Vec<Snapshot>, StepError> {
    let job = Job::new(context, &serde_json::json!({ "action": "check" }))?;
    if let Some(name) = source {
        super::source(job.environment, &job.backups, name)?;
    }
    job.snapshots(context, &*job.host, source).await
}

impl Job<'_> {
    /// As `host` sees them.
    pub(super) async fn snapshots(
        &self,
        context: &StepContext,
        host: &dyn Host,
        source: Option<&str>,
    ) -> Result<Vec<Snapshot>, StepError> {
        let list = self.access(context).await?.list(&restic::snapshots(self.environment.as_str(), source));
        let command = Command { timeout: Some(SNAPSHOTS_WITHIN), ..list };
        let heard = Heard::new(context);
        let on_line = |_, line: &str| heard.take(line);
        let exit = host.run(&command, &on_line, &context.cancel).await.map_err(|error| lost(&error))?;
        let said = heard.said();
        if exit.code != Some(0) {
            return Err(self.explain(&exit, &said));
        }
        let mut snapshots = said.snapshots;
        snapshots.sort_by_key(|snapshot| snapshot.time);
        Ok(snapshots)
    }
}
