//! User names of the configuration, each tied to the id that bore it when Houston first saw it.
//!
//! Must not: move a pin by itself. A name that changes hands gives nothing to its new bearer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Person;
use crate::ids::UserId;

/// Name → id, durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pins(BTreeMap<String, UserId>);

/// What the server says about an entry of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Somebody has this id.
    pub as_id: bool,
    /// Who bears this name now.
    pub as_name: Option<UserId>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// To be stored.
    Pinned(UserId),
    /// As before.
    Known,
    /// The name has another bearer, who does not get what it stands for. Worth a warning.
    ChangedHands { pinned: UserId, now: UserId },
    /// Nobody is called so.
    Nobody,
}

impl Pins {
    pub fn get(&self, entry: &str) -> Option<&UserId> {
        self.0.get(&key(entry))
    }

    pub fn knows(&self, entry: &str) -> bool {
        self.0.contains_key(&key(entry))
    }

    /// Pins an entry on first sight. An id always wins over a name: somebody might take another's id for a
    /// name, and what looks like an id is never taken for a name at all.
    pub fn learn(&mut self, entry: &str, found: &Found) -> Learned {
        let now = if found.as_id {
            Some(UserId::from(entry))
        } else if looks_like_an_id(entry) {
            None
        } else {
            found.as_name.clone()
        };
        match (self.get(entry), now) {
            (None, None) => Learned::Nobody,
            (None, Some(now)) => {
                self.0.insert(key(entry), now.clone());
                Learned::Pinned(now)
            }
            (Some(pinned), Some(now)) if *pinned != now => {
                Learned::ChangedHands { pinned: pinned.clone(), now }
            }
            (Some(_), _) => Learned::Known,
        }
    }

    /// Lets go of an entry, so that the next [`Pins::learn`] pins it anew: a person's decision.
    pub fn forget(&mut self, entry: &str) -> bool {
        self.0.remove(&key(entry)).is_some()
    }

    /// Why an entry that reads like this person's name does not mean them.
    pub(super) fn objection(&self, entry: &str, who: &Person) -> Option<String> {
        if key(entry) != key(&who.username) || entry == who.id.as_str() {
            return None;
        }
        match self.get(entry) {
            Some(pinned) if *pinned == who.id => None,
            Some(pinned) => Some(format!(
                "the configuration's `{entry}` is the user with the id `{pinned}`, not `{}`: the name \
                 has changed hands. If that is right, write the id in the configuration.",
                who.id
            )),
            None => Some(format!(
                "the configuration's `{entry}` has not been looked up yet, so it counts for nobody; writing \
                 the id `{}` instead needs no look-up.",
                who.id
            )),
        }
    }
}

/// Rocket.Chat takes user names without regard to case.
fn key(entry: &str) -> String {
    let name = entry.strip_prefix('@').unwrap_or(entry);
    if looks_like_an_id(name) { name.to_owned() } else { name.to_lowercase() }
}

/// 17 characters of Meteor's alphabet, with a capital or a digit in it: Rocket.Chat's own user ids.
pub fn looks_like_an_id(entry: &str) -> bool {
    let unmistakable = |b: u8| b.is_ascii_alphanumeric() && !b"01IOUVl".contains(&b);
    entry.len() == 17
        && entry.bytes().all(unmistakable)
        && entry.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}
