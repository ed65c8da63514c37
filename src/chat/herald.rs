//! Announces maintenance, when it is due: looks what has to be said, writes that it was together with the messages,
//! and sleeps until there is more.
//!
//! Must not: word an announcement (`maintenance` does, when it is delivered), or keep anything only in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned};
use tokio_util::sync::CancellationToken;

use super::dispatch::Dispatcher;
use crate::config::Config;
use crate::gateway::events::SendError;
use crate::ids::RoomId;
use crate::runs::ActError;
use crate::runs::maintenance::{
    self, Announcement, CalledOff, Changed, Maintenance, TOO_LATE, What, by_file, known_since, together,
};
use crate::runs::outbox::Notice;
use crate::store::StoreError;

/// When a room could not be looked up, or the store not written; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the files have further ahead is looked at later.
const LOOK_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// How long rows of what is over are kept, so that nothing is said of it again.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

#[derive(Debug, thiserror::Error)]
enum NotNow {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Act(#[from] ActError),
    #[error("{0}")]
    Chat(#[from] SendError),
}

/// Until `stop`.
pub async fn run(dispatcher: Dispatcher, stop: CancellationToken) {
    let (clock, engine) = (dispatcher.parts.clock.clone(), dispatcher.parts.engine.clone());
    let mut wait = FIRST_WAIT;
    loop {
        let next = match look(&dispatcher).await {
            Ok(next) => Some(next),
            Err(error) if wait == FIRST_WAIT => {
                tracing::warn!("maintenance cannot be announced yet: {error}");
                None
            }
            Err(_) => None,
        };
        if next.is_some() {
            wait = FIRST_WAIT;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = engine.maintenance_changed() => {}
            () = clock.sleep_until(next.unwrap_or(Timestamp::MAX)), if next.is_some() => {}
            () = tokio::time::sleep(wait), if next.is_none() => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}

/// Says what is due; when to look again.
async fn look(dispatcher: &Dispatcher) -> Result<Timestamp, NotNow> {
    let engine = &dispatcher.parts.engine;
    let config = dispatcher.config();
    let now = dispatcher.parts.clock.now();
    let rows = engine.maintenance().await;
    let files = of_files(dispatcher, &config, now)?;
    let mut next = now.checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
    let (mut told, mut notices) = (Vec::new(), Vec::new());
    for mut one in together(rows.iter().cloned(), files) {
        let was = rows.iter().find(|row| row.is_same(&one)).cloned();
        let before = config.maintenance_announced(&one.environment);
        if let Some(reason) = back(&one, &config, now) {
            one = Maintenance { reason, ..one }.anew(now);
        }
        let announcement = match gone(&one, &config, now) {
            Some(called_off) => {
                one.called_off = Some(called_off);
                Some(Announcement { of: one.clone(), what: What::CalledOff, due: now })
            }
            None => one.due(before, now).map(|(stage, announcement)| {
                one.told = Some(stage);
                announcement
            }),
        };
        next = one.next_moment(before, now).map_or(next, |moment| moment.min(next));
        if let Some(announcement) = &announcement {
            notices.extend(to_rooms(dispatcher, &config, announcement).await?);
        }
        if announcement.is_some() || was.as_ref().is_some_and(|was| *was != one) {
            told.push(Changed { was, is: one });
        }
    }
    if !told.is_empty() {
        // Otherwise it was called off at the same moment, and is looked at again at once.
        if !engine.change_maintenance(told, notices).await? {
            return Ok(now);
        }
    }
    let over = |one: &Maintenance| now.duration_since(one.to.timestamp()) > KEPT;
    let over: Vec<Maintenance> = rows.into_iter().filter(over).collect();
    if !over.is_empty() {
        engine.forget_maintenance(over).await?;
    }
    Ok(next)
}

/// What the files have, from what may still be told of to what is soon announced.
fn of_files(
    dispatcher: &Dispatcher,
    config: &Config,
    now: Timestamp,
) -> Result<Vec<Maintenance>, StoreError> {
    let marks: BTreeSet<String> = config
        .environments
        .values()
        .flat_map(|found| {
            found.maintenance.windows.iter().map(|planned| maintenance::mark(&found.name, &planned.window))
        })
        .collect();
    let known = known_since(&dispatcher.parts.store, &marks, now)?;
    let after = now.checked_sub(TOO_LATE).unwrap_or(Timestamp::MIN);
    let each = config.environments.values().flat_map(|found| {
        let longest = config.maintenance_announced(&found.name).first().copied().unwrap_or_default();
        let until =
            now.checked_add(longest).and_then(|at| at.checked_add(LOOK_EVERY)).unwrap_or(Timestamp::MAX);
        by_file(found, after, until, |mark| known.get(mark).copied().unwrap_or(now))
    });
    Ok(each.collect())
}

/// Something of the file that people were told of, and that the file does not have any more.
fn gone(one: &Maintenance, config: &Config, now: Timestamp) -> Option<CalledOff> {
    let told = one.by.is_none() && one.told.is_some() && one.called_off.is_none() && !one.is_over(now);
    (told && planned(one, config).is_none()).then_some(CalledOff { by: None, at: now, reason: None })
}

/// What the file did not have any more, and has again: why. What a person called off stays so.
fn back(one: &Maintenance, config: &Config, now: Timestamp) -> Option<String> {
    let by_file = one.called_off.as_ref().is_some_and(|off| off.by.is_none()) && !one.is_over(now);
    if by_file { planned(one, config).map(str::to_owned) } else { None }
}

/// Why, where the environment's file has it.
fn planned<'c>(one: &Maintenance, config: &'c Config) -> Option<&'c str> {
    let from = one.from.timestamp();
    let windows = &config.environments.get(&one.environment)?.maintenance.windows;
    let is_it = |(begins, ends): &(Zoned, Zoned)| *begins == one.from && *ends == one.to;
    let found = windows.iter().find(|planned| planned.window.between(from, from).iter().any(is_it));
    found.map(|planned| planned.reason.as_str())
}

/// A message for each room that there is.
pub(super) async fn to_rooms(
    dispatcher: &Dispatcher,
    config: &Config,
    announcement: &Announcement,
) -> Result<Vec<Notice>, SendError> {
    let of = &announcement.of;
    let mut rooms: BTreeSet<RoomId> = BTreeSet::new();
    let named = config.maintenance_rooms(&of.environment);
    for name in named {
        match dispatcher.parts.chat.room(name).await? {
            Some(room) => drop(rooms.insert(room)),
            None => tracing::error!(
                "{} is not announced in `{name}`: there is no such room that Houston can see",
                of.describe()
            ),
        }
    }
    if named.is_empty() {
        rooms.extend(of.room.clone());
    }
    let notice = |room: RoomId| Notice::Maintenance {
        id: announcement.id(&room),
        room,
        announcement: Box::new(announcement.clone()),
    };
    Ok(rooms.into_iter().map(notice).collect())
}
