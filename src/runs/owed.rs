//! What the audit log has still to be told, written with the event that it tells of. So a crash between the
//! journal and the audit log loses no entry, and the entry's reference keeps it from standing there twice.
//!
//! Must not: hold the entry of a run's event. That is made from the run as it was at the event. What no run tells of
//! is held as it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::event_key;
use crate::audit;
use crate::conversation::Actor;
use crate::ids::{RunId, random_id};
use crate::store::{Batch, Store, StoreError, Tree};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    pub run: RunId,
    /// Of the event.
    pub seq: u32,
    /// As [`crate::audit::Event::action`].
    pub what: String,
    /// Who did it, when it was not the requester.
    pub by: Option<Actor>,
}

impl Owed {
    /// Names the event in the audit log: `R-1/17`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.run, self.seq)
    }

    pub fn put(&self, batch: &mut Batch) {
        batch.put(Tree::Owed, &event_key(self.run, self.seq), self);
    }

    /// The audit log has it. Lazily: told again, it is found there.
    pub fn paid(&self, store: &Store) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(Tree::Owed, &event_key(self.run, self.seq));
        store.apply(batch)
    }
}

/// An entry about what is no run's: a lock or freeze by hand, a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwedEntry {
    /// With a reference of its own.
    pub entry: audit::Event,
    /// When it happened.
    pub at: Timestamp,
}

impl OwedEntry {
    pub fn new(mut entry: audit::Event, at: Timestamp) -> Self {
        entry.event = Some(format!("act/{}", random_id()));
        Self { entry, at }
    }

    /// Another entry in its place, under the same reference.
    pub(super) fn with(self, mut entry: audit::Event) -> Self {
        entry.event = self.entry.event;
        Self { entry, at: self.at }
    }

    fn key(&self) -> &[u8] {
        self.entry.event.as_deref().unwrap_or_default().as_bytes()
    }

    pub fn put(&self, batch: &mut Batch) {
        batch.put(Tree::OwedEntries, self.key(), self);
    }

    /// As [`Owed::paid`].
    pub fn paid(&self, store: &Store) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(Tree::OwedEntries, self.key());
        store.apply(batch)
    }
}

/// What could not be told when it happened, in that order.
#[derive(Debug, Default)]
pub struct Left {
    pub events: Vec<Owed>,
    pub entries: Vec<OwedEntry>,
}

impl Left {
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let entries = store.scan::<OwedEntry>(Tree::OwedEntries, &[]);
        let mut entries: Vec<OwedEntry> =
            entries.map(|entry| entry.map(|(_, owed)| owed)).collect::<Result<_, _>>()?;
        entries.sort_by_key(|owed| owed.at);
        Ok(Self { events: all(store)?, entries })
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.entries.is_empty()
    }
}

/// Everything that is owed, by run and event.
fn all(store: &Store) -> Result<Vec<Owed>, StoreError> {
    store.scan::<Owed>(Tree::Owed, &[]).map(|entry| entry.map(|(_, owed)| owed)).collect()
}
