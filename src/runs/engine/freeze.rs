//! Freezes, as the engine keeps and asks about them.
//!
//! Must not: wait. A run that is frozen is a row with a time at which it is looked at again.

use std::collections::BTreeSet;

use super::Engine;
use crate::ids::EnvName;
use crate::runs::freezes::{Frozen, ManualFreeze, in_force};
use crate::runs::journal::Journal;

impl Engine {
    /// The configuration has changed, and with it perhaps what is frozen, or keeps a run from going on.
    pub async fn configuration_changed(&self) {
        self.nudge_waiting().await;
        self.0.maintenance_changed.notify_one();
        self.0.schedules_changed.notify_one();
        let open = self.open_runs().await;
        for run in open.iter().filter(|run| run.footing_changed.is_some()) {
            self.nudge(run.id);
        }
    }

    pub async fn manual_freezes(&self) -> Vec<ManualFreeze> {
        self.0.journal.lock().await.manual_freezes(self.now()).cloned().collect()
    }

    /// What keeps a run that changes these environments from starting now.
    pub async fn frozen<'e>(
        &self,
        environments: impl IntoIterator<Item = &'e EnvName>,
        overridden: bool,
    ) -> Option<Frozen> {
        let journal = self.0.journal.lock().await;
        self.frozen_in(&journal, environments, overridden)
    }

    /// The one place that decides whether a freeze holds; `overridden`: nothing is frozen for whoever asks.
    pub(super) fn frozen_in<'e>(
        &self,
        journal: &Journal,
        environments: impl IntoIterator<Item = &'e EnvName>,
        overridden: bool,
    ) -> Option<Frozen> {
        if overridden {
            return None;
        }
        let environments: BTreeSet<&EnvName> = environments.into_iter().collect();
        let by_file = (self.0.parts.footing)().freezes;
        in_force(self.now(), |at| {
            let by_hand = journal
                .manual_freezes(at)
                .filter(|freeze| environments.contains(&freeze.environment))
                .map(Frozen::by_hand);
            by_hand.chain(environments.iter().flat_map(|name| by_file(name, at))).collect()
        })
    }
}
