//! One time of a schedule that is due: its command is planned, authorized and begun as a person's is, in the name of
//! the schedule.
//!
//! Must not: begin anything that the row does not come along with in one batch.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::chat::dispatch::Dispatcher;
use crate::chat::operate::{self, Begun, Order};
use crate::chat::{scheduled, standing};
use crate::config::Config;
use crate::config::schedules::Schedule;
use crate::conversation::{Actor, Room};
use crate::gateway::events::Inbound;
use crate::ids::{RunId, ScheduleName, derived_id};
use crate::runs::event::OfSchedule;
use crate::runs::schedules::{Absence, Became, Change, Due, Fire, LATE, Row, Told};
use crate::runs::{ActError, Fired};

/// Pauses before it is tried again where the world could not be looked at: a Swarm between two leaders, say.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60), Duration::from_secs(120)];

/// Between two questions for a room while Rocket.Chat is away.
const ASK_AGAIN: Duration = Duration::from_secs(5);

pub(super) struct Firing {
    pub dispatcher: Dispatcher,
    pub config: Arc<Config>,
    pub schedule: Schedule,
    /// As it is stored.
    pub row: Row,
    pub due: Due,
    pub why: Option<Absence>,
    /// As the server says now.
    pub room_now: Option<Room>,
    pub stop: CancellationToken,
}

/// Looks up the room before it is needed: at night Rocket.Chat may be away.
pub(super) async fn find_room(dispatcher: Dispatcher, schedule: Schedule, row: Row) -> ScheduleName {
    match dispatcher.parts.chat.room(&schedule.room).await {
        Ok(Some(id)) => {
            let is = Row { room: Some(scheduled::room(&schedule, id)), ..row.clone() };
            if let Err(error) = dispatcher.parts.engine.reckon_schedule(Change { was: Some(row), is }).await {
                tracing::error!("the room of the schedule {} cannot be kept: {error}", schedule.name);
            }
        }
        Ok(None) => tracing::warn!(
            "the schedule {} reports in `{}`, and there is no such room that Houston is in",
            schedule.name,
            schedule.room
        ),
        Err(error) => tracing::debug!("the room of the schedule {} is not known yet: {error}", schedule.name),
    }
    schedule.name
}

impl Firing {
    /// Deals with it, or leaves it as it is: then it is looked at again.
    pub(super) async fn fire(mut self) -> ScheduleName {
        let name = self.schedule.name.clone();
        let stop = self.stop.clone();
        let dealt = tokio::select! {
            dealt = self.deal() => dealt,
            () = stop.cancelled() => return name,
        };
        match dealt {
            Ok(()) | Err(ActError::Meanwhile) => {}
            Err(error) => {
                tracing::error!("the schedule {name} was due and could not begin: {error}");
                tokio::time::sleep(super::AGAIN).await;
            }
        }
        name
    }

    async fn deal(&mut self) -> Result<(), ActError> {
        let engine = self.dispatcher.parts.engine.clone();
        let room = self.room().await;
        let Some(room) = room else {
            let why = format!("there is no room `{}` that I am in", self.schedule.room);
            let text = format!(":alarm_clock: The schedule {} did not begin: {why}.", self.schedule.name);
            let seed = format!("schedule/{}/{}", self.schedule.name, self.due.at);
            self.dispatcher.tell_leads_that(&seed, text).await;
            return engine.fire_without_a_run(self.fired(Became::Refused(why))).await;
        };
        if let Some(run) = engine.open_run_of(&self.schedule.name).await {
            return engine.fire_without_a_run(self.fired(Became::Overlapped(run))).await;
        }
        if self.dispatcher.restored_at().is_some_and(|restored| self.due.at <= restored) {
            return engine.fire_without_a_run(self.fired(Became::Unknown)).await;
        }
        if self.due.too_late {
            return engine.fire_without_a_run(self.fired(Became::TooLate)).await;
        }
        match self.begin(room).await {
            Begun::Run(run) => {
                tracing::info!(run.id = %run, "the schedule {} began {run}", self.schedule.name);
                Ok(())
            }
            Begun::NotBegun(ActError::Overlaps(run)) => self.without(Became::Overlapped(run)).await,
            Begun::NotBegun(error) => Err(error),
            Begun::Nothing(_) => self.without(Became::NothingToDo).await,
            Begun::Refused(text) | Begun::Shown(text) => self.without(Became::Refused(text)).await,
            Begun::NotPlanned(error) => {
                let text = operate::refusal(&self.schedule.run, &error);
                self.without(Became::Refused(text)).await
            }
        }
    }

    async fn without(&self, became: Became) -> Result<(), ActError> {
        tracing::info!("the schedule {} was due and began nothing: {became:?}", self.schedule.name);
        self.dispatcher.parts.engine.fire_without_a_run(self.fired(became)).await
    }

    /// The command, as a person's is begun; again for a while where the world cannot be looked at.
    async fn begin(&mut self, room: Room) -> Begun {
        let dispatcher = self.dispatcher.clone();
        let config = Arc::clone(&self.config);
        let schedule = self.schedule.clone();
        let command = match scheduled::command(&config, &schedule) {
            Ok(command) => command,
            Err(why) => return Begun::Refused(why),
        };
        let access = dispatcher.people.access();
        let authorized = match scheduled::authorize(&access, &schedule, &command, &room) {
            Ok(authorized) => authorized,
            Err(denied) => {
                let (who, what) = (Actor::schedule(&schedule.name), &command.bound.canonical);
                dispatcher.audit("refused", &who, what, None, None, Some(denied.rule.clone())).await;
                return Begun::Refused(denied.to_string());
            }
        };
        let standing = self.row.allowed.clone().filter(|allowed| {
            standing::holds(&config, &schedule, &command, allowed, dispatcher.parts.clock.now())
        });
        let mut pauses = AGAIN.into_iter();
        loop {
            let now = dispatcher.parts.clock.now();
            let cause = Inbound {
                id: derived_id(&format!("schedule/{}/{}/order", schedule.name, self.due.at)).into(),
                room: room.clone(),
                thread: None,
                by: Actor::schedule(&schedule.name),
                text: schedule.run.clone(),
                sent_at: now,
                age: Duration::ZERO,
                caught_up: false,
            };
            let of =
                OfSchedule { name: schedule.name.clone(), due: self.due.at, tell: schedule.tell.clone() };
            let order = Order {
                config: &config,
                playbook: command.playbook,
                command: command.command,
                cause: &cause,
                bound: &command.bound,
                authorized: &authorized,
                // Which run it is, is known when it begins.
                schedule: Some((of, self.fired(Became::Run(RunId(0))))),
                standing: standing.as_ref(),
            };
            match operate::begin(&dispatcher, order).await {
                Begun::NotPlanned(error) => match pauses.next() {
                    Some(pause) => {
                        tracing::warn!("the schedule {} cannot be planned yet: {error}", schedule.name);
                        dispatcher.parts.clock.sleep(pause).await;
                    }
                    None => return Begun::NotPlanned(error),
                },
                begun => return begun,
            }
        }
    }

    /// Where it reports. As the server says now, or as it said before where it is away.
    async fn room(&mut self) -> Option<Room> {
        loop {
            match self.dispatcher.parts.chat.room(&self.schedule.room).await {
                Ok(Some(id)) => {
                    self.room_now = Some(scheduled::room(&self.schedule, id));
                    return self.room_now.clone();
                }
                Ok(None) => return None,
                Err(error) => match &self.row.room {
                    Some(room) => return Some(room.clone()),
                    None => tracing::warn!(
                        "the schedule {} is due and waits: where it reports is not known: {error}",
                        self.schedule.name
                    ),
                },
            }
            self.dispatcher.parts.clock.sleep(ASK_AGAIN).await;
        }
    }

    /// The time dealt with, as of now.
    fn fired(&self, became: Became) -> Fired {
        let now = self.dispatcher.parts.clock.now();
        let fire = Fire { due: self.due.at, at: now, by: None, became };
        let begins = self.due.at.checked_add(self.schedule.lag(self.due.at)).unwrap_or(Timestamp::MAX);
        let mut due = self.due.clone();
        let held_up = now.duration_since(begins) > LATE;
        let why = self.why.clone().or_else(|| held_up.then_some(Absence::HeldUp));
        due.late |= held_up;
        let usual = why.is_none() && matches!(fire.became, Became::Run(_) | Became::NothingToDo);
        let told = Told {
            schedule: self.schedule.name.clone(),
            command: self.schedule.run.clone(),
            zone: self.schedule.cron.zone_name().to_owned(),
            fire: fire.clone(),
            missed: due.missed.clone(),
            more: due.more,
            late: due.late,
            why,
            next: due.next,
            tell: self.schedule.tell.clone(),
        };
        let mut is = self.row.past(&due);
        is.room = self.room_now.clone().or(is.room);
        Fired {
            change: Change { was: Some(self.row.clone()), is },
            fire,
            told: (!usual).then_some(told),
            pings: self.schedule.ping.is_some(),
        }
    }
}
