//! Rows that are no run's: locks, freezes and maintenance.
//!
//! Must not: act, or look at the configuration.

use jiff::Timestamp;

use super::Journal;
use crate::ids::EnvName;
use crate::playbook::model::LockName;
use crate::runs::freezes::ManualFreeze;
use crate::runs::locks::ManualLock;
use crate::runs::maintenance::{Changed, Maintenance};
use crate::runs::outbox::Notice;
use crate::store::{Batch, StoreError, Tree};

impl Journal {
    pub fn manual_locks(&self) -> &[ManualLock] {
        &self.manual
    }

    /// Those that people declared and that are not over.
    pub fn manual_freezes(&self, now: Timestamp) -> impl Iterator<Item = &ManualFreeze> {
        self.freezes.iter().filter(move |freeze| freeze.until.timestamp() > now)
    }

    /// `batch`: what becomes durable with it.
    pub fn put_freeze(&mut self, freeze: ManualFreeze, mut batch: Batch) -> Result<(), StoreError> {
        batch.put(Tree::Freezes, freeze.environment.as_str().as_bytes(), &freeze);
        self.store.apply(batch)?;
        self.freezes.retain(|other| other.environment != freeze.environment);
        self.freezes.push(freeze);
        Ok(())
    }

    pub fn freeze_of(&self, environment: &EnvName) -> Option<&ManualFreeze> {
        self.freezes.iter().find(|freeze| &freeze.environment == environment)
    }

    pub fn remove_freeze(
        &mut self,
        environment: &EnvName,
        mut batch: Batch,
    ) -> Result<Option<ManualFreeze>, StoreError> {
        let Some(index) = self.freezes.iter().position(|freeze| &freeze.environment == environment) else {
            return Ok(None);
        };
        batch.delete(Tree::Freezes, environment.as_str().as_bytes());
        self.store.apply(batch)?;
        Ok(Some(self.freezes.remove(index)))
    }

    /// Maintenance that people declared, or that something was said of.
    pub fn maintenance(&self) -> &[Maintenance] {
        &self.maintenance
    }

    /// All of it in one batch with what is said; `None`, and nothing is written, when a row is not what it was.
    pub fn change_maintenance(
        &mut self,
        changes: Vec<Changed>,
        notices: Vec<Notice>,
        mut batch: Batch,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        for Changed { was, is } in &changes {
            let row = self.maintenance.iter().find(|row| row.is_same(is));
            // What of a file is no row yet is compared with none.
            if row.is_some() && row != was.as_ref() {
                return Ok(None);
            }
            batch.put(Tree::Maintenance, &is.key(), is);
        }
        let last = self.write_notices(notices, batch, now)?;
        for Changed { is, .. } in changes {
            self.maintenance.retain(|row| !row.is_same(&is));
            self.maintenance.push(is);
        }
        Ok(Some(last))
    }

    pub fn forget_maintenance(&mut self, over: &[Maintenance]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for one in over {
            batch.delete(Tree::Maintenance, &one.key());
        }
        self.store.apply(batch)?;
        self.maintenance.retain(|row| !over.iter().any(|one| one.is_same(row)));
        Ok(())
    }

    /// As [`Self::put_freeze`].
    pub fn put_lock(&mut self, lock: ManualLock, mut batch: Batch) -> Result<(), StoreError> {
        batch.put(Tree::Locks, lock.name.to_string().as_bytes(), &lock);
        self.store.apply(batch)?;
        self.manual.retain(|held| held.name != lock.name);
        self.manual.push(lock);
        Ok(())
    }

    pub fn remove_lock(
        &mut self,
        name: &LockName,
        mut batch: Batch,
    ) -> Result<Option<ManualLock>, StoreError> {
        let Some(index) = self.manual.iter().position(|held| &held.name == name) else { return Ok(None) };
        batch.delete(Tree::Locks, name.to_string().as_bytes());
        self.store.apply(batch)?;
        Ok(Some(self.manual.remove(index)))
    }
}
