//! Maintenance: times in which an environment is worked on, which are announced before. What people declared, and
//! what of the files was told of, are rows; from them follows what has to be said now, and once. Pure.
//!
//! Must not: keep a run from starting (`engine` asks here), or know rooms by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use super::freezes::Frozen;
use crate::config::environment::Environment;
use crate::config::window;
use crate::conversation::Actor;
use crate::digest::Digest;
use crate::ids::{EnvName, MessageId, RoomId, derived_id};
use crate::store::{Batch, Store, StoreError, Tree};
use crate::text::{code, defuse, said};

/// In [`Tree::Meta`]: since when which windows of the files are known.
const WINDOWS: &[u8] = b"maintenance_windows";

/// What ended earlier than this before is not told of any more.
pub const TOO_LATE: SignedDuration = SignedDuration::from_hours(24);

/// One time of maintenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    pub environment: EnvName,
    #[serde(with = "super::zoned")]
    pub from: Zoned,
    #[serde(with = "super::zoned")]
    pub to: Zoned,
    pub reason: String,
    /// Absent: the environment's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// Where it was declared: it is announced there when no file names a room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    pub known_at: Timestamp,
    /// What was announced last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Stage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_off: Option<CalledOff>,
    /// How often it came back after it was called off: what was said of it before is said anew.
    #[serde(default, skip_serializing_if = "is_first")]
    pub again: u32,
}

fn is_first(again: &u32) -> bool {
    *again == 0
}

/// What becomes of a row, if it still is what it was; `None`: there was none.
#[derive(Clone, Debug)]
pub struct Changed {
    pub was: Option<Maintenance>,
    pub is: Maintenance,
}

/// What is announced of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// So long before it begins.
    Ahead(Duration),
    Begun,
    Over,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalledOff {
    /// Absent: the environment's file does not have it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A message about it, to be worded when it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    pub of: Maintenance,
    pub what: What,
    /// When it should have been said.
    pub due: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Ahead,
    Begun,
    Over,
    /// All of it, afterwards: nobody was told before.
    Missed,
    CalledOff,
}

impl Maintenance {
    /// What there is one row of.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.environment.as_str().as_bytes().to_vec();
        key.push(0);
        key.extend_from_slice(&self.from.timestamp().as_second().to_be_bytes());
        key.extend_from_slice(&self.to.timestamp().as_second().to_be_bytes());
        key
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        self.to.timestamp() <= now
    }

    /// Whether it is maintenance at that moment.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.called_off.is_none() && self.from.timestamp() <= at && !self.is_over(at)
    }

    fn moment(&self, stage: Stage) -> Timestamp {
        match stage {
            Stage::Ahead(before) => self.from.timestamp().checked_sub(before).unwrap_or(Timestamp::MIN),
            Stage::Begun => self.from.timestamp(),
            Stage::Over => self.to.timestamp(),
        }
    }

    fn stages(before: &[Duration]) -> impl Iterator<Item = Stage> {
        before.iter().copied().map(Stage::Ahead).chain([Stage::Begun, Stage::Over])
    }

    /// The same after it was called off, known since `now` and not told of yet.
    #[must_use]
    pub fn anew(self, now: Timestamp) -> Self {
        Self { known_at: now, told: None, called_off: None, again: self.again.saturating_add(1), ..self }
    }

    /// What has to be said now: the latest of what is due, since what was missed before is not news any more.
    pub fn due(&self, before: &[Duration], now: Timestamp) -> Option<(Stage, Announcement)> {
        if self.called_off.is_some() || self.known_at >= self.to.timestamp() {
            return None;
        }
        if now.duration_since(self.to.timestamp()) > TOO_LATE {
            return None;
        }
        let passed = Self::stages(before).filter(|stage| self.moment(*stage) <= now);
        let latest = passed.max_by_key(|stage| self.moment(*stage))?;
        if self.told.is_some_and(|told| self.moment(told) >= self.moment(latest)) {
            return None;
        }
        let what = match latest {
            Stage::Ahead(_) => What::Ahead,
            Stage::Begun => What::Begun,
            Stage::Over if matches!(self.told, None | Some(Stage::Ahead(_))) => What::Missed,
            Stage::Over => What::Over,
        };
        let due = self.moment(latest).max(self.known_at);
        Some((latest, Announcement { of: self.clone(), what, due }))
    }

    /// When there is something to say next.
    pub fn next_moment(&self, before: &[Duration], now: Timestamp) -> Option<Timestamp> {
        if self.called_off.is_some() {
            return None;
        }
        Self::stages(before).map(|stage| self.moment(stage)).filter(|moment| *moment > now).min()
    }

    /// `` maintenance of `prod`, Tue 24 Nov 2026 22:00 to 23:30 (Europe/Lisbon) ``
    pub fn describe(&self) -> String {
        format!("maintenance of {}, {}", code(self.environment.as_str()), self.span())
    }

    /// `Tue 24 Nov 2026 22:00 to 23:30 (Europe/Lisbon)`
    pub fn span(&self) -> String {
        let day = |at: &Zoned| at.strftime("%a %-d %b %Y %H:%M").to_string();
        let until = if self.from.date() == self.to.date() {
            self.to.strftime("%H:%M").to_string()
        } else {
            day(&self.to)
        };
        format!("{} to {until} ({})", day(&self.from), self.to.time_zone().iana_name().unwrap_or("UTC"))
    }

    /// `database upgrade, by carol`
    pub fn why(&self) -> String {
        match &self.by {
            Some(by) => format!("{}, declared by {}", said(&self.reason), defuse(&by.username)),
            None => said(&self.reason),
        }
    }
}

impl Announcement {
    /// One per room, whoever makes it how often.
    pub fn id(&self, room: &RoomId) -> MessageId {
        let of = &self.of;
        let stage = match self.what {
            What::Ahead | What::CalledOff => format!("{:?}/{}", self.what, self.due),
            what => format!("{what:?}"),
        };
        let again = if is_first(&of.again) { String::new() } else { format!("/{}", of.again) };
        let (from, to) = (of.from.timestamp(), of.to.timestamp());
        derived_id(&format!("maintenance/{}/{from}/{to}{again}/{stage}/{room}", of.environment)).into()
    }
}

/// Maintenance of the environment's file that is not over at `after` and begins by `until`. `known_at` says since when
/// a window is known.
pub fn by_file(
    environment: &Environment,
    after: Timestamp,
    until: Timestamp,
    known_at: impl Fn(&str) -> Timestamp,
) -> Vec<Maintenance> {
    let windows = environment.maintenance.windows.iter();
    let each = windows.flat_map(|planned| {
        let known_at = known_at(&mark(&environment.name, &planned.window));
        planned.window.between(after, until).into_iter().map(move |(from, to)| Maintenance {
            environment: environment.name.clone(),
            from,
            to,
            reason: planned.reason.clone(),
            by: None,
            room: None,
            known_at,
            told: None,
            called_off: None,
            again: 0,
        })
    });
    each.collect()
}

/// Of a window in an environment, whatever its reason and its place in the file.
pub fn mark(environment: &EnvName, window: &window::Window) -> String {
    Digest::of(format!("{environment} {window:?}").as_bytes()).short().to_owned()
}

/// Since when each of these windows is known; what is new is known from now on.
pub fn known_since(
    store: &Store,
    marks: &BTreeSet<String>,
    now: Timestamp,
) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let before: BTreeMap<String, Timestamp> = store.get(Tree::Meta, WINDOWS)?.unwrap_or_default();
    let known: BTreeMap<String, Timestamp> =
        marks.iter().map(|mark| (mark.clone(), before.get(mark).copied().unwrap_or(now))).collect();
    if known != before {
        let mut batch = Batch::new();
        batch.put(Tree::Meta, WINDOWS, &known);
        store.apply(batch)?;
    }
    Ok(known)
}

/// The rows, and what of the files is no row yet; in the order of their beginnings.
pub fn together(rows: impl IntoIterator<Item = Maintenance>, files: Vec<Maintenance>) -> Vec<Maintenance> {
    let mut all: Vec<Maintenance> = rows.into_iter().collect();
    for one in files {
        if !all.iter().any(|row| row.is_same(&one)) {
            all.push(one);
        }
    }
    all.sort_by_key(|one| (one.from.timestamp(), one.to.timestamp()));
    all
}

/// What is under way, or else comes next.
pub fn now_or_next(all: &[Maintenance], now: Timestamp) -> Option<&Maintenance> {
    all.iter().find(|one| one.called_off.is_none() && !one.is_over(now))
}

/// A command that begins only in maintenance, where there is none now.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    pub environment: EnvName,
    pub command: String,
    pub next: Option<Box<Maintenance>>,
}

impl Outside {
    /// `None`: it is maintenance at `now`.
    pub fn of(environment: &EnvName, command: &str, all: &[Maintenance], now: Timestamp) -> Option<Self> {
        if all.iter().any(|one| one.holds(now)) {
            return None;
        }
        let next = now_or_next(all, now).cloned().map(Box::new);
        Some(Self { environment: environment.clone(), command: command.to_owned(), next })
    }

    /// The same until the next one begins, or another is declared.
    pub fn describe(&self) -> String {
        let next = match &self.next {
            Some(next) => format!("the next is {}: {}", next.span(), next.why()),
            None => "none is planned".to_owned(),
        };
        format!(
            "{} begins in {} only in maintenance, and {next}",
            code(&self.command),
            code(self.environment.as_str())
        )
    }
}

/// Why nothing begins now that otherwise might.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldUp {
    Frozen(Frozen),
    Outside(Outside),
}

impl HeldUp {
    pub fn environment(&self) -> &EnvName {
        match self {
            Self::Frozen(frozen) => &frozen.environment,
            Self::Outside(outside) => &outside.environment,
        }
    }

    /// The same as long as it lasts.
    pub fn describe(&self) -> String {
        match self {
            Self::Frozen(frozen) => frozen.describe(),
            Self::Outside(outside) => outside.describe(),
        }
    }

    /// When it is looked at again; what changes before that says so.
    pub fn until(&self) -> Timestamp {
        match self {
            Self::Frozen(frozen) => frozen.until.timestamp(),
            Self::Outside(outside) => {
                outside.next.as_ref().map_or(Timestamp::MAX, |next| next.from.timestamp())
            }
        }
    }

    /// What can be done about it.
    pub fn way_out(&self) -> String {
        match self {
            Self::Frozen(frozen) => frozen.way_out(),
            Self::Outside(outside) => {
                format!("`!maintenance {} from now for 1h why` declares one.", outside.environment)
            }
        }
    }

    pub fn sign(&self) -> &'static str {
        match self {
            Self::Frozen(_) => ":snowflake:",
            Self::Outside(_) => ":construction:",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(written: &str) -> Timestamp {
        written.parse().expect("a time")
    }

    fn maintenance(known_at: &str) -> Maintenance {
        let zoned = |written: &str| at(written).in_tz("Europe/Lisbon").expect("a zone");
        Maintenance {
            environment: "prod".into(),
            from: zoned("2026-11-24T22:00:00Z"),
            to: zoned("2026-11-24T23:30:00Z"),
            reason: "upgrade".to_owned(),
            by: None,
            room: None,
            known_at: at(known_at),
            told: None,
            called_off: None,
            again: 0,
        }
    }

    /// What is said at these moments, one after the other, with when it should have been.
    fn said_at(known_at: &str, moments: &[&str]) -> Vec<String> {
        let mut one = maintenance(known_at);
        let mut said = Vec::new();
        for moment in moments {
            match one.due(&[DAY, HOUR], at(moment)) {
                Some((stage, announcement)) => {
                    one.told = Some(stage);
                    said.push(format!("{:?} {}", announcement.what, announcement.due.strftime("%d %H:%M")));
                }
                None => said.push("-".to_owned()),
            }
        }
        said
    }

    #[test]
    fn each_stage_is_due_once_and_only_the_latest_after_an_absence() {
        let long_ago = "2026-11-01T00:00:00Z";
        let all = [
            "2026-11-23T21:59:59Z",
            "2026-11-23T22:00:00Z",
            "2026-11-24T12:00:00Z",
            "2026-11-24T21:00:00Z",
            "2026-11-24T22:00:00Z",
            "2026-11-24T23:00:00Z",
            "2026-11-24T23:30:00Z",
            "2026-11-25T00:00:00Z",
        ];
        let said = said_at(long_ago, &all);
        assert_eq!(
            said,
            ["-", "Ahead 23 22:00", "-", "Ahead 24 21:00", "Begun 24 22:00", "-", "Over 24 23:30", "-"]
        );
        // Away from before the first to shortly before it begins, and over its end.
        let said =
            said_at(long_ago, &["2026-11-24T21:40:00Z", "2026-11-24T22:00:00Z", "2026-11-25T07:00:00Z"]);
        assert_eq!(said, ["Ahead 24 21:00", "Begun 24 22:00", "Over 24 23:30"]);
        // Away for all of it; and for longer than anybody cares about.
        assert_eq!(
            said_at(long_ago, &["2026-11-25T07:00:00Z", "2026-11-25T07:00:01Z"]),
            ["Missed 24 23:30", "-"]
        );
        assert_eq!(said_at(long_ago, &["2026-11-26T07:00:00Z"]), ["-"]);
        // Known only since, it is not late.
        assert_eq!(said_at("2026-11-24T21:40:00Z", &["2026-11-24T21:40:00Z"]), ["Ahead 24 21:40"]);
        assert_eq!(said_at("2026-11-24T23:30:00Z", &["2026-11-24T23:40:00Z"]), ["-"]);
    }

    #[test]
    fn a_span_names_its_second_day_only_where_that_is_another() {
        let mut one = maintenance("2026-11-01T00:00:00Z");
        assert_eq!(one.span(), "Tue 24 Nov 2026 22:00 to 23:30 (Europe/Lisbon)");
        one.to = one.to.checked_add(SignedDuration::from_hours(1)).expect("in range");
        assert_eq!(one.span(), "Tue 24 Nov 2026 22:00 to Wed 25 Nov 2026 00:30 (Europe/Lisbon)");
    }
}
