//! A store that was brought back from an export, held against the audit log, which knows what happened since.
//! What had begun, or went on since, is ended here: the export does not say how far it got, and nothing is to run
//! twice.
//!
//! Must not: carry anything out, or guess at what the audit log does not say.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use jiff::Timestamp;

use super::engine::own_messages;
use super::event::{Event, Recorded};
use super::journal::{Header, Journal, JournalError};
use super::outbox::Notice;
use super::owed::Owed;
use super::retention::{self, Removed, What};
use super::state::is_before_start;
use crate::audit::{self, Entry};
use crate::conversation::Actor;
use crate::ids::{RunId, UserId};
use crate::metrics::Metrics;
use crate::store::{Batch, Store, StoreError, Tree};

/// In [`Tree::Meta`]: when it was brought back, or taken over from another Houston.
const RESTORED_AT: &[u8] = b"restored_at";

/// Entries that are listed beside runs.
const MOST_OTHERS: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the audit log cannot be read: {0}")]
    Audit(#[from] std::io::Error),
}

/// What the audit log knows of a run beyond the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    pub command: String,
    pub by: String,
    /// Of the last entry.
    pub at: Timestamp,
    /// The last thing that it says: `ended: succeeded`.
    pub last: String,
    /// The export does not know the run at all.
    pub unknown: bool,
}

/// How the store differs from what was.
#[derive(Debug, Default)]
pub struct Restored {
    pub runs: BTreeMap<RunId, Since>,
    /// What was done beside runs: locks, freezes, changes of the configuration. The newest.
    pub others: Vec<Entry>,
    /// Runs that were ended, since nobody knows how far they got.
    pub ended: Vec<RunId>,
}

/// What the export knows of a run.
#[derive(Clone)]
struct Known {
    by: String,
    next_seq: u32,
    started: bool,
}

/// When the store was brought back, or this Houston took over from one with another store, if ever: what was said
/// before may have been obeyed by the one that is gone.
pub fn at(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    store.get(Tree::Meta, RESTORED_AT)
}

/// From the next start on, what changes something is asked about if it was said before `at`.
pub fn ask_about_what_was_said_before(at: Timestamp, batch: &mut Batch) {
    batch.put(Tree::Meta, RESTORED_AT, &at);
}

/// Compares, ends what may have gone on, and sees to it that no number of a run is given again. `at`: of the
/// export.
pub fn settle(
    store: &Store,
    log: &Path,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Restored, RestoredError> {
    let mut restored = Restored::default();
    let mut highest = 0;
    let mut known: HashMap<RunId, Option<Known>> = HashMap::new();
    let mut removed: Vec<Removed> = Vec::new();
    audit::each(log, |entry| {
        let Some(run) = entry.event.run else {
            if let Some((spans, rule)) = retention::told(&entry.event) {
                let (rule, at) = (rule.to_owned(), entry.time);
                for (from, to) in spans {
                    highest = highest.max(to.0);
                    removed.push(Removed { from, to, at, rule: rule.clone() });
                }
            } else if at.is_none_or(|at| entry.time > at) && !retention::is_housekeeping(&entry.event) {
                restored.others.push(entry);
            }
            return Ok(());
        };
        highest = highest.max(run.0);
        let known = match known.get(&run) {
            Some(known) => known.clone(),
            None => known.entry(run).or_insert(look_up(store, run)?).clone(),
        };
        if is_beyond(&entry, run, known.as_ref()) {
            note(&mut restored.runs, run, entry, known);
        }
        Ok::<(), RestoredError>(())
    })?;
    let gone = settle_removed(store, &mut restored, &removed)?;
    let too_many = restored.others.len().saturating_sub(MOST_OTHERS);
    restored.others.drain(..too_many);
    let mut batch = gone;
    batch.put(Tree::Meta, RESTORED_AT, &now);
    store.apply(batch)?;
    let mut journal = Journal::load(store.clone(), Metrics::new(0.0))?;
    journal.number_from(RunId(highest + 1))?;
    end_what_may_have_gone_on(&mut journal, &mut restored, at, now)?;
    Ok(restored)
}

/// Runs that ended after the export, and were removed before it was brought back, are not lost: the store knows from
/// then on what became of them.
fn settle_removed(store: &Store, restored: &mut Restored, removed: &[Removed]) -> Result<Batch, StoreError> {
    let mut batch = Batch::new();
    for removed in removed {
        let unknown: Vec<RunId> = restored
            .runs
            .range(removed.from..=removed.to)
            .filter(|(_, since)| since.unknown)
            .map(|(run, _)| *run)
            .collect();
        for run in &unknown {
            restored.runs.remove(run);
        }
        retention::note(store, &mut batch, What::Run, &unknown, &removed.rule, removed.at)?;
    }
    Ok(batch)
}

/// `None`: it is lost. One that was removed is known to its end.
fn look_up(store: &Store, run: RunId) -> Result<Option<Known>, StoreError> {
    let key = run.0.to_be_bytes();
    let Some(header) = store.get::<Header>(Tree::Runs, &key)? else {
        let removed = retention::of(store, What::Run, run)?;
        return Ok(removed.map(|_| Known { by: String::new(), next_seq: u32::MAX, started: true }));
    };
    let last = store.scan::<Recorded>(Tree::Events, &key).next_back().transpose()?;
    Ok(Some(Known {
        by: header.by,
        next_seq: last.map_or(0, |(_, record)| record.seq + 1),
        started: !is_before_start(&header.state),
    }))
}

fn is_beyond(entry: &Entry, run: RunId, known: Option<&Known>) -> bool {
    let Some(known) = known else { return true };
    let reference = entry.event.event.as_deref().and_then(|event| event.strip_prefix(&format!("{run}/")));
    match reference.and_then(|seq| seq.parse::<u32>().ok()) {
        Some(seq) => seq >= known.next_seq,
        // The entry of the start names no event.
        None => entry.event.action == "started" && !known.started,
    }
}

fn note(runs: &mut BTreeMap<RunId, Since>, run: RunId, entry: Entry, known: Option<Known>) {
    let (at, event) = (entry.time, entry.event);
    let last = match event.result {
        Some(result) if result != event.action => format!("{}: {result}", event.action),
        _ => event.action,
    };
    let since = runs.entry(run).or_insert_with(|| Since {
        command: event.command,
        unknown: known.is_none(),
        by: known.map_or(event.who.name, |known| known.by),
        at,
        last: String::new(),
    });
    (since.at, since.last) = (at, last);
}

fn end_what_may_have_gone_on(
    journal: &mut Journal,
    restored: &mut Restored,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), JournalError> {
    let of = at.map(|at| format!(" of {}", at.strftime("%F %H:%MZ"))).unwrap_or_default();
    let mut open: Vec<_> = journal.open_runs().cloned().collect();
    open.sort_by_key(|run| run.id);
    for run in open {
        let why = match restored.runs.get(&run.id) {
            Some(since) => format!(
                "the store was brought back from an export{of}, and the audit log knows more of this run: {}",
                since.last
            ),
            None if run.before_start() => continue,
            None => format!(
                "the store was brought back from an export{of}, in which it was under way; how far it got since is not known"
            ),
        };
        let by = Actor { id: UserId::from("houston"), username: "Houston".to_owned() };
        let owed =
            Owed { run: run.id, seq: run.next_seq, what: "abandoned".to_owned(), by: Some(by.clone()) };
        let mut with = Batch::new();
        owed.put(&mut with);
        let mut notices = own_messages(&run);
        notices.push(Notice::result(run.id));
        journal.append(run.id, vec![Event::Abandoned { by, reason: why }], notices, with, now)?;
        restored.ended.push(run.id);
    }
    Ok(())
}
