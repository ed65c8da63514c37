//! Schedules, as the store has them: when each is due next, what became of it at which time, whether somebody paused
//! it. From a row, an expression and the time follows what is due and what was missed. Pure.
//!
//! A row is only changed from what it was when somebody decided by it, and together with the run that it begins: so
//! one time begins one run, however often Houston is killed around it.
//!
//! Must not: begin anything (`engine` does), or know rooms by their names.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::standing::Allowed;
use crate::config::schedules::Schedule;
use crate::conversation::{Actor, Room};
use crate::ids::{MessageId, RunId, ScheduleName, derived_id};
use crate::store::{Batch, Store, StoreError, Tree};

/// Later than this is late, and said.
pub const LATE: SignedDuration = SignedDuration::from_secs(60);

/// Of missed times so many are told apart.
const MOST_MISSED: usize = 50;

/// What a service has still to be told that cannot be reached.
const MOST_PINGS: usize = 4;

/// What became of it is kept so often.
const KEPT: usize = 200;

/// What is kept of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: ScheduleName,
    /// The expression and the zone that `next` was reckoned by.
    pub timing: String,
    /// As the expression says.
    pub next: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The room that it reports in, as the server was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// The newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Fire>,
    /// Times at which it should have begun and did not.
    #[serde(default)]
    pub misfires: u64,
    /// The run that it began last, until its end was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<RunId>,
    /// When it went well last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Timestamp>,
    /// What the service that watches it has still to be told, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pings: Vec<Ping>,
    /// What lets it begin without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Allowed>,
}

/// A word to the service that watches a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    pub signal: Signal,
    pub since: Timestamp,
    /// For people who look there: `R-12 succeeded`.
    pub word: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    Start,
    Success,
    Fail,
}

/// Somebody keeps it from beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    pub by: Actor,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One time, dealt with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fire {
    /// As the expression says; by hand: when it was asked for.
    pub due: Timestamp,
    pub at: Timestamp,
    /// Who had it begin by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    pub became: Became,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    Run(RunId),
    /// All was as it should be.
    NothingToDo,
    /// The run before was not done.
    Overlapped(RunId),
    /// Why, as a sentence for the room.
    Refused(String),
    /// Too late to be made up for.
    TooLate,
    /// Another Houston, or the one that the store was brought back from, may have begun it.
    Unknown,
}

/// What becomes of a row, if it still is what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub was: Option<Row>,
    pub is: Row,
}

/// What is due now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    pub at: Timestamp,
    /// Times before it at which nothing began.
    pub missed: Vec<Timestamp>,
    /// There were more than are told apart.
    pub more: bool,
    /// It begins later than it should, or not at all.
    pub late: bool,
    /// It is too late to make up for it.
    pub too_late: bool,
    /// The time after it.
    pub next: Timestamp,
}

/// Why something did not begin when it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// No Houston ran.
    Down { from: Timestamp, to: Timestamp },
    /// The machine slept, or its clock was set on.
    Asleep { from: Timestamp, to: Timestamp },
    /// It was not known whether another Houston acts.
    MightNotAct,
    /// It took so long to look at what would be done, or Rocket.Chat could not be asked for the room.
    HeldUp,
}

/// What the room is told of a time, to be worded when it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub schedule: ScheduleName,
    /// The command.
    pub command: String,
    /// In which its times are meant.
    pub zone: String,
    pub fire: Fire,
    /// Times at which it did not begin when it should have, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The time itself is one of those.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Absence>,
    pub next: Timestamp,
    /// User names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<String>,
}

impl Told {
    /// One for each time, whoever makes it how often.
    pub fn id(&self) -> MessageId {
        derived_id(&format!("schedule/{}/{}", self.schedule, self.fire.due)).into()
    }
}

impl Row {
    /// Of a schedule that was not known before: what is over is no matter of its.
    pub fn new(schedule: &Schedule, now: Timestamp) -> Self {
        Self {
            name: schedule.name.clone(),
            timing: schedule.cron.timing(),
            next: schedule.cron.after(now).unwrap_or(Timestamp::MAX),
            paused: None,
            room: None,
            last: None,
            misfires: 0,
            open: None,
            succeeded: None,
            pings: Vec::new(),
            allowed: None,
        }
    }

    /// As it has to be now, before it is looked at what is due: the file may have other times than it was reckoned
    /// by, and a clock that was set back makes earlier times those that are next. `fired`: whether something became
    /// of a time already.
    pub fn reckoned(&self, schedule: &Schedule, now: Timestamp, fired: impl Fn(Timestamp) -> bool) -> Self {
        let next = |after| schedule.cron.after(after).unwrap_or(Timestamp::MAX);
        let mut row = self.clone();
        if row.timing != schedule.cron.timing() || self.is_held(schedule) && row.next <= now {
            row.timing = schedule.cron.timing();
            row.next = next(now);
            return row;
        }
        let mut soonest = next(now);
        while soonest < row.next {
            if !fired(soonest) {
                row.next = soonest;
                break;
            }
            soonest = next(soonest);
        }
        row
    }

    /// Whether somebody or the file keeps it from beginning.
    pub fn is_held(&self, schedule: &Schedule) -> bool {
        self.paused.is_some() || schedule.paused.is_some()
    }

    /// When it begins next.
    pub fn begins(&self, schedule: &Schedule) -> Timestamp {
        self.next.checked_add(schedule.lag(self.next)).unwrap_or(Timestamp::MAX)
    }

    /// What is due, if anything is. Of several times that were missed the latest stands for all.
    pub fn due(&self, schedule: &Schedule, now: Timestamp) -> Option<Due> {
        if self.is_held(schedule) || self.begins(schedule) > now {
            return None;
        }
        let (mut missed, all) = schedule.cron.between(self.next, now, MOST_MISSED);
        let last = if all { missed.last().copied() } else { schedule.cron.last_before(self.next, now) };
        // One that is not to begin yet, by its jitter, is not due yet.
        let begun = |due: &Timestamp| due.checked_add(schedule.lag(*due)).is_ok_and(|begins| begins <= now);
        let at = last.filter(begun).or_else(|| missed.iter().rev().copied().find(begun)).unwrap_or(self.next);
        missed.insert(0, self.next);
        missed.retain(|due| *due < at);
        let behind = now.duration_since(at).saturating_sub(schedule.lag(at));
        let too_late = behind > LATE
            && schedule
                .catch_up
                .is_none_or(|most| behind > SignedDuration::try_from(most).unwrap_or(SignedDuration::MAX));
        Some(Due {
            at,
            missed,
            more: !all,
            late: behind > LATE,
            too_late,
            next: schedule.cron.after(at).unwrap_or(Timestamp::MAX),
        })
    }

    /// With the time that was due dealt with; [`Row::with`] says what became of it.
    pub fn past(&self, due: &Due) -> Self {
        let misfires = due.missed.len() as u64 + u64::from(due.late);
        Self { next: due.next, misfires: self.misfires + misfires, ..self.clone() }
    }

    /// With what became of a time, and what follows from that. `pings`: whether a service watches.
    #[must_use]
    pub fn with(mut self, fire: &Fire, pings: bool) -> Self {
        let (signal, word) = match &fire.became {
            Became::Run(run) => (Some(Signal::Start), format!("{run} began")),
            Became::NothingToDo => (Some(Signal::Success), "nothing to do".to_owned()),
            Became::Refused(_) => (Some(Signal::Fail), "it did not begin".to_owned()),
            Became::TooLate | Became::Unknown => (Some(Signal::Fail), "it was missed".to_owned()),
            // Its run before is still there, and will be heard of.
            Became::Overlapped(_) => (None, String::new()),
        };
        match &fire.became {
            Became::Run(run) => self.open = Some(*run),
            Became::NothingToDo => self.succeeded = Some(fire.at),
            _ => {}
        }
        self.last = Some(fire.clone());
        if let (true, Some(signal)) = (pings, signal) {
            self.ping(signal, fire.at, word);
        }
        self
    }

    /// With the end of the run that it began. `went_well`: when it ended, if it did.
    #[must_use]
    pub fn ended(mut self, run: RunId, at: Timestamp, went_well: bool, word: &str, pings: bool) -> Self {
        self.open = None;
        if went_well {
            self.succeeded = Some(at);
        }
        if pings {
            let signal = if went_well { Signal::Success } else { Signal::Fail };
            self.ping(signal, at, format!("{run} {word}"));
        }
        self
    }

    fn ping(&mut self, signal: Signal, since: Timestamp, word: String) {
        self.pings.push(Ping { signal, since, word });
        let too_many = self.pings.len().saturating_sub(MOST_PINGS);
        self.pings.drain(..too_many);
    }
}

/// `at` keeps what was done by hand apart from what was due at that moment.
fn key(name: &ScheduleName, fire: &Fire) -> Vec<u8> {
    let mut key = of(name);
    key.extend_from_slice(&fire.due.as_millisecond().to_be_bytes());
    key.push(u8::from(fire.by.is_some()));
    key
}

fn of(name: &ScheduleName) -> Vec<u8> {
    let mut key = name.as_str().as_bytes().to_vec();
    key.push(0);
    key
}

pub fn put(row: &Row, batch: &mut Batch) {
    batch.put(Tree::Schedules, row.name.as_str().as_bytes(), row);
}

pub fn remove(name: &ScheduleName, batch: &mut Batch) {
    batch.delete(Tree::Schedules, name.as_str().as_bytes());
}

/// What became of a time; the oldest ones go.
pub fn put_fire(
    store: &Store,
    name: &ScheduleName,
    fire: &Fire,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let keys: Vec<Vec<u8>> = store
        .scan::<Fire>(Tree::Fires, &of(name))
        .map(|entry| entry.map(|(key, _)| key))
        .collect::<Result<_, _>>()?;
    for old in keys.iter().take(keys.len().saturating_sub(KEPT - 1)) {
        batch.delete(Tree::Fires, old);
    }
    batch.put(Tree::Fires, &key(name, fire), fire);
    Ok(())
}

/// Newest first.
pub fn fires(store: &Store, name: &ScheduleName, most: usize) -> Result<Vec<Fire>, StoreError> {
    store
        .scan::<Fire>(Tree::Fires, &of(name))
        .rev()
        .take(most)
        .map(|entry| entry.map(|(_, fire)| fire))
        .collect()
}

pub fn rows(store: &Store) -> Result<Vec<Row>, StoreError> {
    store.scan::<Row>(Tree::Schedules, &[]).map(|entry| entry.map(|(_, row)| row)).collect()
}
