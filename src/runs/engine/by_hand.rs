//! Locks and freezes that people declare: durable when an act returns, and with it what the audit log has to be told.
//!
//! Must not: touch a run that has started.

use super::write::who;
use super::{ActError, Engine};
use crate::audit;
use crate::conversation::Actor;
use crate::ids::EnvName;
use crate::playbook::model::LockName;
use crate::runs::freezes::ManualFreeze;
use crate::runs::locks::ManualLock;
use crate::runs::owed::OwedEntry;
use crate::store::Batch;

/// Who asked for it, and by which command.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub by: &'a Actor,
    pub command: &'a str,
}

impl Engine {
    pub async fn lock(&self, mut lock: ManualLock, asked: Asked<'_>) -> Result<(), ActError> {
        lock.reason = self.clean(&lock.reason);
        let (owed, with) = self.owe(asked, "locked", lock.name.to_string(), lock.reason.clone());
        self.0.journal.lock().await.put_lock(lock, with)?;
        self.done_by_hand(owed).await
    }

    /// The lock that was taken away, if there was one.
    pub async fn unlock(&self, name: &LockName, asked: Asked<'_>) -> Result<Option<ManualLock>, ActError> {
        let mut journal = self.0.journal.lock().await;
        let Some(lock) = journal.manual_locks().iter().find(|held| &held.name == name) else {
            return Ok(None);
        };
        let held = format!("held by {}: {}", lock.by.username, lock.reason);
        let (owed, with) = self.owe(asked, "unlocked", name.to_string(), held);
        let removed = journal.remove_lock(name, with)?;
        drop(journal);
        self.done_by_hand(owed).await?;
        Ok(removed)
    }

    /// In place of what stood for the environment; gives it with its reason as it is shown.
    pub async fn freeze(&self, mut freeze: ManualFreeze, asked: Asked<'_>) -> Result<ManualFreeze, ActError> {
        freeze.reason = self.clean(&freeze.reason);
        let told = format!("until {}: {}", freeze.until, freeze.reason);
        let (owed, with) = self.owe(asked, "frozen", freeze.environment.to_string(), told);
        self.0.journal.lock().await.put_freeze(freeze.clone(), with)?;
        // What was told of a shorter freeze says so now.
        self.done_by_hand(owed).await?;
        Ok(freeze)
    }

    /// The freeze that was taken away, if one was in force. What waited for it starts.
    pub async fn unfreeze(
        &self,
        environment: &EnvName,
        asked: Asked<'_>,
    ) -> Result<Option<ManualFreeze>, ActError> {
        let mut journal = self.0.journal.lock().await;
        let Some(freeze) = journal.freeze_of(environment) else { return Ok(None) };
        if freeze.until.timestamp() <= self.now() {
            // Over by itself; nobody ended it.
            journal.remove_freeze(environment, Batch::new())?;
            return Ok(None);
        }
        let held = format!("frozen by {} until {}: {}", freeze.by.username, freeze.until, freeze.reason);
        let (owed, with) = self.owe(asked, "unfrozen", environment.to_string(), held);
        let removed = journal.remove_freeze(environment, with)?;
        drop(journal);
        self.done_by_hand(owed).await?;
        Ok(removed)
    }

    pub(super) fn owe(
        &self,
        asked: Asked<'_>,
        what: &str,
        target: String,
        result: String,
    ) -> (OwedEntry, Batch) {
        let entry = audit::Event {
            who: who(asked.by),
            action: what.to_owned(),
            command: self.clean(asked.command),
            target: Some(target),
            run: None,
            approval: None,
            result: Some(result),
            event: None,
            happened_at: None,
        };
        let owed = OwedEntry::new(entry, self.now());
        let mut batch = Batch::new();
        owed.put(&mut batch);
        (owed, batch)
    }

    /// Makes it durable, tells the audit log, and lets go what waited, whatever becomes of the caller.
    pub(super) async fn done_by_hand(&self, owed: OwedEntry) -> Result<(), ActError> {
        self.to_the_end(async move |engine| {
            engine.0.parts.store.sync().await?;
            engine.pay_entry(&owed).await;
            engine.nudge_waiting().await;
            Ok(())
        })
        .await
    }

    /// Tells the audit log of something that is no run's; what cannot be written is told as soon as it can.
    pub async fn tell_audit(&self, entry: audit::Event) {
        let owed = OwedEntry::new(entry, self.now());
        let mut batch = Batch::new();
        owed.put(&mut batch);
        if let Err(error) = self.0.parts.store.apply(batch) {
            tracing::error!("what the audit log has to be told cannot be kept: {error}");
        }
        self.pay_entry(&owed).await;
    }

    pub(super) async fn pay_entry(&self, owed: &OwedEntry) {
        if !self.audit_event(owed.entry.clone()).await {
            self.still_owed(|left| left.entries.push(owed.clone()));
        } else if let Err(error) = owed.paid(&self.0.parts.store) {
            tracing::warn!("an entry will be looked for in the audit log again: {error}");
        }
    }
}
