//! The runs' log in the store: events, a header per run written with them, and what has to be said about
//! them, in one batch.
//!
//! Must not: act. Whoever acts does so after [`Journal::append`] has returned *and* the store has synced.

mod by_hand;
mod schedules;
mod unfinished;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counted;
use super::event::{Event, Outcome, Recorded};
use super::freezes::ManualFreeze;
use super::locks::{Held, Holder, ManualLock};
use super::maintenance::Maintenance;
use super::outbox::{Notice, OutboxEntry};
use super::retention::{self, Needed, Removed, What};
use super::schedules::Row;
use super::state::{Illegal, RunState, is_before_start};
use crate::ids::{EnvName, RunId};
use crate::metrics::Metrics;
use crate::playbook::model::LockName;
use crate::store::{Batch, Store, StoreError, Tree};

/// In [`Tree::Meta`]: the number of the next run.
const NEXT_RUN: &[u8] = b"next_run";

/// What a list shows of a run, without folding its log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub run: RunId,
    pub command: String,
    pub by: String,
    pub environment: Option<EnvName>,
    /// As [`super::state::Phase::word`].
    pub state: String,
    pub done: bool,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// It broke the glass, and nobody has said yet what was found.
    #[serde(default)]
    pub review_open: bool,
}

/// With its place among those that a start reads.
fn put_header(batch: &mut Batch, header: &Header) {
    batch.put(Tree::Runs, &header.run.0.to_be_bytes(), header);
    unfinished::put(batch, header);
}

impl Header {
    fn of(state: &RunState) -> Self {
        Self {
            run: state.id,
            command: state.plan.command.clone(),
            by: state.by.username.clone(),
            environment: state.plan.environment.clone(),
            state: state.word().to_owned(),
            done: state.is_done(),
            created_at: state.created_at,
            ended_at: state.ended_at,
            review_open: state.review_open(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    #[error("{0} was {words}", words = .1.words())]
    Removed(RunId, Removed),
}

/// Unfinished runs in memory, everything in the store.
pub struct Journal {
    store: Store,
    metrics: Metrics,
    /// Those that are not done.
    open: HashMap<RunId, RunState>,
    /// Those that are done and have to be reviewed.
    reviews: BTreeMap<RunId, RunState>,
    next_run: u64,
    next_notice: u64,
    manual: Vec<ManualLock>,
    /// Also those that are over; the next one for the environment takes the row.
    freezes: Vec<ManualFreeze>,
    maintenance: Vec<Maintenance>,
    schedules: Vec<Row>,
    /// Runs whose log this build cannot fold; shown, never touched, and in everybody's way.
    unreadable: Vec<Unreadable>,
}

/// A run that is not done and whose log cannot be folded.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub header: Header,
    pub why: String,
}

impl Unreadable {
    /// What it may have begun to change, as far as the header tells.
    fn held(&self) -> Option<Held> {
        let started = !is_before_start(&self.header.state);
        let environment = self.header.environment.clone().filter(|_| started)?;
        Some(Held {
            name: LockName { environment, service: None },
            holder: Holder::Unreadable {
                run: self.header.run,
                command: self.header.command.clone(),
                by: self.header.by.clone(),
                since: self.header.created_at,
            },
        })
    }
}

impl Journal {
    /// Reads the logs of runs that are not done, or have to be reviewed.
    pub fn load(store: Store, metrics: Metrics) -> Result<Self, StoreError> {
        let mut open = HashMap::new();
        let mut reviews = BTreeMap::new();
        let mut unreadable = Vec::new();
        let last_run = store.last::<Header>(Tree::Runs)?.map_or(0, |(_, header)| header.run.0);
        let numbered: Option<u64> = store.get(Tree::Meta, NEXT_RUN)?;
        let next_run = numbered.unwrap_or(1).max(last_run + 1);
        for header in unfinished::load(&store, next_run)? {
            match read_log(&store, header.run)
                .map_err(|e| e.to_string())
                .and_then(|log| RunState::fold(&log).map_err(|e| e.to_string()))
            {
                Ok(Some(state)) if header.done => {
                    reviews.insert(header.run, state);
                }
                Ok(Some(state)) => {
                    open.insert(header.run, state);
                }
                // It is in nobody's way, and `show` says what is wrong with it.
                Err(why) if header.done => {
                    tracing::error!(run.id = %header.run, "the open review of {} cannot be read: {why}", header.run);
                }
                Ok(None) => unreadable.push(Unreadable { header, why: "its log is empty".to_owned() }),
                Err(why) => unreadable.push(Unreadable { header, why }),
            }
        }
        let last_notice = store.last::<OutboxEntry>(Tree::Outbox)?.map_or(0, |(_, entry)| entry.id);
        let next_notice: Option<u64> = store.get(Tree::Meta, b"next_notice")?;
        let manual = store
            .scan::<ManualLock>(Tree::Locks, &[])
            .map(|entry| entry.map(|(_, lock)| lock))
            .collect::<Result<_, _>>()?;
        let freezes = store
            .scan::<ManualFreeze>(Tree::Freezes, &[])
            .map(|entry| entry.map(|(_, freeze)| freeze))
            .collect::<Result<_, _>>()?;
        let schedules = super::schedules::rows(&store)?;
        let maintenance = store
            .scan::<Maintenance>(Tree::Maintenance, &[])
            .map(|entry| entry.map(|(_, one)| one))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            store,
            metrics,
            open,
            reviews,
            next_run,
            next_notice: next_notice.unwrap_or(1).max(last_notice + 1),
            manual,
            freezes,
            maintenance,
            schedules,
            unreadable,
        })
    }

    pub fn open_runs(&self) -> impl Iterator<Item = &RunState> {
        self.open.values()
    }

    /// One that is not done.
    pub fn open_run(&self, run: RunId) -> Option<&RunState> {
        self.open.get(&run)
    }

    /// Runs that are done and have to be reviewed, oldest first.
    pub fn open_reviews(&self) -> impl Iterator<Item = &RunState> {
        self.reviews.values()
    }

    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Takes a run that cannot be read out of everybody's way; its events stay as they are. `None`: it can
    /// be read, or there is no such run.
    pub fn abandon_unreadable(&mut self, run: RunId, now: Timestamp) -> Result<Option<Header>, StoreError> {
        let Some(index) = self.unreadable.iter().position(|other| other.header.run == run) else {
            return Ok(None);
        };
        let mut header = self.unreadable[index].header.clone();
        header.state = Outcome::Abandoned.word().to_owned();
        header.done = true;
        header.ended_at = Some(now);
        let mut batch = Batch::new();
        put_header(&mut batch, &header);
        self.store.apply(batch)?;
        self.unreadable.remove(index);
        Ok(Some(header))
    }

    /// The run's state, from memory or by folding its log.
    pub fn state(&self, run: RunId) -> Result<RunState, JournalError> {
        if let Some(state) = self.open.get(&run) {
            return Ok(state.clone());
        }
        let log = read_log(&self.store, run)?;
        match RunState::fold(&log)? {
            Some(state) => Ok(state),
            None => Err(missing(&self.store, run)),
        }
    }

    /// Takes those of `runs` out of the store that may go: they are over, and nobody needs them. `batch`: what becomes
    /// durable with it, made of the runs that go.
    pub(super) fn remove(
        &mut self,
        runs: &[RunId],
        needed: &Needed,
        batch: impl FnOnce(&[RunId]) -> Result<Batch, StoreError>,
    ) -> Result<Vec<RunId>, StoreError> {
        let mut going = Vec::with_capacity(runs.len());
        for run in runs {
            let header: Option<Header> = self.store.get(Tree::Runs, &run.0.to_be_bytes())?;
            let kept = self.open.contains_key(run) || self.reviews.contains_key(run);
            if !kept && header.is_some_and(|header| !needed.keeps(&header)) {
                going.push(*run);
            }
        }
        let mut batch = batch(&going)?;
        for run in &going {
            batch.delete(Tree::Runs, &run.0.to_be_bytes());
            batch.delete(Tree::Unfinished, &run.0.to_be_bytes());
            for tree in [Tree::Events, Tree::Followed] {
                for entry in self.store.sizes(tree, &run.0.to_be_bytes()) {
                    batch.delete(tree, &entry?.0);
                }
            }
            for key in needed.releases_of(*run) {
                batch.delete(Tree::Releases, key);
            }
        }
        if !going.is_empty() {
            self.store.apply(batch)?;
        }
        Ok(going)
    }

    /// The id that [`Journal::create`] will give to the next run.
    pub fn next_run(&self) -> RunId {
        RunId(self.next_run)
    }

    /// No run gets a number below this one: others know of runs that had it.
    pub fn number_from(&mut self, run: RunId) -> Result<(), StoreError> {
        self.next_run = self.next_run.max(run.0);
        let mut batch = Batch::new();
        batch.put(Tree::Meta, NEXT_RUN, &self.next_run);
        self.store.apply(batch)
    }

    /// Begins a run. `with` goes into the same batch (the mark that the command's message was obeyed).
    pub fn create(
        &mut self,
        event: Event,
        notices: Vec<Notice>,
        with: Batch,
        now: Timestamp,
    ) -> Result<(RunState, u64), JournalError> {
        let run = RunId(self.next_run);
        let record = Recorded { v: event.version(), run, seq: 0, at: now, event };
        let state = RunState::begin(&record)?;
        let mut batch = with;
        batch.put(Tree::Events, &event_key(run, 0), &record);
        // The run itself may be removed one day; its number is not given again.
        batch.put(Tree::Meta, NEXT_RUN, &(run.0 + 1));
        unfinished::known_to(&mut batch, run.0 + 1);
        let last = self.write(&state, notices, batch, now)?;
        counted::count(&self.metrics, &state, false, &[record]);
        self.next_run += 1;
        self.open.insert(run, state.clone());
        Ok((state, last))
    }

    /// Adds events to a run; all of them or none. Returns the new state and the number of the last notice
    /// that is durable once the store has synced.
    pub fn append(
        &mut self,
        run: RunId,
        events: Vec<Event>,
        notices: Vec<Notice>,
        with: Batch,
        now: Timestamp,
    ) -> Result<(RunState, u64), JournalError> {
        let mut state = self.state(run)?;
        let was_done = state.is_done();
        let mut records = Vec::with_capacity(events.len());
        let mut batch = with;
        for event in events {
            let record = Recorded { v: event.version(), run, seq: state.next_seq, at: now, event };
            state.apply(&record)?;
            batch.put(Tree::Events, &event_key(run, record.seq), &record);
            records.push(record);
        }
        let last = self.write(&state, notices, batch, now)?;
        counted::count(&self.metrics, &state, was_done, &records);
        if !state.is_done() {
            self.open.insert(run, state.clone());
            return Ok((state, last));
        }
        self.open.remove(&run);
        if state.review_open() {
            self.reviews.insert(run, state.clone());
        } else {
            self.reviews.remove(&run);
        }
        Ok((state, last))
    }

    fn write(
        &mut self,
        state: &RunState,
        notices: Vec<Notice>,
        mut batch: Batch,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        put_header(&mut batch, &Header::of(state));
        self.write_notices(notices, batch, now)
    }

    fn write_notices(
        &mut self,
        notices: Vec<Notice>,
        mut batch: Batch,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut next = self.next_notice;
        for notice in notices {
            batch.put(Tree::Outbox, &next.to_be_bytes(), &OutboxEntry { id: next, at: Some(now), notice });
            next += 1;
        }
        batch.put(Tree::Meta, b"next_notice", &next);
        self.store.apply(batch)?;
        self.next_notice = next;
        Ok(next - 1)
    }

    /// A message that belongs to no run.
    pub fn say(&mut self, notice: Notice, with: Batch, now: Timestamp) -> Result<u64, StoreError> {
        let mut batch = with;
        let id = self.next_notice;
        batch.put(Tree::Outbox, &id.to_be_bytes(), &OutboxEntry { id, at: Some(now), notice });
        batch.put(Tree::Meta, b"next_notice", &(id + 1));
        self.store.apply(batch)?;
        self.next_notice = id + 1;
        Ok(id)
    }

    /// Every lock that is held now, by runs and by people.
    pub fn held(&self) -> Vec<Held> {
        let by_runs = self.open.values().filter(|run| run.holds_locks()).flat_map(|run| {
            run.plan.locks.iter().map(|name| Held {
                name: name.clone(),
                holder: Holder::Run {
                    run: run.id,
                    command: run.plan.command.clone(),
                    by: run.by.clone(),
                    since: run.started_at.unwrap_or(run.created_at),
                },
            })
        });
        let by_people = self
            .manual
            .iter()
            .map(|lock| Held { name: lock.name.clone(), holder: Holder::Person(lock.clone()) });
        let by_unreadable = self.unreadable.iter().filter_map(Unreadable::held);
        let mut held: Vec<Held> = by_runs.chain(by_people).chain(by_unreadable).collect();
        held.sort_by(|a, b| a.name.cmp(&b.name));
        held
    }

    /// Runs that want locks and came before `run`: nobody jumps the queue.
    pub fn ahead_of(&self, run: &RunState) -> Vec<Held> {
        let mut ahead: Vec<&RunState> = self
            .open
            .values()
            .filter(|other| {
                other.id != run.id
                    && other.wants_locks()
                    && (other.ready_at, other.id) < (run.ready_at, run.id)
            })
            .collect();
        ahead.sort_by_key(|other| (other.ready_at, other.id));
        ahead
            .into_iter()
            .flat_map(|other| {
                other.plan.locks.iter().map(|name| Held {
                    name: name.clone(),
                    holder: Holder::Run {
                        run: other.id,
                        command: other.plan.command.clone(),
                        by: other.by.clone(),
                        since: other.ready_at,
                    },
                })
            })
            .collect()
    }

    /// The newest notice that was written.
    pub fn last_notice(&self) -> u64 {
        self.next_notice - 1
    }
}

/// Why there is nothing of a run.
pub fn missing(store: &Store, run: RunId) -> JournalError {
    match retention::of(store, What::Run, run) {
        Ok(Some(removed)) => JournalError::Removed(run, removed),
        Ok(None) => JournalError::NoSuchRun(run),
        Err(error) => error.into(),
    }
}

/// Newest first.
pub fn headers(store: &Store) -> impl Iterator<Item = Result<Header, StoreError>> + use<'_> {
    store.scan::<Header>(Tree::Runs, &[]).rev().map(|entry| entry.map(|(_, header)| header))
}

pub fn read_log(store: &Store, run: RunId) -> Result<Vec<Recorded>, StoreError> {
    store.scan::<Recorded>(Tree::Events, &run.0.to_be_bytes()).map(|entry| entry.map(|(_, r)| r)).collect()
}

pub(super) fn event_key(run: RunId, seq: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&run.0.to_be_bytes());
    key[8..].copy_from_slice(&seq.to_be_bytes());
    key
}
