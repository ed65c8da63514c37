//! What stands in a room already and is kept in step: progress messages, coalesced, and which messages' reactions are
//! followed.
//!
//! Must not: say anything new.

use std::time::Duration;

use tokio::time::Instant;

use super::Voice;
use crate::gateway::Priority;
use crate::gateway::events::SendError;
use crate::ids::{RoomId, RunId};
use crate::runs::state::{Phase, RunState};

/// Between two edits of one progress message. People read no faster, and edits share the rate budget.
const EDIT_EVERY: Duration = Duration::from_millis(1000);

impl Voice {
    /// Reactions are followed while they can mean something.
    pub(super) fn watch(&self, run: &RunState) {
        let room: &RoomId = &run.origin.room.id;
        for ballot in super::ballots(run) {
            // One that is looked at before it is said would be taken for one that was deleted.
            let said = self.posted.contains(&ballot.card) || self.earlier.cards.contains(&ballot.card);
            if run.open_ballot() != Some(ballot) {
                self.chat.unwatch(&ballot.card);
            } else if said {
                self.chat.watch(room, &ballot.card);
            }
        }
        if run.is_done() {
            self.chat.unwatch(&run.progress);
        } else if self.posted.contains(&run.progress) || run.started_at.is_some() {
            self.chat.watch(room, &run.progress);
        }
    }

    pub(super) fn note_queued(&mut self, run: &RunState, text: String) {
        if let Phase::Queued { .. } = run.phase {
            self.queued.insert(run.id, text);
        } else {
            self.queued.remove(&run.id);
        }
    }

    pub(super) fn next_edit(&self) -> Option<Instant> {
        self.dirty.iter().map(|run| self.editable.get(run).copied().unwrap_or_else(Instant::now)).min()
    }

    /// An edit that fails is made up for by a later one, with what is so by then.
    pub(super) async fn edit_progress(&mut self) {
        if self.lease.may_act().is_err() {
            return;
        }
        let now = Instant::now();
        let due: Vec<RunId> = self
            .dirty
            .iter()
            .filter(|run| self.editable.get(run).is_none_or(|at| *at <= now))
            .copied()
            .collect();
        for id in due {
            self.dirty.remove(&id);
            let Ok(run) = self.engine.state(id).await else { continue };
            if run.is_done() {
                // Its last word went through the outbox.
                self.editable.remove(&id);
                self.queued.remove(&id);
                continue;
            }
            // By an earlier process: whatever had begun to move.
            let before = self.earlier.runs.contains(&id) && (run.started_at.is_some() || run.was_queued);
            let shown = before || self.posted.contains(&run.progress);
            if !shown || !(run.holds_locks() || run.wants_locks()) {
                continue;
            }
            let text = self.progress(&run, self.clock.now()).await;
            let mut wait = EDIT_EVERY;
            if self.queued.get(&id) == Some(&text) {
                self.editable.insert(id, Instant::now() + wait);
                continue;
            }
            let edited = self.show(&run, &run.progress, None, text.clone(), Priority::Progress).await;
            if edited.is_ok() {
                self.note_queued(&run, text);
            }
            if let Err(error) = edited {
                tracing::debug!(run.id = %id, "progress of {id} was not shown: {error}");
                if let SendError::Unavailable { retry_after, .. } = error {
                    // A run that waits moves for nobody: no other edit would ever make up for this one.
                    wait = wait.max(retry_after.unwrap_or_default());
                    self.dirty.insert(id);
                }
            }
            self.editable.insert(id, Instant::now() + wait);
        }
    }
}
