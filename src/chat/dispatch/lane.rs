//! What acts on runs and locks, one after another in the order in which it was said; and what becomes of it when more
//! waits than can be done in good time.
//!
//! Must not: lose a reaction or the deletion of a card, or leave anybody who gave a command without a word.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::{Instrument as _, Span};

use super::Dispatcher;
use super::commands::Work;
use crate::gateway::events::{Inbound, Reaction};
use crate::ids::{MessageId, RoomId};
use crate::text::typed;

/// As many wait for their turn. Whoever comes then is told so: what is done minutes later is not what they meant.
pub const MOST_WAITING: usize = 200;

pub(super) enum Act {
    Command(Box<Work>),
    Reactions { message: MessageId, room: RoomId, added: Vec<Reaction>, removed: Vec<Reaction> },
    Deleted(MessageId),
    Reply(Box<Inbound>),
}

/// What is done in the order in which it was said, and inside of what.
type InSpan = (Span, Act);

#[derive(Default)]
pub(super) struct Lane {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    acts: VecDeque<InSpan>,
    closed: bool,
}

impl Lane {
    /// Gives back what does not fit. What is told by difference always fits, since nobody would say it again: what is
    /// about one message is one act then, so that there are at most as many as messages that are watched.
    fn put(&self, act: Act) -> Result<(), Act> {
        let mut waiting = self.waiting();
        let full = waiting.acts.len() >= MOST_WAITING;
        match act {
            Act::Command(_) | Act::Reply(_) if full => return Err(act),
            Act::Reactions { message, added, removed, .. }
                if full && let Some(last) = waiting.last_about(&message) =>
            {
                merge(last, added, removed);
                return Ok(());
            }
            act => waiting.acts.push_back((Span::current(), act)),
        }
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// The next one; `None` when the lane is closed and all is done.
    async fn next(&self) -> Option<InSpan> {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.waiting();
                if let Some(next) = waiting.acts.pop_front() {
                    return Some(next);
                }
                if waiting.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The reactions to this message that wait behind all that was said.
    fn last_about(&mut self, card: &MessageId) -> Option<&mut Act> {
        let late = self.acts.iter_mut().skip(MOST_WAITING).map(|(_, act)| act);
        late.rev().find(|act| matches!(act, Act::Reactions { message, .. } if message == card))
    }
}

/// What was given and taken back meanwhile, or the other way round, is as if it had not been.
fn merge(last: &mut Act, added: Vec<Reaction>, removed: Vec<Reaction>) {
    let Act::Reactions { added: given, removed: taken, .. } = last else { return };
    let put = |one: Reaction, to: &mut Vec<Reaction>, from: &mut Vec<Reaction>| match from
        .iter()
        .position(|o| *o == one)
    {
        Some(at) => drop(from.remove(at)),
        None => to.push(one),
    };
    removed.into_iter().for_each(|one| put(one, taken, given));
    added.into_iter().for_each(|one| put(one, given, taken));
}

impl Dispatcher {
    /// Acts on runs and locks, one after another.
    pub(super) async fn act_in_order(self, lane: std::sync::Arc<Lane>) {
        while let Some((span, act)) = lane.next().await {
            self.act(act).instrument(span).await;
        }
    }

    async fn act(&self, act: Act) {
        match act {
            Act::Command(work) => self.carry_out(*work).await,
            Act::Reactions { message, room, added, removed } => {
                self.reactions(&message, &room, added, removed).await;
            }
            Act::Deleted(message) => self.deleted(&message).await,
            Act::Reply(message) => self.maybe_answer(&message).await,
        }
    }

    pub(super) fn in_turn(&self, lane: &Lane, act: Act) {
        match lane.put(act) {
            Err(Act::Command(work)) => {
                tracing::warn!("{MOST_WAITING} acts wait for their turn: `{}` is refused", work.line);
                let text = format!(
                    ":hourglass: I did nothing with {}: {MOST_WAITING} others wait for their turn already. Say it again in a minute.",
                    typed(&work.bound.canonical)
                );
                self.answer(work.cause, text);
            }
            Err(Act::Reply(message)) => {
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.not_taken(&message).await });
            }
            Err(Act::Reactions { .. } | Act::Deleted(_)) | Ok(()) => {}
        }
    }

    /// An answer in a run's thread that found no place. Talk elsewhere needs none.
    async fn not_taken(&self, message: &Inbound) {
        let open = self.parts.engine.open_runs().await;
        let waits = open.iter().find(|run| {
            [Some(&run.progress), Some(&run.consent.card), run.origin.thread.as_ref()]
                .contains(&message.thread.as_ref())
        });
        if let Some(run) = waits
            && !self.too_fast(message)
        {
            let text = format!(
                ":hourglass: I did not look whether that was an answer to {}: {MOST_WAITING} others wait for their turn already. Say it again in a minute.",
                run.id
            );
            self.say(message, message.thread.clone(), text).await;
        }
        self.dealt_with(&message.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaction(by: &str) -> Reaction {
        let by = crate::conversation::Actor { id: by.into(), username: by.to_owned() };
        Reaction { by, emoji: ":+1:".to_owned() }
    }

    fn reactions(message: &str, added: &[&str], removed: &[&str]) -> Act {
        let all = |of: &[&str]| of.iter().map(|by| reaction(by)).collect();
        Act::Reactions { message: message.into(), room: "r".into(), added: all(added), removed: all(removed) }
    }

    fn full() -> Lane {
        let lane = Lane::default();
        for _ in 0..MOST_WAITING {
            assert!(lane.put(Act::Deleted("m".into())).is_ok());
        }
        lane
    }

    #[tokio::test]
    async fn what_is_told_by_difference_is_kept_when_the_lane_is_full_and_does_not_grow() {
        let lane = full();
        for _ in 0..1000 {
            assert!(lane.put(reactions("card", &["bob"], &[])).is_ok());
            assert!(lane.put(reactions("card", &["carol"], &["bob"])).is_ok());
            assert!(lane.put(reactions("card", &[], &["carol"])).is_ok());
        }
        assert!(lane.put(reactions("card", &["dave"], &["carol"])).is_ok());
        assert!(lane.put(reactions("another", &["bob"], &[])).is_ok());
        lane.close();
        for _ in 0..MOST_WAITING {
            assert!(matches!(lane.next().await, Some((_, Act::Deleted(_)))));
        }
        let Some((_, Act::Reactions { added, removed, .. })) = lane.next().await else { panic!("reactions") };
        assert_eq!((added, removed), (vec![reaction("dave")], vec![reaction("carol")]));
        assert!(
            matches!(lane.next().await, Some((_, Act::Reactions { message, .. })) if message == "another".into())
        );
        assert!(lane.next().await.is_none());
    }
}
