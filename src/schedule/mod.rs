//! Schedules: begins what is due, once each, and says what did not begin when it should have.
//!
//! A reconciler: it looks at the rows, at the configuration in force and at the clock, and makes what follows from
//! them so. Everything that it knows is in the store; a kill at any point only makes it look again.
//!
//! Must not: keep anything only in memory, or give a command in another way than a person's is given.

mod fire;
mod ping;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chat::dispatch::Dispatcher;
use crate::config::Config;
use crate::config::schedules::Schedule;
use crate::ids::{RunId, ScheduleName};
use crate::runs::event::Outcome;
use crate::runs::schedules::{Absence, Change, Due, Row, fires};
use crate::runs::{ActError, Engine};

/// What the configuration says, and what the clock, is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Between two looks that belong together, the time on the clock does not move by more.
const STRIDE: SignedDuration = SignedDuration::from_secs(150);

/// Between two attempts where the store could not be written.
const AGAIN: Duration = Duration::from_secs(2);

/// How many times are looked through for one that is dealt with already.
const MOST_FIRES: usize = 200;

struct Reconciler {
    dispatcher: Dispatcher,
    stop: CancellationToken,
    /// Schedules that are being worked on, and the work.
    busy: BTreeSet<ScheduleName>,
    work: JoinSet<ScheduleName>,
    /// Those whose watchers are told something.
    pinging: BTreeSet<ScheduleName>,
    pings: JoinSet<ScheduleName>,
    /// The runs whose ends are waited for.
    open: BTreeSet<RunId>,
    looked_at: Option<Timestamp>,
    /// When Rocket.Chat was asked last for the room of each.
    asked: BTreeMap<ScheduleName, Instant>,
    /// It might not act when it looked last.
    idle: bool,
}

/// Until `stop`.
pub async fn run(dispatcher: Dispatcher, stop: CancellationToken) {
    let (clock, engine) = (dispatcher.parts.clock.clone(), dispatcher.parts.engine.clone());
    let lease = dispatcher.parts.lease.clone();
    let mut changes = engine.subscribe();
    let mut reconciler = Reconciler {
        dispatcher,
        stop: stop.clone(),
        busy: BTreeSet::new(),
        work: JoinSet::new(),
        pinging: BTreeSet::new(),
        pings: JoinSet::new(),
        open: BTreeSet::new(),
        looked_at: None,
        asked: BTreeMap::new(),
        idle: false,
    };
    loop {
        let (wake, pause) = match reconciler.look().await {
            Ok(wake) => (wake, LOOK_EVERY),
            Err(error) => {
                tracing::error!("schedules cannot be looked at: {error}");
                (Timestamp::MAX, AGAIN)
            }
        };
        let open = reconciler.open.clone();
        tokio::select! {
            () = stop.cancelled() => break,
            () = engine.schedules_changed() => {}
            () = ended(&mut changes, &open) => {}
            () = lease.regained(), if lease.may_act().is_err() => {}
            Some(done) = reconciler.work.join_next(), if !reconciler.work.is_empty() => reconciler.done(done),
            Some(told) = reconciler.pings.join_next(), if !reconciler.pings.is_empty() => reconciler.told(told),
            // By the clock, which may be set; and by time that passed, should it be set back.
            () = clock.sleep_until(wake) => {}
            () = clock.sleep(pause) => {}
        }
    }
    reconciler.pings.abort_all();
    // What they do is durable or not begun.
    while reconciler.work.join_next().await.is_some() {}
}

/// Something happened to one of the runs, or more than can be told.
async fn ended(changes: &mut tokio::sync::broadcast::Receiver<RunId>, open: &BTreeSet<RunId>) {
    loop {
        match changes.recv().await {
            Ok(run) if !open.contains(&run) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Reconciler {
    fn engine(&self) -> &Engine {
        &self.dispatcher.parts.engine
    }

    fn done(&mut self, done: Result<ScheduleName, tokio::task::JoinError>) {
        match done {
            Ok(name) => drop(self.busy.remove(&name)),
            // Whichever it was: all of them are looked at again.
            Err(error) => {
                tracing::error!("a schedule was not dealt with: {error}");
                self.busy.clear();
            }
        }
    }

    fn told(&mut self, told: Result<ScheduleName, tokio::task::JoinError>) {
        match told {
            Ok(name) => drop(self.pinging.remove(&name)),
            Err(error) => {
                tracing::error!("what watches a schedule was not told: {error}");
                self.pinging.clear();
            }
        }
    }

    /// Begins what is due; when there is more.
    async fn look(&mut self) -> Result<Timestamp, ActError> {
        let now = self.dispatcher.parts.clock.now();
        let mut wake = now.checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
        if self.dispatcher.parts.lease.may_act().is_err() {
            self.idle = true;
            return Ok(wake);
        }
        let config = self.dispatcher.config();
        let rows = self.engine().schedules().await;
        // What somebody has paused stays so, should its line come back.
        let gone = |row: &&Row| !config.schedules.contains_key(&row.name) && row.paused.is_none();
        for row in rows.iter().filter(gone) {
            if !self.busy.contains(&row.name) {
                self.engine().forget_schedule(&row.name).await?;
            }
        }
        self.open = rows.iter().filter_map(|row| row.open).collect();
        for schedule in config.schedules.values() {
            if self.busy.contains(&schedule.name) {
                continue;
            }
            let was = rows.iter().find(|row| row.name == schedule.name);
            let Some(row) = self.as_it_is_now(schedule, was, now).await? else {
                wake = now;
                continue;
            };
            let row = match standing::look(&self.dispatcher, &config, schedule, &row, now).await {
                Ok(changed) => changed.unwrap_or(row),
                Err(ActError::Meanwhile) => {
                    wake = now;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.tell_watcher(&config, schedule, &row);
            if let Some(allowed) = &row.allowed {
                let ends = allowed.until.timestamp();
                wake = wake.min(if allowed.warned { ends } else { allowed.warns_at() });
            }
            match row.due(schedule, now) {
                Some(due) => self.begin(&config, schedule, row, due, now),
                None if row.room.as_ref().is_none_or(|room| room.name.as_ref() != Some(&schedule.room)) => {
                    self.find_room(schedule, row.clone());
                    wake = wake.min(row.begins(schedule));
                }
                None if row.is_held(schedule) => {}
                None => wake = wake.min(row.begins(schedule)),
            }
        }
        if !config.schedules.is_empty() {
            self.engine().is_here();
        }
        self.looked_at = Some(now);
        self.idle = false;
        Ok(wake)
    }

    /// `None`: it was changed at the same moment.
    async fn as_it_is_now(
        &self,
        schedule: &Schedule,
        was: Option<&Row>,
        now: Timestamp,
    ) -> Result<Option<Row>, ActError> {
        let pings = schedule.ping.is_some();
        let mut row = match was {
            Some(row) => {
                let store = &self.dispatcher.parts.store;
                let known = fires(store, &schedule.name, MOST_FIRES).unwrap_or_default();
                let oldest = known.iter().map(|fire| fire.due).min().filter(|_| known.len() >= MOST_FIRES);
                // Before what is remembered everything has become something.
                let fired = |at: Timestamp| {
                    oldest.is_some_and(|oldest| at < oldest)
                        || known.iter().any(|fire| fire.by.is_none() && fire.due == at)
                };
                row.reckoned(schedule, now, fired)
            }
            None => Row::new(schedule, now),
        };
        if let Some(run) = row.open {
            let state = self.engine().state(run).await.ok().filter(|state| state.is_done());
            if let Some(state) = state {
                let well = state.outcome() == Some(Outcome::Succeeded);
                let at = state.ended_at.unwrap_or(state.last_at);
                row = row.ended(run, at, well, state.word(), pings);
            }
        }
        if was == Some(&row) {
            return Ok(Some(row));
        }
        let change = Change { was: was.cloned(), is: row.clone() };
        Ok(self.engine().reckon_schedule(change).await?.then_some(row))
    }

    fn begin(&mut self, config: &Arc<Config>, schedule: &Schedule, row: Row, due: Due, now: Timestamp) {
        let why = (due.late || !due.missed.is_empty()).then(|| self.why(&due, now));
        let fire = fire::Firing {
            dispatcher: self.dispatcher.clone(),
            config: Arc::clone(config),
            schedule: schedule.clone(),
            row,
            due,
            why,
            room_now: None,
            stop: self.stop.clone(),
        };
        self.busy.insert(schedule.name.clone());
        self.work.spawn(fire.fire());
    }

    fn tell_watcher(&mut self, config: &Arc<Config>, schedule: &Schedule, row: &Row) {
        let Some(ping) = row.pings.first() else { return };
        if self.pinging.insert(schedule.name.clone()) {
            let (dispatcher, config) = (self.dispatcher.clone(), Arc::clone(config));
            self.pings.spawn(ping::tell(dispatcher, config, schedule.clone(), ping.clone()));
        }
    }

    fn find_room(&mut self, schedule: &Schedule, row: Row) {
        let lately = self.asked.get(&schedule.name).is_some_and(|asked| asked.elapsed() < LOOK_EVERY);
        if lately || !self.dispatcher.parts.chat.health().online {
            return;
        }
        self.asked.insert(schedule.name.clone(), Instant::now());
        let (dispatcher, schedule) = (self.dispatcher.clone(), schedule.clone());
        self.busy.insert(schedule.name.clone());
        self.work.spawn(fire::find_room(dispatcher, schedule, row));
    }

    /// Why what is due now did not begin when it should have.
    fn why(&self, due: &Due, now: Timestamp) -> Absence {
        let first = due.missed.first().copied().unwrap_or(due.at);
        let was_away = self.engine().was_away();
        match (self.looked_at, was_away) {
            _ if self.idle => Absence::MightNotAct,
            (Some(looked), _) if now.duration_since(looked) > STRIDE => {
                Absence::Asleep { from: looked, to: now }
            }
            (_, Some((from, to))) if first <= to => Absence::Down { from: from.min(first), to },
            // Nobody noted when Houston was last here.
            (None, _) => Absence::Down { from: first, to: self.engine().opened_at() },
            (Some(_), _) => Absence::HeldUp,
        }
    }
}
