//! What becomes of standing approvals by themselves: they end, and are void when what they were given for changes. The
//! room of the schedule is told, before the end too.
//!
//! Must not: give one.

use jiff::Timestamp;

use crate::chat::dispatch::Dispatcher;
use crate::chat::{scheduled, standing};
use crate::config::Config;
use crate::config::schedules::Schedule;
use crate::conversation::{Actor, Post};
use crate::ids::{UserId, derived_id};
use crate::runs::schedules::{Change, Row};
use crate::runs::{ActError, Asked};

/// The row as it is then; `None`: nothing is to be done.
pub(super) async fn look(
    dispatcher: &Dispatcher,
    config: &Config,
    schedule: &Schedule,
    row: &Row,
    now: Timestamp,
) -> Result<Option<Row>, ActError> {
    let Some(allowed) = &row.allowed else { return Ok(None) };
    let basis = scheduled::command(config, schedule)
        .ok()
        .and_then(|command| standing::basis(config, schedule, &command));
    let mut is = row.clone();
    let (what, text) = if basis.as_ref() != Some(&allowed.basis) {
        is.allowed = None;
        ("standing approval void", standing::void(schedule, allowed, basis.as_ref()))
    } else if allowed.is_over(now) {
        is.allowed = None;
        ("standing approval ended", standing::ended(schedule, allowed))
    } else if !allowed.warned && allowed.warns_at() <= now {
        is.allowed.as_mut().expect("it has one").warned = true;
        ("standing approval ends soon", standing::ends_soon(schedule, allowed))
    } else {
        return Ok(None);
    };
    let by = Actor { id: UserId::from("houston"), username: "Houston".to_owned() };
    let say = row.room.as_ref().map(|room| Post {
        id: derived_id(&format!("{what}/{}/{}", schedule.name, allowed.run)).into(),
        room: room.id.clone(),
        thread: None,
        text,
    });
    let change = Change { was: Some(row.clone()), is: is.clone() };
    let asked = Asked { by: &by, command: &schedule.run };
    dispatcher.parts.engine.change_schedule(change, asked, what, Some(allowed.describe()), say).await?;
    Ok(Some(is))
}
