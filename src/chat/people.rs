//! Who somebody is to Houston: the configuration's names pinned to ids, and Rocket.Chat's roles, looked up
//! and remembered for a while.
//!
//! Must not: decide rights (`access` does). What cannot be looked up counts for nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::access::{Access, Found, Learned, Person, Pins};
use crate::clock::Clock;
use crate::config;
use crate::digest::Digest;
use crate::gateway::events::{Actor, SendError};
use crate::gateway::{Chat, Who};
use crate::ids::{RoleName, UserId};
use crate::store::{Batch, Store, StoreError, Tree};

/// How long Rocket.Chat's roles of a person are believed.
const ROLES_FOR: Duration = Duration::from_secs(60);

/// Where the pins are kept.
const PINS: &[u8] = b"pins";

/// The file whose names were all looked up once.
const PINNED_REVISION: &[u8] = b"pinned_revision";

/// Nobody who breaks the glass waits longer for a list of those who are told.
const TO_LOOK_UP: Duration = Duration::from_secs(3);

/// Names that cannot be looked up are tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Whom the configuration names.
struct Named {
    config: config::Access,
    /// Of the file that does so.
    revision: Digest,
}

impl Named {
    /// Whether anything depends on Rocket.Chat's roles.
    fn roles_matter(&self) -> bool {
        self.config.roles.values().any(|role| !role.rocketchat_roles.is_empty())
    }
}

pub struct People {
    chat: Chat,
    store: Store,
    clock: Clock,
    named: RwLock<Arc<Named>>,
    access: RwLock<Arc<Access>>,
    /// Whether every name of the configuration was looked up once.
    pinned: watch::Sender<bool>,
    roles: Mutex<HashMap<UserId, (BTreeSet<String>, Timestamp)>>,
}

impl People {
    pub fn new(
        chat: Chat,
        store: Store,
        clock: Clock,
        config: config::Access,
        revision: Digest,
    ) -> Result<Self, StoreError> {
        let pins: Pins = store.get(Tree::Principals, PINS)?.unwrap_or_default();
        let access = Access::new(config.clone(), pins);
        let pinned = access.unpinned().is_empty();
        Ok(Self {
            chat,
            store,
            clock,
            named: RwLock::new(Arc::new(Named { config, revision })),
            access: RwLock::new(Arc::new(access)),
            pinned: watch::Sender::new(pinned),
            roles: Mutex::default(),
        })
    }

    fn named(&self) -> Arc<Named> {
        Arc::clone(&self.named.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another configuration: who loses a right loses it now; a name that is new counts once it was looked
    /// up, for which the caller calls [`People::pin`].
    pub fn configure(&self, config: config::Access, revision: Digest) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        *access = Arc::new(access.with_config(config.clone()));
        let complete = access.unpinned().is_empty();
        *named = Arc::new(Named { config, revision });
        if !complete {
            self.pinned.send_replace(false);
        }
    }

    /// Everybody in a role who can be told something now: by name, and by a role of Rocket.Chat's as far as it says
    /// who has that. What it does not say in time is in the log, and a finding of `doctor`.
    pub async fn members(&self, role: &RoleName) -> Vec<UserId> {
        let access = self.access();
        let mut members = access.named_in(role);
        let named = self.named();
        let theirs = named.config.roles.get(role).map(|role| role.rocketchat_roles.as_slice());
        for name in theirs.unwrap_or_default() {
            match tokio::time::timeout(TO_LOOK_UP, self.chat.having(name)).await {
                Ok(Ok(found)) => members.extend(found),
                Ok(Err(error)) => tracing::warn!(
                    "who has Rocket.Chat's role `{name}` cannot be looked up, so they get no direct message: {error}"
                ),
                Err(_) => tracing::warn!(
                    "who has Rocket.Chat's role `{name}` was not said in time, so they get no direct message"
                ),
            }
        }
        let me = self.chat.me();
        members.retain(|member| me.as_ref().is_none_or(|me| me.id != *member));
        members.sort();
        members.dedup();
        members
    }

    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ties names of the configuration to ids; called whenever Houston is online. Says in the log whose
    /// name has changed hands.
    pub async fn pin(&self) {
        loop {
            match self.pin_once().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!("names of the configuration could not be looked up: {error}");
                    self.clock.sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn pin_once(&self) -> Result<(), SendError> {
        let asked = self.named();
        let mut names: Vec<&str> = asked.config.people().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        let mut pins: Pins = match self.store.get(Tree::Principals, PINS) {
            Ok(pins) => pins.unwrap_or_default(),
            Err(error) => {
                return Err(SendError::Unavailable { reason: error.to_string(), retry_after: None });
            }
        };
        // A name that nobody had when this configuration was first seen is not for whoever takes it later.
        let seen: Option<Digest> = self.store.get(Tree::Principals, PINNED_REVISION).unwrap_or_default();
        let first_sight = seen.as_ref() != Some(&asked.revision);
        let before = pins.clone();
        let found = futures_util::future::try_join_all(names.iter().map(|name| self.find(name))).await?;
        for (name, found) in names.iter().zip(&found) {
            if !first_sight && !pins.knows(name) && !found.as_id {
                tracing::warn!(
                    "nobody was called `{name}` when this configuration was first seen, so the name gives no rights: write the id, or save the file again"
                );
                continue;
            }
            match pins.learn(name, found) {
                Learned::Pinned(id) => tracing::info!(user.id = %id, "`{name}` of the configuration is {id}"),
                Learned::Known => {}
                Learned::ChangedHands { pinned, now } => tracing::warn!(
                    "`{name}` of the configuration was {pinned} and is {now} now: it gives {now} no rights; write the id in the configuration if that is right"
                ),
                Learned::Nobody => {
                    tracing::warn!("nobody in Rocket.Chat is called `{name}`, as the configuration has it");
                }
            }
        }
        if pins != before || first_sight {
            let mut batch = Batch::new();
            batch.put(Tree::Principals, PINS, &pins).put(Tree::Principals, PINNED_REVISION, &asked.revision);
            self.store
                .commit(batch)
                .await
                .map_err(|e| SendError::Unavailable { reason: e.to_string(), retry_after: None })?;
        }
        // Under the same lock as in `configure`, so that no earlier configuration comes back.
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let access = Arc::new(Access::new(named.config.clone(), pins));
        let complete = named.revision == asked.revision;
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
        if complete {
            self.pinned.send_replace(true);
        }
        Ok(())
    }

    async fn find(&self, entry: &str) -> Result<Found, SendError> {
        let name = entry.trim_start_matches('@');
        let as_id = self.chat.user(Who::Id(&UserId::from(entry))).await?.is_some_and(|user| user.active);
        let as_name = if as_id { None } else { self.chat.user(Who::Name(name)).await?.map(|user| user.id) };
        Ok(Found { as_id, as_name })
    }

    /// Until the configuration's names are known.
    pub async fn known(&self) {
        // Fails only when the sender is gone, and that is `self`.
        let _ = self.pinned.subscribe().wait_for(|pinned| *pinned).await;
    }

    /// The person with Rocket.Chat's roles, and only after the configuration's names are known.
    pub async fn person(&self, actor: &Actor) -> Person {
        // The configuration names it as it is, and no server knows it: it waits for none.
        if actor.as_schedule().is_some() {
            return Person::new(actor, []);
        }
        self.known().await;
        Person::new(actor, self.rocketchat_roles(&actor.id).await)
    }

    async fn rocketchat_roles(&self, id: &UserId) -> BTreeSet<String> {
        if !self.named().roles_matter() {
            return BTreeSet::new();
        }
        let now = self.clock.now();
        let known = {
            let roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
            roles.get(id).filter(|(_, until)| *until > now).map(|(roles, _)| roles.clone())
        };
        if let Some(known) = known {
            return known;
        }
        match self.chat.user(Who::Id(id)).await {
            Ok(found) => {
                let found: BTreeSet<String> =
                    found.and_then(|user| user.roles).unwrap_or_default().into_iter().collect();
                let until = now.checked_add(ROLES_FOR).unwrap_or(Timestamp::MAX);
                let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
                // Bounded by the people of the workspace who speak to Houston; those whose time is over go.
                roles.retain(|_, (_, until)| *until > now);
                roles.insert(id.clone(), (found.clone(), until));
                found
            }
            Err(error) => {
                tracing::warn!(user.id = %id, "the roles of {id} cannot be looked up and count for nothing: {error}");
                BTreeSet::new()
            }
        }
    }

    pub fn roles(&self, person: &Person) -> Vec<RoleName> {
        self.access().roles(person).into_iter().collect()
    }
}
