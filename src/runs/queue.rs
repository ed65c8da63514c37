//! Where a run stands that waits for what others hold: how many go first, and what whoever is in the way is doing.
//! Pure.
//!
//! Must not: decide who starts. The engine does, by the same holders in the same order.

use std::time::Duration;

use super::journal::Journal;
use super::locks::{Held, Holder, conflicts};
use super::state::{Phase, RunState};
use crate::ids::RunId;
use crate::playbook::model::LockName;

/// The place of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// From 1: it is next when what is held is free.
    pub nth: usize,
    /// Which of its locks it waits for.
    pub locks: Vec<LockName>,
    /// Who holds them, then who goes first.
    pub behind: Vec<InTheWay>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InTheWay {
    pub holder: Holder,
    /// What a run that holds locks is doing; the others wait, or are people.
    pub doing: Option<Doing>,
}

/// How far a run is that others wait for.
#[derive(Clone, Debug, PartialEq)]
pub struct Doing {
    /// From 1.
    pub step: usize,
    pub of: usize,
    /// When it is not simply running.
    pub word: Option<&'static str>,
    /// How long the step usually takes.
    pub usual: Option<Duration>,
}

impl InTheWay {
    pub fn run(&self) -> Option<RunId> {
        match &self.holder {
            Holder::Run { run, .. } | Holder::Unreadable { run, .. } => Some(*run),
            Holder::Person(_) => None,
        }
    }
}

/// Everything that `state` waits for: what is held, then what goes first, each holder once.
pub(super) fn in_the_way(journal: &Journal, state: &RunState) -> Vec<Held> {
    let (held, ahead) = (journal.held(), journal.ahead_of(state));
    let mut all: Vec<Held> = Vec::new();
    for one in conflicts(&state.plan.locks, &held).into_iter().chain(conflicts(&state.plan.locks, &ahead)) {
        if all.iter().all(|known| known.holder != one.holder) {
            all.push(one.clone());
        }
    }
    all
}

/// `None`: it does not wait for others.
pub(super) fn place(journal: &Journal, run: RunId) -> Option<Place> {
    let state = journal.open_run(run)?;
    if !matches!(state.phase, Phase::Queued { .. }) {
        return None;
    }
    let (held, ahead) = (journal.held(), journal.ahead_of(state));
    let waits_for = |lock: &&LockName| held.iter().chain(&ahead).any(|other| other.name.conflicts(lock));
    let behind: Vec<InTheWay> = in_the_way(journal, state)
        .into_iter()
        .map(|one| InTheWay { doing: doing(journal, &one.holder), holder: one.holder })
        .collect();
    let first = |one: &&InTheWay| run_of(journal, &one.holder).is_some_and(RunState::wants_locks);
    let nth = behind.iter().filter(first).count() + 1;
    let locks = state.plan.locks.iter().filter(waits_for).cloned().collect();
    Some(Place { nth, locks, behind })
}

/// The run behind a holder, as it stands.
fn run_of<'j>(journal: &'j Journal, holder: &Holder) -> Option<&'j RunState> {
    let Holder::Run { run, .. } = holder else { return None };
    journal.open_run(*run)
}

pub(super) fn doing(journal: &Journal, holder: &Holder) -> Option<Doing> {
    let state = run_of(journal, holder).filter(|state| state.holds_locks())?;
    let of = state.steps.len();
    let step = state.at_step().map_or(of, |step| step + 1);
    let word = (state.word() != Phase::Running.word()).then(|| state.word());
    Some(Doing { step, of, word, usual: None })
}
