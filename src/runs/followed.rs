//! How far the output of a step's command was handed on: where a Houston that comes back goes on.
//!
//! Not part of the journal: losing the last moment of it means some lines twice in a transcript. Must not:
//! decide anything about a run.

use serde::{Deserialize, Serialize};

use crate::ids::RunId;
use crate::runs::journal::event_key;
use crate::store::{Batch, Store, StoreError, Tree};

#[derive(Serialize, Deserialize)]
struct Followed {
    /// Of which attempt: how many had come to their end before.
    ended: u32,
    bytes: u64,
}

/// A step of a run, or its undo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) run: RunId,
    pub(super) step: usize,
    pub(super) undo: bool,
    pub(super) ended: u32,
}

impl Place {
    fn key(&self) -> [u8; 13] {
        let mut key = [u8::from(self.undo); 13];
        let step = u32::try_from(self.step).unwrap_or(u32::MAX);
        key[..12].copy_from_slice(&event_key(self.run, step));
        key
    }

    /// Zero where nothing is known of this attempt.
    pub(super) fn read(&self, store: &Store) -> u64 {
        match store.get::<Followed>(Tree::Followed, &self.key()) {
            Ok(Some(found)) if found.ended == self.ended => found.bytes,
            Ok(_) => 0,
            Err(error) => {
                tracing::warn!(run.id = %self.run, %error, "how far output was followed cannot be read");
                0
            }
        }
    }

    pub(super) fn write(&self, store: &Store, bytes: u64) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Tree::Followed, &self.key(), &Followed { ended: self.ended, bytes });
        store.apply(batch)
    }
}

/// Of a run that has ended, nothing is kept.
pub(super) fn forget(run: RunId, store: &Store, batch: &mut Batch) -> Result<(), StoreError> {
    for record in store.scan::<Followed>(Tree::Followed, &run.0.to_be_bytes()) {
        batch.delete(Tree::Followed, &record?.0);
    }
    Ok(())
}
