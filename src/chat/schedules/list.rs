//! The answers to `schedules`: what is due when, and what became of it. Pure.
//!
//! Must not: show a time without saying in which zone it is meant.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::when;
use crate::config::cron::{Moved, RULE};
use crate::config::schedules::Schedule;
use crate::runs::event::Outcome;
use crate::runs::schedules::{Became, Fire, Row};
use crate::text::{self, code, defuse, said, typed};

/// Times ahead.
const AHEAD: usize = 3;

/// A schedule as it stands.
pub struct Standing<'a> {
    pub schedule: &'a Schedule,
    /// Absent: it was not looked at yet.
    pub row: Option<&'a Row>,
    /// Newest first, each with the end of its run, or what that does now.
    pub fires: Vec<(Fire, Option<Ended>)>,
    /// What it may begin without asking, in a line each.
    pub notes: Vec<String>,
}

/// How a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub outcome: Option<Outcome>,
    pub word: String,
    pub at: Timestamp,
}

/// Where the reader is; `None`: Rocket.Chat does not say.
pub type Reader = Option<TimeZone>;

/// The zone of a reader whose clock is so many minutes ahead of UTC.
pub fn reader(minutes: Option<i32>) -> Reader {
    let seconds = minutes?.checked_mul(60)?;
    Some(TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?))
}

/// All of them.
pub fn all(standing: &[Standing<'_>], reader: &Reader, now: Timestamp) -> String {
    if standing.is_empty() {
        return "There are no schedules. They stand under `schedules` in `houston.yaml`.".to_owned();
    }
    let mut out = String::new();
    for one in standing {
        let zone = zone(one.schedule, reader);
        let _ = writeln!(out, "{}", head(one.schedule));
        let _ = writeln!(out, "• last: {}", last(one, &zone, now));
        let _ = writeln!(out, "• next: {}", next(one, &zone, now));
        for note in &one.notes {
            let _ = writeln!(out, "• {note}");
        }
    }
    let _ = write!(out, "{}", whose_time(reader));
    out.trim_end().to_owned()
}

/// One of them, with what became of it lately.
pub fn one(standing: &Standing<'_>, reader: &Reader, now: Timestamp) -> String {
    let schedule = standing.schedule;
    let zone = zone(schedule, reader);
    let mut out = format!("{}\n• next: {}\n", head(schedule), next(standing, &zone, now));
    for note in &standing.notes {
        let _ = writeln!(out, "• {note}");
    }
    if !schedule.jitter.is_zero() {
        let _ = writeln!(out, "• it begins up to {} later", text::duration(schedule.jitter));
    }
    let _ = match schedule.catch_up {
        Some(most) => writeln!(out, "• a missed time is made up for within {}", text::duration(most)),
        None => writeln!(out, "• a missed time is not made up for"),
    };
    for moved in schedule.cron.moved(now) {
        let _ = writeln!(out, "• {}", set(schedule, &moved));
    }
    if !standing.fires.is_empty() {
        out.push_str("Lately:\n");
        for (fire, ended) in &standing.fires {
            let _ = writeln!(out, "• {}", became(fire, ended.as_ref(), &zone, now));
        }
    }
    let _ = write!(
        out,
        "_{RULE}_{}",
        match whose_time(reader) {
            none if none.is_empty() => none,
            whose => format!("\n{whose}"),
        }
    );
    out
}

/// For `houston check`: what it does when, and what clocks that are set make of that.
pub fn in_terminal(schedule: &Schedule, now: Timestamp) -> Vec<String> {
    let zone = schedule.cron.zone();
    let mut times = Vec::new();
    let mut at = schedule.cron.after(now);
    while let Some(due) = at.filter(|_| times.len() < AHEAD) {
        times.push(shown(due, zone, now));
        at = schedule.cron.after(due);
    }
    let (name, run) = (&schedule.name, text::printable(&schedule.run));
    let head = format!("schedule {name}: {run}, {} ({})", times.join(", "), schedule.cron.zone_name());
    let moved = schedule.cron.moved(now).into_iter().map(|moved| format!("  {}", set(schedule, &moved)));
    std::iter::once(head).chain(moved).collect()
}

/// What a clock that is set makes of one of its times.
fn set(schedule: &Schedule, moved: &Moved) -> String {
    let (at, local) = (moved.at.strftime("%a %-d %b %Y"), moved.local.strftime("%H:%M"));
    let zone = schedule.cron.zone_name();
    if moved.twice {
        format!("{at} has {local} twice ({zone}): the first counts")
    } else {
        format!("{at} has no {local} ({zone}): it is due at {}", moved.at.strftime("%H:%M"))
    }
}

fn head(schedule: &Schedule) -> String {
    format!(
        "*{}* {} in #{}, {} ({})",
        defuse(schedule.name.as_str()),
        typed(&schedule.run),
        defuse(&schedule.room),
        code(schedule.cron.written()),
        schedule.cron.zone_name()
    )
}

/// That of the reader, if it is known; else its own.
fn zone(schedule: &Schedule, reader: &Reader) -> TimeZone {
    reader.clone().unwrap_or_else(|| schedule.cron.zone().clone())
}

fn whose_time(reader: &Reader) -> String {
    match reader {
        Some(zone) => format!("_Times are yours, UTC{}._", zone.to_offset(Timestamp::UNIX_EPOCH)),
        None => String::new(),
    }
}

fn next(of: &Standing<'_>, zone: &TimeZone, now: Timestamp) -> String {
    let schedule = of.schedule;
    if let Some(paused) = of.row.and_then(|row| row.paused.as_ref()) {
        let why = paused.reason.as_ref().map(|why| format!(": {}", said(why))).unwrap_or_default();
        return format!(
            ":double_vertical_bar: paused by {} {}{why}; `!schedules resume {}` lets it go on",
            defuse(&paused.by.username),
            text::ago(paused.at, now),
            schedule.name
        );
    }
    if let Some(why) = &schedule.paused {
        let why = if why.is_empty() { String::new() } else { format!(": {}", said(why)) };
        return format!(":double_vertical_bar: paused by {}{why}", code(&schedule.at.to_string()));
    }
    let mut times = Vec::new();
    let mut at = of.row.map(|row| row.next).or_else(|| schedule.cron.after(now));
    while let Some(due) = at.filter(|at| *at < Timestamp::MAX && times.len() < AHEAD) {
        times.push(shown(due, zone, now));
        at = schedule.cron.after(due);
    }
    if times.is_empty() { "never".to_owned() } else { times.join(", ") }
}

fn last(of: &Standing<'_>, zone: &TimeZone, now: Timestamp) -> String {
    match of.fires.first() {
        Some((fire, ended)) => became(fire, ended.as_ref(), zone, now),
        None => "it was never due".to_owned(),
    }
}

/// `:white_check_mark: Thu 26 Nov 01:30: R-12, succeeded`
fn became(fire: &Fire, ended: Option<&Ended>, zone: &TimeZone, now: Timestamp) -> String {
    let at = shown(fire.due, zone, now);
    let by = fire.by.as_ref().map(|by| format!(" by {}", defuse(&by.username))).unwrap_or_default();
    let late = fire.at.duration_since(fire.due) > SignedDuration::from_mins(15) && fire.by.is_none();
    let late = if late { format!(", begun {}", shown(fire.at, zone, now)) } else { String::new() };
    let (sign, what) = match &fire.became {
        Became::Run(run) => {
            let (sign, word) = match ended {
                Some(Ended { outcome: Some(Outcome::Succeeded), word, .. }) => {
                    (":white_check_mark:", word.as_str())
                }
                Some(Ended { outcome: Some(_), word, .. }) => (":x:", word.as_str()),
                Some(Ended { word, .. }) => (":hourglass:", word.as_str()),
                None => (":grey_question:", "its journal cannot be read"),
            };
            (sign, format!("*{run}*{by}{late}, {word}"))
        }
        Became::NothingToDo => (":white_check_mark:", format!("nothing to do{late}")),
        Became::Overlapped(run) => (":warning:", format!("did not run, since *{run}* was not done")),
        Became::Refused(_) => (":x:", "did not begin".to_owned()),
        Became::TooLate => (":warning:", "was missed, and too long ago to make up for".to_owned()),
        Became::Unknown => (":grey_question:", "whether it ran is not known".to_owned()),
    };
    format!("{sign} {at}: {what}")
}

/// One time, as the reader has it.
pub fn time(at: Timestamp, reader: &Reader, schedule: &Schedule, now: Timestamp) -> String {
    match reader {
        Some(zone) => format!("{} (your time, UTC{})", shown(at, zone, now), zone.to_offset(at)),
        None => format!("{} ({})", shown(at, schedule.cron.zone(), now), schedule.cron.zone_name()),
    }
}

fn shown(at: Timestamp, zone: &TimeZone, now: Timestamp) -> String {
    let zoned = |at: Timestamp| -> Zoned { at.to_zoned(zone.clone()) };
    let (at, now) = (zoned(at), zoned(now));
    // The day also where it is this one: times of several schedules stand below each other.
    if at.year() == now.year() { at.strftime("%a %-d %b %H:%M").to_string() } else { when(&at, &now) }
}
