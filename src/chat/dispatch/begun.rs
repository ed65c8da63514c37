//! Acts that were begun and have no answer yet. An act is durable before its answer is said, so a process
//! that ends in between would leave a person with nothing: the next one says that it was so.
//!
//! Must not: carry an act out again. Whether it was done before the end is not known, and a second time may
//! be one too many.

use serde::{Deserialize, Serialize};

use super::{Dispatcher, OwnedBound};
use crate::gateway::Priority;
use crate::gateway::events::{Inbound, Post, SendError};
use crate::ids::{MessageId, RoomId, RunId, derived_id};
use crate::store::{Batch, Store, StoreError, Tree};
use crate::text::typed;

/// Kept under the id of the message that asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begun {
    cause: MessageId,
    room: RoomId,
    thread: Option<MessageId>,
    /// As one would type it, without prefix.
    command: String,
    run: Option<RunId>,
}

impl Begun {
    /// For whoever asked, by a process that knows no more than this.
    fn text(&self) -> String {
        let look = match self.run {
            Some(run) => format!("`!show {run}` tells"),
            None if self.command.starts_with("reload") => {
                "the configuration folder as it is now is in force in any case".to_owned()
            }
            // A steal is a run of its own.
            None if self.command.contains(" --steal") => "`!runs` tells".to_owned(),
            None if self.command.starts_with("maintenance") => "`!status` tells".to_owned(),
            None => "`!locks` tells".to_owned(),
        };
        format!(
            "I was stopped while I did {}, and do not know whether it was done: {look}. Say it again if it was not.",
            typed(&self.command)
        )
    }
}

/// What earlier processes left.
pub(super) fn left(store: &Store) -> Result<Vec<Begun>, StoreError> {
    store.scan::<Begun>(Tree::Begun, &[]).map(|entry| entry.map(|(_, begun)| begun)).collect()
}

impl Dispatcher {
    /// Durable before anything is done: the message is dealt with, and whoever sent it is owed an answer.
    pub(super) async fn begin(&self, cause: &Inbound, bound: &OwnedBound) -> Result<(), String> {
        let begun = Begun {
            cause: cause.id.clone(),
            room: cause.room.id.clone(),
            thread: cause.thread.clone(),
            command: bound.canonical.clone(),
            run: bound.values.run("run"),
        };
        let mut batch = Batch::new();
        self.parts.ledger.batch_for(&cause.id, &mut batch);
        batch.put(Tree::Begun, cause.id.as_str().as_bytes(), &begun);
        self.parts.store.commit(batch).await.map_err(|error| {
            tracing::error!("an act was not begun: {error}");
            format!(
                ":x: {} was not done: the state folder cannot be written ({error}). Make room for it, then say it again.",
                typed(&bound.canonical)
            )
        })
    }

    /// The answer was said, or the act speaks for itself. Lazily: the answer has the same id both times.
    pub(super) fn answered(&self, cause: &MessageId) {
        let mut batch = Batch::new();
        batch.delete(Tree::Begun, cause.as_str().as_bytes());
        if let Err(error) = self.parts.store.apply(batch) {
            tracing::error!("the state folder cannot be written: {error}");
        }
    }

    /// Tells everybody whom an earlier process left without an answer.
    pub(super) async fn tell_of_the_begun(&self) {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for begun in left {
            // The id of the answer itself: if that was said after all, this is no second message.
            let id = derived_id(&format!("reply/{}", begun.cause)).into();
            let (room, thread) = (begun.room.clone(), begun.thread.clone());
            let post = Post { id, room, thread, text: begun.text() };
            match self.parts.chat.post(post, Priority::Urgent).await {
                Ok(()) => self.answered(&begun.cause),
                Err(SendError::Refused { reason }) => {
                    tracing::warn!(message.id = %begun.cause, "an answer was refused: {reason}");
                    self.answered(&begun.cause);
                }
                Err(error @ SendError::Unavailable { .. }) => {
                    tracing::debug!(message.id = %begun.cause, "an answer was not said yet: {error}");
                    self.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(begun);
                }
            }
        }
    }
}
