//! Who may change what, now. Locks are not kept anywhere: those of runs follow from the runs' states,
//! so that a crash cannot leak one; those that people take by hand are rows with owner and reason.
//!
//! Must not: wait. Whoever does not get a lock is told who has it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conversation::Actor;
use crate::ids::RunId;
use crate::playbook::model::LockName;

/// A lock that a person took with `lock ENV[/SERVICE] reason`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManualLock {
    pub name: LockName,
    pub by: Actor,
    pub reason: String,
    pub at: Timestamp,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum Holder {
    Run {
        run: RunId,
        command: String,
        by: Actor,
        since: Timestamp,
    },
    Person(ManualLock),
    /// A run whose log this build cannot read. It may have changed anything in its environment, so nobody
    /// else does until a person has looked.
    Unreadable {
        run: RunId,
        command: String,
        by: String,
        since: Timestamp,
    },
}

impl Holder {
    /// As [`Holder::describe`], without the age: the same as long as the holder is.
    pub fn queue_line(&self) -> String {
        match self {
            Self::Run { run, command, by, .. } => {
                format!("{run} ({} by {})", crate::text::typed(command), crate::text::defuse(&by.username))
            }
            Self::Unreadable { run, command, by, .. } => unreadable(*run, command, by),
            Self::Person(lock) => format!(
                "{} has locked `{}`: {}",
                crate::text::defuse(&lock.by.username),
                lock.name,
                crate::text::said(&lock.reason)
            ),
        }
    }

    /// `R-7 (`deploy prod web 1.8` by alice, for 2 min)`
    pub fn describe(&self, now: Timestamp) -> String {
        let age = |since| {
            crate::text::duration(
                std::time::Duration::try_from(now.duration_since(since)).unwrap_or_default(),
            )
        };
        match self {
            Self::Run { run, command, by, since } => format!(
                "{run} ({} by {}, for {})",
                crate::text::typed(command),
                crate::text::defuse(&by.username),
                age(*since)
            ),
            Self::Unreadable { run, command, by, .. } => unreadable(*run, command, by),
            Self::Person(lock) => format!(
                "`{}` is locked by {} since {} ({}): {}",
                lock.name,
                crate::text::defuse(&lock.by.username),
                lock.at.strftime("%H:%M UTC"),
                crate::text::ago(lock.at, now),
                crate::text::said(&lock.reason)
            ),
        }
    }
}

fn unreadable(run: RunId, command: &str, by: &str) -> String {
    format!(
        "{run} ({} by {}), whose log this version of Houston cannot read: start the version that wrote it, or \
         look what it did and `abandon {run} REASON`",
        crate::text::typed(command),
        crate::text::defuse(by)
    )
}

/// A lock that is held now.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub name: LockName,
    pub holder: Holder,
}

/// The right of one run to change what its plan names. Made only by the engine, after the run's
/// `started` is durable; whoever executes steps has to show it.
#[derive(Debug)]
pub struct LockProof {
    run: RunId,
    _made_here: (),
}

impl LockProof {
    pub(super) fn of(state: &super::state::RunState) -> Option<Self> {
        state.holds_locks().then_some(Self { run: state.id, _made_here: () })
    }
    pub fn run(&self) -> RunId {
        self.run
    }
}

/// What stands in the way of `wanted`.
pub fn conflicts<'h>(wanted: &[LockName], held: &'h [Held]) -> Vec<&'h Held> {
    held.iter().filter(|held| wanted.iter().any(|name| name.conflicts(&held.name))).collect()
}
