//! Schedules, as the engine keeps them: a time that was dealt with is one batch with the run that it began and with
//! what is said of it.
//!
//! Must not: wait, or decide what is due.

use jiff::Timestamp;

use super::{ActError, Asked, Engine, Fired};
use crate::conversation::Post;
use crate::ids::{RunId, ScheduleName};
use crate::runs::alive;
use crate::runs::journal::Journal;
use crate::runs::outbox::Notice;
use crate::runs::schedules::{Became, Change, Row, Told};
use crate::store::Batch;

impl Engine {
    pub async fn schedules(&self) -> Vec<Row> {
        self.0.journal.lock().await.schedules().to_vec()
    }

    pub async fn schedule_row(&self, name: &ScheduleName) -> Option<Row> {
        self.0.journal.lock().await.schedules().iter().find(|row| row.name == *name).cloned()
    }

    /// The run of a schedule that is not done.
    pub async fn open_run_of(&self, name: &ScheduleName) -> Option<RunId> {
        open_run_of(&*self.0.journal.lock().await, name)
    }

    /// Returns when somebody changed a schedule, or the configuration was reloaded.
    pub async fn schedules_changed(&self) {
        self.0.schedules_changed.notified().await;
    }

    /// From when to when no Houston ran here before this one did.
    pub fn was_away(&self) -> Option<(Timestamp, Timestamp)> {
        let since = self.0.away_since?;
        (since < self.0.opened_at).then_some((since, self.0.opened_at))
    }

    /// When this one began.
    pub fn opened_at(&self) -> Timestamp {
        self.0.opened_at
    }

    /// Notes that Houston is here, for whoever has to say later when it was not.
    pub fn is_here(&self) {
        if let Err(error) = alive::mark(&self.0.parts.store, self.now()) {
            tracing::warn!(%error, "that Houston is alive cannot be noted");
        }
    }

    /// A row that nothing was begun by. `false`: it is not what it was, and nothing is written.
    pub async fn reckon_schedule(&self, change: Change) -> Result<bool, ActError> {
        let mut journal = self.0.journal.lock().await;
        let written = journal.change_schedule(change, None, Vec::new(), Batch::new(), self.now())?;
        Ok(written.is_some())
    }

    pub async fn forget_schedule(&self, name: &ScheduleName) -> Result<(), ActError> {
        Ok(self.0.journal.lock().await.forget_schedule(name)?)
    }

    /// A time that began no run. Durable when it returns.
    pub async fn fire_without_a_run(&self, fired: Fired) -> Result<(), ActError> {
        let Fired { mut change, fire, told, pings } = fired;
        change.is = change.is.with(&fire, pings);
        let notices = told.and_then(|told| notice(&change.is, told)).into_iter().collect();
        let mut journal = self.0.journal.lock().await;
        let written = journal.change_schedule(change, Some(&fire), notices, Batch::new(), self.now())?;
        drop(journal);
        let last = written.ok_or(ActError::Meanwhile)?;
        self.to_the_end(async move |engine| {
            engine.0.parts.store.sync().await?;
            engine.announce(last);
            Ok(())
        })
        .await
    }

    /// What somebody changes about a schedule, with its entry for the audit log, and with what its room is told.
    pub async fn change_schedule(
        &self,
        change: Change,
        asked: Asked<'_>,
        what: &str,
        result: Option<String>,
        say: Option<Post>,
    ) -> Result<(), ActError> {
        let target = format!("schedule {}", change.is.name);
        let (owed, with) = self.owe(asked, what, target, result.unwrap_or_default());
        let mut journal = self.0.journal.lock().await;
        let notices = say.map(|post| Notice::Say { post }).into_iter().collect();
        let written = journal.change_schedule(change, None, notices, with, self.now())?;
        drop(journal);
        let last = written.ok_or(ActError::Meanwhile)?;
        self.done_by_hand(owed).await?;
        self.announce(last);
        self.0.schedules_changed.notify_one();
        Ok(())
    }

    /// Into the batch that begins `run`: the row to be remembered when that was applied, and what is said.
    pub(super) fn fire_into(
        &self,
        journal: &Journal,
        run: RunId,
        schedule: &ScheduleName,
        fired: Fired,
        with: &mut Batch,
    ) -> Result<(Row, Option<Notice>), ActError> {
        let Fired { mut change, mut fire, mut told, pings } = fired;
        if !journal.still(&change) {
            return Err(ActError::Meanwhile);
        }
        if let Some(open) = open_run_of(journal, schedule) {
            return Err(ActError::Overlaps(open));
        }
        fire.became = Became::Run(run);
        change.is = change.is.with(&fire, pings);
        if let Some(told) = &mut told {
            told.fire = fire.clone();
        }
        journal.schedule_into(&change.is, Some(&fire), with)?;
        let notice = told.and_then(|told| notice(&change.is, told));
        Ok((change.is, notice))
    }
}

fn open_run_of(journal: &Journal, name: &ScheduleName) -> Option<RunId> {
    let of = |run: &&crate::runs::state::RunState| {
        run.origin.schedule.as_ref().is_some_and(|schedule| schedule.name == *name)
    };
    journal.open_runs().filter(of).map(|run| run.id).min()
}

fn notice(row: &Row, told: Told) -> Option<Notice> {
    let room = row.room.as_ref()?.id.clone();
    Some(Notice::Schedule { id: told.id(), room, told: Box::new(told) })
}
