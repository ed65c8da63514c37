//! When Houston was last alive: a mark in the store that is renewed while runs move. From it the next process knows
//! for how long nobody moved them.
//!
//! The journal's last line would tell too long an absence: a step of ten minutes writes nothing in between. The mark
//! is not synced: killed, Houston loses the last half second of it; after a loss of power the journal's last line
//! stands in where that is later.
//!
//! Must not: decide anything about a run.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::{Batch, Store, StoreError, Tree};

/// Between two renewals: what is said of an absence is right to about this.
pub(super) const EVERY: Duration = Duration::from_secs(1);

const KEY: &[u8] = b"alive";

pub(super) fn mark(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(Tree::Meta, KEY, &now);
    store.apply(batch)
}

/// `None`: no run has moved on this store yet.
pub(super) fn last(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    store.get(Tree::Meta, KEY)
}
