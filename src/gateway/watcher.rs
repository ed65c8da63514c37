//! Reads watched messages again from the server: when a frame shows other names, after every reconnect, and
//! slowly all the time, since a frame can be lost and a reaction on an old message moves nothing.
//!
//! Must not: count what a frame says; only a document that was read by id counts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::doc::Doc;
use super::events::Event;
use super::shared::Shared;
use crate::ids::{MessageId, UserId};
use crate::rocketchat::{Rest, RestError, budget};

/// How many messages are read at the same time.
const AT_ONCE: usize = 4;

/// Runs until the gateway stops. Each message is read by one reader at a time.
pub async fn run(shared: Arc<Shared>, events: mpsc::Sender<Event>) {
    let mut tick = tokio::time::interval(shared.timings.reread);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (due, priority) = tokio::select! {
            () = shared.stop.cancelled() => return,
            due = shared.due() => (due, budget::Priority::High),
            _ = tick.tick() => {
                if !shared.status().online {
                    continue;
                }
                (shared.watched(), budget::Priority::Low)
            }
        };
        let rest = shared.rest.with_priority(priority);
        let readings = futures_util::stream::iter(due).for_each_concurrent(AT_ONCE, |message| {
            let (shared, rest, events) = (&shared, &rest, &events);
            async move {
                if let Err(error) = read_again(shared, rest, &message, events).await {
                    // The next tick, or the next connection, tries again.
                    tracing::debug!(%error, message.id = %message, "a watched message cannot be read");
                }
            }
        });
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = readings => {}
        }
    }
}

async fn read_again(
    shared: &Shared,
    rest: &Rest,
    message: &MessageId,
    events: &mpsc::Sender<Event>,
) -> Result<(), RestError> {
    let Some(me) = shared.status().me.clone() else { return Ok(()) };
    let Some(room) = shared.watched_room(message) else { return Ok(()) };
    let doc = rest.get_message(message.as_str()).await?.map(Doc::from);
    let Some(doc) = doc.filter(|doc| doc.kind.as_deref() != Some("rm")) else {
        shared.unwatch(message);
        let _ = events.send(Event::Deleted { message: message.clone(), room }).await;
        return Ok(());
    };
    if doc.by.is_none_or(|by| by.id != me.id) {
        tracing::warn!(message.id = %message, "a message that Houston did not send is not watched: its reactions prove nothing");
        shared.unwatch(message);
        return Ok(());
    }
    let reactions = shared.that_mean_anything(&doc.reactions);
    let mut ids: HashMap<String, UserId> = HashMap::new();
    let mut failed = None;
    for name in shared.names_to_look_up(message, &reactions) {
        match shared.people.id_of(rest, &name).await {
            Ok(Some(id)) => {
                ids.insert(name, id);
            }
            Ok(None) => {
                tracing::debug!(message.id = %message, name, "a reaction by a name that nobody has does not count");
            }
            Err(error) => failed = Some(error),
        }
    }
    let Some(difference) = shared.settle(message, &reactions, &ids, &me.id) else { return Ok(()) };
    if !difference.is_empty() {
        let event = Event::Reactions {
            message: message.clone(),
            room,
            added: difference.added,
            removed: difference.removed,
        };
        let _ = events.send(event).await;
    }
    failed.map_or(Ok(()), Err)
}

/// Messages that have to be read, each once.
#[derive(Default)]
pub struct Due {
    messages: std::sync::Mutex<BTreeSet<MessageId>>,
    some: tokio::sync::Notify,
}

impl Due {
    pub fn add(&self, messages: impl IntoIterator<Item = MessageId>) {
        let mut due = self.messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        due.extend(messages);
        if !due.is_empty() {
            self.some.notify_one();
        }
    }

    /// Waits until there are some, and takes them.
    pub async fn take(&self) -> Vec<MessageId> {
        loop {
            let taken = {
                let mut due = self.messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                std::mem::take(&mut *due)
            };
            if !taken.is_empty() {
                return taken.into_iter().collect();
            }
            self.some.notified().await;
        }
    }
}
