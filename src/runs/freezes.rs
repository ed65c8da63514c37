//! Times in which nothing that changes an environment begins: rows that people made with `freeze`, and windows
//! of the environment's file. They keep runs from starting; a run under way is not touched.
//!
//! Must not: wait, or end a run.

use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::config::environment::Environment;
use crate::conversation::Actor;
use crate::diagnostic::Location;
use crate::ids::EnvName;
use crate::text::{code, defuse, said};

/// How many freezes that follow on each other are seen as one.
const MOST_IN_A_ROW: usize = 32;

/// What a person declared with `freeze ENV until WHEN reason`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManualFreeze {
    pub environment: EnvName,
    pub by: Actor,
    pub reason: String,
    pub at: Timestamp,
    /// With the time zone in which it was meant.
    #[serde(with = "super::zoned")]
    pub until: Zoned,
}

/// A freeze that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    pub environment: EnvName,
    pub until: Zoned,
    pub by: Declared,
    pub reason: String,
}

/// Who said so.
#[derive(Clone, Debug, PartialEq)]
pub enum Declared {
    Person(Actor),
    File(Location),
}

impl Frozen {
    pub fn by_hand(freeze: &ManualFreeze) -> Self {
        Self {
            environment: freeze.environment.clone(),
            until: freeze.until.clone(),
            by: Declared::Person(freeze.by.clone()),
            reason: freeze.reason.clone(),
        }
    }

    /// `` `prod` is frozen until Mon 30 Nov 2026 08:00 (Europe/Lisbon) by carol: black friday ``; the same as
    /// long as it lasts.
    pub fn describe(&self) -> String {
        let by = match &self.by {
            Declared::Person(who) => defuse(&who.username).into_owned(),
            Declared::File(at) => code(&at.to_string()),
        };
        format!(
            "{} is frozen until {} by {by}: {}",
            code(self.environment.as_str()),
            crate::config::window::words(&self.until),
            said(&self.reason)
        )
    }

    /// What can be done about it.
    pub fn way_out(&self) -> String {
        match &self.by {
            Declared::Person(_) => format!("`!unfreeze {}` ends it.", self.environment),
            Declared::File(_) => {
                "It ends by itself, or when the file says otherwise and is in force.".to_owned()
            }
        }
    }
}

/// What the environment's file freezes at that moment.
pub fn by_file(environment: &Environment, at: Timestamp) -> Vec<Frozen> {
    let frozen = environment.freezes.iter().filter_map(|freeze| {
        Some(Frozen {
            environment: environment.name.clone(),
            until: freeze.window.until(at)?,
            by: Declared::File(freeze.at.clone()),
            reason: freeze.reason.clone(),
        })
    });
    frozen.collect()
}

/// The freeze that is in force at `now`, and until when one follows on the other. `at` gives those in force at
/// a moment.
pub fn in_force(now: Timestamp, at: impl Fn(Timestamp) -> Vec<Frozen>) -> Option<Frozen> {
    let longest = |moment| at(moment).into_iter().max_by_key(|frozen| frozen.until.timestamp());
    let mut frozen = longest(now)?;
    for _ in 0..MOST_IN_A_ROW {
        match longest(frozen.until.timestamp()) {
            Some(next) => frozen.until = next.until,
            None => break,
        }
    }
    Some(frozen)
}
