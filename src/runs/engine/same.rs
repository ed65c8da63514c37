//! Runs that ask for the same and wait for consent beside each other: whoever decides should know of both.
//!
//! Must not: decide anything about them. Two of the same may be meant.

use super::Engine;
use crate::conversation::Actor;
use crate::ids::RunId;
use crate::runs::state::{Phase, RunState};

/// Another run that asks for the same.
#[derive(Clone, Debug, PartialEq)]
pub struct SameAsked {
    pub run: RunId,
    pub by: Actor,
}

impl Engine {
    /// The others that wait for consent to the same as this one, oldest first.
    pub async fn same_asked(&self, run: &RunState) -> Vec<SameAsked> {
        let journal = self.0.journal.lock().await;
        let mut same: Vec<SameAsked> = journal
            .open_runs()
            .filter(|other| other.id != run.id && matches!(other.phase, Phase::Deciding { .. }))
            .filter(|other| other.plan.asks_the_same_as(&run.plan))
            .map(|other| SameAsked { run: other.id, by: other.by.clone() })
            .collect();
        same.sort_by_key(|other| other.run);
        same
    }
}
