//! What the audit log has still to be told, written with the event that it tells of. So a crash between the
//! journal and the audit log loses no entry, and the entry's reference keeps it from standing there twice.
//!
//! Must not: hold the entry itself. It is made from the run as it was at that event.

use serde::{Deserialize, Serialize};

use super::journal::event_key;
use crate::conversation::Actor;
use crate::ids::RunId;
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

/// Everything that is owed, by run and event.
pub fn all(store: &Store) -> Result<Vec<Owed>, StoreError> {
    store.scan::<Owed>(Tree::Owed, &[]).map(|entry| entry.map(|(_, owed)| owed)).collect()
}
