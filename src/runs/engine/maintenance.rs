//! Maintenance, as the engine keeps it; and the one place that decides whether anything holds a run up before its
//! start: a freeze, or that its command begins only in maintenance.
//!
//! Must not: wait, or say when something is to be announced.

use jiff::Timestamp;

use super::by_hand::Asked;
use super::{ActError, Engine};
use crate::ids::EnvName;
use crate::runs::journal::Journal;
use crate::runs::maintenance::{Changed, HeldUp, Maintenance, Outside, together};
use crate::runs::outbox::Notice;
use crate::store::Batch;

impl Engine {
    /// Durable when it returns, with what is said of it and what the audit log is told; `false`: somebody else has
    /// changed it meanwhile. What waits for it starts when it has begun.
    pub async fn put_maintenance(
        &self,
        change: Changed,
        notices: Vec<Notice>,
        asked: Asked<'_>,
        what: &str,
    ) -> Result<bool, ActError> {
        let one = &change.is;
        let told = format!("from {} to {}: {}", one.from, one.to, one.reason);
        let (owed, with) = self.owe(asked, what, one.environment.to_string(), told);
        if !self.write_maintenance(vec![change], notices, with).await? {
            return Ok(false);
        }
        self.done_by_hand(owed).await?;
        self.0.maintenance_changed.notify_one();
        Ok(true)
    }

    /// What was told, in the same batch as what is to be said of it: each once, whenever the process dies. `false`:
    /// nothing is written, since some of it has changed meanwhile.
    pub async fn change_maintenance(
        &self,
        changes: Vec<Changed>,
        notices: Vec<Notice>,
    ) -> Result<bool, ActError> {
        self.write_maintenance(changes, notices, Batch::new()).await
    }

    async fn write_maintenance(
        &self,
        changes: Vec<Changed>,
        notices: Vec<Notice>,
        with: Batch,
    ) -> Result<bool, ActError> {
        let is_off = |one: &Maintenance| one.called_off.is_some();
        let lets_go =
            changes.iter().any(|change| change.was.as_ref().is_some_and(is_off) && !is_off(&change.is));
        let written = self.0.journal.lock().await.change_maintenance(changes, notices, with, self.now())?;
        let Some(last) = written else { return Ok(false) };
        self.to_the_end(async move |engine| {
            engine.0.parts.store.sync().await?;
            engine.announce(last);
            if lets_go {
                engine.nudge_waiting().await;
            }
            Ok(true)
        })
        .await
    }

    pub async fn forget_maintenance(&self, over: Vec<Maintenance>) -> Result<(), ActError> {
        Ok(self.0.journal.lock().await.forget_maintenance(&over)?)
    }

    /// The rows.
    pub async fn maintenance(&self) -> Vec<Maintenance> {
        self.0.journal.lock().await.maintenance().to_vec()
    }

    /// All of an environment that is not over, by its file and by people, in the order of their beginnings.
    pub async fn maintenance_of(&self, environment: &EnvName) -> Vec<Maintenance> {
        let journal = self.0.journal.lock().await;
        self.maintenance_in(&journal, environment, self.now())
    }

    /// Returns when something was declared, called off or reloaded.
    pub async fn maintenance_changed(&self) {
        self.0.maintenance_changed.notified().await;
    }

    fn maintenance_in(&self, journal: &Journal, environment: &EnvName, now: Timestamp) -> Vec<Maintenance> {
        let files = ((self.0.parts.footing)().maintenance)(environment, now);
        let rows = journal.maintenance().iter().filter(|one| one.environment == *environment);
        together(rows.filter(|one| !one.is_over(now)).cloned(), files)
    }

    /// What keeps this command from beginning now where it changes these environments.
    pub async fn held_up<'e>(
        &self,
        environments: impl IntoIterator<Item = &'e EnvName>,
        command: &str,
        overridden: bool,
    ) -> Option<HeldUp> {
        let journal = self.0.journal.lock().await;
        self.held_up_in(&journal, environments, command, overridden)
    }

    /// `overridden`: nothing holds up whoever asks.
    pub(super) fn held_up_in<'e>(
        &self,
        journal: &Journal,
        environments: impl IntoIterator<Item = &'e EnvName>,
        command: &str,
        overridden: bool,
    ) -> Option<HeldUp> {
        if overridden {
            return None;
        }
        let environments: std::collections::BTreeSet<&EnvName> = environments.into_iter().collect();
        if let Some(frozen) = self.frozen_in(journal, environments.iter().copied(), false) {
            return Some(HeldUp::Frozen(frozen));
        }
        let needs = (self.0.parts.footing)().needs_maintenance;
        let now = self.now();
        let outside = environments
            .into_iter()
            .filter(|name| needs(name, command))
            .find_map(|name| Outside::of(name, command, &self.maintenance_in(journal, name, now), now));
        outside.map(HeldUp::Outside)
    }
}
