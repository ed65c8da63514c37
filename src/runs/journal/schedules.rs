//! Rows of schedules in the journal: changed only from what they were, and in one batch with what follows from that.
//!
//! Must not: decide what is due.

use jiff::Timestamp;

use super::Journal;
use crate::ids::ScheduleName;
use crate::runs::outbox::Notice;
use crate::runs::schedules::{self, Change, Fire, Row};
use crate::store::{Batch, StoreError};

impl Journal {
    /// Those of schedules.
    pub fn schedules(&self) -> &[Row] {
        &self.schedules
    }

    /// Whether nobody has changed the row since somebody decided by it.
    pub fn still(&self, change: &Change) -> bool {
        self.schedules.iter().find(|row| row.name == change.is.name) == change.was.as_ref()
    }

    /// The new row in a batch; [`Self::remember_schedule`] when that was applied.
    pub fn schedule_into(&self, row: &Row, fire: Option<&Fire>, batch: &mut Batch) -> Result<(), StoreError> {
        schedules::put(row, batch);
        fire.map_or(Ok(()), |fire| schedules::put_fire(&self.store, &row.name, fire, batch))
    }

    pub fn remember_schedule(&mut self, row: Row) {
        self.schedules.retain(|other| other.name != row.name);
        self.schedules.push(row);
    }

    /// All of it in one batch; `None`, and nothing is written, when the row is not what it was.
    pub fn change_schedule(
        &mut self,
        change: Change,
        fire: Option<&Fire>,
        notices: Vec<Notice>,
        mut with: Batch,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        if !self.still(&change) {
            return Ok(None);
        }
        self.schedule_into(&change.is, fire, &mut with)?;
        let last = self.write_notices(notices, with, now)?;
        self.remember_schedule(change.is);
        Ok(Some(last))
    }

    pub fn forget_schedule(&mut self, name: &ScheduleName) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        schedules::remove(name, &mut batch);
        self.store.apply(batch)?;
        self.schedules.retain(|row| row.name != *name);
        Ok(())
    }
}
