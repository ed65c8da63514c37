//! From events to acts: reads what people say and react, and hands it to who can do it.
//!
//! Commands that only read are answered side by side. Acts on runs and locks (approve, cancel, lock …) go
//! one after another, in the order in which they were said. Plans are made side by side, since looking at
//! the world takes time, and nothing is decided before the run is durable.
//!
//! Must not: be obeyed by anything but a message that the gateway hands out, once.

mod answers;
mod begun;
mod commands;
mod dialogues;
mod lane;
mod votes;
mod words;

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

pub use self::commands::{OwnedBound, authorize_for};
pub use self::lane::MOST_WAITING;
use self::lane::{Act, Lane};
pub use self::votes::ineligible;
pub(super) use self::words::audit_entry;
use self::words::room_name;
use super::people::People;
use super::reload::Reloads;
use super::rented::Rented;
use crate::access::RateLimit;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::{Config, Current};
use crate::gateway::events::Event;
use crate::gateway::{Chat, Ledger};
use crate::ids::EnvName;
use crate::lease::Lease;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::playbook::plan::Planner;
use crate::playbook::steps::{Kinds, World};
use crate::runs::maintenance::Maintenance;
use crate::runs::{Engine, restored};
use crate::secret::Redactor;
use crate::store::{Store, StoreError};
use crate::trace;

/// The world as a configuration describes it.
pub type Worlds = Arc<dyn Fn(Arc<Config>) -> Arc<dyn World> + Send + Sync>;

pub struct DispatcherParts {
    pub chat: Chat,
    pub engine: Engine,
    pub ledger: Ledger,
    pub config: Current,
    pub kinds: Kinds,
    pub worlds: Worlds,
    pub store: Store,
    pub audit: Audit,
    pub clock: Clock,
    pub redactor: Redactor,
    pub metrics: Metrics,
    /// To pages of runs.
    pub links: Links,
    pub lease: Lease,
}

/// Clones share everything.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

pub struct Shared {
    pub parts: DispatcherParts,
    pub people: People,
    rate: Mutex<RateLimit>,
    pub(super) reloads: Reloads,
    pub(super) rented: Rented,
    /// Acts of earlier processes that nobody was told the outcome of.
    left: Mutex<Vec<begun::Begun>>,
    /// When the store was brought back from an export, if ever.
    restored_at: Option<Timestamp>,
    tasks: TaskTracker,
}

impl std::ops::Deref for Dispatcher {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Dispatcher {
    pub fn new(parts: DispatcherParts) -> Result<Self, StoreError> {
        let config = parts.config.get();
        let people = People::new(
            parts.chat.clone(),
            parts.store.clone(),
            parts.clock.clone(),
            config.access.clone(),
            config.names_revision(),
        )?;
        let rate = Mutex::new(RateLimit::new(config.limits.commands_per_minute));
        let left = Mutex::new(begun::left(&parts.store)?);
        let restored_at = restored::at(&parts.store)?;
        Ok(Self(Arc::new(Shared {
            parts,
            people,
            rate,
            reloads: Reloads::default(),
            rented: Rented::default(),
            left,
            restored_at,
            tasks: TaskTracker::new(),
        })))
    }

    /// The configuration in force now. A command is carried out under the one that it was bound with.
    pub fn config(&self) -> Arc<Config> {
        self.parts.config.get()
    }

    pub async fn maintenance_of(&self, environment: Option<&EnvName>) -> Vec<Maintenance> {
        match environment {
            Some(name) => self.parts.engine.maintenance_of(name).await,
            None => Vec::new(),
        }
    }

    /// When the store was brought back from an export or taken over, if ever.
    pub fn restored_at(&self) -> Option<Timestamp> {
        self.restored_at
    }

    /// From now on for everybody.
    pub(super) fn limit(&self, per_minute: u32) {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner) = RateLimit::new(per_minute);
    }

    /// Beside everything else, about the same as the caller; waited for at the end.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work.in_current_span());
    }

    pub fn world(&self, config: &Arc<Config>) -> Arc<dyn World> {
        (self.parts.worlds)(Arc::clone(config))
    }

    pub fn planner(&self, config: &Arc<Config>) -> Planner {
        Planner {
            kinds: Arc::clone(&self.parts.kinds),
            world: self.world(config),
            clock: self.parts.clock.clone(),
            redactor: self.parts.redactor.clone(),
        }
    }

    /// Until `stop` or the gateway's end; waits for what is under way.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let lane = Arc::new(Lane::default());
        self.tasks.spawn(self.clone().act_in_order(Arc::clone(&lane)));
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
            };
            self.event(event, &lane);
        }
        lane.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn event(&self, event: Event, lane: &Lane) {
        let _inside = span_of(&event).entered();
        match event {
            Event::Message(message) => self.message(message, lane),
            Event::Reactions { message, room, added, removed } => {
                self.in_turn(lane, Act::Reactions { message, room, added, removed });
            }
            Event::Deleted { message, .. } => self.in_turn(lane, Act::Deleted(message)),
            Event::Edited { id, room, thread, by, text } => {
                let now = self.parts.clock.now();
                if self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(&by.id, now).is_err() {
                    return;
                }
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.edited(&id, &room, thread, &by, &text).await });
            }
            Event::Online { me } => {
                tracing::info!(user.id = %me.id, "online as {}", me.username);
                let dispatcher = self.clone();
                self.spawn(async move {
                    dispatcher.people.pin().await;
                    dispatcher.tell_leads().await;
                });
            }
            Event::CaughtUp => {
                tracing::info!("caught up");
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.tell_of_the_begun().await });
            }
            Event::Offline { reason, rejected: false } => tracing::warn!("offline, trying again: {reason}"),
            Event::Offline { reason, rejected: true } => {
                tracing::error!(
                    "{reason}. Houston takes a new one when its file changes, or by `houston reload`; `houston doctor` says what is wrong"
                );
            }
            Event::Joined(room) => tracing::info!(room.id = %room.id, "joined {}", room_name(&room)),
            Event::Left(room) => {
                tracing::info!(room.id = %room, "left {room}");
                let dispatcher = self.clone();
                self.spawn(async move { dispatcher.left(&room).await });
            }
            Event::Encrypted { room, by } => {
                tracing::warn!(room.id = %room.id, "{} is encrypted end to end: nothing in it can be read", room_name(&room));
                if let Some(by) = by {
                    let dispatcher = self.clone();
                    self.spawn(async move { dispatcher.encrypted(&room, &by).await });
                }
            }
        }
    }
}

/// What was heard, for the lines about it.
fn span_of(event: &Event) -> Span {
    match event {
        Event::Message(message) => trace::message(message.cause()),
        Event::Edited { id, room, by, .. } => {
            trace::message(trace::Cause { message: id, room: &room.id, user: &by.id })
        }
        _ => Span::none(),
    }
}
